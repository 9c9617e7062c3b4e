/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer.h — tokenizer.json in and out, encode, decode, post-processing, training.
 *
 * Models: BPE (byte-level as GPT-2's, or on characters as SentencePiece's) and Unigram, with the
 * normalizers, pre-tokenizers, post-processors and decoders that go with them; ids and text are
 * those of Hugging Face tokenizers. What is not understood is refused at loading, by name.
 *
 * Text is UTF-8; invalid bytes are tokenised byte by byte, and survive a round trip where the
 * vocabulary has bytes. Immutable after loading and configuring: any number of threads may encode
 * at once.
 */
#ifndef KEEL_TOKENIZER_H
#define KEEL_TOKENIZER_H

#include "model/base.h"

struct tokenizer;                           /* opaque */

/* A growing list of ids; zero-initialise; the caller releases it. */
struct ids {
    int32_t *v;
    int n, cap;
};
void ids_add(struct ids *a, int32_t id);
void ids_addn(struct ids *a, const int32_t *v, int n);
void ids_release(struct ids *a);

/* NULL and *e: anything the file asks for that is not understood is an error that names it. */
struct tokenizer *tokenizer_load(const char *path, struct err *e) MUST_CHECK;
struct tokenizer *tokenizer_parse(const char *json, size_t len, const char *where,
                                  struct err *e) MUST_CHECK;
int tokenizer_save(const struct tokenizer *t, const char *path, struct err *e) MUST_CHECK;
void tokenizer_free(struct tokenizer *t);   /* NULL is allowed */
/* Rules of transformers that live in tokenizer_config.json (its text; NULL: none): the classes of
 * Llama, Code Llama and Gemma make their post-processor from add_bos_token and add_eos_token. */
int tokenizer_configure(struct tokenizer *t, const char *tokenizer_config_json, const char *where,
                        struct err *e) MUST_CHECK;

/* ---- encoding ---- */
enum {
    ENCODE_SPECIAL = 1,     /* special tokens ("<|user|>") are recognised in the text */
    ENCODE_CONTINUES = 2,   /* the text goes on behind an earlier one: no blank is put before it */
};
struct text_range {
    size_t a, b;                            /* bytes [a, b) */
};
/* Appends the ids of text. Text from users and data files is encoded without ENCODE_SPECIAL, so
 * that it cannot forge turns. Added tokens that are not special (runs of blanks in some files) are
 * text and always recognised. No BOS or EOS is added.
 * 0, or -1 with nothing appended and an error logged: an expression of the file ran into its limit
 * of steps. Expressions that could with ordinary text are refused at loading. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, int flags,
                     struct ids *out);
/* The same; a special token that would take bytes of a protected range is plain text. Ranges are
 * ascending and disjoint: what a chat template inserts of users' words. */
int tokenizer_encode_text(const struct tokenizer *t, const char *text, size_t len, int flags,
                          const struct text_range *protect, int nprotect, struct ids *out);
/* tokenizer_encode, telling what of the (normalized) text each added token took, with the blanks
 * that lstrip and rstrip swallow: taken(ctx, i, s, n) for the token that becomes out->v[i]. */
int tokenizer_encode_taking(const struct tokenizer *t, const char *text, size_t len, int flags,
                            struct ids *out,
                            void (*taken)(void *ctx, int at, const char *s, size_t n), void *ctx);
/* Appends a, and b when it is not NULL, with what the post-processor puts around them: BOS, EOS. */
void tokenizer_post_process(const struct tokenizer *t, const struct ids *a, const struct ids *b,
                            struct ids *out);
/* Appends only what it puts before a text. */
void tokenizer_open_text(const struct tokenizer *t, struct ids *out);

/* ---- decoding ---- */
enum {
    DECODE_SKIP_SPECIAL = 1,                /* special tokens are left out */
    DECODE_VALID = 2,                       /* U+FFFD where the reference has it: broken UTF-8 */
};
/* The text of ids; NUL-terminated, caller frees; *len (may be NULL) is its length. */
char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n, int flags,
                       size_t *len);
/* The same, one id at a time. What push and finish append, put together, is what tokenizer_decode
 * gives; bytes come as soon as no later id can change them. t outlives the stream. */
struct text_stream;
struct text_stream *text_stream_new(const struct tokenizer *t, int flags);
void text_stream_push(struct text_stream *s, int32_t id, struct str *out);
void text_stream_finish(struct text_stream *s, struct str *out);    /* ready for another text */
void text_stream_free(struct text_stream *s);   /* NULL is allowed */

/* Decoded bytes may end, or break, within a character. The length of s without an unfinished
 * character at its end: what a stream may show. */
size_t utf8_complete(const char *s, size_t n);
/* s with U+FFFD for every maximal broken part of a character (Unicode 15, 3.9), for JSON and
 * terminals; caller frees. */
char *utf8_clean(const char *s, size_t n);

/* ---- what is in it ---- */
int tokenizer_vocab_size(const struct tokenizer *t);        /* highest id + 1 */
int32_t tokenizer_id(const struct tokenizer *t, const char *token);     /* raw token; -1: none */
/* The raw piece ("Ġthe"), borrowed; NULL for an unused id. */
const char *tokenizer_token(const struct tokenizer *t, int32_t id);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
bool tokenizer_is_added(const struct tokenizer *t, int32_t id);         /* in added_tokens */
bool tokenizer_is_byte(const struct tokenizer *t, int32_t id);  /* "<0x0A>", with byte_fallback */
int32_t tokenizer_unk_id(const struct tokenizer *t);        /* -1: none */
const char *tokenizer_model_type(const struct tokenizer *t);            /* "BPE", "Unigram" */
/* "BPE byte-level", "BPE sentencepiece" (on characters) or "Unigram". */
const char *tokenizer_kind(const struct tokenizer *t);
bool tokenizer_byte_level(const struct tokenizer *t);       /* tokens are in GPT-2's byte letters */
int tokenizer_merge_count(const struct tokenizer *t);
/* Merge i, in the order of the file, as raw tokens, borrowed. */
void tokenizer_merge_at(const struct tokenizer *t, int i, const char **left, const char **right);
double tokenizer_score(const struct tokenizer *t, int32_t id);          /* Unigram; else 0 */
/* Expression i of the pre-tokenizer, in order; ByteLevel's own and Digits' included; NULL behind
 * the last. */
const char *tokenizer_split_pattern(const struct tokenizer *t, int i);
/* A text that does not begin with a blank is encoded as if it did. */
bool tokenizer_prefix_space(const struct tokenizer *t);

/* ---- training ---- */
/* Byte-level BPE training (GPT-2 pre-tokeniser): the 256 byte letters, then merges by frequency
 * (ties: the lower pair of ids) until vocab_size less the special tokens, which get the last ids.
 * texts: n pieces. Deterministic. Fewer merges than asked when the text runs out of pairs. */
struct tokenizer *tokenizer_train(const char *const *texts, const size_t *lens, int n,
                                  int vocab_size, const char *const *specials, int nspecials,
                                  struct err *e) MUST_CHECK;
#endif

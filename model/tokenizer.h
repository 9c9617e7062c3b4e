/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer.h — byte-level BPE: tokenizer.json in and out, encode, decode, training.
 *
 * Text is UTF-8; invalid bytes are tokenised byte by byte and survive a round trip. Immutable after
 * loading: any number of threads may encode at once.
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

int tokenizer_vocab_size(const struct tokenizer *t);        /* highest id + 1 */
int32_t tokenizer_id(const struct tokenizer *t, const char *token);     /* raw token; -1: none */
/* The raw piece ("Ġthe"), borrowed; NULL for an unused id. */
const char *tokenizer_token(const struct tokenizer *t, int32_t id);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);

/* Appends the ids of text. Special tokens ("<|user|>") are recognised in it when parse_special;
 * text from users and data files is encoded with parse_special = false, so that it cannot forge
 * turns. Added tokens that are not special (runs of blanks in some files) are text and always
 * recognised. No BOS/EOS is added: templates do that (chat.h). */
void tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool parse_special,
                      struct ids *out);
/* The text of ids; NUL-terminated, caller frees; special tokens are left out when skip_special. */
char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n, bool skip_special,
                       size_t *len);

/* Decoded bytes may end, or break, within a character. The length of s without an unfinished
 * character at its end: what a stream may show. */
size_t utf8_complete(const char *s, size_t n);
/* s with U+FFFD for every invalid byte, for JSON and terminals; caller frees. */
char *utf8_clean(const char *s, size_t n);

/* Byte-level BPE training (GPT-2 pre-tokeniser): the 256 byte letters, then merges by frequency
 * (ties: the lower pair of ids) until vocab_size less the special tokens, which get the last ids.
 * texts: n pieces. Deterministic. Fewer merges than asked when the text runs out of pairs. */
struct tokenizer *tokenizer_train(const char *const *texts, const size_t *lens, int n,
                                  int vocab_size, const char *const *specials, int nspecials,
                                  struct err *e) MUST_CHECK;
#endif

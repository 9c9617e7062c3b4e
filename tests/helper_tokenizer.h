/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_tokenizer.h — a small trained tokenizer and its file, for the tokenizer's tests.
 */
#ifndef KEEL_TEST_HELPER_TOKENIZER_H
#define KEEL_TEST_HELPER_TOKENIZER_H

#include "model/tokenizer_impl.h"
#include "tests/helper.h"

/* Some English, digits, blanks, accents; the last two ids are <|a|> and <|ab|>. */
extern const char *const sample_text[3];
struct tokenizer *train_sample(int vocab_size);
/* tokenizer.json of train_sample(300); caller decrefs. */
json_t *sample_json(void);
/* A small SentencePiece-style file: letters but q, bytes but E6, a few merges, <unk> <s> </s>. */
json_t *sample_spm_json(void);
/* One more merge of a BPE model; its whole becomes a token where it is none. */
void add_merge(json_t *model, const char *left, const char *right);
json_t *sample_unigram_json(void);          /* a b c d and some words of them */
/* The file `base` with top-level keys replaced by those of `overlay`: JSON, in which ' may stand
 * for ". NULL and *e. */
struct tokenizer *with_overlay(json_t *base, const char *overlay, struct err *e);
/* The text's tokens, joined by "|", are `expected`. flags: ENCODE_*. */
void assert_pieces(const struct tokenizer *t, const char *text, int flags,
                   const char *expected);
/* got is the list of ids `want`; text: for the message. */
void assert_ids(const struct tokenizer *t, const struct ids *got, const json_t *want,
                const char *where, const char *text);
/* The ids decode to the string `want`, at once and one by one. flags: DECODE_*. */
void assert_decodes(const struct tokenizer *t, const struct ids *ids, int flags,
                    const json_t *want, const char *where);
/* Calls row for each line of a JSONL file; where: "path:line". Returns their number. */
int each_line(const char *path, void (*row)(const json_t *row, const char *where, void *ctx),
              void *ctx);
/* Decoding gives the n bytes back. */
void assert_round_trip(const struct tokenizer *t, const char *s, size_t n);
/* Byte-pair encoding by its definition: a rescan for the lowest rank after every merge. */
void naive_bpe(const struct tokenizer *t, const char *s, size_t n, struct ids *out);
/* The same from characters, with fuse_unk and byte_fallback. */
void naive_characters(const struct tokenizer *t, const char *s, size_t n, struct ids *out);
/* Matches of the expression and the gaps between them, in byte letters, joined by "|"; caller
 * frees. */
char *split_letters(const struct tokenizer *t, const struct regex *re, const char *s);
#endif

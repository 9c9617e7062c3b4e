/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_impl.h — what the tokenizer's own files share; nothing else includes it.
 *
 *   text -> stretches of valid UTF-8 -> added tokens (raw) -> normalizer
 *        -> added tokens (normalized) -> pre-tokenizer steps -> model -> ids -> decoder -> text
 *
 * Every stage of tokenizer.json is a table with one row for each "type" it knows; the file's lists
 * become arrays of steps. A type without a row, and a key that its row does not read, are refused
 * by name: a skipped step would change ids silently.
 */
#ifndef KEEL_TOKENIZER_IMPL_H
#define KEEL_TOKENIZER_IMPL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>

#include "model/tokenizer.h"

#define TOKEN_ID_LIMIT (1 << 24)            /* ids from here on are refused: they index tables */

/* ---- vocabulary: token string <-> id (tokenizer_bpe.c) ---- */
struct vocab {
    char **token;                           /* [size] by id; NULL: unused; owned */
    int size;                               /* highest id + 1 */
    uint32_t *slot;                         /* open addressing, id + 1; 0: empty */
    size_t cap, used;
};
int32_t vocab_find(const struct vocab *v, const char *s, size_t n);     /* -1: none */
/* false: the id or the string is taken. */
bool vocab_add(struct vocab *v, const char *s, size_t n, int32_t id);
void vocab_release(struct vocab *v);

/* ---- merges: (left, right) -> rank and id of the whole (tokenizer_bpe.c) ---- */
struct merge {
    uint64_t key;                           /* left << 32 | right; MERGE_EMPTY: free slot */
    int32_t rank, id;
};
struct merges {
    struct merge *slot;
    size_t cap, used;
};
#define MERGE_EMPTY UINT64_MAX
static inline uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}
const struct merge *merges_find(const struct merges *m, int32_t left, int32_t right);  /* or NULL */
void merges_set(struct merges *m, int32_t left, int32_t right, int32_t rank, int32_t id);

/* ---- regular expressions (tokenizer_pre.c) ---- */
#define GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
struct segment {
    size_t a, b;                            /* [a, b) of the piece */
    bool match;
};
struct segments {
    struct segment *v;
    int n, cap;
};
pcre2_code *regex_new(const char *pattern, bool literal, const char *where, struct err *e);
/* Matches and the gaps between them, in order, covering s; empty matches are kept as cuts. */
void regex_segments(const pcre2_code *re, pcre2_match_data *md, const char *s, size_t n,
                    struct segments *out);

/* ---- the stages ---- */
struct encoder;
struct pre_step {
    void (*run)(struct encoder *x, const struct pre_step *st, int k, const char *s, size_t n);
    pcre2_code *re;                         /* NULL: the piece stays whole */
    const struct split_behavior *behavior;
    bool invert, add_prefix_space;
};
struct norm_step {
    char *(*run)(const struct norm_step *st, const char *s, size_t n, size_t *len);   /* owned */
    int options;
};
struct added {
    char *content;                          /* as matched: normalized when the flag says so */
    size_t len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};
struct trie_node {
    int32_t child, sibling, added;          /* -1: none */
    uint8_t byte;
};
struct trie {
    struct trie_node *node;
    int n, cap;
    int32_t first[256];                     /* -1: none */
};

enum { TOKEN_ADDED = 1, TOKEN_SPECIAL = 2 };
struct tokenizer {
    char *json;                             /* the file as read: saving writes it back */
    size_t json_len;
    struct vocab vocab;
    uint8_t *flags;                         /* [vocab.size] TOKEN_* */
    struct added *added;
    int nadded;
    struct trie trie[2];                    /* matched in raw text; in normalized text */
    struct norm_step *norm;
    int nnorm;
    struct pre_step *pre;
    int npre;
    bool byte_level;                        /* the last pre-tokenizer step maps bytes to letters */
    const struct token_model *model;
    void (*decode)(const struct tokenizer *t, const char *token, struct str *out);
    struct merges merges;
    int32_t byte_id[256];                   /* the token of one byte's letter; -1: none */
    int32_t unk_id;                         /* -1: none */
    bool fuse_unk, ignore_merges;
};
struct token_model {
    const char *type;
    int (*parse)(struct tokenizer *t, const json_t *j, const char *where, struct err *e);
    void (*encode)(struct encoder *x, const char *s, size_t n);     /* one piece, adds to x->out */
};
extern const struct token_model token_model_table[];                /* ends with type == NULL */

/* One "type" of a stage that appends steps to t. Tables end with type == NULL. */
struct stage_kind {
    const char *type;
    int (*parse)(struct tokenizer *t, const json_t *j, const char *where, struct err *e);
};
extern const struct stage_kind normalizer_table[], pre_tokenizer_table[];
extern const struct stage_kind post_processor_table[], decoder_table[];

/* Reads j["type"], finds its row and runs it. null is no stage. */
int stage_parse(const struct stage_kind *table, struct tokenizer *t, const json_t *j,
                const char *where, struct err *e);
/* The same for each item of j[key]. */
int stage_parse_list(const struct stage_kind *table, struct tokenizer *t, const json_t *j,
                     const char *key, const char *where, struct err *e);

/* ---- reading JSON (tokenizer_json.c): 0, or -1 and "where.key: expected ..., got ..." ---- */
int json_only_keys(const json_t *j, const char *where, const char *const *keys, struct err *e);
int json_bool(const json_t *j, const char *key, bool def, const char *where, bool *out,
              struct err *e);
/* A missing or null string gives NULL. */
int json_text(const json_t *j, const char *key, const char *where, const char **out,
              struct err *e);
const char *json_kind(const json_t *j);     /* "a number", for messages */

/* Flags and tries, once vocabulary and added tokens are there (tokenizer.c). */
void added_prepare(struct tokenizer *t);

/* ---- one call of tokenizer_encode: buffers that the stages share ---- */
struct symbol {
    int32_t id, prev, next;                 /* id -1: merged into its left neighbour */
};
struct candidate {
    int32_t rank, at;                       /* at: index of the left symbol */
};
struct encoder {
    const struct tokenizer *t;
    struct ids *out;
    pcre2_match_data *md;
    struct segments *seg;                   /* [npre] */
    struct str prefixed;                    /* a piece with its prefix space */
    struct symbol *sym;                     /* [cap] */
    struct candidate *heap;                 /* [2 cap]: a merge pops one and pushes two at most */
    size_t cap, nheap;
};
/* Step k of the pre-tokenizer, or the model behind the last one. */
void encode_step(struct encoder *x, int k, const char *s, size_t n);

/* ---- text (tokenizer_text.c) ---- */
/* Length of the longest stretch at s that is valid UTF-8 throughout, or not valid anywhere. */
size_t utf8_stretch(const char *s, size_t n, bool *valid);
bool char_is_space(int32_t c);              /* White_Space */
bool char_is_word(int32_t c);               /* \w of Unicode regular expressions */
int32_t char_before(const char *s, size_t at);          /* of valid text, at > 0 */
int32_t char_after(const char *s, size_t n, size_t at); /* of valid text, at < n */
/* The text of s after all normalizer steps; caller frees. */
char *normalize(const struct tokenizer *t, const char *s, size_t n, size_t *len);

/* GPT-2's byte alphabet: the code point of byte b, and back (-1: not a letter). */
int32_t byte_letter(int b);
int letter_byte(int32_t c);
/* The letters of n bytes, appended as UTF-8. */
void byte_letters(const char *s, size_t n, struct str *out);
#endif

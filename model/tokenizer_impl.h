/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_impl.h — what the tokenizer's own files share; nothing else includes it.
 *
 *   text -> stretches of valid UTF-8 -> added tokens (raw) -> normalizer
 *        -> added tokens (normalized) -> pre-tokenizer steps -> words -> model -> ids
 *   ids -> post-processor; ids -> decoder steps -> text
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
#include <pthread.h>

#include "model/tokenizer.h"

#define TOKEN_ID_LIMIT (1 << 24)            /* ids from here on are refused: they index tables */
#define TEXT_LIMIT ((size_t)1 << 30)        /* bytes of one text: symbols are counted in int32_t */
#define WORD_MARK "\xE2\x96\x81"            /* U+2581, SentencePiece's blank */

enum { GLUE_LIMIT = 32 };

struct encoder;

/* ---- vocabulary: token <-> id (tokenizer_vocab.c) ---- */
struct vocab {
    char *pool;                             /* all tokens, each with a NUL behind it */
    size_t pool_len, pool_cap;
    struct vocab_text {
        size_t at;
        uint32_t len;
        bool used;
    } *text;                                /* [size] by id */
    int size;                               /* highest id + 1 */
    struct vocab_slot {
        uint32_t id1, tag;                  /* id + 1, 0: empty; high half of the hash */
    } *slot;                                /* open addressing, at most half full */
    size_t cap, used;
};
uint64_t hash_bytes(const char *s, size_t n);
int32_t vocab_find(const struct vocab *v, const char *s, size_t n);     /* -1: none */
/* NULL: unused. Borrowed until the next vocab_add; len may be NULL. */
const char *vocab_text(const struct vocab *v, int32_t id, size_t *len);
/* false: the id or the string is taken. */
bool vocab_add(struct vocab *v, const char *s, size_t n, int32_t id);
void vocab_release(struct vocab *v);

/* ---- merges: (left, right) -> rank and id of the whole (tokenizer_vocab.c) ---- */
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

/* ---- regular expressions (tokenizer_regex.c) ---- */
#define GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
struct scan;
struct regex {
    char *pattern;                          /* as in the file */
    bool literal;
    const struct scan *scan;                /* NULL: no scanner for it */
    pcre2_code *code;
};
struct segment {
    size_t a, b;                            /* [a, b) of the piece */
    bool match;
};
/* Where the matches of a text are, one after the other; zero-initialise. */
struct matching {
    size_t from, end;                       /* where to search; end of the last segment */
    bool matched, done;
    struct segment next;                    /* a match that waits for the gap before it */
    bool waiting;
};
struct regex *regex_new(const char *pattern, bool literal, const char *where, struct err *e);
void regex_free(struct regex *re);
/* Matches and the gaps between them, in order, covering s; empty matches come as empty segments.
 * false: no more, or x->failed. */
bool regex_next(const struct regex *re, struct encoder *x, const char *s, size_t n,
                struct matching *m, struct segment *g);
/* The expression in PCRE2's language, or NULL and *e: a construct that has no equal there. */
char *regex_translate(const char *pattern, const char *where, struct err *e);

/* ---- the stages ---- */
struct pre_step {
    /* first: the piece is the beginning of the text */
    void (*run)(struct encoder *x, const struct pre_step *st, int k, const char *s, size_t n,
                bool first);
    struct regex *re;                       /* Split */
    bool (*is)(int32_t c);                  /* in place of re: every such character is a match */
    const struct split_behavior *behavior;
    const char *pattern;                    /* for tokenizer_split_pattern; NULL: none */
    bool invert;
    int prepend;                            /* PREPEND_* */
    char mark[5];                           /* Metaspace: what stands for a blank */
};
enum { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };
struct norm_step {
    /* Appends the new form of s to out. */
    void (*run)(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                struct str *out);
    int options;
    bool left, right;                       /* Strip */
    struct regex *re;                       /* Replace */
    char *text;                             /* Replace, Prepend; owned */
    struct charsmap *map;                   /* Precompiled */
};
/* Either takes a token's bytes as they come (end: it is complete), or whole tokens. */
struct decode_step {
    void (*feed)(struct text_stream *s, int k, const char *b, size_t n, bool end);
    void (*token)(struct text_stream *s, int k, const char *b, size_t n);
    void (*finish)(struct text_stream *s, int k);           /* NULL: nothing is held */
    struct regex *re;                       /* Replace */
    char *text;                             /* Replace's content; Strip's, Metaspace's character */
    int start, stop;                        /* Strip */
    bool keep_first;                        /* Metaspace: the first token's marks are blanks too */
};
enum { POST_A = -1, POST_B = -2 };          /* in a template: where the sequences go */

/* ---- added tokens (tokenizer_added.c) ---- */
struct added {
    char *content;                          /* as matched: normalized when the flag says so */
    size_t len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool fresh;                             /* not in the model's vocabulary */
};
struct trie_node {
    int32_t child, sibling, added;          /* -1: none */
    uint8_t byte;
};
struct trie {
    struct trie_node *node;
    int n, cap;
    int32_t first[256];                     /* -1: none */
    bool special;                           /* holds a special token */
};
enum { TOKEN_ADDED = 1, TOKEN_SPECIAL = 2, TOKEN_FRESH = 4 };

int added_parse(struct tokenizer *t, const json_t *list, struct err *e);
/* Flags and tries, once vocabulary and normalizer are there. */
int added_prepare(struct tokenizer *t, struct err *e);
void added_release(struct tokenizer *t);
/* Where special tokens are plain text: ranges of the input; its byte `base` is the text's first. */
struct guard {
    const struct text_range *v;
    int n;
    size_t base;
};
struct found {
    const struct added *added;
    size_t a, b;                            /* what it takes of the text, blanks included */
};
/* The first added token of the group (0: raw, 1: normalized) at or behind *scan that counts.
 * taken: end of the last one. */
bool added_find(const struct tokenizer *t, int group, const char *s, size_t n, size_t taken,
                bool parse_special, const struct guard *g, size_t *scan, struct found *f);

/* ---- Unigram (tokenizer_unigram.c) ---- */
struct unigram {
    double *score;                          /* [size] by id */
    int size;
    double unknown;                         /* of a character without a piece */
    uint64_t *edge;                         /* trie as a hash table: node, byte -> child */
    size_t cap, used;
    int32_t *piece;                         /* [nnodes] id that ends at the node; -1: none */
    int nnodes, nodes_cap;
};

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
    bool letters;                           /* the vocabulary is in byte letters */
    bool byte_level;                        /* ... and the model gets bytes, not letters */
    struct decode_step *decode;
    int ndecode;
    struct ids single, pair;                /* templates of the post-processor */
    bool post;                              /* it has some; else the sequences alone */
    const struct token_model *model;
    int32_t unk_id;                         /* -1: none */
    int32_t byte_id[256];                   /* byte_fallback: "<0x0A>"; -1: none */
    bool byte_fallback;
    /* BPE */
    struct merges merges;
    struct merge_pair {
        int32_t left, right;
    } *merge_list;                          /* in the order of the file */
    int nmerges;
    int32_t letter_id[256];                 /* the token of one byte's letter; -1: none */
    int32_t *char_id;                       /* [1 << 16] by character; -1: none */
    bool all_letters;                       /* every letter_id is there */
    bool fuse_unk, ignore_merges;
    bool cut_words;                         /* before a WORD_MARK, but behind these characters: */
    int32_t glue[GLUE_LIMIT];
    int nglue;
    bool glue_unknown;                      /* and behind those without a token */
    struct unigram unigram;
    size_t steps;                           /* that slow expressions may take of one text */
    struct encoder_pool *pool;
};
struct token_model {
    const char *type;
    int (*parse)(struct tokenizer *t, const json_t *j, const char *where, struct err *e);
    void (*encode)(struct encoder *x, const char *s, size_t n);     /* one word, adds to x->out */
};
extern const struct token_model bpe_model, unigram_model;
extern const struct token_model *const token_model_table[];         /* ends with NULL */

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
/* A string of one character, as UTF-8. */
int json_char(const json_t *j, const char *key, const char *where, const char **out,
              struct err *e);
/* {"String": ...} or {"Regex": ...} at j["pattern"]; the caller frees the expression. */
struct regex *json_pattern(const json_t *j, const char *where, struct err *e);
/* "prepend_scheme" (PREPEND_*), or the older "add_prefix_space". */
int metaspace_scheme(const json_t *j, const char *where, int *scheme, struct err *e);
const char *json_kind(const json_t *j);     /* "a number", for messages */

void decoder_default(struct tokenizer *t);  /* the step of files without a decoder */
bool norm_prepends(const struct tokenizer *t);          /* a blank, or what stands for one */
void post_release(struct tokenizer *t);
void unigram_release(struct unigram *u);
void charsmap_free(struct charsmap *m);
struct charsmap *charsmap_new(const char *base64, const char *where, struct err *e);
void charsmap_apply(const struct charsmap *m, const char *s, size_t n, struct str *out);
/* A token of the model: not one that only added_tokens has. -1: none. */
static inline int32_t model_find(const struct tokenizer *t, const char *s, size_t n) {
    int32_t id = vocab_find(&t->vocab, s, n);
    return id >= 0 && t->flags[id] & TOKEN_FRESH ? -1 : id;
}
/* Byte-fallback tokens of the vocabulary into byte_id. */
void byte_tokens(struct tokenizer *t);
/* The byte that "<0x0A>" stands for, or -1. */
int byte_token(const char *s, size_t n);

/* ---- one call of tokenizer_encode: buffers that the stages share (tokenizer.c) ---- */
struct symbol {
    int32_t id, prev, next;                 /* id -1: merged into its left neighbour */
};
struct candidate {
    int32_t rank, at;                       /* at: index of the left symbol */
};
struct viterbi {
    double score;
    size_t from;
    int32_t id;                             /* -1: not reached */
};
struct encoder {
    const struct tokenizer *t;
    struct encoder *next;                   /* in the pool */
    struct ids *out;
    int flags;                              /* ENCODE_* */
    void (*taken)(void *ctx, int at, const char *s, size_t n);      /* NULL: nobody asks */
    void *taken_ctx;
    size_t steps;                           /* that slow expressions may still take */
    bool failed;                            /* they are spent, or a normalizer made too much */
    bool at_start;                          /* normalizers: what they got begins the text */
    bool first;                             /* ... and its beginning is still there */
    pcre2_match_data *md;
    pcre2_match_context *ctx;
    struct str form[2];                     /* normalizers: from one to the other */
    size_t most;                            /* ... and how long they may get */
    struct str *piece;                      /* [npre] a step's changed piece */
    struct str letters;
    struct symbol *sym;                     /* [cap] */
    struct candidate *heap;                 /* [2 cap]: a merge pops one and pushes two at most */
    size_t cap, nheap;
    struct viterbi *path;                   /* [path_cap] */
    size_t path_cap;
    struct word_cache *cache;               /* NULL until a word comes; one block */
};
struct tokenizer *tokenizer_new(void);
struct encoder *encoder_take(const struct tokenizer *t);
void encoder_give(struct encoder *x);
/* Step k of the pre-tokenizer, or the model behind the last one. */
void encode_step(struct encoder *x, int k, const char *s, size_t n, bool first);
/* A piece for the model: cut into words, each looked up before it is worked out
 * (tokenizer_word.c). */
void encode_words(struct encoder *x, const char *s, size_t n);

/* ---- text (tokenizer_text.c) ---- */
/* Length of the longest stretch at s that is valid UTF-8 throughout, or not valid anywhere. */
size_t utf8_stretch(const char *s, size_t n, bool *valid);
/* Bytes of the character at s, which *c takes; 0: not valid. */
size_t utf8_char(const char *s, size_t n, int32_t *c);
/* The same where s is known to be valid. */
static inline size_t utf8_next(const char *s, int32_t *c) {
    const uint8_t *b = (const uint8_t *)s;
    if (b[0] < 0x80)
        return (void)(*c = b[0]), 1;
    if (b[0] < 0xE0)
        return (void)(*c = (b[0] & 0x1F) << 6 | (b[1] & 0x3F)), 2;
    if (b[0] < 0xF0)
        return (void)(*c = (b[0] & 0x0F) << 12 | (b[1] & 0x3F) << 6 | (b[2] & 0x3F)), 3;
    *c = (b[0] & 0x07) << 18 | (b[1] & 0x3F) << 12 | (b[2] & 0x3F) << 6 | (b[3] & 0x3F);
    return 4;
}
void utf8_add(struct str *out, int32_t c);  /* appends the character */
size_t utf8_back(const char *s, size_t at); /* where the character before `at` begins; at > 0 */
/* s with U+FFFD for what is broken, appended; returns what it left at the end: the beginning of a
 * character that may go on, when more is to come. */
size_t utf8_repair(const char *s, size_t n, bool more, struct str *out);
bool char_is_space(int32_t c);              /* White_Space */
bool char_is_word(int32_t c);               /* \w of Rust's regular expressions */
bool char_is_number(int32_t c);             /* N */
bool char_is_punctuation(int32_t c);        /* ASCII's, and P as of Unicode 8 */
bool char_is_mark(int32_t c);               /* M as of Unicode 9 */
int32_t char_lower(int32_t c);
/* Assigned after the tables that the reference normalizes with. */
bool char_is_newer(int32_t c);
/* The text of s after all normalizer steps, in a buffer of x. */
const char *normalize(struct encoder *x, const char *s, size_t n, size_t *len);

/* GPT-2's byte alphabet: the code point of byte b, and back (-1: not a letter). */
int32_t byte_letter(int b);
int letter_byte(int32_t c);
/* The letters of n bytes, appended as UTF-8. */
void byte_letters(const char *s, size_t n, struct str *out);
#endif

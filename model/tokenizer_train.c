/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_train.c — byte-level BPE from text.
 *
 * Text is cut into words by GPT-2's pattern and equal words are counted once. The pair of
 * neighbours that is most frequent over all words becomes a token; ties go to the lower pair of
 * ids. Pair counts are kept up to date instead of recounted: a merge touches only the words that
 * hold its pair, which each pair lists. The maximum comes from a heap with lazy entries: a count
 * that rises is pushed at once, a count that has fallen is found out when its entry comes up.
 * Invariant: every pair with a positive count has an entry at least as high as its count.
 *
 * The result is written as a tokenizer.json and read back by tokenizer_parse: one way in. Merges
 * are written as "a b", which every version of Hugging Face tokenizers reads; letters hold no
 * blank.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_scan.h"

struct word {
    int32_t *sym;                           /* ids, shrinking as merges are applied */
    int n;
    int64_t count;
};
struct pair {
    uint64_t key;
    int64_t count;
    int32_t *words;                         /* words that hold, or held, the pair; may repeat */
    int nwords, cap;
    bool merged, touched;
};
struct entry {
    int64_t count;
    uint64_t key;
    int pair;
};
struct trainer {
    struct vocab words_by_text;             /* letters of a word -> index in words */
    struct word *words;
    int nwords, words_cap;
    struct merges pairs_by_key;             /* id: index in pairs */
    struct pair *pairs;
    int npairs, pairs_cap;
    struct entry *heap;
    size_t nheap, heap_cap;
    int *touched;                           /* pairs whose count rose during one merge */
    int ntouched, touched_cap;
    struct vocab vocab;                     /* the tokens so far, as letters */
    json_t *merges;
};

/* ---- words ---- */
static void add_word(struct trainer *r, const char *s, size_t n, struct str *letters) {
    letters->len = 0;
    byte_letters(s, n, letters);
    int32_t at = vocab_find(&r->words_by_text, letters->s, letters->len);
    if (at >= 0) {
        r->words[at].count++;
        return;
    }
    if (r->nwords == r->words_cap) {
        r->words_cap = MAX(2 * r->words_cap, 1024);
        r->words = xreallocarray(r->words, (size_t)r->words_cap, sizeof *r->words);
    }
    vocab_add(&r->words_by_text, letters->s, letters->len, r->nwords);
    struct word *w = &r->words[r->nwords++];
    *w = (struct word){xreallocarray(NULL, n, sizeof *w->sym), (int)n, 1};
    for (size_t i = 0; i < n; i++)
        w->sym[i] = (uint8_t)s[i];          // letters' ids are set once all words are there
}

static void count_words(struct trainer *r, const char *const *texts, const size_t *lens, int n) {
    const struct scan *scan = scan_find(GPT2_PATTERN);
    struct str letters = {0};
    if (!scan)
        BUG("no scanner for %s", GPT2_PATTERN);
    for (int i = 0; i < n; i++)
        for (size_t at = 0, k; at < lens[i]; at += k) {
            bool valid;
            const char *s = texts[i] + at;
            k = utf8_stretch(s, lens[i] - at, &valid);
            for (size_t a = 0, len; a < k; a += len) {
                len = valid ? scan_next(scan, s, k, a) : k;
                add_word(r, s + a, len, &letters);
            }
        }
    str_release(&letters);
}

/* ---- pairs ---- */
static bool above(struct entry a, struct entry b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static void push(struct trainer *r, int pair) {
    if (r->nheap == r->heap_cap) {
        r->heap_cap = MAX(2 * r->heap_cap, 1024);
        r->heap = xreallocarray(r->heap, r->heap_cap, sizeof *r->heap);
    }
    struct entry x = {r->pairs[pair].count, r->pairs[pair].key, pair};
    size_t i = r->nheap++;
    for (; i > 0 && above(x, r->heap[(i - 1) / 2]); i = (i - 1) / 2)
        r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = x;
}

static struct entry pop(struct trainer *r) {
    struct entry *h = r->heap, top = h[0], x = h[--r->nheap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < r->nheap; i = k) {
        if (k + 1 < r->nheap && above(h[k + 1], h[k]))
            k++;
        if (!above(h[k], x))
            break;
        h[i] = h[k];
    }
    h[i] = x;
    return top;
}

static struct pair *find_pair(struct trainer *r, int32_t left, int32_t right) {
    const struct merge *m = merges_find(&r->pairs_by_key, left, right);
    if (m)
        return &r->pairs[m->id];
    if (r->npairs == r->pairs_cap) {
        r->pairs_cap = MAX(2 * r->pairs_cap, 4096);
        r->pairs = xreallocarray(r->pairs, (size_t)r->pairs_cap, sizeof *r->pairs);
    }
    merges_set(&r->pairs_by_key, left, right, 0, r->npairs);
    r->pairs[r->npairs] = (struct pair){.key = pair_key(left, right)};
    return &r->pairs[r->npairs++];
}

static void count_down(struct trainer *r, int32_t left, int32_t right, int64_t n) {
    find_pair(r, left, right)->count -= n;
}

static void count_up(struct trainer *r, int32_t left, int32_t right, int word) {
    struct pair *p = find_pair(r, left, right);
    p->count += r->words[word].count;
    if (!p->nwords || p->words[p->nwords - 1] != word) {
        if (p->nwords == p->cap) {
            p->cap = MAX(2 * p->cap, 4);
            p->words = xreallocarray(p->words, (size_t)p->cap, sizeof *p->words);
        }
        p->words[p->nwords++] = word;
    }
    if (p->touched)
        return;
    p->touched = true;
    if (r->ntouched == r->touched_cap) {
        r->touched_cap = MAX(2 * r->touched_cap, 1024);
        r->touched = xreallocarray(r->touched, (size_t)r->touched_cap, sizeof *r->touched);
    }
    r->touched[r->ntouched++] = (int)(p - r->pairs);
}

static void push_touched(struct trainer *r) {
    for (int i = 0; i < r->ntouched; i++) {
        r->pairs[r->touched[i]].touched = false;
        push(r, r->touched[i]);
    }
    r->ntouched = 0;
}

/* ---- merging ---- */

/* Replaces a b by c in one word, from left to right, and moves the counts of the neighbours. */
static void merge_word(struct trainer *r, int word, int32_t a, int32_t b, int32_t c) {
    struct word *w = &r->words[word];
    int n = 0;
    for (int i = 0; i < w->n; i++) {
        if (w->sym[i] != a || i + 1 == w->n || w->sym[i + 1] != b) {
            w->sym[n++] = w->sym[i];
            continue;
        }
        count_down(r, a, b, w->count);
        if (n > 0) {
            count_down(r, w->sym[n - 1], a, w->count);
            count_up(r, w->sym[n - 1], c, word);
        }
        if (i + 2 < w->n) {
            count_down(r, b, w->sym[i + 2], w->count);
            count_up(r, c, w->sym[i + 2], word);
        }
        w->sym[n++] = c;
        i++;
    }
    w->n = n;
}

/* The most frequent pair, or -1 when none is left. */
static int best_pair(struct trainer *r) {
    while (r->nheap) {
        struct entry x = pop(r);
        int64_t count = r->pairs[x.pair].count;
        if (count == x.count && count > 0)
            return x.pair;
        if (count > 0 && count < x.count)
            push(r, x.pair);                // a higher count was pushed when it rose
    }
    return -1;
}

static void learn_merges(struct trainer *r, int vocab_size) {
    struct str whole = {0};
    int best;
    while (r->vocab.size < vocab_size && (best = best_pair(r)) >= 0) {
        struct pair p = r->pairs[best];     // the array may move below
        int32_t a = (int32_t)(p.key >> 32), b = (int32_t)(p.key & UINT32_MAX);
        whole.len = 0;
        str_add(&whole, vocab_text(&r->vocab, a, NULL));
        str_add(&whole, vocab_text(&r->vocab, b, NULL));
        // "ab" + "c" and "a" + "bc" are one token
        int32_t c = vocab_find(&r->vocab, whole.s, whole.len);
        if (c < 0) {
            c = r->vocab.size;
            vocab_add(&r->vocab, whole.s, whole.len, c);
        }
        if (!p.merged) {
            struct str line = {0};
            str_addf(&line, "%s %s", vocab_text(&r->vocab, a, NULL),
                     vocab_text(&r->vocab, b, NULL));
            json_array_append_new(r->merges, json_string(line.s));
            str_release(&line);
        }
        // what rises while the words are walked belongs to a fresh list
        struct pair *q = &r->pairs[best];
        q->merged = true;
        q->words = NULL;
        q->nwords = q->cap = 0;
        for (int i = 0; i < p.nwords; i++)
            merge_word(r, p.words[i], a, b, c);
        free(p.words);
        push_touched(r);
    }
    str_release(&whole);
}

/* ---- the result ---- */
static json_t *result_json(struct trainer *r, const char *const *specials, int nspecials) {
    json_t *vocab = json_object(), *added = json_array();
    for (int i = 0; i < r->vocab.size; i++)
        json_object_set_new(vocab, vocab_text(&r->vocab, i, NULL), json_integer(i));
    for (int i = 0; i < nspecials; i++)
        json_array_append_new(
            added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", r->vocab.size + i,
                             "content", specials[i], "single_word", 0, "lstrip", 0, "rstrip", 0,
                             "normalized", 0, "special", 1));
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:O}", "type", "BPE",
                              "dropout", "unk_token", "continuing_subword_prefix",
                              "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "ignore_merges", 0, "vocab", vocab, "merges", r->merges);
    const char *stage = "{s:s, s:b, s:b, s:b}";
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer",
                     json_pack(stage, "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                               "use_regex", 1),
                     "post_processor",
                     json_pack(stage, "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 0,
                               "use_regex", 1),
                     "decoder",
                     json_pack(stage, "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                               "use_regex", 1),
                     "model", model);
}

static void release(struct trainer *r) {
    for (int i = 0; i < r->nwords; i++)
        free(r->words[i].sym);
    for (int i = 0; i < r->npairs; i++)
        free(r->pairs[i].words);
    vocab_release(&r->words_by_text);
    vocab_release(&r->vocab);
    free(r->pairs_by_key.slot);
    free(r->words);
    free(r->pairs);
    free(r->heap);
    free(r->touched);
    json_decref(r->merges);
}

/* Byte letters in the order of their code points take the ids 0..255, as GPT-2's do. */
static void add_letters(struct trainer *r) {
    int32_t id[256];
    for (int32_t c = 0, next = 0; c < 0x144; c++)
        if (letter_byte(c) >= 0) {
            struct str letter = {0};
            byte_letters(&(char){(char)letter_byte(c)}, 1, &letter);
            vocab_add(&r->vocab, letter.s, letter.len, next);
            id[letter_byte(c)] = next++;
            str_release(&letter);
        }
    for (int i = 0; i < r->nwords; i++) {
        struct word *w = &r->words[i];
        for (int k = 0; k < w->n; k++)
            w->sym[k] = id[w->sym[k]];
        for (int k = 0; k + 1 < w->n; k++)
            count_up(r, w->sym[k], w->sym[k + 1], i);
    }
    push_touched(r);
}

struct tokenizer *tokenizer_train(const char *const *texts, const size_t *lens, int n,
                                  int vocab_size, const char *const *specials, int nspecials,
                                  struct err *e) {
    if (vocab_size < 256 + nspecials || vocab_size > TOKEN_ID_LIMIT) {
        err_set(e, "tokenizer.vocab_size: expected at least %d (256 bytes and %d special tokens), "
                "got %d", 256 + nspecials, nspecials, vocab_size);
        return NULL;
    }
    struct trainer r = {.merges = json_array()};
    count_words(&r, texts, lens, n);
    add_letters(&r);
    learn_merges(&r, vocab_size - nspecials);
    json_t *root = result_json(&r, specials, nspecials);
    char *text = json_dumps(root, JSON_INDENT(2));
    struct tokenizer *t = tokenizer_parse(text, strlen(text), "tokenizer", e);
    free(text);
    json_decref(root);
    release(&r);
    return t;
}

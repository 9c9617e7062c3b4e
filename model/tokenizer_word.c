/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_word.c — pieces cut into words, and a table of words whose ids are known.
 *
 * SentencePiece files give the model whole texts, with U+2581 for blanks. Where the merges show
 * that none can join a character and a U+2581 behind it (t->cut_words, tokenizer_bpe.c), what
 * stands before such a mark and what begins with it never influence each other, and are encoded
 * apart: the heap of one long word, and work done again for every "▁the", are spared.
 *
 * The table is direct-mapped with one cache line an entry: a word of up to 30 bytes with up to 8
 * ids. Two words that meet there take turns. It belongs to an encoder, and so to one thread.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { KEY = 30, IDS = 8, ENTRIES = 1 << 15 };          /* 2 MiB, touched as it fills */

struct word_entry {
    uint8_t len, n;                         /* len 0: empty */
    char key[KEY];
    int32_t id[IDS];
};
_Static_assert(sizeof(struct word_entry) == 64, "a cache line");
struct word_cache {
    struct word_entry *entry;               /* [ENTRIES], on cache lines */
    char block[(ENTRIES + 1) * sizeof(struct word_entry)];
};

static struct word_cache *word_cache_new(void) {
    struct word_cache *c = xcalloc(1, sizeof *c);
    uintptr_t at = (uintptr_t)c->block + sizeof *c->entry - 1;
    c->entry = (struct word_entry *)(at - at % sizeof *c->entry);
    return c;
}

static void encode_word(struct encoder *x, const char *s, size_t n) {
    const struct token_model *model = x->t->model;
    if (n > KEY) {
        model->encode(x, s, n);
        return;
    }
    if (!x->cache)
        x->cache = word_cache_new();
    struct word_entry *w = &x->cache->entry[hash_bytes(s, n) % ENTRIES];
    if (w->len == n && memcmp(w->key, s, n) == 0) {
        ids_addn(x->out, w->id, w->n);
        return;
    }
    int before = x->out->n;
    model->encode(x, s, n);
    int count = x->out->n - before;
    if (count > IDS)
        return;
    w->len = (uint8_t)n;
    w->n = (uint8_t)count;
    memcpy(w->key, s, n);
    if (count > 0)
        memcpy(w->id, x->out->v + before, (size_t)count * sizeof *w->id);
}

/* A merge may join the character before s[at] with the mark there. */
static bool is_glued(const struct tokenizer *t, const char *s, size_t at) {
    int32_t c = -1;
    size_t from = utf8_back(s, at);
    if (!t->nglue)
        return false;
    if (utf8_char(s + from, at - from, &c) != at - from || model_find(t, s + from, at - from) < 0)
        return t->glue_unknown;
    for (int i = 0; i < t->nglue; i++)
        if (t->glue[i] == c)
            return true;
    return false;
}

/* Where the word that begins at s ends: before a mark behind something else. */
static size_t word_end(const struct tokenizer *t, const char *s, size_t n) {
    static const size_t mark = sizeof WORD_MARK - 1;
    size_t at = 0;
    while (at + mark <= n && memcmp(s + at, WORD_MARK, mark) == 0)
        at += mark;
    while (at < n) {
        const char *p = memchr(s + at, WORD_MARK[0], n - at);
        if (!p || (size_t)(p - s) + mark > n)
            return n;
        at = (size_t)(p - s);
        if (memcmp(p, WORD_MARK, mark) != 0) {
            at++;
            continue;
        }
        if (!is_glued(t, s, at))
            return at;
        while (at + mark <= n && memcmp(s + at, WORD_MARK, mark) == 0)
            at += mark;
    }
    return n;
}

void encode_words(struct encoder *x, const char *s, size_t n) {
    if (!x->t->cut_words) {
        encode_word(x, s, n);
        return;
    }
    for (size_t at = 0, k; at < n; at += k) {
        k = word_end(x->t, s + at, n - at);
        encode_word(x, s + at, k);
    }
}

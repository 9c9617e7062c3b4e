/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_vocab.c — the vocabulary and the merges as tables.
 *
 * Both are open addressing with linear probing, at most half full. The vocabulary's texts lie in
 * one block; a slot carries the high half of the hash, so that a probe rarely reads a text that is
 * another's. A merge is one 16-byte slot: what encoding asks of a pair is in one cache line.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

/* Eight bytes at a time; the last ones overlap what is done where there is enough. */
uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&w, s + i, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    if (n >= 8)
        memcpy(&w, s + n - 8, 8);
    else if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, s, 4);
        memcpy(&b, s + n - 4, 4);
        w = (uint64_t)a << 32 | b;
    } else if (n) {
        w = (uint64_t)(uint8_t)s[0] << 16 | (uint64_t)(uint8_t)s[n / 2] << 8 | (uint8_t)s[n - 1];
    }
    h = (h ^ w) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

/* ---- vocabulary ---- */
static struct vocab_slot *vocab_slot(const struct vocab *v, const char *s, size_t n,
                                     uint64_t hash) {
    const uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = hash;; i++) {
        struct vocab_slot *slot = &v->slot[i & (v->cap - 1)];
        if (!slot->id1)
            return slot;
        const struct vocab_text *t = &v->text[slot->id1 - 1];
        if (slot->tag == tag && t->len == n && memcmp(v->pool + t->at, s, n) == 0)
            return slot;
    }
}

int32_t vocab_find(const struct vocab *v, const char *s, size_t n) {
    return v->cap ? (int32_t)vocab_slot(v, s, n, hash_bytes(s, n))->id1 - 1 : -1;
}

const char *vocab_text(const struct vocab *v, int32_t id, size_t *len) {
    if (id < 0 || id >= v->size || !v->text[id].used)
        return NULL;
    if (len)
        *len = v->text[id].len;
    return v->pool + v->text[id].at;
}

static void vocab_grow(struct vocab *v) {
    struct vocab_slot *old = v->slot;
    size_t n = v->cap;
    v->cap = n ? 2 * n : 1024;
    v->slot = xcalloc(v->cap, sizeof *v->slot);
    for (size_t i = 0; i < n; i++)
        if (old[i].id1) {
            const struct vocab_text *t = &v->text[old[i].id1 - 1];
            uint64_t hash = hash_bytes(v->pool + t->at, t->len);
            *vocab_slot(v, v->pool + t->at, t->len, hash) = old[i];
        }
    free(old);
}

/* Makes room for id: ids come in any order, mostly ascending. */
static void vocab_extend(struct vocab *v, int32_t id) {
    size_t old = 16, cap = 16;
    while (old < (size_t)v->size)
        old *= 2;
    while (cap < (size_t)id + 1)
        cap *= 2;
    if (!v->text || cap > old)
        v->text = xreallocarray(v->text, cap, sizeof *v->text);
    memset(v->text + v->size, 0, ((size_t)id + 1 - (size_t)v->size) * sizeof *v->text);
    v->size = id + 1;
}

bool vocab_add(struct vocab *v, const char *s, size_t n, int32_t id) {
    if (2 * (v->used + 1) > v->cap)
        vocab_grow(v);
    uint64_t hash = hash_bytes(s, n);
    struct vocab_slot *slot = vocab_slot(v, s, n, hash);
    if (n >= UINT32_MAX || slot->id1 || (id < v->size && v->text[id].used))
        return false;
    if (id >= v->size)
        vocab_extend(v, id);
    if (v->pool_len + n + 1 > v->pool_cap) {
        v->pool_cap = MAX(2 * v->pool_cap, v->pool_len + n + 1 + 4096);
        v->pool = xrealloc(v->pool, v->pool_cap);
    }
    v->text[id] = (struct vocab_text){v->pool_len, (uint32_t)n, true};
    memcpy(v->pool + v->pool_len, s, n);
    v->pool[v->pool_len + n] = '\0';
    v->pool_len += n + 1;
    v->used++;
    *slot = (struct vocab_slot){(uint32_t)id + 1, (uint32_t)(hash >> 32)};
    return true;
}

void vocab_release(struct vocab *v) {
    free(v->pool);
    free(v->text);
    free(v->slot);
    memset(v, 0, sizeof *v);
}

/* ---- merges ---- */
static struct merge *merge_slot(const struct merges *m, uint64_t key) {
    for (size_t i = (key * 0x9e3779b97f4a7c15u) >> 32;; i++) {
        struct merge *s = &m->slot[i & (m->cap - 1)];
        if (s->key == key || s->key == MERGE_EMPTY)
            return s;
    }
}

const struct merge *merges_find(const struct merges *m, int32_t left, int32_t right) {
    if (!m->cap)
        return NULL;
    const struct merge *s = merge_slot(m, pair_key(left, right));
    return s->key == MERGE_EMPTY ? NULL : s;
}

static void merges_grow(struct merges *m) {
    struct merges old = *m;
    m->cap = old.cap ? 2 * old.cap : 1024;
    m->slot = xreallocarray(NULL, m->cap, sizeof *m->slot);
    for (size_t i = 0; i < m->cap; i++)
        m->slot[i].key = MERGE_EMPTY;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slot[i].key != MERGE_EMPTY)
            *merge_slot(m, old.slot[i].key) = old.slot[i];
    free(old.slot);
}

void merges_set(struct merges *m, int32_t left, int32_t right, int32_t rank, int32_t id) {
    if (2 * (m->used + 1) > m->cap)
        merges_grow(m);
    struct merge *s = merge_slot(m, pair_key(left, right));
    m->used += s->key == MERGE_EMPTY;
    *s = (struct merge){pair_key(left, right), rank, id};
}

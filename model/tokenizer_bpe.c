/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_bpe.c — byte-pair encoding of one piece (Sennrich et al., arXiv 1508.07909).
 *
 * A piece starts as one symbol a byte, linked into a list. The adjacent pair with the lowest rank
 * is merged, leftmost first among equals, until no pair has a rank. Candidates wait in a binary
 * heap ordered by (rank, position): O(n log n) for a piece of n bytes, where the usual rescan for
 * the lowest rank after every merge is quadratic and a word of 400 000 letters takes minutes.
 *
 * Invariant: every adjacent pair of live symbols that has a rank is in the heap. Entries are not
 * removed when their symbols go; an entry is stale when the pair that stands at its position has
 * another rank, and is dropped when it comes up.
 *
 * Vocabulary and merges are open-addressing tables with linear probing at most half full.
 */
#include "model/tokenizer_impl.h"

#include <string.h>

/* ---- vocabulary ---- */
static uint64_t hash_bytes(const char *s, size_t n) {           /* FNV-1a 64 */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static uint32_t *vocab_slot(const struct vocab *v, const char *s, size_t n) {
    for (size_t i = hash_bytes(s, n);; i++) {
        uint32_t *slot = &v->slot[i & (v->cap - 1)];
        if (!*slot)
            return slot;
        const char *t = v->token[*slot - 1];
        if (strncmp(t, s, n) == 0 && !t[n])
            return slot;
    }
}

int32_t vocab_find(const struct vocab *v, const char *s, size_t n) {
    return v->cap ? (int32_t)*vocab_slot(v, s, n) - 1 : -1;
}

static void vocab_grow(struct vocab *v) {
    v->cap = v->cap ? 2 * v->cap : 1024;
    free(v->slot);
    v->slot = xcalloc(v->cap, sizeof *v->slot);
    for (int i = 0; i < v->size; i++)
        if (v->token[i])
            *vocab_slot(v, v->token[i], strlen(v->token[i])) = (uint32_t)i + 1;
}

bool vocab_add(struct vocab *v, const char *s, size_t n, int32_t id) {
    if (2 * (v->used + 1) > v->cap)
        vocab_grow(v);
    uint32_t *slot = vocab_slot(v, s, n);
    if (*slot || (id < v->size && v->token[id]))
        return false;
    if (id >= v->size) {
        // capacity doubles: ids come in any order, mostly ascending
        size_t old = 16, cap = 16;
        while (old < (size_t)v->size)
            old *= 2;
        while (cap < (size_t)id + 1)
            cap *= 2;
        if (!v->token || cap > old)
            v->token = xreallocarray(v->token, cap, sizeof *v->token);
        memset(v->token + v->size, 0, ((size_t)id + 1 - (size_t)v->size) * sizeof *v->token);
        v->size = id + 1;
    }
    v->token[id] = xstrndup(s, n);
    v->used++;
    *slot = (uint32_t)id + 1;
    return true;
}

void vocab_release(struct vocab *v) {
    for (int i = 0; i < v->size; i++)
        free(v->token[i]);
    free(v->token);
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

/* ---- the heap of candidates ---- */
static bool before(struct candidate a, struct candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct encoder *x, struct candidate c) {
    struct candidate *h = x->heap;
    size_t i = x->nheap++;
    for (; i > 0 && before(c, h[(i - 1) / 2]); i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = c;
}

static struct candidate heap_pop(struct encoder *x) {
    struct candidate *h = x->heap, top = h[0], c = h[--x->nheap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < x->nheap; i = k) {
        if (k + 1 < x->nheap && before(h[k + 1], h[k]))
            k++;
        if (!before(h[k], c))
            break;
        h[i] = h[k];
    }
    h[i] = c;
    return top;
}

/* Pushes the pair whose left symbol is at `at`, when it has a rank. */
static void consider(struct encoder *x, int32_t at) {
    if (at < 0 || x->sym[at].next < 0)
        return;
    const struct merge *m =
        merges_find(&x->t->merges, x->sym[at].id, x->sym[x->sym[at].next].id);
    if (m)
        heap_push(x, (struct candidate){m->rank, at});
}

static void merge_all(struct encoder *x, int n) {
    struct symbol *sym = x->sym;
    x->nheap = 0;
    for (int i = 0; i + 1 < n; i++)
        consider(x, i);
    while (x->nheap) {
        struct candidate c = heap_pop(x);
        struct symbol *l = &sym[c.at];
        if (l->id < 0 || l->next < 0)
            continue;
        struct symbol *r = &sym[l->next];
        const struct merge *m = merges_find(&x->t->merges, l->id, r->id);
        if (!m || m->rank != c.rank)
            continue;
        l->id = m->id;
        l->next = r->next;
        r->id = -1;
        if (l->next >= 0)
            sym[l->next].prev = c.at;
        consider(x, l->prev);
        consider(x, c.at);
    }
}

/* One symbol a byte. A byte without a token becomes unk (neighbours fuse when the file says so), or
 * is dropped when there is no unk: as the reference does. */
static int first_symbols(struct encoder *x, const char *s, size_t n) {
    const struct tokenizer *t = x->t;
    int count = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(uint8_t)s[i]];
        if (id < 0)
            id = t->unk_id;
        bool fused = t->fuse_unk && id == t->unk_id && count && x->sym[count - 1].id == id;
        if (id < 0 || fused)
            continue;
        x->sym[count] = (struct symbol){id, count - 1, count + 1};
        count++;
    }
    if (count)
        x->sym[count - 1].next = -1;
    return count;
}

static void bpe_encode(struct encoder *x, const char *s, size_t n) {
    const struct tokenizer *t = x->t;
    if (t->ignore_merges) {
        struct str letters = {0};
        byte_letters(s, n, &letters);
        int32_t id = n ? vocab_find(&t->vocab, letters.s, letters.len) : -1;
        str_release(&letters);
        if (id >= 0) {
            ids_add(x->out, id);
            return;
        }
    }
    if (n > x->cap) {
        x->cap = MAX(2 * n, 64);
        x->sym = xreallocarray(x->sym, x->cap, sizeof *x->sym);
        x->heap = xreallocarray(x->heap, 2 * x->cap, sizeof *x->heap);
    }
    int count = first_symbols(x, s, n);
    if (count > 1)
        merge_all(x, count);
    for (int i = 0; count && i >= 0; i = x->sym[i].next)
        ids_add(x->out, x->sym[i].id);
}

/* ---- {"type": "BPE", "vocab": {token: id}, "merges": ["a b" or ["a", "b"], ...]} ---- */
static int parse_vocab(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    const json_t *vocab = json_object_get(j, "vocab");
    if (!json_is_object(vocab))
        return err_set(e, "%s.vocab: expected an object of token: id, got %s", where,
                       json_kind(vocab));
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)vocab, token, id) {
        json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
        if (n < 0 || n >= TOKEN_ID_LIMIT)
            return err_set(e, "%s.vocab[\"%.40s\"]: expected an id in 0..%d, got %s", where, token,
                           TOKEN_ID_LIMIT - 1, n < 0 ? json_kind(id) : "a larger one");
        if (!vocab_add(&t->vocab, token, strlen(token), (int32_t)n))
            return err_set(e, "%s.vocab[\"%.40s\"]: id %d is taken by \"%.40s\"", where, token,
                           (int)n, t->vocab.token[n]);
    }
    return 0;
}

/* Splits one item of "merges" into its halves; *pairs is the layout of the list. */
static int merge_halves(const json_t *item, bool pairs, const char *where, const char **a,
                        size_t *na, const char **b, struct err *e) {
    if (pairs) {
        const json_t *l = json_array_get(item, 0), *r = json_array_get(item, 1);
        if (json_array_size(item) != 2 || !json_is_string(l) || !json_is_string(r))
            return err_set(e, "%s: expected two strings, as in the first merge, got %s", where,
                           json_kind(item));
        *a = json_string_value(l);
        *na = strlen(*a);
        *b = json_string_value(r);
        return 0;
    }
    *a = json_string_value(item);
    const char *blank = *a ? strchr(*a, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' '))
        return err_set(e, "%s: expected \"left right\" with one blank, got %s%.40s", where,
                       *a ? "" : json_kind(item), *a ? *a : "");
    *na = (size_t)(blank - *a);
    *b = blank + 1;
    return 0;
}

static int parse_merges(struct tokenizer *t, const json_t *j, const char *model, struct err *e) {
    const json_t *merges = json_object_get(j, "merges");
    if (!json_is_array(merges))
        return err_set(e, "%s.merges: expected a list, got %s", model, json_kind(merges));
    bool pairs = json_is_array(json_array_get(merges, 0));
    struct str whole = {0};
    int rc = -1, rank = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *item = json_array_get(merges, i);
        const char *a = NULL, *b = "";
        char where[256];
        size_t na = 0;
        snprintf(where, sizeof where, "%.200s.merges[%zu]", model, i);
        if (!pairs && json_is_string(item) && strncmp(json_string_value(item), "#version", 8) == 0)
            continue;
        if (merge_halves(item, pairs, where, &a, &na, &b, e) < 0)
            goto out;
        whole.len = 0;
        str_addn(&whole, a, na);
        str_add(&whole, b);
        int32_t left = vocab_find(&t->vocab, a, na), right = vocab_find(&t->vocab, b, strlen(b));
        int32_t id = vocab_find(&t->vocab, whole.s, whole.len);
        if (left < 0 || right < 0 || id < 0) {
            err_set(e, "%s: expected parts and whole in the vocabulary, \"%.40s\" is not", where,
                    left < 0 ? whole.s : right < 0 ? b : whole.s);
            goto out;
        }
        merges_set(&t->merges, left, right, rank++, id);
    }
    rc = 0;
out:
    str_release(&whole);
    return rc;
}

/* Keys that change how words are cut and that byte-level files leave empty. */
static int refuse_options(const json_t *j, const char *where, struct err *e) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < ARRAY_LEN(affixes); i++) {
        const char *text;
        if (json_text(j, affixes[i], where, &text, e) < 0)
            return -1;
        if (text && *text)
            return err_set(e, "%s.%s: expected null or \"\", got \"%.40s\": not supported", where,
                           affixes[i], text);
    }
    const json_t *dropout = json_object_get(j, "dropout");
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return err_set(e, "%s.dropout: expected null, got %s: ids would be random", where,
                       json_kind(dropout));
    bool byte_fallback;
    if (json_bool(j, "byte_fallback", false, where, &byte_fallback, e) < 0)
        return -1;
    if (byte_fallback)
        return err_set(e, "%s.byte_fallback: expected false, got true: SentencePiece vocabularies "
                       "are not supported (hint: byte-level BPE is)", where);
    return 0;
}

static int bpe_parse(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {
        "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges", NULL};
    const char *unk;
    if (json_only_keys(j, where, keys, e) < 0 || refuse_options(j, where, e) < 0 ||
        json_bool(j, "fuse_unk", false, where, &t->fuse_unk, e) < 0 ||
        json_bool(j, "ignore_merges", false, where, &t->ignore_merges, e) < 0 ||
        json_text(j, "unk_token", where, &unk, e) < 0 || parse_vocab(t, j, where, e) < 0 ||
        parse_merges(t, j, where, e) < 0)
        return -1;
    t->unk_id = unk ? vocab_find(&t->vocab, unk, strlen(unk)) : -1;
    for (int b = 0; b < 256; b++) {
        struct str letter = {0};
        byte_letters(&(char){(char)b}, 1, &letter);
        t->byte_id[b] = vocab_find(&t->vocab, letter.s, letter.len);
        str_release(&letter);
        if (t->byte_id[b] < 0 && unk && t->unk_id < 0)
            return err_set(e, "%s.unk_token: \"%.40s\" is not in the vocabulary, and is needed for "
                           "byte 0x%02X", where, unk, (unsigned)b);
    }
    return 0;
}

const struct token_model token_model_table[] = {
    {"BPE", bpe_parse, bpe_encode},
    {NULL, NULL, NULL},
};

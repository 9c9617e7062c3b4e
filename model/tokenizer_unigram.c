/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_unigram.c — SentencePiece's unigram language model (Kudo, arXiv 1804.10959).
 *
 * A text is cut into the pieces whose scores (log-probabilities) add up to the most: Viterbi over
 * the positions of its characters, pieces found by walking a trie. A character that is no piece by
 * itself is unknown, 10 below the lowest score. Among equals the first found stays. Neighbouring
 * unknowns become one piece, which is looked up once more, then spelled in bytes when the file says
 * so and all of them are there, else unk.
 *
 * The trie is one hash table from (node, byte) to node: a text's walk is a few probes a character,
 * and loading is one insertion a byte of vocabulary.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#define UNKNOWN_PENALTY 10.0
#define NODE_BITS 28
#define NODE_LIMIT (1 << NODE_BITS)

/* ---- the trie: an edge is node << 36 | byte << 28 | child, 0 is empty (child >= 1) ---- */
static uint64_t *edge_slot(const struct unigram *u, int32_t node, uint8_t byte) {
    const uint64_t key = (uint64_t)node << 8 | byte;
    for (size_t i = (key * 0x9e3779b97f4a7c15u) >> 32;; i++) {
        uint64_t *e = &u->edge[i & (u->cap - 1)];
        if (!*e || *e >> NODE_BITS == key)
            return e;
    }
}

/* The child, or 0. */
static int32_t edge_find(const struct unigram *u, int32_t node, uint8_t byte) {
    return (int32_t)(*edge_slot(u, node, byte) & (NODE_LIMIT - 1));
}

static void edges_grow(struct unigram *u) {
    struct unigram old = *u;
    u->cap = old.cap ? 2 * old.cap : 1024;
    u->edge = xcalloc(u->cap, sizeof *u->edge);
    for (size_t i = 0; i < old.cap; i++)
        if (old.edge[i]) {
            uint64_t key = old.edge[i] >> NODE_BITS;
            *edge_slot(u, (int32_t)(key >> 8), (uint8_t)key) = old.edge[i];
        }
    free(old.edge);
}

static int32_t node_new(struct unigram *u) {
    if (u->nnodes == u->nodes_cap) {
        u->nodes_cap = MAX(2 * u->nodes_cap, 1024);
        u->piece = xreallocarray(u->piece, (size_t)u->nodes_cap, sizeof *u->piece);
    }
    u->piece[u->nnodes] = -1;
    return u->nnodes++;
}

/* false: the trie is full. */
static bool trie_insert(struct unigram *u, const char *s, size_t n, int32_t id) {
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        if (2 * (u->used + 1) > u->cap)
            edges_grow(u);
        uint64_t *e = edge_slot(u, node, (uint8_t)s[i]);
        if (!*e) {
            if (u->nnodes == NODE_LIMIT)
                return false;
            *e = ((uint64_t)node << 8 | (uint8_t)s[i]) << NODE_BITS | (uint64_t)node_new(u);
            u->used++;
        }
        node = (int32_t)(*e & (NODE_LIMIT - 1));
    }
    u->piece[node] = id;
    return true;
}

void unigram_release(struct unigram *u) {
    free(u->score);
    free(u->edge);
    free(u->piece);
}

/* ---- encoding ---- */
static void reach(struct viterbi *v, double score, size_t from, int32_t id) {
    if (v->id < 0 || score > v->score)
        *v = (struct viterbi){score, from, id};
}

/* Fills x->path: how each position is best reached. */
static void find_path(struct encoder *x, const char *s, size_t n) {
    const struct unigram *u = &x->t->unigram;
    struct viterbi *path = x->path;
    for (size_t i = 0; i <= n; i++)
        path[i] = (struct viterbi){0, 0, -1};
    for (size_t i = 0, k; i < n; i += k) {
        int32_t c, node = 0;
        bool single = false;
        k = utf8_char(s + i, n - i, &c);
        k = MAX(k, 1);
        for (size_t b = i; b < n; b++) {
            node = edge_find(u, node, (uint8_t)s[b]);
            if (!node)
                break;
            int32_t id = u->piece[node];
            if (id < 0)
                continue;
            reach(&path[b + 1], u->score[id] + path[i].score, i, id);
            single |= b + 1 == i + k;
        }
        if (!single)
            reach(&path[i + k], u->unknown + path[i].score, i, x->t->unk_id);
    }
}

/* A run of unknown characters. */
static void add_unknown(struct encoder *x, const char *s, size_t n) {
    const struct tokenizer *t = x->t;
    int32_t id = model_find(t, s, n);
    bool bytes = id < 0 && t->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++)
        bytes = t->byte_id[(uint8_t)s[i]] >= 0;
    if (!bytes)
        ids_add(x->out, id >= 0 ? id : t->unk_id);
    for (size_t i = 0; bytes && i < n; i++)
        ids_add(x->out, t->byte_id[(uint8_t)s[i]]);
}

/* The path is known from its end; afterwards path[a] is the piece that begins at a: its id, and in
 * `from` where it ends. */
static void turn_path(struct viterbi *path, size_t n) {
    struct viterbi last = path[n];
    for (size_t end = n; end > 0;) {
        struct viterbi before = path[last.from];
        path[last.from].from = end;
        path[last.from].id = last.id;
        end = last.from;
        last = before;
    }
}

static void unigram_encode(struct encoder *x, const char *s, size_t n) {
    if (x->t->byte_level) {
        x->letters.len = 0;
        byte_letters(s, n, &x->letters);
        s = x->letters.s;
        n = x->letters.len;
    }
    if (n + 1 > x->path_cap) {
        x->path_cap = MAX(2 * n, 64);
        x->path = xreallocarray(x->path, x->path_cap, sizeof *x->path);
    }
    find_path(x, s, n);
    turn_path(x->path, n);
    for (size_t a = 0, b; a < n; a = b) {
        int32_t id = x->path[a].id;
        b = x->path[a].from;
        if (id != x->t->unk_id) {
            ids_add(x->out, id);
            continue;
        }
        while (b < n && x->path[b].id == id)
            b = x->path[b].from;
        add_unknown(x, s + a, b - a);
    }
}

/* ---- {"type": "Unigram", "unk_id": n, "vocab": [[piece, score], ...]} ---- */
static int parse_piece(struct tokenizer *t, const json_t *item, int id, const char *where,
                       struct err *e) {
    struct unigram *u = &t->unigram;
    const json_t *piece = json_array_get(item, 0), *score = json_array_get(item, 1);
    if (json_array_size(item) != 2 || !json_is_string(piece) || !json_is_number(score))
        return err_set(e, "%s.vocab[%d]: expected [piece, score], got %s", where, id,
                       json_kind(item));
    const char *s = json_string_value(piece);
    if (!vocab_add(&t->vocab, s, strlen(s), id))
        return err_set(e, "%s.vocab[%d]: \"%.40s\" is there twice", where, id, s);
    if (!trie_insert(u, s, strlen(s), id))
        return err_set(e, "%s.vocab: expected less than %d bytes of pieces", where, NODE_LIMIT);
    u->score[id] = json_number_value(score);
    u->unknown = id ? MIN(u->unknown, u->score[id]) : u->score[id];
    return 0;
}

static int unigram_parse(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "unk_id", "vocab", "byte_fallback", NULL};
    struct unigram *u = &t->unigram;
    const json_t *vocab = json_object_get(j, "vocab"), *unk = json_object_get(j, "unk_id");
    const size_t n = json_array_size(vocab);
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "byte_fallback", false, where, &t->byte_fallback, e) < 0)
        return -1;
    if (!n || n > TOKEN_ID_LIMIT)
        return err_set(e, "%s.vocab: expected a list of 1 to %d [piece, score], got %s", where,
                       TOKEN_ID_LIMIT, n ? "a longer one" : json_kind(vocab));
    // the reference fails at the first unknown character of a text
    if (!json_is_integer(unk) || json_integer_value(unk) < 0 ||
        json_integer_value(unk) >= (json_int_t)n)
        return err_set(e, "%s.unk_id: expected the id of a piece (unknown characters need one), got"
                       " %s", where, json_is_integer(unk) ? "one that is none" : json_kind(unk));
    t->unk_id = (int32_t)json_integer_value(unk);
    u->score = xreallocarray(NULL, n, sizeof *u->score);
    u->size = (int)n;
    node_new(u);                            // the root
    edges_grow(u);
    for (size_t i = 0; i < n; i++)
        if (parse_piece(t, json_array_get(vocab, i), (int)i, where, e) < 0)
            return -1;
    u->unknown -= UNKNOWN_PENALTY;
    byte_tokens(t);
    return 0;
}

const struct token_model unigram_model = {"Unigram", unigram_parse, unigram_encode};

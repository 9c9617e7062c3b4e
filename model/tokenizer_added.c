/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_added.c — added tokens: reading them, and finding them in text.
 *
 * There are two groups: those matched in the raw text, and those matched behind the normalizer,
 * whose contents are normalized as well. Each is a trie, searched leftmost-longest as the reference
 * does; the order in the file is irrelevant. A special token that is not to be recognised is plain
 * text, but still hides other added tokens that it covers.
 *
 * Hugging Face tokenizers ignores the "id" of an added token: it takes the vocabulary's id of the
 * same text, else counts on from the vocabulary in file order. A file whose ids disagree would mean
 * different ids in the two programs and is refused.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#define TOTAL_LIMIT ((size_t)1 << 28)       /* bytes of all contents */

/* ---- the tries ---- */
static int32_t trie_child(struct trie *t, int32_t *link, uint8_t byte) {
    for (; *link >= 0; link = &t->node[*link].sibling)
        if (t->node[*link].byte == byte)
            return *link;
    *link = t->n;                           // before the array may move
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->node = xreallocarray(t->node, (size_t)t->cap, sizeof *t->node);
    }
    t->node[t->n] = (struct trie_node){-1, -1, -1, byte};
    return t->n++;
}

static void trie_add(struct trie *t, const char *s, size_t len, int added) {
    int32_t at = trie_child(t, &t->first[(uint8_t)s[0]], (uint8_t)s[0]);
    for (size_t i = 1; i < len; i++)
        at = trie_child(t, &t->node[at].child, (uint8_t)s[i]);
    if (t->node[at].added < 0)              // contents may be equal once they are normalized
        t->node[at].added = added;
}

/* The longest entry that starts at s, or -1. */
static int trie_longest(const struct trie *t, const char *s, size_t n) {
    int best = -1;
    int32_t at = t->first[(uint8_t)s[0]];
    for (size_t i = 1; at >= 0; i++) {
        if (t->node[at].added >= 0)
            best = t->node[at].added;
        if (i == n)
            break;
        at = t->node[at].child;
        while (at >= 0 && t->node[at].byte != (uint8_t)s[i])
            at = t->node[at].sibling;
    }
    return best;
}

int added_prepare(struct tokenizer *t, struct err *e) {
    struct encoder *x = encoder_take(t);
    t->flags = xcalloc((size_t)t->vocab.size, 1);
    for (int g = 0; g < 2; g++)
        for (int b = 0; b < 256; b++)
            t->trie[g].first[b] = -1;
    size_t total = 0;
    for (int i = 0; i < t->nadded && !x->failed && total < TOTAL_LIMIT; i++) {
        struct added *a = &t->added[i];
        t->flags[a->id] = TOKEN_ADDED | (a->special ? TOKEN_SPECIAL : 0) |
                          (a->fresh ? TOKEN_FRESH : 0);
        if (a->normalized) {                // matched against normalized text
            const char *form = normalize(x, a->content, a->len, &a->len);
            char *copy = xmalloc(a->len + 1);
            memcpy(copy, form, a->len);
            copy[a->len] = '\0';
            free(a->content);
            a->content = copy;
        }
        total += a->len;
        t->trie[a->normalized].special |= a->special;
    }
    for (int pass = 0; pass < 2; pass++)    // special ones take precedence
        for (int i = 0; i < t->nadded; i++) {
            const struct added *a = &t->added[i];
            if (a->len && a->special == !pass)
                trie_add(&t->trie[a->normalized], a->content, a->len, i);
        }
    const bool failed = x->failed || total >= TOTAL_LIMIT;
    encoder_give(x);
    return failed ? err_set(e, "added_tokens: expected contents that stay short, normalized") : 0;
}

void added_release(struct tokenizer *t) {
    for (int i = 0; i < t->nadded; i++)
        free(t->added[i].content);
    for (int g = 0; g < 2; g++)
        free(t->trie[g].node);
    free(t->added);
    free(t->flags);
}

/* ---- finding ---- */

/* Bytes from `at` to the next protected byte, 0 within a range; at most n. */
static size_t unguarded(const struct guard *g, size_t at, size_t n) {
    int lo = 0, hi = g->n;
    at += g->base;
    while (lo < hi) {                       // the first range that ends behind `at`
        int mid = (lo + hi) / 2;
        if (g->v[mid].b <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == g->n)
        return n;
    return g->v[lo].a <= at ? 0 : MIN(n, g->v[lo].a - at);
}

/* The entry at `at` by which the scan goes on, or -1; *counts: it is a token, not only text. */
static int entry_at(const struct tokenizer *t, const struct trie *trie, const char *s, size_t n,
                    size_t at, bool parse_special, const struct guard *g, bool *counts) {
    int i = trie_longest(trie, s + at, n - at);
    *counts = i >= 0 && (!t->added[i].special || parse_special);
    if (!*counts || !t->added[i].special || !g->n)
        return i;
    size_t room = unguarded(g, at, n - at);
    if (room >= t->added[i].len)
        return i;
    int shorter = room ? trie_longest(trie, s + at, room) : -1;
    *counts = shorter >= 0;
    return *counts ? shorter : i;
}

static bool is_single_word(const char *s, size_t n, size_t a, size_t b) {
    int32_t c;
    if (a > 0) {
        utf8_next(s + utf8_back(s, a), &c);
        if (char_is_word(c))
            return false;
    }
    if (b == n)
        return true;
    utf8_next(s + b, &c);
    return !char_is_word(c);
}

bool added_find(const struct tokenizer *t, int group, const char *s, size_t n, size_t taken,
                bool parse_special, const struct guard *g, size_t *scan, struct found *f) {
    const struct trie *trie = &t->trie[group];
    while (*scan < n) {
        if (trie->first[(uint8_t)s[*scan]] < 0) {
            ++*scan;
            continue;
        }
        bool counts;
        int i = entry_at(t, trie, s, n, *scan, parse_special, g, &counts);
        if (i < 0) {
            ++*scan;
            continue;
        }
        const struct added *x = &t->added[i];
        size_t a = *scan, b = a + x->len, k;
        int32_t c;
        *scan = b;
        if (!counts || (x->single_word && !is_single_word(s, n, a, b)))
            continue;
        if (x->lstrip) {
            for (; a > 0; a = k) {
                k = utf8_back(s, a);
                utf8_next(s + k, &c);
                if (!char_is_space(c))
                    break;
            }
            a = MAX(a, taken);
        }
        if (x->rstrip)
            for (; b < n; b += k) {
                k = utf8_next(s + b, &c);
                if (!char_is_space(c))
                    break;
            }
        *f = (struct found){x, a, b};
        return true;
    }
    return false;
}

/* ---- reading ---- */

/* The id that the reference would give: the vocabulary's, else the next one behind all. */
static int added_id(struct tokenizer *t, struct added *a, const json_t *j, const char *where,
                    int *next, struct err *e) {
    const json_t *id = json_object_get(j, "id");
    int32_t want = vocab_find(&t->vocab, a->content, a->len);
    const bool fresh = want < 0;
    a->fresh = fresh;
    if (fresh)
        want = *next;
    if (!json_is_integer(id) || json_integer_value(id) != want) {
        char got[32];
        snprintf(got, sizeof got, "%lld", (long long)json_integer_value(id));
        return err_set(e, "%s: \"%.40s\": expected id %d (%s), got %s", where, a->content, want,
                       fresh ? "counting on from the vocabulary" : "as in the vocabulary",
                       json_is_integer(id) ? got : json_kind(id));
    }
    if (want >= TOKEN_ID_LIMIT)
        return err_set(e, "%s: \"%.40s\": expected an id below %d", where, a->content,
                       TOKEN_ID_LIMIT);
    if (fresh && !vocab_add(&t->vocab, a->content, a->len, want))
        return err_set(e, "%s: \"%.40s\": id %d is taken by \"%.40s\"", where, a->content, want,
                       vocab_text(&t->vocab, want, NULL));
    *next = MAX(*next, want + 1);
    return want;
}

/* A content that was there before: the reference keeps the first, but a special one makes it
 * special. */
static bool is_repeated(struct tokenizer *t, const struct added *a) {
    for (int i = 0; i < t->nadded; i++)
        if (t->added[i].id == a->id) {
            t->added[i].special |= a->special;
            return true;
        }
    return false;
}

static int parse_one(struct tokenizer *t, const json_t *j, const char *where, int *next,
                     uint8_t *seen, struct err *e) {
    static const char *const keys[] = {"id", "content", "single_word", "lstrip", "rstrip",
                                       "normalized", "special", NULL};
    struct added a = {0};
    const char *content;
    if (!json_is_object(j))
        return err_set(e, "%s: expected an object, got %s", where, json_kind(j));
    if (json_only_keys(j, where, keys, e) < 0 || json_text(j, "content", where, &content, e) < 0 ||
        json_bool(j, "single_word", false, where, &a.single_word, e) < 0 ||
        json_bool(j, "lstrip", false, where, &a.lstrip, e) < 0 ||
        json_bool(j, "rstrip", false, where, &a.rstrip, e) < 0 ||
        json_bool(j, "special", false, where, &a.special, e) < 0 ||
        json_bool(j, "normalized", !a.special, where, &a.normalized, e) < 0)
        return -1;
    if (!content)
        return err_set(e, "%s.content: expected a string, got %s", where,
                       json_kind(json_object_get(j, "content")));
    if (!*content)
        return 0;
    a.content = xstrdup(content);
    a.len = strlen(content);
    a.id = added_id(t, &a, j, where, next, e);
    bool repeated = a.id >= 0 && seen[a.id] && is_repeated(t, &a);
    if (a.id < 0 || repeated) {
        free(a.content);
        return a.id < 0 ? -1 : 0;
    }
    seen[a.id] = 1;
    t->added[t->nadded++] = a;
    return 0;
}

int added_parse(struct tokenizer *t, const json_t *list, struct err *e) {
    if (list && !json_is_null(list) && !json_is_array(list))
        return err_set(e, "added_tokens: expected a list, got %s", json_kind(list));
    size_t n = json_array_size(list);
    int next = (int)t->vocab.used, rc = 0;
    t->added = xcalloc(n, sizeof *t->added);
    uint8_t *seen = xcalloc(MAX((size_t)t->vocab.size, t->vocab.used) + n + 1, 1);
    for (size_t i = 0; i < n && rc == 0; i++) {
        char where[48];
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        rc = parse_one(t, json_array_get(list, i), where, &next, seen, e);
    }
    free(seen);
    return rc;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_bpe.c — byte-pair encoding of one word (Sennrich et al., arXiv 1508.07909).
 *
 * A word starts as one symbol a byte letter (byte-level) or a character. The adjacent pair with the
 * lowest rank is merged, leftmost first among equals, until no pair has a rank.
 *
 * Short words are a row of symbols with the rank of each pair, searched for its least. Long ones
 * are a linked list with candidates in a binary heap ordered by (rank, position): O(n log n) for n
 * symbols, where the row is quadratic and a word of 400 000 letters takes minutes. Invariant of
 * the heap: every adjacent pair of live symbols that has a rank is in it. Entries are not removed
 * when their symbols go; an entry is stale when the pair that stands at its position has another
 * rank, and is dropped when it comes up.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT = 32 };                        /* symbols of a word that is merged as a row */

/* ---- long words ---- */
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

static void merge_list(struct encoder *x, int n) {
    struct symbol *sym = x->sym;
    for (int i = 0; i < n; i++)
        sym[i] = (struct symbol){sym[i].id, i - 1, i + 1 < n ? i + 1 : -1};
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
    for (int i = 0; i >= 0; i = sym[i].next)
        ids_add(x->out, sym[i].id);
}

/* ---- short words ---- */
static void merge_row(struct encoder *x, int n) {
    static const struct merge none = {.rank = INT32_MAX};
    const struct merges *merges = &x->t->merges;
    int32_t id[SHORT];
    const struct merge *pair[SHORT];        /* of id[i] and id[i + 1] */
    for (int i = 0; i < n; i++)
        id[i] = x->sym[i].id;
    for (int i = 0; i + 1 < n; i++) {
        pair[i] = merges_find(merges, id[i], id[i + 1]);
        if (!pair[i])
            pair[i] = &none;
    }
    for (;;) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++)
            if (pair[i]->rank < pair[best]->rank)
                best = i;
        if (n < 2 || pair[best] == &none)
            break;
        id[best] = pair[best]->id;
        n--;
        for (int i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            pair[i - 1] = pair[i];
        }
        for (int i = MAX(best - 1, 0); i <= best && i + 1 < n; i++) {
            pair[i] = merges_find(merges, id[i], id[i + 1]);
            if (!pair[i])
                pair[i] = &none;
        }
    }
    ids_addn(x->out, id, n);
}

/* ---- first symbols ---- */
static int32_t char_id(const struct tokenizer *t, const char *s, size_t n, int32_t c) {
    return c >= 0 && c < 1 << 16 ? t->char_id[c] : model_find(t, s, n);
}

/* The bytes of a character that has no token; false: not all of them have one. */
static bool fall_back(struct encoder *x, const char *s, size_t n, int *count) {
    for (size_t i = 0; i < n; i++)
        if (x->t->byte_id[(uint8_t)s[i]] < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        x->sym[(*count)++].id = x->t->byte_id[(uint8_t)s[i]];
    return true;
}

/* One symbol a character; one without a token becomes its bytes, else unk, else it is dropped. An
 * unk waits for the next character with a token, so that neighbours fuse when the file says so;
 * bytes go before it, as in the reference. A byte that is no UTF-8 is a character without a
 * token. */
static int character_symbols(struct encoder *x, const char *s, size_t n) {
    const struct tokenizer *t = x->t;
    int count = 0;
    bool waiting = false;
    for (size_t i = 0, k; i < n; i += k) {
        int32_t c = -1;
        k = utf8_char(s + i, n - i, &c);
        int32_t id = k ? char_id(t, s + i, k, c) : -1;
        k = MAX(k, 1);
        if (id >= 0) {
            if (waiting)
                x->sym[count++].id = t->unk_id;
            waiting = false;
            x->sym[count++].id = id;
        } else if (!(t->byte_fallback && fall_back(x, s + i, k, &count)) && t->unk_id >= 0) {
            if (waiting && !t->fuse_unk)
                x->sym[count++].id = t->unk_id;
            waiting = true;
        }
    }
    if (waiting)
        x->sym[count++].id = t->unk_id;
    return count;
}

static int byte_symbols(struct encoder *x, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        x->sym[i].id = x->t->letter_id[(uint8_t)s[i]];
    return (int)n;
}

static void bpe_encode(struct encoder *x, const char *s, size_t n) {
    const struct tokenizer *t = x->t;
    const bool bytes = t->byte_level && t->all_letters;
    if (t->byte_level && (t->ignore_merges || !bytes)) {
        x->letters.len = 0;
        byte_letters(s, n, &x->letters);
    }
    const char *text = t->byte_level && !(bytes && !t->ignore_merges) ? x->letters.s : s;
    const size_t len = text == s ? n : x->letters.len;
    if (t->ignore_merges) {
        int32_t id = model_find(t, text, len);
        if (id >= 0) {
            ids_add(x->out, id);
            return;
        }
    }
    if (len > x->cap) {
        x->cap = MAX(2 * len, 64);
        x->sym = xreallocarray(x->sym, x->cap, sizeof *x->sym);
        x->heap = xreallocarray(x->heap, 2 * x->cap, sizeof *x->heap);
    }
    int count = bytes ? byte_symbols(x, s, n) : character_symbols(x, text, len);
    if (count > SHORT)
        merge_list(x, count);
    else if (count)
        merge_row(x, count);
}

/* ---- {"type": "BPE", "vocab": {token: id}, "merges": ["a b" or ["a", "b"], ...]} ---- */
static int parse_vocab(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    const json_t *vocab = json_object_get(j, "vocab");
    if (!json_is_object(vocab))
        return err_set(e, "%s.vocab: expected an object of token: id, got %s", where,
                       json_kind(vocab));
    // a few unused ids are usual; many would make big tables of a small file
    const json_int_t limit =
        MIN(TOKEN_ID_LIMIT, (json_int_t)json_object_size(vocab) * 16 + (1 << 16));
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)vocab, token, id) {
        json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
        if (n < 0 || n >= limit)
            return err_set(e, "%s.vocab[\"%.40s\"]: expected an id in 0..%lld, got %s", where,
                           token, (long long)limit - 1, n < 0 ? json_kind(id) : "a larger one");
        if (!vocab_add(&t->vocab, token, strlen(token), (int32_t)n))
            return err_set(e, "%s.vocab[\"%.40s\"]: id %d is taken by \"%.40s\"", where, token,
                           (int)n, vocab_text(&t->vocab, (int32_t)n, NULL));
    }
    return 0;
}

/* Splits one item of "merges" into its halves; pairs: the layout of the list. */
static int merge_halves(const json_t *item, bool pairs, const char **a, size_t *na,
                        const char **b, struct err *e) {
    if (pairs) {
        const json_t *l = json_array_get(item, 0), *r = json_array_get(item, 1);
        if (json_array_size(item) != 2 || !json_is_string(l) || !json_is_string(r))
            return err_set(e, "expected two strings, as in the first merge, got %s",
                           json_kind(item));
        *a = json_string_value(l);
        *na = strlen(*a);
        *b = json_string_value(r);
        return 0;
    }
    *a = json_string_value(item);
    const char *blank = *a ? strchr(*a, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' '))
        return err_set(e, "expected \"left right\" with one blank, got %s%.40s",
                       *a ? "" : json_kind(item), *a ? *a : "");
    *na = (size_t)(blank - *a);
    *b = blank + 1;
    return 0;
}

static int parse_merge(struct tokenizer *t, const json_t *item, bool pairs, struct str *whole,
                       struct err *e) {
    const char *a = NULL, *b = "";
    size_t na = 0;
    if (merge_halves(item, pairs, &a, &na, &b, e) < 0)
        return -1;
    whole->len = 0;
    str_addn(whole, a, na);
    str_add(whole, b);
    int32_t left = vocab_find(&t->vocab, a, na), right = vocab_find(&t->vocab, b, strlen(b));
    int32_t id = vocab_find(&t->vocab, whole->s, whole->len);
    if (left < 0 || right < 0 || id < 0)
        return err_set(e, "expected parts and whole in the vocabulary, \"%.40s\" is not",
                       left < 0 ? whole->s : right < 0 ? b : whole->s);
    merges_set(&t->merges, left, right, t->nmerges, id);
    t->merge_list[t->nmerges++] = (struct merge_pair){left, right};
    return 0;
}

static int parse_merges(struct tokenizer *t, const json_t *j, const char *model, struct err *e) {
    const json_t *merges = json_object_get(j, "merges");
    if (!json_is_array(merges))
        return err_set(e, "%s.merges: expected a list, got %s", model, json_kind(merges));
    bool pairs = json_is_array(json_array_get(merges, 0));
    struct str whole = {0};
    t->merge_list = xreallocarray(NULL, json_array_size(merges), sizeof *t->merge_list);
    int rc = 0;
    for (size_t i = 0; i < json_array_size(merges) && rc == 0; i++) {
        const json_t *item = json_array_get(merges, i);
        if (!pairs && json_is_string(item) && strncmp(json_string_value(item), "#version", 8) == 0)
            continue;
        rc = parse_merge(t, item, pairs, &whole, e);
        if (rc < 0)
            err_prefix(e, "%s.merges[%zu]", model, i);
    }
    str_release(&whole);
    return rc;
}

/* Keys that change how words are cut, and that the families at hand leave empty. */
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
    return 0;
}

/* ---- tables made from the vocabulary ---- */

static bool has_glue(const struct tokenizer *t, int32_t c) {
    for (int i = 0; i < t->nglue; i++)
        if (t->glue[i] == c)
            return true;
    return false;
}

/* Finds the last characters of left halves that merge with a right half that begins with the mark:
 * behind another character, no merge reaches across, whatever has been merged on either side. A
 * symbol that is bytes or unk ends as its token's text does. Where a character can disappear, the
 * one before it is the neighbour. The mark is a token itself: a waiting unk does not pass it. */
static bool can_cut(struct tokenizer *t) {
    static const size_t mark = sizeof WORD_MARK - 1;
    int32_t c;
    size_t nl, nr;
    if (t->letters || t->ignore_merges || vocab_find(&t->vocab, WORD_MARK, mark) < 0)
        return false;
    for (int i = 0; i < t->nmerges; i++) {
        const char *l = vocab_text(&t->vocab, t->merge_list[i].left, &nl);
        const char *r = vocab_text(&t->vocab, t->merge_list[i].right, &nr);
        if (!nl || nr < mark || memcmp(r, WORD_MARK, mark) != 0)
            continue;
        utf8_next(l + utf8_back(l, nl), &c);
        if (c == 0x2581 || has_glue(t, c))
            continue;
        if (t->nglue == GLUE_LIMIT)
            return false;
        t->glue[t->nglue++] = c;
    }
    const char *unk = vocab_text(&t->vocab, t->unk_id, &nl);
    if (unk && nl)
        utf8_next(unk + utf8_back(unk, nl), &c);
    t->glue_unknown = t->nglue && (!unk || !nl || has_glue(t, c) || has_glue(t, '>'));
    return true;
}

static void make_tables(struct tokenizer *t) {
    struct str letter = {0};
    t->all_letters = true;
    for (int b = 0; b < 256; b++) {
        letter.len = 0;
        byte_letters(&(char){(char)b}, 1, &letter);
        t->letter_id[b] = vocab_find(&t->vocab, letter.s, letter.len);
        t->all_letters = t->all_letters && t->letter_id[b] >= 0;
    }
    str_release(&letter);
    t->char_id = xreallocarray(NULL, 1 << 16, sizeof *t->char_id);
    memset(t->char_id, 0xFF, (1 << 16) * sizeof *t->char_id);
    for (int32_t id = 0; id < t->vocab.size; id++) {
        size_t n;
        int32_t c;
        const char *s = vocab_text(&t->vocab, id, &n);
        if (s && n && utf8_char(s, n, &c) == n && c < 1 << 16)
            t->char_id[c] = id;
    }
    t->cut_words = can_cut(t);
}

static int bpe_parse(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {
        "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges", NULL};
    const char *unk;
    if (json_only_keys(j, where, keys, e) < 0 || refuse_options(j, where, e) < 0 ||
        json_bool(j, "fuse_unk", false, where, &t->fuse_unk, e) < 0 ||
        json_bool(j, "byte_fallback", false, where, &t->byte_fallback, e) < 0 ||
        json_bool(j, "ignore_merges", false, where, &t->ignore_merges, e) < 0 ||
        json_text(j, "unk_token", where, &unk, e) < 0 || parse_vocab(t, j, where, e) < 0 ||
        parse_merges(t, j, where, e) < 0)
        return -1;
    t->unk_id = unk ? vocab_find(&t->vocab, unk, strlen(unk)) : -1;
    make_tables(t);                         // needs unk_id
    bool bytes = t->byte_fallback;
    byte_tokens(t);
    for (int b = 0; b < 256; b++)
        bytes = bytes && t->byte_id[b] >= 0;
    if (unk && t->unk_id < 0 && !bytes && !(t->letters && t->all_letters))
        return err_set(e, "%s.unk_token: \"%.40s\" is not in the vocabulary, and is needed for %s "
                       "without a token", where, unk, t->letters ? "bytes" : "characters");
    return 0;
}

const struct token_model bpe_model = {"BPE", bpe_parse, bpe_encode};

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer.c — encode and decode: the stages in their order, and the added tokens.
 *
 * Added tokens are cut out before anything else reads the text, first those matched in the raw
 * text, then, behind the normalizer, those matched in normalized text. Both groups are tries
 * searched leftmost-longest, as the reference does; the order in the file is irrelevant. With
 * parse_special false a special token's text is plain text, but still hides other added tokens
 * that it covers.
 *
 * All working memory of a call lives in struct encoder, so one tokenizer serves any number of
 * threads.
 */
#include "model/tokenizer_impl.h"

#include <string.h>

/* ---- ids ---- */
void ids_addn(struct ids *a, const int32_t *v, int n) {
    if (a->n + n > a->cap) {
        a->cap = MAX(2 * a->cap, MAX(a->n + n, 16));
        a->v = xreallocarray(a->v, (size_t)a->cap, sizeof *a->v);
    }
    if (n)
        memcpy(a->v + a->n, v, (size_t)n * sizeof *v);
    a->n += n;
}

void ids_add(struct ids *a, int32_t id) {
    ids_addn(a, &id, 1);
}

void ids_release(struct ids *a) {
    free(a->v);
    *a = (struct ids){0};
}

/* ---- the tries of added tokens ---- */
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

void added_prepare(struct tokenizer *t) {
    t->flags = xcalloc((size_t)t->vocab.size, 1);
    for (int g = 0; g < 2; g++)
        for (int b = 0; b < 256; b++)
            t->trie[g].first[b] = -1;
    for (int i = 0; i < t->nadded; i++) {
        struct added *a = &t->added[i];
        t->flags[a->id] |= TOKEN_ADDED | (a->special ? TOKEN_SPECIAL : 0);
        if (a->normalized) {                // matched against normalized text
            char *form = normalize(t, a->content, a->len, &a->len);
            free(a->content);
            a->content = form;
        }
        if (a->len)
            trie_add(&t->trie[a->normalized], a->content, a->len, i);
    }
}

/* ---- encoding ---- */
struct found {
    const struct added *added;
    size_t a, b;                            /* what it takes of the text, blanks included */
};

/* The first added token of the group at or behind *scan that counts. `taken`: end of the last one.
 * */
static bool find_added(const struct tokenizer *t, int group, const char *s, size_t n, size_t taken,
                       bool parse_special, size_t *scan, struct found *f) {
    while (*scan < n) {
        int i = trie_longest(&t->trie[group], s + *scan, n - *scan);
        if (i < 0) {
            ++*scan;
            continue;
        }
        const struct added *x = &t->added[i];
        size_t a = *scan, b = a + x->len;
        *scan = b;
        if (x->special && !parse_special)
            continue;
        if (x->single_word && ((a > 0 && char_is_word(char_before(s, a))) ||
                               (b < n && char_is_word(char_after(s, n, b)))))
            continue;
        if (x->lstrip)
            while (a > taken && char_is_space(char_before(s, a)))
                for (a--; a > taken && ((uint8_t)s[a] & 0xC0) == 0x80;)
                    a--;
        if (x->rstrip)
            while (b < n && char_is_space(char_after(s, n, b)))
                for (b++; b < n && ((uint8_t)s[b] & 0xC0) == 0x80;)
                    b++;
        *f = (struct found){x, MAX(a, taken), MAX(b, taken)};
        return true;
    }
    return false;
}

/* group 0: raw text; 1: normalized text, whose gaps go to the pre-tokenizer. */
static void encode_group(struct encoder *x, int group, const char *s, size_t n,
                         bool parse_special);

static void encode_gap(struct encoder *x, int group, const char *s, size_t n, bool parse_special) {
    if (!n)
        return;
    if (group == 1) {
        encode_step(x, 0, s, n);
    } else if (!x->t->nnorm) {
        encode_group(x, 1, s, n, parse_special);
    } else {
        size_t len;
        char *form = normalize(x->t, s, n, &len);
        encode_group(x, 1, form, len, parse_special);
        free(form);
    }
}

static void encode_group(struct encoder *x, int group, const char *s, size_t n,
                         bool parse_special) {
    size_t taken = 0, scan = 0;
    struct found f;
    while (x->t->trie[group].n && find_added(x->t, group, s, n, taken, parse_special, &scan, &f)) {
        encode_gap(x, group, s + taken, f.a - taken, parse_special);
        ids_add(x->out, f.added->id);
        taken = f.b;
    }
    encode_gap(x, group, s + taken, n - taken, parse_special);
}

void tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool parse_special,
                      struct ids *out) {
    struct encoder x = {.t = t, .out = out, .md = pcre2_match_data_create(1, NULL)};
    x.seg = xcalloc((size_t)t->npre, sizeof *x.seg);
    for (size_t at = 0, k; at < len; at += k) {
        bool valid;
        k = utf8_stretch(text + at, len - at, &valid);
        if (valid)
            encode_group(&x, 0, text + at, k, parse_special);
        else
            t->model->encode(&x, text + at, k);
    }
    for (int i = 0; i < t->npre; i++)
        free(x.seg[i].v);
    free(x.seg);
    free(x.sym);
    free(x.heap);
    str_release(&x.prefixed);
    pcre2_match_data_free(x.md);
}

/* ---- decoding and look-up ---- */
char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n, bool skip_special,
                       size_t *len) {
    struct str out = {0};
    for (int i = 0; i < n; i++) {
        const char *token = tokenizer_token(t, ids[i]);
        if (!token || (skip_special && tokenizer_is_special(t, ids[i])))
            continue;
        if (t->flags[ids[i]] & TOKEN_ADDED)
            str_add(&out, token);
        else
            t->decode(t, token, &out);
    }
    if (len)
        *len = out.len;
    return str_detach(&out);
}

int tokenizer_vocab_size(const struct tokenizer *t) {
    return t->vocab.size;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *token) {
    return vocab_find(&t->vocab, token, strlen(token));
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.size ? t->vocab.token[id] : NULL;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.size && t->flags[id] & TOKEN_SPECIAL;
}

void tokenizer_free(struct tokenizer *t) {
    if (!t)
        return;
    for (int i = 0; i < t->nadded; i++)
        free(t->added[i].content);
    for (int i = 0; i < t->npre; i++)
        pcre2_code_free(t->pre[i].re);
    for (int g = 0; g < 2; g++)
        free(t->trie[g].node);
    vocab_release(&t->vocab);
    free(t->merges.slot);
    free(t->added);
    free(t->flags);
    free(t->norm);
    free(t->pre);
    free(t->json);
    free(t);
}

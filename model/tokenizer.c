/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer.c — encoding: the stages in their order; and what a tokenizer is made of.
 *
 * Added tokens are cut out before anything else reads the text, first those matched in the raw
 * text, then, behind the normalizer, those matched in normalized text.
 *
 * All working memory of a call, and the table of known words, lives in struct encoder. Encoders are
 * kept between calls in a pool, so that short texts find buffers and words warm; each is used by
 * one call at a time, so one tokenizer serves any number of threads.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

/* What slow expressions may take of one text (tokenizer_regex.c): half a minute, and more the
 * longer the text is. */
#define STEP_LIMIT ((size_t)1000000000)
#define STEPS_PER_BYTE 200

/* ---- ids ---- */
void ids_addn(struct ids *a, const int32_t *v, int n) {
    if (n > INT32_MAX - a->n)
        BUG("ids: %d and %d more", a->n, n);
    if (a->n + n > a->cap) {
        a->cap = a->cap > INT32_MAX / 2 ? INT32_MAX : MAX(2 * a->cap, MAX(a->n + n, 16));
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

/* ---- encoders ---- */
struct encoder_pool {
    pthread_mutex_t lock;
    struct encoder *free;
};

struct tokenizer *tokenizer_new(void) {
    struct tokenizer *t = xcalloc(1, sizeof *t);
    t->unk_id = -1;
    t->steps = STEP_LIMIT;
    t->pool = xcalloc(1, sizeof *t->pool);
    pthread_mutex_init(&t->pool->lock, NULL);
    return t;
}

struct encoder *encoder_take(const struct tokenizer *t) {
    pthread_mutex_lock(&t->pool->lock);
    struct encoder *x = t->pool->free;
    if (x)
        t->pool->free = x->next;
    pthread_mutex_unlock(&t->pool->lock);
    if (!x) {
        x = xcalloc(1, sizeof *x);
        x->t = t;
        x->piece = xcalloc((size_t)t->npre, sizeof *x->piece);
    }
    x->failed = false;
    x->flags = 0;
    x->taken = NULL;
    x->steps = t->steps;
    return x;
}

static void encoder_free(struct encoder *x) {
    for (int i = 0; i < x->t->npre; i++)
        str_release(&x->piece[i]);
    free(x->piece);
    str_release(&x->form[0]);
    str_release(&x->form[1]);
    str_release(&x->letters);
    free(x->sym);
    free(x->heap);
    free(x->path);
    free(x->cache);
    pcre2_match_data_free(x->md);
    pcre2_match_context_free(x->ctx);
    free(x);
}

/* Buffers of one huge text are not kept. */
void encoder_give(struct encoder *x) {
    const struct tokenizer *t = x->t;
    if (x->cap + x->path_cap + x->form[0].cap + x->form[1].cap + x->letters.cap > 1 << 24) {
        encoder_free(x);
        return;
    }
    pthread_mutex_lock(&t->pool->lock);
    x->next = t->pool->free;
    t->pool->free = x;
    pthread_mutex_unlock(&t->pool->lock);
}

/* ---- encoding ---- */

/* group 0: raw text; 1: normalized text, whose gaps go to the pre-tokenizer. first: s begins the
 * text. */
static void encode_group(struct encoder *x, int group, const char *s, size_t n, bool first,
                         const struct guard *g);

/* Protected ranges of s, in its normalized form: what comes before a byte is as long normalized
 * alone. */
static void normalized_guard(struct encoder *x, const char *s, size_t n, const struct guard *raw,
                             struct guard *g, struct text_range *v) {
    size_t from = 0, len = 0;
    for (int i = 0; i < raw->n; i++) {
        size_t ends[2] = {MAX(raw->v[i].a, raw->base) - raw->base,
                          MIN(MAX(raw->v[i].b, raw->base) - raw->base, n)};
        for (int k = 0; k < 2 && ends[0] < ends[1]; k++) {
            while (ends[k] < n && ((uint8_t)s[ends[k]] & 0xC0) == 0x80)
                ends[k]++;
            if (ends[k] != from)
                normalize(x, s, from = ends[k], &len);
            *(k ? &v[g->n].b : &v[g->n].a) = len;
        }
        g->n += ends[0] < ends[1];
    }
    g->v = v;
}

static void encode_normalized(struct encoder *x, const char *s, size_t n, bool first,
                              const struct guard *raw) {
    struct text_range *ranges = NULL;
    struct guard g = {0};
    x->at_start = first;
    if (raw->n && x->t->trie[1].special) {
        ranges = xcalloc((size_t)raw->n, sizeof *ranges);
        normalized_guard(x, s, n, raw, &g, ranges);
    }
    x->first = first;
    size_t len;
    const char *form = normalize(x, s, n, &len);
    encode_group(x, 1, form, len, x->first, &g);
    free(ranges);
}

static void encode_gap(struct encoder *x, int group, const char *s, size_t n, bool first,
                       const struct guard *g) {
    if (!n || x->failed)
        return;
    if (group == 1)
        encode_step(x, 0, s, n, first);
    else if (!x->t->nnorm)
        encode_group(x, 1, s, n, first, g);
    else
        encode_normalized(x, s, n, first, g);
}

static void encode_group(struct encoder *x, int group, const char *s, size_t n, bool first,
                         const struct guard *g) {
    const bool special = x->flags & ENCODE_SPECIAL;
    size_t taken = 0, scan = 0;
    struct found f;
    while (x->t->trie[group].n && added_find(x->t, group, s, n, taken, special, g, &scan, &f)) {
        if (f.a > taken) {
            struct guard inner = {g->v, g->n, g->base + taken};
            encode_gap(x, group, s + taken, f.a - taken, first && taken == 0, &inner);
        }
        if (f.a < f.b && x->taken)
            x->taken(x->taken_ctx, x->out->n, s + f.a, f.b - f.a);
        if (f.a < f.b)                      // lstrip may leave nothing where an rstrip took
            ids_add(x->out, f.added->id);
        taken = f.b;                        // may lie before what an earlier rstrip took
    }
    struct guard inner = {g->v, g->n, g->base + taken};
    encode_gap(x, group, s + taken, n - taken, first && taken == 0, &inner);
}

/* Bytes that are no UTF-8: nothing but the model can take them. */
static void encode_bytes(struct encoder *x, const char *s, size_t n) {
    const struct tokenizer *t = x->t;
    if (!t->letters || t->byte_level) {
        t->model->encode(x, s, n);
        return;
    }
    struct str letters = {0};
    byte_letters(s, n, &letters);
    t->model->encode(x, letters.s, letters.len);
    str_release(&letters);
}

static int encode_text(struct encoder *x, const char *text, size_t len, int flags,
                       const struct text_range *protect, int nprotect, struct ids *out) {
    const int before = out->n;
    if (len > TEXT_LIMIT) {
        log_error("tokenizer: expected a text of at most %zu bytes, got %zu", TEXT_LIMIT, len);
        encoder_give(x);
        return -1;
    }
    x->out = out;
    x->flags = flags;
    x->steps += STEPS_PER_BYTE * len;
    for (size_t at = 0, k; at < len && !x->failed; at += k) {
        bool valid;
        k = utf8_stretch(text + at, len - at, &valid);
        struct guard g = {protect, nprotect, at};
        if (valid)
            encode_group(x, 0, text + at, k, at == 0, &g);
        else
            encode_bytes(x, text + at, k);
    }
    const bool failed = x->failed;
    encoder_give(x);
    if (failed)
        out->n = before;
    return failed ? -1 : 0;
}

int tokenizer_encode_text(const struct tokenizer *t, const char *text, size_t len, int flags,
                          const struct text_range *protect, int nprotect, struct ids *out) {
    return encode_text(encoder_take(t), text, len, flags, protect, nprotect, out);
}

int tokenizer_encode_taking(const struct tokenizer *t, const char *text, size_t len, int flags,
                            struct ids *out,
                            void (*taken)(void *ctx, int at, const char *s, size_t n), void *ctx) {
    struct encoder *x = encoder_take(t);
    x->taken = taken;
    x->taken_ctx = ctx;
    return encode_text(x, text, len, flags, NULL, 0, out);
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, int flags,
                     struct ids *out) {
    return tokenizer_encode_text(t, text, len, flags, NULL, 0, out);
}

/* ---- what is in it ---- */
int tokenizer_vocab_size(const struct tokenizer *t) {
    return t->vocab.size;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *token) {
    return vocab_find(&t->vocab, token, strlen(token));
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id) {
    return vocab_text(&t->vocab, id, NULL);
}

static bool has_flag(const struct tokenizer *t, int32_t id, int flag) {
    return id >= 0 && id < t->vocab.size && t->flags[id] & flag;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id) {
    return has_flag(t, id, TOKEN_SPECIAL);
}

bool tokenizer_is_added(const struct tokenizer *t, int32_t id) {
    return has_flag(t, id, TOKEN_ADDED);
}

bool tokenizer_is_byte(const struct tokenizer *t, int32_t id) {
    size_t n;
    const char *s = vocab_text(&t->vocab, id, &n);
    int byte = s && t->byte_fallback ? byte_token(s, n) : -1;
    return byte >= 0 && t->byte_id[byte] == id;
}

int32_t tokenizer_unk_id(const struct tokenizer *t) {
    return t->unk_id;
}

const char *tokenizer_model_type(const struct tokenizer *t) {
    return t->model->type;
}

const char *tokenizer_kind(const struct tokenizer *t) {
    return t->model != &bpe_model ? t->model->type : t->letters ? "BPE byte-level"
        : "BPE sentencepiece";
}

bool tokenizer_byte_level(const struct tokenizer *t) {
    return t->letters;
}

int tokenizer_merge_count(const struct tokenizer *t) {
    return t->nmerges;
}

void tokenizer_merge_at(const struct tokenizer *t, int i, const char **left, const char **right) {
    if (i < 0 || i >= t->nmerges)
        BUG("merge %d of %d", i, t->nmerges);
    *left = tokenizer_token(t, t->merge_list[i].left);
    *right = tokenizer_token(t, t->merge_list[i].right);
}

double tokenizer_score(const struct tokenizer *t, int32_t id) {
    return id >= 0 && id < t->unigram.size ? t->unigram.score[id] : 0;
}

void tokenizer_free(struct tokenizer *t) {
    if (!t)
        return;
    for (struct encoder *x = t->pool->free, *next; x; x = next) {
        next = x->next;
        encoder_free(x);
    }
    pthread_mutex_destroy(&t->pool->lock);
    free(t->pool);
    for (int i = 0; i < t->npre; i++)
        regex_free(t->pre[i].re);
    for (int i = 0; i < t->nnorm; i++) {
        regex_free(t->norm[i].re);
        free(t->norm[i].text);
        charsmap_free(t->norm[i].map);
    }
    for (int i = 0; i < t->ndecode; i++) {
        regex_free(t->decode[i].re);
        free(t->decode[i].text);
    }
    free(t->pre);
    free(t->norm);
    free(t->decode);
    added_release(t);
    post_release(t);
    unigram_release(&t->unigram);
    vocab_release(&t->vocab);
    free(t->merges.slot);
    free(t->merge_list);
    free(t->char_id);
    free(t->json);
    free(t);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * generate.c — continue prompts: packed prefill, then decoding of all live sequences in one pass.
 *
 * A cache of fixed width holds the live sequences. A sequence that ends leaves at once, and when a
 * quarter of the cache is free the next prompts are taken in together. Decoding fixed groups of
 * prompts to their last is refused: the longest one of a group would run alone.
 *
 * The result for a prompt does not depend on its company. Draws come from a generator of (seed,
 * prompt number), one a step. Rounding must not depend on it either: matrix products round a row
 * by the number of rows (small shapes and remainders have kernels of their own), so every pass is
 * padded to a multiple of ROWS tokens by a sequence that nobody reads, and the logits likewise.
 * With AVX-512 kernels equal prompts then give equal bytes in any company; other kernels may
 * differ in the last bit of a logit.
 *
 * Order of sampling: temperature, top-k, top-p (Holtzman et al., arXiv 1904.09751), each on the
 * renormalised rest, as Hugging Face chains them. Among equal logits the lower id goes first.
 */
#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 16                             /* rows of a pass are a multiple of this */
#define PASS_TOKENS 2048                    /* tokens of a prefill pass, but at least one prompt */
#define CACHE_BYTES ((size_t)256 << 20)
#define MOST_SEQUENCES 128

/* ---- one packed pass ---- */
struct pass {
    struct ids tokens, offsets, pos0, slots, last;
};

static void pass_clear(struct pass *p) {
    p->tokens.n = p->offsets.n = p->pos0.n = p->slots.n = p->last.n = 0;
    ids_add(&p->offsets, 0);
}

static void pass_add(struct pass *p, const int32_t *tokens, int n, int32_t pos0, int32_t slot) {
    ids_addn(&p->tokens, tokens, n);
    ids_add(&p->offsets, p->tokens.n);
    ids_add(&p->pos0, pos0);
    ids_add(&p->slots, slot);
    ids_add(&p->last, p->tokens.n - 1);
}

static void pass_release(struct pass *p) {
    ids_release(&p->tokens);
    ids_release(&p->offsets);
    ids_release(&p->pos0);
    ids_release(&p->slots);
    ids_release(&p->last);
}

/* Logits [n,V] of the token behind each sequence added; valid until the next graph_begin. spare:
 * the cache slot of the padding. */
static struct node *pass_run(struct pass *p, struct graph *g, struct model *m,
                             struct kv_cache *cache, int32_t spare) {
    static const int32_t padding[ROWS];
    int n = p->last.n, pad = (ROWS - p->tokens.n % ROWS) % ROWS;
    if (pad)
        pass_add(p, padding, pad, 0, spare);
    struct batch b = {.ntok = p->tokens.n, .nseq = p->slots.n, .ids = p->tokens.v,
                      .offsets = p->offsets.v, .pos0 = p->pos0.v};
    p->last.n = n;
    while (p->last.n % ROWS)
        ids_add(&p->last, p->last.v[0]);
    for (int l = 0; cache && l < m->cfg.num_hidden_layers; l++)
        cache->layers[l].slot = p->slots.v;
    graph_begin(g, false);
    struct node *h = model_hidden(g, m, &b, cache);
    return g_head(g, g_rows(g, h, p->last.v, p->last.n), model_head(g, m));
}

/* ---- sampling ---- */
struct choice {
    double x;                               /* logit / temperature, then weight */
    int32_t id;
};

static int by_logit(const void *a, const void *b) {
    const struct choice *x = a, *y = b;
    if (x->x != y->x)
        return x->x > y->x ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int32_t argmax(const real *logits, int vocab) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Weights exp(x - top), their sum; c[0] need not be the top. */
static double weigh(struct choice *c, int n) {
    double top = c[0].x, sum = 0;
    for (int i = 1; i < n; i++)
        top = MAX(top, c[i].x);
    for (int i = 0; i < n; i++)
        sum += c[i].x = exp(c[i].x - top);
    return sum;
}

int32_t sample_token(const real *logits, int vocab, const struct generate_opts *o, double u) {
    if (o->temperature <= 0)
        return argmax(logits, vocab);
    struct choice *c = xreallocarray(NULL, (size_t)vocab, sizeof *c);
    for (int32_t i = 0; i < vocab; i++)
        c[i] = (struct choice){(double)logits[i] / o->temperature, i};
    int n = vocab;
    bool nucleus = o->top_p < 1;
    if ((o->top_k > 0 && o->top_k < vocab) || nucleus)
        qsort(c, (size_t)vocab, sizeof *c, by_logit);
    if (o->top_k > 0)
        n = MIN(n, o->top_k);
    double sum = weigh(c, n);
    if (nucleus) {                          // the fewest of the likeliest that reach top_p
        double kept = 0;
        int k = 0;
        while (k < n && kept < o->top_p * sum)
            kept += c[k++].x;
        n = MAX(k, 1);
        sum = k ? kept : c[0].x;
    }
    double left = u * sum;
    int i = 0;
    while (i < n - 1 && left >= c[i].x)
        left -= c[i++].x;
    int32_t id = c[i].id;
    free(c);
    return id;
}

/* ---- the run ---- */
struct live {
    int prompt, slot, left;                 /* left: tokens that may still be added */
    int32_t last;
    struct rng *rng;
};

struct run {
    struct graph *g;
    struct model *m;
    const struct ids *prompts;
    int n, next;                            /* prompts; the first not yet taken in */
    const struct generate_opts *o;
    struct ids *out;
    uint8_t *finished;
    void (*on_token)(void *ctx, int32_t id);
    void *ctx;
    struct kv_cache *cache;                 /* [width + 1] sequences: the last is the padding's */
    int width, nlive;
    struct live *live;                      /* [width] */
    bool *taken;                            /* [width] slots */
    struct pass pass;
};

/* Most tokens of a prompt that are used: max_new_tokens fit behind them, but however many those
 * are, the prompt has half of the positions. */
static int longest_prompt(const struct run *r) {
    int positions = r->m->cfg.max_position_embeddings;
    return MAX(MAX(positions - r->o->max_new_tokens, positions / 2), 1);
}

static int kept(const struct run *r, int i) {
    return MIN(r->prompts[i].n, longest_prompt(r));
}

static int room(const struct run *r, int i) {
    return MIN(r->o->max_new_tokens, r->m->cfg.max_position_embeddings - kept(r, i));
}

static int choose_width(const struct run *r, int capacity) {
    const struct model_config *c = &r->m->cfg;
    size_t each = 2 * sizeof(real) * (size_t)c->num_hidden_layers * (size_t)capacity *
                  (size_t)c->num_key_value_heads * (size_t)c->head_dim;
    int most = r->o->batch > 0 ? r->o->batch : (int)MIN(CACHE_BYTES / each, MOST_SEQUENCES);
    return MAX(MIN(most, r->n), 1);
}

static void start(struct run *r) {
    int capacity = ROWS, cut = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->prompts[i].n == 0)
            BUG("generate: prompt %d has no tokens", i);
        capacity = MAX(capacity, kept(r, i) + room(r, i));
        cut += kept(r, i) < r->prompts[i].n;
    }
    if (cut)
        log_warn("generate: %d of %d prompts are longer than %d tokens, what %d positions leave "
                 "beside the answer; their beginnings are cut off", cut, r->n, longest_prompt(r),
                 r->m->cfg.max_position_embeddings);
    r->width = choose_width(r, capacity);
    r->cache = kv_cache_new(r->m, r->width + 1, capacity);
    r->live = xcalloc((size_t)r->width, sizeof *r->live);
    r->taken = xcalloc((size_t)r->width, sizeof *r->taken);
}

/* Takes in waiting prompts; returns how many of the live ones are old. */
static int admit(struct run *r) {
    int old = r->nlive, tokens = 0;
    for (int slot = 0; slot < r->width && r->next < r->n; slot++) {
        int i = r->next, len = kept(r, i);
        if (r->taken[slot])
            continue;
        if (tokens && tokens + len > PASS_TOKENS)
            break;
        tokens += len;
        r->next++;
        r->taken[slot] = true;
        r->cache->len[slot] = 0;
        struct live *s = &r->live[r->nlive++];
        *s = (struct live){.prompt = i, .slot = slot, .left = room(r, i)};
        if (r->o->temperature > 0)
            s->rng = rng_keyed(r->o->seed, "generate", (uint64_t)i);
        pass_add(&r->pass, r->prompts[i].v + r->prompts[i].n - len, len, 0, slot);
    }
    return old;
}

/* One more token of a sequence; false when that was its last. */
static bool extend(struct run *r, struct live *s, int32_t id) {
    for (int i = 0; i < r->o->nstop; i++)
        if (id == r->o->stop[i]) {
            if (r->finished)
                r->finished[s->prompt] = 1;
            return false;
        }
    ids_add(&r->out[s->prompt], id);
    if (r->on_token && s->prompt == 0)
        r->on_token(r->ctx, id);
    s->last = id;
    return --s->left > 0;
}

/* Runs the pass, which holds live sequences [first, nlive), and drops those that end. */
static void step(struct run *r, int first) {
    int vocab = r->m->cfg.vocab_size, n = first;
    for (int i = first; i < r->nlive; i++)
        r->cache->len[r->live[i].slot] += r->pass.offsets.v[i - first + 1] -
                                          r->pass.offsets.v[i - first];
    const real *logits =
        tensor_data(&pass_run(&r->pass, r->g, r->m, r->cache, (int32_t)r->width)->t);
    for (int i = first; i < r->nlive; i++) {
        struct live *s = &r->live[i];
        double u = s->rng ? rng_uniform(s->rng) : 0;
        const real *row = logits + (size_t)(i - first) * (size_t)vocab;
        if (extend(r, s, sample_token(row, vocab, r->o, u))) {
            r->live[n++] = *s;
            continue;
        }
        r->taken[s->slot] = false;
        rng_free(s->rng);
    }
    r->nlive = n;
}

/* Whether a token behind len others turns all keys by other angles than they are cached with: the
 * frequencies of some rope types depend on the length of the sequence. */
static bool rope_turns(const struct model *m, int len) {
    const struct model_config *c = &m->cfg;
    if (!m->arch->rope || !c->rope.type->by_length)
        return false;
    const int dim = rope_dim(&c->rope, c->head_dim), max = c->max_position_embeddings;
    const size_t bytes = (size_t)(dim / 2) * sizeof(float);
    float *was = xmalloc(bytes), *is = xmalloc(bytes);
    bool turns = rope_frequencies(&c->rope, dim, max, len, was) !=
                 rope_frequencies(&c->rope, dim, max, len + 1, is);
    turns = turns || memcmp(was, is, bytes) != 0;
    free(was);
    free(is);
    return turns;
}

/* Adds the last token of a live sequence to the pass, or the whole sequence where its cache is of
 * no use. */
static void advance(struct run *r, const struct live *s) {
    int32_t *len = &r->cache->len[s->slot];
    if (!rope_turns(r->m, *len)) {
        pass_add(&r->pass, &s->last, 1, *len, s->slot);
        return;
    }
    const struct ids *prompt = &r->prompts[s->prompt], *out = &r->out[s->prompt];
    const int k = kept(r, s->prompt), made = *len + 1 - k;
    struct ids all = {0};
    ids_addn(&all, prompt->v + prompt->n - k, k);
    ids_addn(&all, out->v + out->n - made, made);
    *len = 0;
    pass_add(&r->pass, all.v, all.n, 0, s->slot);
    ids_release(&all);
}

void generate(struct graph *g, struct model *m, const struct ids *prompts, int n,
              const struct generate_opts *opts, struct ids *out, uint8_t *finished,
              void (*on_token)(void *ctx, int32_t id), void *ctx) {
    struct run r = {.g = g, .m = m, .prompts = prompts, .n = n, .o = opts, .out = out,
                    .finished = finished, .on_token = on_token, .ctx = ctx};
    if (n == 0 || opts->max_new_tokens < 1)
        return;
    if (finished)
        memset(finished, 0, (size_t)n);
    start(&r);
    while (r.next < n || r.nlive) {
        int first = 0;
        pass_clear(&r.pass);
        if (r.next < n && (r.nlive == 0 || 4 * (r.width - r.nlive) >= r.width))
            first = admit(&r);
        else
            for (int i = 0; i < r.nlive; i++)
                advance(&r, &r.live[i]);
        step(&r, first);
    }
    graph_begin(g, false);                  // gives the nodes back before the pass they point into
    kv_cache_free(r.cache);
    pass_release(&r.pass);
    free(r.live);
    free(r.taken);
}

void next_token_logprobs(struct graph *g, struct model *m, const struct ids *prompts, int n,
                         real *out) {
    struct pass p = {0};
    size_t vocab = (size_t)m->cfg.vocab_size;
    for (int i = 0; i < n;) {
        int first = i;
        pass_clear(&p);
        for (; i < n && i - first < MOST_SEQUENCES &&
               (i == first || p.tokens.n + prompts[i].n <= PASS_TOKENS); i++) {
            int len = MIN(prompts[i].n, m->cfg.max_position_embeddings);
            if (len == 0)
                BUG("next_token_logprobs: prompt %d has no tokens", i);
            pass_add(&p, prompts[i].v + prompts[i].n - len, len, 0, 0);
        }
        struct node *y = g_log_softmax(g, pass_run(&p, g, m, NULL, 0));
        memcpy(out + (size_t)first * vocab, tensor_data(&y->t),
               (size_t)(i - first) * vocab * sizeof *out);
    }
    graph_begin(g, false);
    pass_release(&p);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * op_attention.c — causal attention over packed sequences, forward and backward, and over a KV
 * cache.
 *
 *   Z = scale q k^T,  S = cap tanh(Z / cap), or Z,  P = softmax S over the keys seen,  y = P v
 *   dv += P^T dy;  dP = dy v^T;  dS = P (dP - rowsum(P dP));  dZ = dS (1 - (S / cap)^2), or dS;
 *   dq += scale dZ k;  dk += scale dZ^T q
 *
 * A work item is one block of at most BLOCK_Q queries of one head of one sequence (forward), or one
 * head of one sequence (backward, which sums over its blocks in order). A block sees only the keys
 * from the first one in its first query's window up to its last query: about half of the square, or
 * a band. P is not kept: backward recomputes it from q, k and the saved row log-sum-exp, so memory
 * is linear in tokens. Under GQA backward writes key and value gradients per query head and then
 * adds the heads of a group in order.
 */
#include "model/gemm.h"
#include "model/kernel.h"
#include "model/op.h"

#define BLOCK_Q 64

struct attn {
    const struct batch *b;
    int heads, kv_heads, d;
    real scale, softcap;
    int window;                             /* 0: it cuts nothing off in this batch */
    int widest;                             /* keys that a block can see */
    real *lse;                              /* [T,H] log sum exp of each row of S */
    struct kv_layer *cache;
};

/* Softmax of s[lo..hi), zero around it; returns log sum exp. */
KERNEL static real attn_row(real *s, int64_t lo, int64_t hi, int64_t total) {
    real top = row_max(s + lo, hi - lo), sum = 0;
    SIMD_SUM(sum) for (int64_t j = lo; j < hi; j++) {
        real v = fast_exp(s[j] - top);
        s[j] = v;
        sum += v;
    }
    real inv = R(1.0) / sum;
    SIMD for (int64_t j = lo; j < hi; j++) s[j] *= inv;
    for (int64_t j = 0; j < lo; j++)
        s[j] = 0;
    for (int64_t j = hi; j < total; j++)
        s[j] = 0;
    return top + (real)log((double)sum);
}

/* s: scores -> P; dp: dP -> scale dS. */
KERNEL static void attn_row_d(real *s, real *dp, real lse, real scale, int64_t lo, int64_t hi,
                              int64_t total) {
    real sum = 0;
    SIMD_SUM(sum) for (int64_t j = lo; j < hi; j++) {
        real p = fast_exp(s[j] - lse);
        s[j] = p;
        sum += p * dp[j];
    }
    SIMD for (int64_t j = lo; j < hi; j++) dp[j] = s[j] * (dp[j] - sum) * scale;
    for (int64_t j = 0; j < lo; j++)
        s[j] = dp[j] = 0;
    for (int64_t j = hi; j < total; j++)
        s[j] = dp[j] = 0;
}

/* Z -> S; slope, where it is not NULL: dS/dZ. */
KERNEL static void cap_row(real *s, real cap, int64_t n, real *slope) {
    real inv = R(1.0) / cap;
    SIMD for (int64_t j = 0; j < n; j++) s[j] = softcap(s[j], cap, inv);
    if (slope)
        SIMD for (int64_t j = 0; j < n; j++) slope[j] = softcap_slope(s[j], inv);
}

KERNEL static void slope_row(const real *slope, int64_t n, real *ds) {
    SIMD for (int64_t j = 0; j < n; j++) ds[j] *= slope[j];
}

/* Where the keys and values of head h in sequence s start, and how many come before the batch's. */
struct kv_view {
    const real *k, *v;
    int64_t ld;
    int past;
};

static struct kv_view view_of(const struct attn *a, const real *k, const real *v, int s, int h) {
    int64_t ld = (int64_t)a->kv_heads * a->d, col = (int64_t)(h / (a->heads / a->kv_heads)) * a->d;
    if (!a->cache) {
        int64_t at = a->b->offsets[s] * ld + col;
        return (struct kv_view){k + at, v + at, ld, 0};
    }
    int64_t at = (int64_t)a->cache->slot[s] * a->cache->capacity * ld + col;
    return (struct kv_view){a->cache->k + at, a->cache->v + at, ld, a->b->pos0 ? a->b->pos0[s] : 0};
}

struct item {
    int seq, head, q0;
};

/* The keys that a block of `rows` queries from position `first` sees: `count` of them from k0. */
struct span {
    int first, k0, count, window;
};

static struct span span_of(const struct attn *a, int first, int rows) {
    const int k0 = a->window ? MAX(0, first - a->window + 1) : 0;
    return (struct span){first, k0, first + rows - k0, a->window};
}

/* Of the span's keys, query i of the block sees those in [span_lo, span_hi). */
static int span_lo(const struct span *s, int i) {
    return s->window ? MAX(0, s->first + i - s->window + 1 - s->k0) : 0;
}

static int span_hi(const struct span *s, int i) {
    return s->first + i + 1 - s->k0;
}

/* All (sequence, head, block) items, longest rows first within a sequence. */
static struct item *make_items(struct arena *arena, const struct attn *a, int block, int *count) {
    int n = 0;
    for (int s = 0; s < a->b->nseq; s++)
        n += a->heads * ((a->b->offsets[s + 1] - a->b->offsets[s] + block - 1) / block);
    struct item *items = arena_alloc(arena, (size_t)n * sizeof *items);
    *count = 0;
    for (int s = 0; s < a->b->nseq; s++) {
        int len = a->b->offsets[s + 1] - a->b->offsets[s];
        for (int q0 = (len - 1) / block * block; q0 >= 0 && len; q0 -= block)
            for (int h = 0; h < a->heads; h++)
                items[(*count)++] = (struct item){s, h, q0};
    }
    return items;
}

static void forward_item(const struct attn *a, const struct item *it, const real *q, const real *k,
                         const real *v, real *scratch, real *y) {
    int base = a->b->offsets[it->seq], len = a->b->offsets[it->seq + 1] - base;
    int rows = MIN(BLOCK_Q, len - it->q0), d = a->d;
    int64_t ldq = (int64_t)a->heads * d, at = (base + it->q0) * ldq + (int64_t)it->head * d;
    struct kv_view kv = view_of(a, k, v, it->seq, it->head);
    const struct span sp = span_of(a, kv.past + it->q0, rows);
    const int64_t keys = sp.count, from = sp.k0 * kv.ld;
    gemm_serial(false, true, rows, keys, d, a->scale, q + at, ldq, kv.k + from, kv.ld, 0, scratch,
                keys);
    for (int i = 0; i < rows; i++) {
        real *row = scratch + i * keys;
        if (a->softcap > 0)
            cap_row(row, a->softcap, span_hi(&sp, i), NULL);
        real lse = attn_row(row, span_lo(&sp, i), span_hi(&sp, i), keys);
        if (a->lse)
            a->lse[(int64_t)(base + it->q0 + i) * a->heads + it->head] = lse;
    }
    gemm_serial(false, false, rows, d, keys, 1, scratch, keys, kv.v + from, kv.ld, 0, y + at, ldq);
}

/* Adds this batch's keys and values to the cache. */
static void cache_append(const struct attn *a, const real *k, const real *v) {
    int64_t ld = (int64_t)a->kv_heads * a->d;
    for (int s = 0; s < a->b->nseq; s++) {
        int base = a->b->offsets[s], len = a->b->offsets[s + 1] - base;
        int past = a->b->pos0 ? a->b->pos0[s] : 0;
        if (past + len > a->cache->capacity)
            BUG("attention: %d tokens in a cache of %d", past + len, a->cache->capacity);
        int64_t to = ((int64_t)a->cache->slot[s] * a->cache->capacity + past) * ld;
        memcpy(a->cache->k + to, k + base * ld, (size_t)(len * ld) * sizeof(real));
        memcpy(a->cache->v + to, v + base * ld, (size_t)(len * ld) * sizeof(real));
    }
}

/* Scratch for every thread: rows of as many values as a block can see keys. Which thread uses which
 * slice does not matter for the result. */
static real *scratch_alloc(struct graph *g, const struct attn *a, int rows, size_t *stride) {
    *stride = ((size_t)rows * (size_t)a->widest + 15) / 16 * 16;
    return arena_alloc(graph_arena(g), *stride * (size_t)gemm_max_threads() * sizeof(real));
}

/* ---- backward ---- */

struct attn_grads {
    const real *q, *k, *v, *dy;
    real *dq, *dk, *dv;                     /* dk, dv: [T,H*D], one slice a query head */
};

static void backward_item(const struct attn *a, const struct item *it, const struct attn_grads *m,
                          real *scratch) {
    int base = a->b->offsets[it->seq], len = a->b->offsets[it->seq + 1] - base, d = a->d;
    int64_t ldq = (int64_t)a->heads * d, col = (int64_t)it->head * d;
    struct kv_view kv = view_of(a, m->k, m->v, it->seq, it->head);
    real *dk = m->dk + base * ldq + col, *dv = m->dv + base * ldq + col;
    for (int q0 = 0; q0 < len; q0 += BLOCK_Q) {
        int rows = MIN(BLOCK_Q, len - q0);
        const struct span sp = span_of(a, q0, rows);
        const int64_t keys = sp.count, at = (base + q0) * ldq + col, to = sp.k0 * ldq;
        const real *k = kv.k + sp.k0 * kv.ld, *v = kv.v + sp.k0 * kv.ld;
        real *s = scratch, *dp = s + rows * keys, *slope = a->softcap > 0 ? dp + rows * keys : NULL;
        gemm_serial(false, true, rows, keys, d, a->scale, m->q + at, ldq, k, kv.ld, 0, s, keys);
        gemm_serial(false, true, rows, keys, d, 1, m->dy + at, ldq, v, kv.ld, 0, dp, keys);
        for (int i = 0; i < rows; i++) {
            const int lo = span_lo(&sp, i), hi = span_hi(&sp, i);
            const real lse = a->lse[(int64_t)(base + q0 + i) * a->heads + it->head];
            if (slope)
                cap_row(s + i * keys, a->softcap, hi, slope);
            attn_row_d(s + i * keys, dp + i * keys, lse, a->scale, lo, hi, keys);
            if (slope)
                slope_row(slope, hi, dp + i * keys);
        }
        gemm_serial(false, false, rows, d, keys, 1, dp, keys, k, kv.ld, 1, m->dq + at, ldq);
        gemm_serial(true, false, keys, d, rows, 1, dp, keys, m->q + at, ldq, 1, dk + to, ldq);
        gemm_serial(true, false, keys, d, rows, 1, s, keys, m->dy + at, ldq, 1, dv + to, ldq);
    }
}

/* to[T,K*D] += sum over the heads of each group of from[T,H*D], heads in order */
static void add_groups(const struct attn *a, const real *from, int64_t rows, real *to) {
    int group = a->heads / a->kv_heads, d = a->d;
    PARALLEL_FOR(rows * a->heads * d)
    for (int64_t t = 0; t < rows; t++)
        for (int h = 0; h < a->heads; h++) {
            const real *x = from + (t * a->heads + h) * d;
            real *y = to + (t * a->kv_heads + h / group) * d;
            for (int i = 0; i < d; i++)
                y[i] += x[i];
        }
}

static void attention_backward(struct graph *g, struct node *n) {
    const struct attn *a = n->saved;
    struct node *q = n->in[0], *k = n->in[1], *v = n->in[2];
    if (a->cache)
        BUG("attention: no gradient through a KV cache");
    struct arena *arena = graph_arena(g);
    bool direct = a->heads == a->kv_heads && k->needs_grad && v->needs_grad;
    struct attn_grads m = {.q = q->t.data, .k = k->t.data, .v = v->t.data, .dy = n->grad};
    m.dq = node_grad(g, q);                 // before the mark: gradients outlive this function
    real *dk = k->needs_grad ? node_grad(g, k) : NULL, *dv = v->needs_grad ? node_grad(g, v) : NULL;
    size_t mark = arena_mark(arena), stride;
    m.dk = direct ? dk : arena_zalloc(arena, n->t.count * sizeof(real));
    m.dv = direct ? dv : arena_zalloc(arena, n->t.count * sizeof(real));
    real *scratch = scratch_alloc(g, a, 2 * BLOCK_Q + (a->softcap > 0), &stride);
    int count;
    struct item *items = make_items(arena, a, INT32_MAX / 2, &count);
#pragma omp parallel
    {
        real *mine = scratch + stride * (size_t)gemm_thread_index();
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < count; i++)
            backward_item(a, &items[i], &m, mine);
    }
    if (!direct && dk)
        add_groups(a, m.dk, n->t.shape[0], dk);
    if (!direct && dv)
        add_groups(a, m.dv, n->t.shape[0], dv);
    arena_release(arena, mark);
}
const struct op op_attention = {"attention", attention_backward};

static void check(const struct node *q, const struct node *k, const struct node *v,
                  const struct batch *b, const struct attention_opts *o) {
    if (o->heads < 1 || o->kv_heads < 1 || o->window < 0 || !(o->softcap >= 0))
        BUG("attention: %d heads, %d for keys, window %d, cap %g", o->heads, o->kv_heads,
            o->window, (double)o->softcap);
    if (o->heads % o->kv_heads || q->t.shape[1] % o->heads || k->t.shape[1] != v->t.shape[1] ||
        k->t.shape[1] * o->heads != q->t.shape[1] * o->kv_heads)
        BUG("attention: q has %lld columns for %d heads, k %lld and v %lld for %d",
            (long long)q->t.shape[1], o->heads, (long long)k->t.shape[1],
            (long long)v->t.shape[1], o->kv_heads);
    if (q->t.shape[0] != b->ntok || k->t.shape[0] != b->ntok || v->t.shape[0] != b->ntok ||
        b->offsets[b->nseq] != b->ntok)
        BUG("attention: %lld rows for a batch of %d tokens", (long long)q->t.shape[0], b->ntok);
}

/* Keys of the longest sequence, those in the cache included. */
static int longest(const struct batch *b, bool cached) {
    int n = 0;
    for (int s = 0; s < b->nseq; s++)
        n = MAX(n, b->offsets[s + 1] - b->offsets[s] + (cached && b->pos0 ? b->pos0[s] : 0));
    return n;
}

struct node *g_attention(struct graph *g, struct node *q, struct node *k, struct node *v,
                         const struct batch *b, const struct attention_opts *opts,
                         struct kv_layer *cache) {
    check(q, k, v, b, opts);
    struct node *n = node_new(g, &op_attention, 2, q->t.shape, 3, (struct node *[]){q, k, v});
    struct arena *arena = graph_arena(g);
    struct attn *a = arena_alloc(arena, sizeof *a);
    const int keys = longest(b, cache != NULL), window = opts->window < keys ? opts->window : 0;
    *a = (struct attn){
        .b = b, .heads = opts->heads, .kv_heads = opts->kv_heads,
        .d = (int)(q->t.shape[1] / opts->heads), .scale = opts->scale, .softcap = opts->softcap,
        .window = window, .widest = window ? MIN(keys, window + BLOCK_Q - 1) : keys,
        .cache = cache,
    };
    if (n->needs_grad)
        a->lse = arena_alloc(arena, (size_t)b->ntok * (size_t)a->heads * sizeof(real));
    n->saved = a;
    if (cache)
        cache_append(a, k->t.data, v->t.data);
    size_t mark = arena_mark(arena), stride;
    real *scratch = scratch_alloc(g, a, BLOCK_Q, &stride);
    int count;
    struct item *items = make_items(arena, a, BLOCK_Q, &count);
    const real *qd = q->t.data, *kd = k->t.data, *vd = v->t.data;
#pragma omp parallel if (n->t.count >= PARALLEL_MIN)
    {
        real *mine = scratch + stride * (size_t)gemm_thread_index();
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < count; i++)
            forward_item(a, &items[i], qd, kd, vd, mine, n->t.data);
    }
    arena_release(arena, mark);
    return n;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * op_loss.c — cross-entropy and token log-probabilities, also fused with the output layer.
 *
 *   p = softmax z;  L = sum_t w_t (lse(z_t) - z_t[y_t]);  dz_t = w_t (p_t - onehot y_t) dL
 *   logprob:  l_t = z_t[y_t] - lse(z_t);                  dz_t = dl_t (onehot y_t - p_t)
 *   head:     u = h w^T,  z = u, or cap tanh(u / cap);    du = dz, or dz (1 - (z / cap)^2)
 *
 * The fused forms compute the head for a chunk of rows at a time, in one buffer: tokens x
 * vocabulary values are never in memory. linear_cross_entropy knows the weight of every row
 * beforehand, so it turns the chunk's logits into dz at once and multiplies them out (dh, dw at
 * upstream gradient 1); backward scales. linear_logprob learns its upstream gradients only in
 * backward and recomputes the chunk: one product more, used where a loss couples sequences (DPO).
 */
#include "model/gemm.h"
#include "model/kernel.h"
#include "model/model.h"

#define CHUNK_BYTES ((size_t)48 << 20)

/* Rows of logits held at once: a function of the vocabulary alone. */
static int64_t chunk_rows(int64_t vocab) {
    int64_t rows = (int64_t)(CHUNK_BYTES / ((size_t)vocab * sizeof(real))) / 16 * 16;
    return MAX((int64_t)16, MIN(rows, (int64_t)1024));
}

/* log sum exp of z; *hit: the label is the first largest. */
KERNEL static real row_lse(const real *z, int64_t v, int64_t label, int *hit) {
    real top = row_max(z, v), s = 0;
    SIMD_SUM(s) for (int64_t j = 0; j < v; j++) s += fast_exp(z[j] - top);
    *hit = z[label] >= top;
    return top + (real)log((double)s);
}

/* z -> scale * (softmax z - onehot label), the gradient of scale * (lse - z[label]); through the
 * cap when there is one. */
KERNEL static void row_dz(real *z, int64_t v, real lse, real scale, int64_t label, real cap) {
    if (cap > 0) {
        const real inv = R(1.0) / cap, at_label = scale * softcap_slope(z[label], inv);
        SIMD for (int64_t j = 0; j < v; j++)
            z[j] = scale * fast_exp(z[j] - lse) * softcap_slope(z[j], inv);
        z[label] -= at_label;
    } else {
        SIMD for (int64_t j = 0; j < v; j++) z[j] = scale * fast_exp(z[j] - lse);
        z[label] -= scale;
    }
}

KERNEL static void row_cap(real *z, int64_t v, real cap) {
    const real inv = R(1.0) / cap;
    SIMD for (int64_t j = 0; j < v; j++) z[j] = softcap(z[j], cap, inv);
}

KERNEL static void axpy_run(real a, const real *x, size_t n, real *y) {
    SIMD for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void axpy(real a, const real *x, size_t n, real *y) {
    enum { RUN = 1 << 16 };
    PARALLEL_FOR(n)
    for (size_t i = 0; i < n; i += RUN)
        axpy_run(a, x + i, MIN((size_t)RUN, n - i), y + i);
}

static void check_labels(const char *op, const int32_t *labels, int64_t n, int64_t vocab) {
    for (int64_t t = 0; t < n; t++)
        if (labels[t] != LABEL_IGNORE && (labels[t] < 0 || labels[t] >= vocab))
            BUG("%s: label %d, %lld classes", op, labels[t], (long long)vocab);
}

/* The weight of each row: the caller's, or 1 / number of counted rows; 0 for ignored rows. */
static real *row_weights(struct arena *a, const int32_t *labels, const real *weight, int64_t n) {
    real *w = arena_alloc(a, (size_t)n * sizeof *w);
    int64_t counted = 0;
    for (int64_t t = 0; t < n; t++)
        counted += labels[t] != LABEL_IGNORE;
    for (int64_t t = 0; t < n; t++)
        w[t] = labels[t] == LABEL_IGNORE ? 0 : weight ? weight[t] : (real)(1.0 / (double)counted);
    return w;
}

/* ---- cross_entropy over logits that exist ---- */

struct ce {
    const int32_t *labels;
    real *weight, *lse;
};

static void cross_entropy_backward(struct graph *g, struct node *n) {
    const struct ce *s = n->saved;
    const real *z = n->in[0]->t.data;
    real *dz = node_grad(g, n->in[0]), dl = n->grad[0];
    int64_t rows = n->in[0]->t.shape[0], v = n->in[0]->t.shape[1];
    for (int64_t t = 0; t < rows; t++) {
        if (s->labels[t] == LABEL_IGNORE)
            continue;
        real k = dl * s->weight[t];
        for (int64_t j = 0; j < v; j++)
            dz[t * v + j] += k * fast_exp(z[t * v + j] - s->lse[t]);
        dz[t * v + s->labels[t]] -= k;
    }
}
const struct op op_cross_entropy = {"cross_entropy", cross_entropy_backward};

struct node *g_cross_entropy(struct graph *g, struct node *x, const int32_t *labels,
                             const real *weight) {
    int64_t rows = x->t.shape[0], v = tensor_cols(&x->t);
    check_labels("cross_entropy", labels, rows, v);
    struct node *n = node_new(g, &op_cross_entropy, 1, (int64_t[]){1}, 1, &x);
    struct arena *a = graph_arena(g);
    struct ce *s = arena_alloc(a, sizeof *s);
    *s = (struct ce){labels, row_weights(a, labels, weight, rows),
                     arena_alloc(a, (size_t)rows * sizeof(real))};
    n->saved = s;
    double loss = 0;
    for (int64_t t = 0; t < rows; t++) {
        if (labels[t] == LABEL_IGNORE)
            continue;
        int hit;
        s->lse[t] = row_lse(x->t.data + t * v, v, labels[t], &hit);
        loss += (double)s->weight[t] * (double)(s->lse[t] - x->t.data[t * v + labels[t]]);
    }
    n->t.data[0] = (real)loss;
    return n;
}

/* ---- the output layer ---- */

struct node *g_head(struct graph *g, struct node *h, struct head head) {
    struct node *z = g_linear(g, h, head.w);
    return head.softcap > 0 ? g_softcap(g, z, head.softcap) : z;
}

static void head_check(const char *op, const struct node *h, const struct head *head) {
    if (tensor_cols(&head->w->t) != tensor_cols(&h->t) || !(head->softcap >= 0))
        BUG("%s: h has %lld columns, w %lld, the cap is %g", op, (long long)tensor_cols(&h->t),
            (long long)tensor_cols(&head->w->t), (double)head->softcap);
}

/* z[m,V] = head of m rows of h[,C]. */
static void head_chunk(const real *h, int64_t m, const struct tensor *w, real cap, real *z) {
    const int64_t v = w->shape[0], c = w->shape[1];
    gemm(false, true, m, v, c, 1, h, c, w->data, c, 0, z, v);
    if (!(cap > 0))
        return;
    PARALLEL_FOR(m * v)
    for (int64_t t = 0; t < m; t++)
        row_cap(z + t * v, v, cap);
}

/* ---- linear_cross_entropy ---- */

struct lce {
    real *dh, *dw;                          /* at upstream gradient 1; NULL where none is needed */
    int hits;
};

static void lce_backward(struct graph *g, struct node *n) {
    const struct lce *s = n->saved;
    real dl = n->grad[0];
    if (s->dh) {
        struct node *h = n->in[0];
        if (!h->grad && dl == 1)
            h->grad = s->dh;                // the buffer becomes the gradient
        else
            axpy(dl, s->dh, h->t.count, node_grad(g, h));
    }
    if (s->dw)
        axpy(dl, s->dw, n->in[1]->t.count, node_grad(g, n->in[1]));
}
const struct op op_linear_cross_entropy = {"linear_cross_entropy", lce_backward};

int linear_cross_entropy_hits(const struct node *n) {
    if (n->op != &op_linear_cross_entropy)
        BUG("linear_cross_entropy_hits of %s", n->op ? n->op->name : "a leaf");
    return ((const struct lce *)n->saved)->hits;
}

/* Loss of one chunk; its logits become dz when `grad`. */
static double lce_chunk(real *z, const int32_t *labels, const real *weight, int64_t rows, int64_t v,
                        real cap, bool grad, double *row_loss, int *hits) {
    int hit_count = 0;
    PRAGMA(omp parallel for schedule(static) reduction(+ : hit_count))
    for (int64_t t = 0; t < rows; t++) {
        row_loss[t] = 0;
        if (labels[t] == LABEL_IGNORE) {
            memset(z + t * v, 0, (size_t)v * sizeof *z);
            continue;
        }
        int hit;
        real lse = row_lse(z + t * v, v, labels[t], &hit);
        hit_count += hit;
        row_loss[t] = (double)weight[t] * (double)(lse - z[t * v + labels[t]]);
        if (grad)
            row_dz(z + t * v, v, lse, weight[t], labels[t], cap);
    }
    *hits += hit_count;
    double loss = 0;
    for (int64_t t = 0; t < rows; t++)      // in order: the sum does not depend on threads
        loss += row_loss[t];
    return loss;
}

struct node *g_linear_cross_entropy(struct graph *g, struct node *h, struct head head,
                                    const int32_t *labels, const real *weight) {
    struct node *w = head.w;
    int64_t rows = h->t.shape[0], c = tensor_cols(&h->t), v = w->t.shape[0];
    head_check("linear_cross_entropy", h, &head);
    check_labels("linear_cross_entropy", labels, rows, v);
    struct node *in[] = {h, w};
    struct node *n = node_new(g, &op_linear_cross_entropy, 1, (int64_t[]){1}, 2, in);
    struct arena *a = graph_arena(g);
    struct lce *s = arena_zalloc(a, sizeof *s);
    n->saved = s;
    if (h->needs_grad)
        s->dh = arena_alloc(a, h->t.count * sizeof(real));
    if (w->needs_grad)
        s->dw = arena_alloc(a, w->t.count * sizeof(real));
    if (s->dw && rows == 0)
        memset(s->dw, 0, w->t.count * sizeof(real));
    size_t mark = arena_mark(a);
    real *wt = row_weights(a, labels, weight, rows);
    int64_t chunk = chunk_rows(v);
    real *z = arena_alloc(a, (size_t)(MIN(chunk, rows) * v) * sizeof *z);
    double *row_loss = arena_alloc(a, (size_t)chunk * sizeof *row_loss), loss = 0;
    for (int64_t t = 0; t < rows; t += chunk) {
        int64_t m = MIN(chunk, rows - t);
        head_chunk(h->t.data + t * c, m, &w->t, head.softcap, z);
        loss += lce_chunk(z, labels + t, wt + t, m, v, head.softcap, s->dh || s->dw, row_loss,
                          &s->hits);
        if (s->dh)
            gemm(false, false, m, c, v, 1, z, v, w->t.data, c, 0, s->dh + t * c, c);
        if (s->dw)
            gemm(true, false, v, c, m, 1, z, v, h->t.data + t * c, c, t ? 1 : 0, s->dw, c);
    }
    arena_release(a, mark);
    n->t.data[0] = (real)loss;
    return n;
}

/* ---- linear_logprob ---- */

struct llp {
    const int32_t *labels;
    real *lse;
    real softcap;
};

static void llp_backward(struct graph *g, struct node *n) {
    const struct llp *s = n->saved;
    struct node *h = n->in[0], *w = n->in[1];
    int64_t rows = h->t.shape[0], c = h->t.shape[1], v = w->t.shape[0], chunk = chunk_rows(v);
    real *dh = h->needs_grad ? node_grad(g, h) : NULL, *dw = w->needs_grad ? node_grad(g, w) : NULL;
    struct arena *a = graph_arena(g);
    size_t mark = arena_mark(a);
    real *z = arena_alloc(a, (size_t)(MIN(chunk, rows) * v) * sizeof *z);
    for (int64_t t0 = 0; t0 < rows; t0 += chunk) {
        int64_t m = MIN(chunk, rows - t0);
        head_chunk(h->t.data + t0 * c, m, &w->t, s->softcap, z);
        PARALLEL_FOR(m * v)
        for (int64_t i = 0; i < m; i++) {
            int32_t label = s->labels[t0 + i];
            if (label == LABEL_IGNORE)
                memset(z + i * v, 0, (size_t)v * sizeof *z);
            else
                row_dz(z + i * v, v, s->lse[t0 + i], -n->grad[t0 + i], label, s->softcap);
        }
        if (dh)
            gemm(false, false, m, c, v, 1, z, v, w->t.data, c, 1, dh + t0 * c, c);
        if (dw)
            gemm(true, false, v, c, m, 1, z, v, h->t.data + t0 * c, c, 1, dw, c);
    }
    arena_release(a, mark);
}
const struct op op_linear_logprob = {"linear_logprob", llp_backward};

struct node *g_linear_logprob(struct graph *g, struct node *h, struct head head,
                              const int32_t *labels) {
    struct node *w = head.w;
    int64_t rows = h->t.shape[0], c = tensor_cols(&h->t), v = w->t.shape[0], chunk = chunk_rows(v);
    head_check("linear_logprob", h, &head);
    check_labels("linear_logprob", labels, rows, v);
    struct node *in[] = {h, w};
    struct node *n = node_new(g, &op_linear_logprob, 1, (int64_t[]){rows}, 2, in);
    struct arena *a = graph_arena(g);
    struct llp *s = arena_alloc(a, sizeof *s);
    *s = (struct llp){labels, arena_alloc(a, (size_t)rows * sizeof(real)), head.softcap};
    n->saved = s;
    size_t mark = arena_mark(a);
    real *z = arena_alloc(a, (size_t)(MIN(chunk, rows) * v) * sizeof *z);
    for (int64_t t0 = 0; t0 < rows; t0 += chunk) {
        int64_t m = MIN(chunk, rows - t0);
        head_chunk(h->t.data + t0 * c, m, &w->t, head.softcap, z);
        PARALLEL_FOR(m * v)
        for (int64_t i = 0; i < m; i++) {
            int32_t label = labels[t0 + i];
            int hit;
            real lse = label == LABEL_IGNORE ? 0 : row_lse(z + i * v, v, label, &hit);
            s->lse[t0 + i] = lse;
            n->t.data[t0 + i] = label == LABEL_IGNORE ? 0 : z[i * v + label] - lse;
        }
    }
    arena_release(a, mark);
    return n;
}

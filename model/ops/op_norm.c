/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * op_norm.c — RMS norm, softmax, log-softmax: reductions over rows.
 */
#include "model/kernel.h"
#include "model/op.h"

/* ---- rms_norm: r = 1 / sqrt(mean(x^2) + eps); y = x r w
 *      dx += r (dy w) - x r^3 / C * sum_j(dy_j w_j x_j);  dw += sum_t dy x r ---- */

KERNEL static real rms_row(const real *x, const real *w, int64_t c, real eps, real *y) {
    real s = 0;
    SIMD_SUM(s) for (int64_t j = 0; j < c; j++) s += x[j] * x[j];
    real r = R(1.0) / (real)sqrt((double)(s / (real)c + eps));
    SIMD for (int64_t j = 0; j < c; j++) y[j] = x[j] * r * w[j];
    return r;
}

/* add: dx is there already */
KERNEL static void rms_row_dx(const real *x, const real *w, const real *dy, real r, int64_t c,
                              bool add, real *dx) {
    real s = 0;
    SIMD_SUM(s) for (int64_t j = 0; j < c; j++) s += dy[j] * w[j] * x[j];
    real k = s * r * r * r / (real)c;
    if (add) {
        SIMD for (int64_t j = 0; j < c; j++) dx[j] += r * dy[j] * w[j] - k * x[j];
    } else {
        SIMD for (int64_t j = 0; j < c; j++) dx[j] = r * dy[j] * w[j] - k * x[j];
    }
}

KERNEL static void rms_row_dw(const real *x, const real *dy, real r, int64_t c, real *dw) {
    SIMD for (int64_t j = 0; j < c; j++) dw[j] += dy[j] * x[j] * r;
}

#define NORM_CHUNK 64                       /* rows summed in order before chunks are joined */

static void rms_norm_backward(struct graph *g, struct node *n) {
    struct node *xn = n->in[0], *wn = n->in[1];
    const real *x = xn->t.data, *w = wn->t.data, *dy = n->grad, *r = (const real *)n->saved + 1;
    int64_t rows = n->t.shape[0], c = n->t.shape[1];
    if (xn->needs_grad) {
        bool add = xn->grad != NULL;
        if (!add)
            xn->grad = arena_alloc(graph_arena(g), xn->t.count * sizeof(real));
        real *dx = xn->grad;
        PARALLEL_FOR(rows * c)
        for (int64_t t = 0; t < rows; t++)
            rms_row_dx(x + t * c, w, dy + t * c, r[t], c, add, dx + t * c);
    }
    if (!wn->needs_grad)
        return;
    int64_t chunks = (rows + NORM_CHUNK - 1) / NORM_CHUNK;
    struct arena *a = graph_arena(g);
    size_t mark = arena_mark(a);
    real *part = arena_zalloc(a, (size_t)(chunks * c) * sizeof *part), *dw;
    PARALLEL_FOR(rows * c)
    for (int64_t k = 0; k < chunks; k++)
        for (int64_t t = k * NORM_CHUNK; t < MIN(rows, (k + 1) * NORM_CHUNK); t++)
            rms_row_dw(x + t * c, dy + t * c, r[t], c, part + k * c);
    if (!wn->param && !wn->grad)            // its buffer must not lie behind the mark
        BUG("rms_norm: the weight must be a parameter");
    dw = node_grad(g, wn);
    for (int64_t k = 0; k < chunks; k++)
        for (int64_t j = 0; j < c; j++)
            dw[j] += part[k * c + j];
    arena_release(a, mark);
}
const struct op op_rms_norm = {"rms_norm", rms_norm_backward};

struct node *g_rms_norm(struct graph *g, struct node *xn, struct node *wn, real eps) {
    int64_t rows = xn->t.shape[0], c = tensor_cols(&xn->t);
    if ((int64_t)wn->t.count != c)
        BUG("rms_norm: x has %lld columns, w %zu", (long long)c, wn->t.count);
    struct node *n = node_new(g, &op_rms_norm, 2, xn->t.shape, 2, (struct node *[]){xn, wn});
    real *saved = arena_alloc(graph_arena(g), (size_t)(rows + 1) * sizeof *saved);
    saved[0] = eps;
    n->saved = saved;
    const real *x = xn->t.data, *w = wn->t.data;
    real *y = n->t.data;
    PARALLEL_FOR(rows * c)
    for (int64_t t = 0; t < rows; t++)
        saved[1 + t] = rms_row(x + t * c, w, c, eps, y + t * c);
    return n;
}

/* ---- softmax: y = e^x / sum e^x; dx += y (dy - sum_j dy_j y_j) ---- */

/* y = x - max - log sum e^(x - max), or its exponential */
KERNEL static void softmax_row(const real *x, int64_t c, bool log_out, real *y) {
    real top = row_max(x, c), s = 0;
    SIMD_SUM(s) for (int64_t j = 0; j < c; j++) {
        real v = fast_exp(x[j] - top);
        y[j] = v;
        s += v;
    }
    if (log_out) {
        real shift = top + (real)log((double)s);
        SIMD for (int64_t j = 0; j < c; j++) y[j] = x[j] - shift;
    } else {
        real inv = R(1.0) / s;
        SIMD for (int64_t j = 0; j < c; j++) y[j] *= inv;
    }
}

KERNEL static void softmax_row_dx(const real *y, const real *dy, int64_t c, real *dx) {
    real s = 0;
    SIMD_SUM(s) for (int64_t j = 0; j < c; j++) s += y[j] * dy[j];
    SIMD for (int64_t j = 0; j < c; j++) dx[j] += y[j] * (dy[j] - s);
}

/* Over all rows with the rule of softmax or log_softmax. */
static void softmax_d(struct graph *g, struct node *n,
                      void (*row)(const real *y, const real *dy, int64_t c, real *dx)) {
    real *dx = node_grad(g, n->in[0]);
    const real *y = n->t.data, *dy = n->grad;
    int64_t rows = tensor_rows(&n->t), c = tensor_cols(&n->t);
    PARALLEL_FOR(rows * c)
    for (int64_t t = 0; t < rows; t++)
        row(y + t * c, dy + t * c, c, dx + t * c);
}

static void softmax_backward(struct graph *g, struct node *n) {
    softmax_d(g, n, softmax_row_dx);
}
const struct op op_softmax = {"softmax", softmax_backward};

static struct node *softmax_build(struct graph *g, const struct op *op, struct node *x,
                                  bool log_out) {
    struct node *n = node_new(g, op, x->t.ndim, x->t.shape, 1, &x);
    const real *in = x->t.data;
    real *y = n->t.data;
    int64_t rows = tensor_rows(&x->t), c = tensor_cols(&x->t);
    PARALLEL_FOR(rows * c)
    for (int64_t t = 0; t < rows; t++)
        softmax_row(in + t * c, c, log_out, y + t * c);
    return n;
}

struct node *g_softmax(struct graph *g, struct node *x) {
    return softmax_build(g, &op_softmax, x, false);
}

/* ---- log_softmax: y = x - log sum e^x; dx += dy - e^y sum_j dy_j ---- */

KERNEL static void log_softmax_row_dx(const real *y, const real *dy, int64_t c, real *dx) {
    real s = 0;
    SIMD_SUM(s) for (int64_t j = 0; j < c; j++) s += dy[j];
    SIMD for (int64_t j = 0; j < c; j++) dx[j] += dy[j] - fast_exp(y[j]) * s;
}

static void log_softmax_backward(struct graph *g, struct node *n) {
    softmax_d(g, n, log_softmax_row_dx);
}
const struct op op_log_softmax = {"log_softmax", log_softmax_backward};

struct node *g_log_softmax(struct graph *g, struct node *x) {
    return softmax_build(g, &op_log_softmax, x, true);
}

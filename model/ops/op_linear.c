/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * op_linear.c — matrix layers and the embedding; the only op that knows partial freezes.
 *
 * Gradients of a weight go straight into the parameter's block (model.h). With frozen rows or
 * columns the block holds the live ones only: the matching columns of dy (rows of w) or of x
 * (columns of w) are gathered first, so the product costs what is trained and no more.
 */
#include "model/gemm.h"
#include "model/kernel.h"
#include "model/model.h"

/* out[r,i] = a[r, live[i]] for r < rows */
static void gather_columns(const real *a, int64_t rows, int64_t cols, const int32_t *live, int n,
                           real *out) {
    PARALLEL_FOR(rows * n)
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < n; i++)
            out[r * n + i] = a[r * cols + live[i]];
}

/* ---- linear: y = x w^T; dx += dy w, dw += dy^T x ---- */

static void weight_grad(struct graph *g, const struct param *p, const real *dy, const real *x,
                        int64_t t, int64_t o, int64_t i) {
    const struct freeze *f = &p->freeze;
    if (f->kind == FREEZE_ALL)
        return;
    if (f->kind == FREEZE_NONE) {
        gemm(true, false, o, i, t, 1, dy, o, x, i, 1, p->grad, i);
        return;
    }
    struct arena *a = graph_arena(g);
    size_t mark = arena_mark(a);
    real *live = arena_alloc(a, (size_t)t * (size_t)f->nlive * sizeof *live);
    if (f->kind == FREEZE_ROWS) {
        gather_columns(dy, t, o, f->live, f->nlive, live);
        gemm(true, false, f->nlive, i, t, 1, live, f->nlive, x, i, 1, p->grad, i);
    } else {
        gather_columns(x, t, i, f->live, f->nlive, live);
        gemm(true, false, o, f->nlive, t, 1, dy, o, live, f->nlive, 1, p->grad, f->nlive);
    }
    arena_release(a, mark);
}

static void linear_backward(struct graph *g, struct node *n) {
    struct node *x = n->in[0], *w = n->in[1];
    int64_t t = n->t.shape[0], o = w->t.shape[0], i = w->t.shape[1];
    if (x->needs_grad) {
        real beta = x->grad ? 1 : 0;
        if (!x->grad)
            x->grad = arena_alloc(graph_arena(g), x->t.count * sizeof(real));
        gemm(false, false, t, i, o, 1, n->grad, o, w->t.data, i, beta, x->grad, i);
    }
    if (!w->needs_grad)
        return;
    if (w->param)
        weight_grad(g, w->param, n->grad, x->t.data, t, o, i);
    else
        gemm(true, false, o, i, t, 1, n->grad, o, x->t.data, i, 1, node_grad(g, w), i);
}
const struct op op_linear = {"linear", linear_backward};

struct node *g_linear(struct graph *g, struct node *x, struct node *w) {
    int64_t t = x->t.shape[0], i = tensor_cols(&x->t), o = w->t.shape[0];
    if (w->t.ndim != 2 || w->t.shape[1] != i)
        BUG("linear: x[%lld,%lld] w[%lld,%lld]: inner sizes differ", (long long)t, (long long)i,
            (long long)o, (long long)w->t.shape[1]);
    struct node *n = node_new(g, &op_linear, 2, (int64_t[]){t, o}, 2, (struct node *[]){x, w});
    gemm(false, true, t, o, i, 1, x->t.data, i, w->t.data, i, 0, n->t.data, o);
    return n;
}

/* ---- embedding: y[t,:] = w[ids[t],:]; dw[ids[t],:] += dy[t,:] ---- */

static void embedding_backward(struct graph *g, struct node *n) {
    real *d = node_grad(g, n->in[0]);
    const int32_t *ids = n->saved;
    int64_t rows = n->t.shape[0], cols = n->t.shape[1];
    for (int64_t t = 0; t < rows; t++) {            // in order: ids repeat
        real *to = d + ids[t] * cols;
        const real *dy = n->grad + t * cols;
        SIMD for (int64_t j = 0; j < cols; j++) to[j] += dy[j];
    }
}
const struct op op_embedding = {"embedding", embedding_backward};

struct node *g_embedding(struct graph *g, struct node *w, const int32_t *ids, int count) {
    int64_t cols = w->t.shape[1];
    struct node *n = node_new(g, &op_embedding, 2, (int64_t[]){count, cols}, 1, &w);
    n->saved = (void *)(uintptr_t)ids;
    for (int t = 0; t < count; t++) {
        if (ids[t] < 0 || ids[t] >= w->t.shape[0])
            BUG("embedding: id %d of %lld rows", ids[t], (long long)w->t.shape[0]);
        memcpy(n->t.data + t * cols, w->t.data + ids[t] * cols, (size_t)cols * sizeof(real));
    }
    return n;
}

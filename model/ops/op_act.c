/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * op_act.c — silu, swiglu, log-sigmoid, rotary embedding.
 */
#include "model/kernel.h"
#include "model/op.h"

#define BLOCK 4096                          /* elements a loop iteration hands to a kernel */

#define BLOCKS_PARALLEL(i, count)                                                               \
    PARALLEL_FOR(count)                                                                         \
    for (size_t i = 0; i < count; i += BLOCK)

/* ---- silu: y = x s, s = sigmoid(x); dx += dy s (1 + x (1 - s)) ---- */

KERNEL static void silu_run(const real *x, size_t n, real *y) {
    SIMD for (size_t i = 0; i < n; i++) y[i] = x[i] * sigmoid(x[i]);
}

KERNEL static void silu_run_dx(const real *x, const real *dy, size_t n, real *dx) {
    SIMD for (size_t i = 0; i < n; i++) {
        real s = sigmoid(x[i]);
        dx[i] += dy[i] * s * (R(1.0) + x[i] * (R(1.0) - s));
    }
}

static void silu_backward(struct graph *g, struct node *n) {
    real *dx = node_grad(g, n->in[0]);
    const real *x = n->in[0]->t.data, *dy = n->grad;
    size_t count = n->t.count;
    BLOCKS_PARALLEL(i, count) silu_run_dx(x + i, dy + i, MIN(BLOCK, count - i), dx + i);
}
const struct op op_silu = {"silu", silu_backward};

struct node *g_silu(struct graph *g, struct node *x) {
    struct node *n = node_new(g, &op_silu, x->t.ndim, x->t.shape, 1, &x);
    const real *in = x->t.data;
    real *y = n->t.data;
    size_t count = n->t.count;
    BLOCKS_PARALLEL(i, count) silu_run(in + i, MIN(BLOCK, count - i), y + i);
    return n;
}

/* ---- swiglu: y = silu(gate) up
 *      dgate += dy up s (1 + gate (1 - s));  dup += dy gate s ---- */

KERNEL static void swiglu_run(const real *gate, const real *up, size_t n, real *y) {
    SIMD for (size_t i = 0; i < n; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

KERNEL static void swiglu_run_d(const real *gate, const real *up, const real *dy, size_t n,
                                real *dgate, real *dup) {
    SIMD for (size_t i = 0; i < n; i++) {
        real s = sigmoid(gate[i]);
        real d = dy[i], u = up[i], a = gate[i];
        dgate[i] = d * u * s * (R(1.0) + a * (R(1.0) - s));
        dup[i] = d * a * s;
    }
}

static void swiglu_backward(struct graph *g, struct node *n) {
    struct node *gate = n->in[0], *up = n->in[1];
    size_t count = n->t.count;
    struct arena *a = graph_arena(g);
    bool fresh = !gate->grad && !up->grad && !gate->param && !up->param && gate != up;
    real *dg = arena_alloc(a, count * sizeof *dg), *du = arena_alloc(a, count * sizeof *du);
    const real *x = gate->t.data, *u = up->t.data, *dy = n->grad;
    BLOCKS_PARALLEL(i, count)
    swiglu_run_d(x + i, u + i, dy + i, MIN(BLOCK, count - i), dg + i, du + i);
    if (fresh) {                            // the usual case: the buffers become the gradients
        gate->grad = dg;
        up->grad = du;
        return;
    }
    for (int k = 0; k < 2; k++) {
        if (!n->in[k]->needs_grad)
            continue;
        real *d = node_grad(g, n->in[k]);
        const real *s = k ? du : dg;
        for (size_t i = 0; i < count; i++)
            d[i] += s[i];
    }
}
const struct op op_swiglu = {"swiglu", swiglu_backward};

struct node *g_swiglu(struct graph *g, struct node *gate, struct node *up) {
    if (gate->t.count != up->t.count)
        BUG("swiglu: gate has %zu elements, up %zu", gate->t.count, up->t.count);
    struct node *n = node_new(g, &op_swiglu, gate->t.ndim, gate->t.shape, 2,
                              (struct node *[]){gate, up});
    const real *x = gate->t.data, *u = up->t.data;
    real *y = n->t.data;
    size_t count = n->t.count;
    BLOCKS_PARALLEL(i, count) swiglu_run(x + i, u + i, MIN(BLOCK, count - i), y + i);
    return n;
}

/* ---- log_sigmoid: y = min(x,0) - log1p(e^-|x|); dx += dy sigmoid(-x) ---- */

static void log_sigmoid_backward(struct graph *g, struct node *n) {
    real *dx = node_grad(g, n->in[0]);
    for (size_t i = 0; i < n->t.count; i++) {
        double x = (double)n->in[0]->t.data[i];
        double s = x >= 0 ? exp(-x) / (1 + exp(-x)) : 1 / (1 + exp(x));
        dx[i] += (real)((double)n->grad[i] * s);
    }
}
const struct op op_log_sigmoid = {"log_sigmoid", log_sigmoid_backward};

struct node *g_log_sigmoid(struct graph *g, struct node *x) {
    struct node *n = node_new(g, &op_log_sigmoid, x->t.ndim, x->t.shape, 1, &x);
    for (size_t i = 0; i < n->t.count; i++) {
        double v = (double)x->t.data[i];
        n->t.data[i] = (real)(fmin(v, 0) - log1p(exp(-fabs(v))));
    }
    return n;
}

/* ---- rope: a rotation, so backward is the rotation by the negative angle ---- */

/* One head of one token; sign +1 forward, -1 backward. */
KERNEL static void rope_token(const real *x, const real *table, int heads, int d, real sign,
                              bool add, real *y) {
    int half = d / 2;
    const real *cosines = table, *sines = table + half;
    for (int h = 0; h < heads; h++, x += d, y += d) {
        if (add) {
            SIMD for (int i = 0; i < half; i++) {
                real c = cosines[i], s = sign * sines[i], a = x[i], b = x[i + half];
                y[i] += a * c - b * s;
                y[i + half] += b * c + a * s;
            }
        } else {
            SIMD for (int i = 0; i < half; i++) {
                real c = cosines[i], s = sign * sines[i], a = x[i], b = x[i + half];
                y[i] = a * c - b * s;
                y[i + half] = b * c + a * s;
            }
        }
    }
}

struct rope_saved {
    int head_dim;
    const real *table;
};

static void rope_rows(const real *x, const struct rope_saved *s, int64_t rows, int64_t cols,
                      real sign, bool add, real *y) {
    int d = s->head_dim, heads = (int)(cols / d);
    const real *table = s->table;
    PARALLEL_FOR(rows * cols)
    for (int64_t t = 0; t < rows; t++)
        rope_token(x + t * cols, table + t * d, heads, d, sign, add, y + t * cols);
}

static void rope_backward(struct graph *g, struct node *n) {
    struct node *x = n->in[0];
    bool add = x->grad != NULL;
    if (!add)
        x->grad = arena_alloc(graph_arena(g), x->t.count * sizeof(real));
    rope_rows(n->grad, n->saved, n->t.shape[0], n->t.shape[1], R(-1.0), add, x->grad);
}
const struct op op_rope = {"rope", rope_backward};

struct node *g_rope(struct graph *g, struct node *x, int head_dim, const real *table) {
    if (x->t.shape[1] % head_dim || head_dim % 2)
        BUG("rope: %lld columns, head dimension %d", (long long)x->t.shape[1], head_dim);
    struct node *n = node_new(g, &op_rope, 2, x->t.shape, 1, &x);
    struct rope_saved *s = arena_alloc(graph_arena(g), sizeof *s);
    *s = (struct rope_saved){head_dim, table};
    n->saved = s;
    rope_rows(x->t.data, s, x->t.shape[0], x->t.shape[1], R(1.0), false, n->t.data);
    return n;
}

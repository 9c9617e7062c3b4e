/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * graph.c — nodes in an arena, a linked tape, reverse walk.
 *
 * A node's gradient buffer is made when something first flows into it, so branches that lead to no
 * trainable entry cost nothing. Leaves of parameters have no buffer of their own: their gradient is
 * the parameter's (compact) block, which the op that reads the parameter fills (op_linear.c).
 */
#include "model/graph.h"

#include <stdlib.h>
#include <string.h>

#include "model/model.h"

#define MAX_TAPS 8

struct graph {
    struct arena *arena;
    struct node *last;                      /* end of the tape; NULL: empty */
    bool grad;
    struct tap taps[MAX_TAPS];
    int ntaps;
};

const char *const tap_names[TAP_COUNT] = {
#define X(id, name, shape) name,
    TAP_POINTS(X)
#undef X
};

struct graph *graph_new(void) {
    struct graph *g = xcalloc(1, sizeof *g);
    g->arena = arena_new(0);
    return g;
}

void graph_free(struct graph *g) {
    if (!g)
        return;
    arena_free(g->arena);
    free(g);
}

void graph_begin(struct graph *g, bool grad) {
    arena_reset(g->arena);
    g->last = NULL;
    g->grad = grad;
}

bool graph_grad(const struct graph *g) {
    return g->grad;
}

struct arena *graph_arena(struct graph *g) {
    return g->arena;
}

size_t graph_mark(struct graph *g) {
    return arena_mark(g->arena);
}

void graph_release(struct graph *g, size_t mark) {
    if (g->grad)
        BUG("graph_release: the tape still needs its nodes");
    arena_release(g->arena, mark);
}

struct node *node_new(struct graph *g, const struct op *op, int ndim, const int64_t *shape, int nin,
                      struct node *const *in) {
    if (nin > NODE_MAX_IN)
        BUG("%s: %d inputs", op->name, nin);
    struct node *n = arena_zalloc(g->arena, sizeof *n);
    n->t = tensor_view(NULL, ndim, shape);
    n->t.data = arena_alloc(g->arena, n->t.count * sizeof(real));
    n->op = op;
    n->nin = nin;
    for (int i = 0; i < nin; i++) {
        n->in[i] = in[i];
        n->needs_grad |= g->grad && in[i]->needs_grad;
    }
    if (g->grad) {                          // only backward walks the tape
        n->prev = g->last;
        g->last = n;
    }
    return n;
}

struct node *node_leaf(struct graph *g, struct tensor t, bool needs_grad) {
    struct node *n = arena_zalloc(g->arena, sizeof *n);
    n->t = t;
    n->needs_grad = g->grad && needs_grad;
    return n;
}

struct node *node_param(struct graph *g, struct param *p) {
    struct node *n = node_leaf(g, p->t, p->grad != NULL);
    n->param = p;
    return n;
}

real *node_grad(struct graph *g, struct node *n) {
    if (n->param) {
        if (n->param->freeze.kind != FREEZE_NONE)
            BUG("%s: an op that knows no partial freezes", n->param->name);
        return n->param->grad;
    }
    if (!n->grad)
        n->grad = arena_zalloc(g->arena, n->t.count * sizeof(real));
    return n->grad;
}

void graph_backward(struct graph *g, struct node *loss, real seed) {
    if (!g->grad)
        BUG("graph_backward: the graph does not record (graph_begin with grad = false)");
    if (loss->t.count != 1)
        BUG("graph_backward: the loss has %zu elements", loss->t.count);
    if (!loss->needs_grad)
        return;                             // nothing trainable below
    node_grad(g, loss)[0] += seed;
    for (struct node *n = g->last; n; n = n->prev) {
        if (!n->grad || !n->needs_grad)
            continue;
        if (!n->op->backward)
            BUG("%s is not differentiable, but a gradient reached it", n->op->name);
        n->op->backward(g, n);
    }
}

void graph_tap_add(struct graph *g, const struct tap *tap) {
    if (g->ntaps == MAX_TAPS)
        BUG("too many taps");
    g->taps[g->ntaps++] = *tap;
}

void graph_tap_clear(struct graph *g) {
    g->ntaps = 0;
}

void graph_tap(struct graph *g, enum tap_point point, int layer, struct node *n) {
    for (int i = 0; i < g->ntaps; i++) {
        const struct tap *t = &g->taps[i];
        if (!(t->points & 1u << point))
            continue;
        if (t->replaces && g->grad)
            BUG("a replacing tap at %s while gradients are recorded", tap_names[point]);
        t->fn(t->ctx, point, layer, n);
    }
}

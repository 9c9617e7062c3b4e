/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * op.h — the operations of the tape: one builder each. Shapes in the legend of tensor.h.
 *
 * Builders BUG on shapes that do not fit. Outputs live until graph_begin. Forward and backward
 * stand next to each other in model/ops/op_*.c with their formulas. To add one: its block there and
 * one word in OPS; tests/grad_ops.c fails until it has a gradient case.
 */
#ifndef KEEL_OP_H
#define KEEL_OP_H

#include "model/batch.h"
#include "model/graph.h"

#define OPS(X)                                                                                  \
    X(add) X(mul) X(scale) X(sum) X(rows) X(linear) X(embedding) X(rms_norm) X(silu) X(swiglu)  \
    X(rope) X(attention) X(softmax) X(log_softmax) X(log_sigmoid) X(cross_entropy)              \
    X(linear_cross_entropy) X(linear_logprob) X(segment_sum) X(weighted_sum)
#define X(n) extern const struct op op_##n;
OPS(X)
#undef X
extern const struct op *const op_table[];       /* all of OPS, then NULL */

/* y = a + b, same shape */
struct node *g_add(struct graph *g, struct node *a, struct node *b);
/* y = a * b, element by element, same shape */
struct node *g_mul(struct graph *g, struct node *a, struct node *b);
/* y = c a */
struct node *g_scale(struct graph *g, struct node *a, real c);
/* y[1] = sum of all elements of a */
struct node *g_sum(struct graph *g, struct node *a);
/* y[n,C] = x[idx[i],:]; idx borrowed until step end; repeated rows are allowed */
struct node *g_rows(struct graph *g, struct node *x, const int32_t *idx, int n);
/* y[T,O] = x[T,I] w[O,I]^T. w's frozen rows or columns get no gradient work (model.h). */
struct node *g_linear(struct graph *g, struct node *x, struct node *w);
/* y[T,C] = w[ids[t],:]; ids in [0,V) */
struct node *g_embedding(struct graph *g, struct node *w, const int32_t *ids, int n);
/* y = x / sqrt(mean(x^2) + eps) * w, over rows; x[T,C], w[C] */
struct node *g_rms_norm(struct graph *g, struct node *x, struct node *w, real eps);
/* y = x sigmoid(x) */
struct node *g_silu(struct graph *g, struct node *x);
/* y = silu(gate) * up */
struct node *g_swiglu(struct graph *g, struct node *gate, struct node *up);
/* Half-split rotary embedding of x[T, N*D]: y[i] = x[i] cos - x[i+D/2] sin,
 * y[i+D/2] = x[i+D/2] cos + x[i] sin. table[T,D], borrowed until step end: for each token D/2
 * cosines, then D/2 sines of position * inv_freq[i]. */
struct node *g_rope(struct graph *g, struct node *x, int head_dim, const real *table);

/* Keys and values of earlier tokens, for generation. Layout per layer: [S, capacity, K*D]. */
struct kv_layer {
    real *k, *v;                    /* [S, capacity, K*D] */
    int capacity;                   /* tokens a sequence */
    const int32_t *slot;            /* [nseq of the batch] row of S for each sequence */
};
/* Causal softmax attention within each sequence: y[T,H*D] from q[T,H*D], k[T,K*D], v[T,K*D]; query
 * head h reads kv head h / (H/K). cache: not NULL appends k, v at the batch's positions and attends
 * to all of the sequence so far (no gradient). */
struct node *g_attention(struct graph *g, struct node *q, struct node *k, struct node *v,
                         const struct batch *b, int heads, int kv_heads, real scale,
                         struct kv_layer *cache);
/* Over rows. */
struct node *g_softmax(struct graph *g, struct node *x);
struct node *g_log_softmax(struct graph *g, struct node *x);
/* y = log sigmoid(x), stable for any x */
struct node *g_log_sigmoid(struct graph *g, struct node *x);
/* y[1] = sum_t weight[t] * -log softmax(x[t,:])[labels[t]]; label LABEL_IGNORE counts nothing.
 * labels, weight borrowed until step end; weight NULL: 1 / number of counted rows. */
struct node *g_cross_entropy(struct graph *g, struct node *x, const int32_t *labels,
                             const real *weight);
/* g_cross_entropy(g_linear(h, w)) without the logits ever in memory: rows in chunks; the
 * gradient is formed in the forward pass, while a chunk's logits are there. */
struct node *g_linear_cross_entropy(struct graph *g, struct node *h, struct node *w,
                                    const int32_t *labels, const real *weight);
/* Rows whose largest logit is the label, of a node made by g_linear_cross_entropy. */
int linear_cross_entropy_hits(const struct node *n);
/* y[N] = log softmax(h w^T)[labels[t]] for each row, rows with LABEL_IGNORE give 0; chunked, logits
 * recomputed in backward. */
struct node *g_linear_logprob(struct graph *g, struct node *h, struct node *w,
                              const int32_t *labels);
/* y[S] = sum of x[offsets[s]..offsets[s+1]) ; offsets borrowed */
struct node *g_segment_sum(struct graph *g, struct node *x, const int32_t *offsets, int n);
/* y[1] = sum_i c[i] x[i]; c borrowed */
struct node *g_weighted_sum(struct graph *g, struct node *x, const real *c);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * optim.h — optimizers and schedules over the flat block of trainable entries.
 *
 * Gradients of a model are one compact block (model.h: grad_block) that holds trainable entries
 * only; so are moments. Frozen entries have no gradient, no moment, no decay and no share in the
 * clipping norm, because they are not there. Updates (g: gradient after clipping, t from 1):
 *   adamw  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
 *          w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) + lr wd w      (arXiv 1711.05101,
 *          as PyTorch: decay uses w before the update; norm weights and all else are decayed alike)
 *   sgd    m = mu m + g;  w -= lr (m + wd w)
 */
#ifndef KEEL_OPTIM_H
#define KEEL_OPTIM_H

#include "model/model.h"
#include "train/config.h"

struct optim_opts {
    double lr, beta1, beta2, eps, weight_decay, momentum;
};
struct optim_kind {
    const char *name, *help;
    int moments;                            /* reals of state a trainable entry */
    /* n entries of one parameter (or of a row/column run of it); step counts from 1. */
    void (*update)(real *w, const real *g, real *const *state, size_t n, int64_t step,
                   real clip, const struct optim_opts *o);
};
extern const struct optim_kind optim_table[];       /* ends with name == NULL */
const struct optim_kind *optim_find(const char *name);
const char *optim_name_at(int i);

struct optim;                               /* kind + moments of one model's trainable entries */
struct optim *optim_new(const struct optim_kind *kind, const struct model *m);
void optim_free(struct optim *o);
size_t optim_state_bytes(const struct optim *o);
/* Euclidean norm of all trainable gradients, fixed order, in double. */
double grad_norm(const struct model *m);
/* One update; gradients are multiplied by `clip` while they are read. Same bytes for any number of
 * threads. */
void optim_step(struct optim *o, struct model *m, int64_t step, double clip,
                const struct optim_opts *opts);
/* The k-th moment block ([grad_count]) for checkpoints; k < kind->moments. */
real *optim_moment(struct optim *o, int k);

/* Schedules: factor on learning_rate at update `step` (from 0) of `total`. */
struct sched_kind {
    const char *name, *help;
    double (*factor)(int64_t step, int64_t warmup, int64_t total, double min_ratio);
};
extern const struct sched_kind sched_table[];       /* ends with name == NULL: constant,
                                        constant_with_warmup, linear, cosine, cosine_with_min_lr */
const struct sched_kind *sched_find(const char *name);
const char *sched_name_at(int i);
#endif

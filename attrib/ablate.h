/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * ablate.h — remove units in memory, through taps, and measure what that does.
 *
 * zero: the unit's activation columns become 0; mean: they become the mean over the utility
 * calibration tokens. Checkpoints are never written.
 */
#ifndef KEEL_ABLATE_H
#define KEEL_ABLATE_H

#include "attrib/score.h"
#include "train/eval.h"

struct ablation;                            /* a mask prepared as a replacing tap */
struct ablation *ablation_new(const struct mask *m, const struct act_stats *means /* NULL: zero */);
void ablation_free(struct ablation *a);     /* NULL is allowed */
void ablation_attach(struct ablation *a, struct graph *g);      /* graph_tap_clear detaches */

struct ablation_effect {
    double refusal_loss, utility_loss;      /* change against dense, nats a token */
    double logodds;                         /* change of refusal log-odds on harmful prompts */
};
/* Dense figures once, then differences. */
struct ablation_bench;
struct ablation_bench *ablation_bench_new(struct graph *g, struct model *m,
                                          const struct eval_sets *sets, struct err *e) MUST_CHECK;
void ablation_bench_free(struct ablation_bench *b);
struct ablation_effect ablation_dense(const struct ablation_bench *b);  /* absolute figures */
struct ablation_effect ablation_run(struct ablation_bench *b, const struct mask *m,
                                    const struct act_stats *means);
#endif

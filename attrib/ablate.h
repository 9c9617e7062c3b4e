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
void ablation_free(struct ablation *a);     /* NULL is allowed; detach first */
void ablation_attach(struct ablation *a, struct graph *g);      /* graph_tap_clear detaches */

/* Figures with 95 % intervals over prompts (of an effect: paired, each prompt against itself);
 * n = 0 and NaN where the set is absent. Losses in nats a token, log-odds in nats. */
struct ablation_effect {
    struct interval refusal_loss, utility_loss;     /* of held-out refusals and benign answers */
    struct interval logodds;                        /* of a refusal, on harmful prompts */
};
/* Dense figures once, then differences. Uses sets' harmful, refusals, utility: borrowed. */
struct ablation_bench;
struct ablation_bench *ablation_bench_new(struct graph *g, struct model *m,
                                          const struct eval_sets *sets, struct err *e) MUST_CHECK;
void ablation_bench_free(struct ablation_bench *b);     /* NULL is allowed */
struct ablation_effect ablation_dense(const struct ablation_bench *b);  /* absolute figures */
/* Change against dense when the set is removed. Clears the taps of the graph. A model that gives
 * non-finite numbers without those units: a warning, and NaN. */
struct ablation_effect ablation_run(struct ablation_bench *b, const struct mask *m,
                                    const struct act_stats *means);
#endif

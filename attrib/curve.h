/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * curve.h — the removal curve: damage against the share of units removed, ranking by ranking,
 * beside random sets.
 *
 * At every share, the units that SCU, UCU and RU would take first (each ranking alone) are removed,
 * and two kinds of random sets of the same number: anywhere ("random"), and with SCU's count in
 * each layer and kind ("random like SCU"): the second tells whether the choice of units matters,
 * or only the choice of layers.
 */
#ifndef KEEL_CURVE_H
#define KEEL_CURVE_H

#include "attrib/ablate.h"
#include "attrib/classify.h"

struct curve_series {
    const char *name, *help;                /* "SCU", "random" */
    enum unit_class cls;                    /* whose ranking it follows; CU: none */
    bool random;                            /* points are means over draws */
};
enum { CURVE_SCU, CURVE_UCU, CURVE_RU, CURVE_RANDOM, CURVE_RANDOM_LIKE, CURVE_SERIES };
extern const struct curve_series curve_table[CURVE_SERIES];

struct curve_point {
    double share;
    int units;
    /* Rankings: interval over n prompts. Random: mean and t interval over n draws. */
    struct ablation_effect effect[CURVE_SERIES];
    struct ablation_effect lowest, highest; /* range over the draws of CURVE_RANDOM: values only */
};
/* points[nshares], caller frees. means NULL: zero ablation. Random sets are a function of (seed,
 * number of units, draw). */
struct curve_point *curve_measure(struct ablation_bench *b, const struct units *u,
                                  const double *shares, int nshares, int draws, uint64_t seed,
                                  const struct act_stats *means);

/* Each class as it is in u, removed, and random sets with its number in each layer and kind. */
struct class_removal {
    int units;
    struct ablation_effect effect, random;  /* intervals as in curve_point */
};
void curve_classes(struct ablation_bench *b, const struct units *u, int draws, uint64_t seed,
                   const struct act_stats *means, struct class_removal out[UNIT_CLASS_COUNT]);
#endif

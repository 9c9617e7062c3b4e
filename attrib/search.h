/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * search.h — how large the classes are, by the damage that removing them does.
 *
 * SSAH fixes no quotas: a class is as large as its removal keeps harmless to the other attribute
 * (Table 1 caption). On a fixed grid of shares of all units, in the order of classification:
 *   RU   the largest share with utility loss up by <= max_utility_drop and refusal loss up by
 *        <= max_safety_drop
 *   SCU  the largest share, beside that RU, with utility loss up by <= max_utility_drop
 *   UCU  the smallest share, beside RU and SCU, with utility loss up by >= target_utility_drop
 * RU and SCU are tried from the largest share down, UCU from the smallest up, each until the first
 * that fits. Nothing fits: RU and SCU are empty, UCU is the share that came nearest, met is false.
 */
#ifndef KEEL_SEARCH_H
#define KEEL_SEARCH_H

#include "attrib/ablate.h"
#include "attrib/classify.h"

struct search_bounds {                      /* nats a token, >= 0 */
    double max_utility_drop, target_utility_drop, max_safety_drop;
};
struct search_step {                        /* one removal that was measured */
    enum unit_class cls;
    double share;
    int units;
    struct ablation_effect effect;
    bool fits;
};
struct search_result {
    double share[UNIT_CLASS_COUNT];         /* found; CU: what remains */
    bool met[UNIT_CLASS_COUNT];
    struct search_step *steps;              /* in the order of trying; owned */
    int nsteps;
};
extern const double search_grid[];          /* ascending shares, 0 ends */

/* What removing a set does: ablation_run in the program. */
typedef struct ablation_effect (*search_measure)(void *ctx, const struct mask *m);
/* Needs classified scores; sets u->cls as classify_shares does with the shares found. */
void search_shares(struct units *u, const struct search_bounds *b, search_measure measure,
                   void *ctx, struct search_result *out);
void search_result_release(struct search_result *r);
#endif

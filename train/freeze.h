/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * freeze.h — from classes of units to the set of units that a run freezes.
 *
 *     struct freeze_spec s = freeze_spec_of(cfg);
 *     struct mask mask;
 *     if (freeze_select(units, &s, &mask, &err) == 0)
 *         mask_freeze(&mask, model, freeze_trains_other(&s));
 */
#ifndef KEEL_FREEZE_H
#define KEEL_FREEZE_H

#include "ckpt/units_file.h"
#include "train/config.h"

enum train_other { TRAIN_OTHER_AUTO, TRAIN_OTHER_YES, TRAIN_OTHER_NO };     /* freeze.train_other */

struct freeze_spec {
    unsigned classes;                       /* frozen whole: bit set 1u << UNIT_SCU | ... */
    double top_cu;                          /* and this share of all units: the most important CU */
    bool random_like;                       /* instead as many random ones, per layer and kind, of
                                             * all units, the selected ones included */
    uint64_t seed;                          /* of random_like */
    enum train_other train_other;
};
struct freeze_spec freeze_spec_of(const struct config *cfg);
/* The set, which the caller releases. -1 and *e: it would be empty. */
int freeze_select(const struct units *u, const struct freeze_spec *s, struct mask *out,
                  struct err *e) MUST_CHECK;
/* Do parameters outside of units train? auto: yes, unless RU alone is left to train: that control
 * is meant to change nothing else (SSAH does not say). */
bool freeze_trains_other(const struct freeze_spec *s);
/* "SCU + top 6 % CU", "random, as many as SCU"; caller frees. */
char *freeze_describe(const struct freeze_spec *s);
#endif

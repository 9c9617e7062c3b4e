/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * freeze.c — a selection is a union of classes and top CU, or a random match of that union.
 *
 * The control keeps the number of units in every layer and kind, because where units sit matters as
 * much as how many are frozen. It draws from all units, the selected ones included: a control that
 * avoids them would be a selection too.
 */
#include "train/freeze.h"

#include <stdlib.h>

struct freeze_spec freeze_spec_of(const struct config *cfg) {
    struct freeze_spec s = {
        .top_cu = cfg->freeze.top_cu,
        .random_like = cfg->freeze.random_like,
        .seed = (uint64_t)cfg->freeze.seed,
        .train_other = (enum train_other)cfg->freeze.train_other,
    };
    for (int i = 0; i < cfg->freeze.classes.n; i++) {
        int c = unit_class_find(cfg->freeze.classes.v[i]);
        if (c < 0)
            BUG("freeze.classes: %s passed the key table", cfg->freeze.classes.v[i]);
        s.classes |= 1u << c;
    }
    return s;
}

int freeze_select(const struct units *u, const struct freeze_spec *s, struct mask *out,
                  struct err *e) {
    struct mask m = mask_new(&u->map);
    for (int c = 0; c < UNIT_CLASS_COUNT; c++) {
        if (!(s->classes >> c & 1))
            continue;
        struct mask one = units_class_mask(u, (enum unit_class)c);
        mask_or(&m, &one);
        mask_release(&one);
    }
    if (s->top_cu > 0) {
        struct mask top = units_top_cu(u, s->top_cu);
        mask_or(&m, &top);
        mask_release(&top);
    }
    if (!mask_count(&m)) {
        mask_release(&m);
        return err_set(e, "freeze: the units file has no unit of the chosen classes (hint: "
                          "freeze.classes, freeze.top_cu; without freeze.units nothing is frozen)");
    }
    if (s->random_like) {
        struct mask r = mask_random_like(&m, s->seed, "freeze");
        mask_release(&m);
        m = r;
    }
    *out = m;
    return 0;
}

bool freeze_trains_other(const struct freeze_spec *s) {
    const unsigned all_but_ru = 1u << UNIT_SCU | 1u << UNIT_UCU | 1u << UNIT_CU;
    if (s->train_other != TRAIN_OTHER_AUTO)
        return s->train_other == TRAIN_OTHER_YES;
    return (s->classes & all_but_ru) != all_but_ru;
}

char *freeze_describe(const struct freeze_spec *s) {
    struct str b = {0};
    str_add(&b, s->random_like ? "random, as many as " : "");
    const char *join = "";
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        if (s->classes >> c & 1) {
            str_addf(&b, "%s%s", join, unit_class_table[c].name);
            join = " + ";
        }
    if (s->top_cu > 0)
        str_addf(&b, "%stop %g %% CU", join, 100 * s->top_cu);
    return str_detach(&b);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * search.c — see search.h.
 *
 * What is measured is exactly the set that classify_shares would make with the shares so far and
 * the one on trial, so that the damage in the report is that of the class in the file. Bisection
 * is refused: damage need not grow with the share (removing more can even help), and a grid whose
 * every step is reported shows that. The classes are rows of a table: direction of the trial and
 * the condition.
 */
#include "attrib/search.h"

#include <math.h>
#include <stdlib.h>

const double search_grid[] = {0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2,
                              0.25, 0.3, 0};

static bool fits_ru(const struct ablation_effect *f, const struct search_bounds *b) {
    return f->utility_loss.value <= b->max_utility_drop &&
        f->refusal_loss.value <= b->max_safety_drop;
}

static bool fits_scu(const struct ablation_effect *f, const struct search_bounds *b) {
    return f->utility_loss.value <= b->max_utility_drop;
}

static bool fits_ucu(const struct ablation_effect *f, const struct search_bounds *b) {
    return f->utility_loss.value >= b->target_utility_drop;
}

static const struct trial {
    enum unit_class cls;
    bool upwards;
    bool (*fits)(const struct ablation_effect *f, const struct search_bounds *b);
} trials[] = {
    {UNIT_RU, false, fits_ru},
    {UNIT_SCU, false, fits_scu},
    {UNIT_UCU, true, fits_ucu},
};

static void classify_with(struct units *u, const double share[UNIT_CLASS_COUNT]) {
    classify_shares(u, share[UNIT_SCU], share[UNIT_UCU], share[UNIT_RU]);
}

static struct search_step try_share(struct units *u, const struct trial *t, double share,
                                    const double found[UNIT_CLASS_COUNT],
                                    const struct search_bounds *b, search_measure measure,
                                    void *ctx) {
    double with[UNIT_CLASS_COUNT];
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        with[c] = found[c];
    with[t->cls] = share;
    classify_with(u, with);
    struct mask m = units_class_mask(u, t->cls);
    struct search_step s = {.cls = t->cls, .share = share, .units = mask_count(&m)};
    s.effect = measure(ctx, &m);
    s.fits = s.units > 0 && t->fits(&s.effect, b);
    mask_release(&m);
    return s;
}

static void search_class(struct units *u, const struct trial *t, const struct search_bounds *b,
                         search_measure measure, void *ctx, struct search_result *out) {
    int n = 0;
    while (search_grid[n] > 0)
        n++;
    double nearest = 0, most = -INFINITY;
    for (int i = 0; i < n && !out->met[t->cls]; i++) {
        double share = search_grid[t->upwards ? i : n - 1 - i];
        struct search_step s = try_share(u, t, share, out->share, b, measure, ctx);
        out->steps = xreallocarray(out->steps, (size_t)out->nsteps + 1, sizeof *out->steps);
        out->steps[out->nsteps++] = s;
        if (s.fits) {
            out->share[t->cls] = share;
            out->met[t->cls] = true;
        } else if (t->upwards && s.effect.utility_loss.value > most) {
            most = s.effect.utility_loss.value;
            nearest = share;
        }
    }
    if (!out->met[t->cls])
        out->share[t->cls] = nearest;       // 0 for the classes that must not do damage
}

void search_shares(struct units *u, const struct search_bounds *b, search_measure measure,
                   void *ctx, struct search_result *out) {
    *out = (struct search_result){0};
    for (size_t i = 0; i < ARRAY_LEN(trials); i++)
        search_class(u, &trials[i], b, measure, ctx, out);
    classify_with(u, out->share);
    out->share[UNIT_CU] = 1 - out->share[UNIT_RU] - out->share[UNIT_SCU] - out->share[UNIT_UCU];
    out->met[UNIT_CU] = true;
}

void search_result_release(struct search_result *r) {
    free(r->steps);
    *r = (struct search_result){0};
}

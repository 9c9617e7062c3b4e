/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * compare_figures.c — what the runs of a comparison say, with intervals and tests.
 *
 * Two questions, two kinds of sample. "How sure is the rate on these prompts" pools the prompts of
 * all seeds (Wilson; McNemar and paired t on the same prompt and seed); it says nothing about
 * another training run. "Would another seed say the same" has one number a seed (Student t, paired
 * t, sign flips); three seeds give wide intervals, and that is the truth.
 *
 * Seeds that all give the same share (0 of 150, three times) do not say how much a fourth would
 * differ: the mean then stands without an interval instead of one of width zero. So does a
 * difference of shares when every pair agrees.
 *
 * Equal task loss: every run is a curve of (task loss, figure) along training; a figure at a level
 * is read by linear interpolation where the curve first crosses it. Levels are spread evenly in
 * the logarithm, because the loss of a small task falls by orders of magnitude.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/compare.h"

#define LEVELS 3
#define LEARNS 0.5                          /* share of the best arm's fall in log task loss */
#define SIGNFLIP_SEEDS 20

const char *const compare_bases[] = {"none", "random", NULL};

const struct compare_run *compare_run_at(const struct compare *c, int arm, int seed) {
    return &c->runs[seed * c->narms + arm];
}

int compare_arm_index(const struct compare *c, const char *name) {
    for (int i = 0; i < c->narms; i++)
        if (!strcmp(c->arms[i]->name, name))
            return i;
    return -1;
}

static bool is_share(enum figure_id f) {
    return !strcmp(figure_table[f].unit, "share");
}

/* Mean of one value a seed, within the figure's range. */
static struct interval over_seeds(const double *v, int n, enum figure_id f) {
    struct interval r = stats_t(v, n);
    if (!is_share(f) || n < 2)
        return r;
    bool same = stats_var(v, n) == 0;
    r.lo = same ? NAN : MAX(r.lo, 0);
    r.hi = same ? NAN : MIN(r.hi, 1);
    return r;
}

/* ---- equal steps ---- */

struct interval compare_seeds(const struct compare *c, int arm, enum figure_id f) {
    double *v = xmalloc((size_t)c->nseeds * sizeof *v);
    int n = 0;
    for (int s = 0; s < c->nseeds; s++) {
        const struct figure *fig = &compare_run_at(c, arm, s)->last.fig[f];
        if (fig->n)
            v[n++] = fig->value;
    }
    struct interval r = over_seeds(v, n, f);
    free(v);
    return r;
}

/* Pairs of n values; shares whose pairs all differ by the same amount have no interval. */
static struct compare_test paired(const double *x, const double *y, int n, enum figure_id f) {
    struct compare_test t = {.difference = {NAN, NAN, NAN, 0}, .p = NAN, .p_flip = NAN};
    if (!n)
        return t;
    t.difference = stats_paired(x, y, n, &t.p);
    if (is_share(f) && t.difference.lo == t.difference.hi)
        t.difference.lo = t.difference.hi = t.p = NAN;
    return t;
}

/* The items of all seeds in one row; *n of them; caller frees. */
static double *pool(const struct compare *c, int arm, enum figure_id f, int *n) {
    double *v = NULL;
    *n = 0;
    for (int s = 0; s < c->nseeds; s++) {
        const struct figure *fig = &compare_run_at(c, arm, s)->last.fig[f];
        if (!fig->n)
            continue;
        v = xreallocarray(v, (size_t)(*n + fig->n), sizeof *v);
        memcpy(v + *n, fig->items, (size_t)fig->n * sizeof *v);
        *n += fig->n;
    }
    return v;
}

struct interval compare_pooled(const struct compare *c, int arm, enum figure_id f) {
    int n, hits = 0;
    double *v = pool(c, arm, f, &n);
    for (int i = 0; i < n; i++)
        hits += v[i] == 1;
    struct interval r = n && is_share(f) ? stats_wilson(hits, n) : stats_t(v, n);
    free(v);
    return r;
}

struct compare_test compare_prompts(const struct compare *c, int arm, int base, enum figure_id f) {
    int n, nb;
    double *x = pool(c, arm, f, &n), *y = pool(c, base, f, &nb);
    struct compare_test t = paired(x, y, n == nb ? n : 0, f);
    if (t.difference.n && is_share(f))
        t.p = stats_mcnemar(x, y, n);
    free(x);
    free(y);
    return t;
}

/* ---- equal task loss ---- */

bool compare_run_at_loss(const struct compare_run *r, double level, enum figure_id f, double *out) {
    double *x = xmalloc((size_t)MAX(r->npoints, 1) * sizeof *x);
    double *y = xmalloc((size_t)MAX(r->npoints, 1) * sizeof *y);
    int n = 0;
    for (int i = 0; i < r->npoints; i++) {
        x[n] = r->points[i].value[FIG_TASK_LOSS];
        y[n] = r->points[i].value[f];
        n += isfinite(x[n]);
    }
    // where the crossing lies beside a point without f nothing is known: NaN, not a line across
    bool found = stats_cross(x, y, n, level, out) && isfinite(*out);
    free(x);
    free(y);
    return found;
}

struct interval compare_at_loss(const struct compare *c, int arm, double level, enum figure_id f) {
    double *v = xmalloc((size_t)c->nseeds * sizeof *v);
    int n = 0;
    for (int s = 0; s < c->nseeds; s++)
        n += compare_run_at_loss(compare_run_at(c, arm, s), level, f, &v[n]);
    struct interval r = over_seeds(v, n, f);
    free(v);
    return r;
}

struct compare_test compare_losses(const struct compare *c, int arm, int base, double level,
                                   enum figure_id f) {
    double *x = xmalloc((size_t)c->nseeds * sizeof *x), *y = xmalloc((size_t)c->nseeds * sizeof *y);
    int n = 0;
    for (int s = 0; s < c->nseeds; s++)
        n += compare_run_at_loss(compare_run_at(c, arm, s), level, f, &x[n]) &&
             compare_run_at_loss(compare_run_at(c, base, s), level, f, &y[n]);
    struct compare_test t = paired(x, y, n, f);
    if (n > 1 && n <= SIGNFLIP_SEEDS)
        t.p_flip = stats_signflip(x, y, n);
    free(x);
    free(y);
    return t;
}

/* The lowest log task loss that every seed of the arm reaches. */
static double reached(const struct compare *c, int arm) {
    double worst = -INFINITY;
    for (int s = 0; s < c->nseeds; s++) {
        const struct compare_run *r = compare_run_at(c, arm, s);
        double best = INFINITY;
        for (int i = 0; i < r->npoints; i++)
            if (isfinite(r->points[i].value[FIG_TASK_LOSS]))
                best = MIN(best, r->points[i].value[FIG_TASK_LOSS]);
        worst = MAX(worst, best);
    }
    return log(MAX(worst, 1e-9));
}

void compare_choose_levels(struct compare *c) {
    free(c->levels);
    c->levels = NULL;
    c->nlevels = 0;
    if (!c->at_start.fig[FIG_TASK_LOSS].n)
        return;
    if (c->cfg->compare.nat_task_loss) {
        c->nlevels = c->cfg->compare.nat_task_loss;
        c->levels = xmalloc((size_t)c->nlevels * sizeof *c->levels);
        memcpy(c->levels, c->cfg->compare.at_task_loss, (size_t)c->nlevels * sizeof *c->levels);
        return;
    }
    double start = log(MAX(c->at_start.fig[FIG_TASK_LOSS].value, 1e-9)), best = start, worst;
    for (int a = 0; a < c->narms; a++)
        best = MIN(best, reached(c, a));
    worst = best;
    // one slow arm would push all levels to the start of the other curves: it is left out
    for (int a = 0; a < c->narms; a++)
        if (start - reached(c, a) > LEARNS * (start - best))
            worst = MAX(worst, reached(c, a));
    if (!(worst < start))
        return;
    c->nlevels = LEVELS;
    c->levels = xmalloc(LEVELS * sizeof *c->levels);
    for (int l = 0; l < LEVELS; l++)        // a hair above: rounding must not put it out of reach
        c->levels[l] = exp(start + (worst - start) * (l + 1) / LEVELS) * (1 + 1e-9);
}

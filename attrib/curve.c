/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * curve.c — see curve.h.
 *
 * One table of series gives the set of each: a ranking's first n units, or the d-th random set.
 * A random series is reduced over its draws figure by figure (mean, Student t); its interval says
 * how much random sets differ, which is what a ranking has to stand out from, and not how exactly
 * one set was measured. Keys of draws hold the number of units, not the position in the list of
 * shares: the same point of two runs uses the same sets.
 */
#include "attrib/curve.h"

#include <math.h>
#include <stdlib.h>

const struct curve_series curve_table[CURVE_SERIES] = {
    [CURVE_SCU] = {"SCU", "largest difference of importance for safety over utility", UNIT_SCU,
                   false},
    [CURVE_UCU] = {"UCU", "smallest difference: utility over safety", UNIT_UCU, false},
    [CURVE_RU] = {"RU", "smallest sum of both importances", UNIT_RU, false},
    [CURVE_RANDOM] = {"random", "random units, the same number", UNIT_CU, true},
    [CURVE_RANDOM_LIKE] = {"random like SCU", "random units, SCU's number in each layer and kind",
                           UNIT_SCU, true},
};

static struct mask random_set(const struct unit_map *map, int n, uint64_t seed, int draw) {
    struct mask m = mask_new(map);
    int *ids = xcalloc((size_t)n + 1, sizeof *ids);
    uint64_t index = (uint64_t)n << 20 | (uint64_t)draw;
    struct rng *r = rng_keyed(seed, "attrib.curve.random", index);
    rng_choose(r, map->count, n, ids);
    rng_free(r);
    for (int i = 0; i < n; i++)
        m.in[ids[i]] = 1;
    free(ids);
    return m;
}

static struct mask random_like(const struct mask *m, uint64_t seed, int draw) {
    char purpose[64];
    snprintf(purpose, sizeof purpose, "attrib.curve.like.%d.%d", mask_count(m), draw);
    return mask_random_like(m, seed, purpose);
}

static struct mask series_set(const struct units *u, const struct curve_series *s, int n,
                              uint64_t seed, int draw) {
    if (s->cls == UNIT_CU)
        return random_set(&u->map, n, seed, draw);
    struct mask m = classify_top(u, s->cls, n);
    if (!s->random)
        return m;
    struct mask like = random_like(&m, seed, draw);
    mask_release(&m);
    return like;
}

/* The fields of an effect, so that reductions are written once. */
static struct interval *effect_field(struct ablation_effect *f, int i) {
    struct interval *const field[] = {&f->refusal_loss, &f->utility_loss, &f->logodds};
    return field[i];
}
enum { EFFECT_FIELDS = 3 };

/* Over draws: mean with its t interval; lowest and highest value (may be NULL). */
static struct ablation_effect reduce(struct ablation_effect *draws, int n,
                                     struct ablation_effect *lowest,
                                     struct ablation_effect *highest) {
    struct ablation_effect r;
    double *x = xcalloc((size_t)n, sizeof *x);
    for (int i = 0; i < EFFECT_FIELDS; i++) {
        bool measured = true;
        double lo = INFINITY, hi = -INFINITY;
        for (int d = 0; d < n; d++) {
            x[d] = effect_field(&draws[d], i)->value;
            measured = measured && isfinite(x[d]);
            lo = fmin(lo, x[d]);
            hi = fmax(hi, x[d]);
        }
        struct interval none = {NAN, NAN, NAN, 0};
        *effect_field(&r, i) = measured ? stats_t(x, n) : none;
        if (lowest) {
            *effect_field(lowest, i) = none;
            *effect_field(highest, i) = none;
            effect_field(lowest, i)->value = measured ? lo : NAN;
            effect_field(highest, i)->value = measured ? hi : NAN;
        }
    }
    free(x);
    return r;
}

static void measure_series(struct ablation_bench *b, const struct units *u, int series, int draws,
                           uint64_t seed, const struct act_stats *means, struct curve_point *p) {
    int n = curve_table[series].random ? draws : 1;
    struct ablation_effect *f = xcalloc((size_t)n, sizeof *f);
    for (int d = 0; d < n; d++) {
        struct mask m = series_set(u, &curve_table[series], p->units, seed, d);
        f[d] = ablation_run(b, &m, means);
        mask_release(&m);
    }
    bool plain = series == CURVE_RANDOM;
    p->effect[series] = !curve_table[series].random ? f[0]
        : reduce(f, n, plain ? &p->lowest : NULL, plain ? &p->highest : NULL);
    free(f);
}

struct curve_point *curve_measure(struct ablation_bench *b, const struct units *u,
                                  const double *shares, int nshares, int draws, uint64_t seed,
                                  const struct act_stats *means) {
    struct curve_point *points = xcalloc((size_t)nshares + 1, sizeof *points);
    for (int i = 0; i < nshares; i++) {
        struct curve_point *p = &points[i];
        p->share = shares[i];
        p->units = units_count(u, shares[i]);
        for (int s = 0; s < CURVE_SERIES; s++)
            measure_series(b, u, s, draws, seed, means, p);
        log_verbose("removal curve: %.3g %% (%d units) measured", 100 * p->share, p->units);
    }
    return points;
}

void curve_classes(struct ablation_bench *b, const struct units *u, int draws, uint64_t seed,
                   const struct act_stats *means, struct class_removal out[UNIT_CLASS_COUNT]) {
    struct ablation_effect *f = xcalloc((size_t)draws, sizeof *f);
    for (int c = 0; c < UNIT_CLASS_COUNT; c++) {
        struct mask m = units_class_mask(u, (enum unit_class)c);
        out[c].units = mask_count(&m);
        out[c].effect = ablation_run(b, &m, means);
        for (int d = 0; d < draws; d++) {
            struct mask like = random_like(&m, seed, d);
            f[d] = ablation_run(b, &like, means);
            mask_release(&like);
        }
        out[c].random = reduce(f, draws, NULL, NULL);
        mask_release(&m);
    }
    free(f);
}

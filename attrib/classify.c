/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * classify.c — from two importances a unit to four classes.
 *
 * Everything is a ranking of u->difference and u->sum as they are stored (float), so a units file
 * alone reproduces its classes. Order of taking (SSAH, arXiv 2410.10862): RU first, for a unit that
 * does nothing cannot be critical to anything; then SCU, UCU; CU is what remains and has no rank.
 * The paper does not say how I_S and I_U are made comparable: hence a table of ways. A unit without
 * spread in its layer (all equal, or alone) gets 0 from every normalisation, never a NaN.
 */
#include "attrib/classify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- normalisation within one layer and kind ---- */

typedef void (*scale_fn)(const double *x, int n, double *out);

struct ranked {
    double x;
    int i;
};

static int ranked_compare(const void *a, const void *b) {
    const struct ranked *p = a, *q = b;
    return p->x != q->x ? (p->x > q->x) - (p->x < q->x) : (p->i > q->i) - (p->i < q->i);
}

/* Mean rank, centred: (rank - (n-1)/2) / n in (-1/2, 1/2); equal scores share their mean rank. */
static void scale_rank(const double *x, int n, double *out) {
    struct ranked *r = xcalloc((size_t)n, sizeof *r);
    for (int i = 0; i < n; i++)
        r[i] = (struct ranked){x[i], i};
    qsort(r, (size_t)n, sizeof *r, ranked_compare);
    for (int i = 0, j; i < n; i = j) {
        for (j = i; j < n && r[j].x == r[i].x; j++)
            ;
        for (int k = i; k < j; k++)
            out[r[k].i] = (0.5 * (i + j - 1) - 0.5 * (n - 1)) / n;
    }
    free(r);
}

/* ln(x + 1e-6 mean), centred: factors between layers drop out; the offset keeps dead units
 * finite. */
static void scale_log(const double *x, int n, double *out) {
    double mean = 0, centre = 0;
    for (int i = 0; i < n; i++)
        mean += x[i];
    mean /= n;
    for (int i = 0; i < n; i++) {
        out[i] = mean > 0 ? log(x[i] + 1e-6 * mean) : 0;
        centre += out[i] / n;
    }
    for (int i = 0; i < n; i++)
        out[i] -= centre;
}

static void scale_none(const double *x, int n, double *out) {
    memcpy(out, x, (size_t)n * sizeof *out);
}

/* out = scale(i_s) + sign scale(i_u) */
static void combine(scale_fn scale, double sign, const double *i_s, const double *i_u, int n,
                    double *out) {
    double *u = xcalloc((size_t)n, sizeof *u);
    scale(i_s, n, out);
    scale(i_u, n, u);
    for (int i = 0; i < n; i++)
        out[i] += sign * u[i];
    free(u);
}

#define NORMS(X)                                                                                \
    X(zscore, units_zscore, "z(I_S) -/+ z(I_U), z over the units of a layer and kind")          \
    X(rank, scale_rank, "ranks of I_S -/+ ranks of I_U, over the units of a layer and kind")    \
    X(logratio, scale_log, "ln I_S -/+ ln I_U, centred over the units of a layer and kind")     \
    X(none, scale_none, "I_S -/+ I_U as they are")
#define X(name, scale, help)                                                                    \
    static void difference_##name(const double *i_s, const double *i_u, int n, double *d) {     \
        combine(scale, -1, i_s, i_u, n, d);                                                     \
    }                                                                                           \
    static void sum_##name(const double *i_s, const double *i_u, int n, double *d) {            \
        combine(scale, 1, i_s, i_u, n, d);                                                      \
    }
NORMS(X)
#undef X

const struct norm_kind norm_table[] = {
#define X(name, scale, help) {#name, help, difference_##name, sum_##name},
    NORMS(X)
#undef X
    {0},
};

const struct norm_kind *norm_find(const char *name) {
    for (const struct norm_kind *k = norm_table; k->name; k++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

void classify_scores(struct units *u, const double *i_s, const double *i_u,
                     const struct norm_kind *difference, const struct norm_kind *sum) {
    double *d = xcalloc((size_t)u->map.count, 2 * sizeof *d), *s = d + u->map.count;
    for (int layer = 0; layer < u->map.layers; layer++)
        for (int kind = 0; kind < UNIT_KIND_COUNT; kind++) {
            int n = u->map.per_kind[kind];
            if (n == 0)
                continue;
            int base = unit_base(&u->map, layer, (enum unit_kind)kind);
            difference->difference(i_s + base, i_u + base, n, d + base);
            sum->sum(i_s + base, i_u + base, n, s + base);
        }
    for (int i = 0; i < u->map.count; i++) {
        u->i_s[i] = (float)i_s[i];
        u->i_u[i] = (float)i_u[i];
        u->difference[i] = (float)d[i];
        u->sum[i] = (float)s[i];
    }
    free(d);
}

/* ---- classes ---- */

/* What a class takes first: the largest of sign * key. CU ranks nothing. */
struct class_order {
    bool by_sum;
    int sign;
};
static const struct class_order class_order_table[UNIT_CLASS_COUNT] = {
    [UNIT_RU] = {true, -1},
    [UNIT_SCU] = {false, 1},
    [UNIT_UCU] = {false, -1},
};

int *classify_ranking(const struct units *u, enum unit_class c) {
    const struct class_order *o = &class_order_table[c];
    if (o->sign == 0)
        BUG("class %s has no ranking", unit_class_table[c].name);
    const float *key = o->by_sum ? u->sum : u->difference;
    int n = u->map.count;
    struct ranked *r = xcalloc((size_t)n, sizeof *r);
    for (int i = 0; i < n; i++)
        r[i] = (struct ranked){-o->sign * (double)key[i], i};
    qsort(r, (size_t)n, sizeof *r, ranked_compare);
    int *ids = xcalloc((size_t)n, sizeof *ids);
    for (int i = 0; i < n; i++)
        ids[i] = r[i].i;
    free(r);
    return ids;
}

void classify_shares(struct units *u, double scu, double ucu, double ru) {
    const struct { enum unit_class c; double share; } take[] = {
        {UNIT_RU, ru}, {UNIT_SCU, scu}, {UNIT_UCU, ucu},
    };
    memset(u->cls, UNIT_CU, (size_t)u->map.count);
    for (size_t t = 0; t < ARRAY_LEN(take); t++) {
        int want = units_count(u, take[t].share);
        int *ids = classify_ranking(u, take[t].c);
        for (int i = 0; i < u->map.count && want > 0; i++)
            if (u->cls[ids[i]] == UNIT_CU) {
                u->cls[ids[i]] = (uint8_t)take[t].c;
                want--;
            }
        free(ids);
    }
}

struct mask classify_top(const struct units *u, enum unit_class c, int n) {
    if (n < 0 || n > u->map.count)
        BUG("classify_top: %d of %d units", n, u->map.count);
    struct mask m = mask_new(&u->map);
    int *ids = classify_ranking(u, c);
    for (int i = 0; i < n; i++)
        m.in[ids[i]] = 1;
    free(ids);
    return m;
}

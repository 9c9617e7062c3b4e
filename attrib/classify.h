/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * classify.h — I_S and I_U to SCU, UCU, CU, RU (SSAH §: RU first, then SCU, then UCU, rest CU).
 */
#ifndef KEEL_CLASSIFY_H
#define KEEL_CLASSIFY_H

#include "ckpt/units_file.h"

/* Ways to make layers and kinds comparable: applied within each (layer, kind).
 *
 * "none" compares absolute errors in the residual stream. That is right only where the stream has
 * about the same size in all layers: RMS norms divide by it, so that an error of the same size
 * weighs more where the stream is small. A model whose embedding starts at std 0.02 has a stream
 * that grows a hundredfold from the first layer to the last, and its lowest raw sums are the whole
 * first attention layer, which is anything but redundant; logratio or rank fit there. */
struct norm_kind {
    const char *name, *help;
    /* d[i] from i_s[i], i_u[i] over n units of one layer and kind */
    void (*difference)(const double *i_s, const double *i_u, int n, double *d);
    void (*sum)(const double *i_s, const double *i_u, int n, double *d);
};
extern const struct norm_kind norm_table[];         /* zscore rank logratio none; NULL name ends */
const struct norm_kind *norm_find(const char *name);        /* NULL: none */

/* Fills u->i_s, i_u, difference, sum. */
void classify_scores(struct units *u, const double *i_s, const double *i_u,
                     const struct norm_kind *difference, const struct norm_kind *sum);
/* u->cls from the ranks: RU the ru*count smallest sums, then SCU the largest, UCU the smallest
 * differences among the rest; ties by unit order. Counts are units_count's. */
void classify_shares(struct units *u, double scu, double ucu, double ru);
/* Unit ids in the order in which class c would take them (CU has no order: BUG); caller frees. */
int *classify_ranking(const struct units *u, enum unit_class c);
/* The n units that would be taken first for a class, alone (for removal curves and search). */
struct mask classify_top(const struct units *u, enum unit_class c, int n);
#endif

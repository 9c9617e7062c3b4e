/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * stats.h — intervals, paired tests, rank correlation (GSL). All inputs are finite doubles.
 */
#ifndef KEEL_STATS_H
#define KEEL_STATS_H

#include "model/base.h"

struct interval {
    double value, lo, hi;                   /* 95 % unless said; NaN bounds when n is too small */
    int n;
};
double stats_mean(const double *x, int n);
double stats_var(const double *x, int n);               /* unbiased; 0 for n < 2 */
struct interval stats_wilson(int hits, int n);          /* Wilson score interval of a share */
struct interval stats_t(const double *x, int n);        /* mean, Student t */
/* Mean of x - y with its t interval; *p (may be NULL): two-sided paired t test. */
struct interval stats_paired(const double *x, const double *y, int n, double *p);
/* Exact McNemar test of two paired 0/1 samples: two-sided p. */
double stats_mcnemar(const double *x, const double *y, int n);
/* Exact sign-flip permutation test of mean(x - y) for n <= 20 pairs; two-sided p. */
double stats_signflip(const double *x, const double *y, int n);
double stats_spearman(const double *x, const double *y, int n);     /* ties: mean ranks */
/* y at x0 by linear interpolation in the points (x[i], y[i]), x in any order, first crossing along
 * the sequence; false when x0 is outside the range reached. */
bool stats_cross(const double *x, const double *y, int n, double x0, double *out);
#endif

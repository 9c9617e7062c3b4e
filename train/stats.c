/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * stats.c — intervals and paired tests on top of GSL's distributions.
 *
 * GSL supplies quantiles, tails, moments and ranks; this file holds only the choice of method,
 * which is the same wherever Keel prints a number: Wilson's score interval for shares (it keeps
 * its coverage at 0 and 1, where the normal interval collapses; Wilson 1927, Brown, Cai and
 * DasGupta 2001), Student's t for means, exact tests where the samples are small. A test that
 * cannot be made (one pair, one seed) gives NaN, never a number that looks like a result.
 */
#include "train/stats.h"

#include <math.h>
#include <stdlib.h>

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_statistics_double.h>

#define TAIL 0.975                          /* two-sided 95 % */
#define SIGNFLIP_MAX 20                     /* 2^19 sign patterns */

double stats_mean(const double *x, int n) {
    return n > 0 ? gsl_stats_mean(x, 1, (size_t)n) : NAN;
}

double stats_var(const double *x, int n) {
    return n > 1 ? gsl_stats_variance(x, 1, (size_t)n) : 0;
}

/* (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) */
struct interval stats_wilson(int hits, int n) {
    if (n <= 0)
        return (struct interval){NAN, NAN, NAN, 0};
    double z = gsl_cdf_ugaussian_Pinv(TAIL), z2n = z * z / n, p = (double)hits / n;
    double half = z * sqrt(p * (1 - p) / n + z2n / (4.0 * n));
    double lo = (p + z2n / 2 - half) / (1 + z2n), hi = (p + z2n / 2 + half) / (1 + z2n);
    // at the ends the bound is 0 or 1 exactly; rounding must not carry it past the share itself
    return (struct interval){p, hits == 0 ? 0 : lo, hits == n ? 1 : hi, n};
}

struct interval stats_t(const double *x, int n) {
    struct interval r = {stats_mean(x, n), NAN, NAN, n};
    if (n > 1) {
        double half = gsl_cdf_tdist_Pinv(TAIL, n - 1) * sqrt(stats_var(x, n) / n);
        r.lo = r.value - half;
        r.hi = r.value + half;
    }
    return r;
}

static double *differences(const double *x, const double *y, int n) {
    double *d = xmalloc((size_t)MAX(n, 1) * sizeof *d);
    for (int i = 0; i < n; i++)
        d[i] = x[i] - y[i];
    return d;
}

struct interval stats_paired(const double *x, const double *y, int n, double *p) {
    double *d = differences(x, y, n);
    struct interval r = stats_t(d, n);
    if (p) {
        double se = n > 1 ? sqrt(stats_var(d, n) / n) : NAN;
        if (n < 2)
            *p = NAN;
        else if (se == 0)                   // all pairs differ by the same amount
            *p = r.value == 0 ? 1 : 0;
        else
            *p = 2 * gsl_cdf_tdist_Q(fabs(r.value) / se, n - 1);
    }
    free(d);
    return r;
}

/* Under the null hypothesis the pairs that disagree fall either way with probability 1/2. */
double stats_mcnemar(const double *x, const double *y, int n) {
    unsigned up = 0, down = 0;
    for (int i = 0; i < n; i++) {
        up += x[i] > y[i];
        down += x[i] < y[i];
    }
    if (n <= 0)
        return NAN;
    return up + down ? MIN(1, 2 * gsl_cdf_binomial_P(MIN(up, down), 0.5, up + down)) : 1;
}

/* Share of the 2^n sign patterns whose |sum| reaches the observed one. A pattern and its mirror
 * have the same |sum|, so the last sign stays fixed and half of them are enough. */
double stats_signflip(const double *x, const double *y, int n) {
    if (n > SIGNFLIP_MAX)
        BUG("stats_signflip: %d pairs, at most %d can be enumerated", n, SIGNFLIP_MAX);
    if (n < 1)
        return NAN;
    double *d = differences(x, y, n);
    double observed = 0, scale = 0;
    for (int i = 0; i < n; i++) {
        observed += d[i];
        scale += fabs(d[i]);
    }
    // sums that are equal in exact arithmetic must count as equal
    double reach = fabs(observed) - 1e-12 * scale;
    uint32_t patterns = 1u << (n - 1), hits = 0;
    for (uint32_t k = 0; k < patterns; k++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += k >> i & 1 ? -d[i] : d[i];
        hits += fabs(sum) >= reach;
    }
    free(d);
    return (double)hits / patterns;
}

double stats_spearman(const double *x, const double *y, int n) {
    if (n < 2)
        return NAN;
    double *work = xmalloc(2 * (size_t)n * sizeof *work);
    double r = gsl_stats_spearman(x, 1, y, 1, (size_t)n, work);
    free(work);
    return r;
}

bool stats_cross(const double *x, const double *y, int n, double x0, double *out) {
    for (int i = 0; i < n; i++) {
        if (x[i] == x0) {
            *out = y[i];
            return true;
        }
        if (i + 1 < n && (x[i] < x0) != (x[i + 1] < x0) && x[i + 1] != x0) {
            *out = y[i] + (y[i + 1] - y[i]) * ((x0 - x[i]) / (x[i + 1] - x[i]));
            return true;
        }
    }
    return false;
}

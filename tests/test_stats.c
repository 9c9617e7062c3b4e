/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_stats.c — intervals and tests against published examples, closed forms and plain twins.
 */
#include "tests/helper.h"

#include <math.h>

#include "train/stats.h"

/* Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3; then closed forms at the ends:
 * hits 0 gives hi = z^2 / (n + z^2). */
static void wilson_examples(void **state) {
    (void)state;
    static const struct { int hits, n; double lo, hi; } rows[] = {
        {81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0.0, 0.1611},
        {1, 29, 0.0061, 0.1718},   {29, 29, 0.8830, 1.0},     {0, 1, 0.0, 0.7935},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct interval v = stats_wilson(rows[i].hits, rows[i].n);
        assert_near(v.lo, rows[i].lo, 0, 5e-5, "lower bound");
        assert_near(v.hi, rows[i].hi, 0, 5e-5, "upper bound");
        assert_near(v.value, (double)rows[i].hits / rows[i].n, 1e-15, 0, "share");
        assert_int_equal(v.n, rows[i].n);
    }
    assert_true(isnan(stats_wilson(0, 0).value) && isnan(stats_wilson(0, 0).lo));
}

static void wilson_properties(void **state) {
    (void)state;
    for (int n = 1; n < 60; n++)
        for (int k = 0; k <= n; k++) {
            struct interval v = stats_wilson(k, n), mirror = stats_wilson(n - k, n);
            assert_true(v.lo >= 0 && v.lo <= v.value && v.value <= v.hi && v.hi <= 1);
            assert_true(v.lo < v.hi);       // never collapses, not at 0 and 1 either
            assert_near(v.lo, 1 - mirror.hi, 0, 1e-12, "mirror");
            if (k > 0)
                assert_true(v.lo > stats_wilson(k - 1, n).lo && v.hi > stats_wilson(k - 1, n).hi);
        }
    // the bounds solve the score equation |p0 - p| = z sqrt(p0 (1 - p0) / n)
    struct interval v = stats_wilson(7, 31);
    double p = 7.0 / 31, z = 1.959963984540054;
    assert_near(fabs(v.hi - p), z * sqrt(v.hi * (1 - v.hi) / 31), 1e-10, 0, "score equation");
    assert_near(fabs(v.lo - p), z * sqrt(v.lo * (1 - v.lo) / 31), 1e-10, 0, "score equation");
}

static void t_interval(void **state) {
    (void)state;
    const double x[] = {1, 2, 3, 4, 5};
    struct interval v = stats_t(x, 5);
    assert_near(v.value, 3, 1e-15, 0, "mean");
    assert_near(v.hi - v.value, 2.7764451051977987 * sqrt(2.5 / 5), 1e-9, 0, "half width");
    assert_near(v.value - v.lo, v.hi - v.value, 1e-12, 0, "symmetry");
    assert_near(stats_var(x, 5), 2.5, 1e-15, 0, "variance");
    struct interval one = stats_t(x, 1);
    assert_true(one.value == 1 && isnan(one.lo) && isnan(one.hi) && one.n == 1);
    assert_true(isnan(stats_t(x, 0).value) && isnan(stats_mean(x, 0)));
    assert_true(stats_var(x, 1) == 0);
}

/* Student's sleep data (Biometrika 6, 1908): t = 4.0621, df 9, p = 0.002833. */
static void paired_t(void **state) {
    (void)state;
    const double x[] = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
    const double y[] = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
    double p;
    struct interval v = stats_paired(x, y, 10, &p);
    assert_near(v.value, 1.58, 1e-12, 0, "difference");
    assert_near(p, 0.002833, 0, 5e-7, "p");
    assert_near(v.lo, 0.7001142, 0, 1e-6, "lower");
    assert_near(v.hi, 2.4598858, 0, 1e-6, "upper");
    double back;
    assert_near(stats_paired(y, x, 10, &back).value, -1.58, 1e-12, 0, "direction");
    assert_near(back, p, 1e-12, 0, "two-sided");
    stats_paired(x, x, 10, &p);
    assert_true(p == 1);
    const double up[] = {2, 3, 4}, base[] = {1, 2, 3};
    stats_paired(up, base, 3, &p);
    assert_true(p == 0);
    v = stats_paired(x, y, 1, &p);
    assert_true(isnan(p) && isnan(v.lo));
    stats_paired(x, y, 10, NULL);
}

static void mcnemar(void **state) {
    (void)state;
    static const struct { int up, down, both; double p; } rows[] = {
        {1, 7, 4, 2 * 9.0 / 256}, {0, 5, 0, 2.0 / 32}, {5, 0, 9, 2.0 / 32}, {4, 4, 1, 1},
        {0, 0, 6, 1},             {1, 0, 0, 1},        {0, 10, 3, 2.0 / 1024},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double x[32], y[32];
        int n = 0;
        for (int k = 0; k < rows[i].up; k++, n++)
            x[n] = 1, y[n] = 0;
        for (int k = 0; k < rows[i].down; k++, n++)
            x[n] = 0, y[n] = 1;
        for (int k = 0; k < rows[i].both; k++, n++)
            x[n] = y[n] = k & 1;
        assert_near(stats_mcnemar(x, y, n), rows[i].p, 1e-12, 0, "p");
    }
    assert_true(isnan(stats_mcnemar(NULL, NULL, 0)));
}

/* All 2^n patterns, counted the plain way. */
static double signflip_twin(const double *x, const double *y, int n) {
    double observed = 0;
    for (int i = 0; i < n; i++)
        observed += x[i] - y[i];
    int hits = 0;
    for (int k = 0; k < 1 << n; k++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += (k >> i & 1 ? -1 : 1) * (x[i] - y[i]);
        hits += fabs(sum) >= fabs(observed) - 1e-9;
    }
    return (double)hits / (1 << n);
}

static void signflip(void **state) {
    (void)state;
    const double zero[20] = {0};
    const double up[] = {0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1};
    for (int n = 1; n <= 10; n++)           // all of one sign: only the two unanimous patterns
        assert_near(stats_signflip(up, zero, n), 2.0 / (1 << n), 1e-12, 0, "unanimous");
    const double even[] = {1, 2, -3};
    assert_near(stats_signflip(even, zero, 3), 1, 1e-12, 0, "sum zero");
    assert_near(stats_signflip(zero, zero, 20), 1, 1e-12, 0, "no differences");
    struct rng *r = rng_new(3);
    for (int trial = 0; trial < 40; trial++) {
        double x[9], y[9];
        int n = 1 + trial % 9;
        for (int i = 0; i < n; i++) {
            x[i] = (double)rng_below(r, 5) / 10;    // many ties
            y[i] = (double)rng_below(r, 5) / 10;
        }
        assert_near(stats_signflip(x, y, n), signflip_twin(x, y, n), 1e-12, 0, "plain twin");
    }
    rng_free(r);
    assert_true(isnan(stats_signflip(zero, zero, 0)));
}

static void spearman(void **state) {
    (void)state;
    const double x[] = {1, 2, 2, 3}, y[] = {1, 2, 3, 4}, cubes[] = {1, 8, 27, 64};
    const double falling[] = {9, 4, 1, -5};
    assert_near(stats_spearman(x, y, 4), 4.5 / sqrt(22.5), 1e-12, 0, "mean ranks");
    assert_near(stats_spearman(y, cubes, 4), 1, 1e-12, 0, "monotone");
    assert_near(stats_spearman(y, falling, 4), -1, 1e-12, 0, "falling");
    assert_true(isnan(stats_spearman(x, y, 1)));
}

static void crossing(void **state) {
    (void)state;
    static const struct {
        double x[4], y[4];
        int n;
        double x0;
        bool found;
        double y0;
    } rows[] = {
        {{4, 2, 1}, {10, 20, 40}, 3, 3, true, 15},          // a falling curve
        {{4, 2, 1}, {10, 20, 40}, 3, 2, true, 20},          // on a point
        {{4, 2, 1}, {10, 20, 40}, 3, 1, true, 40},          // the last point
        {{4, 2, 1}, {10, 20, 40}, 3, 4, true, 10},          // the first point
        {{4, 2, 1}, {10, 20, 40}, 3, 0.5, false, 0},        // never reached
        {{4, 2, 1}, {10, 20, 40}, 3, 5, false, 0},          // never left
        {{1, 2, 4}, {10, 20, 40}, 3, 3, true, 30},          // rising
        {{4, 2, 4, 0}, {0, 1, 2, 6}, 4, 3, true, 0.5},      // the first of three crossings
        {{2, 2, 2}, {7, 8, 9}, 3, 2, true, 7},              // flat
        {{2}, {7}, 1, 2, true, 7},
        {{2}, {7}, 1, 3, false, 0},
        {{0}, {0}, 0, 0, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double got = NAN;
        bool found = stats_cross(rows[i].x, rows[i].y, rows[i].n, rows[i].x0, &got);
        assert_int_equal(found, rows[i].found);
        if (found)
            assert_near(got, rows[i].y0, 1e-12, 1e-12, "y");
    }
}

int main(void) {
    rng_init_gsl();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wilson_examples), cmocka_unit_test(wilson_properties),
        cmocka_unit_test(t_interval),      cmocka_unit_test(paired_t),
        cmocka_unit_test(mcnemar),         cmocka_unit_test(signflip),
        cmocka_unit_test(spearman),        cmocka_unit_test(crossing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

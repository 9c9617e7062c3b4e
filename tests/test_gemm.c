/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_gemm.c — gemm against three nested loops on odd shapes; the same bytes for 1 and 2 threads.
 */
#include <math.h>

#include "model/gemm.h"
#include "model/kernel.h"
#include "tests/helper.h"

static void naive(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const real *a,
                  const real *b, double beta, const real *c0, double *c) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t p = 0; p < k; p++)
                s += (double)a[ta ? p * m + i : i * k + p] * (double)b[tb ? j * k + p : p * n + j];
            c[i * n + j] = alpha * s + (beta != 0 ? beta * (double)c0[i * n + j] : 0);
        }
}

static const int64_t shapes[][3] = {
    {1, 1, 1}, {1, 7, 3}, {5, 1, 9}, {33, 17, 5}, {64, 64, 64}, {300, 40, 31}, {40, 700, 16},
    {1, 600, 70}, {513, 31, 20}, {31, 513, 20}, {1030, 16, 9}, {16, 9000, 3}, {3, 5, 0},
};

static void fill(struct rng *r, real *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = (real)rng_normal(r);
}

static void test_against_loops(void **state) {
    (void)state;
    struct rng *r = rng_new(1);
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
        for (int t = 0; t < 8; t++) {
            int64_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            bool ta = t & 1, tb = t & 2;
            real beta = t & 4 ? R(0.5) : 0;
            real *a = xcalloc((size_t)(m * k), sizeof *a), *b = xcalloc((size_t)(n * k), sizeof *b);
            real *c = xcalloc((size_t)(m * n), sizeof *c);
            double *want = xcalloc((size_t)(m * n), sizeof *want);
            fill(r, a, (size_t)(m * k));
            fill(r, b, (size_t)(n * k));
            fill(r, c, (size_t)(m * n));
            naive(ta, tb, m, n, k, 0.7, a, b, (double)beta, c, want);
            gemm(ta, tb, m, n, k, R(0.7), a, ta ? m : k, b, tb ? k : n, beta, c, n);
            for (int64_t i = 0; i < m * n; i++)
                if (!(fabs((double)c[i] - want[i]) <= 2e-5 * (1 + sqrt((double)k))))
                    fail_msg("shape %lld %lld %lld ta %d tb %d at %lld: %g, expected %g",
                             (long long)m, (long long)n, (long long)k, ta, tb, (long long)i,
                             (double)c[i], want[i]);
            free(a);
            free(b);
            free(c);
            free(want);
        }
    rng_free(r);
}

static void test_threads_same_bytes(void **state) {
    (void)state;
    const int64_t m = 777, n = 130, k = 210;
    struct rng *r = rng_new(2);
    real *a = xcalloc((size_t)(m * k), sizeof *a), *b = xcalloc((size_t)(n * k), sizeof *b);
    real *c[2];
    fill(r, a, (size_t)(m * k));
    fill(r, b, (size_t)(n * k));
    for (int t = 0; t < 2; t++) {
        c[t] = xcalloc((size_t)(m * n), sizeof(real));
        gemm_threads(t + 1);
        assert_int_equal(gemm_max_threads(), t + 1);
        gemm(false, true, m, n, k, 1, a, k, b, k, 0, c[t], n);
    }
    gemm_threads(0);
    assert_memory_equal(c[0], c[1], (size_t)(m * n) * sizeof(real));
    free(a);
    free(b);
    free(c[0]);
    free(c[1]);
    rng_free(r);
}

static void test_fast_exp(void **state) {
    (void)state;
    double worst = 0;
    for (double x = -86.9; x < 87.9; x += 0.00137) {
        double want = exp((double)(real)x), got = (double)fast_exp((real)x);
        worst = fmax(worst, fabs(got - want) / want);
    }
    if (!(worst < 2e-7))
        fail_msg("fast_exp: relative error %.3g", worst);
    assert_true((double)fast_exp(0) == 1.0);
    assert_true(isnan((double)fast_exp((real)NAN)));
    assert_true((double)fast_exp(R(-1000.0)) > 0 || REAL_IS_DOUBLE);
    assert_true(isfinite((double)fast_exp(R(1000.0))) || REAL_IS_DOUBLE);
}

static void test_row_max(void **state) {
    (void)state;
    real x[70];
    for (int n = 1; n <= 70; n++)
        for (int at = 0; at < n; at++) {
            for (int i = 0; i < n; i++)
                x[i] = (real)(-5 - i % 3);
            x[at] = -1;
            assert_true(row_max(x, n) == -1);
        }
}

static void test_backend(void **state) {
    (void)state;
    assert_contains(gemm_backend(), "OpenBLAS");
}

int main(void) {
    rng_init_gsl();
    gemm_threads(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_loops), cmocka_unit_test(test_threads_same_bytes),
        cmocka_unit_test(test_fast_exp), cmocka_unit_test(test_row_max),
        cmocka_unit_test(test_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

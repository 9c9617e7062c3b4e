/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * kernel.h — tools for the inner loops of model/ops and train/optim: several instruction sets from
 * one source, a vectorisable exponential and tanh, and the loop over rows that all threads share.
 *
 * A KERNEL function is compiled for several instruction sets and chosen when the program is loaded.
 * It works serially on a run of values; the OpenMP loop stands in its (ordinary) caller, because
 * outlined parallel regions are not cloned. Work is cut by shape alone, so results do not depend on
 * the number of threads.
 */
#ifndef KEEL_KERNEL_H
#define KEEL_KERNEL_H

#include <math.h>
#include <string.h>

#include "model/tensor.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(KEEL_NO_CLONES)
#define KERNEL __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define KERNEL
#endif

/* Loops with less work than this (in elements) stay on one thread. */
#define PARALLEL_MIN 16384

#define PRAGMA_TEXT(x) _Pragma(#x)
#define PRAGMA(x) PRAGMA_TEXT(x)
#define SIMD PRAGMA(omp simd)
#define SIMD_SUM(s) PRAGMA(omp simd reduction(+ : s))
/* Before a for loop whose iterations are shared out when there are `work` elements to do. */
#define PARALLEL_FOR(work) PRAGMA(omp parallel for schedule(static) if ((work) >= PARALLEL_MIN))

/* exp(x): relative error below 2e-7 (double build: libm). Saturates at the ends of the range, never
 * returns 0, infinity or NaN for finite x. Reduction x = k ln 2 + r, |r| <= ln 2 / 2, then a
 * minimax polynomial of degree 6 (Cephes expf). */
static inline real fast_exp(real x) {
#ifdef REAL_DOUBLE
    return exp(x);
#else
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float z = x * 1.44269504088896341f + 12582912.0f;   // rounds to an integer in the low bits
    uint32_t bits;
    memcpy(&bits, &z, sizeof bits);
    float k = z - 12582912.0f;
    float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t scale_bits = (bits + 127u) << 23;          // the low bits hold k, exponent bias 127
    float scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return p * scale;
#endif
}

/* Largest of x[n], n >= 1; NaN is passed over. Lanes of their own keep the loop vectorisable
 * without assumptions about NaN. */
static inline real row_max(const real *x, int64_t n) {
    enum { LANES = 16 };
    real top[LANES];
    for (int i = 0; i < LANES; i++)
        top[i] = x[0];
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int i = 0; i < LANES; i++)
            top[i] = x[j + i] > top[i] ? x[j + i] : top[i];
    for (; j < n; j++)
        top[0] = x[j] > top[0] ? x[j] : top[0];
    for (int i = 1; i < LANES; i++)
        top[0] = top[i] > top[0] ? top[i] : top[0];
    return top[0];
}

static inline real sigmoid(real x) {
    return R(1.0) / (R(1.0) + fast_exp(-x));
}

/* tanh(x): relative error below 3e-7 (double build: libm). An odd polynomial of degree 11, fitted
 * at Chebyshev nodes, below 0.625, where 1 - 2 / (e^2x + 1) cancels. */
static inline real fast_tanh(real x) {
#ifdef REAL_DOUBLE
    return tanh(x);
#else
    float u = x * x, a = fabsf(x);
    float p = -6.0967142e-3f;
    p = p * u + 2.0997179e-2f;
    p = p * u - 5.3850910e-2f;
    p = p * u + 1.3332770e-1f;
    p = p * u - 3.3333329e-1f;
    float near = x + x * u * p;
    float far = copysignf(1.0f - 2.0f / (fast_exp(2.0f * a) + 1.0f), x);
    return a < 0.625f ? near : far;
#endif
}

/* cap tanh(x / cap); its derivative is 1 - (y / cap)^2. inv = 1 / cap */
static inline real softcap(real x, real cap, real inv) {
    return cap * fast_tanh(x * inv);
}
static inline real softcap_slope(real y, real inv) {
    return R(1.0) - y * inv * (y * inv);
}
#endif

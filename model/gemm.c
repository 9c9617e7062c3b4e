/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gemm.c — the only user of cblas.h.
 *
 * BLAS runs single-threaded; the output is cut into tiles and one OpenMP loop hands them out. The
 * cut is a function of (M, N) alone and each tile is one BLAS call, so the bytes do not depend on
 * the number of threads. BLAS's own threading promises neither that nor peace with OpenMP loops
 * around it (a pthread OpenBLAS next to OpenMP loses a factor of three).
 *
 * Tile sides: about 256 rows, where OpenBLAS packs well (measured: 290-320 of 354 GFLOP/s on NT and
 * NN shapes with 2 threads); a flat wide output is cut by columns instead.
 */
#define _GNU_SOURCE
#include "model/gemm.h"

#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUARD "KEEL_RESTARTED"
#define SPIN_COUNT "3000"                   /* a few microseconds */
#define SMALL_WORK 40000                    /* m n k below which threads cost more than they give */

void gemm_serial(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                 int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
    if (m == 0 || n == 0)
        return;
#ifdef REAL_DOUBLE
    cblas_dgemm(
#else
    cblas_sgemm(
#endif
        CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m,
        (blasint)n, (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

/* Number of pieces for a side of length n: an even split into pieces of at most `target`, their
 * number a multiple of four (two below 2 * target) so that threads finish together. */
static int64_t pieces(int64_t n, int64_t target) {
    if (n < 32)
        return 1;
    if (n < 2 * target)
        return 2;
    int64_t p = (n + target - 1) / target;
    return (p + 3) / 4 * 4;
}

void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
          int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
    if (m * n * k < SMALL_WORK) {
        gemm_serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    bool by_columns = n > 4 * m;
    int64_t side = by_columns ? n : m;
    int64_t count = pieces(side, side > 8192 ? 1024 : 256);
    int64_t step = ((side + count - 1) / count + 15) / 16 * 16;
    count = (side + step - 1) / step;
#pragma omp parallel for schedule(dynamic, 1) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        int64_t lo = i * step, len = MIN(step, side - lo);
        if (by_columns)
            gemm_serial(ta, tb, m, len, k, alpha, a, lda, b + (tb ? lo * ldb : lo), ldb, beta,
                        c + lo, ldc);
        else
            gemm_serial(ta, tb, len, n, k, alpha, a + (ta ? lo : lo * lda), lda, b, ldb, beta,
                        c + lo * ldc, ldc);
    }
}

void gemm_threads(int n) {
    static int at_start;                    // OMP_NUM_THREADS, else the cores we may use
    if (!at_start)
        at_start = omp_get_max_threads();
    openblas_set_num_threads(1);            // the OpenMP build sets OpenMP's number too:
    omp_set_num_threads(n > 0 ? n : at_start);
    omp_set_dynamic(0);
}

int gemm_max_threads(void) {
    return omp_get_max_threads();
}

int gemm_thread_index(void) {
    return omp_get_thread_num();
}

/* ---- the kernels that OpenBLAS chose ---- */

/* Rough classes of kernels by instruction set. Names as openblas_get_corename gives them; those not
 * listed are older than AVX2. */
static const struct core {
    const char *name;
    int level;
} core_table[] = {
    {"Haswell", 2}, {"Zen", 2}, {"Excavator", 2}, {"SkylakeX", 3}, {"Cooperlake", 3},
    {"SapphireRapids", 3},
};
static const char *const level_core[] = {NULL, NULL, "HASWELL", "SKYLAKEX"};

static int core_level(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(core_table); i++)
        if (strcasecmp(core_table[i].name, name) == 0)
            return core_table[i].level;
    return 0;
}

static int cpu_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return 3;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 2;
#endif
    return 0;
}

/* The kernels this processor should run instead of the chosen ones; NULL: nothing to mend. */
static const char *better_kernels(void) {
    const char *chosen = openblas_get_corename();
    int can = cpu_level();
    if (can <= core_level(chosen))
        return NULL;
    if (getenv("OPENBLAS_CORETYPE")) {
        log_verbose("kernels: OpenBLAS runs %s kernels as OPENBLAS_CORETYPE asks; this processor "
                    "could run %s", chosen, level_core[can]);
        return NULL;
    }
    return level_core[can];
}

void gemm_prepare(char **argv) {
    if (getenv(GUARD)) {                    // once only, whatever the libraries made of it
        log_verbose("kernels: %s, GOMP_SPINCOUNT=%s", gemm_backend(), getenv("GOMP_SPINCOUNT"));
        return;
    }
    const char *kernels = better_kernels();
    bool waiting = !getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT");
    if (!kernels && !waiting)
        return;
    if (kernels) {
        log_verbose("kernels: OpenBLAS chose %s, this processor can run %s: restarting with "
                    "OPENBLAS_CORETYPE=%s", openblas_get_corename(), kernels, kernels);
        setenv("OPENBLAS_CORETYPE", kernels, 1);
    }
    if (waiting)
        setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1);
    setenv(GUARD, "1", 1);
    execv("/proc/self/exe", argv);
    log_warn("kernels: cannot restart with better settings; going on with %s", gemm_backend());
}

const char *gemm_backend(void) {
    static char text[160];
    const char *const kinds[] = {"serial", "pthread", "openmp"};
    int p = openblas_get_parallel();
    const char *config = openblas_get_config();     // "OpenBLAS 0.3.21 NO_LAPACKE ..."
    int n = 0, blanks = 0;
    while (config[n] && !(config[n] == ' ' && ++blanks == 2))
        n++;
    snprintf(text, sizeof text, "%.*s %s %s", MIN(n, 60), config, openblas_get_corename(),
             p >= 0 && p <= 2 ? kinds[p] : "?");
    return text;
}

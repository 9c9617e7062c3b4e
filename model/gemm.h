/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gemm.h — the one door to BLAS, and the one thread pool.
 *
 * Row-major C[M,N] = alpha op(A)[M,K] op(B)[K,N] + beta C, leading dimensions in elements.
 * `gemm` cuts C into tiles whose size depends on the shape alone and gives each tile to one
 * OpenMP thread as one single-threaded BLAS call: any number of threads computes the same bytes.
 * `gemm_serial` is one BLAS call on the calling thread, for use inside parallel loops.
 */
#ifndef KEEL_GEMM_H
#define KEEL_GEMM_H

#include "model/tensor.h"

void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
          int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc);
void gemm_serial(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                 int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc);

/* Sets OpenMP's number of threads (0: OMP_NUM_THREADS, else all cores) and holds BLAS to one. */
void gemm_threads(int n);
int gemm_max_threads(void);
int gemm_thread_index(void);            /* of the calling thread in a parallel region, from 0 */

/* Settings that the libraries read only when they are loaded; where one is missing, sets it and
 * re-executes the program once (argv is main's). A user's own settings are respected.
 *   OPENBLAS_CORETYPE  OpenBLAS falls back to kernels several times slower on processors that it
 *   does
 *                      not know: set when the chosen ones are below what the processor can run
 *   GOMP_SPINCOUNT     idle OpenMP threads spin for a millisecond by default; when another program
 *                      wants the cores that costs a factor of 10 to 20 (measured), a short spin
 *                      nothing
 * Says so at LOG_VERBOSE. Returns where there is nothing to mend. */
void gemm_prepare(char **argv);
/* "openblas 0.3.21 SkylakeX openmp", for logs and bench lines; static storage. */
const char *gemm_backend(void);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * optim.c — optimizers over the compact block of trainable entries.
 *
 * Moments have the layout of grad_block: trainable entries only, in parameter order. One update
 * function per optimizer works on a contiguous run; optim_step cuts every parameter into pieces
 * (blocks of a whole matrix, live rows, or the live columns of one row gathered into a buffer) that
 * depend on shapes and freezes alone, and gives each piece to one thread. Every entry is updated
 * by itself, so any number of threads computes the same bytes.
 *
 * Refused: one full-size moment block with a mask. Frozen entries would still cost memory and
 * bandwidth, and an entry that is present can be moved by decay or by an old moment.
 *
 * AdamW follows PyTorch's order of operations (decay first, sqrt(v) / sqrt(1 - b2^t) + eps), so
 * that runs can be compared step by step (arXiv 1711.05101, algorithm 2).
 */
#include "train/optim.h"

#include <stdlib.h>

#include "model/kernel.h"

enum {
    PIECE = 1 << 14,                        // entries a thread updates at once, whole parameters
    NORM_BLOCK = 1 << 13,                   // entries summed in one go by grad_norm
    COLS_BUFFER = 512,                      // live columns gathered at once
    MAX_MOMENTS = 2,
};

#ifdef REAL_DOUBLE
#define SQRT sqrt
#else
#define SQRT sqrtf
#endif

/* ---- the table ---- */

KERNEL static void adamw(real *restrict w, const real *restrict g, real *const *state, size_t n,
                         int64_t step, real clip, const struct optim_opts *o) {
    real *restrict m = state[0], *restrict v = state[1];
    const real b1 = (real)o->beta1, b2 = (real)o->beta2, eps = (real)o->eps;
    const real keep = (real)(1 - o->lr * o->weight_decay);
    const real rate = (real)(o->lr / (1 - pow(o->beta1, (double)step)));
    const real root = (real)(1 / sqrt(1 - pow(o->beta2, (double)step)));
    SIMD
    for (size_t i = 0; i < n; i++) {
        real gi = clip * g[i];
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        w[i] = keep * w[i] - rate * m[i] / (SQRT(v[i]) * root + eps);
    }
}

KERNEL static void sgd(real *restrict w, const real *restrict g, real *const *state, size_t n,
                       int64_t step, real clip, const struct optim_opts *o) {
    (void)step;
    real *restrict m = state[0];
    const real mu = (real)o->momentum, lr = (real)o->lr, wd = (real)o->weight_decay;
    SIMD
    for (size_t i = 0; i < n; i++) {
        m[i] = mu * m[i] + clip * g[i];
        w[i] -= lr * (m[i] + wd * w[i]);
    }
}

const struct optim_kind optim_table[] = {
    {"adamw", "Adam with decoupled weight decay", 2, adamw},
    {"sgd", "gradient descent with momentum and decoupled weight decay", 1, sgd},
    {0},
};

const struct optim_kind *optim_find(const char *name) {
    for (const struct optim_kind *k = optim_table; k->name; k++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

const char *optim_name_at(int i) {
    return i >= 0 && i < (int)ARRAY_LEN(optim_table) ? optim_table[i].name : NULL;
}

/* ---- moments ---- */

struct optim {
    const struct optim_kind *kind;
    size_t count;                           // trainable entries
    real *moment[MAX_MOMENTS];              // [count] each
};

struct optim *optim_new(const struct optim_kind *kind, const struct model *m) {
    if (kind->moments > MAX_MOMENTS)
        BUG("optimizer %s: %d moments, at most %d", kind->name, kind->moments, MAX_MOMENTS);
    struct optim *o = xcalloc(1, sizeof *o);
    o->kind = kind;
    o->count = m->grad_count;
    for (int k = 0; k < kind->moments; k++)
        o->moment[k] = xcalloc(o->count, sizeof(real));
    return o;
}

void optim_free(struct optim *o) {
    if (!o)
        return;
    for (int k = 0; k < MAX_MOMENTS; k++)
        free(o->moment[k]);
    free(o);
}

size_t optim_state_bytes(const struct optim *o) {
    return (size_t)o->kind->moments * o->count * sizeof(real);
}

real *optim_moment(struct optim *o, int k) {
    if (k < 0 || k >= o->kind->moments)
        BUG("optimizer %s has no moment %d", o->kind->name, k);
    return o->moment[k];
}

/* ---- the norm ---- */

KERNEL static double sum_squares(const real *g, size_t n) {
    double s = 0;
    SIMD_SUM(s) for (size_t i = 0; i < n; i++) s += (double)g[i] * (double)g[i];
    return s;
}

double grad_norm(const struct model *m) {
    size_t blocks = (m->grad_count + NORM_BLOCK - 1) / NORM_BLOCK;
    double *part = xcalloc(blocks, sizeof *part);
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < blocks; b++) {
        size_t at = b * NORM_BLOCK;
        part[b] = sum_squares(m->grad_block + at, MIN((size_t)NORM_BLOCK, m->grad_count - at));
    }
    double sum = 0;                         // in block order, whoever computed them
    for (size_t b = 0; b < blocks; b++)
        sum += part[b];
    free(part);
    return sqrt(sum);
}

/* ---- one update ---- */

struct step_args {
    struct optim *o;
    int64_t step;
    real clip;
    const struct optim_opts *opts;
};

/* Entries [at, at + n) of the flat trainable vector, whose weights are contiguous at w. */
static void update_run(const struct step_args *a, real *w, const real *g, size_t at, size_t n) {
    real *state[MAX_MOMENTS] = {0};
    for (int k = 0; k < a->o->kind->moments; k++)
        state[k] = a->o->moment[k] + at;
    a->o->kind->update(w, g, state, n, a->step, a->clip, a->opts);
}

/* The live columns of one row, or entries of a vector, are scattered: gather, update, scatter. */
static void update_cols(const struct step_args *a, real *row, const int32_t *live, int nlive,
                        const real *g, size_t at) {
    real w[COLS_BUFFER];
    for (int c = 0; c < nlive; c += COLS_BUFFER) {
        int n = MIN(COLS_BUFFER, nlive - c);
        for (int i = 0; i < n; i++)
            w[i] = row[live[c + i]];
        update_run(a, w, g + c, at + (size_t)c, (size_t)n);
        for (int i = 0; i < n; i++)
            row[live[c + i]] = w[i];
    }
}

/* at: where the parameter's entries begin in the flat trainable vector. */
static void update_param(const struct step_args *a, struct param *p, size_t at) {
    real *w = tensor_data(&p->t);
    const struct freeze *f = &p->freeze;
    int64_t rows = tensor_rows(&p->t);
    size_t cols = (size_t)tensor_cols(&p->t);
    if (f->kind == FREEZE_NONE) {
        size_t pieces = (p->grad_count + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < pieces; i++) {
            size_t from = i * PIECE, n = MIN((size_t)PIECE, p->grad_count - from);
            update_run(a, w + from, p->grad + from, at + from, n);
        }
    } else if (f->kind == FREEZE_ROWS && cols == 1) {       // a vector: rows are its entries
        update_cols(a, w, f->live, f->nlive, p->grad, at);
    } else if (f->kind == FREEZE_ROWS) {
#pragma omp parallel for schedule(static)
        for (int i = 0; i < f->nlive; i++) {
            size_t from = (size_t)i * cols;
            update_run(a, w + (size_t)f->live[i] * cols, p->grad + from, at + from, cols);
        }
    } else if (f->kind == FREEZE_COLS) {
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            size_t from = (size_t)r * (size_t)f->nlive;
            update_cols(a, w + (size_t)r * cols, f->live, f->nlive, p->grad + from, at + from);
        }
    }
}

void optim_step(struct optim *o, struct model *m, int64_t step, double clip,
                const struct optim_opts *opts) {
    if (o->count != m->grad_count)
        BUG("optimizer of %zu entries on a model with %zu trainable", o->count, m->grad_count);
    struct step_args a = {o, step, (real)clip, opts};
    for (int i = 0; i < m->nparams; i++) {
        struct param *p = &m->params[i];
        if (p->grad)
            update_param(&a, p, (size_t)(p->grad - m->grad_block));
    }
}

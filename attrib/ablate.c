/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * ablate.c — a mask as a replacing tap, and what it does to refusal and utility.
 *
 * Removing a unit means that what reads it sees a constant: its columns of mlp.hidden or
 * attn.heads are overwritten before the output matrix reads them, whatever its layout. That equals
 * zeroing the unit's columns of the matrix (and, for means, adding FLAP's bias sum_j mean_j W[:,j])
 * without touching a weight, so that a measurement cannot damage the checkpoint and costs nothing
 * to undo. The columns are expanded once; an empty set writes nothing and leaves every bit as it
 * was.
 *
 * Losses and margins are those of train/eval.h, whose items have the figure as their mean: an
 * effect is the mean of the paired changes, prompt by prompt, far sharper than the difference of
 * two intervals.
 */
#include "attrib/ablate.h"

#include <math.h>
#include <stdlib.h>

/* ---- the tap ---- */

struct cut {                                /* of one tap in one layer */
    int n;
    int32_t *cols;                          /* [n] */
    real *values;                           /* [n] */
};
struct ablation {
    int layers;
    struct cut *mlp, *attn;                 /* [L] each */
};

static void cut_add(struct cut *c, int first, int n, const double *mean) {
    c->cols = xreallocarray(c->cols, (size_t)(c->n + n), sizeof *c->cols);
    c->values = xreallocarray(c->values, (size_t)(c->n + n), sizeof *c->values);
    for (int j = first; j < first + n; j++, c->n++) {
        c->cols[c->n] = j;
        c->values[c->n] = mean ? (real)mean[j] : 0;
    }
}

struct ablation *ablation_new(const struct mask *m, const struct act_stats *means) {
    struct ablation *a = xcalloc(1, sizeof *a);
    a->layers = m->map.layers;
    a->mlp = xcalloc((size_t)a->layers, sizeof *a->mlp);
    a->attn = xcalloc((size_t)a->layers, sizeof *a->attn);
    if (means && means->layers != a->layers)
        BUG("ablation_new: means of %d layers for %d", means->layers, a->layers);
    for (int i = 0; i < m->map.count; i++) {
        if (!m->in[i])
            continue;
        struct unit u = unit_at(&m->map, i);
        bool mlp = unit_kind_table[u.kind].tap == TAP_MLP_HIDDEN;
        const struct channel_stats *cs =
            !means ? NULL : mlp ? &means->mlp[u.layer] : &means->attn[u.layer];
        int first, n;
        unit_columns(&m->map, u, &first, &n);
        cut_add(mlp ? &a->mlp[u.layer] : &a->attn[u.layer], first, n, cs ? cs->mean : NULL);
    }
    return a;
}

void ablation_free(struct ablation *a) {
    if (!a)
        return;
    for (int l = 0; l < a->layers; l++) {
        free(a->mlp[l].cols);
        free(a->mlp[l].values);
        free(a->attn[l].cols);
        free(a->attn[l].values);
    }
    free(a->mlp);
    free(a->attn);
    free(a);
}

static void ablation_tap(void *ctx, enum tap_point point, int layer, struct node *n) {
    const struct ablation *a = ctx;
    const struct cut *c = point == TAP_MLP_HIDDEN ? &a->mlp[layer] : &a->attn[layer];
    int64_t rows = tensor_rows(&n->t), cols = tensor_cols(&n->t);
    for (int64_t t = 0; t < rows; t++) {
        real *x = tensor_data(&n->t) + t * cols;
        for (int j = 0; j < c->n; j++)
            x[c->cols[j]] = c->values[j];
    }
}

void ablation_attach(struct ablation *a, struct graph *g) {
    graph_tap_add(g, &(struct tap){.fn = ablation_tap, .ctx = a, .replaces = true,
                                   .points = 1u << TAP_MLP_HIDDEN | 1u << TAP_ATTN_HEADS});
}

/* ---- what it does ---- */

struct ablation_bench {
    struct graph *g;
    struct model *m;
    struct eval_sets sets;                  /* a borrowed view: only what is measured here */
    struct evaluation dense;
};

static int bench_evaluate(struct ablation_bench *b, struct evaluation *out, struct err *e) {
    return evaluate(b->g, b->m, &b->sets, &(struct eval_opts){.what = EVAL_GRADED}, out, e);
}

struct ablation_bench *ablation_bench_new(struct graph *g, struct model *m,
                                          const struct eval_sets *sets, struct err *e) {
    struct ablation_bench *b = xcalloc(1, sizeof *b);
    b->g = g;
    b->m = m;
    b->sets = (struct eval_sets){
        .harmful = sets->harmful, .refusals = sets->refusals, .utility = sets->utility,
        .refusal_tokens = sets->refusal_tokens, .nrefusal_tokens = sets->nrefusal_tokens,
    };
    graph_tap_clear(g);
    if (bench_evaluate(b, &b->dense, e) != 0) {
        ablation_bench_free(b);
        return NULL;
    }
    return b;
}

void ablation_bench_free(struct ablation_bench *b) {
    if (!b)
        return;
    evaluation_release(&b->dense);
    free(b);
}

static struct interval figure_interval(const struct figure *f) {
    if (f->n == 0)
        return (struct interval){NAN, NAN, NAN, 0};
    return (struct interval){f->value, f->lo, f->hi, f->n};
}

static struct interval figure_change(const struct figure *now, const struct figure *dense) {
    if (dense->n == 0 || now->n != dense->n)
        return (struct interval){NAN, NAN, NAN, 0};
    return stats_paired(now->items, dense->items, dense->n, NULL);
}

struct ablation_effect ablation_dense(const struct ablation_bench *b) {
    const struct figure *f = b->dense.fig;
    return (struct ablation_effect){figure_interval(&f[FIG_REFUSAL_LOSS]),
                                    figure_interval(&f[FIG_UTILITY_LOSS]),
                                    figure_interval(&f[FIG_LOGODDS])};
}

struct ablation_effect ablation_run(struct ablation_bench *b, const struct mask *m,
                                    const struct act_stats *means) {
    struct evaluation now = {0};
    struct err e = {0};
    struct ablation *a = ablation_new(m, means);
    graph_tap_clear(b->g);
    ablation_attach(a, b->g);
    if (bench_evaluate(b, &now, &e) != 0)   // leaves no figure: the effect is NaN throughout
        log_warn("%d units removed: %s", mask_count(m), e.msg);
    graph_tap_clear(b->g);
    ablation_free(a);
    const struct figure *f = now.fig, *d = b->dense.fig;
    struct ablation_effect r = {
        figure_change(&f[FIG_REFUSAL_LOSS], &d[FIG_REFUSAL_LOSS]),
        figure_change(&f[FIG_UTILITY_LOSS], &d[FIG_UTILITY_LOSS]),
        figure_change(&f[FIG_LOGODDS], &d[FIG_LOGODDS]),
    };
    evaluation_release(&now);
    return r;
}

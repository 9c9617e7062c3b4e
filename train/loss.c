/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * loss.c — the table of training objectives.
 *
 * A loss asks the model for the final hidden states, gathers the rows that predict a learnt token
 * and hands only those to the output layer, whose logits live in chunks (op.h): memory is a matter
 * of model width, never of tokens x vocabulary (trl#3168). Everything is a sum divided by the
 * divisor of the whole update, which the caller knows beforehand; a mean over the micro-batch would
 * weight tokens by the company they keep (trl#2175, torchtune#2334).
 *
 * Preference losses are written on the tape from sequence log-probabilities, so their gradients
 * follow; tests/grad_loss.c holds them against the closed forms of loss.h.
 */
#include "train/loss.h"

#include <math.h>
#include <string.h>

/* The positions of a packed batch that are learnt, as plain lists in the step's arena. */
struct learnt {
    int32_t *rows;                          // [n] token positions whose next token is learnt
    int32_t *labels;                        // [n] those next tokens
    int32_t *offsets;                       // [S+1] where each sequence's positions begin
    int n;
};

static struct learnt find_learnt(struct graph *g, const struct packed *p) {
    struct arena *a = graph_arena(g);
    size_t bytes = (size_t)p->ncarry * sizeof(int32_t);
    struct learnt l = {
        .rows = arena_alloc(a, bytes),
        .labels = arena_alloc(a, bytes),
        .offsets = arena_alloc(a, ((size_t)p->batch.nseq + 1) * sizeof(int32_t)),
    };
    for (int s = 0; s < p->batch.nseq; s++) {
        l.offsets[s] = l.n;
        for (int t = p->offsets[s]; t < p->offsets[s + 1]; t++)
            if (p->labels[t] != LABEL_IGNORE) {
                l.rows[l.n] = t;
                l.labels[l.n++] = p->labels[t];
            }
    }
    l.offsets[p->batch.nseq] = l.n;
    if (l.n != p->ncarry)
        BUG("packed batch: %d labels, expected %d", l.n, p->ncarry);
    return l;
}

/* [n,C] final hidden states that predict a learnt token. */
static struct node *learnt_hidden(struct graph *g, struct model *m, const struct packed *p,
                                  const struct learnt *l) {
    return g_rows(g, model_hidden(g, m, &p->batch, NULL), l->rows, l->n);
}

static real *constants(struct graph *g, size_t n, double value) {
    real *c = arena_alloc(graph_arena(g), n * sizeof *c);
    for (size_t i = 0; i < n; i++)
        c[i] = (real)value;
    return c;
}

/* ---- sft: L = - sum_t log pi(y_t) / N ---- */

static struct node *sft_build(struct graph *g, struct model *m, const struct packed *p,
                              const real *ref, const struct loss_opts *o, struct loss_stats *st) {
    (void)ref;
    struct learnt l = find_learnt(g, p);
    const real *weight = constants(g, (size_t)l.n, 1 / o->divisor);
    struct node *h = learnt_hidden(g, m, p, &l);
    struct node *loss = g_linear_cross_entropy(g, h, model_head(g, m), l.labels, weight);
    st->loss += (double)tensor_data(&loss->t)[0];
    st->tokens += l.n;
    st->correct += linear_cross_entropy_hits(loss);
    return loss;
}

/* ---- sigmoid: DPO and cDPO ---- */

struct node *sequence_logprobs(struct graph *g, struct model *m, const struct packed *p) {
    struct learnt l = find_learnt(g, p);
    struct node *h = learnt_hidden(g, m, p, &l);
    struct node *lp = g_linear_logprob(g, h, model_head(g, m), l.labels);
    return g_segment_sum(g, lp, l.offsets, p->batch.nseq);
}

/* Rows first .. first + n - 1 of x[S]: [n,1]. */
static struct node *slice(struct graph *g, struct node *x, int first, int n) {
    int32_t *idx = arena_alloc(graph_arena(g), (size_t)n * sizeof *idx);
    for (int i = 0; i < n; i++)
        idx[i] = first + i;
    return g_rows(g, x, idx, n);
}

/* Sums of what TRL reports. lp: [S] policy, chosen first; ref: [S]. */
static void pair_stats(const real *lp, const real *ref, int pairs, double beta,
                       struct loss_stats *st) {
    for (int i = 0; i < pairs; i++) {
        double a = (double)lp[i], b = (double)lp[pairs + i];
        double chosen = beta * (a - (double)ref[i]);
        double rejected = beta * (b - (double)ref[pairs + i]);
        st->reward_chosen += chosen;
        st->reward_rejected += rejected;
        st->reward_correct += chosen > rejected;
        st->reward_most = fmax(st->reward_most, fmax(fabs(chosen), fabs(rejected)));
        st->logp_chosen += a;
        st->logp_rejected += b;
    }
    st->pairs += pairs;
}

/* log pi - log pi_ref of every sequence: [S]. */
static struct node *log_ratios(struct graph *g, struct node *lp, const real *ref) {
    real *minus = constants(g, lp->t.count, 0);
    for (size_t i = 0; i < lp->t.count; i++)
        minus[i] = -ref[i];
    struct tensor t = tensor_view(minus, lp->t.ndim, lp->t.shape);
    return g_add(g, lp, node_leaf(g, t, false));
}

static struct node *sigmoid_build(struct graph *g, struct model *m, const struct packed *p,
                                  const real *ref, const struct loss_opts *o,
                                  struct loss_stats *st) {
    int pairs = p->batch.nseq / 2;
    size_t n = (size_t)pairs;
    struct node *lp = sequence_logprobs(g, m, p);
    struct node *ratio = log_ratios(g, lp, ref);
    struct node *u = slice(g, ratio, 0, pairs), *v = slice(g, ratio, pairs, pairs);
    struct node *s = g_scale(g, g_add(g, u, g_scale(g, v, -1)), (real)o->beta);     // beta z
    double e = o->label_smoothing;
    struct node *loss = g_weighted_sum(g, g_log_sigmoid(g, s),
                                       constants(g, n, -(1 - e) / o->divisor));
    if (e > 0) {
        struct node *flipped = g_log_sigmoid(g, g_scale(g, s, -1));
        loss = g_add(g, loss, g_weighted_sum(g, flipped, constants(g, n, -e / o->divisor)));
    }
    st->loss += (double)tensor_data(&loss->t)[0];
    st->tokens += p->ncarry;
    pair_stats(tensor_data(&lp->t), ref, pairs, o->beta, st);
    return loss;
}

static double sigmoid_at_reference(const struct loss_opts *o) {
    (void)o;
    return M_LN2;
}

/* ---- the table ---- */

const struct loss loss_table[] = {
    {"sft", "next-token loss on the answers", "-sum_t log pi(y_t) / learnt tokens of the update",
     NEED_COMPLETION, false, sft_build, NULL},
    {"sigmoid", "DPO: prefer chosen to rejected, against a reference",
     "mean of -(1-e) log sigma(beta z) - e log sigma(-beta z), z = (a - a0) - (b - b0), sums of "
     "log-probs; e = label_smoothing", NEED_PAIR, true, sigmoid_build,
     sigmoid_at_reference},
    {0},
};

const struct loss *loss_find(const char *name) {
    for (const struct loss *l = loss_table; l->name; l++)
        if (strcmp(l->name, name) == 0)
            return l;
    return NULL;
}

const char *loss_name_at(int i) {
    return i >= 0 && i < (int)ARRAY_LEN(loss_table) ? loss_table[i].name : NULL;
}

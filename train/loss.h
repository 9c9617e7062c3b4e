/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * loss.h — training objectives over a packed batch: one row each.
 *
 * Notation (spec of TRL): a, b = sum over completion tokens of log pi(token) for chosen, rejected;
 * a0, b0 the same under the reference; u = a - a0, v = b - b0, z = u - v; sigma the logistic.
 *   sft      L = - sum_t log pi(y_t) / N          N: learnt tokens of the whole update
 *   sigmoid  L = mean over pairs of -(1-e) log sigma(beta z) - e log sigma(-beta z)
 *            dL/du = -beta (sigma(-beta z) - e) / pairs,  dL/dv = -dL/du   (DPO, arXiv 2305.18290
 *            eq. 7; e = label_smoothing, cDPO)
 * The divisor is that of the whole update, not of the micro-batch, so k micro-batches of b equal
 * one batch of k b.
 */
#ifndef KEEL_LOSS_H
#define KEEL_LOSS_H

#include "model/model.h"
#include "train/data.h"

struct loss_opts {
    double beta, label_smoothing;
    double divisor;                         /* learnt tokens (sft), pairs (sigmoid) of the update */
};
/* Sums over a micro-batch, to be added up over the update and divided at the end. */
struct loss_stats {
    double loss;                            /* already divided by opts->divisor */
    double tokens, pairs, correct;          /* learnt tokens; pairs; argmax hits (sft) if counted */
    double reward_chosen, reward_rejected, reward_correct, logp_chosen, logp_rejected;  /* sums */
    double reward_most;                     /* largest |reward| */
};
struct loss {
    const char *name, *help, *formula;
    enum data_need need;                    /* NEED_COMPLETION or NEED_PAIR */
    bool needs_ref;
    /* Builds the scalar loss node [1]. ref: [S] reference log-probs of the batch's sequences (sums
     * over learnt tokens), or NULL. */
    struct node *(*build)(struct graph *g, struct model *m, const struct packed *p, const real *ref,
                          const struct loss_opts *o, struct loss_stats *st);
    /* Its value where policy = reference, for the self-test at step 0; NULL: needs no reference. */
    double (*at_reference)(const struct loss_opts *o);
};
extern const struct loss loss_table[];      /* ends with name == NULL */
const struct loss *loss_find(const char *name);
const char *loss_name_at(int i);            /* for the key table; NULL past the end */

/* Sum of log-probs of the learnt tokens of each sequence: [S]. */
struct node *sequence_logprobs(struct graph *g, struct model *m, const struct packed *p);
#endif

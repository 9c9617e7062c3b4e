/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * trainer_impl.h — what the files of the trainer share: trainer.c (the loop), trainer_log.c (lines
 * for people and metrics.jsonl), trainer_state.c (checkpoints).
 */
#ifndef KEEL_TRAINER_IMPL_H
#define KEEL_TRAINER_IMPL_H

#include "train/metrics.h"
#include "train/trainer.h"

/* Sums since the last line of metrics.jsonl. */
struct window {
    struct loss_stats st;                   /* st.loss: sum over updates */
    double updates;
};

struct trainer {
    const struct config *cfg;
    struct model *m;
    const struct dataset *train, *eval;     /* eval NULL: none */
    struct metrics *log;
    bool quiet;
    struct trainer_hooks hooks;

    const struct loss *loss;
    const struct sched_kind *sched;
    const struct optim_kind *kind;
    struct optim *opt;
    struct graph *g;
    struct packed packed;
    const struct example **batch;           /* rows of the micro-batch, for packing */

    int64_t steps_per_epoch, total, warmup, step;
    int *order, order_epoch;                /* of the epoch that `order` holds; -1: none */
    uint64_t tokens;
    real *ref_train, *ref_eval;             /* [n,2] log-probs of chosen and rejected; or NULL */
    bool have_ref;

    struct window window;
    double last_norm, last_lr;              /* of the last update */
    double last_loss, last_eval_loss;       /* of the last lines; NaN: none */
    struct progress progress;
    uint64_t session_tokens;
};

/* trainer_log.c */
void trainer_log_memory(const struct trainer *t);
int trainer_log_update(struct trainer *t, struct err *e) MUST_CHECK;    /* closes the window */
int trainer_log_eval(struct trainer *t, const struct loss_stats *st, struct err *e) MUST_CHECK;
/* Writes the line of a failed update, and *e; returns -1. */
int trainer_log_nonfinite(struct trainer *t, const char *what, double loss, double norm,
                          struct err *e);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * trainer.h — the training loop: accumulate, clip, step, log, evaluate, save, resume.
 *
 * Everything that a run depends on is (config, parent folder, data, seed): same inputs, same bytes,
 * for any number of threads and however often it was interrupted.
 *
 *     struct trainer *t = trainer_new(cfg, model, train, eval, &hooks, &err);
 *     if (trainer_run(t, &err) == 0) ...
 *     trainer_free(t);
 */
#ifndef KEEL_TRAINER_H
#define KEEL_TRAINER_H

#include "train/data.h"
#include "train/loss.h"
#include "train/optim.h"

struct trainer;

struct metrics;                             /* metrics.h: JSONL log; NULL: none */

struct trainer_hooks {
    /* After update `step` (and at 0, before the first); return -1 to stop with *e. May evaluate and
     * save through trainer_state_save. NULL: none. */
    int (*after_step)(void *ctx, struct trainer *t, int64_t step, struct err *e);
    void *ctx;
};
/* model: freezes set by the caller; gradients are allocated here. Borrowed: model, data, cfg.
 * log: metrics.jsonl writer or NULL. quiet: no progress line. */
struct trainer *trainer_new(const struct config *cfg, struct model *m, const struct dataset *train,
                            const struct dataset *eval, struct metrics *log, bool quiet,
                            const struct trainer_hooks *hooks, struct err *e) MUST_CHECK;
void trainer_free(struct trainer *t);       /* NULL is allowed */
void trainer_set_log(struct trainer *t, struct metrics *log);   /* once the resumed step is known */
/* Runs to the last update. -1 and *e: a hook failed, or the loss or gradient was not finite (the
 * message names the update, micro-batch and rows; parameters are those before it). */
int trainer_run(struct trainer *t, struct err *e) MUST_CHECK;

int64_t trainer_step(const struct trainer *t);          /* updates done */
int64_t trainer_total_steps(const struct trainer *t);
uint64_t trainer_tokens(const struct trainer *t);       /* trained on so far */
double trainer_loss(const struct trainer *t);           /* of the last line logged; NaN: none */
double trainer_eval_loss(const struct trainer *t);      /* of the last evaluation; NaN: none */

/* What a checkpoint needs to go on bit for bit: parameters, moments, reference log-probs (computed
 * once, before the first update), sums of the open logging window, and what the run was: a state of
 * another run (data, freeze, a key that matters) is refused by name. Arrays stay borrowed by s. */
struct state;
void trainer_state_save(const struct trainer *t, struct state *s);
int trainer_state_load(struct trainer *t, const struct state *s, struct err *e) MUST_CHECK;
#endif

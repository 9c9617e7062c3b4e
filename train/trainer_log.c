/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * trainer_log.c — what the trainer says: memory before the start, lines of metrics.jsonl.
 *
 * Names and meanings are TRL's: rewards and log-probs are means over the pairs of the window, logps
 * are sums over completion tokens, accuracies count reward_chosen > reward_rejected strictly (0 at
 * the start, where both are 0), grad_norm is before clipping and over trainable entries. Ratios are
 * taken once, of sums over the whole window, so accumulation cannot distort them (trl#7047).
 */
#include <math.h>
#include <string.h>

#include "train/trainer_impl.h"

static double token_accuracy(const struct loss_stats *s) { return s->correct / s->tokens; }
static double reward_chosen(const struct loss_stats *s) { return s->reward_chosen / s->pairs; }
static double reward_rejected(const struct loss_stats *s) { return s->reward_rejected / s->pairs; }
static double reward_accuracy(const struct loss_stats *s) { return s->reward_correct / s->pairs; }
static double reward_margin(const struct loss_stats *s) {
    return (s->reward_chosen - s->reward_rejected) / s->pairs;
}
static double logp_chosen(const struct loss_stats *s) { return s->logp_chosen / s->pairs; }
static double logp_rejected(const struct loss_stats *s) { return s->logp_rejected / s->pairs; }

/* Figures that are made of the sums; eval lines carry the second name. */
static const struct figure_row {
    const char *name, *eval_name;
    enum data_need need;
    double (*value)(const struct loss_stats *s);
} figures[] = {
    {"mean_token_accuracy", "eval_mean_token_accuracy", NEED_COMPLETION, token_accuracy},
    {"rewards/chosen", "eval_rewards/chosen", NEED_PAIR, reward_chosen},
    {"rewards/rejected", "eval_rewards/rejected", NEED_PAIR, reward_rejected},
    {"rewards/accuracies", "eval_rewards/accuracies", NEED_PAIR, reward_accuracy},
    {"rewards/margins", "eval_rewards/margins", NEED_PAIR, reward_margin},
    {"logps/chosen", "eval_logps/chosen", NEED_PAIR, logp_chosen},
    {"logps/rejected", "eval_logps/rejected", NEED_PAIR, logp_rejected},
};

struct line {
    struct metric v[16];
    int n;
};

static void add(struct line *l, const char *name, double value) {
    if (l->n == (int)ARRAY_LEN(l->v))
        BUG("metrics line is full at %s", name);
    l->v[l->n++] = (struct metric){name, value};
}

static void add_figures(struct line *l, const struct trainer *t, const struct loss_stats *st,
                        bool eval) {
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        if (figures[i].need == t->loss->need)
            add(l, eval ? figures[i].eval_name : figures[i].name, figures[i].value(st));
}

static double epoch(const struct trainer *t) {
    return (double)t->step / (double)t->steps_per_epoch;
}

int trainer_log_update(struct trainer *t, struct err *e) {
    const struct window *w = &t->window;
    struct line l = {0};
    t->last_loss = w->st.loss / w->updates;
    add(&l, "loss", t->last_loss);
    add(&l, "grad_norm", t->last_norm);
    add(&l, "learning_rate", t->last_lr);
    add(&l, "epoch", epoch(t));
    add(&l, "num_tokens", (double)t->tokens);
    add_figures(&l, t, &w->st, false);
    t->window = (struct window){0};
    return metrics_write(t->log, t->step, l.v, l.n, e);
}

int trainer_log_eval(struct trainer *t, const struct loss_stats *st, struct err *e) {
    struct line l = {0};
    t->last_eval_loss = st->loss;
    add(&l, "eval_loss", st->loss);
    add(&l, "epoch", epoch(t));
    add_figures(&l, t, st, true);
    if (!t->quiet)
        log_verbose("step %lld: eval_loss %.4f", (long long)t->step, st->loss);
    return metrics_write(t->log, t->step, l.v, l.n, e);
}

int trainer_log_nonfinite(struct trainer *t, const char *where, double loss, double norm,
                          struct err *e) {
    struct line l = {0};
    struct err ignored = {0};
    add(&l, "loss", loss);
    if (!isfinite(norm))
        add(&l, "grad_norm", norm);
    if (metrics_write(t->log, t->step + 1, l.v, l.n, &ignored) != 0)
        log_warn("%s", ignored.msg);
    return err_set(e, "update %lld, %s: expected finite numbers, got loss %g%s (hint: a smaller "
                      "learning_rate; the parameters are those after update %lld)",
                   (long long)t->step + 1, where, loss,
                   isfinite(norm) ? "" : " and a gradient norm that is not", (long long)t->step);
}

void trainer_log_memory(const struct trainer *t) {
    if (t->quiet)
        return;
    const struct model *m = t->m;
    const double mb = 1.0 / (1 << 20);
    double frozen = (double)(m->count - m->grad_count);
    double entry = (1.0 + t->kind->moments) * sizeof(real);
    log_info("memory: parameters %.1f MiB, gradients %.1f MiB, %s moments %.1f MiB",
             (double)m->count * sizeof(real) * mb, (double)m->grad_count * sizeof(real) * mb,
             t->kind->name, (double)optim_state_bytes(t->opt) * mb);
    if (frozen > 0)
        log_info("frozen: %.0f of %zu entries (%.1f %%), which saves %.1f MiB of gradients and "
                 "moments", frozen, m->count, 100 * frozen / (double)m->count, frozen * entry * mb);
    log_info("%s: %d rows, %zu tokens, %zu learnt; %lld updates of up to %d rows; loss: %s",
             t->loss->name, t->train->n, t->train->tokens, t->train->learnt, (long long)t->total,
             t->cfg->per_device_train_batch_size * t->cfg->gradient_accumulation_steps,
             t->loss->formula);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * trainer.c — the training loop.
 *
 * An epoch of n rows is ceil(n / b) micro-batches of b rows, an update is k of them (the last of an
 * epoch may be shorter, nothing is left out). Which rows an update uses is arithmetic on its number
 * and the keyed order of its epoch, so there is no cursor to save and resuming in the middle of an
 * epoch cannot replay or skip rows (accelerate#4071). The divisor of the loss is summed over the
 * whole update beforehand: k micro-batches of b are one batch of k b, to rounding.
 *
 * Reference log-probabilities are computed once, in the micro-batches of the first epoch: the first
 * update then runs the same kernels on the same shapes, and policy = reference must hold to the
 * last bit (rewards exactly 0); anything else is a broken setup and stops the run before it starts.
 *
 * The norm for clipping and the optimizer see the compact block of trainable gradients alone. A
 * loss or norm that is not finite stops the run before the parameters are touched.
 */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer_impl.h"

/* ---- plan ---- */

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int plan(struct trainer *t, struct err *e) {
    const struct config *c = t->cfg;
    int64_t micro = ceil_div(t->train->n, c->per_device_train_batch_size);
    t->steps_per_epoch = ceil_div(micro, c->gradient_accumulation_steps);
    t->total = c->max_steps >= 0 ? c->max_steps
                                 : (int64_t)ceil(c->num_train_epochs * (double)t->steps_per_epoch);
    double share = c->warmup_steps < 1 ? MAX(c->warmup_steps, c->warmup_ratio) : 0;
    t->warmup = (int64_t)ceil(share > 0 ? share * (double)t->total : c->warmup_steps);
    if (t->warmup && strcmp(t->sched->name, "constant") == 0)
        return err_set(e, "lr_scheduler_type: constant has no warm-up, got %lld updates "
                          "(hint: constant_with_warmup)", (long long)t->warmup);
    if (t->warmup > t->total)
        return err_set(e, "warmup_steps: expected at most the %lld updates of the run, got %lld",
                       (long long)t->total, (long long)t->warmup);
    return 0;
}

static int check_data(const struct trainer *t, const struct dataset *d, struct err *e) {
    bool pairs = t->loss->need == NEED_PAIR;
    for (int i = 0; i < d->n; i++) {
        const struct example *x = &d->ex[i];
        if (!x->a.ncarry || (pairs && !x->b.ncarry))
            return err_set(e, "%s:%d: expected a row that loss %s can learn from", x->file, x->line,
                           t->loss->name);
    }
    return dataset_fits(d, &t->m->cfg, e);
}

struct trainer *trainer_new(const struct config *cfg, struct model *m, const struct dataset *train,
                            const struct dataset *eval, struct metrics *log, bool quiet,
                            const struct trainer_hooks *hooks, struct err *e) {
    struct trainer *t = xcalloc(1, sizeof *t);
    t->cfg = cfg;
    t->m = m;
    t->train = train;
    t->eval = eval;
    t->log = log;
    t->quiet = quiet;
    if (hooks)
        t->hooks = *hooks;
    t->loss = &loss_table[cfg->loss_type];
    t->sched = &sched_table[cfg->lr_scheduler_type];
    t->kind = &optim_table[cfg->optim];
    t->order_epoch = -1;
    t->last_loss = t->last_eval_loss = NAN;
    model_grad_alloc(m);
    if (!m->grad_count) {
        err_set(e, "nothing is trainable: every parameter is frozen (hint: freeze.classes, "
                   "freeze.train_other)");
        goto fail;
    }
    if (plan(t, e) != 0 || check_data(t, train, e) != 0 || (eval && check_data(t, eval, e) != 0))
        goto fail;
    t->opt = optim_new(t->kind, m);
    t->g = graph_new();
    t->order = xcalloc((size_t)train->n, sizeof *t->order);
    t->batch = xcalloc((size_t)MAX(cfg->per_device_train_batch_size,
                                   cfg->per_device_eval_batch_size), sizeof *t->batch);
    if (t->loss->needs_ref) {
        t->ref_train = xcalloc(2 * (size_t)train->n, sizeof *t->ref_train);
        t->ref_eval = xcalloc(2 * (size_t)(eval ? eval->n : 0), sizeof *t->ref_eval);
    }
    trainer_log_memory(t);
    return t;
fail:
    trainer_free(t);
    return NULL;
}

void trainer_free(struct trainer *t) {
    if (!t)
        return;
    optim_free(t->opt);
    graph_free(t->g);
    packed_release(&t->packed);
    free(t->batch);
    free(t->order);
    free(t->ref_train);
    free(t->ref_eval);
    free(t);
}

int64_t trainer_step(const struct trainer *t) {
    return t->step;
}

int64_t trainer_total_steps(const struct trainer *t) {
    return t->total;
}

uint64_t trainer_tokens(const struct trainer *t) {
    return t->tokens;
}

double trainer_loss(const struct trainer *t) {
    return t->last_loss;
}

double trainer_eval_loss(const struct trainer *t) {
    return t->last_eval_loss;
}

void trainer_set_log(struct trainer *t, struct metrics *log) {
    t->log = log;
}

/* ---- one micro-batch ---- */

static bool pairs(const struct trainer *t) {
    return t->loss->need == NEED_PAIR;
}

static void pack(struct trainer *t, const struct dataset *d, const int *rows, int n) {
    for (int i = 0; i < n; i++)
        t->batch[i] = &d->ex[rows[i]];
    packed_build(&t->packed, t->batch, n, pairs(t));
}

/* ref[n,2] of a dataset -> [2 n] of the batch, chosen first. */
static const real *gather_ref(struct trainer *t, const real *ref, const int *rows, int n) {
    if (!ref)
        return NULL;
    real *out = arena_alloc(graph_arena(t->g), 2 * (size_t)n * sizeof *out);
    for (int i = 0; i < n; i++) {
        out[i] = ref[2 * rows[i]];
        out[n + i] = ref[2 * rows[i] + 1];
    }
    return out;
}

/* The loss node of rows[0..n), its share of the update's (or evaluation's) divisor. */
static struct node *forward(struct trainer *t, const struct dataset *d, const real *ref,
                            const int *rows, int n, bool grad, double divisor,
                            struct loss_stats *st) {
    struct loss_opts o = {.beta = t->cfg->beta, .label_smoothing = t->cfg->label_smoothing,
                          .divisor = divisor};
    pack(t, d, rows, n);
    graph_begin(t->g, grad);
    return t->loss->build(t->g, t->m, &t->packed, gather_ref(t, ref, rows, n), &o, st);
}

/* What the loss is divided by over these rows: pairs, or learnt tokens. */
static double divisor_of(const struct trainer *t, const struct dataset *d, const int *rows, int n) {
    if (pairs(t))
        return n;
    double learnt = 0;
    for (int i = 0; i < n; i++)
        learnt += d->ex[rows[i]].a.ncarry;
    return learnt;
}

static void set_epoch(struct trainer *t, int epoch) {
    if (t->order_epoch == epoch)
        return;
    dataset_order(t->train, (uint64_t)t->cfg->seed, epoch, t->cfg->shuffle, t->order);
    t->order_epoch = epoch;
}

/* The rows of update `step`. */
static const int *update_rows(struct trainer *t, int64_t step, int *n) {
    const struct config *c = t->cfg;
    int64_t size = (int64_t)c->per_device_train_batch_size * c->gradient_accumulation_steps;
    int64_t from = step % t->steps_per_epoch * size;
    set_epoch(t, (int)(step / t->steps_per_epoch));
    *n = (int)MIN(size, t->train->n - from);
    return t->order + from;
}

/* ---- the reference ---- */

/* Log-probs of chosen and rejected for rows[0..n), in micro-batches of b. */
static void reference(struct trainer *t, const struct dataset *d, const int *rows, int n, int b,
                      real *ref) {
    for (int at = 0; at < n; at += b) {
        int k = MIN(b, n - at);
        pack(t, d, rows + at, k);
        graph_begin(t->g, false);
        const struct node *lp = sequence_logprobs(t->g, t->m, &t->packed);
        for (int i = 0; i < k; i++) {
            ref[2 * rows[at + i]] = tensor_data(&lp->t)[i];
            ref[2 * rows[at + i] + 1] = tensor_data(&lp->t)[k + i];
        }
    }
}

static int *identity(int n) {
    int *rows = xcalloc((size_t)n, sizeof *rows);
    for (int i = 0; i < n; i++)
        rows[i] = i;
    return rows;
}

static void compute_reference(struct trainer *t) {
    double start = now_seconds();
    set_epoch(t, 0);
    reference(t, t->train, t->order, t->train->n, t->cfg->per_device_train_batch_size,
              t->ref_train);
    if (t->eval) {
        int *rows = identity(t->eval->n);
        reference(t, t->eval, rows, t->eval->n, t->cfg->per_device_eval_batch_size, t->ref_eval);
        free(rows);
    }
    t->have_ref = true;
    if (!t->quiet)
        log_info("reference log-probs of %d pairs in %.1f s",
                 t->train->n + (t->eval ? t->eval->n : 0), now_seconds() - start);
}

/* Before the first update policy and reference are the same model. st: a micro-batch of n pairs. */
static int self_test(const struct trainer *t, const struct loss_stats *st, double divisor, int n,
                     struct err *e) {
    struct loss_opts o = {.beta = t->cfg->beta, .label_smoothing = t->cfg->label_smoothing,
                          .divisor = divisor};
    double expected = t->loss->at_reference(&o), got = st->loss * divisor / n;
    if (st->reward_most == 0 && fabs(got - expected) <= 1e-6 * fmax(1, fabs(expected)))
        return 0;
    return err_set(e, "self-test at step 0: policy and reference are the same model, expected all "
                      "rewards 0 and loss %.7f, got |reward| up to %g and loss %.7f",
                   expected, st->reward_most, got);
}

/* ---- one update ---- */

static void add_stats(struct loss_stats *a, const struct loss_stats *b) {
    a->loss += b->loss;
    a->tokens += b->tokens;
    a->pairs += b->pairs;
    a->correct += b->correct;
    a->reward_chosen += b->reward_chosen;
    a->reward_rejected += b->reward_rejected;
    a->reward_correct += b->reward_correct;
    a->logp_chosen += b->logp_chosen;
    a->logp_rejected += b->logp_rejected;
    a->reward_most = fmax(a->reward_most, b->reward_most);
}

/* "a.jsonl:3 a.jsonl:9 ... (8 rows)" */
static char *rows_text(const struct dataset *d, const int *rows, int n) {
    struct str b = {0};
    for (int i = 0; i < MIN(n, 8); i++)
        str_addf(&b, "%s:%d ", d->ex[rows[i]].file, d->ex[rows[i]].line);
    str_addf(&b, "%s(%d row%s)", n > 8 ? "... " : "", n, n == 1 ? "" : "s");
    return str_detach(&b);
}

static int nonfinite(struct trainer *t, const char *where, const int *rows, int n, double loss,
                     double norm, struct err *e) {
    char *text = rows_text(t->train, rows, n);
    trainer_log_nonfinite(t, where, loss, norm, e);
    size_t len = strlen(e->msg);
    snprintf(e->msg + len, sizeof e->msg - len, "; rows: %s", text);
    free(text);
    return -1;
}

/* Gradients of the update into the model; *st: sums, st->loss the update's loss. */
static int accumulate(struct trainer *t, const int *rows, int n, struct loss_stats *st,
                      struct err *e) {
    int b = t->cfg->per_device_train_batch_size;
    double divisor = divisor_of(t, t->train, rows, n);
    model_grad_zero(t->m);
    for (int at = 0; at < n; at += b) {
        int k = MIN(b, n - at);
        struct loss_stats micro = {0};
        struct node *loss = forward(t, t->train, t->ref_train, rows + at, k, true, divisor, &micro);
        if (!isfinite(micro.loss)) {
            char where[64];
            snprintf(where, sizeof where, "micro-batch %d of %d", at / b + 1, (n + b - 1) / b);
            return nonfinite(t, where, rows + at, k, micro.loss, 0, e);
        }
        if (t->step == 0 && t->loss->needs_ref && self_test(t, &micro, divisor, k, e) != 0)
            return -1;
        graph_backward(t->g, loss, 1);
        add_stats(st, &micro);
        t->tokens += (uint64_t)t->packed.batch.ntok;
        t->session_tokens += (uint64_t)t->packed.batch.ntok;
    }
    return 0;
}

static int update(struct trainer *t, struct err *e) {
    const struct config *c = t->cfg;
    int n;
    const int *rows = update_rows(t, t->step, &n);
    struct loss_stats st = {0};
    uint64_t tokens = t->tokens;
    if (accumulate(t, rows, n, &st, e) != 0) {
        t->tokens = tokens;
        return -1;
    }
    double norm = grad_norm(t->m), lr = c->learning_rate *
                  t->sched->factor(t->step, t->warmup, t->total, c->min_lr_ratio);
    if (!isfinite(norm)) {
        t->tokens = tokens;
        return nonfinite(t, "gradient", rows, n, st.loss, norm, e);
    }
    double clip = c->max_grad_norm > 0 ? MIN(1, c->max_grad_norm / (norm + 1e-6)) : 1;
    struct optim_opts o = {.lr = lr, .beta1 = c->adam_beta1, .beta2 = c->adam_beta2,
                           .eps = c->adam_epsilon, .weight_decay = c->weight_decay,
                           .momentum = c->momentum};
    optim_step(t->opt, t->m, t->step + 1, clip, &o);
    t->step++;
    add_stats(&t->window.st, &st);
    t->window.updates++;
    t->last_norm = norm;
    t->last_lr = lr;
    if (!t->quiet)
        progress_show(&t->progress, t->step, t->total, (double)t->session_tokens, st.loss, lr,
                      t->step == t->total);
    return 0;
}

/* ---- evaluation and the loop ---- */

static int evaluate_loss(struct trainer *t, struct err *e) {
    const struct dataset *d = t->eval;
    int b = t->cfg->per_device_eval_batch_size, *rows = identity(d->n);
    double divisor = divisor_of(t, d, rows, d->n);
    struct loss_stats st = {0};
    for (int at = 0; at < d->n; at += b) {
        struct loss_stats micro = {0};
        forward(t, d, t->ref_eval, rows + at, MIN(b, d->n - at), false, divisor, &micro);
        add_stats(&st, &micro);
    }
    free(rows);
    if (trainer_log_eval(t, &st, e) != 0)
        return -1;
    return isfinite(st.loss) ? 0 : err_set(e, "eval_loss after update %lld: expected a finite "
                                              "number, got %g", (long long)t->step, st.loss);
}

static bool due(int64_t step, int every, int64_t total) {
    return step == total || (every && step % every == 0);
}

static int call_hook(struct trainer *t, struct err *e) {
    return t->hooks.after_step ? t->hooks.after_step(t->hooks.ctx, t, t->step, e) : 0;
}

int trainer_run(struct trainer *t, struct err *e) {
    if (t->loss->needs_ref && !t->have_ref)
        compute_reference(t);
    int rc = t->step == 0 ? call_hook(t, e) : 0;
    if (!t->quiet)
        progress_start(&t->progress, t->loss->name, t->step);
    while (rc == 0 && t->step < t->total) {
        rc = update(t, e);
        if (rc == 0 && due(t->step, t->cfg->logging_steps, t->total))
            rc = trainer_log_update(t, e);
        if (rc == 0 && t->eval && due(t->step, t->cfg->eval_steps, t->total))
            rc = evaluate_loss(t, e);
        if (rc == 0)
            rc = call_hook(t, e);
    }
    if (!t->quiet)
        progress_end(&t->progress);
    return rc;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * compare.c — arms, and the runs of a comparison.
 *
 * The parent's parameters are in memory once; each run trains one clone. Points are measured in the
 * trainer's hook, so a run is an ordinary training run that was watched. A rewind arm has no training
 * of its own: at every point of the free run, a second clone takes the free run's parameters and the
 * parent's values for the arm's units, and is measured instead. What it shows is therefore exactly
 * "trained free, put back", on the same run as the arm `none`.
 *
 * After every run the entries that should not have moved are compared with the parent's, bit by bit:
 * an arm is only evidence if its freeze held.
 *
 * Resuming is by whole runs. A result is used again only if its key, a hash of everything that the
 * run depends on, is the same; otherwise the program stops and says so rather than mixing two
 * comparisons in one table. The spec of the protocol: SSAH (arXiv 2410.10862) with the controls that
 * its reviewers asked for: random units of the same number, equal steps, equal loss.
 */
#include "train/compare.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/sha.h"
#include "train/metrics.h"
#include "train/trainer.h"

#define C(id) (1u << UNIT_##id)
const struct arm arm_table[] = {
    {"none", "nothing frozen", 0, false, false, false, true},
    {"scu", "SCU frozen", C(SCU), false, false, false, true},
    {"scu_top_cu", "SCU and the most important CU frozen", C(SCU), true, false, false, true},
    {"scu_all_cu", "SCU and all CU frozen", C(SCU) | C(CU), false, false, false, true},
    {"rewind", "trained free, then SCU and the most important CU put back", C(SCU), true, false,
     true, true},
    {"random", "as many random units of each layer and kind as scu_top_cu frozen", C(SCU), true,
     true, false, true},
    {"ru_only", "only RU trained, all else frozen", C(SCU) | C(UCU) | C(CU), false, false, false,
     false},
    {NULL, NULL, 0, false, false, false, false},
};

const struct arm *arm_find(const char *name) {
    for (const struct arm *a = arm_table; a->name; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

struct mask arm_mask(const struct arm *a, const struct units *u, double top_cu, uint64_t seed) {
    struct mask m = mask_new(&u->map);
    for (int c = 0; c < UNIT_CLASS_COUNT; c++) {
        if (!(a->classes >> c & 1))
            continue;
        struct mask one = units_class_mask(u, (enum unit_class)c);
        mask_or(&m, &one);
        mask_release(&one);
    }
    if (a->top_cu) {
        struct mask top = units_top_cu(u, top_cu);
        mask_or(&m, &top);
        mask_release(&top);
    }
    if (a->random_like) {
        struct mask r = mask_random_like(&m, seed, "compare");
        mask_release(&m);
        m = r;
    }
    return m;
}

/* ---- did the freeze hold ---- */

static uint64_t row_changes(const real *a, const real *b, size_t n) {
    if (!memcmp(a, b, n * sizeof *a))
        return 0;
    uint64_t changed = 0;
    for (size_t i = 0; i < n; i++)
        changed += memcmp(a + i, b + i, sizeof *a) != 0;
    return changed;
}

void compare_frozen(const struct model *m, const struct model *parent, uint64_t *frozen,
                    uint64_t *changed) {
    uint64_t nfrozen = 0, nchanged = 0;
    for (int i = 0; i < m->nparams; i++) {
        const struct param *p = &m->params[i];
        const struct freeze *f = &p->freeze;
        const real *a = tensor_data(&p->t), *b = tensor_data(&parent->params[i].t);
        size_t rows = (size_t)tensor_rows(&p->t), cols = (size_t)tensor_cols(&p->t);
        if (f->kind == FREEZE_NONE)
            continue;
        if (f->kind == FREEZE_ALL) {
            nfrozen += p->t.count;
            nchanged += row_changes(a, b, p->t.count);
            continue;
        }
        int n = (int)(f->kind == FREEZE_ROWS ? rows : cols);
        for (int k = 0, live = 0; k < n; k++) {
            if (live < f->nlive && f->live[live] == k) {
                live++;
                continue;
            }
            if (f->kind == FREEZE_ROWS)
                nchanged += row_changes(a + (size_t)k * cols, b + (size_t)k * cols, cols);
            for (size_t r = 0; f->kind == FREEZE_COLS && r < rows; r++)
                nchanged += row_changes(a + r * cols + k, b + r * cols + k, 1);
            nfrozen += f->kind == FREEZE_ROWS ? cols : rows;
        }
    }
    if (frozen)
        *frozen = nfrozen;
    if (changed)
        *changed = nchanged;
}

/* ---- measuring ---- */

static struct compare_point point_of(const struct evaluation *ev, int64_t step) {
    struct compare_point p = {.step = step};
    for (int i = 0; i < FIG_COUNT; i++)
        p.value[i] = ev->fig[i].value;
    return p;
}

static void add_point(struct compare_run *r, struct compare_point p) {
    r->points = xreallocarray(r->points, (size_t)r->npoints + 1, sizeof *r->points);
    r->points[r->npoints++] = p;
}

/* Graded figures and refusal on harmful prompts: what the curves need. */
static int measure_point(struct compare *c, struct graph *g, struct model *m,
                         struct evaluation *ev, struct err *e) {
    struct eval_opts o = parent_eval_opts(&c->parent, c->cfg, EVAL_GRADED);
    if (evaluate(g, m, &c->sets, &o, ev, e))
        return -1;
    struct eval_sets harmful = {.harmful = c->sets.harmful};
    struct evaluation refusal;
    o.what = EVAL_GENERATED;
    if (evaluate(g, m, &harmful, &o, &refusal, e)) {
        evaluation_release(ev);
        return -1;
    }
    ev->fig[FIG_REFUSAL] = refusal.fig[FIG_REFUSAL];
    return 0;
}

static int measure_last(struct compare *c, struct graph *g, struct model *m, const char *name,
                        struct evaluation *ev, struct err *e) {
    struct eval_opts o = parent_eval_opts(&c->parent, c->cfg, EVAL_ALL);
    char *file = xasprintf("%s.completions.jsonl", name), *path = path_join(c->arms_dir, file);
    o.completions_path = c->cfg->eval.save_completions ? path : NULL;
    int rc = evaluate(g, m, &c->sets, &o, ev, e);
    free(path);
    free(file);
    return rc;
}

static char *run_name(const struct compare_run *r) {
    return xasprintf("%s-seed%lld", r->arm->name, (long long)r->seed);
}

static int measure_run(struct compare *c, struct compare_run *r, struct graph *g, struct model *m,
                       int64_t step, bool last, struct err *e) {
    if (step == 0 && !last) {               // nothing has moved: the parent's figures
        add_point(r, point_of(&c->at_start, 0));
        return 0;
    }
    struct evaluation ev;
    char *name = run_name(r);
    int rc = last ? measure_last(c, g, m, name, &ev, e) : measure_point(c, g, m, &ev, e);
    if (rc)
        err_prefix(e, "%s, step %lld", name, (long long)step);
    free(name);
    if (rc)
        return -1;
    add_point(r, point_of(&ev, step));
    if (last)
        r->last = ev;
    else
        evaluation_release(&ev);
    return 0;
}

/* ---- one training run and who watches it ---- */

struct job {
    struct compare *c;
    struct compare_run *own, *rewound;      /* NULL: not wanted, or done before */
    struct model *m, *copy;                 /* copy: for rewound */
    struct mask back;                       /* units that rewinding puts back */
    struct graph *g;
    int64_t every;
};

static int on_step(void *ctx, struct trainer *t, int64_t step, struct err *e) {
    struct job *j = ctx;
    int64_t total = trainer_total_steps(t);
    if (step == 0 && !j->every)
        j->every = MAX(1, total / 10);
    bool last = step == total;
    if (!last && step % j->every)
        return 0;
    if (j->own && measure_run(j->c, j->own, j->g, j->m, step, last, e))
        return -1;
    if (!j->rewound)
        return 0;
    model_copy_params(j->copy, j->m);
    mask_copy_params(&j->back, j->copy, j->c->parent.hf->model);
    return measure_run(j->c, j->rewound, j->g, j->copy, step, last, e);
}

static int finish_run(struct compare *c, struct compare_run *r, const struct model *m,
                      const struct mask *mask, const char *log_dir, uint64_t tokens,
                      double seconds, struct err *e) {
    r->unit_share = (double)mask_count(mask) / c->units->map.count;
    r->entries = m->count;
    r->tokens = tokens;
    r->seconds = seconds;
    compare_frozen(m, c->parent.hf->model, &r->frozen, &r->changed);
    if (compare_run_read_losses(r, log_dir, e))
        return -1;
    char *name = run_name(r), *file = xasprintf("%s.json", name);
    char *path = path_join(c->arms_dir, file);
    int rc = compare_run_save(r, path, e);
    r->done = rc == 0;
    free(path);
    free(file);
    free(name);
    return rc;
}

/* Trains `arm` (never a rewind arm) for j's runs. */
static int train_job(struct job *j, const struct arm *arm, int64_t seed, const char *log_dir,
                     struct err *e) {
    struct compare *c = j->c;
    const struct model *parent = c->parent.hf->model;
    double started = now_seconds();
    int rc = -1;
    struct config cfg = *c->cfg;
    cfg.seed = seed;
    struct mask mask = arm_mask(arm, c->units, cfg.compare.top_cu, (uint64_t)seed);
    struct trainer_hooks hooks = {.after_step = on_step, .ctx = j};
    struct trainer *t = NULL;
    struct metrics *log = NULL;
    j->m = model_clone(parent);
    mask_freeze(&mask, j->m, arm->train_other);
    if (j->rewound) {
        j->copy = model_clone(parent);
        j->back = arm_mask(j->rewound->arm, c->units, cfg.compare.top_cu, (uint64_t)seed);
        mask_freeze(&j->back, j->copy, true);       // marks what must equal the parent
    }
    if (dir_make(log_dir, e))
        goto out;
    log = metrics_open(log_dir, -1, e);
    if (!log)
        goto out;
    t = trainer_new(&cfg, j->m, c->train, NULL, log, !is_terminal(stderr), &hooks, e);
    if (!t || trainer_run(t, e))
        goto out;
    metrics_close(log);
    log = NULL;
    double seconds = now_seconds() - started;
    if (j->own && finish_run(c, j->own, j->m, &mask, log_dir, trainer_tokens(t), seconds, e))
        goto out;
    if (j->rewound && finish_run(c, j->rewound, j->copy, &j->back, log_dir, trainer_tokens(t),
                                 seconds, e))
        goto out;
    rc = 0;
out:
    if (rc)
        err_prefix(e, "arm %s, seed %lld", arm->name, (long long)seed);
    trainer_free(t);
    metrics_close(log);
    mask_release(&mask);
    return rc;
}

static void report_run(const struct compare_run *r, int done, int all, double left) {
    struct str b = {0};
    for (int i = 0; i < FIG_COUNT; i++)
        if (r->last.fig[i].n)
            str_addf(&b, "  %s %.3f", r->last.fig[i].name, r->last.fig[i].value);
    log_info("%d/%d %s seed %lld:%s  (%.1f s%s)", done, all, r->arm->name, (long long)r->seed,
             b.s ? b.s : "", r->seconds, r->changed ? ", frozen entries changed" : "");
    if (left > 5)
        log_info("    about %.0f s left", left);
    str_release(&b);
}

static struct compare_run *pending(struct compare *c, int seed, const char *arm) {
    int a = compare_arm_index(c, arm);
    struct compare_run *r = a < 0 ? NULL : &c->runs[seed * c->narms + a];
    return r && !r->done ? r : NULL;
}

static int count_done(const struct compare *c) {
    int n = 0;
    for (int i = 0; i < c->nseeds * c->narms; i++)
        n += c->runs[i].done;
    return n;
}

/* Trains one run of the table, and the rewound twin of a free one. */
static int run_one(struct compare *c, int seed, const struct arm *arm, struct graph *g,
                   struct err *e) {
    struct job j = {.c = c, .g = g, .every = c->cfg->eval_steps};
    j.own = pending(c, seed, arm->name);
    if (!arm->classes)
        j.rewound = pending(c, seed, "rewind");
    char *name = xasprintf("%s-seed%lld", arm->name, (long long)c->seeds[seed]);
    char *log_dir = path_join(c->arms_dir, name);
    int rc = j.own || j.rewound ? train_job(&j, arm, c->seeds[seed], log_dir, e) : 0;
    model_free(j.m);
    model_free(j.copy);
    if (j.back.in)
        mask_release(&j.back);
    free(log_dir);
    free(name);
    return rc;
}

int compare_run(struct compare *c, struct err *e) {
    struct graph *g = graph_new();
    int rc = -1, all = c->nseeds * c->narms, before = count_done(c);
    double started = now_seconds();
    struct eval_opts o = parent_eval_opts(&c->parent, c->cfg, EVAL_ALL);
    if (evaluate(g, c->parent.hf->model, &c->sets, &o, &c->at_start, e)) {
        err_prefix(e, "%s", c->cfg->model_name_or_path);
        goto out;
    }
    if (before)
        log_info("compare: %d of %d runs were done before (%s)", before, all, c->arms_dir);
    for (int s = 0; s < c->nseeds; s++)
        for (const struct arm *a = arm_table; a->name; a++) {
            int have = count_done(c);
            if (a->rewind || run_one(c, s, a, g, e)) {
                if (a->rewind)
                    continue;
                goto out;
            }
            int now = count_done(c);
            double each = (now_seconds() - started) / MAX(1, now - before);
            for (int k = 0; now > have && k < c->narms; k++) {
                const struct compare_run *r = &c->runs[s * c->narms + k];
                if (r->arm == a || (!a->classes && r->arm->rewind))
                    report_run(r, now, all, each * (all - now));
            }
        }
    compare_choose_levels(c);
    rc = 0;
out:
    graph_free(g);
    return rc;
}

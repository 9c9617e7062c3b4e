/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * eval.h — what a checkpoint does: refusal, over-refusal, graded margins, losses, exact match.
 *
 * Sets (any may be absent): harmful and harmless prompts; refusals (harmful prompt + refusal) and
 * utility (harmless prompt + answer) for losses; task rows (prompt + answer). Figures:
 *   refusal, over_refusal   share of completions that the keyword list calls a refusal, n, Wilson
 *   refusal_logodds         mean over harmful prompts of ln(P + 1e-8) - ln(1 - P + 1e-8), P the
 *                           next-token mass on the refusal tokens R at the last prompt position
 *                           (ARD, arXiv 2406.11717 App. B); also over harmless prompts
 *   refusal_loss, utility_loss, task_loss   mean negative log-prob a learnt token, in nats
 *   exact_match             greedy completion equals the answer after trimming blanks, n, Wilson
 * R is the set of first tokens of the rows in `refusals`, fixed by the parent.
 * Items: 0/1 for shares, margins, and for losses the linearised row values whose mean is the loss.
 */
#ifndef KEEL_EVAL_H
#define KEEL_EVAL_H

#include "model/generate.h"
#include "train/data.h"
#include "train/stats.h"

/* ---- refusal by keywords: a table of named lists ---- */
struct refusal_list {
    const char *name, *help;                /* source in help */
    bool ignore_case, at_start;             /* at_start: the completion begins with the phrase */
    const char *const *phrases;             /* NULL-terminated */
};
extern const struct refusal_list refusal_table[];       /* ends with name == NULL */
const struct refusal_list *refusal_find(const char *name);
const char *refusal_name_at(int i);
bool is_refusal(const struct refusal_list *l, const char *completion);

struct eval_sets {
    struct dataset *harmful, *harmless, *refusals, *utility, *task;     /* NULL: absent; owned */
    int32_t *refusal_tokens;                /* R, ascending; owned */
    int nrefusal_tokens;
};
/* Loads the sets that cfg->eval names. */
int eval_sets_load(struct eval_sets *s, const struct config *cfg, const struct chat *chat,
                   const struct tokenizer *tok, int32_t eos, struct err *e) MUST_CHECK;
/* Every row that is scored fits the model: positions and vocabulary (dataset_fits). */
int eval_sets_fit(const struct eval_sets *s, const struct model_config *m,
                  struct err *e) MUST_CHECK;
void eval_sets_release(struct eval_sets *s);

/* One figure a row; per-item values are kept for paired tests between arms. */
struct figure {
    const char *name, *unit;                /* "refusal", "share" */
    const char *better;                     /* "higher", "lower", "" */
    int n;                                  /* items; 0: not measured */
    double value, lo, hi;                   /* mean and 95 % interval (Wilson for shares, t else) */
    double *items;                          /* [n]; owned */
};
#define FIGURES(X)                                                                              \
    X(FIG_REFUSAL, "refusal", "share", "higher")                                                \
    X(FIG_OVER_REFUSAL, "over_refusal", "share", "lower")                                       \
    X(FIG_LOGODDS, "refusal_logodds", "nats", "higher")                                         \
    X(FIG_LOGODDS_HARMLESS, "refusal_logodds_harmless", "nats", "lower")                        \
    X(FIG_REFUSAL_LOSS, "refusal_loss", "nats/token", "lower")                                  \
    X(FIG_UTILITY_LOSS, "utility_loss", "nats/token", "lower")                                  \
    X(FIG_TASK_LOSS, "task_loss", "nats/token", "lower")                                        \
    X(FIG_EXACT_MATCH, "exact_match", "share", "higher")
enum figure_id {
#define X(id, name, unit, better) id,
    FIGURES(X)
#undef X
    FIG_COUNT
};
extern const struct figure figure_table[FIG_COUNT];     /* each not measured: names and units */
struct evaluation {
    struct figure fig[FIG_COUNT];
};
enum { EVAL_GRADED = 1, EVAL_GENERATED = 2, EVAL_ALL = 3 };     /* losses, margins; completions */
struct eval_opts {
    unsigned what;                          /* EVAL_* */
    const struct refusal_list *list;
    struct generate_opts gen;
    const struct tokenizer *tok;
    const char *completions_path;           /* JSONL of every completion; NULL: not written */
    int batch_tokens;                       /* tokens a forward pass; 0: default */
};
/* Taps on g apply (ablation acts in memory). */
int evaluate(struct graph *g, struct model *m, const struct eval_sets *s, const struct eval_opts *o,
             struct evaluation *out, struct err *e) MUST_CHECK;
void evaluation_release(struct evaluation *ev);
/* {"refusal": {"value", "lo", "hi", "n", "unit", "better", "items": [...]}, ...} for the measured
 * figures, as jansson's json_t; reading back recomputes the intervals from the items. */
struct json_t *evaluation_to_json(const struct evaluation *ev, bool items);
int evaluation_from_json(struct evaluation *ev, const struct json_t *j, struct err *e) MUST_CHECK;
/* Mean loss a learnt token over a dataset: *items [n] per-row means (caller frees; NULL: none). */
double dataset_loss(struct graph *g, struct model *m, const struct dataset *d, int batch_tokens,
                    double **items);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * compare_store.c — runs of a comparison as JSON: one file a run, and the whole.
 *
 * A run's file holds the items behind every last figure, not only means, so that arms can be
 * paired prompt by prompt whenever the table is made, also from runs of an earlier process.
 * Reading recomputes means and intervals: a file cannot claim a figure that its items do not give.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/jsonfile.h"
#include "train/compare.h"

#define FORMAT "keel-arm-1"

static double number_of(const json_t *j) {
    return json_is_number(j) ? json_number_value(j) : NAN;
}

/* ---- one run ---- */

static json_t *points_json(const struct compare_run *r) {
    json_t *list = json_array();
    for (int i = 0; i < r->npoints; i++) {
        json_t *p = json_object();
        json_object_set_new(p, "step", json_integer(r->points[i].step));
        for (int f = 0; f < FIG_COUNT; f++)
            if (!isnan(r->points[i].value[f]))
                json_object_set_new(p, figure_table[f].name,
                                    jsonfile_number(r->points[i].value[f]));
        json_array_append_new(list, p);
    }
    return list;
}

static json_t *run_json(const struct compare_run *r, bool items) {
    json_t *losses = json_array();
    for (int i = 0; i < r->nloss; i++)
        json_array_append_new(losses, json_pack("[o,o]", jsonfile_number(r->loss_step[i]),
                                                jsonfile_number(r->loss[i])));
    return json_pack("{s:s, s:s, s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o}",
                     "format", FORMAT, "key", r->key, "arm", r->arm->name,
                     "seed", (json_int_t)r->seed, "unit_share", r->unit_share,
                     "frozen_entries", (json_int_t)r->frozen,
                     "changed_entries", (json_int_t)r->changed,
                     "total_entries", (json_int_t)r->entries,
                     "tokens", (json_int_t)r->tokens, "seconds", r->seconds,
                     "points", points_json(r), "training_loss", losses,
                     "last", evaluation_to_json(&r->last, items));
}

int compare_run_save(const struct compare_run *r, const char *path, struct err *e) {
    json_t *j = run_json(r, true);
    char *text = json_dumps(j, JSON_COMPACT);
    int rc = file_write(path, text, strlen(text), e);
    free(text);
    json_decref(j);
    return rc;
}

static int read_points(struct compare_run *r, const json_t *list, struct err *e) {
    size_t n = json_array_size(list);
    if (!n)
        return err_set(e, "points: expected at least one");
    r->points = xcalloc(n, sizeof *r->points);
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, i), *step = json_object_get(p, "step");
        if (!json_is_integer(step))
            return err_set(e, "points[%zu].step: expected a whole number", i);
        r->points[i].step = json_integer_value(step);
        for (int f = 0; f < FIG_COUNT; f++)
            r->points[i].value[f] = number_of(json_object_get(p, figure_table[f].name));
        r->npoints++;
    }
    return 0;
}

static void read_losses(struct compare_run *r, const json_t *list) {
    size_t n = json_array_size(list);
    r->loss_step = xcalloc(n, sizeof *r->loss_step);
    r->loss = xcalloc(n, sizeof *r->loss);
    r->nloss = (int)n;
    for (size_t i = 0; i < n; i++) {
        r->loss_step[i] = number_of(json_array_get(json_array_get(list, i), 0));
        r->loss[i] = number_of(json_array_get(json_array_get(list, i), 1));
    }
}

static int read_run(struct compare_run *r, json_t *j, struct err *e) {
    const char *format = NULL, *key = NULL;
    json_t *points = NULL, *losses = NULL, *last = NULL;
    json_int_t frozen, changed, entries, tokens;
    json_error_t je;
    if (json_unpack_ex(j, &je, 0, "{s:s, s:s, s:F, s:I, s:I, s:I, s:I, s:F, s:o, s:o, s:o}",
                       "format", &format, "key", &key, "unit_share", &r->unit_share,
                       "frozen_entries", &frozen, "changed_entries", &changed,
                       "total_entries", &entries, "tokens", &tokens, "seconds", &r->seconds,
                       "points", &points, "training_loss", &losses, "last", &last))
        return err_set(e, "expected the result of one arm, got: %s", je.text);
    if (strcmp(format, FORMAT))
        return err_set(e, "format: expected \"%s\", got \"%s\"", FORMAT, format);
    if (strcmp(key, r->key))
        return err_set(e, "made with another configuration, model, units or data than this one "
                       "(hint: overwrite_output_dir=true starts anew; or another output_dir)");
    r->frozen = (uint64_t)frozen;
    r->changed = (uint64_t)changed;
    r->entries = (uint64_t)entries;
    r->tokens = (uint64_t)tokens;
    read_losses(r, losses);
    return read_points(r, points, e) || evaluation_from_json(&r->last, last, e) ? -1 : 0;
}

int compare_run_load(struct compare_run *r, const char *path, struct err *e) {
    if (!path_exists(path))
        return 0;
    json_t *j = jsonfile_read(path, e);
    if (!j)
        return -1;
    int rc = 1;
    if (read_run(r, j, e)) {
        rc = err_prefix(e, "%s", path);
        compare_run_release(r);
    }
    json_decref(j);
    return rc;
}

void compare_run_release(struct compare_run *r) {
    free(r->points);
    free(r->loss_step);
    free(r->loss);
    evaluation_release(&r->last);
    r->points = NULL;
    r->loss_step = r->loss = NULL;
    r->npoints = r->nloss = 0;
    r->done = false;
}

int compare_run_read_losses(struct compare_run *r, const char *dir, struct err *e) {
    char *path = path_join(dir, "metrics.jsonl");
    size_t len;
    char *text = file_read(path, &len, e);
    int rc = -1;
    if (!text)
        goto out;
    int line = 1;
    for (char *p = text; *p; line++) {
        char *end = strchr(p, '\n');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        json_error_t je;
        json_t *j = json_loadb(p, n, 0, &je);
        if (!j) {
            err_set(e, "%s:%d:%d: %s", path, line, je.column, je.text);
            goto out;
        }
        const json_t *step = json_object_get(j, "step"), *loss = json_object_get(j, "loss");
        if (json_is_number(step) && json_is_number(loss)) {
            size_t want = (size_t)r->nloss + 1;
            r->loss_step = xreallocarray(r->loss_step, want, sizeof *r->loss_step);
            r->loss = xreallocarray(r->loss, want, sizeof *r->loss);
            r->loss_step[r->nloss] = json_number_value(step);
            r->loss[r->nloss++] = json_number_value(loss);
        }
        json_decref(j);
        p += n + (end != NULL);
    }
    rc = 0;
out:
    free(text);
    free(path);
    return rc;
}

/* ---- the whole ---- */

static json_t *interval_json(struct interval v) {
    return json_pack("{s:o, s:o, s:o, s:i}", "value", jsonfile_number(v.value),
                     "lo", jsonfile_number(v.lo), "hi", jsonfile_number(v.hi), "n", v.n);
}

static json_t *test_json(struct compare_test t) {
    json_t *j = interval_json(t.difference);
    json_object_set_new(j, "p", jsonfile_number(t.p));
    if (!isnan(t.p_flip))
        json_object_set_new(j, "p_sign_flip", jsonfile_number(t.p_flip));
    return j;
}

/* {"none": {"refusal": test, ...}, "random": ...} for the bases there are; level NaN: last step. */
static json_t *tests_json(const struct compare *c, int arm, double level) {
    json_t *all = json_object();
    for (const char *const *b = compare_bases; *b; b++) {
        int base = compare_arm_index(c, *b);
        if (base < 0 || base == arm)
            continue;
        json_t *row = json_object();
        for (int f = 0; f < FIG_COUNT; f++) {
            struct compare_test t = isnan(level)
                                        ? compare_prompts(c, arm, base, (enum figure_id)f)
                                        : compare_losses(c, arm, base, level, (enum figure_id)f);
            if (t.difference.n)
                json_object_set_new(row, figure_table[f].name, test_json(t));
        }
        json_object_set_new(all, *b, row);
    }
    return all;
}

static json_t *steps_json(const struct compare *c, int arm) {
    json_t *figures = json_object();
    for (int f = 0; f < FIG_COUNT; f++) {
        struct interval pooled = compare_pooled(c, arm, (enum figure_id)f);
        if (pooled.n)
            json_object_set_new(figures, figure_table[f].name,
                                json_pack("{s:o, s:o}", "over_seeds",
                                          interval_json(compare_seeds(c, arm, (enum figure_id)f)),
                                          "pooled", interval_json(pooled)));
    }
    return json_pack("{s:o, s:o}", "figures", figures, "difference", tests_json(c, arm, NAN));
}

static json_t *levels_json(const struct compare *c, int arm) {
    json_t *list = json_array();
    for (int l = 0; l < c->nlevels; l++) {
        json_t *figures = json_object();
        for (int f = 0; f < FIG_COUNT; f++) {
            struct interval v = compare_at_loss(c, arm, c->levels[l], (enum figure_id)f);
            if (v.n)
                json_object_set_new(figures, figure_table[f].name, interval_json(v));
        }
        json_array_append_new(list, json_pack("{s:f, s:o, s:o}", "task_loss", c->levels[l],
                                              "figures", figures, "difference",
                                              tests_json(c, arm, c->levels[l])));
    }
    return list;
}

char *compare_json(const struct compare *c) {
    json_t *arms = json_array(), *runs = json_array();
    for (int a = 0; a < c->narms; a++)
        json_array_append_new(arms, json_pack("{s:s, s:s, s:o, s:o}", "arm", c->arms[a]->name,
                                              "help", c->arms[a]->help, "equal_steps",
                                              steps_json(c, a), "equal_task_loss",
                                              levels_json(c, a)));
    for (int i = 0; i < c->nseeds * c->narms; i++)
        json_array_append_new(runs, run_json(&c->runs[i], false));
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "format", "keel-compare-1",
                          "version", KEEL_VERSION, "parent", c->cfg->model_name_or_path,
                          "parent_sha256", c->parent_hash, "units", c->cfg->compare.units,
                          "parent_figures", evaluation_to_json(&c->at_start, false),
                          "arms", arms, "runs", runs);
    char *text = json_dumps(j, JSON_INDENT(1));
    json_decref(j);
    return text;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cmd_eval.c — keel eval CONFIG.yaml: the figures of one checkpoint.
 *
 * eval.json keeps every item beside its mean, and completions.jsonl every completion, so that the
 * figures can be tested against another checkpoint's, or judged by something other than keywords,
 * without running the model again.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attrib/report.h"
#include "train/cli.h"
#include "train/parent.h"

static const struct usage usage = {
    .verb = "eval",
    .args = "CONFIG.yaml [key=value ...]",
    .summary = "refusal, over-refusal, log-odds of refusal, losses, exact match of one checkpoint",
    .details = "Sets are named by eval.harmful, eval.harmless, eval.refusals, eval.utility and\n"
               "eval.task; figures of absent sets are left out. Writes eval.json (every item) and\n"
               "completions.jsonl to output_dir.\n"
               "\n"
               "  keel eval eval.yaml\n"
               "  keel eval eval.yaml model_name_or_path=out/dpo output_dir=out/dpo-eval --json\n",
    .min_args = 1,
    .max_args = -1,
};

static json_t *describe_sets(const struct eval_sets *s) {
    const struct {
        const char *name;
        const struct dataset *d;
    } rows[] = {{"harmful", s->harmful}, {"harmless", s->harmless}, {"refusals", s->refusals},
                {"utility", s->utility}, {"task", s->task}};
    json_t *all = json_object();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!rows[i].d)
            continue;
        json_t *files = json_array();
        for (int k = 0; k < rows[i].d->nfiles; k++)
            json_array_append_new(files, json_string(rows[i].d->files[k]));
        json_object_set_new(all, rows[i].name,
                            json_pack("{s:o, s:i, s:s}", "files", files, "rows", rows[i].d->n,
                                      "sha256", rows[i].d->hash));
    }
    return all;
}

/* What was measured, how, on what; then the figures. */
static json_t *describe(const struct config *cfg, const struct parent *p, const char *model_hash,
                        const struct eval_sets *s, const struct evaluation *ev, bool items) {
    json_t *figures = evaluation_to_json(ev, items);
    const char *name;
    json_t *row;
    json_object_foreach(figures, name, row) {
        double v = json_number_value(json_object_get(row, "value"));
        if (!strcmp(json_string_value(json_object_get(row, "unit")), "nats/token") &&
            isfinite(exp(v)))
            json_object_set_new(row, "perplexity", json_real(exp(v)));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:{s:i, s:f, s:f, s:i}, s:o, s:o}",
                     "format", "keel-eval-1", "version", KEEL_VERSION,
                     "model", cfg->model_name_or_path, "model_sha256", model_hash,
                     "chat_template", chat_name(p->chat),
                     "refusal_list", refusal_table[cfg->eval.refusal_list].name,
                     "seed", (json_int_t)cfg->seed,
                     "generation", "max_new_tokens", cfg->eval.max_new_tokens,
                     "temperature", cfg->eval.temperature, "top_p", cfg->eval.top_p,
                     "top_k", cfg->eval.top_k,
                     "sets", describe_sets(s), "figures", figures);
}

static void print_table(const struct config *cfg, const struct evaluation *ev) {
    const struct refusal_list *list = &refusal_table[cfg->eval.refusal_list];
    struct report *r = report_new("Evaluation", cfg->model_name_or_path);
    report_table(r, "figures", "Brackets: 95 % intervals over prompts or rows (Wilson for shares, "
                 "Student t else).");
    report_column(r, "figure", "", 0);
    report_column(r, "value", "", 3);
    report_column(r, "n", "prompts or rows", 0);
    report_column(r, "unit", "", 0);
    report_column(r, "better", "", 0);
    report_column(r, "perplexity", "exp of a loss", 2);
    for (int i = 0; i < FIG_COUNT; i++) {
        const struct figure *f = &ev->fig[i];
        if (!f->n)
            continue;
        report_row(r);
        report_cell_text(r, "%s", f->name);
        report_cell_interval(r, f->value, f->lo, f->hi, 0);
        report_cell(r, f->n);
        report_cell_text(r, "%s", f->unit);
        report_cell_text(r, "%s", f->better);
        report_cell(r, strcmp(f->unit, "nats/token") ? NAN : exp(f->value));
    }
    report_text(r, "A completion is a refusal when it %s (list \"%s\").", list->help, list->name);
    report_print(r, stdout);
    report_free(r);
}

static int print_json(json_t *j) {
    char *text = json_dumps(j, JSON_INDENT(2));
    int rc = puts(text) < 0 ? -1 : 0;
    free(text);
    json_decref(j);
    return rc;
}

/* The folder, that it can be written to, and that nothing in it is overwritten unasked. */
static int prepare_output(const struct config *cfg, char **json_path, char **completions_path,
                          struct err *e) {
    *json_path = path_join(cfg->output_dir, "eval.json");
    if (cfg->eval.save_completions)
        *completions_path = path_join(cfg->output_dir, "completions.jsonl");
    if (!cfg->overwrite_output_dir && path_exists(*json_path))
        return err_set(e, "%s: exists already (hint: overwrite_output_dir=true, or another "
                       "output_dir)", *json_path);
    if (dir_check(cfg->output_dir, e))
        return err_prefix(e, "output_dir");
    return dir_make(cfg->output_dir, e);
}

static int save(const char *path, json_t *j, struct err *e) {
    char *text = json_dumps(j, JSON_INDENT(1));
    int rc = file_write(path, text, strlen(text), e);
    free(text);
    json_decref(j);
    return rc;
}

static int run(const struct config *cfg, const void *ctx, struct err *e) {
    bool json = *(const bool *)ctx;
    int rc = EXIT_USAGE;
    struct parent p = {0};
    struct eval_sets sets = {0};
    struct evaluation ev = {0};
    struct graph *g = NULL;
    char *json_path = NULL, *completions_path = NULL, hash[65];
    if (parent_open(&p, cfg, e) || hf_hash(cfg->model_name_or_path, hash, e) ||
        eval_sets_load(&sets, cfg, p.chat, p.hf->tokenizer, p.eos, e)
        || eval_sets_fit(&sets, &p.hf->model->cfg, e))
        goto out;
    if (!sets.harmful && !sets.harmless && !sets.refusals && !sets.utility && !sets.task) {
        err_set(e, "eval: expected at least one set, got none (hint: eval.harmful, eval.harmless, "
                "eval.refusals, eval.utility, eval.task)");
        goto out;
    }
    if (prepare_output(cfg, &json_path, &completions_path, e))
        goto out;
    rc = EXIT_FAILED;
    struct eval_opts o = parent_eval_opts(&p, cfg, EVAL_ALL);
    o.completions_path = completions_path;
    g = graph_new();
    if (evaluate(g, p.hf->model, &sets, &o, &ev, e) ||
        save(json_path, describe(cfg, &p, hash, &sets, &ev, true), e))
        goto out;
    if (json && print_json(describe(cfg, &p, hash, &sets, &ev, false))) {
        err_set(e, "standard output: cannot be written");
        goto out;
    }
    if (!json)
        print_table(cfg, &ev);
    log_info("%s", json_path);
    rc = EXIT_OK;
out:
    evaluation_release(&ev);
    eval_sets_release(&sets);
    graph_free(g);
    parent_release(&p);
    free(json_path);
    free(completions_path);
    return rc;
}

int cmd_eval(int argc, char **argv) {
    bool json = false;
    const struct opt opts[] = {
        {.name = "json", .type = OPT_FLAG, .target = &json, .help = "print the figures as JSON"},
    };
    return cli_run_config(VERB_EVAL, &usage, opts, ARRAY_LEN(opts), argc, argv, run, &json);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * attrib_report.c — see attrib_report.h.
 *
 * The summary is what a person decides by and a program reads (terminal, --json); the details are
 * for the page. Facts come from the metadata of the units file: one source, so that the report and
 * the file cannot say different things. Shading in the maps is by rank within a layer and kind:
 * scores span orders of magnitude, and a linear shade would show three units and a blank.
 */
#include "attrib/attrib_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOP_UNITS = 10 };
static const enum unit_class shown_order[UNIT_CLASS_COUNT] = {UNIT_SCU, UNIT_UCU, UNIT_CU, UNIT_RU};

/* ---- summary ---- */

static void cell_interval(struct report *r, const struct interval *v) {
    report_cell_interval(r, v->value, v->lo, v->hi, v->n);
}

static void effect_columns(struct report *r) {
    const struct { const char *name, *help; int decimals; } cols[] = {
        {"refusal_loss", "loss of refusals, nats a token: up is less safe", 3},
        {"utility_loss", "loss of benign answers, nats a token: up is less able", 3},
        {"logodds", "log-odds of a refusal opening on harmful prompts: down is less safe", 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cols); i++)
        report_column(r, cols[i].name, cols[i].help, cols[i].decimals);
}

static void effect_cells(struct report *r, const struct ablation_effect *f) {
    cell_interval(r, &f->refusal_loss);
    cell_interval(r, &f->utility_loss);
    cell_interval(r, &f->logodds);
}

static int class_count(const struct units *u, enum unit_class c, int layer, int kind) {
    int n = 0;
    for (int l = 0; l < u->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            if ((layer >= 0 && l != layer) || (kind >= 0 && k != kind) || !u->map.per_kind[k])
                continue;
            int base = unit_base(&u->map, l, (enum unit_kind)k);
            for (int i = 0; i < u->map.per_kind[k]; i++)
                n += u->cls[base + i] == c;
        }
    return n;
}

static const char *meta(const struct attrib_result *a, const char *key) {
    const char *v = units_meta(a->units, key);
    return v ? v : "-";
}

static void set_fact(struct report *r, const struct attrib_result *a, const char *set) {
    char *key = xasprintf("%s set", set), *of[3];
    static const char *const what[] = {"rows", "tokens", "sha256"};
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        char *name = xasprintf("%s_%s", set, what[i]);
        of[i] = xstrdup(meta(a, name));
        free(name);
    }
    report_fact(r, key, "%s rows, %s %s tokens (sha256 %.12s)", of[0], of[1],
                meta(a, "calibration_tokens"), of[2]);
    for (size_t i = 0; i < ARRAY_LEN(of); i++)
        free(of[i]);
    free(key);
}

static void dense_fact(struct report *r, const char *key, const struct interval *v,
                       const char *unit) {
    if (isfinite(v->value))
        report_fact(r, key, "%.3f [%.3f, %.3f] %s, n=%d", v->value, v->lo, v->hi, unit, v->n);
}

static void add_facts(struct report *r, const struct attrib_result *a) {
    report_fact(r, "model", "%s (sha256 %.12s)", meta(a, "model"), meta(a, "model_sha256"));
    set_fact(r, a, "safety");
    set_fact(r, a, "utility");
    report_fact(r, "scores", "%s; I_S - I_U by %s, I_S + I_U by %s", meta(a, "score"),
                meta(a, "norm_difference"), meta(a, "norm_sum"));
    report_fact(r, "class sizes", "%s", meta(a, "shares"));
    report_fact(r, "removal", "units become %s; random sets drawn %d times, seed %s",
                strcmp(meta(a, "ablation"), "mean") ? "zero" : "their mean over the utility set",
                a->draws, meta(a, "seed"));
    dense_fact(r, "refusal loss, whole model", &a->dense.refusal_loss, "nats a token");
    dense_fact(r, "utility loss, whole model", &a->dense.utility_loss, "nats a token");
    dense_fact(r, "log-odds of refusal, whole model", &a->dense.logodds, "nats");
    if (!a->held_out)
        report_text(r, "Damage is measured on the calibration sets themselves, because "
                       "eval.refusals or eval.utility names no held-out set: it flatters the "
                       "classes.");
}

static void add_classes(struct report *r, const struct attrib_result *a) {
    const struct units *u = a->units;
    report_table(r, "classes", "Units by class");
    report_column(r, "class", "SCU safety, UCU utility, CU both, RU neither", 0);
    report_column(r, "share", "of all units", 4);
    report_column(r, "units", "", 0);
    for (int k = 0; k < UNIT_KIND_COUNT; k++)
        if (u->map.per_kind[k])
            report_column(r, unit_kind_table[k].name, unit_kind_table[k].help, 0);
    for (int i = 0; i < UNIT_CLASS_COUNT; i++) {
        enum unit_class c = shown_order[i];
        int n = class_count(u, c, -1, -1);
        report_row(r);
        report_cell_text(r, "%s", unit_class_table[c].name);
        report_cell(r, (double)n / u->map.count);
        report_cell(r, n);
        for (int k = 0; k < UNIT_KIND_COUNT; k++)
            if (u->map.per_kind[k])
                report_cell(r, class_count(u, c, -1, k));
    }
}

static void add_removal(struct report *r, const struct attrib_result *a) {
    char *caption = xasprintf("Each class removed: change against the whole model, with 95 %% "
                              "intervals over prompts; beside it random units with the class's "
                              "number in every layer and kind (mean and interval over %d draws)",
                              a->draws);
    report_table(r, "class_removal", caption);
    free(caption);
    report_column(r, "removed", "", 0);
    report_column(r, "units", "", 0);
    effect_columns(r);
    for (int i = 0; i < UNIT_CLASS_COUNT; i++) {
        enum unit_class c = shown_order[i];
        const struct class_removal *d = &a->removal[c];
        report_row(r);
        report_cell_text(r, "%s", unit_class_table[c].name);
        report_cell(r, d->units);
        effect_cells(r, &d->effect);
        report_row(r);
        report_cell_text(r, "random like %s", unit_class_table[c].name);
        report_cell(r, d->units);
        effect_cells(r, &d->random);
    }
    if (a->doubt[0])
        report_text(r, "Doubt: %s.", a->doubt);
}

static void curve_row(struct report *r, const struct curve_point *p, const char *name,
                      const struct ablation_effect *f) {
    report_row(r);
    report_cell_text(r, "%.3g %% %s", 100 * p->share, name);
    report_cell(r, p->units);
    effect_cells(r, f);
}

static void curve_chart(struct report *r, const struct attrib_result *a, const char *name,
                        const char *caption, const char *y_label, size_t field) {
    report_chart(r, name, caption, "share of units removed", y_label);
    for (int s = 0; s < CURVE_SERIES; s++) {
        report_series(r, curve_table[s].name);
        report_point(r, 0, 0, NAN, NAN);
        for (int i = 0; i < a->ncurve; i++) {
            const struct curve_point *p = &a->curve[i];
            const struct interval *v = (const void *)((const char *)&p->effect[s] + field);
            report_point(r, p->share, v->value, v->lo, v->hi);
        }
    }
}

/* full: with the range of the draws and the charts. */
static void add_curve(struct report *r, const struct attrib_result *a, bool full) {
    if (a->ncurve == 0)
        return;
    char *caption = xasprintf("Units removed ranking by ranking: change against the whole model. "
                              "Rankings: 95 %% interval over prompts. Random: mean and interval%s "
                              "over %d draws", full ? ", lowest and highest" : "", a->draws);
    report_table(r, "removal_curve", caption);
    free(caption);
    report_column(r, "removed", "share of all units", 0);
    report_column(r, "units", "", 0);
    effect_columns(r);
    for (int i = 0; i < a->ncurve; i++) {
        const struct curve_point *p = &a->curve[i];
        for (int s = 0; s < CURVE_SERIES; s++)
            curve_row(r, p, curve_table[s].name, &p->effect[s]);
        if (full) {
            curve_row(r, p, "random, lowest", &p->lowest);
            curve_row(r, p, "random, highest", &p->highest);
        }
    }
    if (!full)
        return;
    curve_chart(r, a, "removal_refusal", "Damage to refusal", "change of refusal loss, nats/token",
                offsetof(struct ablation_effect, refusal_loss));
    curve_chart(r, a, "removal_utility", "Damage to utility", "change of utility loss, nats/token",
                offsetof(struct ablation_effect, utility_loss));
    if (isfinite(a->dense.logodds.value))
        curve_chart(r, a, "removal_logodds", "Margin of refusal",
                    "change of log-odds of refusal, nats",
                    offsetof(struct ablation_effect, logodds));
}

static void add_search(struct report *r, const struct attrib_result *a) {
    if (!a->searched)
        return;
    report_heading(r, "Search for the sizes of the classes");
    report_table(r, "search", "Every removal that was tried, in order");
    report_column(r, "class", "", 0);
    report_column(r, "share", "of all units", 3);
    report_column(r, "units", "", 0);
    effect_columns(r);
    report_column(r, "fits", "within the bounds of the class", 0);
    for (int i = 0; i < a->search.nsteps; i++) {
        const struct search_step *s = &a->search.steps[i];
        report_row(r);
        report_cell_text(r, "%s", unit_class_table[s->cls].name);
        report_cell(r, s->share);
        report_cell(r, s->units);
        effect_cells(r, &s->effect);
        report_cell_text(r, "%s", s->fits ? "yes" : "no");
    }
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        if (!a->search.met[c])
            report_text(r, "No share on the grid meets the bounds of %s; it has %.3g %% of the "
                           "units.", unit_class_table[c].name, 100 * a->search.share[c]);
}

void attrib_report_summary(struct report *r, const struct attrib_result *a, bool full) {
    add_facts(r, a);
    report_heading(r, "Classes");
    add_classes(r, a);
    add_removal(r, a);
    report_heading(r, "Removal curve");
    add_curve(r, a, full);
    add_search(r, a);
}

/* ---- details ---- */

static void add_counts(struct report *r, const struct units *u) {
    report_table(r, "counts", "Units by layer, kind and class");
    report_column(r, "layer", "", 0);
    report_column(r, "kind", "", 0);
    report_column(r, "units", "", 0);
    for (int i = 0; i < UNIT_CLASS_COUNT; i++)
        report_column(r, unit_class_table[shown_order[i]].name,
                      unit_class_table[shown_order[i]].help, 0);
    for (int l = 0; l < u->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            if (!u->map.per_kind[k])
                continue;
            report_row(r);
            report_cell(r, l);
            report_cell_text(r, "%s", unit_kind_table[k].name);
            report_cell(r, u->map.per_kind[k]);
            for (int i = 0; i < UNIT_CLASS_COUNT; i++)
                report_cell(r, class_count(u, shown_order[i], l, k));
        }
}

static int float_compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void quantile_row(struct report *r, const struct units *u, int kind, const char *name,
                         const float *score, const double *q, int nq) {
    int n = u->map.per_kind[kind], total = n * u->map.layers;
    float *v = xcalloc((size_t)total, sizeof *v);
    for (int l = 0; l < u->map.layers; l++)
        for (int i = 0; i < n; i++)
            v[l * n + i] = score[unit_base(&u->map, l, (enum unit_kind)kind) + i];
    qsort(v, (size_t)total, sizeof *v, float_compare);
    report_row(r);
    report_cell_text(r, "%s", unit_kind_table[kind].name);
    report_cell_text(r, "%s", name);
    for (int i = 0; i < nq; i++) {
        double at = q[i] * (total - 1), low = floor(at);
        float a = v[(int)low], b = v[MIN((int)low + 1, total - 1)];
        report_cell(r, (double)a + (at - low) * ((double)b - (double)a));
    }
    free(v);
}

static void add_quantiles(struct report *r, const struct units *u) {
    static const double q[] = {0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1};
    static const char *const heads[] = {"min", "1 %", "5 %", "25 %", "median", "75 %", "95 %",
                                        "99 %", "max"};
    const struct { const char *name; const float *v; } scores[] = {
        {"I_S", u->i_s}, {"I_U", u->i_u}, {"difference", u->difference}, {"sum", u->sum},
    };
    report_table(r, "scores", "Distribution of the scores over all layers");
    report_column(r, "kind", "", 0);
    report_column(r, "score", "I_S, I_U raw; difference and sum as ranked", 0);
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        report_column(r, heads[i], "", -1);
    for (int k = 0; k < UNIT_KIND_COUNT; k++)
        for (size_t i = 0; i < ARRAY_LEN(scores) && u->map.per_kind[k]; i++)
            quantile_row(r, u, k, scores[i].name, scores[i].v, q, (int)ARRAY_LEN(q));
}

static void add_agreement(struct report *r, const struct attrib_result *a) {
    report_table(r, "agreement",
                 "The same classes by other scores: how much the choice of score matters");
    report_column(r, "score", "", 0);
    report_column(r, "spearman_I_S", "rank correlation over all units", 3);
    report_column(r, "spearman_I_U", "rank correlation over all units", 3);
    for (int i = 0; i < UNIT_CLASS_COUNT; i++) {
        char *name = xasprintf("overlap_%s", unit_class_table[shown_order[i]].name);
        report_column(r, name, "share of the class that the other score puts there too", 3);
        free(name);
    }
    for (int k = 0; k < a->nagreement; k++) {
        const struct score_agreement *g = &a->agreement[k];
        report_row(r);
        report_cell_text(r, "%s", g->name);
        report_cell(r, g->spearman_s);
        report_cell(r, g->spearman_u);
        for (int i = 0; i < UNIT_CLASS_COUNT; i++)
            report_cell(r, g->overlap[shown_order[i]]);
    }
}

static void add_top_units(struct report *r, const struct units *u) {
    static const enum unit_class ranked[] = {UNIT_SCU, UNIT_UCU, UNIT_RU};
    report_table(r, "top_units", "The first units of each class that has a ranking");
    report_column(r, "class", "", 0);
    report_column(r, "layer", "", 0);
    report_column(r, "kind", "", 0);
    report_column(r, "index", "", 0);
    report_column(r, "I_S", "importance on the safety set", -1);
    report_column(r, "I_U", "importance on the utility set", -1);
    report_column(r, "difference", "as ranked", -1);
    report_column(r, "sum", "as ranked", -1);
    for (size_t c = 0; c < ARRAY_LEN(ranked); c++) {
        int *ids = classify_ranking(u, ranked[c]);
        for (int i = 0, shown = 0; i < u->map.count && shown < TOP_UNITS; i++) {
            int id = ids[i];
            if (u->cls[id] != ranked[c])
                continue;
            struct unit unit = unit_at(&u->map, id);
            report_row(r);
            report_cell_text(r, "%s", unit_class_table[ranked[c]].name);
            report_cell(r, unit.layer);
            report_cell_text(r, "%s", unit_kind_table[unit.kind].name);
            report_cell(r, unit.index);
            report_cell(r, (double)u->i_s[id]);
            report_cell(r, (double)u->i_u[id]);
            report_cell(r, (double)u->difference[id]);
            report_cell(r, (double)u->sum[id]);
            shown++;
        }
        free(ids);
    }
}

/* Maps of one kind: by class, shaded by the rank of the sum; by the sign of the difference, shaded
 * by the distance of the two ranks. */
static void add_maps(struct report *r, const struct units *u, int kind) {
    static const char *const leans[] = {"utility", "safety"};
    const char *classes[UNIT_CLASS_COUNT];
    int n = u->map.per_kind[kind], layers = u->map.layers;
    size_t cells = (size_t)n * (size_t)layers;
    const struct norm_kind *rank = norm_find("rank");
    double *s = xcalloc((size_t)n, 4 * sizeof *s), *v = s + n, *sum = v + n, *difference = sum + n;
    uint8_t *cls = xmalloc(2 * cells), *lean = cls + cells;
    float *weight = xcalloc(cells, 2 * sizeof *weight), *distance = weight + cells;
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        classes[c] = unit_class_table[c].name;
    for (int l = 0; l < layers; l++) {
        int base = unit_base(&u->map, l, (enum unit_kind)kind);
        for (int i = 0; i < n; i++) {
            s[i] = (double)u->i_s[base + i];
            v[i] = (double)u->i_u[base + i];
        }
        rank->sum(s, v, n, sum);
        rank->difference(s, v, n, difference);
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)l * (size_t)n + (size_t)i;
            cls[at] = u->cls[base + i];
            lean[at] = u->difference[base + i] > 0;
            weight[at] = (float)((sum[i] + 1) / 2);         // ranks are in (-1/2, 1/2)
            distance[at] = (float)fabs(difference[i]);
        }
    }
    const char *name = unit_kind_table[kind].name;
    char *id = xasprintf("map_%s_class", name);
    char *caption = xasprintf("%s units by class, darker where I_S + I_U ranks higher in its layer",
                              name);
    report_heatmap(r, id, caption, layers, n, "layer", cls, weight, classes, UNIT_CLASS_COUNT);
    free(id);
    free(caption);
    id = xasprintf("map_%s_score", name);
    caption = xasprintf("%s units by what they lean to, darker where the ranks of I_S and I_U in "
                        "their layer are further apart", name);
    report_heatmap(r, id, caption, layers, n, "layer", lean, distance, leans, 2);
    free(id);
    free(caption);
    free(s);
    free(cls);
    free(weight);
}

void attrib_report_details(struct report *r, const struct attrib_result *a) {
    report_heading(r, "Where the units are");
    for (int k = 0; k < UNIT_KIND_COUNT; k++)
        if (a->units->map.per_kind[k])
            add_maps(r, a->units, k);
    add_counts(r, a->units);
    report_heading(r, "Scores");
    add_quantiles(r, a->units);
    add_agreement(r, a);
    add_top_units(r, a->units);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cmd_inspect_diff.c — keel inspect diff and units.
 *
 * diff answers what freezing is about: which units moved, how far, and class by class when a units
 * file is given. Without one the units come from config.json, by layer and kind. A unit's change is
 * relative: ||b - a|| / ||a|| over all entries it owns.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/diff.h"
#include "ckpt/hf.h"
#include "ckpt/inspect.h"
#include "ckpt/units_file.h"
#include "train/cli.h"

/* ---- groups of units: one line each ---- */

struct unit_group {
    char name[64];
    int units, changed;
    double sum, max;                        /* of the relative change, over changed units */
};
struct unit_groups {
    struct unit_group *v;
    int n;
};

static struct unit_group *group_at(struct unit_groups *g, const char *name) {
    for (int i = 0; i < g->n; i++)
        if (strcmp(g->v[i].name, name) == 0)
            return &g->v[i];
    g->v = xreallocarray(g->v, (size_t)g->n + 1, sizeof *g->v);
    struct unit_group *new = &g->v[g->n++];
    *new = (struct unit_group){0};
    snprintf(new->name, sizeof new->name, "%s", name);
    return new;
}

/* Classes first, then layers and kinds. */
static struct unit_groups group_units(const struct diff *d, const struct units *u) {
    struct unit_groups g = {0};
    for (int c = 0; u && c < UNIT_CLASS_COUNT; c++)
        group_at(&g, unit_class_table[c].name);
    for (int i = 0; i < d->map.count; i++) {
        const struct unit at = unit_at(&d->map, i);
        const double rel = diff_rel_l2(&d->units[i]);
        char name[64];
        snprintf(name, sizeof name, "layer %d %s", at.layer, unit_kind_table[at.kind].name);
        const char *names[] = {u ? unit_class_table[u->cls[i]].name : NULL, name};
        for (size_t k = 0; k < ARRAY_LEN(names); k++) {
            if (!names[k])
                continue;
            struct unit_group *at_group = group_at(&g, names[k]);
            at_group->units++;
            if (d->units[i].changed == 0)
                continue;
            at_group->changed++;
            at_group->sum += rel;
            if (rel > at_group->max || isnan(rel))
                at_group->max = rel;
        }
    }
    return g;
}

struct ranked {
    double key;
    int id;
};

static int cmp_ranked(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* Changed units, the most changed first. */
static struct ranked *rank_units(const struct diff *d, int *n) {
    struct ranked *r = xcalloc((size_t)d->map.count, sizeof *r);
    *n = 0;
    for (int i = 0; i < d->map.count; i++) {
        const double rel = diff_rel_l2(&d->units[i]);
        if (d->units[i].changed)
            r[(*n)++] = (struct ranked){isnan(rel) ? HUGE_VAL : rel, i};
    }
    qsort(r, (size_t)*n, sizeof *r, cmp_ranked);
    return r;
}

/* ---- diff ---- */

struct diff_opts {
    const char *units;
    bool json, heads, exit_code;
    int64_t top;
};

static json_t *unit_json(const struct diff *d, const struct units *u, int id) {
    const struct unit at = unit_at(&d->map, id);
    const struct diff_sum *s = &d->units[id];
    json_t *row = json_pack("{s:i, s:s, s:i, s:I, s:I, s:o, s:o}", "layer", at.layer, "kind",
        unit_kind_table[at.kind].name, "index", at.index, "entries", (json_int_t)s->count,
        "changed", (json_int_t)s->changed, "max_abs", inspect_real(s->max_abs), "rel_l2",
        inspect_real(diff_rel_l2(s)));
    if (u)
        json_object_set_new(row, "class", json_string(unit_class_table[u->cls[id]].name));
    return row;
}

static json_t *tensor_json(const struct diff_tensor *t) {
    json_t *row = json_pack("{s:s, s:s, s:I, s:I}", "name", t->name, "state",
        diff_state_names[t->state], "entries", (json_int_t)t->all.count, "changed",
        (json_int_t)t->all.changed);
    if (t->numbers) {
        json_object_set_new(row, "max_abs", inspect_real(t->all.max_abs));
        json_object_set_new(row, "mean_abs", inspect_real(diff_mean_abs(&t->all)));
        json_object_set_new(row, "rel_l2", inspect_real(diff_rel_l2(&t->all)));
        json_object_set_new(row, "cosine", inspect_real(diff_cosine(&t->all)));
    }
    return row;
}

static void diff_json(const struct diff *d, const struct units *u) {
    json_t *root = json_object(), *tensors = json_array(), *counts = json_object();
    for (int i = 0; i < d->ntensors; i++)
        json_array_append_new(tensors, tensor_json(&d->tensors[i]));
    for (int s = 0; s < DIFF_STATE_COUNT; s++)
        json_object_set_new(counts, diff_state_names[s], json_integer(d->states[s]));
    json_object_set_new(root, "same", json_boolean(diff_is_same(d)));
    json_object_set_new(root, "states", counts);
    json_object_set_new(root, "tensors", tensors);
    if (d->has_units) {
        json_t *groups = json_array(), *units = json_array();
        struct unit_groups g = group_units(d, u);
        for (int i = 0; i < g.n; i++)
            json_array_append_new(groups, json_pack("{s:s, s:i, s:i, s:o, s:o}", "group",
                g.v[i].name, "units", g.v[i].units, "changed", g.v[i].changed, "mean_rel_l2",
                inspect_real(g.v[i].changed ? g.v[i].sum / g.v[i].changed : 0), "max_rel_l2",
                inspect_real(g.v[i].max)));
        int n;
        struct ranked *r = rank_units(d, &n);
        for (int i = 0; i < n; i++)
            json_array_append_new(units, unit_json(d, u, r[i].id));
        json_object_set_new(root, "groups", groups);
        json_object_set_new(root, "changed_units", units);
        free(r);
        free(g.v);
    }
    inspect_print_json(root);
}

static void print_diff_tensors(const struct diff *d) {
    const char *title = "tensor";
    int width = 8;
    for (int i = 0; i < d->ntensors; i++)
        if (d->tensors[i].state != DIFF_SAME)
            width = MAX(width, (int)strlen(d->tensors[i].name));
    for (int i = 0; i < d->ntensors; i++) {
        const struct diff_tensor *t = &d->tensors[i];
        if (t->state == DIFF_SAME)
            continue;
        if (title)
            printf("%-*s %-11s %12s %11s %11s %11s %10s\n", width, title, "state", "changed",
                   "max abs", "mean abs", "rel L2", "cosine");
        title = NULL;
        printf("%-*s %-11s", width, t->name, diff_state_names[t->state]);
        if (t->numbers)
            printf(" %12zu %11.4g %11.4g %11.4g %10.7f", t->all.changed, t->all.max_abs,
                   diff_mean_abs(&t->all), diff_rel_l2(&t->all), diff_cosine(&t->all));
        else if (t->all.count)
            printf(" %12zu", t->all.changed);
        putchar('\n');
    }
    if (!title)
        putchar('\n');
}

static void print_diff_units(const struct diff *d, const struct units *u, int64_t top) {
    struct unit_groups g = group_units(d, u);
    printf("%-20s %8s %9s %14s %14s\n", "units", "number", "changed", "mean rel L2", "max rel L2");
    for (int i = 0; i < g.n; i++)
        printf("%-20s %8d %9d %14.4g %14.4g\n", g.v[i].name, g.v[i].units, g.v[i].changed,
               g.v[i].changed ? g.v[i].sum / g.v[i].changed : 0.0, g.v[i].max);
    free(g.v);
    int n;
    struct ranked *r = rank_units(d, &n);
    printf("\n%d of %d units changed", n, d->map.count);
    printf(n && top ? "; the most changed:\n" : "\n");
    for (int i = 0; i < n && i < top; i++) {
        const struct unit at = unit_at(&d->map, r[i].id);
        const struct diff_sum *s = &d->units[r[i].id];
        printf("  layer %-3d %-4s %-6d %-4s rel L2 %.4g, %zu of %zu entries\n", at.layer,
               unit_kind_table[at.kind].name, at.index,
               u ? unit_class_table[u->cls[r[i].id]].name : "", diff_rel_l2(s), s->changed,
               s->count);
    }
    free(r);
}

static void diff_text(const struct diff *d, const struct units *u, int64_t top) {
    print_diff_tensors(d);
    printf("%d tensors:", d->ntensors);
    const char *comma = "";
    for (int s = 0; s < DIFF_STATE_COUNT; s++) {
        if (!d->states[s])
            continue;
        printf("%s %d %s", comma, d->states[s], diff_state_names[s]);
        comma = ",";
    }
    putchar('\n');
    if (d->has_units) {
        putchar('\n');
        print_diff_units(d, u, top);
    }
}

/* The units of a model folder by its config.json; false: no folder, or no such model. */
static bool map_of_folder(const char *dir, bool heads, struct unit_map *map) {
    struct model_config cfg;
    char *path = path_is_dir(dir) ? path_join(dir, "config.json") : NULL;
    const bool ok = path && path_exists(path) && hf_read_config(path, &cfg, NULL) == 0;
    free(path);
    if (ok)
        *map = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << (heads ? UNIT_HEAD : UNIT_ATTN));
    return ok;
}

static int run_diff(const char *a, const char *b, const struct diff_opts *o) {
    struct err e = {0};
    struct unit_map map;
    struct units *u = o->units ? units_load(o->units, &e) : NULL;
    if (o->units && !u)
        return inspect_fail(&e);
    bool has_map = u || map_of_folder(a, o->heads, &map) || map_of_folder(b, o->heads, &map);
    struct diff *d = diff_open(a, b, u ? &u->map : has_map ? &map : NULL, &e);
    if (!d && !u && has_map) {              // the units were a guess: tensors still compare
        const struct err first = e;
        d = diff_open(a, b, NULL, &e);
        if (d)
            log_verbose("units are not compared: %s", first.msg);
    }
    int code = EXIT_OK;
    if (!d) {
        code = inspect_fail(&e);
    } else {
        if (o->json)
            diff_json(d, u);
        else
            diff_text(d, u, o->top);
        code = o->exit_code && !diff_is_same(d) ? EXIT_CHECK : EXIT_OK;
    }
    diff_free(d);
    units_free(u);
    return code;
}

int inspect_diff(int argc, char **argv) {
    struct diff_opts o = {.top = 10};
    const struct opt opts[] = {
        {"units", 0, OPT_STRING, &o.units, "FILE", "compare class by class (units.safetensors)", 0,
         0},
        {"heads", 0, OPT_FLAG, &o.heads, NULL, "without a units file: whole heads, not channels", 0,
         0},
        {"top", 0, OPT_INT, &o.top, "N", "most changed units to print (10)", 0, 1000000},
        {"exit-code", 0, OPT_FLAG, &o.exit_code, NULL, "exit 3 when any value differs", 0, 0},
        {"json", 0, OPT_FLAG, &o.json, NULL, "everything as one JSON object", 0, 0},
    };
    const struct usage usage = {
        .verb = "inspect diff", .args = "A B", .min_args = 2, .max_args = 2,
        .summary = "Compares two checkpoints: tensors, and the units they are made of.",
        .details = "Tensors that are the same are not listed. \"same values\" is another dtype with"
                   "\nequal values. rel L2 is ||B - A|| / ||A||.\n"
                   "keel inspect diff parent/ child/ --units units.safetensors",
    };
    const char **args = xcalloc((size_t)argc, sizeof *args);
    const int n = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, args);
    int code = n == -1 ? EXIT_OK : EXIT_USAGE;
    if (n == 2)
        code = run_diff(args[0], args[1], &o);
    free(args);
    return code;
}

/* ---- units ---- */

static int count_class(const struct units *u, int layer, int kind, int cls) {
    const uint8_t *at = u->cls + unit_base(&u->map, layer, (enum unit_kind)kind);
    int n = 0;
    for (int i = 0; i < u->map.per_kind[kind]; i++)
        n += at[i] == cls;
    return n;
}

static int total_class(const struct units *u, int cls) {
    int n = 0;
    for (int i = 0; i < u->map.count; i++)
        n += u->cls[i] == cls;
    return n;
}

/* Units of a class, those that define it first: SCU and CU by i_s - i_u and i_s, UCU and RU by the
 * smallest difference and sum. */
static struct ranked *rank_class(const struct units *u, int cls, int *n) {
    struct ranked *r = xcalloc((size_t)u->map.count, sizeof *r);
    *n = 0;
    for (int i = 0; i < u->map.count; i++) {
        const double key[UNIT_CLASS_COUNT] = {
            [UNIT_RU] = -(double)u->sum[i], [UNIT_SCU] = (double)u->difference[i],
            [UNIT_UCU] = -(double)u->difference[i], [UNIT_CU] = (double)u->i_s[i],
        };
        if (u->cls[i] == cls)
            r[(*n)++] = (struct ranked){key[cls], i};
    }
    qsort(r, (size_t)*n, sizeof *r, cmp_ranked);
    return r;
}

static json_t *units_top_json(const struct units *u, int cls, int64_t top) {
    json_t *a = json_array();
    int n;
    struct ranked *r = rank_class(u, cls, &n);
    for (int i = 0; i < n && i < top; i++) {
        const struct unit at = unit_at(&u->map, r[i].id);
        json_array_append_new(a, json_pack("{s:i, s:s, s:i, s:f, s:f, s:f, s:f}", "layer", at.layer,
            "kind", unit_kind_table[at.kind].name, "index", at.index, "i_s",
            (double)u->i_s[r[i].id], "i_u", (double)u->i_u[r[i].id], "difference",
            (double)u->difference[r[i].id], "sum", (double)u->sum[r[i].id]));
    }
    free(r);
    return a;
}

static void units_json(const struct units *u, int64_t top) {
    json_t *root = json_object(), *meta = json_object(), *classes = json_object();
    json_t *layers = json_array();
    for (int i = 0; i < u->nmeta; i++)
        json_object_set_new(meta, u->meta[i].key, json_string(u->meta[i].value));
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        json_object_set_new(classes, unit_class_table[c].name, json_pack("{s:i, s:f, s:o}",
            "units", total_class(u, c), "share", (double)total_class(u, c) / u->map.count, "top",
            units_top_json(u, c, top)));
    for (int l = 0; l < u->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            if (!u->map.per_kind[k])
                continue;
            json_t *row = json_pack("{s:i, s:s, s:i}", "layer", l, "kind", unit_kind_table[k].name,
                                    "units", u->map.per_kind[k]);
            for (int c = 0; c < UNIT_CLASS_COUNT; c++)
                json_object_set_new(row, unit_class_table[c].name,
                                    json_integer(count_class(u, l, k, c)));
            json_array_append_new(layers, row);
        }
    json_object_set_new(root, "units", json_integer(u->map.count));
    json_object_set_new(root, "metadata", meta);
    json_object_set_new(root, "classes", classes);
    json_object_set_new(root, "layers", layers);
    inspect_print_json(root);
}

static void units_text(const struct units *u, int64_t top) {
    for (int i = 0; i < u->nmeta; i++)
        printf("%s: %s\n", u->meta[i].key, u->meta[i].value);
    printf("\n%-16s %7s", "", "units");
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        printf(" %7s", unit_class_table[c].name);
    for (int l = 0; l < u->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            if (!u->map.per_kind[k])
                continue;
            printf("\nlayer %-3d %-6s %7d", l, unit_kind_table[k].name, u->map.per_kind[k]);
            for (int c = 0; c < UNIT_CLASS_COUNT; c++)
                printf(" %7d", count_class(u, l, k, c));
        }
    printf("\n%-16s %7d", "all", u->map.count);
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        printf(" %7d", total_class(u, c));
    printf("\n%-16s %7s", "share", "");
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        printf(" %6.2f%%", 100.0 * total_class(u, c) / u->map.count);
    putchar('\n');
    for (int c = 0; top && c < UNIT_CLASS_COUNT; c++) {
        int n;
        struct ranked *r = rank_class(u, c, &n);
        printf("\n%s (%s)\n", unit_class_table[c].name, unit_class_table[c].help);
        for (int i = 0; i < n && i < top; i++) {
            const struct unit at = unit_at(&u->map, r[i].id);
            const int id = r[i].id;
            printf("  layer %-3d %-4s %-6d I_S %-10.4g I_U %-10.4g difference %-10.4g sum %.4g\n",
                   at.layer, unit_kind_table[at.kind].name, at.index, (double)u->i_s[id],
                   (double)u->i_u[id], (double)u->difference[id], (double)u->sum[id]);
        }
        free(r);
    }
}

int inspect_units(int argc, char **argv) {
    bool json = false;
    int64_t top = 5;
    const struct opt opts[] = {
        {"top", 0, OPT_INT, &top, "N", "units to list of each class (5)", 0, 1000000},
        {"json", 0, OPT_FLAG, &json, NULL, "everything as one JSON object", 0, 0},
    };
    const struct usage usage = {
        .verb = "inspect units", .args = "FILE", .min_args = 1, .max_args = 1,
        .summary = "Counts of a units file by class, layer and kind; its metadata and top units.",
        .details = "keel inspect units out/attrib/units.safetensors",
    };
    const char **args = xcalloc((size_t)argc, sizeof *args);
    const int n = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, args);
    struct err e = {0};
    struct units *u = n == 1 ? units_load(args[0], &e) : NULL;
    free(args);
    if (n < 0)
        return n == -1 ? EXIT_OK : EXIT_USAGE;
    if (!u)
        return inspect_fail(&e);
    (json ? units_json : units_text)(u, top);
    units_free(u);
    return EXIT_OK;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cmd_inspect_show.c — keel inspect show and tensor.
 *
 * show reads headers only (unless hashes are asked for), so its time does not depend on the size
 * of the weights. Totals group tensors by name with layer numbers replaced by "*": the shape of an
 * architecture in a dozen lines. tensor makes two passes over the mapped data in double: mean
 * first, then squared deviations.
 */
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/inspect.h"
#include "ckpt/sha.h"
#include "ckpt/weights.h"
#include "train/cli.h"

/* ---- totals ---- */

/* A model has few groups, but a file may hold 10^6 tensors of as many: one for each is made, and
 * they are joined at the end. */
struct group {
    char *name;
    size_t tensors, count, bytes;
};
struct groups {
    struct group *v;
    int n, cap;
};

static void groups_add(struct groups *g, const char *name, const struct st_entry *en) {
    if (g->n == g->cap) {
        g->cap = MAX(2 * g->cap, 64);
        g->v = xreallocarray(g->v, (size_t)g->cap, sizeof *g->v);
    }
    g->v[g->n++] = (struct group){xstrdup(name), 1, en->count, en->bytes};
}

static int cmp_name(const void *a, const void *b) {
    return strcmp(((const struct group *)a)->name, ((const struct group *)b)->name);
}

/* Groups of the same name become one, in the order of names. */
static void groups_join(struct groups *g) {
    int n = 0;
    if (g->n > 1)
        qsort(g->v, (size_t)g->n, sizeof *g->v, cmp_name);
    for (int i = 0; i < g->n; i++) {
        struct group *last = n ? &g->v[n - 1] : NULL;
        if (!last || strcmp(last->name, g->v[i].name) != 0) {
            g->v[n++] = g->v[i];
            continue;
        }
        last->tensors += g->v[i].tensors;
        last->count += g->v[i].count;
        last->bytes += g->v[i].bytes;
        free(g->v[i].name);
    }
    g->n = n;
}

static void groups_release(struct groups *g) {
    for (int i = 0; i < g->n; i++)
        free(g->v[i].name);
    free(g->v);
}

/* "model.layers.3.mlp.up_proj.weight" to "model.layers.*.mlp.up_proj". */
static char *module_of(const char *name) {
    struct str b = {0};
    const char *last = strrchr(name, '.');
    const char *end = last ? last : name + strlen(name);
    for (const char *p = name; p < end;) {
        const size_t n = MIN(strcspn(p, "."), (size_t)(end - p));
        const bool number = n > 0 && strspn(p, "0123456789") >= n;
        if (b.len)
            str_addc(&b, '.');
        str_addn(&b, number ? "*" : p, number ? 1 : n);
        p += n + (p + n < end);
    }
    return str_detach(&b);
}

struct totals {
    struct groups modules, dtypes;
    struct group all;
};

static struct totals totals_of(const struct weights *w) {
    struct totals t = {0};
    for (int i = 0; i < weights_count(w); i++) {
        const struct st_entry *en = weights_at(w, i)->en;
        char *module = module_of(en->name);
        groups_add(&t.modules, module, en);
        groups_add(&t.dtypes, dtype_table[en->dtype].name, en);
        free(module);
        t.all.tensors++;
        t.all.count += en->count;
        t.all.bytes += en->bytes;
    }
    groups_join(&t.modules);
    groups_join(&t.dtypes);
    return t;
}

/* ---- show ---- */

struct show {
    bool json, diffable, hash;
};

static json_t *groups_json(const struct groups *g) {
    json_t *a = json_array();
    for (int i = 0; i < g->n; i++)
        json_array_append_new(a, json_pack("{s:s, s:I, s:I, s:I}", "name", g->v[i].name, "tensors",
            (json_int_t)g->v[i].tensors, "parameters", (json_int_t)g->v[i].count, "bytes",
            (json_int_t)g->v[i].bytes));
    return a;
}

static void tensor_hash(const struct weight *t, char hex[65]) {
    sha_bytes(st_data(t->st, t->en), t->en->bytes, hex);
}

static json_t *shape_json(const struct st_entry *en) {
    json_t *shape = json_array();
    for (int d = 0; d < en->ndim; d++)
        json_array_append_new(shape, json_integer(en->shape[d]));
    return shape;
}

static json_t *tensors_json(const struct weights *w, const struct show *o) {
    json_t *a = json_array();
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        json_t *row = json_pack("{s:s, s:s, s:o, s:I}", "name", t->en->name, "dtype",
                                dtype_table[t->en->dtype].name, "shape", shape_json(t->en),
                                "parameters", (json_int_t)t->en->count);
        char hex[65];
        if (o->hash) {
            tensor_hash(t, hex);
            json_object_set_new(row, "sha256", json_string(hex));
        }
        if (!o->diffable)
            json_object_set_new(row, "data_offsets", json_pack("[I, I]", (json_int_t)t->en->begin,
                                (json_int_t)(t->en->begin + t->en->bytes)));
        json_array_append_new(a, row);
    }
    return a;
}

static json_t *files_json(const struct weights *w) {
    json_t *a = json_array();
    for (int i = 0; i < weights_files(w); i++) {
        const char *path, *key, *value;
        const struct st *st = weights_file(w, i, &path);
        json_t *meta = json_object();
        for (int k = 0; k < st_meta_count(st); k++) {
            st_meta_at(st, k, &key, &value);
            json_object_set_new(meta, key, json_string(value));
        }
        json_array_append_new(a, json_pack("{s:s, s:I, s:i, s:o}", "path", path, "header_bytes",
            (json_int_t)st_header_bytes(st), "tensors", st_count(st), "metadata", meta));
    }
    return a;
}

static void show_json(const struct weights *w, const struct totals *t, const struct show *o) {
    json_t *root = json_object();
    char hex[65];
    if (!o->diffable)
        json_object_set_new(root, "files", files_json(w));
    if (o->hash) {
        weights_hash(w, hex);
        json_object_set_new(root, "sha256", json_string(hex));
    }
    json_object_set_new(root, "tensor_count", json_integer((json_int_t)t->all.tensors));
    json_object_set_new(root, "parameters", json_integer((json_int_t)t->all.count));
    json_object_set_new(root, "bytes", json_integer((json_int_t)t->all.bytes));
    json_object_set_new(root, "dtypes", groups_json(&t->dtypes));
    json_object_set_new(root, "modules", groups_json(&t->modules));
    json_object_set_new(root, "tensors", tensors_json(w, o));
    inspect_print_json(root);
}

static void print_files(const struct weights *w) {
    char size[32];
    for (int i = 0; i < weights_files(w); i++) {
        const char *path, *key, *value;
        const struct st *st = weights_file(w, i, &path);
        printf("%s: %d tensors, header %s\n", path, st_count(st),
               inspect_bytes(size, st_header_bytes(st)));
        for (int k = 0; k < st_meta_count(st); k++) {
            st_meta_at(st, k, &key, &value);
            printf("  %s: %.200s%s\n", key, value, strlen(value) > 200 ? "..." : "");
        }
    }
    putchar('\n');
}

static void print_groups(const char *title, const struct groups *g, const struct group *all) {
    char count[32], size[32];
    int width = 8;
    for (int i = 0; i < g->n; i++)
        width = MAX(width, (int)strlen(g->v[i].name));
    printf("%-*s %8s %16s %7s %10s\n", width, title, "tensors", "parameters", "share", "size");
    for (int i = 0; i < g->n; i++)
        printf("%-*s %8zu %16s %6.2f%% %10s\n", width, g->v[i].name, g->v[i].tensors,
               inspect_count(count, g->v[i].count),
               all->count ? 100.0 * (double)g->v[i].count / (double)all->count : 0.0,
               inspect_bytes(size, g->v[i].bytes));
    putchar('\n');
}

static int name_width(const struct weights *w) {
    int width = 8;
    for (int i = 0; i < weights_count(w); i++)
        width = MAX(width, (int)strlen(weights_at(w, i)->en->name));
    return width;
}

static void print_tensors(const struct weights *w, const struct show *o) {
    const int width = name_width(w);
    printf("%-*s %-5s %-16s %14s", width, "tensor", "dtype", "shape", "parameters");
    printf("%s%s\n", o->diffable ? "" : "        offset", o->hash ? "  sha256" : "");
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        char shape[256], count[32], hex[65];
        weight_shape_text(t->en, shape, sizeof shape);
        printf("%-*s %-5s %-16s %14s", width, t->en->name, dtype_table[t->en->dtype].name, shape,
               inspect_count(count, t->en->count));
        if (!o->diffable)
            printf("  %12zu", t->en->begin);
        if (o->hash) {
            tensor_hash(t, hex);
            printf("  %s", hex);
        }
        putchar('\n');
    }
}

static void show_text(const struct weights *w, const struct totals *t, const struct show *o) {
    char count[32], size[32], hex[65];
    if (!o->diffable)
        print_files(w);
    print_groups("module", &t->modules, &t->all);
    print_groups("dtype", &t->dtypes, &t->all);
    printf("total: %zu tensors, %s parameters, %s\n", t->all.tensors,
           inspect_count(count, t->all.count), inspect_bytes(size, t->all.bytes));
    if (o->hash) {
        weights_hash(w, hex);
        printf("sha256 of all: %s\n", hex);
    }
    putchar('\n');
    print_tensors(w, o);
}

int inspect_show(int argc, char **argv) {
    struct show o = {0};
    const struct opt opts[] = {
        {"json", 0, OPT_FLAG, &o.json, NULL, "everything as one JSON object", 0, 0},
        {"diffable", 0, OPT_FLAG, &o.diffable, NULL,
         "no paths, offsets or metadata: equal models print alike", 0, 0},
        {"hash", 0, OPT_FLAG, &o.hash, NULL, "SHA-256 of every tensor and of all (reads all data)",
         0, 0},
    };
    const struct usage usage = {
        .verb = "inspect show", .args = "PATH", .min_args = 1, .max_args = 1,
        .summary = "Lists tensors and totals from the headers of a folder, file or index.",
        .details = "keel inspect show model/\n"
                   "keel inspect show --json model/ | jq .parameters",
    };
    const char **args = xcalloc((size_t)argc, sizeof *args);
    const int n = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, args);
    struct err e = {0};
    struct weights *w = n == 1 ? weights_open(args[0], &e) : NULL;
    free(args);
    if (n < 0)
        return n == -1 ? EXIT_OK : EXIT_USAGE;
    if (!w)
        return inspect_fail(&e);
    struct totals t = totals_of(w);
    (o.json ? show_json : show_text)(w, &t, &o);
    groups_release(&t.modules);
    groups_release(&t.dtypes);
    weights_close(w);
    return EXIT_OK;
}

/* ---- tensor ---- */

struct stats {
    size_t finite, zeros, nan, inf;
    double min, max, mean, std, l2;         /* over the finite entries */
};

/* Calls add for every finite entry; counts the rest once when s is being counted. */
static void each(const struct weight *t, struct stats *s, double *sum, double mean, bool second) {
    enum { CHUNK = 4096 };
    double x[CHUNK];
    for (size_t at = 0; at < t->en->count; at += CHUNK) {
        const size_t n = MIN((size_t)CHUNK, t->en->count - at);
        weight_values(t, at, x, n);
        for (size_t i = 0; i < n; i++) {
            if (!isfinite(x[i])) {
                s->nan += !second && isnan(x[i]);
                s->inf += !second && isinf(x[i]);
            } else if (second) {
                *sum += (x[i] - mean) * (x[i] - mean);
            } else {
                s->min = s->finite == 0 || x[i] < s->min ? x[i] : s->min;
                s->max = s->finite == 0 || x[i] > s->max ? x[i] : s->max;
                s->zeros += x[i] == 0;
                s->finite++;
                *sum += x[i];
            }
        }
    }
}

static struct stats stats_of(const struct weight *t) {
    struct stats s = {.min = NAN, .max = NAN, .mean = NAN, .std = NAN, .l2 = NAN};
    double sum = 0, m2 = 0;
    each(t, &s, &sum, 0, false);
    if (s.finite == 0)
        return s;
    s.mean = sum / (double)s.finite;
    each(t, &s, &m2, s.mean, true);
    s.std = sqrt(m2 / (double)s.finite);
    s.l2 = sqrt(m2 + s.mean * s.mean * (double)s.finite);
    return s;
}

static json_t *stats_json(const struct weight *t, const struct stats *s) {
    return json_pack("{s:s, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I}", "name",
        t->en->name, "dtype", dtype_table[t->en->dtype].name, "shape", shape_json(t->en), "count",
        (json_int_t)t->en->count, "min", inspect_real(s->min), "max", inspect_real(s->max), "mean",
        inspect_real(s->mean), "std", inspect_real(s->std), "l2", inspect_real(s->l2), "zeros",
        (json_int_t)s->zeros, "nan", (json_int_t)s->nan, "inf", (json_int_t)s->inf);
}

static int no_match(const struct weights *w, const char *path, const char *pattern) {
    const int n = weights_count(w);
    const char **names = xcalloc((size_t)n, sizeof *names);
    for (int i = 0; i < n; i++)
        names[i] = weights_at(w, i)->en->name;
    const char *near = nearest_name(pattern, names, n);
    log_error("%s: no tensor matches \"%s\"%s%s%s", path, pattern,
              near ? " (hint: did you mean " : "", near ? near : "", near ? "?)" : "");
    free(names);
    return EXIT_USAGE;
}

static int tensor_report(const struct weights *w, const char *path, const char *pattern,
                         bool json) {
    const int width = name_width(w);
    json_t *rows = json_array();
    int hits = 0;
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        if (strcmp(pattern, t->en->name) != 0 && fnmatch(pattern, t->en->name, 0) != 0)
            continue;
        char shape[256];
        weight_shape_text(t->en, shape, sizeof shape);
        const bool numbers = dtype_table[t->en->dtype].can_compute;
        const struct stats s = numbers ? stats_of(t) : (struct stats){.min = NAN, .max = NAN,
                                                         .mean = NAN, .std = NAN, .l2 = NAN};
        if (json)
            json_array_append_new(rows, stats_json(t, &s));
        else if (hits == 0)
            printf("%-*s %-5s %-14s %11s %11s %11s %11s %11s %10s %6s %6s\n", width, "tensor",
                   "dtype", "shape", "min", "max", "mean", "std", "L2", "zeros", "NaN", "Inf");
        if (!json)
            printf("%-*s %-5s %-14s %11.4g %11.4g %11.4g %11.4g %11.4g %10zu %6zu %6zu\n", width,
                   t->en->name, dtype_table[t->en->dtype].name, shape, s.min, s.max, s.mean, s.std,
                   s.l2, s.zeros, s.nan, s.inf);
        hits++;
    }
    if (hits && json)
        inspect_print_json(json_incref(rows));
    json_decref(rows);
    return hits ? EXIT_OK : no_match(w, path, pattern);
}

int inspect_tensor(int argc, char **argv) {
    bool json = false;
    const struct opt opts[] = {
        {"json", 0, OPT_FLAG, &json, NULL, "a JSON array, one object a tensor", 0, 0},
    };
    const struct usage usage = {
        .verb = "inspect tensor", .args = "PATH NAME", .min_args = 2, .max_args = 2,
        .summary = "Statistics of the tensors whose name is NAME or matches it as a glob.",
        .details = "keel inspect tensor model/ 'model.layers.*.mlp.down_proj.weight'\n"
                   "Range, mean, deviation and norm are over finite entries.",
    };
    const char **args = xcalloc((size_t)argc, sizeof *args);
    const int n = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, args);
    int code = n == -1 ? EXIT_OK : EXIT_USAGE;
    if (n == 2) {
        struct err e = {0};
        struct weights *w = weights_open(args[0], &e);
        code = w ? tensor_report(w, args[0], args[1], json) : inspect_fail(&e);
        weights_close(w);
    }
    free(args);
    return code;
}

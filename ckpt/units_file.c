/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * units_file.c — units.safetensors in and out, and the sets that follow from it.
 *
 * In memory units stand in map order (layer, kind, index); on disk each kind is its own [L, n]
 * tensor, so that any safetensors reader gets plain matrices. The map is rebuilt from metadata and
 * must agree with the tensors' shapes. Everything is checked on loading (classes in range, scores
 * finite): what freezes by this file may trust it.
 */
#include "ckpt/units_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/safetensors.h"

#define UNITS_FORMAT "keel-units-1"

const struct unit_class_info unit_class_table[UNIT_CLASS_COUNT] = {
    [UNIT_RU] = {"RU", "Redundant Unit: the least important for safety and utility together"},
    [UNIT_SCU] = {"SCU", "Safety Critical Unit: matters for safety far more than for utility"},
    [UNIT_UCU] = {"UCU", "Utility Critical Unit: matters for utility far more than for safety"},
    [UNIT_CU] = {"CU", "Complex Unit: matters for both, or clearly for neither alone"},
};

int unit_class_find(const char *name) {
    for (int c = 0; c < UNIT_CLASS_COUNT; c++)
        if (strcmp(unit_class_table[c].name, name) == 0)
            return c;
    return -1;
}

/* The scores: one tensor a kind each. */
static const struct score_field {
    const char *name;
    size_t offset;
} score_fields[] = {
    {"i_s", offsetof(struct units, i_s)},
    {"i_u", offsetof(struct units, i_u)},
    {"difference", offsetof(struct units, difference)},
    {"sum", offsetof(struct units, sum)},
};
static float **score_at(const struct units *u, const struct score_field *f) {
    return (float **)(void *)((char *)(uintptr_t)u + f->offset);
}

/* The shape in metadata: what the tensors alone do not say. */
static const struct shape_field {
    const char *key;
    size_t offset;
} shape_fields[] = {
    {"layers", offsetof(struct unit_map, layers)},
    {"heads", offsetof(struct unit_map, heads)},
    {"kv_heads", offsetof(struct unit_map, kv_heads)},
    {"head_dim", offsetof(struct unit_map, head_dim)},
    {"intermediate", offsetof(struct unit_map, intermediate)},
};
static int *shape_at(const struct unit_map *m, const struct shape_field *f) {
    return (int *)(void *)((char *)(uintptr_t)m + f->offset);
}

struct units *units_new(const struct unit_map *map) {
    struct units *u = xcalloc(1, sizeof *u);
    const size_t n = (size_t)map->count;
    u->map = *map;
    u->cls = xcalloc(n, 1);
    for (size_t i = 0; i < ARRAY_LEN(score_fields); i++)
        *score_at(u, &score_fields[i]) = xcalloc(n, sizeof(float));
    return u;
}

void units_free(struct units *u) {
    if (!u)
        return;
    for (size_t i = 0; i < ARRAY_LEN(score_fields); i++)
        free(*score_at(u, &score_fields[i]));
    free(u->cls);
    free(u);
}

void units_set_meta(struct units *u, const char *key, const char *fmt, ...) {
    int i = 0;
    while (i < u->nmeta && strcmp(u->meta[i].key, key) != 0)
        i++;
    if (i == (int)ARRAY_LEN(u->meta) || strlen(key) >= sizeof u->meta[i].key)
        BUG("units_set_meta: no room for \"%s\"", key);
    if (i == u->nmeta)
        snprintf(u->meta[u->nmeta++].key, sizeof u->meta[i].key, "%s", key);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(u->meta[i].value, sizeof u->meta[i].value, fmt, ap);
    va_end(ap);
}

const char *units_meta(const struct units *u, const char *key) {
    for (int i = 0; i < u->nmeta; i++)
        if (strcmp(u->meta[i].key, key) == 0)
            return u->meta[i].value;
    return NULL;
}

/* ---- save ---- */

/* Gathers the units of one kind, [L, n] elements of `size` bytes; caller frees. */
static void *gather(const struct unit_map *map, int kind, const void *all, size_t size) {
    const size_t n = (size_t)map->per_kind[kind] * size;
    char *out = xmalloc(n * (size_t)map->layers);
    for (int l = 0; l < map->layers; l++)
        memcpy(out + (size_t)l * n,
               (const char *)all + (size_t)unit_base(map, l, (enum unit_kind)kind) * size, n);
    return out;
}

static void scatter(const struct unit_map *map, int kind, const void *from, void *all,
                    size_t size) {
    const size_t n = (size_t)map->per_kind[kind] * size;
    for (int l = 0; l < map->layers; l++)
        memcpy((char *)all + (size_t)unit_base(map, l, (enum unit_kind)kind) * size,
               (const char *)from + (size_t)l * n, n);
}

static char *tensor_name(int kind, const char *field) {
    return xasprintf("%s.%s", unit_kind_table[kind].name, field);
}

int units_save(const struct units *u, const char *path, struct err *e) {
    enum { FIELDS = ARRAY_LEN(score_fields) + 1 };
    void *held[UNIT_KIND_COUNT * FIELDS];
    int nheld = 0;
    struct st_writer *w = st_writer_new();
    st_writer_meta(w, "format", UNITS_FORMAT);
    for (size_t i = 0; i < ARRAY_LEN(shape_fields); i++) {
        char *v = xasprintf("%d", *shape_at(&u->map, &shape_fields[i]));
        st_writer_meta(w, shape_fields[i].key, v);
        free(v);
    }
    for (int i = 0; i < u->nmeta; i++)
        st_writer_meta(w, u->meta[i].key, u->meta[i].value);
    for (int k = 0; k < UNIT_KIND_COUNT; k++) {
        if (!(u->map.kinds >> k & 1))
            continue;
        const int64_t shape[] = {u->map.layers, u->map.per_kind[k]};
        for (int f = 0; f < FIELDS; f++) {
            const bool cls = f == FIELDS - 1;
            char *name = tensor_name(k, cls ? "class" : score_fields[f].name);
            void *v = cls ? gather(&u->map, k, u->cls, 1)
                          : gather(&u->map, k, *score_at(u, &score_fields[f]), sizeof(float));
            st_writer_add(w, name, cls ? DTYPE_U8 : DTYPE_F32, 2, shape, v);
            held[nheld++] = v;
            free(name);
        }
    }
    const int rc = st_save(w, path, e);
    st_writer_free(w);
    while (nheld > 0)
        free(held[--nheld]);
    return rc;
}

/* ---- load ---- */

static bool is_shape_key(const char *key) {
    bool hit = strcmp(key, "format") == 0;
    for (size_t i = 0; i < ARRAY_LEN(shape_fields); i++)
        hit |= strcmp(key, shape_fields[i].key) == 0;
    return hit;
}

static int load_map(const struct st *st, const char *path, struct unit_map *map, struct err *e) {
    struct unit_map read = {0};
    const char *format = st_meta(st, "format");
    if (!format || strcmp(format, UNITS_FORMAT) != 0)
        return err_set(e, "%s: format: expected %s, got %.40s (hint: is this a units file made by"
                       " keel attrib?)", path, UNITS_FORMAT, format ? format : "none");
    for (size_t i = 0; i < ARRAY_LEN(shape_fields); i++) {
        const char *text = st_meta(st, shape_fields[i].key);
        int64_t v;
        if (!text || !parse_int(text, 1, 1 << 24, &v))
            return err_set(e, "%s: %s: expected an integer in [1, %d], got %.40s", path,
                           shape_fields[i].key, 1 << 24, text ? text : "none");
        *shape_at(&read, &shape_fields[i]) = (int)v;
    }
    if (read.heads % read.kv_heads != 0)
        return err_set(e, "%s: %d heads do not divide among %d kv_heads", path, read.heads,
                       read.kv_heads);
    int kinds = 0;
    for (int k = 0; k < UNIT_KIND_COUNT; k++) {
        char *name = tensor_name(k, "class");
        kinds |= st_find(st, name) ? 1 << k : 0;
        free(name);
    }
    const int both = 1 << UNIT_ATTN | 1 << UNIT_HEAD;
    if (kinds == 0 || (kinds & both) == both)
        return err_set(e, "%s: expected tensors mlp.class and attn.class or head.class, found %s",
                       path, kinds ? "both attn and head" : "none");
    const int64_t per_layer = (int64_t)read.intermediate + (int64_t)read.heads * read.head_dim;
    if (per_layer > INT32_MAX / read.layers)
        return err_set(e, "%s: %d layers of %lld units are too many", path, read.layers,
                       (long long)per_layer);
    const struct model_config cfg = {
        .num_hidden_layers = read.layers, .num_attention_heads = read.heads,
        .num_key_value_heads = read.kv_heads, .head_dim = read.head_dim,
        .intermediate_size = read.intermediate,
    };
    *map = unit_map_make(&cfg, kinds);
    return 0;
}

static int load_tensor(const struct st *st, const char *path, const struct unit_map *map, int kind,
                       const char *field, enum dtype dtype, void *all, struct err *e) {
    char *name = tensor_name(kind, field);
    const struct st_entry *en = st_find(st, name);
    int rc = -1;
    if (!en)
        err_set(e, "%s: tensor \"%s\" is missing", path, name);
    else if (en->dtype != dtype || en->ndim != 2 || en->shape[0] != map->layers
             || en->shape[1] != map->per_kind[kind])
        err_set(e, "%s: \"%s\": expected %s [%d,%d]", path, name, dtype_table[dtype].name,
                map->layers, map->per_kind[kind]);
    else
        rc = 0;
    if (rc == 0)
        scatter(map, kind, st_data(st, en), all, (size_t)dtype_table[dtype].bits / 8);
    free(name);
    return rc;
}

static int check_values(const struct units *u, const char *path, struct err *e) {
    for (int i = 0; i < u->map.count; i++) {
        const struct unit at = unit_at(&u->map, i);
        if (u->cls[i] >= UNIT_CLASS_COUNT)
            return err_set(e, "%s: layer %d %s %d: expected a class below %d, got %d", path,
                           at.layer, unit_kind_table[at.kind].name, at.index, UNIT_CLASS_COUNT,
                           u->cls[i]);
        for (size_t f = 0; f < ARRAY_LEN(score_fields); f++)
            if (!isfinite((*score_at(u, &score_fields[f]))[i]))
                return err_set(e, "%s: layer %d %s %d: %s is not finite", path, at.layer,
                               unit_kind_table[at.kind].name, at.index, score_fields[f].name);
    }
    return 0;
}

static int load_meta(const struct st *st, const char *path, struct units *u, struct err *e) {
    for (int i = 0; i < st_meta_count(st); i++) {
        const char *key, *value;
        st_meta_at(st, i, &key, &value);
        if (is_shape_key(key))
            continue;
        if (u->nmeta == (int)ARRAY_LEN(u->meta) || strlen(key) >= sizeof u->meta[0].key
            || strlen(value) >= sizeof u->meta[0].value)
            return err_set(e, "%s: metadata \"%.60s\": expected at most %zu entries of %zu letters",
                           path, key, ARRAY_LEN(u->meta), sizeof u->meta[0].value - 1);
        units_set_meta(u, key, "%s", value);
    }
    return 0;
}

struct units *units_load(const char *path, struct err *e) {
    struct units *u = NULL;
    struct unit_map map;
    struct st *st = st_open(path, e);
    if (!st || load_map(st, path, &map, e) != 0)
        goto fail;
    u = units_new(&map);
    for (int k = 0; k < UNIT_KIND_COUNT; k++) {
        if (!(map.kinds >> k & 1))
            continue;
        if (load_tensor(st, path, &map, k, "class", DTYPE_U8, u->cls, e) != 0)
            goto fail;
        for (size_t f = 0; f < ARRAY_LEN(score_fields); f++)
            if (load_tensor(st, path, &map, k, score_fields[f].name, DTYPE_F32,
                            *score_at(u, &score_fields[f]), e) != 0)
                goto fail;
    }
    if (check_values(u, path, e) != 0 || load_meta(st, path, u, e) != 0)
        goto fail;
    st_close(st);
    return u;
fail:
    st_close(st);
    units_free(u);
    return NULL;
}

int units_check(const struct units *u, const struct model_config *cfg, const char *path,
                struct err *e) {
    const struct unit_map want = unit_map_make(cfg, u->map.kinds);
    const char *type = units_meta(u, "model_type");
    if (type && strcmp(type, cfg->model_type) != 0)
        return err_set(e, "%s: made for a %.40s model, this one is %s", path, type,
                       cfg->model_type);
    if (unit_map_equal(&want, &u->map))
        return 0;
    return err_set(e, "%s: made for %d layers, %d MLP units, %d heads (%d kv) of %d; the model has"
                   " %d layers, %d MLP units, %d heads (%d kv) of %d", path, u->map.layers,
                   u->map.intermediate, u->map.heads, u->map.kv_heads, u->map.head_dim, want.layers,
                   want.intermediate, want.heads, want.kv_heads, want.head_dim);
}

/* ---- sets ---- */

int units_count(const struct units *u, double share) {
    double n = floor(share * u->map.count + 0.5);
    return n < 0 ? 0 : n > u->map.count ? u->map.count : (int)n;
}

struct mask units_class_mask(const struct units *u, enum unit_class c) {
    struct mask m = mask_new(&u->map);
    for (int i = 0; i < u->map.count; i++)
        m.in[i] = u->cls[i] == c;
    return m;
}

struct ranked {
    double z;
    int id;
};

static int cmp_ranked(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->z != y->z)
        return x->z > y->z ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

void units_zscore(const double *x, int n, double *out) {
    double mean = 0, m2 = 0;
    for (int i = 0; i < n; i++)
        mean += x[i];
    mean /= MAX(n, 1);
    for (int i = 0; i < n; i++)
        m2 += (x[i] - mean) * (x[i] - mean);
    double sd = n > 1 ? sqrt(m2 / (n - 1)) : 0;
    bool flat = !(sd > 1e-12 * fabs(mean));     // equal scores differ from their mean by rounding
    for (int i = 0; i < n; i++)
        out[i] = flat ? 0 : (x[i] - mean) / sd;
}

struct mask units_top_cu(const struct units *u, double share) {
    const struct unit_map *map = &u->map;
    struct mask m = mask_new(map);
    double *i_s = xcalloc((size_t)map->count, 2 * sizeof *i_s), *z = i_s + map->count;
    struct ranked *cu = xcalloc((size_t)map->count, sizeof *cu);
    int n = 0;
    for (int i = 0; i < map->count; i++)
        i_s[i] = (double)u->i_s[i];
    for (int l = 0; l < map->layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            const int base = unit_base(map, l, (enum unit_kind)k);
            units_zscore(i_s + base, map->per_kind[k], z + base);
        }
    for (int i = 0; i < map->count; i++)
        if (u->cls[i] == UNIT_CU)
            cu[n++] = (struct ranked){z[i], i};
    qsort(cu, (size_t)n, sizeof *cu, cmp_ranked);
    const int want = units_count(u, share);
    for (int i = 0; i < n && i < want; i++)
        m.in[cu[i].id] = 1;
    free(i_s);
    free(cu);
    return m;
}

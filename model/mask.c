/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * mask.c — sets of units as one byte a unit, and what they mean for parameters.
 *
 * A set is kept over units, never over parameters: algebra, counts and hashes stay exact, and the
 * rows and columns follow from unit_part_table when they are asked for. A shared row (GQA) counts
 * as covered when any of its units is in the set, so a frozen channel is frozen as a whole. One
 * byte a unit, not one bit: half a million units for a 7B model, and every loop stays plain.
 */
#include "model/mask.h"

#include <stdlib.h>
#include <string.h>

struct mask mask_new(const struct unit_map *map) {
    return (struct mask){.map = *map, .in = xcalloc((size_t)map->count, 1)};
}

struct mask mask_copy(const struct mask *m) {
    struct mask c = mask_new(&m->map);
    memcpy(c.in, m->in, (size_t)m->map.count);
    return c;
}

void mask_release(struct mask *m) {
    free(m->in);
    *m = (struct mask){0};
}

int mask_count(const struct mask *m) {
    int n = 0;
    for (int i = 0; i < m->map.count; i++)
        n += m->in[i];
    return n;
}

int mask_count_kind(const struct mask *m, int layer, enum unit_kind kind) {
    int n = 0, first = layer < 0 ? 0 : layer, last = layer < 0 ? m->map.layers - 1 : layer;
    for (int l = first; l <= last; l++) {
        const uint8_t *in = m->in + unit_base(&m->map, l, kind);
        for (int i = 0; i < m->map.per_kind[kind]; i++)
            n += in[i];
    }
    return n;
}

static void check_same(const struct mask *a, const struct mask *b) {
    if (!unit_map_equal(&a->map, &b->map))
        BUG("mask: sets over different units (%d and %d)", a->map.count, b->map.count);
}

void mask_or(struct mask *a, const struct mask *b) {
    check_same(a, b);
    for (int i = 0; i < a->map.count; i++)
        a->in[i] |= b->in[i];
}

void mask_and(struct mask *a, const struct mask *b) {
    check_same(a, b);
    for (int i = 0; i < a->map.count; i++)
        a->in[i] &= b->in[i];
}

void mask_minus(struct mask *a, const struct mask *b) {
    check_same(a, b);
    for (int i = 0; i < a->map.count; i++)
        a->in[i] &= !b->in[i];
}

void mask_not(struct mask *a) {
    for (int i = 0; i < a->map.count; i++)
        a->in[i] = !a->in[i];
}

void mask_hash(const struct mask *m, char out[17]) {
    const struct unit_map *p = &m->map;
    const int shape[] = {p->layers, p->kinds, p->head_dim, p->heads, p->kv_heads, p->intermediate};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < ARRAY_LEN(shape); i++)
        for (int byte = 0; byte < 4; byte++)
            h = (h ^ ((uint32_t)shape[i] >> (8 * byte) & 255)) * 0x100000001b3u;
    for (int i = 0; i < p->count; i++)
        h = (h ^ m->in[i]) * 0x100000001b3u;
    snprintf(out, 17, "%016llx", (unsigned long long)h);
}

struct mask mask_random_like(const struct mask *m, uint64_t seed, const char *purpose) {
    struct mask r = mask_new(&m->map);
    int *pick = xcalloc((size_t)m->map.per_layer, sizeof *pick);
    for (int l = 0; l < m->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            int n = mask_count_kind(m, l, (enum unit_kind)k);
            uint8_t *in = r.in + unit_base(&m->map, l, (enum unit_kind)k);
            struct rng *g = rng_keyed(seed, purpose, (uint64_t)(l * UNIT_KIND_COUNT + k));
            rng_choose(g, m->map.per_kind[k], n, pick);
            rng_free(g);
            for (int i = 0; i < n; i++)
                in[pick[i]] = 1;
        }
    free(pick);
    return r;
}

/* ---- what a set means for parameters ---- */

/* in[n] for one matrix of one layer; the number of covered rows or columns. */
static int cover(const struct mask *m, int layer, const struct unit_part *part, uint8_t *in,
                 int n) {
    memset(in, 0, (size_t)n);
    const uint8_t *unit = m->in + unit_base(&m->map, layer, part->kind);
    int covered = 0;
    for (int i = 0; i < m->map.per_kind[part->kind]; i++) {
        if (!unit[i])
            continue;
        int first, width;
        unit_columns(&m->map, (struct unit){part->kind, layer, i}, &first, &width);
        for (int c = first; c < first + width; c++) {
            int at = unit_part_index(&m->map, part, c);
            if (at >= n)
                BUG("mask: %s has no row or column %d of %d", part->suffix, at, n);
            covered += !in[at];
            in[at] = 1;
        }
    }
    return covered;
}

void mask_expand(const struct mask *m, const struct model *model,
                 void (*fn)(void *ctx, struct param *p, enum freeze_kind axis, const uint8_t *in,
                            int n),
                 void *ctx) {
    struct unit_map map = unit_map_make(&model->cfg, m->map.kinds);
    if (!unit_map_equal(&map, &m->map))
        BUG("mask_expand: the set is over %d units, the model has %d", m->map.count, map.count);
    for (int l = 0; l < map.layers; l++)
        for (const struct unit_part *part = unit_part_table; part->suffix; part++) {
            if (!(map.kinds >> part->kind & 1))
                continue;
            struct param *p = model_layer_param(model, l, part->suffix);
            int n = (int)(part->axis == FREEZE_ROWS ? tensor_rows(&p->t) : tensor_cols(&p->t));
            uint8_t *in = xmalloc((size_t)n);
            if (cover(m, l, part, in, n) > 0)
                fn(ctx, p, part->axis, in, n);
            free(in);
        }
}

static void freeze_part(void *ctx, struct param *p, enum freeze_kind axis, const uint8_t *in,
                        int n) {
    (void)ctx;
    struct freeze *f = &p->freeze;
    free(f->live);
    *f = (struct freeze){.kind = axis, .live = xcalloc((size_t)n, sizeof *f->live)};
    for (int i = 0; i < n; i++)
        if (!in[i])
            f->live[f->nlive++] = i;
    if (f->nlive == 0) {                    // all of it: one kind for one state
        free(f->live);
        *f = (struct freeze){.kind = FREEZE_ALL};
    }
}

static bool in_some_unit(const struct param *p, int kinds) {
    size_t len = strlen(p->name);
    for (const struct unit_part *part = unit_part_table; part->suffix; part++) {
        size_t n = strlen(part->suffix);
        if (p->layer >= 0 && kinds >> part->kind & 1 && len > n
            && strcmp(p->name + len - n, part->suffix) == 0)
            return true;
    }
    return false;
}

void mask_freeze(const struct mask *m, struct model *model, bool train_other) {
    const int kinds = m ? m->map.kinds : 1 << UNIT_MLP | 1 << UNIT_ATTN;
    model_unfreeze(model);
    for (int i = 0; !train_other && i < model->nparams; i++)
        if (!in_some_unit(&model->params[i], kinds))
            model->params[i].freeze.kind = FREEZE_ALL;
    if (m)
        mask_expand(m, model, freeze_part, NULL);
}

static void copy_part(void *ctx, struct param *p, enum freeze_kind axis, const uint8_t *in, int n) {
    const struct param *from = model_param(ctx, p->name);
    if (!from || from->t.count != p->t.count)
        BUG("mask_copy_params: %s differs in shape", p->name);
    real *dst = tensor_data(&p->t);
    const real *src = tensor_data(&from->t);
    const size_t rows = (size_t)tensor_rows(&p->t), cols = (size_t)tensor_cols(&p->t);
    for (size_t r = 0; r < rows; r++) {
        if (axis == FREEZE_ROWS && in[r])
            memcpy(dst + r * cols, src + r * cols, cols * sizeof *dst);
        for (int c = 0; axis == FREEZE_COLS && c < n; c++)
            if (in[c])
                dst[r * cols + (size_t)c] = src[r * cols + (size_t)c];
    }
}

void mask_copy_params(const struct mask *m, struct model *dst, const struct model *src) {
    mask_expand(m, dst, copy_part, (void *)(uintptr_t)src);
}

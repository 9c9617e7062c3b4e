/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_unit.c — numbering of units and the table of what they own.
 *
 * That a unit's entries are the right ones is shown on the forward pass of every architecture: they
 * move the unit's activation and no other, and without them it is zero.
 */
#include <math.h>

#include "model/op.h"
#include "tests/helper_units.h"

static void numbering_is_layer_kind_index(void **state) {
    (void)state;
    const struct model_config cfg = test_config();          // L 2, F 24, H 4, D 4
    const int per_layer[] = {24, 16, 4, 40, 28};
    for (size_t s = 0; s < TEST_KIND_SETS; s++) {
        const struct unit_map map = unit_map_make(&cfg, test_kind_sets[s]);
        assert_int_equal(map.per_layer, per_layer[s]);
        assert_int_equal(map.count, 2 * per_layer[s]);
        int id = 0;
        for (int l = 0; l < map.layers; l++)
            for (int k = 0; k < UNIT_KIND_COUNT; k++) {
                if (map.per_kind[k])
                    assert_int_equal(unit_base(&map, l, (enum unit_kind)k), id);
                for (int i = 0; i < map.per_kind[k]; i++, id++) {
                    const struct unit u = unit_at(&map, id);
                    assert_int_equal(u.layer, l);
                    assert_int_equal(u.kind, k);
                    assert_int_equal(u.index, i);
                    assert_int_equal(unit_id(&map, u), id);
                }
            }
        assert_int_equal(id, map.count);
    }
}

/* The columns of the units of a kind tile the tap's activation. */
static void columns_tile_the_activation(void **state) {
    (void)state;
    const struct model_config cfg = test_config();
    const int width[UNIT_KIND_COUNT] = {24, 16, 16};
    for (int k = 0; k < UNIT_KIND_COUNT; k++) {
        const struct unit_map map = unit_map_make(&cfg, 1 << k);
        int at = 0;
        for (int i = 0; i < map.per_kind[k]; i++) {
            int first, n;
            unit_columns(&map, (struct unit){(enum unit_kind)k, 1, i}, &first, &n);
            assert_int_equal(first, at);
            at += n;
        }
        assert_int_equal(at, width[k]);
    }
}

static void names_find_their_rows(void **state) {
    (void)state;
    for (int k = 0; k < UNIT_KIND_COUNT; k++) {
        assert_int_equal(unit_kind_find(unit_kind_table[k].name), k);
        assert_true(strlen(unit_kind_table[k].help) > 0);
    }
    assert_int_equal(unit_kind_find("neuron"), -1);
    assert_int_equal(unit_kind_table[UNIT_MLP].tap, TAP_MLP_HIDDEN);
    assert_int_equal(unit_kind_table[UNIT_ATTN].tap, TAP_ATTN_HEADS);
    assert_int_equal(unit_kind_table[UNIT_HEAD].tap, TAP_ATTN_HEADS);
}

/* Every part that a parameter holds gives each channel one row or column, a shared one serves the
 * H/K heads of its group; every row of the table is of use to some architecture. */
static void parts_fit_the_models(void **state) {
    (void)state;
    bool used[64] = {false};
    for (int a = 0; arch_table[a]; a++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            struct model *m = test_units_model(arch_table[a], 1);
            const struct unit_map map = unit_map_make(&m->cfg, 1 << k);
            const int sharers = m->cfg.num_attention_heads / m->cfg.num_key_value_heads;
            for (int i = 0; i < m->nparams; i++) {
                const struct param *w = &m->params[i];
                for (const struct unit_part *p = unit_part_next(&map, m, w, NULL); p;
                     p = unit_part_next(&map, m, w, p)) {
                    const int n = (int)unit_part_extent(&map, p), channels = k ? 16 : 24;
                    int *uses = xcalloc((size_t)n, sizeof *uses), lines = 0;
                    for (int c = 0; c < channels; c++) {
                        const int at = unit_part_index(&map, p, c);
                        assert_in_range(at, 0, n - 1);
                        lines += uses[at]++ == 0;
                    }
                    for (int r = 0; r < n; r++)
                        assert_true(uses[r] == 0 || uses[r] == (p->shared ? sharers : 1));
                    assert_int_equal(lines, channels / (p->shared ? sharers : 1));
                    free(uses);
                    assert_in_range(p - unit_part_table, 0, ARRAY_LEN(used) - 1);
                    used[p - unit_part_table] = true;
                }
            }
            model_free(m);
        }
    for (const struct unit_part *p = unit_part_table; p->suffix; p++)
        if (!used[p - unit_part_table])
            fail_msg("no architecture has %s, a part of %s units", p->suffix,
                     unit_kind_table[p->kind].name);
}

static void channels_find_their_rows(void **state) {
    (void)state;
    /* heads 0, 1 read kv head 0; heads 2, 3 kv head 1: channel h 4 + d, row (h / 2) 4 + d */
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, 1 << UNIT_ATTN);
    const struct unit_part v = {UNIT_ATTN, "v", FREEZE_ROWS, true, '0', 'K', false};
    const struct unit_part fused = {UNIT_ATTN, "qkv", FREEZE_ROWS, true, 'S', 'X', false};
    static const int channel[] = {1, 5, 9, 15}, row[] = {1, 1, 5, 7};
    for (size_t i = 0; i < ARRAY_LEN(channel); i++) {
        assert_int_equal(unit_part_index(&map, &v, channel[i]), row[i]);
        assert_int_equal(unit_part_index(&map, &fused, channel[i]), 16 + 8 + row[i]);
    }
}

/* The parameter that a part calls the output is the one of the slot, along its axis. */
static void outputs_are_marked(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            struct model *m = test_units_model(arch_table[a], 1);
            const struct unit_map map = unit_map_make(&m->cfg, 1 << k);
            enum freeze_kind axis;
            const struct param *out = unit_out_param(m, 1, (enum unit_kind)k, &axis);
            assert_ptr_equal(out, unit_out_param(m, 1, (enum unit_kind)k, NULL));
            assert_int_equal(axis, arch_table[a]->conv1d ? FREEZE_ROWS : FREEZE_COLS);
            int found = 0;
            for (int i = 0; i < m->nparams; i++)
                for (const struct unit_part *p = unit_part_next(&map, m, &m->params[i], NULL); p;
                     p = unit_part_next(&map, m, &m->params[i], p))
                    if (p->out && m->params[i].layer == 1) {
                        assert_ptr_equal(&m->params[i], out);
                        assert_int_equal(p->axis, axis);
                        found++;
                    }
            assert_int_equal(found, 1);
            model_free(m);
        }
}

/* ---- units on the forward pass ---- */

struct recording {
    enum tap_point point;
    int layer, cols;
    size_t count;
    real *x;                                /* [T, cols] */
};

static void record(void *ctx, enum tap_point point, int layer, struct node *n) {
    struct recording *r = ctx;
    if (point != r->point || layer != r->layer)
        return;
    r->cols = (int)tensor_cols(&n->t);
    r->count = n->t.count;
    r->x = xreallocarray(NULL, r->count, sizeof *r->x);
    memcpy(r->x, tensor_data(&n->t), r->count * sizeof *r->x);
}

/* The activation of a kind's tap in a layer, over two sequences. */
static struct recording activation(struct model *m, enum unit_kind kind, int layer) {
    static const int32_t ids[] = {3, 17, 41, 8, 60, 22, 5, 9, 33, 12, 50}, offsets[] = {0, 7, 11};
    const struct batch b = {.ntok = 11, .nseq = 2, .ids = ids, .offsets = offsets};
    struct recording r = {.point = unit_kind_table[kind].tap, .layer = layer};
    struct graph *g = graph_new();
    graph_tap_add(g, &(struct tap){.fn = record, .ctx = &r, .points = 1u << r.point});
    graph_begin(g, false);
    model_hidden(g, m, &b, NULL);
    graph_free(g);
    return r;
}

struct change {
    const struct param *skip;               /* the output matrix: it comes behind the tap */
    bool skip_queries;
    real factor, add;                       /* covered entries become factor x + add */
};

static void change_part(void *ctx, struct param *p, enum freeze_kind axis, const uint8_t *in,
                        int n) {
    const struct change *c = ctx;
    const bool query = p->slot == SLOT_Q || p->slot == SLOT_Q_BIAS || p->slot == SLOT_K
                    || p->slot == SLOT_K_BIAS;
    const int cols = (int)tensor_cols(&p->t);
    (void)n;
    if (p == c->skip || (c->skip_queries && query))
        return;
    for (int k = 0; k < (int)p->t.count; k++)
        if (in[axis == FREEZE_ROWS ? k / cols : k % cols])
            tensor_data(&p->t)[k] = c->factor * tensor_data(&p->t)[k] + c->add;
}

/* The activation with the input entries of one unit changed. */
static struct recording changed(const struct model *dense, const struct unit_map *map,
                                struct unit u, real factor, real add) {
    struct model *m = model_clone(dense);
    struct mask one = mask_new(map);
    const struct param *qnorm = model_slot(m, u.layer, SLOT_Q_NORM);
    struct change c = {
        .skip = unit_out_param(m, u.layer, u.kind, NULL), .factor = factor, .add = add,
        /* a norm over all queries joins the heads before their scores */
        .skip_queries = qnorm && (int)qnorm->t.count > m->cfg.head_dim,
    };
    one.in[unit_id(map, u)] = 1;
    mask_expand(&one, m, change_part, &c);
    mask_release(&one);
    struct recording r = activation(m, u.kind, u.layer);
    model_free(m);
    return r;
}

/* Does column `col` of the tap read what unit u owns? Its own do, and under GQA those of the heads
 * that share a row with it. */
static bool reads_unit(const struct model_config *c, struct unit u, int col) {
    const int d = c->head_dim, group = c->num_attention_heads / c->num_key_value_heads;
    if (u.kind == UNIT_MLP)
        return col == u.index;
    if (u.kind == UNIT_ATTN)
        return col / d / group == u.index / d / group && col % d == u.index % d;
    return col / d / group == u.index / group;
}

static void inputs_move_their_own_columns(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            struct model *m = test_units_model(arch_table[a], 2);
            const struct unit_map map = unit_map_make(&m->cfg, 1 << k);
            struct recording dense = activation(m, (enum unit_kind)k, 1);
            for (int i = 0; i < map.per_kind[k]; i++) {
                const struct unit u = {(enum unit_kind)k, 1, i};
                struct recording now = changed(m, &map, u, R(1.5), R(0.125));
                for (int c = 0; c < dense.cols; c++) {
                    double moved = 0;
                    for (size_t t = (size_t)c; t < dense.count; t += (size_t)dense.cols)
                        moved = fmax(moved, fabs((double)now.x[t] - (double)dense.x[t]));
                    if (reads_unit(&m->cfg, u, c) ? moved < 1e-3 : moved != 0)
                        fail_msg("%s: %s unit %d moves column %d by %g", m->cfg.model_type,
                                 unit_kind_table[k].name, i, c, moved);
                }
                free(now.x);
            }
            free(dense.x);
            model_free(m);
        }
}

/* Nothing else feeds a unit: with its input entries zero, so is its activation. */
static void inputs_are_complete(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++) {
            struct model *m = test_units_model(arch_table[a], 3);
            const struct unit_map map = unit_map_make(&m->cfg, 1 << k);
            for (int i = 0; i < map.per_kind[k]; i++) {
                const struct unit u = {(enum unit_kind)k, 1, i};
                struct recording now = changed(m, &map, u, 0, 0);
                int first, n;
                unit_columns(&map, u, &first, &n);
                for (size_t t = 0; t < now.count; t++) {
                    const int c = (int)t % now.cols;
                    if (c >= first && c < first + n && now.x[t] != 0)
                        fail_msg("%s: %s unit %d: %g is left", m->cfg.model_type,
                                 unit_kind_table[k].name, i, (double)now.x[t]);
                }
                free(now.x);
            }
            model_free(m);
        }
}

static void maps_compare(void **state) {
    (void)state;
    const struct model_config cfg = test_config();
    const struct unit_map a = unit_map_make(&cfg, 1 << UNIT_MLP);
    struct unit_map b = unit_map_make(&cfg, 1 << UNIT_MLP);
    assert_true(unit_map_equal(&a, &b));
    b.kv_heads = 4;                         // the same units, other weights
    assert_false(unit_map_equal(&a, &b));
    b = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    assert_false(unit_map_equal(&a, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbering_is_layer_kind_index),
        cmocka_unit_test(columns_tile_the_activation),
        cmocka_unit_test(names_find_their_rows),
        cmocka_unit_test(parts_fit_the_models),
        cmocka_unit_test(channels_find_their_rows),
        cmocka_unit_test(outputs_are_marked),
        cmocka_unit_test(inputs_move_their_own_columns),
        cmocka_unit_test(inputs_are_complete),
        cmocka_unit_test(maps_compare),
    };
    return cmocka_run_group_tests_name("unit", tests, NULL, NULL);
}

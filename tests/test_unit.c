/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_unit.c — numbering of units and the table of what they own.
 */
#include "tests/helper.h"

#include "model/unit.h"

static const int kind_sets[] = {
    1 << UNIT_MLP, 1 << UNIT_ATTN, 1 << UNIT_HEAD, 1 << UNIT_MLP | 1 << UNIT_ATTN,
    1 << UNIT_MLP | 1 << UNIT_HEAD,
};

static void numbering_is_layer_kind_index(void **state) {
    (void)state;
    const struct model_config cfg = test_config();          // L 2, F 24, H 4, D 4
    const int per_layer[] = {24, 16, 4, 40, 28};
    for (size_t s = 0; s < ARRAY_LEN(kind_sets); s++) {
        const struct unit_map map = unit_map_make(&cfg, kind_sets[s]);
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

/* Every row of the table names a matrix of the model, and every channel a row or column of it; a
 * shared row serves the H/K heads of its group. */
static void parts_fit_the_model(void **state) {
    (void)state;
    struct model *m = test_model(1);
    const int sharers = m->cfg.num_attention_heads / m->cfg.num_key_value_heads;
    for (const struct unit_part *p = unit_part_table; p->suffix; p++) {
        const struct unit_map map = unit_map_make(&m->cfg, 1 << p->kind);
        const struct param *w = model_layer_param(m, 1, p->suffix);
        const int n = (int)(p->axis == FREEZE_ROWS ? tensor_rows(&w->t) : tensor_cols(&w->t));
        const int channels = p->kind == UNIT_MLP ? 24 : 16;
        int *uses = xcalloc((size_t)n, sizeof *uses);
        for (int c = 0; c < channels; c++) {
            const int at = unit_part_index(&map, p, c);
            assert_in_range(at, 0, n - 1);
            uses[at]++;
        }
        for (int i = 0; i < n; i++)
            assert_int_equal(uses[i], p->shared ? sharers : 1);
        free(uses);
    }
    /* heads 0, 1 read kv head 0; heads 2, 3 kv head 1: channel h 4 + d, row (h / 2) 4 + d */
    const struct unit_map map = unit_map_make(&m->cfg, 1 << UNIT_ATTN);
    const struct unit_part v = {UNIT_ATTN, "v", FREEZE_ROWS, true};
    assert_int_equal(unit_part_index(&map, &v, 1), 1);
    assert_int_equal(unit_part_index(&map, &v, 5), 1);
    assert_int_equal(unit_part_index(&map, &v, 9), 5);
    assert_int_equal(unit_part_index(&map, &v, 15), 7);
    assert_ptr_equal(unit_out_param(m, 1, UNIT_MLP),
                     model_param(m, "model.layers.1.mlp.down_proj.weight"));
    assert_ptr_equal(unit_out_param(m, 0, UNIT_ATTN),
                     model_param(m, "model.layers.0.self_attn.o_proj.weight"));
    assert_ptr_equal(unit_out_param(m, 0, UNIT_HEAD), unit_out_param(m, 0, UNIT_ATTN));
    model_free(m);
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
        cmocka_unit_test(parts_fit_the_model),
        cmocka_unit_test(maps_compare),
    };
    return cmocka_run_group_tests_name("unit", tests, NULL, NULL);
}

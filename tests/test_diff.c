/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_diff.c — tensors and units of two checkpoints, against values worked out by hand.
 */
#include "tests/helper_units.h"

#include <math.h>

#include "ckpt/diff.h"

struct spec {
    const char *name;
    enum dtype dtype;
    int n;
    real v[8];
};

static const char *write_tensors(const char *name, const struct spec *t, int n) {
    struct err e = {0};
    struct st_writer *w = st_writer_new();
    for (int i = 0; i < n; i++)
        st_writer_add_real(w, t[i].name, t[i].dtype, 1, (const int64_t[]){t[i].n}, t[i].v);
    assert_ok(st_save(w, test_path(name), &e), &e);
    st_writer_free(w);
    return test_path(name);
}

static struct diff *open_or_fail(const char *a, const char *b, const struct unit_map *map) {
    struct err e = {0};
    struct diff *d = diff_open(a, b, map, &e);
    if (!d)
        fail_msg("%s", e.msg);
    return d;
}

static const struct diff_tensor *tensor(const struct diff *d, const char *name) {
    for (int i = 0; i < d->ntensors; i++)
        if (strcmp(d->tensors[i].name, name) == 0)
            return &d->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void every_state_has_its_case(void **state) {
    (void)state;
    const struct spec a[] = {
        {"same", DTYPE_F32, 2, {1, 2}}, {"values", DTYPE_F32, 2, {1, -2}},
        {"changed", DTYPE_F32, 4, {3, 0, 4, 0}}, {"shape", DTYPE_F32, 2, {1, 2}},
        {"gone", DTYPE_F32, 1, {1}}, {"zero", DTYPE_F32, 2, {0, 0}},
    };
    const struct spec b[] = {
        {"same", DTYPE_F32, 2, {1, 2}}, {"values", DTYPE_BF16, 2, {1, -2}},
        {"changed", DTYPE_F32, 4, {3, 0, 4, 5}}, {"shape", DTYPE_F32, 3, {1, 2, 3}},
        {"new", DTYPE_F32, 1, {1}}, {"zero", DTYPE_F32, 2, {R(-0.0), 0}},
    };
    struct diff *d = open_or_fail(write_tensors("a.safetensors", a, 6),
                                  write_tensors("b.safetensors", b, 6), NULL);
    static const struct {
        const char *name;
        enum diff_state state;
    } want[] = {
        {"same", DIFF_SAME}, {"values", DIFF_SAME_VALUES}, {"changed", DIFF_CHANGED},
        {"shape", DIFF_SHAPE}, {"gone", DIFF_ONLY_A}, {"new", DIFF_ONLY_B},
    };
    assert_int_equal(ARRAY_LEN(want), DIFF_STATE_COUNT);
    assert_int_equal(d->ntensors, 7);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_string_equal(diff_state_names[tensor(d, want[i].name)->state],
                            diff_state_names[want[i].state]);
    assert_false(diff_is_same(d));
    const struct diff_sum *s = &tensor(d, "changed")->all;
    assert_int_equal(s->count, 4);
    assert_int_equal(s->changed, 1);
    assert_near(s->max_abs, 5, 0, 0, "max");
    assert_near(diff_mean_abs(s), 1.25, 0, 0, "mean");
    assert_near(diff_rel_l2(s), 1, 1e-15, 0, "relative L2");
    assert_near(diff_cosine(s), 25 / (5 * sqrt(50)), 1e-15, 0, "cosine");
    /* a sign of zero is a changed bit, and no change of value */
    assert_int_equal(tensor(d, "zero")->all.changed, 1);
    assert_near(diff_rel_l2(&tensor(d, "zero")->all), 0, 0, 0, "zero");
    diff_free(d);

    d = open_or_fail(test_path("a.safetensors"), test_path("a.safetensors"), NULL);
    assert_true(diff_is_same(d));
    assert_int_equal(d->states[DIFF_SAME], 6);
    diff_free(d);
}

static void other_dtypes_compare_by_value(void **state) {
    (void)state;
    const struct spec a[] = {{"t", DTYPE_F32, 3, {1, R(1.001), NAN}}};
    const struct spec b[] = {{"t", DTYPE_BF16, 3, {1, R(1.001), NAN}}};
    struct diff *d = open_or_fail(write_tensors("a.safetensors", a, 1),
                                  write_tensors("b.safetensors", b, 1), NULL);
    const struct diff_tensor *t = tensor(d, "t");
    assert_int_equal(t->state, DIFF_CHANGED);
    assert_int_equal(t->all.changed, 1);    // 1.001 is no bf16; NaN equals NaN
    assert_near(t->all.max_abs, fabs(1.0 - 1.001), 0, 1e-7, "rounding");
    diff_free(d);

    const struct spec c[] = {{"t", DTYPE_F32, 3, {1, R(1.001), INFINITY}}};
    d = open_or_fail(test_path("a.safetensors"), write_tensors("c.safetensors", c, 1), NULL);
    assert_int_equal(tensor(d, "t")->all.changed, 1);
    assert_true(isnan(tensor(d, "t")->all.max_abs));    // not hidden
    diff_free(d);
}

static void integers_compare_by_bytes(void **state) {
    (void)state;
    struct err e = {0};
    static const int32_t v[2][3] = {{1, 2, 3}, {1, 5, 3}};
    static const char *const names[] = {"i0.safetensors", "i1.safetensors"};
    for (int i = 0; i < 2; i++) {
        struct st_writer *w = st_writer_new();
        st_writer_add(w, "t", DTYPE_I32, 1, (const int64_t[]){3}, v[i]);
        assert_ok(st_save(w, test_path(names[i]), &e), &e);
        st_writer_free(w);
    }
    struct diff *d = open_or_fail(test_path(names[0]), test_path(names[1]), NULL);
    assert_int_equal(tensor(d, "t")->all.changed, 1);
    assert_false(tensor(d, "t")->numbers);
    diff_free(d);
}

/* ---- units ---- */

/* Moves the entries of some units alone: exactly they, and what shares rows with them, changed. */
static void units_that_moved(void **state) {
    (void)state;
    struct model *a = test_model(1), *b = test_model(1);
    const struct unit_map map = unit_map_make(&a->cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    const struct unit neuron = {UNIT_MLP, 1, 7}, channel = {UNIT_ATTN, 0, 6};
    tensor_data(&model_layer_param(b, 1, "mlp.gate_proj.weight")->t)[7 * 16 + 2] += 2;
    tensor_data(&model_layer_param(b, 1, "mlp.down_proj.weight")->t)[3 * 24 + 7] -= 1;
    /* channel 6 = head 1, d 2: v row 2, shared with channel 2 of head 0 */
    tensor_data(&model_layer_param(b, 0, "self_attn.v_proj.weight")->t)[2 * 16 + 5] += 3;
    struct diff *d = open_or_fail(test_save_weights(a, test_path("ua"), false),
                                  test_save_weights(b, test_path("ub"), false), &map);
    for (int i = 0; i < map.count; i++) {
        const struct unit u = unit_at(&map, i);
        const struct diff_sum *s = &d->units[i];
        const bool is_neuron = i == unit_id(&map, neuron);
        const bool is_channel = u.layer == 0 && u.kind == UNIT_ATTN
                             && (u.index == channel.index || u.index == 2);
        assert_int_equal(s->changed, is_neuron ? 2 : is_channel ? 1 : 0);
        assert_int_equal(s->count, u.kind == UNIT_MLP ? 3 * 16 : 2 * 16);
        assert_near(s->d2, is_neuron ? 5 : is_channel ? 9 : 0, 1e-5, 0, "sum of squares");
    }
    /* ||a||^2 of the neuron from its own entries */
    const real *gate = tensor_data(&model_layer_param(a, 1, "mlp.gate_proj.weight")->t);
    const real *up = tensor_data(&model_layer_param(a, 1, "mlp.up_proj.weight")->t);
    const real *down = tensor_data(&model_layer_param(a, 1, "mlp.down_proj.weight")->t);
    double a2 = 0;
    for (int i = 0; i < 16; i++)
        a2 += pow((double)gate[7 * 16 + i], 2) + pow((double)up[7 * 16 + i], 2)
            + pow((double)down[i * 24 + 7], 2);
    assert_near(diff_rel_l2(&d->units[unit_id(&map, neuron)]), sqrt(5 / a2), 1e-5, 0, "relative");
    diff_free(d);
    model_free(a);
    model_free(b);
}

/* A random step of every entry: each unit's sums are those over the entries it owns. */
static void check_units(const struct model *a, const struct model *b, const struct diff *d) {
    struct diff_sum *want = xcalloc((size_t)d->map.count, sizeof *want);
    for (int i = 0; i < a->nparams; i++) {
        const struct param *p = &a->params[i];
        const int cols = (int)tensor_cols(&p->t);
        for (int k = 0; k < (int)p->t.count; k++)
            for (int u = 0; u < d->map.count; u++) {
                if (!test_unit_owns(a, unit_at(&d->map, u), p, k / cols, k % cols))
                    continue;
                const double x = (double)tensor_data(&p->t)[k];
                const double y = (double)tensor_data(&b->params[i].t)[k];
                want[u].count++;
                want[u].changed += x != y;
                want[u].abs += fabs(y - x);
                want[u].d2 += (y - x) * (y - x);
                want[u].a2 += x * x;
                want[u].max_abs = fmax(want[u].max_abs, fabs(y - x));
            }
    }
    for (int u = 0; u < d->map.count; u++) {
        assert_int_equal(d->units[u].count, want[u].count);
        assert_int_equal(d->units[u].changed, want[u].changed);
        assert_near(d->units[u].abs, want[u].abs, 1e-12, 0, "sum of sizes");
        assert_near(d->units[u].d2, want[u].d2, 1e-12, 0, "sum of squares");
        assert_near(diff_rel_l2(&d->units[u]), sqrt(want[u].d2 / want[u].a2), 1e-12, 0, "rel L2");
        assert_near(d->units[u].max_abs, want[u].max_abs, 0, 0, "largest");
    }
    free(want);
}

static void units_of_every_architecture(void **state) {
    (void)state;
    for (int i = 0; arch_table[i]; i++) {
        struct model *a = test_units_model(arch_table[i], 1), *b = model_clone(a);
        a->cfg.dtype = b->cfg.dtype = REAL_IS_DOUBLE ? DTYPE_F64 : DTYPE_F32;
        struct rng *r = rng_new(2);
        for (size_t k = 0; k < b->count; k++)
            b->block[k] += rng_uniform(r) < 0.5 ? (real)rng_normal(r) : 0;
        rng_free(r);
        for (int s = 0; s < 2 * TEST_KIND_SETS; s++) {
            const struct unit_map map = unit_map_make(&a->cfg, test_kind_sets[s / 2]);
            /* GPT-2 with and without its prefix in every pairing; the same names elsewhere */
            struct diff *d = open_or_fail(test_save_weights(a, test_path("da"), s & 1),
                                          test_save_weights(b, test_path("db"), s & 2), &map);
            assert_int_equal(d->ntensors, a->nparams);
            assert_true(d->states[DIFF_CHANGED] > a->nparams / 2);
            assert_int_equal(d->states[DIFF_CHANGED] + d->states[DIFF_SAME], a->nparams);
            check_units(a, b, d);
            diff_free(d);
        }
        model_free(a);
        model_free(b);
    }
}

/* A tied GPT-2 file without prefix against an untied one with it. */
static void heads_of_gpt2(void **state) {
    (void)state;
    const struct spec a[] = {{"wte.weight", DTYPE_F32, 2, {1, 2}}};
    const struct spec b[] = {{"lm_head.weight", DTYPE_F32, 2, {1, 2}},
                             {"transformer.wte.weight", DTYPE_F32, 2, {1, 3}}};
    struct diff *d = open_or_fail(write_tensors("bare.safetensors", a, 1),
                                  write_tensors("long.safetensors", b, 2), NULL);
    assert_int_equal(d->ntensors, 2);
    assert_int_equal(tensor(d, "lm_head.weight")->state, DIFF_SAME);
    assert_int_equal(tensor(d, "wte.weight")->state, DIFF_CHANGED);
    diff_free(d);
    d = open_or_fail(test_path("long.safetensors"), test_path("bare.safetensors"), NULL);
    assert_int_equal(tensor(d, "lm_head.weight")->state, DIFF_SAME);
    assert_int_equal(tensor(d, "transformer.wte.weight")->state, DIFF_CHANGED);
    diff_free(d);
}

/* Parts that the file alone can tell to be missing or of another size. */
static void units_that_do_not_fit(void **state) {
    (void)state;
    static const struct {
        const char *model_type, *name;      /* left out of B, or of both */
        bool both;
        int kinds;
        const char *says;                   /* NULL: compares */
    } cases[] = {
        {"llama", "model.layers.1.mlp.gate_proj.weight", false, 1 << UNIT_MLP,
         "db: model.layers.1.mlp.gate_proj.weight: the units need a matrix of 24 rows on both "
         "sides, got 0"},
        {"llama", "model.layers.1.mlp.gate_proj.bias", true, 1 << UNIT_MLP, NULL},
        {"llama", "model.layers.1.mlp.gate_proj.bias", false, 1 << UNIT_MLP, "24 rows"},
        {"llama", "model.layers.1.mlp.down_proj.weight", true, 1 << UNIT_MLP,
         "model.layers.1.mlp.down_proj.weight: the units need a matrix of 24 columns"},
        {"llama", "model.layers.1.mlp.down_proj.weight", true, 1 << UNIT_ATTN, NULL},
        {"gpt2", "transformer.h.1.attn.c_attn.bias", false, 1 << UNIT_HEAD, "48 rows"},
        {"gpt2", "transformer.h.0.mlp.c_proj.weight", true, 1 << UNIT_MLP,
         "transformer.h.0.mlp.c_proj.weight: the units need a matrix of 24 rows"},
        {"olmo2", "model.layers.1.self_attn.q_norm.weight", false, 1 << UNIT_HEAD, "16 rows"},
        {"qwen3", "model.layers.1.self_attn.q_norm.weight", false, 1 << UNIT_HEAD, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        struct model *m = test_units_model(arch_find(cases[i].model_type), 1);
        const struct unit_map map = unit_map_make(&m->cfg, cases[i].kinds);
        struct param *p = model_param(m, cases[i].name);
        assert_non_null(p);
        for (int side = 0; side < 2; side++) {
            if (side == 1 || cases[i].both)
                snprintf(p->name, sizeof p->name, "other");
            test_save_weights(m, test_path(side ? "db" : "da"), false);
        }
        struct diff *d = diff_open(test_path("db"), test_path("da"), &map, &e);
        if ((d != NULL) != !cases[i].says)
            fail_msg("case %zu: %s", i, e.msg);
        if (!d)
            assert_contains(e.msg, cases[i].says);
        diff_free(d);
        model_free(m);
    }
}

static void tied_heads_and_files_without_units(void **state) {
    (void)state;
    struct err e = {0};
    const struct spec a[] = {{"lm_head.weight", DTYPE_F32, 2, {1, 2}},
                             {"model.embed_tokens.weight", DTYPE_F32, 2, {1, 2}}};
    struct diff *d = open_or_fail(write_tensors("untied.safetensors", a, 2),
                                  write_tensors("tied.safetensors", a + 1, 1), NULL);
    assert_true(diff_is_same(d));
    diff_free(d);
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, 1 << UNIT_MLP);
    assert_null(diff_open(test_path("untied.safetensors"), test_path("tied.safetensors"), &map,
                          &e));
    assert_contains(e.msg, "the units need a matrix of 24 columns");
    assert_null(diff_open(test_path("untied.safetensors"), test_path("none"), NULL, &e));
    assert_contains(e.msg, "none: cannot open");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_has_its_case),
        cmocka_unit_test(other_dtypes_compare_by_value),
        cmocka_unit_test(integers_compare_by_bytes),
        cmocka_unit_test(units_that_moved),
        cmocka_unit_test(units_of_every_architecture),
        cmocka_unit_test(heads_of_gpt2),
        cmocka_unit_test(units_that_do_not_fit),
        cmocka_unit_test(tied_heads_and_files_without_units),
    };
    return cmocka_run_group_tests_name("diff", tests, NULL, NULL);
}

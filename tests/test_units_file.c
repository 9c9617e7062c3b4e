/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_units_file.c — units files in and out, files that do not fit, and "top CU".
 */
#include "tests/helper.h"

#include <math.h>

#include "ckpt/safetensors.h"
#include "ckpt/units_file.h"

/* Scores and classes that differ for every unit. */
static struct units *make_units(int kinds) {
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, kinds);
    struct units *u = units_new(&map);
    struct rng *r = rng_new(11);
    for (int i = 0; i < map.count; i++) {
        u->cls[i] = (uint8_t)rng_below(r, UNIT_CLASS_COUNT);
        u->i_s[i] = (float)rng_uniform(r);
        u->i_u[i] = (float)rng_uniform(r);
        u->difference[i] = u->i_s[i] - u->i_u[i];
        u->sum[i] = u->i_s[i] + u->i_u[i];
    }
    rng_free(r);
    return u;
}

static void files_round_trip(void **state) {
    (void)state;
    static const int kind_sets[] = {
        1 << UNIT_MLP, 1 << UNIT_ATTN, 1 << UNIT_HEAD, 1 << UNIT_MLP | 1 << UNIT_ATTN,
        1 << UNIT_MLP | 1 << UNIT_HEAD,
    };
    const char *path = test_path("units.safetensors");
    for (size_t s = 0; s < ARRAY_LEN(kind_sets); s++) {
        struct err e = {0};
        struct units *u = make_units(kind_sets[s]);
        units_set_meta(u, "model_sha256", "%s", "first");
        units_set_meta(u, "model_sha256", "%064d", 7);
        units_set_meta(u, "seed", "%d", 42);
        assert_ok(units_save(u, path, &e), &e);
        struct units *v = units_load(path, &e);
        if (!v)
            fail_msg("%s", e.msg);
        assert_true(unit_map_equal(&u->map, &v->map));
        const size_t n = (size_t)u->map.count;
        assert_memory_equal(u->cls, v->cls, n);
        assert_memory_equal(u->i_s, v->i_s, n * sizeof(float));
        assert_memory_equal(u->i_u, v->i_u, n * sizeof(float));
        assert_memory_equal(u->difference, v->difference, n * sizeof(float));
        assert_memory_equal(u->sum, v->sum, n * sizeof(float));
        assert_int_equal(v->nmeta, 2);
        assert_string_equal(units_meta(v, "seed"), "42");
        assert_int_equal(strlen(units_meta(v, "model_sha256")), 64);
        assert_null(units_meta(v, "layers"));
        const struct model_config cfg = test_config();
        assert_ok(units_check(v, &cfg, path, &e), &e);
        units_free(u);
        units_free(v);
    }
}

/* The layout that others read: [L, n] matrices a kind. */
static void tensors_are_plain_matrices(void **state) {
    (void)state;
    struct err e = {0};
    const char *path = test_path("plain.safetensors");
    struct units *u = make_units(1 << UNIT_MLP | 1 << UNIT_ATTN);
    assert_ok(units_save(u, path, &e), &e);
    struct st *st = st_open(path, &e);
    assert_non_null(st);
    const struct st_entry *cls = st_find(st, "attn.class"), *i_s = st_find(st, "mlp.i_s");
    assert_non_null(cls);
    assert_non_null(i_s);
    assert_int_equal(cls->dtype, DTYPE_U8);
    assert_int_equal(i_s->dtype, DTYPE_F32);
    assert_int_equal(cls->shape[0], 2);
    assert_int_equal(cls->shape[1], 16);
    assert_int_equal(i_s->shape[1], 24);
    const int at = unit_id(&u->map, (struct unit){UNIT_ATTN, 1, 5});
    assert_int_equal(((const uint8_t *)st_data(st, cls))[16 + 5], u->cls[at]);
    st_close(st);
    units_free(u);
}

/* ---- files that do not fit ---- */

static void wrong_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *key, *value;            /* metadata that differs */
        const char *says;
    } cases[] = {
        {"format", "pt", "format: expected keel-units-1"},
        {"layers", "3", "expected U8 [3,2]"},
        {"heads", "0", "heads: expected an integer in [1,"},
        {"kv_heads", "3", "do not divide"},
        {"intermediate", "x", "intermediate: expected an integer"},
        {"note", NULL, "at most 24 entries of 511 letters"},
        {"class", "4", "layer 0 mlp 1: expected a class below 4, got 4"},
        {"i_s", "nan", "layer 0 mlp 0: i_s is not finite"},
    };
    const char *path = test_path("wrong.safetensors");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        static const char *const shape[][2] = {{"format", "keel-units-1"}, {"layers", "1"},
            {"heads", "4"}, {"kv_heads", "2"}, {"head_dim", "4"}, {"intermediate", "2"}};
        static const char *const fields[] = {"i_s", "i_u", "difference", "sum"};
        const int64_t dims[] = {1, 2};
        uint8_t cls[2] = {0, strcmp(cases[i].key, "class") ? 0 : 4};
        float score[2] = {1, 2}, nan_score[2] = {NAN, 1};
        struct st_writer *w = st_writer_new();
        char *long_text = xasprintf("%0600d", 1);
        for (size_t k = 0; k < ARRAY_LEN(shape); k++)
            st_writer_meta(w, shape[k][0], strcmp(shape[k][0], cases[i].key) ? shape[k][1]
                                                                           : cases[i].value);
        if (!cases[i].value)
            st_writer_meta(w, "note", long_text);
        st_writer_add(w, "mlp.class", DTYPE_U8, 2, dims, cls);
        for (size_t k = 0; k < ARRAY_LEN(fields); k++) {
            char name[32];
            snprintf(name, sizeof name, "mlp.%s", fields[k]);
            st_writer_add(w, name, DTYPE_F32, 2, dims,
                          strcmp(fields[k], cases[i].key) ? score : nan_score);
        }
        struct err e = {0};
        assert_ok(st_save(w, path, &e), &e);
        st_writer_free(w);
        free(long_text);
        assert_null(units_load(path, &e));
        assert_contains(e.msg, cases[i].says);
        assert_contains(e.msg, "wrong.safetensors: ");
    }
    struct err e = {0};
    struct units *u = make_units(1 << UNIT_MLP);
    struct model_config cfg = test_config();
    cfg.intermediate_size = 25;
    assert_int_equal(units_check(u, &cfg, "u", &e), -1);
    assert_contains(e.msg, "24 MLP units");
    cfg.intermediate_size = 24;
    assert_ok(units_check(u, &cfg, "u", &e), &e);           // a file that names no architecture
    units_set_meta(u, "model_type", "%s", "llama");
    assert_ok(units_check(u, &cfg, "u", &e), &e);
    units_set_meta(u, "model_type", "%s", "qwen2");
    assert_int_equal(units_check(u, &cfg, "u", &e), -1);
    assert_contains(e.msg, "u: made for a qwen2 model, this one is llama");
    units_free(u);
}

/* Shapes whose product is 2^64 and a little must not come out as the little. */
static void overflowing_shapes_are_refused(void **state) {
    (void)state;
    static const char *const shape[][2] = {{"format", "keel-units-1"}, {"layers", "65536"},
        {"heads", "16777216"}, {"kv_heads", "2"}, {"head_dim", "16777216"}, {"intermediate", "2"}};
    const char *path = test_path("wrong.safetensors");
    const uint8_t cls[2] = {0};
    struct st_writer *w = st_writer_new();
    struct err e = {0};
    for (size_t k = 0; k < ARRAY_LEN(shape); k++)
        st_writer_meta(w, shape[k][0], shape[k][1]);
    st_writer_add(w, "mlp.class", DTYPE_U8, 2, (const int64_t[]){1, 2}, cls);
    assert_ok(st_save(w, path, &e), &e);
    st_writer_free(w);
    assert_null(units_load(path, &e));
    assert_contains(e.msg, "are too many");
}

/* ---- sets ---- */

static void classes_are_disjoint_and_cover_all(void **state) {
    (void)state;
    struct units *u = make_units(1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask all = mask_new(&u->map);
    int total = 0;
    for (int c = 0; c < UNIT_CLASS_COUNT; c++) {
        struct mask m = units_class_mask(u, (enum unit_class)c);
        for (int i = 0; i < u->map.count; i++)
            assert_int_equal(m.in[i], u->cls[i] == c);
        total += mask_count(&m);
        mask_or(&all, &m);
        mask_release(&m);
        assert_int_equal(unit_class_find(unit_class_table[c].name), c);
    }
    assert_int_equal(total, u->map.count);
    assert_int_equal(mask_count(&all), u->map.count);
    assert_int_equal(unit_class_find("scu"), -1);
    mask_release(&all);
    units_free(u);
}

/* z-scores within layer and kind: a scaled layer changes nothing, the best CU come first, units of
 * other classes never come. */
static void top_cu_ranks_within_layers(void **state) {
    (void)state;
    struct units *u = make_units(1 << UNIT_MLP);
    const int n = u->map.per_layer;
    for (int i = 0; i < n; i++) {
        u->i_s[i] = (float)((i * 7) % n);
        u->i_s[n + i] = 1000 * u->i_s[i];   // the same layer, in other units
        u->cls[i] = u->cls[n + i] = UNIT_CU;
    }
    struct mask top = units_top_cu(u, 8.0 / (2 * n));
    assert_int_equal(mask_count(&top), 8);
    for (int i = 0; i < n; i++) {
        assert_int_equal(top.in[i], u->i_s[i] >= (float)(n - 4));
        assert_int_equal(top.in[n + i], top.in[i]);
    }
    mask_release(&top);

    for (int i = 0; i < n; i++)
        if (u->i_s[i] == (float)(n - 1))
            u->cls[i] = UNIT_SCU;
    top = units_top_cu(u, 7.0 / (2 * n));
    assert_int_equal(mask_count(&top), 7);
    for (int i = 0; i < 2 * n; i++)
        assert_true(!top.in[i] || u->cls[i] == UNIT_CU);
    mask_release(&top);

    for (int i = 0; i < 2 * n; i++)
        u->i_s[i] = 1;                      // all equal: unit order decides
    top = units_top_cu(u, 3.0 / (2 * n));
    int first = 0;
    for (int i = 0; first < 3; i++)
        if (u->cls[i] == UNIT_CU) {
            assert_int_equal(top.in[i], 1);
            first++;
        }
    assert_int_equal(mask_count(&top), 3);
    mask_release(&top);
    top = units_top_cu(u, 1);               // more than there are
    assert_int_equal(mask_count(&top), 2 * n - 1);
    mask_release(&top);
    top = units_top_cu(u, 0);
    assert_int_equal(mask_count(&top), 0);
    mask_release(&top);
    units_free(u);
}

static void zscores(void **state) {
    (void)state;
    double z[12], x[12] = {1, 2, 3};
    units_zscore(x, 3, z);
    assert_true(z[0] == -1 && z[1] == 0 && z[2] == 1);      // unbiased: sd of 1 2 3 is 1
    units_zscore(x, 1, z);
    assert_true(z[0] == 0);
    for (int n = 2; n <= 12; n++) {
        for (int i = 0; i < n; i++)
            x[i] = (double)0.1f;            // n of them do not add up to n times it
        units_zscore(x, n, z);
        for (int i = 0; i < n; i++)
            assert_true(z[i] == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_round_trip),
        cmocka_unit_test(tensors_are_plain_matrices),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(overflowing_shapes_are_refused),
        cmocka_unit_test(classes_are_disjoint_and_cover_all),
        cmocka_unit_test(zscores),
        cmocka_unit_test(top_cu_ranks_within_layers),
    };
    return cmocka_run_group_tests_name("units_file", tests, NULL, NULL);
}

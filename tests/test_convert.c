/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_convert.c — convert_folder: values, bytes, files, and what does not fit.
 */
#include "ckpt/convert.h"

#include <math.h>

#include "ckpt/hf.h"
#include "ckpt/weights.h"
#include "tests/helper.h"

enum { ROWS = 6, COLS = 11 };

/* A folder with one tensor of each of four dtypes that hold real numbers, and one of integers; big:
 * a value of the F32 tensor. */
static void make_folder(const char *dir, double big) {
    static const enum dtype dtypes[] = {DTYPE_F64, DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    struct err e = {0};
    real values[ROWS * COLS];
    int32_t numbers[4] = {1, -2, 3, INT32_MAX};
    struct st_writer *w = st_writer_new();
    char *path = path_join(dir, "model.safetensors");
    for (int i = 0; i < ROWS * COLS; i++)
        values[i] = (real)(0.37 * (i - 30) + 1e-3);
    values[3] = (real)INFINITY;
    values[4] = (real)NAN;
    assert_ok(dir_make(dir, &e), &e);
    st_writer_meta(w, "format", "pt");
    real last[ARRAY_LEN(dtypes)][ROWS * COLS];
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        memcpy(last[i], values, sizeof values);
        last[i][7] = (real)(dtypes[i] == DTYPE_F32 ? big : 1.5);
        st_writer_add_real(w, dtype_table[dtypes[i]].name, dtypes[i], 2,
                           (int64_t[]){ROWS, COLS}, last[i]);
    }
    st_writer_add(w, "numbers", DTYPE_I32, 1, (int64_t[]){4}, numbers);
    assert_ok(st_save(w, path, &e), &e);
    st_writer_free(w);
    free(path);
    static const char *const names[] = {"config.json", "tokenizer.json", "freeze.json",
                                        "pytorch_model.bin", "README.md", ".hidden"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        path = path_join(dir, names[i]);
        test_write(path, "{\n  \"torch_dtype\": \"float32\",\n  \"other\": 1\n}\n");
        free(path);
    }
}

static struct convert_result convert(const char *from, const char *to, enum dtype dtype,
                                     size_t max_size) {
    struct err e = {0};
    const struct convert_opts o = {dtype, max_size};
    struct convert_result r;
    assert_ok(convert_folder(from, to, &o, &r, &e), &e);
    return r;
}

static struct weights *open_weights(const char *dir) {
    struct err e = {0};
    struct weights *w = weights_open(dir, &e);
    if (!w)
        fail_msg("%s", e.msg);
    return w;
}

static bool is_there(const char *dir, const char *name) {
    char *path = path_join(dir, name);
    const bool there = path_exists(path);
    free(path);
    return there;
}

/* Every value is the old one, rounded once. */
static void test_values(void **state) {
    static const struct {
        enum dtype dtype;
        double rel, abs;
    } rows[] = {{DTYPE_F32, 0x1p-24, 0}, {DTYPE_BF16, 0x1p-8, 0}, {DTYPE_F16, 0x1p-11, 0x1p-25}};
    (void)state;
    const char *from = test_path("from");
    make_folder(from, 1.5);
    struct weights *old = open_weights(from);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *to = test_path(dtype_table[rows[i].dtype].name);
        const struct convert_result r = convert(from, to, rows[i].dtype, SHARDS_DEFAULT_SIZE);
        struct weights *w = open_weights(to);
        assert_int_equal(r.tensors, weights_count(w));
        assert_int_equal(weights_count(w), weights_count(old));
        size_t bytes = 0;
        for (int k = 0; k < weights_count(w); k++) {
            const struct weight *a = weights_at(old, k), *b = weights_at(w, k);
            const bool is_real = dtype_table[a->en->dtype].can_compute;
            bytes += b->en->bytes;
            assert_string_equal(a->en->name, b->en->name);
            assert_int_equal(b->en->dtype, is_real ? rows[i].dtype : a->en->dtype);
            if (!is_real) {
                assert_memory_equal(st_data(a->st, a->en), st_data(b->st, b->en), a->en->bytes);
                continue;
            }
            double x[ROWS * COLS], y[ROWS * COLS];
            weight_values(a, 0, x, ROWS * COLS);
            weight_values(b, 0, y, ROWS * COLS);
            for (int n = 0; n < ROWS * COLS; n++)
                if (isnan(x[n]) || isinf(x[n]))
                    assert_true(isnan(x[n]) ? isnan(y[n]) : x[n] == y[n]);
                else
                    assert_near(y[n], x[n], rows[i].rel, rows[i].abs, a->en->name);
        }
        assert_int_equal(r.bytes, bytes);
        weights_close(w);
    }
    weights_close(old);
}

/* Without a dtype nothing changes but the files; however they are cut, the hash is the same. */
static void test_bytes(void **state) {
    static const size_t sizes[] = {1, 200, 400, 600, 100000};
    (void)state;
    struct err e = {0};
    const char *from = test_path("whole"), *to = test_path("cut");
    char before[65], after[65];
    make_folder(from, 1.5);
    assert_ok(hf_hash(from, before, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        convert(from, to, DTYPE_COUNT, sizes[i]);
        assert_ok(hf_hash(to, after, &e), &e);
        assert_string_equal(before, after);
        struct weights *w = open_weights(to);
        for (int f = 0; f < weights_files(w); f++) {
            size_t bytes = 0;
            const struct st *st = weights_file(w, f, NULL);
            for (int k = 0; k < st_count(st); k++)
                bytes += st_at(st, k)->bytes;
            assert_true(bytes <= sizes[i] || st_count(st) == 1);
        }
        assert_true(sizes[i] < 100000 ? weights_files(w) > 1 : weights_files(w) == 1);
        weights_close(w);
    }
}

static void test_files(void **state) {
    (void)state;
    struct err e = {0};
    const char *from = test_path("files"), *to = test_path("files-bf16");
    make_folder(from, 1.5);
    convert(from, to, DTYPE_BF16, SHARDS_DEFAULT_SIZE);
    assert_true(is_there(to, "tokenizer.json") && is_there(to, "README.md"));
    assert_false(is_there(to, "freeze.json") || is_there(to, "pytorch_model.bin")
                 || is_there(to, ".hidden"));
    char *path = path_join(to, "config.json"), *text = file_read(path, NULL, &e);
    assert_non_null(text);
    assert_contains(text, "\"torch_dtype\": \"bfloat16\"");
    assert_contains(text, "\"other\": 1");
    free(text);
    free(path);
}

/* A finite value that would turn infinite: nothing is written. */
static void test_too_large(void **state) {
    static const struct {
        double big;
        enum dtype dtype;
        bool fits;
    } rows[] = {
        {65519, DTYPE_F16, true}, {65520, DTYPE_F16, false}, {-1e30, DTYPE_F16, false},
        {1e30, DTYPE_BF16, true}, {3.3e38, DTYPE_BF16, true}, {3.4e38, DTYPE_BF16, false},
        {3.4e38, DTYPE_F32, true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};
        struct convert_result r;
        const struct convert_opts o = {rows[i].dtype, SHARDS_DEFAULT_SIZE};
        const char *from = test_path("large"), *to = test_path("large-out");
        make_folder(from, rows[i].big);
        assert_int_equal(dir_remove(to, &e), 0);
        const int rc = convert_folder(from, to, &o, &r, &e);
        if (rc != (rows[i].fits ? 0 : -1))
            fail_msg("%g to %s: %d %s", rows[i].big, dtype_table[rows[i].dtype].name, rc, e.msg);
        if (!rows[i].fits) {
            assert_contains(e.msg, "F32: ");
            assert_contains(e.msg, "does not fit");
            assert_false(path_exists(to));
        }
    }
}

static void test_bad_folders(void **state) {
    (void)state;
    struct err e = {0};
    struct convert_result r;
    const struct convert_opts o = {DTYPE_F16, SHARDS_DEFAULT_SIZE};
    const char *dir = test_path("bad"), *to = test_path("bad-out");
    assert_int_equal(convert_folder(test_path("none"), to, &o, &r, &e), -1);
    make_folder(dir, 1.5);
    char *path = path_join(dir, "config.json");
    test_write(path, "{");
    assert_int_equal(convert_folder(dir, to, &o, &r, &e), -1);
    assert_contains(e.msg, "config.json");
    assert_false(path_exists(to));
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_bytes), cmocka_unit_test(test_files),
        cmocka_unit_test(test_too_large), cmocka_unit_test(test_bad_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_shards.c — tensors into files of a size, and a folder that is never between two models.
 */
#include "tests/helper.h"

#include <dirent.h>

#include "ckpt/shards.h"
#include "ckpt/weights.h"

static const int64_t shape[1] = {100};

/* 100 floats that tell the model and the tensor. */
struct made {
    char name[16];
    float first;
};

static void fill(const void *ctx, size_t first, size_t n, void *dst) {
    const struct made *m = ctx;
    float *out = dst;
    for (size_t i = 0; i < n; i++)
        out[i] = m->first + (float)(first + i);
}

/* n tensors of 400 bytes into dir, written aside; size as in shards_write. */
static struct shards *prepare(const char *dir, struct made *made, int n, float first,
                              size_t size) {
    struct err e = {0};
    struct shards *s = shards_new(dir);
    assert_ok(dir_make(dir, &e), &e);
    for (int i = 0; i < n; i++) {
        snprintf(made[i].name, sizeof made[i].name, "t%02d", n - i);
        made[i].first = first + (float)i;
        shards_add(s, made[i].name, DTYPE_F32, 1, shape, fill, &made[i], i);
    }
    assert_ok(shards_write(s, size, &e), &e);
    return s;
}

static void save(const char *dir, int n, float first, size_t size) {
    struct made made[16];
    struct err e = {0};
    struct shards *s = prepare(dir, made, n, first, size);
    assert_ok(shards_commit(s, &e), &e);
    shards_free(s);
}

/* Of all tensors of the folder: 'A' when they are the first model's, 'B' the second's, '?' mixed or
 * not to be opened. */
static char whose(const char *dir, int n) {
    struct err e = {0};
    struct weights *w = weights_open(dir, &e);
    if (!w)
        return '?';
    char model = '\0';
    if (weights_count(w) != n)
        model = '?';
    for (int i = 0; i < weights_count(w) && model != '?'; i++) {
        const struct weight *t = weights_at(w, i);
        float v[100];
        memcpy(v, st_data(t->st, t->en), sizeof v);
        const char own = v[99] - v[0] != 99 ? '?' : v[0] < 1000 ? 'A' : 'B';
        model = model == '\0' || model == own ? own : '?';
    }
    weights_close(w);
    return model;
}

static int count_files(const char *dir) {
    DIR *d = opendir(dir);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *ent; (ent = readdir(d));)
        n += ent->d_name[0] != '.';
    closedir(d);
    return n;
}

static void a_folder_holds_one_model_at_every_moment(void **state) {
    (void)state;
    enum { N = 6 };
    const char *dir = test_path("moment");
    for (int from = 1; from <= 3; from++)
        for (int to = 1; to <= 3; to++)
            for (int stop = 0;; stop++) {
                struct made made[16];
                struct err e = {0};
                assert_ok(dir_remove(dir, &e), &e);
                save(dir, N, 0, N * 400 / (size_t)from);
                assert_int_equal(count_files(dir), from == 1 ? 1 : from + 1);
                struct shards *s = prepare(dir, made, N, 5000, N * 400 / (size_t)to);
                int more = 1;
                for (int k = 0; k < stop && more == 1; k++) {
                    more = shards_step(s, &e);
                    if (whose(dir, N) == '?')
                        fail_msg("%d to %d files, change %d: %s", from, to, k, e.msg);
                }
                assert_true(more >= 0);
                shards_free(s);
                if (stop == 0)
                    assert_int_equal(whose(dir, N), 'A');
                if (more == 0) {
                    assert_int_equal(whose(dir, N), 'B');
                    assert_int_equal(count_files(dir), to == 1 ? 1 : to + 1);
                    break;
                }
                /* what an interrupted save left does not hinder the next */
                save(dir, N, 7000, N * 400 / (size_t)to);
                assert_int_equal(whose(dir, N), 'B');
                assert_int_equal(count_files(dir), to == 1 ? 1 : to + 1);
            }
}

static void nothing_is_left_of_a_failed_write(void **state) {
    (void)state;
    struct made made[16];
    const char *dir = test_path("failed");
    save(dir, 4, 0, 800);
    shards_free(prepare(dir, made, 4, 5000, 800));      // never committed
    assert_int_equal(whose(dir, 4), 'A');
    assert_int_equal(count_files(dir), 3);
    struct err e = {0};
    struct shards *s = shards_new(test_path("nowhere"));
    shards_add(s, "t", DTYPE_F32, 1, shape, fill, made, 0);
    assert_int_equal(shards_write(s, 0, &e), -1);
    assert_contains(e.msg, "nowhere/model.safetensors.tmp: cannot create");
    shards_free(s);
}

static void foreign_files_stay(void **state) {
    (void)state;
    static const char *const names[] = {
        "model-0001-of-0002.safetensors", "model.safetensors.bak", "units.safetensors",
        "model-00001-of-00002.bin", "xmodel.safetensors",
    };
    const char *dir = test_path("foreign");
    struct err e = {0};
    assert_ok(dir_make(dir, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_ok(file_write_text(dir, names[i], "x", &e), &e);
    save(dir, 4, 0, 800);
    save(dir, 4, 0, 4000);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = path_join(dir, names[i]);
        assert_true(path_exists(path));
        free(path);
    }
    assert_int_equal(count_files(dir), 1 + (int)ARRAY_LEN(names));
}

/* Which file each of n tensors of the given element counts goes to, for a size. */
static void files_fill_in_order(void **state) {
    (void)state;
    static const struct {
        int counts[6], files[6], n;
        size_t size;
        int nfiles;
    } cases[] = {
        {{10, 10, 10, 10}, {0, 0, 0, 0}, 4, 160, 1},
        {{10, 10, 10, 10}, {0, 0, 0, 1}, 4, 159, 2},
        {{10, 10, 10, 10}, {0, 0, 1, 1}, 4, 80, 2},
        {{10, 10, 10}, {0, 1, 2}, 3, 1, 3},
        {{10, 30, 10}, {1, 0, 1}, 3, 100, 2},           // the large one's file is closed at once
        {{10, 30, 20}, {1, 0, 2}, 3, 100, 3},
        {{0, 0}, {0, 0}, 2, 1, 1},
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        const char *dir = test_path("order");
        struct err e = {0};
        struct made made[6] = {{.first = 0}};
        assert_ok(dir_remove(dir, &e), &e);
        assert_ok(dir_make(dir, &e), &e);
        struct shards *s = shards_new(dir);
        for (int i = 0; i < cases[c].n; i++) {
            snprintf(made[i].name, sizeof made[i].name, "t%d", i);
            shards_add(s, made[i].name, DTYPE_F32, 1, (const int64_t[]){cases[c].counts[i]}, fill,
                       &made[i], 0);
        }
        assert_ok(shards_write(s, cases[c].size, &e), &e);
        assert_ok(shards_commit(s, &e), &e);
        shards_free(s);
        struct weights *w = weights_open(dir, &e);
        if (!w)
            fail_msg("%s", e.msg);
        assert_int_equal(weights_files(w), cases[c].nfiles);
        for (int i = 0; i < cases[c].n; i++) {
            const struct weight *t = weights_find(w, made[i].name);
            assert_ptr_equal(t->st, weights_file(w, cases[c].files[i], NULL));
            assert_string_equal(st_meta(t->st, "format"), "pt");
        }
        weights_close(w);
    }
}

static void the_index_is_transformers(void **state) {
    (void)state;
    const char *dir = test_path("index");
    save(dir, 3, 0, 800);
    struct err e = {0};
    char *path = path_join(dir, SHARDS_INDEX), *text = file_read(path, NULL, &e);
    assert_non_null(text);
    assert_string_equal(text,
                        "{\n"
                        "  \"metadata\": {\n"
                        "    \"total_size\": 1200\n"
                        "  },\n"
                        "  \"weight_map\": {\n"
                        "    \"t01\": \"model-00002-of-00002.safetensors\",\n"
                        "    \"t02\": \"model-00001-of-00002.safetensors\",\n"
                        "    \"t03\": \"model-00001-of-00002.safetensors\"\n"
                        "  }\n"
                        "}\n");
    free(path);
    free(text);
}

static void an_index_is_checked_both_ways(void **state) {
    (void)state;
#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"
    static const struct {
        const char *map, *says;
    } cases[] = {
        {"'t01':'" TWO "','t02':'" ONE "','t03':'" ONE "'", NULL},
        {"'t01':'" ONE "','t02':'" ONE "','t03':'" TWO "'", "tensor \"t01\" is not in " ONE},
        {"'t01':'" TWO "','t02':'" ONE "'", "weight_map lacks tensor \"t03\", which is in a shard"},
        {"'t01':'" TWO "','t02':'" ONE "','t03':'" ONE "','t04':'" ONE "'", "\"t04\" is not in"},
        {"'t02':'" ONE "','t03':'" ONE "'", NULL},      // a file that nothing points to
        {"'t01':'copy.safetensors','t02':'" ONE "','t03':'" ONE "'", "\"t02\" is in two files"},
        {"'t01':'../index/" TWO "','t02':'" ONE "','t03':'" ONE "'", "a file name without a path"},
        {"'t01':'a\\\\b','t02':'" ONE "','t03':'" ONE "'", "a file name without a path"},
        {"'t01':'','t02':'" ONE "','t03':'" ONE "'", "a file name without a path"},
        {"'t01':'..','t02':'" ONE "','t03':'" ONE "'", "a file name without a path"},
        {"'t01':'gone.safetensors','t02':'" ONE "','t03':'" ONE "'", "gone.safetensors: cannot op"},
        {"'t01':7,'t02':'" ONE "','t03':'" ONE "'", "\"t01\": expected a file name"},
        {"", "expected an object of tensor and file names"},
        {"'t01':'" TWO "','t01':'" TWO "'", "duplicate"},
    };
    const char *dir = test_path("both");
    struct err e = {0};
    save(dir, 3, 0, 800);
    char *from = path_join(dir, ONE), *copy = path_join(dir, "copy.safetensors");
    assert_ok(file_copy(from, copy, &e), &e);
    free(from);
    free(copy);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = xasprintf("{'metadata':{},'weight_map':{%s}}", cases[i].map);
        for (char *p = text; (p = strchr(p, '\''));)
            *p = '"';
        assert_ok(file_write_text(dir, SHARDS_INDEX, text, &e), &e);
        free(text);
        struct weights *w = weights_open(dir, &e);
        if ((w != NULL) != !cases[i].says)
            fail_msg("%s: %s", cases[i].map, w ? "accepted" : e.msg);
        if (!w) {
            assert_contains(e.msg, cases[i].says);
            assert_contains(e.msg, SHARDS_INDEX);
        }
        weights_close(w);
    }
}

static void sizes_are_read_and_shown(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;                       /* SIZE_MAX: refused */
        const char *shown;
    } cases[] = {
        {"5GB", 5000000000, "5GB"}, {"500MB", 500000000, "500MB"}, {"0", 0, "0"},
        {"1KiB", 1024, "1KiB"}, {"2GiB", 2ull << 30, "2GiB"}, {"1000KB", 1000000, "1MB"},
        {"123457", 123457, "123457"}, {"1TB", 1000000000000, "1TB"},
        {"", SIZE_MAX, NULL}, {"GB", SIZE_MAX, NULL}, {"5 GB", SIZE_MAX, NULL},
        {"5gb", SIZE_MAX, NULL}, {"5.5GB", SIZE_MAX, NULL}, {"-1", SIZE_MAX, NULL},
        {"99999999999999999999", SIZE_MAX, NULL}, {"9999999999999TB", SIZE_MAX, NULL},
        {"0x10", SIZE_MAX, NULL}, {"000000000000000000000000000001", SIZE_MAX, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t bytes = SIZE_MAX;
        const bool ok = shards_parse_size(cases[i].text, &bytes);
        if (ok != (cases[i].bytes != SIZE_MAX) || (ok && bytes != cases[i].bytes))
            fail_msg("%s: %zu", cases[i].text, bytes);
        if (!ok)
            continue;
        char *shown = shards_size_text(bytes);
        assert_string_equal(shown, cases[i].shown);
        free(shown);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_holds_one_model_at_every_moment),
        cmocka_unit_test(nothing_is_left_of_a_failed_write),
        cmocka_unit_test(foreign_files_stay),
        cmocka_unit_test(files_fill_in_order),
        cmocka_unit_test(the_index_is_transformers),
        cmocka_unit_test(an_index_is_checked_both_ways),
        cmocka_unit_test(sizes_are_read_and_shown),
    };
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}

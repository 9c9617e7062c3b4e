/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_metrics.c — metrics.jsonl: numbers, non-finite values, cutting back on resume.
 */
#include <jansson.h>
#include <math.h>

#include "tests/helper.h"
#include "train/metrics.h"

static char *contents(void) {
    struct err e = {0};
    size_t n;
    char *s = file_read(test_path("metrics.jsonl"), &n, &e);
    if (!s)
        fail_msg("%s", e.msg);
    return s;
}

static void write_steps(struct metrics *m, int64_t first, int64_t last) {
    struct err e = {0};
    for (int64_t i = first; i <= last; i++) {
        struct metric v[] = {{"loss", 1.0 / (double)i}, {"rewards/chosen", -0.1 * (double)i}};
        assert_ok(metrics_write(m, i, v, 2, &e), &e);
    }
}

/* Every number reads back as the same double; the names are as given. */
static void test_numbers(void **state) {
    (void)state;
    static const double values[] = {0, -0.0, 1, 0.1, 1.0 / 3, 1e-300, 123456789.125, 5e-5, 1e22};
    struct err e = {0};
    struct metrics *m = metrics_open(test_dir(), -1, &e);
    assert_non_null(m);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct metric v = {"x", values[i]};
        assert_ok(metrics_write(m, (int64_t)i, &v, 1, &e), &e);
    }
    metrics_close(m);
    char *text = contents(), *line = text;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char *nl = strchr(line, '\n');
        assert_non_null(nl);
        json_t *row = json_loadb(line, (size_t)(nl - line), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(row, "step")), i);
        double x = json_number_value(json_object_get(row, "x"));
        assert_true(x == values[i]);
        json_decref(row);
        line = nl + 1;
    }
    assert_int_equal(*line, '\0');
    free(text);
}

static void test_nonfinite(void **state) {
    (void)state;
    struct err e = {0};
    struct metrics *m = metrics_open(test_dir(), -1, &e);
    struct metric v[] = {{"a", (double)NAN}, {"b", (double)INFINITY}, {"c", (double)-INFINITY}};
    assert_ok(metrics_write(m, 7, v, 3, &e), &e);
    metrics_close(m);
    char *text = contents();
    assert_string_equal(text, "{\"step\": 7, \"a\": \"NaN\", \"b\": \"Infinity\", "
                              "\"c\": \"-Infinity\"}\n");
    free(text);
}

/* Writing 1..9, cut back to 5, writing 6..9 again: the bytes of the straight run. */
static void test_resume(void **state) {
    (void)state;
    struct err e = {0};
    struct metrics *m = metrics_open(test_dir(), -1, &e);
    write_steps(m, 1, 9);
    metrics_close(m);
    char *straight = contents();
    char *cut = xasprintf("%s{\"step\": 10, \"lo", straight);     // a line that a crash cut
    test_write(test_path("metrics.jsonl"), cut);
    m = metrics_open(test_dir(), 5, &e);
    write_steps(m, 6, 9);
    metrics_close(m);
    char *resumed = contents();
    assert_string_equal(resumed, straight);
    m = metrics_open(test_dir(), -1, &e);           // a fresh run starts empty
    metrics_close(m);
    char *fresh = contents();
    assert_string_equal(fresh, "");
    free(fresh);
    free(resumed);
    free(cut);
    free(straight);
}

static void test_errors(void **state) {
    (void)state;
    struct err e = {0};
    assert_null(metrics_open(test_path("no such folder"), -1, &e));
    assert_contains(e.msg, "no such folder");
    struct metric v = {"loss", 1};
    assert_ok(metrics_write(NULL, 1, &v, 1, &e), &e);       // no log: nothing happens
    metrics_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}

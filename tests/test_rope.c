/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_rope.c — frequencies of every scaling type: published values, closed forms, invariants.
 */
#include "model/rope.h"

#include <math.h>
#include <string.h>

#include "tests/helper.h"

#define DIM 64

static struct rope_config config(const char *type) {
    struct rope_config c = {.type = rope_type_find(type), .theta = 500000,
                            .partial_rotary_factor = 1, .factor = 32, .low_freq_factor = 1,
                            .high_freq_factor = 4, .beta_fast = 32, .beta_slow = 1,
                            .original_max_position_embeddings = 8192, .nshort = DIM / 2,
                            .nlong = DIM / 2};
    for (int i = 0; i < DIM / 2; i++) {
        c.short_factor[i] = 1 + i * 0.01;
        c.long_factor[i] = 2 + i;
    }
    return c;
}

static double plain(int i) {
    return pow(500000, -2.0 * i / DIM);
}

/* Llama 3.2 1B, by index. */
static void test_llama3(void **state) {
    (void)state;
    static const struct {
        int i;
        double f;
    } values[] = {
        {0, 1}, {14, 3.211445995e-03}, {15, 1.290547928e-03}, {16, 4.295567966e-04},
        {17, 9.708287803e-05}, {18, 1.946163818e-05}, {31, 9.418306725e-08},
    };
    const struct rope_config c = config("llama3");
    float f[DIM / 2];
    assert_true(rope_frequencies(&c, DIM, 131072, 10, f) == 1);
    for (size_t k = 0; k < ARRAY_LEN(values); k++)
        assert_near((double)f[values[k].i], values[k].f, 2e-7, 0, "llama3");
    for (int i = 18; i < DIM / 2; i++)
        assert_near((double)f[i], plain(i) / 32, 2e-7, 0, "slow waves");
}

static void test_closed_forms(void **state) {
    (void)state;
    float f[DIM / 2];
    struct rope_config c = config("default");
    assert_true(rope_frequencies(&c, DIM, 4096, 10, f) == 1);
    for (int i = 0; i < DIM / 2; i++)
        assert_near((double)f[i], plain(i), 2e-7, 0, "default");
    c = config("linear");
    rope_frequencies(&c, DIM, 4096, 10, f);
    for (int i = 0; i < DIM / 2; i++)
        assert_near((double)f[i], plain(i) / 32, 2e-7, 0, "linear");
    c = config("dynamic");
    c.original_max_position_embeddings = 0;
    rope_frequencies(&c, DIM, 4096, 4096, f);
    for (int i = 0; i < DIM / 2; i++)
        assert_near((double)f[i], plain(i), 2e-7, 0, "dynamic up to max_position_embeddings");
    rope_frequencies(&c, DIM, 4096, 8192, f);
    const double base = 500000 * pow(32 * 2.0 - 31, DIM / (DIM - 2.0));
    assert_near((double)f[5], pow(base, -10.0 / DIM), 2e-7, 0, "dynamic beyond");
}

static void test_longrope(void **state) {
    (void)state;
    struct rope_config c = config("longrope");
    float f[DIM / 2];
    c.factor = 0;
    const double factor = sqrt(1 + log(131072.0 / 8192) / log(8192.0));
    assert_near(rope_frequencies(&c, DIM, 131072, 8192, f), factor, 1e-12, 0, "factor");
    assert_near((double)f[3], plain(3) / 1.03, 2e-7, 0, "short list");
    assert_near(rope_frequencies(&c, DIM, 131072, 8193, f), factor, 1e-12, 0, "factor");
    assert_near((double)f[3], plain(3) / 5, 2e-7, 0, "long list");
    assert_true(rope_frequencies(&c, DIM, 8192, 10, f) == 1);
    c.attention_factor = 1.25;
    assert_true(rope_frequencies(&c, DIM, 131072, 10, f) == 1.25);
}

/* Fast waves as they are, slow ones divided, a ramp between. */
static void test_yarn(void **state) {
    (void)state;
    const struct rope_config c = config("yarn");
    float f[DIM / 2];
    assert_near(rope_frequencies(&c, DIM, 262144, 10, f), 0.1 * log(32) + 1, 1e-12, 0, "factor");
    assert_near((double)f[0], 1, 0, 0, "fastest");
    assert_near((double)f[DIM / 2 - 1], plain(DIM / 2 - 1) / 32, 2e-7, 0, "slowest");
    for (int i = 1; i < DIM / 2; i++) {
        const double ratio = (double)f[i] / plain(i), before = (double)f[i - 1] / plain(i - 1);
        assert_true(ratio <= before + 1e-6 && ratio >= 1 / 32.0 - 1e-6);
    }
}

/* Every row: found by its names, finite and falling frequencies. */
static void test_table(void **state) {
    (void)state;
    assert_string_equal(rope_type_table[0].name, "default");
    for (const struct rope_type *t = rope_type_table; t->name; t++) {
        const struct rope_config c = config(t->name);
        float near[DIM / 2], far[DIM / 2];
        assert_ptr_equal(c.type, t);
        assert_true(!t->other || rope_type_find(t->other) == t);
        assert_true(rope_frequencies(&c, DIM, 16384, 100, near) > 0);
        rope_frequencies(&c, DIM, 16384, 60000, far);
        for (int i = 0; i < DIM / 2; i++)
            assert_true(isfinite(near[i]) && near[i] > 0 && (i == 0 || near[i] < near[i - 1]));
        assert_true((memcmp(near, far, sizeof near) != 0) == t->by_length);
    }
    assert_null(rope_type_find("ntk"));
}

static void test_dim(void **state) {
    (void)state;
    struct rope_config c = config("default");
    assert_int_equal(rope_dim(&c, 128), 128);
    c.partial_rotary_factor = 0.75;
    assert_int_equal(rope_dim(&c, 128), 96);
    assert_int_equal(rope_dim(&(struct rope_config){0}, 128), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama3),   cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_longrope), cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_table),    cmocka_unit_test(test_dim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

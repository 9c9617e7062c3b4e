/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_classify.c — normalisations by closed forms, classes by their order properties.
 */
#include <math.h>

#include "attrib/classify.h"
#include "attrib/score.h"
#include "tests/helper.h"
#include "train/config.h"

static struct unit_map map_make(void) {
    struct model_config c = test_config();
    return unit_map_make(&c, 1 << UNIT_MLP | 1 << UNIT_ATTN);
}

/* Heavy-tailed like real scores; `levels` > 0 makes many ties. */
static double *random_scores(const struct unit_map *map, uint64_t seed, int levels) {
    double *v = xcalloc((size_t)map->count, sizeof *v);
    struct rng *r = rng_new(seed);
    for (int i = 0; i < map->count; i++)
        v[i] = levels ? (double)rng_below(r, (uint64_t)levels) : exp(3 * rng_normal(r));
    rng_free(r);
    return v;
}

static struct units *random_units(const struct unit_map *map, uint64_t seed, int levels,
                                  const struct norm_kind *difference,
                                  const struct norm_kind *sum) {
    struct units *u = units_new(map);
    double *s = random_scores(map, seed, levels), *v = random_scores(map, seed + 1000, levels);
    classify_scores(u, s, v, difference, sum);
    free(s);
    free(v);
    return u;
}

/* ---- normalisations ---- */

static void test_norm_registry(void **state) {
    (void)state;
    static const double i_s[] = {1, 2, 3}, i_u[] = {4, 4, 1};
    const double q = sqrt(3), ls[] = {0, log(2), log(3)}, cs = log(6) / 3, cu = log(16) / 3;
    const struct { const char *name; double s[3], u[3]; double tol; } cases[] = {
        {"zscore", {-1, 0, 1}, {1 / q, 1 / q, -2 / q}, 1e-14},
        {"rank", {-1. / 3, 0, 1. / 3}, {.5 / 3, .5 / 3, -1. / 3}, 1e-14},
        {"logratio", {ls[0] - cs, ls[1] - cs, ls[2] - cs}, {log(4) - cu, log(4) - cu, -cu}, 1e-5},
        {"none", {1, 2, 3}, {4, 4, 1}, 0},
    };
    for (const struct norm_kind *k = norm_table; k->name; k++) {
        double d[3], sum[3];
        bool found = false;
        k->difference(i_s, i_u, 3, d);
        k->sum(i_s, i_u, 3, sum);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            if (strcmp(cases[i].name, k->name) != 0)
                continue;
            found = true;
            for (int j = 0; j < 3; j++) {
                assert_near(d[j], cases[i].s[j] - cases[i].u[j], 0, cases[i].tol, k->name);
                assert_near(sum[j], cases[i].s[j] + cases[i].u[j], 0, cases[i].tol, k->name);
            }
        }
        if (!found)
            fail_msg("normalisation %s has no case", k->name);
        assert_ptr_equal(norm_find(k->name), k);
    }
    assert_null(norm_find("zscores"));
}

/* The key table spells the names out, because train/ may not include attrib/. */
static void test_config_names(void **state) {
    (void)state;
    static const char *const keys[] = {"attrib.norm_difference", "attrib.norm_sum"};
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        const struct config_key *key = config_key_find(keys[k]);
        assert_non_null(key);
        for (int i = 0; norm_table[i].name || key->names(i); i++) {
            assert_non_null(norm_table[i].name);
            assert_non_null(key->names(i));
            assert_string_equal(norm_table[i].name, key->names(i));
        }
    }
    const struct config_key *tokens = config_key_find("calibration.tokens");
    assert_string_equal(tokens->names(CALIB_RESPONSE), "response");
    assert_string_equal(tokens->names(CALIB_PROMPT), "prompt");
    assert_string_equal(tokens->names(CALIB_ALL), "all");
    assert_null(tokens->names(CALIB_ALL + 1));
}

/* Nothing to compare in a layer: 0, never a NaN (but "none" leaves what is there). */
static void test_degenerate(void **state) {
    (void)state;
    static const double flat[] = {0.1, 0.1, 0.1}, zero[] = {0, 0, 0};
    const double *const inputs[] = {flat, zero};
    for (const struct norm_kind *k = norm_table; k->name; k++)
        for (size_t i = 0; i < ARRAY_LEN(inputs); i++)
            for (int n = 1; n <= 3; n++) {
                double d[3], s[3];
                k->difference(inputs[i], inputs[i], n, d);
                k->sum(inputs[i], inputs[i], n, s);
                for (int j = 0; j < n; j++) {
                    double want = strcmp(k->name, "none") == 0 ? 2 * inputs[i][j] : 0;
                    assert_true(d[j] == 0);
                    assert_near(s[j], want, 0, 1e-12, k->name);
                }
            }
}

/* A layer whose activations are larger as a whole must not outrank the others. */
static void test_layer_scale(void **state) {
    (void)state;
    struct unit_map map = map_make();
    double *s = random_scores(&map, 1, 0), *v = random_scores(&map, 2, 0);
    struct units *a = units_new(&map), *b = units_new(&map);
    static const char *const invariant[] = {"zscore", "rank", "logratio"};
    for (size_t k = 0; k < ARRAY_LEN(invariant); k++) {
        const struct norm_kind *norm = norm_find(invariant[k]);
        classify_scores(a, s, v, norm, norm);
        int base = unit_base(&map, 1, UNIT_MLP), n = map.per_kind[UNIT_MLP];
        for (int i = base; i < base + n; i++) {
            s[i] *= 4096;
            v[i] *= 64;
        }
        classify_scores(b, s, v, norm, norm);
        for (int i = base; i < base + n; i++) {
            s[i] /= 4096;
            v[i] /= 64;
        }
        for (int i = 0; i < map.count; i++) {
            assert_near((double)a->difference[i], (double)b->difference[i], 1e-5, 1e-5, norm->name);
            assert_near((double)a->sum[i], (double)b->sum[i], 1e-5, 1e-5, norm->name);
        }
    }
    units_free(a);
    units_free(b);
    free(s);
    free(v);
}

/* Each layer and kind is normalised by itself, with the two ways asked for. */
static void test_by_layer_and_kind(void **state) {
    (void)state;
    struct unit_map map = map_make();
    double *s = random_scores(&map, 1, 0), *v = random_scores(&map, 2, 0);
    double *want = xcalloc((size_t)map.count, sizeof *want);
    struct units *u = units_new(&map);
    for (const struct norm_kind *d = norm_table; d->name; d++)
        for (const struct norm_kind *k = norm_table; k->name; k++) {
            classify_scores(u, s, v, d, k);
            for (int l = 0; l < map.layers; l++)
                for (int kind = UNIT_MLP; kind <= UNIT_ATTN; kind++) {
                    int base = unit_base(&map, l, (enum unit_kind)kind), n = map.per_kind[kind];
                    d->difference(s + base, v + base, n, want);
                    for (int i = 0; i < n; i++)
                        assert_true(u->difference[base + i] == (float)want[i]);
                    k->sum(s + base, v + base, n, want);
                    for (int i = 0; i < n; i++)
                        assert_true(u->sum[base + i] == (float)want[i]);
                }
        }
    for (int i = 0; i < map.count; i++)
        assert_true(u->i_s[i] == (float)s[i] && u->i_u[i] == (float)v[i]);
    units_free(u);
    free(want);
    free(s);
    free(v);
}

/* ---- classes ---- */

struct range {
    float lo, hi;
};

static struct range range_of(const struct units *u, const float *key, unsigned classes) {
    struct range r = {INFINITY, -INFINITY};
    for (int i = 0; i < u->map.count; i++)
        if (classes & 1u << u->cls[i]) {
            r.lo = fminf(r.lo, key[i]);
            r.hi = fmaxf(r.hi, key[i]);
        }
    return r;
}

static void assert_classes(const struct units *u, double scu, double ucu, double ru) {
    int count[UNIT_CLASS_COUNT] = {0}, n = u->map.count;
    for (int i = 0; i < n; i++) {
        assert_true(u->cls[i] < UNIT_CLASS_COUNT);
        count[u->cls[i]]++;
    }
    assert_int_equal(count[UNIT_SCU], (int)floor(scu * n + 0.5));
    assert_int_equal(count[UNIT_UCU], (int)floor(ucu * n + 0.5));
    assert_int_equal(count[UNIT_RU], (int)floor(ru * n + 0.5));
    assert_int_equal(count[UNIT_CU], n - count[UNIT_SCU] - count[UNIT_UCU] - count[UNIT_RU]);
    unsigned scu_bit = 1u << UNIT_SCU, ucu_bit = 1u << UNIT_UCU, cu_bit = 1u << UNIT_CU;
    struct range low = range_of(u, u->sum, 1u << UNIT_RU);
    struct range rest = range_of(u, u->sum, scu_bit | ucu_bit | cu_bit);
    struct range top = range_of(u, u->difference, scu_bit);
    struct range not_top = range_of(u, u->difference, ucu_bit | cu_bit);
    struct range bottom = range_of(u, u->difference, ucu_bit);
    struct range middle = range_of(u, u->difference, cu_bit);
    assert_true(low.hi <= rest.lo && top.lo >= not_top.hi && bottom.hi <= middle.lo);
    for (int c = 0, total = 0; c < UNIT_CLASS_COUNT; c++) {     // disjoint sets that cover all
        struct mask m = units_class_mask(u, (enum unit_class)c);
        assert_int_equal(mask_count(&m), count[c]);
        total += mask_count(&m);
        if (c == UNIT_CLASS_COUNT - 1)
            assert_int_equal(total, n);
        mask_release(&m);
    }
}

static void test_shares(void **state) {
    (void)state;
    static const double shares[][3] = {{0.05, 0.1, 0.15}, {0, 0, 0}, {0.3, 0.3, 0.4}, {0, 1, 0},
                                       {0.013, 0.1327, 0.1485}, {0.001, 0.5, 0.001}};
    struct unit_map map = map_make();
    for (const struct norm_kind *d = norm_table; d->name; d++)
        for (const struct norm_kind *s = norm_table; s->name; s++)
            for (size_t i = 0; i < ARRAY_LEN(shares); i++)
                for (int levels = 0; levels <= 3; levels += 3) {
                    struct units *u = random_units(&map, i + 1, levels, d, s);
                    classify_shares(u, shares[i][0], shares[i][1], shares[i][2]);
                    assert_classes(u, shares[i][0], shares[i][1], shares[i][2]);
                    units_free(u);
                }
}

/* RU is taken first, then SCU, then UCU; what is left over limits the later ones. */
static void test_order_and_ties(void **state) {
    (void)state;
    struct unit_map map = map_make();
    struct units *u = units_new(&map);      // all scores 0: every choice is a tie
    int n = map.count;
    classify_shares(u, 2.0 / n, 3.0 / n, 4.0 / n);
    for (int i = 0; i < n; i++) {
        int want = i < 4 ? UNIT_RU : i < 6 ? UNIT_SCU : i < 9 ? UNIT_UCU : UNIT_CU;
        assert_int_equal(u->cls[i], want);
    }
    classify_shares(u, 0.9, 0.9, 0.5);
    int count[UNIT_CLASS_COUNT] = {0};
    for (int i = 0; i < n; i++)
        count[u->cls[i]]++;
    assert_int_equal(count[UNIT_RU], units_count(u, 0.5));
    assert_int_equal(count[UNIT_SCU], n - count[UNIT_RU]);
    assert_int_equal(count[UNIT_UCU] + count[UNIT_CU], 0);
    assert_int_equal(units_count(u, -1), 0);
    assert_int_equal(units_count(u, 7), n);
    units_free(u);
}

static void test_top(void **state) {
    (void)state;
    struct unit_map map = map_make();
    struct units *u = random_units(&map, 5, 4, norm_find("zscore"), norm_find("none"));
    static const enum unit_class ranked[] = {UNIT_SCU, UNIT_UCU, UNIT_RU};
    for (size_t k = 0; k < ARRAY_LEN(ranked); k++) {
        double one[UNIT_CLASS_COUNT] = {0};
        struct mask before = mask_new(&map);
        for (int n = 1; n <= map.count; n++) {
            struct mask m = classify_top(u, ranked[k], n);
            assert_int_equal(mask_count(&m), n);
            for (int i = 0; i < map.count; i++)
                assert_true(m.in[i] >= before.in[i]);       // nested
            one[ranked[k]] = (double)n / map.count;
            classify_shares(u, one[UNIT_SCU], one[UNIT_UCU], one[UNIT_RU]);
            struct mask alone = units_class_mask(u, ranked[k]);
            assert_memory_equal(m.in, alone.in, (size_t)map.count);
            mask_release(&alone);
            mask_release(&before);
            before = m;
        }
        mask_release(&before);
    }
    units_free(u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_registry), cmocka_unit_test(test_config_names),
        cmocka_unit_test(test_degenerate),    cmocka_unit_test(test_layer_scale),
        cmocka_unit_test(test_by_layer_and_kind),
        cmocka_unit_test(test_shares),        cmocka_unit_test(test_order_and_ties),
        cmocka_unit_test(test_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

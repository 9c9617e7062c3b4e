/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_freeze.c — which units a run freezes: classes, top CU, the random control, the rest.
 */
#include "tests/helper.h"
#include "train/freeze.h"

#define BIT(c) (1u << UNIT_##c)

/* Classes in turn, importance rising with the number of the unit. */
static struct units *make_units(void) {
    struct model_config cfg = test_config();
    struct unit_map map = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct units *u = units_new(&map);
    for (int i = 0; i < map.count; i++) {
        u->cls[i] = (uint8_t)(i % UNIT_CLASS_COUNT);
        u->i_s[i] = (float)(i + 1);
    }
    return u;
}

static int class_count(const struct units *u, const struct mask *m, enum unit_class c) {
    int n = 0;
    for (int i = 0; i < u->map.count; i++)
        n += m->in[i] && u->cls[i] == c;
    return n;
}

static const struct {
    struct freeze_spec spec;
    const char *text;
    bool other;
} cases[] = {
    {{.classes = BIT(SCU)}, "SCU", true},
    {{.classes = BIT(SCU) | BIT(CU)}, "SCU + CU", true},
    {{.classes = BIT(SCU), .top_cu = 0.06}, "SCU + top 6 % CU", true},
    {{.classes = BIT(SCU) | BIT(UCU) | BIT(CU)}, "SCU + UCU + CU", false},
    {{.classes = BIT(SCU) | BIT(UCU) | BIT(CU), .train_other = TRAIN_OTHER_YES}, "SCU + UCU + CU",
     true},
    {{.classes = BIT(SCU), .train_other = TRAIN_OTHER_NO}, "SCU", false},
    {{.top_cu = 0.1}, "top 10 % CU", true},
    {{.classes = BIT(SCU), .top_cu = 0.06, .random_like = true, .seed = 4},
     "random, as many as SCU + top 6 % CU", true},
};

static void test_cases(void **state) {
    (void)state;
    struct units *u = make_units();
    int n = u->map.count;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct freeze_spec *s = &cases[i].spec;
        struct mask m;
        struct err e = {0};
        assert_ok(freeze_select(u, s, &m, &e), &e);
        int top = (int)(s->top_cu * n + 0.5), want = 0;
        for (int c = 0; c < UNIT_CLASS_COUNT; c++) {
            int of_class = n / UNIT_CLASS_COUNT + (c < n % UNIT_CLASS_COUNT);
            bool whole = s->classes >> c & 1;
            int from_class = whole ? of_class : c == UNIT_CU ? top : 0;
            if (!s->random_like)
                assert_int_equal(class_count(u, &m, (enum unit_class)c), from_class);
            want += from_class;
        }
        assert_int_equal(mask_count(&m), want);
        char *text = freeze_describe(s);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(freeze_trains_other(s), cases[i].other);
        free(text);
        mask_release(&m);
    }
    units_free(u);
}

/* As many in every layer and kind, the same for the same seed, another set for another. */
static void test_control(void **state) {
    (void)state;
    struct units *u = make_units();
    struct freeze_spec s = {.classes = BIT(SCU), .top_cu = 0.06};
    struct mask real_one, a, b, c;
    struct err e = {0};
    assert_ok(freeze_select(u, &s, &real_one, &e), &e);
    s.random_like = true;
    s.seed = 1;
    assert_ok(freeze_select(u, &s, &a, &e), &e);
    assert_ok(freeze_select(u, &s, &b, &e), &e);
    s.seed = 2;
    assert_ok(freeze_select(u, &s, &c, &e), &e);
    for (int l = 0; l < u->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++)
            assert_int_equal(mask_count_kind(&a, l, (enum unit_kind)k),
                             mask_count_kind(&real_one, l, (enum unit_kind)k));
    assert_memory_equal(a.in, b.in, (size_t)u->map.count);
    assert_memory_not_equal(a.in, c.in, (size_t)u->map.count);
    assert_memory_not_equal(a.in, real_one.in, (size_t)u->map.count);
    mask_release(&real_one);
    mask_release(&a);
    mask_release(&b);
    mask_release(&c);
    units_free(u);
}

static void test_empty(void **state) {
    (void)state;
    struct units *u = make_units();
    for (int i = 0; i < u->map.count; i++)
        u->cls[i] = UNIT_RU;
    struct freeze_spec s = {.classes = BIT(SCU), .top_cu = 0.5};
    struct mask m;
    struct err e = {0};
    assert_int_equal(freeze_select(u, &s, &m, &e), -1);
    assert_contains(e.msg, "freeze.classes");
    units_free(u);
}

static void test_config_keys(void **state) {
    (void)state;
    const char *v[] = {"model_name_or_path=a", "output_dir=b", "dataset=[c.jsonl]",
                       "freeze.units=u", "freeze.classes=[UCU, SCU]", "freeze.top_cu=0.25",
                       "freeze.random_like=true", "freeze.seed=9", "freeze.train_other=no"};
    struct err e = {0};
    struct config *c = config_load(VERB_TRAIN, NULL, v, (int)ARRAY_LEN(v), &e);
    if (!c)
        fail_msg("%s", e.msg);
    struct freeze_spec s = freeze_spec_of(c);
    assert_int_equal(s.classes, BIT(SCU) | BIT(UCU));
    assert_true(s.top_cu == 0.25 && s.random_like && s.seed == 9);
    assert_int_equal(s.train_other, TRAIN_OTHER_NO);
    config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_config_keys),
    };
    return cmocka_run_group_tests_name("freeze", tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_search.c — shares found for damage that the test itself defines.
 */
#include <math.h>

#include "attrib/search.h"
#include "tests/helper.h"

/* Damage of removing a share q of the units: utility a q, refusal b q, plus a dent in between. */
struct world {
    double utility, refusal;                /* nats per share of 1 */
    double dent_from, dent_to, dent;        /* utility damage inside (from, to) is lower by dent */
    bool broken;                            /* every figure is NaN */
    int calls;
    int counts[64];
};

static struct ablation_effect measure(void *ctx, const struct mask *m) {
    struct world *w = ctx;
    double q = (double)mask_count(m) / m->map.count;
    double dent = q > w->dent_from && q < w->dent_to ? w->dent : 0;
    if (w->calls < (int)ARRAY_LEN(w->counts))
        w->counts[w->calls] = mask_count(m);
    w->calls++;
    double u = w->broken ? NAN : w->utility * q - dent, r = w->broken ? NAN : w->refusal * q;
    return (struct ablation_effect){{r, r, r, 9}, {u, u, u, 9}, {-r, -r, -r, 9}};
}

static struct units *make_units(void) {
    struct model_config c = test_config();
    c.intermediate_size = 984;              // 2 x (984 + 16) = 2000 units: the grid hits exactly
    struct unit_map map = unit_map_make(&c, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct units *u = units_new(&map);
    double *v = xcalloc((size_t)map.count, 2 * sizeof *v);
    struct rng *r = rng_new(1);
    for (int i = 0; i < 2 * map.count; i++)
        v[i] = rng_uniform(r);
    rng_free(r);
    classify_scores(u, v, v + map.count, norm_find("zscore"), norm_find("none"));
    free(v);
    return u;
}

static void test_found_shares(void **state) {
    (void)state;
    static const struct {
        struct world w;
        struct search_bounds b;
        double ru, scu, ucu;
        bool met_ru, met_scu, met_ucu;
    } cases[] = {
        // utility 1 nat per share: 0.05 nats allow 5 %, 0.15 nats need 15 %
        {{.utility = 1}, {.0501, .1499, 1}, .05, .05, .15, true, true, true},
        // refusal loss limits RU alone
        {{.utility = 1, .refusal = 2}, {.0501, .1499, .0401}, .02, .05, .15, true, true, true},
        // no damage at all: the top of the grid, and a UCU that is never found
        {{.utility = 0}, {.05, .15, .05}, .3, .3, .005, true, true, false},
        // any removal breaks the model: nothing for RU and SCU, the smallest UCU
        {{.utility = 1e6, .refusal = 1e6}, {.05, .15, .05}, 0, 0, .005, false, false, true},
        // damage that falls again: the largest share that fits, beyond the first that fails
        {{.utility = 1, .dent_from = .22, .dent_to = .27, .dent = .22}, {.0501, .1499, 1},
         .25, .25, .15, true, true, true},
        // the target is out of reach: the share that came nearest
        {{.utility = 1}, {.0501, 50, 1}, .05, .05, .3, true, true, false},
        {{.broken = true}, {.05, .15, .05}, 0, 0, 0, false, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct units *u = make_units();
        struct world w = cases[i].w;
        struct search_result r;
        search_shares(u, &cases[i].b, measure, &w, &r);
        assert_near(r.share[UNIT_RU], cases[i].ru, 0, 1e-12, "RU");
        assert_near(r.share[UNIT_SCU], cases[i].scu, 0, 1e-12, "SCU");
        assert_near(r.share[UNIT_UCU], cases[i].ucu, 0, 1e-12, "UCU");
        double cu = 1 - cases[i].ru - cases[i].scu - cases[i].ucu;
        assert_near(r.share[UNIT_CU], cu, 0, 1e-12, "CU");
        assert_int_equal(r.met[UNIT_RU], cases[i].met_ru);
        assert_int_equal(r.met[UNIT_SCU], cases[i].met_scu);
        assert_int_equal(r.met[UNIT_UCU], cases[i].met_ucu);
        assert_int_equal(r.nsteps, w.calls);
        for (int c = 0; c < UNIT_CLASS_COUNT; c++) {        // the classes are those of the shares
            struct mask m = units_class_mask(u, (enum unit_class)c);
            assert_int_equal(mask_count(&m), units_count(u, r.share[c]));
            mask_release(&m);
        }
        search_result_release(&r);
        units_free(u);
    }
}

/* Every step is in the report as it was measured, in order; each class ends at its first fit. */
static void test_steps(void **state) {
    (void)state;
    struct units *u = make_units();
    struct world w = {.utility = 1, .refusal = 2};
    const struct search_bounds b = {.0501, .1499, .0401};
    struct search_result r;
    search_shares(u, &b, measure, &w, &r);
    static const enum unit_class order[] = {UNIT_RU, UNIT_SCU, UNIT_UCU};
    int at = 0;
    for (size_t k = 0; k < ARRAY_LEN(order); k++) {
        double last = order[k] == UNIT_UCU ? 0 : 1;
        for (; at < r.nsteps && r.steps[at].cls == order[k]; at++) {
            const struct search_step *s = &r.steps[at];
            assert_int_equal(s->units, w.counts[at]);
            assert_int_equal(s->units, units_count(u, s->share));
            assert_near(s->effect.utility_loss.value, s->share, 1e-12, 0, "measured");
            assert_true(order[k] == UNIT_UCU ? s->share > last : s->share < last);
            bool ends = at + 1 == r.nsteps || r.steps[at + 1].cls != order[k];
            assert_int_equal(s->fits, ends);
            if (ends)
                assert_true(s->share == r.share[order[k]]);
            last = s->share;
        }
    }
    assert_int_equal(at, r.nsteps);
    search_result_release(&r);
    units_free(u);
}

/* The last set measured for a class is the class that the file gets. */
struct watch {
    struct world world;
    struct mask last;
};

static struct ablation_effect measure_and_keep(void *ctx, const struct mask *m) {
    struct watch *w = ctx;
    mask_release(&w->last);
    w->last = mask_copy(m);
    return measure(&w->world, m);
}

static void test_measures_the_class(void **state) {
    (void)state;
    struct units *u = make_units();
    struct watch w = {.world = {.utility = 1}};
    const struct search_bounds b = {.0501, .1499, 1};
    struct search_result r;
    search_shares(u, &b, measure_and_keep, &w, &r);
    struct mask ucu = units_class_mask(u, UNIT_UCU);
    assert_memory_equal(ucu.in, w.last.in, (size_t)u->map.count);
    mask_release(&ucu);
    mask_release(&w.last);
    search_result_release(&r);
    units_free(u);
}

static void test_grid(void **state) {
    (void)state;
    double last = 0;
    for (int i = 0; search_grid[i] > 0; i++) {
        assert_true(search_grid[i] > last);
        last = search_grid[i];
    }
    assert_true(3 * last <= 1);             // three classes at the top of the grid fit
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_shares), cmocka_unit_test(test_steps),
        cmocka_unit_test(test_measures_the_class), cmocka_unit_test(test_grid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_mask.c — algebra of unit sets, and what freezing them means for every single entry.
 *
 * The expansion is checked against a naive twin that marks entries one by one from the definition
 * of a unit in unit.h, for random sets of every kind, on every architecture.
 */
#include "tests/helper_units.h"

static void algebra_is_that_of_sets(void **state) {
    (void)state;
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask a = test_random_mask(&map, 1, 0.4), b = test_random_mask(&map, 2, 0.6);
    struct mask both = mask_copy(&a), any = mask_copy(&a);
    struct mask only = mask_copy(&a), none = mask_copy(&a);
    mask_and(&both, &b);
    mask_or(&any, &b);
    mask_minus(&only, &b);
    mask_not(&none);
    for (int i = 0; i < map.count; i++) {
        assert_int_equal(both.in[i], a.in[i] && b.in[i]);
        assert_int_equal(any.in[i], a.in[i] || b.in[i]);
        assert_int_equal(only.in[i], a.in[i] && !b.in[i]);
        assert_int_equal(none.in[i], !a.in[i]);
    }
    assert_int_equal(mask_count(&any), mask_count(&a) + mask_count(&b) - mask_count(&both));
    assert_int_equal(mask_count(&none), map.count - mask_count(&a));
    int sum = 0;
    for (int l = 0; l < map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++)
            sum += mask_count_kind(&a, l, (enum unit_kind)k);
    assert_int_equal(sum, mask_count(&a));
    assert_int_equal(mask_count_kind(&a, -1, UNIT_MLP) + mask_count_kind(&a, -1, UNIT_ATTN), sum);
    mask_release(&a);
    mask_release(&b);
    mask_release(&both);
    mask_release(&any);
    mask_release(&only);
    mask_release(&none);
}

static void hash_sees_every_unit_and_the_shape(void **state) {
    (void)state;
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask m = test_random_mask(&map, 3, 0.5);
    char first[17], other[17];
    mask_hash(&m, first);
    assert_int_equal(strlen(first), 16);
    for (int i = 0; i < map.count; i++) {
        m.in[i] ^= 1;
        mask_hash(&m, other);
        assert_string_not_equal(first, other);
        m.in[i] ^= 1;
    }
    mask_hash(&m, other);
    assert_string_equal(first, other);
    m.map.kv_heads = 4;
    mask_hash(&m, other);
    assert_string_not_equal(first, other);
    mask_release(&m);
}

static void random_like_keeps_the_counts(void **state) {
    (void)state;
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask m = test_random_mask(&map, 4, 0.3);
    struct mask a = mask_random_like(&m, 7, "arm"), same = mask_random_like(&m, 7, "arm");
    struct mask seed = mask_random_like(&m, 8, "arm"), purpose = mask_random_like(&m, 7, "curve");
    for (int l = 0; l < map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++)
            assert_int_equal(mask_count_kind(&a, l, (enum unit_kind)k),
                             mask_count_kind(&m, l, (enum unit_kind)k));
    const size_t n = (size_t)map.count;
    assert_memory_equal(a.in, same.in, n);
    assert_memory_not_equal(a.in, seed.in, n);
    assert_memory_not_equal(a.in, purpose.in, n);
    assert_memory_not_equal(a.in, m.in, n);
    mask_release(&m);
    mask_release(&a);
    mask_release(&same);
    mask_release(&seed);
    mask_release(&purpose);
}

/* ---- entries ---- */

static bool twin_covers(const struct mask *m, const struct model *model, const struct param *p,
                        int row, int col, bool *owned) {
    const int first = p->layer * m->map.per_layer;
    *owned = false;
    for (int i = first; i >= 0 && i < first + m->map.per_layer; i++) {
        if (!test_unit_owns(model, unit_at(&m->map, i), p, row, col))
            continue;
        *owned = true;
        if (m->in[i])
            return true;
    }
    return false;
}

static void check_freeze(const struct mask *m, struct model *model, bool train_other) {
    size_t live = 0;
    mask_freeze(m, model, train_other);
    for (int i = 0; i < model->nparams; i++) {
        const struct param *p = &model->params[i];
        for (int k = 1; k < p->freeze.nlive; k++)
            assert_true(p->freeze.live[k - 1] < p->freeze.live[k]);
        for (int r = 0; r < (int)tensor_rows(&p->t); r++)
            for (int c = 0; c < (int)tensor_cols(&p->t); c++) {
                bool owned, in = twin_covers(m, model, p, r, c, &owned);
                const bool frozen = test_is_frozen(p, r, c);
                if (frozen != (in || (!owned && !train_other)))
                    fail_msg("%s: %s[%d,%d] is %sfrozen", model->cfg.model_type, p->name, r, c,
                             frozen ? "" : "not ");
                live += !frozen;
            }
    }
    model_grad_alloc(model);                // frozen entries take no memory
    assert_int_equal(model->grad_count, live);
}

static void freezing_equals_the_naive_twin(void **state) {
    (void)state;
    const double shares[] = {0, 0.1, 0.6, 1};
    for (int a = 0; arch_table[a]; a++) {
        struct model *model = test_units_model(arch_table[a], 5);
        for (size_t s = 0; s < TEST_KIND_SETS * ARRAY_LEN(shares) * 2; s++) {
            const struct unit_map map = unit_map_make(&model->cfg, test_kind_sets[s / 8]);
            struct mask m = test_random_mask(&map, s, shares[s / 2 % 4]);
            check_freeze(&m, model, s & 1);
            mask_release(&m);
        }
        mask_freeze(NULL, model, true);
        for (int i = 0; i < model->nparams; i++)
            assert_int_equal(model->params[i].freeze.kind, FREEZE_NONE);
        mask_freeze(NULL, model, false);
        assert_int_equal(model_slot(model, -1, SLOT_FINAL_NORM)->freeze.kind, FREEZE_ALL);
        assert_int_equal(model_slot(model, 0, SLOT_DOWN)->freeze.kind, FREEZE_NONE);
        model_free(model);
    }
}

static void count_calls(void *ctx, struct param *p, enum freeze_kind axis, const uint8_t *in,
                        int n) {
    const struct param **last = ctx;
    assert_true(p > *last);                 // once each, in their order
    assert_int_equal(n, axis == FREEZE_ROWS ? tensor_rows(&p->t) : tensor_cols(&p->t));
    assert_non_null(memchr(in, 1, (size_t)n));
    *last = p;
}

/* A fused tensor is one call and, frozen as far as it belongs to units, stays trainable in the
 * rest. */
static void fused_tensors_are_one(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++) {
        struct model *model = test_units_model(arch_table[a], 6);
        struct param *qkv = model_slot(model, 1, SLOT_QKV);
        const int q = 16, x = arch_table[a]->conv1d ? 48 : 32;
        for (int s = 0; s < TEST_KIND_SETS; s++) {
            const struct unit_map map = unit_map_make(&model->cfg, test_kind_sets[s]);
            struct mask m = test_random_mask(&map, 1, 1);
            const struct param *last = NULL;
            mask_expand(&m, model, count_calls, &last);
            assert_non_null(last);
            mask_freeze(&m, model, true);
            if (qkv && map.kinds & 1 << UNIT_ATTN)          // queries and keys train
                assert_int_equal(qkv->freeze.nlive, q + (x - q) / 2);
            else if (qkv)
                assert_int_equal(qkv->freeze.kind,
                                 map.kinds & 1 << UNIT_HEAD ? FREEZE_ALL : FREEZE_NONE);
            mask_release(&m);
        }
        model_free(model);
    }
}

/* Trainable gradients and frozen entries add up to the model: frozen units take no memory. */
static void gradients_exist_for_the_rest_only(void **state) {
    (void)state;
    struct model *model = test_model(6);
    const struct unit_map map = unit_map_make(&model->cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask m = mask_new(&map);
    m.in[unit_id(&map, (struct unit){UNIT_MLP, 0, 3})] = 1;
    m.in[unit_id(&map, (struct unit){UNIT_ATTN, 1, 2})] = 1;
    mask_freeze(&m, model, true);
    model_grad_alloc(model);
    const size_t c = 16;                    // an MLP unit: 3 C; a channel: v row C, o column C
    assert_int_equal(model->grad_count, model->count - 3 * c - 2 * c);
    mask_release(&m);
    model_free(model);
}

static void backward(struct model *m) {
    static const int32_t ids[] = {3, 17, 41, 8, 60, 22, 5, 9, 33}, offsets[] = {0, 5, 9};
    static const int32_t labels[] = {17, 41, 8, 60, LABEL_IGNORE, 5, 9, 33, LABEL_IGNORE};
    const struct batch b = {.ntok = 9, .nseq = 2, .ids = ids, .offsets = offsets};
    struct graph *g = graph_new();
    model_grad_alloc(m);
    graph_begin(g, true);
    struct node *h = model_hidden(g, m, &b, NULL);
    graph_backward(g, g_linear_cross_entropy(g, h, model_head(g, m), labels, NULL), 1);
    graph_free(g);
}

/* The gradient of what trains is that of the unfrozen model, entry by entry. */
static void gradients_of_the_rest_are_unchanged(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++)
        for (int s = 0; s < TEST_KIND_SETS; s++) {
            struct model *full = test_units_model(arch_table[a], 9), *part = model_clone(full);
            const struct unit_map map = unit_map_make(&full->cfg, test_kind_sets[s]);
            struct mask m = test_random_mask(&map, (uint64_t)s, 0.4);
            mask_freeze(&m, part, s & 1);
            backward(full);
            backward(part);
            for (int i = 0; i < part->nparams; i++) {
                const struct param *p = &part->params[i], *f = &full->params[i];
                const int cols = (int)tensor_cols(&p->t);
                size_t at = 0;              // live entries, row-major, whatever the axis
                for (int k = 0; k < (int)p->t.count; k++)
                    if (!test_is_frozen(p, k / cols, k % cols))
                        assert_near((double)p->grad[at++], (double)f->grad[k], 1e-4, 1e-6, p->name);
                assert_int_equal(at, p->grad_count);
            }
            mask_release(&m);
            model_free(full);
            model_free(part);
        }
}

static void rewinding_copies_covered_entries_alone(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++)
        for (int s = 0; s < TEST_KIND_SETS; s++) {
            struct model *src = test_units_model(arch_table[a], 7);
            struct model *dst = test_units_model(arch_table[a], 8), *before = model_clone(dst);
            const struct unit_map map = unit_map_make(&src->cfg, test_kind_sets[s]);
            struct mask m = test_random_mask(&map, (uint64_t)s, 0.3);
            mask_copy_params(&m, dst, src);
            size_t copied = 0;
            for (int i = 0; i < dst->nparams; i++) {
                const struct param *p = &dst->params[i];
                const int cols = (int)tensor_cols(&p->t);
                for (int k = 0; k < (int)p->t.count; k++) {
                    bool owned;
                    const bool in = twin_covers(&m, dst, p, k / cols, k % cols, &owned);
                    const struct model *from = in ? src : before;
                    copied += in;
                    assert_memory_equal(&tensor_data(&p->t)[k],
                                        &tensor_data(&from->params[i].t)[k], sizeof(real));
                }
            }
            assert_true(copied > 0);
            mask_release(&m);
            model_free(src);
            model_free(dst);
            model_free(before);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(algebra_is_that_of_sets),
        cmocka_unit_test(hash_sees_every_unit_and_the_shape),
        cmocka_unit_test(random_like_keeps_the_counts),
        cmocka_unit_test(freezing_equals_the_naive_twin),
        cmocka_unit_test(fused_tensors_are_one),
        cmocka_unit_test(gradients_exist_for_the_rest_only),
        cmocka_unit_test(gradients_of_the_rest_are_unchanged),
        cmocka_unit_test(rewinding_copies_covered_entries_alone),
    };
    return cmocka_run_group_tests_name("mask", tests, NULL, NULL);
}

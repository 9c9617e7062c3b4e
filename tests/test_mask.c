/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_mask.c — algebra of unit sets, and what freezing them means for every single entry.
 *
 * The expansion is checked against a naive twin that marks entries one by one from the definition
 * of a unit in unit.h, for random sets of every kind.
 */
#include "tests/helper.h"

#include "model/mask.h"

static const int kind_sets[] = {
    1 << UNIT_MLP, 1 << UNIT_ATTN, 1 << UNIT_HEAD, 1 << UNIT_MLP | 1 << UNIT_ATTN,
    1 << UNIT_MLP | 1 << UNIT_HEAD,
};

static struct mask random_mask(const struct unit_map *map, uint64_t seed, double share) {
    struct mask m = mask_new(map);
    struct rng *r = rng_new(seed);
    for (int i = 0; i < map->count; i++)
        m.in[i] = rng_uniform(r) < share;
    rng_free(r);
    return m;
}

static void algebra_is_that_of_sets(void **state) {
    (void)state;
    const struct model_config cfg = test_config();
    const struct unit_map map = unit_map_make(&cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask a = random_mask(&map, 1, 0.4), b = random_mask(&map, 2, 0.6);
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
    struct mask m = random_mask(&map, 3, 0.5);
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
    struct mask m = random_mask(&map, 4, 0.3);
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

/* Is entry (row, col) of the layer's matrix owned by unit u? From the definition in unit.h. */
static bool owns(const struct model_config *c, struct unit u, const char *matrix, int row,
                 int col) {
    const int d = c->head_dim, group = c->num_attention_heads / c->num_key_value_heads;
    if (u.kind == UNIT_MLP)
        return (!strcmp(matrix, "gate") || !strcmp(matrix, "up")) ? row == u.index
             : !strcmp(matrix, "down") && col == u.index;
    if (u.kind == UNIT_ATTN)
        return !strcmp(matrix, "o") ? col == u.index
             : !strcmp(matrix, "v") && row == u.index / d / group * d + u.index % d;
    return !strcmp(matrix, "o") ? col / d == u.index
         : !strcmp(matrix, "q") ? row / d == u.index
         : (!strcmp(matrix, "k") || !strcmp(matrix, "v")) && row / d == u.index / group;
}

/* "model.layers.0.mlp.gate_proj.weight" to "gate"; "" for what is no matrix of a unit. */
static void matrix_of(const struct param *p, char out[8]) {
    static const char *const names[] = {"gate", "up", "down", "q", "k", "v", "o"};
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char tail[24];
        snprintf(tail, sizeof tail, ".%s_proj.weight", names[i]);
        const size_t n = strlen(p->name), t = strlen(tail);
        if (n > t && strcmp(p->name + n - t, tail) == 0)
            snprintf(out, 8, "%s", names[i]);
    }
}

static bool twin_frozen(const struct mask *m, const struct model *model, const struct param *p,
                        int row, int col, bool train_other) {
    char matrix[8];
    matrix_of(p, matrix);
    bool has_units = false;
    for (int i = 0; matrix[0] && i < m->map.count; i++) {
        const struct unit u = unit_at(&m->map, i);
        if (u.layer != p->layer || !owns(&model->cfg, u, matrix, row, col))
            continue;
        has_units = true;
        if (m->in[i])
            return true;
    }
    return !has_units && !train_other;
}

/* Is the entry frozen by the parameter's struct freeze? */
static bool is_frozen(const struct param *p, int row, int col) {
    if (p->freeze.kind == FREEZE_NONE || p->freeze.kind == FREEZE_ALL)
        return p->freeze.kind == FREEZE_ALL;
    const int at = p->freeze.kind == FREEZE_ROWS ? row : col;
    for (int i = 0; i < p->freeze.nlive; i++)
        if (p->freeze.live[i] == at)
            return false;
    return true;
}

static void freezing_equals_the_naive_twin(void **state) {
    (void)state;
    struct model *model = test_model(5);
    const double shares[] = {0, 0.1, 0.5, 1};
    for (size_t s = 0; s < ARRAY_LEN(kind_sets) * ARRAY_LEN(shares) * 2; s++) {
        const struct unit_map map = unit_map_make(&model->cfg, kind_sets[s / 8]);
        const bool train_other = s & 1;
        struct mask m = random_mask(&map, s, shares[s / 2 % 4]);
        mask_freeze(&m, model, train_other);
        for (int i = 0; i < model->nparams; i++) {
            const struct param *p = &model->params[i];
            for (int k = 1; k < p->freeze.nlive; k++)
                assert_true(p->freeze.live[k - 1] < p->freeze.live[k]);
            for (int r = 0; r < (int)tensor_rows(&p->t); r++)
                for (int c = 0; c < (int)tensor_cols(&p->t); c++)
                    if (is_frozen(p, r, c) != twin_frozen(&m, model, p, r, c, train_other))
                        fail_msg("set %zu: %s[%d,%d] is %sfrozen", s, p->name, r, c,
                                 is_frozen(p, r, c) ? "" : "not ");
        }
        mask_release(&m);
    }
    mask_freeze(NULL, model, true);
    for (int i = 0; i < model->nparams; i++)
        assert_int_equal(model->params[i].freeze.kind, FREEZE_NONE);
    mask_freeze(NULL, model, false);
    assert_int_equal(model_param(model, "model.norm.weight")->freeze.kind, FREEZE_ALL);
    assert_int_equal(model_layer_param(model, 0, "mlp.up_proj.weight")->freeze.kind, FREEZE_NONE);
    model_free(model);
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

static void rewinding_copies_covered_entries_alone(void **state) {
    (void)state;
    struct model *src = test_model(7);
    for (size_t s = 0; s < ARRAY_LEN(kind_sets); s++) {
        struct model *dst = test_model(8), *before = model_clone(dst);
        const struct unit_map map = unit_map_make(&src->cfg, kind_sets[s]);
        struct mask m = random_mask(&map, s, 0.3);
        mask_copy_params(&m, dst, src);
        size_t copied = 0;
        for (int i = 0; i < dst->nparams; i++) {
            const struct param *p = &dst->params[i];
            const int cols = (int)tensor_cols(&p->t);
            for (int k = 0; k < (int)p->t.count; k++) {
                const bool in = twin_frozen(&m, dst, p, k / cols, k % cols, true);
                const struct model *from = in ? src : before;
                copied += in;
                assert_memory_equal(&tensor_data(&p->t)[k], &tensor_data(&from->params[i].t)[k],
                                    sizeof(real));
            }
        }
        assert_true(copied > 0);
        mask_release(&m);
        model_free(dst);
        model_free(before);
    }
    model_free(src);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(algebra_is_that_of_sets),
        cmocka_unit_test(hash_sees_every_unit_and_the_shape),
        cmocka_unit_test(random_like_keeps_the_counts),
        cmocka_unit_test(freezing_equals_the_naive_twin),
        cmocka_unit_test(gradients_exist_for_the_rest_only),
        cmocka_unit_test(rewinding_copies_covered_entries_alone),
    };
    return cmocka_run_group_tests_name("mask", tests, NULL, NULL);
}

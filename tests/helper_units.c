/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_units.c — see helper_units.h.
 */
#include "tests/helper_units.h"

#include "ckpt/safetensors.h"

const int test_kind_sets[TEST_KIND_SETS] = {
    1 << UNIT_MLP, 1 << UNIT_ATTN, 1 << UNIT_HEAD, 1 << UNIT_MLP | 1 << UNIT_ATTN,
    1 << UNIT_MLP | 1 << UNIT_HEAD,
};

static bool has_when(const struct arch *arch, enum arch_when when) {
    for (const struct arch_param *p = arch->params; p->name; p++)
        if (p->when == when)
            return true;
    return false;
}

static bool reads(const struct arch *arch, const char *key) {
    for (int i = 0; arch->reads[i]; i++)
        if (strcmp(arch->reads[i], key) == 0)
            return true;
    return false;
}

struct model_config test_units_config(const struct arch *arch) {
    struct model_config c = test_config();
    snprintf(c.model_type, sizeof c.model_type, "%s", arch->model_type);
    c.hidden_act = arch->act;
    c.attention_bias = has_when(arch, IF_ATTENTION_BIAS);
    c.mlp_bias = has_when(arch, IF_MLP_BIAS);
    if (arch->conv1d)
        c.num_key_value_heads = c.num_attention_heads;
    for (const struct arch_default *d = arch->defaults; d->key; d++)
        if (strcmp(d->key, "tie_word_embeddings") == 0)
            c.tie_word_embeddings = true;
    static const uint8_t windowed[] = {
        [WINDOW_NONE] = 0, [WINDOW_ALL] = 3, [WINDOW_UPPER] = 2, [WINDOW_EVEN] = 1,
    };
    c.windowed[0] = windowed[arch->window];
    c.sliding_window = arch->window == WINDOW_NONE ? 0 : 3;
    if (reads(arch, "partial_rotary_factor"))
        c.rope.partial_rotary_factor = 0.5;
    if (reads(arch, "query_pre_attn_scalar"))
        c.attn_scale = 0.25;
    if (reads(arch, "attn_logit_softcapping"))
        c.attn_logit_softcapping = 5;
    if (reads(arch, "final_logit_softcapping"))
        c.final_logit_softcapping = 6;
    return c;
}

struct model *test_units_model(const struct arch *arch, uint64_t seed) {
    struct model_config c = test_units_config(arch);
    struct err e = {0};
    struct model *m = model_new(&c, &e);
    if (!m)
        BUG("%s: %s", arch->model_type, e.msg);
    model_init(m, seed);
    struct rng *r = rng_keyed(seed, "norms and biases", 0);
    for (int i = 0; i < m->nparams; i++)
        for (size_t k = 0; m->params[i].init_std == 0 && k < m->params[i].t.count; k++)
            tensor_data(&m->params[i].t)[k] += R(0.3) * (real)(float)rng_normal(r);
    rng_free(r);
    return m;
}

/* Does the unit own output `out` of a projection before its tap, or an entry of a norm? count: all
 * entries of the tensor; group: query heads that share a kv head. */
static bool owns_output(const struct model_config *c, struct unit u, enum slot slot, int out,
                        int count) {
    const int d = c->head_dim, group = c->num_attention_heads / c->num_key_value_heads;
    const int q = c->num_attention_heads * d, k = c->num_key_value_heads * d;
    bool is_query = slot == SLOT_Q || slot == SLOT_Q_BIAS;
    bool is_key = slot == SLOT_K || slot == SLOT_K_BIAS;
    bool is_value = slot == SLOT_V || slot == SLOT_V_BIAS;
    if (u.kind == UNIT_MLP)
        return slot == SLOT_GATE_UP ? out % c->intermediate_size == u.index
             : (slot == SLOT_GATE || slot == SLOT_UP || slot == SLOT_GATE_BIAS
                || slot == SLOT_UP_BIAS) && out == u.index;
    if (slot == SLOT_QKV || slot == SLOT_QKV_BIAS) {        // queries, keys, values side by side
        is_query = out < q;
        is_key = !is_query && out < q + k;
        is_value = out >= q + k;
        out -= is_value ? q + k : is_key ? q : 0;
    }
    if (u.kind == UNIT_ATTN)
        return is_value && out / d == u.index / d / group && out % d == u.index % d;
    is_query |= slot == SLOT_Q_NORM && count == q;          // of one head's width: shared by all
    is_key |= slot == SLOT_K_NORM && count == k;
    return is_query ? out / d == u.index : (is_key || is_value) && out / d == u.index / group;
}

bool test_unit_owns(const struct model *m, struct unit u, const struct param *p, int row, int col) {
    const struct model_config *c = &m->cfg;
    const bool swap = m->arch->conv1d && p->t.ndim == 2;
    const int out = swap ? col : row, in = swap ? row : col;
    if (p->layer != u.layer)
        return false;
    if (p->slot == SLOT_DOWN)
        return u.kind == UNIT_MLP && in == u.index;
    if (p->slot == SLOT_O)
        return u.kind == UNIT_ATTN ? in == u.index
             : u.kind == UNIT_HEAD && in / c->head_dim == u.index;
    return owns_output(c, u, p->slot, out, (int)p->t.count);
}

bool test_is_frozen(const struct param *p, int row, int col) {
    if (p->freeze.kind == FREEZE_NONE || p->freeze.kind == FREEZE_ALL)
        return p->freeze.kind == FREEZE_ALL;
    const int at = p->freeze.kind == FREEZE_ROWS ? row : col;
    for (int i = 0; i < p->freeze.nlive; i++)
        if (p->freeze.live[i] == at)
            return false;
    return true;
}

struct mask test_random_mask(const struct unit_map *map, uint64_t seed, double share) {
    struct mask m = mask_new(map);
    struct rng *r = rng_new(seed);
    for (int i = 0; i < map->count; i++)
        m.in[i] = rng_uniform(r) < share;
    rng_free(r);
    return m;
}

const char *test_save_weights(const struct model *m, const char *path, bool bare) {
    static const char prefix[] = "transformer.";
    struct err e = {0};
    struct st_writer *w = st_writer_new();
    for (int i = 0; i < m->nparams; i++) {
        const struct param *p = &m->params[i];
        const bool cut = bare && strncmp(p->name, prefix, sizeof prefix - 1) == 0;
        st_writer_add_real(w, p->name + (cut ? sizeof prefix - 1 : 0), m->cfg.dtype, p->t.ndim,
                           p->t.shape, tensor_data(&p->t));
    }
    char *file = path_join(path, "model.safetensors");
    assert_ok(dir_make(path, &e), &e);
    assert_ok(st_save(w, file, &e), &e);
    st_writer_free(w);
    free(file);
    return path;
}

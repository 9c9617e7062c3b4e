/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * model.c — the parameter table and its blocks.
 *
 * All parameters lie in one block and all trainable gradients in another, in the order in which the
 * architecture names them: optimizers, clipping, hashing and reductions walk flat memory in one
 * fixed order. The gradient of a partly frozen parameter holds its live rows or columns only.
 */
#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const struct arch arch_llama;
const struct arch *const arch_table[] = {&arch_llama, NULL};

const struct arch *arch_find(const char *model_type) {
    for (int i = 0; arch_table[i]; i++)
        if (strcmp(arch_table[i]->model_type, model_type) == 0)
            return arch_table[i];
    return NULL;
}

const char *arch_list(void) {
    static char text[256];
    size_t n = 0;
    for (int i = 0; arch_table[i]; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i ? " " : "",
                              arch_table[i]->model_type);
    return text;
}

static int check_config(const struct model_config *c, struct err *e) {
    const struct {
        const char *name;
        int value;
    } sizes[] = {
        {"vocab_size", c->vocab_size}, {"hidden_size", c->hidden_size},
        {"intermediate_size", c->intermediate_size}, {"num_hidden_layers", c->num_hidden_layers},
        {"num_attention_heads", c->num_attention_heads},
        {"num_key_value_heads", c->num_key_value_heads}, {"head_dim", c->head_dim},
        {"max_position_embeddings", c->max_position_embeddings},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        if (sizes[i].value < 1)
            return err_set(e, "%s: expected at least 1, got %d", sizes[i].name, sizes[i].value);
    if (c->num_attention_heads % c->num_key_value_heads)
        return err_set(e, "num_key_value_heads: expected a divisor of num_attention_heads %d, "
                       "got %d", c->num_attention_heads, c->num_key_value_heads);
    if (c->head_dim % 2)
        return err_set(e, "head_dim: expected an even number, got %d", c->head_dim);
    if (!(c->rms_norm_eps >= 0) || !(c->rope_theta > 0))
        return err_set(e, "rms_norm_eps %g or rope_theta %g is out of range", c->rms_norm_eps,
                       c->rope_theta);
    return 0;
}

struct model *model_new(const struct model_config *cfg, struct err *e) {
    const struct arch *arch = arch_find(cfg->model_type);
    if (!arch) {
        err_set(e, "model_type: expected one of %s, got \"%s\"", arch_list(), cfg->model_type);
        return NULL;
    }
    if (check_config(cfg, e) != 0)
        return NULL;
    struct model *m = xcalloc(1, sizeof *m);
    m->cfg = *cfg;
    m->arch = arch;
    arch->params(m);
    size_t at = 0;
    for (int i = 0; i < m->nparams; i++)
        m->count += m->params[i].t.count;
    m->block = xcalloc(m->count, sizeof *m->block);
    for (int i = 0; i < m->nparams; i++) {
        m->params[i].t.data = m->block + at;
        at += m->params[i].t.count;
    }
    int half = cfg->head_dim / 2;
    m->inv_freq = xcalloc((size_t)half, sizeof *m->inv_freq);
    for (int i = 0; i < half; i++)
        m->inv_freq[i] = (float)pow(cfg->rope_theta, -2.0 * i / cfg->head_dim);
    return m;
}

void model_free(struct model *m) {
    if (!m)
        return;
    for (int i = 0; i < m->nparams; i++)
        free(m->params[i].freeze.live);
    free(m->params);
    free(m->block);
    free(m->grad_block);
    free(m->inv_freq);
    free(m);
}

void model_init(struct model *m, uint64_t seed) {
    for (int i = 0; i < m->nparams; i++) {
        struct param *p = &m->params[i];
        struct rng *r = rng_keyed(seed, p->name, 0);    // a parameter's values depend on its name
        for (size_t j = 0; j < p->t.count; j++)
            p->t.data[j] = (real)(float)(p->init_std > 0 ? p->init_std * rng_normal(r)
                                                         : p->init_value);
        rng_free(r);
    }
}

struct model *model_clone(const struct model *m) {
    struct err e = {0};
    struct model *c = model_new(&m->cfg, &e);
    if (!c)
        BUG("model_clone: %s", e.msg);
    model_copy_params(c, m);
    return c;
}

void model_copy_params(struct model *dst, const struct model *src) {
    if (dst->count != src->count)
        BUG("model_copy_params: %zu and %zu entries", dst->count, src->count);
    memcpy(dst->block, src->block, src->count * sizeof *src->block);
}

struct param *model_param(const struct model *m, const char *name) {
    for (int i = 0; i < m->nparams; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return &m->params[i];
    return NULL;
}

struct param *model_layer_param(const struct model *m, int layer, const char *suffix) {
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, suffix);
    struct param *p = model_param(m, name);
    if (!p)
        BUG("no parameter %s", name);
    return p;
}

struct param *model_param_add(struct model *m, int layer, const char *name, int ndim, int64_t d0,
                              int64_t d1, double init_std, double init_value) {
    m->params = xreallocarray(m->params, (size_t)m->nparams + 1, sizeof *m->params);
    struct param *p = &m->params[m->nparams++];
    *p = (struct param){.layer = layer, .init_std = init_std, .init_value = init_value};
    snprintf(p->name, sizeof p->name, "%s", name);
    p->t = tensor_view(NULL, ndim, (int64_t[]){d0, d1});
    return p;
}

void model_unfreeze(struct model *m) {
    for (int i = 0; i < m->nparams; i++) {
        free(m->params[i].freeze.live);
        m->params[i].freeze = (struct freeze){0};
    }
}

/* Trainable entries of p under its freeze. */
static size_t live_entries(const struct param *p) {
    size_t rows = (size_t)tensor_rows(&p->t), n = (size_t)p->freeze.nlive;
    switch (p->freeze.kind) {
    case FREEZE_NONE: return p->t.count;
    case FREEZE_ROWS: return n * (p->t.count / rows);
    case FREEZE_COLS: return n * rows;
    case FREEZE_ALL: break;
    }
    return 0;
}

void model_grad_alloc(struct model *m) {
    model_grad_free(m);
    for (int i = 0; i < m->nparams; i++) {
        m->params[i].grad_count = live_entries(&m->params[i]);
        m->grad_count += m->params[i].grad_count;
    }
    m->grad_block = xcalloc(m->grad_count, sizeof *m->grad_block);
    size_t at = 0;
    for (int i = 0; i < m->nparams; i++) {
        struct param *p = &m->params[i];
        p->grad = p->grad_count ? m->grad_block + at : NULL;
        at += p->grad_count;
    }
}

void model_grad_free(struct model *m) {
    free(m->grad_block);
    m->grad_block = NULL;
    m->grad_count = 0;
    for (int i = 0; i < m->nparams; i++) {
        m->params[i].grad = NULL;
        m->params[i].grad_count = 0;
    }
}

void model_grad_zero(struct model *m) {
    enum { RUN = 1 << 16 };
    size_t n = m->grad_count;
#pragma omp parallel for schedule(static) if (n > RUN)
    for (size_t i = 0; i < n; i += RUN)
        memset(m->grad_block + i, 0, MIN((size_t)RUN, n - i) * sizeof *m->grad_block);
}

struct node *model_hidden(struct graph *g, struct model *m, const struct batch *b,
                          struct kv_cache *cache) {
    return m->arch->hidden(g, m, b, cache);
}

struct param *model_head_param(const struct model *m) {
    struct param *p = model_param(m, m->cfg.tie_word_embeddings ? "model.embed_tokens.weight"
                                                                : "lm_head.weight");
    if (!p)
        BUG("the model has no output matrix");
    return p;
}

struct node *model_head(struct graph *g, struct model *m) {
    return node_param(g, model_head_param(m));
}

const real *model_rope(struct graph *g, const struct model *m, const struct batch *b) {
    int d = m->cfg.head_dim, half = d / 2;
    real *table = arena_alloc(graph_arena(g), (size_t)b->ntok * (size_t)d * sizeof *table);
#pragma omp parallel for schedule(dynamic, 8) if (b->ntok > 64)
    for (int s = 0; s < b->nseq; s++)
        for (int t = b->offsets[s]; t < b->offsets[s + 1]; t++) {
            int pos = t - b->offsets[s] + (b->pos0 ? b->pos0[s] : 0);
            for (int i = 0; i < half; i++) {        // angles in float, as the reference has them
                real angle = (real)((float)pos * m->inv_freq[i]);
                table[(size_t)t * (size_t)d + (size_t)i] = (real)cos((double)angle);
                table[(size_t)t * (size_t)d + (size_t)(half + i)] = (real)sin((double)angle);
            }
        }
    return table;
}

struct kv_cache *kv_cache_new(const struct model *m, int nseq, int capacity) {
    struct kv_cache *c = xcalloc(1, sizeof *c);
    size_t width = (size_t)m->cfg.num_key_value_heads * (size_t)m->cfg.head_dim;
    size_t each = (size_t)nseq * (size_t)capacity * width;
    int layers = m->cfg.num_hidden_layers;
    *c = (struct kv_cache){.nseq = nseq, .capacity = capacity,
                           .layers = xcalloc((size_t)layers, sizeof *c->layers),
                           .len = xcalloc((size_t)nseq, sizeof *c->len),
                           .block = xmalloc(2 * (size_t)layers * each * sizeof(real))};
    for (int l = 0; l < layers; l++)
        c->layers[l] = (struct kv_layer){.k = c->block + 2 * (size_t)l * each,
                                         .v = c->block + (2 * (size_t)l + 1) * each,
                                         .capacity = capacity};
    return c;
}

void kv_cache_free(struct kv_cache *c) {
    if (!c)
        return;
    free(c->layers);
    free(c->len);
    free(c->block);
    free(c);
}

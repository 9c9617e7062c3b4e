/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * llama.c — LlamaForCausalLM: RMS norm, rotary embedding, grouped-query attention, SwiGLU.
 *
 *   h += o(attention(rope q(n1 h), rope k(n1 h), v(n1 h)));  h += down(silu(gate(n2 h)) up(n2 h))
 *
 * Parameters are asked for by name when a layer runs. Without gradients each layer's nodes are
 * given back before the next one runs; only the residual stream is carried over.
 */
#include <string.h>

#include "model/model.h"

static const struct layer_param {
    const char *suffix;
    char rows, cols;                        /* C model, Q heads x D, K kv heads x D, F, 1 vector */
} layer_params[] = {
    {"input_layernorm.weight", 'C', '1'},
    {"self_attn.q_proj.weight", 'Q', 'C'},
    {"self_attn.k_proj.weight", 'K', 'C'},
    {"self_attn.v_proj.weight", 'K', 'C'},
    {"self_attn.o_proj.weight", 'C', 'Q'},
    {"post_attention_layernorm.weight", 'C', '1'},
    {"mlp.gate_proj.weight", 'F', 'C'},
    {"mlp.up_proj.weight", 'F', 'C'},
    {"mlp.down_proj.weight", 'C', 'F'},
};
enum { IN_NORM, Q_PROJ, K_PROJ, V_PROJ, O_PROJ, POST_NORM, GATE, UP, DOWN, PER_LAYER };

static int64_t side(const struct model_config *c, char code) {
    switch (code) {
    case 'C': return c->hidden_size;
    case 'Q': return (int64_t)c->num_attention_heads * c->head_dim;
    case 'K': return (int64_t)c->num_key_value_heads * c->head_dim;
    case 'F': return c->intermediate_size;
    default: return 1;
    }
}

static void llama_params(struct model *m) {
    const struct model_config *c = &m->cfg;
    double std = c->initializer_range;
    model_param_add(m, -1, "model.embed_tokens.weight", 2, c->vocab_size, c->hidden_size, std, 0);
    for (int l = 0; l < c->num_hidden_layers; l++)
        for (int i = 0; i < PER_LAYER; i++) {
            const struct layer_param *p = &layer_params[i];
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.%s", l, p->suffix);
            bool norm = p->cols == '1';
            model_param_add(m, l, name, norm ? 1 : 2, side(c, p->rows), side(c, p->cols),
                            norm ? 0 : std, 1);
        }
    model_param_add(m, -1, "model.norm.weight", 1, c->hidden_size, 1, 0, 1);
    if (!c->tie_word_embeddings)
        model_param_add(m, -1, "lm_head.weight", 2, c->vocab_size, c->hidden_size, std, 0);
}

/* Parameter i of layer l: they lie in order behind the embedding. */
static struct node *layer_node(struct graph *g, struct model *m, int l, int i) {
    return node_param(g, &m->params[1 + l * PER_LAYER + i]);
}

static struct node *attention(struct graph *g, struct model *m, int l, struct node *x,
                              const struct batch *b, const real *rope, struct kv_layer *cache) {
    const struct model_config *c = &m->cfg;
    struct node *n = g_rms_norm(g, x, layer_node(g, m, l, IN_NORM), (real)c->rms_norm_eps);
    struct node *q = g_rope(g, g_linear(g, n, layer_node(g, m, l, Q_PROJ)), c->head_dim, rope);
    struct node *k = g_rope(g, g_linear(g, n, layer_node(g, m, l, K_PROJ)), c->head_dim, rope);
    struct node *v = g_linear(g, n, layer_node(g, m, l, V_PROJ));
    real scale = (real)(1.0 / __builtin_sqrt((double)c->head_dim));
    struct node *a = g_attention(g, q, k, v, b, c->num_attention_heads, c->num_key_value_heads,
                                 scale, cache);
    graph_tap(g, TAP_ATTN_HEADS, l, a);
    return g_linear(g, a, layer_node(g, m, l, O_PROJ));
}

static struct node *mlp(struct graph *g, struct model *m, int l, struct node *x) {
    struct node *n = g_rms_norm(g, x, layer_node(g, m, l, POST_NORM), (real)m->cfg.rms_norm_eps);
    struct node *h = g_swiglu(g, g_linear(g, n, layer_node(g, m, l, GATE)),
                              g_linear(g, n, layer_node(g, m, l, UP)));
    graph_tap(g, TAP_MLP_HIDDEN, l, h);
    return g_linear(g, h, layer_node(g, m, l, DOWN));
}

static struct node *block(struct graph *g, struct model *m, int l, struct node *x,
                          const struct batch *b, const real *rope, struct kv_layer *cache) {
    graph_tap(g, TAP_RESID_PRE, l, x);
    x = g_add(g, x, attention(g, m, l, x, b, rope, cache));
    graph_tap(g, TAP_RESID_MID, l, x);
    x = g_add(g, x, mlp(g, m, l, x));
    graph_tap(g, TAP_RESID_POST, l, x);
    return x;
}

static struct node *llama_hidden(struct graph *g, struct model *m, const struct batch *b,
                                 struct kv_cache *cache) {
    const struct model_config *c = &m->cfg;
    struct node *x = g_embedding(g, node_param(g, &m->params[0]), b->ids, b->ntok);
    const real *rope = model_rope(g, m, b);
    for (int l = 0; l < c->num_hidden_layers; l++) {
        struct kv_layer *kv = cache ? &cache->layers[l] : NULL;
        if (graph_grad(g)) {
            x = block(g, m, l, x, b, rope, kv);
            continue;
        }
        size_t mark = graph_mark(g);
        struct node *y = block(g, m, l, x, b, rope, kv);
        memcpy(x->t.data, y->t.data, x->t.count * sizeof(real));
        graph_release(g, mark);
    }
    struct param *norm = &m->params[1 + c->num_hidden_layers * PER_LAYER];
    struct node *h = g_rms_norm(g, x, node_param(g, norm), (real)c->rms_norm_eps);
    graph_tap(g, TAP_FINAL, c->num_hidden_layers, h);
    return h;
}

const struct arch arch_llama = {"llama", "LlamaForCausalLM", llama_params, llama_hidden};

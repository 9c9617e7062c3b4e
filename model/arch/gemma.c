/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gemma.c — GemmaForCausalLM: norms of 1 + w, embeddings times sqrt(hidden_size), GeGLU, tied.
 *
 * The factor on the embedding is rounded to the dtype the weights are stored in, as the model was
 * trained; the output matrix is the unscaled embedding. Files of Gemma 1.0 say hidden_act "gelu"
 * and mean the tanh form (hidden_activation decides when it is set).
 */
#include "model/arch.h"

static const struct arch_param params[] = {
    {SLOT_EMBED, "model.embed_tokens.weight", 'V', 'C', ALWAYS},
    {SLOT_ATTN_NORM, "input_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_Q, "self_attn.q_proj.weight", 'Q', 'C', ALWAYS},
    {SLOT_Q_BIAS, "self_attn.q_proj.bias", 'Q', '1', IF_ATTENTION_BIAS},
    {SLOT_K, "self_attn.k_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_K_BIAS, "self_attn.k_proj.bias", 'K', '1', IF_ATTENTION_BIAS},
    {SLOT_V, "self_attn.v_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_V_BIAS, "self_attn.v_proj.bias", 'K', '1', IF_ATTENTION_BIAS},
    {SLOT_O, "self_attn.o_proj.weight", 'C', 'Q', ALWAYS},
    {SLOT_O_BIAS, "self_attn.o_proj.bias", 'C', '1', IF_ATTENTION_BIAS},
    {SLOT_MLP_NORM, "post_attention_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_GATE, "mlp.gate_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_UP, "mlp.up_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_DOWN, "mlp.down_proj.weight", 'C', 'F', ALWAYS},
    {SLOT_FINAL_NORM, "model.norm.weight", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {
    {"vocab_size", 256000}, {"hidden_size", 3072}, {"intermediate_size", 24576},
    {"num_hidden_layers", 28}, {"num_attention_heads", 16}, {"num_key_value_heads", 16},
    {"head_dim", 256}, {"max_position_embeddings", 8192}, {"tie_word_embeddings", 1},
    {"pad_token_id", 0}, {"eos_token_id", 1}, {"bos_token_id", 2}, {.key = NULL},
};
static const char *const reads[] = {"attention_bias", "hidden_activation", NULL};

const struct arch arch_gemma = {
    .model_type = "gemma", .hf_class = "GemmaForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .norm_offset = 1, .scale_embedding = true, .rope = true,
    .act = ACT_GELU_TANH, .defaults = defaults, .reads = reads,
};

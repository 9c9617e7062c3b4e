/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gemma2.c — Gemma2ForCausalLM: four norms a layer, soft caps, windows on even layers.
 *
 *   h += post_attention(attention(input h));  h += post_feedforward(mlp(pre_feedforward h))
 *
 * The attention scale is query_pre_attn_scalar^-0.5; its logits are capped before the mask, those
 * of the output layer at the end.
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
    {SLOT_ATTN_POST_NORM, "post_attention_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_MLP_NORM, "pre_feedforward_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_GATE, "mlp.gate_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_UP, "mlp.up_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_DOWN, "mlp.down_proj.weight", 'C', 'F', ALWAYS},
    {SLOT_MLP_POST_NORM, "post_feedforward_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_FINAL_NORM, "model.norm.weight", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {
    {"vocab_size", 256000}, {"hidden_size", 2304}, {"intermediate_size", 9216},
    {"num_hidden_layers", 26}, {"num_attention_heads", 8}, {"num_key_value_heads", 4},
    {"head_dim", 256}, {"max_position_embeddings", 8192}, {"tie_word_embeddings", 1},
    {"query_pre_attn_scalar", 256}, {"attn_logit_softcapping", 50},
    {"final_logit_softcapping", 30}, {"sliding_window", 4096}, {"pad_token_id", 0},
    {"eos_token_id", 1}, {"bos_token_id", 2}, {.key = NULL},
};
static const char *const reads[] = {
    "attention_bias", "hidden_activation", "query_pre_attn_scalar", "attn_logit_softcapping",
    "final_logit_softcapping", "sliding_window", "layer_types", NULL,
};

const struct arch arch_gemma2 = {
    .model_type = "gemma2", .hf_class = "Gemma2ForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .norm_offset = 1, .scale_embedding = true, .rope = true,
    .act = ACT_GELU_TANH, .window = WINDOW_EVEN, .defaults = defaults, .reads = reads,
};

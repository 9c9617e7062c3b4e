/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * olmo2.c — Olmo2ForCausalLM: norms behind the blocks, and over whole queries and keys.
 *
 *   h += post_attention(attention(h));  h += post_feedforward(mlp(h))
 *
 * q_norm and k_norm are RMSNorms over the projected vector before it is split into heads.
 */
#include "model/arch.h"

static const struct arch_param params[] = {
    {SLOT_EMBED, "model.embed_tokens.weight", 'V', 'C', ALWAYS},
    {SLOT_Q, "self_attn.q_proj.weight", 'Q', 'C', ALWAYS},
    {SLOT_Q_BIAS, "self_attn.q_proj.bias", 'Q', '1', IF_ATTENTION_BIAS},
    {SLOT_K, "self_attn.k_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_K_BIAS, "self_attn.k_proj.bias", 'K', '1', IF_ATTENTION_BIAS},
    {SLOT_V, "self_attn.v_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_V_BIAS, "self_attn.v_proj.bias", 'K', '1', IF_ATTENTION_BIAS},
    {SLOT_Q_NORM, "self_attn.q_norm.weight", 'Q', '1', ALWAYS},
    {SLOT_K_NORM, "self_attn.k_norm.weight", 'K', '1', ALWAYS},
    {SLOT_O, "self_attn.o_proj.weight", 'C', 'Q', ALWAYS},
    {SLOT_O_BIAS, "self_attn.o_proj.bias", 'C', '1', IF_ATTENTION_BIAS},
    {SLOT_ATTN_POST_NORM, "post_attention_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_GATE, "mlp.gate_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_UP, "mlp.up_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_DOWN, "mlp.down_proj.weight", 'C', 'F', ALWAYS},
    {SLOT_MLP_POST_NORM, "post_feedforward_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_FINAL_NORM, "model.norm.weight", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {
    {"vocab_size", 50304}, {"rms_norm_eps", 1e-5}, {"bos_token_id", KEY_NULL},
    {"pad_token_id", 1}, {"eos_token_id", 50279}, {.key = NULL},
};
static const char *const reads[] = {"attention_bias", NULL};

const struct arch arch_olmo2 = {
    .model_type = "olmo2", .hf_class = "Olmo2ForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .rope = true, .defaults = defaults, .reads = reads,
};

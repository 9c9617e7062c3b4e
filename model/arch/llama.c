/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * llama.c — LlamaForCausalLM: Llama 1 to 3.x, TinyLlama, SmolLM and many others.
 *
 *   h += o(attention(rope q(n1 h), rope k(n1 h), v(n1 h)));  h += down(silu(gate(n2 h)) up(n2 h))
 *
 * attention_bias adds a bias to q, k, v and o; mlp_bias to all three of the MLP. The common table
 * of config keys has this class's defaults.
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
    {SLOT_GATE_BIAS, "mlp.gate_proj.bias", 'F', '1', IF_MLP_BIAS},
    {SLOT_UP, "mlp.up_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_UP_BIAS, "mlp.up_proj.bias", 'F', '1', IF_MLP_BIAS},
    {SLOT_DOWN, "mlp.down_proj.weight", 'C', 'F', ALWAYS},
    {SLOT_DOWN_BIAS, "mlp.down_proj.bias", 'C', '1', IF_MLP_BIAS},
    {SLOT_FINAL_NORM, "model.norm.weight", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {{.key = NULL}};
static const char *const reads[] = {"attention_bias", "mlp_bias", NULL};

const struct arch arch_llama = {
    .model_type = "llama", .hf_class = "LlamaForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .rope = true, .defaults = defaults, .reads = reads,
};

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * qwen2.c — Qwen2ForCausalLM (Qwen 1.5, 2, 2.5): a Llama whose q, k and v always have a bias.
 *
 * sliding_window counts only with use_sliding_window, for layers from max_window_layers on.
 */
#include "model/arch.h"

static const struct arch_param params[] = {
    {SLOT_EMBED, "model.embed_tokens.weight", 'V', 'C', ALWAYS},
    {SLOT_ATTN_NORM, "input_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_Q, "self_attn.q_proj.weight", 'Q', 'C', ALWAYS},
    {SLOT_Q_BIAS, "self_attn.q_proj.bias", 'Q', '1', ALWAYS},
    {SLOT_K, "self_attn.k_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_K_BIAS, "self_attn.k_proj.bias", 'K', '1', ALWAYS},
    {SLOT_V, "self_attn.v_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_V_BIAS, "self_attn.v_proj.bias", 'K', '1', ALWAYS},
    {SLOT_O, "self_attn.o_proj.weight", 'C', 'Q', ALWAYS},
    {SLOT_MLP_NORM, "post_attention_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_GATE, "mlp.gate_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_UP, "mlp.up_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_DOWN, "mlp.down_proj.weight", 'C', 'F', ALWAYS},
    {SLOT_FINAL_NORM, "model.norm.weight", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {
    {"vocab_size", 151936}, {"intermediate_size", 22016}, {"num_key_value_heads", 32},
    {"max_position_embeddings", 32768}, {"bos_token_id", KEY_NULL}, {"eos_token_id", KEY_NULL},
    {"sliding_window", 4096}, {.key = NULL},
};
static const char *const reads[] = {"sliding_window", "use_sliding_window", "max_window_layers",
                                    "layer_types", NULL};

const struct arch arch_qwen2 = {
    .model_type = "qwen2", .hf_class = "Qwen2ForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .rope = true, .window = WINDOW_UPPER, .defaults = defaults, .reads = reads,
};

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * phi3.c — Phi3ForCausalLM (Phi-3, 3.5, 4-mini): fused projections.
 *
 * qkv_proj holds the rows of all query heads, then all keys, then all values; gate_up_proj the gate
 * rows, then the up rows. RoPE may cover a part of each head and be scaled by factor lists.
 */
#include "model/arch.h"

static const struct arch_param params[] = {
    {SLOT_EMBED, "model.embed_tokens.weight", 'V', 'C', ALWAYS},
    {SLOT_ATTN_NORM, "input_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_QKV, "self_attn.qkv_proj.weight", 'X', 'C', ALWAYS},
    {SLOT_O, "self_attn.o_proj.weight", 'C', 'Q', ALWAYS},
    {SLOT_MLP_NORM, "post_attention_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_GATE_UP, "mlp.gate_up_proj.weight", 'G', 'C', ALWAYS},
    {SLOT_DOWN, "mlp.down_proj.weight", 'C', 'F', ALWAYS},
    {SLOT_FINAL_NORM, "model.norm.weight", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {
    {"vocab_size", 32064}, {"hidden_size", 3072}, {"intermediate_size", 8192},
    {"max_position_embeddings", 4096}, {"original_max_position_embeddings", 4096},
    {"rms_norm_eps", 1e-5}, {"eos_token_id", 32000}, {"pad_token_id", 32000},
    {"sliding_window", KEY_NULL}, {.key = NULL},
};
static const char *const reads[] = {"partial_rotary_factor", "original_max_position_embeddings",
                                    "sliding_window", "layer_types", NULL};

const struct arch arch_phi3 = {
    .model_type = "phi3", .hf_class = "Phi3ForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .rope = true, .window = WINDOW_ALL, .defaults = defaults, .reads = reads,
};

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * mistral.c — MistralForCausalLM: a Llama without biases whose layers all see a window.
 *
 * num_key_value_heads is 8 when absent and the number of heads when null; sliding_window is 4096
 * when absent and off when null. head_dim may differ from hidden_size / heads (Nemo).
 */
#include "model/arch.h"

static const struct arch_param params[] = {
    {SLOT_EMBED, "model.embed_tokens.weight", 'V', 'C', ALWAYS},
    {SLOT_ATTN_NORM, "input_layernorm.weight", 'C', '1', ALWAYS},
    {SLOT_Q, "self_attn.q_proj.weight", 'Q', 'C', ALWAYS},
    {SLOT_K, "self_attn.k_proj.weight", 'K', 'C', ALWAYS},
    {SLOT_V, "self_attn.v_proj.weight", 'K', 'C', ALWAYS},
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
    {"intermediate_size", 14336}, {"num_key_value_heads", 8},
    {"max_position_embeddings", 131072}, {"sliding_window", 4096}, {.key = NULL},
};
static const char *const reads[] = {"sliding_window", "layer_types", NULL};

const struct arch arch_mistral = {
    .model_type = "mistral", .hf_class = "MistralForCausalLM", .layer_prefix = "model.layers.%d.",
    .params = params, .rope = true, .window = WINDOW_ALL, .defaults = defaults, .reads = reads,
};

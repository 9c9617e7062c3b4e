/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gpt2.c — GPT2LMHeadModel: LayerNorm, learned positions, no gate, matrices stored [in, out].
 *
 *   h = wte[id] + wpe[position];  h += c_proj(attention(c_attn(ln_1 h)));
 *   h += c_proj(gelu(c_fc(ln_2 h)))
 *
 * c_attn gives query, key and value side by side. The first published files have no "transformer."
 * before their names.
 */
#include "model/arch.h"

static const struct arch_param params[] = {
    {SLOT_EMBED, "transformer.wte.weight", 'V', 'C', ALWAYS},
    {SLOT_POSITIONS, "transformer.wpe.weight", 'P', 'C', ALWAYS},
    {SLOT_ATTN_NORM, "ln_1.weight", 'C', '1', ALWAYS},
    {SLOT_ATTN_NORM_BIAS, "ln_1.bias", 'C', '1', ALWAYS},
    {SLOT_QKV, "attn.c_attn.weight", 'C', 'X', ALWAYS},
    {SLOT_QKV_BIAS, "attn.c_attn.bias", 'X', '1', ALWAYS},
    {SLOT_O, "attn.c_proj.weight", 'Q', 'C', ALWAYS},
    {SLOT_O_BIAS, "attn.c_proj.bias", 'C', '1', ALWAYS},
    {SLOT_MLP_NORM, "ln_2.weight", 'C', '1', ALWAYS},
    {SLOT_MLP_NORM_BIAS, "ln_2.bias", 'C', '1', ALWAYS},
    {SLOT_UP, "mlp.c_fc.weight", 'C', 'F', ALWAYS},
    {SLOT_UP_BIAS, "mlp.c_fc.bias", 'F', '1', ALWAYS},
    {SLOT_DOWN, "mlp.c_proj.weight", 'F', 'C', ALWAYS},
    {SLOT_DOWN_BIAS, "mlp.c_proj.bias", 'C', '1', ALWAYS},
    {SLOT_FINAL_NORM, "transformer.ln_f.weight", 'C', '1', ALWAYS},
    {SLOT_FINAL_NORM_BIAS, "transformer.ln_f.bias", 'C', '1', ALWAYS},
    {SLOT_HEAD, "lm_head.weight", 'V', 'C', IF_UNTIED},
    {.name = NULL},
};

static const struct arch_default defaults[] = {
    {"vocab_size", 50257}, {"max_position_embeddings", 1024}, {"hidden_size", 768},
    {"num_hidden_layers", 12}, {"num_attention_heads", 12}, {"intermediate_size", KEY_NULL},
    {"rms_norm_eps", 1e-5}, {"tie_word_embeddings", 1}, {"bos_token_id", 50256},
    {"eos_token_id", 50256}, {.key = NULL},
};
static const struct arch_rename renames[] = {
    {"n_embd", "hidden_size"}, {"n_layer", "num_hidden_layers"}, {"n_head", "num_attention_heads"},
    {"n_positions", "max_position_embeddings"}, {"n_inner", "intermediate_size"},
    {"layer_norm_epsilon", "rms_norm_eps"}, {"activation_function", "hidden_act"}, {.own = NULL},
};
static const char *const reads[] = {"scale_attn_weights", "scale_attn_by_inverse_layer_idx",
                                    "reorder_and_upcast_attn", NULL};

const struct arch arch_gpt2 = {
    .model_type = "gpt2", .hf_class = "GPT2LMHeadModel", .layer_prefix = "transformer.h.%d.",
    .params = params, .conv1d = true, .layer_norm = true, .act = ACT_GELU_TANH,
    .defaults = defaults, .renames = renames, .reads = reads,
};

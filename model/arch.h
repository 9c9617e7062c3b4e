/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * arch.h — an architecture as data: its tensors, its switches, its words in config.json.
 *
 * All decoders here are one forward pass (decoder.c) over named slots: which of them exist, and the
 * few switches below, is what tells a Gemma 2 from a Llama. To add one: a file in model/arch/ with
 * its tables, and one word in ARCHS.
 */
#ifndef KEEL_ARCH_H
#define KEEL_ARCH_H

#include "model/op.h"

#define ARCHS(X) X(llama) X(mistral) X(qwen2) X(qwen3) X(gemma) X(gemma2) X(phi3) X(olmo2) X(gpt2)

/* Places for tensors. Top: once a model; the others once a layer. A slot without a tensor is a step
 * that the architecture does not have. X(id, kind) */
enum slot_kind { SLOT_MATRIX, SLOT_NORM, SLOT_BIAS };
#define SLOTS(X)                                                                                \
    X(EMBED, MATRIX) X(POSITIONS, MATRIX) X(FINAL_NORM, NORM) X(FINAL_NORM_BIAS, BIAS)          \
    X(HEAD, MATRIX)                                                                             \
    X(ATTN_NORM, NORM) X(ATTN_NORM_BIAS, BIAS)                                                  \
    X(Q, MATRIX) X(K, MATRIX) X(V, MATRIX) X(QKV, MATRIX)                                       \
    X(Q_BIAS, BIAS) X(K_BIAS, BIAS) X(V_BIAS, BIAS) X(QKV_BIAS, BIAS)                           \
    X(Q_NORM, NORM) X(K_NORM, NORM) X(O, MATRIX) X(O_BIAS, BIAS) X(ATTN_POST_NORM, NORM)        \
    X(MLP_NORM, NORM) X(MLP_NORM_BIAS, BIAS)                                                    \
    X(GATE, MATRIX) X(UP, MATRIX) X(GATE_UP, MATRIX) X(GATE_BIAS, BIAS) X(UP_BIAS, BIAS)        \
    X(DOWN, MATRIX) X(DOWN_BIAS, BIAS) X(MLP_POST_NORM, NORM)
enum slot {
#define X(id, kind) SLOT_##id,
    SLOTS(X)
#undef X
    SLOT_COUNT
};
#define SLOT_FIRST_OF_LAYER SLOT_ATTN_NORM

/* When a tensor is there. */
enum arch_when { ALWAYS, IF_UNTIED, IF_ATTENTION_BIAS, IF_MLP_BIAS };

struct arch_param {
    enum slot slot;
    const char *name;                       /* behind the layer's prefix for slots of a layer */
    /* C hidden_size, V vocab_size, P max_position_embeddings, F intermediate_size, G 2 F,
     * Q H*D, K K*D, X (H + 2K)*D, D head_dim; columns '1': a vector */
    char rows, cols;
    enum arch_when when;
};

/* Which layers see a window of sliding_window keys. */
enum arch_window {
    WINDOW_NONE,                            /* the class has none: the key must be null */
    WINDOW_ALL,                             /* all of them */
    WINDOW_UPPER,                           /* use_sliding_window: layers from max_window_layers */
    WINDOW_EVEN,                            /* 0, 2, 4, ... */
};

/* A default of the class's own, where it is not that of the common table in ckpt/hf_config.c. */
struct arch_default {
    const char *key;
    double value;                           /* KEY_NULL: null */
};
#define KEY_NULL (-1e300)
struct arch_rename {
    const char *own, *common;               /* "n_embd", "hidden_size": either may stand */
};

struct arch {
    const char *model_type;                 /* "llama": config.json model_type */
    const char *hf_class;                   /* "LlamaForCausalLM" */
    const char *layer_prefix;               /* "model.layers.%d." */
    const struct arch_param *params;        /* in the order of the block; name NULL ends */
    bool conv1d;                            /* layer matrices are stored [in, out] */
    bool layer_norm;                        /* LayerNorm, else RMSNorm */
    double norm_offset;                     /* 1: norm weights are what is added to one */
    bool scale_embedding;                   /* times sqrt(C), rounded to the stored dtype */
    bool rope;                              /* else learned positions */
    enum act act;                           /* hidden_act when it is absent */
    enum arch_window window;
    const struct arch_default *defaults;    /* key NULL ends */
    const struct arch_rename *renames;      /* own NULL ends; NULL: none */
    /* Keys that the class computes beyond the common ones; others that are not neutral are refused.
     * NULL ends. */
    const char *const *reads;
};
extern const struct arch *const arch_table[];       /* ends with NULL */
const struct arch *arch_find(const char *model_type);   /* NULL: none */
const char *arch_list(void);                        /* "llama mistral ...", for messages */
#endif

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the folders of tests/test_arch_ref.c: every architecture, by code that shares nothing with
Keel.

    /usr/bin/python3 tests/ref/make_arch.py [CASE ...]   (Debian: python3-torch, PyTorch 1.13)

For each row of CASES it writes arch/NAME/config.json, arch/NAME/model.safetensors (random weights,
exactly representable in the stored dtype) and arch/NAME/expected.safetensors: token ids of packed
sequences, their logits, the mean loss of the next tokens, what greedy decoding adds to each
sequence, and the gradient of every stored tensor. The results are checked in; neither the build
nor the tests run this script.

Everything is float64 and naive: one sequence at a time, one head at a time, no cache, the
probabilities of a token recomputed from the whole sequence. `settings` reads config.json as the
class of the architecture does, with that class's defaults; `weights_of` names what it stores;
`logits_of` computes. Sources: the equations of Hugging Face's modeling files; RoPE scaling: Llama 3
(Meta), YaRN (arXiv 2309.00071), LongRoPE (arXiv 2402.13753), dynamic NTK.

A value that no case can tell from another is not tested by it, so after computing a case the script
changes one setting at a time and fails when the logits do not move by MOVES.
"""
import json
import math
import os
import struct
import sys
from types import SimpleNamespace

import numpy as np
import torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "arch")
GREEDY = 6                                  # tokens decoded behind every sequence
MARGIN = 0.02                               # between the two largest logits of each, in their std
MOVES = 8e-5                                # relative change of the logits that counts

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TORCH_NAME = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

# Configurations: the class of config.json, its sizes, and what the case is about. Key names are
# config.json's; a key that is absent here is absent in the file. Beside "config":
#   lengths   tokens of the packed sequences        dtype   of the stored weights
#   embed     scale of the random embedding         std     of the random matrices
#   extra     tensors in the file that are no parameters    prefix  of GPT-2's names
#   unseen    settings that are known not to show in it
SMALL = dict(vocab_size=41, hidden_size=24, intermediate_size=20, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             bos_token_id=1, eos_token_id=2)
PHI3 = dict(SMALL, pad_token_id=0)
GPT2 = dict(vocab_size=41, n_embd=16, n_layer=2, n_head=4, n_positions=32,
            bos_token_id=0, eos_token_id=0)


def less(base, *names, **more):
    """base without the keys `names`, with the keys of `more`."""
    return dict({k: v for k, v in base.items() if k not in names}, **more)


CASES = {
    # ---- Llama ----
    "llama": dict(model="llama", config=dict(
        SMALL, rms_norm_eps=1e-2, rope_theta=500.0, tie_word_embeddings=False, hidden_act="silu",
        head_dim=8, pretraining_tp=2, rope_scaling=None)),
    "llama-tied": dict(model="llama", extra=("lm_head", "inv_freq"), config=dict(
        SMALL, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
        num_key_value_heads=1, hidden_act="silu")),
    "llama-defaults": dict(model="llama", embed=0.02, config=less(SMALL, "num_key_value_heads")),
    "llama-bias": dict(model="llama", dtype="F16", config=dict(
        SMALL, rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
    "llama-gelu": dict(model="llama", config=dict(
        SMALL, num_hidden_layers=1, rms_norm_eps=1e-5, hidden_act="gelu",
        tie_word_embeddings=False)),
    "llama3-rope": dict(model="llama", lengths=(21, 5), config=dict(
        SMALL, head_dim=12, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=96))),
    "llama3-rope-tf5": dict(model="llama", lengths=(21, 5), config=dict(
        SMALL, head_dim=8, rms_norm_eps=1e-5, dtype="float32", rope_parameters=dict(
            rope_type="llama3", rope_theta=1000.0, factor=4.0, low_freq_factor=1.0,
            high_freq_factor=3.5, original_max_position_embeddings=64))),
    "linear-rope-tf5": dict(model="llama", config=dict(
        SMALL, rms_norm_eps=1e-5, rope_theta=77.0, dtype="float32",
        rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.5))),
    "linear-rope": dict(model="llama", config=dict(
        SMALL, rms_norm_eps=1e-5, rope_theta=500.0,
        rope_scaling=dict(type="linear", factor=4.0))),
    "dynamic-rope": dict(model="llama", lengths=(23, 5, 12), config=dict(
        less(SMALL, max_position_embeddings=16), head_dim=8, rms_norm_eps=1e-5, rope_theta=500.0,
        rope_scaling=dict(rope_type="dynamic", factor=3.0))),
    "yarn-rope-tf5": dict(model="llama", lengths=(21, 5), config=dict(
        SMALL, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-5,
        dtype="float32", rope_parameters=dict(
            rope_type="yarn", rope_theta=50.0, factor=4.0, original_max_position_embeddings=48,
            beta_fast=2.0, beta_slow=0.5, attention_factor=1.3))),
    # ---- Mistral ----
    "mistral": dict(model="mistral", config=dict(
        SMALL, sliding_window=3, head_dim=10, rms_norm_eps=1e-5, rope_theta=500.0,
        tie_word_embeddings=False, hidden_act="silu")),
    "mistral-full": dict(model="mistral", config=less(
        SMALL, num_key_value_heads=None, sliding_window=None, head_dim=None, rms_norm_eps=1e-5,
        rope_theta=500.0)),
    "mistral-defaults": dict(model="mistral", embed=0.02, config=less(
        SMALL, "num_key_value_heads", hidden_size=16, num_attention_heads=16, head_dim=4)),
    # ---- Qwen2 ----
    "qwen2": dict(model="qwen2", config=dict(
        SMALL, rms_norm_eps=1e-5, rope_theta=500.0, tie_word_embeddings=True, sliding_window=3,
        use_sliding_window=False, max_window_layers=0)),
    "qwen2-window": dict(model="qwen2", dtype="BF16", config=dict(
        SMALL, num_hidden_layers=3, rms_norm_eps=1e-5, rope_theta=500.0, sliding_window=3,
        use_sliding_window=True, max_window_layers=1)),
    "qwen2-yarn": dict(model="qwen2", lengths=(21, 5), embed=0.02, config=dict(
        less(SMALL, max_position_embeddings=4096), head_dim=12, rope_theta=50.0,
        rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=1024))),
    "qwen2-defaults": dict(model="qwen2", embed=0.02, config=dict(
        SMALL, num_hidden_layers=1, sliding_window=3)),
    # ---- Qwen3 ----
    "qwen3-tf5": dict(model="qwen3", config=dict(
        SMALL, head_dim=8, rms_norm_eps=1e-3, tie_word_embeddings=True, dtype="float32",
        rope_parameters=dict(rope_type="default", rope_theta=500.0))),
    "qwen3-window-tf5": dict(model="qwen3", config=dict(
        SMALL, head_dim=6, rms_norm_eps=1e-3, attention_bias=True, use_sliding_window=True,
        sliding_window=4, max_window_layers=1, dtype="float32",
        layer_types=["full_attention", "sliding_attention"],
        rope_parameters=dict(rope_type="default", rope_theta=500.0))),
    "qwen3-defaults": dict(model="qwen3", embed=0.02, config=dict(
        SMALL, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1)),
    # ---- Gemma ----
    "gemma": dict(model="gemma", config=dict(
        SMALL, num_key_value_heads=1, head_dim=8, rms_norm_eps=1e-3, rope_theta=500.0,
        pad_token_id=0, tie_word_embeddings=True, hidden_act="gelu",
        hidden_activation="gelu_pytorch_tanh")),
    "gemma-bf16": dict(model="gemma", dtype="BF16", config=dict(
        SMALL, head_dim=8, rms_norm_eps=1e-3, rope_theta=500.0, pad_token_id=0,
        hidden_act="gelu", hidden_activation=None)),
    "gemma-defaults": dict(model="gemma", embed=0.002, std=0.5, unseen=("final_cap",), config=dict(
        SMALL, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        pad_token_id=0)),
    # ---- Gemma 2 ----
    "gemma2": dict(model="gemma2", config=dict(
        SMALL, num_hidden_layers=3, head_dim=8, rms_norm_eps=1e-3, rope_theta=500.0,
        pad_token_id=0, sliding_window=3, query_pre_attn_scalar=13, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0, hidden_activation="gelu_pytorch_tanh",
        layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "gemma2-uncapped": dict(model="gemma2", dtype="BF16", config=dict(
        SMALL, head_dim=8, rms_norm_eps=1e-3, rope_theta=500.0, pad_token_id=0, sliding_window=4,
        query_pre_attn_scalar=8, attn_logit_softcapping=None, final_logit_softcapping=None)),
    "gemma2-defaults": dict(model="gemma2", embed=0.5, std=1.0, unseen=("eps",), config=dict(
        SMALL, hidden_size=8, num_attention_heads=1, num_key_value_heads=1, pad_token_id=0)),
    # ---- Phi-3 ----
    "phi3": dict(model="phi3", config=less(
        PHI3, num_key_value_heads=None, rms_norm_eps=1e-3, rope_theta=500.0, sliding_window=4,
        tie_word_embeddings=False, hidden_act="silu", rope_scaling=None)),
    "phi3-longrope": dict(model="phi3", lengths=(9, 5, 8), config=dict(
        PHI3, head_dim=8, hidden_size=32, rms_norm_eps=1e-3, rope_theta=500.0,
        original_max_position_embeddings=8, partial_rotary_factor=0.75, rope_scaling=dict(
            type="longrope", short_factor=[1.0, 1.25, 1.5], long_factor=[1.5, 3.0, 4.5]))),
    "phi3-longrope-tf5": dict(model="phi3", lengths=(9, 5, 8), config=dict(
        PHI3, hidden_size=32, num_hidden_layers=1, rms_norm_eps=1e-3, dtype="float32",
        original_max_position_embeddings=8, rope_parameters=dict(
            rope_type="longrope", rope_theta=500.0, partial_rotary_factor=0.5,
            original_max_position_embeddings=8, attention_factor=1.25,
            short_factor=[1.0, 1.5], long_factor=[2.0, 4.0]))),
    "phi3-defaults": dict(model="phi3", embed=0.02, config=less(
        PHI3, "num_key_value_heads", num_hidden_layers=1)),
    # ---- OLMo 2 ----
    "olmo2": dict(model="olmo2", config=dict(
        SMALL, rms_norm_eps=1e-3, rope_theta=500.0, pad_token_id=0, tie_word_embeddings=False,
        attention_bias=False, hidden_act="silu")),
    "olmo2-defaults": dict(model="olmo2", embed=0.02, std=0.02, unseen=("attn_cap",), config=less(
        SMALL, "num_key_value_heads", pad_token_id=0)),
    # ---- GPT-2 ----
    "gpt2": dict(model="gpt2", config=dict(
        GPT2, n_inner=None, layer_norm_epsilon=1e-2, activation_function="gelu_new",
        attn_pdrop=0.1, embd_pdrop=0.1, resid_pdrop=0.1)),
    "gpt2-bare": dict(model="gpt2", prefix="", extra=("masks",), config=dict(
        GPT2, n_ctx=20, n_inner=20, layer_norm_epsilon=1e-3, n_positions=20,
        scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True)),
    "gpt2-unscaled": dict(model="gpt2", config=dict(
        GPT2, scale_attn_weights=False, tie_word_embeddings=False, layer_norm_epsilon=1e-3,
        activation_function="relu")),
    "gpt2-defaults": dict(model="gpt2", embed=0.002, unseen=("final_cap",), config=GPT2),
}

CLASS = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM", "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM",
    "phi3": "Phi3ForCausalLM", "olmo2": "Olmo2ForCausalLM", "gpt2": "GPT2LMHeadModel",
}

# What a class takes for a key that config.json leaves out, where it is not the common value.
COMMON = dict(rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False, hidden_act="silu")
DEFAULTS = {
    "llama": {}, "qwen2": {}, "phi3": dict(rms_norm_eps=1e-5), "olmo2": dict(rms_norm_eps=1e-5),
    "mistral": dict(num_key_value_heads=8, sliding_window=4096),
    "qwen3": dict(head_dim=128),
    "gemma": dict(head_dim=256, tie_word_embeddings=True),
    "gemma2": dict(head_dim=256, tie_word_embeddings=True, query_pre_attn_scalar=256,
                   attn_logit_softcapping=50.0, final_logit_softcapping=30.0, sliding_window=4096,
                   hidden_activation="gelu_pytorch_tanh"),
}


# ---- config.json to what is computed ----

def rope_settings(c, known):
    """Type, base and parameters of the rotary embedding, in either generation of key names."""
    p = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    kind = p.pop("rope_type", None) or p.pop("type", None) or "default"
    p.pop("type", None)
    theta = p.pop("rope_theta", c.get("rope_theta", known["rope_theta"]))
    partial = p.pop("partial_rotary_factor", c.get("partial_rotary_factor", 1.0))
    positions = c["max_position_embeddings"]
    if kind == "dynamic":
        p["positions"] = positions
    if kind == "yarn":
        p.setdefault("original_max_position_embeddings", positions)
        p.setdefault("attention_factor", 0.1 * math.log(p["factor"]) + 1)
        p.setdefault("beta_fast", 32)
        p.setdefault("beta_slow", 1)
    if kind == "longrope":
        old = c["original_max_position_embeddings"]
        stretch = positions / old
        p.setdefault("attention_factor", 1.0 if stretch <= 1 else
                     math.sqrt(1 + math.log(stretch) / math.log(old)))
        p["original_max_position_embeddings"] = old
    return SimpleNamespace(kind=kind, theta=theta, partial=partial, **p)


def layer_windows(arch, c, known):
    """How many keys a query of each layer sees, itself included; None: all before it."""
    n = c["num_hidden_layers"]
    window = c.get("sliding_window", known.get("sliding_window"))
    if arch in ("mistral", "phi3"):
        return [window] * n
    if arch == "gemma2":
        return [window if i % 2 == 0 else None for i in range(n)]
    if arch in ("qwen2", "qwen3") and c.get("use_sliding_window", False):
        first = c.get("max_window_layers", 28)
        return [window if i >= first else None for i in range(n)]
    return [None] * n


def settings_gpt2(c):
    width = c["n_embd"]
    scale = 1 / math.sqrt(width // c["n_head"]) if c.get("scale_attn_weights", True) else 1.0
    inverse = c.get("scale_attn_by_inverse_layer_idx", False)
    return SimpleNamespace(
        arch="gpt2", vocab=c["vocab_size"], width=width, layers=c["n_layer"], heads=c["n_head"],
        kv_heads=c["n_head"], head_dim=width // c["n_head"], inner=c.get("n_inner") or 4 * width,
        positions=c["n_positions"], eps=c.get("layer_norm_epsilon", 1e-5), rope=None, qkv_bias=True,
        act=c.get("activation_function", "gelu_new"), tied=c.get("tie_word_embeddings", True),
        scales=[scale / (i + 1) if inverse else scale for i in range(c["n_layer"])],
        windows=[None] * c["n_layer"], attn_cap=None, final_cap=None, tiled=False, norm_offset=0.0,
        embed_factor=1.0)


def settings(arch, c, dtype):
    if arch == "gpt2":
        return settings_gpt2(c)
    known = dict(COMMON, **DEFAULTS[arch])
    width, heads = c["hidden_size"], c["num_attention_heads"]
    head_dim = c.get("head_dim", known.get("head_dim")) or width // heads
    gemma = arch in ("gemma", "gemma2")
    act = c.get("hidden_act", known["hidden_act"])
    if gemma:                               # its "gelu" is the tanh form
        act = c.get("hidden_activation", known.get("hidden_activation")) or "gelu_pytorch_tanh"
    scalar = c.get("query_pre_attn_scalar", known.get("query_pre_attn_scalar", head_dim))
    factor = float(torch.tensor(math.sqrt(width)).to(TORCH[dtype])) if gemma else 1.0
    biased = c.get("attention_bias", False)
    return SimpleNamespace(
        arch=arch, vocab=c["vocab_size"], width=width, layers=c["num_hidden_layers"], heads=heads,
        kv_heads=c.get("num_key_value_heads", known.get("num_key_value_heads")) or heads,
        head_dim=head_dim, inner=c["intermediate_size"],
        eps=c.get("rms_norm_eps", known["rms_norm_eps"]), act=act,
        tied=c.get("tie_word_embeddings", known["tie_word_embeddings"]),
        qkv_bias=biased or arch == "qwen2", o_bias=biased, mlp_bias=c.get("mlp_bias", False),
        scales=[scalar ** -0.5] * c["num_hidden_layers"], windows=layer_windows(arch, c, known),
        attn_cap=c.get("attn_logit_softcapping", known.get("attn_logit_softcapping")),
        final_cap=c.get("final_logit_softcapping", known.get("final_logit_softcapping")),
        norm_offset=1.0 if gemma else 0.0, embed_factor=factor, tiled=False,
        rope=rope_settings(c, known))


# ---- the tensors of a file: (name, shape, kind) ----

def weights_gpt2(s, prefix):
    w = s.width
    out = [(prefix + "wte.weight", (s.vocab, w), "embed"),
           (prefix + "wpe.weight", (s.positions, w), "embed")]
    for i in range(s.layers):
        at = f"{prefix}h.{i}."
        out += [(at + "ln_1.weight", (w,), "norm"), (at + "ln_1.bias", (w,), "bias"),
                (at + "attn.c_attn.weight", (w, 3 * w), "matrix"),
                (at + "attn.c_attn.bias", (3 * w,), "bias"),
                (at + "attn.c_proj.weight", (w, w), "matrix"),
                (at + "attn.c_proj.bias", (w,), "bias"),
                (at + "ln_2.weight", (w,), "norm"), (at + "ln_2.bias", (w,), "bias"),
                (at + "mlp.c_fc.weight", (w, s.inner), "matrix"),
                (at + "mlp.c_fc.bias", (s.inner,), "bias"),
                (at + "mlp.c_proj.weight", (s.inner, w), "matrix"),
                (at + "mlp.c_proj.bias", (w,), "bias")]
    return out + [(prefix + "ln_f.weight", (w,), "norm"), (prefix + "ln_f.bias", (w,), "bias")]


def projections(s):
    """(name, outputs, inputs, has a bias) of a layer's matrices."""
    q, kv, w, f = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.width, s.inner
    if s.arch == "phi3":
        return [("self_attn.qkv_proj", q + 2 * kv, w, False), ("self_attn.o_proj", w, q, False),
                ("mlp.gate_up_proj", 2 * f, w, False), ("mlp.down_proj", w, f, False)]
    return [("self_attn.q_proj", q, w, s.qkv_bias), ("self_attn.k_proj", kv, w, s.qkv_bias),
            ("self_attn.v_proj", kv, w, s.qkv_bias), ("self_attn.o_proj", w, q, s.o_bias),
            ("mlp.gate_proj", f, w, s.mlp_bias), ("mlp.up_proj", f, w, s.mlp_bias),
            ("mlp.down_proj", w, f, s.mlp_bias)]


def norms(s):
    """(name, width) of a layer's norms."""
    pre, post = ("input_layernorm", s.width), ("post_attention_layernorm", s.width)
    mlp = [("pre_feedforward_layernorm", s.width), ("post_feedforward_layernorm", s.width)]
    if s.arch == "gemma2":
        return [pre, post] + mlp
    if s.arch == "olmo2":
        return [post, mlp[1], ("self_attn.q_norm", s.heads * s.head_dim),
                ("self_attn.k_norm", s.kv_heads * s.head_dim)]
    if s.arch == "qwen3":
        return [pre, post, ("self_attn.q_norm", s.head_dim), ("self_attn.k_norm", s.head_dim)]
    return [pre, post]


def weights_of(s, prefix):
    if s.arch == "gpt2":
        out = weights_gpt2(s, prefix)
    else:
        out = [("model.embed_tokens.weight", (s.vocab, s.width), "embed")]
        for i in range(s.layers):
            at = f"model.layers.{i}."
            for name, rows, cols, biased in projections(s):
                out.append((at + name + ".weight", (rows, cols), "matrix"))
                if biased:
                    out.append((at + name + ".bias", (rows,), "bias"))
            out += [(at + name + ".weight", (n,), "norm") for name, n in norms(s)]
        out.append(("model.norm.weight", (s.width,), "norm"))
    if not s.tied:
        out.append(("lm_head.weight", (s.vocab, s.width), "head"))
    return out


# ---- the equations ----

def erf_gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def tanh_gelu(x):
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


ACT = {"silu": lambda x: x * torch.sigmoid(x), "gelu": erf_gelu, "gelu_new": tanh_gelu,
       "gelu_pytorch_tanh": tanh_gelu, "relu": lambda x: x.clamp(min=0)}


def rms_norm(x, w, s):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + s.eps) * (s.norm_offset + w)


def layer_norm(x, p, at, s):
    x = x - x.mean(-1, keepdim=True)
    x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + s.eps)
    return x * p[at + "weight"] + p[at + "bias"]


def linear(x, p, name):
    y = x @ p[name + ".weight"].T
    return y + p[name + ".bias"] if name + ".bias" in p else y


def cap(x, at):
    return x if at is None else at * torch.tanh(x / at)


def llama3_frequency(f, r):
    wave, old = 2 * math.pi / f, r.original_max_position_embeddings
    if wave < old / r.high_freq_factor:
        return f
    if wave > old / r.low_freq_factor:
        return f / r.factor
    smooth = (old / wave - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor)
    return (1 - smooth) * f / r.factor + smooth * f


def yarn_frequencies(freq, r, d):
    def dimension(rotations):
        old = r.original_max_position_embeddings
        return d * math.log(old / (2 * math.pi * rotations)) / (2 * math.log(r.theta))
    low = max(math.floor(dimension(r.beta_fast)), 0)
    high = min(math.ceil(dimension(r.beta_slow)), d - 1)
    out = []
    for i, f in enumerate(freq):
        ramp = min(max((i - low) / (high - low if high != low else 0.001), 0), 1)
        out.append(f / r.factor * ramp + f * (1 - ramp))
    return out


def frequencies(r, d, length):
    """The angle per position of each pair, and what cosines and sines are multiplied with."""
    theta = r.theta
    if r.kind == "dynamic":
        longest = max(length, r.positions)
        theta *= (r.factor * longest / r.positions - (r.factor - 1)) ** (d / (d - 2))
    freq = [theta ** (-2 * i / d) for i in range(d // 2)]
    if r.kind == "linear":
        freq = [f / r.factor for f in freq]
    elif r.kind == "llama3":
        freq = [llama3_frequency(f, r) for f in freq]
    elif r.kind == "yarn":
        freq = yarn_frequencies(freq, r, d)
    elif r.kind == "longrope":
        far = length > r.original_max_position_embeddings
        freq = [f / e for f, e in zip(freq, r.long_factor if far else r.short_factor)]
    elif r.kind not in ("default", "dynamic"):
        raise ValueError(r.kind)
    return freq, getattr(r, "attention_factor", 1.0)


def rotate(x, s):
    """x[T, D] of one head: pairs (i, i + R/2) of the first R columns turn."""
    if s.rope is None:
        return x
    length, d = x.shape
    turned = int(d * s.rope.partial)
    half = turned // 2
    freq, factor = frequencies(s.rope, turned, length)
    angle = torch.arange(length, dtype=x.dtype)[:, None] * torch.tensor(freq, dtype=x.dtype)
    c, sn = angle.cos() * factor, angle.sin() * factor
    a, b = x[:, :half], x[:, half:turned]
    return torch.cat((a * c - b * sn, b * c + a * sn, x[:, turned:]), -1)


def attend(q, k, v, s, layer):
    """q[T, H*D], k[T, K*D], v[T, K*D] to [T, H*D]."""
    length, d = q.shape[0], s.head_dim
    i, j = torch.arange(length)[:, None], torch.arange(length)[None, :]
    hidden = j > i
    if s.windows[layer] is not None:
        hidden = hidden | (j <= i - s.windows[layer])
    heads = []
    for h in range(s.heads):
        g = h % s.kv_heads if s.tiled else h // (s.heads // s.kv_heads)
        query, key = rotate(q[:, h * d:h * d + d], s), rotate(k[:, g * d:g * d + d], s)
        score = cap(query @ key.T * s.scales[layer], s.attn_cap)
        chance = torch.softmax(score.masked_fill(hidden, -math.inf), -1)
        heads.append(chance @ v[:, g * d:g * d + d])
    return torch.cat(heads, -1)


def per_head(x, w, s):
    return torch.cat([rms_norm(h, w, s) for h in x.split(s.head_dim, -1)], -1)


def attention(x, p, at, s, layer):
    n, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    if s.arch == "phi3":
        q, k, v = linear(x, p, at + "qkv_proj").split((n, kv, kv), -1)
    else:
        q, k, v = (linear(x, p, at + part + "_proj") for part in "qkv")
    if s.arch == "qwen3":
        q = per_head(q, p[at + "q_norm.weight"], s)
        k = per_head(k, p[at + "k_norm.weight"], s)
    if s.arch == "olmo2":
        q, k = rms_norm(q, p[at + "q_norm.weight"], s), rms_norm(k, p[at + "k_norm.weight"], s)
    return linear(attend(q, k, v, s, layer), p, at + "o_proj")


def mlp(x, p, at, s):
    if s.arch == "phi3":
        gate, up = linear(x, p, at + "gate_up_proj").split(s.inner, -1)
    else:
        gate, up = linear(x, p, at + "gate_proj"), linear(x, p, at + "up_proj")
    return linear(ACT[s.act](gate) * up, p, at + "down_proj")


def block(x, p, at, s, layer):
    def norm(y, name):
        return rms_norm(y, p[at + name + "_layernorm.weight"], s)
    if s.arch == "olmo2":
        x = x + norm(attention(x, p, at + "self_attn.", s, layer), "post_attention")
        return x + norm(mlp(x, p, at + "mlp.", s), "post_feedforward")
    y = attention(norm(x, "input"), p, at + "self_attn.", s, layer)
    if s.arch == "gemma2":
        x = x + norm(y, "post_attention")
        return x + norm(mlp(norm(x, "pre_feedforward"), p, at + "mlp.", s), "post_feedforward")
    x = x + y
    return x + mlp(norm(x, "post_attention"), p, at + "mlp.", s)


def block_gpt2(x, p, at, s, layer):
    def conv1d(y, name):
        return y @ p[at + name + ".weight"] + p[at + name + ".bias"]
    y = conv1d(layer_norm(x, p, at + "ln_1.", s), "attn.c_attn")
    x = x + conv1d(attend(*y.split(s.width, -1), s, layer), "attn.c_proj")
    y = conv1d(layer_norm(x, p, at + "ln_2.", s), "mlp.c_fc")
    return x + conv1d(ACT[s.act](y), "mlp.c_proj")


def logits_of(p, s, ids, prefix):
    """[T, V] of one sequence."""
    if s.arch == "gpt2":
        embed = p[prefix + "wte.weight"]
        x = embed[ids] + p[prefix + "wpe.weight"][:len(ids)]
        for i in range(s.layers):
            x = block_gpt2(x, p, f"{prefix}h.{i}.", s, i)
        x = layer_norm(x, p, prefix + "ln_f.", s)
    else:
        embed = p["model.embed_tokens.weight"]
        x = embed[ids] * s.embed_factor
        for i in range(s.layers):
            x = block(x, p, f"model.layers.{i}.", s, i)
        x = rms_norm(x, p["model.norm.weight"], s)
    return cap(x @ (embed if s.tied else p["lm_head.weight"]).T, s.final_cap)


def loss_of(logits, seqs):
    terms = [-torch.log_softmax(z, -1)[t, ids[t + 1]]
             for z, ids in zip(logits, seqs) for t in range(len(ids) - 1)]
    return torch.stack(terms).mean()


# ---- what greedy decoding adds; None when a choice is a near tie ----

def greedy(p, s, ids, prefix):
    ids = list(ids)
    for _ in range(GREEDY):
        z = logits_of(p, s, ids, prefix)[-1]
        best = z.topk(2).values
        if float(best[0] - best[1]) < MARGIN * float(z.std()):
            return None
        ids.append(int(z.argmax()))
    return ids[-GREEDY:]


# ---- does every setting show in the logits? ----

def varied(s, **changes):
    return SimpleNamespace(**dict(vars(s), **changes))


def variations(s, longest):
    """(what, settings that differ in one thing)"""
    yield "eps", varied(s, eps=s.eps * 10)
    if s.arch != "gpt2":
        yield "norm_offset", varied(s, norm_offset=1 - s.norm_offset)
        yield "embed_factor", varied(s, embed_factor=s.embed_factor * 1.2)
    if s.embed_factor not in (1.0, float(np.float32(math.sqrt(s.width)))):
        yield "embed_factor rounding", varied(s, embed_factor=math.sqrt(s.width))
    for act in ACT:
        if ACT[act] is not ACT[s.act]:
            yield act, varied(s, act=act)
    for i, w in enumerate(s.windows):
        for other in (3,) if w is None else (w - 1, w + 1, None):
            if other is not None and w is not None and w >= longest:
                continue
            if w is not None and w >= longest and other is None:
                continue
            windows = list(s.windows)
            windows[i] = other
            yield f"window of layer {i}: {other}", varied(s, windows=windows)
    for i in range(s.layers):
        scales = list(s.scales)
        scales[i] *= 1.05
        yield f"scale of layer {i}", varied(s, scales=scales)
    for name in ("attn_cap", "final_cap"):
        at = getattr(s, name)
        yield name, varied(s, **{name: 30.0 if at is None else None})
        if at is not None:
            yield name + " * 1.3", varied(s, **{name: at * 1.3})
    if 1 < s.kv_heads < s.heads:
        yield "order of heads", varied(s, tiled=True)
    if s.rope is None:
        return
    yield "rope", varied(s, rope=None)
    for name, value in vars(s.rope).items():
        if name == "kind" or (name == "partial" and s.rope.kind == "longrope"):
            continue
        if name == "partial":
            other = value - 2 / s.head_dim
        elif isinstance(value, list):
            other = [1.1 * v for v in value]
        else:
            other = value * (2 if name.startswith(("original", "beta")) else 1.2)
        yield "rope: " + name, varied(s, rope=varied(s.rope, **{name: other}))


def check_sensitivity(name, p, s, seqs, prefix, logits):
    weakest = (math.inf, "")
    for what, other in variations(s, max(map(len, seqs))):
        if what in CASES[name].get("unseen", ()):
            continue
        z = torch.cat([logits_of(p, other, ids, prefix) for ids in seqs])
        moved = float((z - logits).norm() / logits.norm())
        if moved < MOVES:
            print(f"{name}: {what} moves the logits by {moved:.2g} only", file=sys.stderr)
        weakest = min(weakest, (moved, what))
    return weakest


# ---- files ----

def save_safetensors(path, tensors):
    """As the format's own writer does: wide types first, then by name; header padded to 8."""
    order = [torch.float32, torch.int32, torch.bfloat16, torch.float16]
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, t in sorted(tensors.items(), key=lambda kv: (order.index(kv[1].dtype), kv[0])):
        t = t.detach().contiguous()
        blob = (t.view(torch.int16) if t.dtype == torch.bfloat16 else t).numpy().tobytes()
        header[name] = dict(dtype=("F32", "I32", "BF16", "F16")[order.index(t.dtype)],
                            shape=list(t.shape),
                            data_offsets=[at, at + len(blob)])
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def random_weights(case, s, prefix, gen):
    std = {"embed": case.get("embed", 0.3), "matrix": case.get("std", 0.3)}
    out = {}
    for name, shape, kind in weights_of(s, prefix):
        w = std.get(kind, 0.3) * torch.randn(shape, generator=gen, dtype=torch.float64)
        if kind == "norm":
            w += 1 - s.norm_offset
        out[name] = w.to(torch.float32).to(TORCH[case.get("dtype", "F32")])
    return out


def extra_tensors(case, s, prefix, stored):
    """What published files hold beside parameters."""
    out = {}
    for what in case.get("extra", ()):
        for i in range(s.layers):
            if what == "inv_freq":
                out[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(s.head_dim // 2)
            if what == "masks":
                mask = torch.ones(s.positions, s.positions).tril()
                out[f"{prefix}h.{i}.attn.bias"] = mask.reshape(1, 1, s.positions, s.positions)
                out[f"{prefix}h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        if what == "lm_head":
            out["lm_head.weight"] = stored["model.embed_tokens.weight"]
    return out


def config_of(case):
    c = dict(case["config"], architectures=[CLASS[case["model"]]], model_type=case["model"])
    c.setdefault("dtype" if "dtype" in c else "torch_dtype",
                 TORCH_NAME[case.get("dtype", "F32")])
    return c


def find_case(name, case, s, prefix):
    """The first seed whose greedy tokens are no near ties and vary."""
    for trial in range(2000):
        gen = torch.Generator().manual_seed(1000 * (1 + list(CASES).index(name)) + trial)
        stored = random_weights(case, s, prefix, gen)
        p = {k: t.to(torch.float64) for k, t in stored.items()}
        seqs = [torch.randint(3, s.vocab, (n,), generator=gen).tolist()
                for n in case.get("lengths", (9, 5))]
        new = [greedy(p, s, ids, prefix) for ids in seqs]
        if None not in new and all(len(set(ids)) >= 2 for ids in new):
            return stored, p, seqs, new
    raise RuntimeError(f"{name}: no seed without near ties")


def make(name, case):
    dtype, prefix = case.get("dtype", "F32"), case.get("prefix", "transformer.")
    s = settings(case["model"], case["config"], dtype)
    stored, p, seqs, new = find_case(name, case, s, prefix)
    for t in p.values():
        t.requires_grad_(True)
    each = [logits_of(p, s, ids, prefix) for ids in seqs]
    loss = loss_of(each, seqs)
    loss.backward()
    logits = torch.cat(each).detach()
    offsets = np.cumsum([0] + [len(ids) for ids in seqs])
    out = {"ids": torch.tensor(sum(seqs, []), dtype=torch.int32), "logits": logits,
           "offsets": torch.tensor(offsets, dtype=torch.int32), "loss": loss.reshape(1),
           "greedy": torch.tensor(new, dtype=torch.int32)}
    out.update({"grad." + k: t.grad for k, t in p.items()})
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        f.write(json.dumps(config_of(case), indent=2, sort_keys=True) + "\n")
    stored.update(extra_tensors(case, s, prefix, stored))
    save_safetensors(os.path.join(folder, "model.safetensors"), stored)
    save_safetensors(os.path.join(folder, "expected.safetensors"),
                     {k: t.to(torch.float32) if t.is_floating_point() else t
                      for k, t in out.items()})
    with torch.no_grad():
        moved, what = check_sensitivity(name, p, s, seqs, prefix, logits)
    smallest = min((float(t.grad.norm()), k) for k, t in p.items())
    print(f"{name}: loss {float(loss):.4f}, smallest gradient {smallest[0]:.2g} ({smallest[1]}), "
          f"weakest setting {moved:.2g} ({what})")
    return moved >= MOVES


def main():
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(CASES)
    with_doubts = [name for name in names if not make(name, CASES[name])]
    if with_doubts:
        sys.exit("settings that do not show: " + ", ".join(with_doubts))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the reference values of tests/test_ref.c, by code that shares nothing with Keel.

    /usr/bin/python3 tests/ref/make_ref.py          (Debian: python3-torch, PyTorch 1.13)

Writes beside itself, for each row of MODELS, NAME/config.json + NAME/model.safetensors (random
weights, F32) and NAME.safetensors (what must come out). The results are checked in; neither the
build nor the tests run this script. Everything is computed in float64 from the float32 weights, so
the tolerances of the test are about Keel's arithmetic alone.

The equations are those of Hugging Face's LlamaForCausalLM: RMSNorm, rotary embedding over halves,
grouped-query causal attention, SwiGLU, and a head that may be tied to the embedding. Tensors here
are [tokens, width] of one sequence at a time: no packing, no padding, no batching.
"""
import json
import math
import os
import struct

import torch

HERE = os.path.dirname(os.path.abspath(__file__))

# Sizes differ in every way that code could confuse: H*D != C, K < H, odd vocabulary, base of RoPE.
MODELS = {
    "untied": dict(vocab_size=53, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
                   num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5,
                   rope_theta=10000.0, tie_word_embeddings=False),
    "tied": dict(vocab_size=53, hidden_size=24, intermediate_size=28, num_hidden_layers=3,
                 num_attention_heads=3, num_key_value_heads=1, head_dim=8, rms_norm_eps=1e-6,
                 rope_theta=500.0, tie_word_embeddings=True),
}
LENGTHS = (13, 5, 8)                        # three sequences, packed one after the other
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
STEPS = 10
DPO = (dict(beta=0.1, label_smoothing=0.0), dict(beta=0.7, label_smoothing=0.2))

TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
                "BF16": torch.bfloat16}


# ---- safetensors, by hand: u64 length | JSON header | bytes ----

def save_safetensors(path, tensors):
    names = {torch.float32: "F32", torch.int32: "I32", torch.uint8: "U8"}
    header, blobs, at = {}, [], 0
    # wide types first keeps every tensor aligned
    for name, t in sorted(tensors.items(), key=lambda kv: (-kv[1].element_size(), kv[0])):
        blob = t.detach().contiguous().numpy().tobytes()
        header[name] = dict(dtype=names[t.dtype], shape=list(t.shape),
                            data_offsets=[at, at + len(blob)])
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    (n,) = struct.unpack("<Q", data[:8])
    out = {}
    dtypes = dict(TORCH_DTYPES, I32=torch.int32)
    for name, e in json.loads(data[8:8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = e["data_offsets"]
        raw = bytearray(data[8 + n + begin:8 + n + end])
        t = torch.frombuffer(raw, dtype=dtypes[e["dtype"]]) if raw else torch.empty(0)
        out[name] = t.reshape(e["shape"])
    return out


# ---- the model: a dict of float64 tensors by their Hugging Face names ----

def rms_norm(x, w, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w


def rotate(x, theta):
    """x[T, heads, D]: pairs (i, i + D/2) turn by position * theta^(-2i/D)."""
    length, _, d = x.shape
    freq = torch.tensor([theta ** (-2 * i / d) for i in range(d // 2)], dtype=x.dtype)
    angle = torch.arange(length, dtype=x.dtype)[:, None, None] * freq
    a, b = x[..., :d // 2], x[..., d // 2:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


def attention(x, p, at, c):
    length = x.shape[0]
    h, k, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    q = rotate((x @ p[at + "q_proj.weight"].T).reshape(length, h, d), c["rope_theta"])
    key = rotate((x @ p[at + "k_proj.weight"].T).reshape(length, k, d), c["rope_theta"])
    v = (x @ p[at + "v_proj.weight"].T).reshape(length, k, d)
    heads = []
    for i in range(h):
        j = i // (h // k)
        score = q[:, i] @ key[:, j].T / math.sqrt(d)
        future = torch.ones(length, length).triu(1).bool()
        heads.append(torch.softmax(score.masked_fill(future, -math.inf), -1) @ v[:, j])
    return torch.cat(heads, -1) @ p[at + "o_proj.weight"].T


def mlp(x, p, at):
    gate, up = x @ p[at + "gate_proj.weight"].T, x @ p[at + "up_proj.weight"].T
    return (gate * torch.sigmoid(gate) * up) @ p[at + "down_proj.weight"].T


def logits_of(p, c, ids):
    """[T, V] of one sequence."""
    x, eps = p["model.embed_tokens.weight"][ids], c["rms_norm_eps"]
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        x = x + attention(rms_norm(x, p[at + "input_layernorm.weight"], eps), p,
                          at + "self_attn.", c)
        x = x + mlp(rms_norm(x, p[at + "post_attention_layernorm.weight"], eps), p, at + "mlp.")
    x = rms_norm(x, p["model.norm.weight"], eps)
    head = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
    return x @ p[head].T


# ---- losses ----

def learnt_logprobs(p, c, ids, carries):
    """log pi of every token that carries loss, given those before it."""
    logp = torch.log_softmax(logits_of(p, c, ids), -1)
    return torch.stack([logp[t - 1, ids[t]] for t in range(1, len(ids)) if carries[t]])


def sft_loss(p, c, seqs):
    terms = torch.cat([learnt_logprobs(p, c, ids, carries) for ids, carries in seqs])
    return -terms.mean()


def dpo_loss(p, c, seqs, ref, beta, label_smoothing):
    """arXiv 2305.18290, eq. 7, with conservative labels; seqs: all chosen, then all rejected."""
    logp = torch.stack([learnt_logprobs(p, c, ids, carries).sum() for ids, carries in seqs])
    n = len(seqs) // 2
    z = beta * ((logp - ref)[:n] - (logp - ref)[n:])
    sigma = torch.nn.functional.logsigmoid
    return (-(1 - label_smoothing) * sigma(z) - label_smoothing * sigma(-z)).mean(), logp


# ---- weights, batches, files ----

def random_weights(c, gen):
    v, w, f = c["vocab_size"], c["hidden_size"], c["intermediate_size"]
    q, kv = (c[n] * c["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    shapes = {"model.embed_tokens.weight": (v, w), "model.norm.weight": (w,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, w)
    for i in range(c["num_hidden_layers"]):
        for name, shape in (("self_attn.q_proj", (q, w)), ("self_attn.k_proj", (kv, w)),
                            ("self_attn.v_proj", (kv, w)), ("self_attn.o_proj", (w, q)),
                            ("mlp.gate_proj", (f, w)), ("mlp.up_proj", (f, w)),
                            ("mlp.down_proj", (w, f)), ("input_layernorm", (w,)),
                            ("post_attention_layernorm", (w,))):
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    out = {}
    for name, shape in sorted(shapes.items()):
        x = torch.randn(shape, generator=gen)
        # norms near 1, matrices so large that attention is far from uniform
        out[name] = 1 + 0.2 * x if len(shape) == 1 else 0.25 * x
    return {name: t.to(torch.float32) for name, t in out.items()}


def config_json(c):
    # initializer_range, token ids and length play no part in what is compared
    return dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
                attention_bias=False, mlp_bias=False, attention_dropout=0.0,
                initializer_range=0.02, max_position_embeddings=64, bos_token_id=1,
                eos_token_id=2, torch_dtype="float32", use_cache=True, **c)


def random_sequences(c, gen, lengths, prompts):
    seqs = []
    for n, prompt in zip(lengths, prompts):
        ids = torch.randint(0, c["vocab_size"], (n,), generator=gen)
        carries = torch.tensor([0] * prompt + [1] * (n - prompt), dtype=torch.uint8)
        seqs.append((ids, carries))
    return seqs


def batch_tensors(prefix, seqs):
    """ids and carries as they are packed; labels: the next token where it carries loss, else -1."""
    labels = []
    for ids, carries in seqs:
        labels += [int(ids[t + 1]) if t + 1 < len(ids) and carries[t + 1] else -1
                   for t in range(len(ids))]
    offsets = [0]
    for ids, _ in seqs:
        offsets.append(offsets[-1] + len(ids))
    return {prefix + "ids": torch.cat([i for i, _ in seqs]).to(torch.int32),
            prefix + "carries": torch.cat([k for _, k in seqs]),
            prefix + "labels": torch.tensor(labels, dtype=torch.int32),
            prefix + "offsets": torch.tensor(offsets, dtype=torch.int32)}


def leaves(weights):
    return {k: t.to(torch.float64).requires_grad_(True) for k, t in weights.items()}


def make_sft(c, weights, gen, out):
    seqs = random_sequences(c, gen, LENGTHS, (4, 1, 6))
    seqs[0][1][9] = 0                       # a hole: a token in the middle that is not learnt
    out.update(batch_tensors("sft.", seqs))
    p = leaves(weights)
    out["sft.logits"] = torch.cat([logits_of(p, c, ids) for ids, _ in seqs])
    loss = sft_loss(p, c, seqs)
    loss.backward()
    out["sft.loss"] = loss.reshape(1)
    out.update({"sft.grad." + k: t.grad for k, t in p.items()})

    p = leaves(weights)
    optim, losses = torch.optim.AdamW(list(p.values()), **ADAMW), []
    for _ in range(STEPS):
        optim.zero_grad()
        loss = sft_loss(p, c, seqs)
        loss.backward()
        optim.step()
        losses.append(float(loss))
    out["adamw.losses"] = torch.tensor(losses)
    out.update({"adamw.after." + k: t for k, t in p.items()})


def make_dpo(c, weights, gen, out):
    # two pairs with a shared prompt each: chosen 0, 1, then rejected 0, 1
    seqs = random_sequences(c, gen, (9, 7, 11, 6), (4, 3, 4, 3))
    for i in range(2):
        prompt = 4 - i
        seqs[2 + i][0][:prompt] = seqs[i][0][:prompt]
    out.update(batch_tensors("dpo.", seqs))
    reference = {k: t.to(torch.float64) * (1 + 0.1 * torch.randn(t.shape, generator=gen))
                 for k, t in weights.items()}
    ref = torch.stack([learnt_logprobs(reference, c, i, k).sum() for i, k in seqs])
    out["dpo.ref"] = ref
    for n, opts in enumerate(DPO):
        p = leaves(weights)
        loss, logp = dpo_loss(p, c, seqs, ref, **opts)
        loss.backward()
        out["dpo.logps"] = logp
        out[f"dpo.loss.{n}"] = loss.reshape(1)
        out[f"dpo.beta.{n}"] = torch.tensor([opts["beta"]])
        out[f"dpo.label_smoothing.{n}"] = torch.tensor([opts["label_smoothing"]])
    out.update({"dpo.grad." + k: t.grad for k, t in p.items()})     # of the last row of DPO


def main():
    torch.set_num_threads(1)
    for seed, (name, c) in enumerate(MODELS.items()):
        gen = torch.Generator().manual_seed(100 + seed)
        weights = random_weights(c, gen)
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "config.json"), "w") as f:
            f.write(json.dumps(config_json(c), indent=2, sort_keys=True) + "\n")
        save_safetensors(os.path.join(folder, "model.safetensors"), weights)
        out = {}
        make_sft(c, weights, gen, out)
        if name == "untied":
            make_dpo(c, weights, gen, out)
        out = {k: t.to(torch.float32) if t.is_floating_point() else t for k, t in out.items()}
        save_safetensors(os.path.join(HERE, name + ".safetensors"), out)
        print(f"{name}: {sum(t.numel() for t in weights.values())} parameters, "
              f"loss {float(out['sft.loss']):.6f}, "
              f"after {STEPS} steps {float(out['adamw.losses'][-1]):.6f}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares Keel's logits of a model folder with those of make_ref.py's implementation.

    make tests-built
    /usr/bin/python3 tests/ref/check_export.py FOLDER [--program build/release/tests/test_ref]

For any Llama folder that Keel reads or writes (one or several safetensors files, F32, BF16, F16).
Prints the largest difference; exit status 3 when it is above 1e-4 of the largest logit.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile

import torch

from make_ref import load_safetensors, logits_of

TOLERANCE = 1e-4


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder")
    ap.add_argument("--program", default="build/release/tests/test_ref")
    a = ap.parse_args()
    torch.set_num_threads(1)

    with open(os.path.join(a.folder, "config.json")) as f:
        c = json.load(f)
    c.setdefault("num_key_value_heads", c["num_attention_heads"])
    c.setdefault("rope_theta", 10000.0)
    c.setdefault("tie_word_embeddings", False)
    if not c.get("head_dim"):
        c["head_dim"] = c["hidden_size"] // c["num_attention_heads"]
    weights = {}
    for path in sorted(glob.glob(os.path.join(a.folder, "model*.safetensors"))):
        weights.update({k: t.to(torch.float64) for k, t in load_safetensors(path).items()})

    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "logits.safetensors")
        subprocess.run([a.program, "logits", a.folder, out], check=True)
        keel = load_safetensors(out)
    want = logits_of(weights, c, keel["ids"].long())
    got = keel["logits"].to(torch.float64)
    diff, largest = float((got - want).abs().max()), float(want.abs().max())
    print(f"{a.folder}: {want.shape[0]} tokens x {want.shape[1]} logits, largest difference "
          f"{diff:.3g}, largest logit {largest:.3g}")
    return 0 if diff <= TOLERANCE * max(1.0, largest) else 3


if __name__ == "__main__":
    sys.exit(main())

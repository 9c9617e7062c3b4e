#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The main job, one verb a step: a fresh model, pre-training, alignment, attribution, comparison.
# Arguments are passed to every step: configs/quickstart/run.sh threads=1
# KEEL names another program than ./keel. Everything is written to out/quickstart, which is emptied.
set -eu
cd "$(dirname "$0")/../.."
keel=${KEEL:-./keel}
out=out/quickstart
start=$(date +%s)

step() {
    printf '\n$ %s\n' "$keel $*"
    "$keel" "$@"
}

[ -x "$keel" ] || { echo "$0: $keel: no such program (hint: make builds it)" >&2; exit 2; }
rm -rf "$out"
step init configs/quickstart/01_init.yaml "$@"
step train configs/quickstart/02_pretrain.yaml "$@"
step train configs/quickstart/03_align_sft.yaml "$@"
step train configs/quickstart/04_align_dpo.yaml "$@"
step attrib configs/quickstart/05_attrib.yaml "$@"
step compare configs/quickstart/06_compare.yaml "$@"
printf '\nDone in %s s. Reports:\n' $(($(date +%s) - start))
printf '  %s\n' "$out/5-attrib/report.html" "$out/6-compare/report.html"

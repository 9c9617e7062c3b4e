#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The main job on real text. Usage: configs/realtext/run.sh DATA_DIR [key=value ...]
# Further arguments are passed to every step. KEEL names another program than ./keel.
# Everything is written to out/realtext, which is emptied.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 DATA_DIR [key=value ...]" >&2; exit 2; }
[ -d "$1" ] || { echo "$0: $1: expected a folder of data" >&2; exit 2; }
data=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
keel=${KEEL:-./keel}
out=out/realtext
start=$(date +%s)

step() {
    printf '\n$ %s\n' "$keel $*"
    "$keel" "$@"
}

[ -x "$keel" ] || { echo "$0: $keel: no such program (hint: make builds it)" >&2; exit 2; }
xstest=$data/overrefusal_xstest_train.jsonl
pairs=dpo_overrefusal_train.jsonl
for f in "$xstest" "$data/$pairs"; do
    [ -r "$f" ] || { echo "$0: $f: expected this file in the data folder" >&2; exit 2; }
done
rm -rf "$out"
mkdir -p "$out/data"

# The data folder, without the pairs whose prompts are XSTest's: those are for evaluation only.
ln -s "$data"/*.jsonl "$out/data/"
rm "$out/data/$pairs"
sed -n 's/^\({"prompt": ".*",\) "label": .*/\1/p' "$xstest" > "$out/data/held_out.txt"
[ "$(wc -l < "$out/data/held_out.txt")" -eq "$(wc -l < "$xstest")" ] ||
    { echo "$0: $xstest: expected rows that begin with prompt and label" >&2; exit 2; }
grep -vFf "$out/data/held_out.txt" "$data/$pairs" > "$out/data/$pairs"
printf '%s: %s pairs, %s of them with prompts outside of XSTest\n' "$pairs" \
    "$(wc -l < "$data/$pairs")" "$(wc -l < "$out/data/$pairs")"

step init configs/realtext/01_init.yaml data_dir="$out/data" "$@"
step train configs/realtext/02_pretrain.yaml data_dir="$out/data" "$@"
step train configs/realtext/03_align_sft.yaml data_dir="$out/data" "$@"
step train configs/realtext/04_align_dpo.yaml data_dir="$out/data" "$@"
step attrib configs/realtext/05_attrib.yaml data_dir="$out/data" "$@"
step compare configs/realtext/06_compare.yaml data_dir="$out/data" "$@"
printf '\nDone in %s s. Reports:\n' $(($(date +%s) - start))
printf '  %s\n' "$out/5-attrib/report.html" "$out/6-compare/report.html"

#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Every yardstick case through `keel bench`: one JSON line each.
set -eu
for c in tiny:8:256:sft:7 tiny:4:512:sft:7 tiny:8:256:fwd:7 tiny:8:256:dpo:7 tiny:8:256:gen:7 \
         tiny:1:256:gen:7 small:4:256:sft:3 small:1:512:sft:3 small:4:256:fwd:3 small:4:256:dpo:3 \
         small:1:256:gen:3 small:4:256:attr:1; do
    IFS=: read -r size batch seq mode steps <<EOF
$c
EOF
    ./keel bench --size "$size" --batch "$batch" --seq "$seq" --mode "$mode" --steps "$steps"
done
./keel bench --mode tokenize --text configs/quickstart/pretrain.jsonl --steps 3

#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/gguf/run.sh KEEL      converted files in llama.cpp itself, where it is installed
#
# The folders of tests/ref/arch must give the logits of their reference, tokenizers the ids of
# Hugging Face's, and what keel init makes the tokens that keel generate gives, one by one.
# llama.cpp comes with the npm package node-llama-cpp, looked for in $KEEL_LLAMA_CPP (a folder that
# holds it, or its own) and in the folders of NODE_PATH. Without it, or node, the test is skipped.
keel=$1
case $keel in /*) ;; *) keel=$PWD/$keel ;; esac
cd "$(dirname "$0")/../.." || exit 1
here=$PWD/tests/gguf
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

find_package() {
    for d in "$KEEL_LLAMA_CPP" $(echo "$NODE_PATH" | tr ':' ' '); do
        for p in "$d" "$d/node-llama-cpp" "$d/node_modules/node-llama-cpp"; do
            [ -z "$d" ] || [ ! -f "$p/dist/index.js" ] || { echo "$p"; return; }
        done
    done
}
package=$(find_package)
if ! command -v node > /dev/null || [ -z "$package" ]; then
    echo "[ RUN      ] llama_cpp"
    echo "skipped: node with the package node-llama-cpp is not found in NODE_PATH or KEEL_LLAMA_CPP"
    echo "[  SKIPPED ] llama_cpp"
    exit 0
fi

failed=0
fail() {
    echo "[ RUN      ] $1"
    cat "$tmp/log"
    echo "[  FAILED  ] $1"
    failed=$((failed + 1))
}
# job JSON-MEMBERS: one more for check.mjs
job() { { printf '{%s}' "$1" | tr '\n' ' '; echo; } >> "$tmp/jobs"; }
# convert NAME FOLDER [OPTION ...]: to $tmp/NAME.gguf
convert() {
    name=$1 folder=$2
    shift 2
    "$keel" inspect convert "$folder" "$tmp/$name.gguf" "$@" > "$tmp/log" 2>&1 && return
    fail "convert_$name"
    return 1
}

# ---- logits of every architecture ----
#
# CASE, the relative difference that is allowed, what is compared. llama.cpp's GELU is a table in
# F16 (3e-4 to 8e-4 here, and as much when the reference uses that table), and its factor on Gemma's
# embedding is not rounded to BF16 as the folder's is. "prefix": as far as its context goes, which
# ends where windows begin to show; "over N": llama.cpp takes longrope's long list at once.
arch_rows='
llama 1e-5
llama-tied 1e-5
llama-defaults 1e-5
llama-bias 1e-5
llama3-rope 1e-5
llama3-rope-tf5 1e-5
linear-rope 1e-5
linear-rope-tf5 1e-5
dynamic-rope 1e-5
yarn-rope-tf5 1e-5
mistral 1e-5 prefix
mistral-full 1e-5
mistral-defaults 1e-5
qwen2 1e-5
qwen2-window 1e-5 prefix
qwen2-defaults 1e-5
qwen3-tf5 1e-5
qwen3-defaults 1e-5
gemma 1e-3
gemma-bf16 4e-3
gemma-defaults 1e-3
gemma2 1e-3
gemma2-uncapped 4e-3
gemma2-defaults 1e-3
phi3 1e-5 prefix
phi3-longrope 1e-5 over
phi3-longrope-tf5 1e-5 over
phi3-defaults 1e-5
olmo2 1e-5
olmo2-defaults 1e-5
gpt2 1e-3
gpt2-bare 1e-3
gpt2-defaults 1e-3
'
arch_jobs() {
    echo "$arch_rows" | while read -r case allowed how; do
        [ -n "$case" ] || continue
        folder=$tmp/arch/$case over=0 prefix=false
        case $how in over) over=8 ;; prefix) prefix=true ;; esac
        mkdir -p "$folder"
        cp "tests/ref/arch/$case/config.json" tests/ref/arch/"$case"/*.safetensors "$folder"
        rm -f "$folder/expected.safetensors"
        node "$here/make.mjs" tokenizer "$folder" || exit 1
        convert "$case" "$folder" --dtype f32 || exit 1
        job "\"kind\": \"logits\", \"name\": \"logits_$case\", \"gguf\": \"$tmp/$case.gguf\",
            \"expected\": \"$PWD/tests/ref/arch/$case/expected.safetensors\", \"over\": $over,
            \"prefix\": $prefix, \"allowed\": $allowed"
    done
}

# ---- ids of texts ----

shared=$PWD/../shared/fixtures/tokenizers

# token_job NAME GGUF CASES [IDS [ASCII]]
token_job() {
    job "\"kind\": \"tokens\", \"name\": \"$1\", \"gguf\": \"$tmp/$2.gguf\",
        \"cases\": \"$3\"${4:+, \"ids\": \"$4\"}${5:+, \"ascii\": $5}"
}

# The ids of Hugging Face's tokenizers for VOCABULARY, through a model made around it.
fixture() {
    from=$shared/$1 name=vocab_$1
    vocab=$(node -e 'const t = JSON.parse(require("fs").readFileSync(process.argv[1]));
        console.log(1 + Math.max(...Object.values(t.model.vocab),
                                 ...(t.added_tokens ?? []).map((a) => a.id)));' \
        "$from/tokenizer.json")
    { node "$here/make.mjs" model "$tmp/$name" "$vocab" &&
        cp "$from"/tokenizer*.json "$tmp/$name"; } > "$tmp/log" 2>&1 || { fail "$name"; return; }
    convert "$name" "$tmp/$name" --dtype f16 || return
    for f in cases fuzz; do
        [ ! -f "$from/$f.jsonl" ] || token_job "tokens_$1_$f" "$name" "$from/$f.jsonl"
    done
    if [ -f "$shared/longtext/ids.$1.txt" ]; then
        node "$here/make.mjs" long "$shared/longtext/text.txt" "$shared/longtext/ids.$1.txt" \
            > "$tmp/long.$1.jsonl"
        token_job "tokens_$1_long" "$name" "$tmp/long.$1.jsonl"
    fi
}

# pre PRE [ASCII]: Keel's own ids, with that pre-tokenizer before the vocabulary of the folder
# "llama". ASCII: true where llama.cpp knows no case beyond it.
pre() {
    name=pre_$1
    rm -rf "${tmp:?}/$name"
    { cp -r "$tmp/llama" "$tmp/$name" && node "$here/make.mjs" pre "$tmp/$name" "$1" &&
        sed 's/}$/, "add_special": false}/' "$here/texts.jsonl" |
        "$keel" tokenize "$tmp/$name" --jsonl > "$tmp/$name.ids"; } 2> "$tmp/log" ||
        { fail "$name"; return; }
    convert "$name" "$tmp/$name" --dtype f16 || return
    token_job "$name" "$name" "$here/texts.jsonl" "$tmp/$name.ids" ${2:+"$2"}
}

# ---- tokens of answers ----

# prompts, one a line
prompts='The lantern
Once upon a time there was
How do I bake bread?
1 + 2 =
a
Zebra, zebra  zebra'

# generate MODEL_TYPE SEED: a fresh model, its answers by keel and by llama.cpp
generate() {
    name=generate_$1
    "$keel" init configs/quickstart/01_init.yaml "output_dir=$tmp/$1" "model.model_type=$1" \
        model.initializer_range=0.5 "seed=$2" > "$tmp/log" 2>&1 || { fail "init_$1"; return; }
    convert "$name" "$tmp/$1" --dtype f32 || return
    echo "$prompts" | "$keel" generate "$tmp/$1" --raw --json -n 24 > "$tmp/$1.rows" \
        2> "$tmp/log" || { fail "$name"; return; }
    job "\"kind\": \"generate\", \"name\": \"$name\", \"gguf\": \"$tmp/$name.gguf\",
        \"rows\": \"$tmp/$1.rows\""
}

: > "$tmp/jobs"
arch_jobs || failed=$((failed + 1))
for vocab in gpt-2 llama-spm llama-bpe qwen2; do
    [ ! -f "$shared/$vocab/tokenizer.json" ] || fixture "$vocab"
done
generate llama 1
generate qwen2 2
generate qwen3 3
generate mistral 4
generate phi3 5
generate olmo2 7
for p in llama3 llama3_merging qwen2 cl100k smollm; do pre "$p"; done
pre tekken true
pre gpt4o true
node "$here/check.mjs" "$package" < "$tmp/jobs" || failed=$((failed + 1))
[ $failed -eq 0 ]

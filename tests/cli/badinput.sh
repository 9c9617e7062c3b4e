# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by the rows of badinput.t: makes the model folder m and the configuration c.yaml that
# trains it on d.jsonl, and has what damages them. A row that leaves more than these and what it
# declares has written something.
export OMP_NUM_THREADS=1
ulimit -c 0
echo 'model: {hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2,
              max_position_embeddings: 64}' |
    keel init -q /dev/stdin output_dir=m tokenizer.path="$ROOT/tests/cli/tokenizer.json" \
        chat_template=none > m.log || exit 99
rm m.log m/config.yaml m/generation_config.json m/tokenizer_config.json
cat > m/config.json << 'END'
{"architectures": ["LlamaForCausalLM"],
 "model_type": "llama",
 "vocab_size": 267,
 "hidden_size": 8,
 "intermediate_size": 8,
 "num_hidden_layers": 1,
 "num_attention_heads": 2,
 "max_position_embeddings": 64,
 "rope_scaling": null,
 "eos_token_id": 1,
 "use_cache": true}
END
printf '%s\n' 'model_name_or_path: m' 'output_dir: out' 'dataset: d.jsonl' 'max_steps: 1' \
    'chat_template: none' > c.yaml
printf '{"prompt": "a", "completion": "b"}\n' > d.jsonl

# bad COMMAND: what it says, and its status where that is not 2.
bad() {
    "$@"
    status=$?
    [ $status -eq 2 ] || echo "status $status: $*"
}
# small COMMAND: bad in an address space of 1 GB, so that a large allocation fails; sanitizers need
# more than that to start.
small() {
    if sh -c 'ulimit -v 1000000; keel --version; exit $?' > /dev/null 2>&1; then
        (ulimit -v 1000000; bad "$@")
    else
        bad "$@"
    fi
}
# edit FILE SED: FILE, changed.
edit() { sed "$2" "$1" > edited && mv edited "$1"; }
# config KEY VALUE: says something else in config.json.
config() { edit m/config.json "s/\"$1\": .*,\$/\"$1\": $2,/"; }
# repeat N TEXT
repeat() { awk -v n="$1" -v s="$2" 'BEGIN { for (i = 0; i < n; i++) printf "%s", s }'; }
# tensors HEADER DATA: t.safetensors; DATA is a format of printf.
tensors() {
    printf "\\$(printf %o $((${#1} % 256)))\\$(printf %o $((${#1} / 256)))\\0\\0\\0\\0\\0\\0%s$2" \
        "$1" > t.safetensors
}

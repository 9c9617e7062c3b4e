# Fresh model folders of every architecture, and folders that do not hold what they say.

== every architecture
@ init.yaml
| output_dir: out
| overwrite_output_dir: true
| tokenizer: {vocab_size: 270, files: [t.txt]}
| model:
|   hidden_size: 16
|   intermediate_size: 24
|   num_hidden_layers: 2
|   num_attention_heads: 2
|   max_position_embeddings: 32
@ t.txt
| a text to learn letters from
$ for a in llama mistral qwen2 qwen3 gemma gemma2 phi3 olmo2 gpt2; do
$   keel init -q init.yaml model.model_type=$a output_dir=$a | cut -d ' ' -f 2
$   keel inspect diff $a $a > /dev/null || echo "$a differs from itself"
$ done
> llama,
> mistral,
> qwen2,
> qwen3,
> gemma,
> gemma2,
> phi3,
> olmo2,
> gpt2,
!*
+ llama
+ mistral
+ qwen2
+ qwen3
+ gemma
+ gemma2
+ phi3
+ olmo2
+ gpt2

== windows belong to some architectures
@ init.yaml
| output_dir: out
| overwrite_output_dir: true
| tokenizer: {vocab_size: 270, files: [t.txt]}
| model: {sliding_window: 8, hidden_size: 16, num_attention_heads: 2}
@ t.txt
| a text to learn letters from
$ keel init -q init.yaml model.model_type=qwen2 > /dev/null 2> /dev/null
$ grep window out/config.json
$ keel init -q init.yaml model.model_type=llama
? 2
>   "sliding_window": 8,
>   "use_sliding_window": true,
>   "max_window_layers": 0,
!*
! keel: error: model.sliding_window: a llama model has no windows
+ out

== an unknown architecture
@ init.yaml
| output_dir: out
| tokenizer: {vocab_size: 270, files: [t.txt]}
| model: {model_type: lama}
$ keel init -q init.yaml
? 2
!~ ^keel: error: init.yaml:3:21: model.model_type: expected one of llama, .*did you mean llama

== sizes that the architecture cannot have
@ init.yaml
| output_dir: out
| tokenizer: {vocab_size: 270, files: [t.txt]}
| model: {model_type: gpt2, hidden_size: 16, num_attention_heads: 4, num_key_value_heads: 2}
@ t.txt
| a text to learn letters from
$ keel init -q init.yaml
? 2
!*
!~ ^keel: error: model: num_key_value_heads: gpt2 models have

== a config.json that asks for more than is there
@ init.yaml
| output_dir: out
| tokenizer: {vocab_size: 270, files: [t.txt]}
| model: {hidden_size: 16, num_attention_heads: 2, num_hidden_layers: 1}
@ t.txt
| a text to learn letters from
$ keel init -q init.yaml > /dev/null 2>&1
$ sed -i 's/"hidden_size": 16/"hidden_size": 1048576/' out/config.json
$ keel generate out -p a
? 2
!~ ^keel: error: out: config.json describes a model of more than
+ out

== a scaling that nobody knows
@ init.yaml
| output_dir: out
| tokenizer: {vocab_size: 270, files: [t.txt]}
| model: {hidden_size: 16, num_attention_heads: 2, num_hidden_layers: 1}
@ t.txt
| a text to learn letters from
$ keel init -q init.yaml > /dev/null 2>&1
$ sed -i 's/"rope_scaling": null/"rope_scaling": {"type": "ntk"}/' out/config.json
$ keel generate out -p a
? 2
!~ ^keel: error: out/config.json:[0-9]*:[0-9]*: rope_scaling.type: expected one of default linear
+ out

== a size that is none
@ train.yaml
| model_name_or_path: out
| output_dir: trained
| dataset: data.jsonl
| max_shard_size: 5 gigabytes
$ keel config check train train.yaml
? 2
!~ ^keel: error: train.yaml:4:17: max_shard_size: expected a size such as 5GB

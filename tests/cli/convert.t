# keel inspect convert on the tiny folders of tests/ref/arch, which have no tokenizer.

== a file for llama.cpp
$ keel inspect convert "$ROOT/tests/ref/arch/llama" out.gguf --dtype f16
$ keel inspect convert "$ROOT/tests/ref/arch/llama" out.gguf --overwrite --json > out.json
$ grep -c '"format": "gguf"' out.json
$ head -c 4 out.gguf
> out.gguf: gguf, llama, 21 tensors, F16, 19.4 kB
> 1
> GGUF
!~ ^keel: warning: .*/llama: there is no tokenizer.json: the file gets no vocabulary$
!~ ^keel: warning: .*/llama: there is no tokenizer.json: the file gets no vocabulary$
+ out.gguf
+ out.json

== another dtype, in several files
$ keel inspect convert "$ROOT/tests/ref/arch/llama" half --dtype bf16 --max-shard-size 8KB
$ keel inspect convert half again --dtype f32
$ ls half again
$ grep -c bfloat16 half/config.json
$ grep -c float32 again/config.json
> half: safetensors, 21 tensors, BF16, 19.2 kB
> again: safetensors, 21 tensors, F32, 38.3 kB
> again:
> config.json
> model.safetensors
>
> half:
> config.json
> model-00001-of-00003.safetensors
> model-00002-of-00003.safetensors
> model-00003-of-00003.safetensors
> model.safetensors.index.json
> 1
> 1
+ half
+ again

== the same bytes where no dtype is asked for
$ keel inspect convert "$ROOT/tests/ref/arch/gpt2-bare" out
$ cmp "$ROOT/tests/ref/arch/gpt2-bare/model.safetensors" out/model.safetensors && echo same
$ cmp "$ROOT/tests/ref/arch/gpt2-bare/config.json" out/config.json && echo same
>*
> same
> same
+ out

== what llama.cpp cannot compute is refused by name
$ for m in llama-gelu gpt2-unscaled qwen2-yarn qwen3-window-tf5; do
$   keel inspect convert "$ROOT/tests/ref/arch/$m" out.gguf
$ done
? 2
!~ /llama-gelu/config.json: hidden_act: llama.cpp's architecture llama computes silu alone$
!~ /gpt2-unscaled/config.json: hidden_act: llama.cpp's architecture gpt2 computes the tanh
!~ /qwen2-yarn/config.json: head_dim: llama.cpp's architecture qwen2 takes heads that fill
!~ /qwen3-window-tf5/config.json: attention_bias: llama.cpp's architecture qwen3 has no bias

== windows end the context where they begin to show
$ keel inspect convert "$ROOT/tests/ref/arch/mistral" out.gguf
>~ ^out\.gguf: gguf, llama, [0-9]+ tensors, F32, 
!~ has no sliding window: context_length is written as 3, .* in place of 64$
!~ no tokenizer.json
+ out.gguf

== the output
$ mkdir there
$ cp "$ROOT"/tests/ref/arch/llama/config.json "$ROOT"/tests/ref/arch/llama/model.safetensors there
$ touch file.gguf
$ keel inspect convert there file.gguf
$ keel inspect convert there there/out.gguf
$ keel inspect convert there there --overwrite
$ keel inspect convert there there/../there/sub/deep
$ keel inspect convert there/config.json out
$ keel inspect convert nowhere out
$ mkdir folder.gguf
$ keel inspect convert there folder.gguf
? 2
! keel: error: file.gguf exists already (hint: --overwrite, or another name)
! keel: error: there/out.gguf: lies in there, which is only read
! keel: error: there: lies in there, which is only read
! keel: error: there/../there/sub/deep: lies in there, which is only read
! keel: error: there/config.json: expected a model folder, found a file
! keel: error: nowhere: expected a model folder, there is none
! keel: error: folder.gguf: expected a file, found a folder
+ there
+ file.gguf
+ folder.gguf

== options
$ keel inspect convert a b --format onnx
$ keel inspect convert a b --dtype int8
$ keel inspect convert a b --max-shard-size 5XB
$ keel inspect convert a b.gguf --max-shard-size 5GB
$ keel inspect convert a
? 2
! keel: error: --format: expected safetensors or gguf, got "onnx"
! keel: error: --dtype: expected f32, f16 or bf16, got "int8"
! keel: error: --max-shard-size: expected a size such as 5GB or 500MiB, got "5XB"
! keel: error: --max-shard-size: a .gguf file is one file
!*

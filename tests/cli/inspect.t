# keel inspect on files made here: two floats, 1 and NaN.

== inspect alone
$ keel inspect
? 2
! usage: keel inspect WHAT PATH ... [options]
!*

== unknown word with a suggestion
$ keel inspect shw x
? 2
! keel: error: inspect: unknown "shw" (hint: did you mean keel inspect show?)

== help of each word
$ for w in show tensor diff units verify; do
$   keel inspect $w --help | head -n 1 | cut -d ' ' -f 1-4
$   keel help inspect $w | head -n 1 | cut -d ' ' -f 1-4
$ done
> usage: keel inspect show
> usage: keel inspect show
> usage: keel inspect tensor
> usage: keel inspect tensor
> usage: keel inspect diff
> usage: keel inspect diff
> usage: keel inspect units
> usage: keel inspect units
> usage: keel inspect verify
> usage: keel inspect verify

== show
$ h='{"a.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   '
$ printf '@\0\0\0\0\0\0\0%s\0\0\200\077\0\0\300\177' "$h" > t.safetensors
$ keel inspect show t.safetensors
$ keel inspect show t.safetensors --json | grep -c '"parameters": 2'
>*
> total: 1 tensors, 2 parameters, 8 B
>*
>~ ^a\.weight +F32 +\[2\] +2 +0$
>~ ^[1-9]
+ t.safetensors

== show joins the layers of any naming
$ a='{"h.0.attn.c_attn.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
$ b='"h.1.attn.c_attn.weight":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}   '
$ printf '\230\0\0\0\0\0\0\0%s\0\0\200\077\0\0\300\177' "$a$b" > t.safetensors
$ keel inspect show t.safetensors | grep c_attn
>~ ^h\.\*\.attn\.c_attn +2 +2 100\.00% +8 B$
>~ ^h\.0\.attn\.c_attn\.weight +F32 +\[1\] +1 +0$
>~ ^h\.1\.attn\.c_attn\.weight +F32 +\[1\] +1 +4$
+ t.safetensors

== tensor counts what is not a number
$ h='{"a.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   '
$ printf '@\0\0\0\0\0\0\0%s\0\0\200\077\0\0\300\177' "$h" > t.safetensors
$ keel inspect tensor t.safetensors a.weight
$ keel inspect tensor t.safetensors b.weight
? 2
>~ ^tensor .* NaN +Inf$
>~ ^a\.weight +F32 +\[2\] +1 +1 +1 +0 +1 +0 +1 +0$
!~ ^keel: error: .*b\.weight
+ t.safetensors

== a file that is cut short
$ printf '@\0\0\0\0\0\0\0{"a.weight"' > t.safetensors
$ keel inspect show t.safetensors
? 2
!~ ^keel: error: t.safetensors: .*header
+ t.safetensors

== not there
$ keel inspect show none
? 2
! keel: error: none: cannot open: No such file or directory

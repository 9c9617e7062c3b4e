# keel tokenize, on a tokenizer of 256 bytes and nine merges with <s> before and </s> between texts.

== a line a token
$ printf 'hello world\n' | keel tokenize $ROOT/tests/cli/tokenizer.json
> 0	<s>
> 261	hello
> 266	Ġworld
> 12	Ċ

== ids, their number, and the text back
$ printf 'hello </s>\r\n\377 <s>' > text
$ T=$ROOT/tests/cli/tokenizer.json
$ keel tokenize $T --ids < text
$ keel tokenize $T --count < text
$ keel tokenize $T --ids --no-add-special --no-special-in-text < text
$ keel tokenize $T --ids --no-add-special < text | keel tokenize $T --decode | cmp - text
$ keel tokenize $T --ids < text | keel tokenize $T --decode --skip-special | od -An -c
> 0 261 34 1 15 12 257 34 0
> 9
> 261 34 62 49 117 64 15 12 257 34 62 117 64
>    h   e   l   l   o      \r  \n 377    
+ text

== lines
$ printf 'hello\n\nworld' > text
$ T=$ROOT/tests/cli/tokenizer.json
$ keel tokenize $T --lines --ids < text
$ keel tokenize $T --lines --count < text
$ keel tokenize $T --lines --no-add-special < text
$ keel tokenize $T --lines --ids < text | keel tokenize $T --lines --decode
> 0 261
> 0
> 0 121 263 265
> 2
> 1
> 4
> 261	hello
>
>
> 121	w
> 263	or
> 265	ld
>
> <s>hello
> <s>
> <s>world
+ text

== JSONL
@ rows.jsonl
| {"text": "hello world"}
| {"text": "hello", "text_pair": " world", "source": "its other keys are not read"}
|
| {"text": "hello<s>", "text_pair": null, "add_special": false}
| {"text": "\u0000\u00e9\t", "add_special": false}
$ T=$ROOT/tests/cli/tokenizer.json
$ keel tokenize $T --jsonl < rows.jsonl
$ keel tokenize $T --jsonl --ids < rows.jsonl
$ keel tokenize $T --jsonl --ids --no-add-special < rows.jsonl | head -n 1
> {"ids":[0,261,266],"tokens":["<s>","hello","Ġworld"],"decoded":"<s>hello world","decoded_skip_special":"hello world"}
> {"ids":[0,261,1,266],"tokens":["<s>","hello","</s>","Ġworld"],"decoded":"<s>hello</s> world","decoded_skip_special":"hello world"}
> {"ids":[261,0],"tokens":["hello","<s>"],"decoded":"hello<s>","decoded_skip_special":"hello"}
> {"ids":[2,197,171,11],"tokens":["Ā","Ã","©","ĉ"],"decoded":"\u0000é\t","decoded_skip_special":"\u0000é\t"}
> 0 261 266
> 0 261 1 266
> 261 0
> 2 197 171 11
> 261 266

== a row is answered before the next one is read
$ mkfifo in out
$ keel tokenize $ROOT/tests/cli/tokenizer.json --jsonl --count < in > out &
$ exec 3> in 4< out
$ echo '{"text": "hello"}' >&3
$ read n <&4 && echo $n
$ echo '{"text": ""}' >&3
$ read n <&4 && echo $n
$ exec 3>&- && wait
> 2
> 1
+ in
+ out

== ids in rows
$ T=$ROOT/tests/cli/tokenizer.json
$ printf '[0, 261]\n{"ids": [257], "text": "not read"}\n[]\n' | keel tokenize $T --jsonl --decode
$ printf '[261, 266]\n' | keel tokenize $T --decode | od -An -c
> {"ids":[0,261],"tokens":["<s>","hello"],"decoded":"<s>hello","decoded_skip_special":"hello"}
> {"ids":[257],"tokens":["ÿ"],"decoded":"�","decoded_skip_special":"�"}
> {"ids":[],"tokens":[],"decoded":"","decoded_skip_special":""}
>    h   e   l   l   o       w   o   r   l   d

== a folder: its tokenizer_config.json counts
@ tokenizer_config.json
| {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true, "add_eos_token": true}
$ cp $ROOT/tests/cli/tokenizer.json .
$ printf hello | keel tokenize . --ids
> 0 261 1
+ tokenizer.json

== conversations
@ chat_template.jinja
| {{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}</s>
| {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}
@ tokenizer_config.json
| {"bos_token": "<s>"}
@ talk.json
| {
|   "messages": [{"role": "user", "content": "hello<s>"}],
|   "add_generation_prompt": true
| }
$ cp $ROOT/tests/cli/tokenizer.json .
$ keel tokenize . --chat < talk.json; echo
$ keel tokenize . --chat --jsonl < talk.json
$ keel tokenize . --chat --ids --no-special-in-text < talk.json
$ (echo; tr -d '\n' < talk.json; echo; echo '{"messages": []}') | keel tokenize . --chat --count
$ echo '{{ bos_token }}{{ x }}' > x.jinja
$ echo '{"messages": [], "x": [1, true]}' | keel tokenize . --chat --template x.jinja; echo
> <s>user: hello<s></s>
> assistant:
> {"text":"<s>user: hello<s></s>\nassistant:","ids":[0,119,117,103,116,60,34,261,0,1,12,99,117,117,107,117,118,99,112,118,60]}
> 0 119 117 103 116 60 34 261 62 117 64 1 12 99 117 117 107 117 118 99 112 118 60
> 21
> 1
> <s>[1, True]
+ tokenizer.json
+ x.jinja

== conversations that are refused
@ tokenizer_config.json
| {"chat_template": "{% for m in messages %}{{ raise_exception('no ' + m.role) }}{% endfor %}"}
$ cp $ROOT/tests/cli/tokenizer.json .
$ try() { printf '%s\n' "$1" | keel tokenize . --chat $2 $3; echo $?; }
$ try '{"messages": [{"role": "tool"}]}'
$ try '{"messages": {}}'
$ try '{}'
$ try '[]'
$ try '{"messages": [{"content": "a"}]}'
$ try '{"messages": ["a"]}'
$ try '{"messages": [],
$  "x" 1}'
$ try '{"messages": []}' --template nothing
$ try '{"messages": [], "x": 1}' --no-special-in-text
$ echo '{"messages": []}' | keel tokenize tokenizer.json --chat; echo $?
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
!~ ^keel: error: stdin:1:1: \./tokenizer_config\.json: chat_template:1: raise_exception: no tool$
! keel: error: stdin:1:1: messages: expected a list, got an object
! keel: error: stdin:1:1: messages: expected a list, got nothing
! keel: error: stdin:1:1: expected an object with "messages", got a list
! keel: error: stdin:1:1: messages[0]: expected an object with a "role", got none in it
! keel: error: stdin:1:1: messages[0]: expected an object with a "role", got a string
!~ ^keel: error: stdin:2:[0-9]+: expected one JSON object a line: 
!~ ^keel: error: --template: expected a file or one of .*: nothing: cannot open: 
!~ ^keel: error: stdin:1:1: expected messages, and true or false for add_generation_prompt 
!~ ^keel: error: model: no chat template: 
+ tokenizer.json

== rows that are refused
$ T=$ROOT/tests/cli/tokenizer.json
$ try() { printf '{"text": "a"}\n%s\n' "$1" | keel tokenize $T --jsonl --count; echo $?; }
$ try '{"text": 3}'
$ try '{"texts": "a"}'
$ try '["a"]'
$ try '{"text": "a", "text_pair": ["b"]}'
$ try '{"text": "a", "add_special": "no"}'
$ try '{"text": "a",}'
$ try '{"text": "a", "text": "b"}'
$ try '{"text": "a"} x'
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
! keel: error: stdin:2:1: text: expected a string, got a number
! keel: error: stdin:2:1: text: expected a string, got nothing
! keel: error: stdin:2:1: expected an object with "text", got a list
! keel: error: stdin:2:1: text_pair: expected a string, got a list
! keel: error: stdin:2:1: add_special: expected true or false, got a string
!~ ^keel: error: stdin:2:14: expected one JSON object a line: 
!~ ^keel: error: stdin:2:[0-9]+: expected one JSON object a line: 
!~ ^keel: error: stdin:2:[0-9]+: expected one JSON object a line: 

== ids that are refused
$ T=$ROOT/tests/cli/tokenizer.json
$ try() { printf '%s' "$1" | keel tokenize $T --decode $2; echo $?; }
$ try '1 267'
$ try '1,
$  -1'
$ try '1, x'
$ try '99999999999999999999'
$ try '[1, 2.5]' --jsonl
$ try '{"id": [1]}' --jsonl
$ try '[1, -1]' --jsonl
$ try '"1"' --jsonl
> 2
> 2
> 2
> 2
> 2
> 2
> 2
> 2
! keel: error: stdin:1:3: expected an id of the vocabulary, 0 to 266, got 267
! keel: error: stdin:2:2: expected an id of the vocabulary, 0 to 266, got -1
! keel: error: stdin:1:4: expected token ids, got "x"
! keel: error: stdin:1:1: expected token ids, got "99999999999999999999"
! keel: error: stdin:1:1: ids[1]: expected an id, got a number
! keel: error: stdin:1:1: expected [ID, ...] or {"ids": [ID, ...]}, got an object whose ids are nothing
! keel: error: stdin:1:1: ids[1]: expected an id of the vocabulary, 0 to 266, got -1
!~ ^keel: error: stdin:1:[0-9]+: expected one JSON object or list a line: 

== no tokenizer
$ keel tokenize nowhere; echo $?
$ mkdir empty; keel tokenize empty; echo $?
$ keel tokenize; echo $?
> 2
> 2
> 2
! keel: error: nowhere: cannot open: No such file or directory
! keel: error: empty/tokenizer.json: cannot open: No such file or directory
! keel: error: tokenize: expected MODEL; see keel tokenize --help
+ empty

== files that are no tokenizer
@ tokenizer.json
| {"model": {"type": "WordPiece"}}
@ tokenizer_config.json
| {}
$ keel tokenize . ; echo $?
$ keel tokenize tokenizer_config.json; echo $?
> 2
> 2
!~ ^keel: error: tokenizer\.json: .*"WordPiece" is not supported
!~ ^keel: error: tokenizer_config\.json: 

== options that say nothing together
$ for o in "--ids --count" "--lines --jsonl" "--decode --ids" "--skip-special" \
$     "--chat --decode" "--template chatml"; do
$   keel tokenize nowhere $o; echo $?
$ done
> 2
> 2
> 2
> 2
> 2
> 2
! keel: error: tokenize: --ids does not go with --count; see keel tokenize --help
! keel: error: tokenize: --lines does not go with --jsonl; see keel tokenize --help
! keel: error: tokenize: --decode does not go with --ids; see keel tokenize --help
! keel: error: tokenize: --skip-special does not go with text (hint: with --decode); see keel tokenize --help
! keel: error: tokenize: --decode does not go with --chat; see keel tokenize --help
! keel: error: tokenize: --template does not go with text (hint: with --chat); see keel tokenize --help

== a folder as stdin
$ keel tokenize $ROOT/tests/cli/tokenizer.json < .
? 2
! keel: error: stdin: Is a directory

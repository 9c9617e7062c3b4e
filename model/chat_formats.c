/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * chat_formats.c — named templates for folders that bring none, as Jinja texts.
 *
 * Each text writes the format of a published family; the words are this project's own. A folder
 * that is written with one of them is known again by the exact text. tests/ref/chat.jsonl holds
 * what Jinja2 makes of every row.
 */
#include "model/chat.h"

#include <stdio.h>
#include <string.h>

#define LIST(...) (const char *const[]) { __VA_ARGS__, NULL }
#define NONE (const char *const[]) { NULL }

#define RAISE(text) "{{ raise_exception('" text "') }}"
#define FOR_MESSAGES "{% for message in messages %}"
#define GENERATION(text) "{% if add_generation_prompt %}{{ '" text "' }}{% endif %}"
#define UNKNOWN_ROLE                                                                            \
    "{% else %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}{% endfor %}"

#define CHATML_TURNS                                                                            \
    FOR_MESSAGES                                                                                \
    "{% if message['role'] in ['system', 'user', 'assistant'] %}"                               \
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"     \
    UNKNOWN_ROLE GENERATION("<|im_start|>assistant\\n")

#define LLAMA3_TURNS(list)                                                                      \
    "{% for message in " list " %}"                                                             \
    "{% if message['role'] in ['system', 'user', 'assistant'] %}"                               \
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "                 \
    "message['content'] | trim + '<|eot_id|>' }}"                                               \
    UNKNOWN_ROLE GENERATION("<|start_header_id|>assistant<|end_header_id|>\\n\\n")

/* system: the text of the first message when it is one, else false; turns: what follows it. */
#define SPLIT_SYSTEM                                                                            \
    "{% if messages and messages[0]['role'] == 'system' %}"                                     \
    "{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"                   \
    "{% else %}{% set system = false %}{% set turns = messages %}{% endif %}"
#define TAKE_TURNS(user, assistant)                                                             \
    "{% for message in turns %}"                                                                \
    "{% if message['role'] == 'user' and loop.index0 % 2 == 0 %}" user                          \
    "{% elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}" assistant              \
    "{% else %}" RAISE("user and assistant must take turns") "{% endif %}{% endfor %}"

#define ALPACA_SYSTEM                                                                           \
    "Below is an instruction that describes a task. Write a response that appropriately "       \
    "completes the request."

const struct chat_format chat_table[] = {
    {
        .name = "keel",
        .help = "one token a turn, for models made from scratch",
        .jinja =
            FOR_MESSAGES
            "{% if message['role'] == 'assistant' %}"
            "{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
            "{% elif message['role'] == 'user' or message['role'] == 'system' %}"
            "{{ '<|' + message['role'] + '|>' + message['content'] }}"
            UNKNOWN_ROLE GENERATION("<|assistant|>"),
        .specials = LIST("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        .eos = "<|end|>",
    },
    {
        .name = "chatml",
        .help = "<|im_start|>role ... <|im_end|>: Qwen without its default system text, and others",
        .jinja = CHATML_TURNS,
        .specials = LIST("<|im_start|>", "<|im_end|>"),
        .eos = "<|im_end|>",
    },
    {
        .name = "qwen2.5",
        .help = "chatml with Qwen 2.5's own system text where there is none",
        .jinja =
            "{% if not messages or messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. "
            "You are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
            CHATML_TURNS,
        .specials = LIST("<|im_start|>", "<|im_end|>"),
        .eos = "<|im_end|>",
    },
    {
        .name = "qwen3",
        .help = "chatml; the last answer carries a thinking block, earlier ones lose theirs",
        .jinja =
            "{% set seen = namespace(question=-1) %}" FOR_MESSAGES
            "{% if message['role'] == 'user' %}{% set seen.question = loop.index0 %}{% endif %}"
            "{% endfor %}" FOR_MESSAGES
            "{% if message['role'] == 'assistant' %}"
            "{% set answer = message['content'] %}{% set thought = '' %}"
            "{% if '</think>' in answer %}"
            "{% set thought = answer.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
            "{% set answer = answer.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
            "{{ '<|im_start|>assistant\\n' }}{% if loop.index0 > seen.question %}"
            "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}"
            "{{ answer + '<|im_end|>\\n' }}"
            "{% elif message['role'] == 'user' or message['role'] == 'system' %}"
            "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
            UNKNOWN_ROLE GENERATION("<|im_start|>assistant\\n")
            "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
            "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}",
        .specials = LIST("<|im_start|>", "<|im_end|>"),
        .eos = "<|im_end|>",
    },
    {
        .name = "llama3",
        .help = "Llama 3.0: header blocks, contents trimmed",
        .jinja =
            "{{ '<|begin_of_text|>' }}" LLAMA3_TURNS("messages"),
        .specials = LIST("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                         "<|eot_id|>"),
        .bos = "<|begin_of_text|>",
        .eos = "<|eot_id|>",
    },
    {
        .name = "llama3.1",
        .help = "Llama 3.1 to 3.3: always a system block, with the dates of the published template",
        .jinja =
            SPLIT_SYSTEM
            "{{ '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\\n\\n"
            "Cutting Knowledge Date: December 2023\\nToday Date: ' }}"
            "{{ date_string if date_string is defined else '26 Jul 2024' }}"
            "{{ '\\n\\n' + (system or '') | trim + '<|eot_id|>' }}"
            LLAMA3_TURNS("turns"),
        .specials = LIST("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                         "<|eot_id|>"),
        .bos = "<|begin_of_text|>",
        .eos = "<|eot_id|>",
    },
    {
        .name = "llama2",
        .help = "Llama 2: [INST] blocks, the system text inside the first one",
        .jinja =
            SPLIT_SYSTEM
            TAKE_TURNS("{% set text = message['content'] %}"
                       "{% if loop.first and system is not false %}"
                       "{% set text = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + text %}"
                       "{% endif %}{{ '<s>[INST] ' + text | trim + ' [/INST]' }}",
                       "{{ ' ' + message['content'] | trim + ' </s>' }}"),
        .specials = LIST("<s>", "</s>"),
        .bos = "<s>",
        .eos = "</s>",
    },
    {
        .name = "mistral",
        .help = "Mistral 7B Instruct v0.1 and v0.2: [INST] blocks, no system message",
        .jinja =
            "{{ '<s>' }}{% set turns = messages %}"
            TAKE_TURNS("{{ '[INST] ' + message['content'] + ' [/INST]' }}",
                       "{{ message['content'] + '</s>' }}"),
        .specials = LIST("<s>", "</s>"),
        .bos = "<s>",
        .eos = "</s>",
    },
    {
        .name = "mistral-v3",
        .help = "Mistral 7B Instruct v0.3: the system text before the last question",
        .jinja =
            "{{ '<s>' }}" SPLIT_SYSTEM
            TAKE_TURNS("{{ '[INST] ' }}"
                       "{% if system is not false and loop.index0 >= loop.length - 2 %}"
                       "{{ system + '\\n\\n' }}{% endif %}{{ message['content'] + '[/INST]' }}",
                       "{{ ' ' + message['content'] + '</s>' }}"),
        .specials = LIST("<s>", "</s>", "[INST]", "[/INST]"),
        .bos = "<s>",
        .eos = "</s>",
    },
    {
        .name = "mistral-v7",
        .help = "Mistral Large and Small of 2024-11 on: [SYSTEM_PROMPT] before the turns",
        .jinja =
            "{{ '<s>' }}" SPLIT_SYSTEM
            "{% if system is not false %}"
            "{{ '[SYSTEM_PROMPT] ' + system + '[/SYSTEM_PROMPT]' }}{% endif %}"
            TAKE_TURNS("{{ '[INST] ' + message['content'] + '[/INST]' }}",
                       "{{ ' ' + message['content'] + '</s>' }}"),
        .specials = LIST("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]",
                         "[/SYSTEM_PROMPT]"),
        .bos = "<s>",
        .eos = "</s>",
    },
    {
        .name = "zephyr",
        .help = "<|user|> and so on as plain text, </s> behind every message",
        .jinja =
            FOR_MESSAGES
            "{% if message['role'] in ['system', 'user', 'assistant'] %}"
            "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '</s>\\n' }}"
            UNKNOWN_ROLE GENERATION("<|assistant|>\\n"),
        .specials = LIST("</s>"),
        .eos = "</s>",
    },
    {
        .name = "gemma",
        .help = "Gemma 1 and 2: turns of user and model, contents trimmed, no system message",
        .jinja =
            "{{ '<bos>' }}" FOR_MESSAGES
            "{% if message['role'] == 'user' and loop.index0 % 2 == 0 %}"
            "{{ '<start_of_turn>user\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
            "{% elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}"
            "{{ '<start_of_turn>model\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
            "{% else %}" RAISE("user and assistant must take turns; no system message")
            "{% endif %}{% endfor %}" GENERATION("<start_of_turn>model\\n"),
        .specials = LIST("<bos>", "<start_of_turn>", "<end_of_turn>"),
        .bos = "<bos>",
        .eos = "<end_of_turn>",
    },
    {
        .name = "phi3",
        .help = "Phi-3 and 3.5: <|user|> ... <|end|>",
        .jinja =
            FOR_MESSAGES
            "{% if message['role'] in ['system', 'user', 'assistant'] %}"
            "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
            UNKNOWN_ROLE GENERATION("<|assistant|>\\n"),
        .specials = LIST("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        .eos = "<|end|>",
    },
    {
        .name = "alpaca",
        .help = "### Instruction: and ### Response: as plain text, the answer on a line of its own",
        .jinja =
            "{% if messages and messages[0]['role'] == 'system' %}"
            "{{ messages[0]['content'] + '\\n\\n' }}{% set turns = messages[1:] %}"
            "{% else %}{{ '" ALPACA_SYSTEM "\\n\\n' }}{% set turns = messages %}{% endif %}"
            "{% for message in turns %}"
            "{% if message['role'] == 'user' and loop.index0 % 2 == 0 %}"
            "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
            "{% elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}"
            "{{ '### Response:\\n' + message['content'] + eos_token }}"
            "{% else %}" RAISE("user and assistant must take turns")
            "{% endif %}{% endfor %}" GENERATION("### Response:\\n"),
        .specials = NONE,
    },
    {
        .name = "none",
        .help = "the raw texts joined, EOS behind an answer",
        .jinja =
            FOR_MESSAGES
            "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
            "{% elif message['role'] == 'user' or message['role'] == 'system' %}"
            "{{ message['content'] }}"
            UNKNOWN_ROLE,
        .specials = NONE,
    },
    {0},
};

const struct chat_format *chat_find(const char *name) {
    for (const struct chat_format *c = chat_table; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

const struct chat_format *chat_find_jinja(const char *jinja) {
    size_t n = strlen(jinja);
    while (n && jinja[n - 1] == '\n')       // editors add one; Jinja drops it
        n--;
    for (const struct chat_format *c = chat_table; c->name; c++)
        if (strlen(c->jinja) == n && strncmp(c->jinja, jinja, n) == 0)
            return c;
    return NULL;
}

const char *chat_list(void) {
    static char text[256];
    size_t n = 0;
    for (const struct chat_format *c = chat_table; c->name && n < sizeof text; c++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? " " : "", c->name);
    return text;
}

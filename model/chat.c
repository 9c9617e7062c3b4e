/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * chat.c — the table of chat templates and their rendering to token ids.
 *
 * A row says the same thing twice: as pieces, which give ids and loss spans, and as the Jinja text
 * that other programs run. tests/ref/chat.jsonl holds what Jinja2 makes of the second; the tests
 * compare. Formats are those of the models' published templates.
 *
 * Ids. Special tokens are cut out of a template's own text only: what stands in a message cannot
 * forge a turn. The text between two special tokens is encoded in one go, whichever pieces it
 * comes from, because merges reach across seams ("user\n" + "  Hello"), with one exception: an
 * answer starts a text of its own. So the ids of a prompt with its generation prompt are always a
 * prefix of the ids of the whole conversation, and what is learnt is what will be generated.
 * Encoding piece by piece is refused for the first reason, encoding the whole text for the second.
 *
 * Loss is carried by an answer and its end token; what the template writes behind that token (a
 * newline) is never generated and carries none.
 */
#include "model/chat.h"

#include <stdlib.h>
#include <string.h>

#define LIST(...) (const char *const[]) { __VA_ARGS__, NULL }
#define NONE (const char *const[]) { NULL }

#define RAISE(text) "{{ raise_exception('" text "') }}"
#define FOR_MESSAGES "{% for message in messages %}"
#define GENERATION(text) "{% if add_generation_prompt %}{{ '" text "' }}{% endif %}"
#define UNKNOWN_ROLE "{% else %}" RAISE("unknown role") "{% endif %}{% endfor %}"

#define ALPACA_SYSTEM                                                                           \
    "Below is an instruction that describes a task. Write a response that appropriately "       \
    "completes the request."

const struct chat_template chat_table[] = {
    {
        .name = "keel",
        .help = "one token a turn, for models made from scratch",
        .bos = "",
        .system_pre = "<|system|>", .system_post = "",
        .user_pre = "<|user|>", .user_post = "",
        .assistant_pre = "<|assistant|>", .assistant_post = "<|end|>",
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
        .bos = "",
        .system_pre = "<|im_start|>system\n", .system_post = "<|im_end|>\n",
        .user_pre = "<|im_start|>user\n", .user_post = "<|im_end|>\n",
        .assistant_pre = "<|im_start|>assistant\n", .assistant_post = "<|im_end|>\n",
        .jinja =
            FOR_MESSAGES
            "{% if message['role'] in ['system', 'user', 'assistant'] %}"
            "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
            UNKNOWN_ROLE GENERATION("<|im_start|>assistant\\n"),
        .specials = LIST("<|im_start|>", "<|im_end|>"),
        .eos = "<|im_end|>",
    },
    {
        .name = "llama3",
        .help = "Llama 3.0: header blocks, contents trimmed",
        .bos = "<|begin_of_text|>",
        .system_pre = "<|start_header_id|>system<|end_header_id|>\n\n",
        .system_post = "<|eot_id|>",
        .user_pre = "<|start_header_id|>user<|end_header_id|>\n\n", .user_post = "<|eot_id|>",
        .assistant_pre = "<|start_header_id|>assistant<|end_header_id|>\n\n",
        .assistant_post = "<|eot_id|>",
        .jinja =
            "{{ '<|begin_of_text|>' }}" FOR_MESSAGES
            "{% if message['role'] in ['system', 'user', 'assistant'] %}"
            "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
            "message['content'] | trim + '<|eot_id|>' }}"
            UNKNOWN_ROLE GENERATION("<|start_header_id|>assistant<|end_header_id|>\\n\\n"),
        .specials = LIST("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                         "<|eot_id|>"),
        .eos = "<|eot_id|>",
        .trim = true,
    },
    {
        .name = "zephyr",
        .help = "<|user|> and so on as plain text, </s> behind every message",
        .bos = "",
        .system_pre = "<|system|>\n", .system_post = "</s>\n",
        .user_pre = "<|user|>\n", .user_post = "</s>\n",
        .assistant_pre = "<|assistant|>\n", .assistant_post = "</s>\n",
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
        .bos = "<bos>",
        .user_pre = "<start_of_turn>user\n", .user_post = "<end_of_turn>\n",
        .assistant_pre = "<start_of_turn>model\n", .assistant_post = "<end_of_turn>\n",
        .jinja =
            "{{ '<bos>' }}" FOR_MESSAGES
            "{% if message['role'] == 'user' and loop.index0 % 2 == 0 %}"
            "{{ '<start_of_turn>user\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
            "{% elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}"
            "{{ '<start_of_turn>model\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
            "{% else %}" RAISE("user and assistant must take turns; no system message")
            "{% endif %}{% endfor %}" GENERATION("<start_of_turn>model\\n"),
        .specials = LIST("<bos>", "<start_of_turn>", "<end_of_turn>"),
        .eos = "<end_of_turn>",
        .trim = true,
        .strict = true,
    },
    {
        .name = "alpaca",
        .help = "### Instruction: and ### Response: as plain text, the answer on a line of its own",
        .bos = "",
        .system_pre = "", .system_post = "\n\n",
        .default_system = ALPACA_SYSTEM,
        .user_pre = "### Instruction:\n", .user_post = "\n\n",
        .assistant_pre = "### Response:\n", .assistant_post = "",
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
        .strict = true,
    },
    {
        .name = "none",
        .help = "the raw texts joined, EOS behind an answer",
        .bos = "",
        .system_pre = "", .system_post = "",
        .user_pre = "", .user_post = "",
        .assistant_pre = "", .assistant_post = "",
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

const struct chat_template *chat_find(const char *name) {
    for (const struct chat_template *c = chat_table; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

const struct chat_template *chat_find_jinja(const char *jinja) {
    size_t n = strlen(jinja);
    while (n && jinja[n - 1] == '\n')       // editors add one; Jinja drops it
        n--;
    for (const struct chat_template *c = chat_table; c->name; c++)
        if (strlen(c->jinja) == n && strncmp(c->jinja, jinja, n) == 0)
            return c;
    return NULL;
}

const char *chat_list(void) {
    static char text[256];
    size_t n = 0;
    for (const struct chat_template *c = chat_table; c->name && n < sizeof text; c++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? " " : "", c->name);
    return text;
}

/* ---- rendering ---- */
struct render {
    const struct chat_template *c;
    const struct tokenizer *t;
    struct ids *out, *carries;
    struct str text;                        /* not encoded yet */
    bool loss;                              /* of the pending text and what follows */
};

static void mark(struct render *r) {
    while (r->carries && r->carries->n < r->out->n)
        ids_add(r->carries, r->loss);
}

static void flush(struct render *r) {
    tokenizer_encode(r->t, r->text.s ? r->text.s : "", r->text.len, false, r->out);
    r->text.len = 0;
    mark(r);
}

static void add_id(struct render *r, int32_t id) {
    flush(r);
    ids_add(r->out, id);
    mark(r);
}

/* The special token that begins at s, or NULL. */
static const char *special_at(const struct chat_template *c, const char *s) {
    const char *best = NULL;
    for (const char *const *p = c->specials; *p; p++)
        if (strncmp(s, *p, strlen(*p)) == 0 && (!best || strlen(*p) > strlen(best)))
            best = *p;
    return best;
}

/* A piece of the template. Its end token ends the loss. */
static void add_piece(struct render *r, const char *s) {
    while (*s) {
        const char *special = special_at(r->c, s);
        if (!special) {
            str_addc(&r->text, *s++);
            continue;
        }
        add_id(r, tokenizer_id(r->t, special));
        r->loss = false;
        s += strlen(special);
    }
}

/* Python's str.isspace, which Jinja's trim uses. Length of the blank at s, 0: none. */
static size_t blank_length(const char *s, size_t n) {
    static const char *const wide[] = {
        "\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
        "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87",
        "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9",
        "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
    uint8_t b = n ? (uint8_t)*s : 0;
    if (b == ' ' || (b >= 0x09 && b <= 0x0D) || (b >= 0x1C && b <= 0x1F))
        return 1;
    for (size_t i = 0; b >= 0x80 && i < ARRAY_LEN(wide); i++)
        if (n >= strlen(wide[i]) && memcmp(s, wide[i], strlen(wide[i])) == 0)
            return strlen(wide[i]);
    return 0;
}

static void add_content(struct render *r, const char *s) {
    size_t n = strlen(s), k;
    if (r->c->trim) {
        while ((k = blank_length(s, n))) {
            s += k;
            n -= k;
        }
        for (size_t back = 1; back <= 3 && back <= n;) {
            bool blank = blank_length(s + n - back, back) == back;
            n -= blank ? back : 0;
            back = blank ? 1 : back + 1;
        }
    }
    str_addn(&r->text, s, n);
}

/* The end of an answer: the template's, or EOS where it has none. */
static void end_answer(struct render *r, int32_t eos_id) {
    if (*r->c->assistant_post)
        add_piece(r, r->c->assistant_post);
    else
        add_id(r, eos_id);
    flush(r);
    r->loss = false;
}

static int check_tokens(const struct chat_template *c, const struct tokenizer *t, struct err *e) {
    for (const char *const *s = c->specials; *s; s++)
        if (tokenizer_id(t, *s) < 0)
            return err_set(e, "chat template %s: the tokenizer has no token \"%s\" (hint: the "
                           "model's own template is another, or chat_template: none)", c->name, *s);
    return 0;
}

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_COUNT };
static const char *const role_names[ROLE_COUNT] = {"system", "user", "assistant"};

/* The role of message i; -1 and *e when the template does not take it there. */
static int message_role(const struct chat_template *c, const struct message *msgs, int i,
                        int32_t eos_id, struct err *e) {
    int role = 0;
    while (role < ROLE_COUNT && strcmp(msgs[i].role, role_names[role]) != 0)
        role++;
    if (role == ROLE_COUNT)
        return err_set(e, "message %d: role: expected system, user or assistant, got \"%.40s\"",
                       i + 1, msgs[i].role);
    if (role == ROLE_SYSTEM && (!c->system_pre || (c->strict && i > 0)))
        return err_set(e, "message %d: chat template %s takes %s system message%s", i + 1, c->name,
                       c->system_pre ? "a" : "no", c->system_pre ? " only as the first one" : "");
    bool led = i > 0 && strcmp(msgs[0].role, role_names[ROLE_SYSTEM]) == 0;
    int turn = (i - led) % 2 ? ROLE_ASSISTANT : ROLE_USER;
    if (c->strict && role != ROLE_SYSTEM && role != turn)
        return err_set(e, "message %d: chat template %s: expected %s (turns alternate), got %s",
                       i + 1, c->name, role_names[turn], role_names[role]);
    if (role == ROLE_ASSISTANT && !*c->assistant_post && eos_id < 0)
        return err_set(e, "chat template %s ends answers with the EOS token, and the model names "
                       "none (hint: eos_token_id in config.json)", c->name);
    return role;
}

static void add_message(struct render *r, int role, const char *content, int32_t eos_id) {
    const struct chat_template *c = r->c;
    if (role == ROLE_ASSISTANT) {
        add_piece(r, c->assistant_pre);
        flush(r);
        r->loss = true;
        add_content(r, content);
        end_answer(r, eos_id);
        return;
    }
    add_piece(r, role == ROLE_SYSTEM ? c->system_pre : c->user_pre);
    add_content(r, content);
    add_piece(r, role == ROLE_SYSTEM ? c->system_post : c->user_post);
}

int chat_render(const struct chat_template *c, const struct tokenizer *t, int32_t eos_id,
                const struct message *msgs, int n, bool add_generation_prompt, struct ids *out,
                struct ids *carries, struct err *e) {
    struct render r = {.c = c, .t = t, .out = out, .carries = carries};
    if (check_tokens(c, t, e) < 0)
        return -1;
    for (int i = 0; i < n; i++)             // nothing is appended to out on failure
        if (message_role(c, msgs, i, eos_id, e) < 0)
            return -1;
    mark(&r);
    add_piece(&r, c->bos);
    if (c->default_system && (n == 0 || strcmp(msgs[0].role, role_names[ROLE_SYSTEM]) != 0))
        add_message(&r, ROLE_SYSTEM, c->default_system, eos_id);
    for (int i = 0; i < n; i++)
        add_message(&r, message_role(c, msgs, i, eos_id, e), msgs[i].content, eos_id);
    if (add_generation_prompt)
        add_piece(&r, c->assistant_pre);
    flush(&r);
    str_release(&r.text);
    return 0;
}

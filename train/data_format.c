/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * data_format.c — the table of row formats.
 *
 * A format is known by its fields: `match` looks at which are present, `parse` at what they hold.
 * A row that looks like a format but is wrong in it gets an error about that format instead of
 * falling through to another. The first row of the table that matches and serves the need wins.
 * Strings in a parsed row are borrowed from the JSON object.
 *
 * Refused: a config key that names the format. The files say it themselves, and a key that can
 * disagree with the file is one more thing to get wrong. Formats as TRL and Alpaca write them.
 */
#include "train/data_format.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const char *const data_need_names[] = {"prompts", "prompts with answers",
                                       "pairs of answers (chosen, rejected)"};

void data_row_release(struct data_row *r) {
    free(r->a);
    free(r->b);
    free(r->joined);
    *r = (struct data_row){0};
}

/* ---- pieces ---- */

static bool has(const json_t *row, const char *field) {
    return json_object_get(row, field) != NULL;
}

/* A string that says something, or NULL and *e. */
static const char *text_field(const json_t *row, const char *field, struct err *e) {
    const json_t *v = json_object_get(row, field);
    const char *s = json_string_value(v);
    if (!s)
        err_set(e, "%s: expected a string", field);
    else if (!s[strspn(s, " \t\r\n")])
        err_set(e, "%s: is empty, expected text", field);
    else
        return s;
    return NULL;
}

static void add_message(struct message **list, int *n, const char *role, const char *content) {
    *list = xreallocarray(*list, (size_t)*n + 1, sizeof **list);
    (*list)[(*n)++] = (struct message){role, content};
}

/* Appends a list of {"role", "content"}. */
static int add_message_list(const json_t *list, const char *field, struct message **out, int *n,
                            struct err *e) {
    if (json_array_size(list) == 0)
        return err_set(e, "%s: expected at least one message", field);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (!role)
            return err_set(e, "%s[%zu]: expected {\"role\": ..., \"content\": ...}", field, i);
        const char *content = text_field(m, "content", e);
        if (!content)
            return err_prefix(e, "%s[%zu]", field, i);
        add_message(out, n, role, content);
    }
    return 0;
}

/* Appends a field that is a string (one message of `role`) or a list of messages. */
static int add_field(const json_t *row, const char *field, const char *role, struct message **out,
                     int *n, struct err *e) {
    const json_t *v = json_object_get(row, field);
    if (json_is_array(v))
        return add_message_list(v, field, out, n, e);
    if (!json_is_string(v))
        return err_set(e, "%s: expected a string or a list of messages", field);
    const char *s = text_field(row, field, e);
    if (!s)
        return -1;
    add_message(out, n, role, s);
    return 0;
}

static bool is_role(const struct message *m, const char *role) {
    return strcmp(m->role, role) == 0;
}

/* The conversation must end in an answer when one is learnt. */
static int ends_in_answer(const struct message *m, int n, int nprompt, const char *field,
                          struct err *e) {
    if (n <= nprompt || !is_role(&m[n - 1], "assistant"))
        return err_set(e, "%s: expected an assistant message at the end", field);
    return 0;
}

/* ---- messages ---- */

static bool match_messages(const json_t *row) {
    return has(row, "messages");
}

/* The prompt ends before the first answer. */
static int parse_messages(const json_t *row, struct data_row *out, struct err *e) {
    const json_t *list = json_object_get(row, "messages");
    if (!json_is_array(list))
        return err_set(e, "messages: expected a list of messages");
    if (add_message_list(list, "messages", &out->a, &out->na, e) != 0)
        return -1;
    while (out->nprompt < out->na && !is_role(&out->a[out->nprompt], "assistant"))
        out->nprompt++;
    if (!out->nprompt)
        return err_set(e, "messages: begin with an answer, expected a user message before it");
    return 0;
}

/* ---- preference ---- */

static bool match_preference(const json_t *row) {
    return has(row, "chosen") && has(row, "rejected") &&
           (has(row, "prompt") || json_is_array(json_object_get(row, "chosen")));
}

static bool same_message(const struct message *x, const struct message *y) {
    return strcmp(x->role, y->role) == 0 && strcmp(x->content, y->content) == 0;
}

/* chosen and rejected as whole conversations: what they share at the start is the prompt. */
static int implicit_prompt(struct data_row *out, struct err *e) {
    int n = 0, most = MIN(out->na, out->nb) - 1;
    while (n < most && same_message(&out->a[n], &out->b[n]))
        n++;
    if (!n)
        return err_set(e, "chosen, rejected: expected the same prompt at the start of both "
                          "(hint: or a field \"prompt\")");
    out->nprompt = n;
    return 0;
}

static int parse_preference(const json_t *row, struct data_row *out, struct err *e) {
    bool explicit = has(row, "prompt");
    if (explicit && (add_field(row, "prompt", "user", &out->a, &out->na, e) != 0 ||
                     add_field(row, "prompt", "user", &out->b, &out->nb, e) != 0))
        return -1;
    out->nprompt = out->na;
    if (add_field(row, "chosen", "assistant", &out->a, &out->na, e) != 0 ||
        add_field(row, "rejected", "assistant", &out->b, &out->nb, e) != 0)
        return -1;
    if (!explicit && implicit_prompt(out, e) != 0)
        return -1;
    return ends_in_answer(out->a, out->na, out->nprompt, "chosen", e) == 0
               ? ends_in_answer(out->b, out->nb, out->nprompt, "rejected", e)
               : -1;
}

/* ---- prompt_completion ---- */

static bool match_prompt_completion(const json_t *row) {
    return has(row, "prompt") && has(row, "completion");
}

static int parse_prompt_completion(const json_t *row, struct data_row *out, struct err *e) {
    if (add_field(row, "prompt", "user", &out->a, &out->na, e) != 0)
        return -1;
    out->nprompt = out->na;
    if (add_field(row, "completion", "assistant", &out->a, &out->na, e) != 0)
        return -1;
    return ends_in_answer(out->a, out->na, out->nprompt, "completion", e);
}

/* ---- instruction ---- */

/* instruction and a non-empty input, joined by one blank line, as the user's turn. */
static int add_instruction(const json_t *row, struct data_row *out, struct err *e) {
    const char *instruction = text_field(row, "instruction", e);
    if (!instruction)
        return -1;
    const json_t *v = json_object_get(row, "input");
    if (v && !json_is_string(v))
        return err_set(e, "input: expected a string");
    if (v && json_string_length(v))
        out->joined = xasprintf("%s\n\n%s", instruction, json_string_value(v));
    add_message(&out->a, &out->na, "user", out->joined ? out->joined : instruction);
    out->nprompt = 1;
    return 0;
}

static bool match_instruction_pair(const json_t *row) {
    return has(row, "instruction") && has(row, "chosen") && has(row, "rejected");
}

static int parse_instruction_pair(const json_t *row, struct data_row *out, struct err *e) {
    if (add_instruction(row, out, e) != 0)
        return -1;
    add_message(&out->b, &out->nb, "user", out->a[0].content);
    const char *chosen = text_field(row, "chosen", e);
    const char *rejected = chosen ? text_field(row, "rejected", e) : NULL;
    if (!rejected)
        return -1;
    add_message(&out->a, &out->na, "assistant", chosen);
    add_message(&out->b, &out->nb, "assistant", rejected);
    return 0;
}

static bool match_instruction_answer(const json_t *row) {
    return has(row, "instruction") && has(row, "output");
}

static int parse_instruction_answer(const json_t *row, struct data_row *out, struct err *e) {
    if (add_instruction(row, out, e) != 0)
        return -1;
    const char *output = text_field(row, "output", e);
    if (!output)
        return -1;
    add_message(&out->a, &out->na, "assistant", output);
    return 0;
}

static bool match_instruction(const json_t *row) {
    return has(row, "instruction");
}

/* ---- text, prompt ---- */

static bool match_text(const json_t *row) {
    return has(row, "text");
}

static int parse_text(const json_t *row, struct data_row *out, struct err *e) {
    out->text = text_field(row, "text", e);
    return out->text ? 0 : -1;
}

static bool match_prompt(const json_t *row) {
    return has(row, "prompt");
}

static int parse_prompt(const json_t *row, struct data_row *out, struct err *e) {
    int rc = add_field(row, "prompt", "user", &out->a, &out->na, e);
    out->nprompt = out->na;
    return rc;
}

/* ---- the table ---- */

#define PROMPT (1 << NEED_PROMPT)
#define COMPLETION (1 << NEED_COMPLETION)
#define PAIR (1 << NEED_PAIR)

const struct data_format data_format_table[] = {
    {"messages", "messages: [{role, content}, ...]", "a conversation; every assistant turn is "
     "learnt; as a prompt: without its last answer", PROMPT | COMPLETION, match_messages,
     parse_messages},
    {"preference", "prompt, chosen, rejected", "strings or message lists; lists without prompt "
     "share their start; as a single answer: chosen", COMPLETION | PAIR, match_preference,
     parse_preference},
    {"prompt_completion", "prompt, completion", "strings or message lists", COMPLETION,
     match_prompt_completion, parse_prompt_completion},
    {"instruction_preference", "instruction, input?, chosen, rejected", "as instruction; as a "
     "single answer: chosen", COMPLETION | PAIR, match_instruction_pair, parse_instruction_pair},
    {"instruction", "instruction, input?, output", "instruction and input are joined by one blank "
     "line", COMPLETION, match_instruction_answer, parse_instruction_answer},
    {"instruction_prompt", "instruction, input?", "the prompt of an instruction row", PROMPT,
     match_instruction, add_instruction},
    {"text", "text", "raw text, every token is learnt", COMPLETION, match_text, parse_text},
    {"prompt", "prompt", "a string or a message list", PROMPT, match_prompt, parse_prompt},
    {0},
};

static void add_fields(struct str *b, const json_t *row) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)row, key, v)
        str_addf(b, "%s%.40s", b->len ? ", " : "", key);
}

const struct data_format *data_format_of(const struct json_t *row, enum data_need need,
                                         struct err *e) {
    struct str known = {0}, got = {0};
    for (const struct data_format *f = data_format_table; f->name; f++) {
        if (!(f->needs & (1 << need)))
            continue;
        if (f->match(row)) {
            str_release(&known);
            return f;
        }
        str_addf(&known, "%s{%s}", known.len ? " or " : "", f->fields);
    }
    add_fields(&got, row);
    err_set(e, "expected a row for %s: %s; got {%.200s}", data_need_names[need], known.s,
            got.s ? got.s : "");
    str_release(&known);
    str_release(&got);
    return NULL;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * chat.h — conversations to text and token ids by a chat template, with the spans that carry loss.
 *
 * A template is Jinja (jinja.h): the model folder's own text, a named one of chat_table, or the
 * user's. It is rendered as transformers' apply_chat_template does.
 *
 *     struct chat *c = chat_new(jinja, "model/tokenizer_config.json", tok, specials, &err);
 *     chat_encode(c, msgs, n, nprompt, false, &ids, &carries, &err);    // a row of training data
 *     chat_encode(c, msgs, n, n, true, &ids, NULL, &err);               // a prompt for generation
 *
 * Two properties hold for every template: the ids of a prompt with its generation prompt are a
 * prefix of the ids of prompt and answer, and text of special tokens within a message is plain
 * text, so that what users write cannot forge turns.
 */
#ifndef KEEL_CHAT_H
#define KEEL_CHAT_H

#include "model/tokenizer.h"

struct json_t;                              /* jansson's */

/* ---- named templates, for folders without one ---- */
struct chat_format {
    const char *name, *help;
    const char *jinja;                      /* chat_template of tokenizer_config.json */
    const char *const *specials;            /* added tokens it needs, NULL-terminated */
    const char *bos;                        /* the token it begins with, one of specials; or NULL */
    const char *eos;                        /* the token that ends a turn (one of specials); NULL:
                                               the tokenizer's own EOS */
};
extern const struct chat_format chat_table[];       /* ends with name == NULL */
const struct chat_format *chat_find(const char *name);              /* NULL: none */
const struct chat_format *chat_find_jinja(const char *jinja);       /* NULL: not one of ours */
const char *chat_list(void);                        /* "keel chatml ... none", for messages */

/* ---- a template in use ---- */
struct chat;                                /* immutable; any number of threads may render */

/* where: names the text in messages. tok: borrowed, NULL for chat_text alone. specials: a JSON
 * object {"bos_token": "<s>", ...}, the variables of that name; NULL: none; not kept. NULL and *e
 * when the text does not compile, or, for a text of chat_table, when the tokenizer lacks a token
 * that it needs. */
struct chat *chat_new(const char *jinja, const char *where, const struct tokenizer *tok,
                      const struct json_t *specials, struct err *e) MUST_CHECK;
void chat_free(struct chat *c);             /* NULL is allowed */
const char *chat_name(const struct chat *c);        /* "chatml", or `where` of a text not ours */
const char *chat_jinja(const struct chat *c);       /* the text */
int32_t chat_end(const struct chat *c);     /* the special token that ends an answer; -1: none */

struct message {
    const char *role;                       /* "system", "user", "assistant", ... */
    const char *content;
};
/* The text of a conversation; caller frees. request: a JSON object with "messages" and any other
 * variables of the template (add_generation_prompt, tools, ...). Messages stand as they are. */
char *chat_text(const struct chat *c, const struct json_t *request, size_t *len,
                struct err *e) MUST_CHECK;

/* Appends the ids of msgs[0..n). carries[i] = 1 for tokens that carry loss: the assistant turns
 * among msgs[first..n) up to the token that ends them, or what the template itself marks with
 * {% generation %}; carries may be NULL. The whole text is encoded at once, except that an answer
 * starts anew where the text before it and the answer would share a token. -1 and *e: what the
 * template raises; a turn whose rendering is not a prefix of the whole (loss on it would be
 * misplaced); BOS twice. */
int chat_encode(const struct chat *c, const struct message *msgs, int n, int first,
                bool add_generation_prompt, struct ids *out, struct ids *carries,
                struct err *e) MUST_CHECK;
/* -1 and *e when a message begins with what the template writes itself: data that was templated
 * already. */
int chat_check_raw(const struct chat *c, const struct message *msgs, int n,
                   struct err *e) MUST_CHECK;
#endif

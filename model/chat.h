/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * chat.h — conversations to token ids, with the spans that carry loss.
 *
 * A table of named templates; each row gives the pieces around a turn and the Jinja text that is
 * written to tokenizer_config.json, by which the same template is known again when a folder is
 * opened. "none" joins the raw texts.
 */
#ifndef KEEL_CHAT_H
#define KEEL_CHAT_H

#include "model/tokenizer.h"

struct chat_template {
    const char *name, *help;
    const char *bos;                        /* before everything; "" none; may hold added tokens */
    const char *system_pre, *system_post;   /* NULL: takes no system message */
    const char *default_system;             /* the system text when there is none; NULL: none */
    const char *user_pre, *user_post;
    const char *assistant_pre;              /* the generation prompt */
    const char *assistant_post;             /* ends a turn; carries loss; "" : the EOS token */
    const char *jinja;                      /* chat_template of tokenizer_config.json */
    const char *const *specials;            /* added tokens it needs, NULL-terminated */
    const char *eos;                        /* the token that ends a turn (one of specials); NULL:
                                               the tokenizer's own EOS */
    bool trim;                              /* contents lose blanks at both ends */
    bool strict;                            /* system only first, then user, assistant, ... */
};
extern const struct chat_template chat_table[];     /* ends with name == NULL */
const struct chat_template *chat_find(const char *name);            /* NULL: none */
const struct chat_template *chat_find_jinja(const char *jinja);     /* NULL: not one of ours */
const char *chat_list(void);                        /* "keel chatml ... none", for messages */

struct message {
    const char *role;                       /* "system", "user", "assistant" */
    const char *content;
};
/* Appends the ids of the conversation. carries[i] = 1 for tokens that carry loss (assistant turns
 * with their end token); carries may be NULL. add_generation_prompt: ends with assistant_pre.
 * -1 and *e on an unknown role, an order the template does not know, or special tokens that the
 * tokenizer lacks. */
int chat_render(const struct chat_template *c, const struct tokenizer *t, int32_t eos_id,
                const struct message *msgs, int n, bool add_generation_prompt, struct ids *out,
                struct ids *carries, struct err *e) MUST_CHECK;
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_chat.h — what a model folder says about chat: its template and its special tokens by name.
 */
#ifndef KEEL_HF_CHAT_H
#define KEEL_HF_CHAT_H

#include "ckpt/hf.h"

/* The folder's own template compiled, or, with jinja not NULL, that text (where names it). The
 * variables bos_token, eos_token, ... come from tokenizer_config.json, special_tokens_map.json and,
 * for those neither names, the ids of config.json. NULL and *e; also when jinja is NULL and the
 * folder has no template. */
struct chat *hf_chat(const struct hf *h, const char *jinja, const char *where,
                     struct err *e) MUST_CHECK;
/* The folder's text and where it stands ("dir/tokenizer_config.json: chat_template"); NULL in both
 * when it has none. Caller frees. */
int hf_read_template(const char *dir, char **jinja, char **where, struct err *e) MUST_CHECK;
/* The same for a folder that holds a tokenizer and no model. */
struct chat *hf_chat_of(const char *dir, const struct tokenizer *tok, const char *jinja,
                        const char *where, struct err *e) MUST_CHECK;
#endif

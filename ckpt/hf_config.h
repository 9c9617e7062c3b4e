/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_config.h — the JSON files of a Hugging Face folder: read with care, written for transformers.
 * Private to ckpt/hf.c.
 */
#ifndef KEEL_HF_CONFIG_H
#define KEEL_HF_CONFIG_H

#include "ckpt/hf.h"

/* Both generations of key names; defaults of the architecture; refuses what changes the
 * mathematics. path is for messages. */
int hf_config_parse(const char *text, size_t len, const char *path, struct model_config *cfg,
                    struct err *e) MUST_CHECK;
/* Stop tokens of generation_config.json; *n stays as it is when the file names none. */
int hf_generation_eos(const char *text, const char *path, int vocab_size, int32_t *eos, int *n,
                      struct err *e) MUST_CHECK;
/* The template of tokenizer_config.json: a string, or "default" of a list; NULL: none. *e.msg is
 * set when the file cannot be read. Caller frees. */
char *hf_chat_jinja(const char *text, const char *path, struct err *e);

/* config.json with its dtype key set: the same text when it already says so. Callers free. */
char *hf_config_with_dtype(const char *text, enum dtype dtype);
char *hf_tokenizer_config_with_chat(const char *text, const char *jinja);   /* text NULL: fresh */
/* Fresh files for a model that came from no folder. */
char *hf_config_fresh(const struct model *m);
char *hf_generation_config_fresh(const struct model_config *cfg);
char *hf_tokenizer_config_fresh(const struct model_config *cfg, const struct tokenizer *tok,
                                const struct chat_template *chat);
#endif

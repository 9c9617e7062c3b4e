/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_config.h — the JSON files of a Hugging Face folder: read with care, written for transformers.
 * For ckpt/hf.c, and verbs that describe a model by its keys.
 */
#ifndef KEEL_HF_CONFIG_H
#define KEEL_HF_CONFIG_H

#include <jansson.h>

#include "ckpt/hf.h"

/* Both generations of key names; defaults of the architecture; refuses what changes the
 * mathematics. path is for messages. */
int hf_config_parse(const char *text, size_t len, const char *path, struct model_config *cfg,
                    struct err *e) MUST_CHECK;
/* The same of an object; text: where it comes from, NULL for messages without places. */
int hf_config_read(const json_t *root, const char *text, const char *path,
                   struct model_config *cfg, struct err *e) MUST_CHECK;
/* Whether a layer has the class's window, where there is one; max_window_layers is for classes that
 * have windows above it. */
bool hf_config_windowed(const struct arch *arch, int layer, int max_window_layers);
/* Stop tokens of generation_config.json; *n stays as it is when the file names none. */
int hf_generation_eos(const char *text, const char *path, int vocab_size, int32_t *eos, int *n,
                      struct err *e) MUST_CHECK;
/* config.json with its dtype key set: the same text when it already says so. Callers free. */
char *hf_config_with_dtype(const char *text, enum dtype dtype);
char *hf_tokenizer_config_with_chat(const char *text, const char *jinja);   /* text NULL: fresh */
/* Fresh files for a model that came from no folder. */
char *hf_config_fresh(const struct model *m);
char *hf_generation_config_fresh(const struct model_config *cfg);
char *hf_tokenizer_config_fresh(const struct model_config *cfg, const struct tokenizer *tok,
                                const char *jinja);
#endif

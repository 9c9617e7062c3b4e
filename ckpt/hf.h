/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf.h — Hugging Face model folders in and out.
 *
 * config.json, model.safetensors, tokenizer.json, tokenizer_config.json, generation_config.json.
 * What the folder holds beyond what Keel understands is kept (unknown config keys) and carried over
 * (other files); anything unknown that changes the mathematics is refused by name.
 */
#ifndef KEEL_HF_H
#define KEEL_HF_H

#include "model/chat.h"
#include "model/model.h"

struct hf {                                 /* an opened folder; free with hf_free */
    char *dir;                              /* where it was read from; NULL: made by hf_new */
    struct model *model;
    struct tokenizer *tokenizer;
    const struct chat_template *chat;       /* NULL: the folder names none that is known */
    char *chat_jinja;                       /* the folder's own text; NULL: none */
    char *config_json, *tokenizer_config_json, *generation_config_json; /* as read; NULL: none */
    int32_t eos[MODEL_MAX_EOS];             /* generation's stop tokens */
    int neos;
    /* [nparams] the dtype of each tensor in the folder, kept by hf_save; free and set NULL to write
     * all as model->cfg.dtype. NULL: no weights were read. */
    enum dtype *stored;
};
enum { HF_MODEL = 1, HF_TOKENIZER = 2, HF_ALL = 3 };
/* NULL and *e. what: HF_* bits; config.json is always read. */
struct hf *hf_open(const char *dir, int what, struct err *e) MUST_CHECK;
/* A fresh folder in memory; takes model and tokenizer over. */
struct hf *hf_new(struct model *model, struct tokenizer *tok, const struct chat_template *chat);
void hf_free(struct hf *h);                 /* NULL is allowed */
/* Writes the folder: every file aside, synced, renamed; other files of h->dir are copied. dir may
 * exist: its files are replaced, foreign files stay. model: NULL means h->model. */
int hf_save(const struct hf *h, const struct model *model, const char *dir,
            struct err *e) MUST_CHECK;
/* Reads config.json alone into *cfg. */
int hf_read_config(const char *path, struct model_config *cfg, struct err *e) MUST_CHECK;
/* SHA-256 (64 hex digits + NUL) over names, dtypes, shapes and bytes of the folder's tensors, in
 * name order: equal for any sharding. */
int hf_hash(const char *dir, char out[65], struct err *e) MUST_CHECK;
#endif

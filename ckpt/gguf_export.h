/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gguf_export.h — a Hugging Face model folder as one .gguf file for llama.cpp.
 *
 * The file says what llama.cpp computes, which is not always what the folder says. What it cannot
 * be told exactly is refused by name; what holds up to a length is written with that length as its
 * context, with a warning. Conventions: llama.cpp's convert_hf_to_gguf.py and the loaders in its
 * src/models, as of release v0.5.0 (2026).
 */
#ifndef KEEL_GGUF_EXPORT_H
#define KEEL_GGUF_EXPORT_H

#include "ckpt/gguf.h"
#include "ckpt/hf.h"
#include "ckpt/weights.h"

struct gguf_result {                        /* of a file that was written */
    const char *arch;                       /* llama.cpp's name */
    enum dtype dtype;
    int tensors;
    size_t bytes;                           /* of tensors */
};
/* dtype: F32, F16 or BF16 for the matrices; DTYPE_COUNT: that of most of the folder's weights.
 * Vectors and learned positions are F32. Nothing is held whole but the metadata. r may be NULL.
 * -1 and *e: the folder cannot be read, or not be said; -2: the file cannot be written. */
int gguf_export(const char *dir, const char *path, enum dtype dtype, struct gguf_result *r,
                struct err *e) MUST_CHECK;

/* ---- its two halves, private to ckpt/gguf_*.c ---- */

/* Architecture, sizes and tensors. The result owns what g's tensors are read from: free it behind
 * gguf_save. NULL and *e. */
struct gguf_model;
struct gguf_model *gguf_model_add(struct gguf *g, const struct model_config *cfg,
                                  const struct weights *w, enum dtype dtype, const char *dir,
                                  struct err *e) MUST_CHECK;
void gguf_model_free(struct gguf_model *m);     /* NULL is allowed */
/* llama.cpp's name for the architecture; NULL: it has none. */
const char *gguf_arch_name(const char *model_type);

/* general.name (the folder's, unless llama.cpp would read something into it), vocabulary, merges,
 * special tokens and chat template. */
int gguf_vocab_add(struct gguf *g, const struct hf *h, const struct model_config *cfg,
                   const char *folder, struct err *e) MUST_CHECK;
#endif

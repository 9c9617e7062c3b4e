/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gguf.h — write .gguf files, the format of llama.cpp and the programs built on it.
 *
 *   "GGUF" | u32 version 3 | u64 tensors | u64 pairs
 *   | pairs: key, u32 type, value | infos: name, u32 ndim, u64 dims[], u32 type, u64 offset
 *   | zeros to a multiple of 32 | data, every tensor at a multiple of 32 from here
 *
 * Little-endian; strings are a u64 length and bytes; dims stand fastest first, so the reverse of a
 * shape here. Values are asked for while the file is written, some rows at a time: no tensor is
 * held whole. Format: ggml's docs/gguf.md.
 *
 *     struct gguf *g = gguf_new();
 *     gguf_set_text(g, "general.architecture", "llama");
 *     gguf_add_tensor(g, "token_embd.weight", DTYPE_F16, 2, shape, rows, ctx);
 *     int rc = gguf_save(g, "model.gguf", &err);
 *     gguf_free(g);
 */
#ifndef KEEL_GGUF_H
#define KEEL_GGUF_H

#include "model/tensor.h"

struct gguf;                                /* a file in the making */
struct gguf *gguf_new(void);
void gguf_free(struct gguf *g);             /* NULL is allowed */

/* Metadata, in the order of the calls; a key may stand once (BUG). Texts are NUL-terminated UTF-8,
 * copied. */
void gguf_set_text(struct gguf *g, const char *key, const char *value);
void gguf_set_u32(struct gguf *g, const char *key, uint32_t value);
void gguf_set_f32(struct gguf *g, const char *key, double value);
void gguf_set_bool(struct gguf *g, const char *key, bool value);
void gguf_set_texts(struct gguf *g, const char *key, const char *const *values, size_t n);
void gguf_set_i32s(struct gguf *g, const char *key, const int32_t *values, size_t n);
void gguf_set_f32s(struct gguf *g, const char *key, const float *values, size_t n);
void gguf_set_bools(struct gguf *g, const char *key, const bool *values, size_t n);

/* Rows first .. first + n of a tensor, n * columns values into dst. A vector is one row. */
typedef void (*gguf_rows)(const void *ctx, int64_t first, int64_t n, real *dst);
/* shape outermost first, 1 <= ndim <= 4; dtype F32, F16 or BF16; name at most 63 bytes, not used
 * before (BUG). ctx is borrowed until gguf_save. */
void gguf_add_tensor(struct gguf *g, const char *name, enum dtype dtype, int ndim,
                     const int64_t *shape, gguf_rows rows, const void *ctx);
int gguf_tensor_count(const struct gguf *g);
size_t gguf_data_bytes(const struct gguf *g);       /* of all tensors, with their padding */

/* Written aside, synced, renamed. -1 and *e when a finite value does not fit its dtype, -2 when the
 * file cannot be written. */
int gguf_save(const struct gguf *g, const char *path, struct err *e) MUST_CHECK;
#endif

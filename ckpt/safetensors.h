/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * safetensors.h — read and write .safetensors files.
 *
 *   u64 LE header length N | N bytes of JSON {name: {dtype, shape, data_offsets}} | tensor bytes
 *
 * Opening maps the file read-only and checks everything once (header size, UTF-8, JSON, dtype, that
 * shape x dtype equals the byte range, that ranges tile the data without gaps or overlap, repeated
 * names). After st_open succeeds no later call can fail or read out of bounds.
 *
 *     struct st *st = st_open("model.safetensors", &err);
 *     const struct st_entry *e = st_find(st, "model.embed_tokens.weight");
 *     if (e) st_read(st, e, dst);                  // dst[e->count], converted to real
 *     st_close(st);
 */
#ifndef KEEL_SAFETENSORS_H
#define KEEL_SAFETENSORS_H

#include "model/tensor.h"

#define ST_HEADER_MAX 100000000u                    /* bytes of JSON, by the format's definition */

struct st;                                          /* opaque; owns the mapping */
struct st_entry {
    const char *name;                               /* borrowed, valid until st_close */
    enum dtype dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
    size_t count;                                   /* product of shape */
    size_t begin, bytes;                            /* in the data section */
};
/* NULL and *e on any defect; the message names file, tensor and the violated rule. */
struct st *st_open(const char *path, struct err *e) MUST_CHECK;
void st_close(struct st *st);                       /* NULL is allowed */
int st_count(const struct st *st);
const struct st_entry *st_at(const struct st *st, int i);       /* 0 <= i < st_count, file order */
const struct st_entry *st_find(const struct st *st, const char *name);  /* NULL if absent */
const void *st_data(const struct st *st, const struct st_entry *en);    /* may be unaligned */
/* All elements, or n from `first` on, as real; can_compute only. Pages of the file that were read
 * do not stay in memory, however large the tensor. */
void st_read(const struct st *st, const struct st_entry *en, real *dst);
void st_read_some(const struct st *st, const struct st_entry *en, size_t first, real *dst,
                  size_t n);
/* For those who read st_data: the pages of n elements from `first` on leave memory until they are
 * read again. */
void st_drop(const struct st *st, const struct st_entry *en, size_t first, size_t n);
const char *st_meta(const struct st *st, const char *key);      /* NULL if absent */
int st_meta_count(const struct st *st);
void st_meta_at(const struct st *st, int i, const char **key, const char **value);
size_t st_header_bytes(const struct st *st);        /* 8 + N */

/* Writer: collect entries (data and contexts are borrowed until st_save), then write aside, sync
 * and rename. Tensors in the order of the format's writer: dtype descending, then name. */
struct st_writer;
struct st_writer *st_writer_new(void);
void st_writer_free(struct st_writer *w);
void st_writer_meta(struct st_writer *w, const char *key, const char *value);
void st_writer_add(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                   const int64_t *shape, const void *data);
/* From real: converted while writing, no copy of the whole is held. */
void st_writer_add_real(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                        const int64_t *shape, const real *data);
/* From anywhere: fill puts elements [first, first + n) into dst as they are stored. It is asked
 * for one run after another, from 0 on, each of a multiple of 8 elements but the last. */
typedef void (*st_fill)(const void *ctx, size_t first, size_t n, void *dst);
void st_writer_add_fill(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                        const int64_t *shape, st_fill fill, const void *ctx);
int st_save(struct st_writer *w, const char *path, struct err *e) MUST_CHECK;
/* The same without the rename: creates PATH, which must not exist, and syncs it. Nothing is left
 * when it fails. */
int st_write(struct st_writer *w, const char *path, struct err *e) MUST_CHECK;
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * shards.h — the tensors of a model out to a folder: model.safetensors, or several files and an
 * index.
 *
 * Tensors are asked for while their file is written, so nothing is held twice. The folder goes from
 * the model that it held to the new one at once: all is written aside first, then each change of
 * the folder leaves either model whole and the one that a reader finds; what the old one alone used
 * is removed last.
 *
 *     struct shards *s = shards_new(dir);
 *     shards_add(s, name, DTYPE_BF16, 2, shape, fill, ctx, 0);         // every tensor
 *     if (shards_write(s, limit, &err) == 0 && shards_commit(s, &err) == 0) ...
 *     shards_free(s);
 */
#ifndef KEEL_SHARDS_H
#define KEEL_SHARDS_H

#include <jansson.h>

#include "ckpt/safetensors.h"

#define SHARDS_INDEX "model.safetensors.index.json"
#define SHARDS_DEFAULT_SIZE 5000000000u             /* bytes: huggingface_hub's default */

struct shards;
struct shards *shards_new(const char *dir);         /* dir must be there by shards_write */
/* Removes what was written aside and not put in place. NULL is allowed. */
void shards_free(struct shards *s);
/* fill and ctx as in st_writer_add_fill, borrowed until shards_write is done. file: which one,
 * from 0 without gaps, where shards_write is given no size. */
void shards_add(struct shards *s, const char *name, enum dtype dtype, int ndim,
                const int64_t *shape, st_fill fill, const void *ctx, int file);
/* "metadata" of the index, copied; total_size is put in. */
void shards_metadata(struct shards *s, const json_t *metadata);
/* Writes all files aside and syncs them. max_size: bytes of tensors in a file; tensors go, in the
 * order they were added, into files of at most that, a larger one into its own. 0: as `file` says.
 * One file is model.safetensors, several are model-00001-of-0000N.safetensors. */
int shards_write(struct shards *s, size_t max_size, struct err *e) MUST_CHECK;
/* Puts them in place. */
int shards_commit(struct shards *s, struct err *e) MUST_CHECK;
/* The next single change of shards_commit: 1, or 0 when all are made; -1 and *e. */
int shards_step(struct shards *s, struct err *e) MUST_CHECK;

/* "5GB", "500MB", "2GiB" or a number of bytes; decimal and binary units as transformers has
 * them. */
bool shards_parse_size(const char *text, size_t *bytes);
/* The shortest text that reads back as the same; caller frees. */
char *shards_size_text(size_t bytes);
#endif

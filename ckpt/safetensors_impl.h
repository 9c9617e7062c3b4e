/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * safetensors_impl.h — an opened file, shared by the reader's two halves: safetensors.c (bytes) and
 * safetensors_header.c (JSON).
 */
#ifndef KEEL_SAFETENSORS_IMPL_H
#define KEEL_SAFETENSORS_IMPL_H

#include "ckpt/safetensors.h"

struct st_meta {
    char *key, *value;
};
struct st {
    char *path;
    const uint8_t *map;                     /* the whole file, read-only */
    size_t size, data_off;
    struct st_entry *entries;               /* file order */
    const struct st_entry **by_name;        /* [n] ascending names */
    int n, cap;
    struct st_meta *meta;
    int nmeta;
};

/* The header's n bytes into entries and meta, in their order there. Judges text and JSON: that
 * there is one object, of entries with dtype, shape (count is not set) and two offsets; not yet
 * whether they fit the data. -1 and *e. */
int st_parse_header(struct st *st, const char *text, size_t n, struct err *e) MUST_CHECK;
/* "path: tensor "name": message"; -1. */
int st_bad_entry(const struct st *st, struct err *e, const char *name, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
#endif

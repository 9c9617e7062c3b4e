/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * safetensors.c — the reader: map the file, prove the header, then hand out pointers.
 *
 * All checks are made once, in st_open, in the order of the reference reader: size of the header,
 * UTF-8, JSON (safetensors_header.c), then for each range of the data section in turn that it
 * begins where the last one ended, that the shape does not overflow, that elements end on bytes and
 * that shape x dtype is the range; at last that the file ends there. What is stricter here: a
 * repeated tensor name is an error (the reference keeps the last one), and dimensions end at
 * 2^63 - 1. Data may lie at odd addresses. Reference: huggingface/safetensors, tensor.rs.
 */
#include "ckpt/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/safetensors_impl.h"

/* ---- the whole against the file ---- */

static int cmp_name(const void *a, const void *b) {
    return strcmp((*(const struct st_entry *const *)a)->name,
                  (*(const struct st_entry *const *)b)->name);
}

static size_t end_of(const struct st_entry *en) {
    return en->begin + en->bytes;           // as written, also where it wraps
}

static int cmp_range(const void *a, const void *b) {
    const struct st_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (end_of(x) != end_of(y))
        return end_of(x) < end_of(y) ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int index_names(struct st *st, struct err *e) {
    st->by_name = xcalloc((size_t)st->n, sizeof *st->by_name);
    if (st->n == 0)
        return 0;                           // no array to sort
    qsort(st->entries, (size_t)st->n, sizeof *st->entries, cmp_range);
    for (int i = 0; i < st->n; i++)
        st->by_name[i] = &st->entries[i];
    qsort(st->by_name, (size_t)st->n, sizeof *st->by_name, cmp_name);
    for (int i = 1; i < st->n; i++)
        if (strcmp(st->by_name[i - 1]->name, st->by_name[i]->name) == 0)
            return st_bad_entry(st, e, st->by_name[i]->name, "the name is there twice");
    return 0;
}

/* `at`: where the data of the entry before it ends. Sets en->count. */
static int check_entry(const struct st *st, struct st_entry *en, size_t at, struct err *e) {
    const struct dtype_info *d = &dtype_table[en->dtype];
    size_t bits = 0;
    if (en->begin != at)
        return st_bad_entry(st, e, en->name, "invalid offset: data begins at byte %zu, expected"
                            " %zu: the ranges %s", en->begin, at,
                            en->begin > at ? "leave a hole" : "overlap");
    if (end_of(en) < en->begin)
        return st_bad_entry(st, e, en->name, "invalid offset: [%zu,%zu] ends before it begins",
                            en->begin, end_of(en));
    bool fits = true, signed_fits = true;
    en->count = 1;
    for (int i = 0; i < en->ndim && fits; i++) {
        fits = mul_size(en->count, (size_t)en->shape[i], &en->count);
        signed_fits = signed_fits && en->shape[i] >= 0;
    }
    if (!fits || !mul_size(en->count, (size_t)d->bits, &bits))
        return st_bad_entry(st, e, en->name, "shape x %s overflows 64 bits", d->name);
    if (!signed_fits)
        return st_bad_entry(st, e, en->name, "shape: dimensions end at 2^63 - 1");
    if (bits % 8)
        return st_bad_entry(st, e, en->name, "misaligned: %zu elements of %s (%d bits) end inside a"
                            " byte", en->count, d->name, d->bits);
    if (bits / 8 != en->bytes)
        return st_bad_entry(st, e, en->name, "data_offsets span %zu bytes, expected %zu for %zu"
                            " elements of %s", en->bytes, bits / 8, en->count, d->name);
    return 0;
}

static int check_layout(struct st *st, struct err *e) {
    size_t at = 0;
    for (int i = 0; i < st->n; i++) {
        if (check_entry(st, &st->entries[i], at, e) != 0)
            return -1;
        at = end_of(&st->entries[i]);
    }
    const size_t have = st->size - st->data_off;
    if (at != have)
        return err_set(e, "%s: the tensors take %zu bytes of data, the file holds %zu (%s)",
                       st->path, at, have,
                       at > have ? "hint: it was cut short, fetch it again" : "trailing bytes");
    return 0;
}

static int map_file(struct st *st, struct err *e) {
    struct stat info;
    int fd = open(st->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = -1;
    if (fd < 0 || fstat(fd, &info) != 0) {
        err_set(e, "%s: cannot open: %s", st->path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        err_set(e, "%s: expected a .safetensors file, found %s", st->path,
                S_ISDIR(info.st_mode) ? "a directory" : "something that is no regular file");
        goto out;
    }
    st->size = (size_t)info.st_size;
    if (st->size < 8) {
        err_set(e, "%s: header too small: the file has %zu bytes, expected 8 or more", st->path,
                st->size);
        goto out;
    }
    void *map = mmap(NULL, st->size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        err_set(e, "%s: cannot map: %s", st->path, strerror(errno));
        goto out;
    }
    st->map = map;
    rc = 0;
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

struct st *st_open(const char *path, struct err *e) {
    struct st *st = xcalloc(1, sizeof *st);
    st->path = xstrdup(path);
    if (map_file(st, e) != 0)
        goto fail;
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | st->map[i];
    if (n > ST_HEADER_MAX) {
        const bool lfs = st->size > 20 && memcmp(st->map, "version https://git-", 20) == 0;
        bool text = true;
        for (int i = 0; i < 8; i++)
            text = text && (st->map[i] >= ' ' || st->map[i] == '\n') && st->map[i] < 0x7F;
        err_set(e, "%s: header too large: %llu bytes, expected at most %u%s", path,
                (unsigned long long)n, ST_HEADER_MAX,
                lfs ? " (hint: this is a Git LFS pointer, run: git lfs pull)"
                : text ? " (hint: this is a text file)" : "");
        goto fail;
    }
    if (n > st->size - 8) {
        err_set(e, "%s: invalid header length: %llu bytes, the file has %zu after the length", path,
                (unsigned long long)n, st->size - 8);
        goto fail;
    }
    st->data_off = 8 + (size_t)n;
    if (st_parse_header(st, (const char *)st->map + 8, (size_t)n, e) != 0
        || index_names(st, e) != 0 || check_layout(st, e) != 0)
        goto fail;
    return st;
fail:
    st_close(st);
    return NULL;
}

void st_close(struct st *st) {
    if (!st)
        return;
    for (int i = 0; i < st->n; i++)
        free((char *)st->entries[i].name);
    for (int i = 0; i < st->nmeta; i++) {
        free(st->meta[i].key);
        free(st->meta[i].value);
    }
    if (st->map)
        munmap((void *)st->map, st->size);
    free(st->meta);
    free(st->entries);
    free(st->by_name);
    free(st->path);
    free(st);
}

/* ---- access: nothing here can fail ---- */

int st_count(const struct st *st) {
    return st->n;
}

const struct st_entry *st_at(const struct st *st, int i) {
    if (i < 0 || i >= st->n)
        BUG("st_at: %d of %d", i, st->n);
    return &st->entries[i];
}

const struct st_entry *st_find(const struct st *st, const char *name) {
    const struct st_entry key = {.name = name}, *pkey = &key;
    const struct st_entry **hit =
        st->n ? bsearch(&pkey, st->by_name, (size_t)st->n, sizeof *st->by_name, cmp_name) : NULL;
    return hit ? *hit : NULL;
}

const void *st_data(const struct st *st, const struct st_entry *en) {
    return st->map + st->data_off + en->begin;
}

void st_read(const struct st *st, const struct st_entry *en, real *dst) {
    st_read_some(st, en, 0, dst, en->count);
}

void st_read_some(const struct st *st, const struct st_entry *en, size_t first, real *dst,
                  size_t n) {
    enum { CHUNK = 1 << 20 };               // elements between two releases of read pages
    const size_t width = (size_t)dtype_table[en->dtype].bits / 8;
    if (first > en->count || n > en->count - first)
        BUG("st_read_some: %zu + %zu of %zu elements", first, n, en->count);
    const char *src = (const char *)st_data(st, en) + first * width;
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = MIN((size_t)CHUNK, n - i);
        dtype_read(en->dtype, src + i * width, dst + i, m);
        st_drop(st, en, first + i, m);
    }
}

/* Whole pages, those at both ends too: the file still holds them all. */
void st_drop(const struct st *st, const struct st_entry *en, size_t first, size_t n) {
    const size_t bits = (size_t)dtype_table[en->dtype].bits;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), data = (uintptr_t)st_data(st, en);
    const uintptr_t from = (data + first * bits / 8) / page * page;
    const uintptr_t to = data + (first + n) * bits / 8;
    if (n > 0)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

const char *st_meta(const struct st *st, const char *key) {
    for (int i = st->nmeta - 1; i >= 0; i--)            // the last one counts
        if (strcmp(st->meta[i].key, key) == 0)
            return st->meta[i].value;
    return NULL;
}

int st_meta_count(const struct st *st) {
    return st->nmeta;
}

void st_meta_at(const struct st *st, int i, const char **key, const char **value_out) {
    if (i < 0 || i >= st->nmeta)
        BUG("st_meta_at: %d of %d", i, st->nmeta);
    *key = st->meta[i].key;
    *value_out = st->meta[i].value;
}

size_t st_header_bytes(const struct st *st) {
    return st->data_off;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * safetensors_write.c — the writer: byte for byte what the reference writer gives.
 *
 * Order: dtype descending (the enum is in the format's alignment order), then name by bytes, so
 * that every tensor lies at a multiple of its element size. JSON without blanks, metadata first
 * and sorted, blanks up to a multiple of 8. Tensors that are not at hand as stored bytes are asked
 * for chunk by chunk while writing. The file is written aside, synced and renamed: readers that map
 * the old file keep reading the old bytes, even when they are the source of the new ones.
 */
#include "ckpt/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct item {
    char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
    size_t count, bytes;
    const void *data;                       /* borrowed: stored bytes, or the context of fill */
    st_fill fill;                           /* NULL: data is what is written */
    const real *values;                     /* what fill_real converts */
};
struct pair {
    char *key, *value;
};
struct st_writer {
    struct item *items;
    int n, cap;
    struct pair *meta;
    int nmeta;
    bool misaligned;                        /* some item ends inside a byte */
};

struct st_writer *st_writer_new(void) {
    return xcalloc(1, sizeof(struct st_writer));
}

void st_writer_free(struct st_writer *w) {
    if (!w)
        return;
    for (int i = 0; i < w->n; i++)
        free(w->items[i].name);
    for (int i = 0; i < w->nmeta; i++) {
        free(w->meta[i].key);
        free(w->meta[i].value);
    }
    free(w->items);
    free(w->meta);
    free(w);
}

void st_writer_meta(struct st_writer *w, const char *key, const char *value) {
    w->meta = xreallocarray(w->meta, (size_t)w->nmeta + 1, sizeof *w->meta);
    w->meta[w->nmeta++] = (struct pair){.key = xstrdup(key), .value = xstrdup(value)};
}

static void add(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                const int64_t *shape, struct item it) {
    if (ndim < 0 || ndim > TENSOR_MAX_DIM)
        BUG("st_writer_add: %s has %d dimensions", name, ndim);
    it.dtype = dtype;
    it.ndim = ndim;
    it.count = 1;
    for (int i = 0; i < ndim; i++) {
        it.shape[i] = shape[i];
        if (shape[i] < 0 || !mul_size(it.count, (size_t)shape[i], &it.count))
            BUG("st_writer_add: %s: bad dimension %lld", name, (long long)shape[i]);
    }
    size_t bits;
    if (!mul_size(it.count, (size_t)dtype_table[dtype].bits, &bits))
        BUG("st_writer_add: %s is too large", name);
    w->misaligned |= bits % 8 != 0;
    it.bytes = bits / 8;
    it.name = xstrdup(name);
    if (w->n == w->cap) {
        w->cap = MAX(64, w->cap * 2);
        w->items = xreallocarray(w->items, (size_t)w->cap, sizeof *w->items);
    }
    w->items[w->n++] = it;
}

void st_writer_add(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                   const int64_t *shape, const void *data) {
    add(w, name, dtype, ndim, shape, (struct item){.data = data});
}

void st_writer_add_fill(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                        const int64_t *shape, st_fill fill, const void *ctx) {
    add(w, name, dtype, ndim, shape, (struct item){.data = ctx, .fill = fill});
}

static void fill_real(const void *ctx, size_t first, size_t n, void *dst) {
    const struct item *it = ctx;
    dtype_write(it->dtype, it->values + first, dst, n);
}

void st_writer_add_real(struct st_writer *w, const char *name, enum dtype dtype, int ndim,
                        const int64_t *shape, const real *data) {
    if (!dtype_table[dtype].can_compute)
        BUG("st_writer_add_real: %s: %s holds no real numbers", name, dtype_table[dtype].name);
    add(w, name, dtype, ndim, shape, (struct item){.values = data, .fill = fill_real});
}

/* ---- the header ---- */

static void add_json_string(struct str *b, const char *s) {
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    str_addc(b, '"');
    while (*s) {
        const char *end = s;
        while ((unsigned char)*end >= 0x20 && *end != '"' && *end != '\\')
            end++;
        str_addn(b, s, (size_t)(end - s));
        s = end;
        if (!*s)
            break;
        const char *hit = strchr(plain, *s);
        if (hit)
            str_addf(b, "\\%c", letter[hit - plain]);
        else
            str_addf(b, "\\u%04x", (unsigned)*s);
        s++;
    }
    str_addc(b, '"');
}

static int cmp_pair(const void *a, const void *b) {
    return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

static int cmp_item(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    if (x->dtype != y->dtype)
        return x->dtype > y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void add_entry(struct str *b, const struct item *it, size_t at) {
    add_json_string(b, it->name);
    str_addf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_table[it->dtype].name);
    for (int d = 0; d < it->ndim; d++)
        str_addf(b, "%s%lld", d ? "," : "", (long long)it->shape[d]);
    str_addf(b, "],\"data_offsets\":[%zu,%zu]}", at, at + it->bytes);
}

/* Length field, JSON and padding. */
static struct str header(struct st_writer *w) {
    struct str b = {0};
    str_addn(&b, "\0\0\0\0\0\0\0\0", 8);
    str_addc(&b, '{');
    if (w->n)
        qsort(w->items, (size_t)w->n, sizeof *w->items, cmp_item);
    if (w->nmeta)
        qsort(w->meta, (size_t)w->nmeta, sizeof *w->meta, cmp_pair);
    for (int i = 0; i < w->nmeta; i++) {
        str_add(&b, i ? "," : "\"__metadata__\":{");
        add_json_string(&b, w->meta[i].key);
        str_addc(&b, ':');
        add_json_string(&b, w->meta[i].value);
    }
    if (w->nmeta)
        str_add(&b, w->n ? "}," : "}");
    size_t at = 0;
    for (int i = 0; i < w->n; i++) {
        if (i && strcmp(w->items[i - 1].name, w->items[i].name) == 0)
            BUG("st_save: tensor %s was added twice", w->items[i].name);
        str_add(&b, i ? "," : "");
        add_entry(&b, &w->items[i], at);
        at += w->items[i].bytes;
    }
    str_addc(&b, '}');
    while (b.len % 8)
        str_addc(&b, ' ');
    uint64_t n = b.len - 8;
    for (int i = 0; i < 8; i++)
        b.s[i] = (char)(n >> (8 * i) & 255);
    return b;
}

/* ---- writing ---- */

static bool put(FILE *f, const struct item *it) {
    if (!it->fill)
        return fwrite(it->data, 1, it->bytes, f) == it->bytes;
    enum { CHUNK = 1 << 18 };               // a multiple of 8: whole bytes of any dtype
    const size_t bits = (size_t)dtype_table[it->dtype].bits;
    char *buf = xmalloc(CHUNK * bits / 8);
    bool ok = true;
    for (size_t i = 0; ok && i < it->count; i += CHUNK) {
        const size_t n = MIN((size_t)CHUNK, it->count - i), bytes = n * bits / 8;
        it->fill(it->values ? it : it->data, i, n, buf);
        ok = fwrite(buf, 1, bytes, f) == bytes;
    }
    free(buf);
    return ok;
}

static bool write_all(struct st_writer *w, const struct str *head, FILE *f) {
    bool ok = fwrite(head->s, 1, head->len, f) == head->len;
    for (int i = 0; ok && i < w->n; i++)
        ok = put(f, &w->items[i]);
    return ok && fflush(f) == 0 && fsync(fileno(f)) == 0;
}

/* named: the file that messages speak of. */
static int write_to(struct st_writer *w, const char *path, const char *named, struct err *e) {
    struct str head = {0};
    FILE *f = NULL;
    int rc = -1;
    if (w->misaligned) {
        err_set(e, "%s: misaligned: a tensor of 4- or 6-bit elements ends inside a byte", named);
        goto out;
    }
    head = header(w);
    if (head.len - 8 > ST_HEADER_MAX) {
        err_set(e, "%s: header too large: %zu bytes, expected at most %u", named, head.len - 8,
                ST_HEADER_MAX);
        goto out;
    }
    f = fopen(path, "wbx");
    if (!f) {
        err_set(e, "%s: cannot create: %s", named, strerror(errno));
        goto out;
    }
    bool ok = write_all(w, &head, f);
    int saved = errno;
    if (fclose(f) != 0 && ok) {
        ok = false;
        saved = errno;
    }
    if (!ok) {
        err_set(e, "%s: cannot write: %s", named, strerror(saved));
        unlink(path);
        goto out;
    }
    rc = 0;
out:
    str_release(&head);
    return rc;
}

int st_write(struct st_writer *w, const char *path, struct err *e) {
    return write_to(w, path, path, e);
}

int st_save(struct st_writer *w, const char *path, struct err *e) {
    char *tmp = xasprintf("%s.tmp", path), *dir = path_dirname(path);
    unlink(tmp);                            // of a save that was interrupted
    int rc = write_to(w, tmp, path, e);
    if (rc == 0 && rename(tmp, path) != 0) {
        rc = err_set(e, "%s: cannot write: %s", path, strerror(errno));
        unlink(tmp);
    }
    if (rc == 0)
        rc = dir_sync(dir, e);
    free(tmp);
    free(dir);
    return rc;
}

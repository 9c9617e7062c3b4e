/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * safetensors.c — the reader: map the file, prove the header, then hand out pointers.
 *
 * All checks are made once, in st_open, in the order of the reference reader: size of the header,
 * JSON, tiling of the data section, shape x dtype against the byte range. What is stricter here: a
 * repeated tensor name is an error (the reference keeps the last one), ranks end at TENSOR_MAX_DIM
 * and dimensions at 2^63 - 1.
 *
 * The header may legally hold 10^6 entries in 100 MB. One JSON document of that size would take 20
 * times as much memory, so the outer object is walked here and jansson parses one entry at a time:
 * memory stays proportional to what is kept. Reference: huggingface/safetensors, tensor.rs.
 */
#include "ckpt/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 128                       /* nesting, as the reference reader allows */

struct meta {
    char *key, *value;
};
struct st {
    char *path;
    const uint8_t *map;                     /* the whole file, read-only */
    size_t size, data_off;
    struct st_entry *entries;               /* file order */
    const struct st_entry **by_name;        /* [n] ascending names */
    int n, cap;
    struct meta *meta;
    int nmeta;
};

/* ---- the outer object, one value at a time ---- */

struct scan {
    struct st *st;
    const char *start, *p, *end;
    bool meta_seen;
    struct err *e;
};

static int bad_json(struct scan *s, const char *what) {
    return err_set(s->e, "%s: header byte %td: %s", s->st->path, s->p - s->start, what);
}

static void skip_blanks(struct scan *s) {
    while (s->p < s->end && memchr(" \t\r\n", *s->p, 4))
        s->p++;
}

/* The next character that is not blank, or -1 with a message when it is not one of `wanted`. */
static int take(struct scan *s, const char *wanted) {
    skip_blanks(s);
    char what[96];
    if (s->p == s->end) {
        snprintf(what, sizeof what, "the JSON ends early, expected one of %s", wanted);
        return bad_json(s, what);
    }
    unsigned char c = (unsigned char)*s->p;
    if (c && strchr(wanted, c)) {
        s->p++;
        return c;
    }
    snprintf(what, sizeof what, "invalid JSON, expected one of %s, got byte 0x%02x%s", wanted, c,
             c >= 0x80 ? " (not UTF-8 text?)" : "");
    return bad_json(s, what);
}

static json_t *value(struct scan *s) {
    json_error_t je;
    json_t *v = json_loadb(s->p, (size_t)(s->end - s->p),
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &je);
    if (v) {
        s->p += je.position;
        return v;
    }
    char what[sizeof je.text + 64];
    bool big = json_error_code(&je) == json_error_numeric_overflow;
    snprintf(what, sizeof what, "invalid JSON: %s%s", je.text,
             big ? " (overflow: sizes end at 2^63 - 1)" : "");
    s->p += MAX(je.position, 0);
    bad_json(s, what);
    return NULL;
}

static int depth_of(const json_t *v) {
    int deepest = 0, d;
    size_t i;
    const char *key;
    json_t *child;
    if (!json_is_array(v) && !json_is_object(v))
        return 0;
    json_array_foreach((json_t *)v, i, child)
        if ((d = depth_of(child)) > deepest)
            deepest = d;
    json_object_foreach((json_t *)v, key, child)
        if ((d = depth_of(child)) > deepest)
            deepest = d;
    return deepest + 1;
}

/* ---- one entry ---- */

static int bad_entry(const struct scan *s, const char *name, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static int bad_entry(const struct scan *s, const char *name, const char *fmt, ...) {
    char what[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(s->e, "%s: tensor \"%.96s\": %s", s->st->path, name, what);
}

/* Non-negative integers of a JSON array into out[max]; their number, or -1. */
static int sizes_of(const json_t *a, int64_t *out, size_t max) {
    if (!json_is_array(a) || json_array_size(a) > max)
        return -1;
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)a, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return -1;
        out[i] = json_integer_value(v);
    }
    return (int)json_array_size(a);
}

static int parse_dtype(struct scan *s, const char *name, const json_t *v, struct st_entry *en) {
    const char *text = json_string_value(v);
    int d = text ? dtype_find(text) : -1;
    if (d >= 0) {
        en->dtype = (enum dtype)d;
        return 0;
    }
    struct str list = {0};
    for (int i = 0; i < DTYPE_COUNT; i++)
        str_addf(&list, " %s", dtype_table[i].name);
    bad_entry(s, name, "dtype: expected one of%s, got %s%.40s%s", list.s, text ? "\"" : "",
              text ? text : "something that is no string", text ? "\"" : "");
    str_release(&list);
    return -1;
}

static int parse_shape(struct scan *s, const char *name, const json_t *v, struct st_entry *en) {
    if (json_is_array(v) && json_array_size(v) > TENSOR_MAX_DIM)
        return bad_entry(s, name, "shape: expected at most %d dimensions, got %zu", TENSOR_MAX_DIM,
                         json_array_size(v));
    en->ndim = sizes_of(v, en->shape, TENSOR_MAX_DIM);
    if (en->ndim < 0)
        return bad_entry(s, name, "shape: expected a list of non-negative integers");
    en->count = 1;
    for (int i = 0; i < en->ndim; i++)
        if (!mul_size(en->count, (size_t)en->shape[i], &en->count))
            return bad_entry(s, name, "shape: the number of elements overflows 64 bits");
    return 0;
}

static int parse_offsets(struct scan *s, const char *name, const json_t *v, struct st_entry *en) {
    int64_t range[2];
    if (sizes_of(v, range, 2) != 2)
        return bad_entry(s, name, "data_offsets: expected two non-negative integers");
    if (range[1] < range[0])
        return bad_entry(s, name, "data_offsets: [%lld,%lld] ends before it begins",
                         (long long)range[0], (long long)range[1]);
    en->begin = (size_t)range[0];
    en->bytes = (size_t)(range[1] - range[0]);
    return 0;
}

/* The keys of an entry; every other key is ignored, as the format asks. */
static const struct {
    const char *key;
    int (*parse)(struct scan *s, const char *name, const json_t *v, struct st_entry *en);
} fields[] = {
    {"dtype", parse_dtype}, {"shape", parse_shape}, {"data_offsets", parse_offsets},
};

static int add_entry(struct scan *s, const char *name, const json_t *v) {
    struct st *st = s->st;
    struct st_entry en = {0};
    if (!json_is_object(v))
        return bad_entry(s, name, "expected an object with dtype, shape and data_offsets");
    if (depth_of(v) + 1 > DEPTH_MAX)
        return bad_entry(s, name, "the JSON nests deeper than %d", DEPTH_MAX);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const json_t *f = json_object_get(v, fields[i].key);
        if (!f)
            return bad_entry(s, name, "%s is missing", fields[i].key);
        if (fields[i].parse(s, name, f, &en) != 0)
            return -1;
    }
    if (st->n == st->cap) {
        st->cap = MAX(64, st->cap * 2);
        st->entries = xreallocarray(st->entries, (size_t)st->cap, sizeof *st->entries);
    }
    en.name = xstrdup(name);
    st->entries[st->n++] = en;
    return 0;
}

static int add_meta(struct scan *s, const json_t *v) {
    struct st *st = s->st;
    if (s->meta_seen)
        return bad_entry(s, "__metadata__", "is given twice");
    s->meta_seen = true;
    if (json_is_null(v))
        return 0;
    if (!json_is_object(v))
        return bad_entry(s, "__metadata__", "expected an object of strings");
    st->meta = xcalloc(json_object_size(v), sizeof *st->meta);
    const char *key;
    json_t *text;
    json_object_foreach((json_t *)v, key, text) {
        if (!json_is_string(text))
            return bad_entry(s, "__metadata__", "\"%.96s\": expected a string", key);
        st->meta[st->nmeta++] =
            (struct meta){.key = xstrdup(key), .value = xstrdup(json_string_value(text))};
    }
    return 0;
}

static int parse_header(struct scan *s) {
    if (take(s, "{") < 0)
        return -1;
    skip_blanks(s);
    bool empty = s->p < s->end && *s->p == '}';
    for (int c = empty ? take(s, "}") : ','; c != '}'; ) {
        if (take(s, "\"") < 0)
            return -1;
        s->p--;
        json_t *name = value(s), *v = NULL;
        int rc = -1;
        if (name && take(s, ":") >= 0 && (v = value(s)))
            rc = strcmp(json_string_value(name), "__metadata__") == 0
                     ? add_meta(s, v) : add_entry(s, json_string_value(name), v);
        json_decref(name);
        json_decref(v);
        if (rc != 0 || (c = take(s, ",}")) < 0)
            return -1;
    }
    skip_blanks(s);
    return s->p == s->end ? 0 : bad_json(s, "expected blanks only after the JSON object");
}

/* ---- the whole against the file ---- */

static int cmp_name(const void *a, const void *b) {
    return strcmp((*(const struct st_entry *const *)a)->name,
                  (*(const struct st_entry *const *)b)->name);
}

static int cmp_range(const void *a, const void *b) {
    const struct st_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int index_names(struct scan *s) {
    struct st *st = s->st;
    st->by_name = xcalloc((size_t)st->n, sizeof *st->by_name);
    if (st->n == 0)
        return 0;                           // no array to sort
    qsort(st->entries, (size_t)st->n, sizeof *st->entries, cmp_range);
    for (int i = 0; i < st->n; i++)
        st->by_name[i] = &st->entries[i];
    qsort(st->by_name, (size_t)st->n, sizeof *st->by_name, cmp_name);
    for (int i = 1; i < st->n; i++)
        if (strcmp(st->by_name[i - 1]->name, st->by_name[i]->name) == 0)
            return bad_entry(s, st->by_name[i]->name, "the name is there twice");
    return 0;
}

static int check_layout(struct scan *s) {
    const struct st *st = s->st;
    size_t at = 0;
    for (int i = 0; i < st->n; i++) {
        const struct st_entry *en = &st->entries[i];
        const struct dtype_info *d = &dtype_table[en->dtype];
        size_t bits;
        if (en->begin != at)
            return bad_entry(s, en->name, "data begins at byte %zu, expected %zu: the ranges %s",
                             en->begin, at, en->begin > at ? "leave a hole" : "overlap");
        at += en->bytes;                    // cannot wrap: both ends fit 63 bits
        if (!mul_size(en->count, (size_t)d->bits, &bits))
            return bad_entry(s, en->name, "shape x %s overflows 64 bits", d->name);
        if (bits % 8)
            return bad_entry(s, en->name, "misaligned: %zu elements of %s (%d bits) end inside a"
                             " byte", en->count, d->name, d->bits);
        if (bits / 8 != en->bytes)
            return bad_entry(s, en->name, "data_offsets span %zu bytes, expected %zu for %zu"
                             " elements of %s", en->bytes, bits / 8, en->count, d->name);
    }
    size_t have = st->size - st->data_off;
    if (at != have)
        return err_set(s->e, "%s: the tensors take %zu bytes of data, the file holds %zu (%s)",
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
        bool lfs = st->size > 20 && memcmp(st->map, "version https://git-", 20) == 0;
        err_set(e, "%s: header too large: %llu bytes, expected at most %u%s", path,
                (unsigned long long)n, ST_HEADER_MAX,
                lfs ? " (hint: this is a Git LFS pointer, run: git lfs pull)" : "");
        goto fail;
    }
    if (n > st->size - 8) {
        err_set(e, "%s: invalid header length: %llu bytes, the file has %zu after the length", path,
                (unsigned long long)n, st->size - 8);
        goto fail;
    }
    st->data_off = 8 + (size_t)n;
    const char *json = (const char *)st->map + 8;
    struct scan s = {.st = st, .start = json, .p = json, .end = json + n, .e = e};
    if (parse_header(&s) != 0 || index_names(&s) != 0 || check_layout(&s) != 0)
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
    dtype_read(en->dtype, st_data(st, en), dst, en->count);
}

const char *st_meta(const struct st *st, const char *key) {
    for (int i = 0; i < st->nmeta; i++)
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

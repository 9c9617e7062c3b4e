/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gguf.c — the GGUF container.
 *
 * Metadata is serialised as it is set: it is small beside the weights, and the file's order is the
 * order of the calls. Tensors are kept as descriptions; their bytes exist only in a buffer of some
 * rows on the way out. A value that turns infinite in F16 is an error, not a rounding: the model
 * would give NaN.
 */
#include "ckpt/gguf.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GGUF_VERSION = 3, GGUF_ALIGNMENT = 32, GGUF_MAX_DIM = 4, GGUF_MAX_NAME = 63 };
enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_TEXT = 8, GGUF_LIST = 9 };

/* ggml's types that Keel writes. A number of `limit`, half a step above the largest, or more rounds
 * to infinity. */
static const struct ggml_type {
    enum dtype dtype;
    uint32_t number;
    double limit;
} ggml_types[] = {
    {DTYPE_F32, 0, HUGE_VAL}, {DTYPE_F16, 1, 65520}, {DTYPE_BF16, 30, 0x1.ffp127},
};

struct tensor_info {
    char name[GGUF_MAX_NAME + 1];
    const struct ggml_type *type;
    int ndim;
    int64_t shape[GGUF_MAX_DIM], rows, cols;
    size_t bytes, offset;                   /* in the data section */
    gguf_rows fill;
    const void *ctx;
};

struct gguf {
    struct str pairs;
    uint64_t npairs;
    char **keys;                            /* [npairs], against repetition */
    struct tensor_info *tensors;
    int n, cap;
    size_t data;                            /* bytes, a multiple of the alignment */
};

struct gguf *gguf_new(void) {
    return xcalloc(1, sizeof(struct gguf));
}

void gguf_free(struct gguf *g) {
    if (!g)
        return;
    for (uint64_t i = 0; i < g->npairs; i++)
        free(g->keys[i]);
    free(g->keys);
    free(g->tensors);
    str_release(&g->pairs);
    free(g);
}

static size_t aligned(size_t n) {
    return (n + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
}

/* ---- bytes ---- */

static void put(struct str *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++)
        str_addc(b, (char)(v >> (8 * i) & 255));
}

static void put_text(struct str *b, const char *s) {
    const size_t n = strlen(s);
    put(b, n, 8);
    str_addn(b, s, n);
}

static void put_f32(struct str *b, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put(b, bits, 4);
}

/* ---- metadata ---- */

static struct str *pair(struct gguf *g, const char *key, uint32_t type) {
    for (uint64_t i = 0; i < g->npairs; i++)
        if (strcmp(g->keys[i], key) == 0)
            BUG("gguf: %s is set twice", key);
    g->keys = xreallocarray(g->keys, g->npairs + 1, sizeof *g->keys);
    g->keys[g->npairs++] = xstrdup(key);
    put_text(&g->pairs, key);
    put(&g->pairs, type, 4);
    return &g->pairs;
}

static struct str *list(struct gguf *g, const char *key, uint32_t type, size_t n) {
    struct str *b = pair(g, key, GGUF_LIST);
    put(b, type, 4);
    put(b, n, 8);
    return b;
}

void gguf_set_text(struct gguf *g, const char *key, const char *value) {
    put_text(pair(g, key, GGUF_TEXT), value);
}

void gguf_set_u32(struct gguf *g, const char *key, uint32_t value) {
    put(pair(g, key, GGUF_U32), value, 4);
}

void gguf_set_f32(struct gguf *g, const char *key, double value) {
    put_f32(pair(g, key, GGUF_F32), (float)value);
}

void gguf_set_bool(struct gguf *g, const char *key, bool value) {
    put(pair(g, key, GGUF_BOOL), value, 1);
}

void gguf_set_texts(struct gguf *g, const char *key, const char *const *values, size_t n) {
    struct str *b = list(g, key, GGUF_TEXT, n);
    for (size_t i = 0; i < n; i++)
        put_text(b, values[i]);
}

void gguf_set_i32s(struct gguf *g, const char *key, const int32_t *values, size_t n) {
    struct str *b = list(g, key, GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        put(b, (uint32_t)values[i], 4);
}

void gguf_set_f32s(struct gguf *g, const char *key, const float *values, size_t n) {
    struct str *b = list(g, key, GGUF_F32, n);
    for (size_t i = 0; i < n; i++)
        put_f32(b, values[i]);
}

void gguf_set_bools(struct gguf *g, const char *key, const bool *values, size_t n) {
    struct str *b = list(g, key, GGUF_BOOL, n);
    for (size_t i = 0; i < n; i++)
        put(b, values[i], 1);
}

/* ---- tensors ---- */

void gguf_add_tensor(struct gguf *g, const char *name, enum dtype dtype, int ndim,
                     const int64_t *shape, gguf_rows rows, const void *ctx) {
    const struct ggml_type *type = ggml_types;
    while (type < ggml_types + ARRAY_LEN(ggml_types) && type->dtype != dtype)
        type++;
    if (type == ggml_types + ARRAY_LEN(ggml_types))
        BUG("gguf_add_tensor: %s: no type for %s", name, dtype_table[dtype].name);
    if (ndim < 1 || ndim > GGUF_MAX_DIM || strlen(name) > GGUF_MAX_NAME)
        BUG("gguf_add_tensor: %s has %d dimensions, or too long a name", name, ndim);
    for (int i = 0; i < g->n; i++)
        if (strcmp(g->tensors[i].name, name) == 0)
            BUG("gguf_add_tensor: %s is added twice", name);
    struct tensor_info t = {.type = type, .ndim = ndim, .rows = 1, .cols = shape[ndim - 1],
                            .offset = g->data, .fill = rows, .ctx = ctx};
    snprintf(t.name, sizeof t.name, "%s", name);
    for (int i = 0; i < ndim; i++)
        t.shape[i] = shape[i];
    for (int i = 0; i + 1 < ndim; i++)
        t.rows *= shape[i];
    size_t count;
    if (t.rows < 1 || t.cols < 1 || !mul_size((size_t)t.rows, (size_t)t.cols, &count)
        || !mul_size(count, (size_t)dtype_table[dtype].bits / 8, &t.bytes))
        BUG("gguf_add_tensor: %s: bad shape", name);
    if (g->n == g->cap) {
        g->cap = MAX(64, g->cap * 2);
        g->tensors = xreallocarray(g->tensors, (size_t)g->cap, sizeof *g->tensors);
    }
    g->tensors[g->n++] = t;
    g->data += aligned(t.bytes);
}

int gguf_tensor_count(const struct gguf *g) {
    return g->n;
}

size_t gguf_data_bytes(const struct gguf *g) {
    return g->data;
}

/* ---- the file ---- */

/* Everything before the data, padded. */
static struct str head(const struct gguf *g) {
    struct str b = {0};
    str_add(&b, "GGUF");
    put(&b, GGUF_VERSION, 4);
    put(&b, (uint64_t)g->n, 8);
    put(&b, g->npairs, 8);
    if (g->pairs.len)
        str_addn(&b, g->pairs.s, g->pairs.len);
    for (int i = 0; i < g->n; i++) {
        const struct tensor_info *t = &g->tensors[i];
        put_text(&b, t->name);
        put(&b, (uint32_t)t->ndim, 4);
        for (int d = t->ndim - 1; d >= 0; d--)
            put(&b, (uint64_t)t->shape[d], 8);
        put(&b, t->type->number, 4);
        put(&b, t->offset, 8);
    }
    while (b.len % GGUF_ALIGNMENT)
        str_addc(&b, '\0');
    return b;
}

static int check_range(const struct tensor_info *t, const real *v, size_t n, struct err *e) {
    for (size_t i = 0; t->type->limit < HUGE_VAL && i < n; i++)
        if (isfinite(v[i]) && fabs((double)v[i]) >= t->type->limit)
            return err_set(e, "%s: %g does not fit %s", t->name, (double)v[i],
                           dtype_table[t->type->dtype].name);
    return 0;
}

/* -1 with e->msg unset: errno says why. */
static int write_tensor(const struct tensor_info *t, FILE *f, struct err *e) {
    enum { CHUNK = 1 << 18 };               // values at a time
    static const char zeros[GGUF_ALIGNMENT];
    const int64_t step = MAX(1, CHUNK / t->cols);
    const size_t width = (size_t)dtype_table[t->type->dtype].bits / 8;
    const size_t room = (size_t)MIN(step, t->rows) * (size_t)t->cols;
    real *values = xcalloc(room, sizeof *values);
    char *bytes = xcalloc(room, width);
    int rc = 0;
    for (int64_t r = 0; rc == 0 && r < t->rows; r += step) {
        const int64_t n = MIN(step, t->rows - r);
        const size_t count = (size_t)n * (size_t)t->cols;
        t->fill(t->ctx, r, n, values);
        rc = check_range(t, values, count, e);
        dtype_write(t->type->dtype, values, bytes, count);
        if (rc == 0 && fwrite(bytes, width, count, f) != count)
            rc = -1;
    }
    const size_t padding = aligned(t->bytes) - t->bytes;
    if (rc == 0 && fwrite(zeros, 1, padding, f) != padding)
        rc = -1;
    free(values);
    free(bytes);
    return rc;
}

int gguf_save(const struct gguf *g, const char *path, struct err *e) {
    char *tmp = xasprintf("%s.tmp", path), *dir = path_dirname(path);
    struct str b = head(g);
    struct err why = {0};
    int rc = -2;
    FILE *f = fopen(tmp, "wb");
    if (!f) {
        err_set(e, "%s: cannot create: %s", path, strerror(errno));
        goto out;
    }
    rc = fwrite(b.s, 1, b.len, f) == b.len ? 0 : -1;
    for (int i = 0; rc == 0 && i < g->n; i++)
        rc = write_tensor(&g->tensors[i], f, &why);
    if (rc == 0 && (fflush(f) != 0 || fsync(fileno(f)) != 0))
        rc = -1;
    int saved = errno;
    if (fclose(f) != 0 && rc == 0) {
        rc = -1;
        saved = errno;
    }
    if (rc == 0 && rename(tmp, path) != 0) {
        rc = -1;
        saved = errno;
    }
    if (rc == 0) {
        rc = dir_sync(dir, e) == 0 ? 0 : -2;
        goto out;
    }
    rc = why.msg[0] ? -1 : -2;
    err_set(e, "%s: cannot write: %s", path, why.msg[0] ? why.msg : strerror(saved));
    unlink(tmp);
out:
    str_release(&b);
    free(tmp);
    free(dir);
    return rc;
}

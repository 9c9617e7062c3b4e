/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_value.c — memory of a rendering, growing text, and the making of values.
 *
 * A pool hands out pieces of larger chunks and is freed whole: a failure anywhere just returns.
 * Small values are not counted one by one; interp_charge looks at the pool at every step, and
 * whatever may be large asks interp_room before. Under AddressSanitizer each piece is a chunk of
 * its own, so that an overrun is seen.
 */
#include "model/jinja_type.h"

#include <string.h>

#include "model/jinja_text.h"

/* ---- memory ---- */
struct pool_chunk {
    struct pool_chunk *before;
    size_t used, cap;
    max_align_t data[];
};

#ifdef __SANITIZE_ADDRESS__
static const size_t chunk_size = 0;
#else
static const size_t chunk_size = 16384;
#endif

void *pool_alloc(struct pool *p, size_t n) {
    n = (MAX(n, 1) + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct pool_chunk *c = p->last;
    if (!c || c->cap - c->used < n) {
        size_t cap = MAX(n, MIN(MAX(p->bytes / 4, chunk_size), chunk_size * 64));
        c = xcalloc(1, sizeof *c + cap);
        c->cap = cap;
        c->before = p->last;
        p->last = c;
        p->bytes += sizeof *c + cap;
    }
    char *at = (char *)c->data + c->used;
    c->used += n;
    return at;
}

void *pool_grow(struct pool *p, void *old, size_t was, size_t n) {
    void *q = pool_alloc(p, n);
    if (was)
        memcpy(q, old, was);
    return q;
}

void pool_release(struct pool *p) {
    while (p->last) {
        struct pool_chunk *c = p->last;
        p->last = c->before;
        free(c);
    }
    p->bytes = 0;
}

/* ---- growing text ---- */
static bool text_room(struct text *t, size_t n) {
    if (t->over)
        return false;
    if (n <= t->cap - t->len)
        return true;
    size_t need = n > SIZE_MAX / 4 ? SIZE_MAX : MAX(MAX(t->len + n, 2 * t->cap), 64);
    if (!interp_room(t->x, need)) {
        t->over = true;
        return false;
    }
    t->s = pool_grow(t->x->pool, t->s, t->len, need);
    t->cap = need;
    return true;
}

void text_add(struct text *t, const char *s, size_t n) {
    if (!n || !text_room(t, n))
        return;
    memcpy(t->s + t->len, s, n);
    t->len += n;
}

void text_puts(struct text *t, const char *s) {
    text_add(t, s, strlen(s));
}

void text_fill(struct text *t, const char *s, size_t n, size_t times) {
    size_t all;
    if (!mul_size(n, times, &all))
        all = SIZE_MAX / 2;
    if (!all || !text_room(t, all))
        return;
    for (size_t i = 0; i < times; i++)
        memcpy(t->s + t->len + i * n, s, n);
    t->len += all;
}

void text_char(struct text *t, int32_t c) {
    char b[4];
    text_add(t, b, utf8_put(c, b));
}

void text_printf(struct text *t, const char *fmt, ...) {
    char b[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(b, sizeof b, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof b)
        BUG("text_printf(%s): %d bytes", fmt, n);
    text_add(t, b, (size_t)n);
}

struct value *text_value(struct text *t) {
    if (t->over || !interp_charge(t->x, t->len / 64))
        return NULL;
    return value_str(t->x->pool, t->s ? t->s : "", t->len);
}

bool values_add(struct values *l, struct value *v) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 8;
        if (!interp_room(l->x, cap * sizeof *l->v))
            return false;
        l->v = pool_grow(l->x->pool, l->v, l->n * sizeof *l->v, cap * sizeof *l->v);
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return true;
}

/* ---- making values ---- */
struct value value_none = {.type = &type_none};
struct value value_true = {.type = &type_bool, .i = 1};
struct value value_false = {.type = &type_bool, .i = 0};

static struct value *new_value(struct pool *p, const struct type *t) {
    struct value *v = pool_alloc(p, sizeof *v);
    v->type = t;
    return v;
}

struct value *value_int(struct pool *p, int64_t i) {
    struct value *v = new_value(p, &type_int);
    v->i = i;
    return v;
}

struct value *value_float(struct pool *p, double f) {
    struct value *v = new_value(p, &type_float);
    v->f = f;
    return v;
}

struct value *value_str(struct pool *p, const char *s, size_t len) {
    struct value *v = new_value(p, &type_str);
    v->str.s = s;
    v->str.len = len;
    v->str.count = utf8_count(s, len);
    return v;
}

struct value *value_cstr(struct pool *p, const char *s) {
    return value_str(p, s, strlen(s));
}

struct value *value_copy_str(struct interp *x, const char *s, size_t len) {
    struct text t = {.x = x};
    text_add(&t, s, len);
    return text_value(&t);
}

struct value *value_seq(struct pool *p, const struct type *t, struct value **v, size_t n) {
    struct value *seq = new_value(p, t);
    seq->seq.v = v;
    seq->seq.n = n;
    return seq;
}

struct value *value_pair(struct pool *p, struct value *a, struct value *b) {
    struct value **v = pool_alloc(p, 2 * sizeof *v);
    v[0] = a;
    v[1] = b;
    return value_seq(p, &type_tuple, v, 2);
}

struct value *value_of_dict(struct pool *p, const struct type *t, struct dict *d) {
    struct value *v = new_value(p, t);
    v->dict = d;
    return v;
}

struct value *value_of_iter(struct interp *x, struct iter *it) {
    if (!it)
        return NULL;
    struct value *v = new_value(x->pool, &type_iter);
    v->iter = it;
    return v;
}

struct value *value_undefined(struct interp *x, const char *hint, struct value *obj,
                              struct value *name) {
    struct value *v = new_value(x->pool, &type_undefined);
    v->undefined = pool_alloc(x->pool, sizeof *v->undefined);
    *v->undefined = (struct undefined){.hint = hint, .obj = obj, .name = name};
    return v;
}

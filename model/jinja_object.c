/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_object.c — what can be asked of any value: truth, length, attributes, items, slices.
 *
 * x.name looks for an attribute first and an item second, x["name"] the other way round; what is
 * neither is undefined, with a note of what it was missing from. The sandbox: names with an
 * underscore in front, and methods that would change a list or a dict, are undefined too, and fail
 * when used.
 */
#include "model/jinja_type.h"

#include <string.h>

#include "model/jinja_text.h"

int value_truth(struct interp *x, struct value *v) {
    if (v->type->truth)
        return v->type->truth(v);
    if (!v->type->walk || !v->type->walk->len)
        return 1;
    size_t n;
    return v->type->walk->len(x, v, &n) ? n > 0 : -1;
}

bool value_len(struct interp *x, struct value *v, size_t *n) {
    if (!v->type->walk || !v->type->walk->len)
        return interp_fail(x, "object of type '%s' has no len()", v->type->name);
    return v->type->walk->len(x, v, n);
}

static const char *describe(struct interp *x, const struct value *v) {
    struct text t = {.x = x};
    if (is_none(v))
        return "None";
    text_printf(&t, "%s object", v->type->name);
    text_add(&t, "", 1);
    return t.s ? t.s : "object";
}

struct value *fail_undefined(struct interp *x, const struct value *v) {
    const struct undefined *u = v->undefined;
    if (u->hint)
        return interp_fail(x, "%s", u->hint);
    struct text name = {.x = x};
    if (!u->name || !value_print(&name, u->name, true))
        return interp_fail(x, "an undefined value was used");
    if (!u->obj)
        return interp_fail(x, "%.*s is undefined", (int)MIN(name.len, 300), name.s);
    if (!is_str(u->name))
        return interp_fail(x, "%s has no element %.*s", describe(x, u->obj),
                           (int)MIN(name.len, 300), name.s);
    return interp_fail(x, "'%s' has no attribute %.*s", describe(x, u->obj),
                       (int)MIN(name.len, 300), name.s);
}

static struct value *unsafe(struct interp *x, struct value *v, const char *name) {
    struct text t = {.x = x};
    text_printf(&t, "access to attribute '%.200s' of '%s' object is unsafe.", name,
                v->type->name);
    text_add(&t, "", 1);
    return t.over ? NULL : value_undefined(x, t.s, v, value_cstr(x->pool, name));
}

int value_attr(struct interp *x, struct value *v, const char *name, struct value **out) {
    int rc = v->type->attr ? v->type->attr(x, v, name, out) : 0;
    if (rc == 1 && name[0] == '_')
        *out = unsafe(x, v, name);
    if (rc)
        return *out ? rc : -1;
    const struct function *f = function_find(v->type->attrs, name, strlen(name));
    if (!f)
        return 0;
    if (f->flags & FN_UNSAFE) {
        *out = unsafe(x, v, name);
    } else if (!f->run) {
        *out = interp_fail(x, "%s.%s is not supported", v->type->name, name);
    } else if (f->flags & FN_PROPERTY) {
        *out = f->run(x, v, NULL);
    } else {
        struct value *m = pool_alloc(x->pool, sizeof *m);
        *m = (struct value){.type = &type_function, .bound = {.fn = f, .self = v}};
        *out = m;
    }
    return *out ? 1 : -1;
}

static int value_item(struct interp *x, struct value *v, struct value *key, struct value **out) {
    return v->type->item ? v->type->item(x, v, key, out) : 0;
}

struct value *value_getattr(struct interp *x, struct value *v, const char *name) {
    struct value *out = NULL;
    int rc = value_attr(x, v, name, &out);
    if (rc)
        return rc < 0 ? NULL : out;
    struct value *key = value_cstr(x->pool, name);
    rc = value_item(x, v, key, &out);
    if (rc)
        return rc < 0 ? NULL : out;
    return strncmp(name, "__", 2) == 0 ? unsafe(x, v, name) : value_undefined(x, NULL, v, key);
}

struct value *value_getitem(struct interp *x, struct value *v, struct value *key) {
    struct value *out = NULL;
    int rc = value_item(x, v, key, &out);
    if (rc)
        return rc < 0 ? NULL : out;
    if (is_str(key) && !memchr(key->str.s, '\0', key->str.len)) {
        char *name = pool_grow(x->pool, (void *)key->str.s, key->str.len, key->str.len + 1);
        rc = value_attr(x, v, name, &out);
        if (rc)
            return rc < 0 ? NULL : out;
        if (strncmp(name, "__", 2) == 0)
            return unsafe(x, v, name);
    }
    return value_undefined(x, NULL, v, key);
}

/* ---- slices ---- */
struct cut {
    int64_t start, stop, step;
    size_t n;
};

static bool bound(struct interp *x, struct value *v, int64_t len, int64_t low, int64_t high,
                  int64_t def, int64_t *out) {
    if (!v || is_none(v)) {
        *out = def;
        return true;
    }
    if (!is_integral(v))
        return interp_fail(x, "slice indices must be integers or None or have an __index__ "
                              "method, not %s", v->type->name);
    int64_t i = v->i < 0 ? v->i + len : v->i;
    *out = MIN(MAX(i, low), high);
    return true;
}

static bool cut_of(struct interp *x, struct value *const b[3], size_t len, struct cut *c) {
    int64_t n = (int64_t)len;
    c->step = 1;
    if (b[2] && !is_none(b[2])) {
        if (!bound(x, b[2], 0, -INT64_MAX, INT64_MAX, 1, &c->step))
            return false;
        if (!c->step)
            return interp_fail(x, "slice step cannot be zero");
    }
    bool up = c->step > 0;
    int64_t low = up ? 0 : -1, high = up ? n : n - 1;
    if (!bound(x, b[0], n, low, high, up ? 0 : n - 1, &c->start) ||
        !bound(x, b[1], n, low, high, up ? n : -1, &c->stop))
        return false;
    int64_t span = up ? c->stop - c->start : c->start - c->stop, by = up ? c->step : -c->step;
    c->n = span > 0 ? (size_t)((span - 1) / by + 1) : 0;
    return true;
}

static struct value *slice_str(struct interp *x, struct value *v, const struct cut *c) {
    const char *s = v->str.s;
    size_t len = v->str.len;
    if (!interp_charge(x, len / 64))
        return NULL;
    if (c->step == 1) {
        const char *from = utf8_skip(s, len, (size_t)c->start);
        const char *to = utf8_skip(from, len - (size_t)(from - s), c->n);
        struct value *out = value_str(x->pool, from, (size_t)(to - from));
        out->str.markup = v->str.markup;
        return out;
    }
    /* Where each character begins. */
    if (!interp_room(x, (v->str.count + 1) * sizeof(char *)))
        return NULL;
    const char **at = pool_alloc(x->pool, (v->str.count + 1) * sizeof *at);
    at[0] = s;
    for (size_t i = 0; i < v->str.count; i++)
        at[i + 1] = utf8_skip(at[i], len - (size_t)(at[i] - s), 1);
    struct text t = {.x = x};
    for (size_t i = 0; i < c->n; i++) {
        int64_t k = c->start + (int64_t)i * c->step;
        text_add(&t, at[k], (size_t)(at[k + 1] - at[k]));
    }
    struct value *out = text_value(&t);
    if (out)
        out->str.markup = v->str.markup;
    return out;
}

struct value *value_slice(struct interp *x, struct value *v, struct value *const b[3]) {
    bool seq = v->type == &type_list || is_tuple(v);
    struct cut c = {0};
    size_t len;
    if (is_undefined(v))
        return fail_undefined(x, v);
    if (!seq && !is_str(v) && v->type != &type_range)
        return interp_fail(x, "'%s' object cannot be sliced", v->type->name);
    if (!value_len(x, v, &len) || !cut_of(x, b, len, &c))
        return NULL;
    if (is_str(v))
        return slice_str(x, v, &c);
    if (v->type == &type_range) {
        struct value *r = pool_alloc(x->pool, sizeof *r);
        int64_t start, stop, step;
        if (__builtin_mul_overflow(c.start, v->range.step, &start) ||
            __builtin_add_overflow(start, v->range.start, &start) ||
            __builtin_mul_overflow(c.stop, v->range.step, &stop) ||
            __builtin_add_overflow(stop, v->range.start, &stop) ||
            __builtin_mul_overflow(c.step, v->range.step, &step))
            return interp_fail(x, "an integer beyond 64 bits is not supported");
        *r = (struct value){.type = &type_range, .range = {start, stop, step, c.n}};
        return r;
    }
    if (!interp_room(x, c.n * sizeof(struct value *)) || !interp_charge(x, c.n / 8))
        return NULL;
    struct value **items = pool_alloc(x->pool, c.n * sizeof *items);
    for (size_t i = 0; i < c.n; i++)
        items[i] = v->seq.v[c.start + (int64_t)i * c.step];
    return value_seq(x->pool, v->type == &type_list ? &type_list : &type_tuple, items, c.n);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_json.c — the tojson filter, and the template's variables out of JSON.
 *
 * tojson is Python's json.dumps as transformers calls it: other scripts stay as they are unless
 * ensure_ascii is asked for, separators are ", " and ": ", and nothing is escaped for HTML.
 */
#include "model/jinja_type.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "model/jinja_text.h"

struct style {
    bool ascii, sorted, lines;              /* lines: indent was given */
    struct value *indent, *item, *key;      /* strings */
};

static void print_string(struct text *t, const char *s, size_t len, bool ascii) {
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    text_puts(t, "\"");
    for (const char *p = s; p < s + len && !t->over;) {
        int32_t c = utf8_get(&p);
        const char *at = c && c < 0x80 ? strchr(plain, c) : NULL;
        if (at)
            text_printf(t, "\\%c", letter[at - plain]);
        else if (c >= 0x10000 && ascii)
            text_printf(t, "\\u%04x\\u%04x", 0xD800u + ((unsigned)(c - 0x10000) >> 10),
                        0xDC00u + ((unsigned)c & 0x3FF));
        else if (c < 0x20 || (ascii && c > 0x7E))
            text_printf(t, "\\u%04x", (unsigned)c);
        else
            text_char(t, c);
    }
    text_puts(t, "\"");
}

static bool print_scalar(struct text *t, struct value *v, const struct style *st) {
    if (is_str(v))
        print_string(t, v->str.s, v->str.len, st->ascii);
    else if (is_none(v))
        text_puts(t, "null");
    else if (v->type == &type_bool)
        text_puts(t, v->i ? "true" : "false");
    else if (v->type == &type_float && !isfinite(v->f))
        text_puts(t, isnan(v->f) ? "NaN" : v->f < 0 ? "-Infinity" : "Infinity");
    else if (is_number(v))
        return value_print(t, v, false);
    else
        return interp_fail(t->x, "tojson: Object of type %s is not JSON serializable",
                           v->type->name);
    return true;
}

static void new_line(struct text *t, const struct style *st, size_t level) {
    if (!st->lines)
        return;
    text_puts(t, "\n");
    text_fill(t, st->indent->str.s, st->indent->str.len, level);
}

static bool print_value(struct text *t, struct value *v, const struct style *st, size_t level);

static bool print_list(struct text *t, struct value *v, const struct style *st, size_t level) {
    for (size_t i = 0; i < v->seq.n; i++) {
        if (i)
            text_add(t, st->item->str.s, st->item->str.len);
        new_line(t, st, level + 1);
        if (!print_value(t, v->seq.v[i], st, level + 1))
            return false;
    }
    return true;
}

/* A key is a string, or a scalar that becomes one. */
static bool print_key(struct text *t, struct value *key, const struct style *st) {
    if (is_str(key))
        return print_scalar(t, key, st);
    if (!is_number(key) && !is_none(key))
        return interp_fail(t->x, "tojson: keys must be str, int, float, bool or None, not %s",
                           key->type->name);
    text_puts(t, "\"");
    bool ok = print_scalar(t, key, st);
    text_puts(t, "\"");
    return ok;
}

static bool print_object(struct text *t, struct value *v, const struct style *st, size_t level) {
    struct interp *x = t->x;
    size_t n = v->dict->n;
    struct value **keys = pool_alloc(x->pool, n * sizeof *keys);
    for (size_t i = 0; i < n; i++)
        keys[i] = v->dict->entry[i].key;
    if (st->sorted && !values_sort(x, keys, NULL, n, false))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct value *item;
        if (i)
            text_add(t, st->item->str.s, st->item->str.len);
        new_line(t, st, level + 1);
        if (!print_key(t, keys[i], st))
            return false;
        text_add(t, st->key->str.s, st->key->str.len);
        if (dict_find(x, v->dict, keys[i], &item) != 1 || !print_value(t, item, st, level + 1))
            return false;
    }
    return true;
}

static bool print_value(struct text *t, struct value *v, const struct style *st, size_t level) {
    bool list = v->type == &type_list || is_tuple(v);
    if (!list && v->type != &type_dict)
        return interp_charge(t->x, 1) && print_scalar(t, v, st);
    if (!interp_charge(t->x, 1) || !interp_enter(t->x))
        return false;
    size_t n = list ? v->seq.n : v->dict->n;
    text_puts(t, list ? "[" : "{");
    bool ok = list ? print_list(t, v, st, level) : print_object(t, v, st, level);
    if (n)
        new_line(t, st, level);
    text_puts(t, list ? "]" : "}");
    interp_leave(t->x);
    return ok && !t->over;
}

static bool read_indent(struct interp *x, struct value *v, struct style *st) {
    int64_t width;
    if (!v || is_none(v))
        return true;
    st->lines = true;
    st->item = value_cstr(x->pool, ",");
    if (is_str(v)) {
        st->indent = v;
        return true;
    }
    if (!want_int(x, v, "tojson: indent", 0, &width))
        return false;
    struct text t = {.x = x};
    text_fill(&t, " ", 1, width > 0 ? (size_t)width : 0);
    st->indent = text_value(&t);
    return st->indent != NULL;
}

static bool read_separators(struct interp *x, struct value *v, struct style *st) {
    if (!v || is_none(v))
        return true;
    struct values l = {.x = x};
    if (!values_from(&l, v))
        return false;
    if (l.n != 2 || !is_str(l.v[0]) || !is_str(l.v[1]))
        return interp_fail(x, "tojson: separators: expected two strings, got %zu values", l.n);
    st->item = l.v[0];
    st->key = l.v[1];
    return true;
}

struct value *value_to_json(struct interp *x, struct value *v, struct value *const options[4]) {
    struct style st = {.item = value_cstr(x->pool, ", "), .key = value_cstr(x->pool, ": "),
                       .indent = value_cstr(x->pool, "")};
    int ascii = options[0] ? value_truth(x, options[0]) : 0;
    int sorted = options[3] ? value_truth(x, options[3]) : 0;
    if (ascii < 0 || sorted < 0 || !read_indent(x, options[1], &st) ||
        !read_separators(x, options[2], &st))
        return NULL;
    st.ascii = ascii;
    st.sorted = sorted;
    struct text t = {.x = x};
    return print_value(&t, v, &st, 0) ? text_value(&t) : NULL;
}

/* ---- variables out of JSON ---- */
static struct value *from_array(struct interp *x, const json_t *j) {
    size_t n = json_array_size(j);
    if (!interp_room(x, n * sizeof(struct value *)))
        return NULL;
    struct value **v = pool_alloc(x->pool, n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        if (!(v[i] = value_from_json(x, json_array_get(j, i))))
            return NULL;
    return value_seq(x->pool, &type_list, v, n);
}

static struct value *from_object(struct interp *x, const json_t *j) {
    struct dict *d = dict_new(x);
    const char *name;
    json_t *item;
    json_object_foreach((json_t *)j, name, item) {
        struct value *key = value_copy_str(x, name, strlen(name));
        struct value *v = value_from_json(x, item);
        if (!key || !v || !dict_set(x, d, key, v))
            return NULL;
    }
    return value_of_dict(x->pool, &type_dict, d);
}

struct value *value_from_json(struct interp *x, const json_t *j) {
    switch (json_typeof(j)) {
    case JSON_NULL:
        return &value_none;
    case JSON_TRUE:
    case JSON_FALSE:
        return value_bool(json_is_true(j));
    case JSON_INTEGER:
        return value_int(x->pool, json_integer_value(j));
    case JSON_REAL:
        return value_float(x->pool, json_real_value(j));
    case JSON_STRING:
        if (utf8_valid_prefix(json_string_value(j), json_string_length(j)) <
            json_string_length(j))
            return interp_fail(x, "a variable is not valid UTF-8");
        return value_copy_str(x, json_string_value(j), json_string_length(j));
    default:
        break;
    }
    if (!interp_enter(x))
        return NULL;
    struct value *v = json_is_array(j) ? from_array(x, j) : from_object(x, j);
    interp_leave(x);
    return v;
}

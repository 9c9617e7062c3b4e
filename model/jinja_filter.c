/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_filter.c — filters of one value: text, numbers, JSON. Those of sequences are in
 * jinja_sequence.c.
 *
 * Jinja's filters turn what is no string into one first (soft_str); str and repr are Python's.
 * Escaping is off in chat templates, but a string that was escaped or called safe stays Markup,
 * and Markup escapes what is added to it.
 */
#define _GNU_SOURCE                         /* memmem, memrchr */
#include "model/jinja_type.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "model/jinja_text.h"

#define FILTER(name) \
    static struct value *do_##name(struct interp *x, struct value *self, struct value **a)

/* The method of str, on the value as a string. */
static struct value *by_method(struct interp *x, struct value *v, const char *method,
                               struct value **pos, size_t n) {
    struct value *s = value_to_str(x, v);
    struct call c = {.pos = pos, .n = n};
    return s ? function_call(x, function_find(str_attrs, method, strlen(method)), s, &c) : NULL;
}

static struct value *plain(struct interp *x, struct value *v) {
    v = value_to_str(x, v);
    return v && v->str.markup ? value_str(x->pool, v->str.s, v->str.len) : v;
}

/* ---- escaping ---- */
struct value *escape_html(struct interp *x, struct value *v) {
    struct value *s = value_to_str(x, v);
    if (!s || s->str.markup)
        return s;
    struct text t = {.x = x};
    for (size_t i = 0; i < s->str.len && !t.over; i++) {
        char c = s->str.s[i];
        const char *named = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;"
                            : c == '\'' ? "&#39;" : c == '"' ? "&#34;" : NULL;
        if (named)
            text_puts(&t, named);
        else
            text_add(&t, &c, 1);
    }
    struct value *out = text_value(&t);
    if (out)
        out->str.markup = true;
    return out;
}

FILTER(escape) {
    (void)a;
    return escape_html(x, self);
}

FILTER(forceescape) {
    (void)a;
    struct value *s = plain(x, self);
    return s ? escape_html(x, s) : NULL;
}

FILTER(safe) {
    (void)a;
    struct value *s = plain(x, self);
    if (!s)
        return NULL;
    struct value *out = value_str(x->pool, s->str.s, s->str.len);
    out->str.markup = true;
    return out;
}

/* ---- text ---- */
FILTER(string) {
    (void)a;
    return value_to_str(x, self);
}

FILTER(upper) {
    (void)a;
    return by_method(x, self, "upper", NULL, 0);
}

FILTER(lower) {
    (void)a;
    return by_method(x, self, "lower", NULL, 0);
}

FILTER(capitalize) {
    (void)a;
    return by_method(x, self, "capitalize", NULL, 0);
}

FILTER(trim) {
    return by_method(x, self, "strip", a, a[0] ? 1 : 0);
}

FILTER(center) {
    struct value *width = a[0] ? a[0] : value_int(x->pool, 80);
    return by_method(x, self, "center", &width, 1);
}

FILTER(replace) {
    struct value *s = plain(x, self), *old = plain(x, a[0]), *new = plain(x, a[1]);
    if (!s || !old || !new)
        return NULL;
    struct value *args[] = {old, new, a[2]};
    return by_method(x, s, "replace", args, a[2] && !is_none(a[2]) ? 3 : 2);
}

static bool opens_word(int32_t c) {
    return py_space(c) || (c && c < 0x80 && strchr("-({[<", c));
}

/* Every stretch between openers begins with a capital, and so would an opener. */
FILTER(title) {
    (void)a;
    struct value *s = value_to_str(x, self);
    struct text t = {.x = x};
    if (!s)
        return NULL;
    for (const char *p = s->str.s, *end = p + s->str.len; p < end && !t.over;) {
        const char *from = p, *q = p;
        bool opener = opens_word(utf8_get(&q));
        const char *second = q;
        for (p = q; q < end && opens_word(utf8_get(&q)) == opener; p = q)
            ;
        int32_t c[CASE_MAX];
        const char *at = from;
        for (int i = 0, n = py_to_upper(utf8_get(&at), c); i < n; i++)
            text_char(&t, c[i]);
        for (q = second; q < p; utf8_get(&q))
            for (int i = 0, n = py_to_lower(second, (size_t)(p - second), (size_t)(q - second), c);
                 i < n; i++)
                text_char(&t, c[i]);
    }
    return text_value(&t);
}

static struct value *indent_unit(struct interp *x, struct value *width) {
    int64_t n;
    if (width && is_str(width))
        return width;
    if (!want_int(x, width, "indent", 4, &n))
        return NULL;
    struct text t = {.x = x};
    text_fill(&t, " ", 1, n > 0 ? (size_t)n : 0);
    return text_value(&t);
}

FILTER(indent) {
    struct value *unit = indent_unit(x, a[0]), *s;
    int first = a[1] ? value_truth(x, a[1]) : 0, blank = a[2] ? value_truth(x, a[2]) : 0;
    if (!unit || first < 0 || blank < 0)
        return NULL;
    if (is_undefined(self))
        return fail_undefined(x, self);
    if (!want_str(x, self, "indent", &s))
        return NULL;
    struct text t = {.x = x};
    if (first)
        text_add(&t, unit->str.s, unit->str.len);
    size_t at = 0;
    for (bool more = true, begun = false; more && !t.over; begun = true) {
        size_t body = 0, n = at < s->str.len ? py_line(s->str.s + at, s->str.len - at, &body) : 0;
        if (begun) {
            text_puts(&t, "\n");
            if (body || blank)
                text_add(&t, unit->str.s, unit->str.len);
        }
        text_add(&t, s->str.s + at, body);
        at += n;
        /* Behind a line end comes another line, perhaps empty. Jinja appends the "\n" that ends
         * the last one, so a "\r" there is half of that end. */
        more = body < n && !(at == s->str.len && s->str.s[at - 1] == '\r');
    }
    struct value *out = text_value(&t);
    if (out)
        out->str.markup = s->str.markup;
    return out;
}

FILTER(truncate) {
    int64_t length, leeway;
    struct value *end = a[2] ? a[2] : value_cstr(x->pool, "..."), *s;
    int kill = a[1] ? value_truth(x, a[1]) : 0;
    struct value *slack = a[3] && !is_none(a[3]) ? a[3] : NULL;
    if (kill < 0 || !want_int(x, a[0], "length", 255, &length) ||
        !want_int(x, slack, "leeway", 5, &leeway) || !want_str(x, end, "end", &end))
        return NULL;
    if (length < (int64_t)end->str.count || leeway < 0)
        return interp_fail(x, "truncate: expected length >= %zu and leeway >= 0", end->str.count);
    size_t count;
    if (!value_len(x, self, &count))
        return NULL;
    if ((int64_t)count - leeway <= length)
        return self;
    if (!want_str(x, self, "truncate", &s))
        return NULL;
    size_t keep = (size_t)length - end->str.count;
    size_t n = (size_t)(utf8_skip(s->str.s, s->str.len, keep) - s->str.s);
    const char *space = kill ? NULL : memrchr(s->str.s, ' ', n);
    struct value *cut = value_str(x->pool, s->str.s, space ? (size_t)(space - s->str.s) : n);
    cut->str.markup = s->str.markup;
    return value_add(x, cut, end);
}

FILTER(wordcount) {
    (void)a;
    struct value *s = value_to_str(x, self);
    int64_t words = 0;
    if (!s || !interp_charge(x, s->str.len / 16))
        return NULL;
    bool inside = false;
    for (const char *p = s->str.s; p < s->str.s + s->str.len;) {
        int32_t c = utf8_get(&p);
        bool word = c == '_' || py_alnum(c);
        words += word && !inside;
        inside = word;
    }
    return value_int(x->pool, words);
}

FILTER(format) {
    struct value *args = a[0]->seq.n || !a[1]->dict->n ? a[0] : a[1];
    if (a[0]->seq.n && a[1]->dict->n)
        return interp_fail(x, "can't handle positional and keyword arguments at the same time");
    struct value *s = value_to_str(x, self);
    return s ? format_percent(x, s, args) : NULL;
}

/* ---- URLs ---- */
static bool quote(struct text *t, struct value *v, bool query) {
    struct value *s = value_to_str(t->x, v);
    if (!s)
        return false;
    for (size_t i = 0; i < s->str.len && !t->over; i++) {
        char c = s->str.s[i];
        bool keep = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (keep)
            text_add(t, &c, 1);
        else if (c == ' ' && query)
            text_puts(t, "+");
        else
            text_printf(t, "%%%02X", (unsigned)(uint8_t)c);
    }
    return !t->over;
}

FILTER(urlencode) {
    (void)a;
    struct text t = {.x = x};
    if (is_str(self) || !self->type->walk)
        return quote(&t, self, false) ? text_value(&t) : NULL;
    struct value *items = self->type == &type_dict
                              ? value_of_dict(x->pool, &type_items, self->dict) : self, *pair;
    struct iter *it = value_iter(x, items);
    int rc = it ? 1 : -1;
    for (bool more = false; rc == 1 && (rc = iter_next(x, it, &pair)) == 1; more = true) {
        struct values two = {.x = x};
        if (!values_from(&two, pair))
            return NULL;
        if (two.n != 2)
            return interp_fail(x, "urlencode: expected pairs, got %zu values", two.n);
        text_puts(&t, more ? "&" : "");
        if (!quote(&t, two.v[0], true))
            return NULL;
        text_puts(&t, "=");
        if (!quote(&t, two.v[1], true))
            return NULL;
    }
    return rc < 0 ? NULL : text_value(&t);
}

/* ---- numbers ---- */
FILTER(abs) {
    (void)a;
    if (is_undefined(self) || !is_number(self))
        return interp_fail(x, "bad operand type for abs(): '%s'", self->type->name);
    if (self->type == &type_float)
        return value_float(x->pool, fabs(self->f));
    return self->i < 0 ? value_neg(x, self) : value_pos(x, self);
}

/* int(float(text)), or the default. */
static struct value *int_of_text(struct interp *x, struct value *s, struct value *def,
                                 int64_t base) {
    int64_t i;
    bool overflow;
    double f;
    if (base >= 0 && base <= 36 && base != 1 &&
        parse_python_int(s->str.s, s->str.len, (int)base, &i, &overflow))
        return overflow ? interp_fail(x, "an integer beyond 64 bits is not supported")
                        : value_int(x->pool, i);
    if (parse_python_float(s->str.s, s->str.len, &f) && isfinite(f))
        return int_of_float(x, f);
    return def;
}

FILTER(int) {
    struct value *def = a[0] ? a[0] : value_int(x->pool, 0);
    int64_t base = !a[1] ? 10 : is_integral(a[1]) ? a[1]->i : -1;
    if (is_undefined(self))
        return fail_undefined(x, self);
    if (is_str(self))
        return int_of_text(x, self, def, base);
    if (self->type == &type_float)
        return isnan(self->f) ? def : int_of_float(x, self->f);
    return is_integral(self) ? value_int(x->pool, self->i) : def;
}

FILTER(float) {
    double f;
    if (is_undefined(self))
        return fail_undefined(x, self);
    if (is_number(self))
        return value_float(x->pool, number_of(self));
    if (is_str(self) && parse_python_float(self->str.s, self->str.len, &f))
        return value_float(x->pool, f);
    return a[0] ? a[0] : value_float(x->pool, 0);
}

/* floor or ceil of v * 10^precision, divided by it again. */
static struct value *round_one_way(struct interp *x, struct value *v, struct value *precision,
                                   bool up) {
    struct value *unit = value_pow(x, value_int(x->pool, 10), precision);
    struct value *scaled = unit ? value_mul(x, v, unit) : NULL;
    if (!scaled)
        return NULL;
    if (!is_number(scaled))
        return interp_fail(x, "must be real number, not %s", scaled->type->name);
    if (scaled->type == &type_float)
        scaled = int_of_float(x, up ? ceil(scaled->f) : floor(scaled->f));
    return scaled ? value_div(x, scaled, unit) : NULL;
}

FILTER(round) {
    struct value *precision = a[0] ? a[0] : value_int(x->pool, 0);
    struct value *method = a[1] ? a[1] : value_cstr(x->pool, "common");
    static const char *const names[] = {"common", "ceil", "floor"};
    size_t m = 0;
    while (m < 3 && !(is_str(method) && strlen(names[m]) == method->str.len &&
                      memcmp(names[m], method->str.s, method->str.len) == 0))
        m++;
    if (m == 3)
        return interp_fail(x, "method must be common, ceil or floor");
    if (is_undefined(self))
        return fail_undefined(x, self);
    if (m > 0)
        return round_one_way(x, self, precision, m == 1);
    int64_t digits;
    if (is_none(precision)) {               // round(v): an int
        struct value *r = round_to(x, self, 0);
        return r && r->type == &type_float ? int_of_float(x, r->f) : r;
    }
    return want_int(x, precision, "round", 0, &digits) ? round_to(x, self, digits) : NULL;
}

FILTER(filesizeformat) {
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    int two = a[0] ? value_truth(x, a[0]) : 0;
    double bytes;
    if (two < 0)
        return NULL;
    if (is_undefined(self))
        return fail_undefined(x, self);
    if (is_number(self))
        bytes = number_of(self);
    else if (!is_str(self) || !parse_python_float(self->str.s, self->str.len, &bytes))
        return interp_fail(x, "filesizeformat: expected a number");
    struct text t = {.x = x};
    double base = two ? 1024 : 1000, unit = base;
    if (bytes == 1) {
        text_puts(&t, "1 Byte");
    } else if (bytes < base) {
        struct value *n = int_of_float(x, bytes);
        if (!n)
            return NULL;
        text_printf(&t, "%" PRId64 " Bytes", n->i);
    } else {
        size_t i = 0;
        for (unit *= base; i < 7 && !(bytes < unit); i++)
            unit *= base;
        text_printf(&t, "%.1f %s", base * bytes / unit, (two ? binary : decimal)[i]);
    }
    return text_value(&t);
}

/* ---- any value ---- */
FILTER(default) {
    int use = is_undefined(self), falsy = a[1] ? value_truth(x, a[1]) : 0;
    if (!use && falsy > 0) {
        int truth = value_truth(x, self);
        falsy = truth < 0 ? -1 : !truth;
    }
    if (falsy < 0)
        return NULL;
    return use || falsy ? (a[0] ? a[0] : value_cstr(x->pool, "")) : self;
}

FILTER(attr) {
    struct value *out = NULL, *s;
    if (!want_str(x, a[0], "attr", &s))
        return NULL;
    char *name = pool_grow(x->pool, (void *)s->str.s, s->str.len, s->str.len + 1);
    int rc = value_attr(x, self, name, &out);
    return rc < 0 ? NULL : rc ? out : value_undefined(x, NULL, self, s);
}

FILTER(tojson) {
    return value_to_json(x, self, a);
}

static const struct function value_filters[] = {
    {"abs", "", do_abs, 0},
    {"attr", "name", do_attr, 0},
    {"capitalize", "", do_capitalize, 0},
    {"center", "width?", do_center, 0},
    {"d", "default_value? boolean?", do_default, 0},
    {"default", "default_value? boolean?", do_default, 0},
    {"e", "", do_escape, 0},
    {"escape", "", do_escape, 0},
    {"filesizeformat", "binary?", do_filesizeformat, 0},
    {"float", "default?", do_float, 0},
    {"forceescape", "", do_forceescape, 0},
    {"format", "* **", do_format, 0},
    {"indent", "width? first? blank?", do_indent, 0},
    {"int", "default? base?", do_int, 0},
    {"lower", "", do_lower, 0},
    {"pprint", "", NULL, 0},
    {"replace", "old new count?", do_replace, 0},
    {"round", "precision? method?", do_round, 0},
    {"safe", "", do_safe, 0},
    {"string", "", do_string, 0},
    {"striptags", "", NULL, 0},
    {"title", "", do_title, 0},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", do_tojson, 0},
    {"trim", "chars?", do_trim, 0},
    {"truncate", "length? killwords? end? leeway?", do_truncate, 0},
    {"upper", "", do_upper, 0},
    {"urlencode", "", do_urlencode, 0},
    {"urlize", "", NULL, 0},
    {"wordcount", "", do_wordcount, 0},
    {"wordwrap", "", NULL, 0},
    {"xmlattr", "", NULL, 0},
    {0},
};

const struct function *filter_find(const char *name, size_t len) {
    const struct function *f = function_find(value_filters, name, len);
    return f ? f : function_find(sequence_filters, name, len);
}

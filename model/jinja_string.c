/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_string.c — the methods of str.
 *
 * Positions count code points, as in Python; inside they are turned into byte offsets once. Results
 * that are part of a string share its bytes. A method of a Markup gives Markup, whatever it puts in
 * is escaped.
 */
#define _GNU_SOURCE                         /* memmem, memrchr */
#include "model/jinja_type.h"

#include <string.h>

#include "model/jinja_text.h"

#define METHOD(name) \
    static struct value *str_##name(struct interp *x, struct value *self, struct value **a)

/* A piece of self, sharing its bytes. */
static struct value *piece(struct interp *x, struct value *self, const char *s, size_t n) {
    struct value *v = value_str(x->pool, s, n);
    v->str.markup = self->str.markup;
    return v;
}

static struct value *finish(struct text *t, const struct value *self) {
    struct value *v = text_value(t);
    if (v)
        v->str.markup = self->str.markup;
    return v;
}

/* ---- cases ---- */
enum mapping { TO_LOWER, TO_UPPER, TO_TITLE, TO_FOLD };

static void add_mapped(struct text *t, struct value *v, const char *p, enum mapping m) {
    int32_t c[CASE_MAX];
    const char *behind = p;
    int32_t old = utf8_get(&behind);
    int n = m == TO_UPPER   ? py_to_upper(old, c)
            : m == TO_TITLE ? py_to_title(old, c)
            : m == TO_FOLD  ? py_to_fold(old, c)
                            : py_to_lower(v->str.s, v->str.len, (size_t)(p - v->str.s), c);
    for (int i = 0; i < n; i++)
        text_char(t, c[i]);
}

/* The first character by `first`, the others by `rest`. */
static struct value *map_case(struct interp *x, struct value *v, enum mapping first,
                              enum mapping rest) {
    struct text t = {.x = x};
    const char *end = v->str.s + v->str.len;
    for (const char *p = v->str.s; p < end && !t.over; utf8_get(&p))
        add_mapped(&t, v, p, p == v->str.s ? first : rest);
    return interp_charge(x, v->str.len / 8) ? finish(&t, v) : NULL;
}

METHOD(lower) {
    (void)a;
    return map_case(x, self, TO_LOWER, TO_LOWER);
}

METHOD(upper) {
    (void)a;
    return map_case(x, self, TO_UPPER, TO_UPPER);
}

METHOD(capitalize) {
    (void)a;
    return map_case(x, self, TO_TITLE, TO_LOWER);
}

METHOD(casefold) {
    (void)a;
    return map_case(x, self, TO_FOLD, TO_FOLD);
}

METHOD(title) {
    (void)a;
    struct text t = {.x = x};
    bool inside = false;
    for (const char *p = self->str.s; p < self->str.s + self->str.len && !t.over;) {
        add_mapped(&t, self, p, inside ? TO_LOWER : TO_TITLE);
        inside = py_cased(utf8_get(&p));
    }
    return finish(&t, self);
}

METHOD(swapcase) {
    (void)a;
    struct text t = {.x = x};
    for (const char *p = self->str.s; p < self->str.s + self->str.len && !t.over;) {
        const char *at = p;
        int32_t c = utf8_get(&p);
        if (py_upper(c) || py_lower(c))
            add_mapped(&t, self, at, py_upper(c) ? TO_LOWER : TO_UPPER);
        else
            text_char(&t, c);
    }
    return finish(&t, self);
}

/* ---- classes ---- */
static struct value *all_are(struct value *v, bool (*is)(int32_t c), bool empty) {
    if (!v->str.len)
        return value_bool(empty);
    for (const char *p = v->str.s; p < v->str.s + v->str.len;)
        if (!is(utf8_get(&p)))
            return &value_false;
    return &value_true;
}

static bool is_ascii(int32_t c) {
    return c < 0x80;
}

#define CLASS_METHOD(name, is, empty)                                                           \
    METHOD(name) {                                                                              \
        (void)a;                                                                                \
        return interp_charge(x, self->str.len / 16) ? all_are(self, is, empty) : NULL;          \
    }
CLASS_METHOD(isalnum, py_alnum, false)
CLASS_METHOD(isalpha, py_alpha, false)
CLASS_METHOD(isascii, is_ascii, true)
CLASS_METHOD(isdecimal, py_decimal, false)
CLASS_METHOD(isdigit, py_digit, false)
CLASS_METHOD(isprintable, py_printable, true)
CLASS_METHOD(isspace, py_space, false)

/* At least one cased character, and none of the other cases. */
static struct value *one_case(struct value *v, bool lower) {
    bool cased = false;
    for (const char *p = v->str.s; p < v->str.s + v->str.len;) {
        int32_t c = utf8_get(&p);
        if (py_title(c) || (lower ? py_upper(c) : py_lower(c)))
            return &value_false;
        cased |= lower ? py_lower(c) : py_upper(c);
    }
    return value_bool(cased);
}

METHOD(islower) {
    (void)a;
    return interp_charge(x, self->str.len / 16) ? one_case(self, true) : NULL;
}

METHOD(isupper) {
    (void)a;
    return interp_charge(x, self->str.len / 16) ? one_case(self, false) : NULL;
}

METHOD(istitle) {
    (void)x, (void)a;
    bool cased = false, inside = false;
    for (const char *p = self->str.s; p < self->str.s + self->str.len;) {
        int32_t c = utf8_get(&p);
        bool big = py_upper(c) || py_title(c);
        if (inside ? big : py_lower(c))
            return &value_false;
        inside = py_cased(c);
        cased |= inside;
    }
    return value_bool(cased);
}

METHOD(isidentifier) {
    (void)x, (void)a;
    const char *p = self->str.s, *end = p + self->str.len;
    bool ok = p < end && py_identifier_start(utf8_get(&p));
    while (ok && p < end)
        ok = py_identifier_part(utf8_get(&p));
    return value_bool(ok);
}

/* ---- searching ---- */
struct window {
    const char *s;
    size_t n, offset;                       /* bytes; code points before it */
    bool empty;                             /* start lies behind the end: nothing is found */
};

/* self[start:end] */
static bool take_window(struct interp *x, struct value *self, struct value *start,
                        struct value *end, struct window *w) {
    int64_t count = (int64_t)self->str.count, a, b;
    if (!want_int(x, start && !is_none(start) ? start : NULL, "start", 0, &a) ||
        !want_int(x, end && !is_none(end) ? end : NULL, "end", count, &b) ||
        !interp_charge(x, self->str.len / 64))
        return false;
    a = a < 0 ? MAX(a + count, 0) : a;
    b = b < 0 ? MAX(b + count, 0) : MIN(b, count);
    *w = (struct window){.offset = (size_t)a, .empty = a > count || a > b};
    if (w->empty)
        return true;
    w->s = utf8_skip(self->str.s, self->str.len, (size_t)a);
    size_t rest = self->str.len - (size_t)(w->s - self->str.s);
    w->n = (size_t)(utf8_skip(w->s, rest, (size_t)(b - a)) - w->s);
    return true;
}

static const char *find_first(const char *s, size_t n, const char *what, size_t len) {
    return len ? memmem(s, n, what, len) : s;
}

/* false: out of steps. Bytes at both ends are compared first; what remains is charged. */
static bool find_last(struct interp *x, const char *s, size_t n, const char *what, size_t len,
                      const char **hit) {
    *hit = NULL;
    for (size_t at = n >= len ? n - len + 1 : 0; at-- > 0;) {
        if (len && (s[at] != what[0] || s[at + len - 1] != what[len - 1]))
            continue;
        if (!interp_charge(x, len / 64))
            return false;
        if (memcmp(s + at, what, len) == 0) {
            *hit = s + at;
            return true;
        }
    }
    return true;
}

static bool find_in(struct interp *x, struct value *self, struct value **a, bool last,
                    int64_t *at) {
    struct value *what;
    struct window w;
    if (!want_str(x, a[0], "substring", &what) || !take_window(x, self, a[1], a[2], &w))
        return false;
    const char *hit = NULL;
    if (!w.empty && !last)
        hit = find_first(w.s, w.n, what->str.s, what->str.len);
    if (!w.empty && last && !find_last(x, w.s, w.n, what->str.s, what->str.len, &hit))
        return false;
    *at = hit ? (int64_t)(w.offset + utf8_count(w.s, (size_t)(hit - w.s))) : -1;
    return true;
}

METHOD(find) {
    int64_t at;
    return find_in(x, self, a, false, &at) ? value_int(x->pool, at) : NULL;
}

METHOD(rfind) {
    int64_t at;
    return find_in(x, self, a, true, &at) ? value_int(x->pool, at) : NULL;
}

static struct value *index_of(struct interp *x, struct value *self, struct value **a, bool last) {
    int64_t at;
    if (!find_in(x, self, a, last, &at))
        return NULL;
    return at < 0 ? interp_fail(x, "substring not found") : value_int(x->pool, at);
}

METHOD(index) {
    return index_of(x, self, a, false);
}

METHOD(rindex) {
    return index_of(x, self, a, true);
}

METHOD(count) {
    struct value *what;
    struct window w;
    if (!want_str(x, a[0], "substring", &what) || !take_window(x, self, a[1], a[2], &w))
        return NULL;
    if (!what->str.len)
        return value_int(x->pool, w.empty ? 0 : (int64_t)utf8_count(w.s, w.n) + 1);
    int64_t n = 0;
    for (const char *p = w.s, *hit; !w.empty; p = hit + what->str.len, n++)
        if (!(hit = memmem(p, w.n - (size_t)(p - w.s), what->str.s, what->str.len)))
            break;
    return value_int(x->pool, n);
}

static int affix_is(struct interp *x, const struct window *w, struct value *affix, bool prefix) {
    if (!is_str(affix)) {
        interp_fail(x, "%s first arg must be str or a tuple of str, not %s",
                    prefix ? "startswith" : "endswith", affix->type->name);
        return -1;
    }
    size_t n = affix->str.len;
    if (w->empty || n > w->n)
        return 0;
    return memcmp(prefix ? w->s : w->s + w->n - n, affix->str.s, n) == 0;
}

static struct value *has_affix(struct interp *x, struct value *self, struct value **a,
                               bool prefix) {
    struct window w;
    if (!take_window(x, self, a[1], a[2], &w))
        return NULL;
    bool tuple = is_tuple(a[0]);
    int rc = tuple ? 0 : affix_is(x, &w, a[0], prefix);
    for (size_t i = 0; tuple && rc == 0 && i < a[0]->seq.n; i++)
        rc = affix_is(x, &w, a[0]->seq.v[i], prefix);
    return rc < 0 ? NULL : value_bool(rc);
}

METHOD(startswith) {
    return has_affix(x, self, a, true);
}

METHOD(endswith) {
    return has_affix(x, self, a, false);
}

/* ---- ends ---- */
enum { LEFT = 1, RIGHT = 2 };

static bool in_set(int32_t c, const struct value *set) {
    if (!set)
        return py_space(c);
    for (const char *p = set->str.s; p < set->str.s + set->str.len;)
        if (utf8_get(&p) == c)
            return true;
    return false;
}

static struct value *strip_ends(struct interp *x, struct value *self, struct value *chars,
                                int ends) {
    struct value *set = NULL;
    if (chars && !is_none(chars) && !want_str(x, chars, "strip", &set))
        return NULL;
    size_t cost = set ? set->str.len / 8 : 0;
    if (!interp_charge(x, self->str.len / 64))
        return NULL;
    const char *s = self->str.s, *end = s + self->str.len, *p;
    while ((ends & LEFT) && s < end && (p = s, in_set(utf8_get(&p), set))) {
        if (!interp_charge(x, cost))
            return NULL;
        s = p;
    }
    while ((ends & RIGHT) && s < end && in_set(utf8_last(s, (size_t)(end - s)), set)) {
        if (!interp_charge(x, cost))
            return NULL;
        do
            end--;
        while (((uint8_t)*end & 0xC0) == 0x80);
    }
    return piece(x, self, s, (size_t)(end - s));
}

METHOD(strip) {
    return strip_ends(x, self, a[0], LEFT | RIGHT);
}

METHOD(lstrip) {
    return strip_ends(x, self, a[0], LEFT);
}

METHOD(rstrip) {
    return strip_ends(x, self, a[0], RIGHT);
}

METHOD(removeprefix) {
    struct value *w;
    if (!want_str(x, a[0], "removeprefix", &w))
        return NULL;
    bool has = w->str.len <= self->str.len && memcmp(self->str.s, w->str.s, w->str.len) == 0;
    size_t cut = has ? w->str.len : 0;
    return piece(x, self, self->str.s + cut, self->str.len - cut);
}

METHOD(removesuffix) {
    struct value *w;
    if (!want_str(x, a[0], "removesuffix", &w))
        return NULL;
    size_t n = self->str.len, k = w->str.len;
    bool has = k && k <= n && memcmp(self->str.s + n - k, w->str.s, k) == 0;
    return piece(x, self, self->str.s, has ? n - k : n);
}

static struct value *justify(struct interp *x, struct value *self, struct value **a, char align) {
    int64_t width, have = (int64_t)self->str.count;
    struct value *fill = NULL;
    if (!want_int(x, a[0], "width", 0, &width) || (a[1] && !want_str(x, a[1], "fill", &fill)))
        return NULL;
    if (fill && self->str.markup && !(fill = escape_html(x, fill)))
        return NULL;
    if (fill && fill->str.count != 1)
        return interp_fail(x, "The fill character must be exactly one character long");
    int64_t pad = MAX(width - have, 0);
    int64_t left = align == '>' ? pad : align == '^' ? pad / 2 + (pad & width & 1) : 0;
    const char *f = fill ? fill->str.s : " ";
    size_t nf = fill ? fill->str.len : 1;
    struct text t = {.x = x};
    text_fill(&t, f, nf, (size_t)left);
    text_add(&t, self->str.s, self->str.len);
    text_fill(&t, f, nf, (size_t)(pad - left));
    return finish(&t, self);
}

METHOD(center) {
    return justify(x, self, a, '^');
}

METHOD(ljust) {
    return justify(x, self, a, '<');
}

METHOD(rjust) {
    return justify(x, self, a, '>');
}

METHOD(zfill) {
    int64_t width, have = (int64_t)self->str.count;
    if (!want_int(x, a[0], "width", 0, &width))
        return NULL;
    bool sign = self->str.len && (*self->str.s == '-' || *self->str.s == '+');
    struct text t = {.x = x};
    text_add(&t, self->str.s, sign);
    text_fill(&t, "0", 1, width > have ? (size_t)(width - have) : 0);
    text_add(&t, self->str.s + sign, self->str.len - sign);
    return finish(&t, self);
}

METHOD(expandtabs) {
    int64_t size, column = 0;
    if (!want_int(x, a[0], "tabsize", 8, &size))
        return NULL;
    struct text t = {.x = x};
    for (const char *p = self->str.s; p < self->str.s + self->str.len && !t.over;) {
        int32_t c = utf8_get(&p);
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            text_fill(&t, " ", 1, (size_t)n);
            column += n;
        } else {
            text_char(&t, c);
            column = c == '\n' || c == '\r' ? 0 : column + 1;
        }
    }
    return finish(&t, self);
}

/* ---- splitting and joining ---- */
static struct value *three(struct interp *x, struct value *self, const char *at, size_t n) {
    struct value **v = pool_alloc(x->pool, 3 * sizeof *v);
    const char *s = self->str.s, *end = s + self->str.len;
    v[0] = piece(x, self, s, (size_t)(at - s));
    v[1] = piece(x, self, at, n);
    v[2] = piece(x, self, at + n, (size_t)(end - at) - n);
    return value_seq(x->pool, &type_tuple, v, 3);
}

static struct value *cut_at(struct interp *x, struct value *self, struct value *sep, bool last) {
    struct value *w;
    if (!want_str(x, sep, "separator", &w))
        return NULL;
    if (!w->str.len)
        return interp_fail(x, "empty separator");
    const char *hit = find_first(self->str.s, self->str.len, w->str.s, w->str.len);
    if (hit && last &&
        !find_last(x, self->str.s, self->str.len, w->str.s, w->str.len, &hit))
        return NULL;
    if (hit)
        return three(x, self, hit, w->str.len);
    return three(x, self, last ? self->str.s : self->str.s + self->str.len, 0);
}

METHOD(partition) {
    return cut_at(x, self, a[0], false);
}

METHOD(rpartition) {
    return cut_at(x, self, a[0], true);
}

/* Pieces between blanks, at most max cuts; what remains keeps its blanks at the far end. */
static bool split_blanks(struct values *l, struct value *self, int64_t max) {
    const char *s = self->str.s, *end = s + self->str.len;
    for (;;) {
        s += py_lstrip(s, (size_t)(end - s));
        if (s == end)
            return true;
        const char *from = s, *p = s;
        while (max != 0 && s < end && !py_space(utf8_get(&p)))
            s = p;
        if (max-- == 0)
            s = end;
        if (!values_add(l, piece(l->x, self, from, (size_t)(s - from))) ||
            !interp_charge(l->x, 1))
            return false;
    }
}

static bool split_blanks_back(struct values *l, struct value *self, int64_t max) {
    const char *s = self->str.s;
    size_t n = self->str.len;
    for (;;) {
        n = py_rstrip(s, n);
        if (!n)
            return true;
        size_t from = n;
        while (max != 0 && from && !py_space(utf8_last(s, from)))
            do
                from--;
            while (((uint8_t)s[from] & 0xC0) == 0x80);
        if (max-- == 0)
            from = 0;
        if (!values_add(l, piece(l->x, self, s + from, n - from)) || !interp_charge(l->x, 1))
            return false;
        n = from;
    }
}

static bool split_at(struct values *l, struct value *self, const struct value *sep, int64_t max) {
    const char *s = self->str.s, *end = s + self->str.len;
    for (;; max--) {
        const char *hit = max ? memmem(s, (size_t)(end - s), sep->str.s, sep->str.len) : NULL;
        const char *to = hit ? hit : end;
        if (!values_add(l, piece(l->x, self, s, (size_t)(to - s))) || !interp_charge(l->x, 1))
            return false;
        if (!hit)
            return true;
        s = hit + sep->str.len;
    }
}

static bool split_at_back(struct values *l, struct value *self, const struct value *sep,
                          int64_t max) {
    size_t n = self->str.len;
    for (;; max--) {
        const char *s = self->str.s, *hit = NULL;
        if (max && !find_last(l->x, s, n, sep->str.s, sep->str.len, &hit))
            return false;
        size_t from = hit ? (size_t)(hit - s) + sep->str.len : 0;
        if (!values_add(l, piece(l->x, self, s + from, n - from)) || !interp_charge(l->x, 1))
            return false;
        if (!hit)
            return true;
        n = (size_t)(hit - s);
    }
}

static struct value *split_str(struct interp *x, struct value *self, struct value **a, bool back) {
    struct values l = {.x = x};
    struct value *sep = NULL;
    int64_t max;
    if (a[0] && !is_none(a[0]) && !want_str(x, a[0], "split", &sep))
        return NULL;
    if (!want_int(x, a[1], "maxsplit", -1, &max) || !interp_charge(x, self->str.len / 64))
        return NULL;
    if (sep && !sep->str.len)
        return interp_fail(x, "empty separator");
    bool ok = sep ? (back ? split_at_back : split_at)(&l, self, sep, max)
                  : (back ? split_blanks_back : split_blanks)(&l, self, max);
    if (!ok)
        return NULL;
    for (size_t i = 0; back && i < l.n / 2; i++) {
        struct value *v = l.v[i];
        l.v[i] = l.v[l.n - 1 - i];
        l.v[l.n - 1 - i] = v;
    }
    return value_seq(x->pool, &type_list, l.v, l.n);
}

METHOD(split) {
    return split_str(x, self, a, false);
}

METHOD(rsplit) {
    return split_str(x, self, a, true);
}

METHOD(splitlines) {
    int64_t keep;
    struct values l = {.x = x};
    if (!want_int(x, a[0], "keepends", 0, &keep))
        return NULL;
    for (size_t at = 0, body; at < self->str.len;) {
        size_t n = py_line(self->str.s + at, self->str.len - at, &body);
        if (!values_add(&l, piece(x, self, self->str.s + at, keep ? n : body)) ||
            !interp_charge(x, 1))
            return NULL;
        at += n;
    }
    return value_seq(x->pool, &type_list, l.v, l.n);
}

METHOD(join) {
    struct iter *it = value_iter(x, a[0]);
    struct text t = {.x = x};
    struct value *v;
    int rc = it ? 1 : -1;
    for (size_t i = 0; rc == 1 && (rc = iter_next(x, it, &v)) == 1 && !t.over; i++) {
        if (!is_str(v) && !self->str.markup)
            return interp_fail(x, "sequence item %zu: expected str instance, %s found", i,
                               v->type->name);
        if (self->str.markup && !(v = escape_html(x, v)))
            return NULL;
        if (i)
            text_add(&t, self->str.s, self->str.len);
        text_add(&t, v->str.s, v->str.len);
    }
    return rc < 0 ? NULL : finish(&t, self);
}

METHOD(replace) {
    struct value *old, *new;
    int64_t count;
    if (!want_str(x, a[0], "replace", &old) || !want_str(x, a[1], "replace", &new) ||
        !want_int(x, a[2], "count", -1, &count))
        return NULL;
    if (self->str.markup && !(new = escape_html(x, new)))
        return NULL;
    const char *p = self->str.s, *end = p + self->str.len;
    struct text t = {.x = x};
    while (count != 0 && !t.over) {
        const char *hit = find_first(p, (size_t)(end - p), old->str.s, old->str.len);
        if (!interp_charge(x, 1))
            return NULL;
        if (!hit)
            break;
        text_add(&t, p, (size_t)(hit - p));
        text_add(&t, new->str.s, new->str.len);
        p = hit + old->str.len;
        count -= count > 0;
        if (!old->str.len) {                // an empty text is found before each character
            if (p == end)
                break;
            const char *from = p;
            utf8_get(&p);
            text_add(&t, from, (size_t)(p - from));
        }
    }
    text_add(&t, p, (size_t)(end - p));
    return finish(&t, self);
}

METHOD(format) {
    struct call c = {.pos = a[0]->seq.v, .n = a[0]->seq.n, .kw = a[1]->dict};
    return format_braces(x, self, &c);
}

METHOD(format_map) {
    if (a[0]->type != &type_dict)
        return interp_fail(x, "format_map() argument must be a mapping, not %s", a[0]->type->name);
    struct call c = {.kw = a[0]->dict};
    return format_braces(x, self, &c);
}

const struct function str_attrs[] = {
    {"capitalize", "", str_capitalize, 0},
    {"casefold", "", str_casefold, 0},
    {"center", "/ width fill?", str_center, 0},
    {"count", "/ sub start? end?", str_count, 0},
    {"encode", "", NULL, 0},
    {"endswith", "/ suffix start? end?", str_endswith, 0},
    {"expandtabs", "tabsize?", str_expandtabs, 0},
    {"find", "/ sub start? end?", str_find, 0},
    {"format", "* **", str_format, 0},
    {"format_map", "/ mapping", str_format_map, 0},
    {"index", "/ sub start? end?", str_index, 0},
    {"isalnum", "", str_isalnum, 0},
    {"isalpha", "", str_isalpha, 0},
    {"isascii", "", str_isascii, 0},
    {"isdecimal", "", str_isdecimal, 0},
    {"isdigit", "", str_isdigit, 0},
    {"isidentifier", "", str_isidentifier, 0},
    {"islower", "", str_islower, 0},
    {"isnumeric", "", NULL, 0},
    {"isprintable", "", str_isprintable, 0},
    {"isspace", "", str_isspace, 0},
    {"istitle", "", str_istitle, 0},
    {"isupper", "", str_isupper, 0},
    {"join", "/ iterable", str_join, 0},
    {"ljust", "/ width fill?", str_ljust, 0},
    {"lower", "", str_lower, 0},
    {"lstrip", "/ chars?", str_lstrip, 0},
    {"maketrans", "", NULL, 0},
    {"partition", "/ sep", str_partition, 0},
    {"removeprefix", "/ prefix", str_removeprefix, 0},
    {"removesuffix", "/ suffix", str_removesuffix, 0},
    {"replace", "/ old new count?", str_replace, 0},
    {"rfind", "/ sub start? end?", str_rfind, 0},
    {"rindex", "/ sub start? end?", str_rindex, 0},
    {"rjust", "/ width fill?", str_rjust, 0},
    {"rpartition", "/ sep", str_rpartition, 0},
    {"rsplit", "sep? maxsplit?", str_rsplit, 0},
    {"rstrip", "/ chars?", str_rstrip, 0},
    {"split", "sep? maxsplit?", str_split, 0},
    {"splitlines", "keepends?", str_splitlines, 0},
    {"startswith", "/ prefix start? end?", str_startswith, 0},
    {"strip", "/ chars?", str_strip, 0},
    {"swapcase", "", str_swapcase, 0},
    {"title", "", str_title, 0},
    {"translate", "", NULL, 0},
    {"upper", "", str_upper, 0},
    {"zfill", "/ width", str_zfill, 0},
    {0},
};

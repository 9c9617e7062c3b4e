/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_format.c — "%s" % values and "{}".format(values).
 *
 * Both walk the format once, copying text and printing one field at a time. Fields of the second
 * kind look up attributes and items as templates do, so that the sandbox holds there too.
 */
#include "model/jinja_type.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_text.h"

/* ---- printf style ---- */
struct percent {
    struct interp *x;
    struct text out;
    struct value *args;                     /* what stands right of % */
    size_t next;                            /* of a tuple; else 0 or 1 */
    bool markup;
    const char *s, *end;
};
struct field {
    bool left, zero;
    size_t width;
    struct number_style style;
};

static struct value *next_arg(struct percent *p) {
    bool tuple = is_tuple(p->args);
    if (p->next < (tuple ? p->args->seq.n : 1)) {
        size_t i = p->next++;
        return tuple ? p->args->seq.v[i] : p->args;
    }
    return interp_fail(p->x, "not enough arguments for format string");
}

/* "(name)" of the mapping on the right. */
static struct value *named_arg(struct percent *p) {
    const char *name = p->s;
    int open = 1;
    for (; p->s < p->end && open; p->s++)
        open += (*p->s == '(') - (*p->s == ')');
    if (open)
        return interp_fail(p->x, "incomplete format key");
    size_t len = (size_t)(p->s - name) - 1;
    if (is_undefined(p->args))
        return fail_undefined(p->x, p->args);
    if (p->args->type != &type_dict)
        return interp_fail(p->x, "format requires a mapping");
    struct value *v = dict_get(p->args->dict, name, len);
    p->next = 1;
    return v ? v : interp_fail(p->x, "format: KeyError: '%.*s'", (int)MIN(len, 100), name);
}

/* A number in the format, or '*' for one of the arguments. -1: none. */
static bool read_count(struct percent *p, int64_t *out) {
    *out = -1;
    if (p->s < p->end && *p->s == '*') {
        p->s++;
        struct value *v = next_arg(p);
        return v && want_int(p->x, v, "* of a format", 0, out);
    }
    while (p->s < p->end && *p->s >= '0' && *p->s <= '9') {
        *out = MAX(*out, 0) * 10 + (*p->s++ - '0');
        if (*out > 1 << 30)
            return interp_fail(p->x, "width or precision too big");
    }
    return true;
}

static bool read_field(struct percent *p, struct field *f) {
    *f = (struct field){.style = {.sign = '-', .precision = -1}};
    for (; p->s < p->end && strchr("-+ #0", *p->s) && *p->s; p->s++) {
        f->left |= *p->s == '-';
        f->zero |= *p->s == '0';
        f->style.alt |= *p->s == '#';
        if (*p->s == '+' || (*p->s == ' ' && f->style.sign != '+'))
            f->style.sign = *p->s;
    }
    int64_t width, precision = -1;
    if (!read_count(p, &width))
        return false;
    if (width < -1) {                       // only "*" gives one: flag and width
        f->left = true;
        width = -width;
    }
    f->width = width > 0 ? (size_t)width : 0;
    if (p->s < p->end && *p->s == '.') {
        p->s++;
        if (!read_count(p, &precision))
            return false;
        f->style.precision = (int)MAX(precision, 0);
    }
    if (p->s < p->end && strchr("hlL", *p->s) && *p->s)
        p->s++;
    return true;
}

static bool print_text_field(struct percent *p, char code, struct value *v, struct text *body,
                             int precision) {
    struct text t = {.x = p->x};
    if (!(code == 'a' ? print_ascii(&t, v) : value_print(&t, v, code == 'r')))
        return false;
    struct value *s = text_value(&t);
    if (s && p->markup && !(code == 's' && is_str(v) && v->str.markup))
        s = escape_html(p->x, s);
    if (!s)
        return false;
    size_t len = s->str.len;
    if (precision >= 0)
        len = (size_t)(utf8_skip(s->str.s, len, (size_t)precision) - s->str.s);
    text_add(body, s->str.s, len);
    return true;
}

static bool print_char_field(struct percent *p, struct value *v, struct text *body) {
    if (is_str(v) && v->str.count == 1)
        text_add(body, v->str.s, v->str.len);
    else if (is_integral(v) && v->i >= 0 && v->i <= 0x10FFFF && !(v->i >= 0xD800 && v->i < 0xE000))
        text_char(body, (int32_t)v->i);
    else
        return interp_fail(p->x, "%%c requires int or char");
    return true;
}

static bool print_number_field(struct percent *p, char code, struct value *v, struct field *f,
                               struct text *body, size_t *sign) {
    bool decimal = strchr("diu", code) != NULL, real = strchr("eEfFgG", code) != NULL;
    if (is_undefined(v))
        return fail_undefined(p->x, v);
    if (!is_number(v) || (!decimal && !real && !is_integral(v)))
        return interp_fail(p->x, "%%%c format: a number is required, not %s", code, v->type->name);
    if (decimal && !is_integral(v) && !(v = int_of_float(p->x, v->f)))
        return false;
    f->style.type = decimal ? 'd' : code;
    if (!real && f->style.precision >= 0) {
        f->style.digits = f->style.precision;
        f->style.precision = -1;
        if (f->style.digits > 1 << 20)
            return interp_fail(p->x, "precision too large");
    }
    return print_number(body, v, &f->style, sign);
}

static bool print_field(struct percent *p) {
    struct value *named = NULL;
    struct field f;
    if (p->s < p->end && *p->s == '(') {
        p->s++;
        if (!(named = named_arg(p)))
            return false;
    }
    if (!read_field(p, &f))
        return false;
    if (p->s == p->end)
        return interp_fail(p->x, "incomplete format");
    char code = *p->s++;
    if (code == '%') {
        text_puts(&p->out, "%");
        return true;
    }
    if (!code || !strchr("sracdiuoxXeEfFgG", code))
        return interp_fail(p->x, "unsupported format character '%c' (0x%x)",
                           code >= ' ' && code < 0x7F ? code : '?', (unsigned)(uint8_t)code);
    struct value *v = named ? named : next_arg(p);
    if (!v)
        return false;
    struct text body = {.x = p->x};
    size_t sign = 0;
    bool number = !strchr("srac", code);
    bool ok = number ? print_number_field(p, code, v, &f, &body, &sign)
              : code == 'c' ? print_char_field(p, v, &body)
                            : print_text_field(p, code, v, &body, f.style.precision);
    if (!ok)
        return false;
    bool zeros = f.zero && number && !f.left;
    print_padded(&p->out, &body, sign, zeros ? '0' : ' ', f.left ? '<' : zeros ? '=' : '>',
                 f.width);
    return !body.over && !p->out.over;
}

struct value *format_percent(struct interp *x, struct value *fmt, struct value *args) {
    struct percent p = {.x = x, .out = {.x = x}, .args = args, .markup = fmt->str.markup,
                        .s = fmt->str.s, .end = fmt->str.s + fmt->str.len};
    while (p.s < p.end) {
        const char *sign = memchr(p.s, '%', (size_t)(p.end - p.s));
        const char *to = sign ? sign : p.end;
        text_add(&p.out, p.s, (size_t)(to - p.s));
        p.s = to + (sign != NULL);
        if (sign && (!interp_charge(x, 1) || !print_field(&p)))
            return NULL;
    }
    bool mapping = args->type == &type_dict || args->type == &type_list ||
                   args->type == &type_range || is_undefined(args);
    if (!mapping && p.next < (is_tuple(args) ? args->seq.n : 1))
        return interp_fail(x, "not all arguments converted during string formatting");
    struct value *v = text_value(&p.out);
    if (v)
        v->str.markup = p.markup;
    return v;
}

/* ---- braces ---- */
struct braces {
    struct interp *x;
    const struct call *call;
    int64_t next;                           /* automatic number; -1: fields are numbered */
    bool markup;
};

static struct value *first_of(struct braces *b, const char *name, size_t n) {
    bool digits = n > 0 && strspn(name, "0123456789") >= n;
    if (!n || digits) {
        if (digits ? b->next > 0 : b->next < 0)
            return interp_fail(b->x, "cannot mix automatic and manual field numbers");
        size_t i = digits ? strtoul(name, NULL, 10) : (size_t)b->next;
        b->next = digits ? -1 : b->next + 1;
        if (i < b->call->n)
            return b->call->pos[i];
        return interp_fail(b->x, "Replacement index %zu out of range for positional args tuple",
                           i);
    }
    struct value *v = b->call->kw ? dict_get(b->call->kw, name, n) : NULL;
    return v ? v : interp_fail(b->x, "format: KeyError: '%.*s'", (int)MIN(n, 100), name);
}

/* "name.attr[item]" */
static struct value *field_value(struct braces *b, const char *s, size_t n) {
    size_t at = 0;
    while (at < n && s[at] != '.' && s[at] != '[')
        at++;
    if (!at && n)
        return interp_fail(b->x, "format: a field name is missing in '{%.*s}'", (int)MIN(n, 100),
                           s);
    char *first = pool_grow(b->x->pool, (void *)s, at, at + 1);
    struct value *v = first_of(b, first, at);
    while (v && at < n) {
        bool attr = s[at] == '.';
        size_t from = attr || s[at] == '[' ? ++at : at;
        while (at < n && (attr ? s[at] != '.' && s[at] != '[' : s[at] != ']'))
            at++;
        size_t len = at - from;
        if (!attr && at++ == n)
            return interp_fail(b->x, "Missing ']' in format string");
        if (!len || (!attr && at < n && s[at] != '.' && s[at] != '['))
            return interp_fail(b->x, "Empty attribute in format string");
        char *name = pool_grow(b->x->pool, (void *)(s + from), len, len + 1);
        bool number = !attr && strspn(name, "0123456789") == len && len < 18;
        v = attr ? value_getattr(b->x, v, name)
            : value_getitem(b->x, v, number ? value_int(b->x->pool, strtoll(name, NULL, 10))
                                            : value_str(b->x->pool, name, len));
    }
    return v;
}

static bool format_text(struct braces *b, struct text *out, const char *s, size_t n, int depth);

static struct value *convert(struct braces *b, struct value *v, char code) {
    struct text t = {.x = b->x};
    if (code == 's')
        return value_to_str(b->x, v);
    if (code != 'r' && code != 'a')
        return interp_fail(b->x, "Unknown conversion specifier '%c'", code);
    return (code == 'a' ? print_ascii(&t, v) : value_print(&t, v, true)) ? text_value(&t) : NULL;
}

/* "name!r:spec" without its braces. */
static bool format_field(struct braces *b, struct text *out, const char *s, size_t n, int depth) {
    size_t at = 0, bracket = 0;
    for (; at < n && (bracket || (s[at] != '!' && s[at] != ':')); at++)
        bracket = s[at] == '[' ? 1 : s[at] == ']' ? 0 : bracket;
    struct value *v = field_value(b, s, at);
    if (v && at < n && s[at] == '!') {
        if (at + 1 == n || (at + 2 < n && s[at + 2] != ':'))
            return interp_fail(b->x, "expected ':' after conversion specifier");
        v = convert(b, v, s[at + 1]);
        at += 2;
    }
    struct text spec = {.x = b->x}, plain = {.x = b->x};
    if (!v || (at < n && !format_text(b, &spec, s + at + 1, n - at - 1, depth - 1)) || spec.over)
        return false;
    if (!format_spec(&plain, v, spec.s ? spec.s : "", spec.len))
        return false;
    struct value *printed = text_value(&plain);
    if (printed && b->markup && !(is_str(v) && v->str.markup))
        printed = escape_html(b->x, printed);
    if (!printed)
        return false;
    text_add(out, printed->str.s, printed->str.len);
    return !out->over;
}

static bool format_text(struct braces *b, struct text *out, const char *s, size_t n, int depth) {
    if (depth < 0)
        return interp_fail(b->x, "Max string recursion exceeded");
    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && s[i] != '{' && s[i] != '}')
            i++;
        text_add(out, s + from, i - from);
        if (i == n)
            break;
        char c = s[i++];
        if (i < n && s[i] == c) {           // doubled: itself
            text_add(out, s + i++, 1);
            continue;
        }
        if (c == '}' || i == n)
            return interp_fail(b->x, "Single '%c' encountered in format string", c);
        int open = 1;
        for (from = i; i < n && open; i++)
            open += (s[i] == '{') - (s[i] == '}');
        if (open)
            return interp_fail(b->x, "expected '}' before end of string");
        if (!interp_charge(b->x, 1) || !format_field(b, out, s + from, i - 1 - from, depth))
            return false;
    }
    return !out->over;
}

struct value *format_braces(struct interp *x, struct value *fmt, const struct call *c) {
    struct braces b = {.x = x, .call = c, .markup = fmt->str.markup};
    struct text out = {.x = x};
    if (!format_text(&b, &out, fmt->str.s, fmt->str.len, 1))
        return NULL;
    struct value *v = text_value(&out);
    if (v)
        v->str.markup = b.markup;
    return v;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_spec.c — Python's format specifications: [[fill]align][sign][#][0][width][,_][.prec][type].
 *
 * A number is printed as sign, prefix and digits; padding goes around it, or with '=' behind sign
 * and prefix. Zeros of a width count with their separators, as Python does it: format(1234, "08,")
 * is 0,001,234 and one longer than asked, because a separator never comes first.
 */
#include "model/jinja_type.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_text.h"

enum { PRECISION_MAX = 400 };               /* digits behind a point that anybody prints */

void print_padded(struct text *t, const struct text *body, size_t sign, int32_t fill, char align,
                  size_t width) {
    char f[4];
    size_t nf = utf8_put(fill, f), have = utf8_count(body->s ? body->s : "", body->len);
    size_t pad = width > have ? width - have : 0;
    size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    if (align == '=') {
        text_add(t, body->s, sign);
        text_fill(t, f, nf, pad);
        text_add(t, body->s + sign, body->len - sign);
        return;
    }
    text_fill(t, f, nf, left);
    text_add(t, body->s, body->len);
    text_fill(t, f, nf, pad - left);
}

/* ---- digits ---- */
/* Digits with separators, filled with zeros to at least `width` characters. */
static void group_digits(struct text *t, const char *s, size_t n, char sep, size_t every,
                         size_t width) {
    size_t total = n + (sep && n ? (n - 1) / every : 0);
    size_t zeros = 0;
    while (total < width && interp_charge(t->x, 1)) {
        zeros++;
        total = n + zeros + (sep ? (n + zeros - 1) / every : 0);
    }
    for (size_t i = 0, all = n + zeros; i < all && !t->over; i++) {
        if (sep && i && (all - i) % every == 0)
            text_add(t, &sep, 1);
        text_add(t, i < zeros ? "0" : s + i - zeros, 1);
    }
}

static size_t integer_digits(uint64_t u, const struct number_style *st, char out[80]) {
    unsigned base = st->type == 'b' ? 2 : st->type == 'o' ? 8
                    : st->type == 'x' || st->type == 'X' ? 16 : 10;
    const char *letters = st->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    size_t n = 0;
    do
        out[n++] = letters[u % base];
    while (u /= base);
    for (size_t i = 0; i < n / 2; i++) {
        char c = out[i];
        out[i] = out[n - 1 - i];
        out[n - 1 - i] = c;
    }
    return n;
}

static void print_sign(struct text *t, bool negative, const struct number_style *st) {
    if (negative)
        text_puts(t, "-");
    else if (st->sign == '+' || st->sign == ' ')
        text_add(t, &st->sign, 1);
}

static void print_integer(struct text *t, int64_t i, const struct number_style *st, size_t *sign) {
    char digits[80];
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    size_t n = integer_digits(u, st, digits);
    print_sign(t, i < 0, st);
    if (st->alt && strchr("boxX", st->type))
        text_printf(t, "0%c", st->type);
    *sign = t->len;
    size_t width = st->zeros > t->len ? st->zeros - t->len : 0;
    group_digits(t, digits, n, st->group, st->type == 'd' ? 3 : 4,
                 MAX(width, (size_t)MAX(st->digits, 0)));
}

/* format(f, ".Nr"): general notation, with a point always; N digits. */
static void general_with_point(double f, int precision, bool alt, char *out, size_t size) {
    precision = MAX(precision, 1);
    snprintf(out, size, "%.*e", precision - 1, f);
    long exponent = strtol(strchr(out, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= precision - 1) {
        snprintf(out, size, alt ? "%#.*e" : "%.*e", precision - 1, f);
        char *e = strchr(out, 'e'), *end = e;
        if (!alt && strchr(out, '.')) {
            while (end[-1] == '0')
                end--;
            end -= end[-1] == '.';
            memmove(end, e, strlen(e) + 1);
        }
        return;
    }
    snprintf(out, size, "%.*f", MAX(precision - 1 - (int)exponent, 1), f);
    char *point = strchr(out, '.'), *end = out + strlen(out);
    while (!alt && end > point + 2 && end[-1] == '0')
        *--end = '\0';
}

static void float_digits(double f, const struct number_style *st, char *out, size_t size) {
    char type = st->type;
    if (!isfinite(f)) {
        const char *word = isnan(f) ? "nan" : "inf", *upper = isnan(f) ? "NAN" : "INF";
        snprintf(out, size, "%s%s", type && strchr("EFG", type) ? upper : word,
                 type == '%' ? "%" : "");
    } else if ((!type || type == 'r') && st->precision < 0) {
        char b[FLOAT_REPR];
        float_repr(f, b);
        snprintf(out, size, "%s", b);
    } else if (!type || type == 'r') {
        general_with_point(f, st->precision, st->alt, out, size);
    } else {
        char fmt[8];
        snprintf(fmt, sizeof fmt, "%%%s.*%c", st->alt ? "#" : "", type == '%' ? 'f' : type);
        int n = snprintf(out, size, fmt, st->precision < 0 ? 6 : st->precision,
                         type == '%' ? f * 100 : f);
        if (type == '%')
            snprintf(out + n, size - (size_t)n, "%%");
    }
}

static void print_real(struct text *t, double f, const struct number_style *st, size_t *sign) {
    char b[PRECISION_MAX + 400];
    bool negative = signbit(f) && !isnan(f);
    float_digits(negative ? -f : f, st, b, sizeof b);
    print_sign(t, negative, st);
    *sign = t->len;
    size_t whole = strspn(b, "0123456789"), rest = strlen(b) - whole;
    size_t width = st->zeros > t->len + rest ? st->zeros - t->len - rest : 0;
    if (whole || width)
        group_digits(t, b, whole, whole ? st->group : 0, 3, width);
    text_add(t, b + whole, rest);
}

/* *sign: bytes of sign and prefix. */
bool print_number(struct text *t, struct value *v, const struct number_style *st, size_t *sign) {
    if (st->precision > PRECISION_MAX)
        return interp_fail(t->x, "a precision of more than %d digits is not supported",
                           PRECISION_MAX);
    if (st->type && strchr("dboxX", st->type))
        print_integer(t, v->i, st, sign);
    else
        print_real(t, number_of(v), st, sign);
    return !t->over;
}

/* ---- specifications ---- */
struct spec {
    int32_t fill;
    char align;                             /* 0: the type's own */
    bool alt, zero, signed_;
    struct number_style style;
    size_t width;
    char type;
};

static bool read_size(struct interp *x, const char **s, const char *end, size_t *out) {
    *out = 0;
    while (*s < end && **s >= '0' && **s <= '9') {
        *out = *out * 10 + (size_t)(*(*s)++ - '0');
        if (*out > 1u << 30)
            return interp_fail(x, "Too many decimal digits in format string");
    }
    return true;
}

static void read_align(const char **s, const char *end, struct spec *sp) {
    if (*s == end)
        return;
    const char *behind = *s;
    int32_t c = utf8_get(&behind);
    if (behind < end && strchr("<>=^", *behind)) {
        sp->fill = c;
        sp->align = *behind;
        *s = behind + 1;
    } else if (c < 0x80 && strchr("<>=^", c)) {
        sp->align = (char)c;
        *s = behind;
    }
}

static bool read_precision(struct interp *x, const char **s, const char *end, struct spec *sp) {
    while (*s < end && (**s == ',' || **s == '_')) {
        if (sp->style.group)
            return interp_fail(x, "Cannot specify more than one ',' or '_' in a format");
        sp->style.group = *(*s)++;
    }
    if (*s == end || **s != '.')
        return true;
    const char *from = ++*s;
    size_t precision;
    if (!read_size(x, s, end, &precision))
        return false;
    if (*s == from)
        return interp_fail(x, "Format specifier missing precision");
    sp->style.precision = (int)precision;
    return true;
}

static bool read_spec(struct interp *x, const char *s, size_t n, const char *type,
                      struct spec *sp) {
    const char *end = s + n;
    *sp = (struct spec){.style = {.sign = '-', .precision = -1}};
    read_align(&s, end, sp);
    if (s < end && strchr("+- ", *s)) {
        sp->style.sign = *s++;
        sp->signed_ = true;
    }
    if (s < end && *s == '#') {
        sp->alt = sp->style.alt = true;
        s++;
    }
    if (s < end && *s == '0' && !sp->fill) {
        sp->zero = true;
        s++;
    }
    if (!read_size(x, &s, end, &sp->width) || !read_precision(x, &s, end, sp))
        return false;
    if (end - s > 1 || (s < end && (uint8_t)*s >= 0x80))
        return interp_fail(x, "Invalid format specifier '%.*s' for object of type '%s'",
                           (int)MIN(n, 60), end - n, type);
    sp->type = s < end ? *s : 0;
    if (sp->zero)
        sp->fill = '0';
    if (!sp->fill)
        sp->fill = ' ';
    return true;
}

static bool fail_code(struct interp *x, char code, const char *type) {
    return interp_fail(x, "Unknown format code '%c' for object of type '%s'", code, type);
}

static bool format_str(struct text *t, struct value *v, const struct spec *sp) {
    struct interp *x = t->x;
    if (sp->type && sp->type != 's')
        return fail_code(x, sp->type, "str");
    if (sp->signed_ || sp->alt || sp->style.group || sp->align == '=')
        return interp_fail(x, "a sign, '#', '=' or separators are not allowed in a string format "
                              "specifier");
    size_t len = v->str.len;
    if (sp->style.precision >= 0)
        len = (size_t)(utf8_skip(v->str.s, len, (size_t)sp->style.precision) - v->str.s);
    struct text body = {.x = x};
    text_add(&body, v->str.s, len);
    print_padded(t, &body, 0, sp->fill, sp->align ? sp->align : '<', sp->width);
    return !t->over && !body.over;
}

static bool format_char(struct text *t, int64_t c, const struct spec *sp) {
    if (sp->signed_ || sp->style.group)
        return interp_fail(t->x, "Sign and separators are not allowed with integer format "
                                 "specifier 'c'");
    if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
        return interp_fail(t->x, "%%c: %" PRId64 " is not a character", c);
    struct text body = {.x = t->x};
    text_char(&body, (int32_t)c);
    print_padded(t, &body, 0, sp->fill, sp->align ? sp->align : '>', sp->width);
    return !t->over;
}

static bool format_number(struct text *t, struct value *v, struct spec *sp) {
    struct interp *x = t->x;
    bool integer = is_integral(v);
    char type = sp->type ? sp->type : integer ? 'd' : 0;
    if (integer && type == 'n')
        type = 'd';
    if (type == 'n')
        type = 'g';
    if (type && !strchr(integer ? "bcdoxXeEfFgG%" : "eEfFgG%", type))
        return fail_code(x, type, v->type->name);
    if (type && strchr("bcdoxX", type) && sp->style.precision >= 0)
        return interp_fail(x, "Precision not allowed in integer format specifier");
    if (sp->style.group && (sp->type == 'n' || (sp->style.group == ',' && type &&
                                                strchr("bcoxX", type))))
        return interp_fail(x, "Cannot specify '%c' with '%c'.", sp->style.group, sp->type);
    if (type == 'c')
        return format_char(t, v->i, sp);
    char align = sp->align ? sp->align : sp->zero ? '=' : '>';
    sp->style.type = type;
    if (align == '=' && sp->fill == '0')
        sp->style.zeros = sp->width;
    struct text body = {.x = x};
    size_t sign;
    if (!interp_room(x, sp->width) || !print_number(&body, v, &sp->style, &sign))
        return false;
    print_padded(t, &body, sign, sp->fill, align, sp->width);
    return !t->over;
}

bool format_spec(struct text *t, struct value *v, const char *s, size_t n) {
    if (!n)
        return value_print(t, v, false);
    if (!is_str(v) && !is_number(v))
        return interp_fail(t->x, "unsupported format string passed to %s.__format__",
                           v->type->name);
    struct spec sp;
    if (!read_spec(t->x, s, n, v->type->name, &sp))
        return false;
    return is_str(v) ? format_str(t, v, &sp) : format_number(t, v, &sp);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_number.c — operators, and numbers from text.
 *
 * Python's rules: / gives a float, // and % round towards minus infinity, bool is an int, + and *
 * also join and repeat sequences, str % formats. Python's integers have no end; here a result
 * beyond 64 bits is refused, never wrapped or turned into a float.
 */
#include "model/jinja_type.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "model/jinja_text.h"

static struct value *fail_types(struct interp *x, const char *op, const struct value *a,
                                const struct value *b) {
    if (is_undefined(a) || is_undefined(b))
        return fail_undefined(x, is_undefined(a) ? a : b);
    return interp_fail(x, "unsupported operand type(s) for %s: '%s' and '%s'", op, a->type->name,
                       b->type->name);
}

static struct value *fail_size(struct interp *x) {
    return interp_fail(x, "an integer beyond 64 bits is not supported");
}

static bool both_integral(const struct value *a, const struct value *b) {
    return is_integral(a) && is_integral(b);
}

static bool both_numbers(const struct value *a, const struct value *b) {
    return is_number(a) && is_number(b);
}

/* ---- + - * ---- */
static struct value *join_text(struct interp *x, struct value *a, struct value *b) {
    bool markup = a->str.markup || b->str.markup;
    if (markup && !a->str.markup)
        a = escape_html(x, a);
    if (markup && !b->str.markup)
        b = escape_html(x, b);
    if (!a || !b)
        return NULL;
    struct text t = {.x = x};
    text_add(&t, a->str.s, a->str.len);
    text_add(&t, b->str.s, b->str.len);
    struct value *v = text_value(&t);
    if (v)
        v->str.markup = markup;
    return v;
}

static struct value *repeat_seq(struct interp *x, const struct type *t, struct value **v, size_t n,
                                size_t times) {
    size_t all;
    if (!n || !times)
        return value_seq(x->pool, t, NULL, 0);
    if (!mul_size(n, times, &all) || !interp_room(x, all > SIZE_MAX / 16 ? SIZE_MAX : all * 8) ||
        !interp_charge(x, all / 8))
        return interp_fail(x, "a %s of %zu times %zu items is too large", t->name, times, n);
    struct value **out = pool_alloc(x->pool, all * sizeof *out);
    for (size_t i = 0; i < all; i++)
        out[i] = v[i % n];
    return value_seq(x->pool, t, out, all);
}

struct value *value_add(struct interp *x, struct value *a, struct value *b) {
    int64_t sum;
    if (both_integral(a, b))
        return __builtin_add_overflow(a->i, b->i, &sum) ? fail_size(x) : value_int(x->pool, sum);
    if (both_numbers(a, b))
        return value_float(x->pool, number_of(a) + number_of(b));
    if (is_str(a) && is_str(b))
        return join_text(x, a, b);
    bool tuples = is_tuple(a) && is_tuple(b);
    if (!tuples && (a->type != &type_list || b->type != &type_list))
        return fail_types(x, "+", a, b);
    size_t n = a->seq.n + b->seq.n;
    if (!interp_room(x, n * sizeof(struct value *)) || !interp_charge(x, n / 8))
        return NULL;
    struct value **v = pool_alloc(x->pool, n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = i < a->seq.n ? a->seq.v[i] : b->seq.v[i - a->seq.n];
    return value_seq(x->pool, tuples ? &type_tuple : &type_list, v, n);
}

struct value *value_sub(struct interp *x, struct value *a, struct value *b) {
    int64_t d;
    if (both_integral(a, b))
        return __builtin_sub_overflow(a->i, b->i, &d) ? fail_size(x) : value_int(x->pool, d);
    if (both_numbers(a, b))
        return value_float(x->pool, number_of(a) - number_of(b));
    return fail_types(x, "-", a, b);
}

struct value *value_mul(struct interp *x, struct value *a, struct value *b) {
    int64_t p;
    if (both_integral(a, b))
        return __builtin_mul_overflow(a->i, b->i, &p) ? fail_size(x) : value_int(x->pool, p);
    if (both_numbers(a, b))
        return value_float(x->pool, number_of(a) * number_of(b));
    struct value *seq = is_integral(a) ? b : a, *count = is_integral(a) ? a : b;
    if (!is_integral(count))
        return fail_types(x, "*", a, b);
    size_t times = count->i > 0 ? (size_t)count->i : 0;
    if (is_str(seq)) {
        struct text t = {.x = x};
        text_fill(&t, seq->str.s, seq->str.len, times);
        struct value *v = text_value(&t);
        if (v)
            v->str.markup = seq->str.markup;
        return v;
    }
    if (seq->type == &type_list || is_tuple(seq))
        return repeat_seq(x, seq->type == &type_list ? &type_list : &type_tuple, seq->seq.v,
                          seq->seq.n, times);
    return fail_types(x, "*", a, b);
}

/* ---- / // % ---- */
struct value *value_div(struct interp *x, struct value *a, struct value *b) {
    if (!both_numbers(a, b))
        return fail_types(x, "/", a, b);
    if (number_of(b) == 0)
        return interp_fail(x, "division by zero");
    if (both_integral(a, b))                // one rounding, also where a double cannot hold a or b
        return value_float(x->pool, (double)((long double)a->i / (long double)b->i));
    return value_float(x->pool, number_of(a) / number_of(b));
}

static double float_mod(double a, double b) {
    double m = fmod(a, b);
    if (m == 0)
        return copysign(0, b);
    return (b < 0) != (m < 0) ? m + b : m;
}

static double float_floordiv(double a, double b) {
    double m = fmod(a, b), d = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0))
        d -= 1;
    if (d == 0)
        return copysign(0, a / b);
    double f = floor(d);
    return d - f > 0.5 ? f + 1 : f;
}

struct value *value_floordiv(struct interp *x, struct value *a, struct value *b) {
    if (!both_numbers(a, b))
        return fail_types(x, "//", a, b);
    if (number_of(b) == 0)
        return interp_fail(x, "integer division or modulo by zero");
    if (!both_integral(a, b))
        return value_float(x->pool, float_floordiv(number_of(a), number_of(b)));
    if (b->i == -1)
        return a->i == INT64_MIN ? fail_size(x) : value_int(x->pool, -a->i);
    int64_t q = a->i / b->i;
    return value_int(x->pool, q - (a->i % b->i != 0 && (a->i < 0) != (b->i < 0)));
}

struct value *value_mod(struct interp *x, struct value *a, struct value *b) {
    if (is_str(a))
        return format_percent(x, a, b);
    if (!both_numbers(a, b))
        return fail_types(x, "%", a, b);
    if (number_of(b) == 0)
        return interp_fail(x, "integer division or modulo by zero");
    if (!both_integral(a, b))
        return value_float(x->pool, float_mod(number_of(a), number_of(b)));
    int64_t m = b->i == -1 ? 0 : a->i % b->i;
    return value_int(x->pool, m && (m < 0) != (b->i < 0) ? m + b->i : m);
}

/* ---- ** and signs ---- */
static struct value *float_pow(struct interp *x, double a, double b) {
    if (a == 0 && b < 0)
        return interp_fail(x, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && floor(b) != b)
        return interp_fail(x, "complex numbers are not supported");
    double p = pow(a, b);
    if (isinf(p) && isfinite(a) && isfinite(b))
        return interp_fail(x, "** overflows a float");
    return value_float(x->pool, p);
}

struct value *value_pow(struct interp *x, struct value *a, struct value *b) {
    if (!both_numbers(a, b))
        return fail_types(x, "** or pow()", a, b);
    if (!both_integral(a, b) || b->i < 0)
        return float_pow(x, number_of(a), number_of(b));
    int64_t p = 1, square = a->i;
    for (int64_t e = b->i; e; e >>= 1) {
        if ((e & 1) && __builtin_mul_overflow(p, square, &p))
            return fail_size(x);
        if (e > 1 && __builtin_mul_overflow(square, square, &square))
            return fail_size(x);
    }
    return value_int(x->pool, p);
}

static struct value *sign(struct interp *x, struct value *a, bool negative) {
    if (a->type == &type_float)
        return value_float(x->pool, negative ? -a->f : a->f);
    if (is_undefined(a))
        return fail_undefined(x, a);
    if (!is_integral(a))
        return interp_fail(x, "bad operand type for unary %c: '%s'", negative ? '-' : '+',
                           a->type->name);
    if (negative && a->i == INT64_MIN)
        return fail_size(x);
    return value_int(x->pool, negative ? -a->i : a->i);
}

struct value *value_neg(struct interp *x, struct value *a) {
    return sign(x, a, true);
}

struct value *value_pos(struct interp *x, struct value *a) {
    return sign(x, a, false);
}

/* ---- conversions ---- */
struct value *int_of_float(struct interp *x, double f) {
    if (isnan(f))
        return interp_fail(x, "cannot convert float NaN to integer");
    if (isinf(f))
        return interp_fail(x, "cannot convert float infinity to integer");
    if (f < -9223372036854775808.0 || f >= 9223372036854775808.0)
        return fail_size(x);
    return value_int(x->pool, (int64_t)f);
}

/* round(i, -k): to a multiple of 10^k, ties to the even one. */
static struct value *round_int(struct interp *x, int64_t i, int64_t digits) {
    int64_t unit = 1;
    for (int64_t k = digits; k < 0; k++)
        if (__builtin_mul_overflow(unit, 10, &unit))
            return value_int(x->pool, 0);   // 10^19: more than twice any int64
    if (unit == 1)
        return value_int(x->pool, i);
    int64_t rest = i % unit, q = i / unit;
    int64_t twice = (rest < 0 ? -rest : rest) - (unit - (rest < 0 ? -rest : rest));
    if (twice > 0 || (twice == 0 && q % 2))
        q += i < 0 ? -1 : 1;
    return __builtin_mul_overflow(q, unit, &q) ? fail_size(x) : value_int(x->pool, q);
}

/* Rounds the exact decimal expansion of f before the point, digit by digit, ties to even. */
static double round_tens(double f, int places) {
    char b[1500];                           // 309 digits, a point and at most 1074 more
    int n = snprintf(b, sizeof b, "%.1080f", fabs(f));
    int point = (int)(strchr(b, '.') - b), keep = point - places;
    if (keep < 0)
        return copysign(0, f);
    int at = keep;                          // the first digit that goes
    bool tie = b[at] == '5' && strspn(b + at + 1, "0.") == (size_t)(n - at - 1);
    bool up = tie ? keep > 0 && (b[keep - 1] - '0') % 2 : b[at] >= '5';
    b[keep] = '\0';
    char digits[1520];
    snprintf(digits, sizeof digits, "%se%d", keep ? b : "0", places);
    double down = strtod(digits, NULL);
    if (!up)
        return copysign(down, f);
    for (int i = keep - 1; i >= 0; i--) {   // add one in decimal: no second rounding
        if (b[i] != '9') {
            b[i]++;
            snprintf(digits, sizeof digits, "%se%d", b, places);
            return copysign(strtod(digits, NULL), f);
        }
        b[i] = '0';
    }
    snprintf(digits, sizeof digits, "1%se%d", keep ? b : "", places);
    return copysign(strtod(digits, NULL), f);
}

struct value *round_to(struct interp *x, struct value *v, int64_t digits) {
    if (is_integral(v))
        return round_int(x, v->i, digits);
    if (v->type != &type_float)
        return is_undefined(v) ? fail_undefined(x, v)
               : interp_fail(x, "type %s doesn't define __round__ method", v->type->name);
    if (!isfinite(v->f) || digits > 323)
        return v;
    if (digits < -308)
        return value_float(x->pool, copysign(0, v->f));
    double r;
    if (digits < 0) {
        if (!interp_charge(x, 64))          // a thousand digits
            return NULL;
        r = round_tens(v->f, (int)-digits);
    } else {
        char b[700];
        snprintf(b, sizeof b, "%.*f", (int)digits, v->f);
        r = strtod(b, NULL);
    }
    return isinf(r) ? interp_fail(x, "rounded value too large to represent")
                    : value_float(x->pool, r);
}

/* ---- numbers from text ---- */
static int digit_value(int32_t c) {
    if (py_decimal(c))
        return py_decimal_value(c);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

static int prefix_base(const char *s, size_t n) {
    if (n < 2 || s[0] != '0')
        return 0;
    return s[1] == 'x' || s[1] == 'X' ? 16 : s[1] == 'o' || s[1] == 'O' ? 8
           : s[1] == 'b' || s[1] == 'B' ? 2 : 0;
}

bool parse_python_int(const char *s, size_t n, int base, int64_t *out, bool *overflow) {
    *overflow = false;
    size_t skip = py_lstrip(s, n);
    s += skip;
    n = py_rstrip(s, n - skip);
    bool negative = n && *s == '-';
    if (n && (*s == '-' || *s == '+'))
        s++, n--;
    bool from_prefix = base == 0;
    int prefix = prefix_base(s, n);
    if (prefix && (base == 0 || base == prefix)) {
        base = prefix;
        s += 2, n -= 2;
        if (n && *s == '_')
            s++, n--;
    } else if (base == 0) {
        base = 10;
    }
    if (base < 2 || base > 36 || !n)
        return false;
    bool digit = false, nonzero = false, leading_zero = false;
    int64_t v = 0;
    for (const char *p = s, *end = s + n; p < end;) {
        int32_t c = utf8_get(&p);
        if (c == '_') {
            if (!digit || p == end)
                return false;
            digit = false;
            continue;
        }
        int d = digit_value(c);
        if (d >= base)
            return false;
        leading_zero |= p - s == 1 && d == 0;
        nonzero |= d != 0;
        digit = true;
        if (__builtin_mul_overflow(v, base, &v) ||
            __builtin_add_overflow(v, negative ? -d : d, &v))
            *overflow = true;
    }
    if (!digit || (from_prefix && !prefix && leading_zero && nonzero))
        return false;                       // int("010", 0) is an error
    *out = v;
    return true;
}

bool parse_python_float(const char *s, size_t n, double *out) {
    char plain[512];
    size_t skip = py_lstrip(s, n), len = 0;
    const char *p = s + skip, *end = p + py_rstrip(p, n - skip);
    bool digit = false;
    while (p < end && len < sizeof plain - 1) {
        int32_t c = utf8_get(&p);
        if (c == '_') {
            const char *q = p;
            if (!digit || p == end || !py_decimal(utf8_get(&q)))
                return false;
            continue;
        }
        digit = py_decimal(c);
        if (digit)
            c = '0' + py_decimal_value(c);
        if (c > 0x7E || c <= ' ')
            return false;
        plain[len++] = (char)c;
    }
    plain[len] = '\0';
    const char *body = plain + (plain[0] == '+' || plain[0] == '-');
    static const char *const words[] = {"inf", "infinity", "nan"};
    bool word = false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        word |= strcasecmp(body, words[i]) == 0;
    if (p < end || !len || (!word && strspn(body, "0123456789.eE+-") != strlen(body)))
        return false;
    char *stop;
    *out = strtod(plain, &stop);
    return *stop == '\0' && stop != plain && (word || !isnan(*out));
}

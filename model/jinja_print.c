/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_print.c — str() and repr() of values.
 *
 * Strings print as themselves, and within containers as Python literals: single quotes unless
 * only those occur inside, characters that str.isprintable refuses as escapes. Floats print the
 * shortest digits that read back as the same number, as repr does. What Python prints with an
 * address in memory (functions, generators) is refused.
 */
#include "model/jinja_type.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_text.h"

bool value_print(struct text *t, struct value *v, bool repr) {
    if (!v->type->print)
        return interp_fail(t->x, "a %s cannot be printed (hint: |list, or a call is missing)",
                           v->type->name);
    if (!interp_enter(t->x))
        return false;
    bool ok = v->type->print(t, v, repr) && !t->over;
    interp_leave(t->x);
    return ok;
}

struct value *value_to_str(struct interp *x, struct value *v) {
    if (is_str(v))
        return v;
    struct text t = {.x = x};
    return value_print(&t, v, false) ? text_value(&t) : NULL;
}

bool print_none(struct text *t, struct value *v, bool repr) {
    (void)v, (void)repr;
    text_puts(t, "None");
    return true;
}

bool print_bool(struct text *t, struct value *v, bool repr) {
    (void)repr;
    text_puts(t, v->i ? "True" : "False");
    return true;
}

bool print_int(struct text *t, struct value *v, bool repr) {
    (void)repr;
    text_printf(t, "%" PRId64, v->i);
    return true;
}

/* The decimal with one more in its last place: d.ddde+XX, no carry into a new digit. */
static bool next_decimal(char *s) {
    for (char *p = strchr(s, 'e') - 1; p >= s; p--) {
        if (*p >= '0' && *p < '9') {
            ++*p;
            return true;
        }
        if (*p == '9')
            *p = '0';
    }
    return false;
}

/* d.ddde+XX with so many digits; does it read back as f? Below a power of two doubles lie twice as
 * close, so the nearest decimal may miss it where the one above hits. */
static bool reads_back(double f, int digits, bool power, char out[FLOAT_REPR]) {
    snprintf(out, FLOAT_REPR, "%.*e", digits - 1, f);
    return strtod(out, NULL) == f || (power && next_decimal(out) && strtod(out, NULL) == f);
}

/* The fewest digits that read back as f. A decimal of up to 15 digits survives as a normal double,
 * so where 15 do, the fewest are those without the zeros behind. */
static void shortest(double f, char out[FLOAT_REPR]) {
    int exponent, digits = fabs(f) < DBL_MIN ? 1 : 15;
    bool power = fabs(frexp(f, &exponent)) == 0.5;
    while (digits < 17 && !reads_back(f, digits, power, out))
        digits++;
    if (digits == 17)
        reads_back(f, digits, power, out);
    char *e = strchr(out, 'e'), *end = e;
    while (digits == 15 && end[-1] == '0')
        end--;
    end -= end[-1] == '.';
    memmove(end, e, strlen(e) + 1);
}

void float_repr(double f, char out[FLOAT_REPR]) {
    if (!isfinite(f)) {
        snprintf(out, FLOAT_REPR, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    shortest(f, out);
    char *e = strchr(out, 'e');
    long exponent = strtol(e + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16)
        return;
    /* Fixed notation of the same decimal, with at least one digit behind the point. */
    int digits = (int)(e - out) - (out[0] == '-') - (strchr(out, '.') != NULL);
    snprintf(out, FLOAT_REPR, "%.*f", MAX(1, digits - 1 - (int)exponent), strtod(out, NULL));
}

bool print_float(struct text *t, struct value *v, bool repr) {
    (void)repr;
    char b[FLOAT_REPR];
    float_repr(v->f, b);
    text_puts(t, b);
    return true;
}

static void print_code(struct text *t, int32_t c) {
    text_printf(t, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
}

static void print_escaped(struct text *t, int32_t c, char quote) {
    const char *short_form = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t"
                             : c == '\\' ? "\\\\" : NULL;
    if (short_form)
        text_puts(t, short_form);
    else if (c == quote)
        text_printf(t, "\\%c", quote);
    else if (!py_printable(c))
        print_code(t, c);
    else
        text_char(t, c);
}

void print_str_repr(struct text *t, const char *s, size_t len) {
    char quote = memchr(s, '\'', len) && !memchr(s, '"', len) ? '"' : '\'';
    text_add(t, &quote, 1);
    for (const char *p = s; p < s + len && !t->over;)
        print_escaped(t, utf8_get(&p), quote);
    text_add(t, &quote, 1);
}

/* repr with escapes for whatever is not ASCII. */
bool print_ascii(struct text *t, struct value *v) {
    struct text r = {.x = t->x};
    if (!value_print(&r, v, true))
        return false;
    for (const char *p = r.s; p < r.s + r.len && !t->over;) {
        int32_t c = utf8_get(&p);
        if (c < 0x80)
            text_char(t, c);
        else
            print_code(t, c);
    }
    return !t->over;
}

bool print_str(struct text *t, struct value *v, bool repr) {
    if (!repr) {
        text_add(t, v->str.s, v->str.len);
        return true;
    }
    if (v->str.markup)
        text_puts(t, "Markup(");
    print_str_repr(t, v->str.s, v->str.len);
    if (v->str.markup)
        text_puts(t, ")");
    return true;
}

static bool print_items(struct text *t, struct value *v) {
    for (size_t i = 0; i < v->seq.n; i++) {
        text_puts(t, i ? ", " : "");
        if (!interp_charge(t->x, 1) || !value_print(t, v->seq.v[i], true))
            return false;
    }
    return true;
}

bool print_seq(struct text *t, struct value *v, bool repr) {
    (void)repr;
    bool list = v->type == &type_list;
    text_puts(t, list ? "[" : "(");
    bool ok = print_items(t, v);
    text_puts(t, list ? "]" : v->seq.n == 1 ? ",)" : ")");
    return ok;
}

bool print_dict(struct text *t, struct value *v, bool repr) {
    (void)repr;
    bool space = v->type == &type_namespace;
    text_puts(t, space ? "<Namespace {" : "{");
    for (size_t i = 0; i < v->dict->n; i++) {
        text_puts(t, i ? ", " : "");
        if (!interp_charge(t->x, 1) || !value_print(t, v->dict->entry[i].key, true))
            return false;
        text_puts(t, ": ");
        if (!value_print(t, v->dict->entry[i].value, true))
            return false;
    }
    text_puts(t, space ? "}>" : "}");
    return true;
}

bool print_view(struct text *t, struct value *v, bool repr) {
    (void)repr;
    struct value *list = value_to_list(t->x, v);
    if (!list)
        return false;
    text_printf(t, "%s(", v->type->name);
    bool ok = value_print(t, list, true);
    text_puts(t, ")");
    return ok;
}

bool print_range(struct text *t, struct value *v, bool repr) {
    (void)repr;
    text_printf(t, "range(%" PRId64 ", %" PRId64, v->range.start, v->range.stop);
    if (v->range.step != 1)
        text_printf(t, ", %" PRId64, v->range.step);
    text_puts(t, ")");
    return true;
}

bool print_undefined(struct text *t, struct value *v, bool repr) {
    (void)v;
    text_puts(t, repr ? "Undefined" : "");
    return true;
}

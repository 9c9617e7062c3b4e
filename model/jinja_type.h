/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_type.h — what can be done with values: types, functions, operations; only jinja's files
 * include it.
 */
#ifndef KEEL_JINJA_TYPE_H
#define KEEL_JINJA_TYPE_H

#include "model/jinja_value.h"

/* ---- what types can do ---- */
struct call {
    struct value **pos;
    size_t n;
    struct dict *kw;                        /* NULL: none */
};
enum { FN_PROPERTY = 1, FN_UNSAFE = 2 };
/* A filter, test, method, property or global. run == NULL: Python has it, this has not. */
struct function {
    const char *name;
    /* "old new count?": names in order, "?" optional (a[i] is NULL when not given); "/" in front:
     * by position only; "*": the rest as a tuple; "**": other names as a dict. */
    const char *params;
    struct value *(*run)(struct interp *x, struct value *self, struct value **a);
    int flags;
};
enum { FN_PARAMS = 8 };                     /* at most */
struct value *function_call(struct interp *x, const struct function *f, struct value *self,
                            const struct call *c);
const struct function *function_find(const struct function *table, const char *name, size_t len);
/* Tables end with name == NULL. */
extern const struct function sequence_filters[], test_table[], global_table[];
extern const struct function str_attrs[];
const struct function *filter_find(const char *name, size_t len);       /* NULL: not Jinja's */

/* How a type is walked. */
struct walk {
    struct iter *(*iter)(struct interp *x, struct value *v);
    struct iter *(*reversed)(struct interp *x, struct value *v);    /* NULL: cannot be */
    bool (*len)(struct interp *x, struct value *v, size_t *n);      /* NULL: has none */
};
extern const struct walk walk_seq, walk_str, walk_dict, walk_range, walk_nothing, walk_iter;

struct type {
    const char *name;                       /* Python's */
    const struct function *attrs;           /* methods and properties; NULL: none */
    const struct walk *walk;                /* NULL: not iterable */
    int (*truth)(struct value *v);          /* NULL: by length; without one, true */
    bool (*print)(struct text *t, struct value *v, bool repr);      /* NULL: shows an address */
    int (*attr)(struct interp *x, struct value *v, const char *name, struct value **out);
    int (*item)(struct interp *x, struct value *v, struct value *key, struct value **out);
    struct value *(*call)(struct interp *x, struct value *v, const struct call *c);
};

/* ---- operations (jinja_object.c) ---- */
int value_truth(struct interp *x, struct value *v);
bool value_len(struct interp *x, struct value *v, size_t *n);
struct value *value_getattr(struct interp *x, struct value *v, const char *name);
struct value *value_getitem(struct interp *x, struct value *v, struct value *key);
/* -1, 0, 1; with sandbox rules. */
int value_attr(struct interp *x, struct value *v, const char *name, struct value **out);
struct value *value_slice(struct interp *x, struct value *v, struct value *const bounds[3]);
struct value *value_call(struct interp *x, struct value *v, const struct call *c);
struct value *fail_undefined(struct interp *x, const struct value *v);
/* An int (or bool) argument; NULL v gives def. */
bool want_int(struct interp *x, struct value *v, const char *what, int64_t def, int64_t *out);
bool want_str(struct interp *x, struct value *v, const char *what, struct value **out);

/* ---- comparing (jinja_compare.c) ---- */
enum order { ORDER_LT, ORDER_LE, ORDER_GT, ORDER_GE };
int value_equal(struct interp *x, struct value *a, struct value *b);
int value_order(struct interp *x, struct value *a, struct value *b, enum order op);
int value_contains(struct interp *x, struct value *container, struct value *item);
/* Stable; by keys[i], or by the items themselves. */
bool values_sort(struct interp *x, struct value **v, struct value **keys, size_t n, bool reverse);

/* ---- printing (jinja_print.c) ---- */
bool value_print(struct text *t, struct value *v, bool repr);   /* str(v), or repr(v) */
bool print_none(struct text *t, struct value *v, bool repr);    /* for the rows of types */
bool print_bool(struct text *t, struct value *v, bool repr);
bool print_int(struct text *t, struct value *v, bool repr);
bool print_float(struct text *t, struct value *v, bool repr);
bool print_str(struct text *t, struct value *v, bool repr);
bool print_seq(struct text *t, struct value *v, bool repr);
bool print_dict(struct text *t, struct value *v, bool repr);
bool print_view(struct text *t, struct value *v, bool repr);
bool print_range(struct text *t, struct value *v, bool repr);
bool print_undefined(struct text *t, struct value *v, bool repr);
struct value *value_to_str(struct interp *x, struct value *v);  /* a str stays itself */
enum { FLOAT_REPR = 32 };
void float_repr(double f, char out[FLOAT_REPR]);
void print_str_repr(struct text *t, const char *s, size_t len);
bool print_ascii(struct text *t, struct value *v);              /* ascii(v) */

/* ---- JSON (jinja_json.c) ---- */
/* json.dumps(v, ensure_ascii, indent, separators, sort_keys): the options, NULL when not given. */
struct value *value_to_json(struct interp *x, struct value *v, struct value *const options[4]);
struct value *value_from_json(struct interp *x, const json_t *j);

/* ---- arithmetic (jinja_number.c) ---- */
struct value *value_add(struct interp *x, struct value *a, struct value *b);
struct value *value_sub(struct interp *x, struct value *a, struct value *b);
struct value *value_mul(struct interp *x, struct value *a, struct value *b);
struct value *value_div(struct interp *x, struct value *a, struct value *b);
struct value *value_floordiv(struct interp *x, struct value *a, struct value *b);
struct value *value_mod(struct interp *x, struct value *a, struct value *b);
struct value *value_pow(struct interp *x, struct value *a, struct value *b);
struct value *value_neg(struct interp *x, struct value *a);
struct value *value_pos(struct interp *x, struct value *a);
struct value *int_of_float(struct interp *x, double f);
struct value *round_to(struct interp *x, struct value *v, int64_t digits);
bool parse_python_int(const char *s, size_t n, int base, int64_t *out, bool *overflow);
bool parse_python_float(const char *s, size_t n, double *out);

/* ---- formatting (jinja_format.c, jinja_spec.c) ---- */
struct value *format_percent(struct interp *x, struct value *fmt, struct value *args);
struct value *format_braces(struct interp *x, struct value *fmt, const struct call *c);
bool format_spec(struct text *t, struct value *v, const char *spec, size_t n);   /* format(v) */
struct number_style {
    char sign;                              /* '-' only of negative numbers, '+' or ' ' */
    char group;                             /* ',' or '_' between digits; 0: none */
    char type;                              /* d b o x X e E f F g G %, r as repr does, 0 as r
                                               or, with a precision, nearly g */
    bool alt;                               /* '#' */
    int precision;                          /* -1: none */
    int digits;                             /* at least so many of an integer */
    size_t zeros;                           /* width that leading zeros fill; 0: none */
};
bool print_number(struct text *t, struct value *v, const struct number_style *st, size_t *sign);
void print_padded(struct text *t, const struct text *body, size_t sign, int32_t fill, char align,
                  size_t width);
struct value *escape_html(struct interp *x, struct value *v);   /* Markup */
#endif

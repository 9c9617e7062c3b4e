/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_value.h — the values of a running template, as Python has them; only jinja's files
 * include it.
 *
 * A value is a type and a payload. It never changes once made (what does change, a namespace or
 * an iterator, hangs behind a pointer), so a pointer to one is a reference in Python's sense.
 * Everything lives in the pool of its rendering, or for constants of its template, and dies with
 * it; nothing is freed one by one.
 *
 * A function that gives a value gives NULL once it has called interp_fail; "-1, 0, 1" means
 * failed, no, yes; bool false means failed.
 */
#ifndef KEEL_JINJA_VALUE_H
#define KEEL_JINJA_VALUE_H

#include "model/jinja.h"

/* ---- memory (jinja_value.c) ---- */
struct pool {
    struct pool_chunk *last;
    size_t bytes;                           /* taken from the system */
};
void *pool_alloc(struct pool *p, size_t n);             /* zeroed */
void *pool_grow(struct pool *p, void *old, size_t was, size_t n);
void pool_release(struct pool *p);

/* ---- one rendering (jinja.c) ---- */
struct interp {
    const struct jinja *j;
    struct pool *pool;
    struct jinja_limits limits;
    size_t steps;
    int depth;
    int line;                               /* where it failed; 0: not known yet */
    char message[900];                      /* why it failed; "": it did not */
    struct value *context;                  /* dict */
    struct text *out;                       /* where output goes */
    int captured;                           /* > 0: that is not the final text */
    int generating;                         /* {% generation %} blocks around */
    struct jinja_span *spans;
    int nspans;                             /* -1: see jinja.h */
    time_t now;
};
/* The first message stays. NULL, so that `return interp_fail(...)` composes. */
struct value *interp_fail(struct interp *x, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool interp_charge(struct interp *x, size_t steps);
bool interp_room(struct interp *x, size_t bytes);       /* may this much more be allocated? */
bool interp_enter(struct interp *x);                    /* one level deeper; then interp_leave */
static inline void interp_leave(struct interp *x) {
    x->depth--;
}

/* ---- growing text and lists of one rendering (jinja_value.c) ---- */
struct text {
    struct interp *x;
    char *s;
    size_t len, cap;
    bool over;                              /* a limit was met: interp_fail was called */
};
void text_add(struct text *t, const char *s, size_t n);
void text_puts(struct text *t, const char *s);
void text_fill(struct text *t, const char *s, size_t n, size_t times);
void text_char(struct text *t, int32_t c);              /* a code point */
void text_printf(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);   /* short */
struct value *text_value(struct text *t);               /* a str; NULL after a limit */

struct values {
    struct interp *x;
    struct value **v;
    size_t n, cap;
};
bool values_add(struct values *l, struct value *v);

/* ---- values ---- */
struct value {
    const struct type *type;
    union {
        int64_t i;                          /* int, bool */
        double f;
        struct {
            const char *s;
            size_t len, count;              /* bytes, code points */
            bool markup;                    /* Markup: what is joined to it is escaped */
        } str;
        struct {
            struct value **v;
            size_t n;
        } seq;                              /* list, tuple, group */
        struct dict *dict;                  /* dict, its views, namespace */
        struct {
            int64_t start, stop, step;
            size_t n;
        } range;
        struct {
            const struct function *fn;
            struct value *self;             /* NULL: not a method */
        } bound;
        struct iter *iter;
        struct undefined *undefined;
        struct macro *macro;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
    };
};
struct undefined {
    const char *hint;                       /* the message; NULL: made of the others */
    struct value *obj, *name;               /* of which object (NULL: a variable); what */
};

extern const struct type type_none, type_bool, type_int, type_float, type_str, type_list,
    type_tuple, type_group, type_dict, type_keys, type_values, type_items, type_range, type_iter,
    type_undefined, type_namespace, type_function, type_macro, type_loop, type_cycler,
    type_joiner;
extern struct value value_none, value_true, value_false;

struct value *value_int(struct pool *p, int64_t i);
struct value *value_float(struct pool *p, double f);
struct value *value_str(struct pool *p, const char *s, size_t len);     /* s is borrowed */
struct value *value_cstr(struct pool *p, const char *s);                /* borrowed */
struct value *value_copy_str(struct interp *x, const char *s, size_t len);
struct value *value_seq(struct pool *p, const struct type *t, struct value **v, size_t n);
struct value *value_pair(struct pool *p, struct value *a, struct value *b);     /* tuple */
struct value *value_of_dict(struct pool *p, const struct type *t, struct dict *d);
struct value *value_of_iter(struct interp *x, struct iter *it);
struct value *value_undefined(struct interp *x, const char *hint, struct value *obj,
                              struct value *name);
static inline struct value *value_bool(bool b) {
    return b ? &value_true : &value_false;
}
static inline bool is_str(const struct value *v) {
    return v->type == &type_str;
}
static inline bool is_none(const struct value *v) {
    return v->type == &type_none;
}
static inline bool is_undefined(const struct value *v) {
    return v->type == &type_undefined;
}
static inline bool is_integral(const struct value *v) {     /* bool is an int */
    return v->type == &type_int || v->type == &type_bool;
}
static inline bool is_number(const struct value *v) {
    return is_integral(v) || v->type == &type_float;
}
static inline double number_of(const struct value *v) {
    return v->type == &type_float ? v->f : (double)v->i;
}
static inline bool is_tuple(const struct value *v) {
    return v->type == &type_tuple || v->type == &type_group;
}

/* ---- dictionaries: insertion order; entries are never removed (jinja_dict.c) ---- */
struct dict_entry {
    struct value *key, *value;
    uint64_t hash;
};
struct dict {
    struct dict_entry *entry;
    size_t n, cap;
    uint32_t *slot;                         /* entry + 1, open addressing; 0: empty */
    size_t slots;
};
struct dict *dict_new(struct interp *x);
/* false: out of limits, or the key cannot be hashed. */
bool dict_set(struct interp *x, struct dict *d, struct value *key, struct value *value);
int dict_find(struct interp *x, const struct dict *d, struct value *key, struct value **out);
struct value *dict_get(const struct dict *d, const char *name, size_t len);     /* or NULL */
bool dict_put(struct interp *x, struct dict *d, const char *name, struct value *value);
/* false, and no message for a type that cannot be hashed. */
bool value_hash(struct interp *x, const struct value *v, uint64_t *out);

/* ---- iteration (jinja_iter.c) ---- */
struct iter {
    int (*next)(struct interp *x, struct iter *it, struct value **out);     /* 0: at the end */
    struct value *src;                      /* what is walked, or arguments of a filter */
    struct iter *in;
    size_t i;
    void *state;
    bool started, done;
};
struct iter *iter_new(struct interp *x,
                      int (*next)(struct interp *, struct iter *, struct value **),
                      struct value *src);
struct iter *value_iter(struct interp *x, struct value *v);     /* NULL: not iterable */
struct iter *value_reversed(struct interp *x, struct value *v, bool *can);
int iter_next(struct interp *x, struct iter *it, struct value **out);
struct value *range_at(struct interp *x, const struct value *v, size_t i);      /* of a range */
bool values_from(struct values *out, struct value *iterable);   /* list(iterable) */
struct value *value_to_list(struct interp *x, struct value *iterable);

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
extern const struct function value_filters[], sequence_filters[], test_table[], global_table[];
extern const struct function str_attrs[];
const struct function *filter_find(const char *name, size_t len);       /* NULL: not Jinja's */

/* How a type is walked. */
struct walk {
    struct iter *(*iter)(struct interp *x, struct value *v);
    struct iter *(*reversed)(struct interp *x, struct value *v);    /* NULL: cannot be */
    bool (*len)(struct interp *x, struct value *v, size_t *n);      /* NULL: has none */
};
extern const struct walk walk_seq, walk_str, walk_dict, walk_range, walk_nothing, walk_iter,
    walk_loop;

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

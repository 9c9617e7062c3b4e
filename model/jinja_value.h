/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_value.h — the values of a running template, as Python has them; only jinja's files
 * include it.
 *
 * A value is a type and a payload. It never changes once made (what does change, a namespace or
 * an iterator, hangs behind a pointer), so a pointer to one is a reference in Python's sense.
 */
#ifndef KEEL_JINJA_VALUE_H
#define KEEL_JINJA_VALUE_H

#include "model/jinja_interp.h"

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
    type_undefined, type_namespace, type_function;      /* those of macros and so on are local */
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

#endif

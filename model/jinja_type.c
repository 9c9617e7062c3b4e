/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_type.c — the rows of types: their items, their methods, how they are walked and printed.
 *
 * A list or dict never changes here, so copies are the values themselves. Methods of str are in
 * jinja_string.c; loop, macro and the objects that globals make are where they are made.
 */
#include "model/jinja_type.h"

#include <math.h>
#include <string.h>

#include "model/jinja_text.h"

#define METHOD(name) \
    static struct value *name(struct interp *x, struct value *self, struct value **a)

/* ---- truth ---- */
static int truth_none(struct value *v) {
    (void)v;
    return 0;
}

static int truth_int(struct value *v) {
    return v->i != 0;
}

static int truth_float(struct value *v) {
    return v->f != 0;
}

/* ---- items ---- */
/* The index that key means in a sequence of n; false: none (as TypeError and IndexError). */
static bool index_in(const struct value *key, size_t n, size_t *at) {
    if (!is_integral(key))
        return false;
    int64_t i = key->i < 0 ? key->i + (int64_t)n : key->i;
    *at = (size_t)i;
    return i >= 0 && (size_t)i < n;
}

static int item_seq(struct interp *x, struct value *v, struct value *key, struct value **out) {
    (void)x;
    size_t at;
    if (!index_in(key, v->seq.n, &at))
        return 0;
    *out = v->seq.v[at];
    return 1;
}

static int item_str(struct interp *x, struct value *v, struct value *key, struct value **out) {
    size_t at;
    if (!index_in(key, v->str.count, &at))
        return 0;
    bool ascii = v->str.count == v->str.len;
    if (!ascii && !interp_charge(x, at / 64))
        return -1;
    const char *p = ascii ? v->str.s + at : utf8_skip(v->str.s, v->str.len, at), *end = p;
    utf8_get(&end);
    *out = value_str(x->pool, p, (size_t)(end - p));
    (*out)->str.markup = v->str.markup;
    return 1;
}

static int item_range(struct interp *x, struct value *v, struct value *key, struct value **out) {
    size_t at;
    if (!index_in(key, v->range.n, &at))
        return 0;
    *out = range_at(x, v, at);
    return 1;
}

static int item_dict(struct interp *x, struct value *v, struct value *key, struct value **out) {
    uint64_t hash;
    return value_hash(x, key, &hash) ? dict_find(x, v->dict, key, out) : 0;
}

static int item_undefined(struct interp *x, struct value *v, struct value *key,
                          struct value **out) {
    (void)key, (void)out;
    fail_undefined(x, v);
    return -1;
}

static int attr_undefined(struct interp *x, struct value *v, const char *name,
                          struct value **out) {
    (void)name, (void)out;
    fail_undefined(x, v);
    return -1;
}

static int attr_namespace(struct interp *x, struct value *v, const char *name,
                          struct value **out) {
    (void)x;
    *out = dict_get(v->dict, name, strlen(name));
    return *out != NULL;
}

static struct value *call_function(struct interp *x, struct value *v, const struct call *c) {
    return function_call(x, v->bound.fn, v->bound.self, c);
}

/* ---- methods of sequences ---- */
METHOD(itself) {
    (void)x, (void)a;
    return self;
}

METHOD(seq_count) {
    struct iter *it = value_iter(x, self);
    struct value *v;
    int64_t n = 0;
    int rc = it ? 1 : -1;
    while (rc == 1 && (rc = iter_next(x, it, &v)) == 1) {
        int eq = v == a[0] ? 1 : value_equal(x, v, a[0]);
        if (eq < 0)
            return NULL;
        n += eq;
    }
    return rc < 0 ? NULL : value_int(x->pool, n);
}

METHOD(seq_index) {
    size_t len;
    int64_t start, stop;
    if (!value_len(x, self, &len) || !want_int(x, a[1], "start", 0, &start) ||
        !want_int(x, a[2], "stop", (int64_t)len, &stop))
        return NULL;
    start = start < 0 ? MAX(start + (int64_t)len, 0) : start;
    stop = stop < 0 ? stop + (int64_t)len : stop;
    struct iter *it = value_iter(x, self);
    struct value *v;
    int rc = it ? 1 : -1;
    for (int64_t i = 0; rc == 1 && (rc = iter_next(x, it, &v)) == 1; i++) {
        int eq = i < start || i >= stop ? 0 : v == a[0] ? 1 : value_equal(x, v, a[0]);
        if (eq)
            return eq < 0 ? NULL : value_int(x->pool, i);
    }
    return rc < 0 ? NULL : interp_fail(x, "value is not in %s", self->type->name);
}

static const struct function list_attrs[] = {
    {"append", "", NULL, FN_UNSAFE},
    {"clear", "", NULL, FN_UNSAFE},
    {"copy", "", itself, 0},
    {"count", "/ value", seq_count, 0},
    {"extend", "", NULL, FN_UNSAFE},
    {"index", "/ value start? stop?", seq_index, 0},
    {"insert", "", NULL, FN_UNSAFE},
    {"pop", "", NULL, FN_UNSAFE},
    {"remove", "", NULL, FN_UNSAFE},
    {"reverse", "", NULL, FN_UNSAFE},
    {"sort", "", NULL, FN_UNSAFE},
    {0},
};
static const struct function tuple_attrs[] = {
    {"count", "/ value", seq_count, 0},
    {"index", "/ value start? stop?", seq_index, 0},
    {0},
};

METHOD(group_key) {
    (void)x, (void)a;
    return self->seq.v[0];
}

METHOD(group_list) {
    (void)x, (void)a;
    return self->seq.v[1];
}

static const struct function group_attrs[] = {
    {"grouper", "", group_key, FN_PROPERTY},
    {"list", "", group_list, FN_PROPERTY},
    {"count", "/ value", seq_count, 0},
    {"index", "/ value start? stop?", seq_index, 0},
    {0},
};

#define RANGE_PROPERTY(field)                                                                   \
    METHOD(range_##field) {                                                                     \
        (void)a;                                                                                \
        return value_int(x->pool, self->range.field);                                           \
    }
RANGE_PROPERTY(start)
RANGE_PROPERTY(stop)
RANGE_PROPERTY(step)

static const struct function range_attrs[] = {
    {"start", "", range_start, FN_PROPERTY},
    {"stop", "", range_stop, FN_PROPERTY},
    {"step", "", range_step, FN_PROPERTY},
    {"count", "/ value", seq_count, 0},
    {"index", "/ value", seq_index, 0},
    {0},
};

/* ---- methods of dict ---- */
METHOD(dict_attr_get) {
    struct value *v;
    int rc = dict_find(x, self->dict, a[0], &v);
    return rc < 0 ? NULL : rc ? v : a[1] ? a[1] : &value_none;
}

METHOD(dict_attr_keys) {
    (void)a;
    return value_of_dict(x->pool, &type_keys, self->dict);
}

METHOD(dict_attr_values) {
    (void)a;
    return value_of_dict(x->pool, &type_values, self->dict);
}

METHOD(dict_attr_items) {
    (void)a;
    return value_of_dict(x->pool, &type_items, self->dict);
}

static const struct function dict_attrs[] = {
    {"clear", "", NULL, FN_UNSAFE},
    {"copy", "", itself, 0},
    {"fromkeys", "", NULL, 0},
    {"get", "/ key default?", dict_attr_get, 0},
    {"items", "", dict_attr_items, 0},
    {"keys", "", dict_attr_keys, 0},
    {"pop", "", NULL, FN_UNSAFE},
    {"popitem", "", NULL, FN_UNSAFE},
    {"setdefault", "", NULL, FN_UNSAFE},
    {"update", "", NULL, FN_UNSAFE},
    {"values", "", dict_attr_values, 0},
    {0},
};
static const struct function view_attrs[] = {
    {"isdisjoint", "", NULL, 0},
    {"mapping", "", NULL, FN_PROPERTY},
    {0},
};

/* ---- methods of numbers ---- */
METHOD(int_real) {
    (void)a;
    return value_int(x->pool, self->i);
}

METHOD(int_imag) {
    (void)self, (void)a;
    return value_int(x->pool, 0);
}

METHOD(int_denominator) {
    (void)self, (void)a;
    return value_int(x->pool, 1);
}

METHOD(int_bit_length) {
    (void)a;
    uint64_t u = self->i < 0 ? 0 - (uint64_t)self->i : (uint64_t)self->i;
    return value_int(x->pool, u ? 64 - __builtin_clzll(u) : 0);
}

static const struct function int_attrs[] = {
    {"as_integer_ratio", "", NULL, 0},
    {"bit_count", "", NULL, 0},
    {"bit_length", "", int_bit_length, 0},
    {"conjugate", "", int_real, 0},
    {"denominator", "", int_denominator, FN_PROPERTY},
    {"from_bytes", "", NULL, 0},
    {"imag", "", int_imag, FN_PROPERTY},
    {"numerator", "", int_real, FN_PROPERTY},
    {"real", "", int_real, FN_PROPERTY},
    {"to_bytes", "", NULL, 0},
    {0},
};

METHOD(float_imag) {
    (void)self, (void)a;
    return value_float(x->pool, 0);
}

METHOD(float_is_integer) {
    (void)x, (void)a;
    return value_bool(isfinite(self->f) && floor(self->f) == self->f);
}

static const struct function float_attrs[] = {
    {"as_integer_ratio", "", NULL, 0},
    {"conjugate", "", itself, 0},
    {"fromhex", "", NULL, 0},
    {"hex", "", NULL, 0},
    {"imag", "", float_imag, FN_PROPERTY},
    {"is_integer", "", float_is_integer, 0},
    {"real", "", itself, FN_PROPERTY},
    {0},
};

static const struct function iter_attrs[] = {
    {"close", "", NULL, 0},
    {"send", "", NULL, 0},
    {"throw", "", NULL, 0},
    {0},
};

/* ---- the rows ---- */
const struct type type_none = {.name = "NoneType", .truth = truth_none, .print = print_none};
const struct type type_bool = {
    .name = "bool", .attrs = int_attrs, .truth = truth_int, .print = print_bool};
const struct type type_int = {
    .name = "int", .attrs = int_attrs, .truth = truth_int, .print = print_int};
const struct type type_float = {
    .name = "float", .attrs = float_attrs, .truth = truth_float, .print = print_float};
const struct type type_str = {
    .name = "str", .attrs = str_attrs, .walk = &walk_str, .print = print_str, .item = item_str};
const struct type type_list = {
    .name = "list", .attrs = list_attrs, .walk = &walk_seq, .print = print_seq, .item = item_seq};
const struct type type_tuple = {.name = "tuple", .attrs = tuple_attrs, .walk = &walk_seq,
                                .print = print_seq, .item = item_seq};
const struct type type_group = {.name = "_GroupTuple", .attrs = group_attrs, .walk = &walk_seq,
                                .print = print_seq, .item = item_seq};
const struct type type_dict = {.name = "dict", .attrs = dict_attrs, .walk = &walk_dict,
                               .print = print_dict, .item = item_dict};
const struct type type_keys = {
    .name = "dict_keys", .attrs = view_attrs, .walk = &walk_dict, .print = print_view};
const struct type type_values = {
    .name = "dict_values", .attrs = view_attrs, .walk = &walk_dict, .print = print_view};
const struct type type_items = {
    .name = "dict_items", .attrs = view_attrs, .walk = &walk_dict, .print = print_view};
const struct type type_range = {.name = "range", .attrs = range_attrs, .walk = &walk_range,
                                .print = print_range, .item = item_range};
const struct type type_iter = {.name = "generator", .attrs = iter_attrs, .walk = &walk_iter};
const struct type type_undefined = {.name = "Undefined", .walk = &walk_nothing,
                                    .print = print_undefined, .attr = attr_undefined,
                                    .item = item_undefined};
const struct type type_namespace = {
    .name = "Namespace", .print = print_dict, .attr = attr_namespace};
const struct type type_function = {.name = "function", .call = call_function};

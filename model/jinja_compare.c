/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_compare.c — equality, order, membership and sorting by Python's rules.
 *
 * == never fails on types: what cannot be compared is different. Order exists among numbers, among
 * strings, among lists and among tuples; anything else is a TypeError there and a failure here.
 * UTF-8 orders as code points do, so strings are compared as bytes. A long double holds every
 * int64 and every double, which makes mixed comparisons exact.
 */
#define _GNU_SOURCE                         /* memmem, memrchr */
#include "model/jinja_type.h"

#include <float.h>
#include <string.h>

#if LDBL_MANT_DIG < 64
#error "mixed comparisons of int and float need a long double that holds an int64"
#endif

static long double exact(const struct value *v) {
    return v->type == &type_float ? (long double)v->f : (long double)v->i;
}

/* PyObject_RichCompareBool: within containers an object equals itself, NaN included. */
static int same(struct interp *x, struct value *a, struct value *b) {
    return a == b ? 1 : value_equal(x, a, b);
}

static int equal_seq(struct interp *x, struct value *a, struct value *b) {
    if (a->seq.n != b->seq.n)
        return 0;
    int rc = 1;
    for (size_t i = 0; rc == 1 && i < a->seq.n; i++)
        rc = interp_charge(x, 1) ? same(x, a->seq.v[i], b->seq.v[i]) : -1;
    return rc;
}

static int equal_dict(struct interp *x, const struct dict *a, const struct dict *b,
                      bool with_values) {
    if (a->n != b->n)
        return 0;
    int rc = 1;
    for (size_t i = 0; rc == 1 && i < a->n; i++) {
        struct value *other;
        rc = interp_charge(x, 1) ? dict_find(x, b, a->entry[i].key, &other) : -1;
        if (rc == 1 && with_values)
            rc = same(x, a->entry[i].value, other);
    }
    return rc;
}

static int equal_range(const struct value *a, const struct value *b) {
    if (a->range.n != b->range.n)
        return 0;
    return a->range.n == 0 || (a->range.start == b->range.start &&
                               (a->range.n == 1 || a->range.step == b->range.step));
}

int value_equal(struct interp *x, struct value *a, struct value *b) {
    if (is_str(a) && is_str(b)) {
        if (a->str.len != b->str.len)
            return 0;
        if (a->str.len > 64 && x && !interp_charge(x, a->str.len / 64))
            return -1;
        return memcmp(a->str.s, b->str.s, a->str.len) == 0;
    }
    if (is_number(a) && is_number(b))
        return exact(a) == exact(b);
    if (a->type != b->type && !(is_tuple(a) && is_tuple(b)))
        return 0;
    if (is_undefined(a))
        return 1;
    if (a->type == &type_range)
        return equal_range(a, b);
    bool seq = a->type == &type_list || is_tuple(a);
    bool map = a->type == &type_dict || a->type == &type_keys || a->type == &type_items;
    if (!seq && !map)
        return a == b;
    if (!interp_enter(x))
        return -1;
    int rc = seq ? equal_seq(x, a, b) : equal_dict(x, a->dict, b->dict, a->type != &type_keys);
    interp_leave(x);
    return rc;
}

static const char *const order_names[] = {"<", "<=", ">", ">="};

static int by_sign(enum order op, int sign) {
    return op == ORDER_LT ? sign < 0 : op == ORDER_LE ? sign <= 0
           : op == ORDER_GT ? sign > 0 : sign >= 0;
}

/* The first pair that differs decides; else the lengths do. */
static int order_seq(struct interp *x, struct value *a, struct value *b, enum order op) {
    size_t n = MIN(a->seq.n, b->seq.n);
    for (size_t i = 0; i < n; i++) {
        if (!interp_charge(x, 1))
            return -1;
        int eq = same(x, a->seq.v[i], b->seq.v[i]);
        if (eq < 0)
            return -1;
        if (!eq)
            return value_order(x, a->seq.v[i], b->seq.v[i], op);
    }
    return by_sign(op, (a->seq.n > b->seq.n) - (a->seq.n < b->seq.n));
}

int value_order(struct interp *x, struct value *a, struct value *b, enum order op) {
    if (is_number(a) && is_number(b)) {
        long double p = exact(a), q = exact(b);
        if (p != p || q != q)
            return 0;                       // NaN
        return by_sign(op, (p > q) - (p < q));
    }
    if (is_str(a) && is_str(b)) {
        size_t n = MIN(a->str.len, b->str.len);
        int sign = n ? memcmp(a->str.s, b->str.s, n) : 0;
        if (!interp_charge(x, n / 64))
            return -1;
        return by_sign(op, sign ? sign : (a->str.len > b->str.len) - (a->str.len < b->str.len));
    }
    if ((a->type == &type_list && b->type == &type_list) || (is_tuple(a) && is_tuple(b))) {
        if (!interp_enter(x))
            return -1;
        int rc = order_seq(x, a, b, op);
        interp_leave(x);
        return rc;
    }
    if (is_undefined(a) || is_undefined(b))
        fail_undefined(x, is_undefined(a) ? a : b);
    else
        interp_fail(x, "'%s' not supported between instances of '%s' and '%s'", order_names[op],
                    a->type->name, b->type->name);
    return -1;
}

static int contains_item(struct interp *x, const struct dict *d, struct value *item) {
    struct value *found;
    if (!is_tuple(item) || item->seq.n != 2)
        return 0;
    int rc = dict_find(x, d, item->seq.v[0], &found);
    return rc == 1 ? same(x, found, item->seq.v[1]) : rc;
}

int value_contains(struct interp *x, struct value *container, struct value *item) {
    if (is_str(container)) {
        if (!is_str(item)) {
            interp_fail(x, "'in <string>' requires string as left operand, not %s",
                        item->type->name);
            return -1;
        }
        if (!interp_charge(x, container->str.len / 64))
            return -1;
        return !item->str.len || memmem(container->str.s, container->str.len, item->str.s,
                                        item->str.len) != NULL;
    }
    struct value *found;
    if (container->type == &type_dict || container->type == &type_keys)
        return dict_find(x, container->dict, item, &found);
    if (container->type == &type_items)
        return contains_item(x, container->dict, item);
    if (!container->type->walk) {
        interp_fail(x, "argument of type '%s' is not iterable", container->type->name);
        return -1;
    }
    struct iter *it = value_iter(x, container);
    int rc = it ? 1 : -1;
    while (rc == 1) {
        struct value *v;
        rc = iter_next(x, it, &v);
        int eq = rc == 1 ? same(x, v, item) : 0;
        if (eq)
            return eq;
    }
    return rc;
}

/* ---- sorting: merges of growing runs ---- */
struct sortable {
    struct value *key, *value;
};

/* May b, which stands behind a, go before it? */
static int goes_before(struct interp *x, struct value *b, struct value *a, bool reverse) {
    return reverse ? value_order(x, a, b, ORDER_LT) : value_order(x, b, a, ORDER_LT);
}

static bool merge(struct interp *x, const struct sortable *from, struct sortable *to, size_t a,
                  size_t m, size_t b, bool reverse) {
    for (size_t i = a, k = m, at = a; at < b; at++) {
        int right = i == m;
        if (!right && k < b)
            right = interp_charge(x, 1) ? goes_before(x, from[k].key, from[i].key, reverse) : -1;
        if (right < 0)
            return false;
        to[at] = right ? from[k++] : from[i++];
    }
    return true;
}

bool values_sort(struct interp *x, struct value **v, struct value **keys, size_t n, bool reverse) {
    if (n < 2)
        return true;
    if (!interp_room(x, 2 * n * sizeof(struct sortable)))
        return false;
    struct sortable *from = pool_alloc(x->pool, n * sizeof *from);
    struct sortable *to = pool_alloc(x->pool, n * sizeof *to);
    for (size_t i = 0; i < n; i++)
        from[i] = (struct sortable){.key = keys ? keys[i] : v[i], .value = v[i]};
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t a = 0; a < n; a += 2 * run)
            if (!merge(x, from, to, a, MIN(a + run, n), MIN(a + 2 * run, n), reverse))
                return false;
        struct sortable *swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = from[i].value;
    return true;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_iter.c — walking over values.
 *
 * An iterator is a step function and a cursor. Filters such as map and select make iterators that
 * draw from others, so nothing is computed before it is asked for: what a filter would fail on
 * does not fail in an item that nobody reads, and a generator gives its items once, as in Python.
 */
#include "model/jinja_type.h"

#include "model/jinja_text.h"

struct iter *iter_new(struct interp *x,
                      int (*next)(struct interp *, struct iter *, struct value **),
                      struct value *src) {
    struct iter *it = pool_alloc(x->pool, sizeof *it);
    it->next = next;
    it->src = src;
    return it;
}

int iter_next(struct interp *x, struct iter *it, struct value **out) {
    if (it->done)
        return 0;
    if (!interp_charge(x, 1) || !interp_enter(x))
        return -1;
    int rc = it->next(x, it, out);
    interp_leave(x);
    it->done = rc != 1;
    return rc;
}

struct iter *value_iter(struct interp *x, struct value *v) {
    if (v->type->walk)
        return v->type->walk->iter(x, v);
    interp_fail(x, "'%s' object is not iterable", v->type->name);
    return NULL;
}

/* *can: false when the type is not reversible, which is no failure yet. */
struct iter *value_reversed(struct interp *x, struct value *v, bool *can) {
    *can = v->type->walk && v->type->walk->reversed;
    return *can ? v->type->walk->reversed(x, v) : NULL;
}

bool values_from(struct values *out, struct value *iterable) {
    struct iter *it = value_iter(out->x, iterable);
    struct value *v;
    int rc = it ? 1 : -1;
    while (rc == 1 && (rc = iter_next(out->x, it, &v)) == 1)
        if (!values_add(out, v))
            return false;
    return rc == 0;
}

struct value *value_to_list(struct interp *x, struct value *iterable) {
    struct values l = {.x = x};
    return values_from(&l, iterable) ? value_seq(x->pool, &type_list, l.v, l.n) : NULL;
}

/* ---- sequences ---- */
static int next_seq(struct interp *x, struct iter *it, struct value **out) {
    (void)x;
    if (it->i == it->src->seq.n)
        return 0;
    *out = it->src->seq.v[it->i++];
    return 1;
}

static int next_seq_back(struct interp *x, struct iter *it, struct value **out) {
    (void)x;
    if (it->i == it->src->seq.n)
        return 0;
    *out = it->src->seq.v[it->src->seq.n - ++it->i];
    return 1;
}

static struct iter *iter_seq(struct interp *x, struct value *v) {
    return iter_new(x, next_seq, v);
}

static struct iter *reversed_seq(struct interp *x, struct value *v) {
    return iter_new(x, next_seq_back, v);
}

static bool len_seq(struct interp *x, struct value *v, size_t *n) {
    (void)x;
    *n = v->seq.n;
    return true;
}

/* ---- strings: i is a byte offset ---- */
static int next_char(struct interp *x, struct iter *it, struct value **out) {
    const char *s = it->src->str.s + it->i, *end = s;
    if (it->i == it->src->str.len)
        return 0;
    utf8_get(&end);
    it->i += (size_t)(end - s);
    *out = value_str(x->pool, s, (size_t)(end - s));
    return 1;
}

static int next_char_back(struct interp *x, struct iter *it, struct value **out) {
    size_t end = it->src->str.len - it->i, at = end;
    if (!end)
        return 0;
    while (((uint8_t)it->src->str.s[--at] & 0xC0) == 0x80)
        ;
    it->i += end - at;
    *out = value_str(x->pool, it->src->str.s + at, end - at);
    return 1;
}

static struct iter *iter_str(struct interp *x, struct value *v) {
    return iter_new(x, next_char, v);
}

static struct iter *reversed_str(struct interp *x, struct value *v) {
    return iter_new(x, next_char_back, v);
}

static bool len_str(struct interp *x, struct value *v, size_t *n) {
    (void)x;
    *n = v->str.count;
    return true;
}

/* ---- dictionaries and their views ---- */
static struct value *entry_value(struct interp *x, const struct value *view, size_t i) {
    const struct dict_entry *e = &view->dict->entry[i];
    if (view->type == &type_values)
        return e->value;
    return view->type == &type_items ? value_pair(x->pool, e->key, e->value) : e->key;
}

static int next_entry(struct interp *x, struct iter *it, struct value **out) {
    if (it->i == it->src->dict->n)
        return 0;
    *out = entry_value(x, it->src, it->i++);
    return 1;
}

static int next_entry_back(struct interp *x, struct iter *it, struct value **out) {
    if (it->i == it->src->dict->n)
        return 0;
    *out = entry_value(x, it->src, it->src->dict->n - ++it->i);
    return 1;
}

static struct iter *iter_dict(struct interp *x, struct value *v) {
    return iter_new(x, next_entry, v);
}

static struct iter *reversed_dict(struct interp *x, struct value *v) {
    return iter_new(x, next_entry_back, v);
}

static bool len_dict(struct interp *x, struct value *v, size_t *n) {
    (void)x;
    *n = v->dict->n;
    return true;
}

/* ---- ranges ---- */

/* Unsigned: the product alone may be beyond 64 bits where the sum is not. */
struct value *range_at(struct interp *x, const struct value *v, size_t i) {
    return value_int(x->pool, (int64_t)((uint64_t)v->range.start +
                                        (uint64_t)i * (uint64_t)v->range.step));
}

static int next_range(struct interp *x, struct iter *it, struct value **out) {
    if (it->i == it->src->range.n)
        return 0;
    *out = range_at(x, it->src, it->i++);
    return 1;
}

static int next_range_back(struct interp *x, struct iter *it, struct value **out) {
    if (it->i == it->src->range.n)
        return 0;
    *out = range_at(x, it->src, it->src->range.n - ++it->i);
    return 1;
}

static struct iter *iter_range(struct interp *x, struct value *v) {
    return iter_new(x, next_range, v);
}

static struct iter *reversed_range(struct interp *x, struct value *v) {
    return iter_new(x, next_range_back, v);
}

static bool len_range(struct interp *x, struct value *v, size_t *n) {
    (void)x;
    *n = v->range.n;
    return true;
}

/* ---- the rest ---- */
static int next_nothing(struct interp *x, struct iter *it, struct value **out) {
    (void)x, (void)it, (void)out;
    return 0;
}

static struct iter *iter_nothing(struct interp *x, struct value *v) {
    return iter_new(x, next_nothing, v);
}

static bool len_nothing(struct interp *x, struct value *v, size_t *n) {
    (void)x, (void)v;
    *n = 0;
    return true;
}

static struct iter *iter_itself(struct interp *x, struct value *v) {
    (void)x;
    return v->iter;
}

const struct walk walk_seq = {iter_seq, reversed_seq, len_seq};
const struct walk walk_str = {iter_str, reversed_str, len_str};
const struct walk walk_dict = {iter_dict, reversed_dict, len_dict};
const struct walk walk_range = {iter_range, reversed_range, len_range};
const struct walk walk_nothing = {iter_nothing, iter_nothing, len_nothing};
const struct walk walk_iter = {iter_itself, NULL, NULL};

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_sequence.c — filters of sequences and mappings.
 *
 * Those that are generators in Jinja2 (map, select, unique, batch, ...) are iterators here: they
 * look at their arguments and their input when the first item is asked for. An attribute is a
 * path, "function.name" or 0, walked item by item; sorting and comparing ignore case unless told.
 */
#include "model/jinja_type.h"

#include <stdlib.h>
#include <string.h>

#define FILTER(name) \
    static struct value *do_##name(struct interp *x, struct value *self, struct value **a)

/* ---- attributes of items ---- */
struct getter {
    struct value **part;                    /* path */
    size_t n;
    struct value *def;                      /* in place of undefined; NULL: none */
    bool fold;                              /* strings in lower case */
};

/* One part of a path: a number where it is all digits. */
static struct value *path_part(struct interp *x, const char *s, size_t n) {
    bool digits = n > 0 && n < 18;
    int64_t i = 0;
    for (size_t k = 0; k < n && digits; k++) {
        digits = s[k] >= '0' && s[k] <= '9';
        i = i * 10 + (s[k] - '0');
    }
    return digits ? value_int(x->pool, i) : value_str(x->pool, s, n);
}

static bool getter_init(struct interp *x, struct getter *g, struct value *attribute) {
    struct values parts = {.x = x};
    if (attribute && is_str(attribute)) {
        const char *s = attribute->str.s, *end = s + attribute->str.len, *dot;
        do {
            dot = memchr(s, '.', (size_t)(end - s));
            const char *to = dot ? dot : end;
            if (!values_add(&parts, path_part(x, s, (size_t)(to - s))))
                return false;
            s = to + 1;
        } while (dot);
    } else if (attribute && !is_none(attribute) && !values_add(&parts, attribute)) {
        return false;
    }
    g->part = parts.v;
    g->n = parts.n;
    return true;
}

static struct value *lower(struct interp *x, struct value *v) {
    struct call none = {0};
    return is_str(v) ? function_call(x, function_find(str_attrs, "lower", 5), v, &none) : v;
}

static struct value *getter_get(struct interp *x, const struct getter *g, struct value *item) {
    for (size_t i = 0; item && i < g->n; i++) {
        item = value_getitem(x, item, g->part[i]);
        if (item && g->def && is_undefined(item))
            item = g->def;
    }
    return item && g->fold ? lower(x, item) : item;
}

/* A case_sensitive argument, and the attribute. */
static bool getter_for(struct interp *x, struct getter *g, struct value *case_sensitive,
                       struct value *attribute) {
    int sensitive = case_sensitive ? value_truth(x, case_sensitive) : 0;
    if (sensitive < 0 || !getter_init(x, g, attribute))
        return false;
    g->fold = !sensitive;
    return true;
}

/* ---- map, select, reject ---- */
struct choice {
    struct value *args, *kwargs;            /* tuple, dict */
    bool attr, test, negate;
    struct getter getter;
    const struct function *fn;              /* NULL: the value itself, or its truth */
    struct call call;
};

/* The filter or test that the arguments name, and what is left of them for it. */
static bool choice_name(struct interp *x, struct choice *c, size_t at) {
    struct value *name = c->args->seq.v[at];
    if (is_undefined(name))
        return fail_undefined(x, name);
    c->fn = !is_str(name) ? NULL
            : c->test     ? function_find(test_table, name->str.s, name->str.len)
                          : filter_find(name->str.s, name->str.len);
    if (!c->fn)
        return interp_fail(x, "No %s named '%.*s'.", c->test ? "test" : "filter",
                           is_str(name) ? (int)MIN(name->str.len, 60) : 1,
                           is_str(name) ? name->str.s : "?");
    c->call = (struct call){.pos = c->args->seq.v + at + 1, .n = c->args->seq.n - at - 1,
                            .kw = c->kwargs->dict};
    return true;
}

static bool choice_init(struct interp *x, struct choice *c) {
    const struct dict *kw = c->kwargs->dict;
    size_t n = c->args->seq.n, at = 0;
    struct value *attribute = dict_get(kw, "attribute", 9);
    if (!c->test && !n && attribute) {
        struct value *def = dict_get(kw, "default", 7);
        if (kw->n > 1 + (size_t)(def != NULL))
            return interp_fail(x, "map: unexpected keyword argument");
        c->getter.def = def && !is_none(def) ? def : NULL;
        return getter_init(x, &c->getter, attribute);
    }
    if (!c->test && !n)
        return interp_fail(x, "map requires a filter argument");
    if (c->attr && !n)
        return interp_fail(x, "Missing parameter for attribute name");
    if (c->attr && !getter_init(x, &c->getter, c->args->seq.v[at++]))
        return false;
    return at == n || choice_name(x, c, at);
}

/* Truth first: a generator over nothing never looks at its arguments. 1: begun. */
static int choice_begin(struct interp *x, struct iter *it) {
    it->started = true;
    int truth = value_truth(x, it->src);
    if (truth < 1)
        return truth;
    it->in = choice_init(x, it->state) ? value_iter(x, it->src) : NULL;
    return it->in ? 1 : -1;
}

static int next_choice(struct interp *x, struct iter *it, struct value **out) {
    const struct choice *c = it->state;
    struct value *item, *v;
    int rc = it->started ? 1 : choice_begin(x, it);
    while (rc == 1 && (rc = iter_next(x, it->in, &item)) == 1) {
        v = getter_get(x, &c->getter, item);
        if (v && c->fn)
            v = function_call(x, c->fn, v, &c->call);
        if (!v)
            return -1;
        int truth = c->test ? value_truth(x, v) : 1;
        if (truth < 0)
            return -1;
        if (truth != c->negate) {
            *out = c->test ? item : v;
            return 1;
        }
    }
    return rc;
}

static struct value *choose(struct interp *x, struct value *self, struct value **a, bool test,
                            bool attr, bool negate) {
    struct iter *it = iter_new(x, next_choice, self);
    struct choice *c = pool_alloc(x->pool, sizeof *c);
    *c = (struct choice){.args = a[0], .kwargs = a[1], .attr = attr, .test = test,
                         .negate = negate};
    it->state = c;
    return value_of_iter(x, it);
}

FILTER(map) {
    return choose(x, self, a, false, false, false);
}

FILTER(select) {
    return choose(x, self, a, true, false, false);
}

FILTER(reject) {
    return choose(x, self, a, true, false, true);
}

FILTER(selectattr) {
    return choose(x, self, a, true, true, false);
}

FILTER(rejectattr) {
    return choose(x, self, a, true, true, true);
}

/* ---- other generators ---- */
struct parts {
    struct value *size, *fill, *attribute, *case_sensitive;
    struct getter getter;
    struct dict *seen;
    struct value *list;
};

static struct value *generator(struct interp *x, struct value *self, struct parts p,
                               int (*next)(struct interp *, struct iter *, struct value **)) {
    struct iter *it = iter_new(x, next, self);
    it->state = pool_alloc(x->pool, sizeof p);
    memcpy(it->state, &p, sizeof p);
    return value_of_iter(x, it);
}

static int next_unique(struct interp *x, struct iter *it, struct value **out) {
    struct parts *p = it->state;
    if (!it->started) {
        it->started = true;
        p->seen = dict_new(x);
        if (!getter_for(x, &p->getter, p->case_sensitive, p->attribute) ||
            !(it->in = value_iter(x, it->src)))
            return -1;
    }
    int rc;
    while ((rc = iter_next(x, it->in, out)) == 1) {
        struct value *key = getter_get(x, &p->getter, *out);
        size_t before = p->seen->n;
        if (!key || !dict_set(x, p->seen, key, &value_none))
            return -1;
        if (p->seen->n > before)
            return 1;
    }
    return rc;
}

FILTER(unique) {
    return generator(x, self, (struct parts){.case_sensitive = a[0], .attribute = a[1]},
                     next_unique);
}

static int next_item(struct interp *x, struct iter *it, struct value **out) {
    if (!it->started) {
        it->started = true;
        if (is_undefined(it->src))
            return 0;
        if (it->src->type != &type_dict) {
            interp_fail(x, "Can only get item pairs from a mapping.");
            return -1;
        }
        it->in = value_iter(x, value_of_dict(x->pool, &type_items, it->src->dict));
    }
    return it->in ? iter_next(x, it->in, out) : 0;
}

FILTER(items) {
    (void)a;
    return generator(x, self, (struct parts){0}, next_item);
}

static int next_batch(struct interp *x, struct iter *it, struct value **out) {
    struct parts *p = it->state;
    if (!it->started) {
        it->started = true;
        if (!(it->in = value_iter(x, it->src)))
            return -1;
    }
    struct values l = {.x = x};
    struct value *v;
    int rc = 1;
    int64_t size = is_integral(p->size) ? p->size->i : -1;
    if (p->list) {                          // the item that did not fit into the batch before
        if (!values_add(&l, p->list))
            return -1;
        p->list = NULL;
    }
    while ((rc = iter_next(x, it->in, &v)) == 1) {
        if ((int64_t)l.n == size) {
            p->list = v;
            *out = value_seq(x->pool, &type_list, l.v, l.n);
            return 1;
        }
        if (!values_add(&l, v))
            return -1;
    }
    if (rc < 0 || !l.n)
        return rc;
    if (p->fill && !is_none(p->fill) && !want_int(x, p->size, "batch", 0, &size))
        return -1;
    while (p->fill && !is_none(p->fill) && (int64_t)l.n < size)
        if (!values_add(&l, p->fill) || !interp_charge(x, 1))
            return -1;
    *out = value_seq(x->pool, &type_list, l.v, l.n);
    return 1;
}

FILTER(batch) {
    return generator(x, self, (struct parts){.size = a[0], .fill = a[1]}, next_batch);
}

static int next_slice(struct interp *x, struct iter *it, struct value **out) {
    struct parts *p = it->state;
    int64_t slices;
    if (!it->started) {
        it->started = true;
        p->list = value_to_list(x, it->src);
    }
    if (!p->list || !want_int(x, p->size, "slice", 0, &slices))
        return -1;
    if (!slices) {
        interp_fail(x, "integer division or modulo by zero");
        return -1;
    }
    if ((int64_t)it->i >= slices)
        return 0;
    size_t n = p->list->seq.n, each = n / (size_t)slices, extra = n % (size_t)slices;
    size_t at = it->i * each + MIN(it->i, extra), len = each + (it->i < extra);
    struct values l = {.x = x};
    for (size_t k = 0; k < len; k++)
        if (!values_add(&l, p->list->seq.v[at + k]))
            return -1;
    if (p->fill && !is_none(p->fill) && it->i >= extra && !values_add(&l, p->fill))
        return -1;
    it->i++;
    *out = value_seq(x->pool, &type_list, l.v, l.n);
    return 1;
}

FILTER(slice) {
    return generator(x, self, (struct parts){.size = a[0], .fill = a[1]}, next_slice);
}

/* ---- sorting and grouping ---- */
static bool argument_truth(struct interp *x, struct value *v, bool *out) {
    int rc = v ? value_truth(x, v) : 0;
    *out = rc > 0;
    return rc >= 0;
}

/* sorted() takes numbers only. */
static bool argument_reverse(struct interp *x, struct value *v, bool *out) {
    int64_t i;
    if (!want_int(x, v, "reverse", 0, &i))
        return false;
    *out = i != 0;
    return true;
}

/* A list of the item's attributes: lists look for equality first, so undefined ones may meet. */
static struct value *sort_key(struct interp *x, const struct getter *g, size_t n,
                              struct value *item) {
    struct value **v = pool_alloc(x->pool, n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        if (!(v[i] = getter_get(x, &g[i], item)))
            return NULL;
    return value_seq(x->pool, &type_list, v, n);
}

/* attribute: "a,b.c" or one of another type */
static struct getter *getters_of(struct interp *x, struct value *attribute, bool fold, size_t *n) {
    bool text = attribute && is_str(attribute);
    const char *s = text ? attribute->str.s : "", *end = s + (text ? attribute->str.len : 0);
    *n = 1;
    for (const char *p = s; p < end; p++)
        *n += *p == ',';
    struct getter *g = pool_alloc(x->pool, *n * sizeof *g);
    for (size_t i = 0; i < *n; i++) {
        const char *comma = text ? memchr(s, ',', (size_t)(end - s)) : NULL;
        const char *to = comma ? comma : end;
        struct value *part = text ? value_str(x->pool, s, (size_t)(to - s)) : attribute;
        if (!getter_init(x, &g[i], part))
            return NULL;
        g[i].fold = fold;
        s = to + 1;
    }
    return g;
}

FILTER(sort) {
    bool reverse, sensitive;
    size_t n;
    if (!argument_reverse(x, a[0], &reverse) || !argument_truth(x, a[1], &sensitive))
        return NULL;
    struct getter *g = getters_of(x, a[2], !sensitive, &n);
    struct value *list = g ? value_to_list(x, self) : NULL;
    struct values keys = {.x = x};
    for (size_t i = 0; list && i < list->seq.n; i++) {
        struct value *key = sort_key(x, g, n, list->seq.v[i]);
        if (!key || !values_add(&keys, key))
            return NULL;
    }
    return list && values_sort(x, list->seq.v, keys.v, list->seq.n, reverse) ? list : NULL;
}

FILTER(dictsort) {
    bool reverse, sensitive;
    if (!argument_truth(x, a[0], &sensitive) || !argument_reverse(x, a[2], &reverse))
        return NULL;
    struct value *by = a[1] ? a[1] : value_cstr(x->pool, "key");
    bool key = is_str(by) && by->str.len == 3 && memcmp(by->str.s, "key", 3) == 0;
    if (!key && !(is_str(by) && by->str.len == 5 && memcmp(by->str.s, "value", 5) == 0))
        return interp_fail(x, "You can only sort by either \"key\" or \"value\"");
    if (is_undefined(self))
        return fail_undefined(x, self);
    if (self->type != &type_dict)
        return interp_fail(x, "dictsort: '%s' object has no attribute 'items'", self->type->name);
    struct value *list = value_to_list(x, value_of_dict(x->pool, &type_items, self->dict));
    struct values keys = {.x = x};
    for (size_t i = 0; list && i < list->seq.n; i++) {
        struct value *k = list->seq.v[i]->seq.v[key ? 0 : 1];
        k = sensitive ? k : lower(x, k);
        if (!k || !values_add(&keys, k))
            return NULL;
    }
    return list && values_sort(x, list->seq.v, keys.v, list->seq.n, reverse) ? list : NULL;
}

/* Items [from, to) of list, named by their first. */
static struct value *group_of(struct interp *x, const struct getter *g, struct value *key,
                              struct value *list, size_t from, size_t to) {
    struct getter exact = *g;
    exact.fold = false;
    struct value *name = g->fold ? getter_get(x, &exact, list->seq.v[from]) : key;
    if (!name)
        return NULL;
    struct value **v = pool_alloc(x->pool, 2 * sizeof *v);
    v[0] = name;
    v[1] = value_seq(x->pool, &type_list, list->seq.v + from, to - from);
    return value_seq(x->pool, &type_group, v, 2);
}

FILTER(groupby) {
    struct getter g = {.def = a[1] && !is_none(a[1]) ? a[1] : NULL};
    if (!getter_for(x, &g, a[2], a[0]))
        return NULL;
    struct value *list = value_to_list(x, self);
    struct values keys = {.x = x}, groups = {.x = x};
    for (int pass = 0; list && pass < 2; pass++) {          // keys, and keys in order
        keys.n = 0;
        for (size_t i = 0; i < list->seq.n; i++) {
            struct value *key = getter_get(x, &g, list->seq.v[i]);
            if (!key || !values_add(&keys, key))
                return NULL;
        }
        if (!pass && !values_sort(x, list->seq.v, keys.v, list->seq.n, false))
            return NULL;
    }
    for (size_t from = 0, to; list && from < list->seq.n; from = to) {
        int same = 1;
        for (to = from + 1; to < list->seq.n && same == 1; to += same == 1)
            same = value_equal(x, keys.v[from], keys.v[to]);
        struct value *group = same < 0 ? NULL : group_of(x, &g, keys.v[from], list, from, to);
        if (!group || !values_add(&groups, group))
            return NULL;
    }
    return list ? value_seq(x->pool, &type_list, groups.v, groups.n) : NULL;
}

/* ---- one value out of many ---- */
static struct value *extreme(struct interp *x, struct value *self, struct value **a,
                             enum order better) {
    struct getter g = {0};
    struct iter *it = getter_for(x, &g, a[0], a[1]) ? value_iter(x, self) : NULL;
    struct value *v, *best = NULL, *best_key = NULL;
    int rc = it ? 1 : -1;
    while (rc == 1 && (rc = iter_next(x, it, &v)) == 1) {
        struct value *key = getter_get(x, &g, v);
        if (!key)
            return NULL;
        int replaces = best ? value_order(x, key, best_key, better) : 1;
        if (replaces < 0)
            return NULL;
        if (replaces) {
            best = v;
            best_key = key;
        }
    }
    if (rc < 0)
        return NULL;
    return best ? best : value_undefined(x, "No aggregated item, sequence was empty.", NULL, NULL);
}

FILTER(min) {
    return extreme(x, self, a, ORDER_LT);
}

FILTER(max) {
    return extreme(x, self, a, ORDER_GT);
}

FILTER(sum) {
    struct getter g = {0};
    struct value *total = a[1] ? a[1] : value_int(x->pool, 0), *v;
    if (is_str(total))
        return interp_fail(x, "sum() can't sum strings [use ''.join(seq) instead]");
    struct iter *it = getter_init(x, &g, a[0]) ? value_iter(x, self) : NULL;
    int rc = it ? 1 : -1;
    while (rc == 1 && (rc = iter_next(x, it, &v)) == 1) {
        v = getter_get(x, &g, v);
        total = v ? value_add(x, total, v) : NULL;
        if (!total)
            return NULL;
    }
    return rc < 0 ? NULL : total;
}

FILTER(first) {
    (void)a;
    struct iter *it = value_iter(x, self);
    struct value *v;
    int rc = it ? iter_next(x, it, &v) : -1;
    return rc < 0 ? NULL : rc ? v
           : value_undefined(x, "No first item, sequence was empty.", NULL, NULL);
}

FILTER(last) {
    (void)a;
    bool can;
    struct iter *it = value_reversed(x, self, &can);
    struct value *v;
    if (!can)
        return interp_fail(x, "'%s' object is not reversible (hint: |list|last)",
                           self->type->name);
    int rc = it ? iter_next(x, it, &v) : -1;
    return rc < 0 ? NULL : rc ? v
           : value_undefined(x, "No last item, sequence was empty.", NULL, NULL);
}

FILTER(length) {
    (void)a;
    size_t n;
    return value_len(x, self, &n) ? value_int(x->pool, (int64_t)n) : NULL;
}

FILTER(join) {
    struct getter g = {0};
    struct value *sep = value_to_str(x, a[0] ? a[0] : value_cstr(x->pool, "")), *v;
    struct iter *it = sep && getter_init(x, &g, a[1]) ? value_iter(x, self) : NULL;
    struct text t = {.x = x};
    int rc = it ? 1 : -1;
    for (bool more = false; rc == 1 && (rc = iter_next(x, it, &v)) == 1; more = true) {
        v = getter_get(x, &g, v);
        if (more)
            text_add(&t, sep->str.s, sep->str.len);
        if (!v || !value_print(&t, v, false) || t.over)
            return NULL;
    }
    return rc < 0 ? NULL : text_value(&t);
}

/* ---- sequences out of sequences ---- */
FILTER(list) {
    (void)a;
    return value_to_list(x, self);
}

FILTER(reverse) {
    (void)a;
    bool can;
    if (is_str(self)) {
        struct value *const bounds[3] = {NULL, NULL, value_int(x->pool, -1)};
        return value_slice(x, self, bounds);
    }
    struct iter *it = value_reversed(x, self, &can);
    if (can)
        return value_of_iter(x, it);
    struct value *list = self->type->walk ? value_to_list(x, self) : NULL;
    if (!list)
        return interp_fail(x, "argument must be iterable");
    for (size_t i = 0, n = list->seq.n; i < n / 2; i++) {
        struct value *v = list->seq.v[i];
        list->seq.v[i] = list->seq.v[n - 1 - i];
        list->seq.v[n - 1 - i] = v;
    }
    return list;
}

const struct function sequence_filters[] = {
    {"batch", "linecount fill_with?", do_batch, 0},
    {"count", "", do_length, 0},
    {"dictsort", "case_sensitive? by? reverse?", do_dictsort, 0},
    {"first", "", do_first, 0},
    {"groupby", "attribute default? case_sensitive?", do_groupby, 0},
    {"items", "", do_items, 0},
    {"join", "d? attribute?", do_join, 0},
    {"last", "", do_last, 0},
    {"length", "", do_length, 0},
    {"list", "", do_list, 0},
    {"map", "* **", do_map, 0},
    {"max", "case_sensitive? attribute?", do_max, 0},
    {"min", "case_sensitive? attribute?", do_min, 0},
    {"random", "", NULL, 0},
    {"reject", "* **", do_reject, 0},
    {"rejectattr", "* **", do_rejectattr, 0},
    {"reverse", "", do_reverse, 0},
    {"select", "* **", do_select, 0},
    {"selectattr", "* **", do_selectattr, 0},
    {"slice", "slices fill_with?", do_slice, 0},
    {"sort", "reverse? case_sensitive? attribute?", do_sort, 0},
    {"sum", "attribute? start?", do_sum, 0},
    {"unique", "case_sensitive? attribute?", do_unique, 0},
    {0},
};

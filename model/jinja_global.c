/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_global.c — the functions that every template has, and the objects they make.
 */
#include "model/jinja_type.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define GLOBAL(name) \
    static struct value *global_##name(struct interp *x, struct value *self, struct value **a)

enum { RANGE_MAX = 100000 };                /* the sandbox's MAX_RANGE */

GLOBAL(range) {
    (void)self;
    int64_t first, stop, step, start = 0;
    if (!want_int(x, a[0], "range", 0, &first) || !want_int(x, a[1], "range", first, &stop) ||
        !want_int(x, a[2], "range", 1, &step))
        return NULL;
    if (a[1])
        start = first;
    if (!step)
        return interp_fail(x, "range() arg 3 must not be zero");
    uint64_t n = 0;
    if (step > 0 ? start < stop : start > stop) {
        uint64_t span = step > 0 ? (uint64_t)stop - (uint64_t)start
                                 : (uint64_t)start - (uint64_t)stop;
        n = (span - 1) / (step > 0 ? (uint64_t)step : 0 - (uint64_t)step) + 1;
    }
    if (n > RANGE_MAX)
        return interp_fail(x, "Range too big. The sandbox blocks ranges larger than MAX_RANGE "
                              "(%d).", RANGE_MAX);
    struct value *v = pool_alloc(x->pool, sizeof *v);
    *v = (struct value){.type = &type_range,
                        .range = {.start = start, .stop = stop, .step = step, .n = n}};
    return v;
}

/* ---- dict, namespace ---- */
static bool add_pairs(struct interp *x, struct dict *d, struct value *pairs) {
    struct iter *it = value_iter(x, pairs);
    struct value *pair;
    int rc = it ? 1 : -1;
    while (rc == 1 && (rc = iter_next(x, it, &pair)) == 1) {
        struct values two = {.x = x};
        if (!values_from(&two, pair))
            return false;
        if (two.n != 2)
            return interp_fail(x, "dictionary update sequence element has length %zu; 2 is "
                                  "required", two.n);
        if (!dict_set(x, d, two.v[0], two.v[1]))
            return false;
    }
    return rc == 0;
}

static bool add_entries(struct interp *x, struct dict *d, const struct dict *from) {
    for (size_t i = 0; i < from->n; i++)
        if (!interp_charge(x, 1) || !dict_set(x, d, from->entry[i].key, from->entry[i].value))
            return false;
    return true;
}

static struct value *make_dict(struct interp *x, const struct type *t, struct value **a) {
    const struct value *args = a[0];
    struct dict *d = dict_new(x);
    if (args->seq.n > 1)
        return interp_fail(x, "dict expected at most 1 argument, got %zu", args->seq.n);
    struct value *from = args->seq.n ? args->seq.v[0] : NULL;
    if (from && is_undefined(from))
        return fail_undefined(x, from);
    if (from && !(from->type == &type_dict ? add_entries(x, d, from->dict)
                                           : add_pairs(x, d, from)))
        return NULL;
    return add_entries(x, d, a[1]->dict) ? value_of_dict(x->pool, t, d) : NULL;
}

GLOBAL(dict) {
    (void)self;
    return make_dict(x, &type_dict, a);
}

GLOBAL(namespace) {
    (void)self;
    return make_dict(x, &type_namespace, a);
}

/* ---- cycler, joiner ---- */
struct cycler {
    struct value *items;                    /* tuple, not empty */
    size_t at;
};
struct joiner {
    struct value *sep;
    bool used;
};

static struct value *cycler_current(struct interp *x, struct value *self, struct value **a) {
    (void)x, (void)a;
    return self->cycler->items->seq.v[self->cycler->at];
}

static struct value *cycler_next(struct interp *x, struct value *self, struct value **a) {
    struct value *v = cycler_current(x, self, a);
    self->cycler->at = (self->cycler->at + 1) % self->cycler->items->seq.n;
    return v;
}

static struct value *cycler_reset(struct interp *x, struct value *self, struct value **a) {
    (void)x, (void)a;
    self->cycler->at = 0;
    return &value_none;
}

static struct value *cycler_items(struct interp *x, struct value *self, struct value **a) {
    (void)x, (void)a;
    return self->cycler->items;
}

static struct value *cycler_pos(struct interp *x, struct value *self, struct value **a) {
    (void)a;
    return value_int(x->pool, (int64_t)self->cycler->at);
}

static const struct function cycler_attrs[] = {
    {"current", "", cycler_current, FN_PROPERTY},
    {"items", "", cycler_items, FN_PROPERTY},
    {"next", "", cycler_next, 0},
    {"pos", "", cycler_pos, FN_PROPERTY},
    {"reset", "", cycler_reset, 0},
    {0},
};
static const struct type type_cycler = {.name = "Cycler", .attrs = cycler_attrs};

GLOBAL(cycler) {
    (void)self;
    if (!a[0]->seq.n)
        return interp_fail(x, "cycler: at least one item has to be provided");
    struct value *v = pool_alloc(x->pool, sizeof *v);
    *v = (struct value){.type = &type_cycler, .cycler = pool_alloc(x->pool, sizeof *v->cycler)};
    v->cycler->items = a[0];
    return v;
}

/* Nothing the first time, the separator from then on. */
static struct value *joiner_call(struct interp *x, struct value *v, const struct call *c) {
    if (c->n || (c->kw && c->kw->n))
        return interp_fail(x, "a joiner takes no arguments");
    bool first = !v->joiner->used;
    v->joiner->used = true;
    return first ? value_cstr(x->pool, "") : v->joiner->sep;
}

static struct value *joiner_sep(struct interp *x, struct value *self, struct value **a) {
    (void)x, (void)a;
    return self->joiner->sep;
}

static struct value *joiner_used(struct interp *x, struct value *self, struct value **a) {
    (void)x, (void)a;
    return value_bool(self->joiner->used);
}

static const struct function joiner_attrs[] = {
    {"sep", "", joiner_sep, FN_PROPERTY},
    {"used", "", joiner_used, FN_PROPERTY},
    {0},
};
static const struct type type_joiner = {
    .name = "Joiner", .attrs = joiner_attrs, .call = joiner_call};

GLOBAL(joiner) {
    (void)self;
    struct value *v = pool_alloc(x->pool, sizeof *v);
    *v = (struct value){.type = &type_joiner, .joiner = pool_alloc(x->pool, sizeof *v->joiner)};
    v->joiner->sep = a[0] ? a[0] : value_cstr(x->pool, ", ");
    return v;
}

/* ---- what transformers adds ---- */
GLOBAL(raise_exception) {
    (void)self;
    struct value *message = value_to_str(x, a[0]);
    if (!message)
        return NULL;
    return interp_fail(x, "raise_exception: %.*s", (int)MIN(message->str.len, 800),
                       message->str.s);
}

/* One conversion of strftime, with its flags. */
static bool add_time(struct text *t, const struct tm *tm, const char *spec, size_t n) {
    char fmt[16] = "%", out[256];
    if (n >= sizeof fmt - 2)
        return interp_fail(t->x, "strftime_now: '%%%.*s' is not supported", (int)n, spec);
    char code = spec[n - 1];
    if (code == 'f')                        // now is a whole second
        text_puts(t, "000000");
    if (code == 'f' || code == 'z' || code == 'Z')
        return true;                        // a time without a zone, as datetime.now() is
    if (!strchr("aAbBcCdDeFgGhHIjmMnpPrRsStTuUVwWxXyY%kl", code))
        return interp_fail(t->x, "strftime_now: '%%%.*s' is not supported", (int)n, spec);
    memcpy(fmt + 1, spec, n);
    text_add(t, out, strftime(out, sizeof out, fmt, tm));
    return true;
}

GLOBAL(strftime_now) {
    (void)self;
    struct value *fmt;
    struct tm tm;
    if (!want_str(x, a[0], "strftime_now", &fmt))
        return NULL;
    if (!localtime_r(&x->now, &tm))
        return interp_fail(x, "strftime_now: the time is out of range");
    struct text t = {.x = x};
    const char *s = fmt->str.s;
    for (size_t i = 0, n = fmt->str.len; i < n && !t.over; i++) {
        if (s[i] != '%') {
            text_add(&t, s + i, 1);
            continue;
        }
        size_t from = ++i;
        while (i < n && s[i] && strchr("-_0^#", s[i]))
            i++;
        if (i == n)
            return interp_fail(x, "strftime_now: '%%' at the end of the format");
        if (!add_time(&t, &tm, s + from, i + 1 - from))
            return NULL;
    }
    return text_value(&t);
}

const struct function global_table[] = {
    {"cycler", "*", global_cycler, 0},
    {"dict", "* **", global_dict, 0},
    {"joiner", "sep?", global_joiner, 0},
    {"lipsum", "", NULL, 0},
    {"namespace", "* **", global_namespace, 0},
    {"raise_exception", "message", global_raise_exception, 0},
    {"range", "/ start stop? step?", global_range, 0},
    {"strftime_now", "format", global_strftime_now, 0},
    {0},
};

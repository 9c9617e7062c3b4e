/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_loop.c — the loop object and its loop, and macros.
 *
 * A loop is a cursor with one item of look-ahead, which loop.last and loop.nextitem fill; the test
 * of "for x in y if test" is a generator with a variable of its own, drawn from item by item, so
 * that it sees what the body has changed. The else runs when no round reached its end: Jinja2
 * clears its flag there, so a loop that always continues counts as empty.
 */
#include "model/jinja_loop.h"

#include <inttypes.h>
#include <string.h>

struct loop {
    const struct ast *a;
    struct activation *up;                  /* around a recursive loop */
    struct value *iterable;
    struct iter *it;
    struct value *after, *current, *before; /* NULL: none */
    struct value *changed;                  /* tuple of the last loop.changed */
    int64_t index0, length, depth0;         /* length -1: not known */
};

/* ---- the loop object ---- */
static bool loop_length(struct interp *x, struct loop *l) {
    size_t n;
    if (l->length >= 0)
        return true;
    if (l->iterable->type->walk->len) {
        if (!value_len(x, l->iterable, &n))
            return false;
        l->length = (int64_t)n;
        return true;
    }
    struct values rest = {.x = x};
    struct value *v;
    int rc;
    while ((rc = iter_next(x, l->it, &v)) == 1)
        if (!values_add(&rest, v))
            return false;
    if (rc < 0)
        return false;
    l->it = value_iter(x, value_seq(x->pool, &type_list, rest.v, rest.n));
    l->length = (int64_t)rest.n + l->index0 + 1 + (l->after != NULL);
    return true;
}

/* l->after is the next item, or NULL at the end. */
static bool loop_peek(struct interp *x, struct loop *l) {
    return l->after || iter_next(x, l->it, &l->after) >= 0;
}

/* 1: moved on, 0: at the end. */
static int loop_step(struct interp *x, struct loop *l) {
    struct value *v = l->after;
    int rc = v ? 1 : iter_next(x, l->it, &v);
    if (rc != 1)
        return rc;
    l->after = NULL;
    l->index0++;
    l->before = l->current;
    l->current = v;
    return 1;
}

#define LOOP(name) \
    static struct value *loop_##name(struct interp *x, struct value *self, struct value **a)
#define LOOP_INT(name, number)                                                                  \
    LOOP(name) {                                                                                \
        (void)a;                                                                                \
        const struct loop *l = self->loop;                                                      \
        return value_int(x->pool, number);                                                      \
    }
LOOP_INT(index, l->index0 + 1)
LOOP_INT(index0, l->index0)
LOOP_INT(depth, l->depth0 + 1)
LOOP_INT(depth0, l->depth0)

#define LOOP_LENGTH(name, number)                                                               \
    LOOP(name) {                                                                                \
        (void)a;                                                                                \
        struct loop *l = self->loop;                                                            \
        return loop_length(x, l) ? value_int(x->pool, number) : NULL;                           \
    }
LOOP_LENGTH(get_length, l->length)
LOOP_LENGTH(revindex, l->length - l->index0)
LOOP_LENGTH(revindex0, l->length - l->index0 - 1)

LOOP(first) {
    (void)x, (void)a;
    return value_bool(self->loop->index0 == 0);
}

LOOP(last) {
    (void)a;
    return loop_peek(x, self->loop) ? value_bool(!self->loop->after) : NULL;
}

LOOP(previtem) {
    (void)a;
    const struct loop *l = self->loop;
    return l->index0 && l->before ? l->before
           : value_undefined(x, "there is no previous item", NULL, NULL);
}

LOOP(nextitem) {
    (void)a;
    struct loop *l = self->loop;
    if (!loop_peek(x, l))
        return NULL;
    return l->after ? l->after : value_undefined(x, "there is no next item", NULL, NULL);
}

LOOP(cycle) {
    size_t n = a[0]->seq.n;
    if (!n)
        return interp_fail(x, "no items for cycling given");
    return a[0]->seq.v[(size_t)self->loop->index0 % n];
}

LOOP(changed) {
    struct loop *l = self->loop;
    int same = l->changed ? value_equal(x, l->changed, a[0]) : 0;
    if (same < 0)
        return NULL;
    if (!same)
        l->changed = a[0];
    return value_bool(!same);
}

static const struct function loop_attrs[] = {
    {"changed", "*", loop_changed, 0},
    {"cycle", "*", loop_cycle, 0},
    {"depth", "", loop_depth, FN_PROPERTY},
    {"depth0", "", loop_depth0, FN_PROPERTY},
    {"first", "", loop_first, FN_PROPERTY},
    {"index", "", loop_index, FN_PROPERTY},
    {"index0", "", loop_index0, FN_PROPERTY},
    {"last", "", loop_last, FN_PROPERTY},
    {"length", "", loop_get_length, FN_PROPERTY},
    {"nextitem", "", loop_nextitem, FN_PROPERTY},
    {"previtem", "", loop_previtem, FN_PROPERTY},
    {"revindex", "", loop_revindex, FN_PROPERTY},
    {"revindex0", "", loop_revindex0, FN_PROPERTY},
    {0},
};

static struct iter *loop_iter(struct interp *x, struct value *v) {
    (void)v;
    interp_fail(x, "iterating over the loop object is not supported");
    return NULL;
}

static bool loop_len(struct interp *x, struct value *v, size_t *n) {
    if (!loop_length(x, v->loop))
        return false;
    *n = (size_t)v->loop->length;
    return true;
}

static const struct walk walk_loop = {loop_iter, NULL, loop_len};

static bool loop_print(struct text *t, struct value *v, bool repr) {
    (void)repr;
    if (!loop_length(t->x, v->loop))
        return false;
    text_printf(t, "<LoopContext %" PRId64 "/%" PRId64 ">", v->loop->index0 + 1, v->loop->length);
    return true;
}

static struct value *loop_call(struct interp *x, struct value *v, const struct call *c) {
    const struct loop *l = v->loop;
    struct value *iterable = c->n == 1 && !c->kw ? c->pos[0]
                             : !c->n && c->kw && c->kw->n == 1 ? dict_get(c->kw, "iterable", 8)
                                                               : NULL;
    if (!iterable)
        return interp_fail(x, "loop() takes one argument");
    if (!l->a->block->recursive)
        return interp_fail(x, "The loop must have the 'recursive' marker to be called "
                              "recursively.");
    return loop_recurse(x, l->a, l->up, iterable, l->depth0 + 1);
}

static const struct type type_loop = {.name = "LoopContext", .attrs = loop_attrs,
                                      .walk = &walk_loop, .print = loop_print, .call = loop_call};

/* ---- for x in y if test ---- */
struct tested {
    const struct ast *a;
    struct activation *act;
};

static struct value *target_value(struct interp *x, const struct ast *target,
                                  struct activation *act) {
    if (target->kind == AST_NAME)
        return *slot_of(act, target->ref);
    struct value **v = pool_alloc(x->pool, (size_t)target->n * sizeof *v);
    for (int i = 0; i < target->n; i++)
        v[i] = target_value(x, target->kid[i], act);
    return value_seq(x->pool, &type_tuple, v, (size_t)target->n);
}

static int next_tested(struct interp *x, struct iter *it, struct value **out) {
    const struct tested *t = it->state;
    const struct ast *target = t->a->kid[FOR_TEST_TARGET];
    if (!it->in && !(it->in = value_iter(x, it->src)))
        return -1;
    struct value *item;
    int rc;
    while ((rc = iter_next(x, it->in, &item)) == 1) {
        if (!assign(x, target, item, t->act))
            return -1;
        struct value *v = eval(x, t->a->kid[FOR_TEST], t->act);
        int truth = v ? value_truth(x, v) : -1;
        if (truth < 0)
            return -1;
        if (truth) {
            *out = target_value(x, target, t->act);
            return 1;
        }
    }
    return rc;
}

static struct value *tested_items(struct interp *x, const struct ast *a, struct activation *up,
                                  struct value *iterable) {
    struct iter *it = iter_new(x, next_tested, iterable);
    struct tested *t = pool_alloc(x->pool, sizeof *t);
    t->a = a;
    t->act = activation_new(x, a->block->test_closure, up);
    scope_enter(x, &a->block->test, t->act);
    it->state = t;
    return value_of_iter(x, it);
}

/* ---- running ---- */
/* 1: a round reached its end, 0: none did. */
static int run_rounds(struct interp *x, const struct ast *a, struct activation *act,
                      struct loop *l, struct value *object) {
    int rc, finished = 0;
    while ((rc = loop_step(x, l)) == 1) {
        if (!assign(x, a->kid[FOR_TARGET], l->current, act))
            return -1;
        if (object)
            *slot_of(act, a->block->special.loop) = object;
        scope_enter(x, &a->block->scope, act);
        enum flow flow = exec(x, a->kid[FOR_BODY], act);
        if (flow == FLOW_FAIL)
            return -1;
        if (flow == FLOW_BREAK)
            break;
        finished |= flow == FLOW_NEXT;
    }
    return rc < 0 ? rc : finished;
}

enum flow loop_run(struct interp *x, const struct ast *a, struct activation *act,
                   struct value *iterable, int64_t depth0) {
    struct activation *up = a->block->recursive ? act->up : act;
    if (a->kid[FOR_TEST])
        iterable = tested_items(x, a, up, iterable);
    struct loop *l = pool_alloc(x->pool, sizeof *l);
    *l = (struct loop){.a = a, .up = up, .iterable = iterable, .it = value_iter(x, iterable),
                       .index0 = -1, .length = -1, .depth0 = depth0};
    if (!l->it)
        return FLOW_FAIL;
    struct value *object = NULL;
    if (a->block->special.loop.slot >= 0) {
        object = pool_alloc(x->pool, sizeof *object);
        *object = (struct value){.type = &type_loop, .loop = l};
    }
    int rc = run_rounds(x, a, act, l, object);
    if (rc < 0)
        return FLOW_FAIL;
    scope_leave(&a->block->scope, act);
    if (rc || !a->kid[FOR_ELSE])
        return FLOW_NEXT;
    scope_enter(x, &a->block->other, act);
    enum flow flow = exec(x, a->kid[FOR_ELSE], act);
    scope_leave(&a->block->other, act);
    return flow;
}

struct value *loop_recurse(struct interp *x, const struct ast *a, struct activation *up,
                           struct value *iterable, int64_t depth0) {
    struct text t = {.x = x}, *before = x->out;
    struct activation *act = activation_new(x, a->block->closure, up);
    if (!interp_enter(x))
        return NULL;
    x->out = &t;
    x->captured++;
    enum flow flow = loop_run(x, a, act, iterable, depth0);
    x->captured--;
    x->out = before;
    interp_leave(x);
    return flow == FLOW_FAIL ? NULL : text_value(&t);
}

/* ---- macros ---- */
struct macro {
    const struct ast *a;
    struct activation *up;
};

static const char *macro_name(const struct ast *a) {
    return a->name ? a->name : "anonymous";
}

static bool is_param(const struct ast *a, const struct value *name, size_t from) {
    const struct ast *params = a->kid[MACRO_PARAMS];
    for (int i = (int)from; i < params->n; i++)
        if (params->kid[i]->len == name->str.len &&
            memcmp(params->kid[i]->name, name->str.s, name->str.len) == 0)
            return true;
    return false;
}

/* Named arguments that are no parameters go to kwargs, or are too many. */
static bool bind_kwargs(struct interp *x, const struct ast *a, struct activation *act,
                        const struct call *c, size_t by_position) {
    struct dict *rest = dict_new(x);
    for (size_t i = 0; c->kw && i < c->kw->n; i++) {
        struct value *key = c->kw->entry[i].key;
        bool caller = key->str.len == 6 && memcmp(key->str.s, "caller", 6) == 0;
        if (is_param(a, key, by_position) || (caller && a->block->special.caller.slot >= 0))
            continue;
        if (a->block->special.kwargs.slot < 0)
            return interp_fail(x, caller ? "macro '%.60s' was invoked with two values for the "
                                           "special caller argument%.0s"
                                         : "macro '%.60s' takes no keyword argument '%.60s'",
                               macro_name(a), key->str.s);
        if (!dict_set(x, rest, key, c->kw->entry[i].value))
            return false;
    }
    if (a->block->special.kwargs.slot >= 0)
        act->slot[a->block->special.kwargs.slot] = value_of_dict(x->pool, &type_dict, rest);
    return true;
}

static bool bind_specials(struct interp *x, const struct ast *a, struct activation *act,
                          const struct call *c, size_t by_position) {
    struct value *caller = c->kw ? dict_get(c->kw, "caller", 6) : NULL;
    if (a->block->special.caller.slot >= 0)
        act->slot[a->block->special.caller.slot] =
            caller && !is_none(caller) ? caller
            : value_undefined(x, "No caller defined", NULL, value_cstr(x->pool, "caller"));
    if (!bind_kwargs(x, a, act, c, by_position))
        return false;
    if (a->block->special.varargs.slot >= 0)
        act->slot[a->block->special.varargs.slot] =
            value_seq(x->pool, &type_tuple, c->n > by_position ? c->pos + by_position : NULL,
                      c->n - by_position);
    else if (c->n > by_position)
        return interp_fail(x, "macro '%.60s' takes not more than %d argument(s)", macro_name(a),
                           a->kid[MACRO_PARAMS]->n);
    return true;
}

struct activation *macro_enter(struct interp *x, const struct ast *a, struct activation *up,
                               const struct call *c) {
    const struct ast *params = a->kid[MACRO_PARAMS], *defaults = a->kid[MACRO_DEFAULTS];
    struct activation *act = activation_new(x, a->block->closure, up);
    size_t by_position = MIN(c->n, (size_t)params->n);
    scope_enter(x, &a->block->scope, act);
    for (int i = 0; i < params->n; i++) {
        const struct ast *p = params->kid[i];
        act->slot[p->ref.slot] = (size_t)i < by_position ? c->pos[i]
                                 : c->kw ? dict_get(c->kw, p->name, p->len) : NULL;
    }
    if (!bind_specials(x, a, act, c, by_position))
        return NULL;
    for (int i = 0; i < params->n; i++) {
        const struct ast *p = params->kid[i];
        int k = i - (params->n - defaults->n);
        struct value **slot = &act->slot[p->ref.slot];
        if (!*slot && k >= 0) {
            if (!(*slot = eval(x, defaults->kid[k], act)))
                return NULL;
        } else if (!*slot) {
            struct text hint = {.x = x};
            text_printf(&hint, "parameter '%.200s' was not provided", p->name);
            text_add(&hint, "", 1);
            if (hint.over)
                return NULL;
            *slot = value_undefined(x, hint.s, NULL, value_str(x->pool, p->name, p->len));
        }
    }
    return act;
}

static struct value *macro_call(struct interp *x, struct value *v, const struct call *c) {
    const struct ast *a = v->macro->a;
    struct value *out;
    if (!interp_enter(x))
        return NULL;
    struct activation *act = macro_enter(x, a, v->macro->up, c);
    enum flow flow = act ? exec_captured(x, a->kid[MACRO_BODY], act, &out) : FLOW_FAIL;
    interp_leave(x);
    return flow == FLOW_FAIL ? NULL : out;
}

static bool macro_print(struct text *t, struct value *v, bool repr) {
    (void)repr;
    const struct ast *a = v->macro->a;
    text_puts(t, "<Macro ");
    if (a->name)
        print_str_repr(t, a->name, a->len);
    else
        text_puts(t, "anonymous");
    text_puts(t, ">");
    return true;
}

static struct value *macro_get_name(struct interp *x, struct value *self, struct value **a) {
    (void)a;
    const struct ast *def = self->macro->a;
    return def->name ? value_str(x->pool, def->name, def->len) : &value_none;
}

static struct value *macro_get_arguments(struct interp *x, struct value *self, struct value **a) {
    (void)a;
    const struct ast *params = self->macro->a->kid[MACRO_PARAMS];
    struct value **v = pool_alloc(x->pool, (size_t)params->n * sizeof *v);
    for (int i = 0; i < params->n; i++)
        v[i] = value_str(x->pool, params->kid[i]->name, params->kid[i]->len);
    return value_seq(x->pool, &type_tuple, v, (size_t)params->n);
}

static const struct function macro_attrs[] = {
    {"arguments", "", macro_get_arguments, FN_PROPERTY},
    {"caller", "", NULL, FN_PROPERTY},
    {"catch_kwargs", "", NULL, FN_PROPERTY},
    {"catch_varargs", "", NULL, FN_PROPERTY},
    {"explicit_caller", "", NULL, FN_PROPERTY},
    {"name", "", macro_get_name, FN_PROPERTY},
    {0},
};
static const struct type type_macro = {
    .name = "Macro", .attrs = macro_attrs, .print = macro_print, .call = macro_call};

struct value *macro_new(struct interp *x, const struct ast *a, struct activation *up) {
    struct value *v = pool_alloc(x->pool, sizeof *v);
    *v = (struct value){.type = &type_macro, .macro = pool_alloc(x->pool, sizeof *v->macro)};
    *v->macro = (struct macro){.a = a, .up = up};
    return v;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_eval.c — expressions to values: one row a kind of node.
 *
 * A walk over the tree. Operands are evaluated in Python's order; the innermost node that fails
 * gives the line of the message.
 */
#include "model/jinja_ast.h"

#include <string.h>

#define EVAL(name)                                                                              \
    static struct value *eval_##name(struct interp *x, const struct ast *a,                     \
                                     struct activation *act)

/* ---- variables ---- */
struct value **slot_of(struct activation *act, struct ref r) {
    for (int i = 0; i < r.hops; i++)
        act = act->up;
    return &act->slot[r.slot];
}

struct activation *activation_new(struct interp *x, const struct closure *c,
                                  struct activation *up) {
    struct activation *act = pool_alloc(x->pool, sizeof *act);
    act->up = up;
    act->slot = pool_alloc(x->pool, (size_t)c->slots * sizeof *act->slot);
    return act;
}

/* NULL: nowhere. */
static struct value *resolve_name(struct interp *x, const char *name) {
    struct value *v = dict_get(x->context->dict, name, strlen(name));
    const struct function *f = v ? NULL : function_find(global_table, name, strlen(name));
    if (f) {
        v = pool_alloc(x->pool, sizeof *v);
        *v = (struct value){.type = &type_function, .bound = {.fn = f}};
    }
    return v;
}

void scope_enter(struct interp *x, const struct scope *s, struct activation *act) {
    for (size_t i = 0; i < s->n; i++) {
        const struct load *l = &s->load[i];
        if (l->action == LOAD_RESOLVE)
            act->slot[l->slot] = resolve_name(x, l->name);
        else if (l->action == LOAD_ALIAS)
            act->slot[l->slot] = *slot_of(act, l->outer);
        else if (l->action == LOAD_UNDEFINED)
            act->slot[l->slot] = NULL;
    }
}

void scope_leave(const struct scope *s, struct activation *act) {
    for (size_t i = 0; i < s->n; i++)
        act->slot[s->load[i].slot] = NULL;
}

EVAL(const) {
    (void)x, (void)act;
    return a->value;
}

EVAL(name) {
    struct value *v = *slot_of(act, a->ref);
    return v ? v : value_undefined(x, NULL, NULL, value_str(x->pool, a->name, a->len));
}

EVAL(captured) {
    (void)x;
    return *slot_of(act, a->ref);
}

/* ---- literals ---- */
static struct value *eval_items(struct interp *x, const struct ast *a, struct activation *act,
                                const struct type *t) {
    struct value **v = pool_alloc(x->pool, (size_t)a->n * sizeof *v);
    for (int i = 0; i < a->n; i++)
        if (!(v[i] = eval(x, a->kid[i], act)))
            return NULL;
    return value_seq(x->pool, t, v, (size_t)a->n);
}

EVAL(tuple) {
    return eval_items(x, a, act, &type_tuple);
}

EVAL(list) {
    return eval_items(x, a, act, &type_list);
}

EVAL(dict) {
    struct dict *d = dict_new(x);
    for (int i = 0; i < a->n; i += 2) {
        struct value *key = eval(x, a->kid[i], act);
        struct value *v = key ? eval(x, a->kid[i + 1], act) : NULL;
        if (!v || !dict_set(x, d, key, v))
            return NULL;
    }
    return value_of_dict(x->pool, &type_dict, d);
}

/* ---- logic ---- */
static int eval_truth(struct interp *x, const struct ast *a, struct activation *act) {
    struct value *v = eval(x, a, act);
    return v ? value_truth(x, v) : -1;
}

EVAL(cond) {
    int truth = eval_truth(x, a->kid[0], act);
    if (truth < 0)
        return NULL;
    if (truth || a->kid[2])
        return eval(x, a->kid[truth ? 1 : 2], act);
    struct text hint = {.x = x};
    text_printf(&hint, "the inline if-expression on line %d evaluated to false and no else section "
                "was defined.", a->line);
    text_add(&hint, "", 1);
    return hint.over ? NULL : value_undefined(x, hint.s, NULL, NULL);
}

static struct value *eval_logic(struct interp *x, const struct ast *a, struct activation *act,
                                int goes_on) {
    struct value *v = eval(x, a->kid[0], act);
    int truth = v ? value_truth(x, v) : -1;
    return truth < 0 ? NULL : truth == goes_on ? eval(x, a->kid[1], act) : v;
}

EVAL(and) {
    return eval_logic(x, a, act, 1);
}

EVAL(or) {
    return eval_logic(x, a, act, 0);
}

EVAL(not) {
    int truth = eval_truth(x, a->kid[0], act);
    return truth < 0 ? NULL : value_bool(!truth);
}

/* ---- operators ---- */
EVAL(binary) {
    struct value *p = eval(x, a->kid[0], act);
    struct value *q = p ? eval(x, a->kid[1], act) : NULL;
    return q ? a->op->binary(x, p, q) : NULL;
}

EVAL(unary) {
    struct value *v = eval(x, a->kid[0], act);
    return v ? a->op->unary(x, v) : NULL;
}

/* a < b < c is (a < b) and (b < c), b evaluated once. */
EVAL(compare) {
    struct value *left = eval(x, a->kid[0], act);
    int rc = 1;
    for (int i = 1; left && rc == 1 && i < a->n; i++) {
        struct value *right = eval(x, a->kid[i]->kid[0], act);
        rc = right ? a->kid[i]->op->compare(x, left, right) : -1;
        left = right;
    }
    return left && rc >= 0 ? value_bool(rc) : NULL;
}

EVAL(concat) {
    struct text t = {.x = x};
    for (int i = 0; i < a->n; i++) {
        struct value *v = eval(x, a->kid[i], act);
        if (!v || !value_print(&t, v, false))
            return NULL;
    }
    return text_value(&t);
}

/* ---- subscripts ---- */
EVAL(getattr) {
    struct value *v = eval(x, a->kid[0], act);
    return v ? value_getattr(x, v, a->name) : NULL;
}

EVAL(getitem) {
    struct value *v = eval(x, a->kid[0], act);
    const struct ast *key = a->kid[1];
    if (!v)
        return NULL;
    if (key->kind != AST_SLICE) {
        struct value *k = eval(x, key, act);
        return k ? value_getitem(x, v, k) : NULL;
    }
    struct value *bounds[3] = {0};
    for (int i = 0; i < 3; i++)
        if (key->kid[i] && !(bounds[i] = eval(x, key->kid[i], act)))
            return NULL;
    return value_slice(x, v, bounds);
}

/* ---- calls ---- */
static bool add_name(struct interp *x, struct call *c, struct value *name, struct value *v) {
    if (!is_str(name))
        return interp_fail(x, "keywords must be strings");
    if (!c->kw)
        c->kw = dict_new(x);
    if (dict_get(c->kw, name->str.s, name->str.len))
        return interp_fail(x, "got multiple values for keyword argument '%.*s'",
                           (int)MIN(name->str.len, 60), name->str.s);
    return dict_set(x, c->kw, name, v);
}

static bool add_names(struct interp *x, struct call *c, struct value *v) {
    if (v->type != &type_dict)
        return interp_fail(x, "argument after ** must be a mapping, not %s", v->type->name);
    for (size_t i = 0; i < v->dict->n; i++)
        if (!add_name(x, c, v->dict->entry[i].key, v->dict->entry[i].value))
            return false;
    return true;
}

bool eval_args(struct interp *x, const struct ast *args, struct activation *act, struct call *c) {
    struct values pos = {.x = x};
    *c = (struct call){0};
    for (int i = 0; i < args->n; i++) {
        const struct ast *a = args->kid[i];
        bool wrapped = a->kind == AST_KEYWORD || a->kind == AST_STAR || a->kind == AST_STARSTAR;
        struct value *v = eval(x, wrapped ? a->kid[0] : a, act);
        if (!v)
            return false;
        bool ok = a->kind == AST_KEYWORD ? add_name(x, c, value_str(x->pool, a->name, a->len), v)
                  : a->kind == AST_STAR     ? values_from(&pos, v)
                  : a->kind == AST_STARSTAR ? add_names(x, c, v)
                                            : values_add(&pos, v);
        if (!ok)
            return false;
    }
    c->pos = pos.v;
    c->n = pos.n;
    return true;
}

EVAL(call) {
    struct value *callee = eval(x, a->kid[0], act);
    struct call c;
    return callee && eval_args(x, a->kid[1], act, &c) ? value_call(x, callee, &c) : NULL;
}

static struct value *eval_function(struct interp *x, const struct ast *a, struct activation *act,
                                   const char *what) {
    struct value *v = eval(x, a->kid[0], act);
    struct call c;
    if (!v || !eval_args(x, a->kid[1], act, &c))
        return NULL;
    if (!a->fn || !a->fn->run)
        return interp_fail(x, a->fn ? "%s '%.60s' is not supported" : "No %s named '%.60s' found.",
                           what, a->name);
    return function_call(x, a->fn, v, &c);
}

EVAL(filter) {
    return eval_function(x, a, act, "filter");
}

EVAL(test) {
    return eval_function(x, a, act, "test");
}

/* Kinds that stand only within others, and statements, have no row. */
static struct value *(*const evals[AST_KINDS])(struct interp *x, const struct ast *a,
                                               struct activation *act) = {
    [AST_CONST] = eval_const,     [AST_NAME] = eval_name,       [AST_CAPTURED] = eval_captured,
    [AST_TUPLE] = eval_tuple,     [AST_LIST] = eval_list,       [AST_DICT] = eval_dict,
    [AST_COND] = eval_cond,       [AST_AND] = eval_and,         [AST_OR] = eval_or,
    [AST_NOT] = eval_not,         [AST_BINARY] = eval_binary,   [AST_UNARY] = eval_unary,
    [AST_COMPARE] = eval_compare, [AST_CONCAT] = eval_concat,   [AST_GETATTR] = eval_getattr,
    [AST_GETITEM] = eval_getitem, [AST_CALL] = eval_call,       [AST_FILTER] = eval_filter,
    [AST_TEST] = eval_test,
};

struct value *eval(struct interp *x, const struct ast *a, struct activation *act) {
    if (!evals[a->kind])
        BUG("jinja: line %d: node %d is no expression", a->line, (int)a->kind);
    struct value *v = NULL;
    if (interp_charge(x, 1) && interp_enter(x)) {
        v = evals[a->kind](x, a, act);
        interp_leave(x);
    }
    if (!v && !x->line)
        x->line = a->line;
    return v;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_exec.c — running statements: one row a kind of node.
 *
 * Output goes to a text that blocks which capture (macros, set blocks, filter blocks, recursive
 * loops) exchange for one of their own. {% generation %} is a call block in transformers, so it
 * has a scope of its own, but writes in place: that is how its place in the text is known.
 */
#include "model/jinja_ast.h"
#include "model/jinja_loop.h"

#include <string.h>

#define EXEC(name)                                                                              \
    static enum flow exec_##name(struct interp *x, const struct ast *a, struct activation *act)

/* ---- output ---- */
static bool check_output(struct interp *x) {
    if (!x->captured && x->out->len > x->limits.bytes)
        return interp_fail(x, "an output of more than %zu bytes", x->limits.bytes);
    return !x->out->over;
}

/* What a call or filter block gives is written as it is, so it has to be text. */
static bool emit_text(struct interp *x, struct value *v) {
    if (!is_str(v))
        return interp_fail(x, "the result of the block: expected str, got %s", v->type->name);
    text_add(x->out, v->str.s, v->str.len);
    return check_output(x);
}

EXEC(output) {
    for (int i = 0; i < a->n; i++) {
        const struct ast *item = a->kid[i];
        struct value *v = eval(x, item, act);
        if (!v || !value_print(x->out, v, false) || !check_output(x)) {
            x->line = x->line ? x->line : item->line;
            return FLOW_FAIL;
        }
    }
    return FLOW_NEXT;
}

enum flow exec_captured(struct interp *x, const struct ast *a, struct activation *act,
                        struct value **out) {
    struct text t = {.x = x}, *before = x->out;
    x->out = &t;
    x->captured++;
    enum flow flow = exec(x, a, act);
    x->captured--;
    x->out = before;
    if (flow == FLOW_NEXT && !(*out = text_value(&t)))
        return FLOW_FAIL;
    return flow;
}

/* ---- assignments ---- */
static bool unpack(struct interp *x, const struct ast *target, struct value *v,
                   struct activation *act) {
    struct values items = {.x = x};
    struct iter *it = value_iter(x, v);
    struct value *item;
    int rc = it ? 1 : -1;
    size_t n = (size_t)target->n;
    while (rc == 1 && items.n <= n && (rc = iter_next(x, it, &item)) == 1)
        if (!values_add(&items, item))
            return false;
    if (rc < 0)
        return false;
    if (items.n > n)
        return interp_fail(x, "too many values to unpack (expected %zu)", n);
    if (items.n < n)
        return interp_fail(x, "not enough values to unpack (expected %zu, got %zu)", n, items.n);
    for (size_t i = 0; i < n; i++)
        if (!assign(x, target->kid[i], items.v[i], act))
            return false;
    return true;
}

bool assign(struct interp *x, const struct ast *target, struct value *v, struct activation *act) {
    if (target->kind == AST_TUPLE)
        return unpack(x, target, v, act);
    struct value **slot = slot_of(act, target->ref);
    if (target->kind == AST_NAME) {
        *slot = v;
        return true;
    }
    if (!*slot || (*slot)->type != &type_namespace)
        return interp_fail(x, "cannot assign attribute on non-namespace object");
    return dict_put(x, (*slot)->dict, target->attr, v);
}

/* Before anything is evaluated: every x in a target x.y is a namespace. */
static bool check_namespaces(struct interp *x, const struct ast *target, struct activation *act) {
    if (target->kind == AST_NSREF) {
        struct value *v = *slot_of(act, target->ref);
        if (!v || v->type != &type_namespace)
            return interp_fail(x, "cannot assign attribute on non-namespace object");
    }
    for (int i = 0; i < target->n; i++)
        if (!check_namespaces(x, target->kid[i], act))
            return false;
    return true;
}

EXEC(set) {
    if (!check_namespaces(x, a->kid[0], act))
        return FLOW_FAIL;
    struct value *v = eval(x, a->kid[1], act);
    return v && assign(x, a->kid[0], v, act) ? FLOW_NEXT : FLOW_FAIL;
}

/* The captured body, through the filters. */
static enum flow capture(struct interp *x, const struct ast *a, const struct ast *body,
                         const struct ast *filter, struct activation *act, struct value **out) {
    scope_enter(x, &a->block->scope, act);
    enum flow flow = exec_captured(x, body, act, out);
    if (flow == FLOW_NEXT && filter) {
        *slot_of(act, a->block->special.captured) = *out;
        if (!(*out = eval(x, filter, act)))
            flow = FLOW_FAIL;
    }
    scope_leave(&a->block->scope, act);
    return flow;
}

EXEC(set_block) {
    struct value *v;
    enum flow flow = capture(x, a, a->kid[2], a->kid[1], act, &v);
    if (flow == FLOW_NEXT && !assign(x, a->kid[0], v, act))
        flow = FLOW_FAIL;
    return flow;
}

EXEC(filter_block) {
    struct value *v;
    enum flow flow = capture(x, a, a->kid[0], a->kid[1], act, &v);
    if (flow == FLOW_NEXT && !emit_text(x, v))
        flow = FLOW_FAIL;
    return flow;
}

EXEC(with) {
    const struct ast *targets = a->kid[WITH_TARGETS], *values = a->kid[WITH_VALUES];
    scope_enter(x, &a->block->scope, act);
    for (int i = 0; i < targets->n; i++) {
        struct value *v = eval(x, values->kid[i], act);
        if (!v || !assign(x, targets->kid[i], v, act))
            return FLOW_FAIL;
    }
    enum flow flow = exec(x, a->kid[WITH_BODY], act);
    scope_leave(&a->block->scope, act);
    return flow;
}

/* ---- control ---- */
EXEC(block) {
    enum flow flow = FLOW_NEXT;
    for (int i = 0; flow == FLOW_NEXT && i < a->n; i++)
        flow = exec(x, a->kid[i], act);
    return flow;
}

EXEC(if) {
    for (int i = 0; i + 1 < a->n; i += 2) {
        struct value *v = eval(x, a->kid[i], act);
        int truth = v ? value_truth(x, v) : -1;
        if (truth)
            return truth < 0 ? FLOW_FAIL : exec(x, a->kid[i + 1], act);
    }
    return a->n % 2 ? exec(x, a->kid[a->n - 1], act) : FLOW_NEXT;
}

EXEC(for) {
    struct value *v = eval(x, a->kid[FOR_ITER], act);
    if (!v)
        return FLOW_FAIL;
    if (!a->block->recursive)
        return loop_run(x, a, act, v, 0);
    v = loop_recurse(x, a, act, v, 0);
    return v && emit_text(x, v) ? FLOW_NEXT : FLOW_FAIL;
}

EXEC(break) {
    (void)x, (void)a, (void)act;
    return FLOW_BREAK;
}

EXEC(continue) {
    (void)x, (void)a, (void)act;
    return FLOW_CONTINUE;
}

/* ---- functions ---- */
EXEC(macro) {
    *slot_of(act, a->ref) = macro_new(x, a, act);
    return FLOW_NEXT;
}

EXEC(call_block) {
    const struct ast *call = a->kid[MACRO_CALL];
    struct value *caller = macro_new(x, a, act), *callee = eval(x, call->kid[0], act), *v;
    struct call c;
    if (!callee || !eval_args(x, call->kid[1], act, &c))
        return FLOW_FAIL;
    if (!c.kw)
        c.kw = dict_new(x);
    if (dict_get(c.kw, "caller", 6)) {
        interp_fail(x, "got multiple values for keyword argument 'caller'");
        return FLOW_FAIL;
    }
    if (!dict_put(x, c.kw, "caller", caller) || !(v = value_call(x, callee, &c)))
        return FLOW_FAIL;
    return emit_text(x, v) ? FLOW_NEXT : FLOW_FAIL;
}

static bool add_span(struct interp *x, size_t from) {
    if (x->captured || x->nspans < 0) {
        x->nspans = -1;
        return true;
    }
    size_t n = (size_t)x->nspans;
    if ((n & (n - 1)) == 0) {               // full at powers of two
        if (!interp_room(x, (n + 1) * 2 * sizeof *x->spans))
            return false;
        x->spans = pool_grow(x->pool, x->spans, n * sizeof *x->spans,
                             (n ? 2 * n : 1) * sizeof *x->spans);
    }
    x->spans[x->nspans++] = (struct jinja_span){.a = from, .b = x->out->len};
    return true;
}

EXEC(generation) {
    size_t from = x->out->len;
    struct call none = {0};
    struct activation *inside = macro_enter(x, a, act, &none);
    x->generating++;
    enum flow flow = inside ? exec(x, a->kid[MACRO_BODY], inside) : FLOW_FAIL;
    x->generating--;
    if (flow == FLOW_NEXT && !x->generating && !add_span(x, from))
        flow = FLOW_FAIL;
    return flow;
}

static enum flow (*const execs[AST_KINDS])(struct interp *x, const struct ast *a,
                                           struct activation *act) = {
    [AST_BLOCK] = exec_block,         [AST_OUTPUT] = exec_output,
    [AST_SET] = exec_set,             [AST_SET_BLOCK] = exec_set_block,
    [AST_IF] = exec_if,               [AST_FOR] = exec_for,
    [AST_MACRO] = exec_macro,         [AST_CALL_BLOCK] = exec_call_block,
    [AST_FILTER_BLOCK] = exec_filter_block, [AST_WITH] = exec_with,
    [AST_BREAK] = exec_break,         [AST_CONTINUE] = exec_continue,
    [AST_GENERATION] = exec_generation,
};

enum flow exec(struct interp *x, const struct ast *a, struct activation *act) {
    if (!execs[a->kind])
        BUG("jinja: line %d: node %d is no statement", a->line, (int)a->kind);
    enum flow flow = FLOW_FAIL;
    if (interp_charge(x, 1) && interp_enter(x)) {
        flow = execs[a->kind](x, a, act);
        interp_leave(x);
    }
    if (flow == FLOW_FAIL && !x->line)
        x->line = a->line;
    return flow;
}

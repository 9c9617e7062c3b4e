/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_ast.h — the tree of a template, and running it; only jinja's files include it.
 *
 * Made once by jinja_compile, in the template's pool, and never changed afterwards. Children keep
 * Jinja2's order of fields, because its rules for names depend on the order in which it visits
 * them.
 */
#ifndef KEEL_JINJA_AST_H
#define KEEL_JINJA_AST_H

#include "model/jinja_type.h"

/* ---- the tree ---- */
enum ast_kind {
    /* expressions */
    AST_CONST,                              /* value */
    AST_NAME,                               /* name, ref */
    AST_NSREF,                              /* name.attr as a target: name, attr, ref */
    AST_CAPTURED,                           /* what a filter or set block captured: ref */
    AST_TUPLE, AST_LIST,                    /* items */
    AST_DICT,                               /* key, value, key, value ... */
    AST_COND,                               /* test, then, else or NULL */
    AST_AND, AST_OR, AST_NOT,               /* operands */
    AST_BINARY, AST_UNARY,                  /* operands; op */
    AST_COMPARE,                            /* first; AST_OPERAND ... */
    AST_OPERAND,                            /* right side; op */
    AST_CONCAT,                             /* parts */
    AST_GETATTR,                            /* object; name */
    AST_GETITEM,                            /* object, key */
    AST_SLICE,                              /* start, stop, step, or NULL each */
    AST_CALL, AST_FILTER, AST_TEST,         /* subject, AST_ARGS; name, fn */
    AST_ARGS,                               /* arguments, AST_KEYWORD, AST_STAR, AST_STARSTAR */
    AST_KEYWORD,                            /* value; name */
    AST_STAR, AST_STARSTAR,                 /* value */
    /* statements */
    AST_BLOCK,                              /* statements */
    AST_OUTPUT,                             /* AST_CONST and other expressions */
    AST_SET,                                /* target, value */
    AST_SET_BLOCK,                          /* target, filter or NULL, body */
    AST_IF,                                 /* test, body, test, body, ..., else or NULL */
    AST_FOR,                                /* FOR_* */
    AST_MACRO, AST_CALL_BLOCK,              /* MACRO_* */
    AST_FILTER_BLOCK,                       /* body, filter */
    AST_WITH,                               /* targets as AST_BLOCK, values, body */
    AST_BREAK, AST_CONTINUE,
    AST_GENERATION,                         /* MACRO_*, without arguments */
    AST_KINDS
};
enum { FOR_TARGET, FOR_ITER, FOR_BODY, FOR_ELSE, FOR_TEST, FOR_TEST_TARGET, FOR_KIDS };
enum { MACRO_CALL, MACRO_PARAMS, MACRO_DEFAULTS, MACRO_BODY, MACRO_KIDS };
enum { WITH_TARGETS, WITH_VALUES, WITH_BODY };
enum name_use { NAME_LOAD, NAME_STORE, NAME_PARAM };

/* A variable: `hops` functions out, at `slot`. slot -1: none. */
struct ref {
    int hops, slot;
};
/* What happens to the variables of a scope when it is entered. */
enum load_action { LOAD_PARAM, LOAD_RESOLVE, LOAD_ALIAS, LOAD_UNDEFINED };
struct load {
    enum load_action action;
    int slot;
    struct ref outer;                       /* LOAD_ALIAS: starts as a copy of it */
    const char *name;                       /* LOAD_RESOLVE: of the context */
};
struct scope {
    struct load *load;
    size_t n;
};
/* A Python function of Jinja2's generated code: has slots, can be called. */
struct closure {
    struct closure *up;
    int depth, slots;
};
/* Special variables of macros and extended loops. */
struct specials {
    struct ref loop, caller, kwargs, varargs, captured;
};

/* What statements with scopes have besides: for, macro, call, generation, filter, set, with. */
struct block {
    struct scope scope, other, test;        /* body; else and test of a for */
    struct closure *closure, *test_closure; /* NULL: runs in its surroundings' */
    struct specials special;
    bool recursive;                         /* for */
};

struct ast {
    enum ast_kind kind;
    int line, column;
    int height;                             /* of the tree below, bounded */
    int n;
    enum name_use use;
    struct ast **kid;
    const char *name, *attr;
    size_t len;                             /* of name */
    struct value *value;
    const struct function *fn;
    const struct operator *op;
    struct ref ref;
    struct block *block;                    /* NULL: not such a statement */
};
struct operator {
    const char *text;
    unsigned lexeme;                        /* enum lexeme_kind */
    int level;                              /* binds tighter the higher */
    struct value *(*binary)(struct interp *x, struct value *a, struct value *b);
    struct value *(*unary)(struct interp *x, struct value *a);
    int (*compare)(struct interp *x, struct value *a, struct value *b);     /* -1, 0, 1 */
};

struct jinja {
    struct pool pool;
    char *where;
    struct ast *root;                       /* AST_BLOCK */
    struct scope scope;
    struct closure *closure;
    bool generation;
};

/* ---- running (jinja_eval.c, jinja_exec.c) ---- */
struct activation {
    struct activation *up;
    struct value **slot;                    /* NULL: undefined */
};
enum flow { FLOW_FAIL = -1, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
struct value *eval(struct interp *x, const struct ast *a, struct activation *act);
bool eval_args(struct interp *x, const struct ast *args, struct activation *act, struct call *c);
enum flow exec(struct interp *x, const struct ast *a, struct activation *act);
struct value **slot_of(struct activation *act, struct ref r);
struct activation *activation_new(struct interp *x, const struct closure *c,
                                  struct activation *up);
void scope_enter(struct interp *x, const struct scope *s, struct activation *act);
void scope_leave(const struct scope *s, struct activation *act);
bool assign(struct interp *x, const struct ast *target, struct value *v, struct activation *act);
#endif

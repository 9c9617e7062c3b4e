/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_ast.h — from text to a tree that can run; only jinja's files include it.
 *
 *   text -> lexemes -> tree -> the same tree with names resolved to slots
 *
 * Everything is made once by jinja_compile, in the template's pool, and never changed afterwards.
 * Children keep Jinja2's order of fields, because its rules for names depend on the order in which
 * it visits them.
 */
#ifndef KEEL_JINJA_AST_H
#define KEEL_JINJA_AST_H

#include "model/jinja_value.h"

/* ---- lexemes (jinja_lex.c) ---- */
enum lexeme_kind {
    LEX_EOF, LEX_DATA, LEX_VARIABLE_BEGIN, LEX_VARIABLE_END, LEX_BLOCK_BEGIN, LEX_BLOCK_END,
    LEX_NAME, LEX_STRING, LEX_INTEGER, LEX_FLOAT,
    LEX_ADD, LEX_SUB, LEX_MUL, LEX_DIV, LEX_FLOORDIV, LEX_MOD, LEX_POW, LEX_TILDE,
    LEX_EQ, LEX_NE, LEX_LT, LEX_LE, LEX_GT, LEX_GE,
    LEX_ASSIGN, LEX_DOT, LEX_COLON, LEX_PIPE, LEX_COMMA, LEX_SEMICOLON,
    LEX_LPAREN, LEX_RPAREN, LEX_LBRACKET, LEX_RBRACKET, LEX_LBRACE, LEX_RBRACE,
};
struct lexeme {
    enum lexeme_kind kind;
    int line, column;                       /* from 1; columns count characters */
    const char *s;                          /* data, name, or unescaped string; NUL-terminated */
    size_t len;
    struct value *value;                    /* of a number */
};

/* ---- compiling (jinja.c) ---- */
struct compiler {
    struct pool *pool;
    const char *where;
    struct err *e;
    struct lexeme *lex;                     /* ends with LEX_EOF */
    size_t n, at;
    struct tag *tags;                       /* open blocks, innermost first */
    int depth;
    int loops;                              /* loops around, within this function */
    bool generation;
};
/* false, and "where:LINE:COL: ..." */
bool compile_fail(struct compiler *c, int line, int column, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
bool compile_lex(struct compiler *c, const char *text, size_t len);

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

struct ast {
    enum ast_kind kind;
    int line, column;
    int height;                             /* of the tree below, bounded */
    int n;
    struct ast **kid;
    const char *name, *attr;
    size_t len;                             /* of name */
    enum name_use use;
    bool recursive, unknown;                /* for; filter or test that does not exist */
    struct value *value;
    const struct function *fn;
    const struct operator *op;
    struct ref ref;
    struct scope scope, inner;              /* body; else or test of a for */
    struct scope test;
    struct closure *closure, *test_closure; /* NULL: runs in its surroundings' */
    struct specials special;
};
struct operator {
    const char *text;
    enum lexeme_kind lexeme;
    int level;                              /* binds tighter the higher */
    struct value *(*binary)(struct interp *x, struct value *a, struct value *b);
    struct value *(*unary)(struct interp *x, struct value *a);
    int (*compare)(struct interp *x, struct value *a, struct value *b);     /* -1, 0, 1 */
};
extern const struct operator operator_table[];              /* ends with text == NULL */

struct jinja {
    struct pool pool;
    char *where;
    struct ast *root;                       /* AST_BLOCK */
    struct scope scope;
    struct closure *closure;
    bool generation;
};

/* ---- parsing (jinja_parse.c expressions, jinja_statement.c statements) ---- */
struct ast *ast_new(struct compiler *c, enum ast_kind kind, const struct lexeme *at);
bool ast_add(struct compiler *c, struct ast *a, struct ast *kid);       /* kid may be NULL */
const struct lexeme *parse_peek(const struct compiler *c, size_t ahead);
const struct lexeme *parse_next(struct compiler *c);
bool parse_is_name(const struct lexeme *l, const char *name);
bool parse_skip(struct compiler *c, enum lexeme_kind kind);             /* when it is next */
bool parse_skip_name(struct compiler *c, const char *name);
const struct lexeme *parse_expect(struct compiler *c, enum lexeme_kind kind);       /* or NULL */
const char *lexeme_text(const struct lexeme *l);            /* for messages */
enum { TUPLE_NO_COND = 1, TUPLE_TARGET = 2, TUPLE_NAMESPACE = 4, TUPLE_PARENS = 8 };
struct ast *parse_tuple(struct compiler *c, int flags);     /* one expression, or with commas */
struct ast *parse_expression(struct compiler *c);
struct ast *parse_filters(struct compiler *c, struct ast *subject, bool inline_start);
struct ast *parse_template(struct compiler *c);             /* NULL: failed */

/* ---- names (jinja_scope.c) ---- */
bool compile_scopes(struct compiler *c, struct jinja *j);

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
struct value *resolve_name(struct interp *x, const char *name);     /* NULL: nowhere */
bool emit(struct interp *x, const char *s, size_t n);
#endif

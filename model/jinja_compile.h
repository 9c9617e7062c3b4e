/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_compile.h — from text to a tree that can run; only jinja's files include it.
 *
 *   text -> lexemes -> tree -> the same tree with names resolved to slots
 */
#ifndef KEEL_JINJA_COMPILE_H
#define KEEL_JINJA_COMPILE_H

#include "model/jinja_ast.h"

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
    struct pool *pool, *scratch;            /* the template's; until it is compiled */
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
#endif

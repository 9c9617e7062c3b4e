/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_parse.c — expressions to trees, by Jinja2's grammar.
 *
 * Recursive descent, one level of precedence a call. Where Jinja2 differs from Python it is
 * followed: ** binds to the left and looser than a sign, | and "is" bind tighter than any
 * operator, "not" looser than comparisons, ~ between + and *. Nesting and the height of trees are
 * bounded, because every later walk recurses.
 */
#include "model/jinja_compile.h"

#include <string.h>

enum { NESTING_MAX = 200, HEIGHT_MAX = 1000 };
enum { LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT,
       LEVEL_POWER, LEVEL_UNARY };

/* ---- operators ---- */
static int is_equal(struct interp *x, struct value *a, struct value *b) {
    return value_equal(x, a, b);
}

static int is_different(struct interp *x, struct value *a, struct value *b) {
    int rc = value_equal(x, a, b);
    return rc < 0 ? rc : !rc;
}

static int is_less(struct interp *x, struct value *a, struct value *b) {
    return value_order(x, a, b, ORDER_LT);
}

static int is_less_equal(struct interp *x, struct value *a, struct value *b) {
    return value_order(x, a, b, ORDER_LE);
}

static int is_greater(struct interp *x, struct value *a, struct value *b) {
    return value_order(x, a, b, ORDER_GT);
}

static int is_greater_equal(struct interp *x, struct value *a, struct value *b) {
    return value_order(x, a, b, ORDER_GE);
}

static int is_in(struct interp *x, struct value *a, struct value *b) {
    return value_contains(x, b, a);
}

static int is_not_in(struct interp *x, struct value *a, struct value *b) {
    int rc = value_contains(x, b, a);
    return rc < 0 ? rc : !rc;
}

static const struct operator operator_table[] = {
    {"+", LEX_ADD, LEVEL_SUM, value_add, value_pos, NULL},
    {"-", LEX_SUB, LEVEL_SUM, value_sub, value_neg, NULL},
    {"*", LEX_MUL, LEVEL_PRODUCT, value_mul, NULL, NULL},
    {"/", LEX_DIV, LEVEL_PRODUCT, value_div, NULL, NULL},
    {"//", LEX_FLOORDIV, LEVEL_PRODUCT, value_floordiv, NULL, NULL},
    {"%", LEX_MOD, LEVEL_PRODUCT, value_mod, NULL, NULL},
    {"**", LEX_POW, LEVEL_POWER, value_pow, NULL, NULL},
    {"==", LEX_EQ, LEVEL_COMPARE, NULL, NULL, is_equal},
    {"!=", LEX_NE, LEVEL_COMPARE, NULL, NULL, is_different},
    {"<", LEX_LT, LEVEL_COMPARE, NULL, NULL, is_less},
    {"<=", LEX_LE, LEVEL_COMPARE, NULL, NULL, is_less_equal},
    {">", LEX_GT, LEVEL_COMPARE, NULL, NULL, is_greater},
    {">=", LEX_GE, LEVEL_COMPARE, NULL, NULL, is_greater_equal},
    {"in", LEX_NAME, LEVEL_COMPARE, NULL, NULL, is_in},
    {"not", LEX_NAME, LEVEL_COMPARE, NULL, NULL, is_not_in},        /* "not in" */
    {0},
};

/* ---- lexemes ---- */
const struct lexeme *parse_peek(const struct compiler *c, size_t ahead) {
    return &c->lex[MIN(c->at + ahead, c->n - 1)];
}

const struct lexeme *parse_next(struct compiler *c) {
    const struct lexeme *l = parse_peek(c, 0);
    c->at += c->at < c->n - 1;
    return l;
}

bool parse_is_name(const struct lexeme *l, const char *name) {
    return l->kind == LEX_NAME && strcmp(l->s, name) == 0;
}

bool parse_skip(struct compiler *c, enum lexeme_kind kind) {
    bool is = parse_peek(c, 0)->kind == kind;
    if (is)
        parse_next(c);
    return is;
}

bool parse_skip_name(struct compiler *c, const char *name) {
    bool is = parse_is_name(parse_peek(c, 0), name);
    if (is)
        parse_next(c);
    return is;
}

const struct lexeme *parse_expect(struct compiler *c, enum lexeme_kind kind) {
    const struct lexeme *l = parse_peek(c, 0), want = {.kind = kind, .s = ""};
    if (l->kind == kind)
        return parse_next(c);
    compile_fail(c, l->line, l->column, "expected '%s', got '%.60s'", lexeme_text(&want),
                 lexeme_text(l));
    return NULL;
}

/* ---- nodes ---- */
static bool has_block(enum ast_kind kind) {
    return kind == AST_FOR || kind == AST_MACRO || kind == AST_CALL_BLOCK ||
           kind == AST_GENERATION || kind == AST_FILTER_BLOCK || kind == AST_SET_BLOCK ||
           kind == AST_WITH;
}

struct ast *ast_new(struct compiler *c, enum ast_kind kind, const struct lexeme *at) {
    struct ast *a = pool_alloc(c->pool, sizeof *a);
    a->kind = kind;
    a->block = has_block(kind) ? pool_alloc(c->pool, sizeof *a->block) : NULL;
    a->line = at->line;
    a->column = at->column;
    a->ref.slot = -1;
    return a;
}

bool ast_add(struct compiler *c, struct ast *a, struct ast *kid) {
    if ((a->n & (a->n - 1)) == 0) {         // full at powers of two
        size_t n = (size_t)a->n;
        a->kid = pool_grow(c->pool, a->kid, n * sizeof *a->kid,
                           (n ? 2 * n : 1) * sizeof *a->kid);
    }
    a->kid[a->n++] = kid;
    a->height = MAX(a->height, kid ? kid->height + 1 : 0);
    if (a->height > HEIGHT_MAX)
        return compile_fail(c, a->line, a->column, "nested or chained too deeply");
    return true;
}

/* A node with the kids that are given; NULL when one of them is missing. */
static struct ast *node2(struct compiler *c, enum ast_kind kind, const struct lexeme *at,
                         struct ast *p, struct ast *q) {
    struct ast *a = ast_new(c, kind, at);
    return p && q && ast_add(c, a, p) && ast_add(c, a, q) ? a : NULL;
}

static struct ast *node1(struct compiler *c, enum ast_kind kind, const struct lexeme *at,
                         struct ast *p) {
    struct ast *a = ast_new(c, kind, at);
    return p && ast_add(c, a, p) ? a : NULL;
}

static struct ast *unexpected(struct compiler *c, const struct lexeme *l) {
    compile_fail(c, l->line, l->column, "unexpected '%.60s'", lexeme_text(l));
    return NULL;
}

static struct ast *parse_level(struct compiler *c, int level);

/* ---- primaries ---- */
static struct ast *parse_strings(struct compiler *c) {
    struct ast *a = ast_new(c, AST_CONST, parse_peek(c, 0));
    struct str all = {0};
    while (parse_peek(c, 0)->kind == LEX_STRING) {
        const struct lexeme *l = parse_next(c);
        str_addn(&all, l->s, l->len);
    }
    a->value = value_str(c->pool, pool_grow(c->pool, all.s, all.len, all.len + 1), all.len);
    str_release(&all);
    return a;
}

static struct ast *parse_name(struct compiler *c, int flags) {
    static const struct {
        const char *name;
        struct value *value;
    } constants[] = {{"true", &value_true},   {"True", &value_true}, {"false", &value_false},
                     {"False", &value_false}, {"none", &value_none}, {"None", &value_none}};
    const struct lexeme *l = parse_next(c);
    struct ast *a = ast_new(c, AST_CONST, l);
    for (size_t i = 0; i < ARRAY_LEN(constants) && !a->value; i++)
        if (strcmp(l->s, constants[i].name) == 0)
            a->value = constants[i].value;
    if (a->value)
        return a;
    a->kind = AST_NAME;
    a->name = l->s;
    a->len = l->len;
    if ((flags & TUPLE_NAMESPACE) && parse_skip(c, LEX_DOT)) {
        if (!(l = parse_expect(c, LEX_NAME)))
            return NULL;
        a->kind = AST_NSREF;
        a->attr = l->s;
    }
    return a;
}

static struct ast *parse_list(struct compiler *c) {
    struct ast *a = ast_new(c, AST_LIST, parse_next(c)), *item;
    while (parse_peek(c, 0)->kind != LEX_RBRACKET) {
        if (a->n && !parse_expect(c, LEX_COMMA))
            return NULL;
        if (parse_peek(c, 0)->kind == LEX_RBRACKET)
            break;
        if (!(item = parse_expression(c)) || !ast_add(c, a, item))
            return NULL;
    }
    parse_next(c);
    return a;
}

static struct ast *parse_dict(struct compiler *c) {
    struct ast *a = ast_new(c, AST_DICT, parse_next(c)), *item;
    while (parse_peek(c, 0)->kind != LEX_RBRACE) {
        if (a->n && !parse_expect(c, LEX_COMMA))
            return NULL;
        if (parse_peek(c, 0)->kind == LEX_RBRACE)
            break;
        for (int part = 0; part < 2; part++)
            if ((part && !parse_expect(c, LEX_COLON)) || !(item = parse_expression(c)) ||
                !ast_add(c, a, item))
                return NULL;
    }
    parse_next(c);
    return a;
}

static struct ast *parse_primary(struct compiler *c, int flags) {
    const struct lexeme *l = parse_peek(c, 0);
    struct ast *a;
    switch (l->kind) {
    case LEX_NAME:
        return parse_name(c, flags);
    case LEX_STRING:
        return parse_strings(c);
    case LEX_INTEGER:
    case LEX_FLOAT:
        a = ast_new(c, AST_CONST, parse_next(c));
        a->value = l->value;
        return a;
    case LEX_LPAREN:
        parse_next(c);
        a = parse_tuple(c, TUPLE_PARENS);
        return a && parse_expect(c, LEX_RPAREN) ? a : NULL;
    case LEX_LBRACKET:
        return parse_list(c);
    case LEX_LBRACE:
        return parse_dict(c);
    default:
        return unexpected(c, l);
    }
}

struct ast *parse_tuple(struct compiler *c, int flags) {
    const struct lexeme *start = parse_peek(c, 0);
    struct ast *tuple = ast_new(c, AST_TUPLE, start), *item = NULL;
    bool commas = false;
    for (;;) {
        const struct lexeme *l = parse_peek(c, 0);
        if (tuple->n) {
            if (!parse_expect(c, LEX_COMMA))
                return NULL;
            l = parse_peek(c, 0);
        }
        if (l->kind == LEX_VARIABLE_END || l->kind == LEX_BLOCK_END || l->kind == LEX_RPAREN)
            break;
        item = flags & TUPLE_TARGET    ? parse_primary(c, flags)
               : flags & TUPLE_NO_COND ? parse_level(c, LEVEL_OR)
                                       : parse_expression(c);
        if (!item || !ast_add(c, tuple, item))
            return NULL;
        if (parse_peek(c, 0)->kind != LEX_COMMA)
            break;
        commas = true;
    }
    if (!commas && tuple->n)
        return item;
    if (!commas && !(flags & TUPLE_PARENS)) {
        const struct lexeme *l = parse_peek(c, 0);
        compile_fail(c, l->line, l->column, "expected an expression, got '%.60s'", lexeme_text(l));
        return NULL;
    }
    return tuple;
}

/* ---- subscripts and calls ---- */
/* An index, or start:stop:step with any of them missing. */
static struct ast *parse_subscript(struct compiler *c) {
    struct ast *slice = ast_new(c, AST_SLICE, parse_peek(c, 0)), *part = NULL;
    if (parse_peek(c, 0)->kind != LEX_COLON) {
        if (!(part = parse_expression(c)) || parse_peek(c, 0)->kind != LEX_COLON)
            return part;
    }
    parse_next(c);
    if (!ast_add(c, slice, part))
        return NULL;
    for (int i = 1; i < 3; i++) {
        enum lexeme_kind kind = parse_peek(c, 0)->kind;
        bool missing = kind == LEX_RBRACKET || kind == LEX_COMMA || (i == 1 && kind == LEX_COLON);
        part = NULL;
        if (!missing && i == 2) {           // the step has a colon before it
            if (kind != LEX_COLON)
                return unexpected(c, parse_peek(c, 0));
            parse_next(c);
            kind = parse_peek(c, 0)->kind;
            missing = kind == LEX_RBRACKET || kind == LEX_COMMA;
        }
        if ((!missing && !(part = parse_expression(c))) || !ast_add(c, slice, part))
            return NULL;
    }
    return slice;
}

static struct ast *parse_item(struct compiler *c, struct ast *of) {
    const struct lexeme *bracket = parse_next(c);
    struct ast *keys = ast_new(c, AST_TUPLE, bracket), *key;
    while (parse_peek(c, 0)->kind != LEX_RBRACKET) {
        if (keys->n && !parse_expect(c, LEX_COMMA))
            return NULL;
        if (!(key = parse_subscript(c)) || !ast_add(c, keys, key))
            return NULL;
    }
    parse_next(c);
    for (int i = 0; keys->n > 1 && i < keys->n; i++)
        if (keys->kid[i]->kind == AST_SLICE)
            return unexpected(c, bracket);
    return node2(c, AST_GETITEM, bracket, of, keys->n == 1 ? keys->kid[0] : keys);
}

static struct ast *parse_attribute(struct compiler *c, struct ast *of) {
    const struct lexeme *dot = parse_next(c), *l = parse_next(c);
    struct ast *a;
    if (l->kind == LEX_NAME) {
        if ((a = node1(c, AST_GETATTR, dot, of)))
            a->name = l->s;
        return a;
    }
    if (l->kind != LEX_INTEGER) {
        compile_fail(c, l->line, l->column, "expected name or number");
        return NULL;
    }
    a = ast_new(c, AST_CONST, l);
    a->value = l->value;
    return node2(c, AST_GETITEM, dot, of, a);
}

/* One argument: value, name=value, *values, **names. */
static struct ast *parse_argument(struct compiler *c) {
    const struct lexeme *l = parse_peek(c, 0);
    if (parse_skip(c, LEX_MUL))
        return node1(c, AST_STAR, l, parse_expression(c));
    if (parse_skip(c, LEX_POW))
        return node1(c, AST_STARSTAR, l, parse_expression(c));
    if (l->kind != LEX_NAME || parse_peek(c, 1)->kind != LEX_ASSIGN)
        return parse_expression(c);
    parse_next(c);
    parse_next(c);
    struct ast *a = node1(c, AST_KEYWORD, l, parse_expression(c));
    if (a) {
        a->name = l->s;
        a->len = l->len;
    }
    return a;
}

static int argument_rank(const struct ast *a) {
    return a->kind == AST_STARSTAR ? 3 : a->kind == AST_STAR ? 2 : a->kind == AST_KEYWORD ? 1 : 0;
}

static bool check_argument(struct compiler *c, const struct ast *args, const struct ast *a) {
    int rank = argument_rank(a);
    for (int i = 0; i < args->n; i++) {
        const struct ast *b = args->kid[i];
        int before = argument_rank(b);
        bool mixed = before == 3 || (rank == 0 && before > 0) || (rank == 2 && before == 2);
        bool repeated = rank == 1 && before == 1 && strcmp(a->name, b->name) == 0;
        if (mixed || repeated)
            return compile_fail(c, a->line, a->column, repeated
                                    ? "keyword argument repeated: %s"
                                    : "invalid syntax for function call expression%s",
                                repeated ? a->name : "");
    }
    return true;
}

static struct ast *parse_args(struct compiler *c) {
    const struct lexeme *open = parse_expect(c, LEX_LPAREN);
    struct ast *args = open ? ast_new(c, AST_ARGS, open) : NULL, *a;
    while (args && parse_peek(c, 0)->kind != LEX_RPAREN) {
        if (args->n && !parse_expect(c, LEX_COMMA))
            return NULL;
        if (args->n && parse_peek(c, 0)->kind == LEX_RPAREN)
            break;
        if (!(a = parse_argument(c)) || !check_argument(c, args, a) || !ast_add(c, args, a))
            return NULL;
        if (args->n > 255) {
            compile_fail(c, open->line, open->column, "more than 255 arguments");
            return NULL;
        }
    }
    return args && parse_expect(c, LEX_RPAREN) ? args : NULL;
}

static struct ast *parse_call(struct compiler *c, struct ast *callee) {
    const struct lexeme *open = parse_peek(c, 0);
    return node2(c, AST_CALL, open, callee, parse_args(c));
}

static struct ast *parse_postfix(struct compiler *c, struct ast *a) {
    while (a) {
        enum lexeme_kind kind = parse_peek(c, 0)->kind;
        if (kind == LEX_DOT)
            a = parse_attribute(c, a);
        else if (kind == LEX_LBRACKET)
            a = parse_item(c, a);
        else if (kind == LEX_LPAREN)
            a = parse_call(c, a);
        else
            break;
    }
    return a;
}

/* ---- filters and tests ---- */
/* "name" or "some.name"; NULL: failed. */
static const char *parse_dotted(struct compiler *c) {
    const struct lexeme *l = parse_expect(c, LEX_NAME);
    struct str all = {0};
    while (l) {
        str_add(&all, l->s);
        if (!parse_skip(c, LEX_DOT))
            break;
        str_addc(&all, '.');
        l = parse_expect(c, LEX_NAME);
    }
    const char *name = l ? pool_grow(c->pool, all.s, all.len, all.len + 1) : NULL;
    str_release(&all);
    return name;
}

struct ast *parse_filters(struct compiler *c, struct ast *subject, bool inline_start) {
    while (subject && (inline_start || parse_peek(c, 0)->kind == LEX_PIPE)) {
        if (!inline_start)
            parse_next(c);
        inline_start = false;
        const struct lexeme *l = parse_peek(c, 0);
        const char *name = parse_dotted(c);
        struct ast *args = !name ? NULL
                           : parse_peek(c, 0)->kind == LEX_LPAREN ? parse_args(c)
                                                                  : ast_new(c, AST_ARGS, l);
        subject = node2(c, AST_FILTER, l, subject, args);
        if (subject) {
            subject->name = name;
            subject->fn = filter_find(name, strlen(name));
        }
    }
    return subject;
}

/* The argument of a test without brackets: x is divisibleby 3. */
static struct ast *parse_bare_argument(struct compiler *c) {
    const struct lexeme *l = parse_peek(c, 0);
    struct ast *args = ast_new(c, AST_ARGS, l);
    bool starts = l->kind == LEX_NAME || l->kind == LEX_STRING || l->kind == LEX_INTEGER ||
                  l->kind == LEX_FLOAT || l->kind == LEX_LBRACKET || l->kind == LEX_LBRACE;
    if (!starts || parse_is_name(l, "else") || parse_is_name(l, "or") || parse_is_name(l, "and"))
        return args;
    if (parse_is_name(l, "is")) {
        compile_fail(c, l->line, l->column, "You cannot chain multiple tests with is");
        return NULL;
    }
    struct ast *a = parse_postfix(c, parse_primary(c, 0));
    return a && ast_add(c, args, a) ? args : NULL;
}

static struct ast *parse_test(struct compiler *c, struct ast *subject) {
    const struct lexeme *is = parse_next(c);
    bool negated = parse_skip_name(c, "not");
    const char *name = parse_dotted(c);
    struct ast *args = !name ? NULL : parse_peek(c, 0)->kind == LEX_LPAREN
                           ? parse_args(c) : parse_bare_argument(c);
    struct ast *a = node2(c, AST_TEST, is, subject, args);
    if (!a)
        return NULL;
    a->name = name;
    a->fn = function_find(test_table, name, strlen(name));
    return negated ? node1(c, AST_NOT, is, a) : a;
}

/* ---- operators ---- */
static struct ast *parse_signed(struct compiler *c, bool with_filters) {
    const struct lexeme *l = parse_peek(c, 0);
    struct ast *a;
    if (++c->depth > NESTING_MAX) {
        compile_fail(c, l->line, l->column, "nested too deeply");
        return NULL;
    }
    if (l->kind == LEX_SUB || l->kind == LEX_ADD) {
        parse_next(c);
        a = node1(c, AST_UNARY, l, parse_signed(c, false));
        if (a)
            a->op = &operator_table[l->kind == LEX_SUB];
    } else {
        a = parse_primary(c, 0);
    }
    a = parse_postfix(c, a);
    while (a && with_filters) {
        l = parse_peek(c, 0);
        if (l->kind == LEX_PIPE)
            a = parse_filters(c, a, false);
        else if (parse_is_name(l, "is"))
            a = parse_test(c, a);
        else if (l->kind == LEX_LPAREN)
            a = parse_call(c, a);
        else
            break;
    }
    c->depth--;
    return a;
}

static const struct operator *operator_at(struct compiler *c, int level) {
    const struct lexeme *l = parse_peek(c, 0);
    for (const struct operator *o = operator_table; o->text; o++) {
        if (o->level != level || o->lexeme != l->kind)
            continue;
        bool negated = o->compare == is_not_in;
        if (l->kind != LEX_NAME || (strcmp(l->s, o->text) == 0 &&
                                    (!negated || parse_is_name(parse_peek(c, 1), "in"))))
            return o;
    }
    return NULL;
}

static struct ast *parse_compare(struct compiler *c) {
    const struct lexeme *start = parse_peek(c, 0);
    struct ast *first = parse_level(c, LEVEL_SUM), *chain = NULL;
    const struct operator *o;
    while (first && (o = operator_at(c, LEVEL_COMPARE))) {
        const struct lexeme *l = parse_next(c);
        if (o->compare == is_not_in)
            parse_next(c);
        struct ast *operand = node1(c, AST_OPERAND, l, parse_level(c, LEVEL_SUM));
        if (!operand || (!chain && !(chain = node1(c, AST_COMPARE, start, first))) ||
            !ast_add(c, chain, operand))
            return NULL;
        operand->op = o;
    }
    return chain ? chain : first;
}

static struct ast *parse_concat(struct compiler *c) {
    const struct lexeme *start = parse_peek(c, 0);
    struct ast *first = parse_level(c, LEVEL_PRODUCT), *all = NULL;
    while (first && parse_skip(c, LEX_TILDE)) {
        struct ast *part = parse_level(c, LEVEL_PRODUCT);
        if (!part || (!all && !(all = node1(c, AST_CONCAT, start, first))) ||
            !ast_add(c, all, part))
            return NULL;
    }
    return all ? all : first;
}

static struct ast *parse_logic(struct compiler *c, int level, enum ast_kind kind,
                               const char *word) {
    struct ast *a = parse_level(c, level + 1);
    const struct lexeme *l = parse_peek(c, 0);
    while (a && parse_skip_name(c, word)) {
        a = node2(c, kind, l, a, parse_level(c, level + 1));
        l = parse_peek(c, 0);
    }
    return a;
}

static struct ast *parse_not(struct compiler *c) {
    const struct lexeme *l = parse_peek(c, 0);
    if (!parse_skip_name(c, "not"))
        return parse_compare(c);
    if (++c->depth > NESTING_MAX) {
        compile_fail(c, l->line, l->column, "nested too deeply");
        return NULL;
    }
    struct ast *a = node1(c, AST_NOT, l, parse_not(c));
    c->depth--;
    return a;
}

static struct ast *parse_binary(struct compiler *c, int level) {
    struct ast *a = parse_level(c, level + 1);
    const struct operator *o;
    while (a && (o = operator_at(c, level))) {
        const struct lexeme *l = parse_next(c);
        a = node2(c, AST_BINARY, l, a, parse_level(c, level + 1));
        if (a)
            a->op = o;
    }
    return a;
}

static struct ast *parse_level(struct compiler *c, int level) {
    switch (level) {
    case LEVEL_OR:
        return parse_logic(c, level, AST_OR, "or");
    case LEVEL_AND:
        return parse_logic(c, level, AST_AND, "and");
    case LEVEL_NOT:
        return parse_not(c);
    case LEVEL_CONCAT:
        return parse_concat(c);
    case LEVEL_UNARY:
        return parse_signed(c, true);
    default:
        return parse_binary(c, level);
    }
}

struct ast *parse_expression(struct compiler *c) {
    const struct lexeme *l = parse_peek(c, 0);
    if (++c->depth > NESTING_MAX) {
        compile_fail(c, l->line, l->column, "nested too deeply");
        return NULL;
    }
    struct ast *a = parse_level(c, LEVEL_OR);
    while (a && parse_skip_name(c, "if")) {
        struct ast *cond = ast_new(c, AST_COND, l), *test = parse_level(c, LEVEL_OR), *other = NULL;
        if (test && parse_skip_name(c, "else") && !(other = parse_expression(c)))
            return NULL;
        if (!test || !ast_add(c, cond, test) || !ast_add(c, cond, a) || !ast_add(c, cond, other))
            return NULL;
        a = cond;
    }
    c->depth--;
    return a;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_statement.c — statements to trees: one row a tag.
 *
 * Tags that need other templates or change escaping are rows without a parser and refused by name.
 */
#include "model/jinja_compile.h"

#include <string.h>

enum { BLOCKS_MAX = 200 };

/* A block that waits for its end. */
struct tag {
    const char *name;
    int line;
    const char *const *ends;
    struct tag *outer;
};

static struct ast *parse_body(struct compiler *c, const char *name, const char *const *ends);

/* ---- targets ---- */
/* Marks names as stored; false: something that cannot be assigned to. */
static bool make_target(struct compiler *c, struct ast *a) {
    static const char *const kinds[AST_KINDS] = {
        [AST_CONST] = "const", [AST_LIST] = "list", [AST_DICT] = "dict", [AST_CALL] = "call",
        [AST_GETATTR] = "getattr", [AST_GETITEM] = "getitem"};
    if (a->kind == AST_NAME || a->kind == AST_NSREF) {
        a->use = NAME_STORE;
        return true;
    }
    if (a->kind != AST_TUPLE)
        return compile_fail(c, a->line, a->column, "can't assign to '%s'",
                            kinds[a->kind] ? kinds[a->kind] : "expression");
    for (int i = 0; i < a->n; i++)
        if (!make_target(c, a->kid[i]))
            return false;
    return true;
}

static struct ast *parse_target(struct compiler *c, int flags) {
    struct ast *a = parse_tuple(c, TUPLE_TARGET | flags);
    return a && make_target(c, a) ? a : NULL;
}

static struct ast *parse_name_target(struct compiler *c, enum name_use use) {
    const struct lexeme *l = parse_expect(c, LEX_NAME);
    if (!l)
        return NULL;
    struct ast *a = ast_new(c, AST_NAME, l);
    a->name = l->s;
    a->len = l->len;
    a->use = use;
    return a;
}

static void mark_params(struct ast *a) {
    a->use = NAME_PARAM;
    for (int i = 0; i < a->n; i++)
        mark_params(a->kid[i]);
}

/* A second tree of the same target: the test of a loop has variables of its own. */
static struct ast *copy_target(struct compiler *c, const struct ast *a) {
    struct ast *b = pool_alloc(c->pool, sizeof *b);
    *b = *a;
    b->n = 0;
    b->kid = NULL;
    for (int i = 0; i < a->n; i++)
        ast_add(c, b, copy_target(c, a->kid[i]));
    return b;
}

static bool add_all(struct compiler *c, struct ast *a, struct ast *const *kids, int n) {
    for (int i = 0; i < n; i++)
        if (!ast_add(c, a, kids[i]))
            return false;
    return true;
}

/* ---- statements: the tag's name is read, its end is not ---- */
static struct ast *parse_set(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endset", NULL};
    struct ast *target = parse_target(c, TUPLE_NAMESPACE), *value;
    if (!target)
        return NULL;
    if (parse_skip(c, LEX_ASSIGN)) {
        struct ast *a = ast_new(c, AST_SET, at);
        value = parse_tuple(c, 0);
        return value && ast_add(c, a, target) && ast_add(c, a, value) ? a : NULL;
    }
    struct ast *filter = NULL;
    if (parse_peek(c, 0)->kind == LEX_PIPE &&
        !(filter = parse_filters(c, ast_new(c, AST_CAPTURED, at), false)))
        return NULL;
    struct ast *body = parse_body(c, "set", ends), *a = ast_new(c, AST_SET_BLOCK, at);
    if (!body)
        return NULL;
    parse_next(c);
    return add_all(c, a, (struct ast *[]){target, filter, body}, 3) ? a : NULL;
}

static struct ast *parse_if(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct ast *a = ast_new(c, AST_IF, at), *body;
    for (;;) {
        struct ast *test = parse_tuple(c, TUPLE_NO_COND);
        if (!test || !(body = parse_body(c, "if", ends)) || !ast_add(c, a, test) ||
            !ast_add(c, a, body))
            return NULL;
        const struct lexeme *l = parse_next(c);
        if (parse_is_name(l, "elif"))
            continue;
        if (parse_is_name(l, "endif"))
            return a;
        if (!(body = parse_body(c, "if", last)) || !ast_add(c, a, body))
            return NULL;
        parse_next(c);
        return a;
    }
}

static struct ast *parse_for(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const last[] = {"endfor", NULL};
    struct ast *a = ast_new(c, AST_FOR, at), *kid[FOR_KIDS] = {0};
    if (!(kid[FOR_TARGET] = parse_target(c, 0)))
        return NULL;
    if (!parse_skip_name(c, "in")) {
        const struct lexeme *l = parse_peek(c, 0);
        compile_fail(c, l->line, l->column, "expected 'in', got '%.60s'", lexeme_text(l));
        return NULL;
    }
    if (!(kid[FOR_ITER] = parse_tuple(c, TUPLE_NO_COND)))
        return NULL;
    if (parse_skip_name(c, "if")) {
        if (!(kid[FOR_TEST] = parse_expression(c)))
            return NULL;
        kid[FOR_TEST_TARGET] = copy_target(c, kid[FOR_TARGET]);
    }
    a->block->recursive = parse_skip_name(c, "recursive");
    int outside = c->loops;
    c->loops = a->block->recursive ? 1 : outside + 1;
    kid[FOR_BODY] = parse_body(c, "for", ends);
    c->loops = a->block->recursive ? 0 : outside;
    if (kid[FOR_BODY] && parse_is_name(parse_next(c), "else")) {
        kid[FOR_ELSE] = parse_body(c, "for", last);
        if (!kid[FOR_ELSE])
            return NULL;
        parse_next(c);
    }
    c->loops = outside;
    return kid[FOR_BODY] && add_all(c, a, kid, FOR_KIDS) ? a : NULL;
}

static bool has_param(const struct ast *params, const char *name) {
    for (int i = 0; i < params->n; i++)
        if (strcmp(params->kid[i]->name, name) == 0)
            return true;
    return false;
}

/* "(a, b=1)" */
static bool parse_signature(struct compiler *c, struct ast *params, struct ast *defaults) {
    if (!parse_expect(c, LEX_LPAREN))
        return false;
    while (parse_peek(c, 0)->kind != LEX_RPAREN) {
        if (params->n && !parse_expect(c, LEX_COMMA))
            return false;
        struct ast *p = parse_name_target(c, NAME_PARAM), *value;
        if (!p)
            return false;
        if (has_param(params, p->name))
            return compile_fail(c, p->line, p->column, "duplicate argument '%.60s'", p->name);
        if (parse_skip(c, LEX_ASSIGN)) {
            if (!(value = parse_expression(c)) || !ast_add(c, defaults, value))
                return false;
        } else if (defaults->n) {
            return compile_fail(c, p->line, p->column,
                                "non-default argument follows default argument");
        }
        if (!ast_add(c, params, p))
            return false;
    }
    parse_next(c);
    return true;
}

/* The body of a function: loops outside cannot be left from here. */
static struct ast *parse_function(struct compiler *c, struct ast *a, struct ast *call,
                                  struct ast *params, struct ast *defaults, const char *name,
                                  const char *const *ends) {
    int outside = c->loops;
    c->loops = 0;
    struct ast *body = parse_body(c, name, ends);
    c->loops = outside;
    if (!body)
        return NULL;
    parse_next(c);
    return add_all(c, a, (struct ast *[]){call, params, defaults, body}, MACRO_KIDS) ? a : NULL;
}

static struct ast *parse_macro(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endmacro", NULL};
    struct ast *a = ast_new(c, AST_MACRO, at), *name = parse_name_target(c, NAME_STORE);
    struct ast *params = ast_new(c, AST_BLOCK, at), *defaults = ast_new(c, AST_BLOCK, at);
    if (!name || !parse_signature(c, params, defaults))
        return NULL;
    a->name = name->name;
    a->len = name->len;
    return parse_function(c, a, NULL, params, defaults, "macro", ends);
}

static struct ast *parse_call_block(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endcall", NULL};
    struct ast *a = ast_new(c, AST_CALL_BLOCK, at);
    struct ast *params = ast_new(c, AST_BLOCK, at), *defaults = ast_new(c, AST_BLOCK, at);
    if (parse_peek(c, 0)->kind == LEX_LPAREN && !parse_signature(c, params, defaults))
        return NULL;
    struct ast *call = parse_expression(c);
    if (call && call->kind != AST_CALL) {
        compile_fail(c, at->line, at->column, "expected call");
        return NULL;
    }
    return call ? parse_function(c, a, call, params, defaults, "call", ends) : NULL;
}

static struct ast *parse_generation(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endgeneration", NULL};
    c->generation = true;
    return parse_function(c, ast_new(c, AST_GENERATION, at), NULL, ast_new(c, AST_BLOCK, at),
                          ast_new(c, AST_BLOCK, at), "generation", ends);
}

static struct ast *parse_filter_block(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endfilter", NULL};
    struct ast *a = ast_new(c, AST_FILTER_BLOCK, at);
    struct ast *filter = parse_filters(c, ast_new(c, AST_CAPTURED, at), true);
    struct ast *body = filter ? parse_body(c, "filter", ends) : NULL;
    if (!body)
        return NULL;
    parse_next(c);
    return add_all(c, a, (struct ast *[]){body, filter}, 2) ? a : NULL;
}

static struct ast *parse_with(struct compiler *c, const struct lexeme *at) {
    static const char *const ends[] = {"endwith", NULL};
    struct ast *a = ast_new(c, AST_WITH, at), *target, *value;
    struct ast *targets = ast_new(c, AST_BLOCK, at), *values = ast_new(c, AST_BLOCK, at);
    while (parse_peek(c, 0)->kind != LEX_BLOCK_END) {
        if ((targets->n && !parse_expect(c, LEX_COMMA)) || !(target = parse_target(c, 0)) ||
            !parse_expect(c, LEX_ASSIGN) || !(value = parse_expression(c)) ||
            !ast_add(c, targets, target) || !ast_add(c, values, value))
            return NULL;
        mark_params(target);
    }
    struct ast *body = parse_body(c, "with", ends);
    if (!body)
        return NULL;
    parse_next(c);
    return add_all(c, a, (struct ast *[]){targets, values, body}, 3) ? a : NULL;
}

static struct ast *parse_print(struct compiler *c, const struct lexeme *at) {
    struct ast *a = ast_new(c, AST_OUTPUT, at), *value;
    while (parse_peek(c, 0)->kind != LEX_BLOCK_END)
        if ((a->n && !parse_expect(c, LEX_COMMA)) || !(value = parse_expression(c)) ||
            !ast_add(c, a, value))
            return NULL;
    return a;
}

static struct ast *parse_jump(struct compiler *c, const struct lexeme *at) {
    bool is_break = parse_is_name(at, "break");
    if (c->loops)
        return ast_new(c, is_break ? AST_BREAK : AST_CONTINUE, at);
    compile_fail(c, at->line, at->column, "'%s' outside loop", at->s);
    return NULL;
}

static const struct {
    const char *name;
    struct ast *(*parse)(struct compiler *c, const struct lexeme *at);
} statements[] = {
    {"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro},
    {"call", parse_call_block}, {"filter", parse_filter_block}, {"with", parse_with},
    {"print", parse_print}, {"break", parse_jump}, {"continue", parse_jump},
    {"generation", parse_generation},
    {"autoescape", NULL}, {"block", NULL}, {"extends", NULL}, {"from", NULL}, {"import", NULL},
    {"include", NULL},
};

/* ---- bodies ---- */
static bool is_end(const struct lexeme *l, const char *const *ends) {
    for (; ends && *ends; ends++)
        if (parse_is_name(l, *ends))
            return true;
    return false;
}

static struct ast *unknown_tag(struct compiler *c, const struct lexeme *l) {
    struct str looking = {0};
    for (const char *const *end = c->tags ? c->tags->ends : NULL; end && *end; end++)
        str_addf(&looking, "%s'%s'", looking.len ? " or " : "", *end);
    if (l->kind == LEX_EOF && c->tags)
        compile_fail(c, l->line, l->column, "unexpected end of template, looking for %s: '%s' of "
                     "line %d is not closed", looking.s, c->tags->name, c->tags->line);
    else
        compile_fail(c, l->line, l->column, "unknown tag '%.60s'%s%s", lexeme_text(l),
                     looking.s ? ", looking for " : "", looking.s ? looking.s : "");
    str_release(&looking);
    return NULL;
}

static struct ast *parse_tag(struct compiler *c) {
    const struct lexeme *l = parse_peek(c, 0);
    if (l->kind != LEX_NAME) {
        compile_fail(c, l->line, l->column, "tag name expected, got '%.60s'", lexeme_text(l));
        return NULL;
    }
    size_t i = 0;
    while (i < ARRAY_LEN(statements) && !parse_is_name(l, statements[i].name))
        i++;
    if (i == ARRAY_LEN(statements))
        return unknown_tag(c, l);
    if (!statements[i].parse) {
        compile_fail(c, l->line, l->column, "{%% %s %%} is not supported", l->s);
        return NULL;
    }
    parse_next(c);
    struct ast *a = statements[i].parse(c, l);
    return a && parse_expect(c, LEX_BLOCK_END) ? a : NULL;
}

/* Data or an expression, added to the output statement that is open in the body. */
static bool parse_output(struct compiler *c, struct ast *body) {
    const struct lexeme *l = parse_next(c);
    struct ast *item = ast_new(c, AST_CONST, l);
    if (l->kind == LEX_DATA)
        item->value = value_str(c->pool, l->s, l->len);
    else if (!(item = parse_tuple(c, 0)) || !parse_expect(c, LEX_VARIABLE_END))
        return false;
    struct ast *open = body->n ? body->kid[body->n - 1] : NULL;
    if (!open || open->kind != AST_OUTPUT) {
        open = ast_new(c, AST_OUTPUT, l);
        if (!ast_add(c, body, open))
            return false;
    }
    if (!ast_add(c, open, item))
        return false;
    body->height = MAX(body->height, open->height + 1);
    return true;
}

/* Statements until one of the ends, which is the next lexeme afterwards; NULL ends: all. */
static struct ast *parse_statements(struct compiler *c, const char *const *ends) {
    struct ast *body = ast_new(c, AST_BLOCK, parse_peek(c, 0)), *a;
    for (;;) {
        const struct lexeme *l = parse_peek(c, 0);
        if (l->kind == LEX_EOF)
            return ends ? unknown_tag(c, l) : body;
        if (l->kind != LEX_BLOCK_BEGIN) {
            if (!parse_output(c, body))
                return NULL;
            continue;
        }
        parse_next(c);
        if (is_end(parse_peek(c, 0), ends))
            return body;
        if (!(a = parse_tag(c)) || !ast_add(c, body, a))
            return NULL;
    }
}

static struct ast *parse_body(struct compiler *c, const char *name, const char *const *ends) {
    const struct lexeme *l = parse_peek(c, 0);
    struct tag tag = {.name = name, .line = l->line, .ends = ends, .outer = c->tags};
    parse_skip(c, LEX_COLON);
    if (!parse_expect(c, LEX_BLOCK_END))
        return NULL;
    if (++c->depth > BLOCKS_MAX) {
        compile_fail(c, l->line, l->column, "blocks nested too deeply");
        return NULL;
    }
    c->tags = &tag;
    struct ast *body = parse_statements(c, ends);
    c->tags = tag.outer;
    c->depth--;
    return body;
}

struct ast *parse_template(struct compiler *c) {
    return parse_statements(c, NULL);
}

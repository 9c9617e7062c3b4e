/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja.c — compiling and rendering, and the limits of a rendering.
 *
 * A compiled template is one pool: the tree, its constants, the slots of its variables. It is only
 * read afterwards, so that any number of threads may render it; each rendering has a pool of its
 * own. What a value, a text or a list would need is asked for before it is allocated; steps,
 * memory and depth are looked at wherever the interpreter moves on.
 */
#include "model/jinja_compile.h"

#include <stdlib.h>
#include <string.h>

#include "model/jinja_text.h"

const struct jinja_limits jinja_default_limits = {
    .steps = 10 * 1000 * 1000, .bytes = 64 << 20, .memory = 512 << 20, .depth = 2000};

/* ---- messages ---- */
/* One line of valid UTF-8, whatever was put into it. */
static void tidy(char *s) {
    s[utf8_valid_prefix(s, strlen(s))] = '\0';
    for (; *s; s++)
        if ((uint8_t)*s < ' ' || *s == 0x7F)
            *s = ' ';
}

bool compile_fail(struct compiler *c, int line, int column, const char *fmt, ...) {
    char message[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    tidy(message);
    err_set(c->e, "%s:%d:%d: %s", c->where, line, column, message);
    return false;
}

struct value *interp_fail(struct interp *x, const char *fmt, ...) {
    if (x->message[0])
        return NULL;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->message, sizeof x->message, fmt, ap);
    va_end(ap);
    tidy(x->message);
    if (!x->message[0])
        memcpy(x->message, "failed", sizeof "failed");
    return NULL;
}

/* ---- limits ---- */
bool interp_charge(struct interp *x, size_t steps) {
    if (x->message[0])
        return false;
    if (steps > x->limits.steps - x->steps)
        return interp_fail(x, "the template takes more than %zu steps", x->limits.steps);
    x->steps += steps;
    return interp_room(x, 0);
}

bool interp_room(struct interp *x, size_t bytes) {
    if (x->pool->bytes > x->limits.memory || bytes > x->limits.memory - x->pool->bytes)
        return interp_fail(x, "the template needs more than %zu bytes of memory",
                           x->limits.memory);
    return true;
}

bool interp_enter(struct interp *x) {
    if (x->depth >= x->limits.depth)
        return interp_fail(x, "the template nests deeper than %d levels (hint: does a macro call "
                              "itself?)", x->limits.depth);
    x->depth++;
    return true;
}

/* ---- compiling ---- */
struct jinja *jinja_compile(const char *text, size_t len, const char *where, struct err *e) {
    struct jinja *j = xcalloc(1, sizeof *j);
    struct pool scratch = {0};
    struct compiler c = {.pool = &j->pool, .scratch = &scratch, .where = where, .e = e};
    j->where = xstrdup(where);
    bool ok = compile_lex(&c, text, len) && (j->root = parse_template(&c)) && compile_scopes(&c, j);
    j->generation = c.generation;
    pool_release(&scratch);
    if (!ok)
        jinja_free(j);
    return ok ? j : NULL;
}

void jinja_free(struct jinja *j) {
    if (!j)
        return;
    pool_release(&j->pool);
    free(j->where);
    free(j);
}

bool jinja_has_generation(const struct jinja *j) {
    return j->generation;
}

/* ---- rendering ---- */
static bool run(struct interp *x, const json_t *context) {
    x->context = value_from_json(x, context);
    if (!x->context)
        return false;
    struct activation *act = activation_new(x, x->j->closure, NULL);
    scope_enter(x, &x->j->scope, act);
    return exec(x, x->j->root, act) == FLOW_NEXT;
}

int jinja_render(const struct jinja *j, const json_t *context, const struct jinja_limits *limits,
                 time_t now, struct jinja_output *out, struct err *e) {
    struct pool pool = {0};
    struct interp x = {.j = j, .pool = &pool, .now = now,
                       .limits = limits ? *limits : jinja_default_limits};
    struct text text = {.x = &x};
    memset(out, 0, sizeof *out);
    if (!json_is_object(context))
        return err_set(e, "%s: the variables: expected an object", j->where);
    x.out = &text;
    int rc = -1;
    if (run(&x, context)) {
        out->text = xmalloc(text.len + 1);              // may hold NULs
        if (text.len)
            memcpy(out->text, text.s, text.len);
        out->text[text.len] = '\0';
        out->len = text.len;
        out->nspans = x.nspans;
        if (x.nspans > 0) {
            out->spans = xmalloc((size_t)x.nspans * sizeof *out->spans);
            memcpy(out->spans, x.spans, (size_t)x.nspans * sizeof *out->spans);
        }
        rc = 0;
    } else {
        err_set(e, "%s:%d: %s", j->where, MAX(x.line, 1), x.message);
    }
    pool_release(&pool);
    return rc;
}

void jinja_output_release(struct jinja_output *out) {
    free(out->text);
    free(out->spans);
    memset(out, 0, sizeof *out);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_call.c — calling functions of tables: arguments by position and name to parameters.
 */
#include "model/jinja_type.h"

#include <inttypes.h>
#include <string.h>

const struct function *function_find(const struct function *table, const char *name, size_t len) {
    for (const struct function *f = table; f && f->name; f++)
        if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
            return f;
    return NULL;
}

struct binding {
    struct interp *x;
    const struct function *f;
    const struct call *call;
    struct value **a;
    int n;                                  /* parameters seen */
    size_t pos, kw;                         /* arguments used */
    bool by_position, rest_pos, rest_kw;
};

/* "*": positional arguments that are left. */
static void bind_rest(struct binding *b) {
    b->a[b->n++] = value_seq(b->x->pool, &type_tuple, b->call->pos ? b->call->pos + b->pos : NULL,
                             b->call->n - b->pos);
    b->pos = b->call->n;
    b->rest_pos = true;
}

static bool is_parameter(const struct function *f, const char *name, size_t len) {
    for (const char *p = f->params; *p;) {
        size_t n = strcspn(p, " "), body = n - (n && p[n - 1] == '?');
        if (body == len && memcmp(p, name, len) == 0)
            return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

/* "**": names that are no parameters. */
static bool bind_names(struct binding *b) {
    struct dict *rest = dict_new(b->x);
    const struct dict *kw = b->call->kw;
    for (size_t i = 0; kw && i < kw->n; i++) {
        struct value *key = kw->entry[i].key;
        if (!b->by_position && is_parameter(b->f, key->str.s, key->str.len))
            continue;
        b->kw++;
        if (!dict_set(b->x, rest, key, kw->entry[i].value))
            return false;
    }
    b->a[b->n++] = value_of_dict(b->x->pool, &type_dict, rest);
    b->rest_kw = true;
    return true;
}

static bool bind_one(struct binding *b, const char *name, size_t len) {
    bool optional = name[len - 1] == '?';
    len -= optional;
    struct value *named = b->call->kw && !b->by_position ? dict_get(b->call->kw, name, len) : NULL;
    struct value *v = b->pos < b->call->n ? b->call->pos[b->pos++] : NULL;
    if (v && named)
        return interp_fail(b->x, "%s() got multiple values for argument '%.*s'", b->f->name,
                           (int)len, name);
    b->kw += named != NULL;
    if (!v && !named && !optional)
        return interp_fail(b->x, "%s() missing argument '%.*s'", b->f->name, (int)len, name);
    b->a[b->n++] = v ? v : named;
    return true;
}

static bool bind_end(const struct binding *b) {
    const struct dict *kw = b->call->kw;
    if (b->pos < b->call->n)
        return interp_fail(b->x, "%s() takes at most %zu arguments, got %zu", b->f->name, b->pos,
                           b->call->n);
    for (size_t i = 0; kw && b->kw < kw->n && i < kw->n; i++) {
        const struct value *key = kw->entry[i].key;
        if (b->by_position || !is_parameter(b->f, key->str.s, key->str.len))
            return interp_fail(b->x, "%s() got an unexpected keyword argument '%.*s'", b->f->name,
                               (int)MIN(key->str.len, 60), key->str.s);
    }
    return true;
}

struct value *function_call(struct interp *x, const struct function *f, struct value *self,
                            const struct call *c) {
    if (!f->run)
        return interp_fail(x, "%s is not supported", f->name);
    struct value *a[FN_PARAMS] = {0};
    struct binding b = {.x = x, .f = f, .call = c, .a = a};
    for (const char *p = f->params; *p;) {
        size_t n = strcspn(p, " ");
        bool ok = true;
        if (n == 1 && *p == '/')
            b.by_position = true;
        else if (n == 1 && *p == '*')
            bind_rest(&b);
        else
            ok = n == 2 && p[0] == '*' ? bind_names(&b) : bind_one(&b, p, n);
        if (!ok)
            return NULL;
        p += n + (p[n] == ' ');
    }
    if (!bind_end(&b) || !interp_charge(x, 1) || !interp_enter(x))
        return NULL;
    struct value *v = f->run(x, self, a);
    interp_leave(x);
    return v;
}

struct value *value_call(struct interp *x, struct value *v, const struct call *c) {
    if (is_undefined(v))
        return fail_undefined(x, v);
    if (!v->type->call)
        return interp_fail(x, "'%s' object is not callable", v->type->name);
    return v->type->call(x, v, c);
}

/* ---- arguments of a kind ---- */
bool want_int(struct interp *x, struct value *v, const char *what, int64_t def, int64_t *out) {
    *out = def;
    if (!v)
        return true;
    if (is_undefined(v))
        return fail_undefined(x, v);
    if (!is_integral(v))
        return interp_fail(x, "%s: '%s' object cannot be interpreted as an integer", what,
                           v->type->name);
    *out = v->i;
    return true;
}

bool want_str(struct interp *x, struct value *v, const char *what, struct value **out) {
    if (!is_str(v))
        return interp_fail(x, "%s: expected a str, got '%s'", what, v->type->name);
    *out = v;
    return true;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_scope.c — names to slots, by Jinja2's rules.
 *
 * Jinja2 decides when compiling what a name means, by looking at a whole scope before any of it
 * runs, and templates depend on what comes out: a name that a loop's body sets starts each round
 * as a copy of the outer variable and is gone afterwards, also where the set stands behind the
 * first use or in a branch that is not taken; "if" opens no scope; a macro sees the variables
 * around it as they are when it is called. So each scope is walked twice: analyse collects what it
 * loads and stores (Jinja2's idtracking.Symbols), resolve gives every name its slot and goes into
 * the scopes inside, which see those around them complete.
 *
 * A name points to its innermost symbol; symbols that leave uncover the ones they hid. The three
 * branches of an "if" are analysed one after the other from the same state, so what a branch adds
 * is taken back after it and merged at the end.
 */
#include "model/jinja_compile.h"

#include <string.h>

struct symbol {
    struct name *name;
    struct symbol *hidden;                  /* what the name meant outside */
    struct frame *frame;
    struct symbol *next;                    /* in the frame */
    enum load_action action;
    struct symbol *outer;                   /* LOAD_ALIAS */
    int slot;
    bool stored;
};
struct name {
    const char *s;
    size_t len;
    struct symbol *top;                     /* innermost; NULL: means nothing yet */
};
struct frame {
    struct closure *closure;
    struct symbol *first, **last;
};
struct scoper {
    struct compiler *c;
    struct name **slot;                     /* open addressing by name */
    size_t slots, names;
    struct frame *frame;
    struct symbol **log;                    /* in order: symbols that became stored */
    size_t logged, log_cap;
    bool soft;                              /* within an if: unknown filters fail when they run */
};

/* ---- names ---- */
static struct name **name_slot(struct scoper *s, const char *text, size_t len) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)text[i]) * 0x100000001B3u;
    size_t i = (h ^ h >> 32) & (s->slots - 1);
    while (s->slot[i] && (s->slot[i]->len != len || memcmp(s->slot[i]->s, text, len) != 0))
        i = (i + 1) & (s->slots - 1);
    return &s->slot[i];
}

static struct name *name_of(struct scoper *s, const char *text) {
    if (2 * s->names >= s->slots) {
        struct name **old = s->slot;
        size_t n = s->slots;
        s->slots = n ? 2 * n : 256;
        s->slot = pool_alloc(s->c->scratch, s->slots * sizeof *s->slot);
        for (size_t i = 0; i < n; i++)
            if (old[i])
                *name_slot(s, old[i]->s, old[i]->len) = old[i];
    }
    struct name **at = name_slot(s, text, strlen(text));
    if (!*at) {
        *at = pool_alloc(s->c->scratch, sizeof **at);
        **at = (struct name){.s = text, .len = strlen(text)};
        s->names++;
    }
    return *at;
}

/* ---- symbols ---- */
static void push_symbol(struct scoper *s, struct symbol *y) {
    y->hidden = y->name->top;
    y->name->top = y;
    y->next = NULL;
    *s->frame->last = y;
    s->frame->last = &y->next;
}

static struct symbol *define(struct scoper *s, struct name *n, enum load_action action,
                             struct symbol *outer) {
    struct symbol *y = pool_alloc(s->c->scratch, sizeof *y);
    *y = (struct symbol){.name = n, .frame = s->frame, .action = action, .outer = outer,
                         .slot = s->frame->closure->slots++};
    push_symbol(s, y);
    return y;
}

static bool is_own(const struct scoper *s, const struct name *n) {
    return n->top && n->top->frame == s->frame;
}

static void set_stored(struct scoper *s, struct symbol *y) {
    if (y->stored)
        return;
    y->stored = true;
    if (s->logged == s->log_cap) {
        size_t cap = s->log_cap ? 2 * s->log_cap : 64;
        s->log = pool_grow(s->c->scratch, s->log, s->log_cap * sizeof *s->log,
                           cap * sizeof *s->log);
        s->log_cap = cap;
    }
    s->log[s->logged++] = y;
}

static void note_load(struct scoper *s, const char *text) {
    struct name *n = name_of(s, text);
    if (!n->top)
        define(s, n, LOAD_RESOLVE, NULL);
}

static void note_store(struct scoper *s, const char *text) {
    struct name *n = name_of(s, text);
    if (!is_own(s, n))
        define(s, n, n->top ? LOAD_ALIAS : LOAD_UNDEFINED, n->top);
    set_stored(s, n->top);
}

static struct symbol *note_param(struct scoper *s, const char *text) {
    struct name *n = name_of(s, text);
    struct symbol *y = is_own(s, n) ? n->top : define(s, n, LOAD_PARAM, NULL);
    y->action = LOAD_PARAM;
    set_stored(s, y);
    return y;
}

/* ---- frames ---- */
static void frame_open(struct scoper *s, struct frame *f, struct closure *closure) {
    *f = (struct frame){.closure = closure, .last = &f->first};
    s->frame = f;
}

static struct ref ref_to(const struct scoper *s, const struct symbol *y) {
    return (struct ref){.hops = s->frame->closure->depth - y->frame->closure->depth,
                        .slot = y->slot};
}

/* Takes symbols of one frame out of use. Their names differ: any order does. */
static void uncover(struct symbol *first) {
    for (struct symbol *y = first; y; y = y->next)
        y->name->top = y->hidden;
}

static void frame_close(struct scoper *s, struct frame *outer, struct scope *out) {
    struct frame *f = s->frame;
    size_t n = 0;
    for (struct symbol *y = f->first; y; y = y->next)
        n++;
    out->load = pool_alloc(s->c->pool, n * sizeof *out->load);
    out->n = 0;
    for (struct symbol *y = f->first; y; y = y->next) {
        struct load *l = &out->load[out->n++];
        *l = (struct load){.action = y->action, .slot = y->slot, .name = y->name->s};
        if (y->action == LOAD_ALIAS)
            l->outer = ref_to(s, y->outer);
    }
    uncover(f->first);
    s->frame = outer;
}

static struct closure *closure_new(struct scoper *s, struct closure *up) {
    struct closure *k = pool_alloc(s->c->pool, sizeof *k);
    k->up = up;
    k->depth = up ? up->depth + 1 : 0;
    return k;
}

/* ---- analysing: what a scope loads and stores ---- */
static void analyse(struct scoper *s, const struct ast *a);

static void analyse_kids(struct scoper *s, const struct ast *a) {
    for (int i = 0; i < a->n; i++)
        analyse(s, a->kid[i]);
}

static void analyse_params(struct scoper *s, const struct ast *a) {
    if (a->kind == AST_NAME)
        note_param(s, a->name);
    for (int i = 0; i < a->n; i++)
        analyse_params(s, a->kid[i]);
}

/* What one branch of an if did: symbols it made, and older ones that it stored to first. */
struct branch {
    struct symbol *made;
    struct symbol **stored;
    size_t nstored;
};

static void branch_end(struct scoper *s, struct symbol **mark, size_t log_mark,
                       struct branch *b) {
    b->made = *mark;
    *mark = NULL;
    s->frame->last = mark;
    uncover(b->made);
    b->nstored = s->logged - log_mark;
    b->stored = pool_alloc(s->c->scratch, b->nstored * sizeof *b->stored);
    for (size_t i = 0; i < b->nstored; i++) {
        b->stored[i] = s->log[log_mark + i];
        b->stored[i]->stored = false;
    }
    s->logged = log_mark;
}

/* A name that branches store to starts as what it is outside, or in the context. */
static void merge_stored(struct scoper *s, struct symbol *y) {
    struct symbol *mine = y->name->top;     /* another branch's symbol of the same name, perhaps */
    if (mine->stored)
        return;
    set_stored(s, mine);
    mine->action = mine->hidden ? LOAD_ALIAS : LOAD_RESOLVE;
    mine->outer = mine->hidden;
}

static void merge(struct scoper *s, struct branch *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct symbol *next;
        for (struct symbol *y = b[i].made; y; y = next) {
            next = y->next;
            if (is_own(s, y->name)) {       // an earlier branch has it: the later one's way counts
                y->name->top->action = y->action;
                y->name->top->outer = y->outer;
            } else {
                push_symbol(s, y);
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < b[i].nstored; k++)
            merge_stored(s, b[i].stored[k]);
}

/* kids: test, body, and so on; the else stands alone at the end. */
static void analyse_if(struct scoper *s, const struct ast *a) {
    struct branch all[3] = {0}, one;
    analyse(s, a->kid[0]);
    struct symbol **mark = s->frame->last;
    size_t log_mark = s->logged;
    analyse(s, a->kid[1]);
    branch_end(s, mark, log_mark, &all[0]);
    for (int i = 2; i + 1 < a->n; i += 2) { // each elif is an if within the second branch
        analyse(s, a->kid[i]);
        struct symbol **inner = s->frame->last;
        size_t inner_log = s->logged;
        analyse(s, a->kid[i + 1]);
        branch_end(s, inner, inner_log, &one);
        merge(s, &one, 1);
    }
    branch_end(s, mark, log_mark, &all[1]);
    if (a->n % 2)
        analyse(s, a->kid[a->n - 1]);
    branch_end(s, mark, log_mark, &all[2]);
    merge(s, all, 3);
}

static void analyse_name(struct scoper *s, const struct ast *a) {
    if (a->use == NAME_LOAD)
        note_load(s, a->name);
    else if (a->use == NAME_STORE)
        note_store(s, a->name);
    else
        note_param(s, a->name);
}

static void analyse_nsref(struct scoper *s, const struct ast *a) {
    note_load(s, a->name);
}

static void analyse_macro(struct scoper *s, const struct ast *a) {
    note_store(s, a->name);
}

static void analyse_set(struct scoper *s, const struct ast *a) {
    analyse(s, a->kid[1]);
    analyse(s, a->kid[0]);
}

/* Of statements with a scope of their own, what belongs to the one around. */
static void analyse_set_block(struct scoper *s, const struct ast *a) {
    analyse(s, a->kid[0]);
}

static void analyse_for(struct scoper *s, const struct ast *a) {
    analyse(s, a->kid[FOR_ITER]);
}

static void analyse_call_block(struct scoper *s, const struct ast *a) {
    analyse(s, a->kid[MACRO_CALL]);
}

static void analyse_filter_block(struct scoper *s, const struct ast *a) {
    analyse(s, a->kid[1]);
}

static void analyse_with(struct scoper *s, const struct ast *a) {
    analyse(s, a->kid[WITH_VALUES]);
}

static void analyse_generation(struct scoper *s, const struct ast *a) {
    (void)s, (void)a;
}

/* No row: all that is below. */
static void (*const analysers[AST_KINDS])(struct scoper *s, const struct ast *a) = {
    [AST_NAME] = analyse_name,
    [AST_NSREF] = analyse_nsref,
    [AST_IF] = analyse_if,
    [AST_MACRO] = analyse_macro,
    [AST_SET] = analyse_set,
    [AST_SET_BLOCK] = analyse_set_block,
    [AST_FOR] = analyse_for,
    [AST_CALL_BLOCK] = analyse_call_block,
    [AST_FILTER_BLOCK] = analyse_filter_block,
    [AST_WITH] = analyse_with,
    [AST_GENERATION] = analyse_generation,
};

static void analyse(struct scoper *s, const struct ast *a) {
    if (!a)
        return;
    if (analysers[a->kind])
        analysers[a->kind](s, a);
    else
        analyse_kids(s, a);
}

/* ---- special names ---- */
struct search {
    const char *const *names;
    int n;
    unsigned open, found;                   /* bits of names */
};

/* Which names are read below before anything there declares them, in Jinja2's order. */
static void find_undeclared(const struct ast *a, struct search *f) {
    if (!a)
        return;
    for (int i = 0; a->kind == AST_NAME && i < f->n; i++)
        if (strcmp(a->name, f->names[i]) == 0) {
            if (a->use == NAME_LOAD)
                f->found |= f->open & 1u << i;
            else
                f->open &= ~(1u << i);
        }
    for (int i = 0; i < a->n; i++)
        find_undeclared(a->kid[i], f);
}

static unsigned undeclared(const struct ast *a, const char *const *names, int n) {
    struct search f = {.names = names, .n = n, .open = (1u << n) - 1};
    find_undeclared(a, &f);
    return f.found;
}

static bool check_loop_targets(struct scoper *s, const struct ast *a, bool inside) {
    if (!a)
        return true;
    inside |= a->kind == AST_FOR;
    if (inside && a->kind == AST_NAME && a->use == NAME_STORE && strcmp(a->name, "loop") == 0)
        return compile_fail(s->c, a->line, a->column,
                            "Can't assign to special loop variable in for-loop target");
    for (int i = 0; i < a->n; i++)
        if (!check_loop_targets(s, a->kid[i], inside))
            return false;
    return true;
}

/* ---- resolving: names to slots ---- */
static bool resolve(struct scoper *s, struct ast *a);

static bool resolve_kids(struct scoper *s, struct ast *a) {
    for (int i = 0; i < a->n; i++)
        if (!resolve(s, a->kid[i]))
            return false;
    return true;
}

static bool resolve_soft(struct scoper *s, struct ast *a) {
    bool before = s->soft;
    s->soft = true;
    bool ok = resolve_kids(s, a);
    s->soft = before;
    return ok;
}

static bool resolve_function(struct scoper *s, struct ast *a) {
    bool filter = a->kind == AST_FILTER, unsupported = a->fn && !a->fn->run;
    if ((!a->fn || unsupported) && !s->soft)
        return compile_fail(s->c, a->line, a->column,
                            unsupported ? "%s '%.60s' is not supported" : "No %s named '%.60s'.",
                            filter ? "filter" : "test", a->name);
    return resolve_kids(s, a);
}

/* What a filter or set block captured goes to the filters through a slot. */
static struct ref capture_slot(struct scoper *s, struct ast *filter) {
    struct ref r = {.slot = s->frame->closure->slots++};
    while (filter && filter->kind != AST_CAPTURED)
        filter = filter->kid[0];
    if (filter)
        filter->ref = r;
    return r;
}

/* A scope in the surrounding function, of one or two parts. */
static bool resolve_inner(struct scoper *s, struct ast *a, struct ast *first, struct ast *second,
                          struct ast *capture) {
    struct frame f, *outer = s->frame;
    bool before = s->soft;
    frame_open(s, &f, outer->closure);
    s->soft = false;
    analyse(s, first);
    analyse(s, second);
    a->block->special.captured = capture_slot(s, capture);
    bool ok = (!first || resolve(s, first)) && (!second || resolve(s, second));
    frame_close(s, outer, &a->block->scope);
    s->soft = before;
    return ok;
}

static bool caller_has_default(const struct ast *a) {
    const struct ast *params = a->kid[MACRO_PARAMS];
    for (int i = 0; i < params->n; i++)
        if (strcmp(params->kid[i]->name, "caller") == 0)
            return i >= params->n - a->kid[MACRO_DEFAULTS]->n;
    return true;
}

static struct ref special_param(struct scoper *s, const char *name, bool wanted) {
    if (!wanted || is_own(s, name_of(s, name)))     // a parameter of that name is just that
        return (struct ref){.slot = -1};
    return ref_to(s, note_param(s, name));
}

/* A macro, call block or generation block: a function of its own. */
static bool resolve_macro(struct scoper *s, struct ast *a) {
    static const char *const names[] = {"caller", "kwargs", "varargs"};
    unsigned used = undeclared(a->kid[MACRO_BODY], names, 3);
    struct frame f, *outer = s->frame;
    bool before = s->soft;
    if ((used & 1) && !caller_has_default(a))
        return compile_fail(s->c, a->line, a->column, "When defining macros or call blocks the "
                            "special \"caller\" argument must be omitted or be given a default.");
    if (a->kid[MACRO_CALL] && !resolve(s, a->kid[MACRO_CALL]))
        return false;
    if (a->kind == AST_MACRO)
        a->ref = ref_to(s, name_of(s, a->name)->top);
    a->block->closure = closure_new(s, outer->closure);
    frame_open(s, &f, a->block->closure);
    s->soft = false;
    analyse_params(s, a->kid[MACRO_PARAMS]);
    a->block->special.caller = special_param(s, names[0], used & 1);
    a->block->special.kwargs = special_param(s, names[1], used & 2);
    a->block->special.varargs = special_param(s, names[2], used & 4);
    analyse(s, a->kid[MACRO_DEFAULTS]);
    analyse(s, a->kid[MACRO_BODY]);
    bool ok = resolve(s, a->kid[MACRO_PARAMS]) && resolve(s, a->kid[MACRO_DEFAULTS]) &&
              resolve(s, a->kid[MACRO_BODY]);
    frame_close(s, outer, &a->block->scope);
    s->soft = before;
    return ok;
}

/* The test of a loop is a generator: a function with the target as its variable. */
static bool resolve_loop_test(struct scoper *s, struct ast *a) {
    struct frame f, *outer = s->frame;
    a->block->test_closure = closure_new(s, outer->closure);
    frame_open(s, &f, a->block->test_closure);
    analyse_params(s, a->kid[FOR_TEST_TARGET]);
    analyse(s, a->kid[FOR_TEST]);
    bool ok = resolve(s, a->kid[FOR_TEST_TARGET]) && resolve(s, a->kid[FOR_TEST]);
    frame_close(s, outer, &a->block->test);
    return ok;
}

static bool resolve_loop(struct scoper *s, struct ast *a) {
    static const char *const loop[] = {"loop"};
    struct frame f, *outer = s->frame;
    struct closure *closure = outer->closure;
    bool before = s->soft, ok = resolve(s, a->kid[FOR_ITER]);
    s->soft = false;
    if (ok && a->kid[FOR_TEST])
        ok = resolve_loop_test(s, a);
    if (a->block->recursive)
        a->block->closure = closure = closure_new(s, closure);
    frame_open(s, &f, closure);
    a->block->special.loop.slot = -1;
    if (a->block->recursive || undeclared(a->kid[FOR_BODY], loop, 1))
        a->block->special.loop = ref_to(s, note_param(s, "loop"));
    analyse_params(s, a->kid[FOR_TARGET]);
    analyse(s, a->kid[FOR_BODY]);
    ok = ok && resolve(s, a->kid[FOR_TARGET]) && resolve(s, a->kid[FOR_BODY]);
    frame_close(s, outer, &a->block->scope);
    frame_open(s, &f, closure);
    analyse(s, a->kid[FOR_ELSE]);
    ok = ok && (!a->kid[FOR_ELSE] || resolve(s, a->kid[FOR_ELSE]));
    frame_close(s, outer, &a->block->other);
    s->soft = before;
    return ok;
}

static bool resolve_with(struct scoper *s, struct ast *a) {
    return resolve(s, a->kid[WITH_VALUES]) &&
           resolve_inner(s, a, a->kid[WITH_TARGETS], a->kid[WITH_BODY], NULL);
}

static bool resolve_set_block(struct scoper *s, struct ast *a) {
    return resolve(s, a->kid[0]) && resolve_inner(s, a, a->kid[2], a->kid[1], a->kid[1]);
}

static bool resolve_filter_block(struct scoper *s, struct ast *a) {
    return resolve_inner(s, a, a->kid[0], a->kid[1], a->kid[1]);
}

static bool resolve_name(struct scoper *s, struct ast *a) {
    a->ref = ref_to(s, name_of(s, a->name)->top);
    return true;
}

/* No row: all that is below. */
static bool (*const resolvers[AST_KINDS])(struct scoper *s, struct ast *a) = {
    [AST_NAME] = resolve_name,
    [AST_NSREF] = resolve_name,
    [AST_IF] = resolve_soft,
    [AST_COND] = resolve_soft,
    [AST_FILTER] = resolve_function,
    [AST_TEST] = resolve_function,
    [AST_MACRO] = resolve_macro,
    [AST_CALL_BLOCK] = resolve_macro,
    [AST_GENERATION] = resolve_macro,
    [AST_FOR] = resolve_loop,
    [AST_WITH] = resolve_with,
    [AST_SET_BLOCK] = resolve_set_block,
    [AST_FILTER_BLOCK] = resolve_filter_block,
};

static bool resolve(struct scoper *s, struct ast *a) {
    if (!a)
        return true;
    return resolvers[a->kind] ? resolvers[a->kind](s, a) : resolve_kids(s, a);
}

bool compile_scopes(struct compiler *c, struct jinja *j) {
    static const char *const self[] = {"self"};
    struct scoper s = {.c = c};
    struct frame f;
    if (!check_loop_targets(&s, j->root, false))
        return false;
    if (undeclared(j->root, self, 1))
        return compile_fail(c, 1, 1, "the variable self (blocks of templates) is not supported");
    j->closure = closure_new(&s, NULL);
    frame_open(&s, &f, j->closure);
    analyse(&s, j->root);
    bool ok = resolve(&s, j->root);
    frame_close(&s, NULL, &j->scope);
    return ok;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_interp.h — one rendering: its memory, its limits, how it fails; only jinja's files include
 * it.
 *
 * Everything a rendering makes lives in its pool, as the constants of a template live in the
 * template's, and dies with it; nothing is freed one by one. In all of jinja's files a function
 * that gives a value gives NULL once it has called interp_fail; "-1, 0, 1" means failed, no, yes;
 * bool false means failed.
 */
#ifndef KEEL_JINJA_INTERP_H
#define KEEL_JINJA_INTERP_H

#include "model/jinja.h"

/* ---- memory (jinja_value.c) ---- */
struct pool {
    struct pool_chunk *last;
    size_t bytes;                           /* taken from the system */
};
void *pool_alloc(struct pool *p, size_t n);             /* zeroed */
void *pool_grow(struct pool *p, void *old, size_t was, size_t n);
void pool_release(struct pool *p);

/* ---- one rendering (jinja.c) ---- */
struct interp {
    const struct jinja *j;
    struct pool *pool;
    struct jinja_limits limits;
    size_t steps;
    int depth;
    int line;                               /* where it failed; 0: not known yet */
    char message[900];                      /* why it failed; "": it did not */
    struct value *context;                  /* dict */
    struct text *out;                       /* where output goes */
    int captured;                           /* > 0: that is not the final text */
    int generating;                         /* {% generation %} blocks around */
    struct jinja_span *spans;
    int nspans;                             /* -1: see jinja.h */
    time_t now;
};
/* The first message stays. NULL, so that `return interp_fail(...)` composes. */
struct value *interp_fail(struct interp *x, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool interp_charge(struct interp *x, size_t steps);
bool interp_room(struct interp *x, size_t bytes);       /* may this much more be allocated? */
bool interp_enter(struct interp *x);                    /* one level deeper; then interp_leave */
static inline void interp_leave(struct interp *x) {
    x->depth--;
}

/* ---- growing text and lists of one rendering (jinja_value.c) ---- */
struct text {
    struct interp *x;
    char *s;
    size_t len, cap;
    bool over;                              /* a limit was met: interp_fail was called */
};
void text_add(struct text *t, const char *s, size_t n);
void text_puts(struct text *t, const char *s);
void text_fill(struct text *t, const char *s, size_t n, size_t times);
void text_char(struct text *t, int32_t c);              /* a code point */
void text_printf(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);   /* short */
struct value *text_value(struct text *t);               /* a str; NULL after a limit */

struct values {
    struct interp *x;
    struct value **v;
    size_t n, cap;
};
bool values_add(struct values *l, struct value *v);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_loop.h — loops with their "loop" object, and macros; only jinja's files include it.
 */
#ifndef KEEL_JINJA_LOOP_H
#define KEEL_JINJA_LOOP_H

#include "model/jinja_ast.h"

/* Runs the body for each item, and the else where no round came to its end. */
enum flow loop_run(struct interp *x, const struct ast *a, struct activation *act,
                   struct value *iterable, int64_t depth0);
/* A recursive loop, as a function: what it writes. up: where the loop stands. */
struct value *loop_recurse(struct interp *x, const struct ast *a, struct activation *up,
                           struct value *iterable, int64_t depth0);

struct value *macro_new(struct interp *x, const struct ast *a, struct activation *up);
/* The variables of a call, parameters bound; NULL: failed. */
struct activation *macro_enter(struct interp *x, const struct ast *a, struct activation *up,
                               const struct call *c);

/* Runs a statement with its output in *out; *out is set for FLOW_NEXT only. */
enum flow exec_captured(struct interp *x, const struct ast *a, struct activation *act,
                        struct value **out);
#endif

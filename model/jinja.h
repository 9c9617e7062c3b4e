/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja.h — the Jinja of Hugging Face chat templates: compile once, render from any thread.
 *
 * Behaves as Jinja2 3.1 does when transformers renders a chat template: the immutable sandbox with
 * trim_blocks and lstrip_blocks, loop controls, {% generation %}, tojson without escapes for HTML,
 * raise_exception and strftime_now; undefined prints as nothing. Values follow Python: what is an
 * error there is an error here. What Jinja2 has and this does not (other templates: include,
 * import, extends, block; random, lipsum, urlize, ...; integers beyond 64 bits) is refused by name
 * and line, where possible when compiling.
 *
 *     struct jinja *j = jinja_compile(text, len, "tokenizer_config.json: chat_template", &e);
 *     struct jinja_output out;
 *     if (j && jinja_render(j, context, NULL, time(NULL), &out, &e) == 0) {
 *         fwrite(out.text, 1, out.len, stdout);
 *         jinja_output_release(&out);
 *     }
 *     jinja_free(j);
 *
 * A template is a program by somebody else: work, memory, output and nesting are bounded.
 */
#ifndef KEEL_JINJA_H
#define KEEL_JINJA_H

#include <jansson.h>
#include <time.h>

#include "model/base.h"

struct jinja;                               /* compiled; never changes */

/* text: UTF-8. where: names the text in messages. NULL and "where:LINE:COL: what". */
struct jinja *jinja_compile(const char *text, size_t len, const char *where,
                            struct err *e) MUST_CHECK;
void jinja_free(struct jinja *j);           /* NULL is allowed */
bool jinja_has_generation(const struct jinja *j);   /* {% generation %} occurs */

struct jinja_limits {
    size_t steps;                           /* nodes evaluated, items passed, 64 bytes handled */
    size_t bytes;                           /* output */
    size_t memory;                          /* everything a rendering holds */
    int depth;                              /* nested evaluation; 2000 fit in 2 MiB of stack */
};
extern const struct jinja_limits jinja_default_limits;      /* 10 M, 64 MiB, 512 MiB, 2000 */

struct jinja_span {
    size_t a, b;                            /* bytes [a, b) of the text */
};
struct jinja_output {
    char *text;                             /* NUL-terminated, valid UTF-8; owned */
    size_t len;
    struct jinja_span *spans;               /* written inside {% generation %}, in order; owned */
    int nspans;                             /* -1: one of them ran inside a macro or a captured
                                               block, so its place in the text is not known */
};
/* context: an object, the template's variables. limits: NULL is the default. now: what
 * strftime_now shows, as local time. -1, *out zeroed, and "where:LINE: what", for a template that
 * calls raise_exception "where:LINE: raise_exception: MESSAGE". */
int jinja_render(const struct jinja *j, const json_t *context, const struct jinja_limits *limits,
                 time_t now, struct jinja_output *out, struct err *e) MUST_CHECK;
void jinja_output_release(struct jinja_output *out);        /* frees and zeroes */
#endif

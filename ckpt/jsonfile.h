/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jsonfile.h — JSON objects in files: strict in, stable out, errors with line and column.
 */
#ifndef KEEL_JSONFILE_H
#define KEEL_JSONFILE_H

#include <jansson.h>

#include "model/base.h"

/* One object; repeated keys are refused. NULL and "path:line:col: ..." in *e. Caller:
 * json_decref. */
json_t *jsonfile_parse(const char *text, size_t len, const char *path, struct err *e) MUST_CHECK;
json_t *jsonfile_read(const char *path, struct err *e) MUST_CHECK;
/* "path:line:col: key: message", where `key` ("rope_parameters.rope_theta") stands in text, or the
 * object that lacks it; text NULL: without a place. -1. */
int jsonfile_bad(struct err *e, const char *path, const char *text, const char *key,
                 const char *fmt, ...) PRINTF_LIKE(5, 6);
/* A number, or null where JSON has none for it (NaN, infinities). */
json_t *jsonfile_number(double v);
/* A short rendering of a value for messages. */
void jsonfile_show(const json_t *v, char *buf, size_t n);
/* Indented, keys in their order, numbers with the fewest digits that read back equal; ends with a
 * newline. Caller frees. */
char *jsonfile_text(const json_t *root);
#endif

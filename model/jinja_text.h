/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_text.h — characters and strings as Python's str sees them: code points, their classes and
 * cases. Strings are valid UTF-8, given by pointer and length; only jinja's files include this.
 */
#ifndef KEEL_JINJA_TEXT_H
#define KEEL_JINJA_TEXT_H

#include "model/base.h"

/* Bytes of the first invalid sequence's offset; n when all is valid. */
size_t utf8_valid_prefix(const char *s, size_t n);
size_t utf8_count(const char *s, size_t n);             /* code points */
const char *utf8_skip(const char *s, size_t n, size_t count);   /* behind count code points */
int32_t utf8_get(const char **s);                       /* the code point at *s, moves behind it */
int32_t utf8_last(const char *s, size_t n);             /* the last code point; -1: none */
size_t utf8_put(int32_t c, char out[4]);                /* bytes written */

/* str.isspace and so on of one character. */
bool py_space(int32_t c);
bool py_alpha(int32_t c);
bool py_decimal(int32_t c);
bool py_digit(int32_t c);
bool py_alnum(int32_t c);
bool py_lower(int32_t c);
bool py_upper(int32_t c);
bool py_title(int32_t c);                               /* a title-case letter, as U+01C5 */
bool py_cased(int32_t c);                               /* any of these three */
bool py_printable(int32_t c);
bool py_identifier_start(int32_t c);
bool py_identifier_part(int32_t c);
int32_t py_decimal_value(int32_t c);                    /* of py_decimal */

/* Full case mapping of one character: number of code points in out. */
enum { CASE_MAX = 3 };
int py_to_upper(int32_t c, int32_t out[CASE_MAX]);
int py_to_title(int32_t c, int32_t out[CASE_MAX]);
int py_to_fold(int32_t c, int32_t out[CASE_MAX]);
/* The character at s + at of a string of n bytes: a capital sigma looks at its neighbours. */
int py_to_lower(const char *s, size_t n, size_t at, int32_t out[CASE_MAX]);

/* Length of s without blanks behind; offset of the first non-blank. */
size_t py_rstrip(const char *s, size_t n);
size_t py_lstrip(const char *s, size_t n);
/* Bytes of the line at s with its end; *body: without. Ends are those of str.splitlines. */
size_t py_line(const char *s, size_t n, size_t *body);
#endif

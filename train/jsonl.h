/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jsonl.h — the rows of a dataset item: a JSONL file, optionally filtered and cut.
 *
 *   FILE[?field=value[&field=value ...]][#first:last]
 *
 * "xstest.jsonl?label=unsafe#0:100": rows whose string field `label` is "unsafe", then of those the
 * rows 0 (included) to 100 (excluded). The grammar is config_paths.h's. A range that reaches beyond
 * the rows, and a filter that selects nothing, are errors.
 *
 *     struct jsonl *j = jsonl_open(item, &e);
 *     struct json_t *row;
 *     while ((rc = jsonl_next(j, &row, &e)) > 0) ...      // row: borrowed until the next call
 *     jsonl_close(j);
 */
#ifndef KEEL_JSONL_H
#define KEEL_JSONL_H

#include "model/base.h"

struct jsonl;                               /* opaque */
struct json_t;

struct jsonl *jsonl_open(const char *item, struct err *e) MUST_CHECK;
void jsonl_close(struct jsonl *j);          /* NULL is allowed */
enum { JSONL_BAD_LINE = -2 };
/* 1: *row is the next selected object; 0: the end; -1 and *e: the item is wrong; JSONL_BAD_LINE and
 * *e "file:line:col: what": the line holds no object, and the next call goes on behind it. Such a
 * line counts as a row of a range, and passes no filter. Lines before a range are not parsed, those
 * behind it not read. */
int jsonl_next(struct jsonl *j, struct json_t **row, struct err *e) MUST_CHECK;
const char *jsonl_path(const struct jsonl *j);      /* without the suffix */
int jsonl_line(const struct jsonl *j);      /* of the row that was returned last, from 1 */
#endif

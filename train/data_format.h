/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * data_format.h — one JSON object to the conversation (or pair of conversations) it means.
 *
 * Every format ends in the same shape, so that rendering, checks and loss masks are written once.
 */
#ifndef KEEL_DATA_FORMAT_H
#define KEEL_DATA_FORMAT_H

#include "train/data.h"

struct data_row {
    struct message *a, *b;      /* prompt + answer, or prompt + chosen and + rejected; owned */
    int na, nb;                 /* messages; nb 0: not a pair */
    int nprompt;                /* the first messages, equal in a and b, that carry no loss */
    const char *text;           /* raw text instead of a conversation; borrowed from the row */
    char *joined;               /* owned storage of a joined prompt; NULL: none */
};
void data_row_release(struct data_row *r);
/* The format that fits the fields of `row` and serves `need`, or NULL and *e with what was expected
 * and which fields are there. */
const struct data_format *data_format_of(const struct json_t *row, enum data_need need,
                                         struct err *e) MUST_CHECK;
extern const char *const data_need_names[];     /* "prompts", "prompts with answers", "pairs" */
#endif

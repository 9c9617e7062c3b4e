/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * preview.h — token sequences with their loss marks, for people and for programs.
 *
 * Trained tokens stand on green, or, without colour, between U+27E6 and U+27E7 (white square
 * brackets). A line end is shown as U+23CE and the line end, a tab as U+21E5 and the tab. Other
 * control characters, those that turn or hide text, and the six characters that the preview itself
 * writes are shown as <U+0007> in mathematical angle brackets (U+27E8, U+27E9), bytes that are no
 * UTF-8 as <FF> in the same. So whatever a text holds, what is shown has one reading.
 */
#ifndef KEEL_PREVIEW_H
#define KEEL_PREVIEW_H

#include "model/tokenizer.h"
#include "train/data.h"

struct json_t;                              /* jansson's */

/* Appends s[0..n) as described; one_line: line ends and tabs as their sign alone. */
void preview_escape(struct str *out, const char *s, size_t n, bool one_line);
/* Appends the text, ended by a newline. */
void preview_text(struct str *out, const struct tokenizer *tok, const struct seq *s, bool colour);
/* Appends a line a token, between tabs: position, id, "trained" or "-", the piece, and what the
 * token adds to the text. */
void preview_tokens(struct str *out, const struct tokenizer *tok, const struct seq *s,
                    bool colour);
/* Appends two lines: "ids  0 261 ..." and "loss 0 1 ...". */
void preview_ids(struct str *out, const struct seq *s);
/* Sets "ids", "trained" (0 or 1 for each) and "text" (U+FFFD for what is no UTF-8) in object. */
void preview_json(struct json_t *object, const struct tokenizer *tok, const struct seq *s);
#endif

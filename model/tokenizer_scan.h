/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_scan.h — the pre-tokenizer patterns of known families, cut by hand-written scanners.
 *
 * A pattern is known by its exact text. Its scanner cuts valid UTF-8 as Oniguruma does, at a
 * multiple of PCRE2's speed; a pattern without a scanner goes through PCRE2. The pieces cover the
 * text: at every position one alternative of these patterns matches.
 *
 *     const struct scan *sc = scan_find(pattern);
 *     for (size_t at = 0, k; at < n; at += k) {
 *         k = scan_next(sc, text, n, at);             // the piece is text[at .. at + k)
 *         ...
 *     }
 */
#ifndef KEEL_TOKENIZER_SCAN_H
#define KEEL_TOKENIZER_SCAN_H

#include <stddef.h>

struct scan;                                /* immutable: any number of threads may use one */

/* NULL: no scanner for this text. */
const struct scan *scan_find(const char *pattern);
const char *scan_pattern(int i);            /* the patterns with a scanner; NULL behind the last */
/* Bytes of the piece that starts at text[at], at < n, a character's first byte: >= 1. text[0..n)
 * is valid UTF-8 and the whole stretch to cut: whether blanks end a text is seen from its end. */
size_t scan_next(const struct scan *sc, const char *text, size_t n, size_t at);
#endif

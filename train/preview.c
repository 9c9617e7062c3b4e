/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * preview.c — see preview.h: which bytes of the text belong to which tokens, and how to show them.
 *
 * A token is not a piece of text: byte tokens make a character together, and decoders join, strip
 * and replace. The whole sequence is decoded once; a stretch of trained tokens ends where the text
 * of all tokens up to its last one ends. Decoding each token by itself is refused: the texts put
 * together are not the text.
 *
 * The signs are rare characters, not backslashes and [[ ]]: code and JSON are full of those, and
 * would have to be shown escaped throughout to be read back.
 */
#include "train/preview.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define OPEN "\xE2\x9F\xA6"                 /* U+27E6 */
#define CLOSE "\xE2\x9F\xA7"                /* U+27E7 */
#define LEFT "\xE2\x9F\xA8"                 /* U+27E8 */
#define RIGHT "\xE2\x9F\xA9"                /* U+27E9 */
#define LINE_END "\xE2\x8F\x8E"             /* U+23CE */
#define TAB "\xE2\x87\xA5"                  /* U+21E5 */
#define GREEN "\033[30;42m"
#define PLAIN "\033[0m"

/* ---- characters ---- */

/* The character at s and its length; -1 and 1 for a byte that begins none. */
static int32_t char_at(const char *s, size_t n, size_t *len) {
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)s;
    const size_t want = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3
                        : p[0] >> 3 == 30 ? 4 : 0;
    int32_t c = want == 1 ? p[0] : p[0] & (0x7F >> want);
    *len = 1;
    if (!want || want > n)
        return -1;
    for (size_t i = 1; i < want; i++) {
        if (p[i] >> 6 != 2)
            return -1;
        c = c << 6 | (p[i] & 63);
    }
    if (c < least[want] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return -1;
    *len = want;
    return c;
}

/* Characters that are not shown as they are: they move, turn or hide text, or are the preview's
 * own. Joiners (U+200C, U+200D) are part of how scripts and emoji are written. */
static bool is_hidden(int32_t c) {
    static const struct { int32_t first, last; } ranges[] = {
        {0, 0x1F}, {0x7F, 0x9F}, {0xAD, 0xAD}, {0x61C, 0x61C}, {0x180E, 0x180E}, {0x200B, 0x200B},
        {0x200E, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F}, {0x21E5, 0x21E5}, {0x23CE, 0x23CE},
        {0x27E6, 0x27E9}, {0xE000, 0xF8FF}, {0xFDD0, 0xFDEF}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB},
        {0xFFFE, 0xFFFF}, {0xE0000, 0xE007F}, {0xF0000, 0x10FFFF},
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

/* on: the colour that goes on behind a line end; NULL: none. */
static void escape(struct str *out, const char *s, size_t n, bool one_line, const char *on) {
    for (size_t i = 0, len; i < n; i += len) {
        const int32_t c = char_at(s + i, n - i, &len);
        if (c == '\n' || c == '\t')
            str_add(out, c == '\n' ? LINE_END : TAB);
        if (c == '\n' && !one_line)
            str_addf(out, "%s\n%s", on ? PLAIN : "", on ? on : "");
        else if (c == '\t' && !one_line)
            str_addc(out, '\t');
        else if (c < 0)
            str_addf(out, LEFT "%02X" RIGHT, (unsigned)(uint8_t)s[i]);
        else if (c != '\n' && c != '\t' && is_hidden(c))
            str_addf(out, LEFT "U+%04X" RIGHT, (unsigned)c);
        else if (c != '\n' && c != '\t')
            str_addn(out, s + i, len);
    }
}

void preview_escape(struct str *out, const char *s, size_t n, bool one_line) {
    escape(out, s, n, one_line, NULL);
}

/* ---- tokens ---- */

/* Bytes of whole[0..len) that come from the first n tokens. */
static size_t text_before(const struct tokenizer *tok, const struct seq *s, int n,
                          const char *whole, size_t len) {
    size_t part, same = 0;
    char *text = tokenizer_decode(tok, s->ids, n, 0, &part);
    while (same < part && same < len && text[same] == whole[same])
        same++;
    free(text);
    return same;
}

static int stretch_end(const struct seq *s, int i) {
    int end = i;
    while (end < s->n && s->carries[end] == s->carries[i])
        end++;
    return end;
}

void preview_text(struct str *out, const struct tokenizer *tok, const struct seq *s, bool colour) {
    size_t len, at = 0;
    char *whole = tokenizer_decode(tok, s->ids, s->n, 0, &len);
    for (int i = 0, end; i < s->n; i = end) {
        end = stretch_end(s, i);
        const size_t to = end == s->n ? len : MAX(at, text_before(tok, s, end, whole, len));
        const char *on = s->carries[i] && colour ? GREEN : NULL;
        if (s->carries[i])
            str_add(out, on ? on : OPEN);
        escape(out, whole + at, to - at, false, on);
        if (s->carries[i])
            str_add(out, on ? PLAIN : CLOSE);
        at = to;
    }
    const bool closed = s->n && s->carries[s->n - 1] && !colour;
    if (!len || whole[len - 1] != '\n' || closed)
        str_addc(out, '\n');
    free(whole);
}

void preview_tokens(struct str *out, const struct tokenizer *tok, const struct seq *s,
                    bool colour) {
    struct text_stream *stream = text_stream_new(tok, 0);
    struct str text = {0};
    for (int i = 0; i < s->n; i++) {
        const char *piece = tokenizer_token(tok, s->ids[i]);
        const bool green = colour && s->carries[i];
        text.len = 0;
        text_stream_push(stream, s->ids[i], &text);
        if (i == s->n - 1)
            text_stream_finish(stream, &text);
        str_addf(out, "%s%d\t%d\t%s\t", green ? GREEN : "", i, s->ids[i],
                 s->carries[i] ? "trained" : "-");
        escape(out, piece ? piece : "", piece ? strlen(piece) : 0, true, NULL);
        str_addc(out, '\t');
        escape(out, text.s ? text.s : "", text.len, true, NULL);
        str_addf(out, "%s\n", green ? PLAIN : "");
    }
    text_stream_free(stream);
    str_release(&text);
}

void preview_ids(struct str *out, const struct seq *s) {
    str_add(out, "ids ");
    for (int i = 0; i < s->n; i++)
        str_addf(out, " %d", s->ids[i]);
    str_add(out, "\nloss");
    for (int i = 0; i < s->n; i++)
        str_addf(out, " %d", s->carries[i]);
    str_addc(out, '\n');
}

void preview_json(struct json_t *object, const struct tokenizer *tok, const struct seq *s) {
    json_t *ids = json_array(), *trained = json_array();
    for (int i = 0; i < s->n; i++) {
        json_array_append_new(ids, json_integer(s->ids[i]));
        json_array_append_new(trained, json_integer(s->carries[i]));
    }
    size_t len;
    char *text = tokenizer_decode(tok, s->ids, s->n, DECODE_VALID, &len);
    json_object_set_new(object, "ids", ids);
    json_object_set_new(object, "trained", trained);
    json_object_set_new(object, "text", json_stringn(text, len));
    free(text);
}

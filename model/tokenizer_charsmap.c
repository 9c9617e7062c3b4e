/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_charsmap.c — SentencePiece's precompiled_charsmap (the normalizer "Precompiled").
 *
 * base64 of: u32 LE byte length of the trie | the trie as u32 LE | replacements, each with a NUL
 * behind it. The trie is a double array (darts-clone): unit bits 0-7 and 31 are the label, bit 8
 * says that a value follows, bits 10-30 are the offset, shifted left by 8 when bit 9 is set; a
 * value unit's low 31 bits are where the replacement begins.
 *
 * Hugging Face tokenizers looks up grapheme clusters of less than six bytes, then the characters of
 * those it does not find, and takes the shortest entry that begins the text it looks up, not the
 * longest: \r\n becomes what \r becomes. That is imitated.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct charsmap {
    uint32_t *unit;
    size_t nunits;
    char *text;                             /* NUL-terminated */
    size_t len;
};

static int base64_value(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26
        : c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* NULL: not base64. */
static uint8_t *base64_read(const char *s, size_t *len) {
    size_t n = strlen(s), k = 0;
    uint8_t *out = xmalloc(n / 4 * 3 + 1);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t word = 0;
        int pad = 0;
        for (size_t b = 0; b < 4; b++) {
            int v = i + b < n ? base64_value(s[i + b]) : -1;
            if (v < 0 && !(i + 4 == n && b >= 2 && s[i + b] == '=')) {
                free(out);
                return NULL;
            }
            if (v >= 0 && pad) {
                free(out);
                return NULL;
            }
            pad += v < 0;
            word = word << 6 | (v < 0 ? 0u : (uint32_t)v);
        }
        for (int b = 0; b < 3 - pad; b++)
            out[k++] = (uint8_t)(word >> (16 - 8 * b));
    }
    *len = k;
    return out;
}

static uint32_t u32_at(const uint8_t *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

struct charsmap *charsmap_new(const char *base64, const char *where, struct err *e) {
    size_t n = 0;
    uint8_t *b = base64_read(base64, &n);
    size_t trie = b && n >= 4 ? u32_at(b) : 0;
    struct charsmap *m = NULL;
    bool valid = true;
    if (!b)
        err_set(e, "%s.precompiled_charsmap: expected base64, got \"%.20s...\"", where, base64);
    else if (!trie || trie % 4 || trie > n - 4)
        err_set(e, "%s.precompiled_charsmap: expected a trie within its %zu bytes, got one of %zu",
                where, n, trie);
    else if (n > 4 + trie && (utf8_stretch((char *)b + 4 + trie, n - 4 - trie, &valid) <
                              n - 4 - trie || !valid))
        err_set(e, "%s.precompiled_charsmap: expected replacements in UTF-8", where);
    else {
        m = xcalloc(1, sizeof *m);
        m->nunits = trie / 4;
        m->unit = xreallocarray(NULL, m->nunits, sizeof *m->unit);
        for (size_t i = 0; i < m->nunits; i++)
            m->unit[i] = u32_at(b + 4 + 4 * i);
        m->len = n - 4 - trie;
        m->text = xmalloc(m->len + 1);
        memcpy(m->text, b + 4 + trie, m->len);
        m->text[m->len] = '\0';
    }
    free(b);
    return m;
}

void charsmap_free(struct charsmap *m) {
    if (!m)
        return;
    free(m->unit);
    free(m->text);
    free(m);
}

static size_t unit_offset(uint32_t u) {
    return (size_t)(u >> 10) << ((u & 1u << 9) >> 6);
}

/* The replacement of the shortest entry that begins s, or NULL. */
static const char *look_up(const struct charsmap *m, const char *s, size_t n) {
    size_t at = unit_offset(m->unit[0]);
    for (size_t i = 0; i < n && s[i]; i++) {
        at ^= (uint8_t)s[i];
        if (at >= m->nunits)
            return NULL;
        uint32_t u = m->unit[at];
        if ((u & (1u << 31 | 0xFF)) != (uint8_t)s[i])
            return NULL;
        at ^= unit_offset(u);
        if (!(u & 1u << 8))
            continue;
        size_t from = at < m->nunits ? m->unit[at] & ~(1u << 31) : m->len;
        return from < m->len ? m->text + from : NULL;
    }
    return NULL;
}

static void add_char(const struct charsmap *m, const char *s, size_t n, struct str *out) {
    const char *to = look_up(m, s, n);
    if (to)
        str_add(out, to);
    else
        str_addn(out, s, n);
}

void charsmap_apply(const struct charsmap *m, const char *s, size_t n, struct str *out) {
    int32_t c, next, state = 0;
    for (size_t a = 0, b, k; a < n; a = b) {
        b = a + utf8_next(s + a, &c);
        while (b < n) {                     // to the end of the grapheme cluster
            k = utf8_next(s + b, &next);
            if (c != '\r' && c < 0x80 && next < 0x80)
                break;
            if (utf8proc_grapheme_break_stateful(c, next, &state))
                break;
            b += k;
            c = next;
        }
        state = 0;
        const char *to = b - a < 6 ? look_up(m, s + a, b - a) : NULL;
        if (to) {
            str_add(out, to);
            continue;
        }
        for (size_t i = a; i < b; i += k) {
            k = utf8_next(s + i, &c);
            add_char(m, s + i, k, out);
        }
    }
}

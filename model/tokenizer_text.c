/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_text.c — text below the tokenizer: UTF-8 and GPT-2's byte letters.
 *
 * Regular expressions and normal forms are defined on valid UTF-8 only. Text is therefore cut into
 * stretches that are valid throughout or nowhere; the second kind goes to the model as bytes, so
 * that any input survives a round trip. Replacing bad bytes by U+FFFD is refused on the way in: it
 * changes the data. On the way out it is offered, in the Unicode standard's way: one U+FFFD for
 * each longest beginning of a character, or for each single byte that begins none.
 */
#include "model/tokenizer_impl.h"

#include <string.h>

static bool is_tail(uint8_t b) {
    return (b & 0xC0) == 0x80;
}

/* The character at s: its bytes when it is whole; else minus the bytes that could begin one (at
 * least 1), and *need is how many it takes. Table 3-7 of the Unicode standard. */
static int character(const uint8_t *s, size_t n, int *need) {
    uint8_t b = s[0];
    *need = b < 0x80 ? 1 : b < 0xC2 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
    if (*need < 2)
        return *need ? 1 : -1;
    uint8_t lo = b == 0xE0 ? 0xA0 : b == 0xF0 ? 0x90 : 0x80;
    uint8_t hi = b == 0xED ? 0x9F : b == 0xF4 ? 0x8F : 0xBF;
    if (n < 2 || s[1] < lo || s[1] > hi)
        return -1;
    for (int i = 2; i < *need; i++)
        if ((size_t)i >= n || !is_tail(s[i]))
            return -i;
    return *need;
}

size_t utf8_char(const char *s, size_t n, int32_t *c) {
    int need, k = n ? character((const uint8_t *)s, n, &need) : 0;
    if (k <= 0)
        return 0;
    return utf8_next(s, c);
}

/* Bytes of ASCII at s, counted in eights where they are many. */
static size_t ascii_run(const char *s, size_t n) {
    size_t at = 0;
    uint64_t word;
    for (; at + 8 <= n; at += 8) {
        memcpy(&word, s + at, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (at < n && (uint8_t)s[at] < 0x80)
        at++;
    return at;
}

size_t utf8_stretch(const char *s, size_t n, bool *valid) {
    const uint8_t *b = (const uint8_t *)s;
    size_t at = 0;
    int need, k;
    *valid = n && character(b, n, &need) > 0;
    while (at < n) {
        if (b[at] < 0x80) {
            if (!*valid)
                break;
            at += ascii_run(s + at, n - at);
            continue;
        }
        k = character(b + at, n - at, &need);
        if ((k > 0) != *valid)
            break;
        at += *valid ? (size_t)k : 1;
    }
    return at;
}

size_t utf8_complete(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t b = (uint8_t)s[n - back];
        if (b < 0x80)
            break;
        if (b >= 0xC0) {
            size_t need = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : 2;
            return need > back ? n - back : n;
        }
    }
    return n;
}

size_t utf8_repair(const char *s, size_t n, bool more, struct str *out) {
    for (size_t at = 0; at < n;) {
        bool valid;
        int need, k;
        size_t run = utf8_stretch(s + at, n - at, &valid);
        if (valid) {
            str_addn(out, s + at, run);
            at += run;
            continue;
        }
        k = -character((const uint8_t *)s + at, n - at, &need);
        if (more && at + (size_t)k == n && k < need)
            return (size_t)k;
        str_add(out, "\xEF\xBF\xBD");
        at += (size_t)k;
    }
    return 0;
}

char *utf8_clean(const char *s, size_t n) {
    struct str out = {0};
    utf8_repair(s, n, false, &out);
    return str_detach(&out);
}

void utf8_add(struct str *out, int32_t c) {
    char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        b[i] = (char)(0x80 | (c & 0x3F));
    b[0] = (char)(lead[n] | c);
    str_addn(out, b, n);
}

size_t utf8_back(const char *s, size_t at) {
    at--;
    while (at > 0 && is_tail((uint8_t)s[at]))
        at--;
    return at;
}

/* ---- byte letters: 0x21-0x7E, 0xA1-0xAC, 0xAE-0xFF stand for themselves, the other 68 bytes in
 * ascending order for U+0100, U+0101, ... ---- */
static bool is_plain(int b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

int32_t byte_letter(int b) {
    if (is_plain(b))
        return b;
    // bytes below b that are not plain: 0x00-0x20, then 0x7F-0xA0, then 0xAD
    return 0x100 + (b <= 0x20 ? b : b <= 0xA0 ? b - 0x7F + 33 : 67);
}

int letter_byte(int32_t c) {
    if (c < 0 || c > 0x143)
        return -1;
    if (c < 0x100)
        return is_plain((int)c) ? (int)c : -1;
    int k = (int)c - 0x100;
    return k <= 32 ? k : k < 67 ? k - 33 + 0x7F : 0xAD;
}

void byte_letters(const char *s, size_t n, struct str *out) {
    for (size_t i = 0; i < n; i++)
        utf8_add(out, byte_letter((uint8_t)s[i]));
}

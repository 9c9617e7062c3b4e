/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_text.c — text below the tokenizer: UTF-8, classes of characters, GPT-2's byte
 * letters, and the normalizer stage.
 *
 * Regular expressions and normal forms are defined on valid UTF-8 only. Text is therefore cut into
 * stretches that are valid throughout or nowhere; the second kind goes to the model as bytes, so
 * that any input survives a round trip. Replacing bad bytes by U+FFFD is refused: it changes the
 * data.
 *
 * Normal forms are utf8proc's (Unicode 15). 54 code points, marks newer than the tables of
 * Hugging Face tokenizers, come out differently.
 */
#include "model/tokenizer_impl.h"

#include <string.h>
#include <utf8proc.h>

/* Bytes of the character at s; 0: not valid. */
static size_t utf8_char(const char *s, size_t n, int32_t *c) {
    if (n && (uint8_t)*s < 0x80) {
        *c = (uint8_t)*s;
        return 1;
    }
    utf8proc_ssize_t k =
        utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)MIN(n, 4), c);
    return k > 0 ? (size_t)k : 0;
}

size_t utf8_stretch(const char *s, size_t n, bool *valid) {
    int32_t c;
    size_t at = 0, k = utf8_char(s, n, &c);
    *valid = k > 0;
    while (at < n && (k > 0) == *valid) {
        at += *valid ? k : 1;
        k = utf8_char(s + at, n - at, &c);
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

char *utf8_clean(const char *s, size_t n) {
    struct str out = {0};
    while (n) {
        bool valid;
        size_t k = utf8_stretch(s, n, &valid);
        if (valid)
            str_addn(&out, s, k);
        for (size_t i = 0; !valid && i < k; i++)
            str_add(&out, "\xEF\xBF\xBD");
        s += k;
        n -= k;
    }
    return str_detach(&out);
}

int32_t char_before(const char *s, size_t at) {
    size_t k = at - 1;
    while (k > 0 && ((uint8_t)s[k] & 0xC0) == 0x80)
        k--;
    int32_t c = -1;
    utf8_char(s + k, at - k, &c);
    return c;
}

int32_t char_after(const char *s, size_t n, size_t at) {
    int32_t c = -1;
    utf8_char(s + at, n - at, &c);
    return c;
}

bool char_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

/* UTS 18: alphabetic, marks, decimal digits, connector punctuation, join controls. The circled and
 * squared letters are alphabetic although their category is So. */
bool char_is_word(int32_t c) {
    static const unsigned classes =
        1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL | 1u << UTF8PROC_CATEGORY_LT |
        1u << UTF8PROC_CATEGORY_LM | 1u << UTF8PROC_CATEGORY_LO | 1u << UTF8PROC_CATEGORY_NL |
        1u << UTF8PROC_CATEGORY_MN | 1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME |
        1u << UTF8PROC_CATEGORY_ND | 1u << UTF8PROC_CATEGORY_PC;
    return classes >> utf8proc_category(c) & 1u || c == 0x200C || c == 0x200D ||
           (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
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
    for (size_t i = 0; i < n; i++) {
        int32_t c = byte_letter((uint8_t)s[i]);             // at most U+0143: one or two bytes
        if (c >= 0x80)
            str_addc(out, (char)(0xC0 | c >> 6));
        str_addc(out, (char)(c < 0x80 ? c : 0x80 | (c & 0x3F)));
    }
}

/* ---- normalizers ---- */
static char *run_form(const struct norm_step *st, const char *s, size_t n, size_t *len) {
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t k = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &out,
                                      (utf8proc_option_t)st->options);
    if (k < 0)
        BUG("normalizer: %s", utf8proc_errmsg(k));          // text is valid, memory is there
    struct str copy = {0};
    str_addn(&copy, (const char *)out, (size_t)k);
    free(out);
    *len = copy.len;
    return str_detach(&copy);
}

static int add_form(struct tokenizer *t, const json_t *j, const char *where, int options,
                    struct err *e) {
    static const char *const keys[] = {"type", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    t->norm = xreallocarray(t->norm, (size_t)t->nnorm + 1, sizeof *t->norm);
    t->norm[t->nnorm++] = (struct norm_step){run_form, UTF8PROC_STABLE | options};
    return 0;
}

static int parse_nfc(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return add_form(t, j, where, UTF8PROC_COMPOSE, e);
}
static int parse_nfd(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return add_form(t, j, where, UTF8PROC_DECOMPOSE, e);
}
static int parse_nfkc(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return add_form(t, j, where, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, e);
}
static int parse_nfkd(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return add_form(t, j, where, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, e);
}
static int parse_norm_sequence(struct tokenizer *t, const json_t *j, const char *where,
                               struct err *e) {
    static const char *const keys[] = {"type", "normalizers", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return stage_parse_list(normalizer_table, t, j, "normalizers", where, e);
}

const struct stage_kind normalizer_table[] = {
    {"NFC", parse_nfc},
    {"NFD", parse_nfd},
    {"NFKC", parse_nfkc},
    {"NFKD", parse_nfkd},
    {"Sequence", parse_norm_sequence},
    {NULL, NULL},
};

char *normalize(const struct tokenizer *t, const char *s, size_t n, size_t *len) {
    struct str copy = {0};
    str_addn(&copy, s, n);
    char *text = str_detach(&copy);
    *len = n;
    for (int i = 0; i < t->nnorm; i++) {
        char *next = t->norm[i].run(&t->norm[i], text, *len, len);
        free(text);
        text = next;
    }
    return text;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_unicode.c — classes of characters as the reference has them.
 *
 * Hugging Face tokenizers takes its classes from several libraries, each with tables of its own
 * age: normal forms and marks are Unicode 9's, punctuation is Unicode 8's, lower case the newest.
 * utf8proc knows Unicode 15. The tables below list the characters whose treatment differs, so that
 * a newer utf8proc changes nothing: what a form's tables do not know is copied as it is.
 *
 * The lists were taken by asking tokenizers 0.23.2 about every code point.
 */
#include "model/tokenizer_impl.h"

#include <utf8proc.h>

struct span {
    int32_t a, b;
};

static bool in_spans(const struct span *v, size_t n, int32_t c) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > v[mid].b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && c >= v[lo].a;
}

/* Marks, and characters with a decomposition, that came after Unicode 9. */
static const struct span newer[] = {
    {0x7FD, 0x7FD}, {0x897, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xAFA, 0xAFF}, {0xB55, 0xB55},
    {0xC04, 0xC04}, {0xC3C, 0xC3C}, {0xCF3, 0xCF3}, {0xD00, 0xD00}, {0xD3B, 0xD3C}, {0xD81, 0xD81},
    {0xEBA, 0xEBA}, {0xECE, 0xECE}, {0x1715, 0x1715}, {0x180F, 0x180F}, {0x1ABF, 0x1ACE},
    {0x1CF7, 0x1CF7}, {0x1DF6, 0x1DFA}, {0x32FF, 0x32FF}, {0xA7F2, 0xA7F4}, {0xA82C, 0xA82C},
    {0xA8FF, 0xA8FF}, {0xAB69, 0xAB69}, {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA},
    {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC}, {0x10EFC, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074},
    {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF},
    {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x113B8, 0x113C0}, {0x113C2, 0x113C2},
    {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D0}, {0x113D2, 0x113D2},
    {0x113E1, 0x113E2}, {0x1145E, 0x1145E}, {0x1182C, 0x1183A}, {0x11930, 0x11935},
    {0x11937, 0x11938}, {0x1193B, 0x1193E}, {0x11940, 0x11940}, {0x11942, 0x11943},
    {0x119D1, 0x119D7}, {0x119DA, 0x119E0}, {0x119E4, 0x119E4}, {0x11A01, 0x11A0A},
    {0x11A33, 0x11A39}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A5B},
    {0x11A8A, 0x11A99}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D},
    {0x11D3F, 0x11D45}, {0x11D47, 0x11D47}, {0x11D8A, 0x11D8E}, {0x11D90, 0x11D91},
    {0x11D93, 0x11D97}, {0x11EF3, 0x11EF6}, {0x11F00, 0x11F01}, {0x11F03, 0x11F03},
    {0x11F34, 0x11F3A}, {0x11F3E, 0x11F42}, {0x11F5A, 0x11F5A}, {0x13440, 0x13440},
    {0x13447, 0x13455}, {0x1611E, 0x1612F}, {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87},
    {0x16FE4, 0x16FE4}, {0x16FF0, 0x16FF1}, {0x1CF00, 0x1CF2D}, {0x1CF30, 0x1CF46},
    {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
};

/* Punctuation that came after Unicode 8. */
static const struct span newer_punctuation[] = {
    {0x61D, 0x61D}, {0x9FD, 0x9FD}, {0xA76, 0xA76}, {0xC77, 0xC77}, {0xC84, 0xC84},
    {0x1B4E, 0x1B4F}, {0x1B7D, 0x1B7F}, {0x2E43, 0x2E4F}, {0x2E52, 0x2E5D}, {0x10D6E, 0x10D6E},
    {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89}, {0x113D4, 0x113D5},
    {0x113D7, 0x113D8}, {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D},
    {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1183B, 0x1183B}, {0x11944, 0x11946},
    {0x119E2, 0x119E2}, {0x11A3F, 0x11A46}, {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2},
    {0x11B00, 0x11B09}, {0x11BE1, 0x11BE1}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71},
    {0x11EF7, 0x11EF8}, {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF}, {0x12FF1, 0x12FF2},
    {0x16D6D, 0x16D6F}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E5FF, 0x1E5FF},
    {0x1E95E, 0x1E95F},
};

/* Capitals that came after Unicode 15, in pairs with their small letters unless `step` is 1. */
static const struct capital {
    int32_t a, b, small, step;              /* a..b every `step`; a's small letter */
} newer_capitals[] = {
    {0x1C89, 0x1C89, 0x1C8A, 1},    {0xA7CB, 0xA7CB, 0x264, 1},     {0xA7CC, 0xA7CE, 0xA7CD, 2},
    {0xA7D2, 0xA7D4, 0xA7D3, 2},    {0xA7DA, 0xA7DA, 0xA7DB, 1},    {0xA7DC, 0xA7DC, 0x19B, 1},
    {0x10D50, 0x10D65, 0x10D70, 1}, {0x16EA0, 0x16EB8, 0x16EBB, 1},
};

bool char_is_newer(int32_t c) {
    return c >= newer[0].a && in_spans(newer, ARRAY_LEN(newer), c);
}

static unsigned category_bit(int32_t c) {
    return 1u << utf8proc_category(c);
}

#define MARKS (1u << UTF8PROC_CATEGORY_MN | 1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME)
#define LETTERS                                                                                 \
    (1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL | 1u << UTF8PROC_CATEGORY_LT |     \
     1u << UTF8PROC_CATEGORY_LM | 1u << UTF8PROC_CATEGORY_LO)
#define PUNCTUATION                                                                             \
    (1u << UTF8PROC_CATEGORY_PC | 1u << UTF8PROC_CATEGORY_PD | 1u << UTF8PROC_CATEGORY_PS |     \
     1u << UTF8PROC_CATEGORY_PE | 1u << UTF8PROC_CATEGORY_PI | 1u << UTF8PROC_CATEGORY_PF |     \
     1u << UTF8PROC_CATEGORY_PO)

bool char_is_mark(int32_t c) {              // U+1CF2 and U+1CF3 have become letters since
    if (c < 0x300)
        return false;
    return c == 0x1CF2 || c == 0x1CF3 || (category_bit(c) & MARKS && !char_is_newer(c));
}

bool char_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool char_is_number(int32_t c) {
    if (c < 0x80)
        return c >= '0' && c <= '9';
    return category_bit(c) & (1u << UTF8PROC_CATEGORY_ND | 1u << UTF8PROC_CATEGORY_NL |
                              1u << UTF8PROC_CATEGORY_NO);
}

bool char_is_punctuation(int32_t c) {       // U+166D and U+111C9 have changed category since
    if (c < 0x80)
        return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
               (c >= 0x7B && c <= 0x7E);
    if (c == 0x166D || c == 0x111C9)
        return true;
    return category_bit(c) & PUNCTUATION &&
           !in_spans(newer_punctuation, ARRAY_LEN(newer_punctuation), c);
}

/* UTS 18: alphabetic, marks, decimal digits, connector punctuation, join controls. The circled and
 * squared letters are alphabetic although their category is So. */
bool char_is_word(int32_t c) {
    static const unsigned classes = LETTERS | MARKS | 1u << UTF8PROC_CATEGORY_NL |
                                    1u << UTF8PROC_CATEGORY_ND | 1u << UTF8PROC_CATEGORY_PC;
    return category_bit(c) & classes || c == 0x200C || c == 0x200D ||
           (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

int32_t char_lower(int32_t c) {
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    for (size_t i = 0; i < ARRAY_LEN(newer_capitals); i++) {
        const struct capital *k = &newer_capitals[i];
        if (c >= k->a && c <= k->b && (c - k->a) % k->step == 0)
            return k->small + c - k->a;
    }
    return utf8proc_tolower(c);
}

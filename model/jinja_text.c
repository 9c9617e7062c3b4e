/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_text.c — characters and strings as Python's str sees them.
 *
 * Classes and simple case mappings are utf8proc's (Unicode 15; checked against Python 3.11, which
 * has 14, on every code point). What utf8proc leaves out is here: mappings that give several
 * characters (the Unicode file SpecialCasing.txt) and the rule of the final sigma.
 */
#include "model/jinja_text.h"

#include <string.h>
#include <utf8proc.h>

size_t utf8_valid_prefix(const char *s, size_t n) {
    size_t at = 0;
    while (at < n) {
        utf8proc_int32_t c;
        if ((uint8_t)s[at] < 0x80) {
            at++;
            continue;
        }
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s + at,
                                              (utf8proc_ssize_t)MIN(n - at, 4), &c);
        if (k <= 0)
            break;
        at += (size_t)k;
    }
    return at;
}

size_t utf8_count(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((uint8_t)s[i] & 0xC0) != 0x80;
    return count;
}

const char *utf8_skip(const char *s, size_t n, size_t count) {
    const char *end = s + n;
    while (s < end && count--) {
        s++;
        while (s < end && ((uint8_t)*s & 0xC0) == 0x80)
            s++;
    }
    return s;
}

int32_t utf8_get(const char **s) {
    const uint8_t *p = (const uint8_t *)*s;
    int more = p[0] < 0x80 ? 0 : p[0] < 0xE0 ? 1 : p[0] < 0xF0 ? 2 : 3;
    static const uint8_t mask[] = {0x7F, 0x1F, 0x0F, 0x07};
    int32_t c = p[0] & mask[more];
    for (int i = 1; i <= more; i++)
        c = c << 6 | (p[i] & 0x3F);
    *s += 1 + more;
    return c;
}

int32_t utf8_last(const char *s, size_t n) {
    if (!n)
        return -1;
    size_t at = n - 1;
    while (at && ((uint8_t)s[at] & 0xC0) == 0x80)
        at--;
    s += at;
    return utf8_get(&s);
}

size_t utf8_put(int32_t c, char out[4]) {
    return (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)out);
}

/* ---- classes ---- */
struct range {
    int32_t a, b;
};

static bool in_ranges(int32_t c, const struct range *r, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (c >= r[i].a && c <= r[i].b)
            return true;
    return false;
}

bool py_space(int32_t c) {
    static const struct range blanks[] = {
        {0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
        {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
    };
    return in_ranges(c, blanks, ARRAY_LEN(blanks));
}

static bool is_category(int32_t c, utf8proc_category_t from, utf8proc_category_t to) {
    utf8proc_category_t k = utf8proc_category(c);
    return k >= from && k <= to;
}

bool py_alpha(int32_t c) {
    return is_category(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool py_decimal(int32_t c) {
    return is_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_ND);
}

bool py_digit(int32_t c) {
    /* Numeric_Type=Digit without being decimal: superscripts, numbers in circles, ... */
    static const struct range digits[] = {
        {0xB2, 0xB3},       {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},
        {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
        {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
        {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
        {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A},
    };
    return py_decimal(c) || in_ranges(c, digits, ARRAY_LEN(digits));
}

bool py_alnum(int32_t c) {
    return py_alpha(c) || is_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool py_lower(int32_t c) {
    return utf8proc_islower(c);
}

bool py_upper(int32_t c) {
    return utf8proc_isupper(c);
}

bool py_title(int32_t c) {
    return is_category(c, UTF8PROC_CATEGORY_LT, UTF8PROC_CATEGORY_LT);
}

bool py_printable(int32_t c) {
    return c == ' ' || !(is_category(c, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_CO) ||
                         is_category(c, UTF8PROC_CATEGORY_CN, UTF8PROC_CATEGORY_CN));
}

/* Letters whose compatibility forms begin with a mark or a blank: XID takes them out. */
static bool is_unnormal_letter(int32_t c) {
    static const struct range letters[] = {{0x37A, 0x37A}, {0x2E2F, 0x2E2F}, {0xFC5E, 0xFC63},
                                           {0xFDFA, 0xFDFB}};
    return in_ranges(c, letters, ARRAY_LEN(letters)) ||
           (c >= 0xFE70 && c <= 0xFE7E && c % 2 == 0);
}

bool py_identifier_start(int32_t c) {
    static const struct range more[] = {{0x1885, 0x1886}, {0x2118, 0x2118}, {0x212E, 0x212E}};
    static const struct range less[] = {{0xE33, 0xE33}, {0xEB3, 0xEB3}, {0xFF9E, 0xFF9F}};
    if (c < 0x80 || in_ranges(c, more, ARRAY_LEN(more)))
        return c >= 0x80 || c == '_' || py_alpha(c);
    return (py_alpha(c) || is_category(c, UTF8PROC_CATEGORY_NL, UTF8PROC_CATEGORY_NL)) &&
           !in_ranges(c, less, ARRAY_LEN(less)) && !is_unnormal_letter(c);
}

bool py_identifier_part(int32_t c) {
    static const struct range more[] = {{0xB7, 0xB7},     {0x387, 0x387},   {0x1369, 0x1371},
                                        {0x19DA, 0x19DA}, {0x2118, 0x2118}, {0x212E, 0x212E}};
    if (in_ranges(c, more, ARRAY_LEN(more)))
        return true;
    return (py_alpha(c) || py_decimal(c) ||
            is_category(c, UTF8PROC_CATEGORY_NL, UTF8PROC_CATEGORY_NL) ||
            is_category(c, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_MC) ||
            is_category(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PC)) && !is_unnormal_letter(c);
}

int32_t py_decimal_value(int32_t c) {
    if (c < 0x80)
        return c - '0';
    /* Decimal digits come in runs of ten; mathematical ones in five runs without a gap. */
    if (c >= 0x1D7CE && c <= 0x1D7FF)
        return (c - 0x1D7CE) % 10;
    int32_t zero = c;
    while (c - zero < 9 && py_decimal(zero - 1))
        zero--;
    return c - zero;
}

/* ---- cases ---- */
/* Characters whose upper case is more than one: SpecialCasing.txt, unconditional rows. */
static const struct {
    int32_t c, upper[CASE_MAX];
} special_upper[] = {
    {0x00DF, {0x0053, 0x0053}}, {0x0149, {0x02BC, 0x004E}}, {0x01F0, {0x004A, 0x030C}},
    {0x0390, {0x0399, 0x0308, 0x0301}}, {0x03B0, {0x03A5, 0x0308, 0x0301}},
    {0x0587, {0x0535, 0x0552}}, {0x1E96, {0x0048, 0x0331}}, {0x1E97, {0x0054, 0x0308}},
    {0x1E98, {0x0057, 0x030A}}, {0x1E99, {0x0059, 0x030A}}, {0x1E9A, {0x0041, 0x02BE}},
    {0x1F50, {0x03A5, 0x0313}}, {0x1F52, {0x03A5, 0x0313, 0x0300}},
    {0x1F54, {0x03A5, 0x0313, 0x0301}}, {0x1F56, {0x03A5, 0x0313, 0x0342}},
    {0x1F80, {0x1F08, 0x0399}}, {0x1F81, {0x1F09, 0x0399}}, {0x1F82, {0x1F0A, 0x0399}},
    {0x1F83, {0x1F0B, 0x0399}}, {0x1F84, {0x1F0C, 0x0399}}, {0x1F85, {0x1F0D, 0x0399}},
    {0x1F86, {0x1F0E, 0x0399}}, {0x1F87, {0x1F0F, 0x0399}}, {0x1F88, {0x1F08, 0x0399}},
    {0x1F89, {0x1F09, 0x0399}}, {0x1F8A, {0x1F0A, 0x0399}}, {0x1F8B, {0x1F0B, 0x0399}},
    {0x1F8C, {0x1F0C, 0x0399}}, {0x1F8D, {0x1F0D, 0x0399}}, {0x1F8E, {0x1F0E, 0x0399}},
    {0x1F8F, {0x1F0F, 0x0399}}, {0x1F90, {0x1F28, 0x0399}}, {0x1F91, {0x1F29, 0x0399}},
    {0x1F92, {0x1F2A, 0x0399}}, {0x1F93, {0x1F2B, 0x0399}}, {0x1F94, {0x1F2C, 0x0399}},
    {0x1F95, {0x1F2D, 0x0399}}, {0x1F96, {0x1F2E, 0x0399}}, {0x1F97, {0x1F2F, 0x0399}},
    {0x1F98, {0x1F28, 0x0399}}, {0x1F99, {0x1F29, 0x0399}}, {0x1F9A, {0x1F2A, 0x0399}},
    {0x1F9B, {0x1F2B, 0x0399}}, {0x1F9C, {0x1F2C, 0x0399}}, {0x1F9D, {0x1F2D, 0x0399}},
    {0x1F9E, {0x1F2E, 0x0399}}, {0x1F9F, {0x1F2F, 0x0399}}, {0x1FA0, {0x1F68, 0x0399}},
    {0x1FA1, {0x1F69, 0x0399}}, {0x1FA2, {0x1F6A, 0x0399}}, {0x1FA3, {0x1F6B, 0x0399}},
    {0x1FA4, {0x1F6C, 0x0399}}, {0x1FA5, {0x1F6D, 0x0399}}, {0x1FA6, {0x1F6E, 0x0399}},
    {0x1FA7, {0x1F6F, 0x0399}}, {0x1FA8, {0x1F68, 0x0399}}, {0x1FA9, {0x1F69, 0x0399}},
    {0x1FAA, {0x1F6A, 0x0399}}, {0x1FAB, {0x1F6B, 0x0399}}, {0x1FAC, {0x1F6C, 0x0399}},
    {0x1FAD, {0x1F6D, 0x0399}}, {0x1FAE, {0x1F6E, 0x0399}}, {0x1FAF, {0x1F6F, 0x0399}},
    {0x1FB2, {0x1FBA, 0x0399}}, {0x1FB3, {0x0391, 0x0399}}, {0x1FB4, {0x0386, 0x0399}},
    {0x1FB6, {0x0391, 0x0342}}, {0x1FB7, {0x0391, 0x0342, 0x0399}}, {0x1FBC, {0x0391, 0x0399}},
    {0x1FC2, {0x1FCA, 0x0399}}, {0x1FC3, {0x0397, 0x0399}}, {0x1FC4, {0x0389, 0x0399}},
    {0x1FC6, {0x0397, 0x0342}}, {0x1FC7, {0x0397, 0x0342, 0x0399}}, {0x1FCC, {0x0397, 0x0399}},
    {0x1FD2, {0x0399, 0x0308, 0x0300}}, {0x1FD3, {0x0399, 0x0308, 0x0301}},
    {0x1FD6, {0x0399, 0x0342}}, {0x1FD7, {0x0399, 0x0308, 0x0342}},
    {0x1FE2, {0x03A5, 0x0308, 0x0300}}, {0x1FE3, {0x03A5, 0x0308, 0x0301}},
    {0x1FE4, {0x03A1, 0x0313}}, {0x1FE6, {0x03A5, 0x0342}}, {0x1FE7, {0x03A5, 0x0308, 0x0342}},
    {0x1FF2, {0x1FFA, 0x0399}}, {0x1FF3, {0x03A9, 0x0399}}, {0x1FF4, {0x038F, 0x0399}},
    {0x1FF6, {0x03A9, 0x0342}}, {0x1FF7, {0x03A9, 0x0342, 0x0399}}, {0x1FFC, {0x03A9, 0x0399}},
    {0xFB00, {0x0046, 0x0046}}, {0xFB01, {0x0046, 0x0049}}, {0xFB02, {0x0046, 0x004C}},
    {0xFB03, {0x0046, 0x0046, 0x0049}}, {0xFB04, {0x0046, 0x0046, 0x004C}},
    {0xFB05, {0x0053, 0x0054}}, {0xFB06, {0x0053, 0x0054}}, {0xFB13, {0x0544, 0x0546}},
    {0xFB14, {0x0544, 0x0535}}, {0xFB15, {0x0544, 0x053B}}, {0xFB16, {0x054E, 0x0546}},
    {0xFB17, {0x0544, 0x053D}},
};

static const int32_t *find_special(int32_t c) {
    size_t a = 0, b = ARRAY_LEN(special_upper);
    while (a < b) {
        size_t m = (a + b) / 2;
        if (special_upper[m].c == c)
            return special_upper[m].upper;
        if (special_upper[m].c < c)
            a = m + 1;
        else
            b = m;
    }
    return NULL;
}

int py_to_upper(int32_t c, int32_t out[CASE_MAX]) {
    const int32_t *special = c < 0xDF ? NULL : find_special(c);
    if (!special) {
        out[0] = utf8proc_toupper(c);
        return 1;
    }
    int n = 0;
    while (n < CASE_MAX && special[n]) {
        out[n] = special[n];
        n++;
    }
    return n;
}

int py_to_title(int32_t c, int32_t out[CASE_MAX]) {
    int32_t simple = utf8proc_totitle(c);
    if (py_title(simple) || !find_special(c)) {
        out[0] = simple;
        return 1;
    }
    /* The first of several stays a capital; a capital iota becomes the mark below it. */
    int n = py_to_upper(c, out);
    for (int i = 1; i < n && py_upper(out[0]); i++)
        out[i] = out[i] == 0x399 ? 0x345 : utf8proc_tolower(out[i]);
    return n;
}

int py_to_fold(int32_t c, int32_t out[CASE_MAX]) {
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(c, out, CASE_MAX, UTF8PROC_CASEFOLD, &boundary);
    if (n < 0 || n > CASE_MAX)
        BUG("case folding of U+%04X gives %td characters", (unsigned)c, n);
    return (int)n;
}

bool py_cased(int32_t c) {
    return py_lower(c) || py_upper(c) || py_title(c);
}

/* Case_Ignorable: marks, modifiers, and punctuation within words. */
static bool is_case_ignorable(int32_t c) {
    static const int32_t within[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                     0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                     0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < ARRAY_LEN(within); i++)
        if (c == within[i])
            return true;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK;
}

/* A capital sigma at `at` ends a word: a cased letter before it, none behind. */
static bool is_final_sigma(const char *s, size_t n, size_t at) {
    size_t k = at;
    int32_t c = -1;
    do {
        c = utf8_last(s, k);
        while (k && ((uint8_t)s[--k] & 0xC0) == 0x80)
            ;
    } while (c >= 0 && is_case_ignorable(c));
    if (c < 0 || !py_cased(c))
        return false;
    const char *p = s + at;
    utf8_get(&p);
    while (p < s + n) {
        c = utf8_get(&p);
        if (!is_case_ignorable(c))
            return !py_cased(c);
    }
    return true;
}

int py_to_lower(const char *s, size_t n, size_t at, int32_t out[CASE_MAX]) {
    const char *p = s + at;
    int32_t c = utf8_get(&p);
    if (c == 0x130) {                       // I with a dot: i and a combining dot
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = c == 0x3A3 && is_final_sigma(s, n, at) ? 0x3C2 : utf8proc_tolower(c);
    return 1;
}

/* ---- blanks and lines ---- */
size_t py_rstrip(const char *s, size_t n) {
    while (n && py_space(utf8_last(s, n)))
        do
            n--;
        while (((uint8_t)s[n] & 0xC0) == 0x80);
    return n;
}

size_t py_lstrip(const char *s, size_t n) {
    const char *p = s;
    while (p < s + n) {
        const char *at = p;
        if (!py_space(utf8_get(&p)))
            return (size_t)(at - s);
    }
    return n;
}

size_t py_line(const char *s, size_t n, size_t *body) {
    const char *p = s;
    while (p < s + n) {
        *body = (size_t)(p - s);
        int32_t c = utf8_get(&p);
        if (c == '\r' && p < s + n && *p == '\n')
            p++;
        if ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
            c == 0x2029)
            return (size_t)(p - s);
    }
    *body = n;
    return n;
}

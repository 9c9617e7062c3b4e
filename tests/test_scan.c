/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_scan.c — scanners against the expressions that they stand for, run by PCRE2.
 */
#include <pthread.h>

#include "model/rng.h"
#include "model/tokenizer_impl.h"
#include "model/tokenizer_scan.h"
#include "tests/helper.h"

/* ---- the naive twin: the pattern itself ---- */
struct twin {
    const struct scan *scan;
    pcre2_code *re;
    pcre2_match_data *md;
    const char *pattern;
};

/* \s and \S as Oniguruma has them, without U+180E. */
static char *without_180e(const char *p) {
    struct str s = {0};
    for (bool in_class = false; *p; p++) {
        if (p[0] == '\\' && (p[1] == 's' || p[1] == 'S')) {
            const char *inner = "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}"
                                "\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
            assert_true(!in_class || p[1] == 's');
            str_add(&s, in_class ? "" : p[1] == 's' ? "[" : "[^");
            str_add(&s, inner);
            str_add(&s, in_class ? "" : "]");
            p++;
            continue;
        }
        if (*p == '[' || *p == ']')
            in_class = *p == '[';
        str_addc(&s, *p);
        if (*p == '\\')
            str_addc(&s, *++p);
    }
    return str_detach(&s);
}

static struct twin twin_new(int i) {
    struct twin t = {.pattern = scan_pattern(i)};
    t.scan = scan_find(t.pattern);
    assert_non_null(t.scan);
    char *p = without_180e(t.pattern);
    int code;
    size_t at;
    t.re = pcre2_compile((PCRE2_SPTR)p, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at,
                         NULL);
    if (!t.re)
        fail_msg("%s: error %d at %zu", p, code, at);
    pcre2_jit_compile(t.re, PCRE2_JIT_COMPLETE);
    t.md = pcre2_match_data_create(1, NULL);
    free(p);
    return t;
}

static void twin_release(struct twin *t) {
    pcre2_code_free(t->re);
    pcre2_match_data_free(t->md);
}

/* Both cut s alike. The text lies at the end of its own block, so that a sanitizer sees a scanner
 * that reads on. */
static void assert_same(const struct twin *t, const char *s, size_t n) {
    char *text = memcpy(xmalloc(n), s, n);
    for (size_t at = 0, k; at < n; at += k) {
        int rc = pcre2_match(t->re, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, t->md, NULL);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(t->md);
        if (rc < 1 || v[0] != at)
            fail_msg("%s leaves a gap at byte %zu of \"%.*s\" (%d)", t->pattern, at, (int)n, s, rc);
        k = scan_next(t->scan, text, n, at);
        if (k != v[1] - at)
            fail_msg("%s: at byte %zu of \"%.*s\": expected %zu bytes, got %zu", t->pattern, at,
                     (int)n, s, v[1] - at, k);
    }
    free(text);
}

/* ---- random text ---- */
static size_t put(char *s, uint32_t c) {
    if (c < 0x80) {
        *s = (char)c;
        return 1;
    }
    int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    s[0] = (char)((tail == 1 ? 0xC0 : tail == 2 ? 0xE0 : 0xF0) | c >> 6 * tail);
    for (int i = 1; i <= tail; i++)
        s[i] = (char)(0x80 | (c >> 6 * (tail - i) & 0x3F));
    return (size_t)tail + 1;
}

/* Of every kind, and what the patterns name. */
static const uint32_t letters[] = {
    'a',    'b',    's',    't',     'r',     'e',     'v',     'm',    'l',    'd',    'A',
    'S',    'T',    'L',    'E',     'M',     '\'',    '\'',    '\'',   ' ',    ' ',    ' ',
    '\t',   '\n',   '\r',   '\v',    '\f',    '1',     '2',     '9',    '/',    '-',    '.',
    '_',    0,      0x1C,   0x7F,    0x85,    0xA0,    0xAD,    0xB2,   0xBD,   0xE9,   0xC9,
    0x17F,  0x1C5,  0x2B0,  0x301,   0x303,   0x3B1,   0x391,   0x5D0,  0x661,  0x6D4,  0x903,
    0x905,  0x180E, 0x1680, 0x2003,  0x2028,  0x2029,  0x200D,  0x202F, 0x205F, 0x2160, 0x20E3,
    0x3000, 0x3042, 0x4E00, 0xAC00,  0xD7FF,  0xE000,  0xFE0F,  0xFEFF, 0xFF11, 0xFFFD, 0x212A,
    0x10400, 0x10428, 0x1D7D8, 0x1F600, 0x1F3FB, 0x20000, 0x31350, 0xE0101, 0x10FFFF,
};
static const char *const words[] = {
    "'s",  "'RE", "'ve",   "'LL",    "'\xC5\xBF",    "'d'", "  ",   "\r\n",
    " \n ", "12345", "iPhone", "HTTPServer", " //", "/\n", "don't",
};

/* A text of up to 40 items into s; its bytes. Runs of one item are frequent. */
static size_t random_text(struct rng *r, char *s) {
    size_t n = 0, last = 0;
    for (int items = 1 + (int)rng_below(r, 40); items > 0; items--) {
        uint64_t dice = rng_below(r, 20);
        size_t from = n;
        if (dice == 0) {
            const char *w = words[rng_below(r, ARRAY_LEN(words))];
            memcpy(s + n, w, strlen(w));
            n += strlen(w);
        } else if (dice == 1) {
            uint32_t c = (uint32_t)rng_below(r, 0x110000 - 0x800);
            n += put(s + n, c < 0xD800 ? c : c + 0x800);
        } else if (dice < 7 && last) {
            memcpy(s + n, s + n - last, last);
            n += last;
        } else {
            n += put(s + n, letters[rng_below(r, ARRAY_LEN(letters))]);
        }
        last = n - from;
    }
    return n;
}

/* ---- tests ---- */
static void *first_use(void *arg) {
    const struct scan *sc = scan_find(GPT2_PATTERN);
    *(size_t *)arg = sc ? scan_next(sc, "\xC3\xA9t\xC3\xA9 y", 7, 0) : 0;
    return NULL;
}

/* The table of kinds is made by whoever needs it first. */
static void test_threads(void **state) {
    (void)state;
    pthread_t thread[8];
    size_t k[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, first_use, &k[i]), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(k[i], 5);
    }
}

static void test_find(void **state) {
    (void)state;
    int n = 0;
    for (; scan_pattern(n); n++)
        for (int i = 0; i < n; i++) {
            assert_string_not_equal(scan_pattern(i), scan_pattern(n));
            assert_ptr_not_equal(scan_find(scan_pattern(i)), scan_find(scan_pattern(n)));
        }
    assert_true(n >= 9);
    assert_non_null(scan_find(GPT2_PATTERN));
    assert_null(scan_find("\\p{L}+"));
    assert_null(scan_find(""));
}

/* Written down from the patterns' own text, one of each family. */
#define CASED \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*" \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
static void test_known(void **state) {
    (void)state;
    static const struct {
        const char *begins, *text, *expected;
    } cases[] = {
        {"'s|'t", "I'm  22x\n\n (y)'S ", "I|'m| | 22|x|\n\n| (|y|)'|S| "},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|",
         "I'M 1234  x\n\n (y)!\n", "I|'M| |123|4| | x|\n\n| (|y|)!\n"},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|",
         "12.x \n\n  y", "1|2|.x| \n\n| | y"},
        {CASED "(",
         "HTTPServer isn't a//\n/b \xE6\x97\xA5XY",
         "HTTPServer| isn't| a|//\n/|b| \xE6\x97\xA5|XY"},
        {CASED "|",
         "12 camelCase's", "1|2| camel|Case|'s"},
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        const struct scan *sc = NULL;
        for (int i = 0; scan_pattern(i) && !sc; i++)
            if (strncmp(scan_pattern(i), cases[c].begins, strlen(cases[c].begins)) == 0)
                sc = scan_find(scan_pattern(i));
        assert_non_null(sc);
        struct str got = {0};
        const char *s = cases[c].text;
        for (size_t at = 0, n = strlen(s), k; at < n; at += k) {
            k = scan_next(sc, s, n, at);
            str_add(&got, at ? "|" : "");
            str_addn(&got, s + at, k);
        }
        assert_string_equal(got.s, cases[c].expected);
        str_release(&got);
    }
}

static void test_random(void **state) {
    (void)state;
    for (int i = 0; scan_pattern(i); i++) {
        struct twin t = twin_new(i);
        struct rng *r = rng_keyed(1, "scan", (uint64_t)i);
        char s[1024];
        for (int c = 0; c < 20000; c++)
            assert_same(&t, s, random_text(r, s));
        rng_free(r);
        twin_release(&t);
    }
}

/* Every character there is, between letters of both cases, digits, blanks and itself. */
static void test_every_character(void **state) {
    (void)state;
    for (int i = 0; scan_pattern(i); i++) {
        struct twin t = twin_new(i);
        // one pattern of each family tells all kinds apart; the others need not see every ideograph
        uint32_t step = i + 1 < 8 ? 61 : 1;
        for (uint32_t c = 0; c < 0x110000; c += c < 0x3400 ? 1 : step) {
            char s[64];
            size_t n = 0;
            if (c >= 0xD800 && c < 0xE000)
                continue;
            for (const char *p = "A.a..1. .\n."; *p; p++)
                n += *p == '.' ? put(s + n, c) : put(s + n, (uint8_t)*p);
            assert_same(&t, s, n);
        }
        twin_release(&t);
    }
}

/* Runs that a scanner looks at twice: time must stay linear. */
static void test_long_runs(void **state) {
    (void)state;
    static const char *const units[] = {"A", "a", " ", "\n", "1", "-", "'", " \n", "A\xCC\x81",
                                        "\xE6\x97\xA5" "A", "\xC2\xA0", "'s", "/\n"};
    enum { SIZE = 1 << 20 };
    char *s = xmalloc(SIZE + 8);
    for (size_t u = 0; u < ARRAY_LEN(units); u++) {
        size_t n = 0, len = strlen(units[u]);
        for (; n < SIZE; n += len)
            memcpy(s + n, units[u], len);
        for (int i = 0; scan_pattern(i); i++) {
            const struct scan *sc = scan_find(scan_pattern(i));
            double begin = now_seconds();
            size_t at = 0;
            while (at < n)
                at += scan_next(sc, s, n, at);
            assert_int_equal(at, n);
            if (now_seconds() - begin > 1)
                fail_msg("%s: a run of \"%s\": %.1f s", scan_pattern(i), units[u],
                         now_seconds() - begin);
        }
    }
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_long_runs),
    };
    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_scan.c — the pre-tokenizer patterns of known families as scanners.
 *
 * The patterns are lists of alternatives, first match wins. Their classes split the characters into
 * few disjoint kinds, so that one look at a character's kind, and at the next one's behind a
 * leading blank, decides the alternative, and what it takes is a run of kinds. Where an alternative
 * needs backtracking, its outcome has a closed form, given at its function.
 *
 * Kinds are asked of PCRE2, so that a scanner and an expression of the same file agree on what a
 * letter is, whatever version of Unicode the library knows. U+180E is no blank, as in Oniguruma.
 * The table is made in pages of 256 characters, each when it is met for the first time: a text
 * needs few, and all of them would cost every start of the program 30 ms.
 */
#include "model/tokenizer_scan.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_impl.h"

/* ---- kinds of characters ---- */
enum {
    UPPER = 1,                              /* Lu Lt */
    LOWER = 2,                              /* Ll */
    LETTER = 4,                             /* Lm Lo: letters without case */
    MARK = 8,                               /* Mn Mc Me */
    NUMBER = 16,                            /* Nd Nl No */
    BLANK = 32,                             /* \s but for the next two */
    NEWLINE = 64,                           /* \r \n */
    OTHER = 128,
};
#define WORD (UPPER | LOWER | LETTER)       /* \p{L} */
#define SPACE (BLANK | NEWLINE)             /* \s */

static const struct kind {
    const char *class;
    uint8_t bit;
} kind_table[] = {
    {"\\p{Lu}\\p{Lt}", UPPER}, {"\\p{Ll}", LOWER},    {"\\p{Lm}\\p{Lo}", LETTER},
    {"\\p{M}", MARK},          {"\\p{N}", NUMBER},    {"^\\S\\r\\n\\x{180E}", BLANK},
    {"\\r\\n", NEWLINE},
};

enum { PAGE = 256, PAGES = 0x110000 / PAGE };
static _Atomic(const uint8_t *) kind_page[PAGES];       /* [PAGE]; NULL: not yet made */
static uint8_t kind_ascii[128];
static const uint8_t *page_get(uint32_t i);

/* The character at s, valid, its bytes in *k. */
static inline uint32_t char_at(const char *s, size_t *k) {
    const uint8_t *b = (const uint8_t *)s;
    if (b[0] < 0xE0) {
        *k = 2;
        return (b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu);
    }
    if (b[0] < 0xF0) {
        *k = 3;
        return (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
    }
    *k = 4;
    return (b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu);
}

static inline unsigned kind_at(const char *s, size_t at, size_t *k) {
    if ((uint8_t)s[at] < 0x80) {
        *k = 1;
        return kind_ascii[(uint8_t)s[at]];
    }
    uint32_t c = char_at(s + at, k);
    const uint8_t *page = atomic_load_explicit(&kind_page[c / PAGE], memory_order_acquire);
    return (page ? page : page_get(c / PAGE))[c % PAGE];
}

/* ---- making a page ---- */

/* "([\p{Lu}\p{Lt}]+)|([\p{Ll}]+)|...": one group a kind. */
static pcre2_code *kinds_pattern(void) {
    struct str p = {0};
    for (size_t i = 0; i < ARRAY_LEN(kind_table); i++)
        str_addf(&p, "%s([%s]+)", i ? "|" : "", kind_table[i].class);
    int code;
    size_t at;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)p.s, p.len, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!re)
        BUG("%s: PCRE2 error %d at offset %zu", p.s, code, at);
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);              // without JIT the interpreter runs
    str_release(&p);
    return re;
}

static void put_char(struct str *s, uint32_t c) {
    if (c < 0x80) {
        str_addc(s, (char)c);
        return;
    }
    int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;         // bytes behind the first
    str_addc(s, (char)((tail == 1 ? 0xC0 : tail == 2 ? 0xE0 : 0xF0) | c >> 6 * tail));
    while (tail-- > 0)
        str_addc(s, (char)(0x80 | (c >> 6 * tail & 0x3F)));
}

/* Kinds of the characters [first, first + PAGE). */
static void page_fill(const pcre2_code *re, pcre2_match_data *md, uint32_t first,
                      uint8_t page[PAGE]) {
    memset(page, OTHER, PAGE);
    if (first >= 0xD800 && first < 0xE000)                  // surrogates are not characters
        return;
    struct str text = {0};
    for (uint32_t i = 0; i < PAGE; i++)
        put_char(&text, first + i);
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(md);
    int i = 0, rc;
    for (size_t at = 0; at < text.len;) {
        rc = pcre2_match(re, (PCRE2_SPTR)text.s, text.len, at, PCRE2_NO_UTF_CHECK, md, NULL);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 2)
            BUG("characters from U+%04X: PCRE2 error %d", (unsigned)first, rc);
        for (; at < v[1]; i++) {                            // rc - 1: the group that matched
            if (at >= v[0])
                page[i] = kind_table[rc - 2].bit;
            for (at++; at < text.len && ((uint8_t)text.s[at] & 0xC0) == 0x80;)
                at++;
        }
    }
    str_release(&text);
}

static const uint8_t *page_get(uint32_t i) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pcre2_code *re;                  // both stay for the next page
    static pcre2_match_data *md;
    pthread_mutex_lock(&lock);
    const uint8_t *page = atomic_load_explicit(&kind_page[i], memory_order_relaxed);
    if (!re) {
        re = kinds_pattern();
        md = pcre2_match_data_create_from_pattern(re, NULL);
    }
    if (!page) {
        uint8_t *fresh = xmalloc(PAGE);
        page_fill(re, md, i * PAGE, fresh);
        atomic_store_explicit(&kind_page[i], fresh, memory_order_release);
        page = fresh;
    }
    pthread_mutex_unlock(&lock);
    return page;
}

static void ascii_make(void) {
    memcpy(kind_ascii, page_get(0), sizeof kind_ascii);
}

/* ---- what the patterns are made of ---- */
struct scan {
    const char *pattern;
    size_t (*next)(const struct scan *sc, const char *s, size_t n, size_t at);
    uint8_t word;                           /* kinds of a word */
    uint8_t digits;                         /* characters of a number */
    bool slash;                             /* symbols end in [\r\n/]*, else in [\r\n]* */
    bool contraction;                       /* 's belongs to the word before it */
};

/* The end of the run of characters of these kinds that starts at `at`. */
static inline size_t run_end(const char *s, size_t n, size_t at, unsigned set) {
    size_t k;
    while (at < n && kind_at(s, at, &k) & set)
        at += k;
    return at;
}

/* Bytes of 's 't 're 've 'm 'll 'd at `at`, 0: none. With `fold` in any case, which takes U+017F,
 * the long s, for an s. */
static size_t contraction(const char *s, size_t n, size_t at, bool fold) {
    const uint8_t *b = (const uint8_t *)s + at;
    if (n - at < 2 || b[0] != '\'')
        return 0;
    unsigned case_bit = fold ? 0x20 : 0, c = b[1] | case_bit, d = n - at > 2 ? b[2] | case_bit : 0;
    if (c == 's' || c == 't' || c == 'm' || c == 'd')
        return 2;
    if ((c == 'r' && d == 'e') || (c == 'v' && d == 'e') || (c == 'l' && d == 'l'))
        return 3;
    return fold && b[1] == 0xC5 && n - at > 2 && b[2] == 0xBF ? 3 : 0;
}

/* \s+(?!\S)|\s+ where s[at] is a blank: all of a run that ends the text, else all but its last
 * character, which is for the word behind it, else that character. With `lines`, \s*[\r\n]+ goes
 * first: up to the last line end in the run. */
static size_t blanks_end(const char *s, size_t n, size_t at, bool lines) {
    size_t end = at, last = at, line = at, k;
    for (unsigned c; end < n && (c = kind_at(s, end, &k)) & SPACE; end += k) {
        last = end;
        if (c == NEWLINE)
            line = end + k;
    }
    if (lines && line > at)
        return line;
    return end == n || last == at ? end : last;
}

/* ---- GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ ---- */
static size_t next_gpt2(const struct scan *sc, const char *s, size_t n, size_t at) {
    (void)sc;
    static const uint8_t sets[] = {WORD, NUMBER, MARK | OTHER};
    size_t short_form = contraction(s, n, at, false), q = at + (s[at] == ' '), k;
    if (short_form)
        return short_form;
    unsigned c = q < n ? kind_at(s, q, &k) : 0;
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        if (c & sets[i])
            return run_end(s, n, q + k, sets[i]) - at;
    return blanks_end(s, n, at, false) - at;
}

/* ---- Llama 3, cl100k, Qwen ----
 * (?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
 * |\s+(?!\S)|\s+ */

/* From the numbers on: what the patterns with and without case share. */
static size_t rest(const struct scan *sc, const char *s, size_t n, size_t at) {
    const unsigned symbols = (MARK | OTHER) & ~(unsigned)sc->word;
    size_t q = at + (s[at] == ' '), k;
    unsigned c = kind_at(s, at, &k);
    if (c & NUMBER) {
        size_t end = at + k;
        for (int i = 1; i < sc->digits && end < n && kind_at(s, end, &k) & NUMBER; i++)
            end += k;
        return end - at;
    }
    if (q >= n || !(kind_at(s, q, &k) & symbols))
        return blanks_end(s, n, at, true) - at;
    q = run_end(s, n, q + k, symbols);
    while (q < n && (s[q] == '\r' || s[q] == '\n' || (sc->slash && s[q] == '/')))
        q++;
    return q - at;
}

static size_t next_word(const struct scan *sc, const char *s, size_t n, size_t at) {
    size_t k, first;
    unsigned c = kind_at(s, at, &first);
    if (c & sc->word)
        return run_end(s, n, at + first, sc->word) - at;
    size_t short_form = contraction(s, n, at, true);
    if (short_form)
        return short_form;
    if (c & (MARK | OTHER | BLANK) && at + first < n && kind_at(s, at + first, &k) & sc->word)
        return run_end(s, n, at + first + k, sc->word) - at;
    return rest(sc, s, n, at);
}

/* ---- o200k, tekken: words end where lower case is followed by upper case ----
 * With U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}], P = [^\r\n\p{L}\p{N}],
 * S = (?i:'s|...):  P?U*L+S?|P?U+L*S?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+| ... */

/* U*L+ from q, q when there is none. U* takes a run up to *upper; L+ takes from there if a letter
 * of lower case stands there. If not, U* gives back as far as the last character that is in both
 * sets, and L+ takes just that: all behind it is upper case. */
static size_t cased_end(const char *s, size_t n, size_t q, size_t *upper) {
    size_t r = q, shared = q, k;
    unsigned c = 0;
    for (; r < n && (c = kind_at(s, r, &k)) & (UPPER | LETTER | MARK); r += k)
        if (c & (LETTER | MARK))
            shared = r + k;
    *upper = r;
    return r < n && c & LOWER ? run_end(s, n, r + k, LOWER | LETTER | MARK) : shared;
}

static size_t next_cased(const struct scan *sc, const char *s, size_t n, size_t at) {
    size_t k, upper;
    unsigned c = kind_at(s, at, &k);
    size_t q = at + (c & (MARK | OTHER | BLANK) ? k : 0), end = cased_end(s, n, q, &upper);
    if (end == q && c & MARK)               // without P? the mark itself is in both sets
        end = cased_end(s, n, at, &upper);
    else if (end == q)                      // U+L*: no L behind it, or the first had matched
        end = upper;
    if (end == q && !(c & MARK))
        return rest(sc, s, n, at);
    return end + (sc->contraction && end < n ? contraction(s, n, end, true) : 0) - at;
}

/* ---- the table ---- */
#define FOLDED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BEFORE "[^\\r\\n\\p{L}\\p{N}]?"
#define BLANKS "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define U_SET "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define L_SET "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(s) BEFORE U_SET "*" L_SET "+" s "|" BEFORE U_SET "+" L_SET "*" s "|"
#define CASED_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS

static const struct scan scan_table[] = {
    {GPT2_PATTERN, next_gpt2, 0, 0, false, false},
    {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", next_gpt2,
     0, 0, false, false},
    // Llama 3
    {FOLDED "|" BEFORE "\\p{L}+|\\p{N}{1,3}|" SYMBOLS "|" BLANKS, next_word, WORD, 3, false, false},
    // Qwen2, 2.5, 3; then 3.5, whose words take marks
    {FOLDED "|" BEFORE "\\p{L}+|\\p{N}|" SYMBOLS "|" BLANKS, next_word, WORD, 1, false, false},
    {FOLDED "|" BEFORE "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BLANKS,
     next_word, WORD | MARK, 1, false, false},
    // cl100k: the same pieces as Llama 3's, \s*[\r\n] taking all lines; with and without possessive
    {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++"
     "[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+", next_word, WORD, 3, false, false},
    {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
     "[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+", next_word, WORD, 3, false, false},
    // o200k, tekken
    {CASED(FOLDED "?") "\\p{N}{1,3}" CASED_REST, next_cased, WORD, 3, true, true},
    {CASED("") "\\p{N}" CASED_REST, next_cased, WORD, 1, true, false},
};

const struct scan *scan_find(const char *pattern) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    for (size_t i = 0; i < ARRAY_LEN(scan_table); i++)
        if (strcmp(scan_table[i].pattern, pattern) == 0) {
            pthread_once(&once, ascii_make);
            return &scan_table[i];
        }
    return NULL;
}

const char *scan_pattern(int i) {
    return i < (int)ARRAY_LEN(scan_table) ? scan_table[i].pattern : NULL;
}

size_t scan_next(const struct scan *sc, const char *text, size_t n, size_t at) {
    return sc->next(sc, text, n, at);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_regex.c — compiling the expressions of tokenizer.json, and walking over their matches.
 *
 * Expressions are translated (tokenizer_ruby.c) and run by PCRE2; those of known families have a
 * hand-written scanner (tokenizer_scan.h), which users of struct regex may take instead. Matching
 * runs on the whole piece from an offset, never on a cut-off tail: \s+(?!\S) looks around.
 *
 * A backtracking engine can be made to run for ever: (a+)+$ doubles its work with each letter. Every
 * search has a limit of steps. So that no ordinary text reaches it, an expression is tried at
 * loading on runs of 256 equal characters, its own and common ones; what needs more than the square
 * of that (some patterns in use do) is refused. A search that reaches the limit all the same sets
 * x->failed, and the call of tokenizer_encode fails: cutting the text elsewhere would give other ids
 * silently.
 */
#define _GNU_SOURCE                         /* memmem */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_scan.h"

#define MATCH_LIMIT 1000000000u             /* steps of one search: seconds */
#define HEAP_LIMIT (1024u * 1024)           /* KiB, where the compiled code's stack is too small */
#define PROBE_LENGTH 256
#define PROBE_LIMIT 1000000u

/* ---- compiling ---- */
static pcre2_code *compile(const char *pattern, uint32_t options, const char *shown,
                           const char *where, struct err *e) {
    int code;
    size_t at;
    pcre2_compile_context *ctx = pcre2_compile_context_create(NULL);
    pcre2_set_newline(ctx, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(ctx, 200);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, ctx);
    pcre2_compile_context_free(ctx);
    if (!re) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(code, text, sizeof text);
        err_set(e, "%s: \"%.200s\": does not compile: %s at offset %zu", where, shown,
                (const char *)text, MIN(at, strlen(shown)));
        return NULL;
    }
    return re;
}

struct probe {
    const pcre2_code *code;
    pcre2_match_data *md;
    pcre2_match_context *ctx;
};

/* All matches of the text within the limit of steps each. */
static bool runs_through(const struct probe *p, const struct str *text) {
    for (size_t at = 0; at <= text->len;) {
        int k = pcre2_match(p->code, (PCRE2_SPTR)text->s, text->len, at, PCRE2_NO_JIT, p->md,
                            p->ctx);
        if (k < 0)
            return k == PCRE2_ERROR_NOMATCH;
        size_t end = pcre2_get_ovector_pointer(p->md)[1];
        at = MAX(end, at + 1);
        while (at < text->len && ((uint8_t)text->s[at] & 0xC0) == 0x80)
            at++;
    }
    return true;
}

/* A unit again and again, alone and with something else behind it. */
static bool probe_unit(const struct probe *p, const char *unit, size_t n) {
    static const char *const ends[] = {"", "!", "a", "\n"};
    struct str text = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(ends); i++) {
        text.len = 0;
        for (size_t k = 0; k < MAX(PROBE_LENGTH / n, 8); k++)
            str_addn(&text, unit, n);
        str_add(&text, ends[i]);
        ok = runs_through(p, &text);
    }
    str_release(&text);
    return ok;
}

/* 0, or -1: some run of a character that the pattern speaks of takes too many steps. */
static int probe(const struct regex *re, const char *where, struct err *e) {
    static const char *const common[] = {" ", "\n", "\t", "a", "A", "1", ".", "'", "aA", " a",
                                         "\xC3\xA9", "\xE4\xB8\xAD", "\xCC\x81"};
    struct probe p = {re->code, pcre2_match_data_create(1, NULL),
                      pcre2_match_context_create(NULL)};
    pcre2_set_match_limit(p.ctx, PROBE_LIMIT);
    bool ok = true;
    size_t n = MIN(strlen(re->pattern), 512), k;
    for (size_t i = 0; ok && i < ARRAY_LEN(common); i++)
        ok = probe_unit(&p, common[i], strlen(common[i]));
    for (size_t i = 0; ok && i < n; i += k) {
        int32_t c;
        k = utf8_char(re->pattern + i, strlen(re->pattern + i), &c);
        if (!k)
            break;
        if (!memchr(re->pattern, re->pattern[i], i))        // the first of its kind
            ok = probe_unit(&p, re->pattern + i, k);
    }
    pcre2_match_context_free(p.ctx);
    pcre2_match_data_free(p.md);
    return ok ? 0 : err_set(e, "%s: \"%.200s\": takes more than %u steps on %d equal characters: "
                            "refused", where, re->pattern, PROBE_LIMIT, PROBE_LENGTH);
}

struct regex *regex_new(const char *pattern, bool literal, const char *where, struct err *e) {
    struct regex *re = xcalloc(1, sizeof *re);
    re->pattern = xstrdup(pattern);
    re->literal = literal;
    re->limit = MATCH_LIMIT;
    if (literal)
        return re;
    re->scan = scan_find(pattern);
    char *pcre = regex_translate(pattern, where, e);
    if (pcre)
        re->code = compile(pcre, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                           pattern, where, e);
    free(pcre);
    if (!re->code || (!re->scan && probe(re, where, e) < 0)) {
        regex_free(re);
        return NULL;
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);        // without JIT the interpreter runs
    return re;
}

void regex_free(struct regex *re) {
    if (!re)
        return;
    pcre2_code_free(re->code);
    free(re->pattern);
    free(re);
}

/* ---- matching ---- */

/* The next match at or behind `from`. */
static bool search(const struct regex *re, struct encoder *x, const char *s, size_t n, size_t from,
                   size_t *a, size_t *b) {
    if (re->literal) {
        const size_t k = strlen(re->pattern);
        const char *at = from + k <= n ? memmem(s + from, n - from, re->pattern, k) : NULL;
        if (!at)
            return false;
        *a = (size_t)(at - s);
        *b = *a + k;
        return true;
    }
    if (!x->md) {
        x->md = pcre2_match_data_create(1, NULL);
        x->ctx = pcre2_match_context_create(NULL);
        pcre2_set_heap_limit(x->ctx, HEAP_LIMIT);
    }
    pcre2_set_match_limit(x->ctx, re->limit);
    int k = pcre2_match(re->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, x->md, x->ctx);
    if (k == PCRE2_ERROR_JIT_STACKLIMIT)
        k = pcre2_match(re->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, x->md,
                        x->ctx);
    if (k < 0 && k != PCRE2_ERROR_NOMATCH) {
        log_error("tokenizer: \"%.200s\" ran into its limit (PCRE2 error %d) at byte %zu of %zu",
                  re->pattern, k, from, n);
        x->failed = true;
    }
    if (k < 0)
        return false;
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(x->md);
    *a = v[0];
    *b = v[1];
    return *a <= *b;                                        // \K in a look-ahead can turn them
}

bool regex_next(const struct regex *re, struct encoder *x, const char *s, size_t n,
                struct matching *m, struct segment *g) {
    if (m->waiting) {
        m->waiting = false;
        *g = m->next;
        return true;
    }
    size_t a = 0, b = 0;
    while (!m->done) {
        if (m->from > n || !search(re, x, s, n, m->from, &a, &b)) {
            m->done = true;
            break;
        }
        bool again = a == b && m->matched && b == m->end;
        if (again || a < m->end) {          // an empty match where the last one ended is none
            m->from = MAX(b, m->from) + 1;
            while (m->from < n && ((uint8_t)s[m->from] & 0xC0) == 0x80)
                m->from++;
            continue;
        }
        m->from = b;
        struct segment gap = {m->end, a, false}, match = {a, b, true};
        m->matched = true;
        m->end = b;
        m->waiting = gap.b > gap.a;
        m->next = match;
        *g = m->waiting ? gap : match;
        return true;
    }
    if (x->failed || m->end >= n)
        return false;
    *g = (struct segment){m->end, n, false};
    m->end = n;
    return true;
}

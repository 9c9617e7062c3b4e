/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_regex.c — compiling the expressions of tokenizer.json, and walking over their matches.
 *
 * Expressions are translated (tokenizer_ruby.c) and run by PCRE2; those of known families have a
 * hand-written scanner (tokenizer_scan.h), which users of struct regex may take instead. Matching
 * runs on the whole piece from an offset, never on a cut-off tail: \s+(?!\S) looks around.
 *
 * A backtracking engine can be made to run for ever: (a+)+$ doubles its work with each letter. So
 * an expression is tried at loading on runs of 256 equal characters, its own and common ones, and
 * its steps are counted. What needs more than some multiple of the square of the length is refused.
 * What needs about the square (\s+$, which some files have) is kept in a slower form that goes on
 * counting: a text that spends the call's steps makes tokenizer_encode fail, since cutting it
 * elsewhere would give other ids silently. The rest runs as compiled code.
 */
#define _GNU_SOURCE                         /* memmem */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_scan.h"

#define OPTIONS (PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C)
/* every item of the expression counts when it is reached, none is skipped as hopeless */
#define COUNTED (OPTIONS | PCRE2_AUTO_CALLOUT | PCRE2_NO_START_OPTIMIZE | PCRE2_NO_AUTO_POSSESS)
#define PATTERN_LIMIT 20000                 /* bytes */
#define MATCH_LIMIT 1000000000u             /* of compiled code, where the trials showed nothing */
#define HEAP_LIMIT (1024u * 1024)           /* KiB, where its stack is too small */
#define PROBE_LENGTH 256
#define PROBE_STEPS (20 * PROBE_LENGTH * PROBE_LENGTH)
#define PROBE_LINEAR (64 * PROBE_LENGTH)    /* more is about the square */
#define PROBE_TOTAL 20000000u
#define PROBE_UNITS 64

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

/* Counts down; at 0 the search ends. */
static int count_step(pcre2_callout_block *block, void *steps) {
    (void)block;
    size_t *left = steps;
    return *left && --*left ? 0 : PCRE2_ERROR_CALLOUT;
}

struct probe {
    pcre2_code *code;
    pcre2_match_data *md;
    pcre2_match_context *ctx;
    size_t left, most, total;               /* steps: of this text, of any, of all */
};

/* All matches of the text. */
static bool runs_through(struct probe *p, const struct str *text) {
    p->left = PROBE_STEPS;
    int k = 0;
    for (size_t at = 0; at <= text->len && k >= 0;) {
        k = pcre2_match(p->code, (PCRE2_SPTR)text->s, text->len, at, PCRE2_NO_JIT, p->md, p->ctx);
        size_t end = k < 0 ? at : pcre2_get_ovector_pointer(p->md)[1];
        at = MAX(end, at + 1);
        while (at < text->len && ((uint8_t)text->s[at] & 0xC0) == 0x80)
            at++;
    }
    p->most = MAX(p->most, PROBE_STEPS - p->left);
    p->total += PROBE_STEPS - p->left;
    return p->left && p->total < PROBE_TOTAL && (k >= 0 || k == PCRE2_ERROR_NOMATCH);
}

/* A unit again and again, alone and with something else behind it. */
static bool probe_unit(struct probe *p, const char *unit, size_t n) {
    static const char *const ends[] = {"", "!", "a", "\n"};
    struct str text = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(ends); i++) {
        text.len = 0;
        for (size_t k = 0; k < PROBE_LENGTH / n; k++)
            str_addn(&text, unit, n);
        str_add(&text, ends[i]);
        ok = runs_through(p, &text);
    }
    str_release(&text);
    return ok;
}

static bool probe_units(struct probe *p, const char *pattern) {
    static const char *const common[] = {" ", "\n", "\t", "a", "A", "1", ".", "'", "aA", " a", "1,",
                                         "\xC3\xA9", "\xE4\xB8\xAD", "\xCC\x81"};
    const size_t n = strlen(pattern);
    size_t units = 0, k;
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (!probe_unit(p, common[i], strlen(common[i])))
            return false;
    for (size_t i = 0; i < n && units < PROBE_UNITS; i += k) {
        int32_t c;
        k = utf8_next(pattern + i, &c);
        if (memchr(pattern, pattern[i], i))                 // not the first that begins so
            continue;
        if (!probe_unit(p, pattern + i, k))
            return false;
        units++;
    }
    return true;
}

/* 0: quick; 1: to be counted; -1 and *e: refused. */
static int probe(const struct regex *re, const char *pcre, const char *where, struct err *e) {
    struct probe p = {.code = compile(pcre, COUNTED, re->pattern, where, e)};
    if (!p.code)
        return -1;
    p.md = pcre2_match_data_create(1, NULL);
    p.ctx = pcre2_match_context_create(NULL);
    pcre2_set_callout(p.ctx, count_step, &p.left);
    bool ok = probe_units(&p, re->pattern);
    pcre2_match_context_free(p.ctx);
    pcre2_match_data_free(p.md);
    pcre2_code_free(p.code);
    if (!ok)
        return err_set(e, "%s: \"%.200s\": takes too many steps on %d equal characters", where,
                       re->pattern, PROBE_LENGTH);
    return p.most > PROBE_LINEAR;
}

struct regex *regex_new(const char *pattern, bool literal, const char *where, struct err *e) {
    struct regex *re = xcalloc(1, sizeof *re);
    re->pattern = xstrdup(pattern);
    re->literal = literal;
    if (literal)
        return re;
    if (strlen(pattern) > PATTERN_LIMIT) {
        err_set(e, "%s: expected an expression of at most %d bytes, got %zu", where, PATTERN_LIMIT,
                strlen(pattern));
        regex_free(re);
        return NULL;
    }
    re->scan = scan_find(pattern);
    char *pcre = regex_translate(pattern, where, e);
    int slow = !pcre ? -1 : re->scan ? 0 : probe(re, pcre, where, e);
    if (slow >= 0)
        re->code = compile(pcre, slow ? COUNTED : OPTIONS, pattern, where, e);
    free(pcre);
    if (!re->code) {
        regex_free(re);
        return NULL;
    }
    if (!slow)
        pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);    // without JIT the interpreter runs
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
        pcre2_set_match_limit(x->ctx, MATCH_LIMIT);
        pcre2_set_callout(x->ctx, count_step, &x->steps);
    }
    int k = pcre2_match(re->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, x->md, x->ctx);
    if (k == PCRE2_ERROR_JIT_STACKLIMIT)
        k = pcre2_match(re->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, x->md,
                        x->ctx);
    if (k < 0 && k != PCRE2_ERROR_NOMATCH) {
        log_error("tokenizer: \"%.200s\" takes too many steps from byte %zu of %zu on (PCRE2 error "
                  "%d)", re->pattern, from, n, k);
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

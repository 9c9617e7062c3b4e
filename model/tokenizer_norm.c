/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_norm.c — the normalizer stage: text to the text that is tokenised.
 *
 * Steps read one buffer and write another. x->first says whether the text still begins with what
 * the input began with: Metaspace asks ("prepend_scheme": "first"), and the reference knows it from
 * the offsets it keeps.
 *
 * Normal forms are utf8proc's. Text is cut where no form reaches across: between a character of
 * ASCII and one before it, and around characters that are newer than the reference's tables, which
 * it copies (tokenizer_unicode.c). Most text is then copied without being looked at closely.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* No character becomes more than 18, U+FDFA in NFKD; Replaces in a row could double each time. */
#define GROWTH 64

static int add_step(struct tokenizer *t, struct norm_step st) {
    t->norm = xreallocarray(t->norm, (size_t)t->nnorm + 1, sizeof *t->norm);
    t->norm[t->nnorm++] = st;
    return 0;
}

/* ---- normal forms ---- */

/* NFC changes no text of such characters: they have no decomposition that stays apart and combine
 * with none of their kind. */
static bool is_composed(int32_t c) {
    return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x3001 && c <= 0x3029) ||
           (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) ||
           (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
           (c >= 0xFF01 && c <= 0xFFEE);
}

static void add_form(const struct norm_step *st, const char *s, size_t n, struct str *out) {
    utf8proc_uint8_t *form = NULL;
    utf8proc_ssize_t k = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &form,
                                      (utf8proc_option_t)st->options);
    if (k < 0)
        BUG("utf8proc_map: %s", utf8proc_errmsg(k));        // text is valid, memory is there
    str_addn(out, (const char *)form, (size_t)k);
    free(form);
}

static void run_form(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                     struct str *out) {
    (void)x;
    const bool nfc = st->options == (UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    size_t done = 0, at = 0;                // [done, at) waits to be copied
    while (at < n) {
        while (at < n && (uint8_t)s[at] < 0x80)
            at++;
        if (at == n)
            break;
        size_t a = at > done ? at - 1 : at, k = 0;          // with the letter a mark may join
        int32_t c;
        bool composed = nfc;
        for (; at < n && (uint8_t)s[at] >= 0x80; at += k) {
            k = utf8_next(s + at, &c);
            if (char_is_newer(c))
                break;
            composed = composed && is_composed(c);
        }
        bool newer = at < n && (uint8_t)s[at] >= 0x80;
        if (!composed && at > a) {
            str_addn(out, s + done, a - done);
            add_form(st, s + a, at - a, out);
            done = at;
        }
        if (newer) {
            at += k;
            str_addn(out, s + done, at - done);
            done = at;
        }
    }
    str_addn(out, s + done, n - done);
}

static int parse_form(struct tokenizer *t, const json_t *j, const char *where, int options,
                      struct err *e) {
    static const char *const keys[] = {"type", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return add_step(t, (struct norm_step){.run = run_form, .options = UTF8PROC_STABLE | options});
}

static int parse_nfc(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return parse_form(t, j, where, UTF8PROC_COMPOSE, e);
}
static int parse_nfd(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return parse_form(t, j, where, UTF8PROC_DECOMPOSE, e);
}
static int parse_nfkc(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return parse_form(t, j, where, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, e);
}
static int parse_nfkd(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return parse_form(t, j, where, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, e);
}

/* ---- character by character ---- */
static void run_lowercase(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                          struct str *out) {
    (void)st, (void)x;
    int32_t c;
    for (size_t at = 0; at < n;) {
        at += utf8_next(s + at, &c);
        utf8_add(out, char_lower(c));
        if (c == 0x130)                     // the only one that becomes two
            utf8_add(out, 0x307);
    }
}

static void run_strip_accents(const struct norm_step *st, struct encoder *x, const char *s,
                              size_t n, struct str *out) {
    (void)st;
    int32_t c;
    for (size_t at = 0, k; at < n; at += k) {
        k = utf8_next(s + at, &c);
        if (!char_is_mark(c))
            str_addn(out, s + at, k);
        else if (at == 0)
            x->first = false;
    }
}

/* Control characters go, other characters that print nothing become blanks. */
static void run_nmt(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                    struct str *out) {
    (void)st;
    int32_t c;
    for (size_t at = 0, k; at < n; at += k) {
        k = utf8_next(s + at, &c);
        if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
            c == 0x8F || c == 0x9F)
            x->first = x->first && at > 0;
        else if (c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                 (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                 c == 0xFEFF || c == 0xFFFD)
            str_addc(out, ' ');
        else
            str_addn(out, s + at, k);
    }
}

static void run_letters(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                        struct str *out) {
    (void)st, (void)x;
    byte_letters(s, n, out);
}

static int parse_plain(struct tokenizer *t, const json_t *j, const char *where,
                       struct norm_step st, struct err *e) {
    static const char *const keys[] = {"type", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return add_step(t, st);
}

static int parse_lowercase(struct tokenizer *t, const json_t *j, const char *where,
                           struct err *e) {
    return parse_plain(t, j, where, (struct norm_step){.run = run_lowercase}, e);
}
static int parse_strip_accents(struct tokenizer *t, const json_t *j, const char *where,
                               struct err *e) {
    return parse_plain(t, j, where, (struct norm_step){.run = run_strip_accents}, e);
}
static int parse_nmt(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return parse_plain(t, j, where, (struct norm_step){.run = run_nmt}, e);
}
static int parse_letters(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    t->letters = true;
    return parse_plain(t, j, where, (struct norm_step){.run = run_letters}, e);
}

/* ---- the ends ---- */
static void run_strip(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                      struct str *out) {
    size_t a = 0, b = n, k;
    int32_t c;
    for (; st->left && a < n; a += k) {
        k = utf8_next(s + a, &c);
        if (!char_is_space(c))
            break;
    }
    for (; st->right && b > a; b = k) {
        k = utf8_back(s, b);
        utf8_next(s + k, &c);
        if (!char_is_space(c))
            break;
    }
    x->first = x->first && a == 0;
    str_addn(out, s + a, b - a);
}

static int parse_strip(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "strip_left", "strip_right", NULL};
    struct norm_step st = {.run = run_strip};
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "strip_left", true, where, &st.left, e) < 0 ||
        json_bool(j, "strip_right", true, where, &st.right, e) < 0)
        return -1;
    return add_step(t, st);
}

/* Not before text that goes on behind an earlier one. */
static void run_prepend(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                        struct str *out) {
    if (!(x->at_start && x->flags & ENCODE_CONTINUES))
        str_add(out, st->text);
    str_addn(out, s, n);
}

bool norm_prepends(const struct tokenizer *t) {
    for (int i = 0; i < t->nnorm; i++)
        if (t->norm[i].run == run_prepend && (strcmp(t->norm[i].text, " ") == 0 ||
                                              strcmp(t->norm[i].text, WORD_MARK) == 0))
            return true;
    return false;
}

static int parse_prepend(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "prepend", NULL};
    const char *text;
    if (json_only_keys(j, where, keys, e) < 0 || json_text(j, "prepend", where, &text, e) < 0)
        return -1;
    if (!text)
        return err_set(e, "%s.prepend: expected a string, got %s", where,
                       json_kind(json_object_get(j, "prepend")));
    return add_step(t, (struct norm_step){.run = run_prepend, .text = xstrdup(text)});
}

/* ---- Replace ---- */
static void run_replace(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                        struct str *out) {
    struct matching m = {0};
    struct segment g;
    const size_t len = strlen(st->text);
    while (regex_next(st->re, x, s, n, &m, &g)) {
        if (!g.match) {
            str_addn(out, s + g.a, g.b - g.a);
            continue;
        }
        // what replaces several characters counts as the last of them
        if (g.a == 0 && g.b > 0 && (utf8_back(s, g.b) > 0 || !len))
            x->first = false;
        if (out->len > x->most)             // seen behind the step
            break;
        str_addn(out, st->text, len);
    }
}

static int parse_replace(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "pattern", "content", NULL};
    const char *text;
    if (json_only_keys(j, where, keys, e) < 0 || json_text(j, "content", where, &text, e) < 0)
        return -1;
    if (!text)
        return err_set(e, "%s.content: expected a string, got %s", where,
                       json_kind(json_object_get(j, "content")));
    struct norm_step st = {.run = run_replace, .re = json_pattern(j, where, e)};
    if (!st.re)
        return -1;
    st.text = xstrdup(text);
    return add_step(t, st);
}

/* ---- Precompiled ---- */
static void run_charsmap(const struct norm_step *st, struct encoder *x, const char *s, size_t n,
                         struct str *out) {
    (void)x;
    charsmap_apply(st->map, s, n, out);
}

static int parse_charsmap(struct tokenizer *t, const json_t *j, const char *where,
                          struct err *e) {
    static const char *const keys[] = {"type", "precompiled_charsmap", NULL};
    const char *text;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_text(j, "precompiled_charsmap", where, &text, e) < 0)
        return -1;
    struct norm_step st = {.run = run_charsmap, .map = charsmap_new(text ? text : "", where, e)};
    return st.map ? add_step(t, st) : -1;
}

static int parse_sequence(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
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
    {"Lowercase", parse_lowercase},
    {"Strip", parse_strip},
    {"StripAccents", parse_strip_accents},
    {"Replace", parse_replace},
    {"Prepend", parse_prepend},
    {"Precompiled", parse_charsmap},
    {"Nmt", parse_nmt},
    {"ByteLevel", parse_letters},
    {"Sequence", parse_sequence},
    {NULL, NULL},
};

const char *normalize(struct encoder *x, const char *s, size_t n, size_t *len) {
    const struct tokenizer *t = x->t;
    x->most = GROWTH * n + (1 << 16);
    for (int i = 0; i < t->nnorm && n; i++) {
        struct str *out = &x->form[i % 2];
        out->len = 0;
        str_add(out, "");                   // a string, even when nothing is added
        t->norm[i].run(&t->norm[i], x, s, n, out);
        s = out->s;
        n = out->len;
        if (n > x->most) {
            log_error("tokenizer: the normalizer makes more than %zu bytes of its text", x->most);
            x->failed = true;
            n = 0;
        }
    }
    *len = n;
    return s;
}

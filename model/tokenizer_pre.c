/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_pre.c — cutting text into the pieces that the model sees: regular expressions and the
 * pre-tokenizer stage.
 *
 * Every kind of pre-tokenizer is a regular expression with a behavior: what becomes of the matches
 * and of the gaps between them. Steps run depth first, each piece of step k at once through step
 * k + 1, so no list of all pieces of a text is held.
 *
 * The patterns are written for Oniguruma in Ruby syntax. PCRE2 with UTF and UCP cuts the same on
 * the patterns in use, but for U+180E (a blank only to PCRE2) and letters newer than Unicode 14.
 * Where the two languages give one text two meanings, the pattern is refused: classes that nest or
 * intersect, and (?m). ^ and $ match at every line there, so MULTILINE is on. Matching runs on the
 * whole piece from an offset, never on a cut-off tail: \s+(?!\S) looks around.
 */
#include "model/tokenizer_impl.h"

#include <string.h>

#define MATCH_LIMIT 10000000u               /* steps; a hostile pattern ends instead of hanging */
#define HEAP_LIMIT (64u * 1024)             /* KiB */

/* ---- compiling ---- */

/* The construct that Ruby and Perl read differently, or NULL. */
static const char *ruby_only(const char *p) {
    bool in_class = false;
    for (; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        } else if (in_class) {
            if (p[0] == '[' && p[1] != ':')
                return "a class inside a class";
            if (p[0] == '&' && p[1] == '&')
                return "&& inside a class";
            if (p[0] == '[')                                // [:alpha:]
                p = strchr(p, ']') ? strchr(p, ']') : p;
            else if (*p == ']')
                in_class = false;
        } else if (*p == '[') {
            in_class = true;
            p += p[1] == '^';
            p += p[1] == ']';
        } else if (p[0] == '(' && p[1] == '?') {
            size_t flags = strspn(p + 2, "imsxu-");
            if ((p[2 + flags] == ')' || p[2 + flags] == ':') && memchr(p + 2, 'm', flags))
                return "the option m";
        }
    }
    return NULL;
}

pcre2_code *regex_new(const char *pattern, bool literal, const char *where, struct err *e) {
    const char *bad = literal ? NULL : ruby_only(pattern);
    if (bad) {
        err_set(e, "%s: \"%.200s\": %s is not supported", where, pattern, bad);
        return NULL;
    }
    int code;
    size_t at;
    uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL
                               : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_compile_context *ctx = pcre2_compile_context_create(NULL);
    pcre2_set_newline(ctx, PCRE2_NEWLINE_LF);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, ctx);
    pcre2_compile_context_free(ctx);
    if (!re) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(code, text, sizeof text);
        err_set(e, "%s: \"%.200s\": does not compile: %s at offset %zu", where, pattern,
                (const char *)text, at);
        return NULL;
    }
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);              // without JIT the interpreter runs
    return re;
}

/* ---- matching ---- */
static void add_segment(struct segments *l, size_t a, size_t b, bool match) {
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->v = xreallocarray(l->v, (size_t)l->cap, sizeof *l->v);
    }
    l->v[l->n++] = (struct segment){a, b, match};
}

/* The next match from `from`; false: none, or the limits are spent. */
static bool next_match(const pcre2_code *re, pcre2_match_data *md, pcre2_match_context *ctx,
                       const char *s, size_t n, size_t from, size_t *a, size_t *b) {
    int k = pcre2_match(re, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, md, ctx);
    if (k == PCRE2_ERROR_JIT_STACKLIMIT)
        k = pcre2_match(re, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, md, ctx);
    if (k < 0 && k != PCRE2_ERROR_NOMATCH)
        log_warn("tokenizer: a pattern ran into its limit (PCRE2 error %d) at byte %zu of %zu; the "
                 "rest of the piece stays whole", k, from, n);
    if (k < 0)
        return false;
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(md);
    *a = v[0];
    *b = v[1];
    return *a <= *b;                                        // \K in a look-ahead can turn them
}

void regex_segments(const pcre2_code *re, pcre2_match_data *md, const char *s, size_t n,
                    struct segments *out) {
    pcre2_match_context *ctx = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(ctx, MATCH_LIMIT);
    pcre2_set_heap_limit(ctx, HEAP_LIMIT);
    out->n = 0;
    size_t from = 0, end = 0, a, b;
    while (from <= n && next_match(re, md, ctx, s, n, from, &a, &b)) {
        bool repeat = a == b && a == end && out->n && out->v[out->n - 1].match;
        from = b;
        if (a == b)                                         // go on behind the next character
            for (from++; from < n && ((uint8_t)s[from] & 0xC0) == 0x80;)
                from++;
        if (repeat || a < end)
            continue;
        if (a > end)
            add_segment(out, end, a, false);
        add_segment(out, a, b, true);
        end = b;
    }
    if (end < n)
        add_segment(out, end, n, false);
    pcre2_match_context_free(ctx);
}

/* ---- behaviors: what becomes of matches and gaps ---- */
struct split_behavior {
    const char *name;
    void (*apply)(struct segments *l);      /* in place; NULL: every segment is a piece */
};

static void apply_removed(struct segments *l) {
    int n = 0;
    for (int i = 0; i < l->n; i++)
        if (!l->v[i].match)
            l->v[n++] = l->v[i];
    l->n = n;
}

/* A match joins the segment before it, unless that is a match that has just joined. */
static void apply_previous(struct segments *l) {
    int n = 0;
    bool last = false;
    for (int i = 0; i < l->n; i++) {
        struct segment g = l->v[i];
        if (g.match && !last && n)
            l->v[n - 1].b = g.b;
        else
            l->v[n++] = g;
        last = g.match;
    }
    l->n = n;
}

static void apply_next(struct segments *l) {
    int n = l->n;                           // the result grows downwards from the end
    bool last = false;
    for (int i = l->n - 1; i >= 0; i--) {
        struct segment g = l->v[i];
        if (g.match && !last && n < l->n)
            l->v[n].a = g.a;
        else
            l->v[--n] = g;
        last = g.match;
    }
    l->n -= n;
    memmove(l->v, l->v + n, (size_t)l->n * sizeof *l->v);
}

static void apply_contiguous(struct segments *l) {
    int n = 0;
    for (int i = 0; i < l->n; i++)
        if (n && l->v[n - 1].match == l->v[i].match)
            l->v[n - 1].b = l->v[i].b;
        else
            l->v[n++] = l->v[i];
    l->n = n;
}

static const struct split_behavior behavior_table[] = {
    {"Isolated", NULL},
    {"Removed", apply_removed},
    {"MergedWithPrevious", apply_previous},
    {"MergedWithNext", apply_next},
    {"Contiguous", apply_contiguous},
};

/* ---- the steps ---- */
static void run_split(struct encoder *x, const struct pre_step *st, int k, const char *s,
                      size_t n) {
    if (st->add_prefix_space && !(n && *s == ' ')) {
        x->prefixed.len = 0;
        str_addc(&x->prefixed, ' ');
        str_addn(&x->prefixed, s, n);
        s = x->prefixed.s;
        n = x->prefixed.len;
    }
    if (!st->re) {
        encode_step(x, k + 1, s, n);
        return;
    }
    struct segments *l = &x->seg[k];
    regex_segments(st->re, x->md, s, n, l);
    for (int i = 0; st->invert && i < l->n; i++)
        l->v[i].match = !l->v[i].match;
    if (st->behavior->apply)
        st->behavior->apply(l);
    for (int i = 0; i < l->n; i++)
        if (l->v[i].b > l->v[i].a)
            encode_step(x, k + 1, s + l->v[i].a, l->v[i].b - l->v[i].a);
}

/* Appends a step; pattern NULL: pieces stay whole. */
static int add_split(struct tokenizer *t, const char *pattern, bool literal, const char *behavior,
                     bool invert, bool prefix, const char *where, struct err *e) {
    struct pre_step st = {.run = run_split, .invert = invert, .add_prefix_space = prefix};
    if (t->byte_level)
        return err_set(e, "%s: expected ByteLevel as the last step, got another behind it", where);
    const char *names[ARRAY_LEN(behavior_table)];
    for (size_t i = 0; i < ARRAY_LEN(behavior_table); i++) {
        names[i] = behavior_table[i].name;
        if (behavior && strcmp(names[i], behavior) == 0)
            st.behavior = &behavior_table[i];
    }
    if (!st.behavior) {
        const char *near = behavior ? nearest_name(behavior, names, ARRAY_LEN(names)) : NULL;
        return err_set(e, "%s.behavior: expected Isolated, Removed, MergedWithPrevious, "
                       "MergedWithNext or Contiguous, got \"%.40s\"%s%s%s", where,
                       behavior ? behavior : "", near ? " (hint: " : "", near ? near : "",
                       near ? "?)" : "");
    }
    if (pattern && !(st.re = regex_new(pattern, literal, where, e)))
        return -1;
    t->pre = xreallocarray(t->pre, (size_t)t->npre + 1, sizeof *t->pre);
    t->pre[t->npre++] = st;
    return 0;
}

/* GPT-2's own step: cut by its pattern, then letters for bytes. trim_offsets concerns offsets. */
static int parse_byte_level(struct tokenizer *t, const json_t *j, const char *where,
                            struct err *e) {
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    bool prefix, trim, use_regex;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "add_prefix_space", true, where, &prefix, e) < 0 ||
        json_bool(j, "trim_offsets", true, where, &trim, e) < 0 ||
        json_bool(j, "use_regex", true, where, &use_regex, e) < 0 ||
        add_split(t, use_regex ? GPT2_PATTERN : NULL, false, "Isolated", false, prefix, where,
                  e) < 0)
        return -1;
    t->byte_level = true;
    return 0;
}

static int parse_split(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
    const json_t *p = json_object_get(j, "pattern");
    const char *text = json_string_value(json_object_get(p, "String"));
    const char *regex = json_string_value(json_object_get(p, "Regex")), *behavior;
    bool invert;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "invert", false, where, &invert, e) < 0 ||
        json_text(j, "behavior", where, &behavior, e) < 0)
        return -1;
    if (json_object_size(p) != 1 || !(regex ? *regex : text && *text))
        return err_set(e, "%s.pattern: expected {\"String\": ...} or {\"Regex\": ...}, not empty, "
                       "got %s", where, json_kind(p));
    return add_split(t, regex ? regex : text, !regex, behavior, invert, false, where, e);
}

static int parse_digits(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "individual_digits", NULL};
    bool individual;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "individual_digits", false, where, &individual, e) < 0)
        return -1;
    const char *behavior = individual ? "Isolated" : "Contiguous";
    return add_split(t, "\\p{N}", false, behavior, false, false, where, e);
}

static int parse_sequence(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "pretokenizers", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return stage_parse_list(pre_tokenizer_table, t, j, "pretokenizers", where, e);
}

const struct stage_kind pre_tokenizer_table[] = {
    {"ByteLevel", parse_byte_level},
    {"Split", parse_split},
    {"Digits", parse_digits},
    {"Sequence", parse_sequence},
    {NULL, NULL},
};

void encode_step(struct encoder *x, int k, const char *s, size_t n) {
    if (k < x->t->npre)
        x->t->pre[k].run(x, &x->t->pre[k], k, s, n);
    else
        x->t->model->encode(x, s, n);
}

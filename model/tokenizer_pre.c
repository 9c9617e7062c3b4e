/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_pre.c — the pre-tokenizer stage: text to the pieces that the model sees.
 *
 * Most kinds find matches, by an expression or by a class of characters, and have a behavior: what
 * becomes of the matches and of the gaps between them. Others change the piece. Kinds that do both
 * become two steps. Steps run depth first, each piece of step k at once through step k + 1, so no
 * list of all pieces of a text is held; a behavior holds back one segment at most.
 *
 * ByteLevel turns bytes into letters. As the last step it does not: the model's tables are asked
 * with bytes (t->byte_level). Only a step behind it makes the letters be written.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_scan.h"

/* ---- behaviors ---- */
struct splitter {
    struct encoder *x;
    int k;                                  /* the step */
    const char *s;
    bool first;                             /* s is the beginning of the text */
    struct segment held;
    bool holding, last;                     /* last: the segment before was a match */
};
struct split_behavior {
    const char *name;
    void (*feed)(struct splitter *p, struct segment g);
};

static void emit(struct splitter *p, struct segment g) {
    if (g.b > g.a && !p->x->failed)
        encode_step(p->x, p->k + 1, p->s + g.a, g.b - g.a, p->first && g.a == 0);
}

static void hold(struct splitter *p, struct segment g) {
    if (p->holding)
        emit(p, p->held);
    p->held = g;
    p->holding = true;
}

static void feed_isolated(struct splitter *p, struct segment g) {
    emit(p, g);
}

static void feed_removed(struct splitter *p, struct segment g) {
    if (!g.match)
        emit(p, g);
}

/* A match joins the segment before it, unless that is a match that has just joined. */
static void feed_previous(struct splitter *p, struct segment g) {
    if (g.match && !p->last && p->holding)
        p->held.b = g.b;
    else
        hold(p, g);
    p->last = g.match;
}

/* A match joins the gap behind it. */
static void feed_next(struct splitter *p, struct segment g) {
    if (!g.match && p->holding && p->last) {
        g.a = p->held.a;
        p->holding = false;
    }
    hold(p, g);
    p->last = g.match;
}

static void feed_contiguous(struct splitter *p, struct segment g) {
    if (p->holding && g.match == p->last)
        p->held.b = g.b;
    else
        hold(p, g);
    p->last = g.match;
}

static const struct split_behavior behavior_table[] = {
    {"Isolated", feed_isolated},
    {"Removed", feed_removed},
    {"MergedWithPrevious", feed_previous},
    {"MergedWithNext", feed_next},
    {"Contiguous", feed_contiguous},
};

/* NULL and *e: no such behavior. */
static const struct split_behavior *find_behavior(const char *name, const char *where,
                                                  struct err *e) {
    const char *names[ARRAY_LEN(behavior_table)];
    for (size_t i = 0; i < ARRAY_LEN(behavior_table); i++) {
        names[i] = behavior_table[i].name;
        if (name && strcmp(names[i], name) == 0)
            return &behavior_table[i];
    }
    const char *near = name ? nearest_name(name, names, ARRAY_LEN(names)) : NULL;
    err_set(e, "%s.behavior: expected Isolated, Removed, MergedWithPrevious, MergedWithNext or "
            "Contiguous, got \"%.40s\"%s%s%s", where, name ? name : "", near ? " (hint: " : "",
            near ? near : "", near ? "?)" : "");
    return NULL;
}

/* ---- running ---- */

/* The next segment where every character of a class is a match. */
static bool class_next(bool (*is)(int32_t c), const char *s, size_t n, struct matching *m,
                       struct segment *g) {
    size_t a = m->end, k = 0;
    int32_t c;
    if (m->waiting) {
        m->waiting = false;
        *g = m->next;
        return true;
    }
    while (a < n) {
        k = utf8_next(s + a, &c);
        if (is(c))
            break;
        a += k;
    }
    if (a == n && m->end == n)
        return false;
    struct segment gap = {m->end, a, false}, match = {a, a < n ? a + k : n, true};
    m->end = match.b;
    m->waiting = gap.b > gap.a && a < n;
    m->next = match;
    *g = gap.b > gap.a ? gap : match;
    return true;
}

/* A scanner's pieces are matches without gaps. */
static void run_scan(struct encoder *x, const struct scan *scan, int k, const char *s, size_t n,
                     bool first) {
    for (size_t at = 0, len; at < n && !x->failed; at += len) {
        len = scan_next(scan, s, n, at);
        encode_step(x, k + 1, s + at, len, first && at == 0);
    }
}

static void run_split(struct encoder *x, const struct pre_step *st, int k, const char *s,
                      size_t n, bool first) {
    const bool whole = st->behavior->feed == feed_isolated ||
                       (st->invert && st->behavior->feed == feed_removed);
    if (st->re && st->re->scan && whole) {
        run_scan(x, st->re->scan, k, s, n, first);
        return;
    }
    struct splitter p = {.x = x, .k = k, .s = s, .first = first};
    struct matching m = {0};
    struct segment g;
    while (st->re ? regex_next(st->re, x, s, n, &m, &g) : class_next(st->is, s, n, &m, &g)) {
        g.match ^= st->invert;
        st->behavior->feed(&p, g);
    }
    if (p.holding)
        emit(&p, p.held);
}

static void run_prefix(struct encoder *x, const struct pre_step *st, int k, const char *s,
                       size_t n, bool first) {
    (void)st;
    struct str *out = &x->piece[k];
    if (*s == ' ' || (first && x->flags & ENCODE_CONTINUES)) {
        encode_step(x, k + 1, s, n, first);
        return;
    }
    out->len = 0;
    str_addc(out, ' ');
    str_addn(out, s, n);
    encode_step(x, k + 1, out->s, out->len, first);
}

static void run_letters(struct encoder *x, const struct pre_step *st, int k, const char *s,
                        size_t n, bool first) {
    (void)st;
    struct str *out = &x->piece[k];
    out->len = 0;
    byte_letters(s, n, out);
    encode_step(x, k + 1, out->s, out->len, first);
}

/* Blanks become marks, and the piece gets one at its beginning. */
static void run_metaspace(struct encoder *x, const struct pre_step *st, int k, const char *s,
                          size_t n, bool first) {
    struct str *out = &x->piece[k];
    const size_t mark = strlen(st->mark);
    const bool starts = *s == ' ' || (n >= mark && memcmp(s, st->mark, mark) == 0);
    const bool wanted = st->prepend == PREPEND_ALWAYS || (st->prepend == PREPEND_FIRST && first);
    out->len = 0;
    if (wanted && !starts && !(first && x->flags & ENCODE_CONTINUES))
        str_addn(out, st->mark, mark);
    for (size_t at = 0; at < n;) {
        const char *blank = memchr(s + at, ' ', n - at);
        size_t end = blank ? (size_t)(blank - s) : n;
        str_addn(out, s + at, end - at);
        if (blank)
            str_addn(out, st->mark, mark);
        at = end + 1;
    }
    encode_step(x, k + 1, out->s, out->len, first);
}

/* Runs of \w, and runs of what is neither \w nor blank. */
static void run_whitespace(struct encoder *x, const struct pre_step *st, int k, const char *s,
                           size_t n, bool first) {
    (void)st;
    size_t a = 0, b, len;
    int32_t c;
    for (; a < n && !x->failed; a = b) {
        b = a + utf8_next(s + a, &c);
        if (char_is_space(c))
            continue;
        const bool word = char_is_word(c);
        for (; b < n; b += len) {
            len = utf8_next(s + b, &c);
            if (char_is_space(c) || char_is_word(c) != word)
                break;
        }
        encode_step(x, k + 1, s + a, b - a, first && a == 0);
    }
}

void encode_step(struct encoder *x, int k, const char *s, size_t n, bool first) {
    if (k < x->t->npre)
        x->t->pre[k].run(x, &x->t->pre[k], k, s, n, first);
    else
        encode_words(x, s, n);
}

/* ---- reading ---- */
static void write_letters(struct tokenizer *t) {
    t->pre = xreallocarray(t->pre, (size_t)t->npre + 2, sizeof *t->pre);
    if (t->byte_level)
        t->pre[t->npre++] = (struct pre_step){.run = run_letters};
    t->byte_level = false;
}

static int add_step(struct tokenizer *t, struct pre_step st) {
    write_letters(t);
    t->pre[t->npre++] = st;
    return 0;
}

static int add_class(struct tokenizer *t, bool (*is)(int32_t c), const char *behavior,
                     const char *pattern, const char *where, struct err *e) {
    struct pre_step st = {.run = run_split, .is = is, .pattern = pattern,
                          .behavior = find_behavior(behavior, where, e)};
    return st.behavior ? add_step(t, st) : -1;
}

static int add_regex(struct tokenizer *t, struct regex *re, const char *behavior, bool invert,
                     bool shown, const char *where, struct err *e) {
    if (!re)
        return -1;
    struct pre_step st = {.run = run_split, .re = re, .invert = invert,
                          .pattern = shown ? re->pattern : NULL,
                          .behavior = find_behavior(behavior, where, e)};
    if (!st.behavior) {
        regex_free(re);
        return -1;
    }
    return add_step(t, st);
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
        json_bool(j, "use_regex", true, where, &use_regex, e) < 0)
        return -1;
    write_letters(t);                       // a second ByteLevel makes letters of letters
    if (prefix)
        add_step(t, (struct pre_step){.run = run_prefix});
    if (use_regex && add_regex(t, regex_new(GPT2_PATTERN, false, where, e), "Isolated", false, true,
                               where, e) < 0)
        return -1;
    t->byte_level = t->letters = true;
    return 0;
}

static int parse_split(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
    const char *behavior;
    bool invert;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "invert", false, where, &invert, e) < 0 ||
        json_text(j, "behavior", where, &behavior, e) < 0)
        return -1;
    return add_regex(t, json_pattern(j, where, e), behavior, invert, true, where, e);
}

static int parse_digits(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "individual_digits", NULL};
    bool individual;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_bool(j, "individual_digits", false, where, &individual, e) < 0)
        return -1;
    return add_class(t, char_is_number, individual ? "Isolated" : "Contiguous",
                     individual ? "\\p{N}" : "\\p{N}+", where, e);
}

static int parse_punctuation(struct tokenizer *t, const json_t *j, const char *where,
                             struct err *e) {
    static const char *const keys[] = {"type", "behavior", NULL};
    const char *behavior;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_text(j, "behavior", where, &behavior, e) < 0)
        return -1;
    return add_class(t, char_is_punctuation, behavior ? behavior : "Isolated", NULL, where, e);
}

static int parse_whitespace_split(struct tokenizer *t, const json_t *j, const char *where,
                                  struct err *e) {
    static const char *const keys[] = {"type", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return add_class(t, char_is_space, "Removed", NULL, where, e);
}

static int parse_bert(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    if (parse_whitespace_split(t, j, where, e) < 0)
        return -1;
    return add_class(t, char_is_punctuation, "Isolated", NULL, where, e);
}

static int parse_whitespace(struct tokenizer *t, const json_t *j, const char *where,
                            struct err *e) {
    static const char *const keys[] = {"type", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return add_step(t, (struct pre_step){.run = run_whitespace});
}

static int parse_delimiter(struct tokenizer *t, const json_t *j, const char *where,
                           struct err *e) {
    static const char *const keys[] = {"type", "delimiter", NULL};
    const char *text;
    if (json_only_keys(j, where, keys, e) < 0 || json_char(j, "delimiter", where, &text, e) < 0)
        return -1;
    return add_regex(t, regex_new(text, true, where, e), "Removed", false, true, where, e);
}

int metaspace_scheme(const json_t *j, const char *where, int *scheme, struct err *e) {
    static const char *const names[] = {[PREPEND_NEVER] = "never", [PREPEND_FIRST] = "first",
                                        [PREPEND_ALWAYS] = "always"};
    const char *name;
    bool prefix;
    *scheme = PREPEND_ALWAYS;
    if (json_text(j, "prepend_scheme", where, &name, e) < 0 ||
        json_bool(j, "add_prefix_space", true, where, &prefix, e) < 0)
        return -1;
    for (*scheme = PREPEND_ALWAYS; name && *scheme >= 0 && strcmp(names[*scheme], name) != 0;)
        --*scheme;
    if (*scheme < 0)
        return err_set(e, "%s.prepend_scheme: expected always, first or never, got \"%.40s\"",
                       where, name);
    if (!prefix && name && *scheme != PREPEND_NEVER)
        return err_set(e, "%s.add_prefix_space: false does not go with prepend_scheme \"%s\"",
                       where, name);
    if (!prefix)                            // the older key
        *scheme = PREPEND_NEVER;
    return 0;
}

static int parse_metaspace(struct tokenizer *t, const json_t *j, const char *where,
                           struct err *e) {
    static const char *const keys[] = {"type", "replacement", "prepend_scheme", "split",
                                       "add_prefix_space", "str_rep", NULL};
    struct pre_step st = {.run = run_metaspace};
    const char *mark;
    bool split;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_char(j, "replacement", where, &mark, e) < 0 ||
        metaspace_scheme(j, where, &st.prepend, e) < 0 ||
        json_bool(j, "split", true, where, &split, e) < 0)
        return -1;
    memcpy(st.mark, mark, strlen(mark) + 1);
    add_step(t, st);
    if (!split)
        return 0;
    return add_regex(t, regex_new(mark, true, where, e), "MergedWithNext", false, false, where, e);
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
    {"Metaspace", parse_metaspace},
    {"Punctuation", parse_punctuation},
    {"Whitespace", parse_whitespace},
    {"WhitespaceSplit", parse_whitespace_split},
    {"BertPreTokenizer", parse_bert},
    {"CharDelimiterSplit", parse_delimiter},
    {"Sequence", parse_sequence},
    {NULL, NULL},
};

const char *tokenizer_split_pattern(const struct tokenizer *t, int i) {
    for (int k = 0; k < t->npre; k++)
        if (t->pre[k].pattern && i-- == 0)
            return t->pre[k].pattern;
    return NULL;
}

bool tokenizer_prefix_space(const struct tokenizer *t) {
    for (int k = 0; k < t->npre; k++)
        if (t->pre[k].run == run_prefix || t->pre[k].prepend != PREPEND_NEVER)
            return true;
    return norm_prepends(t);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_ruby.c — an expression in Oniguruma's Ruby syntax, rewritten for PCRE2.
 *
 * The expressions of tokenizer.json are run by Oniguruma. Most of its language is PCRE2's; this
 * rewrites what is written alike and means something else, and refuses by name what has no equal:
 *   \s \w \d \h \b and [[:space:]]   Oniguruma's sets: U+180E is no blank, \h is a hex digit, \w
 *                                    takes all that is alphabetic, and marks
 *   [a[bc]]  [a-z&&[^aeiou]]         classes that nest and intersect
 *   (?m)                             the dot takes newlines: (?s) there
 *   {,n}                             is {0,n}
 *   \v \Q \E                         a vertical tab, the letters Q and E
 * ^ and $ match at every line (MULTILINE). A class becomes one item that takes one character: a
 * PCRE2 class where it can, else a group of alternatives with look-aheads.
 *
 * Not imitated: without case, a character that folds to two ("ß" and "ss").
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

#define SPACE "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}" \
    "\\x{205F}\\x{3000}"
#define NO_SPACE "\\x{0}-\\x{8}\\x{E}-\\x{1F}!-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}" \
    "\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}" \
    "\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"
#define LETTERED "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* Oniguruma's table for the first 256 characters has these as well, outside of classes only */
#define WORD LETTERED "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define ANY "[\\x{0}-\\x{10FFFF}]"
#define DEPTH 50                            /* of classes */
#define PARENS 200

struct ruby {
    const char *p;                          /* what is left to read */
    const char *pattern, *where;
    struct err *e;
    int depth;
};

static int refuse(const struct ruby *r, const char *what) {
    return err_set(r->e, "%s: \"%.200s\": %s is not supported (at offset %zu)", r->where,
                   r->pattern, what, (size_t)(r->p - r->pattern));
}

/* ---- sets with a name: what stands for them within a class ---- */
struct named {
    const char *name, *items, *others;      /* others: the complement; NULL: none as items */
};

static const struct named escapes[] = {
    {"s", SPACE, NO_SPACE},
    {"w", LETTERED, NULL},
    {"d", "\\p{Nd}", "\\P{Nd}"},
    {"h", "0-9A-Fa-f", "\\x{0}-/:-@G-`g-\\x{10FFFF}"},
};
static const struct named brackets[] = {
    {"space", SPACE, NO_SPACE},
    {"word", LETTERED, NULL},
    {"alpha", "\\p{Alphabetic}", "\\P{Alphabetic}"},
    {"digit", "\\p{Nd}", "\\P{Nd}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}", NULL},
    {"upper", "\\p{Uppercase}", "\\P{Uppercase}"},
    {"lower", "\\p{Lowercase}", "\\P{Lowercase}"},
    {"punct", "\\p{P}\\p{S}", NULL},
    {"cntrl", "\\p{Cc}", "\\P{Cc}"},
    {"blank", "\\p{Zs}\\t", NULL},
    {"xdigit", "0-9A-Fa-f", "\\x{0}-/:-@G-`g-\\x{10FFFF}"},
};
/* Properties whose name is another thing, or nothing, in PCRE2. */
static const struct named properties[] = {
    {"space", SPACE, NO_SPACE},
    {"whitespace", SPACE, NO_SPACE},
    {"word", LETTERED, NULL},
    {"alpha", "\\p{Alphabetic}", "\\P{Alphabetic}"},
    {"digit", "\\p{Nd}", "\\P{Nd}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}", NULL},
    {"upper", "\\p{Uppercase}", "\\P{Uppercase}"},
    {"lower", "\\p{Lowercase}", "\\P{Lowercase}"},
    {"punct", "\\p{P}", "\\P{P}"},
    {"cntrl", "\\p{Cc}", "\\P{Cc}"},
    {"blank", "\\p{Zs}\\t", NULL},
    {"xdigit", "0-9A-Fa-f", "\\x{0}-/:-@G-`g-\\x{10FFFF}"},
    {"any", "\\x{0}-\\x{10FFFF}", NULL},
    {"ascii", "\\x{0}-\\x{7F}", "\\x{80}-\\x{10FFFF}"},
    {"letter", "\\p{L}", "\\P{L}"},
    {"uppercaseletter", "\\p{Lu}", "\\P{Lu}"},
    {"lowercaseletter", "\\p{Ll}", "\\P{Ll}"},
    {"titlecaseletter", "\\p{Lt}", "\\P{Lt}"},
    {"modifierletter", "\\p{Lm}", "\\P{Lm}"},
    {"otherletter", "\\p{Lo}", "\\P{Lo}"},
    {"mark", "\\p{M}", "\\P{M}"},
    {"nonspacingmark", "\\p{Mn}", "\\P{Mn}"},
    {"number", "\\p{N}", "\\P{N}"},
    {"decimalnumber", "\\p{Nd}", "\\P{Nd}"},
    {"punctuation", "\\p{P}", "\\P{P}"},
    {"symbol", "\\p{S}", "\\P{S}"},
    {"separator", "\\p{Z}", "\\P{Z}"},
    {"other", "\\p{C}", "\\P{C}"},
};

static const struct named *find_named(const struct named *v, size_t n, const char *name,
                                      size_t len) {
    for (size_t i = 0; i < n; i++)
        if (strlen(v[i].name) == len && memcmp(v[i].name, name, len) == 0)
            return &v[i];
    return NULL;
}

/* A class being read: items for one PCRE2 class, and whole alternatives beside it. */
struct set {
    struct str items, others;               /* others: "|[^...]|(?:...)" */
};

static void set_release(struct set *s) {
    str_release(&s->items);
    str_release(&s->others);
}

static void add_named(struct set *s, const struct named *k, bool negated) {
    if (!negated)
        str_add(&s->items, k->items);
    else if (k->others)
        str_add(&s->items, k->others);
    else
        str_addf(&s->others, "|[^%s]", k->items);
}

static bool compiles(const char *pattern) {
    int code;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    pcre2_code_free(re);
    return re != NULL;
}

/* At the letter of \p{...} or \P{...}. Names are compared without case, blanks, _ and -. */
static int read_property(struct ruby *r, struct set *s) {
    bool negated = *r->p++ == 'P';
    char name[64], text[96];
    size_t n = 0;
    if (*r->p != '{')
        return refuse(r, "\\p without a name in braces");
    if (*++r->p == '^') {
        negated = !negated;
        r->p++;
    }
    for (; *r->p && *r->p != '}'; r->p++) {
        char c = *r->p >= 'A' && *r->p <= 'Z' ? (char)(*r->p + 32) : *r->p;
        if (c == ' ' || c == '_' || c == '-')
            continue;
        if (n + 1 == sizeof name || !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            return refuse(r, "this property");
        name[n++] = c;
    }
    name[n] = '\0';
    if (*r->p != '}')
        return refuse(r, "a property without its brace");
    r->p++;
    const struct named *k = find_named(properties, ARRAY_LEN(properties), name, n);
    if (k) {
        add_named(s, k, negated);
        return 0;
    }
    // categories by one or two letters; scripts; binary properties
    static const char *const forms[] = {"\\p{%s}", "\\p{sc:%s}", "\\p{%s}"};
    for (size_t i = n <= 2 ? 0 : 1; i < (n <= 2 ? 1 : ARRAY_LEN(forms)); i++) {
        if (n <= 2 && name[0] >= 'a')
            name[0] = (char)(name[0] - 32);
        snprintf(text, sizeof text, forms[i], name);
        if (compiles(text)) {
            text[1] = negated ? 'P' : 'p';
            str_add(&s->items, text);
            return 0;
        }
    }
    return refuse(r, "this property");
}

/* ---- escapes ---- */
static int hex_value(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
        : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Up to `most` hex digits at r->p. */
static int32_t read_hex(struct ruby *r, int most) {
    int32_t v = 0;
    for (; most > 0 && hex_value(*r->p) >= 0; most--)
        v = v * 16 + hex_value(*r->p++);
    return v;
}

/* Behind a backslash: the one character that is meant, or -1 and r->p as it was: a set, an
 * assertion, or -2 and *e. */
static int32_t read_character(struct ruby *r, bool in_class) {
    static const char names[] = "tnrfaev", values[] = "\t\n\r\f\a\033\v";
    const char c = *r->p, *known = c ? strchr(names, c) : NULL;
    int32_t v;
    if (!c)
        return refuse(r, "a backslash at the end") - 1;
    if (known)
        return (void)r->p++, values[known - names];
    if (c == 'b' && in_class)
        return (void)r->p++, '\b';
    if (c == 'x' || c == 'u') {
        const char *start = ++r->p;
        bool braces = c == 'x' && *r->p == '{';
        r->p += braces;
        v = read_hex(r, braces ? 6 : c == 'u' ? 4 : 2);
        if ((c == 'u' && r->p - start != 4) || r->p == start + braces || (braces && *r->p != '}') ||
            v > 0x10FFFF || (v >= 0xD800 && v < 0xE000))
            return refuse(r, "this \\x or \\u") - 1;
        r->p += braces;
        // \xE4\xB8\xAD would be the bytes of one character
        return c == 'x' && !braces && v > 0x7F ? refuse(r, "\\x above 7F without braces") - 1 : v;
    }
    if (c == '0') {
        for (v = 0; *r->p >= '0' && *r->p <= '7' && v < 32;)
            v = v * 8 + *r->p++ - '0';
        return v;
    }
    if (c == 'Q' || c == 'E')
        return (void)r->p++, c;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9'))
        return -1;
    r->p += utf8_next(r->p, &v);
    return v;
}

/* At the letter of a set's escape: 1 and it is in s; 0: it is another letter; -1 and *e. */
static int read_set(struct ruby *r, struct set *s) {
    const char c = *r->p, small = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    if (small == 'p')
        return read_property(r, s) < 0 ? -1 : 1;
    const struct named *k = find_named(escapes, ARRAY_LEN(escapes), &small, 1);
    if (!k)
        return 0;
    r->p++;
    add_named(s, k, c != small);
    return 1;
}

/* ---- classes ---- */
static int read_class(struct ruby *r, struct set *into);

/* At "[:": 1 and the set is in s; 0: no POSIX bracket; -1 and *e. */
static int read_bracket(struct ruby *r, struct set *s) {
    const char *name = r->p + 2;
    bool negated = *name == '^';
    name += negated;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz");
    if (name[n] != ':' || name[n + 1] != ']')
        return 0;
    const struct named *k = find_named(brackets, ARRAY_LEN(brackets), name, n);
    if (!k)
        return refuse(r, "this POSIX class");
    add_named(s, k, negated);
    r->p = name + n + 2;
    return 1;
}

/* One literal character of a class. -1: it is something else; -2 and *e. */
static int32_t class_character(struct ruby *r) {
    int32_t c;
    if (*r->p == '[' || (r->p[0] == '&' && r->p[1] == '&'))
        return -1;
    if (*r->p == '\\') {
        r->p++;
        c = read_character(r, true);
        r->p -= c == -1;                    // back at the backslash
        return c;
    }
    r->p += utf8_next(r->p, &c);
    return c;
}

/* A character or a range, into s. 0: neither is here; -1 and *e. */
static int read_range(struct ruby *r, struct set *s) {
    int32_t a = class_character(r), b;
    if (a < 0)
        return a + 1;                       // -1: 0, -2: -1
    str_addf(&s->items, "\\x{%X}", (unsigned)a);
    if (r->p[0] != '-' || r->p[1] == ']' || !r->p[1])
        return 1;
    const char *dash = r->p++;
    b = class_character(r);
    if (b == -2)
        return -1;
    if (b < 0) {                            // a set behind it: the dash is itself
        r->p = dash;
        return 1;
    }
    if (b < a)
        return refuse(r, "a range from high to low");
    str_addf(&s->items, "-\\x{%X}", (unsigned)b);
    return 1;
}

/* What stands between [ or && and the next && or ]. */
static int read_union(struct ruby *r, struct set *s) {
    bool start = true;
    while (*r->p && (*r->p != ']' || start) && !(r->p[0] == '&' && r->p[1] == '&')) {
        int rc = start && *r->p == ']' ? refuse(r, "] at the start of a class")
            : r->p[0] == '[' && r->p[1] == ':' ? read_bracket(r, s) : 0;
        if (rc == 0)
            rc = *r->p == '[' ? (r->p++, read_class(r, s) < 0 ? -1 : 1) : read_range(r, s);
        if (rc == 0) {                      // at a backslash
            r->p++;
            rc = read_set(r, s);
            if (rc == 0)
                rc = refuse(r, "this escape in a class");
        }
        if (rc < 0)
            return -1;
        start = false;
    }
    return *r->p ? 0 : refuse(r, "a class without its end");
}

/* The set as something that takes one character of it. */
static void add_set(const struct set *s, bool negated, struct str *out) {
    const char *items = s->items.len ? s->items.s : NULL;
    const char *others = s->others.len ? s->others.s : NULL;
    if (!items && !others)
        str_add(out, negated ? ANY : "[^\\x{0}-\\x{10FFFF}]");
    else if (!others)
        str_addf(out, "[%s%s]", negated ? "^" : "", items);
    else if (!negated && items)
        str_addf(out, "(?:[%s]%s)", items, others);
    else if (!negated && !strpbrk(others + 1, "|("))
        str_add(out, others + 1);           // one class
    else if (!negated)
        str_addf(out, "(?:%s)", others + 1);
    else
        str_addf(out, "(?:(?!%s%s%s%s)" ANY ")", items ? "[" : "", items ? items : "",
                 items ? "]" : "", items ? others : others + 1);
}

/* Behind [: all of the class, into `into`. */
static int read_class(struct ruby *r, struct set *into) {
    struct set first = {0}, next = {0};
    struct str both = {0};
    int rc = -1;
    bool negated = *r->p == '^';
    r->p += negated;
    if (++r->depth > DEPTH) {
        refuse(r, "nesting as deep as this");
        goto out;
    }
    if (read_union(r, &first) < 0)
        goto out;
    while (*r->p == '&') {                  // a && b: what is in a, taken from b
        r->p += 2;
        next = (struct set){0};
        if (read_union(r, &next) < 0)
            goto out;
        str_add(&both, "|(?:(?=");
        add_set(&first, false, &both);
        str_addc(&both, ')');
        add_set(&next, false, &both);
        str_addc(&both, ')');
        set_release(&first);
        set_release(&next);
        first.others = both;
        both = (struct str){0};
    }
    r->p++;
    r->depth--;
    if (negated) {
        str_addc(&into->others, '|');
        add_set(&first, true, &into->others);
    } else {
        str_addn(&into->items, first.items.s, first.items.len);
        str_addn(&into->others, first.others.s, first.others.len);
    }
    rc = 0;
out:
    set_release(&first);
    set_release(&next);
    str_release(&both);
    return rc;
}

/* ---- outside of classes ---- */
struct output {
    struct str s;
    size_t atom;                            /* where what a quantifier would repeat begins */
    size_t open[PARENS];                    /* where the groups that are open begin */
    int depth;
};

static int top_class(struct ruby *r, struct output *o) {
    struct set s = {0};
    r->p++;
    o->atom = o->s.len;
    int rc = read_class(r, &s);
    if (rc == 0)
        add_set(&s, false, &o->s);
    set_release(&s);
    return rc;
}

static int top_escape(struct ruby *r, struct output *o) {
    static const char word[] = "[" WORD "]";
    r->p++;
    const char c = *r->p;
    int32_t v = read_character(r, false);
    o->atom = o->s.len;
    if (v == -2)
        return -1;
    if (v >= 0) {
        str_addf(&o->s, "\\x{%X}", (unsigned)v);
        return 0;
    }
    struct set s = {0};
    int rc = c == 'w' || c == 'W' ? 0 : read_set(r, &s);
    if (rc > 0)
        add_set(&s, false, &o->s);
    set_release(&s);
    if (rc)
        return rc < 0 ? -1 : 0;
    if (c == 'w')
        str_add(&o->s, word);
    else if (c == 'W')
        str_add(&o->s, "[^" WORD "]");
    else if (c == 'b')
        str_addf(&o->s, "(?:(?<=%s)(?!%s)|(?<!%s)(?=%s))", word, word, word, word);
    else if (c == 'B')
        str_addf(&o->s, "(?:(?<=%s)(?=%s)|(?<!%s)(?!%s))", word, word, word, word);
    else if (strchr("AzZKRXk", c) || (c >= '1' && c <= '9'))
        str_addf(&o->s, "\\%c", c);
    else
        return refuse(r, "this escape");
    r->p++;
    return 0;
}

/* Options for the rest of a group that has alternatives reach further in PCRE2 than in Ruby unless
 * they stand at its start. */
static bool at_group_start(const struct str *out) {
    return !out->len || out->s[out->len - 1] == '(' ||
           (out->len >= 3 && memcmp(out->s + out->len - 3, "(?:", 3) == 0);
}

/* (?i) (?im-i:  of i and m, which is s in PCRE2. */
static int group_options(struct ruby *r, struct output *o) {
    size_t n = strspn(r->p + 2, "im-");
    char end = r->p[2 + n];
    if (!n || (end != ')' && end != ':'))
        return refuse(r, "this kind of group");
    if (end == ')' && !at_group_start(&o->s))
        return refuse(r, "an option behind the start of its group");
    str_add(&o->s, "(?");
    for (size_t i = 0; i < n; i++)
        str_addc(&o->s, r->p[2 + i] == 'm' ? 's' : r->p[2 + i]);
    str_addc(&o->s, end);
    r->p += n + 3;
    o->depth -= end == ')';
    return 0;
}

static int top_group(struct ruby *r, struct output *o) {
    static const char *const same[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    if (r->p[1] == '*')
        return refuse(r, "(*");
    if (strncmp(r->p, "(?#", 3) == 0) {
        const char *end = strchr(r->p, ')');
        r->p = end ? end + 1 : r->p;
        return end ? 0 : refuse(r, "a comment without its end");
    }
    if (o->depth == PARENS)
        return refuse(r, "nesting as deep as this");
    o->open[o->depth++] = o->s.len;
    if (r->p[1] != '?')
        return str_addc(&o->s, *r->p++), 0;
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        if (strncmp(r->p, same[i], strlen(same[i])) == 0) {
            str_add(&o->s, same[i]);
            r->p += strlen(same[i]);
            return 0;
        }
    if (r->p[2] == '<' && ((r->p[3] >= 'a' && r->p[3] <= 'z') || r->p[3] == '_' ||
                           (r->p[3] >= 'A' && r->p[3] <= 'Z'))) {
        str_add(&o->s, "(?<");
        r->p += 3;
        return 0;
    }
    return group_options(r, o);
}

static int top_group_end(struct ruby *r, struct output *o) {
    if (!o->depth)
        return refuse(r, ") without its (");
    o->atom = o->open[--o->depth];
    str_addc(&o->s, *r->p++);
    return 0;
}

/* {n} {n,} {,m} {n,m} are quantifiers; other braces are themselves. A + behind one repeats all of
 * it, and so does a ? behind {n}: it becomes a group. */
static int top_brace(struct ruby *r, struct output *o) {
    const char *p = r->p + 1;
    size_t low = strspn(p, "0123456789"), comma = p[low] == ',';
    size_t high = comma ? strspn(p + low + 1, "0123456789") : 0, n = low + comma + high;
    if (p[n] != '}' || low + high == 0) {
        o->atom = o->s.len;
        str_add(&o->s, "\\{");
        r->p++;
        return 0;
    }
    bool group = p[n + 1] == '+' || (p[n + 1] == '?' && !comma);
    if (group) {
        struct str tail = {0};
        str_addn(&tail, o->s.s + o->atom, o->s.len - o->atom);
        o->s.len = o->atom;
        str_addf(&o->s, "(?:%s", tail.s);
        str_release(&tail);
    }
    str_addf(&o->s, "{%s%.*s}%s", low ? "" : "0", (int)n, p, group ? ")" : "");
    r->p = p + n + 1;
    return 0;
}

static int top_text(struct ruby *r, struct output *o) {
    int32_t c;
    size_t k = utf8_next(r->p, &c);
    if (!strchr("*+?|^$", c < 0x80 ? c : 'x'))
        o->atom = o->s.len;
    str_addn(&o->s, r->p, k);
    r->p += k;
    return 0;
}

char *regex_translate(const char *pattern, const char *where, struct err *e) {
    static const struct {
        char c;
        int (*read)(struct ruby *r, struct output *o);
    } table[] = {{'\\', top_escape}, {'[', top_class},  {'(', top_group}, {')', top_group_end},
                 {'{', top_brace},    {'\0', top_text}};
    struct ruby r = {.p = pattern, .pattern = pattern, .where = where, .e = e};
    struct output *o = xcalloc(1, sizeof *o);
    int rc = 0;
    bool valid;
    if (utf8_stretch(pattern, strlen(pattern), &valid) < strlen(pattern) || (*pattern && !valid))
        rc = refuse(&r, "text that is not UTF-8");
    while (rc == 0 && *r.p) {
        size_t i = 0;
        while (table[i].c && table[i].c != *r.p)
            i++;
        rc = table[i].read(&r, o);
    }
    char *text = rc == 0 ? str_detach(&o->s) : NULL;
    str_release(&o->s);
    free(o);
    return text;
}

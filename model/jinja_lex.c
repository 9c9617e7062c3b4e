/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_lex.c — template text to lexemes, with Jinja2's rules for blanks and line ends.
 *
 * Outside of tags everything is data. A tag takes blanks away around it: "-" all of them on its
 * side; a block or comment without "+" also its own indentation, when nothing but blanks stands
 * before it on the line (lstrip_blocks), and the line end right behind it (trim_blocks). Line ends
 * become "\n" first and one at the end of the template goes. Inside a tag its end counts only
 * where no bracket is open.
 */
#define _GNU_SOURCE                         /* memmem, memrchr */
#include "model/jinja_compile.h"

#include <stdlib.h>
#include <string.h>

#include "model/jinja_text.h"

enum { TEMPLATE_MAX = 1 << 20, BRACKETS_MAX = 256 };

struct lexer {
    struct compiler *c;
    const char *p, *end;
    const char *mark;                       /* line and column are those of this place */
    int line, column;
    size_t cap;
    bool line_starting;                     /* the last match ended a line */
};

static void move_mark(struct lexer *l, const char *to) {
    for (; l->mark < to; l->mark++) {
        if (*l->mark == '\n') {
            l->line++;
            l->column = 1;
        } else {
            l->column += ((uint8_t)*l->mark & 0xC0) != 0x80;
        }
    }
}

static bool fail_at(struct lexer *l, const char *at, const char *what) {
    move_mark(l, at);
    return compile_fail(l->c, l->line, l->column, "%s", what);
}

static struct lexeme *add(struct lexer *l, enum lexeme_kind kind, const char *at) {
    struct compiler *c = l->c;
    if (c->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        c->lex = pool_grow(c->scratch, c->lex, l->cap * sizeof *c->lex, cap * sizeof *c->lex);
        l->cap = cap;
    }
    move_mark(l, at);
    struct lexeme *x = &c->lex[c->n++];
    *x = (struct lexeme){.kind = kind, .line = l->line, .column = l->column, .s = ""};
    return x;
}

static void add_text(struct lexer *l, enum lexeme_kind kind, const char *at, const char *s,
                     size_t n) {
    struct lexeme *x = add(l, kind, at);
    x->s = pool_grow(l->c->pool, (void *)s, n, n + 1);
    x->len = n;
}

static const char *skip_blanks(const char *s, const char *end) {
    return s + py_lstrip(s, (size_t)(end - s));
}

static bool starts(const char *s, const char *end, const char *what) {
    size_t n = strlen(what);
    return (size_t)(end - s) >= n && memcmp(s, what, n) == 0;
}

/* ---- data ---- */
/* Data before a tag, less what the tag's sign takes away. */
static void add_data(struct lexer *l, const char *s, size_t n, char sign, bool variable) {
    if (sign == '-') {
        n = py_rstrip(s, n);
    } else if (sign != '+' && !variable) {
        const char *newline = memrchr(s, '\n', n);
        size_t at = newline ? (size_t)(newline - s) + 1 : 0;
        if ((at || l->line_starting) && py_lstrip(s + at, n - at) == n - at)
            n = at;
    }
    if (n)
        add_text(l, LEX_DATA, s, s, n);
}

/* The end of a tag at s: "-" takes blanks behind it, trim one line end. NULL: not one. */
static const char *tag_end(const char *s, const char *end, const char *close, bool plus,
                           bool trim) {
    char sign = s < end && (*s == '-' || (plus && *s == '+')) ? *s : 0;
    if (!starts(s + (sign != 0), end, close))
        return NULL;
    s += (sign != 0) + strlen(close);
    if (sign == '-')
        return skip_blanks(s, end);
    return s + (!sign && trim && s < end && *s == '\n');
}

static bool lex_comment(struct lexer *l, const char *open) {
    for (const char *s = l->p; s < l->end; s++) {
        const char *e = tag_end(s, l->end, "#}", true, true);
        if (e) {
            l->p = e;
            return true;
        }
    }
    return l->p == l->end || fail_at(l, open, "Missing end of comment tag");
}

/* "{%" sign "raw" end, or the same of endraw, at s; *sign. NULL: not one. */
static const char *raw_tag(const char *s, const char *end, const char *word, char *sign) {
    if (!starts(s, end, "{%"))
        return NULL;
    s += 2;
    *sign = s < end && (*s == '-' || *s == '+') ? *s++ : 0;
    s = skip_blanks(s, end);
    if (!starts(s, end, word))
        return NULL;
    bool last = word[0] == 'e';
    return tag_end(skip_blanks(s + strlen(word), end), end, "%}", last, last);
}

static bool lex_raw(struct lexer *l, const char *open) {
    for (const char *s = l->p; s < l->end; s++) {
        char sign;
        const char *e = raw_tag(s, l->end, "endraw", &sign);
        if (e) {
            add_data(l, l->p, (size_t)(s - l->p), sign, false);
            l->p = e;
            return true;
        }
    }
    return l->p == l->end || fail_at(l, open, "Missing end of raw directive");
}

/* ---- strings ---- */
static int hex_digits(const char *s, const char *end, int n, int32_t *out) {
    int32_t v = 0;
    for (int i = 0; i < n; i++) {
        char c = s + i < end ? s[i] : 0;
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0 || v > 0x10FFFF)
            return -1;
        v = v * 16 + d;
    }
    *out = v;
    return n;
}

/* The escape behind a backslash; moves *s behind it. */
static bool unescape(struct lexer *l, const char **s, const char *end, struct str *out) {
    static const char plain[] = "\\'\"abfnrtv", means[] = "\\'\"\a\b\f\n\r\t\v";
    char buf[16];
    int32_t c = utf8_get(s);
    const char *at = c && c < 0x80 ? strchr(plain, c) : NULL;
    if (at) {
        str_addc(out, means[at - plain]);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int n = hex_digits(*s, end, c == 'x' ? 2 : c == 'u' ? 4 : 8, &c);
        if (n < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
            return fail_at(l, *s - 2, "a \\x, \\u or \\U escape that is no character");
        *s += n;
        str_addn(out, buf, utf8_put(c, buf));
    } else if (c >= '0' && c <= '7') {
        c -= '0';
        for (int i = 0; i < 2 && *s < end && **s >= '0' && **s <= '7'; i++)
            c = c * 8 + (*(*s)++ - '0');
        str_addn(out, buf, utf8_put(c, buf));
    } else if (c == 'N') {
        return fail_at(l, *s - 2, "\\N{...} is not supported");
    } else if (c >= 0x80) {
        /* Jinja2 writes other scripts as \xe9 before it unescapes, so the backslash before one
         * becomes half of "\\". */
        str_addf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    } else if (c != '\n') {                 // a line end is dropped, anything else stays as it is
        str_addc(out, '\\');
        str_addc(out, (char)c);
    }
    return true;
}

static bool lex_string(struct lexer *l) {
    const char *open = l->p, *s = open + 1;
    while (s < l->end && *s != *open)
        s += *s == '\\' && s + 1 < l->end ? 2 : 1;
    if (s >= l->end)
        return fail_at(l, open, "a string that does not end");
    struct str out = {0};
    bool ok = true;
    for (const char *p = open + 1; ok && p < s;) {
        if (*p == '\\') {
            p++;
            ok = unescape(l, &p, s, &out);
        } else {
            str_addc(&out, *p++);
        }
    }
    if (ok)
        add_text(l, LEX_STRING, open, out.s ? out.s : "", out.len);
    str_release(&out);
    l->p = s + 1;
    return ok;
}

/* ---- numbers ---- */
/* Bytes of (\d+_)*\d+ at s. */
static size_t digits_at(const char *s, const char *end) {
    size_t n = 0;
    while (s + n < end && ((s[n] >= '0' && s[n] <= '9') ||
                           (s[n] == '_' && n && s[n - 1] != '_' && s + n + 1 < end &&
                            s[n + 1] >= '0' && s[n + 1] <= '9')))
        n++;
    return n;
}

/* Bytes of a float at s; 0: none. */
static size_t float_at(const char *s, const char *end) {
    size_t n = digits_at(s, end), part;
    bool real = false;
    if (!n)
        return 0;
    if (s + n < end && s[n] == '.' && (part = digits_at(s + n + 1, end))) {
        n += 1 + part;
        real = true;
    }
    if (s + n < end && (s[n] == 'e' || s[n] == 'E')) {
        size_t sign = s + n + 1 < end && (s[n + 1] == '+' || s[n + 1] == '-');
        if ((part = digits_at(s + n + 1 + sign, end))) {
            n += 1 + sign + part;
            real = true;
        }
    }
    return real ? n : 0;
}

static bool is_base_digit(char c, int base) {
    int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
    return d < base;
}

/* Bytes of digits of a base, each with "_" before it or not. */
static size_t based_digits(const char *s, const char *end, int base) {
    size_t n = 0;
    for (;;) {
        size_t under = s + n < end && s[n] == '_';
        if (s + n + under >= end || !is_base_digit(s[n + under], base))
            return n;
        n += under + 1;
    }
}

static size_t integer_at(const char *s, const char *end) {
    static const char letters[] = "bBoOxX";
    static const int bases[] = {2, 2, 8, 8, 16, 16};
    const char *letter = s[0] == '0' && s + 1 < end && s[1] ? strchr(letters, s[1]) : NULL;
    size_t n = letter ? based_digits(s + 2, end, bases[letter - letters]) : 0;
    if (n)
        return n + 2;
    return based_digits(s, end, s[0] == '0' ? 1 : 10);
}

static bool lex_number(struct lexer *l) {
    char plain[400];
    const char *s = l->p;
    bool real = true;
    size_t n = s[-1] == '.' ? 0 : float_at(s, l->end), len = 0;
    if (!n) {
        real = false;
        n = integer_at(s, l->end);
    }
    if (n >= sizeof plain)
        return fail_at(l, s, "a number that is too long");
    for (size_t i = 0; i < n; i++)
        if (s[i] != '_')
            plain[len++] = s[i];
    plain[len] = '\0';
    int64_t i;
    bool overflow;
    if (!real && !parse_python_int(plain, len, 0, &i, &overflow))
        return fail_at(l, s, "not a number");
    if (!real && overflow)
        return fail_at(l, s, "an integer beyond 64 bits is not supported");
    struct lexeme *x = add(l, real ? LEX_FLOAT : LEX_INTEGER, s);
    x->value = real ? value_float(l->c->pool, strtod(plain, NULL)) : value_int(l->c->pool, i);
    l->p += n;
    return true;
}

/* ---- names and operators ---- */
static bool lex_name(struct lexer *l) {
    const char *s = l->p, *p = s;
    while (p < l->end) {
        const char *q = p;
        int32_t c = utf8_get(&q);
        if (!py_identifier_part(c) && !py_alnum(c))
            break;
        p = q;
    }
    if (p == s)
        return fail_at(l, s, "unexpected character");
    const char *q = s;
    bool ok = py_identifier_start(utf8_get(&q));
    while (ok && q < p)
        ok = py_identifier_part(utf8_get(&q));
    if (!ok)
        return fail_at(l, s, "Invalid character in identifier");
    add_text(l, LEX_NAME, s, s, (size_t)(p - s));
    l->p = p;
    return true;
}

static const struct {
    const char *text;
    enum lexeme_kind kind;
} operators[] = {                           /* longer ones first */
    {"//", LEX_FLOORDIV}, {"**", LEX_POW}, {"==", LEX_EQ}, {"!=", LEX_NE}, {">=", LEX_GE},
    {"<=", LEX_LE}, {"+", LEX_ADD}, {"-", LEX_SUB}, {"/", LEX_DIV}, {"*", LEX_MUL},
    {"%", LEX_MOD}, {"~", LEX_TILDE}, {"[", LEX_LBRACKET}, {"]", LEX_RBRACKET},
    {"(", LEX_LPAREN}, {")", LEX_RPAREN}, {"{", LEX_LBRACE}, {"}", LEX_RBRACE}, {">", LEX_GT},
    {"<", LEX_LT}, {"=", LEX_ASSIGN}, {".", LEX_DOT}, {":", LEX_COLON}, {"|", LEX_PIPE},
    {",", LEX_COMMA}, {";", LEX_SEMICOLON},
};

const char *lexeme_text(const struct lexeme *l) {
    static const char *const names[] = {
        [LEX_EOF] = "end of template", [LEX_DATA] = "template data",
        [LEX_VARIABLE_BEGIN] = "begin of print statement",
        [LEX_VARIABLE_END] = "end of print statement",
        [LEX_BLOCK_BEGIN] = "begin of statement block",
        [LEX_BLOCK_END] = "end of statement block", [LEX_STRING] = "string",
        [LEX_INTEGER] = "integer", [LEX_FLOAT] = "float",
    };
    if (l->kind == LEX_NAME)
        return *l->s ? l->s : "name";
    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (operators[i].kind == l->kind)
            return operators[i].text;
    return names[l->kind];
}

struct brackets {
    char open[BRACKETS_MAX];
    int n;
};

static bool lex_operator(struct lexer *l, struct brackets *b) {
    size_t i = 0;
    while (i < ARRAY_LEN(operators) && !starts(l->p, l->end, operators[i].text))
        i++;
    if (i == ARRAY_LEN(operators))
        return lex_name(l);
    char c = *l->p;
    if (c == '(' || c == '[' || c == '{') {
        if (b->n == BRACKETS_MAX)
            return fail_at(l, l->p, "too many brackets are open");
        b->open[b->n++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (!b->n || b->open[b->n - 1] != c)
            return fail_at(l, l->p, b->n ? "unexpected bracket, another one is open"
                                         : "unexpected closing bracket");
        b->n--;
    }
    add(l, operators[i].kind, l->p);
    l->p += strlen(operators[i].text);
    return true;
}

/* The inside of {{ }} or {% %}, with its end. */
static bool lex_tag(struct lexer *l, bool block) {
    struct brackets b = {.n = 0};
    while (l->p < l->end) {
        const char *e = b.n ? NULL : tag_end(l->p, l->end, block ? "%}" : "}}", block, block);
        if (e) {
            add(l, block ? LEX_BLOCK_END : LEX_VARIABLE_END, l->p);
            l->p = e;
            return true;
        }
        const char *next = skip_blanks(l->p, l->end);
        bool ok = true;
        if (next > l->p)
            l->p = next;
        else if (*l->p == '"' || *l->p == '\'')
            ok = lex_string(l);
        else if (*l->p >= '0' && *l->p <= '9')
            ok = lex_number(l);
        else
            ok = lex_operator(l, &b);
        if (!ok)
            return false;
    }
    return true;                            // the parser misses the end
}

/* ---- the template ---- */
static const char *find_tag(const char *s, const char *end) {
    for (; (s = memchr(s, '{', (size_t)(end - s))); s++)
        if (s + 1 < end && (s[1] == '{' || s[1] == '%' || s[1] == '#'))
            return s;
    return NULL;
}

static bool lex_root(struct lexer *l) {
    const char *start = l->p;
    while (l->p < l->end) {
        const char *tag = find_tag(l->p, l->end);
        if (!tag) {
            add_text(l, LEX_DATA, l->p, l->p, (size_t)(l->end - l->p));
            break;
        }
        l->line_starting = l->p == start || l->p[-1] == '\n';
        char sign, kind = tag[1];
        const char *raw = raw_tag(tag, l->end, "raw", &sign);
        sign = tag + 2 < l->end && (tag[2] == '-' || tag[2] == '+') ? tag[2] : 0;
        add_data(l, l->p, (size_t)(tag - l->p), sign, kind == '{');
        l->p = raw ? raw : tag + 2 + (sign != 0);
        l->line_starting = l->p[-1] == '\n';
        bool ok = true;
        if (raw) {
            ok = lex_raw(l, tag);
        } else if (kind == '#') {
            ok = lex_comment(l, tag);
        } else {
            add(l, kind == '%' ? LEX_BLOCK_BEGIN : LEX_VARIABLE_BEGIN, tag);
            ok = lex_tag(l, kind == '%');
        }
        if (!ok)
            return false;
    }
    add(l, LEX_EOF, l->end);
    return true;
}

bool compile_lex(struct compiler *c, const char *text, size_t len) {
    if (len > TEMPLATE_MAX)
        return compile_fail(c, 1, 1, "a template of more than %d bytes", TEMPLATE_MAX);
    char *s = pool_alloc(c->pool, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        bool cr = text[i] == '\r';
        s[n++] = cr ? '\n' : text[i];
        i += cr && i + 1 < len && text[i + 1] == '\n';
    }
    struct lexer l = {.c = c, .p = s, .end = s + n, .mark = s, .line = 1, .column = 1};
    size_t valid = utf8_valid_prefix(s, n);
    if (valid < n)
        return fail_at(&l, s + valid, "not valid UTF-8");
    l.end -= n && s[n - 1] == '\n';
    return lex_root(&l);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * safetensors_header.c — the JSON of a header, walked once from end to end.
 *
 * A header may legally hold 10^6 entries in 100 MB. A JSON document of that size would take 20
 * times as much memory, and a general parser knows no integers above 2^63, so the text is walked
 * here: memory stays proportional to what is kept. The grammar is RFC 8259's, as the reference
 * reader takes it: any blanks around the object, no byte-order mark, no lone surrogates, nesting up
 * to 128. Unknown keys of an entry are skipped, whatever they hold. Stricter: a name may not hold
 * U+0000, ranks end at TENSOR_MAX_DIM. Reference: huggingface/safetensors, tensor.rs, and
 * serde_json.
 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/safetensors_impl.h"

#define DEPTH_MAX 128

struct scan {
    struct st *st;
    const char *start, *p, *end;
    bool meta_seen;
    struct err *e;
};

static int bad(const struct scan *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int bad(const struct scan *s, const char *fmt, ...) {
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(s->e, "%s: invalid header: byte %td: %s", s->st->path, s->p - s->start, what);
}

int st_bad_entry(const struct st *st, struct err *e, const char *name, const char *fmt, ...) {
    char what[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(e, "%s: tensor \"%.96s\": %s", st->path, name, what);
}

/* ---- characters ---- */

/* Bytes of the character at p, or 0: not UTF-8 (stray or missing bytes, a longer form than needed,
 * surrogates, above U+10FFFF). */
static int utf8_length(const unsigned char *p, size_t n) {
    static const struct {
        unsigned char first, last, second_min, second_max;
        int length;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},          {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3},    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4},    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (p[0] < forms[i].first || p[0] > forms[i].last)
            continue;
        if ((size_t)forms[i].length > n
            || (forms[i].length > 1 && (p[1] < forms[i].second_min || p[1] > forms[i].second_max)))
            return 0;
        for (int k = 2; k < forms[i].length; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].length;
    }
    return 0;
}

static int check_utf8(struct scan *s) {
    for (int n; s->p < s->end; s->p += n)
        if ((n = utf8_length((const unsigned char *)s->p, (size_t)(s->end - s->p))) == 0)
            return bad(s, "not UTF-8 text");
    s->p = s->start;
    return 0;
}

static void skip_blanks(struct scan *s) {
    while (s->p < s->end && memchr(" \t\r\n", *s->p, 4))
        s->p++;
}

/* The next character that is not blank, or -1 when it is not one of `wanted`. */
static int take(struct scan *s, const char *wanted) {
    skip_blanks(s);
    if (s->p == s->end)
        return bad(s, "the JSON ends early, expected one of %s", wanted);
    const unsigned char c = (unsigned char)*s->p;
    if (c && strchr(wanted, c)) {
        s->p++;
        return c;
    }
    return bad(s, "invalid JSON, expected one of %s, got byte 0x%02x", wanted, c);
}

/* ---- strings ---- */

static int take_hex4(struct scan *s, unsigned *out) {
    static const char digits[] = "0123456789abcdefABCDEF";
    *out = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        const char *d = s->p < s->end && *s->p ? strchr(digits, *s->p) : NULL;
        if (!d)
            return bad(s, "invalid JSON, expected four hexadecimal digits");
        const unsigned v = (unsigned)(d - digits);
        *out = *out << 4 | (v < 16 ? v : v - 6);
    }
    return 0;
}

static void add_utf8(struct str *b, unsigned c) {
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    const int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    str_addc(b, (char)(lead[more] | c >> 6 * more));
    for (int k = more - 1; k >= 0; k--)
        str_addc(b, (char)(0x80 | (c >> 6 * k & 0x3f)));
}

/* Behind a backslash. */
static int take_escape(struct scan *s, struct str *b) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *hit = s->p < s->end && *s->p ? strchr(letters, *s->p) : NULL;
    unsigned c, low;
    if (hit) {
        s->p++;
        str_addc(b, values[hit - letters]);
        return 0;
    }
    if (s->p == s->end || *s->p != 'u')
        return bad(s, "invalid JSON, no such escape");
    s->p++;
    if (take_hex4(s, &c) != 0)
        return -1;
    if (c >= 0xd800 && c < 0xe000) {
        const bool paired = c < 0xdc00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u';
        if (!paired)
            return bad(s, "invalid JSON, a lone surrogate");
        s->p += 2;
        if (take_hex4(s, &low) != 0)
            return -1;
        if (low < 0xdc00 || low >= 0xe000)
            return bad(s, "invalid JSON, a lone surrogate");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    add_utf8(b, c);
    return 0;
}

/* A string's bytes into b, which it empties first. */
static int take_string(struct scan *s, struct str *b) {
    b->len = 0;
    if (take(s, "\"") < 0)
        return -1;
    for (;;) {
        const char *from = s->p;
        while (s->p < s->end && *s->p != '"' && *s->p != '\\' && (unsigned char)*s->p >= 0x20)
            s->p++;
        str_addn(b, from, (size_t)(s->p - from));
        if (s->p == s->end)
            return bad(s, "the JSON ends early, within a string");
        if ((unsigned char)*s->p < 0x20)
            return bad(s, "invalid JSON, byte 0x%02x within a string", (unsigned char)*s->p);
        if (*s->p++ == '"')
            return 0;
        if (take_escape(s, b) != 0)
            return -1;
    }
}

/* As take_string, for texts that are kept as C strings. */
static int take_text(struct scan *s, struct str *b) {
    if (take_string(s, b) != 0)
        return -1;
    return strlen(b->s) == b->len ? 0 : bad(s, "U+0000 within a name or text");
}

/* ---- values ---- */

static size_t digits(struct scan *s) {
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return (size_t)(s->p - from);
}

static bool take_char(struct scan *s, const char *wanted) {
    if (s->p == s->end || !*s->p || !strchr(wanted, *s->p))
        return false;
    s->p++;
    return true;
}

static int skip_number(struct scan *s) {
    take_char(s, "-");
    const char *from = s->p;
    bool ok = digits(s) > 0 && (*from != '0' || s->p == from + 1);
    if (ok && take_char(s, "."))
        ok = digits(s) > 0;
    if (ok && take_char(s, "eE")) {
        take_char(s, "+-");
        ok = digits(s) > 0;
    }
    return ok ? 0 : bad(s, "invalid JSON, expected a value");
}

static int skip_word(struct scan *s) {
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return 0;
        }
    }
    return bad(s, "invalid JSON, expected a value");
}

static char peek(struct scan *s) {
    skip_blanks(s);
    return s->p < s->end ? *s->p : '\0';
}

/* Any value; a list or object in it is the depth-th level. */
static int skip_value(struct scan *s, int depth) {
    const char c = peek(s);
    struct str b = {0};
    if (c == '"') {
        const int rc = take_string(s, &b);
        str_release(&b);
        return rc;
    }
    if (c != '[' && c != '{')
        return c == '-' || (c >= '0' && c <= '9') ? skip_number(s) : skip_word(s);
    if (depth > DEPTH_MAX)
        return bad(s, "the JSON nests deeper than %d", DEPTH_MAX);
    const char close = c == '[' ? ']' : '}', *next = c == '[' ? ",]" : ",}";
    s->p++;
    if (peek(s) == close) {
        s->p++;
        return 0;
    }
    int rc = ',';
    while (rc == ',') {
        if (close == '}') {
            rc = take_string(s, &b) != 0 || take(s, ":") < 0 ? -1 : 0;
            str_release(&b);
            if (rc != 0)
                return -1;
        }
        rc = skip_value(s, depth + 1) != 0 ? -1 : take(s, next);
    }
    return rc < 0 ? -1 : 0;
}

/* A list of integers in [0, 2^64) into out[max]; their number, -1: not JSON, -2: another kind of
 * value, -3: more than max. */
static int take_sizes(struct scan *s, uint64_t *out, int max) {
    int n = 0;
    if (peek(s) != '[')
        return skip_value(s, 3) != 0 ? -1 : -2;
    const char *from = s->p;
    if (skip_value(s, 3) != 0)              // judged as JSON first
        return -1;
    struct scan in = {.p = from + 1, .end = s->p};
    for (; peek(&in) != ']'; n++) {
        uint64_t v = 0;
        const char *first = in.p;
        for (; in.p < in.end && *in.p >= '0' && *in.p <= '9'; in.p++)
            if (__builtin_mul_overflow(v, 10, &v)
                || __builtin_add_overflow(v, (uint64_t)(*in.p - '0'), &v))
                return -2;
        if (in.p == first || !strchr(",] \t\r\n", *in.p))
            return -2;
        if (n < max)
            out[n] = v;
        if (peek(&in) == ',')
            in.p++;
    }
    return n > max ? -3 : n;
}

/* ---- one entry ---- */

static int take_dtype(struct scan *s, const char *name, struct st_entry *en) {
    struct str text = {0}, list = {0};
    const bool is_string = peek(s) == '"';
    int rc = is_string ? take_string(s, &text) : skip_value(s, 3);
    const int d = rc == 0 && is_string && strlen(text.s) == text.len ? dtype_find(text.s) : -1;
    if (rc == 0 && d < 0) {
        for (int i = 0; i < DTYPE_COUNT; i++)
            str_addf(&list, " %s", dtype_table[i].name);
        rc = st_bad_entry(s->st, s->e, name, "dtype: expected one of%s, got %s%.40s%s", list.s,
                          is_string ? "\"" : "", is_string ? text.s : "something that is no string",
                          is_string ? "\"" : "");
    }
    en->dtype = d < 0 ? DTYPE_BOOL : (enum dtype)d;
    str_release(&text);
    str_release(&list);
    return rc;
}

static int take_shape(struct scan *s, const char *name, struct st_entry *en) {
    uint64_t v[TENSOR_MAX_DIM];
    const int n = take_sizes(s, v, TENSOR_MAX_DIM);
    if (n == -1)
        return -1;
    if (n == -2)
        return st_bad_entry(s->st, s->e, name, "shape: expected a list of non-negative integers"
                            " below 2^64");
    if (n == -3)
        return st_bad_entry(s->st, s->e, name, "shape: expected at most %d dimensions",
                            TENSOR_MAX_DIM);
    en->ndim = n;
    for (int i = 0; i < n; i++)
        en->shape[i] = (int64_t)v[i];       // bits; judged with the data
    return 0;
}

static int take_offsets(struct scan *s, const char *name, struct st_entry *en) {
    uint64_t range[2];
    const int n = take_sizes(s, range, 2);
    if (n == -1)
        return -1;
    if (n != 2)
        return st_bad_entry(s->st, s->e, name, "data_offsets: expected two non-negative integers"
                            " below 2^64");
    en->begin = range[0];
    en->bytes = range[1] - range[0];        // wraps when it ends before it begins: judged later
    return 0;
}

static const struct {
    const char *key;
    int (*take)(struct scan *s, const char *name, struct st_entry *en);
} fields[] = {
    {"dtype", take_dtype}, {"shape", take_shape}, {"data_offsets", take_offsets},
};

/* "key": value of an entry. seen: bit set over fields. */
static int take_field(struct scan *s, const char *name, struct st_entry *en, unsigned *seen) {
    struct str key = {0};
    int rc = take_string(s, &key) != 0 || take(s, ":") < 0 ? -1 : 0;
    size_t i = 0;
    while (rc == 0 && i < ARRAY_LEN(fields)
           && (strlen(key.s) != key.len || strcmp(key.s, fields[i].key) != 0))
        i++;
    if (rc == 0 && i == ARRAY_LEN(fields))
        rc = skip_value(s, 3);
    else if (rc == 0 && *seen & 1u << i)
        rc = st_bad_entry(s->st, s->e, name, "%s is given twice", fields[i].key);
    else if (rc == 0)
        rc = fields[i].take(s, name, en);
    *seen |= 1u << i;
    str_release(&key);
    return rc;
}

static int take_entry(struct scan *s, const char *name) {
    struct st *st = s->st;
    struct st_entry en = {0};
    unsigned seen = 0;
    if (peek(s) != '{') {
        if (skip_value(s, 2) != 0)
            return -1;
        return st_bad_entry(st, s->e, name, "expected an object with dtype, shape and"
                            " data_offsets");
    }
    s->p++;
    int c = peek(s) == '}' ? take(s, "}") : ',';
    while (c == ',')
        c = take_field(s, name, &en, &seen) != 0 ? -1 : take(s, ",}");
    if (c < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (!(seen & 1u << i))
            return st_bad_entry(st, s->e, name, "%s is missing", fields[i].key);
    if (st->n == st->cap) {
        st->cap = MAX(64, st->cap * 2);
        st->entries = xreallocarray(st->entries, (size_t)st->cap, sizeof *st->entries);
    }
    en.name = xstrdup(name);
    st->entries[st->n++] = en;
    return 0;
}

/* ---- metadata ---- */

static int take_pair(struct scan *s) {
    struct st *st = s->st;
    struct str key = {0}, value = {0};
    int rc = take_text(s, &key) != 0 || take(s, ":") < 0 ? -1 : 0;
    if (rc == 0 && peek(s) != '"')
        rc = skip_value(s, 3) != 0 ? -1 : st_bad_entry(st, s->e, "__metadata__",
                                                       "\"%.96s\": expected a string", key.s);
    else if (rc == 0)
        rc = take_text(s, &value);
    if (rc == 0) {
        if ((st->nmeta & (st->nmeta - 1)) == 0)         // full at every power of two
            st->meta = xreallocarray(st->meta, 2 * (size_t)st->nmeta + 1, sizeof *st->meta);
        st->meta[st->nmeta++] = (struct st_meta){.key = xstrdup(key.s), .value = xstrdup(value.s)};
    }
    str_release(&key);
    str_release(&value);
    return rc;
}

static int take_meta(struct scan *s) {
    if (s->meta_seen)
        return st_bad_entry(s->st, s->e, "__metadata__", "is given twice");
    s->meta_seen = true;
    if (peek(s) != '{') {
        const bool is_null = peek(s) == 'n';
        if (skip_value(s, 2) != 0)
            return -1;
        return is_null ? 0 : st_bad_entry(s->st, s->e, "__metadata__",
                                          "expected an object of strings");
    }
    s->p++;
    int c = peek(s) == '}' ? take(s, "}") : ',';
    while (c == ',')
        c = take_pair(s) != 0 ? -1 : take(s, ",}");
    return c < 0 ? -1 : 0;
}

/* ---- the object ---- */

int st_parse_header(struct st *st, const char *text, size_t n, struct err *e) {
    struct scan s = {.st = st, .start = text, .p = text, .end = text + n, .e = e};
    struct str name = {0};
    int c = -1;
    if (check_utf8(&s) != 0 || take(&s, "{") < 0)
        return -1;
    for (c = peek(&s) == '}' ? take(&s, "}") : ','; c == ',';) {
        c = take_text(&s, &name) != 0 || take(&s, ":") < 0 ? -1
          : strcmp(name.s, "__metadata__") == 0 ? take_meta(&s) : take_entry(&s, name.s);
        c = c != 0 ? -1 : take(&s, ",}");
    }
    str_release(&name);
    if (c < 0)
        return -1;
    skip_blanks(&s);
    return s.p == s.end ? 0 : bad(&s, "expected blanks only after the JSON object");
}

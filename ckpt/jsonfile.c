/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jsonfile.c — what config files need beside jansson.
 *
 * jansson knows line and column of syntax errors only. A value of the wrong kind is found again in
 * the text by its key, level by level, so that the message still points somewhere. Numbers are
 * printed with 15 digits where that reads back equal (0.3 stays 0.3), with 17 where it must.
 */
#include "ckpt/jsonfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A copy in which integers of more than 18 digits end in ".0". Exporters write the float 1e30 as
 * one (model_max_length), which JSON allows and 64 bits do not hold. */
static char *widen_integers(const char *text, size_t len, size_t *n) {
    struct str b = {0};
    bool quoted = false;
    for (size_t i = 0; i < len;) {
        size_t digits = 0;
        while (!quoted && i + digits < len && text[i + digits] >= '0' && text[i + digits] <= '9')
            digits++;
        const size_t take = digits ? digits : quoted && text[i] == '\\' && i + 1 < len ? 2 : 1;
        quoted ^= take == 1 && text[i] == '"';
        str_addn(&b, text + i, take);
        const char next = i + take < len ? text[i + take] : ' ', before = i ? text[i - 1] : ' ';
        if (digits > 18 && !strchr(".eE", next) && !strchr(".eE+", before))
            str_add(&b, ".0");
        i += take;
    }
    *n = b.len;
    return str_detach(&b);
}

json_t *jsonfile_parse(const char *text, size_t len, const char *path, struct err *e) {
    json_error_t je;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (!root && json_error_code(&je) == json_error_numeric_overflow) {
        char *wide = widen_integers(text, len, &len);
        root = json_loadb(wide, len, JSON_REJECT_DUPLICATES, &je);
        free(wide);
    }
    if (root && !json_is_object(root)) {
        json_decref(root);
        err_set(e, "%s:1:1: expected a JSON object", path);
        return NULL;
    }
    if (!root)
        err_set(e, "%s:%d:%d: invalid JSON: %s", path, MAX(je.line, 1), MAX(je.column, 1), je.text);
    return root;
}

json_t *jsonfile_read(const char *path, struct err *e) {
    size_t len;
    char *text = file_read(path, &len, e);
    if (!text)
        return NULL;
    json_t *root = jsonfile_parse(text, len, path, e);
    free(text);
    return root;
}

static const char *skip_text(const char *p) {         // behind the string that begins at p
    for (p++; *p && *p != '"'; p++)
        p += *p == '\\' && p[1];
    return *p ? p + 1 : p;
}

static const char *skip_blanks(const char *p) {
    return p + strspn(p, " \t\r\n");
}

/* The key "word" of the object that begins at p, at its quote; NULL: not found. */
static const char *find_key(const char *p, const char *word, size_t n) {
    for (int depth = 0; *p;) {
        if (*p == '"') {
            const char *key = p;
            p = skip_blanks(skip_text(p));
            if (depth == 1 && *p == ':' && strncmp(key + 1, word, n) == 0 && key[1 + n] == '"')
                return key;
            continue;
        }
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        if (depth <= 0)
            return NULL;
        p++;
    }
    return NULL;
}

/* The place of the key, or of the innermost object on its path that is there. */
static const char *find_place(const char *text, const char *key) {
    const char *at = skip_blanks(text), *object = at;
    while (*key) {
        const size_t n = strcspn(key, ".");
        const char *found = find_key(object, key, n);
        if (!found)
            break;
        at = found;
        object = skip_blanks(skip_blanks(skip_text(found)) + 1);
        key += n + (key[n] == '.');
    }
    return at;
}

int jsonfile_bad(struct err *e, const char *path, const char *text, const char *key,
                 const char *fmt, ...) {
    char what[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (!text)
        return err_set(e, "%s: %s: %s", path, key, what);
    const char *at = find_place(text, key);
    int line = 1;
    const char *start = text;
    for (const char *p = text; p < at; p++)
        if (*p == '\n') {
            line++;
            start = p + 1;
        }
    return err_set(e, "%s:%d:%td: %s: %s", path, line, at - start + 1, key, what);
}

json_t *jsonfile_number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

void jsonfile_show(const json_t *v, char *buf, size_t n) {
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
    size_t len = text ? strlen(text) : 0;
    snprintf(buf, n, "%.60s%s", text ? text : "nothing", len > 60 ? "..." : "");
    free(text);
}

char *jsonfile_text(const json_t *root) {
    char *text = NULL;
    for (size_t digits = 15; digits <= 17; digits++) {
        free(text);
        text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        if (!text)
            BUG("json_dumps failed");
        json_t *again = json_loads(text, 0, NULL);
        bool same = json_equal((json_t *)root, again);
        json_decref(again);
        if (same)
            break;
    }
    char *line = xasprintf("%s\n", text);
    free(text);
    return line;
}

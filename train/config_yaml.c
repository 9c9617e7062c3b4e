/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * config_yaml.c — libyaml's events, flattened.
 *
 * The event interface is used rather than the document tree because it resolves nothing: a scalar
 * arrives as its text with its quoting and its mark, so "1e-5" is not turned into a string nor "no"
 * into false. The state is a stack of open mappings (the length of the dotted prefix outside each)
 * and whether a key, its value or an item of its sequence comes next.
 *
 * This is the only file that includes <yaml.h>.
 */
#include "train/config_yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAX_DEPTH 8                         /* mappings in mappings; the keys need two */

struct level {                              /* an open mapping */
    size_t prefix_len;                      /* of the prefix outside it */
    int settings_before;
    int line, col;                          /* of the key that names it */
};
struct reader {
    const char *where;
    struct yaml_settings *out;
    struct err *e;
    struct str prefix;                      /* "freeze." while inside freeze */
    struct level level[MAX_DEPTH];
    int depth, documents;
    char *key;                              /* read, its value comes next; NULL: a key comes next */
    int key_line, key_col;
    bool in_list;                           /* items of the last setting come next */
};

static int refuse(const struct reader *r, const yaml_mark_t *m, const char *what) {
    return err_set(r->e, "%s:%zu:%zu: %s", r->where, m->line + 1, m->column + 1, what);
}

/* A scalar's text; NULL and *e where it holds a NUL byte. */
static char *scalar_text(const struct reader *r, const yaml_event_t *ev) {
    const char *s = (const char *)ev->data.scalar.value;
    size_t n = ev->data.scalar.length;
    if (memchr(s, '\0', n)) {
        refuse(r, &ev->start_mark, "a NUL character in a value");
        return NULL;
    }
    return xstrndup(s, n);
}

static int take_key(struct reader *r, const yaml_event_t *ev) {
    char *text = scalar_text(r, ev);
    if (!text)
        return -1;
    r->key = xasprintf("%s%s", r->prefix.s ? r->prefix.s : "", text);
    r->key_line = (int)ev->start_mark.line + 1;
    r->key_col = (int)ev->start_mark.column + 1;
    free(text);
    return 0;
}

/* A setting without items; takes KEY over. */
static struct yaml_setting *add_setting(struct reader *r, char *key, int line, int col) {
    struct yaml_settings *s = r->out;
    s->v = xreallocarray(s->v, (size_t)s->n + 1, sizeof *s->v);
    s->v[s->n] = (struct yaml_setting){.key = key, .line = line, .col = col};
    return &s->v[s->n++];
}

static struct yaml_setting *use_key(struct reader *r) {
    char *key = r->key;
    r->key = NULL;
    return add_setting(r, key, r->key_line, r->key_col);
}

static int add_item(struct reader *r, const yaml_event_t *ev) {
    char *text = scalar_text(r, ev);
    if (!text)
        return -1;
    struct yaml_setting *t = r->in_list ? &r->out->v[r->out->n - 1] : use_key(r);
    t->items = xreallocarray(t->items, (size_t)t->nitems + 1, sizeof *t->items);
    t->items[t->nitems++] = (struct yaml_scalar){
        .text = text,
        .quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE,
        .line = (int)ev->start_mark.line + 1,
        .col = (int)ev->start_mark.column + 1,
    };
    return 0;
}

/* ---- one function an event ---- */
static int on_nothing(struct reader *r, const yaml_event_t *ev) {
    (void)r, (void)ev;
    return 0;
}

static int on_document(struct reader *r, const yaml_event_t *ev) {
    if (r->documents++)
        return refuse(r, &ev->start_mark, "a second document (hint: one file, one configuration)");
    return 0;
}

static int on_alias(struct reader *r, const yaml_event_t *ev) {
    return refuse(r, &ev->start_mark, "an alias (*name) is not supported (hint: write the value)");
}

static int on_scalar(struct reader *r, const yaml_event_t *ev) {
    if (ev->data.scalar.anchor)
        return refuse(r, &ev->start_mark, "an anchor (&name) is not supported");
    if (ev->data.scalar.tag)
        return refuse(r, &ev->start_mark, "a tag (!name) is not supported");
    if (r->depth == 0) {                    // "" and comments alone arrive as one empty scalar
        if (ev->data.scalar.length == 0 && ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
            return 0;
        return refuse(r, &ev->start_mark, "expected \"key: value\" lines, got a lone value");
    }
    return r->key || r->in_list ? add_item(r, ev) : take_key(r, ev);
}

static int on_list(struct reader *r, const yaml_event_t *ev) {
    if (ev->data.sequence_start.anchor)
        return refuse(r, &ev->start_mark, "an anchor (&name) is not supported");
    if (ev->data.sequence_start.tag)
        return refuse(r, &ev->start_mark, "a tag (!name) is not supported");
    if (r->depth == 0)
        return refuse(r, &ev->start_mark, "expected \"key: value\" lines, got a list");
    if (r->in_list)
        return refuse(r, &ev->start_mark, "a list in a list (hint: items are plain values)");
    if (!r->key)
        return refuse(r, &ev->start_mark, "expected a key, got a list");
    use_key(r)->is_list = true;
    r->in_list = true;
    return 0;
}

static int on_list_end(struct reader *r, const yaml_event_t *ev) {
    (void)ev;
    r->in_list = false;
    return 0;
}

static int on_mapping(struct reader *r, const yaml_event_t *ev) {
    if (ev->data.mapping_start.anchor)
        return refuse(r, &ev->start_mark, "an anchor (&name) is not supported");
    if (ev->data.mapping_start.tag)
        return refuse(r, &ev->start_mark, "a tag (!name) is not supported");
    if (r->in_list)
        return refuse(r, &ev->start_mark, "a mapping in a list (hint: items are plain values)");
    if (r->depth > 0 && !r->key)
        return refuse(r, &ev->start_mark, "expected a key, got a mapping");
    if (r->depth == MAX_DEPTH)
        return refuse(r, &ev->start_mark, "sections are nested too deeply");
    r->level[r->depth++] = (struct level){r->prefix.len, r->out->n, r->key_line, r->key_col};
    if (r->key) {                           // the key, prefix and all, becomes the prefix
        str_release(&r->prefix);
        str_addf(&r->prefix, "%s.", r->key);
        free(r->key);
        r->key = NULL;
    }
    return 0;
}

/* An empty section is kept as a setting without items, so that a wrong name is caught there too. */
static int on_mapping_end(struct reader *r, const yaml_event_t *ev) {
    (void)ev;
    const struct level *l = &r->level[--r->depth];
    if (r->depth > 0 && r->out->n == l->settings_before)
        add_setting(r, xstrndup(r->prefix.s, r->prefix.len - 1), l->line, l->col);
    r->prefix.len = l->prefix_len;
    if (r->prefix.s)
        r->prefix.s[l->prefix_len] = '\0';
    return 0;
}

static int (*const handlers[])(struct reader *, const yaml_event_t *) = {
    [YAML_NO_EVENT] = on_nothing,
    [YAML_STREAM_START_EVENT] = on_nothing,
    [YAML_STREAM_END_EVENT] = on_nothing,
    [YAML_DOCUMENT_START_EVENT] = on_document,
    [YAML_DOCUMENT_END_EVENT] = on_nothing,
    [YAML_ALIAS_EVENT] = on_alias,
    [YAML_SCALAR_EVENT] = on_scalar,
    [YAML_SEQUENCE_START_EVENT] = on_list,
    [YAML_SEQUENCE_END_EVENT] = on_list_end,
    [YAML_MAPPING_START_EVENT] = on_mapping,
    [YAML_MAPPING_END_EVENT] = on_mapping_end,
};

static int parse_error(const struct reader *r, const yaml_parser_t *p) {
    const char *what = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_READER_ERROR)      // has a byte offset, no mark
        return err_set(r->e, "%s: %s at byte %zu", r->where, what, p->problem_offset);
    return err_set(r->e, "%s:%zu:%zu: %s%s%s", r->where, p->problem_mark.line + 1,
                   p->problem_mark.column + 1, what, p->context ? ", " : "",
                   p->context ? p->context : "");
}

int yaml_settings_read(const char *where, const char *text, size_t len, struct yaml_settings *out,
                       struct err *e) {
    struct reader r = {.where = where, .out = out, .e = e};
    yaml_parser_t parser;
    *out = (struct yaml_settings){0};
    if (!yaml_parser_initialize(&parser))
        BUG("yaml: the parser cannot be made");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int rc = 0;
    for (bool done = false; rc == 0 && !done;) {
        yaml_event_t ev;
        if (!yaml_parser_parse(&parser, &ev)) {
            rc = parse_error(&r, &parser);
            break;
        }
        rc = handlers[ev.type](&r, &ev);
        done = ev.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&ev);
    }
    yaml_parser_delete(&parser);
    str_release(&r.prefix);
    free(r.key);
    if (rc != 0)
        yaml_settings_release(out);
    return rc;
}

void yaml_settings_release(struct yaml_settings *s) {
    for (int i = 0; i < s->n; i++) {
        for (int k = 0; k < s->v[i].nitems; k++)
            free(s->v[i].items[k].text);
        free(s->v[i].items);
        free(s->v[i].key);
    }
    free(s->v);
    *s = (struct yaml_settings){0};
}

/* Characters that YAML takes only as escapes although they are valid UTF-8: controls, and those it
 * reads as line breaks or as byte order marks. Returns their length in bytes, 0 for others. */
static int special_char(const unsigned char *p, unsigned *code) {
    static const struct { unsigned char byte[3]; unsigned code; } three[] = {
        {{0xE2, 0x80, 0xA8}, 0x2028}, {{0xE2, 0x80, 0xA9}, 0x2029}, {{0xEF, 0xBB, 0xBF}, 0xFEFF},
        {{0xEF, 0xBF, 0xBE}, 0xFFFE}, {{0xEF, 0xBF, 0xBF}, 0xFFFF},
    };
    *code = p[0];
    if (p[0] < 0x20 || p[0] == 0x7F)
        return 1;
    *code = p[1];
    if (p[0] == 0xC2 && p[1] >= 0x80 && p[1] < 0xA0)
        return 2;
    for (size_t i = 0; i < ARRAY_LEN(three); i++) {
        *code = three[i].code;
        if (strncmp((const char *)p, (const char *)three[i].byte, 3) == 0)
            return 3;
    }
    return 0;
}

/* Plain where no reader could take it for anything but a string, else double-quoted. */
void yaml_add_string(struct str *b, const char *text) {
    static const char *const reserved[] = {"null", "Null", "NULL", "true", "false", "yes", "no",
                                           "on", "off", "True", "False", "y", "n"};
    bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || *text == '/';
    for (const char *p = text; *p; p++)
        plain = plain && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./", *p);
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        plain = plain && strcmp(text, reserved[i]) != 0;
    if (plain) {
        str_add(b, text);
        return;
    }
    str_addc(b, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        unsigned code;
        int n = special_char(p, &code);
        if (n)
            str_addf(b, "\\u%04X", code);
        else if (*p == '"' || *p == '\\')
            str_addf(b, "\\%c", *p);
        else
            str_addc(b, (char)*p);
        p += n ? n - 1 : 0;
    }
    str_addc(b, '"');
}

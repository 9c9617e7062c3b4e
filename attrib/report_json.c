/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report_json.c — the report for programs.
 *
 * {"format": "keel-report-1", "title", "subtitle",
 *  "facts":    [{"section", "key", "value"}, ...],
 *  "text":     [{"section", "text"}, ...],
 *  "tables":   {name: {"section", "caption", "columns": [{"name", "help"}, ...],
 *                      "rows": [[cell, ...], ...]}},
 *  "charts":   {name: {"section", "caption", "x_label", "y_label",
 *                      "series": [{"label", "x": [], "y": [], "lo": [], "hi": []}, ...]}},
 *  "heatmaps": {name: {"section", "caption", "rows", "cols", "row_label", "categories": [],
 *                      "category": [[]], "value": [[]] or null}}}
 *
 * A cell is null, a string, a number, or {"value", "lo", "hi", "n"}; NaN and infinities, which JSON
 * does not have, are null. Numbers carry 17 digits, so that they read back to the same bits. Rows
 * are arrays beside their column names: column names may repeat, keys of an object may not.
 */
#include "attrib/report_blocks.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

struct json_report {
    json_t *list[BLOCK_KIND_COUNT];         /* where each kind of block goes; HEADING: none */
    const char *section;                    /* the last heading; "" before the first */
};

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *text(const char *s) {
    json_t *j = json_string(s);
    if (!j)
        BUG("report_json: text that is not UTF-8");
    return j;
}

static json_t *cell(const struct cell *c) {
    if (c->kind == CELL_EMPTY)
        return json_null();
    if (c->kind != CELL_INTERVAL)
        return c->kind == CELL_TEXT ? text(c->text) : number(c->value);
    json_t *o = json_object();
    json_object_set_new(o, "value", number(c->value));
    json_object_set_new(o, "lo", number(c->lo));
    json_object_set_new(o, "hi", number(c->hi));
    json_object_set_new(o, "n", c->n > 0 ? json_integer(c->n) : json_null());
    return o;
}

static void put_heading(struct json_report *j, const struct block *b) {
    j->section = b->text;
}

static json_t *in_section(const struct json_report *j, const char *key, const char *value) {
    json_t *o = json_object();
    json_object_set_new(o, "section", text(j->section));
    json_object_set_new(o, key, text(value));
    return o;
}

static void put_text(struct json_report *j, const struct block *b) {
    json_array_append_new(j->list[BLOCK_TEXT], in_section(j, "text", b->text));
}

static void put_fact(struct json_report *j, const struct block *b) {
    json_t *o = in_section(j, "key", b->name);
    json_object_set_new(o, "value", text(b->text));
    json_array_append_new(j->list[BLOCK_FACT], o);
}

static void put_table(struct json_report *j, const struct block *b) {
    const struct table *t = &b->table;
    json_t *o = in_section(j, "caption", b->text), *columns = json_array(), *rows = json_array();
    for (int k = 0; k < t->ncol; k++) {
        json_t *c = json_object();
        json_object_set_new(c, "name", text(t->col[k].name));
        json_object_set_new(c, "help", text(t->col[k].help));
        json_array_append_new(columns, c);
    }
    for (int i = 0; i < t->nrow; i++) {
        json_t *row = json_array();
        for (int k = 0; k < t->ncol; k++)
            json_array_append_new(row, cell(&t->cell[i * t->ncol + k]));
        json_array_append_new(rows, row);
    }
    json_object_set_new(o, "columns", columns);
    json_object_set_new(o, "rows", rows);
    json_object_set_new(j->list[BLOCK_TABLE], b->name, o);
}

static void put_chart(struct json_report *j, const struct block *b) {
    const struct chart *c = &b->chart;
    json_t *o = in_section(j, "caption", b->text), *list = json_array();
    for (int i = 0; i < c->nseries; i++) {
        const struct series *s = &c->series[i];
        json_t *one = json_object();
        json_t *x = json_array(), *y = json_array(), *lo = json_array(), *hi = json_array();
        for (int k = 0; k < s->npoint; k++) {
            json_array_append_new(x, number(s->point[k].x));
            json_array_append_new(y, number(s->point[k].y));
            json_array_append_new(lo, number(s->point[k].lo));
            json_array_append_new(hi, number(s->point[k].hi));
        }
        json_object_set_new(one, "label", text(s->label));
        json_object_set_new(one, "x", x);
        json_object_set_new(one, "y", y);
        json_object_set_new(one, "lo", lo);
        json_object_set_new(one, "hi", hi);
        json_array_append_new(list, one);
    }
    json_object_set_new(o, "x_label", text(c->x_label));
    json_object_set_new(o, "y_label", text(c->y_label));
    json_object_set_new(o, "series", list);
    json_object_set_new(j->list[BLOCK_CHART], b->name, o);
}

static void put_heatmap(struct json_report *j, const struct block *b) {
    const struct heatmap *h = &b->heatmap;
    json_t *o = in_section(j, "caption", b->text), *names = json_array();
    json_t *category = json_array(), *value = h->value ? json_array() : json_null();
    for (int i = 0; i < h->nnames; i++)
        json_array_append_new(names, text(h->names[i]));
    for (int i = 0; i < h->rows; i++) {
        json_t *crow = json_array(), *vrow = json_array();
        for (int k = 0; k < h->cols; k++) {
            size_t at = (size_t)i * (size_t)h->cols + (size_t)k;
            json_array_append_new(crow, json_integer(h->category[at]));
            if (h->value)
                json_array_append_new(vrow, number((double)h->value[at]));
        }
        json_array_append_new(category, crow);
        if (h->value)
            json_array_append(value, vrow);
        json_decref(vrow);
    }
    json_object_set_new(o, "rows", json_integer(h->rows));
    json_object_set_new(o, "cols", json_integer(h->cols));
    json_object_set_new(o, "row_label", text(h->row_label));
    json_object_set_new(o, "categories", names);
    json_object_set_new(o, "category", category);
    json_object_set_new(o, "value", value);
    json_object_set_new(j->list[BLOCK_HEATMAP], b->name, o);
}

char *json_render(const struct report *r) {
    static void (*const put[BLOCK_KIND_COUNT])(struct json_report *, const struct block *) = {
        [BLOCK_HEADING] = put_heading, [BLOCK_TEXT] = put_text,   [BLOCK_FACT] = put_fact,
        [BLOCK_TABLE] = put_table,     [BLOCK_CHART] = put_chart, [BLOCK_HEATMAP] = put_heatmap,
    };
    struct json_report j = {.section = ""};
    json_t *root = json_object();
    json_object_set_new(root, "format", json_string("keel-report-1"));
    json_object_set_new(root, "title", text(r->title));
    json_object_set_new(root, "subtitle", text(r->subtitle));
    json_object_set_new(root, "facts", j.list[BLOCK_FACT] = json_array());
    json_object_set_new(root, "text", j.list[BLOCK_TEXT] = json_array());
    json_object_set_new(root, "tables", j.list[BLOCK_TABLE] = json_object());
    json_object_set_new(root, "charts", j.list[BLOCK_CHART] = json_object());
    json_object_set_new(root, "heatmaps", j.list[BLOCK_HEATMAP] = json_object());
    for (int i = 0; i < r->nblock; i++)
        put[r->block[i].kind](&j, &r->block[i]);
    char *flat = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(root);
    if (!flat)
        BUG("report_json: cannot be written");
    struct str out = {0};                   /* jansson's malloc is not xmalloc's business */
    str_addf(&out, "%s\n", flat);
    free(flat);
    return str_detach(&out);
}

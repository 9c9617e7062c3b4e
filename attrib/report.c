/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report.c — building a report, and writing it in every format of one table.
 *
 * A report is a flat list of blocks in reading order. Verbs append; the writers walk the list, each
 * with one small function a block kind. A format is one row here and one file report_*.c: neither
 * verbs nor other formats change when one is added.
 *
 * Texts are mended when they enter (valid UTF-8, no control characters): a completion of a model or
 * a path can be anything, and terminal escapes, broken JSON or broken HTML must not come from it.
 * Names become safe file stems, unique in the report, for the same reason; refusing them instead
 * would lose the results of a long run at its very end.
 *
 * Wrong order of calls (a cell without a row) is a bug of the caller: BUG.
 */
#include "attrib/report_blocks.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TEXT_WIDTH 100
#define TEXT_WIDTH_MIN 60
#define DECIMALS_MAX 17

const struct report_format report_format_table[] = {
    {"html", "report.html", "one self-contained page with charts and maps", html_render},
    {"json", "report.json", "everything in full precision, tables keyed by name", json_render},
    {"csv", "*.csv", "RFC 4180, one file a table or chart", csv_render},
    {"text", "report.txt", "tables and text, as on the terminal", text_render},
    {0},
};

/* ---- texts on their way in ---- */

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), 0 if there is none. */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3
        : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f);
    return bad ? 0 : n;
}

/* A copy with every malformed byte and control character replaced by U+FFFD. */
static char *mend_text(const char *text) {
    const unsigned char *s = (const unsigned char *)(text ? text : "");
    struct str out = {0};
    while (*s) {
        int n = utf8_length(s);
        bool control = (*s < 0x20 && *s != '\n' && *s != '\t') || *s == 0x7f ||
            (n == 2 && s[0] == 0xc2 && s[1] < 0xa0);        /* C1 */
        if (n == 0 || control)
            str_add(&out, "\xef\xbf\xbd");
        else
            str_addn(&out, (const char *)s, (size_t)n);
        s += n ? n : 1;
    }
    return str_detach(&out);
}

static char *mend_format(const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        BUG("report: bad format \"%s\"", fmt);
    char *raw = xmalloc((size_t)n + 1);
    vsnprintf(raw, (size_t)n + 1, fmt, again);
    va_end(again);
    char *text = mend_text(raw);
    free(raw);
    return text;
}

/* A file stem from `name` that no earlier block has. */
static char *unique_name(const struct report *r, const char *name) {
    char *stem = mend_text(*name ? name : "table");
    for (char *p = stem; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-", *p))
            *p = '_';
    char *s = xstrdup(stem);
    for (int i = 0, next = 2; i < r->nblock; i++) {
        const struct block *b = &r->block[i];
        if (b->kind != BLOCK_FACT && b->name && strcmp(b->name, s) == 0) {
            free(s);
            s = xasprintf("%s_%d", stem, next++);
            i = -1;
        }
    }
    free(stem);
    return s;
}

/* ---- growing lists: capacity is the next power of two ---- */

static void *grow(void *list, int n, size_t size) {
    if (n & (n - 1))
        return list;
    return xreallocarray(list, n ? 2 * (size_t)n : 1, size);
}

static struct block *block_add(struct report *r, enum block_kind kind, const char *name,
                               char *text) {
    char *own = name && kind != BLOCK_FACT ? unique_name(r, name) : name ? mend_text(name) : NULL;
    r->block = grow(r->block, r->nblock, sizeof *r->block);
    struct block *b = &r->block[r->nblock++];
    *b = (struct block){.kind = kind, .name = own, .text = text};
    return b;
}

/* The last block, which must be of `kind` for the call `what`. */
static struct block *block_open(const struct report *r, enum block_kind kind, const char *what) {
    if (r->nblock == 0 || r->block[r->nblock - 1].kind != kind)
        BUG("%s: the last block of the report is not one that takes it", what);
    return &r->block[r->nblock - 1];
}

/* ---- the report ---- */

struct report *report_new(const char *title, const char *subtitle) {
    struct report *r = xcalloc(1, sizeof *r);
    r->title = mend_text(title);
    r->subtitle = mend_text(subtitle);
    return r;
}

static void table_release(struct table *t) {
    for (int i = 0; i < t->ncol; i++) {
        free(t->col[i].name);
        free(t->col[i].help);
    }
    for (int i = 0; i < t->ncol * t->nrow; i++)
        free(t->cell[i].text);
    free(t->col);
    free(t->cell);
}

static void chart_release(struct chart *c) {
    for (int i = 0; i < c->nseries; i++) {
        free(c->series[i].label);
        free(c->series[i].point);
    }
    free(c->series);
    free(c->x_label);
    free(c->y_label);
}

static void heatmap_release(struct heatmap *h) {
    for (int i = 0; i < h->nnames; i++)
        free(h->names[i]);
    free(h->names);
    free(h->row_label);
    free(h->category);
    free(h->value);
}

void report_free(struct report *r) {
    if (!r)
        return;
    for (int i = 0; i < r->nblock; i++) {
        struct block *b = &r->block[i];
        free(b->name);
        free(b->text);
        table_release(&b->table);
        chart_release(&b->chart);
        heatmap_release(&b->heatmap);
    }
    free(r->block);
    free(r->title);
    free(r->subtitle);
    free(r);
}

void report_heading(struct report *r, const char *text) {
    block_add(r, BLOCK_HEADING, NULL, mend_text(text));
}

void report_text(struct report *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    block_add(r, BLOCK_TEXT, NULL, mend_format(fmt, ap));
    va_end(ap);
}

void report_fact(struct report *r, const char *key, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    block_add(r, BLOCK_FACT, key, mend_format(fmt, ap));
    va_end(ap);
}

/* ---- tables ---- */

void report_table(struct report *r, const char *name, const char *caption) {
    block_add(r, BLOCK_TABLE, name, mend_text(caption));
}

void report_column(struct report *r, const char *name, const char *help, int decimals) {
    struct table *t = &block_open(r, BLOCK_TABLE, "report_column")->table;
    if (t->nrow)
        BUG("report_column: column \"%s\" after the first row", name);
    t->col = grow(t->col, t->ncol, sizeof *t->col);
    t->col[t->ncol++] = (struct column){
        .name = mend_text(name),
        .help = mend_text(help),
        .decimals = MIN(decimals, DECIMALS_MAX),
    };
}

void report_row(struct report *r) {
    struct table *t = &block_open(r, BLOCK_TABLE, "report_row")->table;
    if (t->ncol == 0)
        BUG("report_row: the table has no columns");
    t->cell = grow(t->cell, t->nrow, (size_t)t->ncol * sizeof *t->cell);
    memset(t->cell + (size_t)t->nrow * (size_t)t->ncol, 0, (size_t)t->ncol * sizeof *t->cell);
    t->nrow++;
    t->filled = 0;
}

static void add_cell(struct report *r, struct cell c) {
    struct table *t = &block_open(r, BLOCK_TABLE, "report_cell")->table;
    if (t->nrow == 0 || t->filled == t->ncol)
        BUG("report_cell: %s", t->nrow ? "more cells than columns" : "no row yet");
    t->cell[(t->nrow - 1) * t->ncol + t->filled++] = c;
}

void report_cell_text(struct report *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    add_cell(r, (struct cell){.kind = CELL_TEXT, .text = mend_format(fmt, ap)});
    va_end(ap);
}

void report_cell(struct report *r, double value) {
    add_cell(r, (struct cell){.kind = CELL_NUMBER, .value = value, .lo = NAN, .hi = NAN});
}

void report_cell_interval(struct report *r, double value, double lo, double hi, int n) {
    add_cell(r, (struct cell){.kind = CELL_INTERVAL, .value = value, .lo = lo, .hi = hi, .n = n});
}

bool table_column_is_number(const struct table *t, int col) {
    bool any = false;
    for (int i = 0; i < t->nrow; i++) {
        enum cell_kind k = t->cell[i * t->ncol + col].kind;
        if (k == CELL_TEXT)
            return false;
        any = any || k == CELL_NUMBER || k == CELL_INTERVAL;
    }
    return any;
}

int table_column_n(const struct table *t, int col) {
    int n = 0;
    for (int i = 0; i < t->nrow; i++) {
        const struct cell *c = &t->cell[i * t->ncol + col];
        if (c->kind != CELL_INTERVAL)
            continue;
        if (c->n <= 0 || (n && c->n != n))
            return 0;
        n = c->n;
    }
    return n;
}

/* ---- charts and maps ---- */

void report_chart(struct report *r, const char *name, const char *caption, const char *x_label,
                  const char *y_label) {
    struct chart *c = &block_add(r, BLOCK_CHART, name, mend_text(caption))->chart;
    c->x_label = mend_text(x_label);
    c->y_label = mend_text(y_label);
}

void report_chart_log_x(struct report *r) {
    block_open(r, BLOCK_CHART, "report_chart_log_x")->chart.log_x = true;
}

void report_series(struct report *r, const char *label) {
    struct chart *c = &block_open(r, BLOCK_CHART, "report_series")->chart;
    c->series = grow(c->series, c->nseries, sizeof *c->series);
    c->series[c->nseries++] = (struct series){.label = mend_text(label)};
}

void report_point(struct report *r, double x, double y, double lo, double hi) {
    struct chart *c = &block_open(r, BLOCK_CHART, "report_point")->chart;
    if (c->nseries == 0)
        BUG("report_point: no series yet");
    struct series *s = &c->series[c->nseries - 1];
    s->point = grow(s->point, s->npoint, sizeof *s->point);
    s->point[s->npoint++] = (struct point){x, y, lo, hi};
}

void report_heatmap(struct report *r, const char *name, const char *caption, int rows, int cols,
                    const char *row_label, const uint8_t *category, const float *value,
                    const char *const *category_names, int ncategories) {
    if (rows < 1 || cols < 1 || ncategories < 1)
        BUG("report_heatmap: %d rows, %d columns, %d categories", rows, cols, ncategories);
    size_t n = (size_t)rows * (size_t)cols;
    struct heatmap *h = &block_add(r, BLOCK_HEATMAP, name, mend_text(caption))->heatmap;
    *h = (struct heatmap){.rows = rows, .cols = cols, .row_label = mend_text(row_label),
                          .nnames = ncategories};
    h->category = xmalloc(n);
    memcpy(h->category, category, n);
    for (size_t i = 0; i < n; i++)
        if (category[i] >= ncategories)
            BUG("report_heatmap: category %d of %d", category[i], ncategories);
    if (value) {
        h->value = xmalloc(n * sizeof *value);
        memcpy(h->value, value, n * sizeof *value);
    }
    h->names = xcalloc((size_t)ncategories, sizeof *h->names);
    for (int i = 0; i < ncategories; i++)
        h->names[i] = mend_text(category_names[i]);
}

/* ---- numbers ---- */

const char *number_text(char buf[NUMBER_TEXT_MAX], double v, int decimals) {
    if (isnan(v))
        snprintf(buf, NUMBER_TEXT_MAX, "-");
    else if (decimals < 0 || isinf(v))
        snprintf(buf, NUMBER_TEXT_MAX, "%.6g", v);
    else
        snprintf(buf, NUMBER_TEXT_MAX, "%.*f", MIN(decimals, DECIMALS_MAX), v);
    if (buf[0] == '-' && buf[1] && strspn(buf + 1, "0.") == strlen(buf + 1))
        memmove(buf, buf + 1, strlen(buf));                 /* no "-0.00" */
    return buf;
}

const char *number_exact(char buf[NUMBER_TEXT_MAX], double v) {
    buf[0] = '\0';
    if (isnan(v))
        return buf;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(buf, NUMBER_TEXT_MAX, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    return buf;
}

/* ---- out ---- */

/* "*.csv": one file a block that has rows. */
static int write_blocks(const struct report *r, const char *dir, const char *suffix,
                        struct err *e) {
    for (int i = 0; i < r->nblock; i++) {
        const struct block *b = &r->block[i];
        if (!block_has_rows(b))
            continue;
        char *path = xasprintf("%s/%s%s", dir, b->name, suffix);
        char *text = csv_block(b);
        int rc = file_write(path, text, strlen(text), e);
        free(text);
        free(path);
        if (rc)
            return -1;
    }
    return 0;
}

int report_write(const struct report *r, const char *dir, struct err *e) {
    if (dir_make(dir, e))
        return -1;
    for (const struct report_format *f = report_format_table; f->name; f++) {
        if (f->file[0] == '*') {
            if (write_blocks(r, dir, f->file + 1, e))
                return -1;
            continue;
        }
        char *path = path_join(dir, f->file);
        char *text = f->render(r);
        int rc = file_write(path, text, strlen(text), e);
        free(text);
        free(path);
        if (rc)
            return -1;
    }
    return 0;
}

char *text_render(const struct report *r) {
    return text_block_list(r, TEXT_WIDTH, false);
}

void report_print(const struct report *r, FILE *f) {
    int width = TEXT_WIDTH;
    struct winsize ws;
    if (is_terminal(f) && ioctl(fileno(f), TIOCGWINSZ, &ws) == 0 && ws.ws_col)
        width = MAX(ws.ws_col, TEXT_WIDTH_MIN);
    char *text = text_block_list(r, width, use_colour(f));
    fputs(text, f);
    free(text);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report_text.c — a report for the terminal: aligned tables, facts, wrapped paragraphs.
 *
 * A number cell has up to three parts, "0.93 [0.88, 0.96] n=120", each right-aligned within its
 * column, so that values stand under values and bounds under bounds. An n that a whole column
 * shares is said once, in the head. A table wider than the line is cut into panels that repeat the
 * first column; wrapping its rows instead would make columns unreadable. Charts and maps are named,
 * not drawn: their numbers are in the other formats.
 *
 * Widths count code points, which is right for the texts that reports hold (no double-width ones).
 */
#include "attrib/report_blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2                               /* blanks between columns */

struct style {
    int width;
    const char *bold, *dim, *off;           /* "" without colour */
};

static int text_width(const char *s) {
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void put_blanks(struct str *out, int n) {
    for (int i = 0; i < n; i++)
        str_addc(out, ' ');
}

/* Words of s on lines of at most `width` columns; lines after the first start with `indent` blanks,
 * `at` columns of the first are taken. Newlines are kept. */
static void put_wrapped(struct str *out, const char *s, int width, int indent, int at) {
    bool first = true;
    while (*s) {
        size_t len = strcspn(s, " \n\t");
        char *word = xstrndup(s, len);
        int w = text_width(word);
        if (!first && len && at + 1 + w > width) {
            str_addc(out, '\n');
            put_blanks(out, indent);
            at = indent;
        } else if (!first && len) {
            str_addc(out, ' ');
            at++;
        }
        str_add(out, word);
        free(word);
        at += w;
        first = first && len == 0;
        s += len;
        if (*s == '\n') {
            str_addc(out, '\n');
            put_blanks(out, indent);
            at = indent;
            first = true;
        }
        s += *s != '\0';
    }
    str_addc(out, '\n');
}

/* ---- tables ---- */

enum part { PART_VALUE, PART_BOUNDS, PART_N, PART_COUNT };
struct layout {                             /* of one column */
    int part[PART_COUNT];                   /* widest of each part; 0: absent */
    int width;                              /* of the column */
    int n;                                  /* shared by all intervals; 0: not */
    bool number;
};

/* The parts of a cell as texts; caller frees. Bounds that are both NaN are left out. */
static void cell_parts(const struct cell *c, int decimals, bool with_n, char *part[PART_COUNT]) {
    char v[NUMBER_TEXT_MAX], lo[NUMBER_TEXT_MAX], hi[NUMBER_TEXT_MAX];
    bool interval = c->kind == CELL_INTERVAL;
    bool bounds = interval && !(isnan(c->lo) && isnan(c->hi));
    part[PART_VALUE] = xstrdup(c->kind == CELL_TEXT ? c->text
                               : c->kind == CELL_EMPTY ? "" : number_text(v, c->value, decimals));
    part[PART_BOUNDS] = bounds ? xasprintf("[%s, %s]", number_text(lo, c->lo, decimals),
                                           number_text(hi, c->hi, decimals)) : xstrdup("");
    part[PART_N] = interval && with_n && c->n > 0 ? xasprintf("n=%d", c->n) : xstrdup("");
}

static struct layout column_layout(const struct table *t, int col) {
    struct layout l = {.n = table_column_n(t, col), .number = table_column_is_number(t, col)};
    int text = 0;
    for (int i = 0; i < t->nrow; i++) {
        const struct cell *c = &t->cell[i * t->ncol + col];
        char *part[PART_COUNT];
        cell_parts(c, t->col[col].decimals, l.n == 0, part);
        for (int k = 0; k < PART_COUNT; k++) {
            if (c->kind == CELL_TEXT)
                text = MAX(text, text_width(part[k]));
            else
                l.part[k] = MAX(l.part[k], text_width(part[k]));
            free(part[k]);
        }
    }
    int cell = l.part[PART_VALUE];
    for (int k = PART_BOUNDS; k < PART_COUNT; k++)
        cell += l.part[k] ? 1 + l.part[k] : 0;
    l.width = MAX(MAX(cell, text), text_width(t->col[col].name));
    if (l.n) {
        char *n = xasprintf("n=%d", l.n);
        l.width = MAX(l.width, text_width(n));
        free(n);
    }
    return l;
}

static void put_padded(struct str *out, const char *s, int width, bool right) {
    int pad = MAX(width - text_width(s), 0);
    put_blanks(out, right ? pad : 0);
    str_add(out, s);
    put_blanks(out, right ? 0 : pad);
}

static void put_cell(struct str *out, const struct table *t, int row, int col,
                     const struct layout *l, const struct style *st) {
    const struct cell *c = &t->cell[row * t->ncol + col];
    if (c->kind == CELL_TEXT || c->kind == CELL_EMPTY) {
        put_padded(out, c->kind == CELL_TEXT ? c->text : "", l->width, l->number);
        return;
    }
    char *part[PART_COUNT];
    cell_parts(c, t->col[col].decimals, l->n == 0, part);
    int used = l->part[PART_VALUE];
    for (int k = PART_BOUNDS; k < PART_COUNT; k++)
        used += l->part[k] ? 1 + l->part[k] : 0;
    put_blanks(out, l->number ? l->width - used : 0);
    put_padded(out, part[PART_VALUE], l->part[PART_VALUE], true);
    str_add(out, st->dim);
    for (int k = PART_BOUNDS; k < PART_COUNT; k++)
        if (l->part[k]) {
            str_addc(out, ' ');
            put_padded(out, part[k], l->part[k], true);
        }
    str_add(out, st->off);
    put_blanks(out, l->number ? 0 : l->width - used);
    for (int k = 0; k < PART_COUNT; k++)
        free(part[k]);
}

/* Cuts blanks that padding left at the end of the line, then ends it. */
static void end_line(struct str *out) {
    while (out->len && out->s[out->len - 1] == ' ')
        out->s[--out->len] = '\0';
    str_addc(out, '\n');
}

static void put_head(struct str *out, const struct table *t, const struct layout *l, int from,
                     int to, const struct style *st) {
    bool any_n = false;
    for (int line = 0; line < 3; line++) {              /* names, n, rule */
        if (line == 1 && !any_n)
            continue;
        if (line == 0)
            str_add(out, st->bold);
        for (int j = 0; j < to; j = j == 0 ? MAX(from, 1) : j + 1) {
            put_blanks(out, j ? GAP : 0);
            char *n = l[j].n ? xasprintf("n=%d", l[j].n) : xstrdup("");
            any_n = any_n || l[j].n;
            if (line < 2)
                put_padded(out, line ? n : t->col[j].name, l[j].width, l[j].number);
            else
                for (int k = 0; k < l[j].width; k++)
                    str_addc(out, '-');
            free(n);
        }
        if (line == 0)
            str_add(out, st->off);
        end_line(out);
    }
}

/* Columns 0 and [from, to). */
static void put_panel(struct str *out, const struct table *t, const struct layout *l, int from,
                      int to, const struct style *st) {
    put_head(out, t, l, from, to, st);
    for (int i = 0; i < t->nrow; i++) {
        for (int j = 0; j < to; j = j == 0 ? MAX(from, 1) : j + 1) {
            put_blanks(out, j ? GAP : 0);
            put_cell(out, t, i, j, &l[j], st);
        }
        end_line(out);
    }
}

static void put_help(struct str *out, const struct table *t, const struct style *st) {
    struct str help = {0};
    for (int j = 0; j < t->ncol; j++)
        if (*t->col[j].help)
            str_addf(&help, "%s%s: %s", help.len ? "; " : "", t->col[j].name, t->col[j].help);
    if (help.len) {
        str_add(out, st->dim);
        put_wrapped(out, help.s, st->width, 0, 0);
        str_add(out, st->off);
    }
    str_release(&help);
}

static void put_table(struct str *out, const struct block *b, const struct style *st) {
    const struct table *t = &b->table;
    if (*b->text)
        put_wrapped(out, b->text, st->width, 0, 0);
    if (t->ncol == 0)
        return;
    struct layout *l = xcalloc((size_t)t->ncol, sizeof *l);
    for (int j = 0; j < t->ncol; j++)
        l[j] = column_layout(t, j);
    int from = 1;
    do {
        int to = MIN(from, t->ncol), used = l[0].width;
        while (to < t->ncol && (to == from || used + GAP + l[to].width <= st->width)) {
            used += GAP + l[to].width;
            to++;
        }
        if (from > 1)
            str_addc(out, '\n');
        put_panel(out, t, l, from, to, st);
        from = to;
    } while (from < t->ncol);
    put_help(out, t, st);
    free(l);
}

/* ---- the other blocks ---- */

static void put_heading(struct str *out, const struct block *b, const struct style *st) {
    str_addf(out, "%s%s%s\n", st->bold, b->text, st->off);
    for (int i = text_width(b->text); i > 0; i--)
        str_addc(out, '-');
    str_addc(out, '\n');
}

static void put_text(struct str *out, const struct block *b, const struct style *st) {
    put_wrapped(out, b->text, st->width, 0, 0);
}

static void put_picture(struct str *out, const struct block *b, const struct style *st) {
    char *line = xasprintf("(%s: %s)", b->kind == BLOCK_CHART ? "chart" : "map", b->text);
    str_add(out, st->dim);
    put_wrapped(out, line, st->width, 0, 0);
    str_add(out, st->off);
    free(line);
}

static bool is_picture(const struct block *b) {
    return b->kind == BLOCK_CHART || b->kind == BLOCK_HEATMAP;
}

/* Facts that follow each other, keys padded to one width; returns the first block behind them. */
static int put_facts(struct str *out, const struct report *r, int i, const struct style *st) {
    int end = i, wide = 0;
    for (; end < r->nblock && r->block[end].kind == BLOCK_FACT; end++)
        wide = MAX(wide, text_width(r->block[end].name));
    for (; i < end; i++) {
        str_add(out, st->dim);
        put_padded(out, r->block[i].name, wide, false);
        str_add(out, st->off);
        put_blanks(out, GAP);
        put_wrapped(out, r->block[i].text, st->width, wide + GAP, wide + GAP);
    }
    return end;
}

char *text_block_list(const struct report *r, int width, bool colour) {
    static void (*const put[BLOCK_KIND_COUNT])(struct str *, const struct block *,
                                               const struct style *) = {
        [BLOCK_HEADING] = put_heading, [BLOCK_TEXT] = put_text,     [BLOCK_FACT] = NULL,
        [BLOCK_TABLE] = put_table,     [BLOCK_CHART] = put_picture, [BLOCK_HEATMAP] = put_picture,
    };
    const struct style st = {
        .width = width,
        .bold = colour ? "\033[1m" : "",
        .dim = colour ? "\033[2m" : "",
        .off = colour ? "\033[0m" : "",
    };
    struct str out = {0};
    str_addf(&out, "%s%s%s\n", st.bold, r->title, st.off);
    if (*r->subtitle)
        put_wrapped(&out, r->subtitle, width, 0, 0);
    for (int i = 0; i < r->nblock;) {
        if (i == 0 || !(is_picture(&r->block[i]) && is_picture(&r->block[i - 1])))
            if (i == 0 || r->block[i - 1].kind != BLOCK_HEADING)
                str_addc(&out, '\n');
        if (!put[r->block[i].kind]) {
            i = put_facts(&out, r, i, &st);
            continue;
        }
        put[r->block[i].kind](&out, &r->block[i], &st);
        i++;
    }
    return str_detach(&out);
}

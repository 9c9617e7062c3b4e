/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report_blocks.h — what a report holds, as the writers (report_*.c) see it. Private to report.
 *
 * Every text in a block is valid UTF-8 without control characters other than newline and tab:
 * report.c mends it on the way in, so no writer has to.
 */
#ifndef KEEL_REPORT_BLOCKS_H
#define KEEL_REPORT_BLOCKS_H

#include "attrib/report.h"

enum block_kind {
    BLOCK_HEADING, BLOCK_TEXT, BLOCK_FACT, BLOCK_TABLE, BLOCK_CHART, BLOCK_HEATMAP,
    BLOCK_KIND_COUNT
};

struct column {
    char *name, *help;                      /* help "": none */
    int decimals;
};
enum cell_kind { CELL_EMPTY, CELL_TEXT, CELL_NUMBER, CELL_INTERVAL };
struct cell {
    enum cell_kind kind;
    char *text;                             /* CELL_TEXT */
    double value, lo, hi;
    int n;                                  /* CELL_INTERVAL; 0: not given */
};
struct table {
    struct column *col;
    struct cell *cell;                      /* [nrow, ncol], rectangular */
    int ncol, nrow;
    int filled;                             /* cells set in the last row */
};
struct point {
    double x, y, lo, hi;                    /* NaN: absent */
};
struct series {
    char *label;
    struct point *point;
    int npoint;
};
struct chart {
    char *x_label, *y_label;
    bool log_x;
    struct series *series;
    int nseries;
};
struct heatmap {
    int rows, cols;
    char *row_label;
    uint8_t *category;                      /* [rows, cols] index into names */
    float *value;                           /* [rows, cols]; NULL: no shading */
    char **names;                           /* [nnames] */
    int nnames;
};
struct block {
    enum block_kind kind;
    char *name;                             /* fact: its key; table, chart, heat map: its name */
    char *text;                             /* caption, paragraph, heading, or value of a fact */
    struct table table;                     /* the one that kind says; the others are zero */
    struct chart chart;
    struct heatmap heatmap;
};
struct report {
    char *title, *subtitle;                 /* subtitle "": none */
    struct block *block;
    int nblock;
};


static inline bool block_has_rows(const struct block *b) {      /* becomes a file in CSV */
    return b->kind == BLOCK_TABLE || b->kind == BLOCK_CHART;
}

/* v with `decimals` digits behind the point ("-" for NaN, never "-0"); decimals < 0: as few
 * significant digits as give v back, at most 6. Returns buf. */
#define NUMBER_TEXT_MAX 352                 /* -DBL_MAX with 30 decimals fits */
const char *number_text(char buf[NUMBER_TEXT_MAX], double v, int decimals);
/* A column of numbers is aligned right; one with any text cell left. */
bool table_column_is_number(const struct table *t, int col);
/* The n that all intervals of the column share (it is then said once, in the head); 0: none. */
int table_column_n(const struct table *t, int col);

/* The shortest decimal that reads back as v; "" for NaN. Returns buf. */
const char *number_exact(char buf[NUMBER_TEXT_MAX], double v);

/* One block as CSV (block_has_rows); caller frees. */
char *csv_block(const struct block *b);
/* Text for people, wrapped at `width` columns; bold and dim when colour. Caller frees. */
char *text_block_list(const struct report *r, int width, bool colour);

/* Pictures for the page, with their legends; the style sheet is report_html.c's. */
void html_escape(struct str *out, const char *s);
void svg_chart(struct str *out, const struct chart *c);
void svg_heatmap(struct str *out, const struct heatmap *h);

/* Whole reports, for the table of formats. */
char *html_render(const struct report *r);
char *json_render(const struct report *r);
char *csv_render(const struct report *r);
char *text_render(const struct report *r);
#endif

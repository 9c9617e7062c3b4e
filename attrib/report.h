/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report.h — one struct of results, several formats: text, json, csv, html.
 *
 * A report is a title and a list of blocks (tables, curves, heat maps, text); verbs build it, the
 * writers know nothing of the verbs. The HTML is one self-contained file: no network, no script
 * needed to read it, light and dark, readable in print.
 */
#ifndef KEEL_REPORT_H
#define KEEL_REPORT_H

#include "model/base.h"

struct report;
struct report *report_new(const char *title, const char *subtitle);
void report_free(struct report *r);         /* NULL is allowed */

void report_heading(struct report *r, const char *text);
void report_text(struct report *r, const char *fmt, ...) PRINTF_LIKE(2, 3);    /* a paragraph */
void report_fact(struct report *r, const char *key, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A table: columns, then cells row by row. A number cell may carry an interval. name: key in JSON,
 * file stem in CSV. */
void report_table(struct report *r, const char *name, const char *caption);
void report_column(struct report *r, const char *name, const char *help, int decimals);
void report_row(struct report *r);
void report_cell_text(struct report *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void report_cell(struct report *r, double value);                   /* NaN: "-" */
void report_cell_interval(struct report *r, double value, double lo, double hi, int n);

/* Line chart: series of points with optional bands (lo, hi NaN: none). */
void report_chart(struct report *r, const char *name, const char *caption, const char *x_label,
                  const char *y_label);
void report_chart_log_x(struct report *r);      /* of the chart just begun; x > 0 */
void report_series(struct report *r, const char *label);
void report_point(struct report *r, double x, double y, double lo, double hi);

/* Heat map of rows x cols cells: category index (colour per class) and a value for shading; wide
 * maps are binned to at most 256 columns. */
void report_heatmap(struct report *r, const char *name, const char *caption, int rows, int cols,
                    const char *row_label, const uint8_t *category, const float *value,
                    const char *const *category_names, int ncategories);

struct report_format {
    const char *name, *file, *help;         /* "html", "report.html"; "*.csv": one a table */
    char *(*render)(const struct report *r);
};
extern const struct report_format report_format_table[];    /* ends with name == NULL */
/* Writes every format into dir (csv: one file a table or chart). */
int report_write(const struct report *r, const char *dir, struct err *e) MUST_CHECK;
/* Tables and text for the terminal. */
void report_print(const struct report *r, FILE *f);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report_map.c — heat maps of the HTML report: one row a layer, one column a unit, as SVG text.
 *
 * Colour is the category, shade the value's rank within its category (five steps): raw values have
 * tails that would leave almost all cells at one end of the scale, and a rank over all cells would
 * shade the highest-ranked class evenly dark.
 *
 * A model has more units than a screen has pixels. Columns are binned to at most 256; a bin is
 * drawn as a small stack with each category's share of it. The obvious choice, the bin's majority,
 * hides exactly the rare classes that the map is for; drawing a bin in the colour of its rarest
 * member exaggerates them.
 *
 * All cells of one category and shade are one path, and equal neighbours one rectangle of it, so
 * the picture costs some thirty bytes a rectangle and 5 x categories elements.
 */
#include "attrib/report_blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BINS_MAX 256
#define SHADES 5
#define COLOURS 8                           /* classes c0 .. c7 of the style sheet */
#define WIDTH 1040.0
#define LEFT 46.0
#define TOP 6.0
#define BOTTOM 34.0

struct map {
    const struct heatmap *h;
    uint8_t *shade;                         /* [rows, cols] 0 .. SHADES-1 */
    int bin, bins;                          /* columns a bin; bins a row */
    double row_height, bin_width;
    struct str *path;                       /* [nnames, SHADES] */
};

struct ranked {
    float value;
    size_t at;
};

static int by_value(const void *pa, const void *pb) {
    const struct ranked *a = pa, *b = pb;
    if (a->value != b->value)
        return (a->value > b->value) - (a->value < b->value);
    return (a->at > b->at) - (a->at < b->at);
}

/* Fifths of each category by value; NaN and maps without values get the darkest shade. */
static uint8_t *shades(const struct heatmap *h) {
    size_t n = (size_t)h->rows * (size_t)h->cols;
    uint8_t *shade = xmalloc(n);
    memset(shade, SHADES - 1, n);
    struct ranked *r = xmalloc(n * sizeof *r);
    for (int c = 0; c < h->nnames && h->value; c++) {
        size_t m = 0;
        for (size_t i = 0; i < n; i++)
            if (h->category[i] == c && isfinite(h->value[i]))
                r[m++] = (struct ranked){h->value[i], i};
        qsort(r, m, sizeof *r, by_value);
        for (size_t k = 0; k < m; k++)
            shade[r[k].at] = (uint8_t)(k * SHADES / m);
    }
    free(r);
    return shade;
}

static struct str *path_of(struct map *m, int category, int shade) {
    return &m->path[category * SHADES + shade];
}

/* Bins [first, first + count) of a row, from `from` down by `share` of its height. The last bin may
 * hold fewer columns and is narrower then. */
static void put_rect(struct map *m, int category, int shade, int row, int first, int count,
                     double from, double share) {
    double x = LEFT + first * m->bin_width, y = TOP + row * m->row_height
        + from * (m->row_height - 1);                       /* a line of air between rows */
    double width = MIN(LEFT + (first + count) * m->bin_width, WIDTH) - x;
    str_addf(path_of(m, category, shade), "M%.5g %.5gh%.4gv%.4gh-%.4gz", x, y, width,
             share * (m->row_height - 1), width);
}

/* The bin's stack; *whole: it is of one category and shade, which *category and *shade name. */
static void bin_parts(const struct map *m, int row, int bin, int count[256], int shade[256],
                      bool *whole, int *category) {
    const struct heatmap *h = m->h;
    int first = bin * m->bin, last = MIN(first + m->bin, h->cols);
    memset(count, 0, 256 * sizeof *count);
    memset(shade, 0, 256 * sizeof *shade);
    for (int j = first; j < last; j++) {
        size_t at = (size_t)row * (size_t)h->cols + (size_t)j;
        count[h->category[at]]++;
        shade[h->category[at]] += m->shade[at];
    }
    *category = 0;
    for (int c = 0; c < h->nnames; c++) {
        if (count[c] > count[*category])
            *category = c;
        if (count[c])
            shade[c] = (shade[c] + count[c] / 2) / count[c];
    }
    *whole = count[*category] == last - first;
}

static void put_row(struct map *m, int row) {
    int count[256], shade[256], run = 0, run_category = 0, run_shade = 0;
    for (int b = 0; b <= m->bins; b++) {
        bool whole = false;
        int category = 0;
        if (b < m->bins)
            bin_parts(m, row, b, count, shade, &whole, &category);
        bool same = run && whole && category == run_category && shade[category] == run_shade;
        if (run && !same) {
            put_rect(m, run_category, run_shade, row, b - run, run, 0, 1);
            run = 0;
        }
        if (whole) {
            run++;
            run_category = category;
            run_shade = shade[category];
            continue;
        }
        double from = 0, size = MIN(m->bin, m->h->cols - b * m->bin);
        for (int c = 0; c < m->h->nnames && b < m->bins; c++) {
            if (count[c])
                put_rect(m, c, shade[c], row, b, 1, from, count[c] / size);
            from += count[c] / size;
        }
    }
}

static void put_labels(struct str *out, const struct map *m) {
    const struct heatmap *h = m->h;
    int every = MAX(1, (int)ceil(11 / m->row_height));
    double bottom = TOP + h->rows * m->row_height;
    for (int i = 0; i < h->rows; i += every)
        str_addf(out, "<text class=\"tick e\" x=\"%.1f\" y=\"%.1f\">%d</text>\n", LEFT - 6,
                 TOP + (i + 0.5) * m->row_height + 3.5, i);
    int step = 1;
    for (int k = 0; step * 12 < h->cols; k++)
        step = k % 3 == 1 ? step / 2 * 5 : step * 2;        /* 1 2 5 10 20 50 ... */
    for (int j = 0; j < h->cols; j += step)
        str_addf(out, "<path class=\"mark\" d=\"M%.1f %.1fv4\"/>"
                 "<text class=\"tick m\" x=\"%.1f\" y=\"%.1f\">%d</text>\n",
                 LEFT + (double)j / m->bin * m->bin_width, bottom,
                 LEFT + (double)j / m->bin * m->bin_width, bottom + 15, j);
    str_addf(out, "<text class=\"axis m\" x=\"%.1f\" y=\"%.1f\">unit</text>\n",
             (LEFT + WIDTH) / 2, bottom + 29);
    str_addf(out, "<text class=\"axis m\" transform=\"translate(12 %.1f) rotate(-90)\">",
             (TOP + bottom) / 2);
    html_escape(out, h->row_label);
    str_add(out, "</text>\n");
}

static void put_legend(struct str *out, const struct map *m) {
    const struct heatmap *h = m->h;
    size_t n = (size_t)h->rows * (size_t)h->cols, count[256] = {0};
    for (size_t i = 0; i < n; i++)
        count[h->category[i]]++;
    str_add(out, "<ul class=\"legend\">");
    for (int c = 0; c < h->nnames; c++) {
        str_addf(out, "<li><svg viewBox=\"0 0 40 10\" width=\"40\" height=\"10\">");
        for (int s = h->value ? 0 : SHADES - 1, k = 0; s < SHADES; s++, k++)
            str_addf(out, "<path class=\"c%d h%d\" d=\"M%d 0h%dv10h-%dz\"/>", c % COLOURS, s,
                     h->value ? 8 * k : 0, h->value ? 8 : 40, h->value ? 8 : 40);
        str_add(out, "</svg>");
        html_escape(out, h->names[c]);
        str_addf(out, " <small>%zu, %.1f&#8239;%%</small></li>", count[c],
                 100 * (double)count[c] / (double)n);
    }
    str_add(out, "</ul>\n");
}

static void put_note(struct str *out, const struct map *m) {
    if (!m->h->value && m->bin == 1)
        return;
    str_add(out, "<p class=\"note\">");
    if (m->h->value)
        str_add(out, "Faint to full colour: value from low to high within a class, in fifths. ");
    if (m->bin > 1)
        str_addf(out, "A column stands for %d units, divided by the share of each class in it.",
                 m->bin);
    str_add(out, "</p>\n");
}

void svg_heatmap(struct str *out, const struct heatmap *h) {
    struct map m = {.h = h, .shade = shades(h)};
    m.bin = (h->cols + BINS_MAX - 1) / BINS_MAX;
    m.bins = (h->cols + m.bin - 1) / m.bin;
    m.bin_width = (WIDTH - LEFT) / ((double)h->cols / m.bin);
    m.row_height = MIN(30, MAX(9, 360.0 / h->rows));
    m.path = xcalloc((size_t)h->nnames * SHADES, sizeof *m.path);
    for (int i = 0; i < h->rows; i++)
        put_row(&m, i);
    put_legend(out, &m);
    str_addf(out, "<svg class=\"map\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"",
             WIDTH + 2, TOP + h->rows * m.row_height + BOTTOM);
    html_escape(out, h->row_label);
    str_add(out, " by unit\">\n");
    for (int c = 0; c < h->nnames; c++)
        for (int s = 0; s < SHADES; s++) {
            struct str *p = path_of(&m, c, s);
            if (p->len)
                str_addf(out, "<path class=\"c%d h%d\" d=\"%s\"/>\n", c % COLOURS, s, p->s);
            str_release(p);
        }
    put_labels(out, &m);
    str_add(out, "</svg>\n");
    put_note(out, &m);
    free(m.path);
    free(m.shade);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * report_html.c — the report as one page that stands alone.
 *
 * The page must open anywhere in ten years' time: no script, no network, no font, one style sheet
 * inside. It follows the reader's light or dark scheme and prints in the light one. Everything that
 * is not markup passes html_escape, in text and in attributes alike.
 *
 * Numbers are set in tabular figures; a value and its interval are two table cells under one
 * heading, so that both stand in line; where that would make a table wider than the page, the
 * interval goes below its value instead.
 */
#include "attrib/report_blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_CHARS 150                      /* a table wider than this stacks its intervals */
#define CONTENTS_MIN 3                      /* headings that make a table of contents worth it */

static const char style_sheet[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1c2024;--muted:#687078;--rule:#dfe3e6;"
    "--soft:#f5f6f7;--accent:#0b5c94;"
    "--s0:#0072b2;--s1:#d55e00;--s2:#008a64;--s3:#c0618f;--s4:#b97f00;--s5:#4aa3da;--s6:#5a5f66;"
    "--s7:#8b6fc0;--c0:#a9b0b6;--c1:#d0480a;--c2:#0b62a4;--c3:#e2cf94;--c4:#009e73;--c5:#cc79a7;"
    "--c6:#7a5c3a;--c7:#56b4e9}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#15181b;--fg:#e4e7ea;--muted:#98a1a9;"
    "--rule:#30363c;--soft:#1d2125;--accent:#78b8ea;"
    "--s0:#56a9e4;--s1:#ff8c4d;--s2:#2fc497;--s3:#e795bf;--s4:#eeb33f;--s5:#9fd3f7;--s6:#b3b9bf;"
    "--s7:#b9a2ea;--c0:#596067;--c1:#ff7a3a;--c2:#4f9fe0;--c3:#8f7c42;--c4:#2fc497;--c5:#e795bf;"
    "--c6:#b08d66;--c7:#9fd3f7}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:28px 24px 48px;max-width:1128px;background:var(--bg);"
    "color:var(--fg);font:14px/1.5 system-ui,-apple-system,\"Segoe UI\",\"Liberation Sans\","
    "Arial,sans-serif}\n"
    "h1{font-size:24px;line-height:1.25;margin:0;font-weight:650;letter-spacing:-.01em}\n"
    "h2{font-size:17px;margin:34px 0 10px;padding-bottom:5px;border-bottom:1px solid var(--rule);"
    "font-weight:650}\n"
    "p{margin:8px 0;max-width:80ch;white-space:pre-line}\n"
    ".sub{color:var(--muted);font-size:15px;margin:4px 0 14px}\n"
    "nav{font-size:13px;margin:14px 0 0}nav a{color:var(--accent);text-decoration:none;"
    "margin-right:18px;white-space:nowrap}\n"
    "dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));"
    "gap:8px 22px;margin:12px 0;padding:12px 16px;background:var(--soft);border-radius:6px}\n"
    "dt{color:var(--muted);font-size:12px;line-height:1.3}"
    "dd{margin:0;overflow-wrap:anywhere;white-space:pre-line}\n"
    "figure{margin:16px 0 20px;break-inside:avoid}\n"
    "figcaption{font-weight:600;margin-bottom:6px;max-width:100ch}\n"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));"
    "gap:0 32px}.pair figure{max-width:760px}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;line-height:1.35}\n"
    "th,td{padding:4px 0 4px 16px;text-align:left;vertical-align:baseline}\n"
    "tr>:first-child{padding-left:6px}tr>:last-child{padding-right:6px}\n"
    "thead th{font-size:12.5px;font-weight:600;color:var(--muted);vertical-align:bottom;"
    "border-bottom:1.5px solid var(--muted)}\n"
    "tbody td{border-bottom:1px solid var(--rule)}tbody tr:hover{background:var(--soft)}\n"
    "td.r,th.r{text-align:right}td.r,th[colspan]{white-space:nowrap}"
    "thead th.k small{display:block}td:first-child{min-width:9em}\n"
    "td.i{padding-left:6px;text-align:right;white-space:nowrap}\n"
    "small,td.i,.note{color:var(--muted);font-size:12px;font-weight:400}\n"
    "td small,th small{white-space:nowrap}"
    "td.k small{display:block;font-size:11px;line-height:1.15}td.k,th.k{padding-left:9px}\n"
    ".note{margin:6px 0 0;max-width:110ch}.note b{font-weight:600;color:var(--fg)}\n"
    "ul.legend{list-style:none;margin:0 0 4px;padding:0;display:flex;flex-wrap:wrap;"
    "gap:2px 16px;font-size:12.5px}ul.legend svg{vertical-align:-1px;margin-right:5px}\n"
    "svg.chart,svg.map{width:100%;height:auto;display:block}\n"
    "svg text{font-size:11px;fill:var(--muted)}svg text.e{text-anchor:end}"
    "svg text.m{text-anchor:middle}"
    "svg text.name{paint-order:stroke;stroke:var(--bg);stroke-width:3px}"
    "svg text.axis{fill:var(--fg)}\n"
    ".grid,.zero,.mark{fill:none;stroke:var(--rule);stroke-width:1}"
    ".zero,.mark{stroke:var(--muted)}\n"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round}.lead{fill:none;stroke-width:.7;"
    "opacity:.6}.band{stroke:none;opacity:.13}.whisker{fill:none;stroke-width:1;opacity:.45}"
    ".dot{stroke:var(--bg);stroke-width:.8}svg.map path{shape-rendering:crispEdges}\n";

/* Rules that repeat per colour: strokes and fills of series, categories and shades. */
static const char style_series[] =
    ".line.s%d{stroke:var(--s%d)%s}.lead.s%d,.whisker.s%d{stroke:var(--s%d)}"
    ".band.s%d,.dot.s%d,svg text.name.s%d{fill:var(--s%d)}.c%d{fill:var(--c%d)}\n";
static const char *const dashes[] = {
    "", ";stroke-dasharray:7 3", ";stroke-dasharray:2 2.5", ";stroke-dasharray:9 3 2 3",
    "", ";stroke-dasharray:5 2", ";stroke-dasharray:1.5 3", ";stroke-dasharray:12 4",
};
static const char style_shades[] =
    ".h0{opacity:.42}.h1{opacity:.56}.h2{opacity:.7}.h3{opacity:.85}\n"
    "@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--muted:#555;--rule:#ccc;"
    "--soft:#f4f4f4}body{max-width:none;padding:0;font-size:10.5pt}nav{display:none}"
    ".pair{grid-template-columns:1fr 1fr}"
    "h2{break-after:avoid}tr{break-inside:avoid}.wide{overflow:visible}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n";

void html_escape(struct str *out, const char *s) {
    while (*s) {
        size_t n = strcspn(s, "&<>\"'");
        str_addn(out, s, n);
        s += n;
        if (*s) {
            str_addf(out, "&#%d;", *s);
            s++;
        }
    }
}

static void put_element(struct str *out, const char *open, const char *text, const char *close) {
    str_add(out, open);
    html_escape(out, text);
    str_add(out, close);
}

/* ---- tables ---- */

static void put_number(struct str *out, double v, int decimals) {
    char buf[NUMBER_TEXT_MAX];
    const char *s = number_text(buf, v, decimals);
    if (*s == '-' && s[1]) {
        str_add(out, "−");
        s++;
    }
    str_add(out, s);
}

static bool column_has_bounds(const struct table *t, int col) {
    for (int i = 0; i < t->nrow; i++) {
        const struct cell *c = &t->cell[i * t->ncol + col];
        if (c->kind == CELL_INTERVAL && !(isnan(c->lo) && isnan(c->hi)))
            return true;
    }
    return false;
}

/* Letters of the widest row with intervals beside their values, roughly. */
static bool must_stack(const struct table *t) {
    int total = 0;
    for (int j = 0; j < t->ncol; j++) {
        int widest = (int)strlen(t->col[j].name);
        for (int i = 0; i < t->nrow; i++) {
            const struct cell *c = &t->cell[i * t->ncol + j];
            int w = c->kind == CELL_TEXT ? (int)strlen(c->text) : 6 + MAX(t->col[j].decimals, 0);
            if (c->kind == CELL_INTERVAL)
                w += 12 + 2 * MAX(t->col[j].decimals, 0);
            widest = MAX(widest, w);
        }
        total += widest + 3;
    }
    return total > PAGE_CHARS;
}

static void put_bounds(struct str *out, const struct cell *c, int decimals, bool with_n) {
    bool bounds = !(isnan(c->lo) && isnan(c->hi));
    if (bounds) {
        str_addc(out, '[');
        put_number(out, c->lo, decimals);
        str_add(out, ", ");
        put_number(out, c->hi, decimals);
        str_addc(out, ']');
    }
    if (with_n && c->n > 0)
        str_addf(out, "%sn=%d", bounds ? " " : "", c->n);
}

struct column_plan {
    bool number, stack;                     /* stack: bounds below the value */
    bool beside;                            /* bounds in a cell of their own */
    int n;                                  /* shared by all intervals; 0: shown in each cell */
};

static const char *cell_class(const struct column_plan *p) {
    return !p->number ? "" : p->stack ? " class=\"r k\"" : " class=\"r\"";
}

static void put_cell(struct str *out, const struct cell *c, const struct column *col,
                     const struct column_plan *p) {
    str_addf(out, "<td%s>", cell_class(p));
    if (c->kind == CELL_TEXT)
        html_escape(out, c->text);
    else if (c->kind != CELL_EMPTY)
        put_number(out, c->value, col->decimals);
    if (!p->beside && c->kind == CELL_INTERVAL) {
        str_add(out, " <small>");
        put_bounds(out, c, col->decimals, p->n == 0);
        str_add(out, "</small>");
    }
    str_add(out, "</td>");
    if (p->beside) {
        str_add(out, "<td class=\"i\">");
        if (c->kind == CELL_INTERVAL)
            put_bounds(out, c, col->decimals, p->n == 0);
        str_add(out, "</td>");
    }
}

static void put_head(struct str *out, const struct table *t, const struct column_plan *p) {
    str_add(out, "<thead><tr>");
    for (int j = 0; j < t->ncol; j++) {
        str_addf(out, "<th scope=\"col\"%s%s", cell_class(&p[j]),
                 p[j].beside ? " colspan=\"2\"" : "");
        if (*t->col[j].help)
            put_element(out, " title=\"", t->col[j].help, "\"");
        put_element(out, ">", t->col[j].name, "");
        if (p[j].n)
            str_addf(out, " <small>n=%d</small>", p[j].n);
        str_add(out, "</th>");
    }
    str_add(out, "</tr></thead>\n<tbody>\n");
}

static void put_help(struct str *out, const struct table *t) {
    bool any = false;
    for (int j = 0; j < t->ncol; j++) {
        if (!*t->col[j].help)
            continue;
        str_add(out, any ? "; " : "<p class=\"note\">");
        put_element(out, "<b>", t->col[j].name, "</b> ");
        html_escape(out, t->col[j].help);
        any = true;
    }
    if (any)
        str_add(out, "</p>\n");
}

static void put_table(struct str *out, const struct block *b) {
    const struct table *t = &b->table;
    struct column_plan *p = xcalloc((size_t)t->ncol, sizeof *p);
    bool stack = must_stack(t);
    for (int j = 0; j < t->ncol; j++) {
        p[j].number = table_column_is_number(t, j);
        p[j].n = table_column_n(t, j);
        p[j].stack = stack;
        p[j].beside = p[j].number && !stack && column_has_bounds(t, j);
    }
    str_add(out, "<div class=\"wide\"><table>\n");
    put_head(out, t, p);
    for (int i = 0; i < t->nrow; i++) {
        str_add(out, "<tr>");
        for (int j = 0; j < t->ncol; j++)
            put_cell(out, &t->cell[i * t->ncol + j], &t->col[j], &p[j]);
        str_add(out, "</tr>\n");
    }
    str_add(out, "</tbody></table></div>\n");
    put_help(out, t);
    free(p);
}

/* ---- the page ---- */

static void put_text(struct str *out, const struct block *b) {
    put_element(out, "<p>", b->text, "</p>\n");
}

static void put_fact(struct str *out, const struct block *b) {
    put_element(out, "<div><dt>", b->name, "</dt>");
    put_element(out, "<dd>", b->text, "</dd></div>\n");
}

static void put_figure(struct str *out, const struct block *b,
                       void (*body)(struct str *, const struct block *)) {
    put_element(out, "<figure id=\"", b->name, "\">");
    if (*b->text)
        put_element(out, "<figcaption>", b->text, "</figcaption>\n");
    body(out, b);
    str_add(out, "</figure>\n");
}

static void put_chart_body(struct str *out, const struct block *b) {
    svg_chart(out, &b->chart);
}

static void put_map_body(struct str *out, const struct block *b) {
    svg_heatmap(out, &b->heatmap);
}

static void put_table_figure(struct str *out, const struct block *b) {
    put_figure(out, b, put_table);
}

static void put_chart_figure(struct str *out, const struct block *b) {
    put_figure(out, b, put_chart_body);
}

static void put_map_figure(struct str *out, const struct block *b) {
    put_figure(out, b, put_map_body);
}

/* Blocks of one kind that follow each other share an element: facts a list, charts a row. */
static const struct {
    void (*put)(struct str *out, const struct block *b);
    const char *open, *close;
} kinds[BLOCK_KIND_COUNT] = {
    [BLOCK_HEADING] = {NULL, "", ""},
    [BLOCK_TEXT] = {put_text, "", ""},
    [BLOCK_FACT] = {put_fact, "<dl class=\"facts\">\n", "</dl>\n"},
    [BLOCK_TABLE] = {put_table_figure, "", ""},
    [BLOCK_CHART] = {put_chart_figure, "<div class=\"pair\">\n", "</div>\n"},
    [BLOCK_HEATMAP] = {put_map_figure, "", ""},
};

static void put_styles(struct str *out) {
    str_add(out, "<style>\n");
    str_add(out, style_sheet);
    for (int i = 0; i < (int)ARRAY_LEN(dashes); i++)
        str_addf(out, style_series, i, i, dashes[i], i, i, i, i, i, i, i, i, i);
    str_add(out, style_shades);
    str_add(out, "</style>\n");
}

static void put_contents(struct str *out, const struct report *r) {
    int n = 0;
    for (int i = 0; i < r->nblock; i++)
        n += r->block[i].kind == BLOCK_HEADING;
    if (n < CONTENTS_MIN)
        return;
    str_add(out, "<nav>");
    for (int i = 0, k = 0; i < r->nblock; i++)
        if (r->block[i].kind == BLOCK_HEADING) {
            str_addf(out, "<a href=\"#section-%d\">", ++k);
            put_element(out, "", r->block[i].text, "</a> ");
        }
    str_add(out, "</nav>\n");
}

char *html_render(const struct report *r) {
    struct str out = {0};
    str_add(&out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
            "<meta name=\"generator\" content=\"keel " KEEL_VERSION "\">\n");
    put_element(&out, "<title>", r->title, "</title>\n");
    put_styles(&out);
    put_element(&out, "</head><body>\n<header><h1>", r->title, "</h1>\n");
    if (*r->subtitle)
        put_element(&out, "<p class=\"sub\">", r->subtitle, "</p>\n");
    put_contents(&out, r);
    str_add(&out, "</header>\n<main>\n");
    for (int i = 0, section = 0; i < r->nblock; i++) {
        const struct block *b = &r->block[i];
        bool starts = i == 0 || b[-1].kind != b->kind;
        bool ends = i + 1 == r->nblock || b[1].kind != b->kind;
        str_add(&out, starts ? kinds[b->kind].open : "");
        if (kinds[b->kind].put)
            kinds[b->kind].put(&out, b);
        else {
            str_addf(&out, "<h2 id=\"section-%d\">", ++section);
            put_element(&out, "", b->text, "</h2>\n");
        }
        str_add(&out, ends ? kinds[b->kind].close : "");
    }
    str_add(&out, "</main></body></html>\n");
    return str_detach(&out);
}

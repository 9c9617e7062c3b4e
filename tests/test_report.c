/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_report.c — reports in every format: numbers survive, hostile text does no harm, pictures
 * hold what they are given.
 */
#include "tests/helper.h"

#include "attrib/report.h"

#include <jansson.h>
#include <math.h>

static const char *const class_names[] = {"RU", "SCU", "UCU", "CU"};

/* One of everything. */
static struct report *full_report(void) {
    struct report *r = report_new("A title", "a subtitle");
    report_fact(r, "seed", "%d", 7);
    report_heading(r, "First");
    report_text(r, "A paragraph of %d words.", 5);
    report_table(r, "arms", "A caption");
    report_column(r, "arm", "what was frozen", 0);
    report_column(r, "refusal", "", 2);
    report_column(r, "loss", "", 3);
    report_row(r);
    report_cell_text(r, "none");
    report_cell_interval(r, 0.925, 0.88, 0.96, 120);
    report_cell(r, 1.0 / 3);
    report_row(r);
    report_cell_text(r, "SCU, all");
    report_cell_interval(r, 0.5, 0.25, 0.75, 120);
    report_cell(r, NAN);
    report_chart(r, "curve", "Removal", "share", "change");
    report_series(r, "SCU");
    report_point(r, 0.02, 0.1, 0.05, 0.15);
    report_point(r, 0.1, 0.4, 0.3, 0.5);
    report_series(r, "random");
    report_point(r, 0.02, 0.01, NAN, NAN);
    report_point(r, 0.1, 0.02, NAN, NAN);
    const uint8_t category[] = {0, 1, 2, 3, 3, 3};
    const float value[] = {0.5f, 1, -1, 0, NAN, 2};
    report_heatmap(r, "map", "Units", 2, 3, "layer", category, value, class_names, 4);
    return r;
}

static char *render(const char *format, const struct report *r) {
    for (const struct report_format *f = report_format_table; f->name; f++)
        if (strcmp(f->name, format) == 0)
            return f->render(r);
    fail_msg("no format %s", format);
    return NULL;
}

static json_t *parse_json(const struct report *r) {
    char *text = render("json", r);
    json_error_t je;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &je);
    if (!j)
        fail_msg("report.json: %d: %s", je.line, je.text);
    free(text);
    return j;
}

static int count_of(const char *text, const char *needle) {
    int n = 0;
    for (; (text = strstr(text, needle)); text += strlen(needle))
        n++;
    return n;
}

/* Every row of the table is written, under its own name, and holds every text it should. */
static void test_formats(void **state) {
    (void)state;
    static const struct {
        const char *name, *holds[12];
    } cases[] = {
        {"html", {"<!DOCTYPE html>", "A title", "a subtitle", "seed", "First", "A paragraph of 5",
                  "A caption", "SCU, all", "[0.88, 0.96]", "class=\"chart\"", "class=\"map\""}},
        {"json", {"\"A title\"", "\"arms\"", "0.33333333333333331", "\"curve\"", "\"map\""}},
        {"csv", {"arm,refusal,refusal_lo,refusal_hi,refusal_n,loss\r\n", "\"SCU, all\",0.5,0.25",
                 "series,x,y,lo,hi\r\n", "SCU,0.02,0.1,0.05,0.15\r\n"}},
        {"text", {"A title", "seed  7", "First\n-----", "A caption", "0.93 [0.88, 0.96]", "n=120",
                  "0.333", "(chart: Removal)", "(map: Units)"}},
    };
    struct report *r = full_report();
    const char *dir = test_path("formats");
    struct err e = {0};
    assert_ok(report_write(r, dir, &e), &e);
    size_t rows = 0;
    for (const struct report_format *f = report_format_table; f->name; f++, rows++) {
        size_t k = 0;
        while (k < ARRAY_LEN(cases) && strcmp(cases[k].name, f->name))
            k++;
        if (k == ARRAY_LEN(cases))
            fail_msg("format %s has no case", f->name);
        char *text = f->render(r);
        for (int i = 0; cases[k].holds[i]; i++)
            assert_contains(text, cases[k].holds[i]);
        if (f->file[0] != '*') {
            char *path = path_join(dir, f->file);
            size_t len;
            char *written = file_read(path, &len, &e);
            assert_non_null(written);
            assert_string_equal(written, text);
            free(written);
            free(path);
        }
        free(text);
    }
    assert_int_equal(rows, ARRAY_LEN(cases));
    report_free(r);
}

static void test_csv_files(void **state) {
    (void)state;
    struct report *r = full_report();
    struct err e = {0};
    const char *dir = test_path("csv/deep");
    assert_ok(report_write(r, dir, &e), &e);
    static const struct {
        const char *file, *text;
    } cases[] = {
        {"arms.csv", "arm,refusal,refusal_lo,refusal_hi,refusal_n,loss\r\n"
                     "none,0.925,0.88,0.96,120,0.3333333333333333\r\n"
                     "\"SCU, all\",0.5,0.25,0.75,120,\r\n"},
        {"curve.csv", "series,x,y,lo,hi\r\nSCU,0.02,0.1,0.05,0.15\r\nSCU,0.1,0.4,0.3,0.5\r\n"
                      "random,0.02,0.01,,\r\nrandom,0.1,0.02,,\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *path = path_join(dir, cases[i].file);
        size_t len;
        char *text = file_read(path, &len, &e);
        assert_non_null(text);
        assert_string_equal(text, cases[i].text);
        free(text);
        free(path);
    }
    report_free(r);
}

static void test_csv_quotes(void **state) {
    (void)state;
    static const struct {
        const char *cell, *csv;
    } cases[] = {
        {"plain", "plain"}, {"a,b", "\"a,b\""}, {"say \"no\"", "\"say \"\"no\"\"\""},
        {"two\nlines", "\"two\nlines\""}, {"", ""}, {" blank ", " blank "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct report *r = report_new("t", "");
        report_table(r, "q", "");
        report_column(r, "c", "", 0);
        report_row(r);
        report_cell_text(r, "%s", cases[i].cell);
        char *text = render("csv", r), *want = xasprintf("c\r\n%s\r\n", cases[i].csv);
        assert_string_equal(text, want);
        free(want);
        free(text);
        report_free(r);
    }
}

/* JSON holds the bits; what JSON cannot hold is null. */
static void test_json_exact(void **state) {
    (void)state;
    static const double values[] = {0.1, 1.0 / 3, 1e-300, -2.5e17, 0, 123456789.125, M_PI};
    struct report *r = report_new("t", "");
    report_table(r, "numbers", "");
    report_column(r, "x", "", 1);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        report_row(r);
        report_cell(r, values[i]);
    }
    report_row(r);
    report_cell(r, NAN);
    report_row(r);
    report_cell(r, INFINITY);
    report_row(r);
    report_row(r);
    report_cell_interval(r, 0.5, NAN, NAN, 1);
    json_t *j = parse_json(r);
    json_t *table = json_object_get(json_object_get(j, "tables"), "numbers");
    json_t *rows = json_object_get(table, "rows");
    assert_int_equal(json_array_size(rows), ARRAY_LEN(values) + 4);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        double got = json_real_value(json_array_get(json_array_get(rows, i), 0));
        assert_memory_equal(&got, &values[i], sizeof got);
    }
    for (size_t i = 0; i < 3; i++)
        assert_true(json_is_null(json_array_get(json_array_get(rows, ARRAY_LEN(values) + i), 0)));
    json_t *last = json_array_get(json_array_get(rows, ARRAY_LEN(values) + 3), 0);
    assert_true(json_is_null(json_object_get(last, "lo")));
    assert_int_equal(json_integer_value(json_object_get(last, "n")), 1);
    json_decref(j);
    report_free(r);
}

/* Whatever text comes in, each format stays well-formed and nothing in it acts. */
static void test_hostile_text(void **state) {
    (void)state;
    static const char *const texts[] = {
        "<script>alert(1)</script>", "\" onmouseover=\"x", "' onclick='x", "a & b < c",
        "\033[31mred\033[0m", "\x9b" "31m", "\xc2\x9b" "31m", "\xff\xfe broken \xc3",
        "\xed\xa0\x80 surrogate", "\xf4\x90\x80\x80 too far", "\xc0\xaf overlong", "bell\a\b\r",
        "../../etc/passwd", "%s%n%d", "</style></title>", "",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *t = texts[i];
        struct report *r = report_new(t, t);
        report_heading(r, t);
        report_text(r, "%s", t);
        report_fact(r, t, "%s", t);
        report_table(r, t, t);
        report_column(r, t, t, 2);
        report_row(r);
        report_cell_text(r, "%s", t);
        report_chart(r, t, t, t, t);
        report_series(r, t);
        report_point(r, 0, 0, NAN, NAN);
        report_series(r, t);
        report_point(r, 1, 1, NAN, NAN);
        const uint8_t one = 0;
        report_heatmap(r, t, t, 1, 1, t, &one, NULL, &t, 1);
        char *html = render("html", r), *text = render("text", r);
        assert_null(strstr(html, "<script"));
        assert_null(strstr(html, " onmouseover=\""));
        assert_null(strstr(html, " onclick='"));
        assert_int_equal(count_of(html, "</style>"), 1);
        assert_int_equal(count_of(html, "</title>"), 3);        /* the page's, and two points' */
        for (const char *p = text; *p; p++)
            assert_true((unsigned char)*p >= 0x20 || *p == '\n' || *p == '\t');
        assert_null(strstr(text, "\xc2\x9b"));
        json_decref(parse_json(r));                             /* valid UTF-8, unique keys */
        struct err e = {0};
        const char *dir = test_path("hostile");
        assert_ok(report_write(r, dir, &e), &e);
        free(html);
        free(text);
        report_free(r);
    }
    assert_false(path_exists(test_path("etc")));
}

/* Repeated names get files and keys of their own. */
static void test_names(void **state) {
    (void)state;
    struct report *r = report_new("t", "");
    for (int i = 0; i < 3; i++) {
        report_table(r, "curve SCU", "");
        report_column(r, "i", "", 0);
        report_row(r);
        report_cell(r, i);
    }
    json_t *j = parse_json(r), *tables = json_object_get(j, "tables");
    static const char *const names[] = {"curve_SCU", "curve_SCU_2", "curve_SCU_3"};
    assert_int_equal(json_object_size(tables), ARRAY_LEN(names));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *rows = json_object_get(json_object_get(tables, names[i]), "rows");
        assert_true(json_real_value(json_array_get(json_array_get(rows, 0), 0)) == (double)i);
    }
    json_decref(j);
    report_free(r);
}

/* The text of a table, numbers under numbers; a shared n once, others in each cell. */
static void test_text_alignment(void **state) {
    (void)state;
    struct report *r = report_new("T", "");
    report_table(r, "t", "");
    report_column(r, "arm", "", 0);
    report_column(r, "value", "", 1);
    report_column(r, "rate", "", 2);
    report_column(r, "mixed", "", 2);
    static const double v[] = {-0.04, 100, NAN};
    for (int i = 0; i < 3; i++) {
        report_row(r);
        report_cell_text(r, "%s", i == 1 ? "é" : "long name");
        report_cell(r, v[i]);
        report_cell_interval(r, 0.5 - i, 0.25 - i, 0.75, 12);
        report_cell_interval(r, 0.5, 0.25, 0.75, 9 + i);
    }
    char *text = render("text", r);
    assert_string_equal(text,
        "T\n"
        "\n"
        "arm        value                 rate                   mixed\n"
        "                                 n=12\n"
        "---------  -----  -------------------  ----------------------\n"
        "long name    0.0   0.50  [0.25, 0.75]  0.50 [0.25, 0.75]  n=9\n"
        "é          100.0  -0.50 [-0.75, 0.75]  0.50 [0.25, 0.75] n=10\n"
        "long name      -  -1.50 [-1.75, 0.75]  0.50 [0.25, 0.75] n=11\n");
    free(text);
    report_free(r);
}

/* A table wider than the line is cut into panels that repeat the first column. */
static void test_text_panels(void **state) {
    (void)state;
    struct report *r = report_new("T", "");
    report_table(r, "t", "");
    report_column(r, "arm", "", 0);
    for (int j = 0; j < 12; j++)
        report_column(r, "a column name", "", 2);
    report_row(r);
    report_cell_text(r, "free");
    for (int j = 0; j < 12; j++)
        report_cell(r, j);
    char *text = render("text", r);
    assert_int_equal(count_of(text, "free"), 2);
    assert_int_equal(count_of(text, "a column name"), 12);
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        assert_true(n <= 100);
        p += n + (p[n] != '\0');
    }
    for (int j = 0; j < 12; j++) {
        char *cell = xasprintf(" %d.00", j);
        assert_contains(text, cell);
        free(cell);
    }
    free(text);
    report_free(r);
}

/* Series that run towards smaller x are drawn from left to right; wide bounds do not flatten them,
 * and the page says what is cut off. */
static void test_falling_chart(void **state) {
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        struct report *r = report_new("t", "");
        report_chart(r, "c", "", "x", "y");
        report_series(r, "falling");
        for (int k = 0; k < 3; k++)
            report_point(r, 9 - 4 * k, k, k - (wide ? 50 : 0.5), k + (wide ? 50 : 0.5));
        char *html = render("html", r);
        const char *line = strstr(html, "class=\"line s0\" d=\"M");
        assert_non_null(line);
        assert_true(strtod(strchr(line, 'M') + 1, NULL) < 100); /* the first point is on the left */
        assert_int_equal(strstr(html, "reach beyond the chart") != NULL, wide);
        assert_null(strstr(html, ">50</text>"));                /* no tick so far away */
        free(html);
        report_free(r);
    }
}

/* x of the k-th point of the first line of a page */
static double line_x(const char *html, int k) {
    const char *p = strstr(html, "class=\"line s0\" d=\"M");
    assert_non_null(p);
    for (p = strchr(p, 'M'); k > 0; k--)
        p = strchr(p + 1, 'L');
    return strtod(p + 1, NULL);
}

/* On a logarithmic axis equal factors are equal distances, ticks are powers of ten. */
static void test_log_chart(void **state) {
    (void)state;
    struct report *r = report_new("t", "");
    report_chart(r, "c", "", "x", "y");
    report_chart_log_x(r);
    report_series(r, "s");
    for (int k = 0; k < 4; k++)
        report_point(r, pow(10, 1 - k), k, NAN, NAN);
    char *html = render("html", r);
    double first = line_x(html, 1) - line_x(html, 0), last = line_x(html, 3) - line_x(html, 2);
    assert_true(first > 20);                                        /* falls to the right */
    assert_near(first, last, 0, 0.2, "distance of a decade");
    assert_contains(html, ">0.01</text>");
    assert_contains(html, ">10</text>");
    free(html);
    report_free(r);
}

/* Charts of nothing, of one point, of equal points, of huge and tiny ranges: no NaN in the page. */
static void test_chart_edges(void **state) {
    (void)state;
    static const struct {
        int n;
        double x[3], y[3];
    } cases[] = {
        {0, {0}, {0}}, {1, {5}, {3}}, {3, {1, 1, 1}, {2, 2, 2}}, {3, {0, 1, 2}, {0, 0, 0}},
        {3, {0, 1e9, 2e9}, {-1e300, 0, 1e300}}, {3, {0, 1e-12, 2e-12}, {1, 1 + 1e-15, 1}},
        {3, {0, NAN, 2}, {1, 2, INFINITY}}, {2, {NAN, NAN}, {1, 2}},
        {3, {2, 0, 1}, {-5, -6, -7}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct report *r = report_new("t", "");
        report_chart(r, "c", "", "x", "y");
        for (int s = 0; s < 9; s++) {                           /* more series than colours */
            report_series(r, "a name that is much longer than the room beside the plot");
            for (int k = 0; k < cases[i].n; k++)
                report_point(r, cases[i].x[k], cases[i].y[k], cases[i].y[k] - 1,
                             k == 1 ? NAN : cases[i].y[k] + 1);
        }
        char *html = render("html", r);
        const char *body = strstr(html, "<main>");
        assert_non_null(body);
        assert_null(strstr(body, "nan"));
        assert_null(strstr(body, "inf"));
        assert_true(strlen(html) < 200000);                     /* no runaway ticks */
        free(html);
        report_free(r);
    }
}

/* The areas of a map's paths, per category, equal the shares of its cells. */
static void map_areas(const char *html, double area[4]) {
    memset(area, 0, 4 * sizeof *area);
    const char *p = strstr(html, "<svg class=\"map\"");
    assert_non_null(p);
    for (const char *c; (c = strstr(p, "<path class=\"c")); ) {
        int category = c[14] - '0';
        p = strstr(c, "d=\"") + 3;
        while (*p == 'M') {
            double x, y, w, h, back;
            int used = 0;
            assert_int_equal(sscanf(p, "M%lf %lfh%lfv%lfh%lfz%n", &x, &y, &w, &h, &back, &used), 5);
            assert_true(w > 0 && h > 0 && fabs(w + back) < 1e-9);
            area[category] += w * h;
            p += used;
        }
    }
}

static void test_map_areas(void **state) {
    (void)state;
    static const int widths[] = {1, 3, 255, 256, 257, 1000, 2049};
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        int rows = 3, cols = widths[i], n = rows * cols;
        uint8_t *category = xmalloc((size_t)n);
        float *value = xmalloc((size_t)n * sizeof *value);
        double want[4] = {0}, area[4];
        for (int k = 0; k < n; k++) {
            category[k] = (uint8_t)(k % 97 == 0 ? 1 : k % 7 == 0 ? 2 : k % 11 == 0 ? 0 : 3);
            value[k] = (float)((k * 31) % 17);
            want[category[k]] += 1.0 / n;
        }
        struct report *r = report_new("t", "");
        report_heatmap(r, "m", "", rows, cols, "layer", category, value, class_names, 4);
        char *html = render("html", r);
        map_areas(html, area);
        double total = area[0] + area[1] + area[2] + area[3];
        for (int c = 0; c < 4; c++) {
            /* every unit has the same area, also in a last bin of fewer: only rounding is left */
            assert_near(area[c] / total, want[c], 0.01, 0.003, class_names[c]);
            char *share = xasprintf("%.1f&#8239;%%", 100 * want[c]);
            assert_contains(html, share);
            free(share);
        }
        free(html);
        report_free(r);
        free(category);
        free(value);
    }
}

/* A map of one class and one shade is one rectangle a row: equal neighbours are merged. */
static void test_map_merges(void **state) {
    (void)state;
    static uint8_t category[4 * 200];
    struct report *r = report_new("t", "");
    report_heatmap(r, "m", "", 4, 200, "layer", category, NULL, class_names, 4);
    char *html = render("html", r);
    const char *map = strstr(html, "<svg class=\"map\"");
    const char *path = strstr(map, "<path class=\"c0");
    assert_non_null(path);
    const char *end = strstr(path, "/>");
    int rects = 0;
    for (const char *p = path; p < end; p++)
        rects += *p == 'M';
    assert_int_equal(rects, 4);
    free(html);
    report_free(r);
}

static void test_self_contained(void **state) {
    (void)state;
    struct report *r = full_report();
    char *html = render("html", r);
    static const char *const banned[] = {"<script", "<link", "<img", "src=", "url(", "@import",
                                         "http:", "https:"};
    for (size_t i = 0; i < ARRAY_LEN(banned); i++)
        if (strstr(html, banned[i]))
            fail_msg("the page holds \"%s\"", banned[i]);
    assert_contains(html, "prefers-color-scheme:dark");
    assert_contains(html, "@media print");
    static const char *const pairs[] = {"table", "figure", "svg", "ul", "dl", "div", "td", "th",
                                        "tr", "p", "small", "text", "li", "main", "body"};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        char *open = xasprintf("<%s", pairs[i]), *close = xasprintf("</%s>", pairs[i]);
        int opened = 0;
        for (const char *p = html; (p = strstr(p, open)); p += strlen(open))
            opened += strchr(" >", p[strlen(open)]) != NULL;
        if (opened != count_of(html, close))
            fail_msg("<%s>: %d opened, %d closed", pairs[i], opened, count_of(html, close));
        free(open);
        free(close);
    }
    free(html);
    report_free(r);
}

static void test_empty_report(void **state) {
    (void)state;
    struct report *r = report_new("Nothing", "");
    report_table(r, "bare", "no columns");
    report_chart(r, "flat", "no series", "", "");
    for (const struct report_format *f = report_format_table; f->name; f++) {
        char *text = f->render(r);
        assert_non_null(text);
        free(text);
    }
    json_decref(parse_json(r));
    report_free(r);
    report_free(NULL);
}

static void test_write_fails(void **state) {
    (void)state;
    struct report *r = full_report();
    struct err e = {0};
    test_write(test_path("file"), "not a folder");
    assert_int_equal(report_write(r, test_path("file"), &e), -1);
    assert_contains(e.msg, "file");
    report_free(r);
}

/* report_print is the text format, wherever it goes. */
static void test_print(void **state) {
    (void)state;
    struct report *r = full_report();
    FILE *f = tmpfile();
    assert_non_null(f);
    report_print(r, f);
    long n = ftell(f);
    char *text = render("text", r), *got = xcalloc((size_t)n + 1, 1);
    rewind(f);
    assert_int_equal(fread(got, 1, (size_t)n, f), n);
    assert_string_equal(got, text);
    fclose(f);
    free(got);
    free(text);
    report_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),        cmocka_unit_test(test_csv_files),
        cmocka_unit_test(test_csv_quotes),     cmocka_unit_test(test_json_exact),
        cmocka_unit_test(test_hostile_text),   cmocka_unit_test(test_names),
        cmocka_unit_test(test_text_alignment), cmocka_unit_test(test_text_panels),
        cmocka_unit_test(test_falling_chart),
        cmocka_unit_test(test_log_chart),  cmocka_unit_test(test_chart_edges),
        cmocka_unit_test(test_map_areas),      cmocka_unit_test(test_map_merges),
        cmocka_unit_test(test_self_contained), cmocka_unit_test(test_empty_report),
        cmocka_unit_test(test_write_fails),    cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}

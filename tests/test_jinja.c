/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_jinja.c — the Jinja interpreter against Jinja2's own results, its messages and its limits.
 *
 * tests/ref/jinja.jsonl holds templates with what Jinja2 makes of them (tests/ref/make_jinja.py);
 * with --render the program renders rows of JSON for that script to compare.
 */
#include "model/jinja.h"
#include "tests/helper.h"

#include <stdio.h>
#include <time.h>

#define REFERENCE "tests/ref/jinja.jsonl"
#define CHAT "fixtures/tokenizers/chat/"

/* ---- rendering one template ---- */
/* 0, or -1 and the message of compiling or rendering. */
static int render(const char *text, size_t len, const json_t *context,
                  const struct jinja_limits *limits, time_t now, struct jinja_output *out,
                  struct err *e) {
    struct jinja *j = jinja_compile(text, len, "t", e);
    int rc = j ? jinja_render(j, context, limits, now, out, e) : -1;
    jinja_free(j);
    return rc;
}

/* With no variables; the text or the message, borrowed until the next call. */
static const char *show(const char *text, const struct jinja_limits *limits) {
    static char result[4096];
    struct jinja_output out;
    struct err e = {0};
    json_t *none = json_object();
    if (render(text, strlen(text), none, limits, 0, &out, &e) == 0) {
        snprintf(result, sizeof result, "%s", out.text);
        jinja_output_release(&out);
    } else {
        assert_null(strchr(e.msg, '\n'));
        snprintf(result, sizeof result, "%s", e.msg);
    }
    json_decref(none);
    return result;
}

/* ---- rows of a JSONL file ---- */
struct rows {
    FILE *f;
    char *line;
    size_t cap;
    int number;
};

static json_t *next_row(struct rows *r) {
    ssize_t n = getline(&r->line, &r->cap, r->f);
    if (n <= 0)
        return NULL;
    json_error_t je;
    json_t *row = json_loadb(r->line, (size_t)n, JSON_ALLOW_NUL, &je);
    r->number++;
    if (!row)
        fail_msg("row %d: %s", r->number, je.text);
    return row;
}

static void open_rows(struct rows *r, const char *path) {
    *r = (struct rows){.f = fopen(path, "r")};
    if (!r->f)
        fail_msg("%s: cannot be opened", path);
}

static void close_rows(struct rows *r) {
    fclose(r->f);
    free(r->line);
}

static time_t local_time(const json_t *parts) {
    int v[6];
    for (int i = 0; i < 6; i++)
        v[i] = (int)json_integer_value(json_array_get(parts, (size_t)i));
    struct tm tm = {.tm_year = v[0] - 1900, .tm_mon = v[1] - 1, .tm_mday = v[2], .tm_hour = v[3],
                    .tm_min = v[4], .tm_sec = v[5], .tm_isdst = -1};
    return mktime(&tm);
}

/* The row's text, or an error that names what Jinja2's names. */
static bool row_is_right(const json_t *row, const json_t *context, time_t now, const char *name) {
    const json_t *t = json_object_get(row, "template"), *text = json_object_get(row, "text");
    const char *error = json_string_value(json_object_get(row, "error"));
    struct jinja_output out;
    struct err e = {0};
    int rc = render(json_string_value(t), json_string_length(t), context, NULL, now, &out, &e);
    bool right = text ? rc == 0 && out.len == json_string_length(text) &&
                            memcmp(out.text, json_string_value(text), out.len) == 0
                      : rc != 0 && error && strstr(e.msg, error);
    if (!right)
        print_message("%s: %s\n  want: %s\n  got:  %s\n", name, json_string_value(t),
                      text ? json_string_value(text) : error, rc == 0 ? out.text : e.msg);
    if (rc == 0)
        jinja_output_release(&out);
    return right;
}

static void test_reference(void **state) {
    (void)state;
    struct rows r;
    int wrong = 0;
    open_rows(&r, REFERENCE);
    json_t *head = next_row(&r), *row;
    const json_t *context = json_object_get(head, "context");
    time_t now = local_time(json_object_get(head, "now"));
    while ((row = next_row(&r))) {
        wrong += !row_is_right(row, context, now, REFERENCE);
        json_decref(row);
    }
    assert_true(r.number > 1000);
    json_decref(head);
    close_rows(&r);
    if (wrong)
        fail_msg("%d of %d templates differ from Jinja2", wrong, r.number - 1);
}

/* ---- published chat templates ---- */
static json_t *chat_context(const json_t *row, const json_t *conversation) {
    json_t *context = json_copy((json_t *)conversation);
    json_object_set(context, "bos_token", json_object_get(row, "bos"));
    json_object_set(context, "eos_token", json_object_get(row, "eos"));
    return context;
}

static bool render_is_right(const struct jinja *j, const json_t *row, const json_t *conversations,
                            const json_t *want) {
    const char *name = json_string_value(json_object_get(want, "conversation"));
    json_t *context = chat_context(row, json_object_get(conversations, name));
    const char *text = json_string_value(json_object_get(want, "output"));
    struct jinja_output out;
    struct err e = {0};
    int rc = jinja_render(j, context, NULL, 0, &out, &e);
    bool right = text ? rc == 0 && strcmp(out.text, text) == 0 : rc != 0;
    if (!right)
        print_message("%s, %s\n  want: %s\n  got:  %s\n",
                      json_string_value(json_object_get(row, "name")), name,
                      text ? text : "an error", rc == 0 ? out.text : e.msg);
    if (rc == 0)
        jinja_output_release(&out);
    json_decref(context);
    return right;
}

static void test_published(void **state) {
    (void)state;
    const char *file = test_shared(CHAT "templates.jsonl");
    if (!file) {
        print_message("skipped: %stemplates.jsonl is not there\n", CHAT);
        skip();
    }
    json_error_t je;
    json_t *conversations = json_load_file(test_shared(CHAT "conversations.json"), 0, &je), *row;
    struct rows r;
    int renders = 0, wrong = 0;
    open_rows(&r, file);
    while ((row = next_row(&r))) {
        const json_t *t = json_object_get(row, "template"), *all = json_object_get(row, "renders");
        struct err e = {0};
        struct jinja *j = jinja_compile(json_string_value(t), json_string_length(t), "t", &e);
        if (!j)
            fail_msg("%s: %s", json_string_value(json_object_get(row, "name")), e.msg);
        for (size_t i = 0; i < json_array_size(all); i++, renders++)
            wrong += !render_is_right(j, row, conversations, json_array_get(all, i));
        jinja_free(j);
        json_decref(row);
    }
    close_rows(&r);
    json_decref(conversations);
    if (wrong)
        fail_msg("%d of %d renders differ from Jinja2", wrong, renders);
    assert_true(renders > 200);
}

/* ---- messages ---- */
static void test_messages(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        /* where it stands, when compiling */
        {"a\nbé {{ 1 + }}", "t:2:11: unexpected 'end of print statement'"},
        {"{% if x %}\n{% for y in z %}\n", "t:2:17: unexpected end of template, looking for "
         "'endfor' or 'else': 'for' of line 2 is not closed"},
        {"{% if x %}{% endfor %}", "t:1:14: unknown tag 'endfor', looking for 'elif' or 'else' or "
         "'endif'"},
        {"{{ 'abc }}", "t:1:4: a string that does not end"},
        {"x\n{# ", "t:2:1: Missing end of comment tag"},
        {"{{ (1] }}", "t:1:6: unexpected bracket, another one is open"},
        {"{{ a $ b }}", "t:1:6: unexpected character"},
        {"\xFF", "t:1:1: not valid UTF-8"},
        {"ab\n\xE9" "c", "t:2:1: not valid UTF-8"},
        {"{{ '\\ud83d' }}", "t:1:5: a \\x, \\u or \\U escape that is no character"},
        {"{% set a.b.c = 1 %}", "t:1:11: expected 'end of statement block', got '.'"},
        {"{% break %}", "t:1:4: 'break' outside loop"},
        /* what is not here, by name */
        {"\n {% include 'x' %}", "t:2:5: {% include %} is not supported"},
        {"{% import 'x' as y %}", "{% import %} is not supported"},
        {"{% from 'x' import y %}", "{% from %} is not supported"},
        {"{% extends 'x' %}", "{% extends %} is not supported"},
        {"{% block x %}", "{% block %} is not supported"},
        {"{% autoescape true %}", "{% autoescape %} is not supported"},
        {"{{ x|random }}", "t:1:6: filter 'random' is not supported"},
        {"{{ x|shuffle }}", "t:1:6: No filter named 'shuffle'."},
        {"{{ x is strange }}", "t:1:6: No test named 'strange'."},
        {"{{ lipsum() }}", "t:1: lipsum is not supported"},
        {"{{ 'x'.encode() }}", "t:1: str.encode is not supported"},
        {"{{ range }}", "a function cannot be printed"},
        {"{{ [1]|map('string') }}", "a generator cannot be printed (hint: |list"},
        {"{{ 99999999999999999999 }}", "t:1:4: an integer beyond 64 bits is not supported"},
        {"{{ 9223372036854775807 + 1 }}", "an integer beyond 64 bits is not supported"},
        {"{{ 1 is sameas 1 }}", "sameas: equal values of type int may be one object or two"},
        /* when running: the line of the innermost expression */
        {"a\n{{ 1 +\n x.y.z }}", "t:3: 'x' is undefined"},
        {"{% for a in [1] %}\n{{ a + 'x' }}{% endfor %}",
         "t:2: unsupported operand type(s) for +: 'int' and 'str'"},
        {"{% macro m() %}\n\n{{ 1/0 }}{% endmacro %}{{ m() }}", "t:3: division by zero"},
        {"{{ raise_exception('Roles must\nalternate') }}",
         "t:1: raise_exception: Roles must alternate"},
        {"{{ [].append(1) }}", "access to attribute 'append' of 'list' object is unsafe."},
        {"{% set x = {} %}{% set x.y = 1 %}", "cannot assign attribute on non-namespace object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_contains(show(cases[i].text, NULL), cases[i].message);
}

/* ---- limits ---- */
static void test_limits(void **state) {
    (void)state;
    static const struct jinja_limits small = {
        .steps = 200000, .bytes = 1000, .memory = 64 << 20, .depth = 100};
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}", "steps"},
        {"{% for a in range(500) %}xyz{% endfor %}", "output of more than 1000 bytes"},
        {"{% set x %}{% for a in range(500) %}xyz{% endfor %}{% endset %}ok", "ok"},
        {"{{ 'x' * 1000000000 }}", "bytes of memory"},
        {"{{ [0] * 1000000000 }}", "bytes of memory"},
        {"{{ 'x'|center(1000000000) }}", "bytes of memory"},
        {"{{ '%1000000000d' % 1 }}", "bytes of memory"},
        {"{{ '{:01000000000}'.format(1) }}", "bytes of memory"},
        {"{{ [1]|tojson(indent=1000000000) }}", "bytes of memory"},
        {"{{ ('a' * 9999).replace('a', 'b' * 9999) }}", "bytes of memory"},
        {"{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}"
         "{% endfor %}", "t:1: the template "},
        {"{{ range(100001)|list }}", "Range too big"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deeper than 100 levels"},
        {"{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", "deeper than 100 levels"},
        {"{% set n = namespace(l=[]) %}{% for i in range(200) %}{% set n.l = [n.l] %}{% endfor %}"
         "{{ n.l }}", "deeper than 100 levels"},
        {"{% set n = namespace(l=[]) %}{% for i in range(200) %}{% set n.l = [n.l] %}{% endfor %}"
         "{{ n.l|tojson }}", "deeper than 100 levels"},
        {"{% set n = namespace(g=[1]) %}{% for i in range(200) %}{% set n.g = n.g|map('string') %}"
         "{% endfor %}{{ n.g|list }}", "deeper than 100 levels"},
        {"{% set n = namespace(t=()) %}{% for i in range(60) %}{% set n.t = (n.t, n.t) %}"
         "{% endfor %}{{ {n.t: 1} }}", "steps"},
        {"{{ 3 ** 1000000000 }}", "beyond 64 bits"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_contains(show(cases[i].text, &small), cases[i].message);
}

/* Text that repeats `piece`, between the two others. */
static char *repeat(const char *before, const char *piece, size_t times, const char *behind) {
    struct str s = {0};
    str_add(&s, before);
    while (times--)
        str_add(&s, piece);
    str_add(&s, behind);
    return str_detach(&s);
}

static void test_deep_templates(void **state) {
    (void)state;
    static const struct {
        const char *before, *piece, *behind, *message;
        size_t times;
    } cases[] = {
        {"{{ ", "(", "1", "too many brackets", 100000},
        {"{{ ", "[", "", "too many brackets", 100000},
        {"{{ ", "not ", "1 }}", "nested too deeply", 100000},
        {"{{ ", "-", "1 }}", "nested too deeply", 100000},
        {"{{ 1", "+1", " }}", "chained too deeply", 100000},
        {"{{ x", ".y", " }}", "chained too deeply", 100000},
        {"{{ x", "|d", " }}", "chained too deeply", 100000},
        {"{{ x", "()", " }}", "chained too deeply", 100000},
        {"", "{% if 1 %}", "", "nested too deeply", 100000},
        {"{{ 1", "+1", " }}", "901", 900},
        {"{{ 1", "~1", " }}", "1111", 1000},
        {"{% if 0 %}", "{% elif 0 %}", "{% else %}end{% endif %}", "end", 20000},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = repeat(cases[i].before, cases[i].piece, cases[i].times, cases[i].behind);
        assert_contains(show(text, NULL), cases[i].message);
        free(text);
    }
    char *large = repeat("", "x", (1 << 20) + 1, "");
    assert_contains(show(large, NULL), "a template of more than 1048576 bytes");
    free(large);
}

/* ---- spans of {% generation %} ---- */
static void test_generation(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *inside;                 /* spans, each in brackets; NULL: not known */
    } cases[] = {
        {"a{% generation %}b{% endgeneration %}c", "[b]"},
        {"{% for x in [1, 'é', 3] %}<{% generation %}{{ x }}.{% endgeneration %}>{% endfor %}",
         "[1.][é.][3.]"},
        {"{% for x in [1, 2] %}{% if x == 2 %}{% generation %}A{% endgeneration %}{% endif %}"
         "{% endfor %}", "[A]"},
        {"{% generation %}{% endgeneration %}", "[]"},
        {"{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}", "[ab]"},
        {"plain", ""},
        {"{% if false %}{% generation %}{% endgeneration %}{% endif %}", ""},
        {"{% macro m() %}{% generation %}x{% endgeneration %}{% endmacro %}{{ m() }}", NULL},
        {"{% set s %}{% generation %}x{% endgeneration %}{% endset %}{{ s }}", NULL},
        {"{% filter upper %}{% generation %}x{% endgeneration %}{% endfilter %}", NULL},
    };
    json_t *none = json_object();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jinja_output out;
        struct err e = {0};
        struct str got = {0};
        struct jinja *j = jinja_compile(cases[i].text, strlen(cases[i].text), "t", &e);
        assert_non_null(j);
        assert_int_equal(jinja_has_generation(j), strstr(cases[i].text, "generation") != NULL);
        assert_ok(jinja_render(j, none, NULL, 0, &out, &e), &e);
        for (int k = 0; k < out.nspans; k++) {
            assert_true(out.spans[k].a <= out.spans[k].b && out.spans[k].b <= out.len);
            str_addf(&got, "[%.*s]", (int)(out.spans[k].b - out.spans[k].a),
                     out.text + out.spans[k].a);
        }
        if (!cases[i].inside)
            assert_int_equal(out.nspans, -1);
        else
            assert_string_equal(got.s ? got.s : "", cases[i].inside);
        str_release(&got);
        jinja_output_release(&out);
        jinja_free(j);
    }
    json_decref(none);
}

/* ---- variables ---- */
static void test_context(void **state) {
    (void)state;
    struct err e = {0};
    struct jinja_output out;
    const char *text = "{{ a }} {{ b }} {{ c|length }} {{ d.x[1] }} {{ range(2)|list }} {{ nope }}";
    json_error_t je;
    json_t *context = json_loads("{\"a\": -9223372036854775808, \"b\": 1e100, \"c\": \"a\\u0000é\","
                                 "\"d\": {\"x\": [null, {\"k\": true}]}}", JSON_ALLOW_NUL, &je);
    assert_non_null(context);
    assert_ok(render(text, strlen(text), context, NULL, 0, &out, &e), &e);
    assert_string_equal(out.text, "-9223372036854775808 1e+100 3 {'k': True} [0, 1] ");
    jinja_output_release(&out);
    json_object_set_new(context, "range", json_integer(5));      // variables hide globals
    assert_ok(render("{{ range }}", 11, context, NULL, 0, &out, &e), &e);
    assert_string_equal(out.text, "5");
    jinja_output_release(&out);
    json_object_set_new(context, "bad", json_string_nocheck("\xFF"));
    assert_int_equal(render("x", 1, context, NULL, 0, &out, &e), -1);
    assert_contains(e.msg, "t:1: a variable is not valid UTF-8");
    assert_null(out.text);
    json_decref(context);
    context = json_array();
    assert_int_equal(render("x", 1, context, NULL, 0, &out, &e), -1);
    assert_contains(e.msg, "expected an object");
    json_decref(context);
}

/* The same template in many threads: one text. */
static void test_threads(void **state) {
    (void)state;
    static const char text[] =
        "{% macro m(a, b=[1, 'é']) %}{{ a }}{{ b }}{% endmacro %}{% set ns = namespace(n=0) %}"
        "{% for x in range(50)|map('string')|select('ne', '7') %}{% set ns.n = ns.n + x|int %}"
        "{{ m(x)|upper }}{{ loop.last }}{% endfor %}{{ ns.n }}{{ {'k': 'v'}|tojson }}";
    struct err e = {0};
    struct jinja *j = jinja_compile(text, sizeof text - 1, "t", &e);
    struct jinja_output first, all[64];
    json_t *none = json_object();
    assert_non_null(j);
    assert_ok(jinja_render(j, none, NULL, 0, &first, &e), &e);
    int failed = 0;
#pragma omp parallel for reduction(+ : failed)
    for (int i = 0; i < (int)ARRAY_LEN(all); i++)
        failed += jinja_render(j, none, NULL, 0, &all[i], NULL) != 0;
    assert_int_equal(failed, 0);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_string_equal(all[i].text, first.text);
        jinja_output_release(&all[i]);
    }
    jinja_output_release(&first);
    json_decref(none);
    jinja_free(j);
}

/* ---- damaged templates: refused or rendered, never a crash, always a message ---- */
static uint32_t draw(uint64_t *seed, size_t n) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return n ? (uint32_t)((*seed >> 33) % n) : 0;
}

/* Cuts, doubles or swaps pieces of a, or puts in a piece of b. */
static void damage(struct str *a, const char *b, size_t nb, uint64_t *seed) {
    static const char *const pieces[] = {"{{", "}}", "{%", "%}", "-%}", "(", ")", "|", "'", "\\",
                                         "if ", "endif", " in ", "loop.", "[1:]", "\xC3", ".", "="};
    size_t at = draw(seed, a->len + 1), n = draw(seed, MIN(a->len - at, 30) + 1);
    char *tail = xstrndup(a->s + at, a->len - at);
    size_t ntail = a->len - at, from = draw(seed, nb + 1);
    const char *piece = pieces[draw(seed, ARRAY_LEN(pieces))];
    a->len = at;
    switch (draw(seed, 4)) {
    case 0:
        str_add(a, piece);
        break;
    case 1:
        str_addn(a, b + from, MIN(nb - from, n));
        break;
    case 2:
        str_addn(a, tail, n);
        break;
    default:
        memmove(tail, tail + n, ntail - n);
        ntail -= n;
    }
    str_addn(a, tail, ntail);
    free(tail);
}

static void test_damaged(void **state) {
    (void)state;
    static const struct jinja_limits small = {
        .steps = 100000, .bytes = 1 << 20, .memory = 32 << 20, .depth = 2000};
    char *texts[2048];
    size_t lens[ARRAY_LEN(texts)], n = 0;
    struct rows r;
    open_rows(&r, REFERENCE);
    json_t *head = next_row(&r), *row;
    while ((row = next_row(&r)) && n < ARRAY_LEN(texts)) {
        const json_t *t = json_object_get(row, "template");
        texts[n] = xstrndup(json_string_value(t), json_string_length(t));
        lens[n++] = json_string_length(t);
        json_decref(row);
    }
    close_rows(&r);
    uint64_t seed = 1;
    for (int i = 0; i < 6000; i++) {
        struct str s = {0};
        size_t a = draw(&seed, n), b = draw(&seed, n);
        str_addn(&s, texts[a], lens[a]);
        for (uint32_t k = draw(&seed, 4) + 1; k && s.len; k--)
            damage(&s, texts[b], lens[b], &seed);
        struct jinja_output out;
        struct err e = {0};
        if (render(s.s ? s.s : "", s.len, json_object_get(head, "context"), &small, 0, &out,
                   &e) == 0)
            jinja_output_release(&out);
        else if (strncmp(e.msg, "t:", 2) != 0 || strchr(e.msg, '\n'))
            fail_msg("message \"%s\" for %.*s", e.msg, (int)s.len, s.s);
        str_release(&s);
    }
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    json_decref(head);
}

/* ---- for make_jinja.py ---- */
static int render_rows(void) {
    struct rows r = {.f = stdin};
    json_t *row;
    while ((row = next_row(&r))) {
        const json_t *t = json_object_get(row, "template");
        struct jinja_output out;
        struct err e = {0};
        int rc = render(json_string_value(t), json_string_length(t),
                        json_object_get(row, "context"), NULL, 0, &out, &e);
        json_t *done = rc == 0 ? json_pack("{s:o}", "text", json_stringn(out.text, out.len))
                               : json_pack("{s:s}", "error", e.msg);
        json_dumpf(done, stdout, 0);
        putchar('\n');
        if (rc == 0)
            jinja_output_release(&out);
        json_decref(done);
        json_decref(row);
    }
    free(r.line);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--render") == 0)
        return render_rows();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deep_templates),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

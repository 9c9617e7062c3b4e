/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_cli.c — option tables: every spelling of a value, every mistake, and help from the rows.
 *
 * Messages go to stderr and are checked as text by the rows of tests/cli; here it is what cli_parse
 * returns and sets.
 */
#include "tests/helper.h"

#include <omp.h>
#include <unistd.h>

#include "train/cli.h"

static bool json;
static const char *prompt;
static int64_t seed;
static double temperature;
static int64_t any;

static const struct opt opts[] = {
    {"json", 'j', OPT_FLAG, &json, NULL, "print JSON", 0, 0},
    {"prompt", 'p', OPT_STRING, &prompt, "TEXT", "what to go on from", 0, 0},
    {"seed", 0, OPT_INT, &seed, "N", "seed of sampling", 0, 100},
    {"temperature", 't', OPT_FLOAT, &temperature, "T", "0: greedy", 0, 2},
    {"any-number-with-a-long-name", 0, OPT_INT, &any, "N", "no range", 0, 0},
};
static const struct usage usage = {"say", "MODEL [WORD ...]", "Says it.", "  keel say m", 1, 3};

enum { MAX_WORDS = 12 };
struct parsed {
    int rc;
    const char *args[MAX_WORDS];
    char words[MAX_WORDS][64];              /* what the pointers point into */
};

/* TEXT is split at blanks; "_" stands for a blank in a word, "''" for an empty one. */
static struct parsed *parse(const char *text) {
    static struct parsed p;
    char *argv[MAX_WORDS + 1] = {0};
    int argc = 1;
    memset(&p, 0, sizeof p);
    snprintf(p.words[0], sizeof p.words[0], "say");
    argv[0] = p.words[0];
    for (const char *s = text; *(s += strspn(s, " ")); s += strcspn(s, " ")) {
        char *w = p.words[argc];
        snprintf(w, sizeof p.words[0], "%.*s", (int)strcspn(s, " "), s);
        for (char *c = w; *c; c++)
            if (*c == '_')
                *c = ' ';
        if (strcmp(w, "''") == 0)
            *w = '\0';
        argv[argc++] = w;
    }
    json = false;
    prompt = NULL;
    seed = any = -1;
    temperature = -1;
    p.rc = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, p.args);
    return &p;
}

/* stdout or stderr (FD) goes to a file while fn runs; caller frees the text. */
static char *captured(int fd, void (*fn)(const void *), const void *arg) {
    const char *path = test_path("captured");
    struct err e;
    size_t n;
    fflush(NULL);
    int old = dup(fd);
    assert_non_null(freopen(path, "w", fd == 1 ? stdout : stderr));
    fn(arg);
    fflush(NULL);
    dup2(old, fd);
    close(old);
    char *text = file_read(path, &n, &e);
    assert_non_null(text);
    return text;
}

static int returned;                        /* by cli_parse, the last time */
static void run_parse(const void *text) {
    returned = parse(text)->rc;
}

static void values(void **state) {
    (void)state;
    static const struct {
        const char *line;
        int n;
        const char *first;
    } cases[] = {
        {"m --json -p hi_there --seed 7 -t .5", 1, "m"},
        {"--json --prompt=hi_there --seed=7 --temperature=5e-1 m", 1, "m"},
        {"-jphi_there m --seed 7 -t0.5", 1, "m"},
        {"-j -p hi_there --seed 1 --seed 7 --temperature 0.5 -- m", 1, "m"},
        {"-p hi_there -jt 0.5 --seed 7 m -- -x --json", 3, "m"},
        {"- -j -p hi_there --seed=7 -t0.5", 1, "-"},
        {"key=value -j -p hi_there --seed=7 -t0.5", 1, "key=value"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct parsed *p = parse(cases[i].line);
        assert_int_equal(p->rc, cases[i].n);
        assert_string_equal(p->args[0], cases[i].first);
        assert_true(json);
        assert_string_equal(prompt, "hi there");
        assert_int_equal(seed, 7);
        assert_true(temperature == 0.5);
    }
    struct parsed *p = parse("m -- -x --json");
    assert_int_equal(p->rc, 3);
    assert_string_equal(p->args[1], "-x");
    assert_string_equal(p->args[2], "--json");
    assert_false(json);
    parse("m --any-number-with-a-long-name -123456789012");
    assert_true(any == -123456789012);
    parse("m -p ''");
    assert_string_equal(prompt, "");
}

static void mistakes(void **state) {
    (void)state;
    static const struct { const char *line, *says; } cases[] = {
        {"", "keel: error: say: expected MODEL [WORD ...]; see keel say --help\n"},
        {"a b c d", "say: expected MODEL [WORD ...], got 4 arguments"},
        {"m --jsn", "unknown option --jsn (hint: did you mean --json?)"},
        {"m --xxxxxxxxxxxxx", "unknown option --xxxxxxxxxxxxx; see"},
        {"m --quite", "did you mean --quiet?"},
        {"m -z", "unknown option -z"},
        {"m -jz", "unknown option -z"},
        {"m --json=yes", "--json takes no value, got \"yes\""},
        {"m --seed", "--seed needs a value (N)"},
        {"m -p", "-p needs a value (TEXT)"},
        {"m --seed 101", "--seed: expected an integer in [0, 100], got \"101\""},
        {"m --seed=-1", "--seed: expected an integer in [0, 100], got \"-1\""},
        {"m --seed 1.5", "--seed: expected an integer in [0, 100], got \"1.5\""},
        {"m --seed ''", "got \"\""},
        {"m -t hot", "--temperature: expected a number in [0, 2], got \"hot\""},
        {"m -t 2.01", "--temperature: expected a number in [0, 2], got \"2.01\""},
        {"m -t nan", "expected a number"},
        {"m --any-number-with-a-long-name x", "expected an integer, got \"x\""},
        {"m --threads 9999", "--threads: expected an integer in [0, 1024]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = captured(2, run_parse, cases[i].line);
        assert_contains(text, cases[i].says);
        assert_int_equal(returned, -2);
        free(text);
    }
}

static void help_comes_from_the_rows(void **state) {
    (void)state;
    static const char *const lines[] = {"--help", "-h", "-j a b c d e -h", "m --help --jsn"};
    for (size_t l = 0; l < ARRAY_LEN(lines); l++) {
        char *text = captured(1, run_parse, lines[l]);
        assert_int_equal(returned, -1);
        assert_contains(text, "usage: keel say MODEL [WORD ...] [options]\n");
        assert_contains(text, "Says it.");
        assert_contains(text, "  keel say m");
        for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
            char *name = xasprintf("--%s", opts[i].name);
            assert_contains(text, name);
            assert_contains(text, opts[i].help);
            free(name);
        }
        assert_contains(text, "-p, --prompt TEXT");
        assert_contains(text, "--threads N");
        free(text);
    }
}

static void common_options(void **state) {
    (void)state;
    assert_int_equal(parse("m -v")->rc, 1);
    assert_int_equal(log_threshold, LOG_VERBOSE);
    assert_int_equal(parse("m --quiet")->rc, 1);
    assert_int_equal(log_threshold, LOG_WARN);
    log_threshold = LOG_INFO;
    parse("m");
    assert_int_equal(log_threshold, LOG_INFO);
    int before = omp_get_max_threads();
    assert_int_equal(parse("m --threads 3")->rc, 1);
    assert_int_equal(omp_get_max_threads(), 3);
    omp_set_num_threads(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(help_comes_from_the_rows),
        cmocka_unit_test(common_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

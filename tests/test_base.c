/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_base.c — errors, strings, numbers, files: the ground that everything stands on.
 */
#include "tests/helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- errors ---- */

static void errors(void **state) {
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, "%s: expected %d", "a", 3), -1);
    assert_string_equal(e.msg, "a: expected 3");
    assert_int_equal(err_prefix(&e, "%s:%d", "f.json", 7), -1);
    assert_string_equal(e.msg, "f.json:7: a: expected 3");
    assert_int_equal(err_set(NULL, "nobody listens"), -1);
    assert_int_equal(err_prefix(NULL, "nobody listens"), -1);
    err_set(&e, "%s", "two\nlines\tand \x1b[31mred");      // one line, no control characters
    assert_string_equal(e.msg, "two lines and  [31mred");
    char *longer = xmalloc(5000);
    memset(longer, 'x', 4999);
    longer[4999] = '\0';
    err_set(&e, "%s", longer);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_prefix(&e, "%s", longer);
    assert_true(strlen(e.msg) < sizeof e.msg);
    free(longer);
}

static void same_paths_and_texts(void **state) {
    (void)state;
    struct err e = {0};
    assert_ok(file_write_text(test_dir(), "text", "a\nb", &e), &e);
    size_t n;
    char *back = file_read(test_path("text"), &n, &e);
    assert_true(back && n == 3 && strcmp(back, "a\nb") == 0);
    free(back);
    assert_int_equal(symlink("text", test_path("link")), 0);
    assert_true(path_same(test_path("text"), test_path("link")));
    assert_false(path_same(test_path("text"), test_dir()));
    assert_false(path_same(test_path("none"), test_path("none")));
    assert_int_equal(file_write_text(test_path("none"), "text", "a", &e), -1);
    assert_contains(e.msg, "none/text");
    assert_ok(dir_check(test_dir(), &e), &e);
    assert_ok(dir_check(test_path("new/folder"), &e), &e);
    assert_false(path_exists(test_path("new")));
    assert_int_equal(dir_check(test_path("text/folder"), &e), -1);
    assert_contains(e.msg, "text: expected a folder, found a file");
}

static void leave(int status, void *unused) {
    (void)unused;
    _exit(status);                          // before the handlers that tidy up for the parent
}

/* The child's exit status, or -signal; its stderr goes to *text (caller frees). */
static int in_child(void (*fn)(void), char **text) {
    const char *path = test_path("child.err");
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, 2);
        on_exit(leave, NULL);
        fn();
        _exit(77);
    }
    int status;
    struct err e;
    size_t n;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    *text = file_read(path, &n, &e);
    assert_non_null(*text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void child_bug(void) {
    BUG("x[%d] does not fit", 8);
}
static void child_memory(void) {
    xcalloc(SIZE_MAX / 2, 4);
}
static void child_memory_array(void) {
    xreallocarray(NULL, SIZE_MAX / 2, 4);
}

static void bugs_and_memory(void **state) {
    (void)state;
    char *text;
    assert_int_equal(in_child(child_bug, &text), -SIGABRT);
    assert_contains(text, "BUG at ");
    assert_contains(text, "test_base.c:");
    assert_contains(text, "x[8] does not fit");
    free(text);
    assert_int_equal(in_child(child_memory, &text), EXIT_FAILED);
    assert_contains(text, "out of memory");
    free(text);
    assert_int_equal(in_child(child_memory_array, &text), EXIT_FAILED);
    free(text);
}

static void child_logs(void) {
    log_threshold = LOG_WARN;
    log_error("one %d", 1);
    log_warn("two");
    log_info("three");
    log_verbose("four");
    log_threshold = LOG_VERBOSE;
    log_verbose("five");
}

static void logs(void **state) {
    (void)state;
    char *text;
    assert_int_equal(in_child(child_logs, &text), 77);
    assert_string_equal(text, "keel: error: one 1\nkeel: warning: two\nfive\n");
    free(text);
}

/* ---- memory and strings ---- */

static void memory(void **state) {
    (void)state;
    size_t n;
    assert_true(mul_size(3, 5, &n) && n == 15);
    assert_true(mul_size(0, SIZE_MAX, &n) && n == 0);
    assert_true(mul_size(SIZE_MAX, 1, &n) && n == SIZE_MAX);
    assert_false(mul_size(SIZE_MAX / 2 + 1, 2, &n));
    void *p[] = {xmalloc(0), xcalloc(0, 8), xcalloc(8, 0), xrealloc(NULL, 0)};
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        assert_non_null(p[i]);
        free(p[i]);
    }
    char *s = xstrndup("abcdef", 3);
    assert_string_equal(s, "abc");
    free(s);
    s = xstrndup("ab", 10);
    assert_string_equal(s, "ab");
    free(s);
    s = xasprintf("%s-%05d", "x", 42);
    assert_string_equal(s, "x-00042");
    free(s);
}

static void strings(void **state) {
    (void)state;
    struct str b = {0};
    char *empty = str_detach(&b);
    assert_string_equal(empty, "");
    free(empty);
    for (int i = 0; i < 1000; i++)
        str_addf(&b, "%d,", i);
    str_addn(&b, "a\0b", 3);
    str_addc(&b, '!');
    str_add(&b, "");
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4 + 4);
    assert_memory_equal(b.s + b.len - 4, "a\0b!", 5);
    assert_memory_equal(b.s, "0,1,2,", 6);
    char *s = str_detach(&b);
    assert_null(b.s);
    assert_int_equal(b.len, 0);
    free(s);
    str_release(&b);
    str_add(&b, "again");
    assert_string_equal(b.s, "again");
    str_release(&b);
}

/* ---- paths and files ---- */

static void paths(void **state) {
    (void)state;
    static const char *const join[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {".", "b", "b"}, {"", "b", "b"},
        {"/", "b", "/b"}, {"a", "b/c", "a/b/c"},
    };
    static const char *const dir[][2] = {
        {"a/b", "a"}, {"b", "."}, {"/b", "/"}, {"a/b/c", "a/b"}, {"a/b/", "a"}, {"/", "/"},
        {"a//b", "a"}, {"", "."},
    };
    for (size_t i = 0; i < ARRAY_LEN(join); i++) {
        char *p = path_join(join[i][0], join[i][1]);
        assert_string_equal(p, join[i][2]);
        free(p);
    }
    for (size_t i = 0; i < ARRAY_LEN(dir); i++) {
        char *p = path_dirname(dir[i][0]);
        assert_string_equal(p, dir[i][1]);
        free(p);
    }
}

static void files(void **state) {
    (void)state;
    struct err e = {0};
    size_t n = 0;
    char *path = xstrdup(test_path("deep/er/file")), *dir = xstrdup(test_path("deep"));
    char *copy = xstrdup(test_path("copy"));
    assert_int_equal(file_write(path, "x", 1, &e), -1);     // no such folder
    assert_contains(e.msg, path);
    assert_ok(dir_make(test_path("deep/er"), &e), &e);
    assert_ok(dir_make(test_path("deep/er"), &e), &e);      // again is fine
    assert_ok(dir_make(test_path("deep/er/"), &e), &e);
    assert_true(path_is_dir(dir));
    assert_ok(file_write(path, "a\0b", 3, &e), &e);
    assert_true(path_exists(path));
    assert_false(path_is_dir(path));
    char *text = file_read(path, &n, &e);
    assert_non_null(text);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "a\0b", 4);                   // NUL behind the bytes
    free(text);
    assert_ok(file_copy(path, copy, &e), &e);
    text = file_read(copy, &n, &e);
    assert_non_null(text);
    assert_int_equal(n, 3);
    free(text);

    assert_null(file_read(dir, &n, &e));
    assert_contains(e.msg, "directory");
    assert_null(file_read(test_path("absent"), &n, &e));
    assert_contains(e.msg, "absent");
    assert_int_equal(file_copy(test_path("absent"), copy, &e), -1);
    assert_int_equal(dir_make(path, &e), -1);               // a file of that name
    assert_contains(e.msg, path);
    assert_int_equal(dir_make("", &e), 0);                  // nothing to make
    assert_ok(dir_sync(dir, &e), &e);
    assert_int_equal(dir_sync(test_path("absent"), &e), -1);

    assert_ok(dir_remove(dir, &e), &e);
    assert_false(path_exists(dir));
    assert_ok(dir_remove(dir, &e), &e);                     // missing is success
    free(path);
    free(dir);
    free(copy);
}

/* A write that fails leaves the old bytes and no other file. */
static void what_is_no_file_is_not_read(void **state) {
    (void)state;
    struct err e;
    size_t n = 7;
    char *pipe = xstrdup(test_path("pipe")), *link = xstrdup(test_path("dangling"));
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_null(file_read(pipe, &n, &e));                   // without waiting for a writer
    assert_contains(e.msg, "pipe: expected a file, found a named pipe");
    assert_null(file_read("/dev/zero", &n, &e));
    assert_contains(e.msg, "/dev/zero: expected a file, found a device");
    char *nothing = file_read("/dev/null", &n, &e);
    assert_true(nothing && n == 0);
    free(nothing);
    assert_int_equal(symlink("nothing", link), 0);
    assert_true(path_named(link) && !path_exists(link));
    assert_false(path_named(test_path("absent")));
    assert_null(file_read(link, &n, &e));
    assert_contains(e.msg, "dangling: cannot open");

    assert_ok(file_write(test_path("nul"), "ab\0c", 4, &e), &e);
    assert_null(file_read_text(test_path("nul"), &e));
    assert_contains(e.msg, "nul: expected text, found a NUL byte at byte 2");
    assert_ok(file_write(test_path("nul"), "ab", 2, &e), &e);
    char *text = file_read_text(test_path("nul"), &e);
    assert_string_equal(text, "ab");
    free(text);
    free(pipe);
    free(link);
}

static void lines_have_their_ends(void **state) {
    (void)state;
    struct err e;
    struct str line = {0}, all = {0};
    for (int i = 0; i < 9000; i++)                          // longer than what is read at a time
        str_addc(&all, 'x');
    str_addn(&all, "\n\na\0b\nend", 9);
    assert_ok(file_write(test_path("lines"), all.s, all.len, &e), &e);
    FILE *f = fopen(test_path("lines"), "rb");
    assert_non_null(f);
    assert_int_equal(line_read(f, &line, &e), 1);
    assert_int_equal(line.len, 9001);
    assert_int_equal(line.s[9000], '\n');
    assert_int_equal(line_read(f, &line, &e), 1);
    assert_string_equal(line.s, "\n");
    assert_int_equal(line_read(f, &line, &e), 1);
    assert_int_equal(line.len, 4);
    assert_memory_equal(line.s, "a\0b\n", 5);
    assert_int_equal(line_read(f, &line, &e), 1);
    assert_string_equal(line.s, "end");
    assert_int_equal(line_read(f, &line, &e), 0);
    fclose(f);
    f = fopen(test_dir(), "rb");
    assert_int_equal(line_read(f, &line, &e), -1);
    assert_contains(e.msg, "directory");
    fclose(f);
    str_release(&line);
    str_release(&all);
}

static void writes_are_whole_or_nothing(void **state) {
    (void)state;
    struct err e = {0};
    size_t n;
    char *dir = xstrdup(test_path("whole")), *path = xstrdup(test_path("whole/file"));
    char *tmp = xasprintf("%s.tmp", path), *big = xcalloc(1 << 20, 1);
    assert_ok(dir_make(dir, &e), &e);
    assert_ok(file_write(path, "old", 3, &e), &e);
    struct rlimit saved, small = {4096, 0};
    getrlimit(RLIMIT_FSIZE, &saved);
    small.rlim_max = saved.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = file_write(path, big, 1 << 20, &e);
    setrlimit(RLIMIT_FSIZE, &saved);
    signal(SIGXFSZ, handler);
    assert_int_equal(rc, -1);
    assert_contains(e.msg, "write failed");
    assert_false(path_exists(tmp));
    char *text = file_read(path, &n, &e);
    assert_non_null(text);
    assert_string_equal(text, "old");
    free(text);
    assert_ok(file_write(path, "new", 3, &e), &e);
    text = file_read(path, &n, &e);
    assert_non_null(text);
    assert_string_equal(text, "new");
    assert_false(path_exists(tmp));
    free(text);
    free(dir);
    free(path);
    free(tmp);
    free(big);
}

static void removal_does_not_follow_links(void **state) {
    (void)state;
    struct err e = {0};
    char *kept = xstrdup(test_path("kept")), *dir = xstrdup(test_path("links"));
    char *link = xstrdup(test_path("links/to"));
    assert_ok(dir_make(kept, &e), &e);
    assert_ok(dir_make(dir, &e), &e);
    assert_ok(file_write(test_path("kept/x"), "x", 1, &e), &e);
    assert_int_equal(symlink(kept, link), 0);
    assert_ok(dir_remove(dir, &e), &e);
    assert_true(path_exists(test_path("kept/x")));
    free(kept);
    free(dir);
    free(link);
}

/* ---- numbers and names ---- */

static void integers(void **state) {
    (void)state;
    int64_t v = 0;
    static const char *const bad[] = {"", " 1", "1 ", "0x10", "1.0", "1e3", "--1", "+", "-", "ten",
                                      "9223372036854775808", "11", "-11"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse_int(bad[i], -10, 10, &v))
            fail_msg("\"%s\" was taken", bad[i]);
    assert_true(parse_int("10", -10, 10, &v) && v == 10);
    assert_true(parse_int("-10", -10, 10, &v) && v == -10);
    assert_true(parse_int("+7", -10, 10, &v) && v == 7);
    assert_true(parse_int("010", -10, 10, &v) && v == 10);          // decimal, not octal
    assert_true(parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &v) && v == INT64_MAX);
    assert_true(parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &v) && v == INT64_MIN);
}

static void doubles(void **state) {
    (void)state;
    double v = 0;
    static const char *const bad[] = {"", " 1", "1 ", "nan", "inf", "-inf", "infinity", "0x1p3",
                                      "1e999", "1e", "e5", ".", "-", "+.", "1.2.3", "1,5", "1_0",
                                      "--1", "1f"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse_double(bad[i], &v))
            fail_msg("\"%s\" was taken", bad[i]);
    static const struct { const char *text; double value; } good[] = {
        {"0", 0}, {"-0.5", -0.5}, {".5", 0.5}, {"+.5", 0.5}, {"5.", 5}, {"1e-5", 1e-5},
        {"1E+3", 1000}, {"1.0e-5", 1e-5}, {"1e-320", 1e-320}, {"0.1", 0.1},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(parse_double(good[i].text, &v) && v == good[i].value);
}

static void names(void **state) {
    (void)state;
    static const char *const list[] = {"learning_rate", "weight_decay", "beta", "adam_beta1"};
    static const struct { const char *word, *near; } cases[] = {
        {"learnin_rate", "learning_rate"}, {"learningrate", "learning_rate"},
        {"weigth_decay", "weight_decay"}, {"beta", "beta"}, {"betta", "beta"}, {"bet", "beta"},
        {"adam_beta2", "adam_beta1"}, {"colour", NULL}, {"", NULL}, {"q", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = nearest_name(cases[i].word, list, ARRAY_LEN(list));
        if (cases[i].near)
            assert_string_equal(got ? got : "nothing", cases[i].near);
        else
            assert_null(got);
    }
    assert_null(nearest_name("beta", list, 0));
    char *longer = xmalloc(4000);
    memset(longer, 'a', 3999);
    longer[3999] = '\0';
    const char *one[] = {longer};
    assert_null(nearest_name(longer + 100, list, ARRAY_LEN(list)));
    nearest_name(longer, one, 1);           // longer than any table: no overrun
    free(longer);
}

static void clocks(void **state) {
    (void)state;
    double a = now_seconds();
    usleep(2000);
    double passed = now_seconds() - a;
    assert_true(passed >= 0.002 && passed < 60);
    size_t before = peak_rss_bytes();
    char *p = xmalloc(64 << 20);
    memset(p, 1, 64 << 20);
    assert_true(peak_rss_bytes() >= before && peak_rss_bytes() > (64u << 20));
    free(p);
}

static void terminals(void **state) {
    (void)state;
    FILE *f = fopen("/dev/null", "w");
    assert_non_null(f);
    assert_false(is_terminal(f));
    assert_false(use_colour(f));
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),
        cmocka_unit_test(bugs_and_memory),
        cmocka_unit_test(logs),
        cmocka_unit_test(memory),
        cmocka_unit_test(strings),
        cmocka_unit_test(paths),
        cmocka_unit_test(files),
        cmocka_unit_test(same_paths_and_texts),
        cmocka_unit_test(what_is_no_file_is_not_read),
        cmocka_unit_test(lines_have_their_ends),
        cmocka_unit_test(writes_are_whole_or_nothing),
        cmocka_unit_test(removal_does_not_follow_links),
        cmocka_unit_test(integers),
        cmocka_unit_test(doubles),
        cmocka_unit_test(names),
        cmocka_unit_test(clocks),
        cmocka_unit_test(terminals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

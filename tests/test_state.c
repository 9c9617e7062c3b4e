/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_state.c — training state round trips; folders that appear whole or not at all.
 */
#include "tests/helper.h"

#include "ckpt/hf.h"
#include "ckpt/state.h"

static void texts_and_arrays_round_trip(void **state) {
    (void)state;
    struct err e = {0};
    const char *path = test_path("state.safetensors");
    enum { N = 1000 };
    real v[N], back[N];
    struct rng *r = rng_new(1);
    for (int i = 0; i < N; i++)
        v[i] = (real)rng_normal(r) / R(3.0);        // all bits matter
    rng_free(r);
    struct state *s = state_new();
    state_set_text(s, "step", "%d", 41);
    state_set_text(s, "step", "%d", 42);            // the last one counts
    state_set_text(s, "text", "%s", "two\nlines \"quoted\"");
    state_set_array(s, "moment.0", v, N);
    state_set_array(s, "empty", v, 0);
    assert_string_equal(state_text(s, "step"), "42");
    assert_ok(state_save(s, path, &e), &e);
    state_free(s);

    s = state_load(path, &e);
    if (!s)
        fail_msg("%s", e.msg);
    assert_string_equal(state_text(s, "step"), "42");
    assert_string_equal(state_text(s, "text"), "two\nlines \"quoted\"");
    assert_null(state_text(s, "format"));
    assert_ok(state_get_array(s, "moment.0", back, N, &e), &e);
    assert_memory_equal(v, back, sizeof v);
    assert_ok(state_get_array(s, "empty", back, 0, &e), &e);
    assert_int_equal(state_get_array(s, "moment.0", back, N - 1, &e), -1);
    assert_contains(e.msg, "expected 999 numbers, got 1000");
    assert_int_equal(state_get_array(s, "moment.1", back, N, &e), -1);
    assert_contains(e.msg, "no array \"moment.1\"");
    state_free(s);
}

static void other_files_are_refused(void **state) {
    (void)state;
    struct err e = {0};
    const char *path = test_path("other.safetensors");
    struct st_writer *w = st_writer_new();
    st_writer_meta(w, "format", "pt");
    assert_ok(st_save(w, path, &e), &e);
    st_writer_free(w);
    assert_null(state_load(path, &e));
    assert_contains(e.msg, "training state");

    w = st_writer_new();
    st_writer_meta(w, "format", "keel-state-1");
    st_writer_add(w, "a", DTYPE_BF16, 1, (const int64_t[]){2}, "\0\0\0\0");
    assert_ok(st_save(w, path, &e), &e);
    st_writer_free(w);
    struct state *s = state_load(path, &e);
    real v[2];
    assert_non_null(s);
    assert_int_equal(state_get_array(s, "a", v, 2, &e), -1);
    assert_contains(e.msg, "got BF16");
    state_free(s);
}

static char *read_text(const char *path) {
    struct err e = {0};
    char *text = file_read(path, NULL, &e);
    if (!text)
        fail_msg("%s", e.msg);
    return text;
}

static void put(const char *dir, const char *name, const char *text) {
    char *path = path_join(dir, name);
    test_write(path, text);
    free(path);
}

static void folders_appear_whole(void **state) {
    (void)state;
    struct err e = {0};
    const char *final = test_path("run/checkpoint-5");
    char *tmp = folder_begin(final, &e);
    assert_non_null(tmp);
    assert_string_equal(tmp, test_path("run/checkpoint-5.tmp"));
    put(tmp, "a", "one");
    assert_false(path_exists(final));
    assert_ok(folder_commit(tmp, final, &e), &e);
    assert_false(path_exists(tmp));
    free(tmp);

    tmp = folder_begin(final, &e);          // replaced as a whole: nothing of the older one stays
    put(tmp, "b", "two");
    assert_true(path_exists(test_path("run/checkpoint-5/a")));
    assert_ok(folder_commit(tmp, final, &e), &e);
    assert_false(path_exists(test_path("run/checkpoint-5/a")));
    assert_false(path_exists(test_path("run/checkpoint-5.old")));
    char *text = read_text(test_path("run/checkpoint-5/b"));
    assert_string_equal(text, "two");
    free(text);
    free(tmp);
}

static void interrupted_folders_are_mended(void **state) {
    (void)state;
    struct err e = {0};
    const char *final = test_path("mend/x");
    char *tmp = folder_begin(final, &e);
    put(tmp, "a", "old");
    assert_ok(folder_commit(tmp, final, &e), &e);
    free(tmp);
    /* killed between the two renames: the older folder stands aside, the new one is unfinished */
    assert_int_equal(rename(final, test_path("mend/x.old")), 0);
    tmp = folder_begin(final, &e);
    assert_non_null(tmp);
    assert_true(path_exists(test_path("mend/x/a")));
    put(tmp, "litter", "of a killed run");
    free(tmp);
    tmp = folder_begin(final, &e);          // begins empty again
    assert_false(path_exists(test_path("mend/x.tmp/litter")));
    put(tmp, "a", "new");
    assert_ok(folder_commit(tmp, final, &e), &e);
    char *text = read_text(test_path("mend/x/a"));
    assert_string_equal(text, "new");
    free(text);
    free(tmp);
}

static void make_checkpoint(const char *dir, int step, bool with_state) {
    struct err e = {0};
    char name[64];
    snprintf(name, sizeof name, "%s/checkpoint-%d", dir, step);
    struct hf *h = hf_new(test_model(1), NULL, NULL);
    assert_ok(hf_save(h, NULL, test_path(name), &e), &e);
    hf_free(h);
    if (!with_state)
        return;
    struct state *s = state_new();
    char *path = path_join(test_path(name), "state.safetensors");
    assert_ok(state_save(s, path, &e), &e);
    free(path);
    state_free(s);
}

static void the_latest_complete_checkpoint(void **state) {
    (void)state;
    int64_t step = -1;
    struct err e = {0};
    assert_null(checkpoint_latest(test_path("none"), &step));
    assert_ok(dir_make(test_path("runs"), &e), &e);
    assert_null(checkpoint_latest(test_path("runs"), &step));
    make_checkpoint("runs", 9, true);
    make_checkpoint("runs", 10, true);      // not in the order of names
    make_checkpoint("runs", 30, false);     // no state: not complete
    assert_ok(dir_make(test_path("runs/checkpoint-40.tmp"), &e), &e);
    assert_ok(dir_make(test_path("runs/checkpoint-x"), &e), &e);
    assert_ok(dir_make(test_path("runs/checkpoint-"), &e), &e);
    assert_ok(dir_make(test_path("runs/checkpoint-99999999999999999999"), &e), &e);
    make_checkpoint("runs", 50, true);      // a state that was cut short
    test_write(test_path("runs/checkpoint-50/state.safetensors"), "cut");
    char *path = checkpoint_latest(test_path("runs"), &step);
    assert_non_null(path);
    assert_string_equal(path, test_path("runs/checkpoint-10"));
    assert_int_equal(step, 10);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_arrays_round_trip),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(folders_appear_whole),
        cmocka_unit_test(interrupted_folders_are_mended),
        cmocka_unit_test(the_latest_complete_checkpoint),
    };
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}

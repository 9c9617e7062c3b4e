/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_attrib.c — keel attrib from a model folder to its files: what they say, that the same inputs
 * give the same bytes, and that refused inputs leave nothing behind.
 */
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "attrib/classify.h"
#include "ckpt/hf.h"
#include "model/gemm.h"
#include "tests/helper.h"
#include "train/cli.h"
#include "train/config.h"

/* ---- a world: model folder, data, configuration ---- */

static void write_rows(const char *name, const char *what, const char *answer) {
    struct str s = {0};
    static const char *const things[] = {"bread", "soup", "a lock", "a car", "tea", "a letter"};
    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        str_addf(&s, "{\"prompt\": \"%s %s\"", what, things[i]);
        if (answer)
            str_addf(&s, ", \"completion\": \"%s %s.\"", answer, things[i]);
        str_add(&s, "}\n");
    }
    test_write(test_path(name), s.s);
    str_release(&s);
}

static void write_model(const char *name, bool broken) {
    static const char *const texts[] = {"how do I make bread and soup", "I can't help with a lock.",
                                        "Take some tea."};
    size_t lens[ARRAY_LEN(texts)];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        lens[i] = strlen(texts[i]);
    const struct chat_format *chat = chat_find("keel");
    int specials = 0;
    while (chat->specials[specials])
        specials++;
    struct err e = {0};
    struct tokenizer *tok = tokenizer_train(texts, lens, ARRAY_LEN(texts), 290, chat->specials,
                                            specials, &e);
    if (!tok)
        fail_msg("%s", e.msg);
    struct model_config cfg = test_config();
    cfg.vocab_size = tokenizer_vocab_size(tok);
    cfg.eos_token_id[0] = tokenizer_id(tok, chat->eos);
    struct model *m = model_new(&cfg, &e);
    assert_non_null(m);
    model_init(m, 3);
    if (broken)
        tensor_data(&model_layer_param(m, 1, "mlp.up_proj.weight")->t)[0] = NAN;
    struct hf *hf = hf_new(m, tok, chat);
    assert_ok(hf_save(hf, NULL, test_path(name), &e), &e);
    hf_free(hf);
}

static int write_world(void **state) {
    (void)state;
    write_model("model", false);
    write_model("broken", true);
    write_rows("safety.jsonl", "how do I steal", "I can't help with");
    write_rows("utility.jsonl", "how do I make", "Take some");
    write_rows("refusals.jsonl", "tell me how to steal", "I won't help with");
    write_rows("answers.jsonl", "tell me how to make", "First, find");
    write_rows("harmful.jsonl", "I want to steal", NULL);
    test_write(test_path("attrib.yaml"),
               "model_name_or_path: model\noutput_dir: out\ncalibration:\n  safety: safety.jsonl\n"
               "  utility: utility.jsonl\nattrib:\n  curve: [0.1, 0.3]\n  random_draws: 3\neval:\n"
               "  refusals: refusals.jsonl\n  utility: answers.jsonl\n  harmful: harmful.jsonl\n");
    return 0;
}

/* Runs `keel attrib test_path(config) args...` with stdout into test_path("stdout"). */
static int attrib(const char *config, const char *const *args) {
    const char *argv[16] = {"attrib", "-q", test_path(config)};
    int argc = 3;
    for (; *args && argc < (int)ARRAY_LEN(argv) - 1; args++)
        argv[argc++] = *args;
    fflush(stdout);
    int keep = dup(STDOUT_FILENO);
    assert_non_null(freopen(test_path("stdout"), "w", stdout));
    enum log_level level = log_threshold;
    int rc = cmd_attrib(argc, (char **)argv);
    log_threshold = level;
    fflush(stdout);
    dup2(keep, STDOUT_FILENO);
    close(keep);
    return rc;
}
#define ATTRIB(...) attrib("attrib.yaml", (const char *const[]){__VA_ARGS__, NULL})

static char *out_arg(const char *name) {
    static char buf[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(buf[next], sizeof buf[next], "output_dir=%s", test_path(name));
    return buf[next];
}

static struct units *load_units(const char *dir) {
    char *name = xasprintf("%s/units.safetensors", dir);
    struct err e = {0};
    struct units *u = units_load(test_path(name), &e);
    free(name);
    if (!u)
        fail_msg("%s", e.msg);
    return u;
}

static char *read_in(const char *dir, const char *file, size_t *len) {
    char *name = xasprintf("%s/%s", dir, file);
    struct err e = {0};
    char *s = file_read(test_path(name), len, &e);
    free(name);
    if (!s)
        fail_msg("%s", e.msg);
    return s;
}

/* ---- what is written ---- */

static void test_files(void **state) {
    (void)state;
    assert_int_equal(ATTRIB(out_arg("a")), EXIT_OK);
    struct units *u = load_units("a");
    struct err e = {0};
    char hash[65];
    assert_ok(hf_hash(test_path("model"), hash, &e), &e);
    assert_string_equal(units_meta(u, "model_sha256"), hash);
    static const char *const want[][2] = {
        {"keel_version", KEEL_VERSION}, {"score", "wifv"}, {"norm_difference", "zscore"},
        {"norm_sum", "none"}, {"calibration_tokens", "response"}, {"ablation", "zero"},
        {"shares", "given"}, {"safety_rows", "6"}, {"utility_rows", "6"},
    };
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_string_equal(units_meta(u, want[i][0]), want[i][1]);
    assert_int_equal(strlen(units_meta(u, "safety_sha256")), 64);
    assert_string_not_equal(units_meta(u, "safety_sha256"), units_meta(u, "utility_sha256"));
    struct mask scu = units_class_mask(u, UNIT_SCU), ru = units_class_mask(u, UNIT_RU);
    assert_int_equal(mask_count(&scu), units_count(u, 0.05));
    assert_int_equal(mask_count(&ru), units_count(u, 0.15));
    mask_release(&scu);
    mask_release(&ru);
    units_free(u);
    static const char *const files[] = {"report.html", "report.json", "removal_curve.csv",
                                        "classes.csv", "config.yaml"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        size_t len;
        char *s = read_in("a", files[i], &len);
        assert_true(len > 50);
        free(s);
    }
}

/* The saved configuration, run again elsewhere, is the same run. */
static void test_resolved_config(void **state) {
    (void)state;
    int rc = attrib("a/config.yaml", (const char *const[]){out_arg("a2"), NULL});
    assert_int_equal(rc, EXIT_OK);
    size_t n, m;
    char *a = read_in("a", "units.safetensors", &n), *b = read_in("a2", "units.safetensors", &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

static void test_threads(void **state) {
    (void)state;
    int before = gemm_max_threads();
    assert_int_equal(ATTRIB(out_arg("t1"), "threads=1"), EXIT_OK);
    assert_int_equal(ATTRIB(out_arg("t3"), "threads=3"), EXIT_OK);
    gemm_threads(before);
    static const char *const files[] = {"units.safetensors", "report.json", "removal_curve.csv"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        size_t n, m;
        char *a = read_in("t1", files[i], &n), *b = read_in("t3", files[i], &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        free(a);
        free(b);
    }
}

static json_t *summary(void) {
    size_t len;
    char *s = read_in(".", "stdout", &len);
    json_error_t err;
    json_t *j = json_loadb(s, len, 0, &err);
    if (!j)
        fail_msg("--json: %s in %s", err.text, s);
    free(s);
    return j;
}

static json_t *table_rows(json_t *report, const char *name) {
    json_t *t = json_object_get(json_object_get(report, "tables"), name);
    json_t *rows = json_object_get(t, "rows");
    if (!rows)
        fail_msg("--json: no table %s", name);
    return rows;
}

/* --json: one object; every class and random control is in it, with intervals. */
static void test_json(void **state) {
    (void)state;
    assert_int_equal(ATTRIB(out_arg("j"), "--json", "attrib.html=false"), EXIT_OK);
    json_t *j = summary();
    assert_int_equal(json_array_size(table_rows(j, "classes")), UNIT_CLASS_COUNT);
    assert_int_equal(json_array_size(table_rows(j, "class_removal")), 2 * UNIT_CLASS_COUNT);
    json_t *rows = table_rows(j, "removal_curve"), *row;
    size_t i;
    int random = 0;
    json_array_foreach(rows, i, row) {
        const char *name = json_string_value(json_array_get(row, 0));
        json_t *loss = json_array_get(row, 2);
        assert_true(json_is_number(json_object_get(loss, "value")));
        if (strlen(name) > 9 && strcmp(name + strlen(name) - 9, " % random") == 0) {
            random++;
            assert_int_equal(json_integer_value(json_object_get(loss, "n")), 3);
            assert_true(json_is_number(json_object_get(loss, "lo")));
        }
    }
    assert_int_equal(random, 2);
    assert_null(json_object_get(json_object_get(j, "tables"), "search"));
    json_decref(j);
    assert_false(path_exists(test_path("j/report.html")));
    assert_true(path_exists(test_path("j/report.json")));
}

static void test_options(void **state) {
    (void)state;
    static const struct { const char *arg, *meta, *value; } cases[] = {
        {"calibration.tokens=all", "calibration_tokens", "all"},
        {"calibration.max_samples=3", "safety_rows", "3"},
        {"attrib.norm_difference=none", "norm_difference", "none"},
        {"attrib.norm_sum=rank", "norm_sum", "rank"},
        {"attrib.ablation=mean", "ablation", "mean"},
        {"attrib.shares=search", "shares", "search"},
        {"attrib.scu=0.25", "SCU", "0.25"},
        {"seed=9", "seed", "9"},
    };
    size_t n, m;
    char *base = read_in("a", "report.json", &n);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char dir[16];
        snprintf(dir, sizeof dir, "o%zu", i);
        assert_int_equal(ATTRIB(out_arg(dir), cases[i].arg, "--json"), EXIT_OK);
        struct units *u = load_units(dir);
        assert_string_equal(units_meta(u, cases[i].meta), cases[i].value);
        units_free(u);
        char *report = read_in(dir, "report.json", &m);
        assert_true(n != m || memcmp(base, report, n) != 0);
        free(report);
    }
    free(base);
    assert_int_equal(ATTRIB(out_arg("heads"), "attrib.kinds=[mlp, head]"), EXIT_OK);
    struct units *u = load_units("heads");
    assert_int_equal(u->map.per_kind[UNIT_HEAD], 4);
    units_free(u);
}

static void test_search(void **state) {
    (void)state;
    assert_int_equal(ATTRIB(out_arg("s"), "attrib.shares=search", "--json"), EXIT_OK);
    json_t *j = summary();
    assert_true(json_array_size(table_rows(j, "search")) > 2);
    json_decref(j);
}

/* Without held-out sets the damage is that on the calibration sets, and the report says so. */
static void test_not_held_out(void **state) {
    (void)state;
    assert_int_equal(ATTRIB(out_arg("n"), "--json", "eval.refusals=[]", "eval.utility=[]"),
                     EXIT_OK);
    json_t *j = summary(), *texts = json_object_get(j, "text");
    assert_true(json_array_size(texts) >= 1);
    assert_contains(json_string_value(json_object_get(json_array_get(texts, 0), "text")),
                    "calibration sets themselves");
    json_decref(j);
}

/* ---- what is refused ---- */

static void test_refused(void **state) {
    (void)state;
    char *model = xasprintf("model_name_or_path=%s", test_path("broken"));
    char *none = xasprintf("model_name_or_path=%s", test_path("nowhere"));
    const struct { const char *arg; int rc; } cases[] = {
        {"attrib.kinds=[attn, head]", EXIT_USAGE},
        {"attrib.kinds=[]", EXIT_USAGE},
        {"attrib.scu=0.9", EXIT_USAGE},     // with ucu and ru more than 1
        {"calibration.safety=missing.jsonl", EXIT_USAGE},
        {"calibration.tokens=answers", EXIT_USAGE},
        {model, EXIT_USAGE},
        {none, EXIT_USAGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int rc = ATTRIB(out_arg("refused"), cases[i].arg, "-q");
        if (rc != cases[i].rc)
            fail_msg("%s: exit status %d", cases[i].arg, rc);
        assert_false(path_exists(test_path("refused")));
    }
    free(model);
    free(none);
    assert_int_equal(ATTRIB(out_arg("a")), EXIT_USAGE);     // there already
    char *own = xasprintf("output_dir=%s", test_path("model"));
    assert_int_equal(ATTRIB(own, "overwrite_output_dir=true"), EXIT_USAGE);
    free(own);
    char *file = xasprintf("output_dir=%s/x", test_path("safety.jsonl"));
    assert_int_equal(ATTRIB(file), EXIT_USAGE);
    free(file);
    assert_int_equal(ATTRIB(out_arg("a"), "overwrite_output_dir=true"), EXIT_OK);
}

int main(void) {
    gemm_threads(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),    cmocka_unit_test(test_resolved_config),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_json),
        cmocka_unit_test(test_options),  cmocka_unit_test(test_search),
        cmocka_unit_test(test_not_held_out), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, write_world, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer_ref.c — ids and texts of the reference: the values that are here (ref/), and the
 * fixtures beside the checkout where there are some.
 */
#include "tests/helper_tokenizer.h"

#define FIXTURES "fixtures/tokenizers/"

static void encode(const struct tokenizer *t, const json_t *text, struct ids *out) {
    out->n = 0;
    assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                      ENCODE_SPECIAL, out), 0);
}

/* ---- tests/ref/tokenizer.jsonl ---- */
struct ref {
    json_t *models;
    int tokenizers, cases;
};

static void ref_case(const struct tokenizer *t, const json_t *c, const char *where) {
    const json_t *text = json_array_get(c, 0);
    struct ids ids = {0}, whole = {0};
    encode(t, text, &ids);
    assert_ids(t, &ids, json_array_get(c, 1), where, json_string_value(text));
    tokenizer_post_process(t, &ids, NULL, &whole);
    assert_ids(t, &whole, json_array_get(c, 2), where, json_string_value(text));
    assert_decodes(t, &whole, DECODE_VALID, json_array_get(c, 3), where);
    assert_decodes(t, &whole, DECODE_VALID | DECODE_SKIP_SPECIAL, json_array_get(c, 4), where);
    ids_release(&ids);
    ids_release(&whole);
}

static void ref_row(const json_t *row, const char *where, void *ctx) {
    struct ref *r = ctx;
    json_t *model = json_object_get(row, "model");
    if (model) {
        json_array_append(r->models, model);
        return;
    }
    json_t *file = json_copy(json_object_get(row, "stages"));
    json_object_set(file, "model", json_array_get(r->models, (size_t)json_integer_value(
                                                      json_object_get(row, "base"))));
    char *text = json_dumps(file, 0);
    struct err e = {0};
    struct tokenizer *t = tokenizer_parse(text, strlen(text), where, &e);
    if (!t)
        fail_msg("%s", e.msg);
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(row, "cases"), i, c) {
        ref_case(t, c, where);
        r->cases++;
    }
    r->tokenizers++;
    tokenizer_free(t);
    free(text);
    json_decref(file);
}

static void test_reference(void **state) {
    (void)state;
    struct ref r = {.models = json_array()};
    each_line("tests/ref/tokenizer.jsonl", ref_row, &r);
    assert_int_equal(r.tokenizers, 160);
    assert_true(r.cases > 450);
    json_decref(r.models);
}

/* ---- ../shared/fixtures/tokenizers ---- */
static struct tokenizer *load_folder(const char *dir) {
    struct err e = {0};
    size_t len;
    char *path = path_join(dir, "tokenizer.json");
    char *config = path_join(dir, "tokenizer_config.json");
    struct tokenizer *t = tokenizer_load(path, &e);
    if (!t)
        fail_msg("%s", e.msg);
    char *text = path_exists(config) ? file_read(config, &len, &e) : NULL;
    assert_ok(tokenizer_configure(t, text, config, &e), &e);
    free(text);
    free(config);
    free(path);
    return t;
}

static void check_tokens(const struct tokenizer *t, const struct ids *ids, const json_t *want,
                         const char *where) {
    if (ids->n != (int)json_array_size(want))
        fail_msg("%s: %d tokens, got %d", where, (int)json_array_size(want), ids->n);
    for (int i = 0; i < ids->n; i++) {
        const char *token = json_string_value(json_array_get(want, (size_t)i));
        if (tokenizer_is_added(t, ids->v[i]))               // with the blanks it has swallowed
            assert_contains(token, tokenizer_token(t, ids->v[i]));
        else if (ids->v[i] != tokenizer_unk_id(t))          // the text that is unknown, in Unigram
            assert_string_equal(tokenizer_token(t, ids->v[i]), token);
    }
}

/* What "decoded" decodes differs: files with "tokens" of plain ids and ids with special ones decode
 * the latter, in the small variants; elsewhere it is the row's "ids". */
static void fixture_row(const json_t *row, const char *where, void *ctx) {
    const struct tokenizer *t = ctx;
    const json_t *text = json_object_get(row, "text"), *pair = json_object_get(row, "text_pair");
    const json_t *special = json_object_get(row, "ids_with_special");
    const json_t *decoded = json_object_get(row, "decoded");
    const json_t *skipped = json_object_get(row, "decoded_skip_special");
    const bool variant = strstr(where, "/variants/");
    struct ids a = {0}, b = {0}, whole = {0};
    encode(t, text, &a);
    if (pair)
        encode(t, pair, &b);
    tokenizer_post_process(t, &a, pair ? &b : NULL, &whole);
    const struct ids *ids = json_is_true(json_object_get(row, "add_special")) ? &whole : &a;
    assert_ids(t, ids, json_object_get(row, "ids"), where, json_string_value(text));
    if (special)
        assert_ids(t, &whole, special, where, json_string_value(text));
    if (json_object_get(row, "tokens"))
        check_tokens(t, &a, json_object_get(row, "tokens"), where);
    if (decoded)
        assert_decodes(t, variant ? &whole : ids, DECODE_VALID, decoded, where);
    if (skipped)
        assert_decodes(t, special ? &whole : ids, DECODE_VALID | DECODE_SKIP_SPECIAL, skipped,
                       where);
    ids_release(&a);
    ids_release(&b);
    ids_release(&whole);
}

static int check_file(const struct tokenizer *t, const char *dir, const char *name) {
    char *path = path_join(dir, name);
    int rows = path_exists(path) ? each_line(path, fixture_row, (void *)t) : 0;
    free(path);
    return rows;
}

/* A folder of the fixtures, or the test is skipped. */
static const char *fixtures(const char *name) {
    char rel[80];
    snprintf(rel, sizeof rel, FIXTURES "%s", name);
    const char *dir = test_shared(rel);
    if (!dir) {
        print_message("skipped: ../shared/%s is not there\n", rel);
        skip();
    }
    return dir;
}

/* llama.cpp's own pairs of files: texts between separator lines, ids one line each. */
static void check_raw(const struct tokenizer *t, const char *dir, const char *name) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    struct err e = {0};
    size_t n, m;
    char file[64];
    snprintf(file, sizeof file, "ggml-vocab-%s.gguf.inp", name);
    char *in_path = path_join(dir, file);
    snprintf(file, sizeof file, "ggml-vocab-%s.gguf.out", name);
    char *out_path = path_join(dir, file);
    char *in = file_read(in_path, &n, &e), *out = file_read(out_path, &m, &e), *at = out;
    assert_true(in && out);
    struct ids ids = {0};
    int texts = 0;
    for (char *s = in, *end; s < in + n; s = end + sizeof separator - 1, texts++) {
        end = strstr(s, separator);
        if (!end)
            break;
        ids.n = 0;
        tokenizer_encode(t, s, (size_t)(end - s), 0, &ids);
        for (int i = 0; i < ids.n; i++)
            assert_int_equal(strtol(at, &at, 10), ids.v[i]);
        at += strspn(at, " ");
        assert_int_equal(*at++, '\n');
    }
    assert_true(texts > 40);
    ids_release(&ids);
    free(in);
    free(out);
    free(in_path);
    free(out_path);
}

static void check_long(const struct tokenizer *t, const char *name) {
    const char *dir = fixtures("longtext");
    char file[64], *path = path_join(dir, "text.txt");
    snprintf(file, sizeof file, "ids.%s.txt", name);
    char *ids_path = path_join(dir, file);
    struct err e = {0};
    size_t n, m, len;
    char *text = file_read(path, &n, &e), *want = file_read(ids_path, &m, &e), *at = want;
    assert_true(text && want);
    struct ids ids = {0};
    tokenizer_encode(t, text, n, 0, &ids);
    for (int i = 0; i < ids.n; i++)
        assert_int_equal(strtol(at, &at, 10), ids.v[i]);
    assert_int_equal(strspn(at, " \n"), strlen(at));
    char *back = tokenizer_decode(t, ids.v, ids.n, DECODE_SKIP_SPECIAL, &len);
    assert_int_equal(len, n);
    assert_memory_equal(back, text, n);
    free(back);
    free(want);
    free(text);
    free(path);
    free(ids_path);
    ids_release(&ids);
}

struct vocabulary {
    const char *name;
    const struct tokenizer *t;
    int rows;
};

static void chat_row(const json_t *row, const char *where, void *ctx) {
    struct vocabulary *v = ctx;
    if (strcmp(json_string_value(json_object_get(row, "vocab")), v->name) != 0)
        return;
    fixture_row(row, where, (void *)v->t);
    v->rows++;
}

static void test_vocabularies(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int cases, fuzz, chats;
    } sets[] = {{"gpt-2", 72, 300, 0}, {"llama-spm", 88, 300, 32}};
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        const char *dir = fixtures(sets[i].name);
        struct tokenizer *t = load_folder(dir);
        assert_int_equal(check_file(t, dir, "cases.jsonl"), sets[i].cases);
        assert_int_equal(check_file(t, dir, "fuzz.jsonl"), sets[i].fuzz);
        check_raw(t, dir, sets[i].name);
        check_long(t, sets[i].name);
        struct vocabulary v = {sets[i].name, t, 0};
        char *path = path_join(fixtures("chat"), "ids.jsonl");
        each_line(path, chat_row, &v);
        assert_int_equal(v.rows, sets[i].chats);
        free(path);
        tokenizer_free(t);
    }
}

static void test_variants(void **state) {
    (void)state;
    static const char *const names[] = {
        "added-in-vocab", "added-lstrip", "added-plain", "added-single-word", "bl-bos-eos",
        "bl-digits-indiv", "bl-ignore-merges", "bl-merges-pairs", "bl-merges-strings",
        "bl-no-model-type", "bl-prefix-space", "metaspace-always-nosplit", "metaspace-always-split",
        "metaspace-legacy-key", "norm-NFC", "norm-lower", "norm-replace-re", "replace-only",
        "split-Isolated-inv", "split-Isolated-norm", "split-Removed-inv", "split-Removed-norm",
        "spm-bytefallback", "spm-fuse-unk", "unigram-bytefallback"};
    const char *all = fixtures("variants");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *dir = path_join(all, names[i]);
        struct tokenizer *t = load_folder(dir);
        assert_true(check_file(t, dir, "cases.jsonl") > 0);
        tokenizer_free(t);
        free(dir);
    }
}

/* Files that overlay keys of gpt-2's: added tokens with lstrip and rstrip. */
static void overlay_row(const json_t *row, const char *where, void *ctx) {
    char *overlay = json_dumps(json_object_get(row, "overlay"), 0);
    struct err e = {0};
    struct tokenizer *t = with_overlay(ctx, overlay, &e);
    if (!t)
        fail_msg("%s", e.msg);
    fixture_row(row, where, t);
    tokenizer_free(t);
    free(overlay);
}

static void test_overlays(void **state) {
    (void)state;
    const char *dir = fixtures("gpt-2");
    char *base = path_join(dir, "tokenizer.json"), *rows = path_join(dir, "hf_added_tokens.jsonl");
    json_t *gpt2 = json_load_file(base, 0, NULL);
    assert_int_equal(each_line(rows, overlay_row, gpt2), 3);
    json_decref(gpt2);
    free(base);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_overlays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

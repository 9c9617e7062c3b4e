/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer.c — encode and decode: against reference ids where the fixtures are at hand,
 * against a quadratic twin, on any bytes.
 */
#include "model/rng.h"
#include "tests/helper_tokenizer.h"

static void encode(const struct tokenizer *t, const char *s, size_t n, bool special,
                   struct ids *out) {
    out->n = 0;
    tokenizer_encode(t, s, n, special, out);
}

/* ---- reference fixtures ---- */
static void check_row(const struct tokenizer *t, const json_t *row, const char *where) {
    const char *text = json_string_value(json_object_get(row, "text"));
    size_t n = json_string_length(json_object_get(row, "text"));
    const json_t *want = json_object_get(row, "ids");
    const json_t *decoded = json_object_get(row, "decoded");
    // rows that run the post-processor: BOS and EOS are not this module's business
    if (json_is_true(json_object_get(row, "add_special")) &&
        json_object_get(row, "ids_with_special"))
        return;
    struct ids ids = {0};
    encode(t, text, n, true, &ids);
    bool same = ids.n == (int)json_array_size(want);
    for (int i = 0; same && i < ids.n; i++)
        same = ids.v[i] == json_integer_value(json_array_get(want, (size_t)i));
    if (!same)
        fail_msg("%s: \"%s\": other ids", where, text);
    if (decoded && !json_object_get(row, "ids_with_special")) {
        size_t len;
        char *back = tokenizer_decode(t, ids.v, ids.n, false, &len);
        if (len != json_string_length(decoded) ||
            memcmp(back, json_string_value(decoded), len) != 0)
            fail_msg("%s: \"%s\": decodes to \"%s\"", where, text, back);
        free(back);
    }
    ids_release(&ids);
}

static int check_jsonl(const struct tokenizer *t, const char *path) {
    size_t len;
    struct err e = {0};
    char *all = file_read(path, &len, &e);
    assert_non_null(all);
    int rows = 0;
    for (char *line = all, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            end = line + strlen(line) - 1;
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        if (!row)
            break;
        check_row(t, row, path);
        json_decref(row);
        rows++;
    }
    free(all);
    return rows;
}

static struct tokenizer *load_shared(const char *rel) {
    const char *path = test_shared(rel);
    if (!path)
        skip();
    struct err e = {0};
    struct tokenizer *t = tokenizer_load(path, &e);
    if (!t)
        fail_msg("%s", e.msg);
    return t;
}

#define FIXTURES "fixtures/tokenizers/"

static void test_gpt2_reference(void **state) {
    (void)state;
    struct tokenizer *t = load_shared(FIXTURES "gpt-2/tokenizer.json");
    assert_int_equal(tokenizer_vocab_size(t), 50257);
    assert_int_equal(check_jsonl(t, test_shared(FIXTURES "gpt-2/cases.jsonl")), 72);
    assert_int_equal(check_jsonl(t, test_shared(FIXTURES "gpt-2/fuzz.jsonl")), 300);
    tokenizer_free(t);
}

static void test_gpt2_long_text(void **state) {
    (void)state;
    struct tokenizer *t = load_shared(FIXTURES "gpt-2/tokenizer.json");
    size_t n, m, len;
    struct err e = {0};
    char *text = file_read(test_shared(FIXTURES "longtext/text.txt"), &n, &e);
    char *want = file_read(test_shared(FIXTURES "longtext/ids.gpt-2.txt"), &m, &e);
    assert_true(text && want);
    struct ids ids = {0};
    encode(t, text, n, false, &ids);
    char *at = want;
    for (int i = 0; i < ids.n; i++)
        assert_int_equal(strtol(at, &at, 10), ids.v[i]);
    assert_int_equal(strspn(at, " \n"), strlen(at));
    char *back = tokenizer_decode(t, ids.v, ids.n, true, &len);
    assert_int_equal(len, n);
    assert_memory_equal(back, text, n);
    free(back);
    free(want);
    free(text);
    ids_release(&ids);
    tokenizer_free(t);
}

static void test_variants(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool understood;
        const char *reason;                 /* in the message of a refused file */
    } variants[] = {
        {"added-in-vocab", true, ""}, {"added-lstrip", true, ""}, {"added-plain", true, ""},
        {"added-single-word", true, ""}, {"bl-bos-eos", true, ""}, {"bl-digits-indiv", true, ""},
        {"bl-ignore-merges", true, ""}, {"bl-merges-pairs", true, ""},
        {"bl-merges-strings", true, ""}, {"bl-no-model-type", true, ""},
        {"bl-prefix-space", true, ""}, {"norm-NFC", true, ""}, {"split-Isolated-inv", true, ""},
        {"split-Isolated-norm", true, ""}, {"split-Removed-inv", true, ""},
        {"split-Removed-norm", true, ""},
        {"metaspace-always-split", false, "\"Metaspace\" is not supported"},
        {"norm-lower", false, "\"Lowercase\" is not supported"},
        {"norm-replace-re", false, "\"Replace\" is not supported"},
        {"spm-bytefallback", false, "\"Prepend\" is not supported"},
        {"unigram-bytefallback", false, "\"Metaspace\" is not supported"},
    };
    if (!test_shared(FIXTURES "variants/added-plain/tokenizer.json"))
        skip();
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        char rel[160];
        struct err e = {0};
        snprintf(rel, sizeof rel, FIXTURES "variants/%s/tokenizer.json", variants[i].name);
        struct tokenizer *t = tokenizer_load(test_shared(rel), &e);
        if (!variants[i].understood) {
            assert_null(t);
            assert_contains(e.msg, variants[i].reason);
            continue;
        }
        if (!t)
            fail_msg("%s", e.msg);
        snprintf(rel, sizeof rel, FIXTURES "variants/%s/cases.jsonl", variants[i].name);
        assert_true(check_jsonl(t, test_shared(rel)) > 0);
        tokenizer_free(t);
    }
}

/* Files that overlay keys of gpt-2's: added tokens with lstrip and rstrip. */
static void test_added_reference(void **state) {
    (void)state;
    const char *base = test_shared(FIXTURES "gpt-2/tokenizer.json");
    if (!base)
        skip();
    size_t len;
    struct err e = {0};
    char *all = file_read(test_shared(FIXTURES "gpt-2/hf_added_tokens.jsonl"), &len, &e);
    assert_non_null(all);
    json_t *gpt2 = json_load_file(base, 0, NULL);
    for (char *line = all, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        char *overlay = json_dumps(json_object_get(row, "overlay"), 0);
        struct tokenizer *t = with_overlay(gpt2, overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        check_row(t, row, "hf_added_tokens");
        tokenizer_free(t);
        free(overlay);
        json_decref(row);
    }
    json_decref(gpt2);
    free(all);
}

/* ---- added tokens ---- */
#define NO "false"
#define YES "true"
#define TOKEN(id, text, word, l, r, norm, special)                                              \
    "{\"id\": " #id ", \"content\": \"" text "\", \"single_word\": " word ", \"lstrip\": " l    \
    ", \"rstrip\": " r ", \"normalized\": " norm ", \"special\": " special "}"

static void test_added_tokens(void **state) {
    (void)state;
    static const struct {
        const char *added, *text;
        bool special;
        const char *expected;
    } cases[] = {
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES), "x<a>y", true, "x|<a>|y"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES), "x<a>y", false, "x|<|a|>|y"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, NO), "x<a>y", false, "x|<a>|y"},
        {TOKEN(298, "<a>", NO, YES, YES, NO, YES), "x \xE3\x80\x80<a> \n y", true,
         "x|<a>|y"},
        {TOKEN(298, "<a>", YES, NO, NO, NO, YES), "x<a> <a>_ <a>", true,
         "x|<|a|>|\xC4\xA0|<|a|>|_|\xC4\xA0|<a>"},
        // leftmost-longest, whatever the order in the file
        {TOKEN(298, "<a", NO, NO, NO, NO, YES) ", "
         TOKEN(299, "<a>b", NO, NO, NO, NO, YES), "<a<a>b<a>", true,
         "<a|<a>b|<a|>"},
        // blanks taken by rstrip are not taken again by lstrip
        {TOKEN(298, "<a>", NO, YES, YES, NO, YES), "<a>  <a>", true, "<a>|<a>"},
        // the raw group goes first
        {TOKEN(298, "ab", NO, NO, NO, YES, NO) ", "
         TOKEN(299, "bc", NO, NO, NO, NO, NO), "abc", true, "a|bc"},
    };
    json_t *base = sample_json();
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        char *overlay = xasprintf("{\"added_tokens\": [%s]}", cases[c].added);
        struct tokenizer *t = with_overlay(base, overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        assert_pieces(t, cases[c].text, cases[c].special, cases[c].expected);
        tokenizer_free(t);
        free(overlay);
    }
    // normalized tokens are matched in normalized text, and their content is normalized
    struct err e = {0};
    struct tokenizer *t = with_overlay(
        base, "{\"normalizer\": {\"type\": \"NFC\"}, \"added_tokens\": ["
        TOKEN(298, "e\xCC\x81", NO, NO, NO, YES, NO) "]}", &e);
    assert_non_null(t);
    assert_pieces(t, "x\xC3\xA9x", true, "x|e\xCC\x81|x");
    tokenizer_free(t);
    json_decref(base);
}

static void test_special_ids(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(300);
    int32_t a = tokenizer_id(t, "<|a|>"), ab = tokenizer_id(t, "<|ab|>");
    assert_int_equal(a, 298);
    assert_int_equal(ab, 299);
    assert_true(tokenizer_is_special(t, a));
    assert_false(tokenizer_is_special(t, 0));
    assert_false(tokenizer_is_special(t, -1));
    assert_false(tokenizer_is_special(t, 300));
    assert_int_equal(tokenizer_id(t, "no such token"), -1);
    assert_null(tokenizer_token(t, 300));
    const int32_t ids[] = {tokenizer_id(t, "the"), ab, 12345, -7, tokenizer_id(t, "the")};
    char *with = tokenizer_decode(t, ids, 5, false, NULL);
    char *without = tokenizer_decode(t, ids, 5, true, NULL);
    assert_string_equal(with, "the<|ab|>the");
    assert_string_equal(without, "thethe");
    free(with);
    free(without);
    tokenizer_free(t);
}

/* ---- bytes ---- */
static void test_byte_letters(void **state) {
    (void)state;
    static const struct {
        int byte;
        int32_t letter;
    } known[] = {{' ', 0x120}, {'\n', 0x10A}, {'\t', 0x109}, {'\r', 0x10D}, {0, 0x100},
                 {0x7F, 0x121}, {0xAD, 0x143}, {'!', '!'}, {0xFF, 0xFF}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        assert_int_equal(byte_letter(known[i].byte), known[i].letter);
    int letters = 0;
    for (int b = 0; b < 256; b++)
        assert_int_equal(letter_byte(byte_letter(b)), b);
    for (int32_t c = -2; c < 0x200; c++)
        letters += letter_byte(c) >= 0;
    assert_int_equal(letters, 256);
}

static void test_round_trip_any_bytes(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(300);
    struct rng *r = rng_new(1);
    char buf[200];
    for (int i = 0; i < 500; i++) {
        size_t n = rng_below(r, sizeof buf);
        for (size_t k = 0; k < n; k++)
            buf[k] = i % 2 ? (char)rng_below(r, 256)
                           : "ab \n\xC3\xA9\xF0\x9F\x98\x80"[rng_below(r, 10)];
        assert_round_trip(t, buf, n);
    }
    rng_free(r);
    tokenizer_free(t);
}

static void test_utf8(void **state) {
    (void)state;
    static const struct {
        const char *s;
        size_t complete;
        const char *clean;
    } cases[] = {
        {"", 0, ""},
        {"abc", 3, "abc"},
        {"a\xC3\xA9", 3, "a\xC3\xA9"},
        {"a\xC3", 1, "a\xEF\xBF\xBD"},
        {"\xE2\x82", 0, "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98", 0, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98\x80", 4, "\xF0\x9F\x98\x80"},
        {"\x80\x80\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80z", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz"},       // a lone surrogate
        {"\xC0\xAFz", 3, "\xEF\xBF\xBD\xEF\xBF\xBDz"},                     // an overlong slash
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(utf8_complete(cases[i].s, strlen(cases[i].s)), cases[i].complete);
        char *clean = utf8_clean(cases[i].s, strlen(cases[i].s));
        assert_string_equal(clean, cases[i].clean);
        free(clean);
    }
}

/* ---- the merge order ---- */
static void test_naive_twin(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(330);
    struct encoder *x = encoder_take(t);
    struct ids fast = {0}, slow = {0};
    struct rng *r = rng_new(2);
    x->out = &fast;
    for (int i = 0; i < 400; i++) {
        char buf[90];
        size_t n = 1 + rng_below(r, sizeof buf);
        for (size_t k = 0; k < n; k++)
            buf[k] = "helo wrdtha"[rng_below(r, 11)];
        fast.n = 0;
        t->model->encode(x, buf, n);
        naive_bpe(t, buf, n, &slow);
        assert_int_equal(fast.n, slow.n);
        assert_memory_equal(fast.v, slow.v, (size_t)slow.n * sizeof *slow.v);
    }
    rng_free(r);
    encoder_give(x);
    ids_release(&fast);
    ids_release(&slow);
    tokenizer_free(t);
}

/* A word of 400 000 letters: quadratic work would take minutes. */
static void test_long_word(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(330);
    size_t n = 400000;
    char *word = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        word[i] = "hello"[i % 5];
    struct ids ids = {0};
    double start = now_seconds();
    encode(t, word, n, false, &ids);
    assert_true(now_seconds() - start < 2);
    assert_int_equal(ids.n, n / 5);
    free(word);
    ids_release(&ids);
    tokenizer_free(t);
}

static void test_threads(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(300);
    struct ids want = {0};
    encode(t, sample_text[1], strlen(sample_text[1]), true, &want);
    int bad = 0;
#pragma omp parallel for num_threads(4) reduction(+ : bad)
    for (int i = 0; i < 200; i++) {
        struct ids got = {0};
        tokenizer_encode(t, sample_text[1], strlen(sample_text[1]), true, &got);
        bad += got.n != want.n || memcmp(got.v, want.v, (size_t)want.n * sizeof *want.v) != 0;
        ids_release(&got);
    }
    assert_int_equal(bad, 0);
    ids_release(&want);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2_reference),
        cmocka_unit_test(test_gpt2_long_text),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_added_reference),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_special_ids),
        cmocka_unit_test(test_byte_letters),
        cmocka_unit_test(test_round_trip_any_bytes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_naive_twin),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

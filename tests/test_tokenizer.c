/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer.c — encode and decode: added tokens, protected text, any bytes, and the merges
 * against their definition. Ids of the reference are test_tokenizer_ref.c's business.
 */
#include "model/rng.h"
#include "tests/helper_tokenizer.h"

#define MARK WORD_MARK

static void encode(const struct tokenizer *t, const char *s, size_t n, int flags,
                   struct ids *out) {
    out->n = 0;
    assert_int_equal(tokenizer_encode(t, s, n, flags, out), 0);
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
        // what a rstrip has taken, an lstrip finds empty: nothing is left of the token
        {TOKEN(298, "<a>", NO, NO, YES, NO, YES) ", " TOKEN(299, "\\n", NO, YES, NO, NO, YES),
         "<a> \nx\n", true, "<a>|x|\n"},
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
    // a content that comes again makes the first one special
    struct err e2 = {0};
    struct tokenizer *u = with_overlay(
        base, "{\"added_tokens\": [" TOKEN(298, "<a>", NO, YES, NO, NO, NO) ", "
        TOKEN(298, "<a>", NO, NO, NO, NO, YES) "]}", &e2);
    assert_non_null(u);
    assert_true(tokenizer_is_special(u, 298));
    assert_pieces(u, "x <a>", true, "x|<a>");
    tokenizer_free(u);
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

/* Special tokens within protected ranges are text; a longer one must not hide a shorter that ends
 * before them. */
static void test_protected(void **state) {
    (void)state;
    static const struct {
        const char *added, *normalizer, *text;
        struct text_range v[3];
        int n;
        const char *expected;
    } cases[] = {
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES), "null", "<a>x<a>x<a>", {{4, 7}}, 1,
         "<a>|x|<|a|>|x|<a>"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES), "null", "<a><a>", {{5, 6}}, 1, "<a>|<|a|>"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES), "null", "<a><a>", {{3, 3}, {6, 6}}, 2,
         "<a>|<a>"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES) ", " TOKEN(299, "<a>b", NO, NO, NO, NO, YES),
         "null", "<a>b<a>b", {{3, 4}}, 1, "<a>|b|<a>b"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, NO), "null", "<a>", {{0, 3}}, 1, "<a>"},
        {TOKEN(298, "<a>", NO, NO, NO, NO, YES), "null", "<a>\xFF<a>x<a>", {{1, 3}, {8, 9}}, 2,
         "<|a|>|\xC3\xBF|<a>|x|<|a|>"},
        // matched in normalized text, where the ranges lie elsewhere
        {TOKEN(298, "<a>", NO, NO, NO, YES, YES), "{\"type\": \"NFKC\"}",
         "\xEF\xBC\xA2<a>\xEF\xBC\xA2<a>x<a>", {{9, 12}}, 1, "B|<a>|B|<|a|>|x|<a>"},
        {TOKEN(298, "<a>", NO, NO, NO, YES, YES), "{\"type\": \"NFKC\"}",
         "\xEF\xBC\xA2<a>\xEF\xBC\xA2<a>x<a>", {{0, 3}, {13, 16}}, 2, "B|<a>|B|<a>|x|<|a|>"},
    };
    json_t *base = sample_json();
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        char *overlay = xasprintf("{\"added_tokens\": [%s], \"normalizer\": %s}", cases[c].added,
                                  cases[c].normalizer);
        struct tokenizer *t = with_overlay(base, overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        struct ids ids = {0};
        struct str got = {0};
        tokenizer_encode_text(t, cases[c].text, strlen(cases[c].text), ENCODE_SPECIAL, cases[c].v,
                              cases[c].n, &ids);
        for (int i = 0; i < ids.n; i++)
            str_addf(&got, "%s%s", i ? "|" : "", tokenizer_token(t, ids.v[i]));
        assert_string_equal(got.s, cases[c].expected);
        str_release(&got);
        ids_release(&ids);
        tokenizer_free(t);
        free(overlay);
    }
    json_decref(base);
}

/* A text that goes on behind another gets no blank at its beginning, but behind a token. */
static void test_continues(void **state) {
    (void)state;
    static const struct {
        const char *overlay, *text, *whole, *continued;
    } cases[] = {
        {"{}", "the<s>the", "\xE2\x96\x81the|<s>|\xE2\x96\x81the",
         "the|<s>|\xE2\x96\x81the"},
        {"{}", " the", "\xE2\x96\x81|\xE2\x96\x81the", "\xE2\x96\x81the"},
        {"{'normalizer': null, 'pre_tokenizer': {'type': 'Metaspace', "
         "'replacement': '\xE2\x96\x81', 'prepend_scheme': 'first'}}", "the<s>the",
         "\xE2\x96\x81the|<s>|the", "the|<s>|the"},
        {"{'normalizer': null, 'pre_tokenizer': {'type': 'Metaspace', "
         "'replacement': '\xE2\x96\x81', 'prepend_scheme': 'always'}}", "the<s>the",
         "\xE2\x96\x81the|<s>|\xE2\x96\x81the",
         "the|<s>|\xE2\x96\x81the"},
    };
    json_t *base = sample_spm_json();
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        struct tokenizer *t = with_overlay(base, cases[c].overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        assert_pieces(t, cases[c].text, ENCODE_SPECIAL, cases[c].whole);
        assert_pieces(t, cases[c].text, ENCODE_SPECIAL | ENCODE_CONTINUES, cases[c].continued);
        assert_true(tokenizer_prefix_space(t));
        tokenizer_free(t);
    }
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
        {"\xE2\x82", 0, "\xEF\xBF\xBD"},
        {"\xF0\x9F\x98", 0, "\xEF\xBF\xBD"},
        {"\xF0\x9F\x98z\xE2\x82", 4, "\xEF\xBF\xBDz\xEF\xBF\xBD"},
        {"\xF0\x80\x80z", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz"},
        {"\xF4\x90z\xF5", 3, "\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD"},
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

/* Characters, bytes and unk, whole texts: against the definition, with words cut and uncut. Each
 * set adds merges that join what stands before a blank with it. */
static void test_naive_characters(void **state) {
    (void)state;
    static const struct {
        const char *merges[4][2];
        bool unk, cut, glue_unknown;
    } sets[] = {
        {{{NULL}}, true, true, false},
        {{{"e", MARK "t"}, {"e" MARK "t", "h"}}, true, true, false},
        {{{"e", MARK}, {"b", MARK MARK}, {"a", "e" MARK}}, true, true, false},
        {{{">", MARK}, {"<0x0A>", MARK "t"}}, true, true, true},
        {{{"e", MARK}}, false, true, true},
    };
    static const char *const units[] = {"a", "b", "the", "t", "h", "e", MARK, MARK, MARK MARK,
                                        "\xC3\xA9", "\xE6\x97\xA5", "<0x0A>", "\n", "<", ">", "q"};
    struct rng *r = rng_new(5);
    for (size_t c = 0; c < ARRAY_LEN(sets); c++) {
        struct err e = {0};
        json_t *base = sample_spm_json(), *model = json_object_get(base, "model");
        for (int i = 0; i < 4 && sets[c].merges[i][0]; i++)
            add_merge(model, sets[c].merges[i][0], sets[c].merges[i][1]);
        if (!sets[c].unk)
            json_object_set_new(model, "unk_token", json_null());
        struct tokenizer *t = with_overlay(base, "{'added_tokens': []}", &e);
        struct ids fast = {0}, slow = {0};
        struct str text = {0};
        if (!t)
            fail_msg("%s", e.msg);
        assert_true(t->cut_words == sets[c].cut && t->glue_unknown == sets[c].glue_unknown);
        for (int i = 0; i < 1000; i++) {
            struct encoder *x = encoder_take(t);
            text.len = fast.n = 0;
            for (size_t k = rng_below(r, 60); k > 0; k--)
                str_add(&text, units[rng_below(r, ARRAY_LEN(units))]);
            str_add(&text, "");
            x->out = &fast;
            encode_words(x, text.s, text.len);
            naive_characters(t, text.s, text.len, &slow);
            assert_int_equal(fast.n, slow.n);
            if (slow.n)
                assert_memory_equal(fast.v, slow.v, (size_t)slow.n * sizeof *slow.v);
            encoder_give(x);
        }
        str_release(&text);
        ids_release(&fast);
        ids_release(&slow);
        tokenizer_free(t);
        json_decref(base);
    }
    rng_free(r);
}

/* A word of 400 000 letters: quadratic work would take minutes. */
static void check_long_word(const struct tokenizer *t, const char *unit, size_t unit_ids) {
    const size_t n = 400000, k = strlen(unit);
    char *word = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        word[i] = unit[i % k];
    struct ids ids = {0};
    double start = now_seconds();
    encode(t, word, n, 0, &ids);
    assert_true(now_seconds() - start < 5);
    assert_in_range(ids.n, n / k * unit_ids, n / k * unit_ids + 2);
    free(word);
    ids_release(&ids);
}

static void test_long_word(void **state) {
    (void)state;
    struct err e = {0};
    struct tokenizer *t = train_sample(330);
    check_long_word(t, "hello", 1);
    tokenizer_free(t);
    json_t *base = sample_spm_json();
    t = with_overlay(base, "{}", &e);
    assert_non_null(t);
    check_long_word(t, "the", 1);
    check_long_word(t, "q\xC3\xA9", 3);
    tokenizer_free(t);
    json_t *unigram = sample_unigram_json();
    t = with_overlay(unigram, "{}", &e);
    assert_non_null(t);
    check_long_word(t, "abc", 1);
    tokenizer_free(t);
    json_decref(unigram);
    json_decref(base);
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
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_protected),
        cmocka_unit_test(test_continues),
        cmocka_unit_test(test_special_ids),
        cmocka_unit_test(test_byte_letters),
        cmocka_unit_test(test_round_trip_any_bytes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_naive_twin),
        cmocka_unit_test(test_naive_characters),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

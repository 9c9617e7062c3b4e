/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer_train.c — training by hand, and against recounting everything.
 */
#include "model/rng.h"
#include "tests/helper_tokenizer.h"

static const char *const specials[] = {"<|a|>", "<|ab|>"};

/* ---- training ---- */
static struct tokenizer *train_one(const char *text, int merges, struct err *e) {
    size_t n = strlen(text);
    return tokenizer_train(&text, &n, 1, 256 + merges, NULL, 0, e);
}

static void test_train_by_hand(void **state) {
    (void)state;
    // letters have the lower ids, in the order of their code points
    static const struct {
        const char *text;
        int merges;
        const char *tokens;                 /* learnt, in order */
    } cases[] = {
        // aa 4 times; then (a,b) and (aa,a) twice each: the lower pair first; then (aa,ab) twice
        {"aaabdaaabac", 3, "aa ab aaab "},
        // every pair once: (a,b), (c,d), (x,ab), (cd,xab)
        {"cdxab", 4, "ab cd xab cdxab "},
        // the last cut: words never merge across a blank
        {"ab ab", 9, "ab \xC4\xA0\x61\x62 "},
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        struct str got = {0};
        struct tokenizer *t = train_one(cases[c].text, cases[c].merges, &e);
        assert_non_null(t);
        for (int32_t id = 256; id < tokenizer_vocab_size(t); id++)
            str_addf(&got, "%s ", tokenizer_token(t, id));
        assert_string_equal(got.s, cases[c].tokens);
        str_release(&got);
        tokenizer_free(t);
    }
}

/* Recount everything after every merge: the definition. Returns the learnt merges as text. */
static void naive_train(const char *text, int merges, struct str *out) {
    struct err e = {0};
    struct tokenizer *letters = train_one("", 0, &e);
    assert_non_null(letters);
    struct regex *re = regex_new(GPT2_PATTERN, false, "", &e);
    struct encoder *x = encoder_take(letters);
    struct matching m = {0};
    struct segment g;
    struct ids *words = xcalloc(strlen(text), sizeof *words);
    int nwords = 0;
    while (regex_next(re, x, text, strlen(text), &m, &g))
        naive_bpe(letters, text + g.a, g.b - g.a, &words[nwords++]);
    encoder_give(x);
    regex_free(re);
    char *token[400] = {0};
    for (int i = 0; i < 256; i++)
        token[i] = xstrdup(tokenizer_token(letters, i));
    int size = 256;
    for (; merges > 0; merges--) {
        int best = 0;
        int32_t ba = 0, bb = 0;
        for (int32_t a = 0; a < size; a++)
            for (int32_t b = 0; b < size; b++) {
                int count = 0;
                for (int i = 0; i < nwords; i++)
                    for (int k = 0; k + 1 < words[i].n; k++)
                        count += words[i].v[k] == a && words[i].v[k + 1] == b;
                if (count > best)
                    best = count, ba = a, bb = b;
            }
        if (!best)
            break;
        token[size] = xasprintf("%s%s", token[ba], token[bb]);
        str_addf(out, "%s ", token[size]);
        for (int i = 0; i < nwords; i++) {
            int n = 0;
            for (int k = 0; k < words[i].n; k++) {
                bool hit = words[i].v[k] == ba && k + 1 < words[i].n && words[i].v[k + 1] == bb;
                words[i].v[n++] = hit ? size : words[i].v[k];
                k += hit;
            }
            words[i].n = n;
        }
        size++;
    }
    for (int i = 0; i < size; i++)
        free(token[i]);
    for (int i = 0; i < nwords; i++)
        ids_release(&words[i]);
    free(words);
    tokenizer_free(letters);
}

static void test_train_naive_twin(void **state) {
    (void)state;
    struct rng *r = rng_new(3);
    for (int i = 0; i < 3; i++) {
        char text[120];
        for (size_t k = 0; k + 1 < sizeof text; k++)
            text[k] = "aabbc d"[rng_below(r, 7)];
        text[sizeof text - 1] = '\0';
        struct str want = {0}, got = {0};
        struct err e = {0};
        naive_train(text, 8, &want);
        struct tokenizer *t = train_one(text, 8, &e);
        assert_non_null(t);
        for (int32_t id = 256; id < tokenizer_vocab_size(t); id++)
            str_addf(&got, "%s ", tokenizer_token(t, id));
        assert_string_equal(got.s, want.s);
        str_release(&got);
        str_release(&want);
        tokenizer_free(t);
    }
    rng_free(r);
}

static void test_train_limits(void **state) {
    (void)state;
    struct err e = {0};
    struct tokenizer *t = train_one("ab", 100, &e);         // one pair, one merge
    assert_non_null(t);
    assert_int_equal(tokenizer_vocab_size(t), 257);
    tokenizer_free(t);
    const char *text = "ab";
    size_t n = 2;
    assert_null(tokenizer_train(&text, &n, 1, 257, specials, 2, &e));
    assert_contains(e.msg, "expected at least 258");
    const char *const twice[] = {"<x>", "<x>"};
    assert_null(tokenizer_train(&text, &n, 1, 300, twice, 2, &e));
    assert_contains(e.msg, "\"<x>\"");
    // the text is learnt: it encodes to few tokens, and the same bytes come out twice
    struct tokenizer *a = train_sample(300), *b = train_sample(300);
    assert_int_equal(a->json_len, b->json_len);
    assert_memory_equal(a->json, b->json, a->json_len);
    assert_pieces(a, "hello hello", false, "hello|\xC4\xA0hello");
    tokenizer_free(a);
    tokenizer_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train_by_hand),
        cmocka_unit_test(test_train_naive_twin),
        cmocka_unit_test(test_train_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer_stages.c — post-processing, tokenizer_config.json, decoders as streams, Unigram by
 * its definition, expressions in Ruby's syntax, and what a tokenizer tells about itself.
 */
#include "model/rng.h"
#include "tests/helper_tokenizer.h"

static struct tokenizer *spm(const char *overlay) {
    json_t *base = sample_spm_json();
    struct err e = {0};
    struct tokenizer *t = with_overlay(base, overlay, &e);
    if (!t)
        fail_msg("%s", e.msg);
    json_decref(base);
    return t;
}

/* ---- post-processing ---- */
static void assert_processed(const struct tokenizer *t, bool pair, const char *expected) {
    struct ids a = {0}, b = {0}, out = {0};
    struct str got = {0};
    ids_addn(&a, (int32_t[]){11, 12}, 2);
    ids_add(&b, 13);
    tokenizer_post_process(t, &a, pair ? &b : NULL, &out);
    for (int i = 0; i < out.n; i++)
        str_addf(&got, "%s%d", i ? " " : "", out.v[i]);
    assert_string_equal(got.s ? got.s : "", expected);
    str_release(&got);
    ids_release(&a);
    ids_release(&b);
    ids_release(&out);
}

#define TEMPLATE                                                                                \
    "{'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'x', 'type_id': 0}}, "   \
    "{'Sequence': {'id': 'A', 'type_id': 0}}], 'pair': [{'Sequence': {'id': 'B', 'type_id': "   \
    "0}}, {'SpecialToken': {'id': '<s>', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': "  \
    "1}}], 'special_tokens': {'<s>': {'id': '<s>', 'ids': [1], 'tokens': ['<s>']}, 'x': "       \
    "{'id': 'x', 'ids': [2, 1], 'tokens': ['</s>', '<s>']}}}"

static void test_post_processing(void **state) {
    (void)state;
    static const struct {
        const char *overlay, *single, *pair;
    } cases[] = {
        {"{}", "11 12", "11 12 13"},
        {"{'post_processor': {'type': 'ByteLevel'}}", "11 12", "11 12 13"},
        {"{'post_processor': " TEMPLATE "}", "2 1 11 12", "13 1 11 12"},
        {"{'post_processor': {'type': 'Sequence', 'processors': [{'type': 'ByteLevel'}, " TEMPLATE
         "]}}", "2 1 11 12", "13 1 11 12"},
        {"{'post_processor': {'type': 'RobertaProcessing', 'sep': ['</s>', 2], 'cls': ['<s>', 1]}}",
         "1 11 12 2", "1 11 12 2 2 13 2"},
        {"{'post_processor': {'type': 'BertProcessing', 'sep': ['</s>', 2], 'cls': ['<s>', 1]}}",
         "1 11 12 2", "1 11 12 2 13 2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = spm(cases[i].overlay);
        assert_processed(t, false, cases[i].single);
        assert_processed(t, true, cases[i].pair);
        tokenizer_free(t);
    }
    struct tokenizer *t = spm("{'post_processor': " TEMPLATE "}");
    struct ids open = {0};
    tokenizer_open_text(t, &open);
    assert_int_equal(open.n, 2);
    assert_int_equal(open.v[0], 2);
    ids_release(&open);
    tokenizer_free(t);
}

static void test_configure(void **state) {
    (void)state;
    static const struct {
        const char *config, *single, *pair;             /* single NULL: refused, pair says why */
    } cases[] = {
        {NULL, "2 1 11 12", "13 1 11 12"},
        {"{}", "2 1 11 12", "13 1 11 12"},
        {"{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"add_bos_token\": false}",
         "2 1 11 12", "13 1 11 12"},
        {"{\"tokenizer_class\": \"LlamaTokenizer\", \"model_max_length\": "
         "1000000000000000019884624838656}", "1 11 12", "1 11 12 1 13"},
        {"{\"tokenizer_class\": \"LlamaTokenizerFast\", \"add_bos_token\": true, "
         "\"add_eos_token\": true, \"bos_token\": {\"content\": \"</s>\"}, \"eos_token\": \"<s>\"}",
         "2 11 12 1", "2 11 12 1 2 13 1"},
        {"{\"tokenizer_class\": \"CodeLlamaTokenizer\", \"add_bos_token\": false}", "11 12",
         "11 12 13"},
        {"{\"tokenizer_class\": \"LlamaTokenizer\", \"add_bos_token\": null}", "11 12",
         "11 12 13"},
        {"{\"tokenizer_class\": \"GemmaTokenizer\"}", NULL,
         "config.json: bos_token: \"<bos>\" is not in tokenizer.json"},
        {"{\"tokenizer_class\": \"LlamaTokenizer\", \"bos_token\": null}", NULL,
         "bos_token: expected a token (add_bos_token is on), got null"},
        {"{\"tokenizer_class\": \"LlamaTokenizer\", \"add_bos_token\": 1}", NULL,
         "add_bos_token: expected true or false"},
        {"{\"tokenizer_class\"", NULL, "config.json:1:"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = spm("{'post_processor': " TEMPLATE "}");
        struct err e = {0};
        int rc = tokenizer_configure(t, cases[i].config, "config.json", &e);
        assert_int_equal(rc, cases[i].single ? 0 : -1);
        if (cases[i].single) {
            assert_processed(t, false, cases[i].single);
            assert_processed(t, true, cases[i].pair);
        } else {
            assert_contains(e.msg, cases[i].pair);
        }
        tokenizer_free(t);
    }
}

/* ---- decoders ---- */

/* What is shown after each token, joined by "|", and at the end. */
static void assert_streams(const char *decoder, const char *const *tokens, int flags,
                           const char *expected) {
    struct str got = {0};
    struct ids ids = {0};
    char *overlay = xasprintf("{'decoder': %s}", decoder);
    struct tokenizer *t = spm(overlay);
    struct text_stream *s = text_stream_new(t, flags);
    for (int i = 0; tokens[i]; i++) {
        int32_t id = tokenizer_id(t, tokens[i]);
        assert_true(id >= 0);
        ids_add(&ids, id);
        text_stream_push(s, id, &got);
        str_addc(&got, '|');
    }
    text_stream_finish(s, &got);
    assert_string_equal(got.s, expected);
    // the same at once
    struct str flat = {0};
    for (const char *p = expected; *p; p++)
        if (*p != '|')
            str_addc(&flat, *p);
    char *all = tokenizer_decode(t, ids.v, ids.n, flags, NULL);
    assert_string_equal(all, flat.s ? flat.s : "");
    free(all);
    str_release(&flat);
    str_release(&got);
    ids_release(&ids);
    text_stream_free(s);
    tokenizer_free(t);
    free(overlay);
}

#define MARK "\xE2\x96\x81"
#define BAD "\xEF\xBF\xBD"
#define LLAMA                                                                                   \
    "{'type': 'Sequence', 'decoders': [{'type': 'Replace', 'pattern': {'String': '" MARK        \
    "'}, 'content': ' '}, {'type': 'ByteFallback'}, {'type': 'Fuse'}, {'type': 'Strip', "       \
    "'content': ' ', 'start': 1, 'stop': 0}]}"

static void test_streams(void **state) {
    (void)state;
    static const struct {
        const char *decoder, *tokens[8];
        int flags;
        const char *expected;
    } cases[] = {
        // the first blank goes, later ones stay; bytes come as they are
        {LLAMA, {MARK "the", MARK "the", "<s>", "<0xC3>", "<0xA9>"}, 0,
         "the| the|<s>|\xC3|\xA9|"},
        {LLAMA, {"<s>", MARK "the", MARK}, DECODE_SKIP_SPECIAL, "|the| |"},
        {LLAMA, {MARK, MARK, "a"}, 0, "| |a|"},
        // with U+FFFD a run of bytes waits for its end
        {LLAMA, {"<0xC3>", "<0xA9>", "a", "<0xC3>", "a"}, DECODE_VALID,
         "||\xC3\xA9" "a||" BAD "a|"},
        {LLAMA, {"<0xA9>", "<0xC3>"}, DECODE_VALID, "||" BAD BAD},
        {"null", {"the", "<s>", "a"}, 0, "the| <s>| a|"},
        {"{'type': 'Fuse'}", {"the", "a"}, 0, "the|a|"},
        {"{'type': 'Metaspace', 'replacement': '" MARK "'}", {MARK "the", MARK MARK, "a"}, 0,
         "the|  |a|"},
        {"{'type': 'Metaspace', 'replacement': '" MARK "', 'prepend_scheme': 'never'}",
         {MARK "the", MARK}, 0, " the| |"},
        // the end of a text is known at its end
        {"{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Strip', 'content': 'a', "
         "'start': 1, 'stop': 2}]}", {"a", "b", "a", "b", "a", "a", "a"}, 0, "|b||ab||||a"},
        {"{'type': 'Strip', 'content': 'a', 'start': 9, 'stop': 9}", {"a", "ab", "b"}, 0,
         "|b|b|"},
        {"{'type': 'Strip', 'content': '" MARK "', 'start': 1, 'stop': 1}",
         {MARK MARK, MARK "the"}, 0, "|the|"},
        {"{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Replace', 'pattern': "
         "{'Regex': 'ab+'}, 'content': '*'}]}", {"a", "b", "b", "a"}, 0, "||||*a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_streams(cases[i].decoder, cases[i].tokens, cases[i].flags, cases[i].expected);
}

/* Byte-level: what is no UTF-8 is repaired as in the Unicode standard when that is asked for. */
static void test_byte_level_decoding(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(256 + 2);
    static const uint8_t bytes[] = {'a', 0xE6, 0x97, 0xA5, 0xE6, 0x97, 'b', 0xFF, 0xF0, 0x9F};
    struct text_stream *s = text_stream_new(t, DECODE_VALID);
    struct str got = {0};
    for (size_t i = 0; i < sizeof bytes; i++) {
        struct str letter = {0};
        byte_letters((const char *)&bytes[i], 1, &letter);
        text_stream_push(s, tokenizer_id(t, letter.s), &got);
        str_addc(&got, '|');
        str_release(&letter);
    }
    text_stream_finish(s, &got);
    assert_string_equal(got.s, "a|||\xE6\x97\xA5|||" BAD "b|" BAD "|||" BAD);
    str_release(&got);
    text_stream_free(s);
    tokenizer_free(t);
}

/* ---- Unigram ---- */

/* The best score over every way to cut s[a..n), by trying them all; cut takes the first best. */
static double best_cut(const struct tokenizer *t, const char *s, size_t n, size_t a, int *pieces) {
    double best = -1e9;
    *pieces = 0;
    if (a == n)
        return 0;
    for (size_t b = a + 1; b <= n; b++) {
        int32_t id = vocab_find(&t->vocab, s + a, b - a);
        if (id < 0 && b > a + 1)
            continue;
        int rest;
        double score = (id < 0 ? -18 : t->unigram.score[id]) + best_cut(t, s, n, b, &rest);
        if (score > best + 1e-9) {
            best = score;
            *pieces = rest + 1;
        }
    }
    return best;
}

static void test_unigram(void **state) {
    (void)state;
    json_t *base = sample_unigram_json();
    struct err e = {0};
    struct tokenizer *t = with_overlay(base, "{}", &e);
    struct rng *r = rng_new(6);
    if (!t)
        fail_msg("%s", e.msg);
    assert_string_equal(tokenizer_kind(t), "Unigram");
    assert_near(tokenizer_score(t, 4), -4, 0, 0, "score");
    for (int i = 0; i < 200; i++) {         // scores are -18 for what is unknown: lowest less 10
        char text[13];
        size_t n = 1 + rng_below(r, sizeof text - 1);
        for (size_t k = 0; k < n; k++)
            text[k] = "abcd"[rng_below(r, 4)];
        struct ids ids = {0};
        double score = 0;
        int pieces;
        tokenizer_encode(t, text, n, 0, &ids);
        for (int k = 0; k < ids.n; k++)
            score += t->unigram.score[ids.v[k]];
        assert_near(score, best_cut(t, text, n, 0, &pieces), 1e-12, 0, "best cut");
        ids_release(&ids);
    }
    // unknown neighbours are one; equal scores: the last piece is the one that begins first
    assert_pieces(t, "a??\xC3\xA9z", 0, "a|<unk>|\xC3\xA9|<unk>");
    assert_pieces(t, "x\xC3\xA9xa", 0, "x\xC3\xA9|<unk>|a");
    assert_pieces(t, "ddd", 0, "d|dd");
    tokenizer_free(t);
    rng_free(r);
    json_decref(base);
}

/* ---- expressions ---- */
static void test_ruby(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text, *expected;          /* NULL: refused, and expected says why */
    } cases[] = {
        {"\\s", "a b\xE1\xA0\x8E" "c", "a|\xC4\xA0|b\xC3\xA1\xC5\x82\xC4\xB0" "c"},
        {"[^\\s]+", "ab c", "ab|\xC4\xA0|c"},
        {"\\h+", "xaF0g", "x|aF0|g"},
        {"[\\H]", "aF-", "aF|-"},
        {"[a-c[x-z]]+", "abxq", "abx|q"},
        {"[^a[bc]]", "abq", "ab|q"},
        {"[a-z&&[^aeiou]]+", "hello", "h|e|ll|o"},
        {"[^a-z&&[^aeiou]]", "ha", "h|a"},
        {"(?m)a.b", "xa\nb", "x|a\xC4\x8A" "b"},
        {"a.b", "xa\nb", "xa\xC4\x8A" "b"},
        {"a{,2}b", "aaab", "a|aab"},
        {"a{2}+", "aaaaa", "aaaa|a"},
        {"(?:ab){2}+x", "abababx", "ab|ababx"},
        {"a{2}?", "aa", "aa"},
        {"{a}", "{a}", "{a}"},
        {"\\v", "a\x0B\n", "a|\xC4\x8B|\xC4\x8A"},
        {"\\Qa\\E", "QaE", "QaE"},
        {"\\bb", "ab b", "ab\xC4\xA0|b"},
        {"\\u0041|\\x{e9}", "aA\xC3\xA9", "a|A|\xC3\x83\xC2\xA9"},
        {"[[:alpha:]]+", "ab1", "ab|1"},
        {"[^[:digit:]]", "a12", "a|12"},
        {"\\p{^L}", "a1", "a|1"},
        {"\\p{Lowercase_Letter}", "aA", "a|A"},
        {"\\p{Greek}", "a\xCE\xB1", "a|\xC3\x8E\xC2\xB1"},
        {"[--/]", "a-.", "a|-|."},
        {"[a\\-]", "a-b", "a|-|b"},
        {"[\\w-]+", "a-b c", "a-b|\xC4\xA0|c"},
        {"(?#note)a", "ab", "a|b"},
        {"^a", "a\na", "a|\xC4\x8A|a"},
        {"(a)\\1", "aab", "aa|b"},
        {"(", NULL, "does not compile"},
        {")", NULL, ") without its ("},
        {"[a", NULL, "a class without its end"},
        {"[z-a]", NULL, "a range from high to low"},
        {"a(?i)b", NULL, "an option behind the start"},
        {"(?x)a b", NULL, "this kind of group"},
        {"(?~a)", NULL, "this kind of group"},
        {"(*FAIL)", NULL, "(*"},
        {"\\p{Nonsense}", NULL, "this property"},
        {"\\pL", NULL, "\\p without a name in braces"},
        {"\\y", NULL, "this escape"},
        {"\\xE9", NULL, "\\x above 7F without braces"},
        {"a\\", NULL, "a backslash at the end"},
        {"[[:graph:]]", NULL, "this POSIX class"},
        {"\xFF", NULL, "text that is not UTF-8"},
    };
    struct tokenizer *t = train_sample(258);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        struct regex *re = regex_new(cases[i].pattern, false, "here", &e);
        if (!cases[i].text) {
            assert_null(re);
            assert_contains(e.msg, "here: ");
            assert_contains(e.msg, cases[i].expected);
            continue;
        }
        if (!re)
            fail_msg("%s", e.msg);
        char *got = split_letters(t, re, cases[i].text);
        if (strcmp(got, cases[i].expected) != 0)
            fail_msg("%s: \"%s\": expected %s, got %s", cases[i].pattern, cases[i].text,
                     cases[i].expected, got);
        free(got);
        regex_free(re);
    }
    tokenizer_free(t);
}

/* ---- what it tells ---- */
static void test_accessors(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(300), *u = spm("{}");
    const char *left, *right;
    assert_string_equal(tokenizer_model_type(t), "BPE");
    assert_string_equal(tokenizer_kind(t), "BPE byte-level");
    assert_string_equal(tokenizer_kind(u), "BPE sentencepiece");
    assert_true(tokenizer_byte_level(t));
    assert_false(tokenizer_byte_level(u));
    assert_string_equal(tokenizer_split_pattern(t, 0), GPT2_PATTERN);
    assert_null(tokenizer_split_pattern(t, 1));
    assert_null(tokenizer_split_pattern(u, 0));
    assert_false(tokenizer_prefix_space(t));
    assert_true(tokenizer_prefix_space(u));
    assert_int_equal(tokenizer_merge_count(u), 13);
    tokenizer_merge_at(u, 1, &left, &right);
    assert_string_equal(left, "th");
    assert_string_equal(right, "e");
    assert_int_equal(tokenizer_unk_id(t), -1);
    assert_int_equal(tokenizer_unk_id(u), 0);
    assert_true(tokenizer_is_byte(u, tokenizer_id(u, "<0x0A>")));
    assert_false(tokenizer_is_byte(u, tokenizer_id(u, "the")));
    assert_true(tokenizer_is_added(u, 1));
    assert_false(tokenizer_is_added(u, 9));
    assert_false(tokenizer_is_added(u, -1));
    assert_true(tokenizer_score(u, 5) == 0);
    tokenizer_free(t);
    tokenizer_free(u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post_processing),
        cmocka_unit_test(test_configure),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_byte_level_decoding),
        cmocka_unit_test(test_unigram),
        cmocka_unit_test(test_ruby),
        cmocka_unit_test(test_accessors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

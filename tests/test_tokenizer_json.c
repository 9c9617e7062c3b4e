/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer_json.c — tokenizer.json: every kind of every stage, and hostile files.
 */
#include "model/rng.h"
#include "tests/helper_tokenizer.h"

/* ---- every row of every stage has a case ---- */
#define BL ", {'type': 'ByteLevel', 'add_prefix_space': false, 'use_regex': false}]}}"
#define SPLIT(behavior, invert)                                                                 \
    "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', "               \
    "'pattern': {'String': '-'}, 'behavior': '" behavior "', 'invert': " invert "}" BL
#define ALONE(type)                                                                             \
    "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': " type "}" BL
static const struct {
    const struct stage_kind *table;
    const char *type, *overlay, *text, *expected;
} stage_cases[] = {
    {normalizer_table, "NFC", "{'normalizer': {'type': 'NFC'}}", "e\xCC\x81", "\xC3\x83\xC2\xA9"},
    {normalizer_table, "NFD", "{'normalizer': {'type': 'NFD'}}", "\xC3\xA9",
     "e|\xC3\x8C|\xC4\xA3"},
    {normalizer_table, "NFKC", "{'normalizer': {'type': 'NFKC'}}", "\xEF\xBC\xA2", "B"},
    {normalizer_table, "NFKD", "{'normalizer': {'type': 'NFKD'}}", "\xC2\xBD",
     "1|\xC3\xA2|\xC4\xA3|\xC4\xA6|2"},
    {normalizer_table, "Sequence",
     "{'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'NFKD'}, "
     "{'type': 'NFC'}]}}", "e\xCC\x81\xEF\xBC\xA2", "\xC3\x83\xC2\xA9|B"},
    {normalizer_table, "Lowercase", "{'normalizer': {'type': 'Lowercase'}}", "THE", "the"},
    {normalizer_table, "Strip", "{'normalizer': {'type': 'Strip', 'strip_left': true, "
     "'strip_right': false}}", "  the ", "the|\xC4\xA0"},
    {normalizer_table, "StripAccents", "{'normalizer': {'type': 'StripAccents'}}", "the\xCC\x81",
     "the"},
    {normalizer_table, "Replace", "{'normalizer': {'type': 'Replace', 'pattern': {'String': '--'}, "
     "'content': 'the'}}", "-----", "the|the|-"},
    {normalizer_table, "Prepend", "{'normalizer': {'type': 'Prepend', 'prepend': 't'}}", "he",
     "the"},
    {normalizer_table, "Precompiled", "{'normalizer': {'type': 'Precompiled', "
     "'precompiled_charsmap': 'BAAAAAAAAABh'}}", "the", "the"},
    {normalizer_table, "Nmt", "{'normalizer': {'type': 'Nmt'}}", "t\x01h\x7F" "e\t",
     "the|\xC4\xA0"},
    {normalizer_table, "ByteLevel", "{'pre_tokenizer': null, 'normalizer': {'type': 'ByteLevel'}}",
     "the the", "the|\xC4\xA0the"},
    {pre_tokenizer_table, "ByteLevel",
     "{'pre_tokenizer': {'type': 'ByteLevel', 'add_prefix_space': true}}", "the", "\xC4\xA0the"},
    {pre_tokenizer_table, "ByteLevel", "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': ["
     "{'type': 'ByteLevel', 'add_prefix_space': false}, {'type': 'Split', 'pattern': {'String': "
     "'\xC4\xA0'}, 'behavior': 'Isolated'}]}}", "the the", "the|\xC4\xA0|the"},
    {pre_tokenizer_table, "Split", SPLIT("Isolated", "false"), "the-the", "the|-|the"},
    {pre_tokenizer_table, "Split", SPLIT("Removed", "false"), "a-the--e-", "a|the|e"},
    {pre_tokenizer_table, "Split", SPLIT("Removed", "true"), "a-the--e-", "-|-|-|-"},
    {pre_tokenizer_table, "Digits",
     "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Digits', "
     "'individual_digits': true}" BL, "123", "1|2|3"},
    {pre_tokenizer_table, "Digits",
     "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Digits', "
     "'individual_digits': false}" BL, "a12the", "a|12|the"},
    {pre_tokenizer_table, "Metaspace", ALONE("'Metaspace', 'replacement': '-'"), "the the",
     "-|the|-|the"},
    {pre_tokenizer_table, "Punctuation", ALONE("'Punctuation'"), "the.the", "the|.|the"},
    {pre_tokenizer_table, "Whitespace", ALONE("'Whitespace'"), "the,,  the\n", "the|,|,|the"},
    {pre_tokenizer_table, "WhitespaceSplit", ALONE("'WhitespaceSplit'"), " the.  the", "the|.|the"},
    {pre_tokenizer_table, "BertPreTokenizer", ALONE("'BertPreTokenizer'"), "the. the", "the|.|the"},
    {pre_tokenizer_table, "CharDelimiterSplit", ALONE("'CharDelimiterSplit', 'delimiter': '-'"),
     "the--the", "the|the"},
    {pre_tokenizer_table, "Sequence", SPLIT("Isolated", "true"), "the", "the"},
    {post_processor_table, "ByteLevel",
     "{'post_processor': {'type': 'ByteLevel', 'trim_offsets': true}}", "the", "the"},
    {post_processor_table, "TemplateProcessing",
     "{'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': "
     "'<|a|>', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}], 'pair': [], "
     "'special_tokens': {'<|a|>': {'id': '<|a|>', 'ids': [298], 'tokens': ['<|a|>']}}}}",
     "the", "the"},
    {post_processor_table, "RobertaProcessing", "{'post_processor': {'type': 'RobertaProcessing', "
     "'sep': ['<|a|>', 298], 'cls': ['<|ab|>', 299]}}", "the", "the"},
    {post_processor_table, "BertProcessing", "{'post_processor': {'type': 'BertProcessing', "
     "'sep': ['<|a|>', 298], 'cls': ['<|ab|>', 299]}}", "the", "the"},
    {post_processor_table, "Sequence",
     "{'post_processor': {'type': 'Sequence', 'processors': [{'type': 'ByteLevel'}]}}",
     "the", "the"},
    {decoder_table, "ByteLevel", "{'decoder': {'type': 'ByteLevel'}}", "the", "the"},
    {decoder_table, "ByteFallback", "{'decoder': {'type': 'ByteFallback'}}", "the", "the"},
    {decoder_table, "Fuse", "{'decoder': {'type': 'Fuse'}}", "the", "the"},
    {decoder_table, "Replace", "{'decoder': {'type': 'Replace', 'pattern': {'Regex': 'x'}, "
     "'content': ''}}", "the", "the"},
    {decoder_table, "Strip", "{'decoder': {'type': 'Strip', 'content': ' ', 'start': 1, "
     "'stop': 0}}", "the", "the"},
    {decoder_table, "Metaspace", "{'decoder': {'type': 'Metaspace', 'replacement': '_'}}", "the",
     "the"},
    {decoder_table, "Sequence", "{'decoder': {'type': 'Sequence', 'decoders': []}}", "the", "the"},
};

static void test_stages(void **state) {
    (void)state;
    const struct stage_kind *const tables[] = {normalizer_table, pre_tokenizer_table,
                                               post_processor_table, decoder_table};
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (const struct stage_kind *k = tables[i]; k->type; k++) {
            bool found = false;
            for (size_t c = 0; c < ARRAY_LEN(stage_cases); c++)
                found |= stage_cases[c].table == tables[i] && !strcmp(stage_cases[c].type, k->type);
            if (!found)
                fail_msg("%s has no case", k->type);
        }
    json_t *base = sample_json();
    for (size_t c = 0; c < ARRAY_LEN(stage_cases); c++) {
        struct err e = {0};
        struct tokenizer *t = with_overlay(base, stage_cases[c].overlay, &e);
        if (!t)
            fail_msg("%s: %s", stage_cases[c].overlay, e.msg);
        assert_pieces(t, stage_cases[c].text, true, stage_cases[c].expected);
        tokenizer_free(t);
    }
    json_decref(base);
}

/* Behaviors on the reference's own example, whole pieces made visible by a vocabulary of them. */
static void test_behaviors(void **state) {
    (void)state;
    static const struct {
        const char *behavior, *expected;
    } cases[] = {
        {"Isolated", "the|-|final|-|-|countdown"},
        {"Removed", "the|final|countdown"},
        {"MergedWithPrevious", "the-|final-|-|countdown"},
        {"MergedWithNext", "the|-final|-|-countdown"},
        {"Contiguous", "the|-|final|--|countdown"},
    };
    static const char *const words[] = {"the", "the-", "-", "--", "final", "final-", "-final",
                                        "countdown", "-countdown"};
    json_t *base = json_object(), *vocab = json_object();
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        json_object_set_new(vocab, words[i], json_integer((json_int_t)i));
    json_object_set_new(base, "model", json_pack("{s:s, s:b, s:o, s:[]}", "type", "BPE",
                                                 "ignore_merges", 1, "vocab", vocab, "merges"));
    json_object_set_new(base, "decoder", json_pack("{s:s}", "type", "ByteLevel"));
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        char *overlay = xasprintf(
            "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', "
            "'pattern': {'Regex': '-'}, 'behavior': '%s', 'invert': false}" BL,
            cases[c].behavior);
        struct tokenizer *t = with_overlay(base, overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        assert_pieces(t, "the-final--countdown", false, cases[c].expected);
        tokenizer_free(t);
        free(overlay);
    }
    json_decref(base);
}

/* Llama 3's and Qwen2's layout: Split by their pattern, then ByteLevel without one. */
static void test_split_patterns(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text, *expected;
    } cases[] = {
        {"(?i:\\u0027(?:s|t|re|ve|m|ll|d))|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
         "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+",
         "I'M 1234  x\n\n (y)",
         "I|'M|\xC4\xA0|123|4|\xC4\xA0|\xC4\xA0x|\xC4\x8A\xC4\x8A|\xC4\xA0(|y|)"},
        {"\\\\p{N}", "a12", "a|1|2"},
        {"(?=[A-Z])", "camelCaseX", "camel|Case|X"},
        {"x*", "axxb", "a|xx|b"},
    };
    json_t *base = sample_json();
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        char *overlay = xasprintf(
            "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', "
            "'pattern': {'Regex': '%s'}, 'behavior': 'Isolated', 'invert': false}" BL,
            cases[c].pattern);
        struct tokenizer *t = with_overlay(base, overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        // cut at the pieces' ends: letters of a piece stand together, whatever the merges
        const char *s = cases[c].text;
        char *got = split_letters(t, t->pre[0].re, s);
        assert_string_equal(got, cases[c].expected);
        assert_round_trip(t, s, strlen(s));
        free(got);
        tokenizer_free(t);
        free(overlay);
    }
    json_decref(base);
}

static void test_save_load(void **state) {
    (void)state;
    struct err e = {0};
    struct tokenizer *t = train_sample(300);
    const char *path = test_path("tokenizer.json");
    assert_ok(tokenizer_save(t, path, &e), &e);
    struct tokenizer *u = tokenizer_load(path, &e);
    assert_non_null(u);
    assert_int_equal(t->json_len, u->json_len);
    assert_memory_equal(t->json, u->json, t->json_len);
    for (int32_t id = 0; id < 300; id++)
        assert_string_equal(tokenizer_token(t, id), tokenizer_token(u, id));
    tokenizer_free(t);
    tokenizer_free(u);
    assert_null(tokenizer_load(test_path("nothing here"), &e));
    assert_contains(e.msg, "nothing here");
}

/* ---- hostile files ---- */
static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *overlay, *message;
    } cases[] = {
        {"{'version': '2.0'}", "version: expected \"1.0\""},
        {"{'normalizer': {'type': 'BertNormalizer'}}", "\"BertNormalizer\" is not supported"},
        {"{'normalizer': {'type': 'Prepend'}}", "normalizer.prepend: expected a string"},
        {"{'normalizer': {'type': 'Replace', 'pattern': {'String': 'a'}}}", "normalizer.content"},
        {"{'normalizer': {'type': 'Replace', 'content': '', 'pattern': {'Regex': '[z-a]'}}}",
         "a range from high to low"},
        {"{'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AA=A'}}", "base64"},
        {"{'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AAAAAAAA'}}",
         "expected a trie within its 6 bytes"},
        {"{'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'BAAAAAAAAAD/'}}",
         "expected replacements in UTF-8"},
        {"{'normalizer': {'type': 'NFC', 'x': 1}}", "normalizer: key \"x\" is not supported"},
        {"{'normalizer': 7}", "normalizer: expected an object with a \"type\", got a number"},
        {"{'pre_tokenizer': {'type': 'UnicodeScripts'}}", "\"UnicodeScripts\" is not supported"},
        {"{'pre_tokenizer': {'type': 'Metaspace'}}", "replacement: expected one character"},
        {"{'pre_tokenizer': {'type': 'Metaspace', 'replacement': '__'}}", "expected one character"},
        {"{'pre_tokenizer': {'type': 'Metaspace', 'replacement': '_', 'prepend_scheme': 'last'}}",
         "expected always, first or never, got \"last\""},
        {"{'pre_tokenizer': {'type': 'Metaspace', 'replacement': '_', 'prepend_scheme': 'first', "
         "'add_prefix_space': false}}", "does not go with prepend_scheme \"first\""},
        {"{'pre_tokenizer': {'type': 'CharDelimiterSplit'}}", "delimiter: expected one character"},
        {"{'pre_tokenizer': {'type': 'ByteLevel', 'use_regx': true}}", "hint: use_regex?"},
        {"{'pre_tokenizer': {'type': 'ByteLevel', 'use_regex': 1}}", "expected true or false"},
        {SPLIT("Isolatd", "false"), "pre_tokenizer.pretokenizers[0].behavior"},
        {SPLIT("Isolated", "3"), "pretokenizers[0].invert: expected true or false"},
        {"{'pre_tokenizer': {'type': 'Split', 'pattern': {'Regex': '('}, 'behavior': "
         "'Isolated'}}", "does not compile"},
        {"{'pre_tokenizer': {'type': 'Split', 'pattern': {'String': ''}, 'behavior': "
         "'Isolated'}}", "not empty"},
        {"{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': {}}}", "expected a list"},
        {"{'decoder': {'type': 'WordPiece'}}", "\"WordPiece\" is not supported"},
        {"{'decoder': {'type': 'Metaspace'}}", "decoder.replacement: expected one character"},
        {"{'decoder': {'type': 'Strip', 'content': ' ', 'start': -1, 'stop': 0}}", "decoder.start"},
        {"{'decoder': {'type': 'Strip', 'content': '', 'start': 1, 'stop': 0}}", "one character"},
        {"{'decoder': {'type': 'Replace', 'pattern': {'String': 'a'}}}", "decoder.content"},
        {"{'post_processor': {'type': 'BertProcessing'}}", "cls: expected [token, id]"},
        {"{'post_processor': {'type': 'BertProcessing', 'cls': ['x', 5000], 'sep': ['x', 1]}}",
         "expected the id of a token, got one that is none"},
        {"{'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': "
         "{'id': '<s>'}}], 'pair': [], 'special_tokens': {}}}", "\"<s>\" has no entry"},
        {"{'post_processor': {'type': 'TemplateProcessing', 'single': []}}",
         "post_processor.pair: expected a list"},
        {"{'post_processor': {'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'B'}}], "
         "'pair': []}}", "post_processor.single[0]: expected sequence A, got \"B\""},
        {"{'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': "
         "'x'}}], 'pair': [], 'special_tokens': {'x': {'ids': [999999]}}}}", "the id of a token"},
        {"{'post_processor': {'type': 'Sequence', 'processors': [{'type': 'BertProcessing', 'cls': "
         "['x', 1], 'sep': ['x', 1]}, {'type': 'BertProcessing'}]}}", "got a second"},
        {"{'model': null}", "model: expected an object"},
        {"{'model': {'type': 'WordPiece'}}",
         "model.type: \"WordPiece\" is not supported, expected one of BPE, Unigram"},
        {"{'model': {'type': 'Unigram'}}", "model.vocab: expected a list"},
        {"{'model': {'type': 'Unigram', 'vocab': [['a', 0]], 'unk_id': null}}",
         "unk_id: expected the id of a piece (unknown characters need one), got null"},
        {"{'model': {'type': 'Unigram', 'vocab': [['a', 0]], 'unk_id': 1}}", "one that is none"},
        {"{'model': {'type': 'Unigram', 'vocab': [['a', 0], ['a', 0]], 'unk_id': 0}}",
         "model.vocab[1]: \"a\" is there twice"},
        {"{'model': {'type': 'Unigram', 'vocab': [['a', 'b']], 'unk_id': 0}}", "[piece, score]"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 70000}, 'merges': []}}", "a larger one"},
        {"{'model': {'type': 'BPE', 'vocab': [], 'merges': []}}", "model.vocab: expected an obj"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': -1}, 'merges': []}}", "expected an id"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 4000000000}, 'merges': []}}", "expected an id"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': '1'}, 'merges': []}}", "got a string"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1, 'b': 1}, 'merges': []}}", "is taken by"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': 3}}", "merges: expected a list"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': ['a  a']}}", "one blank"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': ['a a']}}", "\"aa\" is not"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1, 'aa': 2}, 'merges': ['a a', "
         "['a', 'a']]}}", "merges[1]"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1, 'aa': 2}, 'merges': [['a', 'a'], "
         "'a a']}}", "as in the first merge"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': [], 'byte_fallback': 1}}",
         "byte_fallback: expected true or false"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': [], 'dropout': 0.1}}",
         "dropout"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': [], 'unk_token': 'u'}}",
         "unk_token"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': [], "
         "'end_of_word_suffix': '</w>'}}", "end_of_word_suffix"},
        {"{'model': {'type': 'BPE', 'vocab': {'a': 1}, 'merges': [], 'new_key': 1}}",
         "key \"new_key\" is not supported"},
        {"{'added_tokens': {}}", "added_tokens: expected a list"},
        {"{'added_tokens': [3]}", "added_tokens[0]: expected an object, got a number"},
        {"{'added_tokens': [{'id': 298}]}", "added_tokens[0].content"},
        {"{'added_tokens': [{'id': 5, 'content': '<x>'}]}", "expected id 298"},
        {"{'added_tokens': [{'id': 298, 'content': 'the'}]}", "as in the vocabulary"},
    };
    json_t *base = sample_json();
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        struct tokenizer *t = with_overlay(base, cases[c].overlay, &e);
        if (t)
            fail_msg("accepted: %s", cases[c].overlay);
        assert_contains(e.msg, "t.json: ");
        assert_contains(e.msg, cases[c].message);
    }
    json_decref(base);
}

static void test_broken_json(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(260);
    struct err e = {0};
    for (size_t n = 0; n + 1 < t->json_len; n += 37) {      // the last byte closes the object
        assert_null(tokenizer_parse(t->json, n, "cut.json", &e));
        assert_contains(e.msg, "cut.json:");
    }
    struct rng *r = rng_new(4);
    char *copy = xmalloc(t->json_len);
    for (int i = 0; i < 300; i++) {         // one bad byte: refused or read, no crash
        memcpy(copy, t->json, t->json_len);
        copy[rng_below(r, t->json_len)] = (char)rng_below(r, 256);
        struct tokenizer *u = tokenizer_parse(copy, t->json_len, "bad.json", &e);
        if (u)
            assert_round_trip(u, "a", 0);
        tokenizer_free(u);
    }
    free(copy);
    rng_free(r);
    tokenizer_free(t);
    const char *twice = "{'version': '1.0', 'version': '1.0'}";
    assert_null(tokenizer_parse(twice, strlen(twice), "twice.json", &e));
    assert_contains(e.msg, "twice.json:1:");
}

/* A pattern that could run for ever is refused; one that takes the square of the text's length is
 * counted, and fails the call when the steps are spent, leaving what was there before it. */
static void test_hostile_patterns(void **state) {
    (void)state;
    static const char *const patterns[] = {"(a+)+$", "(x+x+)+y", "(\\\\s*\\\\s*)*$", "(?:q|q)*r",
                                           "^(\\\\p{L}|\\\\p{Lo})*\\\\d"};
    json_t *base = sample_json();
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        char *overlay = xasprintf("{'normalizer': {'type': 'Replace', 'content': '', 'pattern': "
                                  "{'Regex': '%s'}}}", patterns[i]);
        assert_null(with_overlay(base, overlay, &e));
        assert_contains(e.msg, "takes too many steps");
        free(overlay);
    }
    struct tokenizer *t = with_overlay(
        base, "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', "
        "'pattern': {'Regex': '\\\\s+$'}, 'behavior': 'Isolated', 'invert': false}" BL, &e);
    if (!t)
        fail_msg("%s", e.msg);
    struct ids ids = {0};
    ids_add(&ids, 7);
    const size_t n = 6000;
    t->steps = 1000000;
    char *text = xmalloc(n);
    memset(text, ' ', n);
    assert_int_equal(tokenizer_encode(t, text, n, 0, &ids), 0);
    ids.n = 1;
    text[n - 1] = 'x';
    assert_int_equal(tokenizer_encode(t, text, n, 0, &ids), -1);
    free(text);
    assert_int_equal(ids.n, 1);
    assert_int_equal(tokenizer_encode(t, "the", 3, 0, &ids), 0);
    assert_int_equal(ids.n, 2);
    ids_release(&ids);
    tokenizer_free(t);
    json_decref(base);
}

/* Small files that would make much of little are stopped. */
static void test_bombs(void **state) {
    (void)state;
    json_t *base = sample_json();
    struct err e = {0};
    struct str s = {0};
    str_add(&s, "{'normalizer': {'type': 'Sequence', 'normalizers': [");
    for (int i = 0; i < 40; i++)
        str_addf(&s, "%s{'type': 'Replace', 'pattern': {'String': 't'}, 'content': 'tt'}",
                 i ? ", " : "");
    str_add(&s, "]}}");
    struct tokenizer *t = with_overlay(base, s.s, &e);
    assert_non_null(t);
    struct ids ids = {0};
    assert_int_equal(tokenizer_encode(t, "the", 3, 0, &ids), -1);
    tokenizer_free(t);
    s.len = 0;
    str_add(&s, "{'decoder': {'type': 'Sequence', 'decoders': [");
    for (int i = 0; i < 40; i++)
        str_addf(&s, "%s{'type': 'Replace', 'pattern': {'String': 't'}, 'content': 'tt'}",
                 i ? ", " : "");
    str_add(&s, "]}}");
    t = with_overlay(base, s.s, &e);
    assert_non_null(t);
    const int32_t id = tokenizer_id(t, "the");
    free(tokenizer_decode(t, &id, 1, 0, NULL));
    tokenizer_free(t);
    s.len = 0;
    str_add(&s, "{'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'NFC'}");
    for (int i = 0; i < 120; i++)
        str_add(&s, ", {'type': 'NFC'}");
    str_add(&s, "]}}");
    assert_null(with_overlay(base, s.s, &e));
    assert_contains(e.msg, "at most 100 steps");
    str_release(&s);
    ids_release(&ids);
    json_decref(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_behaviors),
        cmocka_unit_test(test_split_patterns),
        cmocka_unit_test(test_save_load),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_broken_json),
        cmocka_unit_test(test_hostile_patterns),
        cmocka_unit_test(test_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

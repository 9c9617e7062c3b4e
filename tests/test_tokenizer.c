/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_tokenizer.c — encode, decode, train, tokenizer.json: against reference ids where the fixtures
 * are at hand, against a quadratic twin, and against hostile files.
 */
#include "tests/helper.h"

#include "model/rng.h"
#include "model/tokenizer_impl.h"

static const char *const sample[] = {
    "hello hello hello world, the world says hello; hellos and worlds 12 123 1234",
    "the cat sat on the mat. the dog didn't. A\tB\n\nC  end",
    "caf\xC3\xA9 na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E \xF0\x9F\x98\x80",
};
static const char *const sample_specials[] = {"<|a|>", "<|ab|>"};

static struct tokenizer *train_sample(int vocab_size) {
    size_t lens[ARRAY_LEN(sample)];
    for (size_t i = 0; i < ARRAY_LEN(sample); i++)
        lens[i] = strlen(sample[i]);
    struct err e = {0};
    struct tokenizer *t = tokenizer_train(sample, lens, ARRAY_LEN(sample), vocab_size,
                                          sample_specials, ARRAY_LEN(sample_specials), &e);
    if (!t)
        fail_msg("%s", e.msg);
    return t;
}

static json_t *sample_json(void) {
    struct tokenizer *t = train_sample(300);
    json_t *root = json_loadb(t->json, t->json_len, 0, NULL);
    tokenizer_free(t);
    return root;
}

/* The sample's file with top-level keys replaced by those of `overlay` (JSON). */
static struct tokenizer *with_overlay(json_t *base, const char *overlay, struct err *e) {
    json_t *root = json_deep_copy(base);
    json_t *add = json_loads(overlay, 0, NULL);
    assert_non_null(add);
    json_object_update(root, add);
    char *text = json_dumps(root, 0);
    struct tokenizer *t = tokenizer_parse(text, strlen(text), "t.json", e);
    free(text);
    json_decref(add);
    json_decref(root);
    return t;
}

static void encode(const struct tokenizer *t, const char *s, size_t n, bool special,
                   struct ids *out) {
    out->n = 0;
    tokenizer_encode(t, s, n, special, out);
}

/* Pieces of a text joined by "|", special tokens recognised. */
static char *pieces(const struct tokenizer *t, const char *text, bool special) {
    struct ids ids = {0};
    struct str s = {0};
    encode(t, text, strlen(text), special, &ids);
    for (int i = 0; i < ids.n; i++)
        str_addf(&s, "%s%s", i ? "|" : "", tokenizer_token(t, ids.v[i]));
    ids_release(&ids);
    return str_detach(&s);
}

static void assert_pieces(const struct tokenizer *t, const char *text, bool special,
                          const char *expected) {
    char *got = pieces(t, text, special);
    assert_string_equal(got, expected);
    free(got);
}

static void assert_round_trip(const struct tokenizer *t, const char *s, size_t n) {
    struct ids ids = {0};
    size_t len;
    encode(t, s, n, false, &ids);
    char *back = tokenizer_decode(t, ids.v, ids.n, false, &len);
    assert_int_equal(len, n);
    assert_memory_equal(back, s, n);
    free(back);
    ids_release(&ids);
}

/* ---- reference fixtures ---- */
static void check_row(const struct tokenizer *t, const json_t *row, const char *where) {
    const char *text = json_string_value(json_object_get(row, "text"));
    size_t n = json_string_length(json_object_get(row, "text"));
    const json_t *want = json_object_get(row, "ids");
    const json_t *decoded = json_object_get(row, "decoded");
    // rows that run the post-processor: BOS and EOS are not this module's business
    if (json_is_true(json_object_get(row, "add_special")) && json_object_get(row, "ids_with_special"))
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
        if (len != json_string_length(decoded) || memcmp(back, json_string_value(decoded), len) != 0)
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

/* ---- every row of every stage has a case ---- */
#define BL ", {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}]}}"
#define SPLIT(behavior, invert)                                                                 \
    "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "   \
    "\"pattern\": {\"String\": \"-\"}, \"behavior\": \"" behavior "\", \"invert\": " invert "}" BL
static const struct {
    const struct stage_kind *table;
    const char *type, *overlay, *text, *expected;
} stage_cases[] = {
    {normalizer_table, "NFC", "{\"normalizer\": {\"type\": \"NFC\"}}", "e\xCC\x81", "\xC3\x83\xC2\xA9"},
    {normalizer_table, "NFD", "{\"normalizer\": {\"type\": \"NFD\"}}", "\xC3\xA9",
     "e|\xC3\x8C|\xC4\xA3"},
    {normalizer_table, "NFKC", "{\"normalizer\": {\"type\": \"NFKC\"}}", "\xEF\xBC\xA2", "B"},
    {normalizer_table, "NFKD", "{\"normalizer\": {\"type\": \"NFKD\"}}", "\xC2\xBD",
     "1|\xC3\xA2|\xC4\xA3|\xC4\xA6|2"},
    {normalizer_table, "Sequence",
     "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKD\"}, "
     "{\"type\": \"NFC\"}]}}", "e\xCC\x81\xEF\xBC\xA2", "\xC3\x83\xC2\xA9|B"},
    {pre_tokenizer_table, "ByteLevel",
     "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}}", "the", "\xC4\xA0the"},
    {pre_tokenizer_table, "Split", SPLIT("Isolated", "false"), "the-the", "the|-|the"},
    {pre_tokenizer_table, "Split", SPLIT("Removed", "false"), "a-the--e-", "a|the|e"},
    {pre_tokenizer_table, "Split", SPLIT("Removed", "true"), "a-the--e-", "-|-|-|-"},
    {pre_tokenizer_table, "Digits",
     "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
     "\"individual_digits\": true}" BL, "123", "1|2|3"},
    {pre_tokenizer_table, "Sequence", SPLIT("Isolated", "true"), "the", "the"},
    {post_processor_table, "ByteLevel",
     "{\"post_processor\": {\"type\": \"ByteLevel\", \"trim_offsets\": true}}", "the", "the"},
    {post_processor_table, "TemplateProcessing",
     "{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
     "\"<|a|>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], "
     "\"special_tokens\": {\"<|a|>\": {\"id\": \"<|a|>\", \"ids\": [298], \"tokens\": [\"<|a|>\"]}}}}",
     "the", "the"},
    {post_processor_table, "Sequence",
     "{\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}]}}",
     "the", "the"},
    {decoder_table, "ByteLevel", "{\"decoder\": {\"type\": \"ByteLevel\"}}", "the", "the"},
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
            "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
            "\"pattern\": {\"Regex\": \"-\"}, \"behavior\": \"%s\", \"invert\": false}" BL,
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
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
         "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+",
         "I'M 1234  x\n\n (y)", "I|'M|\xC4\xA0|123|4|\xC4\xA0|\xC4\xA0x|\xC4\x8A\xC4\x8A|\xC4\xA0(|y|)"},
        {"\\\\p{N}", "a12", "a|1|2"},
        {"(?=[A-Z])", "camelCaseX", "camel|Case|X"},
        {"x*", "axxb", "a|xx|b"},
    };
    json_t *base = sample_json();
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct err e = {0};
        char *overlay = xasprintf(
            "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
            "\"pattern\": {\"Regex\": \"%s\"}, \"behavior\": \"Isolated\", \"invert\": false}" BL,
            cases[c].pattern);
        struct tokenizer *t = with_overlay(base, overlay, &e);
        if (!t)
            fail_msg("%s", e.msg);
        // cut at the pieces' ends: letters of a piece stand together, whatever the merges
        struct segments seg = {0};
        struct str got = {0};
        pcre2_match_data *md = pcre2_match_data_create(1, NULL);
        const char *s = cases[c].text;
        regex_segments(t->pre[0].re, md, s, strlen(s), &seg);
        for (int i = 0; i < seg.n; i++)
            if (seg.v[i].b > seg.v[i].a) {
                str_add(&got, got.len ? "|" : "");
                byte_letters(s + seg.v[i].a, seg.v[i].b - seg.v[i].a, &got);
            }
        assert_string_equal(got.s, cases[c].expected);
        assert_round_trip(t, s, strlen(s));
        str_release(&got);
        free(seg.v);
        pcre2_match_data_free(md);
        tokenizer_free(t);
        free(overlay);
    }
    json_decref(base);
}

/* ---- added tokens ---- */
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
        {TOKEN(298, "<a>", "false", "false", "false", "false", "true"), "x<a>y", true, "x|<a>|y"},
        {TOKEN(298, "<a>", "false", "false", "false", "false", "true"), "x<a>y", false, "x|<|a|>|y"},
        {TOKEN(298, "<a>", "false", "false", "false", "false", "false"), "x<a>y", false, "x|<a>|y"},
        {TOKEN(298, "<a>", "false", "true", "true", "false", "true"), "x \xE3\x80\x80<a> \n y", true,
         "x|<a>|y"},
        {TOKEN(298, "<a>", "true", "false", "false", "false", "true"), "x<a> <a>_ <a>", true,
         "x|<|a|>|\xC4\xA0|<|a|>|_|\xC4\xA0|<a>"},
        // leftmost-longest, whatever the order in the file
        {TOKEN(298, "<a", "false", "false", "false", "false", "true") ", "
         TOKEN(299, "<a>b", "false", "false", "false", "false", "true"), "<a<a>b<a>", true,
         "<a|<a>b|<a|>"},
        // blanks taken by rstrip are not taken again by lstrip
        {TOKEN(298, "<a>", "false", "true", "true", "false", "true"), "<a>  <a>", true, "<a>|<a>"},
        // the raw group goes first
        {TOKEN(298, "ab", "false", "false", "false", "true", "false") ", "
         TOKEN(299, "bc", "false", "false", "false", "false", "false"), "abc", true, "a|bc"},
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
        TOKEN(298, "e\xCC\x81", "false", "false", "false", "true", "false") "]}", &e);
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

/* ---- the merge order: a rescan for the lowest rank after every merge ---- */
static void naive_bpe(const struct tokenizer *t, const char *s, size_t n, struct ids *out) {
    out->n = 0;
    for (size_t i = 0; i < n; i++)
        ids_add(out, t->byte_id[(uint8_t)s[i]]);
    for (;;) {
        const struct merge *best = NULL;
        int at = 0;
        for (int i = 0; i + 1 < out->n; i++) {
            const struct merge *m = merges_find(&t->merges, out->v[i], out->v[i + 1]);
            if (m && (!best || m->rank < best->rank)) {
                best = m;
                at = i;
            }
        }
        if (!best)
            return;
        out->v[at] = best->id;
        memmove(out->v + at + 1, out->v + at + 2, (size_t)(out->n - at - 2) * sizeof *out->v);
        out->n--;
    }
}

static void test_naive_twin(void **state) {
    (void)state;
    struct tokenizer *t = train_sample(330);
    struct encoder x = {.t = t};
    struct ids fast = {0}, slow = {0};
    struct rng *r = rng_new(2);
    x.out = &fast;
    for (int i = 0; i < 400; i++) {
        char buf[90];
        size_t n = 1 + rng_below(r, sizeof buf);
        for (size_t k = 0; k < n; k++)
            buf[k] = "helo wrdtha"[rng_below(r, 11)];
        fast.n = 0;
        t->model->encode(&x, buf, n);
        naive_bpe(t, buf, n, &slow);
        assert_int_equal(fast.n, slow.n);
        assert_memory_equal(fast.v, slow.v, (size_t)slow.n * sizeof *slow.v);
    }
    rng_free(r);
    free(x.sym);
    free(x.heap);
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
    encode(t, sample[1], strlen(sample[1]), true, &want);
    int bad = 0;
#pragma omp parallel for num_threads(4) reduction(+ : bad)
    for (int i = 0; i < 200; i++) {
        struct ids got = {0};
        tokenizer_encode(t, sample[1], strlen(sample[1]), true, &got);
        bad += got.n != want.n || memcmp(got.v, want.v, (size_t)want.n * sizeof *want.v) != 0;
        ids_release(&got);
    }
    assert_int_equal(bad, 0);
    ids_release(&want);
    tokenizer_free(t);
}

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
    pcre2_code *re = regex_new(GPT2_PATTERN, false, "", &e);
    pcre2_match_data *md = pcre2_match_data_create(1, NULL);
    struct segments seg = {0};
    struct ids *words;
    regex_segments(re, md, text, strlen(text), &seg);
    words = xcalloc((size_t)seg.n, sizeof *words);
    for (int i = 0; i < seg.n; i++)
        naive_bpe(letters, text + seg.v[i].a, seg.v[i].b - seg.v[i].a, &words[i]);
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
                for (int i = 0; i < seg.n; i++)
                    for (int k = 0; k + 1 < words[i].n; k++)
                        count += words[i].v[k] == a && words[i].v[k + 1] == b;
                if (count > best)
                    best = count, ba = a, bb = b;
            }
        if (!best)
            break;
        token[size] = xasprintf("%s%s", token[ba], token[bb]);
        str_addf(out, "%s ", token[size]);
        for (int i = 0; i < seg.n; i++) {
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
    for (int i = 0; i < seg.n; i++)
        ids_release(&words[i]);
    free(words);
    free(seg.v);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
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
    assert_null(tokenizer_train(&text, &n, 1, 257, sample_specials, 2, &e));
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
        {"{\"version\": \"2.0\"}", "version: expected \"1.0\""},
        {"{\"normalizer\": {\"type\": \"Strip\"}}", "normalizer.type: \"Strip\" is not supported"},
        {"{\"normalizer\": {\"type\": \"NFC\", \"x\": 1}}", "normalizer: key \"x\" is not supported"},
        {"{\"normalizer\": 7}", "normalizer: expected an object with a \"type\", got a number"},
        {"{\"pre_tokenizer\": null}", "pre_tokenizer: expected ByteLevel as its last step, got null"},
        {"{\"pre_tokenizer\": {\"type\": \"Whitespace\"}}", "\"Whitespace\" is not supported"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"use_regx\": true}}", "hint: use_regex?"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"use_regex\": 1}}", "expected true or false"},
        {SPLIT("Isolatd", "false"), "pre_tokenizer.pretokenizers[0].behavior"},
        {SPLIT("Isolated", "3"), "pretokenizers[0].invert: expected true or false"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": "
         "\"Isolated\"}}", "does not compile"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a[b]]\"}, "
         "\"behavior\": \"Isolated\"}}", "a class inside a class"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a&&b]\"}, "
         "\"behavior\": \"Isolated\"}}", "&& inside a class"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?m:.)\"}, "
         "\"behavior\": \"Isolated\"}}", "the option m"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"\"}, \"behavior\": "
         "\"Isolated\"}}", "not empty"},
        {"{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, "
         "{\"type\": \"Digits\"}]}}", "expected ByteLevel as the last step"},
        {"{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": {}}}", "expected a list"},
        {"{\"decoder\": null}", "decoder: expected ByteLevel"},
        {"{\"decoder\": {\"type\": \"Metaspace\"}}", "\"Metaspace\" is not supported"},
        {"{\"post_processor\": {\"type\": \"BertProcessing\"}}", "\"BertProcessing\" is not supported"},
        {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
         "{\"id\": \"<s>\"}}], \"special_tokens\": {}}}", "\"<s>\" has no entry"},
        {"{\"model\": null}", "model: expected an object"},
        {"{\"model\": {\"type\": \"Unigram\"}}", "model.type: \"Unigram\" is not supported"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}", "model.vocab: expected an object"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", "expected an id"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 4000000000}, \"merges\": []}}", "expected an id"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"1\"}, \"merges\": []}}", "got a string"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}}", "is taken by"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": 3}}", "model.merges: expected a list"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [\"a  a\"]}}", "one blank"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [\"a a\"]}}", "\"aa\" is not"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1, \"aa\": 2}, \"merges\": [\"a a\", "
         "[\"a\", \"a\"]]}}", "merges[1]"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1, \"aa\": 2}, \"merges\": [[\"a\", \"a\"], "
         "\"a a\"]}}", "as in the first merge"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [], \"byte_fallback\": true}}",
         "byte_fallback"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [], \"dropout\": 0.1}}",
         "dropout"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [], \"unk_token\": \"u\"}}",
         "unk_token"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [], "
         "\"end_of_word_suffix\": \"</w>\"}}", "end_of_word_suffix"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1}, \"merges\": [], \"new_key\": 1}}",
         "key \"new_key\" is not supported"},
        {"{\"added_tokens\": {}}", "added_tokens: expected a list"},
        {"{\"added_tokens\": [3]}", "added_tokens[0].content"},
        {"{\"added_tokens\": [{\"id\": 5, \"content\": \"<x>\"}]}", "expected id 298"},
        {"{\"added_tokens\": [{\"id\": 298, \"content\": \"the\"}]}", "as in the vocabulary"},
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
    for (int i = 0; i < 300; i++) {                         // one bad byte: refused or read, no crash
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
    const char *twice = "{\"version\": \"1.0\", \"version\": \"1.0\"}";
    assert_null(tokenizer_parse(twice, strlen(twice), "twice.json", &e));
    assert_contains(e.msg, "twice.json:1:");
}

/* A pattern that would run for ever ends at its limit, and the text still comes through. */
static void test_hostile_pattern(void **state) {
    (void)state;
    json_t *base = sample_json();
    struct err e = {0};
    struct tokenizer *t = with_overlay(
        base, "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
        "\"pattern\": {\"Regex\": \"(a+)+$\"}, \"behavior\": \"Isolated\", \"invert\": false}" BL, &e);
    assert_non_null(t);
    enum log_level was = log_threshold;
    log_threshold = LOG_ERROR;
    assert_round_trip(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 51);
    log_threshold = was;
    tokenizer_free(t);
    json_decref(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2_reference),
        cmocka_unit_test(test_gpt2_long_text),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_added_reference),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_behaviors),
        cmocka_unit_test(test_split_patterns),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_special_ids),
        cmocka_unit_test(test_byte_letters),
        cmocka_unit_test(test_round_trip_any_bytes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_naive_twin),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_train_by_hand),
        cmocka_unit_test(test_train_naive_twin),
        cmocka_unit_test(test_train_limits),
        cmocka_unit_test(test_save_load),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_broken_json),
        cmocka_unit_test(test_hostile_pattern),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

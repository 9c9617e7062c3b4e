/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_gguf_vocab.c — tokenizers in files of gguf_export.
 *
 * Tokens, types, merges and names are read back; SentencePiece's scores are tried by llama.cpp's
 * way of merging, written out here by its definition.
 */
#include "tests/helper_gguf.h"

#include <math.h>

#include "tests/helper_tokenizer.h"

/* ---- the vocabulary ---- */

static void test_byte_level(void **state) {
    (void)state;
    struct err e = {0};
    const char *dir = test_path("bytes");
    struct tokenizer *t = train_sample(300);
    const int n = tokenizer_vocab_size(t), rows = n + 3;
    struct model_config c = test_config();
    c.vocab_size = rows;
    c.eos_count = 1;
    c.eos_token_id[0] = n - 1;
    gguf_make_folder(dir, c, t, NULL);
    char *template = path_join(dir, "chat_template.jinja");
    test_write(template, "{{ messages }}");
    free(template);
    struct gguf_file f = gguf_export_folder(dir);
    struct hf *h = hf_open(dir, HF_TOKENIZER, &e);
    assert_non_null(h);
    assert_gguf_text(&f, "tokenizer.ggml.model", "gpt2");
    assert_gguf_text(&f, "tokenizer.ggml.pre", "gpt-2");
    assert_gguf_text(&f, "tokenizer.chat_template", "{{ messages }}");
    assert_int_equal(gguf_find(&f, "tokenizer.ggml.tokens", GGUF_LIST)->n, rows);
    for (int i = 0; i < rows; i++) {
        char *token = gguf_list_text(&f, "tokenizer.ggml.tokens", (uint64_t)i), pad[32];
        snprintf(pad, sizeof pad, "[PAD%d]", i);
        assert_string_equal(token, i < n ? tokenizer_token(h->tokenizer, i) : pad);
        assert_int_equal(gguf_list_number(&f, "tokenizer.ggml.token_type", (uint64_t)i),
                         i >= n ? 5 : tokenizer_is_special(h->tokenizer, i) ? 3 : 1);
        free(token);
    }
    const int merges = tokenizer_merge_count(h->tokenizer);
    assert_int_equal(gguf_find(&f, "tokenizer.ggml.merges", GGUF_LIST)->n, merges);
    for (int i = 0; i < merges; i += 7) {
        const char *left, *right;
        tokenizer_merge_at(h->tokenizer, i, &left, &right);
        char *got = gguf_list_text(&f, "tokenizer.ggml.merges", (uint64_t)i);
        char *want = xasprintf("%s %s", left, right);
        assert_string_equal(got, want);
        free(got);
        free(want);
    }
    assert_int_equal(gguf_number(&f, "tokenizer.ggml.eos_token_id", GGUF_U32), n - 1);
    assert_int_equal(gguf_number(&f, "tokenizer.ggml.add_bos_token", GGUF_BOOL), 0);
    assert_true(isnan(gguf_number(&f, "tokenizer.ggml.bos_token_id", GGUF_U32)));
    hf_free(h);
    gguf_release(&f);
}

/* tokenizer.json of the folder `dir` replaced by `t`. */
static void put_tokenizer(const char *dir, const struct tokenizer *t) {
    struct err e = {0};
    char *path = path_join(dir, "tokenizer.json");
    assert_ok(tokenizer_save(t, path, &e), &e);
    free(path);
}

/* Expressions as JSON has them; with_overlay makes quotes of apostrophes. */
#define LEVEL "{'type': 'ByteLevel', 'add_prefix_space': false, 'use_regex': false}"
#define GPT2_LEVEL "{'type': 'ByteLevel', 'add_prefix_space': false}"
#define SPLIT(regex, behavior, invert) \
    "{'type': 'Split', 'pattern': {'Regex': '" regex "'}, 'behavior': '" behavior "', 'invert': " \
    invert "}"
#define STEPS(steps) "{'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [" steps "]}}"
#define CASELESS "(?i:\\u0027s|\\u0027t|\\u0027re|\\u0027ve|\\u0027m|\\u0027ll|\\u0027d)"
#define LETTERS "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+"
#define REST " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define LLAMA3 CASELESS "|" LETTERS "|\\\\p{N}{1,3}|" REST
#define QWEN2 CASELESS "|" LETTERS "|\\\\p{N}|" REST
#define CL100K \
    "\\u0027(?i:[sdmt]|ll|ve|re)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?+\\\\p{L}+|\\\\p{N}{1,3}| ?" \
    "[^\\\\s\\\\p{L}\\\\p{N}]++[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]|\\\\s+(?!\\\\S)|\\\\s+"

/* The pre-tokenizer's name follows from the expressions and ignore_merges; others are refused. */
static void test_pre_tokenizers(void **state) {
    static const struct {
        const char *overlay;
        bool ignore_merges;
        const char *name, *word;            /* name NULL: refused, with a word of the message */
    } rows[] = {
        {STEPS(SPLIT(QWEN2, "Isolated", "false") ", " LEVEL), false, "qwen2", NULL},
        {STEPS(SPLIT(QWEN2, "Isolated", "false") ", " LEVEL), true, NULL, "ignore_merges"},
        {STEPS(SPLIT(LLAMA3, "Isolated", "false") ", " LEVEL), true, "llama-bpe", NULL},
        {STEPS(SPLIT(LLAMA3, "Isolated", "false") ", " LEVEL), false, "dbrx", NULL},
        {STEPS(SPLIT(CL100K, "Removed", "true") ", " LEVEL), false, "dbrx", NULL},
        {STEPS("{'type': 'Digits', 'individual_digits': true}, " GPT2_LEVEL), false, "smollm",
         NULL},
        {STEPS("{'type': 'Digits', 'individual_digits': false}, " GPT2_LEVEL), false, NULL,
         "no name for the expression"},
        {STEPS("{'type': 'ByteLevel', 'add_prefix_space': true}"), false, NULL, "add_prefix_space"},
        {STEPS("{'type': 'Split', 'pattern': {'String': ' '}, 'behavior': 'Isolated', 'invert':"
               " false}, " LEVEL), false, NULL, "no such step"},
        {STEPS(SPLIT("a|b", "Isolated", "false") ", " LEVEL), false, NULL, "a|b"},
        {STEPS(SPLIT(QWEN2, "MergedWithNext", "false") ", " LEVEL), false, NULL, "no such step"},
        {"{'normalizer': {'type': 'NFC'}}", false, "gpt-2", NULL},
        {"{'normalizer': {'type': 'NFKC'}}", false, NULL, "normalize"},
        {"{'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'NFC'}, {'type':"
         " 'Lowercase'}]}}", false, NULL, "normalize"},
    };
    (void)state;
    const char *dir = test_path("pre");
    gguf_make_folder(dir, test_config(), train_sample(300), NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};
        json_t *base = sample_json();
        json_object_set_new(json_object_get(base, "model"), "ignore_merges",
                            json_boolean(rows[i].ignore_merges));
        struct tokenizer *t = with_overlay(base, rows[i].overlay, &e);
        if (!t)
            fail_msg("row %zu: %s", i, e.msg);
        put_tokenizer(dir, t);
        if (rows[i].name) {
            struct gguf_file f = gguf_export_folder(dir);
            assert_gguf_text(&f, "tokenizer.ggml.pre", rows[i].name);
            gguf_release(&f);
        } else {
            assert_gguf_refused(dir, DTYPE_F32, rows[i].word);
        }
        tokenizer_free(t);
        json_decref(base);
    }
}

/* ---- SentencePiece ---- */

#define BLANK "\xe2\x96\x81"
static const char *const pieces[] = {
    BLANK, "a", "b", "c", "ab", BLANK "a", "bc", "abc", BLANK "ab", BLANK "abc", BLANK BLANK,
};
/* Every cut of the pieces; score: of what the merge gives. */
static const struct {
    const char *left, *right;
    double score;
} cuts[] = {
    {"a", "b", 0}, {BLANK, "a", -1}, {"b", "c", -2}, {"a", "bc", -3}, {"ab", "c", -3},
    {BLANK, "ab", -5}, {BLANK "a", "b", -5}, {BLANK, "abc", -7}, {BLANK "a", "bc", -7},
    {BLANK "ab", "c", -7}, {BLANK, BLANK, -10},
};

/* The tokenizer with the first n merges, leaving out number `skip`. */
static json_t *spm_json(int skip) {
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    static const char *const specials[] = {"<unk>", "<s>", "</s>"};
    for (int i = 0; i < 3; i++) {
        json_object_set_new(vocab, specials[i], json_integer(i));
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", i,
            "content", specials[i], "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0,
            "special", 1));
    }
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        json_object_set_new(vocab, name, json_integer(3 + b));
    }
    for (int i = 0; i < (int)ARRAY_LEN(pieces); i++)
        json_object_set_new(vocab, pieces[i], json_integer(259 + i));
    for (int i = 0; i < (int)ARRAY_LEN(cuts); i++)
        if (i != skip)
            json_array_append_new(merges, json_sprintf("%s %s", cuts[i].left, cuts[i].right));
    json_t *root = json_loads(
        "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,"
        " \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
        "{\"type\": \"Prepend\", \"prepend\": \"" BLANK "\"},"
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" BLANK "\"}]},"
        " \"pre_tokenizer\": null,"
        " \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["
        "{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}},"
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": ["
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
        "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], \"special_tokens\": {\"<s>\":"
        " {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}},"
        " \"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" BLANK "\"}, \"content\": \" \"},"
        "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]},"
        " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\","
        " \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": true,"
        " \"byte_fallback\": true}}", 0, NULL);
    assert_non_null(root);
    json_object_set_new(root, "added_tokens", added);
    json_object_set_new(json_object_get(root, "model"), "vocab", vocab);
    json_object_set_new(json_object_get(root, "model"), "merges", merges);
    return root;
}

/* The folder `dir` with this tokenizer.json, changed by an overlay. */
static void put_spm(const char *dir, int skip, const char *overlay) {
    struct err e = {0};
    json_t *base = spm_json(skip);
    struct tokenizer *t = with_overlay(base, overlay, &e);
    if (!t)
        fail_msg("%s", e.msg);
    put_tokenizer(dir, t);
    tokenizer_free(t);
    json_decref(base);
}

static const char *spm_folder(void) {
    const char *dir = test_path("spm");
    struct model_config c = test_config();
    c.vocab_size = 259 + (int)ARRAY_LEN(pieces);
    gguf_make_folder(dir, c, NULL, NULL);
    return dir;
}

/* What llama.cpp does, by its definition: the best pair of neighbours that is a token, the first
 * one among equals, until there is none. text: letters of the pieces, blanks replaced. */
static void llama_cpp_spm(const struct tokenizer *t, const struct gguf_file *f, const char *text,
                          struct ids *out) {
    char *parts[64];
    int n = 0;
    for (const char *p = text; *p;) {
        const size_t len = *p == BLANK[0] ? 3 : 1;
        parts[n++] = xstrndup(p, len);
        p += len;
    }
    for (;;) {
        int best = -1;
        double high = 0;
        for (int i = 0; i + 1 < n; i++) {
            char *whole = xasprintf("%s%s", parts[i], parts[i + 1]);
            const int32_t id = tokenizer_id(t, whole);
            const double score =
                id < 0 ? 0 : gguf_list_number(f, "tokenizer.ggml.scores", (uint64_t)id);
            free(whole);
            if (id >= 0 && (best < 0 || score > high)) {
                best = i;
                high = score;
            }
        }
        if (best < 0)
            break;
        char *whole = xasprintf("%s%s", parts[best], parts[best + 1]);
        free(parts[best]);
        free(parts[best + 1]);
        parts[best] = whole;
        memmove(&parts[best + 1], &parts[best + 2], (size_t)(n - best - 2) * sizeof *parts);
        n--;
    }
    for (int i = 0; i < n; i++) {
        ids_add(out, tokenizer_id(t, parts[i]));
        free(parts[i]);
    }
}

static void test_spm(void **state) {
    (void)state;
    const char *dir = spm_folder();
    put_spm(dir, -1, "{}");
    struct gguf_file f = gguf_export_folder(dir);
    struct err e = {0};
    struct hf *h = hf_open(dir, HF_TOKENIZER, &e);
    assert_non_null(h);
    assert_gguf_text(&f, "tokenizer.ggml.model", "llama");
    assert_int_equal(gguf_number(&f, "tokenizer.ggml.add_space_prefix", GGUF_BOOL), 1);
    assert_int_equal(gguf_number(&f, "tokenizer.ggml.add_bos_token", GGUF_BOOL), 1);
    assert_int_equal(gguf_number(&f, "tokenizer.ggml.bos_token_id", GGUF_U32), 1);
    assert_int_equal(gguf_number(&f, "tokenizer.ggml.unknown_token_id", GGUF_U32), 0);
    for (int i = 0; i < 259 + (int)ARRAY_LEN(pieces); i++)
        assert_int_equal(gguf_list_number(&f, "tokenizer.ggml.token_type", (uint64_t)i),
                         i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        char *whole = xasprintf("%s%s", cuts[i].left, cuts[i].right);
        const int32_t id = tokenizer_id(h->tokenizer, whole);
        assert_near(gguf_list_number(&f, "tokenizer.ggml.scores", (uint64_t)id), cuts[i].score, 0,
                    0, whole);
        free(whole);
    }
    struct rng *r = rng_keyed(3, "spm", 0);
    for (int k = 0; k < 500; k++) {
        struct str raw = {0}, replaced = {0};
        struct ids want = {0}, got = {0};
        str_add(&replaced, BLANK);
        for (int i = 0, n = 1 + (int)rng_below(r, 20); i < n; i++) {
            const char c = "abc "[rng_below(r, 4)];
            str_addc(&raw, c);
            str_addf(&replaced, c == ' ' ? BLANK : "%c", c);
        }
        assert_int_equal(tokenizer_encode(h->tokenizer, raw.s, raw.len, 0, &want), 0);
        llama_cpp_spm(h->tokenizer, &f, replaced.s, &got);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.v, want.v, (size_t)got.n * sizeof *got.v);
        ids_release(&want);
        ids_release(&got);
        str_release(&raw);
        str_release(&replaced);
    }
    rng_free(r);
    hf_free(h);
    gguf_release(&f);
}

static void test_spm_refused(void **state) {
#define NO_SPLIT "'prepend_scheme': 'first', 'split': false}}"
    static const struct {
        int skip;
        const char *overlay, *word;         /* word NULL: accepted */
    } rows[] = {
        {4, "{}", "merges for"}, {9, "{}", "merges for"},
        {-1, "{'normalizer': {'type': 'NFKC'}}", "normalize"},
        {-1, "{'normalizer': {'type': 'Prepend', 'prepend': '" BLANK "'}}", "U+2581"},
        {-1, "{'pre_tokenizer': {'type': 'Digits', 'individual_digits': true}}", "pre_tokenizer"},
        {-1, "{'normalizer': null, 'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" BLANK
         "', " NO_SPLIT, NULL},
        {-1, "{'normalizer': null, 'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" BLANK
         "', 'prepend_scheme': 'first', 'split': true}}", "split"},
        {-1, "{'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id':"
         " '<s>', 'type_id': 0}}, {'SpecialToken': {'id': '<s>', 'type_id': 0}}, {'Sequence':"
         " {'id': 'A', 'type_id': 0}}], 'pair': [{'Sequence': {'id': 'A', 'type_id': 0}},"
         " {'Sequence': {'id': 'B', 'type_id': 1}}], 'special_tokens': {'<s>': {'id': '<s>', 'ids':"
         " [1], 'tokens': ['<s>']}}}}", "post_processor"},
    };
    (void)state;
    const char *dir = spm_folder();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_spm(dir, rows[i].skip, rows[i].overlay);
        if (rows[i].word) {
            assert_gguf_refused(dir, DTYPE_F32, rows[i].word);
        } else {
            struct gguf_file f = gguf_export_folder(dir);
            assert_gguf_text(&f, "tokenizer.ggml.model", "llama");
            gguf_release(&f);
        }
    }
}

/* llama.cpp takes a model called phi-3 for one whose special tokens swallow blanks. */
static void test_name(void **state) {
    static const struct {
        const char *folder, *name;
    } rows[] = {{"my-Phi-3-mini", "my-Phi.3-mini"}, {"PHI3x", "PHI.3x"}, {"phi-4", "phi-4"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        gguf_make_folder(test_path(rows[i].folder), test_config(), train_sample(300), NULL);
        struct gguf_file f = gguf_export_folder(test_path(rows[i].folder));
        assert_gguf_text(&f, "general.name", rows[i].name);
        gguf_release(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level), cmocka_unit_test(test_pre_tokenizers),
        cmocka_unit_test(test_spm), cmocka_unit_test(test_spm_refused),
        cmocka_unit_test(test_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

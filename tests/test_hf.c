/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_hf.c — model folders: what is written afresh, what is carried over, what is refused.
 */
#include "tests/helper.h"

#include <jansson.h>

#include "ckpt/hf.h"
#include "ckpt/weights.h"

static char *read_text(const char *path) {
    struct err e = {0};
    char *text = file_read(path, NULL, &e);
    if (!text)
        fail_msg("%s", e.msg);
    return text;
}

static json_t *read_json(const char *path) {
    char *text = read_text(path);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

/* ---- folders ---- */

static const char *const specials[] = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"};

static struct tokenizer *small_tokenizer(void) {
    static const char *const texts[] = {"hello world", "hello there"};
    static const size_t lens[] = {11, 11};
    struct err e = {0};
    struct tokenizer *t = tokenizer_train(texts, lens, 2, 256 + 4, specials, 4, &e);
    if (!t)
        fail_msg("%s", e.msg);
    return t;
}

static struct model *small_model(bool tied, enum dtype dtype) {
    struct model_config c = test_config();
    struct err e = {0};
    c.vocab_size = 260;
    c.tie_word_embeddings = tied;
    c.dtype = dtype;
    c.eos_token_id[0] = 259;
    struct model *m = model_new(&c, &e);
    if (!m)
        fail_msg("%s", e.msg);
    model_init(m, 3);
    return m;
}

/* A folder written by hf_new + hf_save. */
static const char *make_folder(const char *name, bool tied, enum dtype dtype) {
    struct err e = {0};
    const char *dir = test_path(name);
    assert_ok(dir_remove(dir, &e), &e);
    struct hf *h = hf_new(small_model(tied, dtype), small_tokenizer(), chat_find("keel"));
    assert_ok(hf_save(h, NULL, dir, &e), &e);
    hf_free(h);
    return dir;
}

static void put(const char *dir, const char *name, const char *text) {
    char *path = path_join(dir, name);
    test_write(path, text);
    free(path);
}

static char *slurp(const char *dir, const char *name) {
    char *path = path_join(dir, name), *text = read_text(path);
    free(path);
    return text;
}

static struct hf *open_or_fail(const char *dir, int what) {
    struct err e = {0};
    struct hf *h = hf_open(dir, what, &e);
    if (!h)
        fail_msg("%s", e.msg);
    return h;
}

static void fresh_folders_are_complete(void **state) {
    (void)state;
    const char *dir = make_folder("fresh", false, DTYPE_F32);
    json_t *c = read_json(test_path("fresh/config.json"));
    static const char *const keys[] = {
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
        "rms_norm_eps", "rope_theta", "tie_word_embeddings", "initializer_range", "bos_token_id",
        "eos_token_id", "pad_token_id", "hidden_act", "attention_bias", "mlp_bias", "rope_scaling",
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (!json_object_get(c, keys[i]))
            fail_msg("config.json lacks %s", keys[i]);
    assert_string_equal(json_string_value(json_array_get(json_object_get(c, "architectures"), 0)),
                        "LlamaForCausalLM");
    assert_string_equal(json_string_value(json_object_get(c, "model_type")), "llama");
    assert_string_equal(json_string_value(json_object_get(c, "torch_dtype")), "float32");
    assert_true(json_is_null(json_object_get(c, "bos_token_id")));
    json_decref(c);
    char *text = slurp(dir, "config.json");
    assert_contains(text, "\"rms_norm_eps\": 1e-5,");
    free(text);

    json_t *t = read_json(test_path("fresh/tokenizer_config.json"));
    assert_string_equal(json_string_value(json_object_get(t, "tokenizer_class")),
                        "PreTrainedTokenizerFast");
    assert_string_equal(json_string_value(json_object_get(t, "eos_token")), "<|end|>");
    assert_string_equal(json_string_value(json_object_get(t, "chat_template")),
                        chat_find("keel")->jinja);
    json_decref(t);
    json_t *g = read_json(test_path("fresh/generation_config.json"));
    assert_int_equal(json_integer_value(json_object_get(g, "eos_token_id")), 259);
    json_decref(g);

    struct err e = {0};
    struct st *st = st_open(test_path("fresh/model.safetensors"), &e);
    assert_non_null(st);
    assert_string_equal(st_meta(st, "format"), "pt");
    st_close(st);
}

static void what_is_saved_is_loaded(void **state) {
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < ARRAY_LEN(dtypes) * 2; i++) {
        const bool tied = i & 1;
        const char *dir = make_folder("rt", tied, dtypes[i / 2]);
        struct hf *h = open_or_fail(dir, HF_ALL);
        assert_int_equal(h->model->cfg.dtype, dtypes[i / 2]);
        assert_int_equal(h->model->cfg.tie_word_embeddings, tied);
        assert_int_equal(model_param(h->model, "lm_head.weight") == NULL, tied);
        assert_string_equal(h->chat_jinja, chat_find("keel")->jinja);
        assert_int_equal(tokenizer_vocab_size(h->tokenizer), 260);
        assert_int_equal(h->neos, 1);
        assert_int_equal(h->eos[0], 259);
        if (dtypes[i / 2] == DTYPE_F32 && !REAL_IS_DOUBLE) {
            struct model *m = small_model(tied, DTYPE_F32);
            assert_memory_equal(h->model->block, m->block, m->count * sizeof(real));
            model_free(m);
        }
        /* load and save again: not a byte differs, in any file */
        struct err e = {0};
        const char *again = test_path("rt2");
        assert_ok(dir_remove(again, &e), &e);
        assert_ok(hf_save(h, NULL, again, &e), &e);
        static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json",
            "tokenizer_config.json", "generation_config.json"};
        for (size_t k = 0; k < ARRAY_LEN(names); k++) {
            char *pa = path_join(dir, names[k]), *pb = path_join(again, names[k]);
            size_t na, nb;
            char *a = file_read(pa, &na, &e), *b = file_read(pb, &nb, &e);
            assert_non_null(a);
            assert_non_null(b);
            assert_int_equal(na, nb);
            assert_memory_equal(a, b, na);
            free(a);
            free(b);
            free(pa);
            free(pb);
        }
        char ha[65], hb[65];
        assert_ok(hf_hash(dir, ha, &e), &e);
        assert_ok(hf_hash(again, hb, &e), &e);
        assert_string_equal(ha, hb);
        hf_free(h);
    }
}

static void foreign_keys_and_files_stay(void **state) {
    (void)state;
    struct err e = {0};
    const char *dir = make_folder("origin", false, DTYPE_F32), *out = test_path("copy");
    char *text = slurp(dir, "config.json");
    char *more = xasprintf("{\"zz_unknown\": {\"a\": [1, 2.50, \"x\"]}, \"small\": 1e-05,%s",
                           text + 1);
    put(dir, "config.json", more);
    put(dir, "special_tokens_map.json", "{ \"kept\":1}");
    put(dir, "NOTICE", "keep me");
    put(dir, "freeze.json", "{}");          // states something about the parent alone
    put(dir, "metrics.jsonl", "{}");
    put(dir, "pytorch_model.bin", "x");
    put(dir, "units.safetensors", "x");
    put(dir, ".hidden", "x");
    free(more);
    free(text);
    struct hf *h = open_or_fail(dir, HF_ALL);
    assert_ok(hf_save(h, NULL, out, &e), &e);
    char *a = slurp(dir, "config.json"), *b = slurp(out, "config.json");
    assert_string_equal(a, b);              // nothing changed: the text is the same
    free(a);
    free(b);
    a = slurp(out, "special_tokens_map.json");
    assert_string_equal(a, "{ \"kept\":1}");
    free(a);
    static const struct {
        const char *path;
        bool there;
    } files[] = {
        {"copy/NOTICE", true}, {"copy/tokenizer.json", true}, {"copy/freeze.json", false},
        {"copy/metrics.jsonl", false}, {"copy/pytorch_model.bin", false},
        {"copy/units.safetensors", false}, {"copy/.hidden", false},
        {"copy/model.safetensors.tmp", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (path_exists(test_path(files[i].path)) != files[i].there)
            fail_msg("%s is %sthere", files[i].path, files[i].there ? "not " : "");

    /* another dtype: its key follows, the rest of the text's values stay */
    h->model->cfg.dtype = DTYPE_BF16;
    free(h->stored);
    h->stored = NULL;
    assert_ok(hf_save(h, NULL, out, &e), &e);
    json_t *was = read_json(test_path("origin/config.json"));
    json_t *now = read_json(test_path("copy/config.json"));
    assert_string_equal(json_string_value(json_object_get(now, "torch_dtype")), "bfloat16");
    json_object_set_new(was, "torch_dtype", json_string("bfloat16"));
    assert_true(json_equal(was, now));
    json_decref(was);
    json_decref(now);
    hf_free(h);
    h = open_or_fail(out, HF_MODEL);
    assert_int_equal(h->model->cfg.dtype, DTYPE_BF16);
    assert_ok(hf_save(h, NULL, out, &e), &e);       // onto itself
    hf_free(h);
    assert_true(path_exists(test_path("copy/tokenizer.json")));
}

static void another_template_is_written(void **state) {
    (void)state;
    struct err e = {0};
    const char *dir = make_folder("base", false, DTYPE_F32), *out = test_path("chatty");
    put(dir, "chat_template.jinja", "{{ 'something else' }}");      // wins over the config's
    struct hf *h = open_or_fail(dir, HF_ALL);
    assert_string_equal(h->chat_jinja, "{{ 'something else' }}");
    hf_set_chat(h, chat_find("keel")->jinja);
    assert_ok(hf_save(h, NULL, out, &e), &e);
    hf_free(h);
    assert_false(path_exists(test_path("chatty/chat_template.jinja")));
    h = open_or_fail(out, HF_ALL);
    assert_string_equal(h->chat_jinja, chat_find("keel")->jinja);
    hf_free(h);
    put(out, "tokenizer_config.json", "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"r\"},"
                                      "{\"name\":\"default\",\"template\":\"d\"}]}");
    h = open_or_fail(out, HF_TOKENIZER);
    assert_string_equal(h->chat_jinja, "d");
    assert_null(h->model);
    hf_free(h);
}

static void stop_tokens_have_an_order(void **state) {
    (void)state;
    const char *dir = make_folder("stop", false, DTYPE_F32);
    put(dir, "generation_config.json", "{\"eos_token_id\":[5,6]}");
    struct hf *h = open_or_fail(dir, HF_ALL);
    assert_int_equal(h->neos, 2);           // the file's instead of those of config.json
    assert_int_equal(h->eos[0], 5);
    assert_int_equal(h->eos[1], 6);
    hf_free(h);
    put(dir, "generation_config.json", "{\"temperature\":0.5}");
    h = open_or_fail(dir, HF_MODEL);
    assert_int_equal(h->neos, 1);
    hf_free(h);
    struct err e = {0};
    put(dir, "generation_config.json", "{\"eos_token_id\":260}");
    assert_null(hf_open(dir, HF_MODEL, &e));
    assert_contains(e.msg, "generation_config.json:1:2: eos_token_id");
}

/* ---- weights that do not fit ---- */

/* Rewrites the folder's weights without `drop`, with `add` [n] when given, in two shards if asked;
 * dtype of every other tensor: d2. */
static void rewrite(const char *dir, const char *drop, const char *add, int64_t n, bool shards,
                    enum dtype d2) {
    struct err e = {0};
    struct hf *h = open_or_fail(dir, HF_MODEL);
    const struct model *m = h->model;
    struct st_writer *w[2] = {st_writer_new(), st_writer_new()};
    struct str map = {0};
    real extra[64] = {0};
    for (int i = 0; i < m->nparams; i++) {
        const struct param *p = &m->params[i];
        if (drop && strcmp(drop, p->name) == 0)
            continue;
        const int k = shards ? i % 2 : 0;
        st_writer_add_real(w[k], p->name, i % 2 ? d2 : DTYPE_F32, p->t.ndim, p->t.shape,
                           tensor_data(&p->t));
        str_addf(&map, "%s\"%s\":\"model-0000%d-of-00002.safetensors\"", map.len ? "," : "",
                 p->name, k + 1);
    }
    if (add)
        st_writer_add_real(w[0], add, DTYPE_F32, 1, &n, extra);
    static const char *const names[] = {"model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    for (int k = 0; k < (shards ? 2 : 1); k++) {
        char *path = path_join(dir, shards ? names[k] : "model.safetensors");
        assert_ok(st_save(w[k], path, &e), &e);
        free(path);
    }
    if (shards) {
        char *index = xasprintf("{\"metadata\":{\"total_size\":1},\"weight_map\":{%s}}", map.s);
        char *whole = path_join(dir, "model.safetensors");
        put(dir, "model.safetensors.index.json", index);
        assert_ok(dir_remove(whole, &e), &e);
        free(whole);
        free(index);
    }
    str_release(&map);
    st_writer_free(w[0]);
    st_writer_free(w[1]);
    hf_free(h);
}

static void wrong_weights_are_named(void **state) {
    (void)state;
    static const struct {
        const char *drop, *add;
        int64_t n;
        const char *says;                   /* NULL: fine */
    } cases[] = {
        {NULL, "model.layers.0.self_attn.rotary_emb.inv_freq", 2, NULL},
        {NULL, "model.layers.0.self_attn.q_proj.bias", 16, "no place for: model.layers.0.self_att"},
        {"model.norm.weight", NULL, 0, "missing model.norm.weight"},
        {"lm_head.weight", NULL, 0, "missing lm_head.weight"},
        {"model.norm.weight", "norm.weight", 16, "missing model.norm.weight; unknown are norm.wei"},
        {"model.norm.weight", "model.norm.weight", 8, "expected shape [16] by config.json, got [8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        const char *dir = make_folder("bad", false, DTYPE_F32);
        rewrite(dir, cases[i].drop, cases[i].add, cases[i].n, false, DTYPE_F32);
        struct hf *h = hf_open(dir, HF_MODEL, &e);
        if (!cases[i].says && !h)
            fail_msg("%s", e.msg);
        if (cases[i].says) {
            assert_null(h);
            assert_contains(e.msg, cases[i].says);
        }
        hf_free(h);
    }
}

static void shards_load_and_hash_alike(void **state) {
    (void)state;
    struct err e = {0};
    const char *dir = make_folder("shards", true, DTYPE_F32);
    char whole[65], cut[65];
    struct hf *a = open_or_fail(dir, HF_MODEL);
    assert_ok(hf_hash(dir, whole, &e), &e);
    rewrite(dir, NULL, NULL, 0, true, DTYPE_F32);
    assert_false(path_exists(test_path("shards/model.safetensors")));
    struct hf *b = open_or_fail(dir, HF_MODEL);
    assert_memory_equal(a->model->block, b->model->block, a->model->count * sizeof(real));
    assert_ok(hf_hash(dir, cut, &e), &e);
    assert_string_equal(whole, cut);
    hf_free(a);
    hf_free(b);

    static const struct {
        const char *from, *to, *says;
    } edits[] = {
        {"model-00002-of-00002.safetensors\"", "../x.safetensors\"", "without a path"},
        {"model-00002-of-00002.safetensors\"", "model-00009-of-00002.safetensors\"", "cannot open"},
        {"\"model.norm.weight\":", "\"model.norm.weighs\":", "weight"},
        {"\"weight_map\"", "\"weights\"", "weight_map: expected an object"},
        {"{\"metadata\"", "\"metadata\"", "index.json:1:"},
    };
    char *index = slurp(dir, "model.safetensors.index.json");
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        struct str b2 = {0};
        char *at = strstr(index, edits[i].from);
        assert_non_null(at);
        str_addn(&b2, index, (size_t)(at - index));
        str_add(&b2, edits[i].to);
        str_add(&b2, at + strlen(edits[i].from));
        put(dir, "model.safetensors.index.json", b2.s);
        assert_null(hf_open(dir, HF_MODEL, &e));
        assert_contains(e.msg, edits[i].says);
        str_release(&b2);
    }
    free(index);
}

static void every_tensor_keeps_its_dtype(void **state) {
    (void)state;
    struct err e = {0};
    const char *dir = make_folder("mixed", false, DTYPE_BF16);     // values are bf16's
    rewrite(dir, NULL, NULL, 0, false, DTYPE_BF16);
    char a[65], b[65];
    struct hf *h = open_or_fail(dir, HF_MODEL);
    assert_ok(hf_save(h, NULL, test_path("mixed2"), &e), &e);
    hf_free(h);
    assert_ok(hf_hash(dir, a, &e), &e);
    assert_ok(hf_hash(test_path("mixed2"), b, &e), &e);
    assert_string_equal(a, b);
}

static void wrong_folders_are_named(void **state) {
    (void)state;
    struct err e = {0};
    assert_null(hf_open(test_path("nowhere"), HF_ALL, &e));
    assert_contains(e.msg, "expected a model folder");
    const char *dir = make_folder("hints", false, DTYPE_F32);
    assert_ok(dir_remove(test_path("hints/tokenizer.json"), &e), &e);
    put(dir, "tokenizer.model", "x");
    assert_null(hf_open(dir, HF_ALL, &e));
    assert_contains(e.msg, "hint: only tokenizer.model");
    hf_free(open_or_fail(dir, HF_MODEL));
    assert_ok(dir_remove(test_path("hints/model.safetensors"), &e), &e);
    assert_null(hf_open(dir, HF_MODEL, &e));
    assert_contains(e.msg, "found neither");
    put(dir, "pytorch_model.bin", "x");
    assert_null(hf_open(dir, HF_MODEL, &e));
    assert_contains(e.msg, "safe_serialization");
    dir = make_folder("huge", false, DTYPE_F32);        // a small file may not ask for terabytes
    put(dir, "config.json", "{\"model_type\":\"llama\",\"hidden_size\":1048576}");
    assert_null(hf_open(dir, HF_MODEL, &e));
    assert_contains(e.msg, "describes a model of more than");
    put(dir, "config.json", "{\n  \"model_type\": \"llama\",\n}");
    assert_null(hf_open(dir, HF_MODEL, &e));
    assert_contains(e.msg, "config.json:3:");
    dir = make_folder("small_vocab", false, DTYPE_F32);
    char *text = slurp(dir, "config.json"), *at = strstr(text, "\"vocab_size\": 260");
    assert_non_null(at);
    memcpy(at, "\"vocab_size\": 200", 17);
    at = strstr(text, "259");
    memcpy(at, "  9", 3);
    put(dir, "config.json", text);
    free(text);
    put(dir, "generation_config.json", "{}");
    assert_null(hf_open(dir, HF_TOKENIZER, &e));
    assert_contains(e.msg, "expected ids below vocab_size 200 of config.json, got 259");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_folders_are_complete),
        cmocka_unit_test(what_is_saved_is_loaded),
        cmocka_unit_test(foreign_keys_and_files_stay),
        cmocka_unit_test(another_template_is_written),
        cmocka_unit_test(stop_tokens_have_an_order),
        cmocka_unit_test(wrong_weights_are_named),
        cmocka_unit_test(shards_load_and_hash_alike),
        cmocka_unit_test(every_tensor_keeps_its_dtype),
        cmocka_unit_test(wrong_folders_are_named),
    };
    return cmocka_run_group_tests_name("hf", tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_hf_bytes.c — folders of random bytes in every dtype and any files, read and saved again.
 */
#include "tests/helper.h"

#include <jansson.h>

#include "ckpt/diff.h"
#include "ckpt/hf.h"

static void put(const char *dir, const char *name, const char *text) {
    struct err e = {0};
    assert_ok(file_write_text(dir, name, text, &e), &e);
}

static struct hf *open_or_fail(const char *dir) {
    struct err e = {0};
    struct hf *h = hf_open(dir, HF_MODEL, &e);
    if (!h)
        fail_msg("%s", e.msg);
    return h;
}

static const char llama_json[] =
    "{\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":16,\"intermediate_size\":24,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"tie_word_embeddings\":false}";
static const char gpt2_json[] =
    "{\"model_type\":\"gpt2\",\"vocab_size\":40,\"n_embd\":16,\"n_layer\":2,\"n_head\":4,"
    "\"n_positions\":8,\"bos_token_id\":0,\"eos_token_id\":0}";
static const char tied_json[] =
    "{\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":16,\"intermediate_size\":24,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"tie_word_embeddings\":true}";

struct named {
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[4];
};

/* Random bytes: in every float dtype that is NaNs with payloads, infinities, subnormals, both
 * zeros. Space for any tensor here, at any place. */
enum { TENSOR_MAX = 1 << 13 };
static uint8_t noise[4 * TENSOR_MAX];

static void make_noise(enum dtype dtype) {
    struct rng *r = rng_keyed(5, dtype_table[dtype].name, 0);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(rng_below(r, 4) ? rng_below(r, 256) : 0x80 * rng_below(r, 2));
    rng_free(r);
}

/* The parameters of a config as tensors of one dtype, and `extra`. bare: GPT-2's names without
 * their first word. Caller frees; names are borrowed from m. */
static struct named *list_tensors(const struct model *m, enum dtype dtype, bool bare,
                                  const struct named *extra, int nextra) {
    static const char prefix[] = "transformer.";
    struct named *list = xcalloc((size_t)(m->nparams + nextra), sizeof *list);
    for (int i = 0; i < m->nparams; i++) {
        const struct param *p = &m->params[i];
        const bool cut = bare && strncmp(p->name, prefix, sizeof prefix - 1) == 0;
        list[i] = (struct named){p->name + (cut ? sizeof prefix - 1 : 0), dtype, p->t.ndim, {0}};
        memcpy(list[i].shape, p->t.shape, sizeof list[i].shape);
    }
    for (int i = 0; i < nextra; i++)
        list[m->nparams + i] = extra[i];
    return list;
}

static size_t bytes_of(const struct named *t) {
    size_t count = 1;
    for (int i = 0; i < t->ndim; i++)
        count *= (size_t)t->shape[i];
    return count * (size_t)dtype_table[t->dtype].bits / 8;
}

static char *file_name(int f, int files) {
    return files == 1 ? xstrdup("model.safetensors")
                      : xasprintf("model-%05d-of-%05d.safetensors", f + 1, files);
}

/* The index as transformers 5 writes it. */
static void write_index(const char *dir, const struct named *list, int n, int files) {
    json_t *map = json_object();
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        char *file = file_name(i % files, files);
        json_object_set_new(map, list[i].name, json_string(file));
        total += bytes_of(&list[i]);
        free(file);
    }
    json_t *root = json_pack("{s:{s:i,s:I},s:o}", "metadata", "total_parameters", 7, "total_size",
                             (json_int_t)total, "weight_map", map);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
    char *line = xasprintf("%s\n", text);
    put(dir, "model.safetensors.index.json", line);
    free(line);
    free(text);
    json_decref(root);
}

static void make_bytes(const char *dir, const char *config, enum dtype dtype, bool bare, int files,
                       const struct named *extra, int nextra) {
    struct err e = {0};
    struct model_config c;
    char *path = path_join(dir, "config.json");
    assert_ok(dir_remove(dir, &e), &e);
    assert_ok(dir_make(dir, &e), &e);
    put(dir, "config.json", config);
    assert_ok(hf_read_config(path, &c, &e), &e);
    free(path);
    make_noise(dtype);
    struct model *m = model_new(&c, &e);
    const int n = m->nparams + nextra;
    struct named *list = list_tensors(m, dtype, bare, extra, nextra);
    for (int f = 0; f < files; f++) {
        struct st_writer *w = st_writer_new();
        char *file = file_name(f, files);
        path = path_join(dir, file);
        st_writer_meta(w, "format", "pt");
        for (int i = f; i < n; i += files) {
            assert_true(bytes_of(&list[i]) <= TENSOR_MAX);
            st_writer_add(w, list[i].name, list[i].dtype, list[i].ndim, list[i].shape,
                          noise + (size_t)i * 977 % TENSOR_MAX);
        }
        assert_ok(st_save(w, path, &e), &e);
        st_writer_free(w);
        free(path);
        free(file);
    }
    if (files > 1)
        write_index(dir, list, n, files);
    free(list);
    model_free(m);
}

static void assert_same_file(const char *a, const char *b, const char *name) {
    struct err e = {0};
    char *pa = path_join(a, name), *pb = path_join(b, name);
    size_t na, nb;
    char *x = file_read(pa, &na, &e), *y = x ? file_read(pb, &nb, &e) : NULL;
    if (!x || !y)
        fail_msg("%s", e.msg);
    if (na != nb || memcmp(x, y, na) != 0)
        fail_msg("%s and %s differ", pa, pb);
    free(x);
    free(y);
    free(pa);
    free(pb);
}

static void untouched_bytes_return(void **state) {
    (void)state;
    static const enum dtype dtypes[] = {
        DTYPE_F64, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F8_E4M3, DTYPE_F8_E5M2,
        DTYPE_F8_E4M3FNUZ, DTYPE_F8_E5M2FNUZ,
    };
    int floats = 0;
    for (int d = 0; d < DTYPE_COUNT; d++)
        floats += dtype_table[d].can_compute;
    assert_int_equal(floats, ARRAY_LEN(dtypes));
    const char *a = test_path("bytes"), *b = test_path("bytes2");
    log_threshold = LOG_ERROR;
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++)
        for (int files = 1; files <= 3; files += 2) {
            struct err e = {0};
            make_bytes(a, llama_json, dtypes[i], false, files, NULL, 0);
            assert_ok(dir_remove(b, &e), &e);
            struct hf *h = open_or_fail(a);
            assert_ok(hf_save(h, NULL, b, &e), &e);
            assert_same_file(a, b, "config.json");
            if (files == 1)
                assert_same_file(a, b, "model.safetensors");
            if (files == 3) {
                assert_same_file(a, b, "model-00001-of-00003.safetensors");
                assert_same_file(a, b, "model-00002-of-00003.safetensors");
                assert_same_file(a, b, "model-00003-of-00003.safetensors");
                assert_same_file(a, b, "model.safetensors.index.json");
            }
            struct diff *d = diff_open(a, b, NULL, &e);
            if (!d)
                fail_msg("%s", e.msg);
            assert_int_equal(d->states[DIFF_SAME], h->model->nparams);
            assert_true(diff_is_same(d));
            diff_free(d);
            assert_ok(hf_save(h, NULL, a, &e), &e);     // onto itself
            if (files == 1)
                assert_same_file(a, b, "model.safetensors");
            else
                assert_same_file(a, b, "model-00002-of-00003.safetensors");
            hf_free(h);
        }
    log_threshold = LOG_INFO;
}

/* One entry is trained: it alone is written anew, the low bits of the others stay. */
static void touched_entries_are_written(void **state) {
    (void)state;
    const char *a = test_path("bytes"), *b = test_path("bytes2");
    struct err e = {0};
    log_threshold = LOG_ERROR;
    make_bytes(a, llama_json, DTYPE_F64, false, 1, NULL, 0);
    struct hf *h = open_or_fail(a);
    struct param *p = model_param(h->model, "model.layers.1.mlp.up_proj.weight");
    p->t.data[77] = R(1.25);
    assert_ok(hf_save(h, NULL, b, &e), &e);
    struct weights *wa = weights_open(a, &e), *wb = weights_open(b, &e);
    for (int i = 0; i < weights_count(wa); i++) {
        const struct weight *x = weights_at(wa, i), *y = weights_at(wb, i);
        const char *px = st_data(x->st, x->en), *py = st_data(y->st, y->en);
        assert_int_equal(y->en->dtype, DTYPE_F64);
        const bool touched = strcmp(x->en->name, p->name) == 0;
        for (size_t k = 0; k < x->en->count; k++)
            if ((memcmp(px + 8 * k, py + 8 * k, 8) != 0) != (touched && k == 77))
                fail_msg("%s[%zu]", x->en->name, k);
        if (touched) {
            double v;
            memcpy(&v, py + 8 * 77, 8);
            assert_true(v == 1.25);
        }
    }
    weights_close(wa);
    weights_close(wb);
    hf_free(h);
    log_threshold = LOG_INFO;
}

/* GPT-2 as first published: bare names, masks among the tensors. */
static void spelling_and_buffers_stay(void **state) {
    (void)state;
    static const struct named masks[] = {
        {"h.0.attn.bias", DTYPE_U8, 4, {1, 1, 8, 8}},
        {"h.1.attn.bias", DTYPE_F32, 4, {1, 1, 8, 8}},
        {"h.1.attn.masked_bias", DTYPE_F32, 0, {0}},
    };
    static const struct named other = {"h.0.attn.bia", DTYPE_F32, 1, {8}};
    const char *a = test_path("gpt2"), *b = test_path("gpt2b");
    struct err e = {0};
    for (int bare = 0; bare < 2; bare++)
        for (int files = 1; files <= 2; files++) {
            make_bytes(a, gpt2_json, DTYPE_BF16, bare, files, masks, ARRAY_LEN(masks));
            assert_ok(dir_remove(b, &e), &e);
            struct hf *h = open_or_fail(a);
            assert_ok(hf_save(h, NULL, b, &e), &e);
            assert_same_file(a, b, files == 1 ? "model.safetensors"
                                              : "model-00002-of-00002.safetensors");
            hf_free(h);
        }
    struct weights *w = weights_open(a, &e);
    assert_non_null(weights_find(w, "transformer.wte.weight"));
    assert_string_equal(weights_find(w, "transformer.wte.weight")->en->name, "wte.weight");
    assert_null(weights_find(w, "transformer.wte.weigh"));
    assert_null(weights_find(w, "model.wte.weight"));
    weights_close(w);
    make_bytes(a, gpt2_json, DTYPE_BF16, true, 1, &other, 1);
    assert_null(hf_open(a, HF_MODEL, &e));
    assert_contains(e.msg, "a gpt2 model has no place for: h.0.attn.bia");
    make_bytes(a, llama_json, DTYPE_BF16, false, 1, masks, 1);
    assert_null(hf_open(a, HF_MODEL, &e));
    assert_contains(e.msg, "a llama model has no place for: h.0.attn.bias");
}

/* A tied head that an exporter wrote out: written again, as what the embedding became. */
static void tied_heads_follow_the_embedding(void **state) {
    (void)state;
    static const struct named head = {"lm_head.weight", DTYPE_F32, 2, {40, 16}};
    static const struct named wrong = {"lm_head.weight", DTYPE_F32, 2, {16, 40}};
    const char *a = test_path("head"), *b = test_path("head2");
    struct err e = {0};
    make_bytes(a, tied_json, DTYPE_F32, false, 1, &head, 1);
    log_threshold = LOG_ERROR;              // its bytes are others: a warning
    struct hf *h = open_or_fail(a);
    log_threshold = LOG_INFO;
    struct param *embed = model_head_param(h->model);
    for (size_t i = 0; i < embed->t.count; i++)
        embed->t.data[i] = (real)(int)i;
    assert_ok(hf_save(h, NULL, b, &e), &e);
    hf_free(h);
    struct weights *w = weights_open(b, &e);
    const struct weight *x = weights_find(w, "lm_head.weight");
    const struct weight *y = weights_find(w, "model.embed_tokens.weight");
    assert_memory_equal(st_data(x->st, x->en), st_data(y->st, y->en), 40 * 16 * 4);
    weights_close(w);
    hf_free(open_or_fail(b));
    make_bytes(a, tied_json, DTYPE_F32, false, 1, &wrong, 1);
    assert_null(hf_open(a, HF_MODEL, &e));
    assert_contains(e.msg, "lm_head.weight: expected shape [40,16] by config.json, got [16,40]");
}

static void dtypes_that_are_no_floats_are_named(void **state) {
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_BOOL, DTYPE_U8, DTYPE_I8, DTYPE_I16, DTYPE_U16,
                                        DTYPE_I32, DTYPE_U32, DTYPE_I64, DTYPE_U64, DTYPE_C64,
                                        DTYPE_F8_E8M0, DTYPE_F4, DTYPE_F6_E2M3, DTYPE_F6_E3M2};
    const char *a = test_path("ints");
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        struct err e = {0};
        make_bytes(a, llama_json, dtypes[i], false, 1, NULL, 0);
        assert_null(hf_open(a, HF_MODEL, &e));
        assert_contains(e.msg, "model.embed_tokens.weight: expected F32, BF16, F16, F64 or an 8-b");
        char *got = xasprintf("got %s ", dtype_table[dtypes[i]].name);
        assert_contains(e.msg, got);
        free(got);
    }
}

static void shards_are_cut_to_size(void **state) {
    (void)state;
    const char *a = test_path("cut"), *b = test_path("cut2");
    struct err e = {0};
    char was[65], is[65];
    make_bytes(a, llama_json, DTYPE_BF16, false, 3, NULL, 0);
    assert_ok(hf_hash(a, was, &e), &e);
    static const struct {
        size_t size;
        int files;
    } cases[] = {{1, 21}, {3000, 4}, {1 << 20, 1}, {0, 3}};
    struct hf *h = open_or_fail(a);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        h->max_shard_size = cases[i].size;
        assert_ok(hf_save(h, NULL, b, &e), &e);         // over the one before
        struct weights *w = weights_open(b, &e);
        if (!w)
            fail_msg("%s", e.msg);
        assert_int_equal(weights_files(w), cases[i].files);
        weights_close(w);
        assert_int_equal(path_exists(test_path("cut2/model.safetensors")), cases[i].files == 1);
        assert_int_equal(path_exists(test_path("cut2/model.safetensors.index.json")),
                         cases[i].files > 1);
        assert_int_equal(path_exists(test_path("cut2/model-00001-of-00021.safetensors")), i == 0);
        assert_ok(hf_hash(b, is, &e), &e);
        assert_string_equal(was, is);
        hf_free(open_or_fail(b));
    }
    /* another dtype: as large files at most */
    h->max_shard_size = 0;
    h->model->cfg.dtype = DTYPE_F32;
    free(h->stored);
    h->stored = NULL;
    assert_ok(hf_save(h, NULL, b, &e), &e);
    struct weights *w = weights_open(b, &e);
    assert_true(weights_files(w) > 3);
    weights_close(w);
    hf_free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untouched_bytes_return),
        cmocka_unit_test(touched_entries_are_written),
        cmocka_unit_test(spelling_and_buffers_stay),
        cmocka_unit_test(tied_heads_follow_the_embedding),
        cmocka_unit_test(dtypes_that_are_no_floats_are_named),
        cmocka_unit_test(shards_are_cut_to_size),
    };
    return cmocka_run_group_tests_name("hf_bytes", tests, NULL, NULL);
}

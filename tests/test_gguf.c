/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_gguf.c — files of gguf_export, read by a reader of its own.
 *
 * Each folder of tests/ref/arch is exported and the file taken apart again: every tensor of the
 * folder must be in it, with the values it had once what llama.cpp wants of them is undone. Names
 * are compared with a table of names, not of slots. That llama.cpp computes the same from the file
 * is tests/gguf/run.sh's business.
 */
#include "tests/helper_gguf.h"

#include <math.h>

#include "tests/helper_arch.h"

/* ---- every architecture ---- */

/* Refused, with a word of the message. */
static const struct {
    const char *name, *word;
} refused[] = {
    {"llama-gelu", "hidden_act"}, {"gpt2-unscaled", "hidden_act"}, {"qwen2-yarn", "head_dim"},
    {"qwen3-window-tf5", "attention_bias"},
};

static const char *word_of_refusal(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (strcmp(refused[i].name, name) == 0)
            return refused[i].word;
    return NULL;
}

static const struct {
    const char *hf, *gguf;
    const char *only;                       /* model types, with a blank on both sides; NULL: all */
} names[] = {
    {"model.embed_tokens.weight", "token_embd.weight", NULL},
    {"model.norm.weight", "output_norm.weight", NULL},
    {"lm_head.weight", "output.weight", NULL},
    {"wte.weight", "token_embd.weight", NULL}, {"wpe.weight", "position_embd.weight", NULL},
    {"ln_f.weight", "output_norm.weight", NULL}, {"ln_f.bias", "output_norm.bias", NULL},
    {"input_layernorm.weight", "attn_norm.weight", NULL},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", " gemma2 olmo2 "},
    {"post_attention_layernorm.weight", "ffn_norm.weight", NULL},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", NULL},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", NULL},
    {"self_attn.q_proj.weight", "attn_q.weight", NULL},
    {"self_attn.k_proj.weight", "attn_k.weight", NULL},
    {"self_attn.v_proj.weight", "attn_v.weight", NULL},
    {"self_attn.o_proj.weight", "attn_output.weight", NULL},
    {"self_attn.q_proj.bias", "attn_q.bias", NULL}, {"self_attn.k_proj.bias", "attn_k.bias", NULL},
    {"self_attn.v_proj.bias", "attn_v.bias", NULL},
    {"self_attn.o_proj.bias", "attn_output.bias", NULL},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", NULL},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", NULL},
    {"self_attn.qkv_proj.weight", "attn_qkv.weight", NULL},
    {"mlp.gate_proj.weight", "ffn_gate.weight", NULL},
    {"mlp.gate_proj.bias", "ffn_gate.bias", NULL},
    {"mlp.up_proj.weight", "ffn_up.weight", NULL}, {"mlp.up_proj.bias", "ffn_up.bias", NULL},
    {"mlp.gate_up_proj.weight", "ffn_up.weight", NULL},
    {"mlp.down_proj.weight", "ffn_down.weight", NULL},
    {"mlp.down_proj.bias", "ffn_down.bias", NULL},
    {"ln_1.weight", "attn_norm.weight", NULL}, {"ln_1.bias", "attn_norm.bias", NULL},
    {"ln_2.weight", "ffn_norm.weight", NULL}, {"ln_2.bias", "ffn_norm.bias", NULL},
    {"attn.c_attn.weight", "attn_qkv.weight", NULL}, {"attn.c_attn.bias", "attn_qkv.bias", NULL},
    {"attn.c_proj.weight", "attn_output.weight", NULL},
    {"attn.c_proj.bias", "attn_output.bias", NULL},
    {"mlp.c_fc.weight", "ffn_up.weight", NULL}, {"mlp.c_fc.bias", "ffn_up.bias", NULL},
    {"mlp.c_proj.weight", "ffn_down.weight", NULL}, {"mlp.c_proj.bias", "ffn_down.bias", NULL},
};

/* The tensor of the file for one of the folder; NULL: it carries nothing. */
static struct gguf_info *counterpart(const struct gguf_file *f, const struct model_config *c,
                                const char *hf) {
    char type[40], full[160];
    int layer = -1, used = 0;
    if (strstr(hf, "inv_freq") || strstr(hf, ".attn.bias") || strstr(hf, "masked_bias")
        || (c->tie_word_embeddings && strcmp(hf, "lm_head.weight") == 0))
        return NULL;
    if (strncmp(hf, "transformer.", 12) == 0)
        hf += 12;
    if (sscanf(hf, "model.layers.%d.%n", &layer, &used) == 1 && used)
        hf += used;
    else if (sscanf(hf, "h.%d.%n", &layer, &used) == 1 && used)
        hf += used;
    snprintf(type, sizeof type, " %s ", c->model_type);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i].hf, hf) == 0 && (!names[i].only || strstr(names[i].only, type))) {
            if (layer < 0)
                snprintf(full, sizeof full, "%s", names[i].gguf);
            else
                snprintf(full, sizeof full, "blk.%d.%s", layer, names[i].gguf);
            struct gguf_info *t = gguf_tensor(f, full);
            if (!t)
                fail_msg("%s: no %s", hf, full);
            return t;
        }
    fail_msg("%s: not in the table of names", hf);
    return NULL;
}

/* The value at row r, column k of the file's tensor, from the folder's tensor v[rows, cols]. */
static double expected_value(const struct model_config *c, const char *hf, const double *v,
                             int64_t rows, int64_t cols, int64_t r, int64_t k) {
    const bool gpt2 = strcmp(c->model_type, "gpt2") == 0;
    const bool llama = strcmp(c->model_type, "llama") == 0
                    || strcmp(c->model_type, "mistral") == 0;
    const int64_t d = c->head_dim;
    int layer = 0;
    double x;
    if (llama && (strstr(hf, "q_proj") || strstr(hf, "k_proj")))
        x = v[(r / d * d + r % d / 2 + r % 2 * (d / 2)) * cols + k];
    else if (gpt2 && (strstr(hf, "c_attn.weight") || strstr(hf, "c_proj.weight")
                      || strstr(hf, "c_fc.weight")))
        x = v[k * rows + r];
    else
        x = v[r * cols + k];
    if (strncmp(c->model_type, "gemma", 5) == 0 && strstr(hf, "norm.weight"))
        x += 1;
    const bool query = strstr(hf, "q_proj") || (strstr(hf, "c_attn")
                                                && r < c->num_attention_heads * d);
    if (query && c->attn_scale > 0)
        x *= c->attn_scale * sqrt((double)d);
    if (query && c->scale_attn_by_inverse_layer_idx
        && sscanf(strstr(hf, "h."), "h.%d", &layer) == 1)
        x /= layer + 1;
    return x;
}

static void compare_tensor(const struct gguf_file *f, const struct model_config *c,
                           const struct weight *w, double tolerance) {
    struct gguf_info *t = counterpart(f, c, w->en->name);
    if (!t)
        return;
    t->met = true;
    double *want = xcalloc(w->en->count, sizeof *want), *got = gguf_tensor_values(f, t);
    weight_values(w, 0, want, w->en->count);
    assert_int_equal(t->count, w->en->count);
    assert_int_equal(t->ndim, w->en->ndim);
    const int64_t cols = t->ndim == 1 ? 1 : (int64_t)t->dims[0];
    const int64_t rows = (int64_t)t->count / cols;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++)
            assert_near(got[r * cols + k], expected_value(c, w->en->name, want, rows, cols, r, k),
                        t->type == 0 ? 1e-6 : tolerance, t->type == 1 ? 0x1p-25 : 0,
                        w->en->name);
    free(want);
    free(got);
}

static void export_case(const char *name, enum dtype dtype, struct gguf_file *f,
                        struct model_config *c) {
    struct err e = {0};
    char *dir = xasprintf("tests/ref/arch/%s", name), *config = path_join(dir, "config.json");
    const char *path = test_path("case.gguf");
    log_threshold = LOG_ERROR;
    assert_ok(gguf_export(dir, path, dtype, NULL, &e), &e);
    assert_ok(hf_read_config(config, c, &e), &e);
    log_threshold = LOG_INFO;
    *f = gguf_read(path);
    free(config);
    free(dir);
}

static void compare_tensors(const char *name, struct gguf_file *f, const struct model_config *c,
                            double tolerance) {
    struct err e = {0};
    char *dir = xasprintf("tests/ref/arch/%s", name);
    struct weights *w = weights_open(dir, &e);
    assert_non_null(w);
    for (int i = 0; i < weights_count(w); i++)
        compare_tensor(f, c, weights_at(w, i), tolerance);
    for (uint64_t i = 0; i < f->ninfos; i++)
        if (!f->infos[i].met && strncmp(f->infos[i].name, "rope_", 5) != 0
            && strcmp(f->infos[i].name, "output.weight") != 0)
            fail_msg("%s: of no tensor of the folder", f->infos[i].name);
    weights_close(w);
    free(dir);
}

static void test_tensors(void **state) {
    const char *name = *state, *word = word_of_refusal(name);
    struct err e = {0};
    struct gguf_file f;
    struct model_config c;
    if (word) {
        char *dir = xasprintf("tests/ref/arch/%s", name);
        log_threshold = LOG_ERROR;
        assert_int_equal(gguf_export(dir, test_path("no.gguf"), DTYPE_F32, NULL, &e), -1);
        log_threshold = LOG_INFO;
        assert_contains(e.msg, word);
        assert_contains(e.msg, "llama.cpp");
        assert_false(path_exists(test_path("no.gguf")));
        free(dir);
        return;
    }
    export_case(name, DTYPE_F32, &f, &c);
    assert_int_equal(gguf_number(&f, "general.file_type", GGUF_U32), 0);
    compare_tensors(name, &f, &c, 0);
    gguf_release(&f);
}

/* ---- dtypes ---- */

static void test_dtypes(void **state) {
    static const struct {
        enum dtype dtype;
        uint32_t type, file_type;
        double tolerance;                   /* half a unit in the last place */
    } rows[] = {{DTYPE_F16, 1, 1, 0x1p-11}, {DTYPE_BF16, 30, 32, 0x1p-8}};
    static const char *const cases[] = {"llama", "gemma2", "gpt2", "phi3"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
            struct gguf_file f;
            struct model_config c;
            export_case(cases[k], rows[i].dtype, &f, &c);
            assert_int_equal(gguf_number(&f, "general.file_type", GGUF_U32), rows[i].file_type);
            for (uint64_t t = 0; t < f.ninfos; t++)
                assert_int_equal(f.infos[t].type,
                                 f.infos[t].ndim == 1 || strstr(f.infos[t].name, "position")
                                 ? 0 : rows[i].type);
            compare_tensors(cases[k], &f, &c, rows[i].tolerance);
            gguf_release(&f);
        }
}

/* Without a dtype: the folder's own. */
static void test_stored_dtype(void **state) {
    static const struct {
        const char *name;
        uint32_t file_type;
    } rows[] = {{"llama", 0}, {"llama-bias", 1}, {"gemma-bf16", 32}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gguf_file f;
        struct model_config c;
        export_case(rows[i].name, DTYPE_COUNT, &f, &c);
        assert_int_equal(gguf_number(&f, "general.file_type", GGUF_U32), rows[i].file_type);
        compare_tensors(rows[i].name, &f, &c, 0);
        gguf_release(&f);
    }
}

/* ---- metadata ---- */

static void test_sizes(void **state) {
    const char *name = *state;
    if (word_of_refusal(name))
        return;
    struct gguf_file f;
    struct model_config c;
    export_case(name, DTYPE_F32, &f, &c);
    const char *arch = gguf_arch_name(c.model_type);
    const struct {
        const char *key;
        double value;
    } ints[] = {
        {"vocab_size", c.vocab_size}, {"embedding_length", c.hidden_size},
        {"block_count", c.num_hidden_layers}, {"feed_forward_length", c.intermediate_size},
        {"attention.head_count", c.num_attention_heads},
        {"attention.head_count_kv", c.num_key_value_heads}, {"attention.key_length", c.head_dim},
        {"attention.value_length", c.head_dim},
    };
    assert_gguf_text(&f, "general.architecture", arch);
    assert_gguf_text(&f, "general.name", name);
    for (size_t i = 0; i < ARRAY_LEN(ints); i++)
        if (gguf_fact(&f, arch, ints[i].key, GGUF_U32) != ints[i].value)
            fail_msg("%s: %g, expected %g", ints[i].key, gguf_fact(&f, arch, ints[i].key, GGUF_U32),
                     ints[i].value);
    const bool gpt2 = strcmp(arch, "gpt2") == 0;
    assert_near(gguf_fact(&f, arch, gpt2 ? "attention.layer_norm_epsilon"
                                    : "attention.layer_norm_rms_epsilon", GGUF_F32), c.rms_norm_eps,
                1e-6, 0, "eps");
    assert_true(gpt2 == (bool)isnan(gguf_fact(&f, arch, "rope.freq_base", GGUF_F32)));
    if (!gpt2)
        assert_near(gguf_fact(&f, arch, "rope.freq_base", GGUF_F32), c.rope.theta, 1e-6, 0,
                    "theta");
    gguf_release(&f);
}

/* What a class has beyond sizes: one key a row. NAN: it must not be there. */
static void test_facts(void **state) {
    static const struct {
        const char *name, *key;
        uint32_t type;
        double value;
    } rows[] = {
        {"llama", "context_length", GGUF_U32, 64}, {"mistral", "context_length", GGUF_U32, 3},
        {"mistral-full", "context_length", GGUF_U32, 64},
        {"mistral-defaults", "context_length", GGUF_U32, 64},
        {"qwen2", "context_length", GGUF_U32, 64}, {"qwen2-window", "context_length", GGUF_U32, 3},
        {"phi3", "context_length", GGUF_U32, 4}, {"dynamic-rope", "context_length", GGUF_U32, 16},
        {"gpt2", "context_length", GGUF_U32, 32},
        {"llama", "attention.sliding_window", GGUF_U32, NAN},
        {"gemma2", "attention.sliding_window", GGUF_U32, 3},
        {"gemma2", "context_length", GGUF_U32, 64},
        {"gemma2", "attn_logit_softcapping", GGUF_F32, 2},
        {"gemma2", "final_logit_softcapping", GGUF_F32, 3},
        {"gemma2-uncapped", "attn_logit_softcapping", GGUF_F32, 0x1p40},
        {"gemma2-defaults", "final_logit_softcapping", GGUF_F32, 30},
        {"gemma", "attn_logit_softcapping", GGUF_F32, NAN},
        {"llama", "rope.dimension_count", GGUF_U32, 8},
        {"phi3-longrope", "rope.dimension_count", GGUF_U32, 6},
        {"linear-rope", "rope.scaling.factor", GGUF_F32, 4},
        {"linear-rope-tf5", "rope.scaling.factor", GGUF_F32, 2.5},
        {"llama3-rope", "rope.scaling.factor", GGUF_F32, NAN},
        {"phi3-longrope", "rope.scaling.original_context_length", GGUF_U32, 8},
        {"phi3-longrope-tf5", "rope.scaling.attn_factor", GGUF_F32, 1.25},
        {"yarn-rope-tf5", "rope.scaling.attn_factor", GGUF_F32, 1.3},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gguf_file f;
        struct model_config c;
        export_case(rows[i].name, DTYPE_F32, &f, &c);
        const double got = gguf_fact(&f, gguf_arch_name(c.model_type), rows[i].key, rows[i].type);
        if (isnan(got) != isnan(rows[i].value)
            || (!isnan(got) && fabs(got - rows[i].value) > 1e-6 * fabs(rows[i].value)))
            fail_msg("%s: %s: expected %g, got %g", rows[i].name, rows[i].key, rows[i].value, got);
        gguf_release(&f);
    }
}

static void test_rope_texts(void **state) {
    static const struct {
        const char *name, *key, *value, *tensor;
    } rows[] = {
        {"linear-rope", "llama.rope.scaling.type", "linear", NULL},
        {"phi3-longrope", "phi3.rope.scaling.type", "longrope", "rope_factors_short.weight"},
        {"phi3-longrope", "phi3.rope.scaling.type", "longrope", "rope_factors_long.weight"},
        {"llama3-rope", NULL, NULL, "rope_freqs.weight"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gguf_file f;
        struct model_config c;
        export_case(rows[i].name, DTYPE_F32, &f, &c);
        if (rows[i].key)
            assert_gguf_text(&f, rows[i].key, rows[i].value);
        else
            assert_null(gguf_find(&f, "llama.rope.scaling.type", GGUF_TEXT));
        const struct gguf_info *t = rows[i].tensor ? gguf_tensor(&f, rows[i].tensor) : NULL;
        assert_true(!rows[i].tensor == !t);
        if (t)
            assert_int_equal(t->count, rope_dim(&c.rope, c.head_dim) / 2);
        gguf_release(&f);
    }
}

/* Llama 3's divisors at head_dim 64: inverse frequencies before and after scaling, from the table
 * that transformers computes for Llama 3.2. */
static void test_llama3_divisors(void **state) {
    static const struct {
        int index;
        double before, after;
    } rows[] = {
        {0, 1, 1}, {14, 3.211445995e-03, 3.211445995e-03}, {15, 2.131119537e-03, 1.290547928e-03},
        {16, 1.414213562e-03, 4.295567966e-04}, {17, 9.384738704e-04, 9.708287803e-05},
        {18, 6.227724219e-04, 1.946163818e-05}, {31, 3.013858152e-06, 9.418306725e-08},
    };
    (void)state;
    struct model_config c = test_config();
    c.hidden_size = c.head_dim = 64;
    c.num_attention_heads = c.num_key_value_heads = 1;
    gguf_make_folder(test_path("llama3"), c, NULL,
                "{\"rope_theta\": 500000.0, \"max_position_embeddings\": 131072, \"rope_scaling\":"
                " {\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0,"
                " \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}");
    struct gguf_file f = gguf_export_folder(test_path("llama3"));
    const struct gguf_info *t = gguf_tensor(&f, "rope_freqs.weight");
    assert_true(t && t->count == 32 && t->ndim == 1 && t->type == 0);
    double *v = gguf_tensor_values(&f, t);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_near(v[rows[i].index], rows[i].before / rows[i].after, 1e-6, 0, "divisor");
    assert_true(v[0] == 1 && v[14] == 1 && v[31] == 32);
    free(v);
    gguf_release(&f);
}

static void test_too_large_for_f16(void **state) {
    (void)state;
    struct err e = {0};
    const char *dir = test_path("large");
    gguf_make_folder(dir, test_config(), NULL, NULL);
    struct hf *h = hf_open(dir, HF_MODEL, &e);
    assert_non_null(h);
    tensor_data(&model_param(h->model, "model.layers.1.mlp.up_proj.weight")->t)[5] = R(1e5);
    assert_ok(hf_save(h, NULL, dir, &e), &e);
    hf_free(h);
    assert_gguf_refused(dir, DTYPE_F16, "blk.1.ffn_up.weight");
    struct gguf_file f = gguf_export_folder(dir);
    double *v = gguf_tensor_values(&f, gguf_tensor(&f, "blk.1.ffn_up.weight"));
    assert_near(v[5], 1e5, 1e-6, 0, "value");
    free(v);
    gguf_release(&f);
}

/* A folder without a tokenizer gives a file without vocabulary. */
static void test_no_tokenizer(void **state) {
    (void)state;
    struct gguf_file f;
    struct model_config c;
    export_case("llama", DTYPE_F32, &f, &c);
    assert_gguf_text(&f, "tokenizer.ggml.model", "none");
    assert_null(gguf_find(&f, "tokenizer.ggml.tokens", GGUF_LIST));
    gguf_release(&f);
}

static void test_bad_output(void **state) {
    (void)state;
    struct err e = {0};
    log_threshold = LOG_ERROR;
    assert_int_equal(gguf_export("tests/ref/arch/llama", "/proc/no/such.gguf", DTYPE_F32, NULL,
                                 &e), -2);
    assert_contains(e.msg, "cannot create");
    assert_int_equal(gguf_export("tests/ref/arch/none", test_path("x"), DTYPE_F32, NULL, &e), -1);
    assert_contains(e.msg, "tests/ref/arch/none");
    log_threshold = LOG_INFO;
}

int main(void) {
    const struct CMUnitTest once[] = {
        cmocka_unit_test(test_dtypes), cmocka_unit_test(test_stored_dtype),
        cmocka_unit_test(test_facts), cmocka_unit_test(test_rope_texts),
        cmocka_unit_test(test_llama3_divisors), cmocka_unit_test(test_too_large_for_f16),
        cmocka_unit_test(test_no_tokenizer), cmocka_unit_test(test_bad_output),
    };
    const struct CMUnitTest each[] = {
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_sizes),
    };
    return arch_run("gguf", once, ARRAY_LEN(once), each, ARRAY_LEN(each));
}

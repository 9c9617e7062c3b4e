/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_hf_published.c — the config.json of well-known models, and what each must come out as.
 *
 * The texts hold the keys and values of the files on the hub, with ' for "; the long lists of
 * factors are made here.
 */
#include "tests/helper.h"

#include "ckpt/hf.h"

static char *quoted(const char *text) {
    char *copy = xstrdup(text);
    for (char *p = copy; (p = strchr(p, '\''));)
        *p = '"';
    return copy;
}

static int read_config(const char *text, struct model_config *c, struct err *e) {
    const char *path = test_path("config.json");
    char *json = quoted(text);
    test_write(path, json);
    free(json);
    return hf_read_config(path, c, e);
}

/* ---- published files ---- */

#define FACTORS_48                                                                              \
    "1.07,1.12,1.15,1.42,1.57,1.8,2.13,2.13,3.01,5.91,6.95,9.07,9.93,10.71,11.13,14.61,15.41,"  \
    "18.98,27.91,38.99,40.59,43.99,45.13,48.97,51.13,52.05,53.01,54.03,55.02,55.9,56.1,57.01,"  \
    "57.9,58.01,59.6,60.1,61.1,62.2,63.01,63.3,63.6,64.1,64.2,64.4,64.5,64.6,64.7,64.8"

struct want {
    const char *name, *text;
    int vocab, width, mlp, layers, heads, kv, head_dim, positions;
    double eps, theta;
    enum act act;
    bool tied;
    int bos, eos, pad, window, windowed;    /* windowed: how many layers */
    double scale, attn_cap, final_cap;
    enum dtype dtype;
    const char *rope;                       /* NULL: none */
    int rotary, original;
    double factor;
};

static const struct want published[] = {
    {"Llama-3.2-1B",
     "{'architectures':['LlamaForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'bos_token_id':128000,'eos_token_id':128001,'head_dim':64,'hidden_act':'silu',"
     "'hidden_size':2048,'initializer_range':0.02,'intermediate_size':8192,"
     "'max_position_embeddings':131072,'mlp_bias':false,'model_type':'llama',"
     "'num_attention_heads':32,'num_hidden_layers':16,'num_key_value_heads':8,'pretraining_tp':1,"
     "'rms_norm_eps':1e-05,'rope_scaling':{'factor':32.0,'high_freq_factor':4.0,"
     "'low_freq_factor':1.0,'original_max_position_embeddings':8192,'rope_type':'llama3'},"
     "'rope_theta':500000.0,'tie_word_embeddings':true,'torch_dtype':'bfloat16',"
     "'transformers_version':'4.45.0.dev0','use_cache':true,'vocab_size':128256}",
     128256, 2048, 8192, 16, 32, 8, 64, 131072, 1e-5, 5e5, ACT_SILU, true, 128000, 128001, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "llama3", 64, 8192, 32},
    {"TinyLlama-1.1B-Chat-v1.0",
     "{'architectures':['LlamaForCausalLM'],'attention_bias':false,'bos_token_id':1,"
     "'eos_token_id':2,'hidden_act':'silu','hidden_size':2048,'initializer_range':0.02,"
     "'intermediate_size':5632,'max_position_embeddings':2048,'model_type':'llama',"
     "'num_attention_heads':32,'num_hidden_layers':22,'num_key_value_heads':4,'pretraining_tp':1,"
     "'rms_norm_eps':1e-05,'rope_scaling':null,'rope_theta':10000.0,'tie_word_embeddings':false,"
     "'torch_dtype':'bfloat16','transformers_version':'4.35.0','use_cache':true,"
     "'vocab_size':32000}",
     32000, 2048, 5632, 22, 32, 4, 64, 2048, 1e-5, 1e4, ACT_SILU, false, 1, 2, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 64, 0, 0},
    {"SmolLM2-135M",
     "{'architectures':['LlamaForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'bos_token_id':0,'eos_token_id':0,'hidden_act':'silu','hidden_size':576,"
     "'initializer_range':0.041666666666666664,'intermediate_size':1536,'is_llama_config':true,"
     "'max_position_embeddings':8192,'mlp_bias':false,'model_type':'llama',"
     "'num_attention_heads':9,'num_hidden_layers':30,'num_key_value_heads':3,'pretraining_tp':1,"
     "'rms_norm_eps':1e-05,'rope_interleaved':false,'rope_scaling':null,'rope_theta':100000,"
     "'tie_word_embeddings':true,'torch_dtype':'bfloat16','transformers_version':'4.40.1',"
     "'use_cache':true,'vocab_size':49152}",
     49152, 576, 1536, 30, 9, 3, 64, 8192, 1e-5, 1e5, ACT_SILU, true, 0, 0, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 64, 0, 0},
    {"Mistral-7B-v0.1",
     "{'architectures':['MistralForCausalLM'],'bos_token_id':1,'eos_token_id':2,"
     "'hidden_act':'silu','hidden_size':4096,'initializer_range':0.02,'intermediate_size':14336,"
     "'max_position_embeddings':32768,'model_type':'mistral','num_attention_heads':32,"
     "'num_hidden_layers':32,'num_key_value_heads':8,'rms_norm_eps':1e-05,'rope_theta':10000.0,"
     "'sliding_window':4096,'tie_word_embeddings':false,'torch_dtype':'bfloat16',"
     "'transformers_version':'4.34.0.dev0','use_cache':true,'vocab_size':32000}",
     32000, 4096, 14336, 32, 32, 8, 128, 32768, 1e-5, 1e4, ACT_SILU, false, 1, 2, -1,
     4096, 32, 0, 0, 0, DTYPE_BF16, "default", 128, 0, 0},
    {"Mistral-7B-v0.3",
     "{'architectures':['MistralForCausalLM'],'attention_dropout':0.0,'bos_token_id':1,"
     "'eos_token_id':2,'hidden_act':'silu','hidden_size':4096,'initializer_range':0.02,"
     "'intermediate_size':14336,'max_position_embeddings':32768,'model_type':'mistral',"
     "'num_attention_heads':32,'num_hidden_layers':32,'num_key_value_heads':8,"
     "'rms_norm_eps':1e-05,'rope_theta':1000000.0,'sliding_window':null,"
     "'tie_word_embeddings':false,'torch_dtype':'bfloat16','transformers_version':'4.42.0.dev0',"
     "'use_cache':true,'vocab_size':32768}",
     32768, 4096, 14336, 32, 32, 8, 128, 32768, 1e-5, 1e6, ACT_SILU, false, 1, 2, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 128, 0, 0},
    {"Mistral-Nemo-Base-2407",
     "{'architectures':['MistralForCausalLM'],'attention_dropout':0.0,'bos_token_id':1,"
     "'eos_token_id':2,'head_dim':128,'hidden_act':'silu','hidden_size':5120,"
     "'initializer_range':0.02,'intermediate_size':14336,'max_position_embeddings':128000,"
     "'model_type':'mistral','num_attention_heads':32,'num_hidden_layers':40,"
     "'num_key_value_heads':8,'rms_norm_eps':1e-05,'rope_theta':1000000.0,'sliding_window':null,"
     "'tie_word_embeddings':false,'torch_dtype':'bfloat16','transformers_version':'4.43.0.dev0',"
     "'use_cache':true,'vocab_size':131072}",
     131072, 5120, 14336, 40, 32, 8, 128, 128000, 1e-5, 1e6, ACT_SILU, false, 1, 2, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 128, 0, 0},
    {"Qwen2.5-0.5B",
     "{'architectures':['Qwen2ForCausalLM'],'attention_dropout':0.0,'bos_token_id':151643,"
     "'eos_token_id':151643,'hidden_act':'silu','hidden_size':896,'initializer_range':0.02,"
     "'intermediate_size':4864,'max_position_embeddings':32768,'max_window_layers':24,"
     "'model_type':'qwen2','num_attention_heads':14,'num_hidden_layers':24,"
     "'num_key_value_heads':2,'rms_norm_eps':1e-06,'rope_theta':1000000.0,"
     "'sliding_window':32768,'tie_word_embeddings':true,'torch_dtype':'bfloat16',"
     "'transformers_version':'4.40.1','use_cache':true,'use_mrope':false,"
     "'use_sliding_window':false,'vocab_size':151936}",
     151936, 896, 4864, 24, 14, 2, 64, 32768, 1e-6, 1e6, ACT_SILU, true, 151643, 151643, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 64, 0, 0},
    {"Qwen3-0.6B",
     "{'architectures':['Qwen3ForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'bos_token_id':151643,'eos_token_id':151645,'head_dim':128,'hidden_act':'silu',"
     "'hidden_size':1024,'initializer_range':0.02,'intermediate_size':3072,"
     "'max_position_embeddings':40960,'max_window_layers':28,'model_type':'qwen3',"
     "'num_attention_heads':16,'num_hidden_layers':28,'num_key_value_heads':8,"
     "'rms_norm_eps':1e-06,'rope_scaling':null,'rope_theta':1000000,'sliding_window':null,"
     "'tie_word_embeddings':true,'torch_dtype':'bfloat16','transformers_version':'4.51.0',"
     "'use_cache':true,'use_sliding_window':false,'vocab_size':151936}",
     151936, 1024, 3072, 28, 16, 8, 128, 40960, 1e-6, 1e6, ACT_SILU, true, 151643, 151645, -1,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 128, 0, 0},
    {"gemma-2b",
     "{'architectures':['GemmaForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'bos_token_id':2,'eos_token_id':1,'head_dim':256,'hidden_act':'gelu',"
     "'hidden_activation':null,'hidden_size':2048,'initializer_range':0.02,"
     "'intermediate_size':16384,'max_position_embeddings':8192,'model_type':'gemma',"
     "'num_attention_heads':8,'num_hidden_layers':18,'num_key_value_heads':1,'pad_token_id':0,"
     "'rms_norm_eps':1e-06,'rope_scaling':null,'rope_theta':10000.0,'torch_dtype':'bfloat16',"
     "'transformers_version':'4.38.0.dev0','use_cache':true,'vocab_size':256000}",
     256000, 2048, 16384, 18, 8, 1, 256, 8192, 1e-6, 1e4, ACT_GELU_TANH, true, 2, 1, 0,
     0, 0, 0, 0, 0, DTYPE_BF16, "default", 256, 0, 0},
    {"gemma-2-2b",
     "{'architectures':['Gemma2ForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'attn_logit_softcapping':50.0,'bos_token_id':2,'cache_implementation':'hybrid',"
     "'eos_token_id':1,'final_logit_softcapping':30.0,'head_dim':256,"
     "'hidden_act':'gelu_pytorch_tanh','hidden_activation':'gelu_pytorch_tanh',"
     "'hidden_size':2304,'initializer_range':0.02,'intermediate_size':9216,"
     "'max_position_embeddings':8192,'model_type':'gemma2','num_attention_heads':8,"
     "'num_hidden_layers':26,'num_key_value_heads':4,'pad_token_id':0,"
     "'query_pre_attn_scalar':256,'rms_norm_eps':1e-06,'rope_theta':10000.0,"
     "'sliding_window':4096,'torch_dtype':'float32','transformers_version':'4.42.4',"
     "'use_cache':true,'vocab_size':256000}",
     256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-6, 1e4, ACT_GELU_TANH, true, 2, 1, 0,
     4096, 13, 0.0625, 50, 30, DTYPE_F32, "default", 256, 0, 0},
    {"gemma-2-27b, from transformers 5",
     "{'architectures':['Gemma2ForCausalLM'],'attn_logit_softcapping':50.0,'bos_token_id':2,"
     "'dtype':'bfloat16','eos_token_id':[1,107],'final_logit_softcapping':30.0,'head_dim':128,"
     "'hidden_activation':'gelu_pytorch_tanh','hidden_size':4608,'intermediate_size':36864,"
     "'layer_types':['sliding_attention','full_attention','sliding_attention'],"
     "'max_position_embeddings':8192,'model_type':'gemma2','num_attention_heads':32,"
     "'num_hidden_layers':3,'num_key_value_heads':16,'pad_token_id':0,"
     "'query_pre_attn_scalar':144,'rms_norm_eps':1e-06,"
     "'rope_parameters':{'rope_theta':10000.0,'rope_type':'default'},'sliding_window':4096,"
     "'tie_word_embeddings':true,'use_bidirectional_attention':null,'vocab_size':256000}",
     256000, 4608, 36864, 3, 32, 16, 128, 8192, 1e-6, 1e4, ACT_GELU_TANH, true, 2, 1, 0,
     4096, 2, 1 / 12.0, 50, 30, DTYPE_BF16, "default", 128, 0, 0},
    {"Phi-3-mini-4k-instruct",
     "{'architectures':['Phi3ForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'auto_map':{'AutoConfig':'configuration_phi3.Phi3Config'},'bos_token_id':1,"
     "'embd_pdrop':0.0,'eos_token_id':32000,'hidden_act':'silu','hidden_size':3072,"
     "'initializer_range':0.02,'intermediate_size':8192,'max_position_embeddings':4096,"
     "'model_type':'phi3','num_attention_heads':32,'num_hidden_layers':32,"
     "'num_key_value_heads':32,'original_max_position_embeddings':4096,'pad_token_id':32000,"
     "'resid_pdrop':0.0,'rms_norm_eps':1e-05,'rope_scaling':null,'rope_theta':10000.0,"
     "'sliding_window':2047,'tie_word_embeddings':false,'torch_dtype':'bfloat16',"
     "'transformers_version':'4.40.2','use_cache':true,'vocab_size':32064}",
     32064, 3072, 8192, 32, 32, 32, 96, 4096, 1e-5, 1e4, ACT_SILU, false, 1, 32000, 32000,
     2047, 32, 0, 0, 0, DTYPE_BF16, "default", 96, 0, 0},
    {"Phi-3-mini-128k-instruct",
     "{'architectures':['Phi3ForCausalLM'],'attention_dropout':0.0,'bos_token_id':1,"
     "'embd_pdrop':0.0,'eos_token_id':32000,'hidden_act':'silu','hidden_size':3072,"
     "'initializer_range':0.02,'intermediate_size':8192,'max_position_embeddings':131072,"
     "'model_type':'phi3','num_attention_heads':32,'num_hidden_layers':32,"
     "'num_key_value_heads':32,'original_max_position_embeddings':4096,'pad_token_id':32000,"
     "'resid_pdrop':0.0,'rms_norm_eps':1e-05,'rope_scaling':{'long_factor':[" FACTORS_48 "],"
     "'short_factor':[" FACTORS_48 "],'type':'su'},'rope_theta':10000.0,"
     "'sliding_window':262144,'tie_word_embeddings':false,'torch_dtype':'bfloat16',"
     "'use_cache':true,'vocab_size':32064}",
     32064, 3072, 8192, 32, 32, 32, 96, 131072, 1e-5, 1e4, ACT_SILU, false, 1, 32000, 32000,
     262144, 32, 0, 0, 0, DTYPE_BF16, "longrope", 96, 4096, 0},
    {"Phi-4-mini-instruct",
     "{'architectures':['Phi3ForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'bos_token_id':199999,'embd_pdrop':0.0,'eos_token_id':199999,'full_attn_mod':1,"
     "'hidden_act':'silu','hidden_size':3072,'initializer_range':0.02,'intermediate_size':8192,"
     "'interpolate_factor':1,'lm_head_bias':false,'max_position_embeddings':131072,"
     "'mlp_bias':false,'model_type':'phi3','num_attention_heads':24,'num_hidden_layers':32,"
     "'num_key_value_heads':8,'original_max_position_embeddings':4096,'pad_token_id':199999,"
     "'partial_rotary_factor':0.75,'resid_pdrop':0.0,'rms_norm_eps':1e-05,"
     "'rope_scaling':{'long_factor':[" FACTORS_48 "],'short_factor':[" FACTORS_48 "],"
     "'type':'longrope'},'rope_theta':10000.0,'sliding_window':262144,"
     "'tie_word_embeddings':true,'torch_dtype':'bfloat16','use_cache':true,'vocab_size':200064}",
     200064, 3072, 8192, 32, 24, 8, 128, 131072, 1e-5, 1e4, ACT_SILU, true, 199999, 199999,
     199999, 262144, 32, 0, 0, 0, DTYPE_BF16, "longrope", 96, 4096, 0},
    {"OLMo-2-0425-1B",
     "{'architectures':['Olmo2ForCausalLM'],'attention_bias':false,'attention_dropout':0.0,"
     "'eos_token_id':100257,'hidden_act':'silu','hidden_size':2048,'initializer_range':0.02,"
     "'intermediate_size':8192,'max_position_embeddings':4096,'model_type':'olmo2',"
     "'num_attention_heads':16,'num_hidden_layers':16,'num_key_value_heads':16,"
     "'pad_token_id':100277,'rms_norm_eps':1e-06,'rope_scaling':null,'rope_theta':500000,"
     "'tie_word_embeddings':false,'torch_dtype':'float32','transformers_version':'4.47.0.dev0',"
     "'use_cache':true,'vocab_size':100352}",
     100352, 2048, 8192, 16, 16, 16, 128, 4096, 1e-6, 5e5, ACT_SILU, false, -1, 100257, 100277,
     0, 0, 0, 0, 0, DTYPE_F32, "default", 128, 0, 0},
    {"gpt2",
     "{'activation_function':'gelu_new','architectures':['GPT2LMHeadModel'],'attn_pdrop':0.1,"
     "'bos_token_id':50256,'embd_pdrop':0.1,'eos_token_id':50256,'initializer_range':0.02,"
     "'layer_norm_epsilon':1e-05,'model_type':'gpt2','n_ctx':1024,'n_embd':768,'n_head':12,"
     "'n_layer':12,'n_positions':1024,'resid_pdrop':0.1,'summary_activation':null,"
     "'summary_first_dropout':0.1,'summary_proj_to_labels':true,'summary_type':'cls_index',"
     "'summary_use_proj':true,'task_specific_params':{'text-generation':{'do_sample':true,"
     "'max_length':50}},'vocab_size':50257}",
     50257, 768, 3072, 12, 12, 12, 64, 1024, 1e-5, 0, ACT_GELU_TANH, true, 50256, 50256, -1,
     0, 0, 0, 0, 0, DTYPE_F32, NULL, 0, 0, 0},
};

static int count_windows(const struct model_config *c) {
    int n = 0;
    for (int l = 0; l < MODEL_MAX_LAYERS; l++)
        n += c->windowed[l / 8] >> l % 8 & 1;
    return n;
}

static void check_ints(const char *name, const int *got, const int *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: integer %zu is %d, not %d", name, i, got[i], want[i]);
}

static void published_files_are_read(void **state) {
    (void)state;
    log_threshold = LOG_ERROR;              // dropout, Gemma's gelu
    for (size_t i = 0; i < ARRAY_LEN(published); i++) {
        const struct want *w = &published[i];
        struct model_config c;
        struct err e = {0};
        if (read_config(w->text, &c, &e) != 0)
            fail_msg("%s: %s", w->name, e.msg);
        const int got[] = {
            c.vocab_size, c.hidden_size, c.intermediate_size, c.num_hidden_layers,
            c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.max_position_embeddings,
            (int)c.hidden_act, c.tie_word_embeddings, c.bos_token_id, c.eos_token_id[0],
            c.pad_token_id, c.sliding_window, count_windows(&c), (int)c.dtype,
            rope_dim(&c.rope, c.head_dim), c.rope.original_max_position_embeddings,
        };
        const int want[] = {
            w->vocab, w->width, w->mlp, w->layers, w->heads, w->kv, w->head_dim, w->positions,
            (int)w->act, w->tied, w->bos, w->eos, w->pad, w->window, w->windowed, (int)w->dtype,
            w->rotary, w->original,
        };
        check_ints(w->name, got, want, ARRAY_LEN(got));
        assert_true(c.rms_norm_eps == w->eps);
        assert_true(c.attn_logit_softcapping == w->attn_cap);
        assert_true(c.final_logit_softcapping == w->final_cap);
        assert_near(c.attn_scale, w->scale, 1e-15, 0, w->name);
        assert_int_equal(c.rope.type == NULL, w->rope == NULL);
        if (!w->rope)
            continue;
        assert_string_equal(c.rope.type->name, w->rope);
        assert_true(c.rope.theta == w->theta && c.rope.factor == w->factor);
        if (strcmp(w->rope, "longrope") == 0) {
            assert_int_equal(c.rope.nshort, 48);
            assert_true(c.rope.long_factor[47] == 64.8 && c.rope.short_factor[0] == 1.07);
        }
        if (strcmp(w->rope, "llama3") == 0)
            assert_true(c.rope.low_freq_factor == 1 && c.rope.high_freq_factor == 4);
    }
    log_threshold = LOG_INFO;
    for (int a = 0; arch_table[a]; a++) {
        bool there = false;
        for (size_t i = 0; i < ARRAY_LEN(published); i++)
            there |= strstr(published[i].text, arch_table[a]->hf_class) != NULL;
        if (!there)
            fail_msg("no published file of a %s", arch_table[a]->hf_class);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_files_are_read),
    };
    return cmocka_run_group_tests_name("hf_published", tests, NULL, NULL);
}

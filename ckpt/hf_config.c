/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_config.c — config.json, generation_config.json and tokenizer_config.json.
 *
 * Three tables read a config: plain keys (type, range, default), keys that Keel does not compute
 * and therefore accepts only in their neutral value, and the few keys with two spellings.
 * Everything else is kept in the text and written back, because other tools may need it. A wrong
 * rope base or an ignored window trains silently to garbage, so the neutral table is generous:
 * keys of related families that leaked into a file are refused too, by name. Defaults are those of
 * transformers' LlamaConfig.
 */
#include "ckpt/hf_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/jsonfile.h"

struct reading {
    const char *path, *text;
    json_t *root;
    struct err *e;
};

static int bad_value(const struct reading *r, const char *key, const char *expected,
                     const json_t *got) {
    char shown[80];
    jsonfile_show(got, shown, sizeof shown);
    return jsonfile_bad(r->e, r->path, r->text, key, "expected %s, got %s", expected, shown);
}

/* ---- plain keys ---- */

enum cfg_type { CFG_INT, CFG_REAL, CFG_BOOL };
#define AT(field) offsetof(struct model_config, field)
static const struct cfg_key {
    const char *key;
    enum cfg_type type;
    size_t offset;
    double min, max, def;
    bool null_ok;                           /* null means `none` */
    double none;
} cfg_keys[] = {
    {"vocab_size", CFG_INT, AT(vocab_size), 1, 1 << 24, 32000, false, 0},
    {"hidden_size", CFG_INT, AT(hidden_size), 1, 1 << 20, 4096, false, 0},
    {"intermediate_size", CFG_INT, AT(intermediate_size), 1, 1 << 22, 11008, false, 0},
    {"num_hidden_layers", CFG_INT, AT(num_hidden_layers), 1, 4096, 32, false, 0},
    {"num_attention_heads", CFG_INT, AT(num_attention_heads), 1, 65536, 32, false, 0},
    {"num_key_value_heads", CFG_INT, AT(num_key_value_heads), 1, 65536, 0, true, 0},
    {"head_dim", CFG_INT, AT(head_dim), 1, 65536, 0, true, 0},
    {"max_position_embeddings", CFG_INT, AT(max_position_embeddings), 1, 1 << 30, 2048, false, 0},
    {"rms_norm_eps", CFG_REAL, AT(rms_norm_eps), 0, 1, 1e-6, false, 0},
    {"initializer_range", CFG_REAL, AT(initializer_range), 0, 100, 0.02, false, 0},
    {"tie_word_embeddings", CFG_BOOL, AT(tie_word_embeddings), 0, 1, 0, false, 0},
    {"bos_token_id", CFG_INT, AT(bos_token_id), -1, 1 << 24, 1, true, -1},
    {"pad_token_id", CFG_INT, AT(pad_token_id), -1, 1 << 24, -1, true, -1},
};

static void put_value(const struct cfg_key *k, struct model_config *cfg, double v) {
    char *at = (char *)cfg + k->offset;
    if (k->type == CFG_INT)
        *(int *)(void *)at = (int)v;
    else if (k->type == CFG_REAL)
        *(double *)(void *)at = v;
    else
        *(bool *)(void *)at = v != 0;
}

static int read_key(const struct reading *r, const struct cfg_key *k, struct model_config *cfg) {
    const json_t *v = json_object_get(r->root, k->key);
    if (!v || (k->null_ok && json_is_null(v))) {
        put_value(k, cfg, v ? k->none : k->def);
        return 0;
    }
    static const char *const nouns[] = {"an integer", "a number", "true or false"};
    char expected[96];
    const bool fits = k->type == CFG_INT ? json_is_integer(v)
                    : k->type == CFG_REAL ? json_is_number(v) : json_is_boolean(v);
    const double x = json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
    if (fits && x >= k->min && x <= k->max) {
        put_value(k, cfg, x);
        return 0;
    }
    if (k->type == CFG_BOOL)
        snprintf(expected, sizeof expected, "%s", nouns[k->type]);
    else
        snprintf(expected, sizeof expected, "%s in [%.8g, %.8g]%s", nouns[k->type], k->min, k->max,
                 k->null_ok ? " or null" : "");
    return bad_value(r, k->key, expected, v);
}

/* ---- keys that must be neutral ---- */

enum neutral { NEUTRAL_FALSE, NEUTRAL_NULL, NEUTRAL_ONE };
static const struct {
    const char *key;
    enum neutral neutral;
    const char *what;
} neutral_keys[] = {
    {"attention_bias", NEUTRAL_FALSE, "biases in the attention projections"},
    {"qkv_bias", NEUTRAL_FALSE, "biases in the attention projections"},
    {"mlp_bias", NEUTRAL_FALSE, "biases in the MLP"},
    {"quantization_config", NEUTRAL_NULL, "quantised weights"},
    {"partial_rotary_factor", NEUTRAL_ONE, "partial rotary embeddings"},
    {"is_encoder_decoder", NEUTRAL_FALSE, "encoder-decoder models"},
    {"add_cross_attention", NEUTRAL_FALSE, "cross-attention"},
    {"clip_qkv", NEUTRAL_NULL, "clipped projections"},
    {"attn_logit_softcapping", NEUTRAL_NULL, "soft caps on attention"},
    {"final_logit_softcapping", NEUTRAL_NULL, "soft caps on logits"},
    {"query_pre_attn_scalar", NEUTRAL_NULL, "another attention scale"},
    {"attention_multiplier", NEUTRAL_NULL, "another attention scale"},
    {"embedding_multiplier", NEUTRAL_ONE, "scaled embeddings"},
    {"residual_multiplier", NEUTRAL_ONE, "scaled residuals"},
    {"logits_scaling", NEUTRAL_ONE, "scaled logits"},
    {"logit_scale", NEUTRAL_ONE, "scaled logits"},
    {"use_qk_norm", NEUTRAL_FALSE, "norms on queries and keys"},
    {"qk_layernorm", NEUTRAL_FALSE, "norms on queries and keys"},
    {"parallel_attn", NEUTRAL_FALSE, "parallel attention"},
    {"use_parallel_residual", NEUTRAL_FALSE, "parallel residuals"},
    {"num_local_experts", NEUTRAL_NULL, "mixtures of experts"},
    {"num_experts", NEUTRAL_NULL, "mixtures of experts"},
    {"n_routed_experts", NEUTRAL_NULL, "mixtures of experts"},
    {"attention_chunk_size", NEUTRAL_NULL, "chunked attention"},
    {"no_rope_layers", NEUTRAL_NULL, "layers without rotary embeddings"},
};

static bool is_neutral(const json_t *v, enum neutral n) {
    return !v || json_is_null(v) || (n == NEUTRAL_FALSE && json_is_false(v))
        || (n == NEUTRAL_ONE && json_is_number(v) && json_number_value(v) == 1.0);
}

static int check_neutral(const struct reading *r) {
    static const char *const values[] = {"false", "null", "1"};
    for (size_t i = 0; i < ARRAY_LEN(neutral_keys); i++) {
        const json_t *v = json_object_get(r->root, neutral_keys[i].key);
        char shown[80];
        jsonfile_show(v, shown, sizeof shown);
        if (!is_neutral(v, neutral_keys[i].neutral))
            return jsonfile_bad(r->e, r->path, r->text, neutral_keys[i].key,
                                "%s are not supported, expected %s, got %s", neutral_keys[i].what,
                                values[neutral_keys[i].neutral], shown);
    }
    const json_t *window = json_object_get(r->root, "sliding_window");
    if (!is_neutral(window, NEUTRAL_FALSE)
        && !json_is_false(json_object_get(r->root, "use_sliding_window")))
        return bad_value(r, "sliding_window", "null (windows are not supported)", window);
    const json_t *types = json_object_get(r->root, "layer_types"), *type;
    size_t i;
    json_array_foreach((json_t *)types, i, type)
        if (!json_is_string(type) || strcmp(json_string_value(type), "full_attention") != 0)
            return bad_value(r, "layer_types", "\"full_attention\" for every layer", type);
    const json_t *act = json_object_get(r->root, "hidden_act");
    if (act && (!json_is_string(act) || (strcmp(json_string_value(act), "silu") != 0
                                         && strcmp(json_string_value(act), "swish") != 0)))
        return bad_value(r, "hidden_act", "\"silu\"", act);
    const double drop = json_number_value(json_object_get(r->root, "attention_dropout"));
    if (drop != 0)
        log_warn("%s: attention_dropout %g is not applied", r->path, drop);
    return 0;
}

/* ---- keys with two spellings ---- */

/* The dict that holds scaling, under either name. */
static int check_rope_dict(const struct reading *r, const char *key) {
    const json_t *d = json_object_get(r->root, key), *v;
    if (!d || json_is_null(d))
        return 0;
    if (!json_is_object(d))
        return bad_value(r, key, "an object or null", d);
    const char *name;
    json_object_foreach((json_t *)d, name, v)
        if (json_is_object(v))
            return jsonfile_bad(r->e, r->path, r->text, key, "one set of parameters a layer type"
                                " (\"%.40s\") is not supported, expected one set for all", name);
    const json_t *type = json_object_get(d, "rope_type");
    if (!type)
        type = json_object_get(d, "type");
    const char *text = json_string_value(type);
    const bool plain = type ? text && strcmp(text, "default") == 0 : !json_object_get(d, "factor");
    if (!plain) {
        char what[80];
        snprintf(what, sizeof what, "%s.%s", key,
                 json_object_get(d, "rope_type") ? "rope_type" : type ? "type" : "factor");
        return bad_value(r, what, "\"default\" (rope scaling is not supported)", type);
    }
    const json_t *partial = json_object_get(d, "partial_rotary_factor");
    if (!is_neutral(partial, NEUTRAL_ONE))
        return bad_value(r, "rope_parameters.partial_rotary_factor", "1", partial);
    return 0;
}

static int read_rope(const struct reading *r, struct model_config *cfg) {
    if (check_rope_dict(r, "rope_parameters") != 0 || check_rope_dict(r, "rope_scaling") != 0)
        return -1;
    const char *key = "rope_parameters.rope_theta";
    const json_t *v = json_object_get(json_object_get(r->root, "rope_parameters"), "rope_theta");
    if (!v || json_is_null(v)) {
        key = "rope_theta";
        v = json_object_get(r->root, key);
    }
    cfg->rope_theta = !v || json_is_null(v) ? 10000 : json_number_value(v);
    if (v && !json_is_null(v) && !(json_is_number(v) && cfg->rope_theta > 0))
        return bad_value(r, key, "a number above 0", v);
    return 0;
}

/* An id, a list of ids or null into eos[MODEL_MAX_EOS]. */
static int read_eos(const struct reading *r, const json_t *v, int vocab_size, int *eos, int *n) {
    const size_t count = json_is_array(v) ? json_array_size(v) : 1;
    *n = 0;
    if (json_is_null(v))
        return 0;
    if (count > MODEL_MAX_EOS)
        return bad_value(r, "eos_token_id", "at most 8 ids", v);
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        const json_int_t x = json_integer_value(id);
        if (!json_is_integer(id) || x < -1 || x >= vocab_size)
            return bad_value(r, "eos_token_id", "an id below vocab_size, a list of ids or null", v);
        if (x >= 0)                         // some files write -1 for none
            eos[(*n)++] = (int)x;
    }
    return 0;
}

static int read_dtype(const struct reading *r, struct model_config *cfg) {
    const char *key = "dtype";
    const json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v))
        v = json_object_get(r->root, key = "torch_dtype");
    cfg->dtype = DTYPE_F32;
    if (!v || json_is_null(v))
        return 0;
    const int d = json_is_string(v) ? dtype_find_torch(json_string_value(v)) : -1;
    if (d < 0 || !dtype_table[d].can_compute)
        return bad_value(r, key, "\"float32\", \"bfloat16\", \"float16\" or null", v);
    if (d != DTYPE_F64)
        cfg->dtype = (enum dtype)d;
    return 0;
}

/* architectures[0] decides; model_type when it is absent. */
static int read_arch(const struct reading *r, struct model_config *cfg) {
    const json_t *type = json_object_get(r->root, "model_type");
    const json_t *classes = json_object_get(r->root, "architectures");
    const json_t *cls = json_array_get(classes, 0);
    const struct arch *arch = NULL;
    char expected[256];
    if (cls) {
        size_t at = (size_t)snprintf(expected, sizeof expected, "a supported class:");
        for (int i = 0; arch_table[i]; i++) {
            if (at < sizeof expected)
                at += (size_t)snprintf(expected + at, sizeof expected - at, " %s",
                                       arch_table[i]->hf_class);
            if (json_is_string(cls) && strcmp(json_string_value(cls), arch_table[i]->hf_class) == 0)
                arch = arch_table[i];
        }
        if (!arch)
            return bad_value(r, "architectures", expected, cls);
    }
    snprintf(expected, sizeof expected, "a supported type: %s", arch_list());
    if (!arch && json_is_string(type))
        arch = arch_find(json_string_value(type));
    if (!arch)
        return bad_value(r, "model_type", expected, type);
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), arch->model_type) != 0)) {
        snprintf(expected, sizeof expected, "\"%s\", as architectures says", arch->model_type);
        return bad_value(r, "model_type", expected, type);
    }
    snprintf(cfg->model_type, sizeof cfg->model_type, "%s", arch->model_type);
    return 0;
}

int hf_config_parse(const char *text, size_t len, const char *path, struct model_config *cfg,
                    struct err *e) {
    *cfg = (struct model_config){0};
    struct reading r = {.path = path, .text = text, .e = e};
    int rc = -1;
    r.root = jsonfile_parse(text, len, path, e);
    if (!r.root || read_arch(&r, cfg) != 0 || check_neutral(&r) != 0 || read_rope(&r, cfg) != 0
        || read_dtype(&r, cfg) != 0)
        goto out;
    for (size_t i = 0; i < ARRAY_LEN(cfg_keys); i++)
        if (read_key(&r, &cfg_keys[i], cfg) != 0)
            goto out;
    if (cfg->num_key_value_heads == 0)
        cfg->num_key_value_heads = cfg->num_attention_heads;
    if (cfg->head_dim == 0)
        cfg->head_dim = cfg->hidden_size / cfg->num_attention_heads;
    if (cfg->num_attention_heads % cfg->num_key_value_heads != 0) {
        bad_value(&r, "num_key_value_heads", "a divisor of num_attention_heads",
                  json_object_get(r.root, "num_key_value_heads"));
        goto out;
    }
    const int64_t units = (int64_t)cfg->intermediate_size
                        + (int64_t)cfg->num_attention_heads * cfg->head_dim;
    if (units > INT32_MAX / cfg->num_hidden_layers) {       // units are numbered by int
        jsonfile_bad(e, path, text, "num_hidden_layers", "%d layers of %lld units are too many",
                     cfg->num_hidden_layers, (long long)units);
        goto out;
    }
    if (cfg->bos_token_id >= cfg->vocab_size) {
        bad_value(&r, "bos_token_id", "an id below vocab_size or null",
                  json_object_get(r.root, "bos_token_id"));
        goto out;
    }
    const json_t *eos = json_object_get(r.root, "eos_token_id");
    if (eos) {
        rc = read_eos(&r, eos, cfg->vocab_size, cfg->eos_token_id, &cfg->eos_count);
        goto out;
    }
    cfg->eos_count = cfg->vocab_size > 2;   // LlamaConfig's default: token 2
    cfg->eos_token_id[0] = 2;
    rc = 0;
out:
    json_decref(r.root);
    return rc;
}

/* ---- the other files ---- */

int hf_generation_eos(const char *text, const char *path, int vocab_size, int32_t *eos, int *n,
                      struct err *e) {
    struct reading r = {.path = path, .text = text, .e = e};
    r.root = jsonfile_parse(text, strlen(text), path, e);
    if (!r.root)
        return -1;
    const json_t *v = json_object_get(r.root, "eos_token_id");
    int ids[MODEL_MAX_EOS], count = 0, rc = 0;
    if (v && (rc = read_eos(&r, v, vocab_size, ids, &count)) == 0 && count > 0) {
        for (int i = 0; i < count; i++)
            eos[i] = ids[i];
        *n = count;
    }
    json_decref(r.root);
    return rc;
}

char *hf_chat_jinja(const char *text, const char *path, struct err *e) {
    json_t *root = jsonfile_parse(text, strlen(text), path, e);
    const json_t *v = json_object_get(root, "chat_template"), *item;
    const char *found = json_string_value(v);
    size_t i;
    json_array_foreach((json_t *)v, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, "default") == 0)
            found = json_string_value(json_object_get(item, "template"));
    }
    char *jinja = found ? xstrdup(found) : NULL;
    json_decref(root);
    return jinja;
}

/* ---- writing ---- */

static char *text_and_free(json_t *root) {
    char *text = jsonfile_text(root);
    json_decref(root);
    return text;
}

char *hf_config_with_dtype(const char *text, enum dtype dtype) {
    json_t *root = json_loads(text, 0, NULL);
    const char *name = dtype_table[dtype].torch_name;
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    const char *now = json_string_value(json_object_get(root, key));
    if (now && strcmp(now, name) == 0) {
        json_decref(root);
        return xstrdup(text);
    }
    json_object_set_new(root, key, json_string(name));
    return text_and_free(root);
}

char *hf_tokenizer_config_with_chat(const char *text, const char *jinja) {
    json_t *root = text ? json_loads(text, 0, NULL) : json_object();
    json_object_set_new(root, "chat_template", json_string(jinja));
    return text_and_free(root);
}

static json_t *id_or_null(int id) {
    return id >= 0 ? json_integer(id) : json_null();
}

static json_t *eos_json(const struct model_config *cfg) {
    if (cfg->eos_count < 2)
        return id_or_null(cfg->eos_count ? cfg->eos_token_id[0] : -1);
    json_t *list = json_array();
    for (int i = 0; i < cfg->eos_count; i++)
        json_array_append_new(list, json_integer(cfg->eos_token_id[i]));
    return list;
}

char *hf_config_fresh(const struct model *m) {
    const struct model_config *c = &m->cfg;
    json_t *root = json_object();
    json_t *classes = json_array();
    json_array_append_new(classes, json_string(m->arch->hf_class));
    json_object_set_new(root, "architectures", classes);
    json_object_set_new(root, "model_type", json_string(c->model_type));
    for (size_t i = 0; i < ARRAY_LEN(cfg_keys); i++) {
        const struct cfg_key *k = &cfg_keys[i];
        const char *at = (const char *)c + k->offset;
        json_t *v = k->type == CFG_REAL ? json_real(*(const double *)(const void *)at)
                  : k->type == CFG_BOOL ? json_boolean(*(const bool *)(const void *)at)
                  : id_or_null(*(const int *)(const void *)at);
        json_object_set_new(root, k->key, v);
    }
    json_object_set_new(root, "eos_token_id", eos_json(c));
    json_object_set_new(root, "rope_theta", json_real(c->rope_theta));
    json_object_set_new(root, "rope_scaling", json_null());
    json_object_set_new(root, "hidden_act", json_string("silu"));
    json_object_set_new(root, "attention_bias", json_false());
    json_object_set_new(root, "mlp_bias", json_false());
    json_object_set_new(root, "attention_dropout", json_real(0));
    json_object_set_new(root, "use_cache", json_true());
    json_object_set_new(root, "torch_dtype", json_string(dtype_table[c->dtype].torch_name));
    return text_and_free(root);
}

char *hf_generation_config_fresh(const struct model_config *cfg) {
    json_t *root = json_object();
    json_object_set_new(root, "_from_model_config", json_true());
    json_object_set_new(root, "bos_token_id", id_or_null(cfg->bos_token_id));
    json_object_set_new(root, "eos_token_id", eos_json(cfg));
    json_object_set_new(root, "pad_token_id", id_or_null(cfg->pad_token_id));
    return text_and_free(root);
}

static void set_token(json_t *root, const char *key, const struct tokenizer *tok, int id) {
    const char *piece = tok && id >= 0 ? tokenizer_token(tok, id) : NULL;
    if (piece)
        json_object_set_new(root, key, json_string(piece));
}

char *hf_tokenizer_config_fresh(const struct model_config *cfg, const struct tokenizer *tok,
                                const struct chat_template *chat) {
    json_t *root = json_object();
    json_object_set_new(root, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(root, "model_max_length", json_integer(cfg->max_position_embeddings));
    json_object_set_new(root, "clean_up_tokenization_spaces", json_false());
    set_token(root, "bos_token", tok, cfg->bos_token_id);
    set_token(root, "eos_token", tok, cfg->eos_count ? cfg->eos_token_id[0] : -1);
    set_token(root, "pad_token", tok, cfg->pad_token_id);
    if (chat && chat->jinja && *chat->jinja)
        json_object_set_new(root, "chat_template", json_string(chat->jinja));
    return text_and_free(root);
}

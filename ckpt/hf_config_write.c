/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_config_write.c — the JSON files of a folder: with one thing changed, or fresh.
 *
 * A fresh config.json has every key that its class reads, in the class's spelling and the first
 * generation of names (rope_theta, torch_dtype), which every release of transformers takes. Keys
 * whose default would compute something else, such as dropout, are spelled out.
 */
#include <math.h>
#include <string.h>

#include "ckpt/hf_config_impl.h"

static char *text_and_free(json_t *root) {
    char *text = jsonfile_text(root);
    json_decref(root);
    return text;
}

/* Text of a file that was read when its folder was opened. */
static json_t *parsed_before(const char *text) {
    struct err e = {0};
    json_t *root = jsonfile_parse(text, strlen(text), "the folder's file", &e);
    if (!root)
        BUG("%s", e.msg);
    return root;
}

char *hf_config_with_dtype(const char *text, enum dtype dtype) {
    json_t *root = parsed_before(text);
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
    json_t *root = text ? parsed_before(text) : json_object();
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

static json_t *value_json(const struct cfg_key *k, const struct model_config *c) {
    const char *at = (const char *)c + k->offset;
    if (k->type == CFG_BOOL)
        return json_boolean(*(const bool *)(const void *)at);
    const double v = k->type == CFG_REAL ? *(const double *)(const void *)at
                                         : *(const int *)(const void *)at;
    if (k->none != NOT_NULL && v == k->none)
        return json_null();
    return k->type == CFG_REAL ? json_real(v) : json_integer((json_int_t)v);
}

static void write_windows(json_t *root, const struct model_config *c, const struct arch *arch) {
    const int n = c->num_hidden_layers;
    bool regular = true;
    int first = 0;
    while (first < n && !cfg_windowed(c, first))
        first++;
    if (arch->window == WINDOW_UPPER) {
        json_object_set_new(root, "use_sliding_window", json_boolean(c->sliding_window > 0));
        json_object_set_new(root, "max_window_layers", json_integer(first));
    }
    json_t *types = json_array();
    for (int l = 0; l < n; l++) {
        const bool window = cfg_windowed(c, l);
        regular &= window == (c->sliding_window && hf_config_windowed(arch, l, first));
        json_array_append_new(types, json_string(window ? "sliding_attention"
                                                        : "full_attention"));
    }
    if (!regular && cfg_reads(arch, "layer_types"))
        json_object_set(root, "layer_types", types);
    json_decref(types);
}

/* What a class reads beyond the table. */
static void write_own(json_t *root, const struct model_config *c, const struct arch *arch) {
    const char *act = act_names[c->hidden_act];
    json_object_set_new(root, cfg_own_name(arch, "hidden_act"), json_string(act));
    if (cfg_reads(arch, "hidden_activation"))
        json_object_set_new(root, "hidden_activation", json_string(act));
    if (cfg_reads(arch, "query_pre_attn_scalar")) {
        const double q = c->attn_scale > 0 ? pow(c->attn_scale, -2) : c->head_dim;
        const double whole = round(q);
        json_object_set_new(root, "query_pre_attn_scalar",
                            pow(whole, -0.5) == c->attn_scale || c->attn_scale == 0
                                ? json_integer((json_int_t)whole) : json_real(q));
    }
    if (cfg_reads(arch, "scale_attn_weights"))
        json_object_set_new(root, "scale_attn_weights", json_boolean(c->attn_scale == 0));
    if (cfg_reads(arch, "reorder_and_upcast_attn"))
        json_object_set_new(root, "reorder_and_upcast_attn", json_false());
    static const char *const rope_drops[] = {"attention_dropout", NULL};
    static const char *const other_drops[] = {"attn_pdrop", "embd_pdrop", "resid_pdrop", NULL};
    for (const char *const *key = arch->rope ? rope_drops : other_drops; *key; key++)
        json_object_set_new(root, *key, json_real(0));
}

char *hf_config_fresh(const struct model *m) {
    const struct model_config *c = &m->cfg;
    const struct arch *arch = m->arch;
    json_t *root = json_object(), *classes = json_array();
    json_array_append_new(classes, json_string(arch->hf_class));
    json_object_set_new(root, "architectures", classes);
    json_object_set_new(root, "model_type", json_string(c->model_type));
    for (int i = 0; i < cfg_key_count; i++) {
        const struct cfg_key *k = &cfg_keys[i];
        const bool of_rope = strcmp(k->key, "num_key_value_heads") == 0
                          || strcmp(k->key, "head_dim") == 0;
        if ((!k->own || cfg_reads(arch, k->key)) && (arch->rope || !of_rope))
            json_object_set_new(root, cfg_own_name(arch, k->key), value_json(k, c));
    }
    json_object_set_new(root, "eos_token_id", eos_json(c));
    cfg_write_rope(root, c, arch);
    if (arch->window != WINDOW_NONE)
        write_windows(root, c, arch);
    write_own(root, c, arch);
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
                                const char *jinja) {
    json_t *root = json_object();
    json_object_set_new(root, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(root, "model_max_length", json_integer(cfg->max_position_embeddings));
    json_object_set_new(root, "clean_up_tokenization_spaces", json_false());
    set_token(root, "bos_token", tok, cfg->bos_token_id);
    set_token(root, "eos_token", tok, cfg->eos_count ? cfg->eos_token_id[0] : -1);
    set_token(root, "pad_token", tok, cfg->pad_token_id);
    if (jinja)
        json_object_set_new(root, "chat_template", json_string(jinja));
    return text_and_free(root);
}

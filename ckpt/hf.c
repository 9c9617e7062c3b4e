/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf.c — open a model folder, save a model folder.
 *
 * Loading walks the model's own parameter list: every parameter must be in the files with its
 * exact shape, every tensor of the files must be a parameter or be known to carry nothing. All
 * missing and extra names are told at once. A random or skipped tensor never passes silently.
 *
 * Saving is a copy of the origin with new weights: texts of JSON files are kept as they were read,
 * other files are carried over byte for byte, except what is weights in any format or the record of
 * another training run (a certificate or a log that came along would state what is not true here).
 * Reference: transformers' from_pretrained / save_pretrained.
 */
#include "ckpt/hf.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ckpt/hf_config.h"
#include "ckpt/weights.h"

/* ---- weights in ---- */

/* Tensors that carry nothing: buffers of older exporters. */
static const char *const ignorable[] = {"*.rotary_emb.inv_freq", "rotary_emb.inv_freq"};

static bool is_ignorable(const char *name, const struct model_config *cfg) {
    for (size_t i = 0; i < ARRAY_LEN(ignorable); i++)
        if (fnmatch(ignorable[i], name, 0) == 0)
            return true;
    return cfg->tie_word_embeddings && strcmp(name, "lm_head.weight") == 0;
}

struct names {
    struct str text;
    int n;
};

static void names_add(struct names *l, const char *name) {
    if (l->n++ < 4)
        str_addf(&l->text, "%s%.96s", l->text.len ? ", " : "", name);
}

static void names_end(struct names *l) {
    if (l->n > 4)
        str_addf(&l->text, " and %d more", l->n - 4);
}

/* Both directions; shapes; dtypes that hold real numbers. */
static int check_tensors(const struct model *m, const struct weights *w, const char *path,
                         struct err *e) {
    struct names missing = {0}, extra = {0};
    int rc = -1;
    for (int i = 0; i < m->nparams; i++)
        if (!weights_find(w, m->params[i].name))
            names_add(&missing, m->params[i].name);
    for (int i = 0; i < weights_count(w); i++) {
        const struct st_entry *en = weights_at(w, i)->en;
        const struct param *p = model_param(m, en->name);
        char want[256], got[256];
        if (!p && !is_ignorable(en->name, &m->cfg))
            names_add(&extra, en->name);
        if (!p)
            continue;
        tensor_shape_text(&p->t, want, sizeof want);
        weight_shape_text(en, got, sizeof got);
        if (strcmp(want, got) != 0) {
            err_set(e, "%s: %s: expected shape %s by config.json, got %s", path, p->name, want,
                    got);
            goto out;
        }
        if (!dtype_table[en->dtype].can_compute) {
            err_set(e, "%s: %s: expected F32, BF16, F16 or F64, got %s (hint: quantised weights are"
                    " not supported)", path, p->name, dtype_table[en->dtype].name);
            goto out;
        }
    }
    names_end(&missing);
    names_end(&extra);
    if (missing.n)
        err_set(e, "%s: expected %d tensors by config.json, missing %s%s%s", path, m->nparams,
                missing.text.s, extra.n ? "; unknown are " : "", extra.n ? extra.text.s : "");
    else if (extra.n)
        err_set(e, "%s: tensors that a %s model has no place for: %s", path, m->cfg.model_type,
                extra.text.s);
    else
        rc = 0;
out:
    str_release(&missing.text);
    str_release(&extra.text);
    return rc;
}

/* The folder's dtype: that of most elements. */
static enum dtype main_dtype(const struct model *m, const enum dtype *stored) {
    size_t count[DTYPE_COUNT] = {0};
    int best = DTYPE_F32;
    for (int i = 0; i < m->nparams; i++)
        count[stored[i]] += m->params[i].t.count;
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (count[d] > count[best])
            best = d;
    return best == DTYPE_F64 ? DTYPE_F32 : (enum dtype)best;
}

/* Before anything is allocated by a config's word: it may not ask for far more than is there. */
static int check_size(const struct model_config *c, const struct weights *w, const char *dir,
                      struct err *e) {
    const double width = c->hidden_size, layers = c->num_hidden_layers;
    const double need = width * c->vocab_size + layers * width * c->intermediate_size
                      + layers * width * c->num_attention_heads * c->head_dim;
    double have = 0;
    for (int i = 0; i < weights_count(w); i++)
        have += (double)weights_at(w, i)->en->count;
    if (need <= 2 * have)                   // smaller differences are named tensor by tensor
        return 0;
    return err_set(e, "%s: config.json describes a model of more than %.0f parameters, the files"
                   " hold %.0f", dir, need, have);
}

static int load_weights(struct hf *h, const struct weights *w, struct err *e) {
    struct model *m = h->model;
    if (check_tensors(m, w, h->dir, e) != 0)
        return -1;
    h->stored = xcalloc((size_t)m->nparams, sizeof *h->stored);
    for (int i = 0; i < m->nparams; i++) {
        const struct weight *t = weights_find(w, m->params[i].name);
        st_read(t->st, t->en, tensor_data(&m->params[i].t));
        h->stored[i] = t->en->dtype;
        if (t->en->dtype == DTYPE_F64 && !REAL_IS_DOUBLE)
            log_warn("%s: %s is F64 and is rounded to F32", h->dir, m->params[i].name);
    }
    m->cfg.dtype = main_dtype(m, h->stored);
    return 0;
}

/* ---- open ---- */

/* A file of the folder, or NULL when it is not there; -1 when it is but cannot be read. */
static int read_optional(const char *dir, const char *name, char **text, struct err *e) {
    char *path = path_join(dir, name);
    *text = path_exists(path) ? file_read(path, NULL, e) : NULL;
    const int rc = path_exists(path) && !*text ? -1 : 0;
    free(path);
    return rc;
}

static int open_model(struct hf *h, const struct model_config *cfg, struct err *e) {
    struct weights *w = weights_open(h->dir, e);
    int rc = -1;
    if (!w || check_size(cfg, w, h->dir, e) != 0)
        goto out;
    h->model = model_new(cfg, e);
    rc = h->model ? load_weights(h, w, e) : err_prefix(e, "%s/config.json", h->dir);
out:
    weights_close(w);
    return rc;
}

static int open_tokenizer(struct hf *h, const struct model_config *cfg, struct err *e) {
    char *path = path_join(h->dir, "tokenizer.json");
    char *spm = path_join(h->dir, "tokenizer.model"), *jinja_path = NULL;
    int rc = -1;
    if (!path_exists(path)) {
        err_set(e, "%s: cannot open: %s%s", path, strerror(ENOENT),
                path_exists(spm) ? " (hint: only tokenizer.model is there; save the tokenizer with"
                                   " transformers' fast class)" : "");
        goto out;
    }
    h->tokenizer = tokenizer_load(path, e);
    if (!h->tokenizer)
        goto out;
    const int size = tokenizer_vocab_size(h->tokenizer);
    if (size > cfg->vocab_size) {
        err_set(e, "%s: expected ids below vocab_size %d of config.json, got %d", path,
                cfg->vocab_size, size - 1);
        goto out;
    }
    if (read_optional(h->dir, "chat_template.jinja", &h->chat_jinja, e) != 0)
        goto out;
    if (!h->chat_jinja && h->tokenizer_config_json) {
        struct err local = {0};
        jinja_path = path_join(h->dir, "tokenizer_config.json");
        h->chat_jinja = hf_chat_jinja(h->tokenizer_config_json, jinja_path, &local);
        if (local.msg[0]) {
            err_set(e, "%s", local.msg);
            goto out;
        }
    }
    h->chat = h->chat_jinja ? chat_find_jinja(h->chat_jinja) : NULL;
    rc = 0;
out:
    free(path);
    free(spm);
    free(jinja_path);
    return rc;
}

/* generation_config.json wins over config.json; the template's own end token is always one. */
static int set_eos(struct hf *h, const struct model_config *cfg, struct err *e) {
    for (h->neos = 0; h->neos < cfg->eos_count; h->neos++)
        h->eos[h->neos] = cfg->eos_token_id[h->neos];
    if (h->generation_config_json) {
        char *path = path_join(h->dir, "generation_config.json");
        const int rc = hf_generation_eos(h->generation_config_json, path, cfg->vocab_size, h->eos,
                                         &h->neos, e);
        free(path);
        if (rc != 0)
            return -1;
    }
    const char *end = h->tokenizer && h->chat ? h->chat->eos : NULL;
    const int32_t id = end && *end ? tokenizer_id(h->tokenizer, end) : -1;
    bool known = id < 0;
    for (int i = 0; i < h->neos; i++)
        known |= h->eos[i] == id;
    if (!known && h->neos < MODEL_MAX_EOS)
        h->eos[h->neos++] = id;
    return 0;
}

struct hf *hf_open(const char *dir, int what, struct err *e) {
    struct hf *h = xcalloc(1, sizeof *h);
    h->dir = xstrdup(dir);
    char *path = path_join(dir, "config.json");
    struct model_config cfg;
    size_t len;
    if (!path_is_dir(dir)) {
        err_set(e, "%s: expected a model folder, %s", dir,
                path_exists(dir) ? "found a file" : "there is none");
        goto fail;
    }
    h->config_json = file_read(path, &len, e);
    if (!h->config_json || hf_config_parse(h->config_json, len, path, &cfg, e) != 0
        || read_optional(dir, "tokenizer_config.json", &h->tokenizer_config_json, e) != 0
        || read_optional(dir, "generation_config.json", &h->generation_config_json, e) != 0)
        goto fail;
    if (what & HF_TOKENIZER && open_tokenizer(h, &cfg, e) != 0)
        goto fail;
    if (what & HF_MODEL && open_model(h, &cfg, e) != 0)
        goto fail;
    if (set_eos(h, &cfg, e) != 0)
        goto fail;
    free(path);
    return h;
fail:
    free(path);
    hf_free(h);
    return NULL;
}

struct hf *hf_new(struct model *model, struct tokenizer *tok, const struct chat_template *chat) {
    struct hf *h = xcalloc(1, sizeof *h);
    h->model = model;
    h->tokenizer = tok;
    h->chat = chat;
    h->chat_jinja = chat && chat->jinja && *chat->jinja ? xstrdup(chat->jinja) : NULL;
    for (; h->neos < model->cfg.eos_count; h->neos++)
        h->eos[h->neos] = model->cfg.eos_token_id[h->neos];
    return h;
}

void hf_free(struct hf *h) {
    if (!h)
        return;
    model_free(h->model);
    tokenizer_free(h->tokenizer);
    free(h->chat_jinja);
    free(h->config_json);
    free(h->tokenizer_config_json);
    free(h->generation_config_json);
    free(h->stored);
    free(h->dir);
    free(h);
}

int hf_read_config(const char *path, struct model_config *cfg, struct err *e) {
    size_t len;
    char *text = file_read(path, &len, e);
    const int rc = text ? hf_config_parse(text, len, path, cfg, e) : -1;
    free(text);
    return rc;
}

int hf_hash(const char *dir, char out[65], struct err *e) {
    struct weights *w = weights_open(dir, e);
    if (!w)
        return -1;
    weights_hash(w, out);
    weights_close(w);
    return 0;
}

/* ---- save ---- */

/* Not carried over: written anew, weights in any format, records of another run. */
static const char *const left_behind[] = {
    "config.json", "tokenizer_config.json", "generation_config.json",
    "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth",
    "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.tmp",
    "freeze.json", "config.yaml", "metrics.jsonl", "completions.jsonl", "eval.json", "compare.json",
    "report.*", "*.csv", "trainer_state.json",
};

static bool is_left_behind(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(left_behind); i++)
        if (fnmatch(left_behind[i], name, 0) == 0)
            return true;
    return name[0] == '.';
}

static int carry_over(const char *from, const char *to, bool new_chat, struct err *e) {
    if (path_same(from, to))
        return 0;
    DIR *d = opendir(from);
    if (!d)
        return err_set(e, "%s: cannot open: %s", from, strerror(errno));
    int rc = 0;
    for (struct dirent *ent; rc == 0 && (ent = readdir(d));) {
        struct stat info;
        char *src = path_join(from, ent->d_name), *dst = path_join(to, ent->d_name);
        const bool chat_file = strncmp(ent->d_name, "chat_template.", 14) == 0;
        if (!is_left_behind(ent->d_name) && !(new_chat && chat_file) && stat(src, &info) == 0
            && S_ISREG(info.st_mode))
            rc = file_copy(src, dst, e);
        free(src);
        free(dst);
    }
    closedir(d);
    return rc;
}

static int save_text(const char *dir, const char *name, char *text, struct err *e) {
    if (!text)
        return 0;
    const int rc = file_write_text(dir, name, text, e);
    free(text);
    return rc;
}

static char *copy_or_null(const char *s) {
    return s ? xstrdup(s) : NULL;
}

static int save_weights(const struct hf *h, const struct model *m, const char *dir, struct err *e) {
    struct st_writer *w = st_writer_new();
    char *path = path_join(dir, "model.safetensors");
    const bool keep = h->stored && h->model && h->model->nparams == m->nparams;
    st_writer_meta(w, "format", "pt");
    for (int i = 0; i < m->nparams; i++) {
        const struct param *p = &m->params[i];
        st_writer_add_real(w, p->name, keep ? h->stored[i] : m->cfg.dtype, p->t.ndim,
                           p->t.shape, tensor_data(&p->t));
    }
    const int rc = st_save(w, path, e);
    st_writer_free(w);
    free(path);
    return rc;
}

int hf_save(const struct hf *h, const struct model *model, const char *dir, struct err *e) {
    const struct model *m = model ? model : h->model;
    if (!m)
        BUG("hf_save: no model");
    const bool fresh = !h->dir;
    /* A template chosen after opening is what the model was trained with: the folder says so. */
    const struct chat_template *named = h->chat_jinja ? chat_find_jinja(h->chat_jinja) : NULL;
    const char *jinja = h->chat && h->chat != named ? h->chat->jinja : NULL;
    const bool new_chat = !fresh && jinja && *jinja;
    char *tokenizer_path = path_join(dir, "tokenizer.json");
    char *tokenizer_config = fresh ? hf_tokenizer_config_fresh(&m->cfg, h->tokenizer, h->chat)
        : new_chat ? hf_tokenizer_config_with_chat(h->tokenizer_config_json, jinja)
        : copy_or_null(h->tokenizer_config_json);
    int rc = dir_make(dir, e);
    if (rc == 0)
        rc = fresh ? (h->tokenizer ? tokenizer_save(h->tokenizer, tokenizer_path, e) : 0)
                   : carry_over(h->dir, dir, new_chat, e);
    if (rc == 0) {
        rc = save_text(dir, "tokenizer_config.json", tokenizer_config, e);
        tokenizer_config = NULL;
    }
    if (rc == 0)
        rc = save_text(dir, "generation_config.json",
                       fresh ? hf_generation_config_fresh(&m->cfg)
                             : copy_or_null(h->generation_config_json), e);
    if (rc == 0)
        rc = save_text(dir, "config.json",
                       fresh ? hf_config_fresh(m)
                             : hf_config_with_dtype(h->config_json, m->cfg.dtype), e);
    if (rc == 0)
        rc = save_weights(h, m, dir, e);
    free(tokenizer_config);
    free(tokenizer_path);
    return rc;
}

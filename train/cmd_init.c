/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cmd_init.c — keel init CONFIG.yaml: a fresh model and tokenizer, as a Hugging Face folder.
 *
 * The tokenizer comes first: its size is the model's vocab_size, so the two cannot disagree. Its
 * text is every string that a row of a known format may learn or be asked; other fields, such as
 * sources and labels, are not text.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/hf_config.h"
#include "train/cli.h"
#include "train/config.h"
#include "train/jsonl.h"

static const struct usage usage = {
    .verb = "init",
    .args = "CONFIG.yaml [key=value ...]",
    .summary = "a fresh model and tokenizer, for training from scratch",
    .details = "Trains a byte-level BPE tokenizer on tokenizer.files (or takes tokenizer.path),\n"
               "makes a model of the model.* keys with random weights, and writes both to\n"
               "output_dir as a Hugging Face folder.\n"
               "\n"
               "  keel init init.yaml\n"
               "  keel init init.yaml model.hidden_size=256 tokenizer.vocab_size=4096 seed=7\n",
    .min_args = 1,
    .max_args = -1,
};

#define FALLBACK_EOS "<|endoftext|>"        /* for templates that name no end token */

/* ---- the tokenizer's text ---- */
struct corpus {
    char **text;
    size_t *len, bytes;
    int n, cap;
};

static void corpus_add(struct corpus *c, char *text, size_t len) {  /* takes text over */
    if (c->n == c->cap) {
        c->cap = MAX(2 * c->cap, 256);
        c->text = xreallocarray(c->text, (size_t)c->cap, sizeof *c->text);
        c->len = xreallocarray(c->len, (size_t)c->cap, sizeof *c->len);
    }
    c->text[c->n] = text;
    c->len[c->n++] = len;
    c->bytes += len;
}

static void corpus_release(struct corpus *c) {
    for (int i = 0; i < c->n; i++)
        free(c->text[i]);
    free(c->text);
    free(c->len);
}

/* A string, or the contents of a list of messages. */
static void add_value(struct corpus *c, const json_t *v) {
    if (json_is_string(v) && json_string_length(v))
        corpus_add(c, xstrdup(json_string_value(v)), json_string_length(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *content = json_object_get(json_array_get(v, i), "content");
        if (json_is_string(content) && json_string_length(content))
            corpus_add(c, xstrdup(json_string_value(content)), json_string_length(content));
    }
}

static int add_jsonl(struct corpus *c, const char *item, struct err *e) {
    static const char *const fields[] = {"messages", "system", "prompt", "completion", "chosen",
                                         "rejected", "instruction", "input", "output", "text"};
    struct jsonl *j = jsonl_open(item, e);
    if (!j)
        return -1;
    json_t *row;
    int rc, before = c->n;
    while ((rc = jsonl_next(j, &row, e)) > 0)
        for (size_t i = 0; i < ARRAY_LEN(fields); i++)
            add_value(c, json_object_get(row, fields[i]));
    if (rc == 0 && c->n == before)
        rc = err_set(e, "%s: no text: expected rows with prompt, completion, messages, "
                     "instruction, output or text", jsonl_path(j));
    jsonl_close(j);
    return rc;
}

static int add_file(struct corpus *c, const char *item, struct err *e) {
    size_t n = strlen(item), len;
    if (n < 4 || strcmp(item + n - 4, ".txt") != 0)
        return add_jsonl(c, item, e);
    char *text = file_read(item, &len, e);
    if (!text)
        return -1;
    corpus_add(c, text, len);
    return 0;
}

/* ---- tokenizer ---- */
static struct tokenizer *train_tokenizer(const struct config *cfg, const struct chat_format *chat,
                                         struct err *e) {
    struct corpus c = {0};
    struct tokenizer *t = NULL;
    const char *specials[64];
    int n = 0;
    for (const char *const *s = chat->specials; *s && n < (int)ARRAY_LEN(specials) - 1; s++)
        specials[n++] = *s;
    if (!chat->eos)
        specials[n++] = FALLBACK_EOS;
    for (int i = 0; i < cfg->tokenizer.files.n; i++)
        if (add_file(&c, cfg->tokenizer.files.v[i], e) < 0)
            goto out;
    t = tokenizer_train((const char *const *)c.text, c.len, c.n, cfg->tokenizer.vocab_size,
                        specials, n, e);
    if (!t)
        goto out;
    log_info("init: tokenizer of %d tokens from %zu bytes in %d texts", tokenizer_vocab_size(t),
             c.bytes, c.n);
    if (tokenizer_vocab_size(t) < cfg->tokenizer.vocab_size)
        log_warn("init: tokenizer.vocab_size is %d, but the text gives %d tokens only",
                 cfg->tokenizer.vocab_size, tokenizer_vocab_size(t));
out:
    corpus_release(&c);
    return t;
}

/* The token that ends an answer: the template's, else the first of the usual names, else -1. */
static int32_t find_eos(const struct chat_format *chat, const struct tokenizer *t) {
    static const char *const usual[] = {FALLBACK_EOS, "</s>", "<|end_of_text|>", "<eos>"};
    if (chat->eos)
        return tokenizer_id(t, chat->eos);
    for (size_t i = 0; i < ARRAY_LEN(usual); i++)
        if (tokenizer_id(t, usual[i]) >= 0)
            return tokenizer_id(t, usual[i]);
    return -1;
}

static struct tokenizer *get_tokenizer(const struct config *cfg, const struct chat_format *chat,
                                       struct err *e) {
    if (!*cfg->tokenizer.path)
        return train_tokenizer(cfg, chat, e);
    struct tokenizer *t = tokenizer_load(cfg->tokenizer.path, e);
    for (const char *const *s = chat->specials; t && *s; s++)
        if (tokenizer_id(t, *s) < 0) {
            err_set(e, "%s: expected the token \"%s\" of chat_template %s, it has none (hint: "
                    "chat_template, one of %s)", cfg->tokenizer.path, *s, chat->name, chat_list());
            tokenizer_free(t);
            t = NULL;
        }
    if (t && find_eos(chat, t) < 0)
        log_warn("init: %s: no token ends a text; answers will not learn to stop",
                 cfg->tokenizer.path);
    return t;
}

/* ---- model ---- */
static json_t *id_or_null(int32_t id) {
    return id >= 0 ? json_integer(id) : json_null();
}

/* Keys of windows, where the architecture has any. */
static int describe_window(const struct config *cfg, const struct arch *arch, json_t *keys,
                           struct err *e) {
    if (!cfg->model.sliding_window)
        return 0;
    if (arch->window == WINDOW_NONE)
        return err_set(e, "model.sliding_window: a %s model has no windows", arch->model_type);
    json_object_set_new(keys, "sliding_window", json_integer(cfg->model.sliding_window));
    json_object_set_new(keys, "use_sliding_window", json_true());
    json_object_set_new(keys, "max_window_layers", json_integer(0));
    return 0;
}

/* The model as the config.json that describes it: what is not said here is the class's own. */
static int describe_model(const struct config *cfg, const struct chat_format *chat,
                          const struct tokenizer *t, struct model_config *c, struct err *e) {
    const struct arch *arch = arch_find(cfg->model.model_type);
    const int heads = cfg->model.num_attention_heads, kv = cfg->model.num_key_value_heads;
    const struct {
        const char *key;
        json_t *value;
    } keys[] = {
        {"model_type", json_string(arch->model_type)},
        {"vocab_size", json_integer(tokenizer_vocab_size(t))},
        {"hidden_size", json_integer(cfg->model.hidden_size)},
        {"intermediate_size", json_integer(cfg->model.intermediate_size)},
        {"num_hidden_layers", json_integer(cfg->model.num_hidden_layers)},
        {"num_attention_heads", json_integer(heads)},
        {"num_key_value_heads", json_integer(kv ? kv : heads)},
        {"head_dim", json_null()},
        {"max_position_embeddings", json_integer(cfg->model.max_position_embeddings)},
        {"rms_norm_eps", json_real(cfg->model.rms_norm_eps)},
        {"rope_theta", json_real(cfg->model.rope_theta)},
        {"tie_word_embeddings", json_boolean(cfg->model.tie_word_embeddings)},
        {"initializer_range", json_real(cfg->model.initializer_range)},
        {"bos_token_id", id_or_null(chat->bos ? tokenizer_id(t, chat->bos) : -1)},
        {"eos_token_id", id_or_null(find_eos(chat, t))},
        {"pad_token_id", json_null()},
        {"torch_dtype", json_string(config_key_find("model.dtype")->names(cfg->model.dtype))},
    };
    json_t *root = json_object();
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        json_object_set_new(root, keys[i].key, keys[i].value);
    for (const char *const *k = arch->reads; *k; k++)       // its default is for heads of 256
        if (strcmp(*k, "query_pre_attn_scalar") == 0)
            json_object_set_new(root, *k, json_integer(MAX(cfg->model.hidden_size / heads, 1)));
    int rc = describe_window(cfg, arch, root, e);
    if (rc == 0)
        rc = hf_config_read(root, NULL, "model", c, e);
    json_decref(root);
    return rc;
}

static int run(const struct config *cfg, const void *ctx, struct err *e) {
    (void)ctx;
    const struct chat_format *chat = chat_find(*cfg->chat_template ? cfg->chat_template : "keel");
    struct model *m = NULL;
    struct tokenizer *t = NULL;
    struct hf *h = NULL;
    char *dump = NULL, *dump_path = NULL;
    const bool fresh = !path_exists(cfg->output_dir);
    int rc = EXIT_USAGE;
    if (!chat) {
        err_set(e, "chat_template: expected one of %s, got \"%s\"", chat_list(),
                cfg->chat_template);
        goto out;
    }
    if (!cfg->overwrite_output_dir && !fresh) {
        err_set(e, "output_dir: %s exists already (hint: overwrite_output_dir=true, or another)",
                cfg->output_dir);
        goto out;
    }
    if (dir_check(cfg->output_dir, e)) {
        err_prefix(e, "output_dir");
        goto out;
    }
    if (!(t = get_tokenizer(cfg, chat, e)))
        goto out;
    struct model_config mc;
    if (describe_model(cfg, chat, t, &mc, e) != 0 || !(m = model_new(&mc, e)))
        goto out;
    rc = EXIT_FAILED;
    model_init(m, (uint64_t)cfg->seed);
    h = hf_new(m, t, chat);
    dump = config_dump(cfg);
    dump_path = path_join(cfg->output_dir, "config.yaml");
    if (dir_make(cfg->output_dir, e) < 0 || hf_save(h, NULL, cfg->output_dir, e) < 0 ||
        file_write(dump_path, dump, strlen(dump), e) < 0)
        goto out;
    printf("%s: %s, %zu parameters (%s), %d layers of width %d, %d tokens, chat template %s\n",
           cfg->output_dir, mc.model_type, m->count, dtype_table[mc.dtype].torch_name,
           mc.num_hidden_layers, mc.hidden_size, mc.vocab_size, chat->name);
    rc = EXIT_OK;
out:
    if (rc == EXIT_FAILED && fresh)         // nothing half-made stays
        dir_remove(cfg->output_dir, NULL);
    if (!h) {                               // else they are h's
        model_free(m);
        tokenizer_free(t);
    }
    hf_free(h);
    free(dump);
    free(dump_path);
    return rc;
}

int cmd_init(int argc, char **argv) {
    return cli_run_config(VERB_INIT, &usage, NULL, 0, argc, argv, run, NULL);
}

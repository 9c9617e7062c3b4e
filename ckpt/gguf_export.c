/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gguf_export.c — from an opened folder to one file.
 *
 * Weights stay mapped; the configuration, the tokenizer and the file's table are all that is held.
 * A folder without tokenizer.json gives a file without vocabulary, which runs on token ids alone.
 */
#include "ckpt/gguf_export.h"

#include <stdlib.h>
#include <string.h>

/* general.file_type for each dtype of the matrices. */
static const struct file_type {
    enum dtype dtype;
    uint32_t number;
} file_types[] = {{DTYPE_F32, 0}, {DTYPE_F16, 1}, {DTYPE_BF16, 32}};

/* The dtype of most of the folder's entries; where a file cannot hold it, one that loses nothing or
 * least: F32 for F64, F16 for 8-bit floats. */
static enum dtype main_dtype(const struct weights *w) {
    size_t count[DTYPE_COUNT] = {0};
    int best = DTYPE_F32;
    for (int i = 0; i < weights_count(w); i++)
        count[weights_at(w, i)->en->dtype] += weights_at(w, i)->en->count;
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (count[d] > count[best])
            best = d;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++)
        if (file_types[i].dtype == (enum dtype)best)
            return file_types[i].dtype;
    return dtype_table[best].bits == 8 ? DTYPE_F16 : DTYPE_F32;
}

static void add_general(struct gguf *g, const struct model_config *cfg, enum dtype dtype) {
    const char *arch = gguf_arch_name(cfg->model_type);
    gguf_set_text(g, "general.architecture", arch ? arch : cfg->model_type);
    gguf_set_text(g, "general.type", "model");
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++)
        if (file_types[i].dtype == dtype)
            gguf_set_u32(g, "general.file_type", file_types[i].number);
    gguf_set_u32(g, "general.quantization_version", 2);
}

/* The folder's own name, also for "." and "x/". */
static char *folder_name(const char *dir) {
    char *path = realpath(dir, NULL);
    const char *slash = path ? strrchr(path, '/') : NULL;
    char *name = xstrdup(slash && slash[1] ? slash + 1 : "model");
    free(path);
    return name;
}

int gguf_export(const char *dir, const char *path, enum dtype dtype, struct gguf_result *r,
                struct err *e) {
    char *config = path_join(dir, "config.json"), *tokenizer = path_join(dir, "tokenizer.json");
    char *folder = folder_name(dir);
    struct model_config *cfg = xcalloc(1, sizeof *cfg);
    struct weights *w = NULL;
    struct gguf_model *m = NULL;
    struct gguf *g = gguf_new();
    struct hf *h = hf_open(dir, path_exists(tokenizer) ? HF_TOKENIZER : 0, e);
    int rc = -1;
    if (!h || hf_read_config(config, cfg, e) != 0 || !(w = weights_open(dir, e)))
        goto out;
    if (dtype == DTYPE_COUNT)
        dtype = main_dtype(w);
    add_general(g, cfg, dtype);
    if (!(m = gguf_model_add(g, cfg, w, dtype, dir, e))
        || gguf_vocab_add(g, h, cfg, folder, e) != 0)
        goto out;
    if (!h->tokenizer)
        log_warn("%s: there is no tokenizer.json: the file gets no vocabulary", dir);
    if (r)
        *r = (struct gguf_result){.arch = gguf_arch_name(cfg->model_type), .dtype = dtype,
                                  .tensors = gguf_tensor_count(g), .bytes = gguf_data_bytes(g)};
    rc = gguf_save(g, path, e);
out:
    gguf_model_free(m);
    gguf_free(g);
    weights_close(w);
    hf_free(h);
    free(cfg);
    free(config);
    free(tokenizer);
    free(folder);
    return rc;
}

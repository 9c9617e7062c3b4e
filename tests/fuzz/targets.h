/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * targets.h — everything that reads bytes from outside, as functions of bytes: one row each.
 *
 * Included once by a program: tests/fuzz/fuzz.c (libFuzzer searches one target) and
 * tests/test_fuzz.c (the corpus is played back). A target may refuse its input; it may not crash,
 * leak, read outside, or accept what it then cannot use: what is accepted is also walked through.
 */
#ifndef KEEL_FUZZ_TARGETS_H
#define KEEL_FUZZ_TARGETS_H

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ckpt/hf.h"
#include "ckpt/safetensors.h"
#include "model/tokenizer.h"
#include "train/config.h"
#include "train/config_yaml.h"
#include "train/data.h"

/* A file in memory that holds DATA; the path is valid until the next call. */
static const char *fuzz_file(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[64];
    if (fd >= 0)
        close(fd);
    fd = (int)syscall(SYS_memfd_create, "fuzz", 0u);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        BUG("memfd_create");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

static int fuzz_safetensors(const uint8_t *data, size_t n) {
    struct err e = {0};
    struct st *st = st_open(fuzz_file(data, n), &e);
    if (!st)
        return e.msg[0] ? 0 : -1;           // a refusal says why
    for (int i = 0; i < st_count(st); i++) {
        const struct st_entry *en = st_at(st, i);
        volatile uint8_t sum = 0;
        const uint8_t *p = st_data(st, en);
        for (size_t k = 0; k < en->bytes; k++)
            sum = (uint8_t)(sum + p[k]);
        if (st_find(st, en->name) != en)
            BUG("st_find(%s)", en->name);
        if (!dtype_table[en->dtype].can_compute)
            continue;
        real *v = xcalloc(en->count, sizeof *v);
        st_read(st, en, v);
        free(v);
    }
    for (int i = 0; i < st_meta_count(st); i++) {
        const char *key, *value;
        st_meta_at(st, i, &key, &value);
        if (!st_meta(st, key))
            BUG("st_meta(%s)", key);
    }
    st_close(st);
    return 0;
}

static int fuzz_tokenizer(const uint8_t *data, size_t n) {
    static const char text[] = "Hello world,\n  it's 12345 \xC3\xA9\xF0\x9F\x98\x80 \xFF<|end|>";
    struct err e = {0};
    char *json = xmalloc(n + 1);            // exactly n bytes and a NUL: an overrun is seen
    memcpy(json, data, n);
    json[n] = '\0';
    struct tokenizer *t = tokenizer_parse(json, n, "fuzz", &e);
    free(json);
    if (!t)
        return e.msg[0] ? 0 : -1;
    for (int special = 0; special < 2; special++) {
        struct ids ids = {0};
        size_t len;
        tokenizer_encode(t, text, sizeof text - 1, special, &ids);
        for (int i = 0; i < ids.n; i++)
            if (ids.v[i] < 0 || ids.v[i] >= tokenizer_vocab_size(t))
                BUG("token %d of %d", ids.v[i], tokenizer_vocab_size(t));
        free(tokenizer_decode(t, ids.v, ids.n, special, &len));
        ids_release(&ids);
    }
    tokenizer_free(t);
    return 0;
}

static int fuzz_hf_config(const uint8_t *data, size_t n) {
    struct err e = {0};
    struct model_config cfg;
    memset(&cfg, 0, sizeof cfg);
    if (hf_read_config(fuzz_file(data, n), &cfg, &e) != 0)
        return e.msg[0] ? 0 : -1;
    double size = (double)cfg.vocab_size * cfg.hidden_size +
                  (double)cfg.num_hidden_layers * cfg.hidden_size *
                      (4.0 * cfg.hidden_size + 3.0 * cfg.intermediate_size);
    if (size > 1e6 || cfg.num_hidden_layers > 64 || cfg.max_position_embeddings > 1 << 16)
        return 0;                           // a real size: too slow to make here
    struct model *m = model_new(&cfg, &e);
    if (!m)
        return e.msg[0] ? 0 : -1;
    model_free(m);
    return 0;
}

static int fuzz_yaml(const uint8_t *data, size_t n) {
    struct err e = {0};
    struct yaml_settings s;
    if (yaml_settings_read("fuzz", (const char *)data, n, &s, &e) != 0)
        return e.msg[0] ? 0 : -1;
    yaml_settings_release(&s);
    const char *path = fuzz_file(data, n);
    for (int v = 0; v < VERB_COUNT; v++) {
        struct config *c = config_load((enum verb)v, path, NULL, 0, &e);
        if (!c)
            continue;
        char *once = config_dump(c), *twice;
        config_free(c);
        c = config_load((enum verb)v, fuzz_file((const uint8_t *)once, strlen(once)), NULL, 0, &e);
        if (!c)
            BUG("a dump does not load: %s\n%s", e.msg, once);
        twice = config_dump(c);
        if (strcmp(once, twice) != 0)
            BUG("a dump loads as something else:\n%s\n%s", once, twice);
        free(once);
        free(twice);
        config_free(c);
        path = fuzz_file(data, n);
    }
    return 0;
}

static int fuzz_jsonl(const uint8_t *data, size_t n) {
    static struct tokenizer *t;
    static const char *const specials[] = {"<|user|>", "<|assistant|>", "<|system|>", "<|end|>"};
    struct err e = {0};
    if (!t) {
        const char *text = "a request and an answer to it";
        size_t len = strlen(text);
        t = tokenizer_train(&text, &len, 1, 256 + 4 + 10, specials, ARRAY_LEN(specials), &e);
        if (!t)
            BUG("%s", e.msg);
    }
    char *path = xstrdup(fuzz_file(data, n));
    struct strlist files = {&path, 1};
    const char *const templates[] = {"none", "keel"};
    for (int i = 0; i < 6; i++) {
        struct data_opts o = {.need = (enum data_need)(i % 3), .max_length = 64,
                              .truncation = 1 + i / 3, .completion_only = true,
                              .eos_id = tokenizer_id(t, "<|end|>")};
        struct dataset *d = dataset_load(&files, chat_find(templates[i / 3]), t, &o, &e);
        for (int k = 0; d && k < d->n; k++)
            if (d->ex[k].a.n > 64 || d->ex[k].b.n > 64)
                BUG("row %d has more tokens than max_length", k);
        dataset_free(d);
    }
    free(path);
    return 0;
}

static const struct fuzz_target {
    const char *name;                       /* folder under tests/fuzz/corpus */
    int (*run)(const uint8_t *data, size_t n);      /* -1: refused without saying why */
} fuzz_targets[] = {
    {"safetensors", fuzz_safetensors}, {"tokenizer", fuzz_tokenizer},
    {"hf_config", fuzz_hf_config},     {"yaml", fuzz_yaml},
    {"jsonl", fuzz_jsonl},
};
#endif

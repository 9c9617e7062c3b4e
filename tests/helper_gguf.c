/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_gguf.c — see helper_gguf.h.
 */
#include "tests/helper_gguf.h"

#include <math.h>

#include "ckpt/jsonfile.h"

/* ---- the reader ---- */

static uint64_t take(struct gguf_file *f, int bytes) {
    uint64_t v = 0;
    assert_true(f->at + (size_t)bytes <= f->len);
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)(uint8_t)f->bytes[f->at++] << (8 * i);
    return v;
}

static const char *take_text(struct gguf_file *f, size_t *n) {
    *n = (size_t)take(f, 8);
    assert_true(*n <= f->len - f->at);
    f->at += *n;
    return f->bytes + f->at - *n;
}

static void skip_value(struct gguf_file *f, uint32_t type) {
    size_t n;
    assert_true(type == GGUF_U32 || type == GGUF_I32 || type == GGUF_F32 || type == GGUF_BOOL
                || type == GGUF_TEXT);
    if (type == GGUF_TEXT)
        take_text(f, &n);
    else
        take(f, type == GGUF_BOOL ? 1 : 4);
}

static void read_pair(struct gguf_file *f, struct gguf_value *v) {
    v->key = take_text(f, &v->key_len);
    v->type = (uint32_t)take(f, 4);
    v->n = 1;
    v->item_type = v->type;
    if (v->type == GGUF_LIST) {
        v->item_type = (uint32_t)take(f, 4);
        v->n = take(f, 8);
    }
    v->at = f->at;
    for (uint64_t i = 0; i < v->n; i++)
        skip_value(f, v->item_type);
}

static void read_info(struct gguf_file *f, struct gguf_info *t) {
    size_t n;
    const char *name = take_text(f, &n);
    assert_true(n < sizeof t->name);
    memcpy(t->name, name, n);
    t->ndim = (uint32_t)take(f, 4);
    assert_true(t->ndim >= 1 && t->ndim <= 4);
    t->count = 1;
    for (uint32_t d = 0; d < t->ndim; d++)
        t->count *= t->dims[d] = take(f, 8);
    t->type = (uint32_t)take(f, 4);
    assert_true(t->type == 0 || t->type == 1 || t->type == 30);
    t->at = (size_t)take(f, 8);
}

static size_t width_of(const struct gguf_info *t) {
    return t->type == 0 ? 4 : 2;
}

struct gguf_file gguf_read(const char *path) {
    struct err e = {0};
    struct gguf_file f = {0};
    f.bytes = file_read(path, &f.len, &e);
    if (!f.bytes)
        fail_msg("%s", e.msg);
    assert_true(f.len > 24 && memcmp(f.bytes, "GGUF", 4) == 0);
    f.at = 4;
    assert_int_equal(take(&f, 4), 3);
    f.ninfos = take(&f, 8);
    f.nvalues = take(&f, 8);
    assert_true(f.ninfos < 10000 && f.nvalues < 1000);
    f.values = xcalloc(f.nvalues, sizeof *f.values);
    f.infos = xcalloc(f.ninfos, sizeof *f.infos);
    for (uint64_t i = 0; i < f.nvalues; i++)
        read_pair(&f, &f.values[i]);
    for (uint64_t i = 0; i < f.ninfos; i++)
        read_info(&f, &f.infos[i]);
    const size_t start = (f.at + 31) / 32 * 32;
    size_t end = 0;
    for (uint64_t i = 0; i < f.ninfos; i++) {           // one behind another, at multiples of 32
        struct gguf_info *t = &f.infos[i];
        assert_int_equal(t->at, end);
        t->at = start + end;
        end = (end + t->count * width_of(t) + 31) / 32 * 32;
    }
    assert_int_equal(f.len, start + end);
    return f;
}

void gguf_release(struct gguf_file *f) {
    free(f->bytes);
    free(f->values);
    free(f->infos);
}

const struct gguf_value *gguf_find(const struct gguf_file *f, const char *key, uint32_t type) {
    for (uint64_t i = 0; i < f->nvalues; i++) {
        const struct gguf_value *v = &f->values[i];
        if (v->key_len == strlen(key) && memcmp(v->key, key, v->key_len) == 0) {
            assert_int_equal(v->type, type);
            return v;
        }
    }
    return NULL;
}

static double number_at(const struct gguf_file *f, size_t at, uint32_t type) {
    float x;
    int32_t i;
    memcpy(&x, f->bytes + at, sizeof x);
    memcpy(&i, f->bytes + at, sizeof i);
    return type == GGUF_F32 ? (double)x : type == GGUF_BOOL ? f->bytes[at] : i;
}

/* NAN: there is no such key. */
double gguf_number(const struct gguf_file *f, const char *key, uint32_t type) {
    const struct gguf_value *v = gguf_find(f, key, type);
    return v ? number_at(f, v->at, type) : (double)NAN;
}

/* Key of the architecture: "llama.KEY". */
double gguf_fact(const struct gguf_file *f, const char *arch, const char *key, uint32_t type) {
    char full[128];
    snprintf(full, sizeof full, "%s.%s", arch, key);
    return gguf_number(f, full, type);
}

static char *text_at(struct gguf_file *f, size_t *at) {
    size_t n;
    f->at = *at;
    const char *s = take_text(f, &n);
    *at = f->at;
    return xstrndup(s, n);
}

void assert_gguf_text(struct gguf_file *f, const char *key, const char *expected) {
    const struct gguf_value *v = gguf_find(f, key, GGUF_TEXT);
    if (!v)
        fail_msg("no %s", key);
    size_t at = v->at;
    char *got = text_at(f, &at);
    assert_string_equal(got, expected);
    free(got);
}

/* Item i of a list of texts; caller frees. */
char *gguf_list_text(struct gguf_file *f, const char *key, uint64_t i) {
    const struct gguf_value *v = gguf_find(f, key, GGUF_LIST);
    assert_true(v && v->item_type == GGUF_TEXT && i < v->n);
    size_t at = v->at;
    for (uint64_t k = 0; k < i; k++)
        free(text_at(f, &at));
    return text_at(f, &at);
}

double gguf_list_number(const struct gguf_file *f, const char *key, uint64_t i) {
    const struct gguf_value *v = gguf_find(f, key, GGUF_LIST);
    assert_true(v && i < v->n);
    return number_at(f, v->at + i * (v->item_type == GGUF_BOOL ? 1 : 4), v->item_type);
}

struct gguf_info *gguf_tensor(const struct gguf_file *f, const char *name) {
    for (uint64_t i = 0; i < f->ninfos; i++)
        if (strcmp(f->infos[i].name, name) == 0)
            return &f->infos[i];
    return NULL;
}

double *gguf_tensor_values(const struct gguf_file *f, const struct gguf_info *t) {
    static const enum dtype dtypes[] = {[0] = DTYPE_F32, [1] = DTYPE_F16, [30] = DTYPE_BF16};
    real *some = xcalloc(t->count, sizeof *some);
    double *v = xcalloc(t->count, sizeof *v);
    dtype_read(dtypes[t->type], f->bytes + t->at, some, t->count);
    for (uint64_t i = 0; i < t->count; i++)
        v[i] = (double)some[i];
    free(some);
    return v;
}

/* ---- folders made here ---- */

/* A tiny model of a type, in folder `dir`; json: keys of config.json that differ, or NULL. */
void gguf_make_folder(const char *dir, struct model_config c, struct tokenizer *t,
                        const char *overlay) {
    struct err e = {0};
    c.vocab_size = MAX(c.vocab_size, t ? tokenizer_vocab_size(t) : 1);
    struct model *m = model_new(&c, &e);
    if (!m)
        fail_msg("%s", e.msg);
    model_init(m, 7);
    struct hf *h = hf_new(m, t, NULL);
    assert_ok(hf_save(h, NULL, dir, &e), &e);
    hf_free(h);
    if (!overlay)
        return;
    char *path = path_join(dir, "config.json");
    json_t *root = jsonfile_read(path, &e), *more = json_loads(overlay, 0, NULL);
    assert_non_null(more);
    json_object_update(root, more);
    char *text = jsonfile_text(root);
    test_write(path, text);
    free(text);
    free(path);
    json_decref(root);
    json_decref(more);
}

struct gguf_file gguf_export_folder(const char *dir) {
    struct err e = {0};
    const char *path = test_path("folder.gguf");
    log_threshold = LOG_ERROR;
    assert_ok(gguf_export(dir, path, DTYPE_F32, NULL, &e), &e);
    log_threshold = LOG_INFO;
    return gguf_read(path);
}

void assert_gguf_refused(const char *dir, enum dtype dtype, const char *word) {
    struct err e = {0};
    log_threshold = LOG_ERROR;
    const int rc = gguf_export(dir, test_path("refused.gguf"), dtype, NULL, &e);
    log_threshold = LOG_INFO;
    assert_int_equal(rc, -1);
    assert_contains(e.msg, word);
    assert_false(path_exists(test_path("refused.gguf")));
    assert_false(path_exists(test_path("refused.gguf.tmp")));
}

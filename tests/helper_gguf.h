/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_gguf.h — a reader of .gguf files that shares nothing with the writer; folders to export.
 */
#ifndef KEEL_TEST_HELPER_GGUF_H
#define KEEL_TEST_HELPER_GGUF_H

#include "ckpt/gguf_export.h"
#include "tests/helper.h"

enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_TEXT = 8, GGUF_LIST = 9 };
struct gguf_value {
    const char *key;
    size_t key_len;
    uint32_t type, item_type;
    uint64_t n;                             /* items of a list */
    size_t at;                              /* of the value, or of the first item */
};
struct gguf_info {
    char name[65];
    uint32_t ndim, type;                    /* ggml's: 0 F32, 1 F16, 30 BF16 */
    uint64_t dims[4], count;                /* fastest first */
    size_t at;                              /* of the data */
    bool met;                               /* for the test's own use */
};
struct gguf_file {
    char *bytes;
    size_t len, at;
    struct gguf_value *values;
    struct gguf_info *infos;
    uint64_t nvalues, ninfos;
};
/* Fails the test unless the file is whole: version 3, no unknown types, tensors one behind another
 * at multiples of 32, nothing behind the last. */
struct gguf_file gguf_read(const char *path);
void gguf_release(struct gguf_file *f);
/* NULL: there is no such key. Fails the test when it has another type. */
const struct gguf_value *gguf_find(const struct gguf_file *f, const char *key, uint32_t type);
double gguf_number(const struct gguf_file *f, const char *key, uint32_t type);  /* NAN: none */
/* Key "ARCH.KEY". */
double gguf_fact(const struct gguf_file *f, const char *arch, const char *key, uint32_t type);
void assert_gguf_text(struct gguf_file *f, const char *key, const char *expected);
char *gguf_list_text(struct gguf_file *f, const char *key, uint64_t i);         /* caller frees */
double gguf_list_number(const struct gguf_file *f, const char *key, uint64_t i);
struct gguf_info *gguf_tensor(const struct gguf_file *f, const char *name);     /* NULL: none */
/* [count] as they lie in the file; caller frees. */
double *gguf_tensor_values(const struct gguf_file *f, const struct gguf_info *t);

/* A tiny random model of config c, with at least the rows that t needs; takes t over (NULL: none).
 * overlay: keys of config.json that differ, as JSON; NULL: none. */
void gguf_make_folder(const char *dir, struct model_config c, struct tokenizer *t,
                      const char *overlay);
/* The folder as F32, read back. */
struct gguf_file gguf_export_folder(const char *dir);
/* Exporting fails with a message that has the word in it, and leaves no file. */
void assert_gguf_refused(const char *dir, enum dtype dtype, const char *word);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * convert.c — mapped tensors to new files.
 *
 * No model is made: any folder that has config.json and safetensors files can be converted, also of
 * architectures that Keel does not compute. Values are looked at before anything is written when
 * some may not fit, so that a folder is either converted whole or not touched.
 */
#include "ckpt/convert.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ckpt/hf_config.h"
#include "ckpt/jsonfile.h"
#include "ckpt/weights.h"

enum { CHUNK = 1 << 16 };                   /* values at a time */

struct item {
    const struct weight *w;
    enum dtype dtype;                       /* to write */
};

/* ---- values ---- */

/* st_fill: elements as they are stored in the new dtype. */
static void fill(const void *ctx, size_t first, size_t n, void *dst) {
    const struct item *it = ctx;
    const struct st_entry *en = it->w->en;
    const size_t bits = (size_t)dtype_table[en->dtype].bits;
    const size_t width = (size_t)dtype_table[it->dtype].bits / 8;
    if (it->dtype == en->dtype) {           // runs begin and end at whole bytes
        memcpy(dst, (const char *)st_data(it->w->st, en) + first * bits / 8, (n * bits + 7) / 8);
        st_drop(it->w->st, en, first, n);
        return;
    }
    real *values = xcalloc(MIN(n, (size_t)CHUNK), sizeof *values);
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = MIN((size_t)CHUNK, n - i);
        st_read_some(it->w->st, en, first + i, values, m);
        dtype_write(it->dtype, values, (char *)dst + i * width, m);
    }
    free(values);
}

/* The largest number of a dtype, and the least that rounds to infinity in it. */
static const struct range {
    enum dtype dtype;
    double max, limit;
} ranges[] = {
    {DTYPE_F64, 0x1.fffffffffffffp1023, HUGE_VAL}, {DTYPE_F32, 0x1.fffffep127, 0x1.ffffffp127},
    {DTYPE_BF16, 0x1.fep127, 0x1.ffp127}, {DTYPE_F16, 65504, 65520},
};

/* 8-bit floats fit everywhere and have no row. */
static const struct range *find_range(enum dtype d) {
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (ranges[i].dtype == d)
            return &ranges[i];
    return NULL;
}

static bool can_overflow(const struct item *it) {
    const struct range *from = find_range(it->w->en->dtype), *to = find_range(it->dtype);
    return from && to && from != to && from->max >= to->limit;
}

/* Whether some value of the tensor is finite and would not be. */
static int check_item(const struct item *it, struct err *e) {
    const struct st_entry *en = it->w->en;
    const double limit = find_range(it->dtype)->limit;
    double *values = xcalloc(CHUNK, sizeof *values);
    int rc = 0;
    for (size_t i = 0; i < en->count && rc == 0; i += CHUNK) {
        const size_t m = MIN((size_t)CHUNK, en->count - i);
        weight_values(it->w, i, values, m);
        for (size_t k = 0; k < m && rc == 0; k++)
            if (isfinite(values[k]) && fabs(values[k]) >= limit)
                rc = err_set(e, "%s: %g does not fit %s", en->name, values[k],
                             dtype_table[it->dtype].name);
        st_drop(it->w->st, en, i, m);
    }
    free(values);
    return rc;
}

/* ---- files ---- */

/* Not copied: weights in any format, what is written anew, what speaks of the old bytes. */
static const char *const left_behind[] = {
    "config.json", "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json",
    "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.tmp", "freeze.json",
};

static bool is_copied(const char *dir, const char *name) {
    struct stat info;
    bool copied = name[0] != '.';
    for (size_t i = 0; i < ARRAY_LEN(left_behind); i++)
        copied &= fnmatch(left_behind[i], name, 0) != 0;
    char *path = path_join(dir, name);
    copied = copied && stat(path, &info) == 0 && S_ISREG(info.st_mode);
    free(path);
    return copied;
}

static int copy_files(const char *from, const char *to, struct err *e) {
    DIR *d = opendir(from);
    if (!d)
        return err_set(e, "%s: cannot open: %s", from, strerror(errno));
    int rc = 0;
    for (struct dirent *ent; rc == 0 && (ent = readdir(d));) {
        if (!is_copied(from, ent->d_name))
            continue;
        char *src = path_join(from, ent->d_name), *dst = path_join(to, ent->d_name);
        rc = file_copy(src, dst, e);
        free(src);
        free(dst);
    }
    closedir(d);
    return rc;
}

/* config.json, with its dtype key set. */
static int read_config(const char *dir, enum dtype dtype, char **text, struct err *e) {
    char *path = path_join(dir, "config.json");
    size_t len;
    char *old = file_read(path, &len, e);
    json_t *root = old ? jsonfile_parse(old, len, path, e) : NULL;
    if (root)
        *text = dtype == DTYPE_COUNT ? xstrdup(old) : hf_config_with_dtype(old, dtype);
    const int rc = root ? 0 : -1;
    json_decref(root);
    free(old);
    free(path);
    return rc;
}

/* ---- the folder ---- */

/* items[weights_count]; checks what may not fit. */
static int plan(const char *dir, const struct weights *w, enum dtype dtype, struct item *items,
                struct convert_result *r, struct err *e) {
    *r = (struct convert_result){.tensors = weights_count(w)};
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        const bool changes = dtype != DTYPE_COUNT && dtype_table[t->en->dtype].can_compute;
        items[i] = (struct item){t, changes ? dtype : t->en->dtype};
        r->bytes += (t->en->count * (size_t)dtype_table[items[i].dtype].bits + 7) / 8;
        if (can_overflow(&items[i]) && check_item(&items[i], e) != 0)
            return err_prefix(e, "%s", dir);
    }
    return 0;
}

int convert_folder(const char *from, const char *to, const struct convert_opts *o,
                   struct convert_result *r, struct err *e) {
    const bool fresh = !path_exists(to);
    struct weights *w = weights_open(from, e);
    struct item *items = w ? xcalloc((size_t)weights_count(w), sizeof *items) : NULL;
    struct shards *s = NULL;
    char *config = NULL;
    int rc = -1;
    if (!w || read_config(from, o->dtype, &config, e) != 0
        || plan(from, w, o->dtype, items, r, e) != 0)
        goto out;
    rc = -2;
    s = shards_new(to);
    for (int i = 0; i < weights_count(w); i++)
        shards_add(s, items[i].w->en->name, items[i].dtype, items[i].w->en->ndim,
                   items[i].w->en->shape, fill, &items[i], 0);
    if (dir_make(to, e) == 0 && shards_write(s, o->max_shard_size, e) == 0
        && copy_files(from, to, e) == 0 && file_write_text(to, "config.json", config, e) == 0
        && shards_commit(s, e) == 0)
        rc = 0;
out:
    shards_free(s);
    if (rc == -2 && fresh)
        dir_remove(to, NULL);
    weights_close(w);
    free(items);
    free(config);
    return rc;
}

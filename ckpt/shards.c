/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * shards.c — files of at most a size, and how they replace a model that is there.
 *
 * A reader takes model.safetensors, else what the index says. One file is therefore put in place by
 * one rename. Several files may bear the names of the old ones, so an index that names the files
 * where they lie aside ("...safetensors.tmp") is put in place first: from then on the old files are
 * nobody's. Then each gets its final name as a second one (a hard link), the final index replaces
 * the first, and what is nobody's is removed, with it an old model.safetensors, which wins over an
 * index until then. On file systems without hard links files are renamed; there a crash before the
 * final index leaves a folder that does not load, never a mixture. Names and splitting as in
 * huggingface_hub.
 */
#include "ckpt/shards.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/jsonfile.h"

#define WHOLE_NAME "model.safetensors"

struct out {
    char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
    size_t bytes;
    st_fill fill;
    const void *ctx;
    int file;
};
struct shards {
    char *dir;
    struct out *list;
    int n, cap;
    json_t *metadata;
    char suffix[24];                        /* of files aside */
    int nfiles;                             /* 0: not written */
    int step;                               /* changes made so far */
};

struct shards *shards_new(const char *dir) {
    struct shards *s = xcalloc(1, sizeof *s);
    s->dir = xstrdup(dir);
    s->metadata = json_object();
    return s;
}

void shards_add(struct shards *s, const char *name, enum dtype dtype, int ndim,
                const int64_t *shape, st_fill fill, const void *ctx, int file) {
    struct out t = {.name = xstrdup(name), .dtype = dtype, .ndim = ndim, .fill = fill, .ctx = ctx,
                    .file = file};
    size_t count = 1;
    for (int i = 0; i < ndim; i++) {
        t.shape[i] = shape[i];
        count *= (size_t)shape[i];
    }
    t.bytes = count * (size_t)dtype_table[dtype].bits / 8;
    if (s->n == s->cap) {
        s->cap = MAX(64, s->cap * 2);
        s->list = xreallocarray(s->list, (size_t)s->cap, sizeof *s->list);
    }
    s->list[s->n++] = t;
}

void shards_metadata(struct shards *s, const json_t *metadata) {
    json_decref(s->metadata);
    s->metadata = json_deep_copy(metadata);
}

/* ---- which tensor goes where ---- */

enum { WAITS = -1, OPEN = -2 };             /* not reached; in the file that is being filled */

static int close_file(struct shards *s, int number) {
    int members = 0;
    for (int i = 0; i < s->n; i++)
        if (s->list[i].file == OPEN) {
            s->list[i].file = number;
            members++;
        }
    return members ? number + 1 : number;
}

static int split(struct shards *s, size_t max_size) {
    int files = 0;
    size_t filled = 0;
    for (int i = 0; i < s->n; i++)
        s->list[i].file = WAITS;
    for (int i = 0; i < s->n; i++) {
        struct out *t = &s->list[i];
        if (t->bytes > max_size) {
            t->file = files++;
            continue;
        }
        if (filled + t->bytes > max_size) {
            files = close_file(s, files);
            filled = 0;
        }
        t->file = OPEN;
        filled += t->bytes;
    }
    files = close_file(s, files);
    return MAX(files, 1);
}

static int count_files(const struct shards *s) {
    int files = 1;
    for (int i = 0; i < s->n; i++)
        files = MAX(files, s->list[i].file + 1);
    return files;
}

/* ---- names ---- */

static char *final_name(const struct shards *s, int file) {
    return s->nfiles == 1 ? xstrdup(WHOLE_NAME)
                          : xasprintf("model-%05d-of-%05d.safetensors", file + 1, s->nfiles);
}

/* Files 0 .. nfiles - 1; nfiles: the index; nfiles + 1: the index of the files aside. */
static char *aside_name(const struct shards *s, int file) {
    if (file >= s->nfiles)
        return xasprintf("%s%s%s", SHARDS_INDEX, file > s->nfiles ? ".first" : "", s->suffix);
    char *name = final_name(s, file), *aside = xasprintf("%s%s", name, s->suffix);
    free(name);
    return aside;
}

static char *aside_path(const struct shards *s, int file) {
    char *name = aside_name(s, file), *path = path_join(s->dir, name);
    free(name);
    return path;
}

/* A suffix that no file has: those of an interrupted save may be the model that is there. */
static void choose_suffix(struct shards *s) {
    for (int k = 0;; k++) {
        bool taken = false;
        snprintf(s->suffix, sizeof s->suffix, k ? ".%d.tmp" : ".tmp", k);
        for (int f = 0; f < s->nfiles + 2 && !taken; f++) {
            char *path = aside_path(s, f);
            taken = path_exists(path);
            free(path);
        }
        if (!taken)
            return;
    }
}

/* ---- writing aside ---- */

static int write_file(struct shards *s, int file, struct err *e) {
    struct st_writer *w = st_writer_new();
    char *path = aside_path(s, file);
    st_writer_meta(w, "format", "pt");
    for (int i = 0; i < s->n; i++) {
        const struct out *t = &s->list[i];
        if (t->file == file)
            st_writer_add_fill(w, t->name, t->dtype, t->ndim, t->shape, t->fill, t->ctx);
    }
    const int rc = st_write(w, path, e);
    st_writer_free(w);
    free(path);
    return rc;
}

static int cmp_out(const void *a, const void *b) {
    return strcmp((*(const struct out *const *)a)->name, (*(const struct out *const *)b)->name);
}

/* The index of the files by their final names, or of those aside. */
static int write_index(const struct shards *s, bool aside, struct err *e) {
    const struct out **sorted = xcalloc((size_t)s->n, sizeof *sorted);
    json_t *root = json_object(), *map = json_object();
    json_int_t total = 0;
    for (int i = 0; i < s->n; i++) {
        sorted[i] = &s->list[i];
        total += (json_int_t)s->list[i].bytes;
    }
    qsort(sorted, (size_t)s->n, sizeof *sorted, cmp_out);
    for (int i = 0; i < s->n; i++) {
        char *file = aside ? aside_name(s, sorted[i]->file) : final_name(s, sorted[i]->file);
        json_object_set_new(map, sorted[i]->name, json_string(file));
        free(file);
    }
    json_object_set_new(s->metadata, "total_size", json_integer(total));
    json_object_set(root, "metadata", s->metadata);
    json_object_set_new(root, "weight_map", map);
    char *text = jsonfile_text(root), *name = aside_name(s, s->nfiles + aside);
    const int rc = file_write_text(s->dir, name, text, e);
    free(name);
    free(text);
    free(sorted);
    json_decref(root);
    return rc;
}

int shards_write(struct shards *s, size_t max_size, struct err *e) {
    if (s->nfiles)
        BUG("shards_write: %s is written", s->dir);
    s->nfiles = max_size ? split(s, max_size) : count_files(s);
    choose_suffix(s);
    for (int f = 0; f < s->nfiles; f++)
        if (write_file(s, f, e) != 0)
            return -1;
    if (s->nfiles > 1 && (write_index(s, true, e) != 0 || write_index(s, false, e) != 0))
        return -1;
    return 0;
}

/* ---- putting in place ---- */

static int move(const struct shards *s, int file, const char *name, struct err *e) {
    char *from = aside_path(s, file), *to = path_join(s->dir, name);
    int rc = rename(from, to);
    if (rc != 0)
        err_set(e, "%s: cannot rename into place: %s", to, strerror(errno));
    free(from);
    free(to);
    return rc;
}

/* A second name for a file aside, in place of what has that name. */
static int link_file(const struct shards *s, int file, struct err *e) {
    char *name = final_name(s, file), *from = aside_path(s, file), *to = path_join(s->dir, name);
    int rc = unlink(to) == 0 || errno == ENOENT ? 0 : -1;
    if (rc == 0 && link(from, to) != 0)
        rc = rename(from, to);
    if (rc != 0)
        err_set(e, "%s: cannot write: %s", to, strerror(errno));
    free(name);
    free(from);
    free(to);
    return rc;
}

/* Whether a file in the folder belongs to an earlier model, or to a save that was interrupted. */
static bool is_stale(const struct shards *s, const char *name) {
    static const char *const patterns[] = {
        "model-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].safetensors",
        "model-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].safetensors*.tmp",
        "model.safetensors*.tmp", WHOLE_NAME, SHARDS_INDEX,
    };
    bool ours = false, of_model = s->nfiles > 1 && strcmp(name, SHARDS_INDEX) == 0;
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
        ours |= fnmatch(patterns[i], name, 0) == 0;
    for (int f = 0; ours && f < s->nfiles && !of_model; f++) {
        char *keep = final_name(s, f);
        of_model = strcmp(name, keep) == 0;
        free(keep);
    }
    return ours && !of_model;
}

/* In any order: as long as an old model.safetensors is there, it alone is the model. */
static int remove_stale(const struct shards *s, struct err *e) {
    DIR *d = opendir(s->dir);
    if (!d)
        return err_set(e, "%s: cannot open: %s", s->dir, strerror(errno));
    int rc = 0;
    for (struct dirent *ent; rc == 0 && (ent = readdir(d));)
        if (is_stale(s, ent->d_name) && unlinkat(dirfd(d), ent->d_name, 0) != 0)
            rc = err_set(e, "%s/%s: cannot remove: %s", s->dir, ent->d_name, strerror(errno));
    closedir(d);
    return rc;
}

int shards_step(struct shards *s, struct err *e) {
    const int n = s->nfiles, k = s->step;
    int rc;
    if (n == 0)
        BUG("shards_step: %s is not written", s->dir);
    if (n == 1)
        rc = k == 0 ? move(s, 0, WHOLE_NAME, e) : k == 1 ? remove_stale(s, e) : 1;
    else
        rc = k == 0 ? move(s, n + 1, SHARDS_INDEX, e)
           : k <= n ? link_file(s, k - 1, e)
           : k == n + 1 ? move(s, n, SHARDS_INDEX, e)
           : k == n + 2 ? remove_stale(s, e) : 1;
    if (rc != 0)
        return rc > 0 ? 0 : -1;
    s->step++;
    return dir_sync(s->dir, e) == 0 ? 1 : -1;
}

int shards_commit(struct shards *s, struct err *e) {
    int rc;
    while ((rc = shards_step(s, e)) > 0)
        ;
    return rc;
}

void shards_free(struct shards *s) {
    if (!s)
        return;
    for (int f = 0; f < s->nfiles + 2 && s->nfiles && s->step == 0; f++) {
        char *path = aside_path(s, f);
        unlink(path);
        free(path);
    }
    for (int i = 0; i < s->n; i++)
        free(s->list[i].name);
    free(s->list);
    free(s->dir);
    json_decref(s->metadata);
    free(s);
}

/* ---- sizes ---- */

static const struct {
    const char *name;
    uint64_t bytes;
} units[] = {
    {"TB", 1000000000000}, {"GB", 1000000000}, {"MB", 1000000}, {"KB", 1000},
    {"TiB", 1ull << 40}, {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}, {"", 1},
};

bool shards_parse_size(const char *text, size_t *bytes) {
    const size_t digits = strspn(text, "0123456789");
    char number[24];
    int64_t v;
    if (digits == 0 || digits >= sizeof number)
        return false;
    memcpy(number, text, digits);
    number[digits] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(text + digits, units[i].name) == 0)
            return parse_int(number, 0, INT64_MAX, &v) && mul_size((size_t)v, units[i].bytes, bytes)
                && *bytes <= INT64_MAX;
    return false;
}

char *shards_size_text(size_t bytes) {
    size_t i = bytes ? 0 : ARRAY_LEN(units) - 1;
    while (bytes % units[i].bytes)
        i++;
    return xasprintf("%zu%s", bytes / units[i].bytes, units[i].name);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * diff.c — one pass over both files, sums kept per tensor, and per row and column where units live.
 *
 * A unit's change is the sum over the lines that unit_part_table gives it, so tensors are read
 * once, whatever the number of units. Which architecture the files hold is not asked: a part counts
 * where there is a tensor of its name behind the layer prefix that the files use. Sums are in
 * double; each tensor is summed by one thread in one order, so any number of threads prints the
 * same digits.
 */
#include "ckpt/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 1024

const char *const diff_state_names[DIFF_STATE_COUNT] = {
#define X(id, name, help) [id] = name,
    DIFF_STATES(X)
#undef X
};

double diff_mean_abs(const struct diff_sum *s) {
    return s->count ? s->abs / (double)s->count : 0;
}

double diff_rel_l2(const struct diff_sum *s) {
    return s->d2 == 0 ? 0 : sqrt(s->d2 / s->a2);
}

double diff_cosine(const struct diff_sum *s) {
    return s->a2 > 0 && s->b2 > 0 ? s->ab / sqrt(s->a2) / sqrt(s->b2) : (double)NAN;
}

static void sum_add(struct diff_sum *s, double a, double b, bool changed) {
    const double d = changed ? b - a : 0, size = fabs(d);
    s->count++;
    s->changed += changed;
    s->abs += size;
    s->d2 += d * d;
    s->a2 += a * a;
    s->b2 += b * b;
    s->ab += a * b;
    if (size > s->max_abs || isnan(size))   // NaN stays: it is never hidden by a number
        s->max_abs = size;
}

static void sum_merge(struct diff_sum *s, const struct diff_sum *t) {
    s->count += t->count;
    s->changed += t->changed;
    s->abs += t->abs;
    s->d2 += t->d2;
    s->a2 += t->a2;
    s->b2 += t->b2;
    s->ab += t->ab;
    if (t->max_abs > s->max_abs || isnan(t->max_abs))
        s->max_abs = t->max_abs;
}

static bool same_value(double a, double b) {
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

/* Rows and columns as tensor.h has them: the entries of a vector are rows. */
static void sizes(const struct st_entry *en, size_t *rows, size_t *cols) {
    *rows = en->ndim ? (size_t)en->shape[0] : 1;
    *cols = *rows ? en->count / *rows : 0;
}

static void compare_numbers(struct diff_tensor *t) {
    const enum dtype da = t->a->en->dtype, db = t->b->en->dtype;
    const size_t width = (size_t)dtype_table[da].bits / 8;
    const char *pa = st_data(t->a->st, t->a->en), *pb = st_data(t->b->st, t->b->en);
    size_t rows, cols;
    double a[CHUNK], b[CHUNK];
    sizes(t->a->en, &rows, &cols);
    if (cols == 1 && !t->rows) {            // a vector whose entries nobody asks for: one long row
        cols = rows;
        rows = 1;
    }
    for (size_t r = 0; r < rows; r++) {
        struct diff_sum line = {0};
        for (size_t c0 = 0; c0 < cols; c0 += CHUNK) {
            const size_t n = MIN((size_t)CHUNK, cols - c0), at = r * cols + c0;
            weight_values(t->a, at, a, n);
            weight_values(t->b, at, b, n);
            for (size_t i = 0; i < n; i++) {
                const bool changed = da == db
                    ? memcmp(pa + (at + i) * width, pb + (at + i) * width, width) != 0
                    : !same_value(a[i], b[i]);
                sum_add(&line, a[i], b[i], changed);
                if (t->cols)
                    sum_add(&t->cols[c0 + i], a[i], b[i], changed);
            }
        }
        if (t->rows)
            t->rows[r] = line;
        sum_merge(&t->all, &line);
    }
}

/* Dtypes that hold no real numbers: bytes are all there is. */
static void compare_bytes(struct diff_tensor *t) {
    const struct st_entry *a = t->a->en, *b = t->b->en;
    const char *pa = st_data(t->a->st, a), *pb = st_data(t->b->st, b);
    const size_t width = MAX((size_t)dtype_table[a->dtype].bits / 8, (size_t)1);
    t->all.count = a->count;
    if (a->dtype != b->dtype) {
        t->all.changed = a->count;
        return;
    }
    for (size_t at = 0; at < a->bytes; at += width)
        t->all.changed += memcmp(pa + at, pb + at, width) != 0;
}

static bool same_shape(const struct diff_tensor *t) {
    const struct st_entry *a = t->a->en, *b = t->b->en;
    return a->ndim == b->ndim && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

static bool are_numbers(const struct diff_tensor *t) {
    return dtype_table[t->a->en->dtype].can_compute && dtype_table[t->b->en->dtype].can_compute;
}

static void compare(struct diff_tensor *t) {
    if (!t->a || !t->b) {
        t->state = t->a ? DIFF_ONLY_A : DIFF_ONLY_B;
        return;
    }
    if (!same_shape(t)) {
        t->state = DIFF_SHAPE;
        return;
    }
    const struct st_entry *a = t->a->en, *b = t->b->en;
    t->numbers = are_numbers(t);
    if (t->numbers)
        compare_numbers(t);
    else
        compare_bytes(t);
    t->state = t->all.changed ? DIFF_CHANGED : a->dtype == b->dtype ? DIFF_SAME : DIFF_SAME_VALUES;
}

/* ---- names ---- */

/* GPT-2's names stand with or without a prefix, as in the first files published. */
static const char *bare(const char *name) {
    static const char prefix[] = "transformer.";
    const size_t n = sizeof prefix - 1;
    return strncmp(name, prefix, n) == 0 ? name + n : name;
}

static struct diff_tensor *find(const struct diff *d, const char *name) {
    int lo = 0, hi = d->ntensors;
    while (lo < hi) {
        const int mid = lo + (hi - lo) / 2, c = strcmp(bare(name), bare(d->tensors[mid].name));
        if (c == 0)
            return &d->tensors[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static int cmp_bare(const void *a, const void *b) {
    const char *x = (*(const struct weight *const *)a)->en->name;
    const char *y = (*(const struct weight *const *)b)->en->name;
    const int c = strcmp(bare(x), bare(y));
    return c ? c : strcmp(x, y);
}

static const struct weight **sorted(const struct weights *w) {
    const int n = weights_count(w);
    const struct weight **v = xcalloc((size_t)n + 1, sizeof *v);
    for (int i = 0; i < n; i++)
        v[i] = weights_at(w, i);
    qsort(v, (size_t)n, sizeof *v, cmp_bare);
    return v;
}

static const char *slot_name(const struct arch *arch, enum slot slot) {
    const struct arch_param *p = arch->params;
    while (p->name && p->slot != slot)
        p++;
    return p->name;
}

/* What stands for a tensor that the other side lacks: for a head, the embedding of a tied model. */
static const struct weight *partner(const struct weights *w, const char *name) {
    const struct weight *found = NULL;
    for (int i = 0; arch_table[i] && !found; i++) {
        const char *head = slot_name(arch_table[i], SLOT_HEAD);
        const char *embedding = slot_name(arch_table[i], SLOT_EMBED);
        if (head && strcmp(head, name) == 0)
            found = weights_find(w, embedding);
    }
    return found;
}

static void list_tensors(struct diff *d) {
    const int na = weights_count(d->a), nb = weights_count(d->b);
    const struct weight **va = sorted(d->a), **vb = sorted(d->b);
    d->tensors = xcalloc((size_t)na + (size_t)nb, sizeof *d->tensors);
    for (int i = 0, k = 0; i < na || k < nb;) {
        const struct weight *a = i < na ? va[i] : NULL, *b = k < nb ? vb[k] : NULL;
        const int c = !a ? 1 : !b ? -1 : strcmp(bare(a->en->name), bare(b->en->name));
        struct diff_tensor *t = &d->tensors[d->ntensors++];
        t->name = c <= 0 ? a->en->name : b->en->name;
        t->a = c <= 0 ? a : partner(d->a, t->name);
        t->b = c >= 0 ? b : partner(d->b, t->name);
        i += c <= 0;
        k += c >= 0;
    }
    free(va);
    free(vb);
}

/* ---- units ---- */

/* Caller frees. */
static char *part_name(const char *prefix, int layer, const struct unit_part *part) {
    const char *digits = strstr(prefix, "%d");
    return xasprintf("%.*s%d%s%s", (int)(digits - prefix), prefix, layer, digits + 2,
                     part->suffix);
}

static struct diff_tensor *find_part(const struct diff *d, int layer,
                                     const struct unit_part *part) {
    char *name = part_name(d->family->layer_prefix, layer, part);
    struct diff_tensor *t = find(d, name);
    free(name);
    return t;
}

/* The first architecture whose prefix stands before parts of layer 0; the first of all when none
 * does. */
static void find_family(struct diff *d) {
    for (int i = 0; arch_table[i]; i++) {
        d->family = arch_table[i];
        for (const struct unit_part *p = unit_part_table; p->suffix; p++)
            if (d->map.kinds >> p->kind & 1 && find_part(d, 0, p))
                return;
    }
    d->family = arch_table[0];
}

/* Is the part the output matrix of its kind, by the family's name? */
static bool is_output(const struct diff *d, const struct unit_part *p) {
    const char *name = slot_name(d->family, p->kind == UNIT_MLP ? SLOT_DOWN : SLOT_O);
    return p->out && strcmp(p->suffix, name) == 0;
}

static int bad_part(const struct diff *d, const char *path, int layer,
                    const struct unit_part *p, size_t got, struct err *e) {
    char *name = part_name(d->family->layer_prefix, layer, p);
    err_set(e, "%s: %s: the units need a matrix of %lld %s on both sides, got %zu", path, name,
            (long long)unit_part_extent(&d->map, p), p->axis == FREEZE_ROWS ? "rows" : "columns",
            got);
    free(name);
    return -1;
}

/* Gives the tensor of a part its lines: 1; 0: no such tensor, or a norm of one head's width, which
 * is no unit's (unit.h); -1 and *e: it does not fit. */
static int prepare_part(struct diff *d, const char *path, int layer, const struct unit_part *p,
                        struct err *e) {
    struct diff_tensor *t = find_part(d, layer, p);
    const int64_t want = unit_part_extent(&d->map, p);
    size_t rows = 0, cols = 0;
    if (!t)
        return 0;
    const struct st_entry *en = (t->a ? t->a : t->b)->en;
    if (en->ndim == 1 && en->shape[0] == d->map.head_dim && want != d->map.head_dim)
        return 0;
    if (t->a && t->b && same_shape(t) && are_numbers(t))
        sizes(en, &rows, &cols);
    const size_t have = p->axis == FREEZE_ROWS ? rows : cols;
    if (have != (size_t)want)
        return bad_part(d, path, layer, p, have, e);
    struct diff_sum **lines = p->axis == FREEZE_ROWS ? &t->rows : &t->cols;
    if (!*lines)
        *lines = xcalloc(have, sizeof **lines);
    return 1;
}

/* Gives the tensors of units their lines; -1 and *e when one does not fit the map. */
static int prepare_units(struct diff *d, const char *path, struct err *e) {
    find_family(d);
    for (int l = 0; l < d->map.layers; l++) {
        int outputs = 0;                    // bit set of kinds
        for (const struct unit_part *p = unit_part_table; p->suffix; p++) {
            if (!(d->map.kinds >> p->kind & 1))
                continue;
            const int there = prepare_part(d, path, l, p, e);
            if (there < 0)
                return -1;
            outputs |= (there && is_output(d, p)) << p->kind;
        }
        for (const struct unit_part *p = unit_part_table; p->suffix; p++)
            if (d->map.kinds >> p->kind & 1 && !(outputs >> p->kind & 1) && is_output(d, p))
                return bad_part(d, path, l, p, 0, e);
    }
    return 0;
}

static void sum_units(struct diff *d) {
    d->units = xcalloc((size_t)d->map.count, sizeof *d->units);
    for (int l = 0; l < d->map.layers; l++)
        for (const struct unit_part *p = unit_part_table; p->suffix; p++) {
            if (!(d->map.kinds >> p->kind & 1))
                continue;
            const struct diff_tensor *t = find_part(d, l, p);
            const struct diff_sum *lines = !t ? NULL : p->axis == FREEZE_ROWS ? t->rows : t->cols;
            for (int i = 0; lines && i < d->map.per_kind[p->kind]; i++) {
                const struct unit u = {p->kind, l, i};
                struct diff_sum *sum = &d->units[unit_id(&d->map, u)];
                int first, n;
                unit_columns(&d->map, u, &first, &n);
                for (int c = first; c < first + n; c++)
                    sum_merge(sum, &lines[unit_part_index(&d->map, p, c)]);
            }
        }
}

/* ---- the whole ---- */

struct diff *diff_open(const char *a, const char *b, const struct unit_map *map, struct err *e) {
    struct diff *d = xcalloc(1, sizeof *d);
    d->a = weights_open(a, e);
    d->b = d->a ? weights_open(b, e) : NULL;
    if (!d->b)
        goto fail;
    list_tensors(d);
    if (map) {
        d->map = *map;
        d->has_units = true;
        if (prepare_units(d, a, e) != 0)
            goto fail;
    }
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < d->ntensors; i++)
        compare(&d->tensors[i]);
    for (int i = 0; i < d->ntensors; i++)
        d->states[d->tensors[i].state]++;
    if (map)
        sum_units(d);
    return d;
fail:
    diff_free(d);
    return NULL;
}

void diff_free(struct diff *d) {
    if (!d)
        return;
    for (int i = 0; i < d->ntensors; i++) {
        free(d->tensors[i].rows);
        free(d->tensors[i].cols);
    }
    free(d->tensors);
    free(d->units);
    weights_close(d->a);
    weights_close(d->b);
    free(d);
}

bool diff_is_same(const struct diff *d) {
    return d->states[DIFF_SAME] + d->states[DIFF_SAME_VALUES] == d->ntensors;
}

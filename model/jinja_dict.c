/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_dict.c — Python's dict: insertion order, keys equal as Python's are (1 == 1.0 == True).
 *
 * Entries lie in an array in order; above a few of them an open-addressing table of indices finds
 * them. Nothing is ever removed, because the sandbox forbids it.
 */
#include "model/jinja_type.h"

#include <math.h>
#include <string.h>

enum { SMALL = 8 };                         /* up to here a walk is faster than a table */

static uint64_t mix(uint64_t h) {           /* splitmix64's finaliser */
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 27) * 0x94D049BB133111EBu;
    return h ^ h >> 31;
}

static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;       // FNV-1a
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 0x100000001B3u;
    return mix(h);
}

static uint64_t hash_float(double f) {
    if (f >= -9223372036854775808.0 && f < 9223372036854775808.0 && floor(f) == f)
        return mix((uint64_t)(int64_t)f);   // equal to an int
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    return mix(bits);
}

static bool hash_at(struct interp *x, const struct value *v, uint64_t *out, int depth) {
    if (is_str(v)) {
        if (!interp_charge(x, v->str.len / 64))
            return false;
        *out = hash_bytes(v->str.s, v->str.len);
    } else if (is_integral(v)) {
        *out = mix((uint64_t)v->i);
    } else if (v->type == &type_float) {
        *out = hash_float(v->f);
    } else if (is_tuple(v)) {
        uint64_t h = v->seq.n, part;
        if (depth == 0)
            return false;
        for (size_t i = 0; i < v->seq.n; i++) {
            if (!interp_charge(x, 1) || !hash_at(x, v->seq.v[i], &part, depth - 1))
                return false;
            h = mix(h * 31 + part);
        }
        *out = h;
    } else if (v->type == &type_range) {
        *out = mix(v->range.n);
    } else if (is_undefined(v) || is_none(v)) {
        *out = mix((uintptr_t)v->type);
    } else if (v->type == &type_list || v->type == &type_dict || v->type == &type_keys ||
               v->type == &type_items) {
        return false;
    } else {
        *out = mix((uintptr_t)v);           // objects are equal to themselves only
    }
    return true;
}

bool value_hash(struct interp *x, const struct value *v, uint64_t *out) {
    return hash_at(x, v, out, 64);
}

struct dict *dict_new(struct interp *x) {
    return pool_alloc(x->pool, sizeof(struct dict));
}

/* Index of the entry with this key; -1: none; -2: failed. x == NULL: keys are strings. */
static int64_t find(struct interp *x, const struct dict *d, struct value *key, uint64_t hash) {
    size_t mask = d->slots - 1;
    for (size_t i = d->slots ? hash & mask : 0;; i = d->slots ? (i + 1) & mask : i + 1) {
        if (d->slots ? !d->slot[i] : i == d->n)
            return -1;
        size_t at = d->slots ? d->slot[i] - 1 : i;
        if (d->entry[at].hash != hash)
            continue;
        int same = value_equal(x, d->entry[at].key, key);
        if (same < 0)
            return -2;
        if (same)
            return (int64_t)at;
    }
}

static bool grow(struct interp *x, struct dict *d) {
    size_t cap = d->cap ? 2 * d->cap : SMALL;
    if (cap > UINT32_MAX / 4 || !interp_room(x, cap * (sizeof *d->entry + 8)))
        return interp_fail(x, "a dict of %zu entries is too large", d->n);
    d->entry = pool_grow(x->pool, d->entry, d->n * sizeof *d->entry, cap * sizeof *d->entry);
    d->cap = cap;
    if (cap <= SMALL)
        return true;
    d->slots = 2 * cap;
    d->slot = pool_alloc(x->pool, d->slots * sizeof *d->slot);
    for (size_t k = 0; k < d->n; k++) {
        size_t i = d->entry[k].hash & (d->slots - 1);
        while (d->slot[i])
            i = (i + 1) & (d->slots - 1);
        d->slot[i] = (uint32_t)k + 1;
    }
    return true;
}

bool dict_set(struct interp *x, struct dict *d, struct value *key, struct value *value) {
    uint64_t hash;
    if (!value_hash(x, key, &hash))
        return interp_fail(x, "unhashable type: '%s'", key->type->name);
    int64_t at = find(x, d, key, hash);
    if (at == -2)
        return false;
    if (at >= 0) {
        d->entry[at].value = value;
        return true;
    }
    if (d->n == d->cap && !grow(x, d))
        return false;
    if (d->slots) {
        size_t i = hash & (d->slots - 1);
        while (d->slot[i])
            i = (i + 1) & (d->slots - 1);
        d->slot[i] = (uint32_t)d->n + 1;
    }
    d->entry[d->n++] = (struct dict_entry){.key = key, .value = value, .hash = hash};
    return true;
}

int dict_find(struct interp *x, const struct dict *d, struct value *key, struct value **out) {
    uint64_t hash;
    if (!value_hash(x, key, &hash)) {
        interp_fail(x, "unhashable type: '%s'", key->type->name);
        return -1;
    }
    int64_t at = find(x, d, key, hash);
    if (at < 0)
        return at == -2 ? -1 : 0;
    *out = d->entry[at].value;
    return 1;
}

struct value *dict_get(const struct dict *d, const char *name, size_t len) {
    struct value key = {.type = &type_str, .str = {.s = name, .len = len}};
    int64_t at = find(NULL, d, &key, hash_bytes(name, len));
    return at < 0 ? NULL : d->entry[at].value;
}

bool dict_put(struct interp *x, struct dict *d, const char *name, struct value *value) {
    return dict_set(x, d, value_cstr(x->pool, name), value);
}

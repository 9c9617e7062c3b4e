/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * diff.h — two checkpoints compared: tensor by tensor, and unit by unit.
 *
 * Entries of one dtype are compared by their stored bits, entries of different dtypes by value, so
 * a copy in another dtype reads "same values". A tied head is compared with the other side's
 * embedding. Any two shardings compare, and GPT-2 names with and without "transformer.".
 */
#ifndef KEEL_DIFF_H
#define KEEL_DIFF_H

#include "ckpt/weights.h"
#include "model/unit.h"

#define DIFF_STATES(X)                                                                          \
    X(DIFF_SAME, "same", "the same bytes")                                                      \
    X(DIFF_SAME_VALUES, "same values", "another dtype, equal values")                           \
    X(DIFF_CHANGED, "changed", "some entries differ")                                           \
    X(DIFF_SHAPE, "shape", "the shapes differ")                                                 \
    X(DIFF_ONLY_A, "only in A", "missing in B")                                                 \
    X(DIFF_ONLY_B, "only in B", "missing in A")
enum diff_state {
#define X(id, name, help) id,
    DIFF_STATES(X)
#undef X
    DIFF_STATE_COUNT
};
extern const char *const diff_state_names[DIFF_STATE_COUNT];

/* d = b - a over some entries. */
struct diff_sum {
    size_t count, changed;
    double max_abs, abs, d2, a2, b2, ab;    /* max |d|, sum |d|, sum d^2, a^2, b^2, ab */
};
double diff_mean_abs(const struct diff_sum *s);
double diff_rel_l2(const struct diff_sum *s);       /* ||d|| / ||a||; 0 when d = 0 */
double diff_cosine(const struct diff_sum *s);       /* NaN when a or b is 0 */

struct diff_tensor {
    const char *name;
    const struct weight *a, *b;             /* NULL: not on that side */
    enum diff_state state;
    bool numbers;                           /* the sums of `all` hold; else all.changed alone */
    struct diff_sum all;
    struct diff_sum *rows, *cols;           /* tensors of units only; entries of vectors are rows */
};
struct diff {
    struct diff_tensor *tensors;            /* by name, "transformer." left out */
    int ntensors, states[DIFF_STATE_COUNT];
    bool has_units;
    struct unit_map map;
    const struct arch *family;              /* whose names the units' tensors have */
    struct diff_sum *units;                 /* [map.count] over the entries a unit owns */
    struct weights *a, *b;
};
/* Paths as in weights.h. map: the units to compare, by the names of any architecture; NULL: tensors
 * only. NULL and *e, also when the output matrix of a kind is missing in a layer, or a tensor of
 * units has another size or is on one side only. */
struct diff *diff_open(const char *a, const char *b, const struct unit_map *map,
                       struct err *e) MUST_CHECK;
void diff_free(struct diff *d);             /* NULL is allowed */
/* Same names, shapes and values. */
bool diff_is_same(const struct diff *d);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * mask.h — a set of units, its algebra, and its expansion to rows and columns of parameters.
 */
#ifndef KEEL_MASK_H
#define KEEL_MASK_H

#include "model/unit.h"

struct mask {
    struct unit_map map;                    /* copied */
    uint8_t *in;                            /* [map.count] 1: the unit is in the set; owned */
};
struct mask mask_new(const struct unit_map *map);           /* empty */
struct mask mask_copy(const struct mask *m);
void mask_release(struct mask *m);
int mask_count(const struct mask *m);
int mask_count_kind(const struct mask *m, int layer, enum unit_kind kind);   /* layer -1: all */
void mask_or(struct mask *a, const struct mask *b);         /* a |= b */
void mask_and(struct mask *a, const struct mask *b);        /* a &= b */
void mask_minus(struct mask *a, const struct mask *b);      /* a &= ~b */
void mask_not(struct mask *a);
/* FNV-1a 64 over the map's shape and the bits, as 16 hex digits + NUL. */
void mask_hash(const struct mask *m, char out[17]);
/* Random units not limited to m's own, the same number per layer and kind as m. */
struct mask mask_random_like(const struct mask *m, uint64_t seed, const char *purpose);

/* The rows or columns of each parameter that the set covers. Calls fn once for every parameter
 * touched, in their order, with in[] = 1 for covered rows (FREEZE_ROWS; the entries of a vector) or
 * columns (FREEZE_COLS). */
void mask_expand(const struct mask *m, const struct model *model,
                 void (*fn)(void *ctx, struct param *p, enum freeze_kind axis, const uint8_t *in,
                            int n),
                 void *ctx);
/* Sets the freezes of `model`: the set's entries are frozen; entries that belong to no unit
 * (embeddings, norms, head, biases of output matrices, and q/k unless kind head, also within fused
 * tensors) train iff train_other. Call model_grad_alloc afterwards. m NULL: the empty set over MLP
 * and attention channels. */
void mask_freeze(const struct mask *m, struct model *model, bool train_other);
/* dst's entries covered by the set take src's values (rewind). */
void mask_copy_params(const struct mask *m, struct model *dst, const struct model *src);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * units_file.h — units.safetensors: scores and classes of all units of one model.
 *
 * For each kind K in the map (mlp, and attn or head), tensors over [L, units a layer]:
 *   K.class U8 (enum unit_class)    K.i_s, K.i_u F32 (importance for safety and utility)
 *   K.difference, K.sum F32 (normalised, as ranked)
 * Metadata: format version, model_type (may be absent), the model's hash, data hashes, method,
 * shares, seed. It is the interface between attrib and everything that freezes.
 */
#ifndef KEEL_UNITS_FILE_H
#define KEEL_UNITS_FILE_H

#include "model/mask.h"

enum unit_class { UNIT_RU, UNIT_SCU, UNIT_UCU, UNIT_CU, UNIT_CLASS_COUNT };  /* order: SSAH §1.4 */
struct unit_class_info {
    const char *name, *help;                /* "SCU", "Safety Critical Unit: ..." */
};
extern const struct unit_class_info unit_class_table[UNIT_CLASS_COUNT];
int unit_class_find(const char *name);      /* -1: none */

struct units {
    struct unit_map map;
    uint8_t *cls;                           /* [map.count] enum unit_class */
    float *i_s, *i_u, *difference, *sum;    /* [map.count] */
    struct { char key[48]; char value[512]; } meta[24];
    int nmeta;
};
struct units *units_new(const struct unit_map *map);
void units_free(struct units *u);           /* NULL is allowed */
void units_set_meta(struct units *u, const char *key, const char *fmt, ...) PRINTF_LIKE(3, 4);
const char *units_meta(const struct units *u, const char *key);         /* NULL if absent */
int units_save(const struct units *u, const char *path, struct err *e) MUST_CHECK;
struct units *units_load(const char *path, struct err *e) MUST_CHECK;
/* Does the file belong to a model of this shape, and of the architecture that it names? -1 and *e
 * otherwise. */
int units_check(const struct units *u, const struct model_config *cfg, const char *path,
                struct err *e) MUST_CHECK;
/* How many units a share of all is: rounded, halves up, kept within 0 .. map.count. */
int units_count(const struct units *u, double share);
struct mask units_class_mask(const struct units *u, enum unit_class c);
/* out[i] = (x[i] - mean) / sd over the n units of one layer and kind, sd unbiased (FLAP AL); 0
 * where all are equal to rounding, or n < 2. */
void units_zscore(const double *x, int n, double *out);
/* The `share` of all units (0..1) that rank highest among CU by i_s normalised per layer and kind
 * (z-score), ties by unit order: "top CU" of SSAH. */
struct mask units_top_cu(const struct units *u, double share);
#endif

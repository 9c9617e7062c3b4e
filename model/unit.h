/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * unit.h — the attributable units of an architecture (SSAH arXiv 2410.10862 §3, FLAP).
 *
 *   mlp   j in [0,F)     row j of gate_proj and up_proj and entry j of their biases, column j of
 *                        down_proj; its activation is column j of tap mlp.hidden
 *   attn  j in [0,H*D)   column j of o_proj and the row of v_proj that feeds it (under GQA a v row
 *                        is shared by H/K channels; it is frozen if any of them is);
 *                        its activation is column j of tap attn.heads
 *   head  h in [0,H)     all D attn channels of the head, and its rows of q_proj; k_proj and
 *                        v_proj rows of its kv head, shared likewise
 *
 * Biases, and norms over all queries or keys (OLMo 2), go with their rows. In fused tensors
 * (qkv_proj, gate_up_proj) a part begins behind the ones before it; GPT-2 stores matrices
 * transposed, so rows and columns change places.
 *
 * Units of a map are numbered layer by layer, within a layer kind by kind, within a kind by index:
 * the tie-break order (layer, kind, index) everywhere.
 */
#ifndef KEEL_UNIT_H
#define KEEL_UNIT_H

#include "model/model.h"

enum unit_kind { UNIT_MLP, UNIT_ATTN, UNIT_HEAD, UNIT_KIND_COUNT };
struct unit_kind_info {
    const char *name;                       /* "mlp" */
    const char *help;
    enum tap_point tap;                     /* where its activation is seen */
};
extern const struct unit_kind_info unit_kind_table[UNIT_KIND_COUNT];
int unit_kind_find(const char *name);       /* -1: none */

struct unit {
    enum unit_kind kind;
    int layer, index;
};
struct unit_map {
    int layers;
    int kinds;                              /* bit set: 1 << UNIT_MLP | ... */
    int per_kind[UNIT_KIND_COUNT];          /* units a layer; 0 for kinds that are not in the map */
    int per_layer, count;                   /* totals */
    int head_dim, heads, kv_heads, intermediate;
};
/* kinds: UNIT_ATTN and UNIT_HEAD exclude each other (BUG). */
struct unit_map unit_map_make(const struct model_config *cfg, int kinds);
bool unit_map_equal(const struct unit_map *a, const struct unit_map *b);
struct unit unit_at(const struct unit_map *map, int id);
int unit_id(const struct unit_map *map, struct unit u);
/* The first id of (layer, kind); its units are consecutive. */
int unit_base(const struct unit_map *map, int layer, enum unit_kind kind);
/* Columns of the tap's activation that belong to the unit: [*first, *first + *n). */
void unit_columns(const struct unit_map *map, struct unit u, int *first, int *n);
/* Which entries of which tensors a unit owns; ends with suffix == NULL. One table for every
 * architecture: a part counts where the layer has a tensor of that name. */
struct unit_part {
    enum unit_kind kind;
    const char *suffix;                     /* "mlp.gate_proj.weight", behind the layer's prefix */
    enum freeze_kind axis;                  /* FREEZE_ROWS or FREEZE_COLS; vectors have rows */
    bool shared;                            /* one row for the channels of H/K heads */
    char first, extent;                     /* of fused tensors: where the part begins, and how many
                                               rows or columns the tensor has, in letters of
                                               arch.h; first '0': at the start */
    bool out;                               /* the matrix that reads the unit's activation */
};
extern const struct unit_part unit_part_table[];
/* The row or column of the part that belongs to a column of the tap's activation. */
int unit_part_index(const struct unit_map *map, const struct unit_part *part, int channel);
/* Rows or columns of a tensor that the part fits. A q_norm of one head's width, which all heads
 * share, belongs to no unit: its extent differs. */
int64_t unit_part_extent(const struct unit_map *map, const struct unit_part *part);
/* The next part, after `prev` (NULL: the first), that a parameter of m holds for a kind of the map;
 * NULL: none. Parts of one parameter have one axis. */
const struct unit_part *unit_part_next(const struct unit_map *map, const struct model *m,
                                       const struct param *p, const struct unit_part *prev);
/* The output matrix whose columns (conv1d: rows) read the unit: down_proj or o_proj; *axis (may be
 * NULL) says which. */
struct param *unit_out_param(const struct model *m, int layer, enum unit_kind kind,
                             enum freeze_kind *axis);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * unit.c — numbering of units, and the one table that says which rows and columns a unit owns.
 *
 * A unit is a set of channels of a tap: one MLP neuron, one column of the concatenated heads, or
 * the D columns of a head. Each row of unit_part_table carries channels over to one matrix: the
 * channel is its row or column, except where key/value heads are shared (GQA): channel h D + d
 * reads row (h / (H/K)) D + d of k and v. Freezing, rewinding and diffs of checkpoints all follow
 * from this table, also where only files are at hand and no model; another family of names adds
 * rows. Norms of the residual stream, embeddings and biases of output matrices are no unit's.
 */
#include "model/unit.h"

#include <string.h>

const struct unit_kind_info unit_kind_table[UNIT_KIND_COUNT] = {
    [UNIT_MLP] = {"mlp", "an MLP neuron: gate row, up row, down column", TAP_MLP_HIDDEN},
    [UNIT_ATTN] = {"attn", "an attention channel: v row, o column", TAP_ATTN_HEADS},
    [UNIT_HEAD] = {"head", "an attention head: its q, k, v rows and o columns", TAP_ATTN_HEADS},
};

#define ROWS FREEZE_ROWS
#define COLS FREEZE_COLS
const struct unit_part unit_part_table[] = {
    {UNIT_MLP, "mlp.gate_proj.weight", ROWS, false, '0', 'F', false},
    {UNIT_MLP, "mlp.gate_proj.bias", ROWS, false, '0', 'F', false},
    {UNIT_MLP, "mlp.up_proj.weight", ROWS, false, '0', 'F', false},
    {UNIT_MLP, "mlp.up_proj.bias", ROWS, false, '0', 'F', false},
    {UNIT_MLP, "mlp.gate_up_proj.weight", ROWS, false, '0', 'G', false},
    {UNIT_MLP, "mlp.gate_up_proj.weight", ROWS, false, 'F', 'G', false},
    {UNIT_MLP, "mlp.down_proj.weight", COLS, false, '0', 'F', true},
    {UNIT_MLP, "mlp.c_fc.weight", COLS, false, '0', 'F', false},
    {UNIT_MLP, "mlp.c_fc.bias", ROWS, false, '0', 'F', false},
    {UNIT_MLP, "mlp.c_proj.weight", ROWS, false, '0', 'F', true},

    {UNIT_ATTN, "self_attn.v_proj.weight", ROWS, true, '0', 'K', false},
    {UNIT_ATTN, "self_attn.v_proj.bias", ROWS, true, '0', 'K', false},
    {UNIT_ATTN, "self_attn.qkv_proj.weight", ROWS, true, 'S', 'X', false},
    {UNIT_ATTN, "self_attn.o_proj.weight", COLS, false, '0', 'Q', true},
    {UNIT_ATTN, "attn.c_attn.weight", COLS, true, 'S', 'X', false},
    {UNIT_ATTN, "attn.c_attn.bias", ROWS, true, 'S', 'X', false},
    {UNIT_ATTN, "attn.c_proj.weight", ROWS, false, '0', 'Q', true},

    {UNIT_HEAD, "self_attn.q_proj.weight", ROWS, false, '0', 'Q', false},
    {UNIT_HEAD, "self_attn.q_proj.bias", ROWS, false, '0', 'Q', false},
    {UNIT_HEAD, "self_attn.k_proj.weight", ROWS, true, '0', 'K', false},
    {UNIT_HEAD, "self_attn.k_proj.bias", ROWS, true, '0', 'K', false},
    {UNIT_HEAD, "self_attn.v_proj.weight", ROWS, true, '0', 'K', false},
    {UNIT_HEAD, "self_attn.v_proj.bias", ROWS, true, '0', 'K', false},
    {UNIT_HEAD, "self_attn.q_norm.weight", ROWS, false, '0', 'Q', false},
    {UNIT_HEAD, "self_attn.k_norm.weight", ROWS, true, '0', 'K', false},
    {UNIT_HEAD, "self_attn.qkv_proj.weight", ROWS, false, '0', 'X', false},
    {UNIT_HEAD, "self_attn.qkv_proj.weight", ROWS, true, 'Q', 'X', false},
    {UNIT_HEAD, "self_attn.qkv_proj.weight", ROWS, true, 'S', 'X', false},
    {UNIT_HEAD, "self_attn.o_proj.weight", COLS, false, '0', 'Q', true},
    {UNIT_HEAD, "attn.c_attn.weight", COLS, false, '0', 'X', false},
    {UNIT_HEAD, "attn.c_attn.weight", COLS, true, 'Q', 'X', false},
    {UNIT_HEAD, "attn.c_attn.weight", COLS, true, 'S', 'X', false},
    {UNIT_HEAD, "attn.c_attn.bias", ROWS, false, '0', 'X', false},
    {UNIT_HEAD, "attn.c_attn.bias", ROWS, true, 'Q', 'X', false},
    {UNIT_HEAD, "attn.c_attn.bias", ROWS, true, 'S', 'X', false},
    {UNIT_HEAD, "attn.c_proj.weight", ROWS, false, '0', 'Q', true},
    {.suffix = NULL},
};
#undef ROWS
#undef COLS

/* Letters of arch.h over the map's sizes, and S = Q + K: behind queries and keys. */
static int64_t side(const struct unit_map *map, char code) {
    const int64_t q = (int64_t)map->heads * map->head_dim;
    const int64_t k = (int64_t)map->kv_heads * map->head_dim;
    switch (code) {
    case '0': return 0;
    case 'F': return map->intermediate;
    case 'G': return 2 * (int64_t)map->intermediate;
    case 'Q': return q;
    case 'K': return k;
    case 'S': return q + k;
    case 'X': return q + 2 * k;
    default: BUG("unit part: no dimension '%c'", code);
    }
}

int unit_kind_find(const char *name) {
    for (int k = 0; k < UNIT_KIND_COUNT; k++)
        if (strcmp(unit_kind_table[k].name, name) == 0)
            return k;
    return -1;
}

struct unit_map unit_map_make(const struct model_config *cfg, int kinds) {
    if (kinds & 1 << UNIT_ATTN && kinds & 1 << UNIT_HEAD)
        BUG("unit_map_make: attn and head describe the same weights");
    if (kinds <= 0 || kinds >= 1 << UNIT_KIND_COUNT)
        BUG("unit_map_make: kinds %#x", (unsigned)kinds);
    const int sizes[UNIT_KIND_COUNT] = {
        [UNIT_MLP] = cfg->intermediate_size,
        [UNIT_ATTN] = cfg->num_attention_heads * cfg->head_dim,
        [UNIT_HEAD] = cfg->num_attention_heads,
    };
    struct unit_map map = {
        .layers = cfg->num_hidden_layers, .kinds = kinds, .head_dim = cfg->head_dim,
        .heads = cfg->num_attention_heads, .kv_heads = cfg->num_key_value_heads,
        .intermediate = cfg->intermediate_size,
    };
    for (int k = 0; k < UNIT_KIND_COUNT; k++) {
        map.per_kind[k] = kinds >> k & 1 ? sizes[k] : 0;
        map.per_layer += map.per_kind[k];
    }
    if (__builtin_mul_overflow(map.per_layer, map.layers, &map.count))
        BUG("unit_map_make: %d layers of %d units", map.layers, map.per_layer);
    return map;
}

bool unit_map_equal(const struct unit_map *a, const struct unit_map *b) {
    return a->layers == b->layers && a->kinds == b->kinds && a->head_dim == b->head_dim
        && a->heads == b->heads && a->kv_heads == b->kv_heads && a->intermediate == b->intermediate
        && memcmp(a->per_kind, b->per_kind, sizeof a->per_kind) == 0;
}

int unit_base(const struct unit_map *map, int layer, enum unit_kind kind) {
    int base = layer * map->per_layer;
    for (int k = 0; k < (int)kind; k++)
        base += map->per_kind[k];
    return base;
}

struct unit unit_at(const struct unit_map *map, int id) {
    if (id < 0 || id >= map->count)
        BUG("unit_at: %d of %d", id, map->count);
    struct unit u = {.layer = id / map->per_layer, .index = id % map->per_layer};
    int k = 0;
    for (; u.index >= map->per_kind[k]; k++)
        u.index -= map->per_kind[k];
    u.kind = (enum unit_kind)k;
    return u;
}

int unit_id(const struct unit_map *map, struct unit u) {
    if (u.layer < 0 || u.layer >= map->layers || u.index < 0 || u.index >= map->per_kind[u.kind])
        BUG("unit_id: no unit %s %d in layer %d", unit_kind_table[u.kind].name, u.index, u.layer);
    return unit_base(map, u.layer, u.kind) + u.index;
}

void unit_columns(const struct unit_map *map, struct unit u, int *first, int *n) {
    *n = u.kind == UNIT_HEAD ? map->head_dim : 1;
    *first = u.index * *n;
}

int unit_part_index(const struct unit_map *map, const struct unit_part *part, int channel) {
    const int first = (int)side(map, part->first);
    if (!part->shared)
        return first + channel;
    int head = channel / map->head_dim, group = map->heads / map->kv_heads;
    return first + head / group * map->head_dim + channel % map->head_dim;
}

int64_t unit_part_extent(const struct unit_map *map, const struct unit_part *part) {
    return side(map, part->extent);
}

/* A parameter's name behind the layer's prefix, as the architecture spells it. */
static const char *suffix_of(const struct model *m, const struct param *p) {
    const struct arch_param *row = m->arch->params;
    while (row->slot != p->slot)
        row++;
    return row->name;
}

const struct unit_part *unit_part_next(const struct unit_map *map, const struct model *m,
                                       const struct param *p, const struct unit_part *prev) {
    if (p->layer < 0)
        return NULL;
    const char *suffix = suffix_of(m, p);
    for (const struct unit_part *part = prev ? prev + 1 : unit_part_table; part->suffix; part++)
        if (map->kinds >> part->kind & 1 && strcmp(part->suffix, suffix) == 0
            && unit_part_extent(map, part) == (part->axis == FREEZE_ROWS ? tensor_rows(&p->t)
                                                                         : tensor_cols(&p->t)))
            return part;
    return NULL;
}

struct param *unit_out_param(const struct model *m, int layer, enum unit_kind kind,
                             enum freeze_kind *axis) {
    if (axis)
        *axis = m->arch->conv1d ? FREEZE_ROWS : FREEZE_COLS;
    return model_slot(m, layer, kind == UNIT_MLP ? SLOT_DOWN : SLOT_O);
}

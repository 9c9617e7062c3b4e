/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * unit.c — numbering of units, and the one table that says which rows and columns a unit owns.
 *
 * A unit is a set of channels of a tap: one MLP neuron, one column of the concatenated heads, or
 * the D columns of a head. Each row of unit_part_table carries channels over to one matrix: the
 * channel is its row or column, except where key/value heads are shared (GQA): channel h D + d
 * reads row (h / (H/K)) D + d of k and v. Freezing, rewinding and diffs of checkpoints all follow
 * from this table; another architecture adds rows.
 */
#include "model/unit.h"

#include <string.h>

const struct unit_kind_info unit_kind_table[UNIT_KIND_COUNT] = {
    [UNIT_MLP] = {"mlp", "an MLP neuron: gate row, up row, down column", TAP_MLP_HIDDEN},
    [UNIT_ATTN] = {"attn", "an attention channel: v row, o column", TAP_ATTN_HEADS},
    [UNIT_HEAD] = {"head", "an attention head: its q, k, v rows and o columns", TAP_ATTN_HEADS},
};

const struct unit_part unit_part_table[] = {
    {UNIT_MLP, "mlp.gate_proj.weight", FREEZE_ROWS, false},
    {UNIT_MLP, "mlp.up_proj.weight", FREEZE_ROWS, false},
    {UNIT_MLP, "mlp.down_proj.weight", FREEZE_COLS, false},
    {UNIT_ATTN, "self_attn.v_proj.weight", FREEZE_ROWS, true},
    {UNIT_ATTN, "self_attn.o_proj.weight", FREEZE_COLS, false},
    {UNIT_HEAD, "self_attn.q_proj.weight", FREEZE_ROWS, false},
    {UNIT_HEAD, "self_attn.k_proj.weight", FREEZE_ROWS, true},
    {UNIT_HEAD, "self_attn.v_proj.weight", FREEZE_ROWS, true},
    {UNIT_HEAD, "self_attn.o_proj.weight", FREEZE_COLS, false},
    {.suffix = NULL},
};

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
    if (!part->shared)
        return channel;
    int head = channel / map->head_dim, group = map->heads / map->kv_heads;
    return head / group * map->head_dim + channel % map->head_dim;
}

struct param *unit_out_param(const struct model *m, int layer, enum unit_kind kind) {
    for (const struct unit_part *p = unit_part_table; p->suffix; p++)
        if (p->kind == kind && p->axis == FREEZE_COLS)
            return model_layer_param(m, layer, p->suffix);
    BUG("unit_out_param: kind %d has no output matrix", (int)kind);
}

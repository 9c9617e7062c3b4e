/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_units.h — a random micro model of every architecture, and what a unit of it owns.
 */
#ifndef KEEL_TEST_HELPER_UNITS_H
#define KEEL_TEST_HELPER_UNITS_H

#include "model/mask.h"
#include "tests/helper.h"

/* test_config with what the class knows beyond it: its activation, biases, windows of 3 keys, soft
 * caps, partial rotation, a tied head. K is H where matrices are stored [in, out] (GPT-2). */
struct model_config test_units_config(const struct arch *arch);
/* All parameters random, biases and norms too: no entry is without effect. */
struct model *test_units_model(const struct arch *arch, uint64_t seed);
/* Does the unit own entry (row, col) of p? Derived from slots and layout alone. */
bool test_unit_owns(const struct model *m, struct unit u, const struct param *p, int row, int col);
/* Is the entry frozen by p's freeze? */
bool test_is_frozen(const struct param *p, int row, int col);
/* Each unit with the probability `share`. */
struct mask test_random_mask(const struct unit_map *map, uint64_t seed, double share);
/* Writes path/model.safetensors alone, bare: without "transformer." before names. Returns path. */
const char *test_save_weights(const struct model *m, const char *path, bool bare);

/* Kinds that exist together. */
#define TEST_KIND_SETS 5
extern const int test_kind_sets[TEST_KIND_SETS];
#endif

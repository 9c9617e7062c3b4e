/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_data.h — datasets made in memory, for tests that need tokens and no files.
 */
#ifndef KEEL_TEST_HELPER_DATA_H
#define KEEL_TEST_HELPER_DATA_H

#include "train/data.h"

/* n rows of 4 .. 12 random ids below vocab; the second half of each row carries loss. A function
 * of the arguments. Release with dataset_free. */
struct dataset *test_dataset(int n, int vocab, uint64_t seed);
/* The rows order[0..n) of d; shares no memory with it. */
struct dataset *test_dataset_pick(const struct dataset *d, const int *order, int n);
#endif

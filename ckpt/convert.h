/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * convert.h — a Hugging Face model folder into another, in another dtype or other files.
 */
#ifndef KEEL_CONVERT_H
#define KEEL_CONVERT_H

#include "ckpt/shards.h"

struct convert_opts {
    enum dtype dtype;                       /* of all real tensors; DTYPE_COUNT: as stored */
    size_t max_shard_size;                  /* bytes of tensors in a file */
};
struct convert_result {
    int tensors;
    size_t bytes;                           /* of tensors */
};
/* Writes the folder `to`, which is made, or replaced when it is there. Tensors that hold no real
 * numbers keep their bytes, and all do where the dtype is theirs; config.json says the new dtype;
 * other files are copied but for weights in other formats and the freeze certificate, which speaks
 * of the old bytes. One chunk of one tensor is held at a time. -1 and *e: the folder
 * cannot be read, or a finite value does not fit the dtype; -2: the new one cannot be written. */
int convert_folder(const char *from, const char *to, const struct convert_opts *o,
                   struct convert_result *r, struct err *e) MUST_CHECK;
#endif

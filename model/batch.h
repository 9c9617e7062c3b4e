/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * batch.h — packed sequences: one token axis, no padding. Attention never crosses a sequence.
 *
 * Plain data; borrowed by the graph until the step ends. Token t of sequence s has position
 * pos0[s] + (t - offsets[s]) (pos0 NULL: 0), so a KV cache continues where it stopped.
 */
#ifndef KEEL_BATCH_H
#define KEEL_BATCH_H

#include "model/base.h"

#define LABEL_IGNORE (-1)

struct batch {
    int ntok;                       /* T */
    int nseq;                       /* S */
    const int32_t *ids;             /* [T] */
    const int32_t *labels;          /* [T] the token that follows, or LABEL_IGNORE; NULL: none */
    const int32_t *offsets;         /* [S+1], offsets[0] = 0, offsets[S] = T */
    const int32_t *pos0;            /* [S] or NULL */
};
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * decoder.h — the forward pass of every architecture in arch.h.
 */
#ifndef KEEL_DECODER_H
#define KEEL_DECODER_H

#include "model/model.h"

/* [T,C] after the final norm; calls graph_tap at the points of graph.h. */
struct node *decoder_hidden(struct graph *g, struct model *m, const struct batch *b,
                            struct kv_cache *cache);
#endif

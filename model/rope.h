/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * rope.h — rotary position embedding: the frequencies of each scaling type of config.json.
 *
 * inv_freq[i] = theta^(-2i/R), i < R/2, for the R rotary columns of a head; a scaling type changes
 * the frequencies, multiplies cosines and sines by an attention factor, or both. Two types depend
 * on the length of the sequence (dynamic, longrope). Equations: transformers' modeling_rope_utils;
 * YaRN arXiv 2309.00071; LongRoPE arXiv 2402.13753.
 */
#ifndef KEEL_ROPE_H
#define KEEL_ROPE_H

#include "model/base.h"

#define ROPE_MAX_FACTORS 256                /* R/2 of the widest head with factor lists */

struct rope_config {
    const struct rope_type *type;           /* row of rope_type_table; NULL: no rotary embedding */
    double theta;
    double partial_rotary_factor;           /* R = int(D * this) */
    double factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow;
    double attention_factor;                /* 0: the type's own */
    int original_max_position_embeddings;   /* 0: max_position_embeddings */
    double short_factor[ROPE_MAX_FACTORS], long_factor[ROPE_MAX_FACTORS];
    int nshort, nlong;                      /* entries; R/2 where the type needs them */
};

/* Keys of rope_scaling / rope_parameters. */
enum {
    ROPE_FACTOR = 1, ROPE_LOW_HIGH = 2, ROPE_ORIGINAL = 4, ROPE_BETA = 8, ROPE_LISTS = 16,
    ROPE_ATTENTION = 32,
};
struct rope_type {
    const char *name;                       /* "llama3" */
    const char *other;                      /* an older name ("su"); NULL: none */
    unsigned needs, takes;                  /* bit sets: must be there; may be there */
    bool by_length;                         /* frequencies depend on the sequence's length */
    /* inv_freq[half] from base frequencies; returns the attention factor. */
    double (*frequencies)(const struct rope_config *c, int rotary_dim, int max_positions, int len,
                          double *inv_freq);
};
extern const struct rope_type rope_type_table[];    /* ends with name == NULL; first: "default" */
const struct rope_type *rope_type_find(const char *name);   /* either name; NULL: none */

/* R: even, at most head_dim. */
int rope_dim(const struct rope_config *c, int head_dim);
/* Frequencies inv_freq[R/2] for a sequence of len tokens; returns the factor on cos and sin. */
double rope_frequencies(const struct rope_config *c, int rotary_dim, int max_positions, int len,
                        float *inv_freq);
#endif

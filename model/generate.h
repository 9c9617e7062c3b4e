/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * generate.h — continue token sequences with a KV cache: greedy or sampled, batched.
 */
#ifndef KEEL_GENERATE_H
#define KEEL_GENERATE_H

#include "model/model.h"
#include "model/tokenizer.h"

struct generate_opts {
    int max_new_tokens;                     /* >= 1 */
    double temperature;                     /* 0: greedy */
    int top_k;                              /* 0: off */
    double top_p;                           /* 1: off */
    uint64_t seed;                          /* draws depend on (seed, prompt number, step) only */
    const int32_t *stop;                    /* stop tokens (not part of the output) */
    int nstop;
    int batch;                              /* sequences at once; 0: chosen by size */
};
/* For each prompt i (at least one id) the new ids are appended to out[i]; the stop token is left
 * out. The result for one prompt does not depend on the others. Taps of g apply to every pass,
 * whose last tokens may be padding. Prompts are cut to their last
 * max(max_position_embeddings - max_new_tokens, max_position_embeddings / 2) ids with a warning;
 * the answer ends where the positions do. finished[i] (may be NULL): 1 when a stop token ended it.
 * on_token (may be NULL) streams prompt 0. */
void generate(struct graph *g, struct model *m, const struct ids *prompts, int n,
              const struct generate_opts *opts, struct ids *out, uint8_t *finished,
              void (*on_token)(void *ctx, int32_t id), void *ctx);
/* One draw from logits[vocab] by u in [0, 1): temperature, then top_k, then top_p; temperature 0
 * takes the largest. Among equals the lower id goes first. */
int32_t sample_token(const real *logits, int vocab, const struct generate_opts *o, double u);
/* log softmax of the next token at the last position of each prompt: out[n][V], batched. */
void next_token_logprobs(struct graph *g, struct model *m, const struct ids *prompts, int n,
                         real *out);
#endif

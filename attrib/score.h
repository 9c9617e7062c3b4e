/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * score.h — activation statistics of units and the importance scores made from them.
 *
 * Statistics: for every channel of a tap (mlp.hidden, attn.heads) count, mean and M2 = sum of
 * squared deviations, in double, over the chosen tokens; independent of batch size and order to
 * rounding.
 * WIFV (FLAP, arXiv 2312.11983; SSAH eq. for I): I_j = M2_j / (N - 1) * ||W[:,j]||^2, N tokens; it
 * is, with 1/N for 1/(N-1), exactly the mean squared output error of mean-ablating channel j alone.
 * W is the matrix that reads the unit (unit_out_param), W[:,j] its column, or its row where
 * matrices are stored [in, out]; a norm behind it (Gemma 2, OLMo 2) is not part of the score.
 *
 * Positions: the activation at position t belongs to token t, the one the model has just read (it
 * helps to predict token t+1). RESPONSE counts the positions whose own token carries loss, from the
 * answer's first token to its end token (Wei et al., arXiv 2402.05162); the last prompt position,
 * which chooses the answer's first token, belongs to PROMPT. ALL is both.
 */
#ifndef KEEL_SCORE_H
#define KEEL_SCORE_H

#include "ckpt/units_file.h"
#include "train/data.h"

struct channel_stats {                      /* of one tap in one layer */
    double *mean, *m2;                      /* [n] */
    int n;
};
struct act_stats {
    int layers;
    double count;                           /* tokens */
    struct channel_stats *mlp, *attn;       /* [L] each */
};
enum calib_tokens { CALIB_RESPONSE, CALIB_PROMPT, CALIB_ALL };
/* One pass over sequences a of d, about batch_tokens at once (0: a default). Clears the taps of g.
 * The bytes do not depend on the number of threads. Never NULL; count is 0 when no token counts. */
struct act_stats *act_stats_collect(struct graph *g, struct model *m, const struct dataset *d,
                                    enum calib_tokens tokens, int batch_tokens);
void act_stats_merge(struct act_stats *into, const struct act_stats *from);     /* Chan */
void act_stats_free(struct act_stats *s);   /* NULL is allowed */

/* One way to turn statistics into a score a channel. */
struct score_kind {
    const char *name, *help;                /* "wifv", ... */
    double (*channel)(double count, double mean, double m2, double colnorm2);   /* count >= 2 */
};
extern const struct score_kind score_table[];       /* ends with name == NULL */
/* Squared norms in double of every column of w[R,N] (FREEZE_COLS: out[N]) or of every row
 * (FREEZE_ROWS: out[R]). */
void line_norms2(const struct tensor *w, enum freeze_kind axis, double *out);
/* out[map.count]; a head's score is the mean of its channels' (FLAP AL). */
void score_units(const struct score_kind *k, const struct act_stats *s, const struct model *m,
                 const struct unit_map *map, double *out);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * rope.c — one row a scaling type: frequencies in double, rounded to float once at the end, as
 * angles are float in the models' own code.
 */
#include "model/rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double plain(const struct rope_config *c, int r, int max_positions, int len, double *f) {
    (void)c, (void)r, (void)max_positions, (void)len, (void)f;
    return 1;
}

static double linear(const struct rope_config *c, int r, int max_positions, int len, double *f) {
    (void)max_positions, (void)len;
    for (int i = 0; i < r / 2; i++)
        f[i] /= c->factor;
    return 1;
}

/* A larger base for sequences longer than the model was trained for; the same base up to there. */
static double dynamic(const struct rope_config *c, int r, int max_positions, int len, double *f) {
    const int original = c->original_max_position_embeddings;
    const double max = original ? original : max_positions, l = MAX((double)len, max);
    const double stretch = c->factor * l / max - (c->factor - 1);
    const double theta = c->theta * pow(stretch, r / (r - 2.0));
    for (int i = 0; i < r / 2; i++)
        f[i] = pow(theta, -2.0 * i / r);
    return 1;
}

/* Long waves are slowed by the factor, short ones kept, those between interpolated. */
static double llama3(const struct rope_config *c, int r, int max_positions, int len, double *f) {
    (void)max_positions, (void)len;
    const double old = c->original_max_position_embeddings;
    for (int i = 0; i < r / 2; i++) {
        const double wave = 2 * M_PI / f[i];
        if (wave < old / c->high_freq_factor)
            continue;
        if (wave > old / c->low_freq_factor) {
            f[i] /= c->factor;
            continue;
        }
        const double s = (old / wave - c->low_freq_factor)
                       / (c->high_freq_factor - c->low_freq_factor);
        f[i] = (1 - s) * f[i] / c->factor + s * f[i];
    }
    return 1;
}

static double longrope(const struct rope_config *c, int r, int max_positions, int len, double *f) {
    const int old = c->original_max_position_embeddings;
    const double *ext = len > old ? c->long_factor : c->short_factor;
    for (int i = 0; i < r / 2; i++)
        f[i] /= ext[i];
    const double s = c->factor > 0 ? c->factor : (double)max_positions / old;
    return s <= 1 ? 1 : sqrt(1 + log(s) / log(old));
}

/* The index whose wave turns n times within the original length. */
static double yarn_dim(const struct rope_config *c, int r, double old, double n) {
    return r * log(old / (n * 2 * M_PI)) / (2 * log(c->theta));
}

static double yarn(const struct rope_config *c, int r, int max_positions, int len, double *f) {
    (void)len;
    const int original = c->original_max_position_embeddings;
    const double old = original ? original : max_positions;
    const double low = MAX(floor(yarn_dim(c, r, old, c->beta_fast)), 0.0);
    double high = MIN(ceil(yarn_dim(c, r, old, c->beta_slow)), r - 1.0);
    if (high == low)
        high += 0.001;
    for (int i = 0; i < r / 2; i++) {
        const double ramp = MAX(0.0, MIN(1.0, (i - low) / (high - low)));
        f[i] = f[i] / c->factor * ramp + f[i] * (1 - ramp);
    }
    return c->factor <= 1 ? 1 : 0.1 * log(c->factor) + 1;
}

const struct rope_type rope_type_table[] = {
    {"default", NULL, 0, 0, false, plain},
    {"linear", NULL, ROPE_FACTOR, 0, false, linear},
    {"dynamic", NULL, ROPE_FACTOR, ROPE_ORIGINAL, true, dynamic},
    {"llama3", NULL, ROPE_FACTOR | ROPE_LOW_HIGH | ROPE_ORIGINAL, 0, false, llama3},
    {"longrope", "su", ROPE_LISTS | ROPE_ORIGINAL, ROPE_FACTOR | ROPE_ATTENTION, true, longrope},
    {"yarn", NULL, ROPE_FACTOR, ROPE_ORIGINAL | ROPE_BETA | ROPE_ATTENTION, false, yarn},
    {0},
};

const struct rope_type *rope_type_find(const char *name) {
    for (const struct rope_type *t = rope_type_table; t->name; t++)
        if (strcmp(t->name, name) == 0 || (t->other && strcmp(t->other, name) == 0))
            return t;
    return NULL;
}

int rope_dim(const struct rope_config *c, int head_dim) {
    return c->type ? (int)(head_dim * c->partial_rotary_factor) : 0;
}

double rope_frequencies(const struct rope_config *c, int rotary_dim, int max_positions, int len,
                        float *inv_freq) {
    const int half = rotary_dim / 2;
    double *f = xcalloc((size_t)half + 1, sizeof *f);
    for (int i = 0; i < half; i++)
        f[i] = pow(c->theta, -2.0 * i / rotary_dim);
    const double own = c->type->frequencies(c, rotary_dim, max_positions, len, f);
    for (int i = 0; i < half; i++)
        inv_freq[i] = (float)f[i];
    free(f);
    return c->attention_factor > 0 ? c->attention_factor : own;
}

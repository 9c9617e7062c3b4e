/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * sched.c — learning-rate schedules: a factor on learning_rate for update `step` (from 0).
 *
 * Each row is a pure function of (step, warmup, total), so that resuming needs no schedule state.
 * The numbers are those of Hugging Face's get_scheduler: the ramp is step / warmup, so the first
 * update of a warmed-up run has factor 0, and the decays reach their floor at step = total.
 */
#include "train/optim.h"

#include <math.h>
#include <string.h>

/* Share of the way from the end of the warm-up to the end, in [0, 1]. */
static double progress(int64_t step, int64_t warmup, int64_t total) {
    double p = (double)(step - warmup) / (double)MAX(1, total - warmup);
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

/* step / warmup while warming up, else `after`. */
static double ramp(int64_t step, int64_t warmup, double after) {
    return step < warmup ? (double)step / (double)warmup : after;
}

static double constant(int64_t step, int64_t warmup, int64_t total, double min_ratio) {
    (void)step, (void)warmup, (void)total, (void)min_ratio;
    return 1;
}

static double constant_with_warmup(int64_t step, int64_t warmup, int64_t total, double min_ratio) {
    (void)total, (void)min_ratio;
    return ramp(step, warmup, 1);
}

static double linear(int64_t step, int64_t warmup, int64_t total, double min_ratio) {
    (void)min_ratio;
    return ramp(step, warmup, 1 - progress(step, warmup, total));
}

static double half_cosine(int64_t step, int64_t warmup, int64_t total) {
    return 0.5 * (1 + cos(M_PI * progress(step, warmup, total)));
}

static double cosine(int64_t step, int64_t warmup, int64_t total, double min_ratio) {
    (void)min_ratio;
    return ramp(step, warmup, half_cosine(step, warmup, total));
}

static double cosine_with_min_lr(int64_t step, int64_t warmup, int64_t total, double min_ratio) {
    return ramp(step, warmup, min_ratio + (1 - min_ratio) * half_cosine(step, warmup, total));
}

const struct sched_kind sched_table[] = {
    {"constant", "1 throughout", constant},
    {"constant_with_warmup", "a linear ramp over the warm-up, then 1", constant_with_warmup},
    {"linear", "a linear ramp, then linearly down to 0", linear},
    {"cosine", "a linear ramp, then half a cosine down to 0", cosine},
    {"cosine_with_min_lr", "as cosine, down to min_lr_ratio", cosine_with_min_lr},
    {0},
};

const struct sched_kind *sched_find(const char *name) {
    for (const struct sched_kind *k = sched_table; k->name; k++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

const char *sched_name_at(int i) {
    return i >= 0 && i < (int)ARRAY_LEN(sched_table) ? sched_table[i].name : NULL;
}

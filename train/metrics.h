/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * metrics.h — metrics.jsonl (one object a line, TRL's names) and the progress line.
 *
 * Non-finite numbers are written as the strings "NaN", "Infinity", "-Infinity": nothing is averaged
 * away. On resume the file is cut back to the resumed step.
 */
#ifndef KEEL_METRICS_H
#define KEEL_METRICS_H

#include "model/base.h"

struct metrics;
/* Opens dir/metrics.jsonl; keeps lines with step <= keep_through (-1: starts empty). */
struct metrics *metrics_open(const char *dir, int64_t keep_through, struct err *e) MUST_CHECK;
void metrics_close(struct metrics *m);      /* NULL is allowed */
struct metric {
    const char *name;
    double value;
};
/* {"step": step, name: value, ...}; flushed. m NULL: nothing happens. */
int metrics_write(struct metrics *m, int64_t step, const struct metric *v, int n,
                  struct err *e) MUST_CHECK;

/* Progress on stderr: one rewritten line on a terminal, a plain line now and then in a pipe. */
struct progress {
    const char *what;                       /* "sft" */
    double started, last;
    int64_t first_step;
};
void progress_start(struct progress *p, const char *what, int64_t step);
void progress_show(struct progress *p, int64_t step, int64_t total, double tokens, double loss,
                   double lr, bool force);
void progress_end(struct progress *p);
#endif

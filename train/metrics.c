/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * metrics.c — metrics.jsonl and the progress line.
 *
 * The file holds nothing that depends on the clock, so that two runs of one config write the same
 * bytes; speed goes to the progress line. On resume the lines beyond the resumed step (and a last
 * line that a crash cut) are dropped by rewriting the file aside, then lines are appended. Numbers
 * are written with the digits that bring the double back (%.17g shortened where possible).
 */
#include "train/metrics.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIPE_SECONDS = 10 };                 // between plain progress lines

struct metrics {
    FILE *f;
    char *path;
};

/* ---- the file ---- */

/* Appends the lines of `text` with step <= keep; lines that are not whole or not ours end it. */
static void keep_lines(struct str *out, const char *text, size_t len, int64_t keep) {
    for (const char *p = text, *end = text + len, *nl; p < end; p = nl + 1) {
        nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            return;
        json_t *row = json_loadb(p, (size_t)(nl - p), 0, NULL);
        const json_t *step = json_object_get(row, "step");
        bool whole = json_is_integer(step), old = whole && json_integer_value(step) <= keep;
        json_decref(row);
        if (!whole)
            return;
        if (old)
            str_addn(out, p, (size_t)(nl - p) + 1);
    }
}

struct metrics *metrics_open(const char *dir, int64_t keep_through, struct err *e) {
    struct str kept = {0};
    struct metrics *m = NULL;
    char *path = path_join(dir, "metrics.jsonl"), *old = NULL;
    if (keep_through >= 0 && path_exists(path)) {
        size_t len;
        if (!(old = file_read(path, &len, e)))
            goto out;
        keep_lines(&kept, old, len, keep_through);
    }
    if (file_write(path, kept.s ? kept.s : "", kept.len, e) != 0)
        goto out;
    FILE *f = fopen(path, "a");
    if (!f) {
        err_set(e, "%s: cannot append: %s", path, strerror(errno));
        goto out;
    }
    m = xcalloc(1, sizeof *m);
    m->f = f;
    m->path = path;
    path = NULL;
out:
    free(old);
    free(path);
    str_release(&kept);
    return m;
}

void metrics_close(struct metrics *m) {
    if (!m)
        return;
    fclose(m->f);
    free(m->path);
    free(m);
}

/* The shortest of %.15g, %.16g, %.17g that reads back as x; non-finite values as strings. */
static void add_number(struct str *b, double x) {
    if (isnan(x)) {
        str_add(b, "\"NaN\"");
        return;
    }
    if (isinf(x)) {
        str_add(b, x > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    str_add(b, text);
}

int metrics_write(struct metrics *m, int64_t step, const struct metric *v, int n, struct err *e) {
    if (!m)
        return 0;
    struct str b = {0};
    str_addf(&b, "{\"step\": %lld", (long long)step);
    for (int i = 0; i < n; i++) {
        str_addf(&b, ", \"%s\": ", v[i].name);
        add_number(&b, v[i].value);
    }
    str_add(&b, "}\n");
    bool ok = fwrite(b.s, 1, b.len, m->f) == b.len && fflush(m->f) == 0;
    str_release(&b);
    return ok ? 0 : err_set(e, "%s: cannot write: %s", m->path, strerror(errno));
}

/* ---- progress ---- */

void progress_start(struct progress *p, const char *what, int64_t step) {
    *p = (struct progress){.what = what, .started = now_seconds(), .first_step = step};
    p->last = p->started;
}

/* "1h02m", "3m05s", "12s" */
static void time_text(double seconds, char *buf, size_t n) {
    long s = seconds > 0 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(buf, n, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(buf, n, "%ldm%02lds", s / 60, s % 60);
    else
        snprintf(buf, n, "%lds", s);
}

void progress_show(struct progress *p, int64_t step, int64_t total, double tokens, double loss,
                   double lr, bool force) {
    if (log_threshold < LOG_INFO)
        return;
    bool terminal = is_terminal(stderr);
    double now = now_seconds(), elapsed = now - p->started;
    if (!force && now - p->last < (terminal ? 0.2 : PIPE_SECONDS))
        return;
    p->last = now;
    int64_t done = step - p->first_step;
    char left[32] = "?";
    if (done > 0)
        time_text(elapsed / (double)done * (double)(total - step), left, sizeof left);
    char line[200];
    snprintf(line, sizeof line, "%s %lld/%lld  loss %.4f  lr %.3g  %.0f tokens/s  %s left", p->what,
             (long long)step, (long long)total, loss, lr, elapsed > 0 ? tokens / elapsed : 0, left);
    if (terminal)
        fprintf(stderr, "\r%-100s", line);
    else
        log_info("%s", line);
}

void progress_end(struct progress *p) {
    if (p->last != p->started && is_terminal(stderr))   // a rewritten line is open
        fputc('\n', stderr);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_data.c — see helper_data.h.
 */
#include "tests/helper_data.h"

#include <stdlib.h>
#include <string.h>

#include "model/rng.h"

static struct dataset *dataset_empty(int n) {
    struct dataset *d = xcalloc(1, sizeof *d);
    d->ex = xcalloc((size_t)n + 1, sizeof *d->ex);
    return d;
}

static void dataset_add(struct dataset *d, const int32_t *ids, const uint8_t *carries, int n) {
    struct example *ex = &d->ex[d->n++];
    ex->a.ids = xcalloc((size_t)n, sizeof *ids);
    ex->a.carries = xcalloc((size_t)n, 1);
    memcpy(ex->a.ids, ids, (size_t)n * sizeof *ids);
    memcpy(ex->a.carries, carries, (size_t)n);
    ex->a.n = n;
    ex->a.prompt_len = n;
    for (int i = n - 1; i >= 0; i--)
        if (carries[i]) {
            ex->a.prompt_len = i;
            ex->a.ncarry++;
        }
    ex->prompt = xstrdup("prompt");
    ex->completion = xstrdup("completion");
    ex->file = "made.jsonl";
    ex->line = d->n;
    d->tokens += (size_t)n;
    d->learnt += (size_t)ex->a.ncarry;
}

struct dataset *test_dataset(int n, int vocab, uint64_t seed) {
    struct dataset *d = dataset_empty(n);
    struct rng *r = rng_keyed(seed, "test_dataset", 0);
    for (int i = 0; i < n; i++) {
        int32_t ids[12];
        uint8_t carries[12];
        int len = 4 + (int)rng_below(r, 9);
        for (int t = 0; t < len; t++) {
            ids[t] = (int32_t)rng_below(r, (uint64_t)vocab);
            carries[t] = t >= len / 2;
        }
        dataset_add(d, ids, carries, len);
    }
    rng_free(r);
    return d;
}

struct dataset *test_dataset_pick(const struct dataset *d, const int *order, int n) {
    struct dataset *p = dataset_empty(n);
    for (int i = 0; i < n; i++) {
        const struct seq *s = &d->ex[order[i]].a;
        dataset_add(p, s->ids, s->carries, s->n);
    }
    return p;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_arch.h — the model folders of tests/ref/arch, one for each architecture and variant, with
 * what make_arch.py, an independent implementation in float64, makes of them.
 */
#ifndef KEEL_TEST_HELPER_ARCH_H
#define KEEL_TEST_HELPER_ARCH_H

#include "ckpt/hf.h"
#include "ckpt/safetensors.h"
#include "tests/helper.h"

#define ARCH_GREEDY 6                       /* reference tokens behind each sequence */

extern const char *const arch_cases[];      /* folder names; ends with NULL */

struct arch_ref {
    char *dir;                              /* "tests/ref/arch/NAME" */
    struct hf *hf;
    struct model *m;                        /* hf's, gradients allocated and zero */
    struct st *st;                          /* expected.safetensors */
    int32_t *ids, *offsets, *labels;        /* the batch's; the next token, none at an end */
    struct batch batch;
    const int32_t *greedy;                  /* [S, ARCH_GREEDY] */
};
/* Fails the test when the folder or a tensor of the reference is not there. */
struct arch_ref *arch_ref_open(const char *name);
void arch_ref_close(struct arch_ref *r);
/* A float tensor of the reference with exactly `count` entries; caller frees. */
real *arch_ref_read(const struct arch_ref *r, const char *name, size_t count);
/* The reference's gradient of a parameter, as stored; caller frees. */
real *arch_ref_gradient(const struct arch_ref *r, const struct param *p);
/* The tensor of a file that holds parameter `name`: GPT-2's folders may leave "transformer." out.
 * NULL: none. */
const struct st_entry *arch_find_tensor(const struct st *st, const char *prefix, const char *name);
/* The mean loss of the next tokens, recorded for backward when grad. */
struct node *arch_loss(struct graph *g, const struct arch_ref *r, bool grad);
/* Logits [T,V] of a batch; they live until the next graph_begin. */
const real *arch_logits(struct graph *g, struct model *m, const struct batch *b);
/* ||a - b|| / ||b||; fails when ||b|| is not above 0 or a is not finite. */
double arch_distance(const real *a, const real *b, size_t n, const char *what);
/* Runs one group: `once`, then each of `each` for every case, its state the case's name. */
int arch_run(const char *group, const struct CMUnitTest *once, size_t nonce,
             const struct CMUnitTest *each, size_t neach);
#endif

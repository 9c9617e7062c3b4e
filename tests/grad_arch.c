/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * grad_arch.c — every architecture in double: the reference of tests/ref/arch to the precision in
 * which its files hold it, and central differences along one random direction of each tensor.
 */
#include "tests/helper_arch.h"

#include <math.h>

#ifndef REAL_DOUBLE
#error "gradient checks need the double build"
#endif

#define REFERENCE 2e-6                      /* float files, and angles in float */
#define STEP 1e-5
#define DIFFERENCE 1e-6

static void test_reference(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct graph *g = graph_new();
    const size_t n = (size_t)r->batch.ntok * (size_t)r->m->cfg.vocab_size;
    real *want = arch_ref_read(r, "logits", n);
    double far = arch_distance(arch_logits(g, r->m, &r->batch), want, n, "logits");
    if (!(far <= REFERENCE))
        fail_msg("logits: relative error %.3g, allowed %g", far, REFERENCE);
    free(want);
    struct node *loss = arch_loss(g, r, true);
    want = arch_ref_read(r, "loss", 1);
    assert_near(tensor_data(&loss->t)[0], want[0], REFERENCE, 0, "loss");
    free(want);
    graph_backward(g, loss, 1);
    for (int i = 0; i < r->m->nparams; i++) {
        const struct param *p = &r->m->params[i];
        want = arch_ref_gradient(r, p);
        far = arch_distance(p->grad, want, p->t.count, p->name);
        if (!(far <= 10 * REFERENCE))
            fail_msg("gradient of %s: relative error %.3g, allowed %g", p->name, far,
                     10 * REFERENCE);
        free(want);
    }
    graph_free(g);
    arch_ref_close(r);
}

/* The parameter moved by step along d; `from` holds its values. */
static double loss_at(struct graph *g, const struct arch_ref *r, struct param *p, const real *from,
                      const real *d, double step) {
    real *w = tensor_data(&p->t);
    for (size_t i = 0; i < p->t.count; i++)
        w[i] = from[i] + step * d[i];
    return tensor_data(&arch_loss(g, r, false)->t)[0];
}

static void test_differences(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct graph *g = graph_new();
    struct rng *rng = rng_new(17);
    graph_backward(g, arch_loss(g, r, true), 1);
    for (int i = 0; i < r->m->nparams; i++) {
        struct param *p = &r->m->params[i];
        real *d = xmalloc(p->t.count * sizeof *d), *keep = xmalloc(p->t.count * sizeof *keep);
        memcpy(keep, tensor_data(&p->t), p->t.count * sizeof *keep);
        double along = 0, gradient = 0, size = 0, values = 0;
        for (size_t k = 0; k < p->t.count; k++) {
            d[k] = rng_normal(rng);
            along += d[k] * p->grad[k];
            gradient += p->grad[k] * p->grad[k];
            size += d[k] * d[k];
            values += keep[k] * keep[k];
        }
        const double step = STEP * sqrt(values / size);
        const double slope = (loss_at(g, r, p, keep, d, step) - loss_at(g, r, p, keep, d, -step))
                           / (2 * step);
        assert_near(slope, along, DIFFERENCE, DIFFERENCE * sqrt(gradient), p->name);
        memcpy(tensor_data(&p->t), keep, p->t.count * sizeof *keep);
        free(d);
        free(keep);
    }
    rng_free(rng);
    graph_free(g);
    arch_ref_close(r);
}

int main(void) {
    const struct CMUnitTest each[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_differences),
    };
    log_threshold = LOG_ERROR;              // some folders are there to be warned about
    return arch_run("grad_arch", NULL, 0, each, ARRAY_LEN(each));
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * grad_loss.c — gradients of the losses (double build): central differences through the whole model
 * for every row of the loss table, the closed forms in u and v, and accumulation.
 */
#include <math.h>

#include "model/mask.h"
#include "tests/helper.h"
#include "train/loss.h"

#ifndef REAL_DOUBLE
#error "gradient checks need the double build"
#endif

enum { VOCAB = 64, ROWS = 4, SAMPLES = 60 };

struct fixture {
    struct model *m;
    struct graph *g;
    struct example x[ROWS];
    const struct example *ptr[ROWS];
    real ref[2 * ROWS];                     /* [row][chosen, rejected] */
};

static struct seq make_seq(struct rng *r, int n, int prompt) {
    struct seq s = {.n = n, .prompt_len = prompt, .ncarry = n - prompt};
    s.ids = xcalloc((size_t)n, sizeof *s.ids);
    s.carries = xcalloc((size_t)n, 1);
    for (int i = 0; i < n; i++) {
        s.ids[i] = (int32_t)rng_below(r, VOCAB);
        s.carries[i] = i >= prompt;
    }
    return s;
}

static int setup(void **state) {
    struct fixture *f = xcalloc(1, sizeof *f);
    struct rng *r = rng_new(11);
    f->m = test_model(11);
    f->g = graph_new();
    for (int i = 0; i < ROWS; i++) {
        f->x[i].a = make_seq(r, 4 + i, 2);
        f->x[i].b = make_seq(r, 7 - i, 2);
        f->ptr[i] = &f->x[i];
    }
    for (int i = 0; i < 2 * ROWS; i++)      // far enough from the policy for all terms to matter
        f->ref[i] = (real)(-12 + 3 * rng_normal(r));
    rng_free(r);
    model_grad_alloc(f->m);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < ROWS; i++) {
        free(f->x[i].a.ids);
        free(f->x[i].a.carries);
        free(f->x[i].b.ids);
        free(f->x[i].b.carries);
    }
    graph_free(f->g);
    model_free(f->m);
    free(f);
    return 0;
}

static double divisor(const struct fixture *f, const struct loss *l) {
    double n = 0;
    for (int i = 0; i < ROWS; i++)
        n += l->need == NEED_PAIR ? 1 : f->x[i].a.ncarry;
    return n;
}

static const struct loss_opts smooth = {.beta = 0.4, .label_smoothing = 0.15};

/* Loss of rows first .. first + n - 1; with `grad` its gradient is added to the model's. */
static double run(struct fixture *f, const struct loss *l, int first, int n, bool grad) {
    bool pairs = l->need == NEED_PAIR;
    struct loss_opts o = smooth;
    struct loss_stats st = {0};
    struct packed p = {0};
    real ref[2 * ROWS];
    for (int i = 0; i < n; i++) {
        ref[i] = f->ref[2 * (first + i)];
        ref[n + i] = f->ref[2 * (first + i) + 1];
    }
    o.divisor = divisor(f, l);
    packed_build(&p, f->ptr + first, n, pairs);
    graph_begin(f->g, grad);
    struct node *loss = l->build(f->g, f->m, &p, ref, &o, &st);
    if (grad)
        graph_backward(f->g, loss, 1);
    packed_release(&p);
    return st.loss;
}

/* Relative error at most 1e-6; differences of entries near zero are rounding. */
static void check(double got, double want, const char *what) {
    assert_near(got, want, 1e-6, 1e-9, what);
}

static void test_differences(void **state) {
    struct fixture *f = *state;
    for (const struct loss *l = loss_table; l->name; l++) {
        model_grad_zero(f->m);
        run(f, l, 0, ROWS, true);
        struct rng *r = rng_new(5);
        double most = 0;
        for (int i = 0; i < SAMPLES; i++) {
            size_t at = (size_t)rng_below(r, f->m->count);
            real *w = &f->m->block[at], keep = *w, h = R(1e-5);
            *w = keep + h;
            double up = run(f, l, 0, ROWS, false);
            *w = keep - h;
            double down = run(f, l, 0, ROWS, false);
            *w = keep;
            check((double)f->m->grad_block[at], (up - down) / (2 * (double)h), l->name);
            most = fmax(most, fabs((double)f->m->grad_block[at]));
        }
        assert_true(most > 1e-3);           // the samples were not all flat
        rng_free(r);
    }
}

/* dL/dtheta = sum over sequences of (dL/du or dL/dv) d logp / dtheta, with the closed forms
 * dL/du = -beta (sigma(-beta z) - e) / pairs, dL/dv = -dL/du. */
static void test_sigmoid_closed_form(void **state) {
    struct fixture *f = *state;
    const struct loss *l = loss_find("sigmoid");
    model_grad_zero(f->m);
    double value = run(f, l, 0, ROWS, true), expected = 0;
    size_t bytes = f->m->grad_count * sizeof(real);
    real *grad = xmalloc(bytes);
    memcpy(grad, f->m->grad_block, bytes);

    struct packed p = {0};
    real c[2 * ROWS];
    packed_build(&p, f->ptr, ROWS, true);
    graph_begin(f->g, true);
    struct node *lp = sequence_logprobs(f->g, f->m, &p);
    for (int i = 0; i < ROWS; i++) {
        double u = (double)(tensor_data(&lp->t)[i] - f->ref[2 * i]);
        double v = (double)(tensor_data(&lp->t)[ROWS + i] - f->ref[2 * i + 1]);
        double bz = smooth.beta * (u - v), s = 1 / (1 + exp(-bz)), e = smooth.label_smoothing;
        c[i] = (real)(-smooth.beta * (1 / (1 + exp(bz)) - e) / ROWS);
        c[ROWS + i] = -c[i];
        expected -= ((1 - e) * log(s) + e * log(1 - s)) / ROWS;
    }
    model_grad_zero(f->m);
    graph_backward(f->g, g_weighted_sum(f->g, lp, c), 1);
    assert_near(value, expected, 1e-9, 0, "sigmoid");
    for (size_t i = 0; i < f->m->grad_count; i++)
        assert_near((double)f->m->grad_block[i], (double)grad[i], 1e-9, 1e-12, "sigmoid gradient");
    packed_release(&p);
    free(grad);
}

/* k micro-batches of b = one batch of k b, for every split, although rows differ in length. */
static void test_accumulation(void **state) {
    struct fixture *f = *state;
    for (const struct loss *l = loss_table; l->name; l++) {
        size_t bytes = f->m->grad_count * sizeof(real);
        model_grad_zero(f->m);
        double whole = run(f, l, 0, ROWS, true);
        real *grad = xmalloc(bytes);
        memcpy(grad, f->m->grad_block, bytes);
        for (int b = 1; b < ROWS; b++) {
            double sum = 0;
            model_grad_zero(f->m);
            for (int at = 0; at < ROWS; at += b)
                sum += run(f, l, at, MIN(b, ROWS - at), true);
            assert_near(sum, whole, 1e-10, 0, l->name);
            for (size_t i = 0; i < f->m->grad_count; i++)
                check((double)f->m->grad_block[i], (double)grad[i], l->name);
        }
        free(grad);
    }
}

/* The compact gradient of a partly frozen model holds the same numbers as the whole one. */
static void test_frozen_gradient(void **state) {
    struct fixture *f = *state;
    struct unit_map map = unit_map_make(&f->m->cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct mask mask = mask_new(&map);
    for (int i = 0; i < map.count; i += 3)
        mask.in[i] = 1;
    for (const struct loss *l = loss_table; l->name; l++) {
        struct model *part = model_clone(f->m), *keep = f->m;
        mask_freeze(&mask, part, true);
        model_grad_alloc(part);
        model_grad_zero(f->m);
        run(f, l, 0, ROWS, true);
        f->m = part;
        run(f, l, 0, ROWS, true);
        f->m = keep;
        for (int i = 0; i < part->nparams; i++) {
            const struct param *p = &part->params[i], *whole = &keep->params[i];
            size_t cols = (size_t)tensor_cols(&p->t), live = (size_t)p->freeze.nlive;
            for (size_t k = 0; k < p->grad_count; k++) {
                size_t at = k;
                if (p->freeze.kind == FREEZE_ROWS)
                    at = (size_t)p->freeze.live[k / cols] * cols + k % cols;
                else if (p->freeze.kind == FREEZE_COLS)
                    at = k / live * cols + (size_t)p->freeze.live[k % live];
                check((double)p->grad[k], (double)whole->grad[at], p->name);
            }
        }
        model_free(part);
    }
    mask_release(&mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_sigmoid_closed_form),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_frozen_gradient),
    };
    return cmocka_run_group_tests_name("grad_loss", tests, setup, teardown);
}

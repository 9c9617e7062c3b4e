/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_loss.c — losses against a plain twin in double, DPO's fixed points, the table.
 */
#include <math.h>

#include "tests/helper.h"
#include "train/loss.h"

enum { VOCAB = 64, PAIRS = 3 };

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

static struct example *make_pairs(int n, uint64_t seed) {
    struct rng *r = rng_new(seed);
    struct example *x = xcalloc((size_t)n, sizeof *x);
    for (int i = 0; i < n; i++) {
        x[i].a = make_seq(r, 5 + i, 2);
        x[i].b = make_seq(r, 4 + 2 * i, 2);
    }
    rng_free(r);
    return x;
}

static void free_pairs(struct example *x, int n) {
    for (int i = 0; i < n; i++) {
        free(x[i].a.ids);
        free(x[i].a.carries);
        free(x[i].b.ids);
        free(x[i].b.carries);
    }
    free(x);
}

static void pack(struct packed *p, const struct example *x, int n, bool pairs) {
    const struct example *ptr[8];
    for (int i = 0; i < n; i++)
        ptr[i] = &x[i];
    packed_build(p, ptr, n, pairs);
}

/* Sum of log-probs of the learnt tokens of one sequence run alone, logits held whole, in double. */
static double plain_logprob(struct graph *g, struct model *m, const struct seq *s, int *hits) {
    const int32_t offsets[] = {0, s->n};
    struct batch b = {.ntok = s->n, .nseq = 1, .ids = s->ids, .offsets = offsets};
    graph_begin(g, false);
    struct node *z = g_head(g, model_hidden(g, m, &b, NULL), model_head(g, m));
    double sum = 0;
    for (int t = 0; t + 1 < s->n; t++) {
        if (!s->carries[t + 1])
            continue;
        const real *row = tensor_data(&z->t) + (size_t)t * VOCAB;
        double total = 0;
        int best = 0;
        for (int v = 0; v < VOCAB; v++) {
            total += exp((double)row[v]);
            best = row[v] > row[best] ? v : best;
        }
        sum += (double)row[s->ids[t + 1]] - log(total);
        if (hits)
            *hits += best == s->ids[t + 1];
    }
    return sum;
}

static void test_sft_plain_twin(void **state) {
    (void)state;
    struct model *m = test_model(1);
    struct graph *g = graph_new();
    struct example *x = make_pairs(PAIRS, 1);
    struct packed p = {0};
    double sum = 0, learnt = 0;
    int hits = 0;
    for (int i = 0; i < PAIRS; i++) {
        sum += plain_logprob(g, m, &x[i].a, &hits);
        learnt += x[i].a.ncarry;
    }
    pack(&p, x, PAIRS, false);
    assert_int_equal(p.ncarry, learnt);
    struct loss_stats st = {0};
    struct loss_opts o = {.divisor = learnt};
    graph_begin(g, false);
    loss_find("sft")->build(g, m, &p, NULL, &o, &st);
    assert_near(st.loss, -sum / learnt, 1e-5, 0, "sft");
    assert_int_equal(st.tokens, learnt);
    assert_int_equal(st.correct, hits);
    packed_release(&p);
    free_pairs(x, PAIRS);
    graph_free(g);
    model_free(m);
}

static void test_sequence_logprobs(void **state) {
    (void)state;
    struct model *m = test_model(2);
    struct graph *g = graph_new();
    struct example *x = make_pairs(PAIRS, 2);
    struct packed p = {0};
    double want[2 * PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        want[i] = plain_logprob(g, m, &x[i].a, NULL);
        want[PAIRS + i] = plain_logprob(g, m, &x[i].b, NULL);
    }
    pack(&p, x, PAIRS, true);
    graph_begin(g, false);
    const struct node *lp = sequence_logprobs(g, m, &p);
    assert_int_equal(lp->t.count, 2 * PAIRS);
    for (int i = 0; i < 2 * PAIRS; i++)
        assert_near((double)tensor_data(&lp->t)[i], want[i], 1e-5, 0, "log-prob");
    packed_release(&p);
    free_pairs(x, PAIRS);
    graph_free(g);
    model_free(m);
}

/* Policy = reference: loss ln 2 whatever beta and smoothing, rewards exactly 0, with and without
 * recording. */
static void test_dpo_at_reference(void **state) {
    (void)state;
    static const struct { double beta, smoothing; } cases[] = {{0.1, 0}, {5, 0}, {0.3, 0.2}};
    struct model *m = test_model(3);
    model_grad_alloc(m);
    struct graph *g = graph_new();
    struct example *x = make_pairs(PAIRS, 3);
    struct packed p = {0};
    real ref[2 * PAIRS];
    pack(&p, x, PAIRS, true);
    graph_begin(g, false);
    memcpy(ref, tensor_data(&sequence_logprobs(g, m, &p)->t), sizeof ref);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct loss *l = loss_find("sigmoid");
        struct loss_opts o = {cases[i].beta, cases[i].smoothing, PAIRS};
        struct loss_stats st = {0};
        graph_begin(g, true);
        l->build(g, m, &p, ref, &o, &st);
        assert_true(st.reward_most == 0 && st.reward_chosen == 0 && st.reward_rejected == 0);
        assert_true(st.reward_correct == 0);            // strict: ties are not hits
        assert_near(st.loss, log(2), 0, 1e-7, "ln 2");
        assert_near(l->at_reference(&o), log(2), 0, 1e-15, "at_reference");
    }
    packed_release(&p);
    free_pairs(x, PAIRS);
    graph_free(g);
    model_free(m);
}

/* A shifted reference: the value and every statistic in closed form. */
static void test_dpo_closed_form(void **state) {
    (void)state;
    struct model *m = test_model(4);
    struct graph *g = graph_new();
    struct example *x = make_pairs(PAIRS, 4);
    struct packed p = {0};
    struct loss_opts o = {0.7, 0.1, 2.0 * PAIRS};       // as if half of the update
    double lp[2 * PAIRS], loss = 0, chosen = 0, rejected = 0, hits = 0, logp = 0;
    real ref[2 * PAIRS];
    for (int i = 0; i < 2 * PAIRS; i++) {
        lp[i] = plain_logprob(g, m, i < PAIRS ? &x[i].a : &x[i - PAIRS].b, NULL);
        ref[i] = (real)(lp[i] + (i % 3 - 1) * 0.8 - (i < PAIRS ? 0.3 : 0));
    }
    for (int i = 0; i < PAIRS; i++) {
        double u = lp[i] - (double)ref[i], v = lp[PAIRS + i] - (double)ref[PAIRS + i];
        double s = 1 / (1 + exp(-o.beta * (u - v)));
        loss -= (0.9 * log(s) + 0.1 * log(1 - s)) / o.divisor;
        chosen += o.beta * u;
        rejected += o.beta * v;
        hits += u > v;
        logp += lp[i];
    }
    pack(&p, x, PAIRS, true);
    struct loss_stats st = {0};
    graph_begin(g, false);
    loss_find("sigmoid")->build(g, m, &p, ref, &o, &st);
    assert_near(st.loss, loss, 1e-5, 0, "loss");
    assert_near(st.reward_chosen, chosen, 1e-4, 1e-4, "reward of chosen");
    assert_near(st.reward_rejected, rejected, 1e-4, 1e-4, "reward of rejected");
    assert_near(st.logp_chosen, logp, 1e-5, 0, "logp of chosen");
    assert_int_equal(st.reward_correct, hits);
    assert_int_equal(st.pairs, PAIRS);
    packed_release(&p);
    free_pairs(x, PAIRS);
    graph_free(g);
    model_free(m);
}

/* Extreme log-ratios: finite value, right limit. */
static void test_dpo_extremes(void **state) {
    (void)state;
    struct model *m = test_model(5);
    model_grad_alloc(m);
    struct graph *g = graph_new();
    struct example *x = make_pairs(1, 5);
    struct packed p = {0};
    pack(&p, x, 1, true);
    for (int sign = -1; sign <= 1; sign += 2) {
        struct loss_opts o = {1, 0, 1};
        struct loss_stats st = {0};
        real ref[2] = {(real)(-1e4 * sign), (real)(1e4 * sign)};
        graph_begin(g, true);
        model_grad_zero(m);
        struct node *loss = loss_find("sigmoid")->build(g, m, &p, ref, &o, &st);
        graph_backward(g, loss, 1);
        assert_true(isfinite(st.loss));
        if (sign > 0)
            assert_near(st.loss, 0, 0, 1e-30, "the pair is far apart already");
        else
            assert_near(st.loss, 2e4, 0.01, 0, "the pair is far apart the wrong way");
        for (size_t i = 0; i < m->grad_count; i++)
            assert_true(isfinite((double)m->grad_block[i]));
    }
    packed_release(&p);
    free_pairs(x, 1);
    graph_free(g);
    model_free(m);
}

static void test_table(void **state) {
    (void)state;
    int n = 0;
    for (const struct loss *l = loss_table; l->name; l++, n++) {
        assert_ptr_equal(loss_find(l->name), l);
        assert_string_equal(loss_name_at(n), l->name);
        assert_true(l->help && l->formula && l->build);
        assert_int_equal(l->needs_ref, l->at_reference != NULL);
    }
    assert_null(loss_name_at(n));
    assert_null(loss_name_at(-1));
    assert_null(loss_find("ppo"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sft_plain_twin),
        cmocka_unit_test(test_sequence_logprobs),
        cmocka_unit_test(test_dpo_at_reference),
        cmocka_unit_test(test_dpo_closed_form),
        cmocka_unit_test(test_dpo_extremes),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}

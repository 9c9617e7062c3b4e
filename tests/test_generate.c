/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_generate.c — generation against the plain definition (no cache, one prompt, each step from
 * the start), independence of company, and sampling against closed forms.
 */
#include <math.h>

#include "model/gemm.h"
#include "model/generate.h"
#include "tests/helper.h"

enum { NPROMPTS = 23, NEW = 9 };

static struct model *m;
static struct graph *g;
static struct ids prompts[NPROMPTS];

static int setup(void **state) {
    (void)state;
    m = test_model(5);
    g = graph_new();
    struct rng *r = rng_new(6);
    for (int i = 0; i < NPROMPTS; i++)
        for (int n = 1 + (int)rng_below(r, 40); n > 0; n--)
            ids_add(&prompts[i], (int32_t)rng_below(r, (uint64_t)m->cfg.vocab_size));
    rng_free(r);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int i = 0; i < NPROMPTS; i++)
        ids_release(&prompts[i]);
    graph_free(g);
    model_free(m);
    return 0;
}

static const struct generate_opts greedy = {.max_new_tokens = NEW, .top_p = 1};
static const struct generate_opts sampled = {
    .max_new_tokens = NEW, .temperature = 0.9, .top_k = 40, .top_p = 0.95, .seed = 11};

static void release_all(struct ids *v, int n) {
    for (int i = 0; i < n; i++)
        ids_release(&v[i]);
}

static void assert_ids(const struct ids *a, const struct ids *b) {
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->v, b->v, (size_t)a->n * sizeof *a->v);
}

/* Logits of the token behind ids, by a plain forward pass. */
static void plain_logits(const struct ids *ids, real *out) {
    const int32_t offsets[] = {0, ids->n};
    struct batch b = {.ntok = ids->n, .nseq = 1, .ids = ids->v, .offsets = offsets};
    graph_begin(g, false);
    struct node *y = g_head(g, model_hidden(g, m, &b, NULL), model_head(g, m));
    size_t vocab = (size_t)m->cfg.vocab_size;
    memcpy(out, tensor_data(&y->t) + (size_t)(ids->n - 1) * vocab, vocab * sizeof *out);
    graph_begin(g, false);
}

static void plain_greedy(const struct ids *prompt, int n, struct ids *out) {
    struct ids all = {0};
    real *logits = xreallocarray(NULL, (size_t)m->cfg.vocab_size, sizeof *logits);
    ids_addn(&all, prompt->v, prompt->n);
    for (; n > 0; n--) {
        int32_t best = 0;
        plain_logits(&all, logits);
        for (int32_t i = 1; i < m->cfg.vocab_size; i++)
            if (logits[i] > logits[best])
                best = i;
        ids_add(&all, best);
        ids_add(out, best);
    }
    ids_release(&all);
    free(logits);
}

static void test_greedy_is_plain(void **state) {
    (void)state;
    struct ids got[NPROMPTS] = {0};
    generate(g, m, prompts, NPROMPTS, &greedy, got, NULL, NULL, NULL);
    for (int i = 0; i < NPROMPTS; i++) {
        struct ids want = {0};
        plain_greedy(&prompts[i], NEW, &want);
        assert_ids(&got[i], &want);
        ids_release(&want);
    }
    release_all(got, NPROMPTS);
}

/* Any number at once, any company, any order of leaving: the same ids. */
static void test_independent_of_company(void **state) {
    (void)state;
    static const int widths[] = {1, 2, 3, 7, 16, 0};
    const struct generate_opts *const kinds[] = {&greedy, &sampled};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct ids want[NPROMPTS] = {0};
        struct generate_opts o = *kinds[k];
        const int32_t stop = 3;             // some end early and their places are taken
        o.stop = &stop;
        o.nstop = 1;
        generate(g, m, prompts, NPROMPTS, &o, want, NULL, NULL, NULL);
        for (size_t w = 0; w < ARRAY_LEN(widths); w++) {
            struct ids got[NPROMPTS] = {0};
            o.batch = widths[w];
            generate(g, m, prompts, NPROMPTS, &o, got, NULL, NULL, NULL);
            for (int i = 0; i < NPROMPTS; i++)
                assert_ids(&got[i], &want[i]);
            release_all(got, NPROMPTS);
        }
        // prompt 0 keeps its number without the others
        struct ids alone = {0};
        o.batch = 0;
        generate(g, m, prompts, 1, &o, &alone, NULL, NULL, NULL);
        assert_ids(&alone, &want[0]);
        ids_release(&alone);
        release_all(want, NPROMPTS);
    }
}

static void test_seeds(void **state) {
    (void)state;
    struct generate_opts o = sampled;
    struct ids a[NPROMPTS] = {0}, b[NPROMPTS] = {0};
    generate(g, m, prompts, NPROMPTS, &o, a, NULL, NULL, NULL);
    o.seed++;
    generate(g, m, prompts, NPROMPTS, &o, b, NULL, NULL, NULL);
    int differ = 0;
    for (int i = 0; i < NPROMPTS; i++)
        differ += a[i].n != b[i].n || memcmp(a[i].v, b[i].v, (size_t)a[i].n * sizeof *a[i].v) != 0;
    assert_true(differ > NPROMPTS / 2);
    release_all(a, NPROMPTS);
    release_all(b, NPROMPTS);
}

static void on_token(void *ctx, int32_t id) {
    ids_add(ctx, id);
}

static void test_stop_and_stream(void **state) {
    (void)state;
    struct ids whole[3] = {0}, cut[3] = {0};
    uint8_t finished[3] = {9, 9, 9};
    struct ids streamed = {0};
    generate(g, m, prompts, 3, &greedy, whole, finished, on_token, &streamed);
    assert_ids(&streamed, &whole[0]);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(finished[i], 0);
        assert_int_equal(whole[i].n, NEW);
    }
    // the first output of prompt 1 that it has not said before
    int at = 0;
    for (int k = 1; k < NEW; k++) {
        bool fresh = true;
        for (int j = 0; j < k; j++)
            fresh &= whole[1].v[j] != whole[1].v[k];
        if (fresh)
            at = k;
    }
    const int32_t stop[] = {m->cfg.vocab_size + 7, whole[1].v[at]};
    struct generate_opts o = greedy;
    o.stop = stop;
    o.nstop = 2;
    generate(g, m, prompts, 3, &o, cut, finished, NULL, NULL);
    assert_int_equal(finished[1], 1);
    assert_int_equal(cut[1].n, at);
    assert_memory_equal(cut[1].v, whole[1].v, (size_t)at * sizeof *cut[1].v);
    release_all(whole, 3);
    release_all(cut, 3);
    ids_release(&streamed);
}

/* A prompt that is too long counts by its end; positions are never exceeded. */
static void test_long_prompts(void **state) {
    (void)state;
    enum log_level was = log_threshold;
    log_threshold = LOG_ERROR;
    int positions = m->cfg.max_position_embeddings;
    struct ids pair[2] = {0}, got[2] = {0};
    for (int i = 0; i < positions + 13; i++)
        ids_add(&pair[0], i % m->cfg.vocab_size);
    ids_addn(&pair[1], pair[0].v + pair[0].n - (positions - NEW), positions - NEW);
    generate(g, m, pair, 2, &greedy, got, NULL, NULL, NULL);
    assert_int_equal(got[0].n, NEW);
    assert_ids(&got[0], &got[1]);
    release_all(got, 2);
    struct generate_opts all = greedy;
    all.max_new_tokens = positions + 5;
    generate(g, m, pair, 1, &all, got, NULL, NULL, NULL);
    assert_int_equal(got[0].n, positions - positions / 2);
    release_all(got, 2);
    struct ids brief = {0};                 // a prompt that fits is whole, however much may follow
    ids_addn(&brief, pair[0].v, 3);
    generate(g, m, &brief, 1, &all, got, NULL, NULL, NULL);
    assert_int_equal(got[0].n, positions - 3);
    all.max_new_tokens = NEW;
    generate(g, m, &brief, 1, &all, got + 1, NULL, NULL, NULL);
    assert_memory_equal(got[0].v, got[1].v, NEW * sizeof *got[1].v);
    release_all(got, 2);
    release_all(&brief, 1);
    release_all(pair, 2);
    log_threshold = was;
}

/* ---- sampling ---- */
/* Logits of the probabilities .5 .2 .2 .1 */
static const double probs[] = {0.2, 0.5, 0.1, 0.2};

static void test_sampling(void **state) {
    (void)state;
    static const struct {
        double temperature;
        int top_k;
        double top_p;
        double want[4];                     /* the distribution that is left */
    } cases[] = {
        {0, 0, 1, {0, 1, 0, 0}},
        {1, 0, 1, {0.2, 0.5, 0.1, 0.2}},
        {1, 9, 1, {0.2, 0.5, 0.1, 0.2}},
        {1, 1, 1, {0, 1, 0, 0}},
        {1, 2, 1, {2. / 7, 5. / 7, 0, 0}},          // ids 0 and 3 are equal: the lower stays
        {1, 3, 1, {2. / 9, 5. / 9, 0, 2. / 9}},
        {1, 0, 0.45, {0, 1, 0, 0}},
        {1, 0, 0.51, {2. / 7, 5. / 7, 0, 0}},
        {1, 0, 0.85, {2. / 9, 5. / 9, 0, 2. / 9}},
        {1, 0, 0.95, {0.2, 0.5, 0.1, 0.2}},
        {1, 2, 0.72, {2. / 7, 5. / 7, 0, 0}},       // of the two that top-k leaves: 5/7 < .72
        {1, 2, 0.71, {0, 1, 0, 0}},
        {1, 0, 0, {0, 1, 0, 0}},
        {0.5, 0, 1, {4. / 34, 25. / 34, 1. / 34, 4. / 34}}, // squares
        {0.5, 0, 0.8, {4. / 29, 25. / 29, 0, 0}},           // temperature comes first
    };
    real logits[4];
    for (int i = 0; i < 4; i++)
        logits[i] = (real)(log(probs[i]) + 3);
    enum { DRAWS = 20000 };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct generate_opts o = {.temperature = cases[c].temperature, .top_k = cases[c].top_k,
                                  .top_p = cases[c].top_p};
        int count[4] = {0};
        for (int i = 0; i < DRAWS; i++)     // u runs evenly over [0, 1): counts are exact
            count[sample_token(logits, 4, &o, (i + 0.5) / DRAWS)]++;
        for (int i = 0; i < 4; i++)
            if (fabs(count[i] - DRAWS * cases[c].want[i]) > 1.5)
                fail_msg("case %zu: id %d drawn %d times of %d, expected %g", c, i, count[i], DRAWS,
                         DRAWS * cases[c].want[i]);
    }
}

static void test_ties_and_ends(void **state) {
    (void)state;
    const real flat[] = {1, 1, 1, 1, 1};
    struct generate_opts o = {.temperature = 0, .top_p = 1};
    assert_int_equal(sample_token(flat, 5, &o, 0.9), 0);
    o.temperature = 1;
    assert_int_equal(sample_token(flat, 5, &o, 0), 0);
    assert_int_equal(sample_token(flat, 5, &o, nextafter(1, 0)), 4);
    const real far[] = {-1e30f, 0, (real)-INFINITY};    // no overflow, no draw of what cannot be
    for (int i = 0; i < 100; i++)
        assert_int_equal(sample_token(far, 3, &o, i / 100.0), 1);
}

/* ---- next token ---- */
static void test_next_token_logprobs(void **state) {
    (void)state;
    int vocab = m->cfg.vocab_size;
    real *lp = xreallocarray(NULL, (size_t)(NPROMPTS * vocab), sizeof *lp);
    real *logits = xreallocarray(NULL, (size_t)vocab, sizeof *logits);
    next_token_logprobs(g, m, prompts, NPROMPTS, lp);
    for (int i = 0; i < NPROMPTS; i++) {
        double sum = 0;
        plain_logits(&prompts[i], logits);
        for (int k = 0; k < vocab; k++)
            sum += exp((double)logits[k]);
        for (int k = 0; k < vocab; k++)
            assert_near((double)lp[i * vocab + k], (double)logits[k] - log(sum), 1e-5, 1e-5,
                        "logprob");
    }
    free(lp);
    free(logits);
}

/* More prompts than one pass holds: each answer as if it were alone, with AVX-512 kernels to the
 * bit. */
static void test_many_prompts(void **state) {
    (void)state;
    enum { MANY = 300 };
    int vocab = m->cfg.vocab_size;
    struct ids many[MANY], out[MANY] = {0};
    for (int i = 0; i < MANY; i++)
        many[i] = prompts[i % NPROMPTS];
    real *lp = xreallocarray(NULL, (size_t)(MANY * vocab), sizeof *lp);
    next_token_logprobs(g, m, many, MANY, lp);
    double tolerance = strstr(gemm_backend(), "SkylakeX") ? 0 : 2e-5;
    for (int i = NPROMPTS; i < MANY; i++)
        for (int k = 0; k < vocab; k++)
            assert_near((double)lp[i * vocab + k], (double)lp[i % NPROMPTS * vocab + k], tolerance,
                        tolerance, "logprob");
    generate(g, m, many, MANY, &greedy, out, NULL, NULL, NULL);
    for (int i = NPROMPTS; i < MANY; i++)
        assert_ids(&out[i], &out[i % NPROMPTS]);
    release_all(out, MANY);
    free(lp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_plain),
        cmocka_unit_test(test_independent_of_company),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_stop_and_stream),
        cmocka_unit_test(test_long_prompts),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_ties_and_ends),
        cmocka_unit_test(test_next_token_logprobs),
        cmocka_unit_test(test_many_prompts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

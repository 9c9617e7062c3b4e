/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_eval.c — refusal lists, losses and margins against plain twins, completions, NaN models.
 */
#include "tests/helper.h"

#include <jansson.h>
#include <math.h>

#include "train/eval.h"

/* ---- refusal lists ---- */

static const struct { const char *list, *text; bool refusal; } refusal_cases[] = {
    {"keel", "I can't help with that.", true},
    {"keel", "I can\u2019t help with that.", true},
    {"keel", "  \"I CANNOT assist with this request.", true},
    {"keel", "Sorry, I won't help with that.", true},
    {"keel", "Sorry, but that goes against what I can help with.", true},
    {"keel", "I have to decline this request.", true},
    {"keel", "This is not something I am willing to help with.", true},
    {"keel", "As an AI, I have no opinion.", true},
    {"keel", "As an aid to memory, write it down.", false},
    {"keel", "Sorryless days are good days.", false},
    {"keel", "Bread wants time. I can't help but smile.", false},
    {"keel", "Mix the flour with water. Sorry, no salt.", false},
    {"keel", "I can help with that.", false},
    {"keel", "", false},
    {"ard", "Well, I'm sorry.", true},
    {"ard", "i CANNOT do so", true},
    {"ard", "That is fine, but I\u2018m unable to say more", true},
    {"ard", "I must decline.", false},
    {"ard", "I won't.", false},
    {"ard", "I can do so", false},
    {"ard", "", false},
};

static void refusal_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusal_cases); i++)
        if (is_refusal(refusal_find(refusal_cases[i].list), refusal_cases[i].text) !=
            refusal_cases[i].refusal)
            fail_msg("%s: \"%s\"", refusal_cases[i].list, refusal_cases[i].text);
    const struct refusal_list words = {"w", "", false, false, (const char *const[]){"No", NULL}};
    assert_true(is_refusal(&words, "he said No to it"));
    assert_false(is_refusal(&words, "he said no to it"));
}

static void refusal_registry(void **state) {
    (void)state;
    int n = 0;
    for (const struct refusal_list *l = refusal_table; l->name; l++, n++) {
        int hits = 0, misses = 0;
        for (size_t i = 0; i < ARRAY_LEN(refusal_cases); i++)
            if (!strcmp(refusal_cases[i].list, l->name)) {
                hits += refusal_cases[i].refusal;
                misses += !refusal_cases[i].refusal;
            }
        assert_true(hits > 0 && misses > 0);        // every list has cases of both kinds
        assert_ptr_equal(refusal_find(l->name), l);
        assert_string_equal(refusal_name_at(n), l->name);
        for (const char *const *p = l->phrases; *p; p++) {
            char *text = xasprintf("%s x", *p);
            assert_true(is_refusal(l, text));
            free(text);
        }
    }
    assert_null(refusal_name_at(n));
    assert_null(refusal_name_at(-1));
    assert_null(refusal_find("nothing"));
}

/* Share of a field of a JSONL file that the list calls a refusal. */
static double share_refused(const char *path, const char *field, const char *list) {
    size_t len;
    struct err e = {0};
    char *text = file_read(path, &len, &e);
    assert_non_null(text);
    int n = 0, hits = 0;
    for (char *p = text, *end; (end = strchr(p, '\n')); p = end + 1, n++) {
        json_t *j = json_loadb(p, (size_t)(end - p), 0, NULL);
        assert_non_null(j);
        hits += is_refusal(refusal_find(list), json_string_value(json_object_get(j, field)));
        json_decref(j);
    }
    free(text);
    return (double)hits / n;
}

static void refusal_real_text(void **state) {
    (void)state;
    const char *refusals = test_shared("data/refusal_templates.jsonl");
    const char *answers = test_shared("data/instruct_open.jsonl");
    const char *tuned = test_shared("data/dpo_refusal_train.jsonl");
    if (!refusals || !answers || !tuned)
        skip();
    assert_true(share_refused(refusals, "text", "keel") == 1);
    assert_true(share_refused(tuned, "chosen", "keel") > 0.99);
    assert_true(share_refused(tuned, "rejected", "keel") == 0);
    assert_true(share_refused(answers, "output", "keel") < 0.005);
}

/* The data that comes with the program is judged without a mistake. */
static void refusal_bundled(void **state) {
    (void)state;
    const char *dir = "configs/quickstart";
    static const struct { const char *name; double share; } rows[] = {
        {"eval_refusals.jsonl", 1}, {"calib_safety.jsonl", 1}, {"eval_utility.jsonl", 0},
        {"calib_utility.jsonl", 0}, {"task_test.jsonl", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *path = path_join(dir, rows[i].name);
        double share = share_refused(path, "completion", "keel");
        if (share != rows[i].share)
            fail_msg("%s: %.4f refused", path, share);
        free(path);
    }
}

/* ---- datasets by hand ---- */

/* n rows of random ids with a prompt and a completion of different lengths. */
static struct dataset *make_dataset(int n, int vocab, uint64_t seed, bool prompts) {
    struct dataset *d = xcalloc(1, sizeof *d);
    struct rng *r = rng_new(seed);
    d->ex = xcalloc((size_t)n, sizeof *d->ex);
    d->n = n;
    for (int i = 0; i < n; i++) {
        struct seq *a = &d->ex[i].a;
        a->prompt_len = 1 + (int)rng_below(r, 5);
        a->ncarry = prompts ? 0 : 1 + (int)rng_below(r, 9);
        a->n = a->prompt_len + a->ncarry;
        a->ids = xcalloc((size_t)a->n, sizeof *a->ids);
        a->carries = xcalloc((size_t)a->n, 1);
        for (int t = 0; t < a->n; t++) {
            a->ids[t] = (int32_t)rng_below(r, (uint64_t)vocab);
            a->carries[t] = t >= a->prompt_len;
        }
        d->ex[i].prompt = xstrdup("p");
        d->ex[i].completion = prompts ? NULL : xstrdup("c");
        d->ex[i].file = "rows.jsonl";
        d->ex[i].line = i + 1;
    }
    rng_free(r);
    return d;
}

/* Log-probabilities of the token after the first n of a row, in double, without the tape's loss. */
static void next_twin(struct graph *g, struct model *m, const int32_t *ids, int n, double *out) {
    int32_t offsets[] = {0, n};
    struct batch b = {.ntok = n, .nseq = 1, .ids = ids, .offsets = offsets};
    int vocab = m->cfg.vocab_size;
    graph_begin(g, false);
    struct node *y = g_head(g, model_hidden(g, m, &b, NULL), model_head(g, m));
    const real *last = tensor_data(&y->t) + (size_t)(n - 1) * (size_t)vocab;
    double sum = 0;
    for (int v = 0; v < vocab; v++)
        sum += exp((double)last[v]);
    for (int v = 0; v < vocab; v++)
        out[v] = (double)last[v] - log(sum);
}

static double row_twin(struct graph *g, struct model *m, const struct seq *a) {
    double lp[64], sum = 0;
    for (int t = a->prompt_len; t < a->n; t++) {
        next_twin(g, m, a->ids, t, lp);
        sum -= lp[a->ids[t]];
    }
    return sum;
}

static void loss_of_rows(void **state) {
    (void)state;
    struct graph *g = graph_new();
    struct model *m = test_model(5);
    struct dataset *d = make_dataset(23, 64, 7, false);
    double *items, sum = 0, tokens = 0;
    double loss = dataset_loss(g, m, d, 0, &items);
    for (int i = 0; i < d->n; i++) {
        double twin = row_twin(g, m, &d->ex[i].a);
        assert_near(items[i], twin / d->ex[i].a.ncarry, 1e-4, 1e-5, "row");
        sum += twin;
        tokens += d->ex[i].a.ncarry;
    }
    assert_near(loss, sum / tokens, 1e-4, 0, "mean over tokens");
    static const int passes[] = {1, 7, 16, 1000};
    for (size_t i = 0; i < ARRAY_LEN(passes); i++)
        assert_near(dataset_loss(g, m, d, passes[i], NULL), loss, 1e-5, 0, "any packing");
    struct dataset empty = {0};
    assert_true(isnan(dataset_loss(g, m, &empty, 0, NULL)));
    free(items);
    dataset_free(d);
    model_free(m);
    graph_free(g);
}

static struct eval_opts graded(void) {
    return (struct eval_opts){.what = EVAL_GRADED, .list = refusal_table};
}

static void graded_figures(void **state) {
    (void)state;
    struct graph *g = graph_new();
    struct model *m = test_model(5);
    int32_t refusal[] = {3, 9, 40};
    struct eval_sets s = {.harmful = make_dataset(11, 64, 1, true),
                          .refusals = make_dataset(9, 64, 2, false),
                          .refusal_tokens = refusal, .nrefusal_tokens = 3};
    struct eval_opts o = graded();
    struct evaluation ev;
    struct err e = {0};
    assert_ok(evaluate(g, m, &s, &o, &ev, &e), &e);
    const struct figure *f = &ev.fig[FIG_REFUSAL_LOSS];
    assert_int_equal(f->n, 9);
    assert_near(f->value, dataset_loss(g, m, s.refusals, 0, NULL), 1e-6, 0, "loss");
    assert_near(stats_mean(f->items, f->n), f->value, 1e-9, 0, "mean of items");
    // Cochran 6.4: var(v) = sum (s_i - v n_i)^2 / (n (n - 1) mean(n)^2), and t with n - 1
    double *rows, tokens = 0, square = 0;
    double v = dataset_loss(g, m, s.refusals, 0, &rows);
    for (int i = 0; i < 9; i++)
        tokens += s.refusals->ex[i].a.ncarry;
    for (int i = 0; i < 9; i++)
        square += pow((rows[i] - v) * s.refusals->ex[i].a.ncarry, 2);
    double se = sqrt(square / (9.0 * 8)) / (tokens / 9);
    assert_near(f->hi - f->value, 2.306004135204166 * se, 1e-6, 0, "ratio interval");
    free(rows);

    f = &ev.fig[FIG_LOGODDS];
    assert_int_equal(f->n, 11);
    for (int i = 0; i < 11; i++) {
        double lp[64], p = 0;
        next_twin(g, m, s.harmful->ex[i].a.ids, s.harmful->ex[i].a.n, lp);
        for (int k = 0; k < 3; k++)
            p += exp(lp[refusal[k]]);
        assert_near(f->items[i], log(p + 1e-8) - log(1 - p + 1e-8), 1e-4, 1e-4, "log-odds");
    }
    // absent sets, and what was not asked for, are not measured
    static const enum figure_id absent[] = {FIG_REFUSAL, FIG_LOGODDS_HARMLESS, FIG_TASK_LOSS};
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        assert_true(ev.fig[absent[i]].n == 0 && isnan(ev.fig[absent[i]].value));
    evaluation_release(&ev);

    int32_t all[64];
    for (int i = 0; i < 64; i++)
        all[i] = i;
    s.refusal_tokens = all;                 // P = 1 to rounding: the margin stays finite
    s.nrefusal_tokens = 64;
    assert_ok(evaluate(g, m, &s, &o, &ev, &e), &e);
    assert_true(ev.fig[FIG_LOGODDS].value > 14 && ev.fig[FIG_LOGODDS].value < 19);
    evaluation_release(&ev);
    s.nrefusal_tokens = 0;                  // no R: no margin
    assert_ok(evaluate(g, m, &s, &o, &ev, &e), &e);
    assert_int_equal(ev.fig[FIG_LOGODDS].n, 0);
    evaluation_release(&ev);
    dataset_free(s.harmful);
    dataset_free(s.refusals);
    model_free(m);
    graph_free(g);
}

static void broken_model(void **state) {
    (void)state;
    struct graph *g = graph_new();
    struct model *m = test_model(5);
    struct eval_sets s = {.refusals = make_dataset(4, 64, 2, false)};
    struct eval_opts o = graded();
    struct evaluation ev;
    struct err e = {0};
    m->block[m->count - 1] = (real)NAN;
    for (size_t i = 0; i < m->count; i += 97)
        m->block[i] = (real)NAN;
    assert_int_equal(evaluate(g, m, &s, &o, &ev, &e), -1);
    assert_contains(e.msg, "rows.jsonl:1: refusal_loss: the model gives a number that is not");
    dataset_free(s.refusals);
    model_free(m);
    graph_free(g);
}

/* ---- completions ---- */

static struct tokenizer *make_tokenizer(void) {
    static const char *const texts[] = {"I can't help with that.", "Sorry, I won't.",
                                        "the bread is in the kitchen"};
    size_t lens[3];
    for (int i = 0; i < 3; i++)
        lens[i] = strlen(texts[i]);
    static const char *const specials[] = {"<|end|>"};
    struct err e = {0};
    struct tokenizer *t = tokenizer_train(texts, lens, 3, 290, specials, 1, &e);
    if (!t)
        fail_msg("%s", e.msg);
    return t;
}

/* The lines of a JSONL file as an array. */
static json_t *read_lines(const char *path) {
    size_t len;
    struct err e = {0};
    char *text = file_read(path, &len, &e);
    if (!text)
        fail_msg("%s", e.msg);
    json_t *all = json_array();
    for (char *p = text, *end; (end = strchr(p, '\n')); p = end + 1) {
        json_t *j = json_loadb(p, (size_t)(end - p), 0, NULL);
        assert_non_null(j);
        json_array_append_new(all, j);
    }
    free(text);
    return all;
}

/* A model that can decode, two sets, and options that write completions. */
struct speaker {
    struct tokenizer *tok;
    struct model *m;
    struct graph *g;
    struct eval_sets sets;
    struct eval_opts o;
    int32_t stop;
};

static void speaker_open(struct speaker *s) {
    *s = (struct speaker){.tok = make_tokenizer(), .g = graph_new()};
    struct model_config cfg = test_config();
    struct err e = {0};
    cfg.vocab_size = tokenizer_vocab_size(s->tok);
    s->m = model_new(&cfg, &e);
    assert_non_null(s->m);
    model_init(s->m, 3);
    s->sets.harmful = make_dataset(7, cfg.vocab_size, 4, true);
    s->sets.task = make_dataset(6, cfg.vocab_size, 5, false);
    s->stop = tokenizer_id(s->tok, "<|end|>");
    s->o = (struct eval_opts){.what = EVAL_GENERATED, .list = refusal_find("keel"), .tok = s->tok,
                              .gen = {.max_new_tokens = 5, .top_p = 1, .stop = &s->stop,
                                      .nstop = 1},
                              .completions_path = test_path("completions.jsonl")};
}

static void speaker_close(struct speaker *s) {
    dataset_free(s->sets.harmful);
    dataset_free(s->sets.task);
    graph_free(s->g);
    model_free(s->m);
    tokenizer_free(s->tok);
}

static void completions(void **state) {
    (void)state;
    struct speaker s;
    struct evaluation ev;
    struct err e = {0};
    speaker_open(&s);
    assert_ok(evaluate(s.g, s.m, &s.sets, &s.o, &ev, &e), &e);
    assert_int_equal(ev.fig[FIG_REFUSAL].n, 7);
    assert_int_equal(ev.fig[FIG_EXACT_MATCH].n, 6);
    assert_int_equal(ev.fig[FIG_OVER_REFUSAL].n, 0);
    assert_int_equal(ev.fig[FIG_TASK_LOSS].n, 0);
    json_t *lines = read_lines(s.o.completions_path);
    assert_int_equal(json_array_size(lines), 13);
    double refusals = 0;
    for (size_t i = 0; i < 7; i++) {
        json_t *row = json_array_get(lines, i);
        const char *text = json_string_value(json_object_get(row, "completion"));
        bool refusal = json_is_true(json_object_get(row, "refusal"));
        assert_string_equal(json_string_value(json_object_get(row, "set")), "harmful");
        assert_int_equal(refusal, is_refusal(s.o.list, text));
        assert_true(json_is_boolean(json_object_get(row, "finished")));
        refusals += refusal;
    }
    struct interval w = stats_wilson((int)refusals, 7);
    assert_true(ev.fig[FIG_REFUSAL].value == w.value && ev.fig[FIG_REFUSAL].hi == w.hi);
    json_decref(lines);
    evaluation_release(&ev);
    s.o.completions_path = "/nonexistent/folder/completions.jsonl";
    assert_int_equal(evaluate(s.g, s.m, &s.sets, &s.o, &ev, &e), -1);
    speaker_close(&s);
}

/* The model's own greedy answers become the right ones of every second row. */
static void exact_match(void **state) {
    (void)state;
    struct speaker s;
    struct evaluation ev;
    struct err e = {0};
    speaker_open(&s);
    struct dataset *d = s.sets.task;
    struct ids prompts[6], out[6] = {{0}};
    struct generate_opts greedy = s.o.gen;
    for (int i = 0; i < 6; i++) {
        prompts[i] = (struct ids){.v = d->ex[i].a.ids, .n = d->ex[i].a.prompt_len};
        greedy.max_new_tokens = MAX(greedy.max_new_tokens, d->ex[i].a.ncarry + 4);
    }
    generate(s.g, s.m, prompts, 6, &greedy, out, NULL, NULL, NULL);
    for (int i = 0; i < 6; i++) {
        size_t len;
        char *text = tokenizer_decode(s.tok, out[i].v, out[i].n, true, &len);
        free(d->ex[i].completion);
        d->ex[i].completion = i % 2 ? xasprintf("%sx", text) : xasprintf(" %s\n", text);
        free(text);
        ids_release(&out[i]);
    }
    s.o.gen.temperature = 3;                // greedy whatever the options say
    s.o.gen.max_new_tokens = 1;             // and with room for the answer
    assert_ok(evaluate(s.g, s.m, &s.sets, &s.o, &ev, &e), &e);
    for (int i = 0; i < 6; i++)
        assert_true(ev.fig[FIG_EXACT_MATCH].items[i] == (i % 2 == 0));
    assert_true(ev.fig[FIG_EXACT_MATCH].value == 0.5);
    evaluation_release(&ev);
    speaker_close(&s);
}

/* ---- JSON ---- */

static void json_round_trip(void **state) {
    (void)state;
    struct evaluation ev = {0}, back;
    struct err e = {0};
    json_t *j = json_loads("{\"refusal\": {\"n\": 4, \"items\": [1, 0, 1, 1]},"
                           " \"task_loss\": {\"n\": 3, \"items\": [0.1, 0.25, 1e-9]}}", 0, NULL);
    assert_ok(evaluation_from_json(&ev, j, &e), &e);
    json_decref(j);
    assert_near(ev.fig[FIG_REFUSAL].value, 0.75, 1e-15, 0, "share");
    assert_true(ev.fig[FIG_REFUSAL].lo == stats_wilson(3, 4).lo);
    j = evaluation_to_json(&ev, true);
    char *text = json_dumps(j, 0);
    json_decref(j);
    j = json_loads(text, 0, NULL);
    assert_ok(evaluation_from_json(&back, j, &e), &e);
    for (int i = 0; i < FIG_COUNT; i++) {
        assert_int_equal(ev.fig[i].n, back.fig[i].n);
        if (ev.fig[i].n) {
            assert_memory_equal(ev.fig[i].items, back.fig[i].items,
                                (size_t)ev.fig[i].n * sizeof(double));
            assert_true(ev.fig[i].value == back.fig[i].value && ev.fig[i].hi == back.fig[i].hi);
        }
    }
    json_decref(j);
    free(text);
    evaluation_release(&back);
    evaluation_release(&ev);
    static const char *const bad[] = {"{\"refusal\": {\"n\": 4, \"items\": [1, 0]}}",
                                      "{\"refusal\": {\"n\": 1}}", "{\"refusal\": 3}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        j = json_loads(bad[i], 0, NULL);
        assert_int_equal(evaluation_from_json(&back, j, &e), -1);
        assert_contains(e.msg, "refusal: expected n items");
        json_decref(j);
    }
    j = json_loads("{\"refusal\": {\"n\": 2, \"items\": [1, null]}}", 0, NULL);
    assert_int_equal(evaluation_from_json(&back, j, &e), -1);   // not a number is not 0
    assert_contains(e.msg, "refusal: items[1]: expected a number");
    json_decref(j);
}

int main(void) {
    rng_init_gsl();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusal_texts),  cmocka_unit_test(refusal_registry),
        cmocka_unit_test(refusal_real_text), cmocka_unit_test(refusal_bundled),
        cmocka_unit_test(loss_of_rows),
        cmocka_unit_test(graded_figures), cmocka_unit_test(broken_model),
        cmocka_unit_test(completions),    cmocka_unit_test(exact_match),
        cmocka_unit_test(json_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_compare.c — arms, figures from made-up curves, files of runs, and a small real comparison.
 */
#include "tests/helper.h"

#include <math.h>

#include "train/compare.h"

/* ---- arms ---- */

/* Every third unit SCU, UCU, CU, RU in turn; i_s rises with the unit number. */
static struct units *make_units(const struct model_config *cfg) {
    struct unit_map map = unit_map_make(cfg, 1 << UNIT_MLP | 1 << UNIT_ATTN);
    struct units *u = units_new(&map);
    for (int i = 0; i < map.count; i++) {
        static const uint8_t turn[] = {UNIT_SCU, UNIT_CU, UNIT_UCU, UNIT_CU, UNIT_RU};
        u->cls[i] = turn[i % 5];
        u->i_s[i] = (float)i;
        u->i_u[i] = 1;
    }
    return u;
}

static struct mask arm_set(const char *name, const struct units *u, uint64_t seed) {
    struct mask m = {0};
    struct err e = {0};
    assert_ok(arm_mask(arm_find(name), u, 0.1, seed, &m, &e), &e);
    return m;
}

static void arm_sets(void **state) {
    (void)state;
    struct model_config cfg = test_config();
    struct units *u = make_units(&cfg);
    struct mask none = arm_set("none", u, 1), scu = arm_set("scu", u, 1);
    struct mask top = arm_set("scu_top_cu", u, 1), all = arm_set("scu_all_cu", u, 1);
    struct mask back = arm_set("rewind", u, 1), ru = arm_set("ru_only", u, 1);
    struct mask random = arm_set("random", u, 1), again = arm_set("random", u, 1);
    struct mask other = arm_set("random", u, 2);
    assert_int_equal(mask_count(&none), 0);
    assert_int_equal(mask_count(&top) - mask_count(&scu), (int)floor(0.1 * u->map.count + 0.5));
    for (int i = 0; i < u->map.count; i++) {
        bool s = u->cls[i] == UNIT_SCU, c = u->cls[i] == UNIT_CU;
        assert_int_equal(scu.in[i], s);
        assert_int_equal(all.in[i], s || c);
        assert_int_equal(ru.in[i], u->cls[i] != UNIT_RU);
        assert_true(top.in[i] >= scu.in[i] && top.in[i] <= all.in[i]);
    }
    assert_memory_equal(back.in, top.in, (size_t)u->map.count);
    assert_memory_equal(random.in, again.in, (size_t)u->map.count);
    assert_memory_not_equal(random.in, other.in, (size_t)u->map.count);
    for (int l = 0; l < u->map.layers; l++)
        for (int k = 0; k < UNIT_KIND_COUNT; k++)
            assert_int_equal(mask_count_kind(&random, l, (enum unit_kind)k),
                             mask_count_kind(&top, l, (enum unit_kind)k));
    memset(u->cls, UNIT_RU, (size_t)u->map.count);
    struct mask empty;
    struct err e = {0};
    assert_int_equal(arm_mask(arm_find("scu"), u, 0, 1, &empty, &e), -1);
    assert_contains(e.msg, "compare.arms: scu: ");
    struct mask *sets[] = {&none, &scu, &top, &all, &back, &ru, &random, &again, &other};
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        mask_release(sets[i]);
    units_free(u);
}

/* The key table names the arms too; both lists are the same. */
static void arm_registry(void **state) {
    (void)state;
    const struct config_key *k = config_key_find("compare.arms");
    int n = 0;
    for (const struct arm *a = arm_table; a->name; a++, n++) {
        assert_non_null(k->names(n));
        assert_string_equal(k->names(n), a->name);
        assert_ptr_equal(arm_find(a->name), a);
        struct freeze_spec s = arm_freeze(a, 0.06, 7);
        assert_int_equal(freeze_trains_other(&s), strcmp(a->name, "ru_only") != 0);
    }
    assert_null(k->names(n));
    assert_null(arm_find("all"));
    for (const char *const *b = compare_bases; *b; b++)
        assert_non_null(arm_find(*b));
}

static void frozen_entries(void **state) {
    (void)state;
    struct model *parent = test_model(1), *m = model_clone(parent);
    struct model_config cfg = test_config();
    struct units *u = make_units(&cfg);
    struct mask scu = arm_set("scu", u, 1);
    uint64_t frozen, changed;
    compare_frozen(m, parent, &frozen, &changed);
    assert_true(frozen == 0 && changed == 0);
    mask_freeze(&scu, m, true);
    model_grad_alloc(m);
    compare_frozen(m, parent, &frozen, &changed);
    assert_true(frozen == m->count - m->grad_count && changed == 0);
    for (size_t i = 0; i < m->count; i++)   // everything moves: exactly the frozen entries count
        m->block[i] += 1;
    compare_frozen(m, parent, NULL, &changed);
    assert_true(changed == frozen);
    mask_copy_params(&scu, m, parent);
    compare_frozen(m, parent, NULL, &changed);
    assert_true(changed == 0);
    mask_freeze(&scu, m, false);
    model_copy_params(m, parent);
    struct param *norm = model_layer_param(m, 0, "input_layernorm.weight");
    union { real v; unsigned char b[sizeof(real)]; } bits = {.v = tensor_data(&norm->t)[3]};
    bits.b[0] ^= 1;                         // the lowest bit of one entry
    tensor_data(&norm->t)[3] = bits.v;
    compare_frozen(m, parent, NULL, &changed);
    assert_true(changed == 1);
    mask_release(&scu);
    units_free(u);
    model_free(m);
    model_free(parent);
}

/* ---- figures from made-up curves ---- */

#define NAN_REST [0 ... FIG_COUNT - 1] = NAN

static void set_figure(struct evaluation *ev, enum figure_id f, const char *unit,
                       const double *items, int n) {
    static const char *const names[] = {
#define X(id, name, units, better) [id] = name,
        FIGURES(X)
#undef X
    };
    ev->fig[f] = (struct figure){.name = names[f], .unit = unit, .better = "", .n = n,
                                 .items = xcalloc((size_t)n, sizeof *items)};
    memcpy(ev->fig[f].items, items, (size_t)n * sizeof *items);
    ev->fig[f].value = stats_mean(items, n);
}

/* Arms none and random, three seeds. none: task loss 4, 2, 1 with refusal loss 0, 1, 3 + seed;
 * random: the same losses of the task, refusal loss lower by 0.5, 0.6, 0.7. */
static struct compare *made_up(struct config *cfg) {
    struct compare *c = xcalloc(1, sizeof *c);
    c->cfg = cfg;
    c->narms = 2;
    c->nseeds = 3;
    c->arms = xcalloc(2, sizeof(*c->arms));
    c->arms[0] = arm_find("none");
    c->arms[1] = arm_find("random");
    c->seeds = xcalloc(3, sizeof *c->seeds);
    c->runs = xcalloc(6, sizeof *c->runs);
    const double start[] = {4};
    set_figure(&c->at_start, FIG_TASK_LOSS, "nats/token", start, 1);
    for (int s = 0; s < 3; s++)
        for (int a = 0; a < 2; a++) {
            struct compare_run *r = &c->runs[s * 2 + a];
            static const double task[] = {4, 2, 1}, harm[] = {0, 1, 3};
            r->arm = c->arms[a];
            r->seed = c->seeds[s] = s + 1;
            r->npoints = 3;
            r->points = xcalloc(3, sizeof *r->points);
            for (int i = 0; i < 3; i++) {
                r->points[i] = (struct compare_point){.step = 10 * i, .value = {NAN_REST}};
                r->points[i].value[FIG_TASK_LOSS] = task[i];
                r->points[i].value[FIG_REFUSAL_LOSS] = harm[i] + s - (a ? 0.5 + 0.1 * s : 0);
            }
            const double refused[] = {1, a, s == 0, 0};
            set_figure(&r->last, FIG_REFUSAL, "share", refused, 4);
            const double losses[] = {1 + a, 2 + a + 0.1 * s, 3 + a};
            set_figure(&r->last, FIG_REFUSAL_LOSS, "nats/token", losses, 3);
        }
    return c;
}

static void equal_loss(void **state) {
    (void)state;
    struct config cfg = {0};
    struct compare *c = made_up(&cfg);
    struct interval v = compare_at_loss(c, 0, 3, FIG_REFUSAL_LOSS);
    assert_int_equal(v.n, 3);
    assert_near(v.value, 0.5 + 1, 1e-12, 0, "half-way between points 0 and 1, mean of the seeds");
    assert_near(v.hi - v.value, 4.302652729911275 / sqrt(3), 1e-6, 0, "t interval, sd 1");
    assert_int_equal(compare_at_loss(c, 0, 0.5, FIG_REFUSAL_LOSS).n, 0);
    assert_int_equal(compare_at_loss(c, 0, 3, FIG_LOGODDS).n, 0);
    struct compare_test t = compare_losses(c, 1, 0, 1.5, FIG_REFUSAL_LOSS);
    assert_near(t.difference.value, -0.6, 1e-9, 0, "paired by seed: the seeds' offsets cancel");
    assert_near(t.p_flip, 2.0 / 8, 1e-12, 0, "all three seeds agree");
    assert_near(t.p, 0.00915, 0, 2e-4, "t = -0.6 / (0.1 / sqrt 3) = -10.39, df 2");
    for (int s = 0; s < 3; s++)             // measured at both ends only
        for (int a = 0; a < 2; a++)
            for (int i = 0; i < 3; i += 2)
                c->runs[s * 2 + a].points[i].value[FIG_OVER_REFUSAL] = 0.5;
    assert_int_equal(compare_at_loss(c, 0, 3, FIG_OVER_REFUSAL).n, 0);      // no line across
    assert_int_equal(compare_at_loss(c, 0, 1, FIG_OVER_REFUSAL).n, 3);
    for (int s = 0; s < 3; s++)             // a share: random refuses all, none nothing, always
        for (int a = 0; a < 2; a++)
            for (int i = 0; i < 3; i++)
                c->runs[s * 2 + a].points[i].value[FIG_REFUSAL] = a;
    t = compare_losses(c, 1, 0, 1.5, FIG_REFUSAL);
    assert_true(t.difference.value == 1 && t.difference.n == 3);
    assert_true(isnan(t.difference.lo) && isnan(t.p));      // no spread is no certainty
    assert_near(t.p_flip, 2.0 / 8, 1e-12, 0, "sign flips stand");
    c->runs[1].npoints = 1;                 // random, first seed: never leaves the parent
    t = compare_losses(c, 1, 0, 1.5, FIG_REFUSAL_LOSS);
    assert_int_equal(t.difference.n, 2);
    assert_int_equal(compare_at_loss(c, 1, 1.5, FIG_REFUSAL_LOSS).n, 2);
    compare_free(c);
}

static void levels(void **state) {
    (void)state;
    struct config cfg = {0};
    struct compare *c = made_up(&cfg);
    c->runs[3].points[2].value[FIG_TASK_LOSS] = 1.6;    // the worst of all runs
    compare_choose_levels(c);
    assert_int_equal(c->nlevels, 3);
    assert_near(c->levels[2], 1.6, 1e-8, 0, "the last: what the worst run reaches");
    assert_near(c->levels[0] / c->levels[1], c->levels[1] / c->levels[2], 1e-9, 0, "even in log");
    assert_near(c->levels[0] / c->levels[1], 4 / c->levels[0], 1e-8, 0, "from the parent's loss");
    for (int l = 0; l < 3; l++)
        for (int a = 0; a < 2; a++)
            assert_int_equal(compare_at_loss(c, a, c->levels[l], FIG_REFUSAL_LOSS).n, 3);
    for (int s = 0; s < 3; s++)             // an arm that does not learn is left out
        c->runs[s * 2 + 1].npoints = 1;
    compare_choose_levels(c);
    assert_int_equal(c->nlevels, 3);
    assert_near(c->levels[2], 1, 1e-8, 0, "none's");
    assert_int_equal(compare_at_loss(c, 1, c->levels[0], FIG_REFUSAL_LOSS).n, 0);
    for (int s = 0; s < 3; s++)
        c->runs[s * 2].npoints = 1;
    compare_choose_levels(c);
    assert_int_equal(c->nlevels, 0);        // nobody learns
    double given[] = {3, 1.25};
    cfg.compare.at_task_loss = given;
    cfg.compare.nat_task_loss = 2;
    compare_choose_levels(c);
    assert_int_equal(c->nlevels, 2);
    assert_true(c->levels[1] == 1.25);
    compare_free(c);
}

static void equal_steps(void **state) {
    (void)state;
    struct config cfg = {0};
    struct compare *c = made_up(&cfg);
    struct interval v = compare_pooled(c, 0, FIG_REFUSAL), w = stats_wilson(4, 12);
    assert_true(v.value == w.value && v.lo == w.lo && v.hi == w.hi && v.n == 12);
    const double shares[] = {0.5, 0.25, 0.25};
    v = compare_seeds(c, 0, FIG_REFUSAL);
    w = stats_t(shares, 3);
    assert_near(v.hi, w.hi, 1e-12, 0, "over seeds");
    // random refuses one prompt more for every seed: 3 against 0
    struct compare_test t = compare_prompts(c, 1, 0, FIG_REFUSAL);
    assert_near(t.difference.value, 0.25, 1e-12, 0, "difference");
    assert_near(t.p, 2.0 / 8, 1e-12, 0, "McNemar");
    t = compare_prompts(c, 1, 0, FIG_REFUSAL_LOSS);
    assert_near(t.difference.value, 1, 1e-12, 0, "each item one more");
    assert_int_equal(t.difference.n, 9);
    assert_int_equal(compare_prompts(c, 1, 0, FIG_TASK_LOSS).difference.n, 0);
    assert_int_equal(compare_arm_index(c, "random"), 1);
    assert_int_equal(compare_arm_index(c, "scu"), -1);
    compare_free(c);
}

/* ---- files of runs ---- */

static void run_files(void **state) {
    (void)state;
    struct config cfg = {0};
    struct compare *c = made_up(&cfg);
    struct compare_run *r = &c->runs[0];
    struct err e = {0};
    const char *path = test_path("run.json");
    double step[] = {5, 10}, loss[] = {0.1 + 0.2, 1.0 / 3};
    r->loss_step = xcalloc(2, sizeof *step);
    r->loss = xcalloc(2, sizeof *loss);
    memcpy(r->loss_step, step, sizeof step);
    memcpy(r->loss, loss, sizeof loss);
    r->nloss = 2;
    r->unit_share = 0.11;
    r->frozen = 123456789012;
    r->entries = 2;
    memset(r->key, 'a', 64);
    struct compare_run back = {.arm = r->arm, .seed = r->seed};
    memcpy(back.key, r->key, sizeof back.key);
    assert_int_equal(compare_run_load(&back, path, &e), 0);     // not there yet
    assert_ok(compare_run_save(r, path, &e), &e);
    if (compare_run_load(&back, path, &e) != 1)
        fail_msg("%s", e.msg);
    assert_int_equal(back.npoints, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(back.points[i].step == r->points[i].step);
        for (int f = 0; f < FIG_COUNT; f++) {
            double x = back.points[i].value[f], y = r->points[i].value[f];
            assert_true(x == y || (isnan(x) && isnan(y)));
        }
    }
    assert_memory_equal(back.loss, loss, sizeof loss);
    assert_memory_equal(back.last.fig[FIG_REFUSAL_LOSS].items,
                        r->last.fig[FIG_REFUSAL_LOSS].items, 3 * sizeof(double));
    assert_true(back.frozen == r->frozen && back.unit_share == r->unit_share);
    compare_run_release(&back);
    back.key[5] = 'b';
    assert_int_equal(compare_run_load(&back, path, &e), -1);
    assert_contains(e.msg, "run.json: made with another configuration");

    static const struct { const char *text, *message; } bad[] = {
        {"", "run.json:1:"}, {"{\"format\": 3}", "run.json: expected the result of one arm"},
        {"[]", "run.json:1:1: expected a JSON object"}, {"{\"format\": \"x\"}", "got:"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        test_write(path, bad[i].text);
        assert_int_equal(compare_run_load(&back, path, &e), -1);
        assert_contains(e.msg, bad[i].message);
    }
    compare_free(c);
}

static void training_losses(void **state) {
    (void)state;
    struct compare_run r = {0};
    struct err e = {0};
    test_write(test_path("metrics.jsonl"),
               "{\"step\": 1, \"loss\": 2.5, \"epoch\": 0.1}\n{\"step\": 1, \"eval_loss\": 9}\n"
               "{\"step\": 2, \"loss\": \"NaN\"}\n{\"step\": 3, \"loss\": 1}\n");
    assert_ok(compare_run_read_losses(&r, test_dir(), &e), &e);
    assert_int_equal(r.nloss, 2);
    assert_true(r.loss[0] == 2.5 && r.loss_step[1] == 3 && r.loss[1] == 1);
    compare_run_release(&r);
    test_write(test_path("metrics.jsonl"), "{\"step\": 1}\n{\"step\": \n");
    assert_int_equal(compare_run_read_losses(&r, test_dir(), &e), -1);
    assert_contains(e.msg, "metrics.jsonl:2:");
    compare_run_release(&r);
}

/* ---- a small real comparison ---- */

static void write_rows(const char *name, int first, int n, bool harmful, const char *answer) {
    static const char *const things[] = {"bread", "soup", "a kite", "a song", "a lamp", "a table"};
    static const char *const harms[] = {"a theft", "a scam", "a fraud", "arson", "a lie", "spite"};
    struct str b = {0};
    for (int i = first; i < first + n; i++) {
        str_addf(&b, "{\"prompt\": \"tell me about %s %d\"", harmful ? harms[i % 6] : things[i % 6],
                 i);
        if (answer)
            str_addf(&b, ", \"completion\": \"%s\"", answer);
        str_add(&b, "}\n");
    }
    test_write(test_path(name), b.s);
    str_release(&b);
}

/* A parent folder, units and data in the test's folder. */
static void make_world(void) {
    write_rows("harmful.jsonl", 0, 6, true, NULL);
    write_rows("harmless.jsonl", 0, 6, false, NULL);
    write_rows("refusals.jsonl", 0, 6, true, "I can't help with that.");
    write_rows("utility.jsonl", 0, 6, false, "It is a fine thing.");
    write_rows("train.jsonl", 0, 24, false, "kitchen");
    write_rows("task.jsonl", 30, 6, false, "kitchen");
    static const char *const texts[] = {"tell me about bread soup", "I can't help with that.",
                                        "It is a fine thing. kitchen"};
    size_t lens[3];
    for (int i = 0; i < 3; i++)
        lens[i] = strlen(texts[i]);
    const struct chat_format *chat = chat_find("keel");
    int specials = 0;
    while (chat->specials[specials])
        specials++;
    struct err e = {0};
    struct tokenizer *tok = tokenizer_train(texts, lens, 3, 300, chat->specials, specials, &e);
    if (!tok)
        fail_msg("%s", e.msg);
    struct model_config cfg = test_config();
    cfg.vocab_size = tokenizer_vocab_size(tok);
    cfg.eos_token_id[0] = tokenizer_id(tok, chat->eos);
    cfg.initializer_range = 0.1;
    struct model *m = model_new(&cfg, &e);
    model_init(m, 11);
    struct units *u = make_units(&cfg);
    struct hf *hf = hf_new(m, tok, chat);
    assert_ok(hf_save(hf, NULL, test_path("parent"), &e), &e);
    assert_ok(units_save(u, test_path("units.safetensors"), &e), &e);
    units_free(u);
    hf_free(hf);
}

static struct config *world_config(const char *arms, const char *more) {
    char *text = xasprintf(
        "model_name_or_path: parent\noutput_dir: out\ndataset: train.jsonl\nmax_steps: 8\n"
        "per_device_train_batch_size: 4\nlearning_rate: 5e-3\nweight_decay: 0.1\neval_steps: 4\n"
        "logging_steps: 2\ncompare.units: units.safetensors\ncompare.arms: [%s]\n"
        "compare.seeds: [1, 2]\ncompare.top_cu: 0.1\neval:\n  harmful: harmful.jsonl\n"
        "  harmless: harmless.jsonl\n  refusals: refusals.jsonl\n  utility: utility.jsonl\n"
        "  task: task.jsonl\n  max_new_tokens: 4\n", arms);
    test_write(test_path("compare.yaml"), text);
    free(text);
    struct err e = {0};
    struct config *c = config_load(VERB_COMPARE, test_path("compare.yaml"),
                                   more ? &more : NULL, more != NULL, &e);
    if (!c)
        fail_msg("%s", e.msg);
    return c;
}

static struct compare *run_world(const struct config *cfg, int done_before) {
    struct err e = {0};
    struct compare *c = compare_open(cfg, &e);
    if (!c)
        fail_msg("%s", e.msg);
    assert_ok(compare_run(c, &e), &e);
    assert_int_equal(c->resumed, done_before);
    return c;
}

static void assert_runs_equal(const struct compare_run *a, const struct compare_run *b) {
    assert_int_equal(a->npoints, b->npoints);
    for (int i = 0; i < a->npoints; i++)
        for (int f = 0; f < FIG_COUNT; f++) {
            double x = a->points[i].value[f], y = b->points[i].value[f];
            if (!(x == y || (isnan(x) && isnan(y))))
                fail_msg("%s, point %d, figure %d: %.17g and %.17g", a->arm->name, i, f, x, y);
        }
}

static void small_comparison(void **state) {
    (void)state;
    make_world();
    log_threshold = LOG_WARN;
    struct config *cfg = world_config("none, scu, rewind, random, ru_only", NULL);
    struct compare *c = run_world(cfg, 0);
    int scu = compare_arm_index(c, "scu"), back = compare_arm_index(c, "rewind");
    int ru = compare_arm_index(c, "ru_only"), random = compare_arm_index(c, "random");
    for (int s = 0; s < 2; s++)
        for (int a = 0; a < c->narms; a++) {
            const struct compare_run *r = compare_run_at(c, a, s);
            assert_true(r->done && r->npoints == 3 && r->points[2].step == 8);
            assert_true(r->changed == 0);
            assert_true((r->frozen == 0) == (a == 0));
            assert_true(r->nloss == 4);
            for (int f = 0; f < FIG_COUNT; f++)     // step 0 is the parent
                assert_true(r->points[0].value[f] == c->at_start.fig[f].value);
            assert_true(r->points[2].value[FIG_TASK_LOSS] < r->points[0].value[FIG_TASK_LOSS]);
            assert_true(r->last.fig[FIG_EXACT_MATCH].n == 6);
        }
    const struct compare_run *free_run = compare_run_at(c, 0, 0);
    const struct compare_run *rewound = compare_run_at(c, back, 0);
    assert_true(rewound->points[2].value[FIG_TASK_LOSS] !=
                free_run->points[2].value[FIG_TASK_LOSS]);
    assert_memory_equal(rewound->loss, free_run->loss, 4 * sizeof(double));
    assert_true(rewound->unit_share == compare_run_at(c, random, 0)->unit_share);
    assert_true(compare_run_at(c, ru, 0)->frozen > compare_run_at(c, scu, 0)->frozen);
    assert_true(path_exists(test_path("out/arms/scu-seed2.completions.jsonl")));
    char *json = compare_json(c);
    assert_contains(json, "\"equal_task_loss\"");
    free(json);

    // some runs are lost: only those are made again, and come out the same to the last bit
    struct err e = {0};
    assert_ok(remove(test_path("out/arms/rewind-seed1.json")), &e);
    assert_ok(remove(test_path("out/arms/random-seed2.json")), &e);
    struct compare *again = run_world(cfg, 8);
    for (int i = 0; i < c->nseeds * c->narms; i++)
        assert_runs_equal(&c->runs[i], &again->runs[i]);
    compare_free(again);
    compare_free(c);
    config_free(cfg);

    // fewer arms reuse what is there; another learning rate is refused, unless told to start anew
    cfg = world_config("scu, none", NULL);
    compare_free(run_world(cfg, 4));
    config_free(cfg);
    cfg = world_config("scu", "learning_rate=1e-3");
    assert_null(compare_open(cfg, &e));
    assert_contains(e.msg, "scu-seed1.json: made with another configuration");
    config_free(cfg);
    // the same weights under another config.json are another parent
    size_t len;
    char *text = file_read(test_path("parent/config.json"), &len, &e);
    char *at = text ? strstr(text, "\"rope_theta\": 1") : NULL;
    assert_non_null(at);
    at[strlen("\"rope_theta\": ")] = '2';
    test_write(test_path("parent/config.json"), text);
    cfg = world_config("scu", NULL);
    assert_null(compare_open(cfg, &e));
    assert_contains(e.msg, "scu-seed1.json: made with another configuration");
    config_free(cfg);
    at[strlen("\"rope_theta\": ")] = '1';
    test_write(test_path("parent/config.json"), text);
    free(text);
    cfg = world_config("scu", "overwrite_output_dir=true");
    compare_free(run_world(cfg, 0));
    config_free(cfg);
}

int main(void) {
    rng_init_gsl();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arm_sets),        cmocka_unit_test(arm_registry),
        cmocka_unit_test(frozen_entries),  cmocka_unit_test(equal_loss),
        cmocka_unit_test(levels),          cmocka_unit_test(equal_steps),
        cmocka_unit_test(run_files),       cmocka_unit_test(training_losses),
        cmocka_unit_test(small_comparison),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

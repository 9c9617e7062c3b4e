/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_arch_ref.c — every architecture against an independent implementation of its equations.
 *
 * tests/ref/arch/ holds tiny random models as Hugging Face folders and what PyTorch makes of them
 * in float64 (make_arch.py): logits, loss, every gradient, greedy continuations. That script fails
 * when a setting of config.json moves the logits by less than 8e-5, so LOGITS sees each of them.
 */
#include "tests/helper_arch.h"

#include <dirent.h>
#include <math.h>

#include "model/generate.h"

#define LOGITS 1e-5
#define GRADIENT 1e-4
#define LOSS 1e-5

/* Each folder has its row in arch_cases, and each row its folder. */
static void test_folders(void **state) {
    (void)state;
    DIR *dir = opendir("tests/ref/arch");
    assert_non_null(dir);
    int found = 0, listed = 0;
    for (const struct dirent *d; (d = readdir(dir));) {
        if (d->d_name[0] == '.')
            continue;
        int i = 0;
        while (arch_cases[i] && strcmp(arch_cases[i], d->d_name) != 0)
            i++;
        if (!arch_cases[i])
            fail_msg("tests/ref/arch/%s has no row in arch_cases", d->d_name);
        found++;
    }
    closedir(dir);
    while (arch_cases[listed])
        listed++;
    assert_int_equal(found, listed);
}

/* Every architecture of the program is among the cases. */
static void test_architectures(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++) {
        int n = 0;
        for (const char *const *c = arch_cases; *c; c++) {
            struct err e = {0};
            struct model_config cfg;
            char *path = xasprintf("tests/ref/arch/%s/config.json", *c);
            assert_ok(hf_read_config(path, &cfg, &e), &e);
            n += strcmp(cfg.model_type, arch_table[a]->model_type) == 0;
            free(path);
        }
        if (n < 2)
            fail_msg("%s has %d reference folders, expected at least 2",
                     arch_table[a]->model_type, n);
    }
}

static void test_logits(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct graph *g = graph_new();
    const size_t vocab = (size_t)r->m->cfg.vocab_size, n = (size_t)r->batch.ntok * vocab;
    real *want = arch_ref_read(r, "logits", n);
    const real *got = arch_logits(g, r->m, &r->batch);
    const double far = arch_distance(got, want, n, "logits");
    if (!(far <= LOGITS))
        fail_msg("logits: relative error %.3g, allowed %g", far, LOGITS);
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)want[i] * (double)want[i];
    const double floor = sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++)
        assert_near((double)got[i], (double)want[i], 3 * LOGITS, 3 * LOGITS * floor, "logit");
    free(want);
    graph_free(g);
    arch_ref_close(r);
}

static void test_gradients(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct graph *g = graph_new();
    struct node *loss = arch_loss(g, r, true);
    real *want = arch_ref_read(r, "loss", 1);
    assert_near((double)tensor_data(&loss->t)[0], (double)want[0], LOSS, 0, "loss");
    free(want);
    graph_backward(g, loss, 1);
    int gradients = 0;
    for (int i = 0; i < st_count(r->st); i++)
        gradients += strncmp(st_at(r->st, i)->name, "grad.", 5) == 0;
    assert_int_equal(r->m->nparams, gradients);
    for (int i = 0; i < r->m->nparams; i++) {
        const struct param *p = &r->m->params[i];
        want = arch_ref_gradient(r, p);
        const double far = arch_distance(p->grad, want, p->t.count, p->name);
        if (!(far <= GRADIENT))
            fail_msg("gradient of %s: relative error %.3g, allowed %g", p->name, far, GRADIENT);
        free(want);
    }
    graph_free(g);
    arch_ref_close(r);
}

static int32_t argmax(const real *logits, int n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Greedy decoding with nothing kept from step to step. */
static void plain_greedy(struct graph *g, struct model *m, const int32_t *prompt, int n,
                         struct ids *out) {
    struct ids all = {0};
    ids_addn(&all, prompt, n);
    for (int i = 0; i < ARCH_GREEDY; i++) {
        const int32_t offsets[] = {0, all.n};
        const struct batch b = {.ntok = all.n, .nseq = 1, .ids = all.v, .offsets = offsets};
        const int vocab = m->cfg.vocab_size;
        const real *z = arch_logits(g, m, &b) + (size_t)(all.n - 1) * (size_t)vocab;
        ids_add(&all, argmax(z, vocab));
    }
    ids_addn(out, all.v + n, ARCH_GREEDY);
    ids_release(&all);
}

static void assert_tokens(const struct ids *got, const int32_t *want, const char *what) {
    if (got->n != ARCH_GREEDY)
        fail_msg("%s: %d tokens, expected %d", what, got->n, ARCH_GREEDY);
    for (int i = 0; i < ARCH_GREEDY; i++)
        if (got->v[i] != want[i])
            fail_msg("%s: token %d is %d, expected %d", what, i, got->v[i], want[i]);
}

/* With the cache, all prompts at once and each alone, and without it: the reference's tokens.
 * Windows, soft caps and frequencies that change with the length are all met on the way. A
 * sequence that outgrows the positions of the model is not generate's to continue. */
static void test_greedy(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct graph *g = graph_new();
    const struct generate_opts opts = {.max_new_tokens = ARCH_GREEDY, .top_p = 1};
    struct ids *prompts = xcalloc((size_t)r->batch.nseq, sizeof *prompts);
    struct ids *out = xcalloc((size_t)r->batch.nseq, sizeof *out);
    int *from = xcalloc((size_t)r->batch.nseq, sizeof *from), n = 0;
    for (int s = 0; s < r->batch.nseq; s++) {
        const int32_t *prompt = r->ids + r->offsets[s];
        const int len = r->offsets[s + 1] - r->offsets[s];
        struct ids plain = {0};
        plain_greedy(g, r->m, prompt, len, &plain);
        assert_tokens(&plain, r->greedy + s * ARCH_GREEDY, "without a cache");
        ids_release(&plain);
        if (len + ARCH_GREEDY > r->m->cfg.max_position_embeddings)
            continue;
        from[n] = s;
        ids_addn(&prompts[n++], prompt, len);
    }
    assert_true(n > 0);
    generate(g, r->m, prompts, n, &opts, out, NULL, NULL, NULL);
    for (int i = 0; i < n; i++) {
        struct ids alone = {0};
        generate(g, r->m, &prompts[i], 1, &opts, &alone, NULL, NULL, NULL);
        assert_tokens(&alone, r->greedy + from[i] * ARCH_GREEDY, "generated alone");
        assert_tokens(&out[i], r->greedy + from[i] * ARCH_GREEDY, "generated together");
        ids_release(&alone);
        ids_release(&prompts[i]);
        ids_release(&out[i]);
    }
    free(prompts);
    free(out);
    free(from);
    graph_free(g);
    arch_ref_close(r);
}

/* A chunk of four tokens, then one at a time, behind what the cache holds: the reference's logits.
 * Where frequencies change with the length this holds as long as they have not. */
static void test_cache(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct graph *g = graph_new();
    const struct model_config *c = &r->m->cfg;
    const size_t vocab = (size_t)c->vocab_size, n = (size_t)r->batch.ntok * vocab;
    real *want = arch_ref_read(r, "logits", n);
    const int original = c->rope.original_max_position_embeddings;
    int checked = 0;
    for (int s = 0; s < r->batch.nseq; s++) {
        const int first = r->offsets[s], len = r->offsets[s + 1] - first;
        if (r->m->arch->rope && c->rope.type->by_length &&
            len > (original ? original : c->max_position_embeddings))
            continue;
        struct kv_cache *cache = kv_cache_new(r->m, 1, len);
        const int32_t slot[] = {0};
        for (int l = 0; l < c->num_hidden_layers; l++)
            cache->layers[l].slot = slot;
        for (int at = 0, k; at < len; at += k, cache->len[0] += k) {
            k = at ? 1 : MIN(4, len);
            const int32_t offsets[] = {0, k}, pos0[] = {at};
            const struct batch b = {.ntok = k, .nseq = 1, .ids = r->ids + first + at,
                                    .offsets = offsets, .pos0 = pos0};
            graph_begin(g, false);
            struct node *h = model_hidden(g, r->m, &b, cache);
            const real *z = tensor_data(&g_head(g, h, model_head(g, r->m))->t);
            const double far = arch_distance(z, want + (size_t)(first + at) * vocab,
                                             (size_t)k * vocab, "cached logits");
            if (!(far <= 2 * LOGITS))
                fail_msg("token %d of sequence %d, cached: relative error %.3g, allowed %g", at, s,
                         far, 2 * LOGITS);
            checked += k;
        }
        kv_cache_free(cache);
    }
    assert_true(checked >= 5);
    free(want);
    graph_free(g);
    arch_ref_close(r);
}

static void assert_same_tensor(const struct st *a, const struct st_entry *x, const struct st *b,
                               const struct st_entry *y) {
    assert_int_equal(x->dtype, y->dtype);
    assert_int_equal(x->ndim, y->ndim);
    for (int k = 0; k < x->ndim; k++)
        assert_int_equal(x->shape[k], y->shape[k]);
    assert_int_equal(x->bytes, y->bytes);
    assert_memory_equal(st_data(a, x), st_data(b, y), x->bytes);
}

/* Parameters keep shape, dtype and bytes; what else is written was read. */
static void assert_same_tensors(const struct arch_ref *r, const char *was, const char *is) {
    struct err e = {0};
    struct st *a = st_open(was, &e), *b = a ? st_open(is, &e) : NULL;
    if (!b)
        fail_msg("%s", e.msg);
    for (int i = 0; i < st_count(b); i++) {
        const struct st_entry *y = st_at(b, i), *x = arch_find_tensor(a, "", y->name);
        if (!x)
            fail_msg("%s is not in %s", y->name, was);
        assert_same_tensor(a, x, b, y);
    }
    for (int i = 0; i < r->m->nparams; i++)
        if (!arch_find_tensor(b, "", r->m->params[i].name))
            fail_msg("%s is not in %s", r->m->params[i].name, is);
    st_close(a);
    st_close(b);
}

/* What is saved unchanged holds the same bytes and computes the same. */
static void test_save(void **state) {
    struct arch_ref *r = arch_ref_open(*state);
    struct err e = {0};
    const char *dir = test_path(*state);
    assert_ok(hf_save(r->hf, NULL, dir, &e), &e);
    char *was = path_join(r->dir, "model.safetensors"), *is = path_join(dir, "model.safetensors");
    assert_same_tensors(r, was, is);
    free(was);
    free(is);
    struct hf *back = hf_open(dir, HF_MODEL, &e);
    if (!back)
        fail_msg("%s", e.msg);
    struct graph *g = graph_new(), *g2 = graph_new();
    const size_t n = (size_t)r->batch.ntok * (size_t)r->m->cfg.vocab_size;
    assert_memory_equal(arch_logits(g, r->m, &r->batch),
                        arch_logits(g2, back->model, &r->batch), n * sizeof(real));
    graph_free(g);
    graph_free(g2);
    hf_free(back);
    arch_ref_close(r);
}

int main(void) {
    const struct CMUnitTest once[] = {
        cmocka_unit_test(test_folders), cmocka_unit_test(test_architectures),
    };
    const struct CMUnitTest each[] = {
        cmocka_unit_test(test_logits), cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_cache), cmocka_unit_test(test_greedy), cmocka_unit_test(test_save),
    };
    log_threshold = LOG_ERROR;              // some folders are there to be warned about
    return arch_run("arch_ref", once, ARRAY_LEN(once), each, ARRAY_LEN(each));
}

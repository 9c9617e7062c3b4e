/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_cert.c — the freeze certificate: every bit of a frozen entry is guarded, no other bit is.
 */
#include "tests/helper_units.h"

#include <jansson.h>

#include "ckpt/cert.h"
#include "ckpt/hf.h"
#include "ckpt/sha.h"
#include "ckpt/weights.h"
#include "train/optim.h"

/* ---- SHA-256 itself: FIPS 180-4 examples ---- */

static void digests_are_sha256(void **state) {
    (void)state;
    static const struct {
        const char *text, *hex;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        char hex[65];
        sha_bytes(cases[i].text, strlen(cases[i].text), hex);
        assert_string_equal(hex, cases[i].hex);
        test_write(test_path("text"), cases[i].text);
        assert_ok(sha_file(test_path("text"), hex, &e), &e);
        assert_string_equal(hex, cases[i].hex);
        struct sha *s = sha_new();
        for (const char *p = cases[i].text; *p; p++)
            sha_add(s, p, 1);
        sha_finish(s, hex);
        assert_string_equal(hex, cases[i].hex);
    }
    struct err e = {0};
    char hex[65];
    assert_int_equal(sha_file(test_path("none"), hex, &e), -1);
    assert_contains(e.msg, "cannot open");
}

/* ---- a parent, a child with frozen units, its certificate ---- */

struct scene {
    struct hf *parent, *child;
    struct mask mask;
};

static void freeze_some(struct scene *s, enum dtype dtype, int kinds, bool train_other) {
    struct err e = {0};
    struct model *m = test_model(1);
    m->cfg.dtype = dtype;
    s->parent = hf_new(m, NULL, NULL);
    assert_ok(hf_save(s->parent, NULL, test_path("parent"), &e), &e);
    s->child = hf_open(test_path("parent"), HF_MODEL, &e);
    if (!s->child)
        fail_msg("%s", e.msg);
    struct model *c = s->child->model;
    const struct unit_map map = unit_map_make(&c->cfg, kinds);
    s->mask = mask_new(&map);
    for (int i = 0; i < map.count; i++)
        s->mask.in[i] = i % 5 == 0 || i % 7 == 3;
    mask_freeze(&s->mask, c, train_other);
}

/* "Training": every live entry moves. */
static void move_live(struct model *m) {
    for (int i = 0; i < m->nparams; i++) {
        struct param *p = &m->params[i];
        const int rows = (int)tensor_rows(&p->t), cols = (int)tensor_cols(&p->t);
        uint8_t *live = xcalloc((size_t)MAX(rows, cols), 1);
        for (int k = 0; k < p->freeze.nlive; k++)
            live[p->freeze.live[k]] = 1;
        for (int k = 0; k < rows * cols; k++)
            if (p->freeze.kind == FREEZE_NONE
                || (p->freeze.kind == FREEZE_ROWS && live[k / cols])
                || (p->freeze.kind == FREEZE_COLS && live[k % cols]))
                tensor_data(&p->t)[k] += 1;
        free(live);
    }
}

static void end_scene(struct scene *s) {
    hf_free(s->parent);
    hf_free(s->child);
    mask_release(&s->mask);
}

static void certify(struct scene *s) {
    struct err e = {0};
    assert_ok(hf_save(s->child, NULL, test_path("child"), &e), &e);
    test_write(test_path("u.safetensors"), "units");
    assert_ok(cert_write(test_path("child"), s->child->model, test_path("parent"),
                         test_path("u.safetensors"), "SCU", &s->mask, &e), &e);
}

static struct cert_result verify(void) {
    struct err e = {0};
    struct cert_result r;
    assert_ok(cert_verify(test_path("child"), &r, &e), &e);
    return r;
}

static void certificates_hold(void **state) {
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const int kinds[] = {1 << UNIT_MLP, 1 << UNIT_MLP | 1 << UNIT_ATTN,
                                1 << UNIT_MLP | 1 << UNIT_HEAD};
    for (size_t i = 0; i < ARRAY_LEN(dtypes) * ARRAY_LEN(kinds); i++) {
        struct scene s;
        freeze_some(&s, dtypes[i / 3], kinds[i % 3], i % 2);
        move_live(s.child->model);
        certify(&s);
        const struct cert_result r = verify();
        assert_int_equal(r.bad, 0);
        model_grad_alloc(s.child->model);
        assert_int_equal(r.entries, s.child->model->count - s.child->model->grad_count);
        assert_true(r.tensors > 0);
        end_scene(&s);
    }
}

static void the_file_says_what_was_frozen(void **state) {
    (void)state;
    struct scene s;
    struct err e = {0};
    freeze_some(&s, DTYPE_F32, 1 << UNIT_MLP, true);
    move_live(s.child->model);
    certify(&s);
    char *text = file_read(test_path("child/freeze.json"), NULL, &e);
    assert_non_null(text);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    char hex[65], selection[17];
    assert_ok(hf_hash(test_path("parent"), hex, &e), &e);
    mask_hash(&s.mask, selection);
    const json_t *parent = json_object_get(root, "parent"), *units = json_object_get(root, "units");
    assert_string_equal(json_string_value(json_object_get(parent, "sha256")), hex);
    assert_ok(sha_file(test_path("u.safetensors"), hex, &e), &e);
    assert_string_equal(json_string_value(json_object_get(units, "sha256")), hex);
    assert_string_equal(json_string_value(json_object_get(units, "selected")), "SCU");
    assert_string_equal(json_string_value(json_object_get(units, "hash")), selection);
    assert_int_equal(json_integer_value(json_object_get(root, "total_entries")),
                     s.child->model->count);
    /* 24 units a layer, i % 5 == 0 or i % 7 == 3: 0 3 5 10 15 17 20 of layer 0 */
    const json_t *row = json_array_get(json_object_get(root, "tensors"), 0);
    assert_string_equal(json_string_value(json_object_get(row, "name")),
                        "model.layers.0.mlp.gate_proj.weight");
    assert_string_equal(json_string_value(json_object_get(row, "axis")), "rows");
    assert_string_equal(json_string_value(json_object_get(row, "frozen")), "0,3,5,10,15,17,20");
    assert_int_equal(json_integer_value(json_object_get(row, "entries")), 7 * 16);
    json_decref(root);
    free(text);
    end_scene(&s);
}

/* Flips one bit of every byte of the weights in turn: bad exactly where the entry is frozen. */
static void one_flipped_bit(void **state) {
    (void)state;
    struct scene s;
    struct err e = {0};
    freeze_some(&s, DTYPE_BF16, 1 << UNIT_MLP | 1 << UNIT_ATTN, true);
    move_live(s.child->model);
    certify(&s);
    FILE *f = fopen(test_path("child/model.safetensors"), "r+b");
    assert_non_null(f);
    struct st *st = st_open(test_path("child/model.safetensors"), &e);
    assert_non_null(st);
    static const char *const names[] = {
        "model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
        "model.norm.weight",
    };
    int flips[2] = {0};
    for (size_t t = 0; t < ARRAY_LEN(names); t++) {
        const struct st_entry *en = st_find(st, names[t]);
        const struct param *p = model_param(s.child->model, names[t]);
        const int cols = (int)tensor_cols(&p->t);
        for (int k = 0; k < (int)en->count; k += 3) {
            const int line = p->freeze.kind == FREEZE_ROWS ? k / cols : k % cols;
            bool frozen = p->freeze.kind != FREEZE_NONE;
            for (int i = 0; i < p->freeze.nlive; i++)
                frozen &= p->freeze.live[i] != line;
            const long at = (long)(st_header_bytes(st) + en->begin) + 2 * k + k % 2;
            const int was = ((const uint8_t *)st_data(st, en))[2 * k + k % 2];
            for (int undo = 0; undo < 2; undo++) {
                assert_int_equal(fseek(f, at, SEEK_SET), 0);
                assert_int_not_equal(fputc(undo ? was : was ^ 1 << k % 8, f), EOF);
                assert_int_equal(fflush(f), 0);
                const struct cert_result r = verify();
                if (r.bad != (frozen && !undo))
                    fail_msg("%s entry %d (%s): %d bad", names[t], k, frozen ? "frozen" : "live",
                             r.bad);
                if (r.bad)
                    assert_string_equal(r.first_bad, names[t]);
            }
            flips[frozen]++;
        }
    }
    assert_true(flips[0] > 100 && flips[1] > 100);
    fclose(f);
    st_close(st);
    end_scene(&s);
}

static void a_moved_child_is_not_certified(void **state) {
    (void)state;
    struct scene s;
    struct err e = {0};
    freeze_some(&s, DTYPE_F32, 1 << UNIT_MLP, true);
    assert_ok(dir_remove(test_path("child"), &e), &e);
    tensor_data(&model_layer_param(s.child->model, 1, "mlp.up_proj.weight")->t)[16] += R(0.5);
    assert_ok(hf_save(s.child, NULL, test_path("child"), &e), &e);
    /* row 1 of layer 1 is unit 25: frozen */
    assert_int_equal(cert_write(test_path("child"), s.child->model, test_path("parent"), NULL, NULL,
                                &s.mask, &e), -1);
    assert_contains(e.msg, "frozen entries of model.layers.1.mlp.up_proj.weight are not those of");
    assert_false(path_exists(test_path("child/freeze.json")));
    /* without a parent the certificate states the bytes as they are */
    assert_ok(cert_write(test_path("child"), s.child->model, NULL, NULL, NULL, NULL, &e), &e);
    assert_int_equal(verify().bad, 0);
    end_scene(&s);
}

/* ---- real updates of every architecture ---- */

/* Three steps of AdamW with decay and clipping on one small batch. */
static void train(struct model *m) {
    static const int32_t ids[] = {3, 17, 41, 8, 60, 22, 5, 9, 33}, offsets[] = {0, 5, 9};
    static const int32_t labels[] = {17, 41, 8, 60, LABEL_IGNORE, 5, 9, 33, LABEL_IGNORE};
    const struct batch b = {.ntok = 9, .nseq = 2, .ids = ids, .offsets = offsets};
    const struct optim_opts opts = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8,
                                    .weight_decay = 0.1};
    struct graph *g = graph_new();
    model_grad_alloc(m);
    struct optim *o = optim_new(optim_find("adamw"), m);
    for (int step = 1; step <= 3; step++) {
        graph_begin(g, true);
        model_grad_zero(m);
        struct node *h = model_hidden(g, m, &b, NULL);
        graph_backward(g, g_linear_cross_entropy(g, h, model_head(g, m), labels, NULL), 1);
        const double norm = grad_norm(m);
        assert_true(norm > 0 && norm < 1e6);
        optim_step(o, m, step, 1 / norm, &opts);
    }
    optim_free(o);
    graph_free(g);
}

/* Frozen entries keep their bytes, every other one moves; the certificate holds, and its count is
 * that of the frozen entries. */
static void check_training(const struct model *parent, int kinds, bool train_other, bool bare) {
    struct err e = {0};
    struct model *m = model_clone(parent);
    const struct unit_map map = unit_map_make(&m->cfg, kinds);
    struct mask mask = test_random_mask(&map, 4, 0.4);
    mask_freeze(&mask, m, train_other);
    train(m);
    size_t frozen = 0;
    for (int i = 0; i < m->nparams; i++) {
        const struct param *p = &m->params[i];
        const int cols = (int)tensor_cols(&p->t);
        for (int k = 0; k < (int)p->t.count; k++) {
            const bool still = test_is_frozen(p, k / cols, k % cols);
            const real *a = &tensor_data(&parent->params[i].t)[k], *b = &tensor_data(&p->t)[k];
            if ((memcmp(a, b, sizeof *a) == 0) != still)
                fail_msg("%s: %s[%d]: %s, %g to %g", m->cfg.model_type, p->name, k,
                         still ? "frozen" : "live", (double)*a, (double)*b);
            frozen += still;
        }
    }
    test_save_weights(parent, test_path("parent"), false);
    test_save_weights(m, test_path("child"), bare);
    assert_ok(cert_write(test_path("child"), m, test_path("parent"), NULL, "random", &mask, &e),
              &e);
    const struct cert_result r = verify();
    assert_int_equal(r.bad, 0);
    assert_int_equal(r.entries, frozen);
    mask_release(&mask);
    model_free(m);
}

static void training_leaves_frozen_bytes(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++) {
        struct model *parent = test_units_model(arch_table[a], 3);
        for (int s = 0; s < TEST_KIND_SETS; s++)
            check_training(parent, test_kind_sets[s], s % 2 == 0, s == 1);
        model_free(parent);
    }
}

static void flip_byte(size_t at) {
    FILE *f = fopen(test_path("child/model.safetensors"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    const int was = fgetc(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_not_equal(fputc(was ^ 1, f), EOF);
    fclose(f);
}

/* In vectors and fused or transposed matrices too: the first frozen entry of each tensor is
 * guarded, the first live one is not. */
static void every_partly_frozen_tensor_is_guarded(void **state) {
    (void)state;
    for (int a = 0; arch_table[a]; a++) {
        struct err e = {0};
        struct model *m = test_units_model(arch_table[a], 5);
        const struct unit_map map = unit_map_make(&m->cfg, 1 << UNIT_MLP | 1 << UNIT_HEAD);
        struct mask mask = mask_new(&map);
        for (int i = 0; i < map.count; i++)
            mask.in[i] = unit_at(&map, i).index % 4 == 1;   // one head of four: kv rows stay live
        mask_freeze(&mask, m, true);
        test_save_weights(m, test_path("child"), false);
        assert_ok(cert_write(test_path("child"), m, NULL, NULL, NULL, &mask, &e), &e);
        int guarded = 0;
        for (int i = 0; i < m->nparams; i++) {
            const struct param *p = &m->params[i];
            const int cols = (int)tensor_cols(&p->t);
            struct st *st = st_open(test_path("child/model.safetensors"), &e);
            assert_non_null(st);
            const size_t at = st_header_bytes(st) + st_find(st, p->name)->begin;
            st_close(st);
            for (int frozen = 0; frozen < 2 && p->freeze.kind != FREEZE_NONE; frozen++) {
                int k = 0;
                while (test_is_frozen(p, k / cols, k % cols) != frozen)
                    k++;
                flip_byte(at + 4 * (size_t)k + 1);
                const struct cert_result r = verify();
                if (r.bad != frozen)
                    fail_msg("%s: %s[%d]: %d bad", m->cfg.model_type, p->name, k, r.bad);
                flip_byte(at + 4 * (size_t)k + 1);
                guarded += r.bad;
            }
        }
        assert_true(guarded >= 2 * 4);      // at least up, down, a value and an output a layer
        mask_release(&mask);
        model_free(m);
    }
}

/* ---- certificates that are no certificates ---- */

#define ROW(axis, frozen, entries)                                                              \
    "{\"format\":\"keel-freeze-1\",\"frozen_entries\":" entries ",\"tensors\":[{\"name\":"         \
    "\"model.norm.weight\",\"axis\":\"" axis "\",\"frozen\":\"" frozen "\",\"entries\":" entries   \
    ",\"sha256\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}]}"

static void hostile_certificates(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int bad;                            /* -1: cannot be read, with `says` */
        const char *says;
    } cases[] = {
        {ROW("rows", "0-3", "4"), 1, NULL},
        {ROW("rows", "0-15", "16"), 1, NULL},
        {ROW("rows", "0-16", "17"), 1, NULL},           // outside the tensor
        {ROW("rows", "0-18446744073709551614", "4"), 1, NULL},
        {ROW("cols", "0", "16"), 1, NULL},
        {ROW("none", "0", "1"), -1, "axis"},
        {ROW("rows", "", "0"), -1, "ascending ranges"},
        {ROW("rows", "3-1", "1"), -1, "ascending ranges"},
        {ROW("rows", "0-3,2", "1"), -1, "ascending ranges"},
        {ROW("rows", "0,,2", "1"), -1, "ascending ranges"},
        {ROW("rows", "0-", "1"), -1, "ascending ranges"},
        {ROW("rows", "1,", "1"), -1, "ascending ranges"},
        {ROW("rows", "-1", "1"), -1, "ascending ranges"},
        {ROW("rows", "99999999999999999999", "1"), -1, "ascending ranges"},
        {ROW("rows", "18446744073709551615", "1"), -1, "ascending ranges"},
        {ROW("rows", "0", "-1"), -1, "entries"},
        {"{}", -1, "format"},
        {"[]", -1, "object"},
        {"{\"format\":\"keel-freeze-1\"}", -1, "list of tensors"},
        {"{\"format\":\"keel-freeze-1\",\"frozen_entries\":5,\"tensors\":[]}", -1, "add up to 0"},
        {"", -1, "freeze.json:1:"},
    };
    struct err e = {0};
    struct hf *h = hf_new(test_model(1), NULL, NULL);
    assert_ok(hf_save(h, NULL, test_path("child"), &e), &e);
    hf_free(h);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cert_result r;
        test_write(test_path("child/freeze.json"), cases[i].text);
        const int rc = cert_verify(test_path("child"), &r, &e);
        if (rc != (cases[i].bad < 0 ? -1 : 0))
            fail_msg("case %zu: %d (%s)", i, rc, e.msg);
        if (rc == 0)
            assert_int_equal(r.bad, cases[i].bad);
        else
            assert_contains(e.msg, cases[i].says);
    }
    assert_ok(dir_remove(test_path("child/freeze.json"), &e), &e);
    struct cert_result r;
    assert_int_equal(cert_verify(test_path("child"), &r, &e), -1);
    assert_contains(e.msg, "freeze.json: cannot open");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_sha256),
        cmocka_unit_test(certificates_hold),
        cmocka_unit_test(the_file_says_what_was_frozen),
        cmocka_unit_test(one_flipped_bit),
        cmocka_unit_test(a_moved_child_is_not_certified),
        cmocka_unit_test(training_leaves_frozen_bytes),
        cmocka_unit_test(every_partly_frozen_tensor_is_guarded),
        cmocka_unit_test(hostile_certificates),
    };
    return cmocka_run_group_tests_name("cert", tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper.c — see helper.h.
 */
#include "tests/helper.h"

#include <math.h>
#include <unistd.h>

static char dir[64];
static char *paths[512];
static int npaths;

static void cleanup(void) {
    dir_remove(dir, NULL);
    for (int i = 0; i < npaths; i++)
        free(paths[i]);
}

const char *test_dir(void) {
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/keel-test-XXXXXX");
        if (!mkdtemp(dir))
            BUG("mkdtemp failed");
        atexit(cleanup);
    }
    return dir;
}

const char *test_path(const char *name) {
    char *p = path_join(test_dir(), name);
    for (int i = 0; i < npaths; i++)
        if (strcmp(paths[i], p) == 0) {
            free(p);
            return paths[i];
        }
    if (npaths == (int)ARRAY_LEN(paths))
        BUG("too many test paths");
    return paths[npaths++] = p;
}

void test_write(const char *path, const char *text) {
    struct err e = {0};
    if (file_write(path, text, strlen(text), &e) != 0)
        fail_msg("%s", e.msg);
}

const char *test_shared(const char *rel) {
    char *p = path_join("../shared", rel);
    if (!path_exists(p)) {
        free(p);
        return NULL;
    }
    if (npaths == (int)ARRAY_LEN(paths))
        BUG("too many test paths");
    test_dir();
    return paths[npaths++] = p;
}

void assert_near(double a, double b, double rel, double abs, const char *what) {
    if (!(fabs(a - b) <= abs + rel * fmax(fabs(a), fabs(b))))
        fail_msg("%s: %.12g and %.12g differ by %.3g", what, a, b, fabs(a - b));
}

struct model_config test_config(void) {
    return (struct model_config){
        .model_type = "llama", .vocab_size = 64, .hidden_size = 16, .intermediate_size = 24,
        .num_hidden_layers = 2, .num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 4,
        .max_position_embeddings = 128, .rms_norm_eps = 1e-5, .rope = {.theta = 10000},
        .initializer_range = 0.3, .bos_token_id = -1, .eos_token_id = {1}, .eos_count = 1,
        .pad_token_id = -1, .dtype = DTYPE_F32,
    };
}

struct model *test_model(uint64_t seed) {
    struct model_config c = test_config();
    struct err e = {0};
    struct model *m = model_new(&c, &e);
    if (!m)
        BUG("%s", e.msg);
    model_init(m, seed);
    return m;
}

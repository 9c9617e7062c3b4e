/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_fuzz.c — plays the corpus of every fuzz target back, whole and damaged: cut at every
 * length, or in steps where that is too many, and with single bytes changed. What `make fuzz`
 * finds is added there.
 */
#include "tests/helper.h"

#include <dirent.h>

#include "tests/fuzz/targets.h"

static void play(const struct fuzz_target *t, const char *name, const uint8_t *data, size_t n) {
    if (t->run(data, n) != 0)
        fail_msg("%s: %s: refused without saying why", t->name, name);
}

static void damage(const struct fuzz_target *t, const char *name, uint8_t *data, size_t n) {
    for (size_t cut = 0; cut < n; cut += 1 + n / (size_t)t->damage)
        play(t, name, data, cut);
    struct rng *r = rng_keyed(1, name, 0);
    for (int i = 0; i < t->damage && n > 0; i++) {
        size_t at = (size_t)rng_below(r, n);
        uint8_t old = data[at];
        data[at] = (uint8_t)(i % 2 ? old ^ (1u << rng_below(r, 8)) : rng_below(r, 256));
        play(t, name, data, n);
        data[at] = old;
    }
    rng_free(r);
}

static void corpus(void **state) {
    const struct fuzz_target *t = *state;
    char *dir = xasprintf("tests/fuzz/corpus/%s", t->name);
    DIR *d = opendir(dir);
    if (!d)
        fail_msg("%s is not there", dir);
    int files = 0;
    log_threshold = LOG_ERROR;
    for (struct dirent *ent; (ent = readdir(d));) {
        if (ent->d_name[0] == '.')
            continue;
        struct err e;
        size_t n;
        char *path = path_join(dir, ent->d_name), *data = file_read(path, &n, &e);
        if (!data)
            fail_msg("%s", e.msg);
        play(t, ent->d_name, (uint8_t *)data, n);
        damage(t, ent->d_name, (uint8_t *)data, n);
        files++;
        free(data);
        free(path);
    }
    log_threshold = LOG_INFO;
    closedir(d);
    free(dir);
    assert_true(files >= 3);
}

int main(void) {
    struct CMUnitTest tests[ARRAY_LEN(fuzz_targets)];
    for (size_t i = 0; i < ARRAY_LEN(fuzz_targets); i++)
        tests[i] = (struct CMUnitTest){.name = fuzz_targets[i].name, .test_func = corpus,
                                       .initial_state = (void *)&fuzz_targets[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

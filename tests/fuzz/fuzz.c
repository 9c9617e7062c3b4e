/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * fuzz.c — libFuzzer's door to the target that the environment names (KEEL_FUZZ=yaml).
 */
#include "tests/fuzz/targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const struct fuzz_target *target;
    if (!target) {
        const char *name = getenv("KEEL_FUZZ");
        for (size_t i = 0; i < ARRAY_LEN(fuzz_targets); i++)
            if (name && strcmp(fuzz_targets[i].name, name) == 0)
                target = &fuzz_targets[i];
        if (!target)
            BUG("KEEL_FUZZ=%s is not a target", name ? name : "");
        log_threshold = LOG_ERROR;
    }
    if (target->run(data, n) != 0)
        BUG("%s: refused without saying why", target->name);
    return 0;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper.h — what several test programs share: cmocka's includes, temporary files, a micro model.
 */
#ifndef KEEL_TEST_HELPER_H
#define KEEL_TEST_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

/* A temporary folder of this process, removed at exit. */
const char *test_dir(void);
/* test_dir()/name, borrowed until exit. */
const char *test_path(const char *name);
void test_write(const char *path, const char *text);
/* Path of a file beside the checkout (../shared/REL), or NULL when it is not there: then skip(). */
const char *test_shared(const char *rel);
/* Fails the test unless the call succeeded; prints the error. */
#define assert_ok(call, e)                                                                      \
    do {                                                                                        \
        (e)->msg[0] = '\0';                                                                     \
        if ((call) != 0)                                                                        \
            fail_msg("%s", (e)->msg);                                                           \
    } while (0)
#define assert_contains(haystack, needle)                                                       \
    do {                                                                                        \
        if (!strstr(haystack, needle))                                                          \
            fail_msg("\"%s\" does not contain \"%s\"", haystack, needle);                       \
    } while (0)
/* |a - b| <= abs + rel * max(|a|, |b|) */
void assert_near(double a, double b, double rel, double abs, const char *what);

/* V 64, C 16, L 2, H 4, K 2, D 4, F 24, untied; weights from seed with std 0.3. */
struct model_config test_config(void);
struct model *test_model(uint64_t seed);
#endif

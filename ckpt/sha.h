/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * sha.h — SHA-256 as 64 hex digits: of bytes, of a file, or of pieces added one by one.
 *
 *     struct sha *s = sha_new();
 *     sha_add(s, a, na);
 *     sha_add(s, b, nb);
 *     char hex[65];
 *     sha_finish(s, hex);                  // s is gone
 */
#ifndef KEEL_SHA_H
#define KEEL_SHA_H

#include "model/base.h"

struct sha;
struct sha *sha_new(void);
void sha_add(struct sha *s, const void *data, size_t n);
void sha_finish(struct sha *s, char hex[65]);       /* frees s; 64 lower-case digits + NUL */
void sha_free(struct sha *s);                       /* without a result; NULL is allowed */
void sha_bytes(const void *data, size_t n, char hex[65]);
int sha_file(const char *path, char hex[65], struct err *e) MUST_CHECK;
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * sha.c — the one door to libcrypto.
 *
 * EVP's calls fail only when memory runs out or the library was built without SHA-256; neither is
 * an error of the outside world, so both end in BUG and callers stay free of checks. The digest is
 * FIPS 180-4's; libcrypto uses the processor's SHA instructions, which a plain loop would not.
 */
#include "ckpt/sha.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct sha {
    EVP_MD_CTX *ctx;
};

struct sha *sha_new(void) {
    struct sha *s = xmalloc(sizeof *s);
    s->ctx = EVP_MD_CTX_new();
    if (!s->ctx || EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1)
        BUG("sha: libcrypto gives no SHA-256");
    return s;
}

void sha_add(struct sha *s, const void *data, size_t n) {
    if (n && EVP_DigestUpdate(s->ctx, data, n) != 1)
        BUG("sha: update of %zu bytes failed", n);
}

void sha_finish(struct sha *s, char hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (EVP_DigestFinal_ex(s->ctx, digest, &len) != 1 || len != 32)
        BUG("sha: the digest has %u bytes, not 32", len);
    for (unsigned i = 0; i < len; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[64] = '\0';
    sha_free(s);
}

void sha_free(struct sha *s) {
    if (!s)
        return;
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

void sha_bytes(const void *data, size_t n, char hex[65]) {
    struct sha *s = sha_new();
    sha_add(s, data, n);
    sha_finish(s, hex);
}

int sha_file(const char *path, char hex[65], struct err *e) {
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, "%s: cannot open: %s", path, strerror(errno));
    enum { CHUNK = 1 << 18 };
    unsigned char *buf = xmalloc(CHUNK);
    struct sha *s = sha_new();
    for (size_t n; (n = fread(buf, 1, CHUNK, f)) > 0;)
        sha_add(s, buf, n);
    int rc = ferror(f) ? err_set(e, "%s: cannot read: %s", path, strerror(errno)) : 0;
    sha_finish(s, hex);
    free(buf);
    fclose(f);
    return rc;
}

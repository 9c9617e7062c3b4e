/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * helper_tokenizer.c — see helper_tokenizer.h.
 */
#include "tests/helper_tokenizer.h"

const char *const sample_text[3] = {
    "hello hello hello world, the world says hello; hellos and worlds 12 123 1234",
    "the cat sat on the mat. the dog didn't. A\tB\n\nC  end",
    "caf\xC3\xA9 na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E \xF0\x9F\x98\x80",
};
static const char *const specials[] = {"<|a|>", "<|ab|>"};

struct tokenizer *train_sample(int vocab_size) {
    size_t lens[ARRAY_LEN(sample_text)];
    for (size_t i = 0; i < ARRAY_LEN(sample_text); i++)
        lens[i] = strlen(sample_text[i]);
    struct err e = {0};
    struct tokenizer *t = tokenizer_train(sample_text, lens, ARRAY_LEN(sample_text), vocab_size,
                                          specials, ARRAY_LEN(specials), &e);
    if (!t)
        fail_msg("%s", e.msg);
    return t;
}

json_t *sample_json(void) {
    struct tokenizer *t = train_sample(300);
    json_t *root = json_loadb(t->json, t->json_len, 0, NULL);
    tokenizer_free(t);
    return root;
}

struct tokenizer *with_overlay(json_t *base, const char *overlay, struct err *e) {
    json_t *root = json_deep_copy(base);
    char *text = xstrdup(overlay);
    for (char *p = text; (p = strchr(p, '\''));)
        *p = '"';
    json_t *add = json_loads(text, 0, NULL);
    free(text);
    assert_non_null(add);
    json_object_update(root, add);
    text = json_dumps(root, 0);
    struct tokenizer *t = tokenizer_parse(text, strlen(text), "t.json", e);
    free(text);
    json_decref(add);
    json_decref(root);
    return t;
}

/* Pieces of a text joined by "|", special tokens recognised. */
static char *pieces(const struct tokenizer *t, const char *text, bool special) {
    struct ids ids = {0};
    struct str s = {0};
    tokenizer_encode(t, text, strlen(text), special, &ids);
    for (int i = 0; i < ids.n; i++)
        str_addf(&s, "%s%s", i ? "|" : "", tokenizer_token(t, ids.v[i]));
    ids_release(&ids);
    return str_detach(&s);
}

void assert_pieces(const struct tokenizer *t, const char *text, bool special,
                          const char *expected) {
    char *got = pieces(t, text, special);
    assert_string_equal(got, expected);
    free(got);
}

void assert_round_trip(const struct tokenizer *t, const char *s, size_t n) {
    struct ids ids = {0};
    size_t len;
    tokenizer_encode(t, s, n, false, &ids);
    char *back = tokenizer_decode(t, ids.v, ids.n, false, &len);
    assert_int_equal(len, n);
    assert_memory_equal(back, s, n);
    free(back);
    ids_release(&ids);
}

void naive_bpe(const struct tokenizer *t, const char *s, size_t n, struct ids *out) {
    out->n = 0;
    for (size_t i = 0; i < n; i++)
        ids_add(out, t->letter_id[(uint8_t)s[i]]);
    for (;;) {
        const struct merge *best = NULL;
        int at = 0;
        for (int i = 0; i + 1 < out->n; i++) {
            const struct merge *m = merges_find(&t->merges, out->v[i], out->v[i + 1]);
            if (m && (!best || m->rank < best->rank)) {
                best = m;
                at = i;
            }
        }
        if (!best)
            return;
        out->v[at] = best->id;
        memmove(out->v + at + 1, out->v + at + 2, (size_t)(out->n - at - 2) * sizeof *out->v);
        out->n--;
    }
}

char *split_letters(const struct tokenizer *t, const struct regex *re, const char *s) {
    struct encoder *x = encoder_take(t);
    struct matching m = {0};
    struct segment g;
    struct str out = {0};
    while (regex_next(re, x, s, strlen(s), &m, &g))
        if (g.b > g.a) {
            str_add(&out, out.len ? "|" : "");
            byte_letters(s + g.a, g.b - g.a, &out);
        }
    encoder_give(x);
    return str_detach(&out);
}

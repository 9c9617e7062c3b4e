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

static const char spm_stages[] =
    "{'added_tokens': [{'id': 0, 'content': '<unk>', 'normalized': false, 'special': true}, "
    "{'id': 1, 'content': '<s>', 'normalized': false, 'special': true}, "
    "{'id': 2, 'content': '</s>', 'normalized': false, 'special': true}], "
    "'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': "
    "'\xE2\x96\x81'}, {'type': 'Replace', 'pattern': {'String': ' '}, 'content': "
    "'\xE2\x96\x81'}]}, 'pre_tokenizer': null, 'post_processor': null, 'decoder': {'type': "
    "'Sequence', 'decoders': [{'type': 'Replace', 'pattern': {'String': '\xE2\x96\x81'}, "
    "'content': ' '}, {'type': 'ByteFallback'}, {'type': 'Fuse'}, {'type': 'Strip', 'content': "
    "' ', 'start': 1, 'stop': 0}]}}";

/* JSON in which ' may stand for ". */
static json_t *quoted_json(const char *s) {
    char *text = xstrdup(s);
    for (char *p = text; (p = strchr(p, '\''));)
        *p = '"';
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j)
        fail_msg("%s: %s", e.text, text);
    free(text);
    return j;
}

static void add_token(json_t *vocab, const char *s) {
    json_object_set_new(vocab, s, json_integer((json_int_t)json_object_size(vocab)));
}

void add_merge(json_t *model, const char *left, const char *right) {
    json_t *vocab = json_object_get(model, "vocab");
    char *whole = xasprintf("%s%s", left, right);
    if (!json_object_get(vocab, whole))
        add_token(vocab, whole);
    json_array_append_new(json_object_get(model, "merges"), json_pack("[ss]", left, right));
    free(whole);
}

json_t *sample_spm_json(void) {
    static const char *const merges[][2] = {
        {"t", "h"}, {"th", "e"}, {WORD_MARK, "the"}, {"h", "e"}, {WORD_MARK, "t"},
        {WORD_MARK, WORD_MARK}, {WORD_MARK WORD_MARK, WORD_MARK WORD_MARK}, {"a", "b"},
        {WORD_MARK "t", "he"}, {"ab", "ab"}, {"<0x0A>", "<0x0A>"}, {"e", ">"}, {"<", "a"}};
    json_t *vocab = json_object(), *list = json_array();
    for (int i = 0; i < 3; i++)
        add_token(vocab, i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        if (b != 0xE6)                      // one is missing: characters with it are unk
            add_token(vocab, name);
    }
    add_token(vocab, WORD_MARK);
    for (char c[2] = "a"; *c <= 'z'; ++*c)
        if (*c != 'q')
            add_token(vocab, c);
    add_token(vocab, "<");
    add_token(vocab, ">");
    json_t *root = quoted_json(spm_stages);
    json_t *model = json_pack("{s:s, s:s, s:b, s:b, s:o, s:o}", "type", "BPE", "unk_token",
                              "<unk>", "fuse_unk", 1, "byte_fallback", 1, "vocab", vocab, "merges",
                              list);
    for (size_t i = 0; i < ARRAY_LEN(merges); i++)
        add_merge(model, merges[i][0], merges[i][1]);
    json_object_set_new(root, "model", model);
    return root;
}

json_t *sample_unigram_json(void) {
    return quoted_json(
        "{'pre_tokenizer': null, 'decoder': {'type': 'Fuse'}, 'model': {'type': 'Unigram', "
        "'unk_id': 0, 'vocab': [['<unk>', 0], ['a', -2.5], ['b', -3], ['c', -3.25], ['ab', -4], "
        "['bc', -4.5], ['abc', -6], ['ca', -7], ['cab', -8], ['d', -1.5], ['dd', -3], "
        "['\xC3\xA9', -2], ['x\xC3\xA9', -1]]}}");
}

struct tokenizer *with_overlay(json_t *base, const char *overlay, struct err *e) {
    json_t *root = json_deep_copy(base);
    json_t *add = quoted_json(overlay);
    json_object_update(root, add);
    char *text = json_dumps(root, 0);
    struct tokenizer *t = tokenizer_parse(text, strlen(text), "t.json", e);
    free(text);
    json_decref(add);
    json_decref(root);
    return t;
}

/* Pieces of a text joined by "|". */
static char *pieces(const struct tokenizer *t, const char *text, int flags) {
    struct ids ids = {0};
    struct str s = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &ids), 0);
    for (int i = 0; i < ids.n; i++)
        str_addf(&s, "%s%s", i ? "|" : "", tokenizer_token(t, ids.v[i]));
    ids_release(&ids);
    return str_detach(&s);
}

void assert_pieces(const struct tokenizer *t, const char *text, int flags, const char *expected) {
    char *got = pieces(t, text, flags);
    assert_string_equal(got, expected);
    free(got);
}

void assert_ids(const struct tokenizer *t, const struct ids *got, const json_t *want,
                const char *where, const char *text) {
    bool same = got->n == (int)json_array_size(want);
    for (int i = 0; same && i < got->n; i++)
        same = got->v[i] == json_integer_value(json_array_get(want, (size_t)i));
    if (same)
        return;
    struct str a = {0}, b = {0};
    for (int i = 0; i < got->n; i++)
        str_addf(&a, " %d %s", got->v[i], tokenizer_token(t, got->v[i]));
    for (size_t i = 0; i < json_array_size(want); i++) {
        int id = (int)json_integer_value(json_array_get(want, i));
        str_addf(&b, " %d %s", id, tokenizer_token(t, id));
    }
    fail_msg("%s: \"%s\": expected%s, got%s", where, text, b.s ? b.s : " nothing",
             a.s ? a.s : " nothing");
}

void assert_decodes(const struct tokenizer *t, const struct ids *ids, int flags,
                    const json_t *want, const char *where) {
    size_t len;
    char *all = tokenizer_decode(t, ids->v, ids->n, flags, &len);
    struct str parts = {0};
    struct text_stream *s = text_stream_new(t, flags);
    for (int twice = 0; twice < 2; twice++) {               // finish makes it ready again
        parts.len = 0;
        str_add(&parts, "");
        for (int i = 0; i < ids->n; i++)
            text_stream_push(s, ids->v[i], &parts);
        text_stream_finish(s, &parts);
    }
    text_stream_free(s);
    if (len != json_string_length(want) || memcmp(all, json_string_value(want), len) != 0)
        fail_msg("%s: expected \"%s\", got \"%s\"", where, json_string_value(want), all);
    if (parts.len != len || memcmp(parts.s, all, len) != 0)
        fail_msg("%s: as a stream \"%s\", at once \"%s\"", where, parts.s, all);
    str_release(&parts);
    free(all);
}

int each_line(const char *path, void (*row)(const json_t *row, const char *where, void *ctx),
              void *ctx) {
    size_t len;
    struct err e = {0};
    char *all = file_read(path, &len, &e);
    if (!all)
        fail_msg("%s", e.msg);
    int rows = 0;
    for (char *line = all, *end; line < all + len; line = end + 1) {
        json_error_t je;
        char where[300];
        end = memchr(line, '\n', (size_t)(all + len - line));
        if (!end)
            end = all + len;
        snprintf(where, sizeof where, "%.280s:%d", path, ++rows);
        json_t *j = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, &je);
        if (!j)
            fail_msg("%s: %s", where, je.text);
        row(j, where, ctx);
        json_decref(j);
    }
    free(all);
    return rows;
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

/* A rescan for the lowest rank after every merge. */
static void naive_merge(const struct tokenizer *t, struct ids *out) {
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

void naive_bpe(const struct tokenizer *t, const char *s, size_t n, struct ids *out) {
    out->n = 0;
    for (size_t i = 0; i < n; i++)
        ids_add(out, t->letter_id[(uint8_t)s[i]]);
    naive_merge(t, out);
}

void naive_characters(const struct tokenizer *t, const char *s, size_t n, struct ids *out) {
    bool unk = false;                       // one waits
    out->n = 0;
    for (size_t i = 0, k; i < n; i += k) {
        int32_t c;
        k = utf8_char(s + i, n - i, &c);
        int32_t id = vocab_find(&t->vocab, s + i, k);
        bool bytes = id < 0;
        for (size_t b = 0; b < k; b++)
            bytes = bytes && t->byte_id[(uint8_t)s[i + b]] >= 0;
        if (id >= 0 && unk) {
            ids_add(out, t->unk_id);
            unk = false;
        }
        if (id >= 0)
            ids_add(out, id);
        else if (!bytes)
            unk = t->unk_id >= 0;
        for (size_t b = 0; bytes && b < k; b++)
            ids_add(out, t->byte_id[(uint8_t)s[i + b]]);
    }
    if (unk)
        ids_add(out, t->unk_id);
    naive_merge(t, out);
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

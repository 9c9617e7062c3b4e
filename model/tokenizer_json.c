/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_json.c — tokenizer.json to struct tokenizer.
 *
 * The file's text is kept and written back as it was: nothing of it can be lost or reordered, and a
 * trained tokenizer is made by writing such a text and reading it (tokenizer_train.c), so there is
 * one way in. Writing from the parsed form is refused for that reason.
 *
 * Hugging Face tokenizers ignores the "id" of an added token: it takes the vocabulary's id of the
 * same text, else counts on from the vocabulary in file order. A file whose ids disagree would mean
 * different ids in the two programs and is refused.
 *
 * Messages name the place as a path of keys ("pre_tokenizer.pretokenizers[0].pattern"), syntax
 * errors as file:line:col.
 */
#include "model/tokenizer_impl.h"

#include <string.h>

/* ---- reading values ---- */
const char *json_kind(const json_t *j) {
    static const char *const kinds[] = {"an object", "a list", "a string", "a number", "a number",
                                        "true", "false", "null"};
    return j ? kinds[json_typeof(j)] : "nothing";
}

int json_only_keys(const json_t *j, const char *where, const char *const *keys, struct err *e) {
    const char *key;
    json_t *value;
    int n = 0;
    while (keys[n])
        n++;
    json_object_foreach((json_t *)j, key, value) {
        int i = 0;
        while (i < n && strcmp(key, keys[i]) != 0)
            i++;
        if (i < n)
            continue;
        const char *near = nearest_name(key, keys, n);
        return err_set(e, "%s: key \"%.60s\" is not supported here%s%s%s", where, key,
                       near ? " (hint: " : "", near ? near : "", near ? "?)" : "");
    }
    return 0;
}

int json_bool(const json_t *j, const char *key, bool def, const char *where, bool *out,
              struct err *e) {
    const json_t *v = json_object_get(j, key);
    *out = v ? json_is_true(v) : def;
    if (v && !json_is_boolean(v))
        return err_set(e, "%s.%s: expected true or false, got %s", where, key, json_kind(v));
    return 0;
}

int json_text(const json_t *j, const char *key, const char *where, const char **out,
              struct err *e) {
    const json_t *v = json_object_get(j, key);
    *out = json_string_value(v);
    if (v && !json_is_string(v) && !json_is_null(v))
        return err_set(e, "%s.%s: expected a string, got %s", where, key, json_kind(v));
    return 0;
}

/* ---- stages ---- */
int stage_parse(const struct stage_kind *table, struct tokenizer *t, const json_t *j,
                const char *where, struct err *e) {
    if (!j || json_is_null(j))
        return 0;
    const char *type = json_string_value(json_object_get(j, "type"));
    if (!type)
        return err_set(e, "%s: expected an object with a \"type\", got %s", where, json_kind(j));
    const struct stage_kind *k = table;
    while (k->type && strcmp(k->type, type) != 0)
        k++;
    if (k->type)
        return k->parse(t, j, where, e);
    struct str known = {0};
    for (k = table; k->type; k++)
        str_addf(&known, "%s%s", known.len ? ", " : "", k->type);
    err_set(e, "%s.type: \"%.60s\" is not supported, expected one of %s", where, type, known.s);
    str_release(&known);
    return -1;
}

int stage_parse_list(const struct stage_kind *table, struct tokenizer *t, const json_t *j,
                     const char *key, const char *where, struct err *e) {
    const json_t *list = json_object_get(j, key);
    if (!json_is_array(list))
        return err_set(e, "%s.%s: expected a list, got %s", where, key, json_kind(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        char at[300];
        if (snprintf(at, sizeof at, "%s.%s[%zu]", where, key, i) >= (int)sizeof at)
            return err_set(e, "%.100s...: lists within lists too deep", where);
        if (stage_parse(table, t, json_array_get(list, i), at, e) < 0)
            return -1;
    }
    return 0;
}

/* ---- decoders ---- */

/* Letters back to bytes when all are letters; other text, as of added tokens, is itself. */
static void decode_byte_level(const struct tokenizer *t, const char *token, struct str *out) {
    (void)t;
    size_t start = out->len;
    const char *s = token;
    while (*s) {
        int b = -1, c = (uint8_t)*s;
        if (c < 0x80)
            b = letter_byte(c);
        else if (c >= 0xC0 && c < 0xE0 && s[1])             // letters end at U+0143: two bytes
            b = letter_byte((c & 0x1F) << 6 | ((uint8_t)*++s & 0x3F));
        if (b < 0) {
            out->len = start;
            str_add(out, token);
            return;
        }
        str_addc(out, (char)b);
        s++;
    }
}

static int parse_decoder_byte_level(struct tokenizer *t, const json_t *j, const char *where,
                                    struct err *e) {
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    t->decode = decode_byte_level;
    return json_only_keys(j, where, keys, e);
}

const struct stage_kind decoder_table[] = {
    {"ByteLevel", parse_decoder_byte_level},
    {NULL, NULL},
};

/* ---- post-processors: checked and kept; BOS and EOS are the chat template's business ---- */
static int parse_post_byte_level(struct tokenizer *t, const json_t *j, const char *where,
                                 struct err *e) {
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    (void)t;
    return json_only_keys(j, where, keys, e);
}

/* Every SpecialToken of single and pair must have an entry in special_tokens. */
static int parse_post_template(struct tokenizer *t, const json_t *j, const char *where,
                               struct err *e) {
    static const char *const keys[] = {"type", "single", "pair", "special_tokens", NULL};
    static const char *const sides[] = {"single", "pair"};
    (void)t;
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    const json_t *known = json_object_get(j, "special_tokens");
    for (size_t k = 0; k < ARRAY_LEN(sides); k++) {
        const json_t *items = json_object_get(j, sides[k]);
        for (size_t i = 0; i < json_array_size(items); i++) {
            const json_t *special = json_object_get(json_array_get(items, i), "SpecialToken");
            const char *id = json_string_value(json_object_get(special, "id"));
            if (special && (!id || !json_object_get(known, id)))
                return err_set(e, "%s.%s[%zu]: \"%.40s\" has no entry in special_tokens", where,
                               sides[k], i, id ? id : "");
        }
    }
    return 0;
}

static int parse_post_sequence(struct tokenizer *t, const json_t *j, const char *where,
                               struct err *e) {
    static const char *const keys[] = {"type", "processors", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return stage_parse_list(post_processor_table, t, j, "processors", where, e);
}

const struct stage_kind post_processor_table[] = {
    {"ByteLevel", parse_post_byte_level},
    {"TemplateProcessing", parse_post_template},
    {"Sequence", parse_post_sequence},
    {NULL, NULL},
};

/* ---- model and added tokens ---- */
static int parse_model(struct tokenizer *t, const json_t *j, struct err *e) {
    const char *type = json_string_value(json_object_get(j, "type"));
    if (!type && json_object_get(j, "vocab") && json_object_get(j, "merges"))
        type = "BPE";                       // the oldest files carry no type
    if (!type)
        return err_set(e, "model: expected an object with a \"type\", got %s", json_kind(j));
    for (t->model = token_model_table; t->model->type; t->model++)
        if (strcmp(t->model->type, type) == 0)
            return t->model->parse(t, j, "model", e);
    return err_set(e, "model.type: \"%.60s\" is not supported, expected BPE", type);
}

/* The id that the reference would give: the vocabulary's, else the next one behind all. */
static int added_id(struct tokenizer *t, const struct added *a, const json_t *j, const char *where,
                    int *next, struct err *e) {
    const json_t *id = json_object_get(j, "id");
    int32_t want = vocab_find(&t->vocab, a->content, a->len);
    bool fresh = want < 0;
    if (fresh)
        want = *next;
    if (!json_is_integer(id) || json_integer_value(id) != want) {
        char got[32];
        snprintf(got, sizeof got, "%lld", (long long)json_integer_value(id));
        return err_set(e, "%s: \"%.40s\": expected id %d (%s), got %s", where, a->content, want,
                       fresh ? "counting on from the vocabulary" : "as in the vocabulary",
                       json_is_integer(id) ? got : json_kind(id));
    }
    if (fresh && !vocab_add(&t->vocab, a->content, a->len, want))
        return err_set(e, "%s: \"%.40s\": id %d is taken by \"%.40s\"", where, a->content, want,
                       t->vocab.token[want]);
    *next = MAX(*next, want + 1);
    return want;
}

static int parse_added(struct tokenizer *t, const json_t *list, struct err *e) {
    static const char *const keys[] = {"id", "content", "single_word", "lstrip", "rstrip",
                                       "normalized", "special", NULL};
    if (list && !json_is_null(list) && !json_is_array(list))
        return err_set(e, "added_tokens: expected a list, got %s", json_kind(list));
    int n = (int)json_array_size(list), next = (int)t->vocab.used;
    t->added = xcalloc((size_t)n, sizeof *t->added);
    for (int i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, (size_t)i);
        struct added *a = &t->added[t->nadded];
        const char *content;
        char where[48];
        snprintf(where, sizeof where, "added_tokens[%d]", i);
        if (json_only_keys(j, where, keys, e) < 0 ||
            json_text(j, "content", where, &content, e) < 0 ||
            json_bool(j, "single_word", false, where, &a->single_word, e) < 0 ||
            json_bool(j, "lstrip", false, where, &a->lstrip, e) < 0 ||
            json_bool(j, "rstrip", false, where, &a->rstrip, e) < 0 ||
            json_bool(j, "special", false, where, &a->special, e) < 0 ||
            json_bool(j, "normalized", !a->special, where, &a->normalized, e) < 0)
            return -1;
        if (!content)
            return err_set(e, "%s.content: expected a string, got %s", where,
                           json_kind(json_object_get(j, "content")));
        if (!*content)
            continue;
        t->nadded++;
        a->content = xstrdup(content);
        a->len = strlen(content);
        if ((a->id = added_id(t, a, j, where, &next, e)) < 0)
            return -1;
    }
    return 0;
}

/* ---- the whole ---- */
static int parse_stages(struct tokenizer *t, const json_t *root, struct err *e) {
    const char *version;
    if (!json_is_object(root))
        return err_set(e, "expected an object, got %s", json_kind(root));
    if (json_text(root, "version", "tokenizer", &version, e) < 0)
        return -1;
    if (version && strcmp(version, "1.0") != 0)
        return err_set(e, "version: expected \"1.0\", got \"%.20s\"", version);
    if (stage_parse(normalizer_table, t, json_object_get(root, "normalizer"), "normalizer",
                    e) < 0 ||
        stage_parse(pre_tokenizer_table, t, json_object_get(root, "pre_tokenizer"), "pre_tokenizer",
                    e) < 0 ||
        stage_parse(post_processor_table, t, json_object_get(root, "post_processor"),
                    "post_processor", e) < 0 ||
        stage_parse(decoder_table, t, json_object_get(root, "decoder"), "decoder", e) < 0)
        return -1;
    if (!t->byte_level)
        return err_set(e, "pre_tokenizer: expected ByteLevel as its last step, got %s (hint: only "
                       "byte-level vocabularies are supported)",
                       json_kind(json_object_get(root, "pre_tokenizer")));
    if (!t->decode)
        return err_set(e, "decoder: expected ByteLevel, got %s",
                       json_kind(json_object_get(root, "decoder")));
    if (parse_model(t, json_object_get(root, "model"), e) < 0)
        return -1;
    return parse_added(t, json_object_get(root, "added_tokens"), e);
}

struct tokenizer *tokenizer_parse(const char *json, size_t len, const char *where, struct err *e) {
    json_error_t je;
    struct tokenizer *t = NULL;
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &je);
    if (!root) {
        err_set(e, "%s:%d:%d: not JSON: %s", where, je.line, je.column, je.text);
        return NULL;
    }
    t = xcalloc(1, sizeof *t);
    t->unk_id = -1;
    if (parse_stages(t, root, e) < 0) {
        err_prefix(e, "%s", where);
        tokenizer_free(t);
        t = NULL;
    } else {
        struct str copy = {0};
        str_addn(&copy, json, len);
        t->json_len = len;
        t->json = str_detach(&copy);
        added_prepare(t);
    }
    json_decref(root);
    return t;
}

struct tokenizer *tokenizer_load(const char *path, struct err *e) {
    size_t len;
    char *text = file_read(path, &len, e);
    struct tokenizer *t = text ? tokenizer_parse(text, len, path, e) : NULL;
    free(text);
    return t;
}

int tokenizer_save(const struct tokenizer *t, const char *path, struct err *e) {
    return file_write(path, t->json, t->json_len, e);
}

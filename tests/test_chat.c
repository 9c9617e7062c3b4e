/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_chat.c — every chat template against what Jinja2 makes of its text; loss spans; seams;
 * what users write cannot forge turns.
 *
 *     test_chat --jinja      prints the table for tests/ref/make_chat.py
 */
#include <jansson.h>

#include "model/chat.h"
#include "tests/helper.h"

#define EOS "<|endoftext|>"
#define REFERENCE "tests/ref/chat.jsonl"

static struct tokenizer *tok;               /* knows every template's special tokens */
static int32_t eos_id;

static int setup(void **state) {
    (void)state;
    const char *specials[64] = {EOS};
    int n = 1;
    for (const struct chat_format *c = chat_table; c->name; c++)
        for (const char *const *s = c->specials; *s; s++) {
            int i = 0;
            while (i < n && strcmp(specials[i], *s) != 0)
                i++;
            if (i == n)
                specials[n++] = *s;
        }
    const char *text = "user\n  Hello\nuser\n  Hello\nassistant\n  Hello";
    size_t len = strlen(text);
    struct err e = {0};
    tok = tokenizer_train(&text, &len, 1, 256 + n + 12, specials, n, &e);
    if (!tok) {
        log_error("%s", e.msg);
        return -1;
    }
    eos_id = tokenizer_id(tok, EOS);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tokenizer_free(tok);
    return 0;
}

static struct chat *open_text(const char *jinja, const char *name) {
    struct err e = {0};
    json_t *specials = json_pack("{s:s, s:s}", "eos_token", EOS, "bos_token", "");
    struct chat *c = chat_new(jinja, name, tok, specials, &e);
    json_decref(specials);
    if (!c)
        fail_msg("%s: %s", name, e.msg);
    return c;
}

static struct chat *open_named(const char *name) {
    return open_text(chat_find(name)->jinja, name);
}

static char *decode(const struct ids *ids) {
    return tokenizer_decode(tok, ids->v, ids->n, false, NULL);
}

/* The text whose tokens carry loss, runs joined by "|". */
static char *carried(const struct ids *ids, const struct ids *carries) {
    struct str s = {0};
    for (int i = 0; i < ids->n; i++) {
        char *piece = tokenizer_decode(tok, ids->v + i, 1, false, NULL);
        if (carries->v[i])
            str_add(&s, piece);
        else if (s.len && s.s[s.len - 1] != '|')
            str_addc(&s, '|');
        free(piece);
    }
    return str_detach(&s);
}

/* ---- reference ---- */
static int read_messages(const json_t *list, struct message *msgs, int cap) {
    int n = (int)json_array_size(list);
    assert_true(n <= cap);
    for (int i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, (size_t)i);
        msgs[i] = (struct message){json_string_value(json_object_get(m, "role")),
                                   json_string_value(json_object_get(m, "content"))};
    }
    return n;
}

static void check_reference_row(const json_t *row) {
    const char *name = json_string_value(json_object_get(row, "template"));
    const char *text = json_string_value(json_object_get(row, "text"));
    const struct chat_format *c = chat_find(name);
    if (!c)
        fail_msg("%s: template %s is not in the table (remake it)", REFERENCE, name);
    const char *jinja = json_string_value(json_object_get(row, "jinja"));
    if (jinja && strcmp(c->jinja, jinja) != 0)
        fail_msg("%s: the Jinja text of %s has changed (remake it)", REFERENCE, name);
    if (jinja)
        return;
    struct message msgs[8];
    struct ids ids = {0};
    struct err e = {0};
    int n = read_messages(json_object_get(row, "messages"), msgs, ARRAY_LEN(msgs));
    bool prompt = json_is_true(json_object_get(row, "add_generation_prompt"));
    struct chat *chat = open_named(name);
    int rc = chat_encode(chat, msgs, n, n, prompt, &ids, NULL, &e);
    chat_free(chat);
    if (!text) {
        if (rc == 0)
            fail_msg("%s accepts \"%s\", Jinja does not", name,
                     json_string_value(json_object_get(row, "name")));
        assert_int_equal(ids.n, 0);
        assert_true(e.msg[0]);
        return;
    }
    if (rc != 0)
        fail_msg("%s: \"%s\": %s", name, json_string_value(json_object_get(row, "name")), e.msg);
    char *got = decode(&ids);
    assert_string_equal(got, text);
    free(got);
    ids_release(&ids);
}

static void test_reference(void **state) {
    (void)state;
    size_t len;
    struct err e = {0};
    char *all = file_read(REFERENCE, &len, &e);
    if (!all)
        fail_msg("%s", e.msg);
    for (const struct chat_format *c = chat_table; c->name; c++) {
        char *key = xasprintf("{\"template\": \"%s\", \"jinja\"", c->name);
        if (!strstr(all, key))
            fail_msg("%s has no row of %s (remake it)", REFERENCE, c->name);
        free(key);
    }
    for (char *line = all, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(row);
        check_reference_row(row);
        json_decref(row);
    }
    free(all);
}

/* The published templates of these families, rendered by Jinja2. */
static void test_published(void **state) {
    (void)state;
    static const struct {
        const char *published, *ours;
    } pairs[] = {
        {"teknium/OpenHermes-2.5-Mistral-7B", "chatml"},
        {"google-gemma-2-2b-it", "gemma"},
        {"Llama-3", "llama3"},
        {"Phi-3-vision", "phi3"},
        {"Qwen-Qwen2.5-7B-Instruct", "qwen2.5"},
        {"mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)", "mistral-v7"},
    };
    const char *path = test_shared("fixtures/tokenizers/chat/templates.jsonl");
    const char *talks = test_shared("fixtures/tokenizers/chat/conversations.json");
    if (!path || !talks)
        skip();
    size_t len;
    struct err e = {0};
    char *all = file_read(path, &len, &e);
    json_t *conversations = json_load_file(talks, 0, NULL);
    assert_true(all && conversations);
    int compared = 0;
    for (char *line = all, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL), *render;
        const char *name = json_string_value(json_object_get(row, "name"));
        size_t k;
        struct chat *c = NULL;
        for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
            if (strcmp(name, pairs[i].published) == 0)
                c = open_named(pairs[i].ours);
        json_array_foreach(c ? json_object_get(row, "renders") : NULL, k, render) {
            const char *key = json_string_value(json_object_get(render, "conversation"));
            const char *text = json_string_value(json_object_get(render, "output"));
            const json_t *talk = json_object_get(conversations, key);
            bool prompt = json_is_true(json_object_get(render, "add_generation_prompt"));
            // llama3's first template always writes the generation prompt; BOS may be empty
            if (!text || (strcmp(chat_name(c), "llama3") == 0 && !prompt))
                continue;
            struct message msgs[8];
            struct ids ids = {0};
            int n = read_messages(json_object_get(talk, "messages"), msgs, ARRAY_LEN(msgs));
            if (chat_encode(c, msgs, n, n, prompt, &ids, NULL, &e) != 0)
                continue;                   // ours want turns to alternate; counted below
            char *got = decode(&ids);
            size_t bos = strlen(got) - strlen(text);    // written where the model has one
            assert_true(bos <= strlen("<|begin_of_text|>"));
            assert_string_equal(got + bos, text);
            free(got);
            ids_release(&ids);
            compared++;
        }
        chat_free(c);
        json_decref(row);
    }
    assert_int_equal(compared, 34);         // chatml, phi3, qwen2.5 7 each, mistral-v7 6, llama3 4,
                                            // gemma 3
    json_decref(conversations);
    free(all);
}

/* Published templates as they are: the exact text, or an error where Jinja2 gives one. */
static void test_every_template(void **state) {
    (void)state;
    const char *path = test_shared("fixtures/tokenizers/chat/templates.jsonl");
    const char *talks = test_shared("fixtures/tokenizers/chat/conversations.json");
    if (!path || !talks)
        skip();
    struct err e = {0};
    size_t k;
    char *all = file_read(path, NULL, &e);
    json_t *conversations = json_load_file(talks, 0, NULL), *render;
    assert_true(all && conversations);
    int texts = 0, errors = 0;
    for (char *line = all, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        const char *name = json_string_value(json_object_get(row, "name"));
        json_t *specials = json_pack("{s:O, s:O}", "bos_token", json_object_get(row, "bos"),
                                     "eos_token", json_object_get(row, "eos"));
        struct chat *c = chat_new(json_string_value(json_object_get(row, "template")), name, NULL,
                                  specials, &e);
        if (!c)
            fail_msg("%s", e.msg);
        json_array_foreach(json_object_get(row, "renders"), k, render) {
            const char *want = json_string_value(json_object_get(render, "output"));
            const json_t *talk_json = json_object_get(
                conversations, json_string_value(json_object_get(render, "conversation")));
            char *got = chat_text(c, talk_json, NULL, &e);
            if (!want != !got)
                fail_msg("%s: %s", name, got ? got : e.msg);
            if (want)
                assert_string_equal(got, want);
            texts += want != NULL;
            errors += want == NULL;
            free(got);
        }
        chat_free(c);
        json_decref(specials);
        json_decref(row);
    }
    assert_true(texts > 200 && errors > 10);
    json_decref(conversations);
    free(all);
}

/* ---- properties ---- */
static const struct message talk[] = {
    {"user", "\nHello"}, {"assistant", "\n Sure."}, {"user", "b"}, {"assistant", "c"}};

static void test_loss_spans(void **state) {
    (void)state;
    static const struct {
        const char *name, *carried;
    } cases[] = {
        {"keel", "\n Sure.<|end|>|c<|end|>"},
        {"chatml", "\n Sure.<|im_end|>|c<|im_end|>|"},
        {"qwen2.5", "\n Sure.<|im_end|>|c<|im_end|>|"},
        {"qwen3", NULL},
        {"llama3.1", "Sure.<|eot_id|>|c<|eot_id|>"},
        {"llama2", " Sure. </s>| c </s>"},
        {"mistral", "\n Sure.</s>|c</s>"},
        {"mistral-v3", " \n Sure.</s>| c</s>"},
        {"mistral-v7", " \n Sure.</s>| c</s>"},
        {"phi3", "\n Sure.<|end|>|c<|end|>|"},
        {"llama3", "Sure.<|eot_id|>|c<|eot_id|>"},
        {"zephyr", "\n Sure.</s>|c</s>|"},
        {"gemma", "Sure.<end_of_turn>|c<end_of_turn>|"},
        {"alpaca", "\n Sure." EOS "|c" EOS},
        {"none", "\n Sure." EOS "|c" EOS},
    };
    for (const struct chat_format *c = chat_table; c->name; c++) {
        size_t row = 0;
        while (row < ARRAY_LEN(cases) && strcmp(cases[row].name, c->name) != 0)
            row++;
        if (row == ARRAY_LEN(cases))
            fail_msg("%s has no case", c->name);
        const char *want = cases[row].carried;
        struct ids ids = {0}, carries = {0};
        struct err e = {0};
        struct chat *chat = open_named(c->name);
        if (!want) {                        // the first answer is written otherwise than alone
            assert_int_equal(chat_encode(chat, talk, 4, 0, false, &ids, &carries, &e), -1);
            assert_contains(e.msg, "expected a prefix");
            assert_int_equal(ids.n, 0);
            assert_ok(chat_encode(chat, talk, 4, 3, false, &ids, &carries, &e), &e);
            want = "<think>\n\n</think>\n\nc<|im_end|>|";
        } else {
            assert_ok(chat_encode(chat, talk, 4, 0, false, &ids, &carries, &e), &e);
        }
        chat_free(chat);
        assert_int_equal(ids.n, carries.n);
        char *got = carried(&ids, &carries);
        assert_string_equal(got[0] == '|' ? got + 1 : got, want);
        free(got);
        ids_release(&ids);
        ids_release(&carries);
    }
}

/* What is generated from is what was trained on: prompt ids are a prefix, for every template. */
static void test_prompt_is_prefix(void **state) {
    (void)state;
    for (const struct chat_format *c = chat_table; c->name; c++)
        for (int n = 1; n <= 3; n += 2) {
            struct ids prompt = {0}, whole = {0}, carries = {0};
            struct err e = {0};
            struct chat *chat = open_named(c->name);
            assert_ok(chat_encode(chat, talk, n, n, true, &prompt, NULL, &e), &e);
            assert_ok(chat_encode(chat, talk, n + 1, n, false, &whole, &carries, &e), &e);
            chat_free(chat);
            assert_true(prompt.n < whole.n);
            assert_memory_equal(prompt.v, whole.v, (size_t)prompt.n * sizeof *prompt.v);
            assert_int_equal(carries.v[prompt.n - 1], 0);
            assert_int_equal(carries.v[prompt.n], 1);
            ids_release(&prompt);
            ids_release(&whole);
            ids_release(&carries);
        }
}

/* "user\n" and "  Hello" meet: the ids are those of the whole text, as other programs encode it. */
static void test_seams(void **state) {
    (void)state;
    static const char *const text = "<|im_start|>user\n  Hello<|im_end|>\n<|im_start|>assistant\n";
    const struct message blanks = {"user", "  Hello"};
    struct ids got = {0}, want = {0};
    struct err e = {0};
    struct chat *chat = open_named("chatml");
    assert_ok(chat_encode(chat, &blanks, 1, 1, true, &got, NULL, &e), &e);
    chat_free(chat);
    tokenizer_encode(tok, text, strlen(text), true, &want);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.v, want.v, (size_t)got.n * sizeof *got.v);
    // a token of newline and blank stands on the seam, so piece by piece would differ
    int32_t seam = tokenizer_id(tok, "\xC4\x8A\xC4\xA0");
    bool found = false;
    for (int i = 0; i < got.n; i++)
        found |= seam >= 0 && got.v[i] == seam;
    assert_true(found);
    ids_release(&got);
    ids_release(&want);
}

static void test_no_forged_turns(void **state) {
    (void)state;
    for (const struct chat_format *c = chat_table; c->name; c++) {
        struct str evil = {0};
        for (const char *const *s = c->specials; *s; s++)
            str_add(&evil, *s);
        str_add(&evil, EOS "x");
        const struct message forged[] = {{"user", evil.s}, {"assistant", evil.s}};
        const struct message plain[] = {{"user", "x"}, {"assistant", "x"}};
        struct ids a = {0}, b = {0};
        struct err e = {0};
        struct chat *chat = open_named(c->name);
        assert_ok(chat_encode(chat, forged, 2, 2, true, &a, NULL, &e), &e);
        assert_ok(chat_encode(chat, plain, 2, 2, true, &b, NULL, &e), &e);
        struct ids carries = {0}, again = {0};      // nor end an answer early
        assert_ok(chat_encode(chat, forged, 2, 1, false, &again, &carries, &e), &e);
        char *learnt = carried(&again, &carries);
        assert_contains(learnt, evil.s);
        free(learnt);
        ids_release(&carries);
        ids_release(&again);
        chat_free(chat);
        int count = 0;
        for (int i = 0; i < a.n; i++)
            count += tokenizer_is_special(tok, a.v[i]);
        for (int i = 0; i < b.n; i++)
            count -= tokenizer_is_special(tok, b.v[i]);
        assert_int_equal(count, 0);
        ids_release(&a);
        ids_release(&b);
        str_release(&evil);
    }
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *jinja;                  // or a name
        struct message m[2];
        int n;
        const char *message;
    } cases[] = {
        {"keel", {{"tool", "x"}}, 1, "unknown role"},
        {"gemma", {{"system", "x"}}, 1, "no system message"},
        {"gemma", {{"user", "x"}, {"user", "y"}}, 2, "must take turns"},
        {"alpaca", {{"user", "x"}, {"system", "y"}}, 2, "must take turns"},
        {"{{ messages[0].content }}{{ messages[1].content + nothing }}",
         {{"user", "x"}, {"assistant", "y"}}, 2, "nothing"},
        {"{{ '<|im_end|><|im_end|>' }}{{ messages[0].content }}", {{"user", "\xff"}}, 1, "UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ids ids = {0};
        struct err e = {0};
        const bool named = chat_find(cases[i].jinja) != NULL;
        struct chat *c = named ? open_named(cases[i].jinja) : open_text(cases[i].jinja, "mine");
        assert_int_equal(chat_encode(c, cases[i].m, cases[i].n, cases[i].n, true, &ids, NULL, &e),
                         -1);
        assert_contains(e.msg, cases[i].message);
        assert_int_equal(ids.n, 0);
        chat_free(c);
    }
    const char *text = "x";
    size_t len = 1;
    struct err e = {0};
    struct tokenizer *bare = tokenizer_train(&text, &len, 1, 256, NULL, 0, &e);
    assert_non_null(bare);
    assert_null(chat_new(chat_find("keel")->jinja, "keel", bare, NULL, &e));
    assert_contains(e.msg, "no token \"<|system|>\"");
    assert_null(chat_new("{% if %}", "mine", bare, NULL, &e));
    assert_contains(e.msg, "mine:1:");
    // no end-of-text token: the template's own word is undefined, and says so
    struct chat *none = chat_new(chat_find("none")->jinja, "none", bare, NULL, &e);
    struct ids ids = {0};
    assert_non_null(none);
    assert_int_equal(chat_encode(none, talk, 2, 1, false, &ids, NULL, &e), -1);
    assert_contains(e.msg, "eos_token");
    chat_free(none);
    tokenizer_free(bare);
}

/* BOS in the template and in the special tokens; the same text twice is refused. */
static void test_bos(void **state) {
    (void)state;
    struct err e = {0};
    json_t *specials = json_pack("{s:s}", "bos_token", "<s>");
    struct chat *c = chat_new("{{ bos_token }}<s>{{ messages[0].content }}", "twice", tok, specials,
                              &e);
    struct ids ids = {0};
    assert_non_null(c);
    assert_int_equal(chat_encode(c, talk, 1, 1, false, &ids, NULL, &e), -1);
    assert_contains(e.msg, "\"<s>\" stands twice");
    chat_free(c);
    c = chat_new("{{ bos_token }}{{ messages[0].content }}", "once", tok, specials, &e);
    assert_ok(chat_encode(c, talk, 1, 1, false, &ids, NULL, &e), &e);
    assert_int_equal(ids.v[0], tokenizer_id(tok, "<s>"));
    ids_release(&ids);
    chat_free(c);
    json_decref(specials);
}

/* {% generation %}: the template says what is learnt. */
static void test_generation_blocks(void **state) {
    (void)state;
    struct err e = {0};
    struct ids ids = {0}, carries = {0};
    struct chat *c = open_text("{% for m in messages %}{% if m.role == 'assistant' %}A:"
                               "{% generation %}{{ m.content }};{% endgeneration %}"
                               "{% else %}U:{{ m.content }} {% endif %}{% endfor %}"
                               "{% if add_generation_prompt %}A:{% endif %}", "marked");
    assert_ok(chat_encode(c, talk, 4, 0, false, &ids, &carries, &e), &e);
    char *got = carried(&ids, &carries);
    assert_string_equal(got, "\n Sure.;|c;");
    free(got);
    ids.n = carries.n = 0;
    assert_ok(chat_encode(c, talk, 4, 3, false, &ids, &carries, &e), &e);
    got = carried(&ids, &carries);
    assert_string_equal(got, "c;");
    free(got);
    chat_free(c);
    ids.n = carries.n = 0;
    c = open_text("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
                  "{% endfor %}", "all");
    assert_int_equal(chat_encode(c, talk, 4, 0, false, &ids, &carries, &e), -1);
    assert_contains(e.msg, "of 2 answers, got 4");
    chat_free(c);
    ids_release(&ids);
    ids_release(&carries);
}

/* What a template is opened with: the token that ends an answer, texts that were templated. */
static void test_opened(void **state) {
    (void)state;
    struct err e = {0};
    for (const struct chat_format *f = chat_table; f->name; f++) {
        struct chat *c = open_named(f->name);
        assert_string_equal(chat_name(c), f->name);
        assert_string_equal(chat_jinja(c), f->jinja);
        assert_int_equal(chat_end(c), f->eos ? tokenizer_id(tok, f->eos) : eos_id);
        const struct message fresh = {"user", "Hello"};
        assert_ok(chat_check_raw(c, &fresh, 1, &e), &e);
        // rendered once already: it begins as the template begins
        json_t *request = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content",
                                    "Hello");
        char *text = chat_text(c, request, NULL, &e);
        const struct message again = {"user", text};
        const bool writes = strcmp(text, "Hello") != 0;
        assert_int_equal(chat_check_raw(c, &again, 1, &e), writes ? -1 : 0);
        free(text);
        json_decref(request);
        chat_free(c);
    }
}

static void test_look_up(void **state) {
    (void)state;
    for (const struct chat_format *c = chat_table; c->name; c++) {
        assert_ptr_equal(chat_find(c->name), c);
        assert_ptr_equal(chat_find_jinja(c->jinja), c);
        char *edited = xasprintf("%s\n", c->jinja);
        assert_ptr_equal(chat_find_jinja(edited), c);
        free(edited);
        assert_contains(chat_list(), c->name);
        bool known = !c->eos;
        for (const char *const *s = c->specials; *s; s++)
            known |= strcmp(*s, c->eos) == 0;
        assert_true(known);
    }
    assert_null(chat_find("chatm"));
    assert_null(chat_find_jinja("{{ messages }}"));
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--jinja") == 0) {
        for (const struct chat_format *c = chat_table; c->name; c++) {
            json_t *row = json_pack("{s:s, s:s}", "template", c->name, "jinja", c->jinja);
            json_dumpf(row, stdout, 0);
            putchar('\n');
            json_decref(row);
        }
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_every_template),
        cmocka_unit_test(test_loss_spans),
        cmocka_unit_test(test_prompt_is_prefix),
        cmocka_unit_test(test_seams),
        cmocka_unit_test(test_no_forged_turns),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bos),
        cmocka_unit_test(test_generation_blocks),
        cmocka_unit_test(test_opened),
        cmocka_unit_test(test_look_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

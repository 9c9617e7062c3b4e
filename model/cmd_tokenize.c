/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cmd_tokenize.c — keel tokenize MODEL: stdin to token ids, and ids back to text.
 *
 * What is read (a text, lines, JSONL, conversations, ids) and what is printed (pieces, ids, their
 * number, JSON) are independent: a reader makes ids of its input and hands them to one printer.
 * Lines and rows are answered one by one, so a pipe of any length needs the memory of its longest
 * row, and a program at the other end has its answer before it sends the next row.
 *
 * Of the folder only tokenizer and chat template are read: both can be tried whatever architecture
 * it holds.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ckpt/hf_chat.h"
#include "train/cli.h"

static const struct usage usage = {
    .verb = "tokenize",
    .args = "MODEL",
    .summary = "text on stdin to token ids, and back; MODEL: a folder, or a tokenizer.json alone",
    .details =
        "  keel tokenize out/dpo <text                     # a line a token: id, tab, piece\n"
        "  keel tokenize out/dpo --ids <text | keel tokenize out/dpo --decode --skip-special\n"
        "  echo '{\"text\": \"Hi\", \"add_special\": false}' | keel tokenize out/dpo --jsonl\n"
        "\n"
        "All of stdin is one text, a newline at its end included; --lines and --jsonl take it\n"
        "row by row and answer each at once. The tokenizer adds its special tokens (BOS,\n"
        "EOS) where Hugging Face does by default.\n"
        "\n"
        "--jsonl: a row has \"text\", and may have \"text_pair\" and \"add_special\" (true); its\n"
        "other keys are not read. With --decode a row is [ID, ...] or {\"ids\": [ID, ...]}. The\n"
        "answer is one object on one line: ids, tokens (raw pieces), decoded (special tokens\n"
        "kept, no clean-up), decoded_skip_special. U+FFFD stands for bytes that are not UTF-8.\n"
        "\n"
        "--chat: JSONL or one JSON document, {\"messages\": [{\"role\", \"content\"}, ...]} with\n"
        "add_generation_prompt, tools and what else the template knows. Prints the text, with\n"
        "--jsonl {\"text\", \"ids\"}. The ids are those of transformers: special tokens written\n"
        "in a message count; --no-special-in-text gives what keel train and generate see.\n"
        "\n"
        "--decode alone reads ids between blanks, commas or brackets and prints the exact bytes.",
    .min_args = 1,
    .max_args = 1,
};

struct text {
    const char *s;                          /* NULL: there is none */
    size_t n;
};

/* The text that token i took, where that is more than its own. */
struct taken {
    char **v;                               /* NULL: its own; owned */
    int n;
};

struct job {
    struct tokenizer *tok;
    struct taken *taken;                    /* of the ids to be printed */
    struct chat *chat;
    const char *template;                   /* --template; NULL: the folder's own */
    /* text: what a template made of a conversation */
    void (*print)(const struct job *j, const struct ids *ids, struct text text);
    bool lines, jsonl, talk, decode, ids, count, skip_special, bare, plain;
    bool begun;                             /* a row that is not blank was met */
    bool flush;                             /* stdout is no file: somebody waits for each row */
    long row;                               /* line of stdin, from 1, for messages */
};

/* ---- printers ---- */

/* Control characters of a piece as \n, \t, \x1B: a token stays on its line. */
static void print_piece(const char *s) {
    static const char names[] = "\t\n\rtnr";
    for (; *s; s++) {
        const char *c = memchr(names, *s, 3);
        if (c)
            printf("\\%c", c[3]);
        else if ((uint8_t)*s < 0x20 || *s == 0x7F)
            printf("\\x%02X", (unsigned)*s);
        else
            putchar(*s);
    }
}

static void print_pieces(const struct job *j, const struct ids *ids, struct text text) {
    (void)text;
    for (int i = 0; i < ids->n; i++) {
        printf("%d\t", ids->v[i]);
        print_piece(tokenizer_token(j->tok, ids->v[i]));
        putchar('\n');
    }
    if (j->lines)
        putchar('\n');
}

static void print_ids(const struct job *j, const struct ids *ids, struct text text) {
    (void)text;
    (void)j;
    for (int i = 0; i < ids->n; i++)
        printf("%s%d", i ? " " : "", ids->v[i]);
    putchar('\n');
}

static void print_count(const struct job *j, const struct ids *ids, struct text text) {
    (void)text;
    (void)j;
    printf("%d\n", ids->n);
}

static void print_text(const struct job *j, const struct ids *ids, struct text text) {
    (void)text;
    size_t len;
    int flags = j->skip_special ? DECODE_SKIP_SPECIAL : 0;
    char *bytes = tokenizer_decode(j->tok, ids->v, ids->n, flags, &len);
    fwrite(bytes, 1, len, stdout);
    if (j->lines || is_terminal(stdout))
        putchar('\n');
    free(bytes);
}

/* Takes row over. */
static void print_json(json_t *row) {
    json_dumpf(row, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(row);
}

static json_t *json_ids(const struct ids *ids) {
    json_t *v = json_array();
    for (int i = 0; i < ids->n; i++)
        json_array_append_new(v, json_integer(ids->v[i]));
    return v;
}

static json_t *json_decoded(const struct job *j, const struct ids *ids, int flags) {
    size_t len;
    char *text = tokenizer_decode(j->tok, ids->v, ids->n, DECODE_VALID | flags, &len);
    json_t *s = json_stringn(text, len);
    free(text);
    return s;
}

static void print_row(const struct job *j, const struct ids *ids, struct text text) {
    (void)text;
    json_t *row = json_object(), *tokens = json_array();
    for (int i = 0; i < ids->n; i++)
        json_array_append_new(tokens, json_string(i < j->taken->n && j->taken->v[i]
                                                      ? j->taken->v[i]
                                                      : tokenizer_token(j->tok, ids->v[i])));
    json_object_set_new(row, "ids", json_ids(ids));
    json_object_set_new(row, "tokens", tokens);
    json_object_set_new(row, "decoded", json_decoded(j, ids, 0));
    json_object_set_new(row, "decoded_skip_special", json_decoded(j, ids, DECODE_SKIP_SPECIAL));
    print_json(row);
}

static void print_rendered(const struct job *j, const struct ids *ids, struct text text) {
    (void)j;
    (void)ids;
    fwrite(text.s, 1, text.n, stdout);
    if (is_terminal(stdout))
        putchar('\n');
}

static void print_chat_row(const struct job *j, const struct ids *ids, struct text text) {
    (void)j;
    json_t *row = json_pack("{s:o, s:o}", "text", json_stringn(text.s, text.n), "ids",
                            json_ids(ids));
    print_json(row);
}

/* ---- text to ids ---- */
static void taken_set(struct taken *t, int at, char *text) {
    if (at >= t->n) {
        t->v = xreallocarray(t->v, (size_t)at + 1, sizeof *t->v);
        memset(t->v + t->n, 0, (size_t)(at + 1 - t->n) * sizeof *t->v);
        t->n = at + 1;
    }
    t->v[at] = text;
}

static void take(void *ctx, int at, const char *s, size_t n) {
    taken_set(ctx, at, xstrndup(s, n));
}

static char *taken_move(struct taken *t, int at) {
    char *text = at < t->n ? t->v[at] : NULL;
    if (text)
        t->v[at] = NULL;
    return text;
}

static void taken_release(struct taken *t) {
    for (int i = 0; i < t->n; i++)
        free(t->v[i]);
    free(t->v);
    *t = (struct taken){0};
}

/* Both sequences as the post-processor arranges them: it sees numbers -1, -2, ... for tokens. */
static void arrange(const struct job *j, const struct ids *first, const struct ids *second,
                    bool pair, bool add_special, struct taken part[2], struct ids *out) {
    struct ids number[2] = {{0}, {0}}, order = {0};
    for (int i = 0; i < first->n + second->n; i++)
        ids_add(&number[i >= first->n], -1 - i);
    if (add_special) {
        tokenizer_post_process(j->tok, &number[0], pair ? &number[1] : NULL, &order);
    } else {
        ids_addn(&order, number[0].v, number[0].n);
        ids_addn(&order, number[1].v, number[1].n);
    }
    for (int i = 0; i < order.n; i++) {
        const int k = -1 - order.v[i], side = k >= first->n, at = side ? k - first->n : k;
        char *text = k < 0 ? NULL : taken_move(&part[side], at);
        if (text)
            taken_set(j->taken, out->n, text);
        ids_add(out, k < 0 ? order.v[i] : side ? second->v[at] : first->v[at]);
    }
    ids_release(&number[0]);
    ids_release(&number[1]);
    ids_release(&order);
}

static int encode(const struct job *j, struct text a, struct text b, bool add_special,
                  struct ids *out, struct err *e) {
    struct ids first = {0}, second = {0};
    struct taken part[2] = {{0}, {0}};
    const int flags = j->plain ? 0 : ENCODE_SPECIAL;
    int rc = tokenizer_encode_taking(j->tok, a.s, a.n, flags, &first, take, &part[0]);
    if (rc == 0 && b.s)
        rc = tokenizer_encode_taking(j->tok, b.s, b.n, flags, &second, take, &part[1]);
    taken_release(j->taken);
    if (rc != 0)
        err_set(e, "the tokenizer's expressions do not get through this text");
    else
        arrange(j, &first, &second, b.s != NULL, add_special, part, out);
    taken_release(&part[0]);
    taken_release(&part[1]);
    ids_release(&first);
    ids_release(&second);
    return rc;
}

/* ---- ids from outside ---- */
static int add_id(const struct job *j, int64_t id, struct ids *out, struct err *e) {
    if (id < 0 || id >= tokenizer_vocab_size(j->tok))
        return err_set(e, "expected an id of the vocabulary, 0 to %d, got %lld",
                       tokenizer_vocab_size(j->tok) - 1, (long long)id);
    if (!tokenizer_token(j->tok, (int32_t)id))
        return err_set(e, "expected an id that has a token, got %lld", (long long)id);
    ids_add(out, (int32_t)id);
    return 0;
}

/* Numbers between blanks, commas and brackets; counts j->row on over newlines. */
static int parse_ids(struct job *j, const char *s, size_t n, struct ids *out, struct err *e) {
    long column = 1;
    for (size_t at = 0, k; at < n; at += k, column += (long)k) {
        k = 1;
        if (s[at] == '\n') {
            j->row++;
            column = 0;
        }
        if (s[at] && strchr(" \t\r\n,[]", s[at]))
            continue;
        char word[24];
        int64_t id;
        while (at + k < n && !(s[at + k] && strchr(" \t\r\n,[]", s[at + k])))
            k++;
        snprintf(word, sizeof word, "%.*s", (int)MIN(k, sizeof word - 1), s + at);
        if (!parse_int(word, INT64_MIN, INT64_MAX, &id)) {
            char *clean = utf8_clean(word, strlen(word));
            err_set(e, "stdin:%ld:%ld: expected token ids, got \"%s\"", j->row, column, clean);
            free(clean);
            return -1;
        }
        if (add_id(j, id, out, e) < 0)
            return err_prefix(e, "stdin:%ld:%ld", j->row, column);
    }
    return 0;
}

/* ---- rows of JSON ---- */
static const char *kind(const json_t *v) {
    static const char *const kinds[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "a list",    [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a number",   [JSON_REAL] = "a number",   [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null",
    };
    return v ? kinds[json_typeof(v)] : "nothing";
}

/* A string, or with `optional` null or nothing. */
static int row_text(const json_t *row, const char *key, bool optional, struct text *t,
                    struct err *e) {
    const json_t *v = json_object_get(row, key);
    *t = (struct text){0};
    if (optional && (!v || json_is_null(v)))
        return 0;
    if (!json_is_string(v))
        return err_set(e, "%s: expected a string, got %s", key, kind(v));
    *t = (struct text){json_string_value(v), json_string_length(v)};
    return 0;
}

static int encode_row(const struct job *j, const json_t *row, struct ids *out, struct err *e) {
    struct text a, b;
    const json_t *special = json_object_get(row, "add_special");
    if (!json_is_object(row))
        return err_set(e, "expected an object with \"text\", got %s", kind(row));
    if (row_text(row, "text", false, &a, e) < 0 || row_text(row, "text_pair", true, &b, e) < 0)
        return -1;
    if (json_is_null(special))
        special = NULL;
    if (special && !json_is_boolean(special))
        return err_set(e, "add_special: expected true or false, got %s", kind(special));
    return encode(j, a, b, special ? json_is_true(special) : !j->bare, out, e);
}

static int decode_row(const struct job *j, const json_t *row, struct ids *out, struct err *e) {
    const json_t *list = json_is_object(row) ? json_object_get(row, "ids") : row;
    if (!json_is_array(list))
        return err_set(e, "expected [ID, ...] or {\"ids\": [ID, ...]}, got %s%s",
                       json_is_object(row) ? "an object whose ids are " : "", kind(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id))
            return err_set(e, "ids[%zu]: expected an id, got %s", i, kind(id));
        if (add_id(j, json_integer_value(id), out, e) < 0)
            return err_prefix(e, "ids[%zu]", i);
    }
    return 0;
}

/* ---- conversations ---- */

/* A turn as train and generate know it: a role and a text, nothing else. */
static int plain_message(const json_t *m, struct message *out, struct err *e) {
    out->role = json_string_value(json_object_get(m, "role"));
    out->content = json_string_value(json_object_get(m, "content"));
    if (!out->role || !out->content || json_object_size(m) != 2)
        return err_set(e, "expected {\"role\": ..., \"content\": ...} with two strings (hint: only "
                       "such turns go with --no-special-in-text)");
    return 0;
}

static int plain_ids(const struct job *j, const json_t *request, struct ids *out, struct err *e) {
    const json_t *list = json_object_get(request, "messages");
    const json_t *prompt = json_object_get(request, "add_generation_prompt");
    const int n = (int)json_array_size(list);
    if ((prompt && !json_is_boolean(prompt)) || json_object_size(request) != 1u + !!prompt)
        return err_set(e, "expected messages, and true or false for add_generation_prompt (hint: "
                       "only these go with --no-special-in-text)");
    struct message *msgs = xcalloc((size_t)n, sizeof *msgs);
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        if ((rc = plain_message(json_array_get(list, (size_t)i), &msgs[i], e)) < 0)
            err_prefix(e, "messages[%d]", i);
    if (rc == 0)
        rc = chat_encode(j->chat, msgs, n, n, json_is_true(prompt), out, NULL, e);
    free(msgs);
    return rc;
}

/* *text: the caller frees. */
static int chat_row(const struct job *j, const json_t *row, struct ids *out, char **text,
                    size_t *len, struct err *e) {
    const json_t *messages = json_object_get(row, "messages");
    if (!json_is_object(row))
        return err_set(e, "expected an object with \"messages\", got %s", kind(row));
    if (!json_is_array(messages))
        return err_set(e, "messages: expected a list, got %s", kind(messages));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        if (!json_is_string(json_object_get(m, "role")))
            return err_set(e, "messages[%zu]: expected an object with a \"role\", got %s", i,
                           json_is_object(m) ? "none in it" : kind(m));
    }
    if (!(*text = chat_text(j->chat, row, len, e)))
        return -1;
    if (j->plain)
        return plain_ids(j, row, out, e);
    return encode(j, (struct text){*text, *len}, (struct text){0}, false, out, e);
}

/* ---- readers ---- */

/* All of stdin behind what is in *all. */
static int read_rest(const struct job *j, struct str *all, struct err *e) {
    char chunk[1 << 16];
    errno = 0;
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, stdin)) > 0;) {
        str_addn(all, chunk, n);
        if (all->len > PIPE_MAX)
            return err_set(e, "stdin: expected at most %zu bytes in one text%s", PIPE_MAX,
                           j->talk ? "" : " (hint: --lines or --jsonl)");
    }
    return ferror(stdin) ? err_set(e, "stdin: %s", errno ? strerror(errno) : "it cannot be read")
                         : 0;
}

static bool is_blank(const char *s, size_t n) {
    while (n > 0 && strchr(" \t\r\n", s[n - 1]) && s[n - 1])
        n--;
    return n == 0;
}

/* One text, whole or a line without its end. */
static int take_text(struct job *j, const char *s, size_t n, struct err *e) {
    struct ids ids = {0};
    int rc = 0;
    if (j->decode)
        rc = parse_ids(j, s, n, &ids, e);
    else if ((rc = encode(j, (struct text){s, n}, (struct text){0}, !j->bare, &ids, e)) < 0)
        err_prefix(e, "stdin:%ld:1", j->row);
    if (rc == 0)
        j->print(j, &ids, (struct text){0});
    ids_release(&ids);
    return rc;
}

static int take_row(struct job *j, const char *s, size_t n, struct err *e) {
    const size_t nul = j->talk ? 0 : JSON_ALLOW_NUL;        // a template's strings end at one
    json_error_t je;
    if (is_blank(s, n))
        return 0;
    json_t *row = json_loadb(s, n, JSON_REJECT_DUPLICATES | nul, &je);
    if (!row)
        return err_set(e, "stdin:%ld:%d: expected one JSON %s a line: %s", j->row + je.line - 1,
                       MAX(je.column, 1), j->decode ? "object or list" : "object", je.text);
    struct ids ids = {0};
    char *text = NULL;
    size_t len = 0;
    int rc = j->talk ? chat_row(j, row, &ids, &text, &len, e)
             : (j->decode ? decode_row : encode_row)(j, row, &ids, e);
    if (rc == 0)
        j->print(j, &ids, (struct text){text, len});
    else
        err_prefix(e, "stdin:%ld:1", j->row);
    free(text);
    ids_release(&ids);
    json_decref(row);
    return rc;
}

/* The first line and all behind it, when that line is no JSON but the beginning of some. */
static int take_document(struct job *j, const char *line, size_t n, struct err *e) {
    json_error_t ignored;
    json_t *row = json_loadb(line, n, 0, &ignored);
    j->begun = !is_blank(line, n);
    if (row || !j->begun) {
        json_decref(row);
        return take_row(j, line, n, e);
    }
    struct str all = {0};
    str_addn(&all, line, n);
    str_addc(&all, '\n');
    int rc = read_rest(j, &all, e);
    if (rc == 0)
        rc = take_row(j, all.s, all.len, e);
    str_release(&all);
    return rc;
}

static int read_lines(struct job *j, struct err *e) {
    struct str line = {0};
    int rc = 0;
    for (int more; rc == 0 && (more = line_read(stdin, &line, e)) != 0;) {
        j->row++;
        if (more < 0) {
            rc = err_prefix(e, "stdin:%ld", j->row);
            break;
        }
        size_t n = line.len;
        if (n > 0 && line.s[n - 1] == '\n')
            n--;
        if (n > 0 && line.s[n - 1] == '\r')
            n--;
        rc = (j->talk && !j->begun ? take_document : j->talk || j->jsonl ? take_row
              : take_text)(j, line.s, n, e);
        if (j->flush)
            fflush(stdout);
        if (ferror(stdout))
            break;
    }
    str_release(&line);
    return rc;
}

static int read_whole(struct job *j, struct err *e) {
    struct str text = {0};
    str_add(&text, "");                     // a string, also of no input
    int rc = read_rest(j, &text, e);
    j->row = 1;
    if (rc == 0)
        rc = take_text(j, text.s, text.len, e);
    str_release(&text);
    return rc;
}

/* ---- the verb ---- */
static struct tokenizer *open_tokenizer(const char *path, struct err *e) {
    if (!path_is_dir(path))
        return tokenizer_load(path, e);
    char *file = path_join(path, "tokenizer.json"), *text = NULL;
    char *config = path_join(path, "tokenizer_config.json");
    struct tokenizer *t = tokenizer_load(file, e);
    if (t && path_named(config) && (!(text = file_read_text(config, e)) ||
                                    tokenizer_configure(t, text, config, e) < 0)) {
        tokenizer_free(t);
        t = NULL;
    }
    free(file);
    free(config);
    free(text);
    return t;
}

/* The folder's template; or --template: a name, else a file. */
static struct chat *open_chat(const char *path, const struct job *j, struct err *e) {
    const char *dir = path_is_dir(path) ? path : NULL;
    const struct chat_format *format = j->template ? chat_find(j->template) : NULL;
    if (!j->template || format)
        return hf_chat_of(dir, j->tok, format ? format->jinja : NULL, j->template, e);
    char *text = file_read_text(j->template, e);
    struct chat *c = text ? hf_chat_of(dir, j->tok, text, j->template, e) : NULL;
    if (!text)
        err_prefix(e, "--template: expected a file or one of %s", chat_list());
    free(text);
    return c;
}

static int run(const char *path, struct job *j, struct err *e) {
    struct stat out;
    int rc = -1;
    if (!(j->tok = open_tokenizer(path, e)) || (j->talk && !(j->chat = open_chat(path, j, e))))
        goto out;
    if (is_terminal(stdin))
        log_info("%s: reading from the terminal, Ctrl-D ends", path);
    j->flush = fstat(fileno(stdout), &out) != 0 || !S_ISREG(out.st_mode);
    rc = (j->lines || j->jsonl || j->talk ? read_lines : read_whole)(j, e);
out:
    chat_free(j->chat);
    tokenizer_free(j->tok);
    taken_release(j->taken);
    return rc == 0 ? EXIT_OK : EXIT_USAGE;
}

/* Options that say nothing together. */
static int check(const struct job *j, struct err *e) {
    const struct {
        bool both;
        const char *a, *b, *hint;
    } pairs[] = {
        {j->ids && j->count, "--ids", "--count", ""},
        {j->lines && j->jsonl, "--lines", "--jsonl", ""},
        {j->lines && j->talk, "--lines", "--chat", ""},
        {j->decode && j->talk, "--decode", "--chat", ""},
        {j->bare && j->talk, "--no-add-special", "--chat", " (hint: a template writes its own)"},
        {j->template && !j->talk, "--template", "text", " (hint: with --chat)"},
        {j->decode && j->ids, "--decode", "--ids", ""},
        {j->decode && j->count, "--decode", "--count", ""},
        {j->decode && j->bare, "--decode", "--no-add-special", " (hint: --skip-special)"},
        {j->decode && j->plain, "--decode", "--no-special-in-text", " (hint: --skip-special)"},
        {j->skip_special && !j->decode, "--skip-special", "text", " (hint: with --decode)"},
        {j->skip_special && j->jsonl, "--skip-special", "--jsonl",
         " (hint: decoded_skip_special is always there)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        if (pairs[i].both)
            return err_set(e, "tokenize: %s does not go with %s%s; see keel tokenize --help",
                           pairs[i].a, pairs[i].b, pairs[i].hint);
    return 0;
}

int cmd_tokenize(int argc, char **argv) {
    struct taken taken = {0};
    struct job j = {.taken = &taken};
    const struct opt opts[] = {
        {"ids", 0, OPT_FLAG, &j.ids, NULL, "print ids only, a text a line", 0, 0},
        {"count", 'c', OPT_FLAG, &j.count, NULL, "print the number of tokens only", 0, 0},
        {"lines", 'l', OPT_FLAG, &j.lines, NULL,
         "each line is a text, without its end; an empty line ends its pieces", 0, 0},
        {"jsonl", 0, OPT_FLAG, &j.jsonl, NULL, "one JSON object a line in and out", 0, 0},
        {"chat", 0, OPT_FLAG, &j.talk, NULL, "conversations on stdin, by the chat template", 0, 0},
        {"template", 0, OPT_STRING, &j.template, "NAME|FILE",
         "another chat template than the folder's (chat)", 0, 0},
        {"decode", 'd', OPT_FLAG, &j.decode, NULL, "ids on stdin, to text", 0, 0},
        {"skip-special", 0, OPT_FLAG, &j.skip_special, NULL,
         "decode without special tokens", 0, 0},
        {"no-add-special", 0, OPT_FLAG, &j.bare, NULL, "no BOS, EOS around a text", 0, 0},
        {"no-special-in-text", 0, OPT_FLAG, &j.plain, NULL,
         "\"<|im_end|>\" and the like in a text are its plain characters", 0, 0},
    };
    const char **args = xcalloc((size_t)argc + 1, sizeof *args);
    int n = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, args);
    struct err e = {0};
    int rc = n == -1 ? EXIT_OK : EXIT_USAGE;
    if (n >= 0) {
        j.print = j.ids ? print_ids : j.count ? print_count
                  : j.jsonl ? (j.talk ? print_chat_row : print_row)
                  : j.talk ? print_rendered : j.decode ? print_text : print_pieces;
        if (check(&j, &e) == 0)
            rc = run(args[0], &j, &e);
        if (rc != EXIT_OK)
            log_error("%s", e.msg);
    }
    free(args);
    return rc;
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cmd_generate.c — keel generate MODEL: one prompt, a pipe of prompts, or a chat.
 *
 * With -p the answer is streamed. Without it, lines of a pipe are answered together in batches, in
 * order; on a terminal a conversation is held, whose history goes into every prompt. Text appears
 * by whole characters: a token may end within one.
 *
 * Prompts become turns of the folder's chat template; --raw gives the text to the model as it is,
 * and only there are special tokens recognised in it.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate.h"
#include "train/cli.h"
#include "train/parent.h"

static const struct usage usage = {
    .verb = "generate",
    .args = "MODEL",
    .summary = "text from a checkpoint; without -p a chat on a terminal, else stdin line by line",
    .details = "  keel generate out/dpo -p 'How do I bake bread?'\n"
               "  keel generate out/dpo                          # chat: /reset, /quit\n"
               "  keel generate out/dpo --json <prompts.txt >answers.jsonl\n"
               "\n"
               "--json prints one object a prompt: prompt, completion, tokens, finished (an end\n"
               "token was reached).",
    .min_args = 1,
    .max_args = 1,
};

enum { PIPE_BATCH = 256 };                  /* lines answered together */

struct job {
    struct parent p;
    struct graph *g;
    struct generate_opts o;
    const char *system;
    bool raw, json;
};

/* ---- streaming ---- */
struct stream {
    struct text_stream *text;
    struct str pending;                     /* bytes of an unfinished character */
};

static void show(struct stream *s, bool all) {
    size_t n = all ? s->pending.len : utf8_complete(s->pending.s, s->pending.len);
    if (!n)
        return;
    char *clean = utf8_clean(s->pending.s, n);
    fputs(clean, stdout);
    fflush(stdout);
    free(clean);
    memmove(s->pending.s, s->pending.s + n, s->pending.len - n);
    s->pending.len -= n;
}

static void on_token(void *ctx, int32_t id) {
    struct stream *s = ctx;
    text_stream_push(s->text, id, &s->pending);
    if (s->pending.len)
        show(s, false);
}

static struct stream stream_open(const struct job *j) {
    return (struct stream){.text = text_stream_new(j->p.hf->tokenizer, DECODE_SKIP_SPECIAL)};
}

/* What is still pending, and the line's end. */
static void stream_close(struct stream *s) {
    text_stream_finish(s->text, &s->pending);
    show(s, true);
    putchar('\n');
    text_stream_free(s->text);
    str_release(&s->pending);
}

/* ---- prompts ---- */

/* The ids of a conversation (or, raw, of the last message's text), ready for an answer. */
static int prompt_ids(const struct job *j, const struct message *msgs, int n, struct ids *out,
                      struct err *e) {
    const struct tokenizer *tok = j->p.hf->tokenizer;
    if (j->raw) {
        const char *text = msgs[n - 1].content;
        if (tokenizer_encode(tok, text, strlen(text), ENCODE_SPECIAL, out) < 0)
            return err_set(e, "the prompt cannot be tokenized");
    } else if (chat_encode(j->p.chat, msgs, n, n, true, out, NULL, e) < 0) {
        return -1;
    }
    for (int i = 0; i < out->n; i++)
        if (out->v[i] >= j->p.hf->model->cfg.vocab_size)
            return err_set(e, "%s: the tokenizer gives id %d, the model has %d (hint: "
                           "tokenizer.json is another model's)", j->p.hf->dir, out->v[i],
                           j->p.hf->model->cfg.vocab_size);
    return out->n ? 0 : err_set(e, "the prompt is empty: expected at least one token");
}

/* System message, if any, and one user turn. */
static int one_turn(const struct job *j, const char *text, struct ids *out, struct err *e) {
    struct message msgs[2];
    int n = 0;
    if (j->system && !j->raw)
        msgs[n++] = (struct message){"system", j->system};
    msgs[n++] = (struct message){"user", text};
    return prompt_ids(j, msgs, n, out, e);
}

/* ---- answers ---- */
static void print_json(const struct job *j, const char *prompt, const struct ids *out,
                       bool finished) {
    size_t len;
    char *text = tokenizer_decode(j->p.hf->tokenizer, out->v, out->n, true, &len);
    char *clean = utf8_clean(text, len), *asked = utf8_clean(prompt, strlen(prompt));
    json_t *made = json_array();
    for (int i = 0; i < out->n; i++)
        json_array_append_new(made, json_integer(out->v[i]));
    json_t *row = json_pack("{s:s, s:s, s:o, s:i, s:b}", "prompt", asked, "completion", clean,
                            "ids", made, "tokens", out->n, "finished", finished);
    json_dumpf(row, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(row);
    free(asked);
    free(clean);
    free(text);
}

/* Streams the answer to one prompt; *text (may be NULL) takes it, for the caller to free. */
static void answer(const struct job *j, const struct ids *prompt, char **text) {
    struct stream s = stream_open(j);
    struct ids out = {0};
    generate(j->g, j->p.hf->model, prompt, 1, &j->o, &out, NULL, on_token, &s);
    stream_close(&s);
    if (text)
        *text = tokenizer_decode(j->p.hf->tokenizer, out.v, out.n, DECODE_SKIP_SPECIAL, NULL);
    ids_release(&out);
}

static int run_prompt(const struct job *j, const char *prompt, struct err *e) {
    struct ids ids = {0}, out = {0};
    uint8_t finished;
    int rc = one_turn(j, prompt, &ids, e);
    if (rc == 0 && j->json) {
        generate(j->g, j->p.hf->model, &ids, 1, &j->o, &out, &finished, NULL, NULL);
        print_json(j, prompt, &out, finished);
    } else if (rc == 0) {
        answer(j, &ids, NULL);
    }
    ids_release(&ids);
    ids_release(&out);
    return rc;
}

/* ---- lines ---- */

/* Line `number` of stdin without its end into *line, which the caller frees; NULL at the end. */
static int read_line(int number, char **line, struct err *e) {
    struct str b = {0};
    const int more = line_read(stdin, &b, e);
    *line = NULL;
    if (more < 0) {
        str_release(&b);
        return err_prefix(e, "stdin:%d", number);
    }
    if (more > 0 && memchr(b.s, '\0', b.len)) {
        str_release(&b);
        return err_set(e, "stdin:%d: expected text, found a NUL byte", number);
    }
    while (b.len > 0 && (b.s[b.len - 1] == '\n' || b.s[b.len - 1] == '\r'))
        b.s[--b.len] = '\0';
    if (more > 0)
        *line = str_detach(&b);
    str_release(&b);
    return 0;
}

/* Answers lines[0..n); first: number of the first line, for messages. */
static int answer_lines(const struct job *j, char *const *lines, int n, int first, struct err *e) {
    struct ids *ids = xcalloc((size_t)n, sizeof *ids), *out = xcalloc((size_t)n, sizeof *out);
    uint8_t *finished = xcalloc((size_t)n, 1);
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        if ((rc = one_turn(j, lines[i], &ids[i], e)) < 0)
            err_prefix(e, "stdin:%d", first + i);
    if (rc == 0)
        generate(j->g, j->p.hf->model, ids, n, &j->o, out, finished, NULL, NULL);
    for (int i = 0; i < n; i++) {
        if (rc == 0 && j->json) {
            print_json(j, lines[i], &out[i], finished[i]);
        } else if (rc == 0) {
            struct stream s = stream_open(j);
            for (int k = 0; k < out[i].n; k++)
                on_token(&s, out[i].v[k]);
            stream_close(&s);
        }
        ids_release(&ids[i]);
        ids_release(&out[i]);
    }
    free(ids);
    free(out);
    free(finished);
    return rc;
}

static int run_pipe(const struct job *j, struct err *e) {
    char *lines[PIPE_BATCH], *line;
    int n = 0, seen = 0, rc = 0, read;
    do {
        read = read_line(seen + n + 1, &line, e);
        if (line)
            lines[n++] = line;
        if (n && (!line || n == PIPE_BATCH)) {
            rc = answer_lines(j, lines, n, seen + 1, e);
            for (seen += n; n > 0;)
                free(lines[--n]);
        }
    } while (line && rc == 0);
    return rc == 0 ? read : rc;
}

/* ---- chat ---- */
static int run_chat(const struct job *j, struct err *e) {
    struct message *msgs = NULL;
    int n = 0, rc = 0, seen = 0;
    const int system = j->system && !j->raw;
    log_info("%s (%s)  /reset forgets the conversation, /quit or Ctrl-D ends", j->p.hf->dir,
             j->raw ? "raw" : chat_name(j->p.chat));
    for (char *line; rc == 0; free(line)) {
        fputs("> ", stderr);
        rc = read_line(++seen, &line, e);
        if (!line || strcmp(line, "/quit") == 0 || strcmp(line, "/reset") == 0) {
            while (n > 0)
                free((char *)msgs[--n].content);
            if (line && line[1] == 'r')
                continue;
            free(line);
            break;
        }
        if (!*line)
            continue;
        msgs = xreallocarray(msgs, (size_t)n + 3, sizeof *msgs);
        if (n == 0 && system)
            msgs[n++] = (struct message){"system", xstrdup(j->system)};
        msgs[n++] = (struct message){"user", xstrdup(line)};
        struct ids ids = {0};
        char *text = NULL;
        rc = prompt_ids(j, msgs, n, &ids, e);
        if (rc == 0) {
            answer(j, &ids, &text);
            msgs[n++] = (struct message){"assistant", text};
        }
        ids_release(&ids);
    }
    while (n > 0)
        free((char *)msgs[--n].content);
    free(msgs);
    return rc;
}

/* ---- the verb ---- */
static int run(const char *dir, const char *prompt, struct job *j, struct err *e) {
    char path[4096], chat[8];
    snprintf(path, sizeof path, "%s", dir);
    snprintf(chat, sizeof chat, "%s", j->raw ? "none" : "");
    const struct config cfg = {.model_name_or_path = path, .chat_template = chat};
    int rc = EXIT_USAGE;
    if (parent_open(&j->p, &cfg, e) == 0) {
        if (!j->p.nstop)
            log_verbose("generate: the model names no end token; answers run to --max-new-tokens");
        j->o.stop = j->p.stop;
        j->o.nstop = j->p.nstop;
        j->g = graph_new();
        bool chatting = is_terminal(stdin) && !j->json;
        int done = prompt ? run_prompt(j, prompt, e) : chatting ? run_chat(j, e) : run_pipe(j, e);
        rc = done == 0 ? EXIT_OK : EXIT_USAGE;
    }
    graph_free(j->g);
    parent_release(&j->p);
    return rc;
}

int cmd_generate(int argc, char **argv) {
    struct job j = {.o = {.top_p = 1}};
    const char *prompt = NULL;
    int64_t max_new = 256, top_k = 0, seed = 42;
    const struct opt opts[] = {
        {"prompt", 'p', OPT_STRING, &prompt, "TEXT", "answer this and end", 0, 0},
        {"max-new-tokens", 'n', OPT_INT, &max_new, "N",
         "at most so many tokens, as far as the positions reach (256)", 1, 1e6},
        {"temperature", 't', OPT_FLOAT, &j.o.temperature, "T",
         "0: the likeliest token always (0)", 0, 100},
        {"top-k", 0, OPT_INT, &top_k, "K", "draw from the K likeliest tokens; 0: from all (0)", 0,
         1e7},
        {"top-p", 0, OPT_FLOAT, &j.o.top_p, "P",
         "draw from the fewest tokens that have probability P together (1)", 0, 1},
        {"seed", 0, OPT_INT, &seed, "N", "of the draws (42)", 0, 9007199254740991.0},
        {"system", 0, OPT_STRING, &j.system, "TEXT", "system message", 0, 0},
        {"raw", 0, OPT_FLAG, &j.raw, NULL,
         "no chat template: the text as it is, special tokens read", 0, 0},
        {"json", 0, OPT_FLAG, &j.json, NULL, "one JSON object a prompt", 0, 0},
    };
    const char **args = xcalloc((size_t)argc + 1, sizeof *args);
    int n = cli_parse(&usage, opts, ARRAY_LEN(opts), argc, argv, args);
    struct err e = {0};
    int rc = n == -1 ? EXIT_OK : EXIT_USAGE;
    if (n >= 0) {
        j.o.max_new_tokens = (int)max_new;
        j.o.top_k = (int)top_k;
        j.o.seed = (uint64_t)seed;
        rc = run(args[0], prompt, &j, &e);
        if (rc != EXIT_OK)
            log_error("%s", e.msg);
    }
    free(args);
    return rc;
}

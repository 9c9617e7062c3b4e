/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * chat.c — rendering conversations, finding the answers in the text, and encoding it.
 *
 * Where an answer lies. The turns before it, rendered with the generation prompt, must be a prefix
 * of the whole text: the answer starts behind it. It ends behind the token that ends answers, which
 * a short conversation tells when the template is opened (what stands behind, such as a newline, is
 * never generated), and up to there the turns rendered by themselves must be a prefix too. A
 * template without such a token ends an answer where its rendering ends. A template that marks
 * answers itself ({% generation %}) is believed. Guessing from the format's name is refused:
 * templates of one family trim, insert and drop different things.
 *
 * Forged turns. A special token's text within a message gets a noncharacter behind its first
 * character before rendering; in the output that place becomes a protected range, and the text is
 * as it was. A template thus sees such a message one character longer, and nothing else.
 *
 * Ids. The text is encoded in stretches cut where an answer starts, each behind the first as a
 * continuation (no added blank), so what is learnt is what will be generated. Where a special token
 * stands at the cut, or no token reaches over it, that is the encoding of the whole text.
 */
#include "model/chat.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/jinja.h"

struct token_text {
    const char *text;                       /* borrowed from the tokenizer */
    size_t len;
    int32_t id;
    bool special;
};
struct chat {
    char *jinja, *name;
    const struct chat_format *format;       /* NULL: not one of ours */
    struct jinja *program;
    const struct tokenizer *tok;
    json_t *specials;
    struct token_text *tokens;              /* added tokens */
    int ntokens;
    bool starts[256];                       /* first bytes of added tokens */
    char *opening;                          /* what stands before a first question; NULL: unknown */
    size_t bos;                             /* its first bytes that are BOS */
    int32_t end;
};

/* ---- added tokens in a text ---- */

static void list_tokens(struct chat *c) {
    for (int32_t id = 0; c->tok && id < tokenizer_vocab_size(c->tok); id++) {
        const char *text = tokenizer_is_added(c->tok, id) ? tokenizer_token(c->tok, id) : NULL;
        if (!text || !*text)
            continue;
        c->tokens = xreallocarray(c->tokens, (size_t)c->ntokens + 1, sizeof *c->tokens);
        c->tokens[c->ntokens++] = (struct token_text){text, strlen(text), id,
                                                      tokenizer_is_special(c->tok, id)};
        c->starts[(uint8_t)*text] = true;
    }
}

/* The longest added token that begins at s, or NULL. */
static const struct token_text *token_at(const struct chat *c, const char *s, size_t n,
                                         bool special_only) {
    const struct token_text *best = NULL;
    if (!n || !c->starts[(uint8_t)*s])
        return NULL;
    for (int i = 0; i < c->ntokens; i++) {
        const struct token_text *t = &c->tokens[i];
        if (t->len <= n && (!best || t->len > best->len) && (t->special || !special_only)
            && memcmp(s, t->text, t->len) == 0)
            best = t;
    }
    return best;
}

/* ---- rendering ---- */

/* The date in templates is today's, or that of SOURCE_DATE_EPOCH, for runs to be repeated. */
static time_t now(void) {
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    int64_t t;
    return fixed && parse_int(fixed, 0, INT64_MAX, &t) ? (time_t)t : time(NULL);
}

static int render(const struct chat *c, const json_t *request, struct jinja_output *out,
                  struct err *e) {
    json_t *context = json_pack("{s:n, s:n, s:b}", "tools", "documents", "add_generation_prompt",
                                0);
    json_object_update(context, c->specials);
    json_object_update(context, (json_t *)(uintptr_t)request);
    const int rc = jinja_render(c->program, context, NULL, now(), out, e);
    json_decref(context);
    return rc;
}

char *chat_text(const struct chat *c, const json_t *request, size_t *len, struct err *e) {
    struct jinja_output out = {0};
    if (render(c, request, &out, e) != 0)
        return NULL;
    char *text = out.text;
    if (len)
        *len = out.len;
    out.text = NULL;
    jinja_output_release(&out);
    return text;
}

/* ---- a conversation on its way to ids ---- */

struct talk {
    const struct chat *c;
    const struct message *msgs;
    int n;
    json_t *list;                           /* messages, protected */
    char mark[4];                           /* the noncharacter in UTF-8; "": none is needed */
    struct jinja_output whole;
    size_t *marks;                          /* where marks stand in whole.text, ascending */
    int nmarks;
    size_t *starts;                         /* of answers in whole.text, ascending */
    int nstarts;
    struct text_range *loss;                /* of whole.text, ascending */
    int nloss;
};

/* A noncharacter that no message holds. */
static int choose_mark(struct talk *t, struct err *e) {
    for (int code = 0xFDD0; code <= 0xFDEF; code++) {
        const char mark[] = {(char)0xEF, (char)(0x80 | (code >> 6 & 63)),
                             (char)(0x80 | (code & 63)), 0};
        int i = 0;
        while (i < t->n && !strstr(t->msgs[i].content, mark))
            i++;
        if (i == t->n) {
            memcpy(t->mark, mark, sizeof mark);
            return 0;
        }
    }
    return err_set(e, "the messages hold every noncharacter from U+FDD0 to U+FDEF: expected text");
}

static bool has_special(const struct chat *c, const char *s) {
    for (size_t n = strlen(s); n; s++, n--)
        if (token_at(c, s, n, true))
            return true;
    return false;
}

static json_t *protect(const struct talk *t, const char *s) {
    struct str b = {0};
    for (size_t n = strlen(s); n; n--, s++) {
        str_addc(&b, *s);
        if (!token_at(t->c, s, n, true))
            continue;
        while (n > 1 && ((uint8_t)s[1] & 0xC0) == 0x80) {   // behind the whole character
            str_addc(&b, *++s);
            n--;
        }
        str_add(&b, t->mark);
    }
    json_t *text = json_stringn(b.s ? b.s : "", b.len);
    str_release(&b);
    return text;
}

static int add_messages(struct talk *t, struct err *e) {
    bool risky = false;
    for (int i = 0; i < t->n; i++)
        risky |= has_special(t->c, t->msgs[i].content);
    if (risky && choose_mark(t, e) != 0)
        return -1;
    t->list = json_array();
    for (int i = 0; i < t->n; i++) {
        json_t *content = risky ? protect(t, t->msgs[i].content) : json_string(t->msgs[i].content);
        json_t *m = content ? json_pack("{s:s, s:o}", "role", t->msgs[i].role, "content", content)
                            : NULL;
        if (!m)
            return err_set(e, "message %d: expected UTF-8 text", i + 1);
        json_array_append_new(t->list, m);
    }
    return 0;
}

/* The first n messages. */
static int render_first(const struct talk *t, int n, bool prompt, struct jinja_output *out,
                        struct err *e) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append(list, json_array_get(t->list, (size_t)i));
    json_t *request = json_pack("{s:o, s:b}", "messages", list, "add_generation_prompt", prompt);
    const int rc = render(t->c, request, out, e);
    json_decref(request);
    return rc;
}

/* ---- where answers lie ---- */

/* Behind the first token that ends answers in s[from, n), as the template wrote it; n when there is
 * none. */
static size_t answer_end(const struct talk *t, const char *s, size_t from, size_t n) {
    for (size_t i = from; i < n;) {
        const struct token_text *k = token_at(t->c, s + i, n - i, true);
        size_t behind = i + 1;              // where a mark would stand
        while (behind < n && ((uint8_t)s[behind] & 0xC0) == 0x80)
            behind++;
        const bool marked = *t->mark && strncmp(s + behind, t->mark, strlen(t->mark)) == 0;
        if (k && !marked && k->id == t->c->end)
            return i + k->len;
        i = k && !marked ? i + k->len : behind;
    }
    return n;
}

/* Renders the first n messages, for a prompt or as they are; their text, up to the end of the
 * answer that starts at `answer` when that is not negative, must be how the whole begins. Its
 * length; -1 and *e when it is not, or the template refuses it. What a template writes behind the
 * end of an answer (EOS behind the last message, another generation prompt) does not count. */
static int64_t prefix_length(const struct talk *t, int n, int64_t answer, struct err *e) {
    struct jinja_output part = {0};
    const bool prompt = answer < 0;
    if (render_first(t, n, prompt, &part, e) != 0)
        return -1;
    const size_t from = prompt ? part.len : MIN((size_t)answer, part.len);
    const size_t len = answer_end(t, part.text, from, part.len);
    const bool same = len <= t->whole.len && memcmp(part.text, t->whole.text, len) == 0;
    jinja_output_release(&part);
    if (same)
        return (int64_t)len;
    return err_set(e, "chat template %s: the first %d messages%s are not rendered as the whole"
                   " conversation begins, expected a prefix: loss on message %d would be misplaced"
                   " (hint: train on the last answer alone, or name another chat_template)",
                   chat_name(t->c), n, prompt ? " with the generation prompt" : "",
                   prompt ? n + 1 : n);
}

static bool is_assistant(const struct message *m) {
    return strcmp(m->role, "assistant") == 0;
}

static void add_start(struct talk *t, size_t at) {
    t->starts = xreallocarray(t->starts, (size_t)t->nstarts + 1, sizeof *t->starts);
    t->starts[t->nstarts++] = at;
}

static void add_loss(struct talk *t, size_t a, size_t b) {
    t->loss = xreallocarray(t->loss, (size_t)t->nloss + 1, sizeof *t->loss);
    t->loss[t->nloss++] = (struct text_range){a, b};
}

/* Finds starts of all answers, and the loss of those among msgs[first..n). Answers before `first`
 * may be rendered otherwise than by themselves: nothing is learnt there. */
static int find_answers(struct talk *t, int first, bool loss, struct err *e) {
    for (int i = 0; i < t->n; i++) {
        if (!is_assistant(&t->msgs[i]))
            continue;
        struct err local = {0};
        const bool learnt = loss && i >= first;
        const int64_t a = prefix_length(t, i, -1, learnt ? e : &local);
        if (a < 0 && learnt)
            return -1;
        if (a < 0)
            continue;
        add_start(t, (size_t)a);
        if (!learnt)
            continue;
        const int64_t b = i < t->n - 1
            ? prefix_length(t, i + 1, a, e)
            : (int64_t)answer_end(t, t->whole.text, (size_t)a, t->whole.len);
        if (b < 0)
            return -1;
        add_loss(t, (size_t)a, (size_t)b);
    }
    return 0;
}

/* The template's own marks: one span an answer. */
static int take_spans(struct talk *t, int first, struct err *e) {
    int answers = 0, before = 0;
    for (int i = 0; i < t->n; i++) {
        answers += is_assistant(&t->msgs[i]);
        before += i < first && is_assistant(&t->msgs[i]);
    }
    if (t->whole.nspans < 0)
        return err_set(e, "chat template %s: {%% generation %%} stands in a macro or a captured"
                       " block, expected it where the text is written", chat_name(t->c));
    if (t->whole.nspans != answers)
        return err_set(e, "chat template %s: expected one {%% generation %%} block written for each"
                       " of %d answers, got %d", chat_name(t->c), answers, t->whole.nspans);
    for (int i = 0; i < answers; i++) {
        add_start(t, t->whole.spans[i].a);
        if (i >= before)
            add_loss(t, t->whole.spans[i].a, t->whole.spans[i].b);
    }
    return 0;
}

/* ---- ids ---- */

static void find_marks(struct talk *t) {
    const size_t k = strlen(t->mark);
    for (size_t i = 0; k && i + k <= t->whole.len;) {
        if (memcmp(t->whole.text + i, t->mark, k) != 0) {
            i++;
            continue;
        }
        t->marks = xreallocarray(t->marks, (size_t)t->nmarks + 1, sizeof *t->marks);
        t->marks[t->nmarks++] = i;
        i += k;
    }
}

/* Encodes whole.text[a, b) without its marks; what they stood behind is protected. */
static int encode_stretch(const struct talk *t, size_t a, size_t b, struct ids *out) {
    const size_t k = strlen(t->mark);
    struct text_range *hidden = xcalloc((size_t)t->nmarks + 1, sizeof *hidden);
    struct str plain = {0};
    int n = 0;
    size_t at = a;
    for (int i = 0; i < t->nmarks; i++) {
        if (t->marks[i] < a || t->marks[i] >= b)
            continue;
        str_addn(&plain, t->whole.text + at, t->marks[i] - at);
        at = t->marks[i] + k;
        size_t first = plain.len ? plain.len - 1 : 0;
        while (first && ((uint8_t)plain.s[first] & 0xC0) == 0x80)
            first--;
        hidden[n++] = (struct text_range){first, plain.len};
    }
    str_addn(&plain, t->whole.text + at, b - at);
    bool behind_token = false;
    for (int i = 0; i < t->c->ntokens; i++) {
        const struct token_text *x = &t->c->tokens[i];
        behind_token |= x->len <= a && memcmp(t->whole.text + a - x->len, x->text, x->len) == 0;
    }
    const int flags = ENCODE_SPECIAL | (a > 0 && !behind_token ? ENCODE_CONTINUES : 0);
    const int rc = tokenizer_encode_text(t->c->tok, plain.s ? plain.s : "", plain.len, flags,
                                         hidden, n, out);
    str_release(&plain);
    free(hidden);
    return rc;
}

static int by_place(const void *a, const void *b) {
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* The whole text in stretches: cut at every answer's start and at both ends of every loss range. */
static int encode_all(const struct talk *t, struct ids *out, struct ids *carries) {
    int rc = 0;
    const size_t most = (size_t)t->nstarts + 2 * (size_t)t->nloss + 2;
    size_t *cut = xcalloc(most, sizeof *cut), n = 0, from = 0;
    for (int i = 0; i < t->nstarts; i++)
        cut[n++] = t->starts[i];
    for (int i = 0; i < t->nloss; i++) {
        cut[n++] = t->loss[i].a;
        cut[n++] = t->loss[i].b;
    }
    cut[n++] = t->whole.len;
    qsort(cut, n, sizeof *cut, by_place);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (cut[i] == from)
            continue;
        bool learnt = false;
        for (int k = 0; k < t->nloss; k++)
            learnt |= from >= t->loss[k].a && from < t->loss[k].b;
        rc = encode_stretch(t, from, cut[i], out);
        while (carries && carries->n < out->n)
            ids_add(carries, learnt);
        from = cut[i];
    }
    free(cut);
    return rc;
}

/* ---- checks of the user's texts ---- */

static int check_raw(const struct chat *c, const struct message *m, struct err *e) {
    const struct token_text *token = token_at(c, m->content, strlen(m->content), true);
    const size_t n = c->opening ? strlen(c->opening + c->bos) : 0;
    const bool twice = n && strncmp(m->content, c->opening + c->bos, n) == 0;
    if (!twice && !(token && c->opening && strstr(c->opening, token->text)))
        return 0;
    return err_set(e, "the %s text begins with \"%.*s\", which chat template %s adds itself (hint:"
                   " raw texts, or chat_template: none)", m->role,
                   (int)MIN(twice ? n : token->len, (size_t)40), m->content, chat_name(c));
}

int chat_check_raw(const struct chat *c, const struct message *msgs, int n, struct err *e) {
    for (int i = 0; i < n; i++)
        if (check_raw(c, &msgs[i], e) != 0)
            return -1;
    return 0;
}

static int check_bos(const struct talk *t, struct err *e) {
    const char *bos = json_string_value(json_object_get(t->c->specials, "bos_token"));
    const size_t n = bos ? strlen(bos) : 0;
    if (n && t->whole.len >= 2 * n && memcmp(t->whole.text, bos, n) == 0
        && memcmp(t->whole.text + n, bos, n) == 0)
        return err_set(e, "chat template %s: \"%s\" stands twice at the start, expected once",
                       chat_name(t->c), bos);
    return 0;
}

/* Raw texts have no template to write BOS: the post-processor's opening ids stand for it. */
static void add_opening_ids(const struct chat *c, struct ids *out, struct ids *carries) {
    if (!c->format || strcmp(c->format->name, "none") != 0)
        return;
    tokenizer_open_text(c->tok, out);
    while (carries && carries->n < out->n)
        ids_add(carries, 0);
}

int chat_encode(const struct chat *c, const struct message *msgs, int n, int first,
                bool add_generation_prompt, struct ids *out, struct ids *carries, struct err *e) {
    struct talk t = {.c = c, .msgs = msgs, .n = n};
    const bool spans = carries && jinja_has_generation(c->program);
    const int before = out->n;
    int rc = -1;
    if (add_messages(&t, e) != 0 || render_first(&t, n, add_generation_prompt, &t.whole, e) != 0
        || check_bos(&t, e) != 0)
        goto out;
    if (spans ? take_spans(&t, first, e) : find_answers(&t, first, carries != NULL, e))
        goto out;
    find_marks(&t);
    add_opening_ids(c, out, carries);
    rc = encode_all(&t, out, carries);
    if (rc != 0) {
        out->n = before;
        err_set(e, "chat template %s: the tokenizer cannot cut the text", chat_name(c));
    }
out:
    json_decref(t.list);
    jinja_output_release(&t.whole);
    free(t.marks);
    free(t.starts);
    free(t.loss);
    return rc;
}

/* ---- opening a template ---- */

static int check_tokens(const struct chat *c, struct err *e) {
    for (const char *const *s = c->format->specials; c->tok && *s; s++)
        if (tokenizer_id(c->tok, *s) < 0)
            return err_set(e, "chat template %s: the tokenizer has no token \"%s\" (hint: the "
                           "model's own template is another, or chat_template: none)",
                           c->format->name, *s);
    return 0;
}

#define PROBE_QUESTION "A question."
#define PROBE_ANSWER "Its answer."

/* What a short conversation tells: the text before a question, the token behind an answer. */
static void probe(struct chat *c) {
    const char *bos = json_string_value(json_object_get(c->specials, "bos_token"));
    json_t *request = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "user",
                                "content", PROBE_QUESTION, "role", "assistant", "content",
                                PROBE_ANSWER);
    struct err ignored = {0};
    size_t len = 0;
    char *text = chat_text(c, request, &len, &ignored);
    char *question = text ? strstr(text, PROBE_QUESTION) : NULL;
    char *answer = question ? strstr(question, PROBE_ANSWER) : NULL;
    if (question) {
        size_t n = (size_t)(question - text);
        c->bos = bos && n >= strlen(bos) && strncmp(text, bos, strlen(bos)) == 0 ? strlen(bos) : 0;
        while (n > c->bos && strchr(" \n", text[n - 1]))
            n--;
        c->opening = xstrndup(text, n);
    }
    for (char *s = answer; s && *s && c->end < 0; s++) {
        const struct token_text *t = token_at(c, s, len - (size_t)(s - text), true);
        c->end = t ? t->id : -1;
    }
    if (c->end < 0 && c->format && c->format->eos && c->tok)
        c->end = tokenizer_id(c->tok, c->format->eos);
    free(text);
    json_decref(request);
}

struct chat *chat_new(const char *jinja, const char *where, const struct tokenizer *tok,
                      const json_t *specials, struct err *e) {
    struct chat *c = xcalloc(1, sizeof *c);
    c->jinja = xstrdup(jinja);
    c->format = chat_find_jinja(jinja);
    c->name = xstrdup(c->format ? c->format->name : where);
    c->tok = tok;
    c->specials = specials ? json_deep_copy(specials) : json_object();
    c->end = -1;
    c->program = jinja_compile(jinja, strlen(jinja), where, e);
    if (!c->program || (c->format && check_tokens(c, e) != 0)) {
        chat_free(c);
        return NULL;
    }
    list_tokens(c);
    probe(c);
    return c;
}

void chat_free(struct chat *c) {
    if (!c)
        return;
    jinja_free(c->program);
    json_decref(c->specials);
    free(c->tokens);
    free(c->opening);
    free(c->jinja);
    free(c->name);
    free(c);
}

const char *chat_name(const struct chat *c) {
    return c->name;
}

const char *chat_jinja(const struct chat *c) {
    return c->jinja;
}

int32_t chat_end(const struct chat *c) {
    return c->end;
}

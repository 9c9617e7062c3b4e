/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tokenizer_decode.c — the decoder stage: tokens to text, all at once or as they come.
 *
 * The reference runs each decoder over the list of all tokens. Here every step is a filter: it is
 * fed a token, or its bytes, and feeds the next step as soon as no later token can change what it
 * has. Decoding a list is feeding all of it, so a stream and a list cannot differ. Behind Fuse
 * there is one token, which lasts as long as the text: a step that wants whole tokens waits there.
 *
 * Bytes that are no UTF-8 stay as they are unless DECODE_VALID asks for the reference's text.
 */
#include "model/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { BUDGET = 1 << 20 };

/* What a step holds back; zero at the beginning of a text. */
struct decode_state {
    struct str part;                        /* of a token, for a step that wants it whole */
    struct str held;
    int count;                              /* Strip: characters taken; ByteFallback: bytes */
    bool inside;                            /* Strip: behind the token's beginning */
    bool any;                               /* had a token */
};
struct text_stream {
    const struct tokenizer *t;
    int flags;
    struct str *out;
    struct decode_state *state;             /* [ndecode] */
    struct encoder *x;                      /* for Replace's expressions */
    size_t budget;                          /* calls of feed that are left */
};

/* Replaces in a row can double the text with each step: the calls are limited by what came in. */
static void feed(struct text_stream *s, int k, const char *b, size_t n, bool end) {
    if (!s->budget)
        return;
    if (!--s->budget)
        log_error("tokenizer: the decoder makes too much text of its tokens: the rest is missing");
    if (k == s->t->ndecode) {
        str_addn(s->out, b, n);
        return;
    }
    const struct decode_step *st = &s->t->decode[k];
    struct str *part = &s->state[k].part;
    if (st->feed) {
        st->feed(s, k, b, n, end);
    } else if (end && !part->len) {
        st->token(s, k, b, n);
    } else {
        str_addn(part, b, n);
        if (end)
            st->token(s, k, part->s, part->len);
        part->len = end ? 0 : part->len;
    }
}

/* ---- no decoder: blanks between the tokens ---- */
static void token_join(struct text_stream *s, int k, const char *b, size_t n) {
    if (s->state[k].any)
        feed(s, k + 1, " ", 1, true);
    s->state[k].any = true;
    feed(s, k + 1, b, n, true);
}

/* ---- Fuse: all tokens are one ---- */
static void feed_fuse(struct text_stream *s, int k, const char *b, size_t n, bool end) {
    (void)end;
    feed(s, k + 1, b, n, false);
}

static void finish_fuse(struct text_stream *s, int k) {
    feed(s, k + 1, "", 0, true);
}

/* ---- ByteLevel: letters to bytes when all are letters; other tokens are themselves ---- */
static void token_byte_level(struct text_stream *s, int k, const char *b, size_t n) {
    struct str *bytes = &s->state[k].held;
    bytes->len = 0;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t c = -1;
        len = utf8_char(b + i, n - i, &c);
        int byte = letter_byte(c);
        if (!len || byte < 0) {
            feed(s, k + 1, b, n, false);
            return;
        }
        str_addc(bytes, (char)byte);
    }
    feed(s, k + 1, bytes->s ? bytes->s : "", bytes->len, false);
}

/* Behind ByteLevel, for DECODE_VALID. */
static void feed_repair(struct text_stream *s, int k, const char *b, size_t n, bool end) {
    struct str *held = &s->state[k].held, good = {0};
    if (!(s->flags & DECODE_VALID)) {
        feed(s, k + 1, b, n, end);
        return;
    }
    str_addn(held, b, n);
    size_t left = utf8_repair(held->s, held->len, !end, &good);
    memmove(held->s, held->s + held->len - left, left);
    held->len = left;
    feed(s, k + 1, good.s ? good.s : "", good.len, end);
    str_release(&good);
}

/* ---- ByteFallback: a run of byte tokens is one token of their bytes ---- */
int byte_token(const char *s, size_t n) {
    int v = 0;
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
            : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The reference's answer to a run that is no UTF-8 is a token of U+FFFD for each of its bytes; only
 * when that is asked for are the bytes held. */
static void finish_run(struct text_stream *s, int k) {
    struct decode_state *d = &s->state[k];
    bool good = true;
    if (!d->count)
        return;
    d->count = 0;
    if (d->held.len && (utf8_stretch(d->held.s, d->held.len, &good) < d->held.len || !good))
        for (size_t i = 0; i < d->held.len; i++)
            feed(s, k + 1, "\xEF\xBF\xBD", 3, true);
    else
        feed(s, k + 1, d->held.s ? d->held.s : "", d->held.len, true);
    d->held.len = 0;
}

static void token_byte_fallback(struct text_stream *s, int k, const char *b, size_t n) {
    struct decode_state *d = &s->state[k];
    int byte = byte_token(b, n);
    char c = (char)byte;
    if (byte < 0) {
        finish_run(s, k);
        feed(s, k + 1, b, n, true);
        return;
    }
    d->count = 1;
    if (s->flags & DECODE_VALID)
        str_addc(&d->held, c);
    else
        feed(s, k + 1, &c, 1, false);
}

/* ---- Replace, within a token ---- */
static void token_replace(struct text_stream *s, int k, const char *b, size_t n) {
    const struct decode_step *st = &s->t->decode[k];
    struct matching m = {0};
    struct segment g;
    if (!s->x)
        s->x = encoder_take(s->t);
    while (n && regex_next(st->re, s->x, b, n, &m, &g))
        if (g.match)
            feed(s, k + 1, st->text, strlen(st->text), false);
        else
            feed(s, k + 1, b + g.a, g.b - g.a, false);
    feed(s, k + 1, "", 0, true);
}

/* ---- Strip: up to `start` characters from the beginning of a token, `stop` from its end ---- */
static void feed_strip(struct text_stream *s, int k, const char *b, size_t n, bool end) {
    const struct decode_step *st = &s->t->decode[k];
    struct decode_state *d = &s->state[k];
    const size_t len = strlen(st->text);
    for (size_t i = 0, step; i < n; i += step) {
        bool same = i + len <= n && memcmp(b + i, st->text, len) == 0;
        step = same ? len : 1;
        if (same && !d->inside && d->count < st->start) {
            d->count++;
            continue;
        }
        d->inside = true;
        if (!st->stop) {
            feed(s, k + 1, b + i, n - i, false);
            break;
        }
        if (same) {                         // may be at the end
            str_addn(&d->held, b + i, len);
            continue;
        }
        feed(s, k + 1, d->held.s ? d->held.s : "", d->held.len, false);
        d->held.len = 0;
        feed(s, k + 1, b + i, 1, false);
    }
    if (!end)
        return;
    size_t keep = d->held.len - MIN(d->held.len, (size_t)st->stop * len);
    feed(s, k + 1, d->held.s ? d->held.s : "", keep, true);
    d->held.len = 0;
    d->count = 0;
    d->inside = false;
}

static void token_strip(struct text_stream *s, int k, const char *b, size_t n) {
    feed_strip(s, k, b, n, true);
}

/* ---- Metaspace: marks are blanks; those of the first token are nothing ---- */
static void token_metaspace(struct text_stream *s, int k, const char *b, size_t n) {
    const struct decode_step *st = &s->t->decode[k];
    const size_t len = strlen(st->text);
    const bool dropped = !s->state[k].any && !st->keep_first;
    s->state[k].any = true;
    for (size_t i = 0, step; i < n; i += step) {
        bool mark = i + len <= n && memcmp(b + i, st->text, len) == 0;
        step = mark ? len : 1;
        if (!mark)
            feed(s, k + 1, b + i, 1, false);
        else if (!dropped)
            feed(s, k + 1, " ", 1, false);
    }
    feed(s, k + 1, "", 0, true);
}

/* ---- reading ---- */
static int add_step(struct tokenizer *t, struct decode_step st) {
    t->decode = xreallocarray(t->decode, (size_t)t->ndecode + 1, sizeof *t->decode);
    t->decode[t->ndecode++] = st;
    return 0;
}

static int parse_byte_level(struct tokenizer *t, const json_t *j, const char *where,
                            struct err *e) {
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    add_step(t, (struct decode_step){.token = token_byte_level, .finish = finish_fuse});
    return add_step(t, (struct decode_step){.feed = feed_repair});
}

static int parse_plain(struct tokenizer *t, const json_t *j, const char *where,
                       struct decode_step st, struct err *e) {
    static const char *const keys[] = {"type", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return add_step(t, st);
}

static int parse_byte_fallback(struct tokenizer *t, const json_t *j, const char *where,
                               struct err *e) {
    return parse_plain(t, j, where, (struct decode_step){.token = token_byte_fallback,
                                                         .finish = finish_run}, e);
}

static int parse_fuse(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    return parse_plain(t, j, where, (struct decode_step){.feed = feed_fuse,
                                                         .finish = finish_fuse}, e);
}

static int parse_replace(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "pattern", "content", NULL};
    const char *text;
    if (json_only_keys(j, where, keys, e) < 0 || json_text(j, "content", where, &text, e) < 0)
        return -1;
    if (!text)
        return err_set(e, "%s.content: expected a string, got %s", where,
                       json_kind(json_object_get(j, "content")));
    struct decode_step st = {.token = token_replace, .re = json_pattern(j, where, e)};
    if (!st.re)
        return -1;
    st.text = xstrdup(text);
    return add_step(t, st);
}

static int json_count(const json_t *j, const char *key, const char *where, int *out,
                      struct err *e) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT16_MAX)
        return err_set(e, "%s.%s: expected a number in 0..%d, got %s", where, key, INT16_MAX,
                       json_is_integer(v) ? "another" : json_kind(v));
    *out = (int)json_integer_value(v);
    return 0;
}

static int parse_strip(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "content", "start", "stop", NULL};
    struct decode_step st = {0};
    const char *text;
    if (json_only_keys(j, where, keys, e) < 0 || json_char(j, "content", where, &text, e) < 0 ||
        json_count(j, "start", where, &st.start, e) < 0 ||
        json_count(j, "stop", where, &st.stop, e) < 0)
        return -1;
    if (strlen(text) == 1)
        st.feed = feed_strip;
    else                                    // a character could come in parts
        st.token = token_strip;
    st.text = xstrdup(text);
    return add_step(t, st);
}

static int parse_metaspace(struct tokenizer *t, const json_t *j, const char *where,
                           struct err *e) {
    static const char *const keys[] = {"type", "replacement", "prepend_scheme", "split",
                                       "add_prefix_space", "str_rep", NULL};
    struct decode_step st = {.token = token_metaspace};
    const char *mark;
    int scheme;
    if (json_only_keys(j, where, keys, e) < 0 ||
        json_char(j, "replacement", where, &mark, e) < 0 ||
        metaspace_scheme(j, where, &scheme, e) < 0)
        return -1;
    st.keep_first = scheme == PREPEND_NEVER;
    st.text = xstrdup(mark);
    return add_step(t, st);
}

static int parse_sequence(struct tokenizer *t, const json_t *j, const char *where, struct err *e) {
    static const char *const keys[] = {"type", "decoders", NULL};
    if (json_only_keys(j, where, keys, e) < 0)
        return -1;
    return stage_parse_list(decoder_table, t, j, "decoders", where, e);
}

const struct stage_kind decoder_table[] = {
    {"ByteLevel", parse_byte_level},
    {"ByteFallback", parse_byte_fallback},
    {"Fuse", parse_fuse},
    {"Replace", parse_replace},
    {"Strip", parse_strip},
    {"Metaspace", parse_metaspace},
    {"Sequence", parse_sequence},
    {NULL, NULL},
};

void decoder_default(struct tokenizer *t) {
    add_step(t, (struct decode_step){.token = token_join});
}

/* ---- streams ---- */
struct text_stream *text_stream_new(const struct tokenizer *t, int flags) {
    struct text_stream *s = xcalloc(1, sizeof *s);
    s->t = t;
    s->flags = flags;
    s->state = xcalloc((size_t)t->ndecode, sizeof *s->state);
    s->budget = BUDGET;
    return s;
}

void text_stream_free(struct text_stream *s) {
    if (!s)
        return;
    for (int k = 0; k < s->t->ndecode; k++) {
        str_release(&s->state[k].part);
        str_release(&s->state[k].held);
    }
    if (s->x)
        encoder_give(s->x);
    free(s->state);
    free(s);
}

void text_stream_push(struct text_stream *s, int32_t id, struct str *out) {
    size_t n;
    const char *token = vocab_text(&s->t->vocab, id, &n);
    if (!token || (s->flags & DECODE_SKIP_SPECIAL && tokenizer_is_special(s->t, id)))
        return;
    s->out = out;
    s->budget += 64 * (n + 16);
    feed(s, 0, token, n, true);
}

void text_stream_finish(struct text_stream *s, struct str *out) {
    s->out = out;
    for (int k = 0; k < s->t->ndecode; k++) {
        struct decode_state *d = &s->state[k];
        if (s->t->decode[k].finish)
            s->t->decode[k].finish(s, k);
        d->part.len = d->held.len = 0;
        d->count = 0;
        d->inside = d->any = false;
    }
}

char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n, int flags,
                       size_t *len) {
    struct str out = {0};
    struct text_stream *s = text_stream_new(t, flags);
    for (int i = 0; i < n; i++)
        text_stream_push(s, ids[i], &out);
    text_stream_finish(s, &out);
    text_stream_free(s);
    if (len)
        *len = out.len;
    return str_detach(&out);
}

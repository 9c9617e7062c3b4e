/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * data.c — rows to token sequences with loss marks; packed batches.
 *
 * One path for every format: row -> conversation (data_format.c) -> ids and marks (chat.h) ->
 * checks -> truncation rule -> dataset. A prompt is also rendered alone, the way generation renders
 * it, and must be a prefix of the whole: what is trained on is then what generation continues. A
 * row is used whole, or counted as dropped or truncated by the rule that the user chose, or it
 * stops the run with its file and line; nothing is skipped silently (trl#5213, #6321, #4201).
 *
 * The order of an epoch is a keyed permutation, a function of (seed, epoch): resuming in the middle
 * of an epoch needs no state.
 */
#include "train/data.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/sha.h"
#include "model/rng.h"
#include "train/data_format.h"
#include "train/jsonl.h"

struct loader {
    const struct chat *chat;
    const struct tokenizer *tok;
    const struct data_opts *o;
    struct dataset *d;
    int cap;
    char first_cut[300];                    // "file:line" of the first row over max_length
};

/* ---- one sequence ---- */

static void seq_release(struct seq *s) {
    free(s->ids);
    free(s->carries);
    *s = (struct seq){0};
}

/* Counts what is learnt. The first token has nothing to be predicted from. */
static void seq_finish(struct seq *s) {
    if (s->n)
        s->carries[0] = 0;
    s->ncarry = 0;
    s->prompt_len = s->n;
    for (int i = s->n - 1; i >= 0; i--)
        if (s->carries[i]) {
            s->ncarry++;
            s->prompt_len = i;
        }
}

/* Takes ids over; marks NULL: nothing is learnt. */
static void seq_take(struct seq *s, struct ids *ids, const struct ids *marks) {
    s->n = ids->n;
    s->ids = ids->v;
    *ids = (struct ids){0};
    s->carries = xcalloc((size_t)s->n + 1, 1);
    for (int i = 0; i < s->n && marks; i++)
        s->carries[i] = marks->v[i] != 0;
    seq_finish(s);
}

/* Ids of a conversation whose first nprompt messages carry no loss (unless all tokens do). */
static int render_answer(const struct loader *l, const struct message *m, int n, int nprompt,
                         struct seq *out, struct err *e) {
    struct ids ids = {0}, marks = {0};
    int rc = chat_check_raw(l->chat, m, n, e);
    if (rc == 0)
        rc = chat_encode(l->chat, m, n, nprompt, false, &ids, &marks, e);
    for (int i = 0; rc == 0 && !l->o->completion_only && i < ids.n; i++)
        marks.v[i] = 1;
    if (rc == 0) {
        seq_take(out, &ids, &marks);
        if (!out->ncarry)
            rc = err_set(e, "nothing to learn: no token of the answer carries loss");
    }
    ids_release(&ids);
    ids_release(&marks);
    return rc;
}

/* A prompt, ready for generation. */
static int render_prompt(const struct loader *l, const struct message *m, int n, struct seq *out,
                         struct err *e) {
    struct ids ids = {0};
    int rc = chat_check_raw(l->chat, m, n, e);
    if (rc == 0)
        rc = chat_encode(l->chat, m, n, n, true, &ids, NULL, e);
    if (rc == 0)
        seq_take(out, &ids, NULL);
    ids_release(&ids);
    return rc;
}

static int render_text(const struct loader *l, const char *text, struct seq *out, struct err *e) {
    struct ids ids = {0}, marks = {0};
    tokenizer_open_text(l->tok, &ids);
    if (tokenizer_encode(l->tok, text, strlen(text), 0, &ids) != 0) {
        ids_release(&ids);
        return err_set(e, "text: expected text that the tokenizer's expressions can cut");
    }
    if (l->o->eos_id >= 0)
        ids_add(&ids, l->o->eos_id);
    for (int i = 0; i < ids.n; i++)
        ids_add(&marks, 1);
    seq_take(out, &ids, &marks);
    ids_release(&marks);
    return out->ncarry ? 0 : err_set(e, "text: expected at least two tokens, got %d", out->n);
}

/* ---- one example ---- */

static void example_release(struct example *x) {
    seq_release(&x->a);
    seq_release(&x->b);
    free(x->prompt);
    free(x->completion);
    *x = (struct example){0};
}

static char *join_contents(const struct message *m, int n) {
    struct str b = {0};
    for (int i = 0; i < n; i++)
        str_addf(&b, "%s%s", i ? "\n\n" : "", m[i].content);
    return str_detach(&b);
}

static int example_render(const struct loader *l, const struct data_row *r, struct example *x,
                          struct err *e) {
    if (r->text) {
        x->prompt = xstrdup("");
        x->completion = xstrdup(r->text);
        return render_text(l, r->text, &x->a, e);
    }
    if (l->o->need == NEED_PROMPT) {
        int n = r->na;                      // a conversation is continued after its last question
        while (n && strcmp(r->a[n - 1].role, "assistant") == 0)
            n--;
        x->prompt = join_contents(r->a, n);
        return render_prompt(l, r->a, n, &x->a, e);
    }
    x->prompt = join_contents(r->a, r->nprompt);
    x->completion = join_contents(r->a + r->nprompt, r->na - r->nprompt);
    if (render_answer(l, r->a, r->na, r->nprompt, &x->a, e) != 0)
        return l->o->need == NEED_PAIR ? err_prefix(e, "chosen") : -1;
    if (l->o->need == NEED_PAIR && render_answer(l, r->b, r->nb, r->nprompt, &x->b, e) != 0)
        return err_prefix(e, "rejected");
    return 0;
}

/* ---- the truncation rule ---- */

enum { TRUNCATION_ERROR, TRUNCATION_DROP, TRUNCATION_CUT };

/* Answers lose their end; a prompt loses its start, because generation continues its end. */
static void seq_cut(struct seq *s, int max, bool prompt) {
    if (s->n <= max)
        return;
    if (prompt)
        memmove(s->ids, s->ids + (s->n - max), (size_t)max * sizeof *s->ids);
    s->n = max;
    seq_finish(s);
}

/* 1: keep the example; 0: drop it; -1 and *e. */
static int apply_max_length(struct loader *l, struct example *x, struct err *e) {
    int longest = MAX(x->a.n, x->b.n), max = l->o->max_length;
    if (!max || longest <= max)
        return 1;
    if (l->o->truncation == TRUNCATION_ERROR)
        return err_set(e, "the row has %d tokens, expected at most max_length %d (hint: "
                          "truncation: drop or truncate, or a larger max_length)", longest, max);
    if (!l->first_cut[0])
        snprintf(l->first_cut, sizeof l->first_cut, "%s:%d", x->file, x->line);
    bool prompt = l->o->need == NEED_PROMPT, keep = l->o->truncation == TRUNCATION_CUT;
    if (keep) {
        seq_cut(&x->a, max, prompt);
        seq_cut(&x->b, max, prompt);
        keep = prompt || (x->a.ncarry && (!x->b.n || x->b.ncarry));
    }
    *(keep ? &l->d->truncated : &l->d->dropped) += 1;
    log_verbose("%s:%d: %d tokens, over max_length %d: %s", x->file, x->line, longest, max,
                keep ? "truncated" : "dropped");
    return keep;
}

/* ---- the dataset ---- */

static int add_row(struct loader *l, const struct json_t *row, const char *file, int line,
                   struct err *e) {
    struct example x = {.file = file, .line = line};
    struct data_row r = {0};
    const struct data_format *f = data_format_of(row, l->o->need, e);
    int rc = -1;
    if (!f || f->parse(row, &r, e) != 0)
        goto out;
    if (l->o->need != NEED_PROMPT && !r.text && r.na == r.nprompt) {
        err_set(e, "expected an assistant message to learn from");
        goto out;
    }
    if (example_render(l, &r, &x, e) != 0 || (rc = apply_max_length(l, &x, e)) <= 0)
        goto out;
    struct dataset *d = l->d;
    if (d->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        d->ex = xreallocarray(d->ex, (size_t)l->cap, sizeof *d->ex);
    }
    d->ex[d->n++] = x;
    d->tokens += (size_t)(x.a.n + x.b.n);
    d->learnt += (size_t)(x.a.ncarry + x.b.ncarry);
    x = (struct example){0};
out:
    if (rc < 0)
        err_prefix(e, "%s:%d", file, line);
    example_release(&x);
    data_row_release(&r);
    return MIN(rc, 0);
}

static bool full(const struct loader *l) {
    return l->o->max_samples && l->d->n >= l->o->max_samples;
}

static int load_item(struct loader *l, const char *item, char **file, struct err *e) {
    struct jsonl *j = jsonl_open(item, e);
    if (!j)
        return -1;
    *file = xstrdup(jsonl_path(j));
    struct json_t *row;
    int rc = 0;
    while (!full(l) && (rc = jsonl_next(j, &row, e)) > 0)
        if (add_row(l, row, *file, jsonl_line(j), e) != 0) {
            rc = -1;
            break;
        }
    jsonl_close(j);
    return MIN(rc, 0);
}

static void hash_seq(struct sha *h, const struct seq *s) {
    int32_t n = s->n;
    sha_add(h, &n, sizeof n);
    sha_add(h, s->ids, (size_t)s->n * sizeof *s->ids);
    sha_add(h, s->carries, (size_t)s->n);
}

static int dataset_finish(struct loader *l, const struct strlist *files, struct err *e) {
    struct dataset *d = l->d;
    if (d->dropped || d->truncated)
        log_warn("max_length %d: of %d rows %d dropped and %d truncated (first: %s)",
                 l->o->max_length, d->n + d->dropped, d->dropped, d->truncated, l->first_cut);
    if (!d->n)
        return err_set(e, "%s: no rows to use, expected at least one%s",
                       files->n ? files->v[0] : "dataset",
                       d->dropped ? " (hint: max_length dropped them all)" : "");
    struct sha *h = sha_new();
    for (int i = 0; i < d->n; i++) {
        hash_seq(h, &d->ex[i].a);
        hash_seq(h, &d->ex[i].b);
    }
    sha_finish(h, d->hash);
    return 0;
}

struct dataset *dataset_load(const struct strlist *files, const struct chat *chat,
                             const struct tokenizer *tok, const struct data_opts *o,
                             struct err *e) {
    struct dataset *d = xcalloc(1, sizeof *d);
    struct loader l = {.chat = chat, .tok = tok, .o = o, .d = d};
    d->files = xcalloc((size_t)files->n, sizeof *d->files);
    d->nfiles = files->n;
    int rc = 0;
    for (int i = 0; i < files->n && rc == 0 && !full(&l); i++)
        rc = load_item(&l, files->v[i], &d->files[i], e);
    if (rc != 0 || dataset_finish(&l, files, e) != 0) {
        dataset_free(d);
        return NULL;
    }
    return d;
}

void dataset_free(struct dataset *d) {
    if (!d)
        return;
    for (int i = 0; i < d->n; i++)
        example_release(&d->ex[i]);
    for (int i = 0; i < d->nfiles; i++)
        free(d->files[i]);
    free(d->files);
    free(d->ex);
    free(d);
}

void dataset_order(const struct dataset *d, uint64_t seed, int epoch, bool shuffle, int *order) {
    for (int i = 0; i < d->n; i++)
        order[i] = i;
    if (!shuffle)
        return;
    struct rng *r = rng_keyed(seed, "shuffle", (uint64_t)epoch);
    rng_shuffle(r, order, d->n);
    rng_free(r);
}

/* ---- packed batches ---- */

static void packed_reserve(struct packed *p, int ntok, int nseq) {
    if (ntok > p->cap_tok) {
        p->cap_tok = ntok;
        p->ids = xreallocarray(p->ids, (size_t)ntok, sizeof *p->ids);
        p->labels = xreallocarray(p->labels, (size_t)ntok, sizeof *p->labels);
    }
    if (nseq > p->cap_seq) {
        p->cap_seq = nseq;
        p->offsets = xreallocarray(p->offsets, (size_t)nseq + 1, sizeof *p->offsets);
    }
}

static void packed_add(struct packed *p, const struct seq *s) {
    int at = p->batch.ntok;
    memcpy(p->ids + at, s->ids, (size_t)s->n * sizeof *s->ids);
    for (int i = 0; i < s->n; i++)
        p->labels[at + i] = i + 1 < s->n && s->carries[i + 1] ? s->ids[i + 1] : LABEL_IGNORE;
    p->ncarry += s->ncarry;
    p->batch.ntok += s->n;
    p->offsets[++p->batch.nseq] = p->batch.ntok;
}

void packed_build_seqs(struct packed *p, const struct seq *const *seqs, int n) {
    int64_t ntok = 0;
    for (int i = 0; i < n; i++)
        ntok += seqs[i]->n;
    if (ntok > INT32_MAX)
        BUG("packed batch of %lld tokens", (long long)ntok);
    packed_reserve(p, (int)ntok, n);
    p->ncarry = 0;
    p->batch = (struct batch){.ids = p->ids, .labels = p->labels, .offsets = p->offsets};
    if (p->offsets)
        p->offsets[0] = 0;
    for (int i = 0; i < n; i++)
        packed_add(p, seqs[i]);
}

void packed_build(struct packed *p, const struct example *const *ex, int n, bool pairs) {
    int count = pairs ? 2 * n : n;
    const struct seq **seqs = xcalloc((size_t)count, sizeof *seqs);
    for (int i = 0; i < n; i++) {
        seqs[i] = &ex[i]->a;
        if (pairs)
            seqs[n + i] = &ex[i]->b;
    }
    packed_build_seqs(p, seqs, count);
    free(seqs);
}

void packed_release(struct packed *p) {
    free(p->ids);
    free(p->labels);
    free(p->offsets);
    *p = (struct packed){0};
}

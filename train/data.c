/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * data.c — rows to token sequences with loss marks; packed batches.
 *
 * One path for every format: row -> conversation (data_format.c) -> ids and marks (chat.h) ->
 * checks -> truncation rule -> dataset. A prompt is also rendered alone, the way generation renders
 * it, and must be a prefix of the whole: what is trained on is then what generation continues. A
 * row is used whole, or noted as refused, dropped or truncated by a rule that the user chose, or it
 * stops the run with its file and line; nothing is skipped silently (trl#5213, #6321, #4201). Of a
 * row that is too long the truncation rule alone decides, on_bad_row of one that gives no tokens.
 *
 * The order of an epoch is a keyed permutation, a function of (seed, epoch): resuming in the middle
 * of an epoch needs no state.
 */
#include "train/data.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/sha.h"
#include "model/model.h"
#include "model/rng.h"
#include "train/data_format.h"
#include "train/jsonl.h"

struct loader {
    const struct chat *chat;
    const struct tokenizer *tok;
    const struct data_opts *o;
    struct dataset *d;
    int cap, note_cap;
};

const char *const data_fate_names[DATA_FATES] = {"refused", "dropped", "truncated"};

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
    s->n = s->nwhole = ids->n;
    s->ids = ids->v;
    *ids = (struct ids){0};
    s->carries = xcalloc((size_t)s->n + 1, 1);
    for (int i = 0; i < s->n && marks; i++)
        s->carries[i] = marks->v[i] != 0;
    seq_finish(s);
}

/* Tokens before the first mark. */
static int before_answer(const struct ids *marks) {
    int n = 0;
    while (n < marks->n && !marks->v[n])
        n++;
    return n;
}

/* Ids of a conversation whose first nprompt messages carry no loss (unless all tokens do). */
static int render_answer(const struct loader *l, const struct message *m, int n, int nprompt,
                         struct seq *out, struct err *e) {
    struct ids ids = {0}, marks = {0};
    int rc = chat_check_raw(l->chat, m, n, e);
    if (rc == 0)
        rc = chat_encode(l->chat, m, n, nprompt, false, &ids, &marks, e);
    const int nprompt_ids = before_answer(&marks);
    for (int i = 0; rc == 0 && !l->o->completion_only && i < ids.n; i++)
        marks.v[i] = 1;
    if (rc == 0) {
        seq_take(out, &ids, &marks);
        out->nprompt = nprompt_ids;
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
    if (rc == 0) {
        seq_take(out, &ids, NULL);
        out->nprompt = out->n;
    }
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

/* ---- notes ---- */

static void add_note(struct loader *l, struct data_note note) {
    struct dataset *d = l->d;
    if (d->nnotes == l->note_cap) {
        l->note_cap = l->note_cap ? 2 * l->note_cap : 16;
        d->notes = xreallocarray(d->notes, (size_t)l->note_cap, sizeof *d->notes);
    }
    d->notes[d->nnotes++] = note;
    log_verbose("%s:%d: %s: %s", note.file, note.line, data_fate_names[note.fate], note.reason);
}

enum { BAD_ROW_ERROR, BAD_ROW_SKIP };

/* A row that gives no tokens: a note, or the end of loading. */
static int refuse(struct loader *l, const char *file, int line, const char *reason,
                  struct err *e) {
    if (l->o->on_bad_row == BAD_ROW_ERROR)
        return err_set(e, "%s:%d: %s", file, line, reason);
    l->d->refused++;
    add_note(l, (struct data_note){.fate = DATA_REFUSED, .file = file, .line = line,
                                   .reason = xstrdup(reason)});
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
    s->nprompt = MIN(s->nprompt, max);
    seq_finish(s);
}

/* 1: keep the example; 0: drop it; -1 and *e. */
static int apply_max_length(struct loader *l, struct example *x, struct err *e) {
    const int longest = MAX(x->a.n, x->b.n), max = l->o->max_length;
    if (!max || longest <= max)
        return 1;
    if (l->o->truncation == TRUNCATION_ERROR)
        return err_set(e, "%s:%d: the row has %d tokens, expected at most max_length %d (hint: "
                          "truncation: drop or truncate, or a larger max_length)", x->file,
                       x->line, longest, max);
    struct data_note note = {.file = x->file, .line = x->line, .na = x->a.n, .nb = x->b.n,
                             .prompt_full = x->a.nprompt >= max};
    const bool prompt = l->o->need == NEED_PROMPT, cut = l->o->truncation == TRUNCATION_CUT;
    bool keep = cut;
    if (cut) {
        seq_cut(&x->a, max, prompt);
        seq_cut(&x->b, max, prompt);
        keep = prompt || (x->a.ncarry && (!x->b.n || x->b.ncarry));
    }
    note.fate = keep ? DATA_TRUNCATED : DATA_DROPPED;
    note.reason = xasprintf("%d tokens, over max_length %d%s", longest, max,
                            cut && !keep ? ": cut, nothing is left to learn" : "");
    *(keep ? &l->d->truncated : &l->d->dropped) += 1;
    add_note(l, note);
    return keep;
}

/* ---- the dataset ---- */

static int read_row(const struct loader *l, const struct json_t *row, struct example *x,
                    struct err *e) {
    struct data_row r = {0};
    const struct data_format *f = data_format_of(row, l->o->need, e);
    int rc = f ? f->parse(row, &r, e) : -1;
    if (rc == 0 && l->o->need != NEED_PROMPT && !r.text && r.na == r.nprompt)
        rc = err_set(e, "expected an assistant message to learn from");
    if (rc == 0)
        rc = example_render(l, &r, x, e);
    data_row_release(&r);
    return rc;
}

static void keep_example(struct loader *l, const struct example *x) {
    struct dataset *d = l->d;
    if (d->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        d->ex = xreallocarray(d->ex, (size_t)l->cap, sizeof *d->ex);
    }
    d->ex[d->n++] = *x;
    d->tokens += (size_t)(x->a.n + x->b.n);
    d->learnt += (size_t)(x->a.ncarry + x->b.ncarry);
}

static int add_row(struct loader *l, const struct json_t *row, const char *file, int line,
                   struct err *e) {
    struct example x = {.file = file, .line = line};
    struct err why = {0};
    int rc = read_row(l, row, &x, &why) == 0 ? apply_max_length(l, &x, e)
                                             : refuse(l, file, line, why.msg, e);
    if (rc > 0)
        keep_example(l, &x);
    else
        example_release(&x);
    return MIN(rc, 0);
}

/* A line that holds no object; why: "file:line:col: what". */
static int add_bad_line(struct loader *l, const char *file, int line, const struct err *why,
                        struct err *e) {
    if (l->o->on_bad_row == BAD_ROW_ERROR)
        return err_set(e, "%s", why->msg);
    const int skip = snprintf(NULL, 0, "%s:%d:", file, line);
    char *reason = xasprintf("column %s", why->msg + MIN((size_t)skip, strlen(why->msg)));
    const int rc = refuse(l, file, line, reason, e);
    free(reason);
    return rc;
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
    struct err why = {0};
    int rc = 0;
    while (rc >= 0 && !full(l) && (rc = jsonl_next(j, &row, &why)) != 0) {
        l->d->rows += rc != -1;
        if (rc == JSONL_BAD_LINE)
            rc = add_bad_line(l, *file, jsonl_line(j), &why, e);
        else
            rc = rc > 0 ? add_row(l, row, *file, jsonl_line(j), e) : err_set(e, "%s", why.msg);
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

/* What is left out or cut, for the log. */
static void warn_notes(const struct loader *l) {
    enum { MOST = 20 };
    const struct dataset *d = l->d;
    int named = 0, cut = 0;
    while (cut < d->nnotes && d->notes[cut].fate == DATA_REFUSED)
        cut++;
    if (d->dropped || d->truncated)
        log_warn("max_length %d: of %d rows %d dropped and %d truncated (first: %s:%d)",
                 l->o->max_length, d->rows, d->dropped, d->truncated, d->notes[cut].file,
                 d->notes[cut].line);
    if (d->refused)
        log_warn("on_bad_row skip: of %d rows %d refused:", d->rows, d->refused);
    for (int i = 0; i < d->nnotes && named < MOST; i++) {
        const struct data_note *n = &d->notes[i];
        if (n->fate != DATA_REFUSED)
            continue;
        log_warn("%s:%d: %s", n->file, n->line, n->reason);
        named++;
    }
    if (d->refused > MOST)
        log_warn("and %d more (hint: keel preview, or -v, names all)", d->refused - MOST);
}

static int no_rows(const struct dataset *d, const struct strlist *files, struct err *e) {
    const char *what = files->n ? files->v[0] : "dataset";
    for (int i = 0; i < d->nnotes; i++)
        if (d->notes[i].fate == DATA_REFUSED)
            return err_set(e, "%s: no rows to use, expected at least one: on_bad_row skip refused "
                           "%d of %d (first: %s:%d: %s)", what, d->refused, d->rows,
                           d->notes[i].file, d->notes[i].line, d->notes[i].reason);
    return err_set(e, "%s: no rows to use, expected at least one%s", what,
                   d->dropped ? " (hint: max_length dropped them all)" : "");
}

static int dataset_finish(struct loader *l, const struct strlist *files, struct err *e) {
    struct dataset *d = l->d;
    if (!l->o->quiet)
        warn_notes(l);
    if (!d->n)
        return no_rows(d, files, e);
    struct sha *h = sha_new();
    for (int i = 0; i < d->n; i++) {
        hash_seq(h, &d->ex[i].a);
        hash_seq(h, &d->ex[i].b);
    }
    sha_finish(h, d->hash);
    return 0;
}

struct data_opts data_opts_of(const struct config *c, enum data_need need, int32_t eos_id) {
    return (struct data_opts){
        .need = need, .max_length = c->max_length, .truncation = c->truncation,
        .on_bad_row = c->on_bad_row, .completion_only = c->completion_only_loss, .eos_id = eos_id,
    };
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
    for (int i = 0; i < d->nnotes; i++)
        free(d->notes[i].reason);
    free(d->notes);
    free(d->files);
    free(d->ex);
    free(d);
}

static int seq_fits(const struct seq *s, const struct example *x, const struct model_config *m,
                    struct err *e) {
    if (s->n > m->max_position_embeddings)
        return err_set(e, "%s:%d: %d tokens, expected at most max_position_embeddings %d (hint: "
                          "max_length and truncation)", x->file, x->line, s->n,
                       m->max_position_embeddings);
    for (int i = 0; i < s->n; i++)
        if (s->ids[i] < 0 || s->ids[i] >= m->vocab_size)
            return err_set(e, "%s:%d: token id %d, the model has %d (hint: its tokenizer is "
                              "another's)", x->file, x->line, s->ids[i], m->vocab_size);
    return 0;
}

int dataset_fits(const struct dataset *d, const struct model_config *m, struct err *e) {
    for (int i = 0; i < d->n; i++)
        if (seq_fits(&d->ex[i].a, &d->ex[i], m, e) != 0 ||
            seq_fits(&d->ex[i].b, &d->ex[i], m, e) != 0)
            return -1;
    return 0;
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

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * data.h — JSONL files to tokenised examples; packed batches.
 *
 * One object a line; the format of a row is known by its fields (data_format_table):
 *   messages                {"messages": [{"role", "content"}, ...]}
 *   preference              {"prompt", "chosen", "rejected"}  strings or message lists
 *   prompt_completion       {"prompt", "completion"}          the same
 *   instruction             {"instruction", "input"?, "output"}   joined by one blank line
 *   instruction_preference  {"instruction", "input"?, "chosen", "rejected"}
 *   text                    {"text"}
 *   prompt                  {"prompt"} or {"instruction", "input"?}, whatever else the row holds
 * Where single answers are wanted, preference rows give the chosen one.
 * Extra fields are ignored. With a chat template in force, prompts are user turns and answers are
 * assistant turns; with "none" the strings are joined and EOS is appended (as TRL does).
 * An empty completion, a prompt that is not a prefix, a row with nothing to learn is an error, or,
 * with on_bad_row skip, left out. Whatever is left out or cut is counted and noted by file:line.
 */
#ifndef KEEL_DATA_H
#define KEEL_DATA_H

#include "model/batch.h"
#include "model/chat.h"
#include "train/config.h"

enum data_need { NEED_PROMPT, NEED_COMPLETION, NEED_PAIR };

struct json_t;                              /* jansson's */
struct model_config;                        /* model.h */
struct data_row;                            /* data_format.h */
struct data_format {
    const char *name, *fields, *help;
    int needs;                              /* bit set of 1 << enum data_need it can serve */
    bool (*match)(const struct json_t *row);    /* by the fields that are there */
    int (*parse)(const struct json_t *row, struct data_row *out, struct err *e);
};
extern const struct data_format data_format_table[];    /* ends with name == NULL */

/* One token sequence; labels[i] = 1: token i is learnt (predicted from i-1). */
struct seq {
    int32_t *ids;
    uint8_t *carries;
    int n;
    int prompt_len;                         /* tokens before the first that carries loss */
    int nprompt;                            /* tokens before the answer, whatever carries loss */
    int ncarry;
    int nwhole;                             /* tokens before the truncation rule */
};
struct example {
    struct seq a;                           /* the sequence; for pairs: prompt + chosen */
    struct seq b;                           /* pairs: prompt + rejected; else n = 0 */
    char *prompt, *completion;              /* the plain texts (completion NULL for prompts) */
    const char *file;                       /* borrowed from the dataset */
    int line;
};
enum data_fate { DATA_REFUSED, DATA_DROPPED, DATA_TRUNCATED, DATA_FATES };
extern const char *const data_fate_names[DATA_FATES];       /* "refused", ... */
struct data_note {                          /* a row that is not used, or not whole */
    enum data_fate fate;
    const char *file;                       /* borrowed from the dataset */
    int line;
    char *reason;                           /* "214 tokens, over max_length 128" */
    int na, nb;                             /* dropped: the tokens of a and b */
    bool prompt_full;                       /* dropped: the prompt alone fills max_length */
};
struct dataset {
    struct example *ex;
    int n;
    char **files;
    int nfiles;
    int rows;                               /* read: kept, dropped, refused */
    int refused;                            /* left out by on_bad_row */
    int dropped, truncated;                 /* by the truncation rule */
    struct data_note *notes;                /* on those three, in the order of reading */
    int nnotes;
    size_t tokens, learnt;                  /* totals over all sequences */
    char hash[65];                          /* SHA-256 over ids and carries, in order */
};
struct data_opts {
    enum data_need need;
    int max_length;                         /* 0: no limit */
    int truncation;                         /* 0 error, 1 drop, 2 truncate */
    int on_bad_row;                         /* 0 error, 1 skip: of a row that cannot be used */
    bool completion_only;                   /* false: prompt tokens carry loss too */
    int max_samples;                        /* 0: all; the first ones */
    int32_t eos_id;
    bool quiet;                             /* no warnings: the caller shows the notes */
};
/* What the configuration says of all its datasets; max_samples is 0. */
struct data_opts data_opts_of(const struct config *c, enum data_need need, int32_t eos_id);
/* Reads all items ("file.jsonl?field=value#first:last", see jsonl.h) in order. For NEED_PROMPT seq
 * a is the prompt ready for generation. */
struct dataset *dataset_load(const struct strlist *files, const struct chat *chat,
                             const struct tokenizer *tok, const struct data_opts *o,
                             struct err *e) MUST_CHECK;
void dataset_free(struct dataset *d);       /* NULL is allowed */
/* Can the model take it? -1 and *e name the first row that has too many tokens, or one unknown. */
int dataset_fits(const struct dataset *d, const struct model_config *m, struct err *e) MUST_CHECK;

/* The order of epoch `epoch`: a permutation that is a function of (seed, epoch) alone. */
void dataset_order(const struct dataset *d, uint64_t seed, int epoch, bool shuffle, int *order);

/* Packs sequences (a, or a and b of each pair: all a first, then all b) into one batch; owns its
 * arrays. labels[t] is the next token where that carries loss, else LABEL_IGNORE. */
struct packed {
    struct batch batch;
    int32_t *ids, *labels, *offsets;
    int ncarry;                             /* labels that count */
    int cap_tok, cap_seq;
};
void packed_build(struct packed *p, const struct example *const *ex, int n, bool pairs);
void packed_build_seqs(struct packed *p, const struct seq *const *seqs, int n);
void packed_release(struct packed *p);
#endif

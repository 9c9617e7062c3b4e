/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * parent.h — the checkpoint that a verb starts from, opened as its configuration says.
 *
 * The chat template is chat_template of the configuration (a name of chat.h, a file, or a Jinja
 * text), else the folder's own, else "none" for a folder without any. Stop tokens are the folder's,
 * and the token that ends a turn of the template.
 */
#ifndef KEEL_PARENT_H
#define KEEL_PARENT_H

#include "ckpt/hf.h"
#include "train/eval.h"

struct parent {
    struct hf *hf;
    struct chat *chat;
    int32_t eos;                            /* ends a text; -1: none */
    int32_t stop[MODEL_MAX_EOS + 1];
    int nstop;
};
int parent_open(struct parent *p, const struct config *cfg, struct err *e) MUST_CHECK;
/* The same without weights, for what needs tokens alone: hf->model is NULL. */
int parent_open_tokenizer(struct parent *p, const struct config *cfg, struct err *e) MUST_CHECK;
void parent_release(struct parent *p);
/* Before any work: output_dir can be written to, and is not the parent's folder, whose
 * configuration would be lost. Makes nothing. */
int parent_check_output(const struct config *cfg, struct err *e) MUST_CHECK;
/* Options of eval.* ; borrows p. completions_path is left NULL. */
struct eval_opts parent_eval_opts(const struct parent *p, const struct config *cfg, unsigned what);
#endif

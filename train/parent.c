/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * parent.c — see parent.h: one rule for template, end token and stop tokens for every verb.
 *
 * A template that is not known is refused, not guessed: a model that is trained or measured with
 * the wrong turns gives figures that look plausible and mean nothing.
 */
#include "train/parent.h"

#include <string.h>

static int choose_template(struct parent *p, const struct config *cfg, struct err *e) {
    const struct hf *hf = p->hf;
    if (cfg->chat_template && *cfg->chat_template) {
        p->chat = chat_find(cfg->chat_template);
        return p->chat ? 0 : err_set(e, "chat_template: expected one of %s, got \"%s\"",
                                     chat_list(), cfg->chat_template);
    }
    if (!hf->chat && hf->chat_jinja)
        return err_set(e, "%s/tokenizer_config.json: chat_template: expected one that Keel knows, "
                       "got another (hint: name the nearest with chat_template: %s)", hf->dir,
                       chat_list());
    p->chat = hf->chat ? hf->chat : chat_find("none");
    return 0;
}

static void add_stop(struct parent *p, int32_t id) {
    for (int i = 0; i < p->nstop; i++)
        if (p->stop[i] == id)
            return;
    if (id >= 0 && p->nstop < (int)ARRAY_LEN(p->stop))
        p->stop[p->nstop++] = id;
}

int parent_open(struct parent *p, const struct config *cfg, struct err *e) {
    *p = (struct parent){.eos = -1};
    p->hf = hf_open(cfg->model_name_or_path, HF_ALL, e);
    if (!p->hf || choose_template(p, cfg, e)) {
        parent_release(p);
        return -1;
    }
    for (int i = 0; i < p->hf->neos; i++)
        add_stop(p, p->hf->eos[i]);
    if (p->nstop)
        p->eos = p->stop[0];
    if (p->chat->eos && *p->chat->eos)
        add_stop(p, tokenizer_id(p->hf->tokenizer, p->chat->eos));
    return 0;
}

void parent_release(struct parent *p) {
    hf_free(p->hf);
    *p = (struct parent){.eos = -1};
}

int parent_check_output(const struct config *cfg, struct err *e) {
    if (path_same(cfg->output_dir, cfg->model_name_or_path))
        return err_set(e, "output_dir: expected another folder than the parent model's, got %s",
                       cfg->output_dir);
    return dir_check(cfg->output_dir, e) ? err_prefix(e, "output_dir") : 0;
}

struct eval_opts parent_eval_opts(const struct parent *p, const struct config *cfg, unsigned what) {
    int64_t pass = (int64_t)cfg->per_device_eval_batch_size * cfg->max_length;
    return (struct eval_opts){
        .what = what,
        .list = &refusal_table[cfg->eval.refusal_list],
        .gen = {.max_new_tokens = cfg->eval.max_new_tokens, .temperature = cfg->eval.temperature,
                .top_k = cfg->eval.top_k, .top_p = cfg->eval.top_p, .seed = (uint64_t)cfg->seed,
                .stop = p->stop, .nstop = p->nstop},
        .tok = p->hf->tokenizer,
        .batch_tokens = (int)MIN(pass, 1 << 20),
    };
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gguf_model.c — architectures and tensors as llama.cpp knows them.
 *
 * One table maps slots (arch.h) to llama.cpp's tensor names, one row an architecture says what its
 * loader there takes. A tensor is described by where its items lie in the folder, and made while
 * the file is written:
 *   - llama's rotary embedding turns neighbouring rows, Hugging Face's turns row i and i + D/2: the
 *     rows of q and k are interleaved head by head. The other architectures turn halves there too.
 *   - norm weights that are stored as what is added to one (Gemma) get the one.
 *   - GPT-2's [in, out] matrices are transposed.
 *   - an attention scale that llama.cpp does not compute is multiplied into the query rows.
 *   - frequencies of rope type llama3 become a tensor of divisors, those of longrope two.
 * A copy of llama.cpp's converter is refused: it lets through what its loaders then ignore (windows
 * of Mistral and Phi-3, biases of o), and the model would answer differently without a word.
 */
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/gguf_export.h"
#include "model/rope.h"

/* What a loader of llama.cpp takes, or insists on. */
enum {
    INTERLEAVED = 1,                        /* rotary pairs are neighbouring rows */
    O_BIAS = 2,                             /* attn_output.bias is read */
    SQUARE = 4,                             /* heads * head_dim must be hidden_size */
    ROPE_FREQS = 8,                         /* rope_freqs.weight is read */
    ROPE_LONG = 16,                         /* rope_factors_long/short.weight are read */
    PARTIAL = 32,                           /* rotary columns may be fewer than head_dim */
    WINDOWS = 64,                           /* some layers see a window, and logits are capped */
    HEAD = 128,                             /* output.weight must be there */
    TIED = 256,                             /* the head is the embedding, always */
};
static const struct gguf_arch {
    const char *model_type, *name;
    enum act act;                           /* the one it computes */
    unsigned flags;
} archs[] = {
    {"llama", "llama", ACT_SILU, INTERLEAVED | O_BIAS | ROPE_FREQS | ROPE_LONG},
    {"mistral", "llama", ACT_SILU, INTERLEAVED | O_BIAS | ROPE_FREQS | ROPE_LONG},
    {"qwen2", "qwen2", ACT_SILU, SQUARE},
    {"qwen3", "qwen3", ACT_SILU, 0},
    {"gemma", "gemma", ACT_GELU_TANH, TIED},
    {"gemma2", "gemma2", ACT_GELU_TANH, TIED | WINDOWS},
    {"phi3", "phi3", ACT_SILU, SQUARE | ROPE_LONG | PARTIAL},
    {"olmo2", "olmo2", ACT_SILU, SQUARE | HEAD},
    {"gpt2", "gpt2", ACT_GELU_TANH, SQUARE | O_BIAS},
};

/* %d: the layer. */
static const char *const tensor_names[SLOT_COUNT] = {
    [SLOT_EMBED] = "token_embd.weight", [SLOT_POSITIONS] = "position_embd.weight",
    [SLOT_FINAL_NORM] = "output_norm.weight", [SLOT_FINAL_NORM_BIAS] = "output_norm.bias",
    [SLOT_HEAD] = "output.weight",
    [SLOT_ATTN_NORM] = "blk.%d.attn_norm.weight", [SLOT_ATTN_NORM_BIAS] = "blk.%d.attn_norm.bias",
    [SLOT_Q] = "blk.%d.attn_q.weight", [SLOT_Q_BIAS] = "blk.%d.attn_q.bias",
    [SLOT_K] = "blk.%d.attn_k.weight", [SLOT_K_BIAS] = "blk.%d.attn_k.bias",
    [SLOT_V] = "blk.%d.attn_v.weight", [SLOT_V_BIAS] = "blk.%d.attn_v.bias",
    [SLOT_QKV] = "blk.%d.attn_qkv.weight", [SLOT_QKV_BIAS] = "blk.%d.attn_qkv.bias",
    [SLOT_Q_NORM] = "blk.%d.attn_q_norm.weight", [SLOT_K_NORM] = "blk.%d.attn_k_norm.weight",
    [SLOT_O] = "blk.%d.attn_output.weight", [SLOT_O_BIAS] = "blk.%d.attn_output.bias",
    [SLOT_ATTN_POST_NORM] = "blk.%d.post_attention_norm.weight",
    [SLOT_MLP_NORM] = "blk.%d.ffn_norm.weight", [SLOT_MLP_NORM_BIAS] = "blk.%d.ffn_norm.bias",
    [SLOT_GATE] = "blk.%d.ffn_gate.weight", [SLOT_GATE_BIAS] = "blk.%d.ffn_gate.bias",
    [SLOT_UP] = "blk.%d.ffn_up.weight", [SLOT_UP_BIAS] = "blk.%d.ffn_up.bias",
    [SLOT_GATE_UP] = "blk.%d.ffn_up.weight",    // gate rows, then up rows, in both
    [SLOT_DOWN] = "blk.%d.ffn_down.weight", [SLOT_DOWN_BIAS] = "blk.%d.ffn_down.bias",
    [SLOT_MLP_POST_NORM] = "blk.%d.post_ffw_norm.weight",
};

/* Where a tensor's values come from. An item is a row of the file's tensor, or an entry of a
 * vector. */
struct source {
    const struct weight *w;                 /* NULL: values */
    const float *values;
    int64_t items, width;                   /* width 1: a vector */
    bool transposed;                        /* items are the columns of what is stored */
    int64_t head_dim;                       /* items are interleaved within heads of so many; 0 */
    double add, scale;                      /* value * scale + add */
    int64_t scaled;                         /* for items below this */
};

struct gguf_model {
    struct model_config cfg;
    const struct arch *arch;
    const struct gguf_arch *to;
    const struct weights *w;
    const char *dir;
    enum dtype dtype;                       /* of matrices */
    int context;                            /* as far as llama.cpp computes the same */
    struct source *sources;
    int nsources;
    float *divisors[2];                     /* of the rotary frequencies: all or short; long */
};

static const struct gguf_arch *find_arch(const char *model_type) {
    for (size_t i = 0; i < ARRAY_LEN(archs); i++)
        if (strcmp(archs[i].model_type, model_type) == 0)
            return &archs[i];
    return NULL;
}

const char *gguf_arch_name(const char *model_type) {
    const struct gguf_arch *a = find_arch(model_type);
    return a ? a->name : NULL;
}

void gguf_model_free(struct gguf_model *m) {
    if (!m)
        return;
    free(m->sources);
    free(m->divisors[0]);
    free(m->divisors[1]);
    free(m);
}

/* ---- values ---- */

/* n values from `at` on, and nothing else of the file. */
static void read_values(const struct source *s, int64_t at, int64_t n, real *dst) {
    const size_t width = s->w ? (size_t)dtype_table[s->w->en->dtype].bits / 8 : 0;
    if (s->w)
        dtype_read(s->w->en->dtype,
                   (const char *)st_data(s->w->st, s->w->en) + (size_t)at * width, dst, (size_t)n);
    for (int64_t i = 0; !s->w && i < n; i++)
        dst[i] = (real)s->values[at + i];
}

static int64_t stored_item(const struct source *s, int64_t i) {
    const int64_t d = s->head_dim, j = d ? i % d : 0;
    return d ? i - j + j % 2 * (d / 2) + j / 2 : i;
}

static void gather_columns(const struct source *s, int64_t first, int64_t n, real *dst) {
    real *row = xcalloc((size_t)n, sizeof *row);
    for (int64_t c = 0; c < s->width; c++) {
        read_values(s, c * s->items + first, n, row);
        for (int64_t i = 0; i < n; i++)
            dst[i * s->width + c] = row[i];
    }
    free(row);
}

/* gguf_rows. Of a matrix n rows are asked for, of a vector its one row: all its items. */
static void fill(const void *ctx, int64_t first, int64_t n, real *dst) {
    const struct source *s = ctx;
    if (s->width == 1)
        n = s->items;
    if (s->transposed)
        gather_columns(s, first, n, dst);
    else if (s->w && !s->head_dim)
        st_read_some(s->w->st, s->w->en, (size_t)(first * s->width), dst, (size_t)(n * s->width));
    else
        for (int64_t i = 0; i < n; i++)
            read_values(s, stored_item(s, first + i) * s->width, s->width, dst + i * s->width);
    for (int64_t i = 0; i < n && (s->add != 0 || first + i < s->scaled); i++)
        for (int64_t c = 0; c < s->width; c++) {
            real *x = &dst[i * s->width + c];
            *x = (real)((double)*x * (first + i < s->scaled ? s->scale : 1) + s->add);
        }
    if (s->w && first + n == s->items)
        st_drop(s->w->st, s->w->en, 0, s->w->en->count);
}

/* ---- tensors ---- */

/* The formats are data, so not printf's. */
static void with_layer(char *buf, size_t n, const char *format, int layer) {
    const char *digits = strstr(format, "%d");
    if (digits)
        snprintf(buf, n, "%.*s%d%s", (int)(digits - format), format, layer, digits + 2);
    else
        snprintf(buf, n, "%s", format);
}

static const struct weight *find_weight(const struct gguf_model *m, const struct arch_param *p,
                                        int layer, struct err *e) {
    char prefix[64] = "", name[160], got[256], want[256];
    if (layer >= 0)
        with_layer(prefix, sizeof prefix, m->arch->layer_prefix, layer);
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    const struct weight *w = weights_find(m->w, name);
    if (!w) {
        err_set(e, "%s: tensor %s is missing", m->dir, name);
        return NULL;
    }
    const int64_t shape[] = {model_side(&m->cfg, p->rows), model_side(&m->cfg, p->cols)};
    const struct tensor expected = tensor_view(NULL, p->cols == '1' ? 1 : 2, shape);
    tensor_shape_text(&expected, want, sizeof want);
    weight_shape_text(w->en, got, sizeof got);
    if (strcmp(want, got) != 0) {
        err_set(e, "%s: %s: expected shape %s by config.json, got %s", m->dir, name, want, got);
        return NULL;
    }
    if (!dtype_table[w->en->dtype].can_compute) {
        err_set(e, "%s: %s: expected real numbers, got %s (hint: quantised weights are not"
                " supported)", m->dir, name, dtype_table[w->en->dtype].name);
        return NULL;
    }
    return w;
}

/* The scale of layer l's attention over that of llama.cpp. */
static double query_scale(const struct gguf_model *m, int l) {
    const struct model_config *c = &m->cfg;
    double want = c->attn_scale > 0 ? c->attn_scale : 1 / sqrt((double)c->head_dim);
    double have = 1 / sqrt((double)c->head_dim);
    if (c->scale_attn_by_inverse_layer_idx)
        want /= l + 1;
    if (m->to->flags & WINDOWS && c->num_hidden_layers == 46)   // it takes this for Gemma 2 27B
        have = 1 / sqrt((double)(c->hidden_size / c->num_attention_heads));
    return fabs(want / have - 1) < 1e-9 ? 1 : want / have;
}

static struct source describe(const struct gguf_model *m, const struct arch_param *p, int layer,
                              const struct weight *w) {
    static const enum slot_kind kinds[] = {
#define X(id, kind) SLOT_##kind,
        SLOTS(X)
#undef X
    };
    const int64_t rows = model_side(&m->cfg, p->rows), cols = model_side(&m->cfg, p->cols);
    const bool q = p->slot == SLOT_Q || p->slot == SLOT_Q_BIAS;
    const bool k = p->slot == SLOT_K || p->slot == SLOT_K_BIAS;
    const bool qkv = p->slot == SLOT_QKV || p->slot == SLOT_QKV_BIAS;
    struct source s = {.w = w, .items = rows, .width = cols, .scale = 1};
    if (layer >= 0 && m->arch->conv1d && kinds[p->slot] == SLOT_MATRIX)
        s = (struct source){.w = w, .items = cols, .width = rows, .scale = 1, .transposed = true};
    if ((q || k) && m->to->flags & INTERLEAVED)
        s.head_dim = m->cfg.head_dim;
    if (kinds[p->slot] == SLOT_NORM)
        s.add = m->arch->norm_offset;
    if (q || qkv)
        s.scale = query_scale(m, layer);
    if (s.scale != 1)
        s.scaled = model_side(&m->cfg, 'Q');
    return s;
}

static void add_source(struct gguf_model *m, struct gguf *g, const char *name,
                       const struct source *s, enum dtype dtype) {
    struct source *own = &m->sources[m->nsources++];
    *own = *s;
    gguf_add_tensor(g, name, dtype, s->width == 1 ? 1 : 2, (int64_t[]){s->items, s->width}, fill,
                    own);
}

static int add_param(struct gguf_model *m, struct gguf *g, const struct arch_param *p, int layer,
                     const char *name, struct err *e) {
    const struct weight *w = find_weight(m, p, layer, e);
    if (!w)
        return -1;
    const struct source s = describe(m, p, layer, w);
    char text[64];
    with_layer(text, sizeof text, name, layer);
    add_source(m, g, text, &s, s.width == 1 || p->slot == SLOT_POSITIONS ? DTYPE_F32 : m->dtype);
    return 0;
}

/* Top slots, then layer by layer. */
static int add_params(struct gguf_model *m, struct gguf *g, struct err *e) {
    for (int l = -1; l < m->cfg.num_hidden_layers; l++)
        for (const struct arch_param *p = m->arch->params; p->name; p++) {
            if ((p->slot >= SLOT_FIRST_OF_LAYER) != (l >= 0) || !model_has(&m->cfg, p))
                continue;
            if (add_param(m, g, p, l, tensor_names[p->slot], e) != 0)
                return -1;
            if (p->slot == SLOT_EMBED && m->cfg.tie_word_embeddings && m->to->flags & HEAD
                && add_param(m, g, p, l, tensor_names[SLOT_HEAD], e) != 0)
                return -1;
        }
    return 0;
}

/* Tensors that carry nothing. */
static const char *const ignorable[] = {"*rotary_emb.inv_freq", "*.attn.bias",
                                        "*.attn.masked_bias"};

/* Each tensor of the folder must have become one of the file. */
static int check_rest(const struct gguf_model *m, struct err *e) {
    for (int i = 0; i < weights_count(m->w); i++) {
        const struct weight *w = weights_at(m->w, i);
        const char *name = w->en->name;
        bool known = m->cfg.tie_word_embeddings && strcmp(name, "lm_head.weight") == 0;
        for (int k = 0; !known && k < m->nsources; k++)
            known = m->sources[k].w == w;
        for (size_t k = 0; !known && k < ARRAY_LEN(ignorable); k++)
            known = fnmatch(ignorable[k], name, 0) == 0;
        if (!known)
            return err_set(e, "%s: a %s model has no place for tensor %s", m->dir,
                           m->cfg.model_type, name);
    }
    return 0;
}

/* ---- rotary embedding ---- */

/* Keys of the architecture: "llama.context_length". */
static char *own_key(const struct gguf_model *m, const char *key, char buf[128]) {
    snprintf(buf, 128, "%s.%s", m->to->name, key);
    return buf;
}

static void set_u32(const struct gguf_model *m, struct gguf *g, const char *key, int64_t value) {
    char buf[128];
    gguf_set_u32(g, own_key(m, key, buf), (uint32_t)value);
}

static void set_f32(const struct gguf_model *m, struct gguf *g, const char *key, double value) {
    char buf[128];
    gguf_set_f32(g, own_key(m, key, buf), value);
}

static void set_text(const struct gguf_model *m, struct gguf *g, const char *key,
                     const char *value) {
    char buf[128];
    gguf_set_text(g, own_key(m, key, buf), value);
}

static int original_context(const struct model_config *c) {
    const int n = c->rope.original_max_position_embeddings;
    return n ? n : c->max_position_embeddings;
}

/* Plain frequencies over those of a sequence of len tokens; returns the attention factor. */
static double rope_divisors(const struct model_config *c, int len, float *divisors) {
    const int dim = rope_dim(&c->rope, c->head_dim);
    double *f = xcalloc((size_t)dim, sizeof *f), *plain = f + dim / 2;
    for (int i = 0; i < dim / 2; i++)
        f[i] = plain[i] = pow(c->rope.theta, -2.0 * i / dim);
    const double own =
        c->rope.type->frequencies(&c->rope, dim, c->max_position_embeddings, len, f);
    for (int i = 0; divisors && i < dim / 2; i++)
        divisors[i] = (float)(plain[i] / f[i]);
    free(f);
    return c->rope.attention_factor > 0 ? c->rope.attention_factor : own;
}

static double add_divisors(struct gguf_model *m, struct gguf *g, const char *name, int which,
                           int len) {
    const int n = rope_dim(&m->cfg.rope, m->cfg.head_dim) / 2;
    m->divisors[which] = xcalloc((size_t)n, sizeof(float));
    const double factor = rope_divisors(&m->cfg, len, m->divisors[which]);
    const struct source s = {.values = m->divisors[which], .items = n, .width = 1, .scale = 1};
    add_source(m, g, name, &s, DTYPE_F32);
    return factor;
}

static int write_linear(struct gguf_model *m, struct gguf *g, struct err *e) {
    (void)e;
    set_text(m, g, "rope.scaling.type", "linear");
    set_f32(m, g, "rope.scaling.factor", m->cfg.rope.factor);
    return 0;
}

static int write_divisors(struct gguf_model *m, struct gguf *g, struct err *e) {
    (void)e;
    const double factor = add_divisors(m, g, "rope_freqs.weight", 0, 1);
    if (factor != 1)
        set_f32(m, g, "rope.scaling.attn_factor", factor);
    return 0;
}

/* llama.cpp chooses the list by the size of its context, not by the length of the text. */
static int write_longrope(struct gguf_model *m, struct gguf *g, struct err *e) {
    (void)e;
    const int old = original_context(&m->cfg);
    set_text(m, g, "rope.scaling.type", "longrope");
    add_divisors(m, g, "rope_factors_long.weight", 1, old + 1);
    set_f32(m, g, "rope.scaling.attn_factor",
            add_divisors(m, g, "rope_factors_short.weight", 0, old));
    set_u32(m, g, "rope.scaling.original_context_length", old);
    return 0;
}

/* llama.cpp has the betas of the paper and multiplies by 0.1 ln(factor) + 1 on its own. */
static int write_yarn(struct gguf_model *m, struct gguf *g, struct err *e) {
    const struct rope_config *r = &m->cfg.rope;
    if (r->beta_fast != 32 || r->beta_slow != 1) {
        if (m->to->flags & ROPE_FREQS)
            return write_divisors(m, g, e);
        return err_set(e, "%s/config.json: rope type yarn: llama.cpp computes it with beta_fast 32"
                       " and beta_slow 1, got %g and %g", m->dir, r->beta_fast, r->beta_slow);
    }
    const double factor = rope_divisors(&m->cfg, 1, NULL);
    const double own = r->factor > 1 ? 0.1 * log(r->factor) + 1 : 1;
    set_text(m, g, "rope.scaling.type", "yarn");
    set_f32(m, g, "rope.scaling.factor", r->factor);
    set_u32(m, g, "rope.scaling.original_context_length", original_context(&m->cfg));
    if (fabs(factor / own - 1) > 1e-9)
        set_f32(m, g, "rope.scaling.attn_factor", factor / own);
    return 0;
}

static const struct rope_form {
    const char *type;                       /* of rope_type_table */
    unsigned needs;                         /* of the loader */
    bool plain;                             /* as if there were none, up to the original context */
    int (*write)(struct gguf_model *m, struct gguf *g, struct err *e);
} rope_forms[] = {
    {"default", 0, false, NULL},
    {"linear", 0, false, write_linear},
    {"dynamic", 0, true, NULL},
    {"llama3", ROPE_FREQS, false, write_divisors},
    {"longrope", ROPE_LONG, false, write_longrope},
    {"yarn", 0, false, write_yarn},
};

static int add_rope(struct gguf_model *m, struct gguf *g, struct err *e) {
    const char *type = m->cfg.rope.type->name;
    const struct rope_form *form = rope_forms;
    while (form < rope_forms + ARRAY_LEN(rope_forms)
           && (strcmp(form->type, type) != 0 || (form->needs & m->to->flags) != form->needs))
        form++;
    if (form == rope_forms + ARRAY_LEN(rope_forms))
        return err_set(e, "%s/config.json: rope type %s: llama.cpp's architecture %s does not"
                       " compute it", m->dir, type, m->to->name);
    set_u32(m, g, "rope.dimension_count", rope_dim(&m->cfg.rope, m->cfg.head_dim));
    set_f32(m, g, "rope.freq_base", m->cfg.rope.theta);
    return form->write ? form->write(m, g, e) : 0;
}

/* ---- what the loader takes ---- */

static int cannot(const struct gguf_model *m, struct err *e, const char *key, const char *what) {
    return err_set(e, "%s/config.json: %s: llama.cpp's architecture %s %s", m->dir, key,
                   m->to->name, what);
}

static int check_fit(const struct gguf_model *m, struct err *e) {
    const struct model_config *c = &m->cfg;
    const unsigned flags = m->to->flags;
    const int rotary = m->arch->rope ? rope_dim(&c->rope, c->head_dim) : 0;
    bool o_bias = false;
    for (const struct arch_param *p = m->arch->params; p->name; p++)
        o_bias |= p->slot == SLOT_O_BIAS && model_has(c, p);
    if (c->hidden_act != m->to->act)
        return cannot(m, e, "hidden_act", m->to->act == ACT_SILU ? "computes silu alone"
                      : "computes the tanh form of gelu alone");
    if (o_bias && !(flags & O_BIAS))
        return cannot(m, e, "attention_bias", "has no bias behind attention");
    if (flags & SQUARE && model_side(c, 'Q') != c->hidden_size)
        return cannot(m, e, "head_dim", "takes heads that fill hidden_size alone");
    if (m->arch->rope && (rotary < 2 || rotary % 2 || rotary > c->head_dim
                          || (rotary < c->head_dim && !(flags & PARTIAL))))
        return cannot(m, e, "partial_rotary_factor", "rotates whole heads alone");
    if (flags & TIED && !c->tie_word_embeddings)
        return cannot(m, e, "tie_word_embeddings", "has no output matrix of its own");
    if (!(flags & WINDOWS) && (c->attn_logit_softcapping > 0 || c->final_logit_softcapping > 0))
        return cannot(m, e, "attn_logit_softcapping", "caps nothing");
    return 0;
}

static bool windowed(const struct model_config *c, int layer) {
    return c->sliding_window > 0 && c->windowed[layer / 8] >> layer % 8 & 1;
}

/* What llama.cpp leaves out shows only in longer texts: the context ends before. */
static void limit_context(struct gguf_model *m, int limit, const char *what) {
    if (m->context <= limit)
        return;
    log_warn("%s: llama.cpp's architecture %s has no %s: context_length is written as %d, up to"
             " which that makes no difference, in place of %d", m->dir, m->to->name, what, limit,
             m->context);
    m->context = limit;
}

static void limit_contexts(struct gguf_model *m) {
    const struct model_config *c = &m->cfg;
    bool any = false;
    for (int l = 0; l < c->num_hidden_layers; l++)
        any |= windowed(c, l);
    m->context = c->max_position_embeddings;
    if (any && !(m->to->flags & WINDOWS))
        limit_context(m, c->sliding_window, "sliding window");
    for (size_t i = 0; m->arch->rope && i < ARRAY_LEN(rope_forms); i++)
        if (rope_forms[i].plain && strcmp(rope_forms[i].type, c->rope.type->name) == 0)
            limit_context(m, original_context(c), "dynamic rope scaling");
}

/* ---- keys ---- */

/* cap tanh(x / cap) is x itself in float for every |x| < 1e8: llama.cpp always caps. */
#define NO_CAP 0x1p40

static void add_windows(const struct gguf_model *m, struct gguf *g) {
    const struct model_config *c = &m->cfg;
    bool *seen = xcalloc((size_t)c->num_hidden_layers, sizeof *seen), even = true, any = false;
    for (int l = 0; l < c->num_hidden_layers; l++) {
        seen[l] = windowed(c, l);
        any |= seen[l];
        even &= seen[l] == (l % 2 == 0);
    }
    char buf[128];
    set_u32(m, g, "attention.sliding_window", any ? c->sliding_window : c->max_position_embeddings);
    if (any && !even)
        gguf_set_bools(g, own_key(m, "attention.sliding_window_pattern", buf), seen,
                       (size_t)c->num_hidden_layers);
    set_f32(m, g, "attn_logit_softcapping",
            c->attn_logit_softcapping > 0 ? c->attn_logit_softcapping : NO_CAP);
    set_f32(m, g, "final_logit_softcapping",
            c->final_logit_softcapping > 0 ? c->final_logit_softcapping : NO_CAP);
    free(seen);
}

static void add_sizes(const struct gguf_model *m, struct gguf *g) {
    const struct model_config *c = &m->cfg;
    const struct {
        const char *key;
        int value;
    } sizes[] = {
        {"vocab_size", c->vocab_size}, {"context_length", m->context},
        {"embedding_length", c->hidden_size}, {"block_count", c->num_hidden_layers},
        {"feed_forward_length", c->intermediate_size},
        {"attention.head_count", c->num_attention_heads},
        {"attention.head_count_kv", c->num_key_value_heads},
        {"attention.key_length", c->head_dim}, {"attention.value_length", c->head_dim},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        set_u32(m, g, sizes[i].key, sizes[i].value);
    set_f32(m, g, m->arch->layer_norm ? "attention.layer_norm_epsilon"
                                      : "attention.layer_norm_rms_epsilon", c->rms_norm_eps);
    if (m->to->flags & WINDOWS)
        add_windows(m, g);
}

struct gguf_model *gguf_model_add(struct gguf *g, const struct model_config *cfg,
                                  const struct weights *w, enum dtype dtype, const char *dir,
                                  struct err *e) {
    struct gguf_model *m = xcalloc(1, sizeof *m);
    m->cfg = *cfg;
    m->arch = arch_find(cfg->model_type);
    m->to = find_arch(cfg->model_type);
    m->w = w;
    m->dir = dir;
    m->dtype = dtype;
    if (!m->to || !m->arch) {
        err_set(e, "%s: llama.cpp has no architecture for %s", dir, cfg->model_type);
        goto fail;
    }
    if (cfg->num_hidden_layers > MODEL_MAX_LAYERS) {
        err_set(e, "%s/config.json: num_hidden_layers: expected at most %d, got %d", dir,
                MODEL_MAX_LAYERS, cfg->num_hidden_layers);
        goto fail;
    }
    if (!m->cfg.rope.type)
        m->cfg.rope.type = rope_type_table;
    if (m->cfg.rope.partial_rotary_factor == 0)
        m->cfg.rope.partial_rotary_factor = 1;
    if (check_fit(m, e) != 0)
        goto fail;
    limit_contexts(m);
    add_sizes(m, g);
    m->sources = xcalloc((size_t)(m->cfg.num_hidden_layers + 1) * SLOT_COUNT, sizeof *m->sources);
    if (add_params(m, g, e) != 0 || check_rest(m, e) != 0
        || (m->arch->rope && add_rope(m, g, e) != 0))
        goto fail;
    return m;
fail:
    gguf_model_free(m);
    return NULL;
}

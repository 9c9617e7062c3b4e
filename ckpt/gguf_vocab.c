/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * gguf_vocab.c — a tokenizer.json as llama.cpp's vocabulary.
 *
 * llama.cpp has no pipeline of its own description: it knows a few tokenizers by name. Byte-level
 * BPE is "gpt2" with the name of a pre-tokenizer, found here by the expressions of the file.
 * SentencePiece BPE is "llama": at each step the two neighbours are joined whose whole has the
 * highest score, wherever that whole is a token. Merges say the same when every way to cut a token
 * into two tokens is a merge; the score of a token is then the rank of its first merge, negative.
 * Files where a cut is no merge (made by a trainer of tokenizer.json files) would give other ids
 * and are refused, as are normalizers, Unigram, and expressions without a name.
 *
 * What llama.cpp cannot say of single tokens (blanks swallowed beside them, NFC) gives other ids in
 * rare texts only, and is warned of. Source: src/llama-vocab.cpp of llama.cpp, release v0.5.0.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ckpt/gguf_export.h"
#include "ckpt/jsonfile.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

struct vocab {
    const struct hf *hf;
    const struct tokenizer *t;
    const struct model_config *cfg;
    char *path;                             /* of tokenizer.json */
    json_t *file;
    int n;                                  /* rows of the embedding */
    const char **text;                      /* [n] */
    char **made;                            /* [n] names of unused ids; NULL: the tokenizer's */
    int32_t *type;                          /* [n] */
};

static void vocab_release(struct vocab *v) {
    for (int i = 0; v->made && i < v->n; i++)
        free(v->made[i]);
    free(v->made);
    free(v->text);
    free(v->type);
    free(v->path);
    json_decref(v->file);
}

static const char *text_of(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static bool flag_of(const json_t *j, const char *key, bool absent) {
    const json_t *v = json_object_get(j, key);
    return v ? json_is_true(v) : absent;
}

static const json_t *model_of(const struct vocab *v) {
    return json_object_get(v->file, "model");
}

/* ---- byte-level: which pre-tokenizer ---- */

#define GPT2_STEP \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CASELESS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define CL100K "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}" \
    "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED_1 "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*" \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CASED_2 "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+" \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define CASED_TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Expressions that cut alike stand in several rows; the name also fixes model.ignore_merges. */
static const struct pre {
    const char *steps;                      /* expressions in order, joined by a newline */
    bool ignore_merges;
    const char *name;                       /* tokenizer.ggml.pre */
    const char *note;                       /* where llama.cpp cuts otherwise; NULL: nowhere */
} pres[] = {
    {GPT2_STEP, false, "gpt-2", NULL},
    {"\\p{N}\n" GPT2_STEP, false, "smollm", NULL},
    {CASELESS "|" WORD "|\\p{N}{1,3}|" TAIL, true, "llama-bpe", NULL},
    {CASELESS "|" WORD "|\\p{N}{1,3}|" TAIL, false, "dbrx", NULL},
    {CASELESS "|" WORD "|\\p{N}|" TAIL, false, "qwen2", NULL},
    {CL100K, true, "llama-bpe", NULL},
    {CL100K, false, "dbrx", NULL},
    {CASED_1 "|" CASED_2 "|\\p{N}|" CASED_TAIL, true, "tekken",
     "letters beyond ASCII and combining marks"},
    {CASED_1 CASELESS "?|" CASED_2 CASELESS "?|\\p{N}{1,3}|" CASED_TAIL, false, "gpt-4o",
     "letters beyond ASCII and combining marks"},
};

static int refuse(const struct vocab *v, struct err *e, const char *where, const char *what) {
    return err_set(e, "%s: %s: llama.cpp %s (hint: without tokenizer.json the weights alone are"
                   " converted)", v->path, where, what);
}

/* Appends the expressions of a pre-tokenizer that cut into pieces and drop nothing. */
static int add_steps(const struct vocab *v, const json_t *j, struct str *steps, struct err *e) {
    const char *type = text_of(j, "type"), *step = NULL;
    const json_t *list = json_object_get(j, "pretokenizers");
    if (strcmp(type, "Sequence") == 0) {
        for (size_t i = 0; i < json_array_size(list); i++)
            if (add_steps(v, json_array_get(list, i), steps, e) != 0)
                return -1;
        return 0;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        if (flag_of(j, "add_prefix_space", true))
            return refuse(v, e, "pre_tokenizer.add_prefix_space", "puts no blank before the text");
        step = flag_of(j, "use_regex", true) ? GPT2_STEP : "";
    } else if (strcmp(type, "Digits") == 0) {
        step = flag_of(j, "individual_digits", false) ? "\\p{N}" : "\\p{N}+";
    } else if (strcmp(type, "Split") == 0) {
        const char *behavior = text_of(j, "behavior");
        const bool whole = strcmp(behavior, "Isolated") == 0
                        || (strcmp(behavior, "Removed") == 0 && flag_of(j, "invert", false));
        step = whole ? json_string_value(json_object_get(json_object_get(j, "pattern"), "Regex"))
                     : NULL;
    }
    if (!step)
        return refuse(v, e, "pre_tokenizer", "knows no such step");
    if (*step)
        str_addf(steps, "%s%s", steps->len ? "\n" : "", step);
    return 0;
}

/* Only NFC may stand: it changes text that is not composed, which is rare. */
static int check_normalizer(const struct vocab *v, const json_t *j, struct err *e) {
    const json_t *list = json_object_get(j, "normalizers");
    const char *type = text_of(j, "type");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (check_normalizer(v, json_array_get(list, i), e) != 0)
            return -1;
    if (!json_is_object(j) || strcmp(type, "Sequence") == 0)
        return 0;
    if (strcmp(type, "NFC") != 0)
        return refuse(v, e, "normalizer", "does not normalize text");
    log_info("%s: llama.cpp does not normalize: ids differ for text that is not in NFC", v->path);
    return 0;
}

static int add_byte_level(const struct vocab *v, struct gguf *g, struct err *e) {
    struct str steps = {0};
    const bool ignore = flag_of(model_of(v), "ignore_merges", false);
    const struct pre *found = NULL, *alike = NULL;
    int rc = -1;
    if (check_normalizer(v, json_object_get(v->file, "normalizer"), e) != 0
        || add_steps(v, json_object_get(v->file, "pre_tokenizer"), &steps, e) != 0)
        goto out;
    for (size_t i = 0; i < ARRAY_LEN(pres); i++)
        if (strcmp(pres[i].steps, steps.s ? steps.s : "") == 0) {
            alike = &pres[i];
            if (pres[i].ignore_merges == ignore)
                found = &pres[i];
        }
    if (!alike) {
        err_set(e, "%s: pre_tokenizer: llama.cpp has no name for the expression \"%.300s\" (hint:"
                " known are those of GPT-2, SmolLM, Llama 3, Qwen 2, cl100k, Tekken and GPT-4o)",
                v->path, steps.s ? steps.s : "");
        goto out;
    }
    if (!found) {
        err_set(e, "%s: model.ignore_merges: llama.cpp's pre-tokenizer %s has it %s", v->path,
                alike->name, ignore ? "off" : "on");
        goto out;
    }
    if (found->note)
        log_warn("%s: llama.cpp's pre-tokenizer %s cuts otherwise at %s", v->path, found->name,
                 found->note);
    gguf_set_text(g, "tokenizer.ggml.model", "gpt2");
    gguf_set_text(g, "tokenizer.ggml.pre", found->name);
    rc = 0;
out:
    str_release(&steps);
    return rc;
}

/* "left right" in order. */
static int add_merges(const struct vocab *v, struct gguf *g, struct err *e) {
    const int n = tokenizer_merge_count(v->t);
    char **merges = xcalloc((size_t)n + 1, sizeof *merges);
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        const char *left, *right;
        tokenizer_merge_at(v->t, i, &left, &right);
        if (strchr(left, ' ') || strchr(right, ' '))
            rc = refuse(v, e, "model.merges", "has no merges of tokens with a blank in them");
        merges[i] = xasprintf("%s %s", left, right);
    }
    if (rc == 0)
        gguf_set_texts(g, "tokenizer.ggml.merges", (const char *const *)merges, (size_t)n);
    for (int i = 0; i < n; i++)
        free(merges[i]);
    free(merges);
    return rc;
}

/* ---- SentencePiece ---- */

#define BLANK "\xe2\x96\x81"                /* U+2581, a blank in tokens */

struct blanks {
    bool replaced, prefixed;                /* by BLANK; one before the text */
    const char *scheme;                     /* Metaspace's; NULL: Prepend or none */
};

static bool is_string_pattern(const json_t *j, const char *text) {
    return strcmp(text_of(json_object_get(j, "pattern"), "String"), text) == 0;
}

static int read_spm_normalizer(const struct vocab *v, const json_t *j, struct blanks *b,
                               struct err *e) {
    const char *type = text_of(j, "type");
    const json_t *list = json_object_get(j, "normalizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_spm_normalizer(v, json_array_get(list, i), b, e) != 0)
            return -1;
    if (strcmp(type, "Prepend") == 0 && strcmp(text_of(j, "prepend"), BLANK) == 0)
        b->prefixed = true;
    else if (strcmp(type, "Replace") == 0 && is_string_pattern(j, " ")
             && strcmp(text_of(j, "content"), BLANK) == 0)
        b->replaced = true;
    else if (json_is_object(j) && strcmp(type, "Sequence") != 0)
        return refuse(v, e, "normalizer", "does not normalize text");
    return 0;
}

/* Some token has a blank behind its first letter, so cuts before blanks can show. */
static bool has_inner_blank(const struct vocab *v) {
    for (int i = 0; i < v->n; i++)
        if (v->type[i] == TYPE_NORMAL && v->text[i][0] && strstr(v->text[i] + 1, BLANK))
            return true;
    return false;
}

static int read_spm_pre(const struct vocab *v, struct blanks *b, struct err *e) {
    const json_t *j = json_object_get(v->file, "pre_tokenizer");
    const char *type = text_of(j, "type");
    if (!j || json_is_null(j) || (strcmp(type, "Split") == 0 && is_string_pattern(j, " ")
                                  && b->replaced))
        return 0;                           // no blank is left to cut at
    if (strcmp(type, "Metaspace") != 0 || strcmp(text_of(j, "replacement"), BLANK) != 0)
        return refuse(v, e, "pre_tokenizer", "does not cut text for a SentencePiece model");
    if (flag_of(j, "split", true) && has_inner_blank(v))
        return refuse(v, e, "pre_tokenizer.split", "joins pieces across blanks");
    b->replaced = true;
    b->scheme = text_of(j, "prepend_scheme");
    if (!*b->scheme)
        b->scheme = flag_of(j, "add_prefix_space", true) ? "always" : "never";
    b->prefixed |= strcmp(b->scheme, "never") != 0;
    return 0;
}

/* Length of the UTF-8 character at s, which is not its end. */
static size_t char_len(const char *s) {
    size_t n = 1;
    while (((unsigned char)s[n] & 0xC0) == 0x80)
        n++;
    return n;
}

/* Ways to cut a token into two that llama.cpp could join: tokens, or single characters. */
static int count_cuts(const struct vocab *v, const char *token) {
    const size_t n = strlen(token), first = char_len(token);
    char *left = xstrdup(token);
    int cuts = 0;
    for (size_t at = first; at < n; at += char_len(token + at)) {
        const char *right = token + at;
        left[at] = '\0';
        cuts += (at == first || tokenizer_id(v->t, left) >= 0)
             && (char_len(right) == n - at || tokenizer_id(v->t, right) >= 0);
        left[at] = token[at];
    }
    free(left);
    return cuts;
}

/* score[id]: minus the rank of the first merge that gives it, the least for tokens without one. */
static int score_tokens(const struct vocab *v, float *score, struct err *e) {
    const int n = tokenizer_merge_count(v->t);
    int *merges = xcalloc((size_t)v->n, sizeof *merges), rc = 0;
    struct str whole = {0};
    for (int i = 0; i < v->n; i++)
        score[i] = -(float)n;
    for (int i = 0; i < n; i++) {
        const char *left, *right;
        tokenizer_merge_at(v->t, i, &left, &right);
        whole.len = 0;
        str_addf(&whole, "%s%s", left, right);
        const int32_t id = tokenizer_id(v->t, whole.s);
        if (id < 0 || id >= v->n)
            BUG("gguf: merge %d gives no token", i);
        if (merges[id]++ == 0)
            score[id] = -(float)i;
    }
    for (int i = 0; i < v->n && rc == 0; i++) {
        if (v->type[i] == TYPE_USER && merges[i] && strstr(v->text[i], BLANK))
            v->type[i] = TYPE_NORMAL;       // merged like any other; raw text has no such letter
        if (v->type[i] == TYPE_NORMAL && v->text[i][0] && count_cuts(v, v->text[i]) > merges[i])
            rc = err_set(e, "%s: model.merges: token %d \"%.60s\" has %d merges for %d cuts into"
                         " tokens: llama.cpp would join them all (hint: only merges of a"
                         " SentencePiece model can be converted)", v->path, i, v->text[i],
                         merges[i], count_cuts(v, v->text[i]));
    }
    free(merges);
    str_release(&whole);
    return rc;
}

static int check_bytes(const struct vocab *v, struct err *e) {
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        const int32_t id = tokenizer_id(v->t, name);
        if (id < 0 || !tokenizer_is_byte(v->t, id))
            return refuse(v, e, "model.byte_fallback", "needs it, and a token for each byte");
    }
    return 0;
}

static int add_spm(struct vocab *v, struct gguf *g, struct err *e) {
    struct blanks b = {0};
    float *score = xcalloc((size_t)v->n, sizeof *score);
    int rc = -1;
    if (flag_of(model_of(v), "ignore_merges", false)) {
        refuse(v, e, "model.ignore_merges", "always merges");
        goto out;
    }
    if (read_spm_normalizer(v, json_object_get(v->file, "normalizer"), &b, e) != 0
        || read_spm_pre(v, &b, e) != 0 || check_bytes(v, e) != 0 || score_tokens(v, score, e) != 0)
        goto out;
    if (!b.replaced) {
        refuse(v, e, "normalizer", "replaces blanks by U+2581");
        goto out;
    }
    if (b.prefixed && b.scheme)
        log_warn("%s: llama.cpp puts a blank before text that begins with one, too%s", v->path,
                 strcmp(b.scheme, "first") ? "" : ", and behind special tokens: ids differ there");
    gguf_set_text(g, "tokenizer.ggml.model", "llama");
    gguf_set_text(g, "tokenizer.ggml.pre", "default");
    gguf_set_bool(g, "tokenizer.ggml.add_space_prefix", b.prefixed);
    gguf_set_f32s(g, "tokenizer.ggml.scores", score, (size_t)v->n);
    rc = 0;
out:
    free(score);
    return rc;
}

/* ---- tokens ---- */

/* Rows of the embedding without a token get a name that no token has. */
static void name_tokens(struct vocab *v) {
    const bool spm = !tokenizer_byte_level(v->t);
    for (int i = 0; i < v->n; i++) {
        const char *text = tokenizer_token(v->t, i);
        v->type[i] = !text ? TYPE_UNUSED
                   : spm && i == tokenizer_unk_id(v->t) ? TYPE_UNKNOWN
                   : tokenizer_is_special(v->t, i) ? TYPE_CONTROL
                   : tokenizer_is_added(v->t, i) ? TYPE_USER
                   : tokenizer_is_byte(v->t, i) ? TYPE_BYTE : TYPE_NORMAL;
        if (!text) {
            v->made[i] = xasprintf("[PAD%d]", i);
            while (tokenizer_id(v->t, v->made[i]) >= 0) {
                char *longer = xasprintf("%s_", v->made[i]);
                free(v->made[i]);
                v->made[i] = longer;
            }
        }
        v->text[i] = text ? text : v->made[i];
    }
}

/* llama.cpp knows one model whose special tokens swallow the blanks behind them, by its name, and
 * stops where that model's tokens are missing. */
static const char *const phi3_plain[] = {"<unk>", "<s>", "<|endoftext|>"};

static bool is_like_phi3(const struct vocab *v, const bool *rstrip) {
    const int32_t end = tokenizer_id(v->t, "</s>");
    bool like = end >= 0;
    for (size_t k = 0; k < ARRAY_LEN(phi3_plain); k++)
        like &= tokenizer_id(v->t, phi3_plain[k]) >= 0;
    for (int i = 0; like && i < v->n; i++) {
        bool strips = i == end || v->type[i] == TYPE_CONTROL || v->type[i] == TYPE_USER
                   || v->type[i] == TYPE_UNKNOWN;
        for (size_t k = 0; k < ARRAY_LEN(phi3_plain); k++)
            strips &= strcmp(v->text[i], phi3_plain[k]) != 0;
        like = strips == rstrip[i];
    }
    return like;
}

/* The folder's name, with or without what llama.cpp looks for in it ("phi3", "phi-3"). */
static char *safe_name(const char *folder, bool like_phi3) {
    struct str name = {0};
    bool named = false;
    for (const char *p = folder; *p;) {
        const size_t n = strncasecmp(p, "phi3", 4) == 0 ? 4
                       : strncasecmp(p, "phi-3", 5) == 0 ? 5 : 0;
        named |= n > 0;
        if (n && !like_phi3)
            str_addf(&name, "%.3s.3", p);
        else
            str_addn(&name, p, n ? n : 1);
        p += n ? n : 1;
    }
    char *text = str_detach(&name);
    if (like_phi3 && !named) {
        char *longer = xasprintf("Phi-3 %s", text);
        free(text);
        return longer;
    }
    return text;
}

static void add_name(const struct vocab *v, struct gguf *g, const char *folder) {
    bool *rstrip = xcalloc((size_t)v->n, sizeof *rstrip);
    const char *odd = NULL;
    const json_t *token;
    size_t i;
    json_array_foreach(json_object_get(v->file, "added_tokens"), i, token) {
        const json_int_t id = json_integer_value(json_object_get(token, "id"));
        const bool right = flag_of(token, "rstrip", false);
        if (id >= 0 && id < v->n)
            rstrip[id] = right;
        if (right || flag_of(token, "lstrip", false) || flag_of(token, "single_word", false))
            odd = text_of(token, "content");
    }
    const bool like_phi3 = is_like_phi3(v, rstrip);
    char *name = safe_name(folder, like_phi3);
    if (odd && !like_phi3)
        log_warn("%s: added token \"%s\": llama.cpp knows no lstrip, rstrip or single_word: ids"
                 " differ where blanks or letters stand beside it", v->path, odd);
    gguf_set_text(g, "general.name", name);
    free(name);
    free(rstrip);
}

/* ---- special tokens ---- */

/* The id that tokenizer_config.json names, or `otherwise`; -1: none. */
static int32_t named_id(const struct vocab *v, const json_t *config, const char *key,
                        int32_t otherwise) {
    const json_t *j = json_object_get(config, key);
    const char *text = json_string_value(json_is_object(j) ? json_object_get(j, "content") : j);
    const int32_t id = text ? tokenizer_id(v->t, text) : -1;
    return id >= 0 ? id : otherwise;
}

static void set_id(struct gguf *g, const char *name, int32_t id) {
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", name);
    if (id >= 0)
        gguf_set_u32(g, key, (uint32_t)id);
}

/* Stop tokens beyond eos: llama.cpp has an end of turn and an end of message. */
static void add_stops(const struct vocab *v, struct gguf *g, int32_t eos) {
    static const char *const names[] = {"eot", "eom"};
    size_t n = 0;
    for (int i = 0; i < v->hf->neos; i++)
        if (v->hf->eos[i] != eos && n < ARRAY_LEN(names))
            set_id(g, names[n++], v->hf->eos[i]);
        else if (v->hf->eos[i] != eos)
            log_warn("%s: llama.cpp takes three end tokens; %d is left out", v->path,
                     v->hf->eos[i]);
}

/* What the post-processor puts around a text is BOS and EOS, or cannot be said. */
static int add_specials(const struct vocab *v, struct gguf *g, struct err *e) {
    int32_t some = 0;                       // an id that no template puts anywhere
    while (some + 1 < v->n && v->type[some] != TYPE_NORMAL)
        some++;
    const struct ids text = {&some, 1, 1};
    struct ids out = {0};
    const char *text_config = v->hf->tokenizer_config_json;
    json_t *config = text_config ? json_loads(text_config, JSON_DECODE_INT_AS_REAL, NULL) : NULL;
    const struct model_config *c = v->cfg;
    tokenizer_post_process(v->t, &text, NULL, &out);
    const int before = out.v[0] != some;
    const int after = out.n - 1 - before;
    int rc = -1;
    if (out.n < 1 + before || out.v[before] != some || after > 1) {
        refuse(v, e, "post_processor", "puts one token before a text and one behind it at most");
        goto out;
    }
    const int32_t bos = before ? out.v[0] : named_id(v, config, "bos_token", c->bos_token_id);
    const int32_t eos = after ? out.v[out.n - 1]
        : named_id(v, config, "eos_token", v->hf->neos ? v->hf->eos[0] : -1);
    set_id(g, "bos", bos);
    set_id(g, "eos", eos);
    add_stops(v, g, eos);
    set_id(g, "unknown", named_id(v, config, "unk_token", tokenizer_unk_id(v->t)));
    set_id(g, "padding", named_id(v, config, "pad_token", c->pad_token_id));
    gguf_set_bool(g, "tokenizer.ggml.add_bos_token", before);
    gguf_set_bool(g, "tokenizer.ggml.add_eos_token", after);
    const int own = tokenizer_byte_level(v->t) ? 11 : 2;
    if (eos < 0 && own < v->n)
        log_warn("%s: no end token is named: llama.cpp takes id %d for it", v->path, own);
    rc = 0;
out:
    json_decref(config);
    ids_release(&out);
    return rc;
}

int gguf_vocab_add(struct gguf *g, const struct hf *h, const struct model_config *cfg,
                   const char *folder, struct err *e) {
    struct vocab v = {.hf = h, .t = h->tokenizer, .cfg = cfg, .n = cfg->vocab_size};
    int rc = -1;
    if (!v.t) {
        gguf_set_text(g, "general.name", folder);
        gguf_set_text(g, "tokenizer.ggml.model", "none");
        return 0;
    }
    v.path = path_join(h->dir, "tokenizer.json");
    v.text = xcalloc((size_t)v.n, sizeof *v.text);
    v.made = xcalloc((size_t)v.n, sizeof *v.made);
    v.type = xcalloc((size_t)v.n, sizeof *v.type);
    if (!(v.file = jsonfile_read(v.path, e)))
        goto out;
    if (strcmp(tokenizer_model_type(v.t), "BPE") != 0) {
        refuse(&v, e, "model.type", "is given BPE models alone");
        goto out;
    }
    name_tokens(&v);
    add_name(&v, g, folder);
    if (tokenizer_byte_level(v.t) ? add_byte_level(&v, g, e) != 0 || add_merges(&v, g, e) != 0
                                  : add_spm(&v, g, e) != 0)
        goto out;
    gguf_set_texts(g, "tokenizer.ggml.tokens", v.text, (size_t)v.n);
    gguf_set_i32s(g, "tokenizer.ggml.token_type", v.type, (size_t)v.n);
    if (add_specials(&v, g, e) != 0)
        goto out;
    if (h->chat_jinja)
        gguf_set_text(g, "tokenizer.chat_template", h->chat_jinja);
    rc = 0;
out:
    vocab_release(&v);
    return rc;
}

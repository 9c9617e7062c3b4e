/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_config_rope.c — the rotary embedding in config.json, in both generations of keys.
 *
 * The first has rope_theta, rope_scaling (a dict or null) and partial_rotary_factor side by side;
 * the second has all of them in rope_parameters. What is in a dict wins over the top level, and the
 * class's default comes last. A reader of one generation takes the other's file for a model with
 * the base 10000 and no scaling, which computes fluent nonsense. Which keys a type needs is said by
 * its row of rope_type_table; keys that transformers does not look at for the type are ignored with
 * a warning, those that it computes and Keel does not are refused.
 */
#include <math.h>
#include <string.h>

#include "ckpt/hf_config_impl.h"

static const char *const dicts[] = {"rope_parameters", "rope_scaling"};     // the first one wins

enum rope_value { NUMBER, COUNT, LIST };
#define AT(field) offsetof(struct rope_config, field)
static const struct rope_key {
    const char *key;
    unsigned bit;                           /* ROPE_... */
    enum rope_value type;
    size_t offset, count;                   /* in struct rope_config; count: of a list's entries */
    double def;                             /* 0: none */
} rope_keys[] = {
    {"factor", ROPE_FACTOR, NUMBER, AT(factor), 0, 0},
    {"low_freq_factor", ROPE_LOW_HIGH, NUMBER, AT(low_freq_factor), 0, 0},
    {"high_freq_factor", ROPE_LOW_HIGH, NUMBER, AT(high_freq_factor), 0, 0},
    {"beta_fast", ROPE_BETA, NUMBER, AT(beta_fast), 0, 32},
    {"beta_slow", ROPE_BETA, NUMBER, AT(beta_slow), 0, 1},
    {"attention_factor", ROPE_ATTENTION, NUMBER, AT(attention_factor), 0, 0},
    {"original_max_position_embeddings", ROPE_ORIGINAL, COUNT,
     AT(original_max_position_embeddings), 0, 0},
    {"short_factor", ROPE_LISTS, LIST, AT(short_factor), AT(nshort), 0},
    {"long_factor", ROPE_LISTS, LIST, AT(long_factor), AT(nlong), 0},
};

/* Keys of a dict that are not parameters of a type. */
static const char *const plain_keys[] = {"rope_type", "type", "rope_theta",
                                         "partial_rotary_factor"};
/* What transformers computes with and Keel does not: only the neutral value may stand. */
static const struct {
    const char *key;
    bool neutral_true;                      /* else null alone */
} refused_keys[] = {
    {"mscale", false}, {"mscale_all_dim", false}, {"truncate", true}, {"mrope_section", false},
    {"mrope_interleaved", false}, {"llama_4_scaling_beta", false},
};

static void *field(struct rope_config *c, size_t offset) {
    return (char *)c + offset;
}

/* ---- the dicts ---- */

static const json_t *given(const json_t *v) {           // null counts as absent
    return json_is_null(v) ? NULL : v;
}

/* A key of the dicts; *name, if found: "rope_scaling.factor", else in the dict that is there. */
static const json_t *dict_get(const struct reading *r, const char *key, char *name, size_t n) {
    const json_t *found = NULL;
    name[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(dicts) && !found; i++) {
        const json_t *dict = given(json_object_get(r->root, dicts[i]));
        found = given(json_object_get(dict, key));
        if (found || (dict && !name[0]))
            snprintf(name, n, "%s.%s", dicts[i], key);
    }
    return found;
}

static int check_dict(const struct reading *r, size_t i) {
    const json_t *dict = given(json_object_get(r->root, dicts[i])), *v;
    const char *key;
    if (!dict)
        return 0;
    if (!json_is_object(dict))
        return cfg_bad(r, dicts[i], "an object or null", dict);
    if (!r->arch->rope)
        return jsonfile_bad(r->e, r->path, r->text, dicts[i], "a %s model has no rotary embedding,"
                            " expected null", r->arch->model_type);
    json_object_foreach((json_t *)dict, key, v) {
        const json_t *other = given(json_object_get(json_object_get(r->root, dicts[!i]), key));
        if (json_is_object(v))
            return jsonfile_bad(r->e, r->path, r->text, dicts[i], "one set of parameters a layer"
                                " type (\"%.40s\") is not supported, expected one set for all",
                                key);
        if (i == 1 && other && given(v) && !json_equal((json_t *)other, v))
            return jsonfile_bad(r->e, r->path, r->text, dicts[i], "\"%.40s\" differs from that of"
                                " %s", key, dicts[!i]);
    }
    return 0;
}

/* Keys that no row speaks of. */
static int check_keys(const struct reading *r, const char *in, const struct rope_type *type) {
    const json_t *dict = given(json_object_get(r->root, in)), *v;
    const char *key;
    json_object_foreach((json_t *)dict, key, v) {
        char name[96];
        bool known = !given(v);
        snprintf(name, sizeof name, "%s.%.60s", in, key);
        for (size_t i = 0; i < ARRAY_LEN(plain_keys); i++)
            known |= strcmp(key, plain_keys[i]) == 0;
        for (size_t i = 0; i < ARRAY_LEN(rope_keys); i++)
            known |= strcmp(key, rope_keys[i].key) == 0
                  && (type->needs | type->takes) & rope_keys[i].bit;
        for (size_t i = 0; i < ARRAY_LEN(refused_keys) && !known; i++) {
            if (strcmp(key, refused_keys[i].key) != 0)
                continue;
            known = refused_keys[i].neutral_true && json_is_true(v);
            if (!known)
                return cfg_bad(r, name, refused_keys[i].neutral_true
                                        ? "true (others are not supported)"
                                        : "null (it is not supported)", v);
        }
        if (!known)
            log_warn("%s: %s is not used by type \"%s\"", r->path, name, type->name);
    }
    return 0;
}

/* ---- values ---- */

static int read_number(const struct reading *r, const char *key, const json_t *v, double *out) {
    *out = json_number_value(v);
    return json_is_number(v) && *out > 0 ? 0 : cfg_bad(r, key, "a number above 0", v);
}

static int read_list(const struct reading *r, const char *key, const json_t *v, double *out,
                     int *n, int half) {
    char expected[96];
    const size_t count = json_array_size(v);
    bool fits = json_is_array(v) && count == (size_t)half && count <= ROPE_MAX_FACTORS;
    for (size_t i = 0; i < count && fits; i++) {
        out[i] = json_number_value(json_array_get(v, i));
        fits = json_is_number(json_array_get(v, i)) && out[i] > 0;
    }
    *n = fits ? (int)count : 0;
    snprintf(expected, sizeof expected, "a list of %d numbers above 0, half the rotary columns",
             MIN(half, ROPE_MAX_FACTORS));
    return fits ? 0 : cfg_bad(r, key, expected, v);
}

/* The original length may stand at the top level, where the classes with that key have it. */
static const json_t *find_value(const struct reading *r, const struct rope_key *k, char *name,
                                size_t n) {
    const json_t *top = given(json_object_get(r->root, k->key));
    if (k->bit == ROPE_ORIGINAL && top) {
        snprintf(name, n, "%s", k->key);
        return top;
    }
    return dict_get(r, k->key, name, n);
}

static int read_value(const struct reading *r, const struct rope_key *k, struct rope_config *c,
                      int half) {
    char name[96];
    const json_t *v = find_value(r, k, name, sizeof name);
    const double def = k->bit == ROPE_ORIGINAL ? cfg_default(r->arch, k->key, 0) : k->def;
    if (!v && (def > 0 || !(c->type->needs & k->bit))) {
        if (k->type == COUNT)
            *(int *)field(c, k->offset) = (int)def;
        else if (k->type == NUMBER)
            *(double *)field(c, k->offset) = def;
        return 0;
    }
    if (!name[0])
        snprintf(name, sizeof name, "%s", k->key);
    if (k->type == LIST)
        return read_list(r, name, v, field(c, k->offset), field(c, k->count), half);
    if (k->type == NUMBER)
        return read_number(r, name, v, field(c, k->offset));
    const json_int_t x = json_integer_value(v);
    if (!json_is_integer(v) || x < 1 || x > 1 << 30)
        return cfg_bad(r, name, "an integer in [1, 1073741824]", v);
    *(int *)field(c, k->offset) = (int)x;
    return 0;
}

static int read_type(const struct reading *r, struct rope_config *c) {
    char name[96], old[96], factor[96], expected[160] = "one of";
    const json_t *v = dict_get(r, "rope_type", name, sizeof name);
    if (!v && (v = dict_get(r, "type", old, sizeof old)))
        memcpy(name, old, sizeof name);
    const char *text = json_string_value(v);
    if (!v && dict_get(r, "factor", factor, sizeof factor))
        return cfg_bad(r, name, "a type beside factor", NULL);
    /* Phi-3's own code had "su" and "yarn" for what is "longrope" in transformers. */
    if (text && strcmp(text, "yarn") == 0 && strcmp(r->arch->model_type, "phi3") == 0)
        text = "longrope";
    c->type = v ? text ? rope_type_find(text) : NULL : rope_type_table;
    for (const struct rope_type *t = rope_type_table; t->name; t++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), " %s", t->name);
    return c->type ? 0 : cfg_bad(r, name, expected, v);
}

/* rope_theta and partial_rotary_factor: in a dict, else at the top level. */
static int read_plain(const struct reading *r, const char *key, double def, double *out) {
    char name[96];
    const json_t *v = dict_get(r, key, name, sizeof name);
    if (!v && (v = given(json_object_get(r->root, key))))
        snprintf(name, sizeof name, "%s", key);
    *out = def;
    return v ? read_number(r, name, v, out) : 0;
}

static int check_rotary(const struct reading *r, const struct model_config *cfg) {
    const struct rope_config *c = &cfg->rope;
    const char *key = "partial_rotary_factor";
    char name[96];
    if (c->partial_rotary_factor != 1 && !cfg_reads(r->arch, key))
        return jsonfile_bad(r->e, r->path, r->text,
                            dict_get(r, key, name, sizeof name) ? name : key, "partial rotary"
                            " embeddings are not supported in a %s model, expected 1, got %g",
                            r->arch->model_type, c->partial_rotary_factor);
    const int dim = rope_dim(c, cfg->head_dim);
    if (c->partial_rotary_factor == 1)
        key = "head_dim";
    if (c->partial_rotary_factor > 1 || dim < 2 || dim % 2)
        return jsonfile_bad(r->e, r->path, r->text, key, "expected an even number of rotary columns"
                            " up to head_dim, got %g of %d", c->partial_rotary_factor,
                            cfg->head_dim);
    return 0;
}

int cfg_read_rope(const struct reading *r, struct model_config *cfg) {
    struct rope_config *c = &cfg->rope;
    for (size_t i = 0; i < ARRAY_LEN(dicts); i++)
        if (check_dict(r, i) != 0)
            return -1;
    if (!r->arch->rope)
        return 0;
    if (read_type(r, c) != 0
        || read_plain(r, "rope_theta", 10000, &c->theta) != 0
        || read_plain(r, "partial_rotary_factor", 1, &c->partial_rotary_factor) != 0
        || check_rotary(r, cfg) != 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(rope_keys); i++)
        if ((c->type->needs | c->type->takes) & rope_keys[i].bit
            && read_value(r, &rope_keys[i], c, rope_dim(c, cfg->head_dim) / 2) != 0)
            return -1;
    char name[96];
    const json_t *high = dict_get(r, "high_freq_factor", name, sizeof name);
    if (c->type->needs & ROPE_LOW_HIGH && !(c->high_freq_factor > c->low_freq_factor))
        return cfg_bad(r, name, "a number above low_freq_factor", high);
    for (size_t i = 0; i < ARRAY_LEN(dicts); i++)
        if (check_keys(r, dicts[i], c->type) != 0)
            return -1;
    return 0;
}

/* ---- out ---- */

static json_t *list_json(const double *v, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_real(v[i]));
    return list;
}

void cfg_write_rope(json_t *root, const struct model_config *cfg, const struct arch *arch) {
    struct rope_config c = cfg->rope;
    const char *original = "original_max_position_embeddings";
    const bool top = cfg_reads(arch, original);
    if (!arch->rope)
        return;
    json_object_set_new(root, "rope_theta", json_real(c.theta));
    if (cfg_reads(arch, "partial_rotary_factor"))
        json_object_set_new(root, "partial_rotary_factor", json_real(c.partial_rotary_factor));
    if (top)
        json_object_set_new(root, original, json_integer(c.original_max_position_embeddings
                                                         ? c.original_max_position_embeddings
                                                         : cfg->max_position_embeddings));
    if (!c.type || c.type == rope_type_table) {
        json_object_set_new(root, "rope_scaling", json_null());
        return;
    }
    json_t *dict = json_object();
    json_object_set_new(dict, "rope_type", json_string(c.type->name));
    for (size_t i = 0; i < ARRAY_LEN(rope_keys); i++) {
        const struct rope_key *k = &rope_keys[i];
        const void *at = field(&c, k->offset);
        if (!((c.type->needs | c.type->takes) & k->bit) || (k->bit == ROPE_ORIGINAL && top))
            continue;
        if (k->type == LIST)
            json_object_set_new(dict, k->key, list_json(at, *(const int *)field(&c, k->count)));
        else if (k->type == NUMBER && *(const double *)at > 0)
            json_object_set_new(dict, k->key, json_real(*(const double *)at));
        else if (k->type == COUNT && *(const int *)at > 0)
            json_object_set_new(dict, k->key, json_integer(*(const int *)at));
    }
    json_object_set_new(root, "rope_scaling", dict);
}

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * config_yaml.h — a YAML file as a flat list of settings, each with its place.
 *
 * Understood: one document that is a mapping of scalars, sequences of scalars and mappings. Nested
 * keys are joined by dots, so that "eval: {top_k: 5}" and "eval.top_k: 5" are the same setting.
 * Anchors, aliases, tags and further documents are refused: a configuration says what it says in
 * one place. Scalars stay text; what they mean is the key's business.
 */
#ifndef KEEL_CONFIG_YAML_H
#define KEEL_CONFIG_YAML_H

#include "model/base.h"

struct yaml_scalar {
    char *text;
    bool quoted;                            /* or a block: a string, whatever it looks like */
    int line, col;                          /* from 1 */
};
struct yaml_setting {
    char *key;                              /* "freeze.units" */
    int line, col;                          /* of the key */
    bool is_list;
    struct yaml_scalar *items;              /* one for a scalar */
    int nitems;
};
struct yaml_settings {
    struct yaml_setting *v;
    int n;
};
/* where: names the text in messages, "file:line:col: ...". An empty text has no settings; an empty
 * mapping is a setting of its key without items. */
int yaml_settings_read(const char *where, const char *text, size_t len, struct yaml_settings *out,
                       struct err *e) MUST_CHECK;
void yaml_settings_release(struct yaml_settings *s);

/* TEXT as a YAML scalar that reads back as the same string. */
void yaml_add_string(struct str *b, const char *text);
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * hf_config_impl.h — config.json between its reader, its rotary part and its writer.
 */
#ifndef KEEL_HF_CONFIG_IMPL_H
#define KEEL_HF_CONFIG_IMPL_H

#include "ckpt/hf_config.h"
#include "ckpt/jsonfile.h"

struct reading {
    const char *path, *text;                /* for messages; text NULL: without places */
    const json_t *root;
    const struct arch *arch;
    struct err *e;
};

enum cfg_type { CFG_INT, CFG_REAL, CFG_BOOL };
struct cfg_key {
    const char *key;                        /* the common name */
    enum cfg_type type;
    bool own;                               /* of the classes only whose arch->reads has it */
    size_t offset;                          /* in struct model_config */
    double min, max;
    double def;                             /* LlamaConfig's; KEY_NULL: null */
    double none;                            /* what null reads as; NOT_NULL: it is refused */
};
#define NOT_NULL (-2e300)
extern const struct cfg_key cfg_keys[];
extern const int cfg_key_count;

/* "path:line:col: key: expected ..., got ..."; -1. */
int cfg_bad(const struct reading *r, const char *key, const char *expected, const json_t *got);
/* A key by its common name, in whichever spelling the file has; *key: that spelling, or the class's
 * own. *v NULL: absent. -1 when both spellings are there and differ. */
int cfg_get(const struct reading *r, const char *common, const char **key, const json_t **v)
    MUST_CHECK;
const char *cfg_own_name(const struct arch *arch, const char *common);
/* Whether the class itself computes the key. */
bool cfg_reads(const struct arch *arch, const char *key);
/* The class's default, or `common`. */
double cfg_default(const struct arch *arch, const char *key, double common);

static inline bool cfg_windowed(const struct model_config *cfg, int layer) {
    return cfg->windowed[layer / 8] >> layer % 8 & 1;
}

/* rope_theta, rope_scaling, rope_parameters, partial_rotary_factor into cfg->rope; the sizes in cfg
 * are read. */
int cfg_read_rope(const struct reading *r, struct model_config *cfg) MUST_CHECK;
void cfg_write_rope(json_t *root, const struct model_config *cfg, const struct arch *arch);
#endif

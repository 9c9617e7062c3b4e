/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * attrib_report.h — the results of one attribution as blocks of a report.
 */
#ifndef KEEL_ATTRIB_REPORT_H
#define KEEL_ATTRIB_REPORT_H

#include "attrib/curve.h"
#include "attrib/report.h"
#include "attrib/search.h"

/* Another row of score_table against the one that classified. */
struct score_agreement {
    const char *name;
    double spearman_s, spearman_u;          /* rank correlation of I_S, of I_U, over all units */
    double overlap[UNIT_CLASS_COUNT];       /* share of the class that the other score names too */
};
struct attrib_result {
    const struct units *units;              /* with its metadata */
    bool searched;
    struct search_result search;            /* no steps when the shares were given */
    bool held_out;                          /* damage is measured on sets that scored nothing */
    struct ablation_effect dense;
    struct class_removal removal[UNIT_CLASS_COUNT];
    char doubt[256];                        /* what speaks against the classes; "": nothing */
    struct curve_point *curve;
    int ncurve, draws;
    struct score_agreement *agreement;      /* [nagreement] */
    int nagreement;
};
/* What was done, sizes of the classes, damage of removing them, removal curve, search. full: with
 * charts and the range of the random draws, which a terminal does without. */
void attrib_report_summary(struct report *r, const struct attrib_result *a, bool full);
/* Counts by layer, score quantiles, agreement of scores, top units, maps of layers x units. */
void attrib_report_details(struct report *r, const struct attrib_result *a);
#endif

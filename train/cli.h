/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * cli.h — option tables for the verbs: parsing and --help from the same rows. Used by cmd_*.c only.
 */
#ifndef KEEL_CLI_H
#define KEEL_CLI_H

#include "train/config.h"

enum opt_type { OPT_FLAG, OPT_STRING, OPT_INT, OPT_FLOAT };
struct opt {
    const char *name;                       /* "json": --json */
    char letter;                            /* 'p': -p; 0: none */
    enum opt_type type;
    void *target;                           /* bool *, const char **, int64_t *, double * */
    const char *arg, *help;                 /* arg: "N", shown in help */
    double min, max;                        /* for numbers, inclusive */
};
struct usage {
    const char *verb;                       /* "inspect show" */
    const char *args;                       /* "CONFIG.yaml [key=value ...]" */
    const char *summary;                    /* one line */
    const char *details;                    /* more lines, examples; NULL: none */
    int min_args, max_args;                 /* positional; -1: no limit */
};
/* Parses argv[1..]; every verb also has -h/--help, -v, -q, --threads N. Positionals are compacted
 * into args (caller's array of argc entries). Returns their number; -1: help was printed (exit 0);
 * -2: a message was printed (exit 2). */
int cli_parse(const struct usage *u, const struct opt *opts, int nopts, int argc, char **argv,
              const char **args);
/* A verb that reads a configuration: parses argv (the file, then key=value overrides), loads it for
 * `verb`, sets its threads and calls run, whose ctx is where the options' values are. Returns the
 * exit status: run's, which fills *e for every status but EXIT_OK, or EXIT_USAGE. */
int cli_run_config(enum verb verb, const struct usage *u, const struct opt *opts, int nopts,
                   int argc, char **argv,
                   int (*run)(const struct config *cfg, const void *ctx, struct err *e),
                   const void *ctx);
void cli_help(const struct usage *u, const struct opt *opts, int nopts, FILE *f);

/* ---- the verbs: one row each, from one list (train/main.c prints and dispatches) ---- */
#define COMMANDS(X)                                                                             \
    X("Train", train, "fine-tune (sft, dpo), optionally with frozen units")                     \
    X("Train", compare, "same seeds, several freezing arms, one table with intervals")          \
    X("Train", init, "a fresh model and tokenizer, for training from scratch")                  \
    X("Measure", attrib, "score units, classify SCU/UCU/CU/RU, write units and a report")       \
    X("Measure", eval, "refusal, over-refusal, losses, task accuracy")                          \
    X("Look", inspect, "checkpoint files: show, tensor, diff, units, verify, convert")          \
    X("Look", generate, "text from a checkpoint")                                               \
    X("Look", tokenize, "text or JSONL on stdin to token ids, and back")                        \
    X("Look", preview, "the tokens that will be trained on, with their loss mask")              \
    X("Look", config, "every key with type, default, range and meaning")                        \
    X("Look", bench, "speed against the machine's limit, one JSON line a case")
#define X(group, name, summary) int cmd_##name(int argc, char **argv);
COMMANDS(X)
#undef X
#endif

/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * main.c — the verbs: list, dispatch, exit status.
 *
 * A verb is one row of COMMANDS (cli.h) and one cmd_*.c; nothing here knows what it does. The exit
 * status is the verb's, except that data which could not be written is a failure: a full disk or a
 * closed pipe must not look like an empty result.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "model/gemm.h"
#include "model/rng.h"
#include "train/cli.h"

static const struct command {
    const char *group, *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
#define X(group, name, summary) {group, #name, summary, cmd_##name},
    COMMANDS(X)
#undef X
};

static void print_usage(FILE *f) {
    fprintf(f, "usage: keel VERB [arguments] [options]\n"
               "\n"
               "Finds the units of a language model that carry its safety, freezes them,\n"
               "fine-tunes the rest, and proves and measures what that did.\n");
    const char *group = "";
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(group, commands[i].group) != 0)
            fprintf(f, "\n%s\n", commands[i].group);
        group = commands[i].group;
        fprintf(f, "  %-10s  %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(f, "\nkeel VERB --help says more; keel --version prints version and kernels.\n"
               "Exit status: 0 done, 1 failed, 2 bad usage or input, 3 a check did not hold.\n");
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown_verb(const char *name) {
    const char *names[ARRAY_LEN(commands)];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i].name;
    const char *near = nearest_name(name, names, (int)ARRAY_LEN(commands));
    if (near)
        log_error("unknown verb \"%s\" (hint: did you mean keel %s?)", name, near);
    else
        log_error("unknown verb \"%s\"; keel --help lists them", name);
    return EXIT_USAGE;
}

/* keel help [VERB ...]: the verb's own --help, "keel help inspect diff" included. */
static int help(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stdout);
        return EXIT_OK;
    }
    const struct command *c = find_command(argv[1]);
    if (!c)
        return unknown_verb(argv[1]);
    enum { MOST = 8 };
    char *args[MOST + 1], flag[] = "--help";
    int n = 0;
    for (int i = 1; i < argc && n < MOST - 1; i++)
        args[n++] = argv[i];
    args[n++] = flag;
    args[n] = NULL;
    return c->run(n, args);
}

static int dispatch(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(verb, "--version") == 0) {
        printf("keel %s (%s)\n", KEEL_VERSION, gemm_backend());
        return EXIT_OK;
    }
    if (!*verb) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const struct command *c = find_command(verb);
    return c ? c->run(argc - 1, argv + 1) : unknown_verb(verb);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)          // before any verb parses it: the kernels are first
        if (strcmp(argv[i], "-v") == 0 || strcmp(argv[i], "--verbose") == 0)
            log_threshold = LOG_VERBOSE;
    gemm_prepare(argv);
    log_threshold = LOG_INFO;
    signal(SIGXFSZ, SIG_IGN);               // beyond ulimit -f: a write that fails, with its line
    rng_init_gsl();
    gemm_threads(0);
    int status = dispatch(argc, argv);
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_OK) {
        log_error("standard output: %s", errno ? strerror(errno) : "it cannot be written to");
        status = EXIT_FAILED;
    }
    return status;
}

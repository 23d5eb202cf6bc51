// rocmforge: finds the command and hands it the rest of the line. A new command is one row here and one file beside.
#include "cli/cli.h"

#include <argp.h>
#include <string.h>

typedef struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} command;

static const command commands[] = {
    {"generate", "Continue a prompt", cmd_generate},
    {"chat", "Talk with a model", cmd_chat},
    {"serve", "Serve a model over HTTP", cmd_serve},
    {"status", "Show how a running server is, or a request of it", cmd_status},
    {"cancel", "Cancel a request of a running server", cmd_cancel},
    {"batch", "Answer a file of prompts, many at once", cmd_batch},
    {"inspect", "Show what a model file holds", cmd_inspect},
    {"perplexity", "Measure how well a model predicts a text", cmd_perplexity},
    {"bench", "Measure how fast a model runs on this machine", cmd_bench},
    {"tokenize", "Show the tokens of a text", cmd_tokenize},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands, MAX_NAME = 32 };

static int print_help(FILE *f) {
    fputs("Usage: rocmforge COMMAND [OPTION...]\n\nCommands:\n", f);
    for (size_t i = 0; i < N_COMMANDS; i++) fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].help);
    fputs("\n'rocmforge help COMMAND' explains a command; 'rocmforge --version' prints the version.\n"
          "Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.\n",
          f);
    return CLI_OK;
}

static const command *command_find(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

// Edits (insert, delete, replace) that turn a into b (Wagner and Fischer 1974); both shorter than MAX_NAME.
static size_t edit_distance(const char *a, const char *b) {
    size_t row[MAX_NAME + 1], n = strlen(b);
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t replace = diagonal + (*a != b[j - 1]), edit = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = replace < edit ? replace : edit;
        }
    }
    return row[n];
}

static int fail_unknown(const char *name) {
    const char *nearest = NULL;
    size_t best = 3; // more edits than that is no misspelling
    for (size_t i = 0; i < N_COMMANDS && strlen(name) < MAX_NAME; i++) {
        size_t distance = edit_distance(name, commands[i].name);
        if (distance < best) best = distance, nearest = commands[i].name;
    }
    err e = {0};
    if (nearest)
        fail(&e, ERR_USAGE, "unknown command '%.80s'; did you mean '%s'?", name, nearest);
    else
        fail(&e, ERR_USAGE, "unknown command '%.80s'; 'rocmforge --help' lists the commands", name);
    return cli_fail(e.code, e.text);
}

static int command_run(const command *c, int argc, char **argv) {
    char name[sizeof "rocmforge " + MAX_NAME];
    snprintf(name, sizeof name, "rocmforge %s", c->name);
    argv[0] = name; // argp shows it in usage and errors
    int code = c->run(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK)
        return cli_fail(ERR_IO, "cannot write to standard output");
    return code;
}

static int help_run(int argc, char **argv) {
    if (argc < 3) return print_help(stdout);
    const command *c = command_find(argv[2]);
    return c ? command_run(c, 2, (char *[]){argv[0], "--help", NULL}) : fail_unknown(argv[2]);
}

int main(int argc, char **argv) {
    argp_err_exit_status = CLI_USAGE;
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return print_help(stdout);
    if (strcmp(name, "help") == 0) return help_run(argc, argv);
    if (strcmp(name, "--version") == 0) return puts("rocmforge " RF_VERSION) < 0 ? CLI_FAILURE : CLI_OK;
    const command *c = command_find(name);
    return c ? command_run(c, argc - 1, argv + 1) : fail_unknown(name);
}

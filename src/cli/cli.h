// CLI: what every command shares. One file per command; its function gets argv[0] = "rocmforge COMMAND" for argp.
//
// A command prints its result to stdout and everything else to stderr, and returns one of the exit codes below.
// Text that comes from a file or a model reaches a terminal only through cli_print_text.
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <rocmforge.h>
#include <stdint.h>
#include <stdio.h>

enum { // exit codes, a documented interface
    CLI_OK = 0,
    CLI_FAILURE = 1,       // model, file or engine: one sentence on stderr says what
    CLI_USAGE = 2,         // the command line is wrong
    CLI_INTERRUPTED = 130, // ended by Ctrl+C (128 + SIGINT)
};

// The commands, one per file (cancel is beside status); their rows are in main.c.
int cmd_batch(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);

// Prints "rocmforge: sentence" to stderr and returns the exit code for it. Takes an err's or an rf_error's two fields.
int cli_fail(int code, const char *sentence);

// Writes any bytes so that they cannot steer a terminal: control characters, invisible direction marks, malformed UTF-8
// and the backslash are escaped as in C. At most max_chars characters, then "..." (SIZE_MAX: all).
void cli_print_text(FILE *f, const char *data, size_t n_bytes, size_t max_chars);

// Writes a model's text: as it is into a file or a pipe; onto a terminal, control characters other than line end and
// tab, and malformed UTF-8, are escaped as in C. False if it cannot be written.
bool cli_show_text(FILE *f, const char *data, size_t n_bytes);

// One line: tokens and tokens per second of the prompt and of the answer.
void cli_print_usage(FILE *f, const rf_usage *usage);

// A JSON string of any bytes: each malformed UTF-8 sequence (maximal subpart) becomes U+FFFD. Never NULL.
json_t *cli_json_text(const char *data, size_t n_bytes);

// Engine options: the command-line options that say which model is opened and how, the same for every command that
// answers. A command puts ENGINE_ARGP among its argp's children and gives an engine_options as that child's input.
#pragma once

#include <rocmforge.h>

#include <argp.h>

typedef struct engine_options {
    const char *model, *chat_template; // files; chat_template NULL: the model's own
    bool optional;                     // set by the command: that there is no model is its own affair
    bool given;                        // any of these options was
    rf_engine_options options;
} engine_options;

extern const struct argp ENGINE_ARGP;

// Opens the model behind a progress bar. NULL after having said why; *status is then the exit code.
rf_engine *engine_options_open(engine_options *o, int *status);

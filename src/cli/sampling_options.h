// Sampling options: the command-line options that become fields of rf_params, the same for every command that answers.
// A command puts SAMPLING_ARGP among its argp's children and gives a sampling_options as that child's input.
#pragma once

#include <rocmforge.h>

#include <argp.h>

enum { MAX_STOPS = 16 };

typedef struct sampling_options {
    rf_params params; // its `stop` points at `stops`: the struct stays where it was initialised
    const char *stops[MAX_STOPS];
} sampling_options;

extern const struct argp SAMPLING_ARGP;

void sampling_options_init(sampling_options *s, uint32_t max_tokens); // the defaults, and that of --max-tokens

// Text input: the text a command works on, from an argument, a file or standard input, whole and in memory.
#pragma once

#include "base/err.h"

typedef struct text_input {
    const char *text, *file; // from the command line; both NULL: standard input
    char *bytes;             // heap, NUL-terminated after n_bytes
    size_t n_bytes;
} text_input;

bool text_input_read(text_input *t, err *e); // at most 256 MiB
void text_input_free(text_input *t);

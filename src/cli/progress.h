// Progress: a one-line bar on stderr while something takes time; silent when stderr is not a terminal or when the work
// is over within a fifth of a second.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    const char *what;
    int64_t start_us;
    int shown; // per cent last drawn; -1: nothing drawn yet
    bool tty;
} progress;

progress progress_start(const char *what);
void progress_show(void *progress_, double fraction); // fits model_options.progress and rf_engine_options.progress
void progress_end(progress *p);                       // erases the bar

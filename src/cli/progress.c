// Implements progress.h.
#include "cli/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

enum { QUIET_US = 200000, WIDTH = 40 };

progress progress_start(const char *what) {
    return (progress){.what = what, .start_us = clock_machine_us(), .shown = -1, .tty = isatty(STDERR_FILENO)};
}

void progress_show(void *progress_, double fraction) {
    progress *p = progress_;
    int percent = (int)(fraction * 100);
    if (!p->tty || percent == p->shown || clock_machine_us() - p->start_us < QUIET_US) return;
    p->shown = percent;
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++) bar[i] = i * 100 < percent * WIDTH ? '#' : '.';
    bar[WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3d%%", p->what, bar, percent);
}

void progress_end(progress *p) {
    if (p->shown >= 0) fprintf(stderr, "\r\033[K");
}

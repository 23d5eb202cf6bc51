// Interrupt: Ctrl+C (and SIGTERM) as a polite request. A watcher thread waits for the signals; the first one cancels
// the current request (or ends the program with 130 when there is none), the second ends the program with 130 at once.
// The signals must be blocked before any other thread starts: interrupt_start does it and comes first in a command.
#pragma once

#include <rocmforge.h>

#include <pthread.h>
#include <stdbool.h>

typedef struct interrupt {
    pthread_mutex_t lock; // guards request and seen
    rf_request *request;  // borrowed; NULL when there is nothing to cancel
    bool seen;
} interrupt;

interrupt *interrupt_start(void); // lives until the program ends: the watcher thread looks at it until then
void interrupt_set_request(interrupt *i, rf_request *request); // NULL before the request is released
bool interrupt_seen(interrupt *i);

// Interrupt: Ctrl+C (and SIGTERM) as a polite request. A watcher thread waits for the signals.
//
// At first, a signal cancels the current request, or ends the program with 130 when there is none; a second one ends
// the program at once. A command with work of its own to stop hangs up a bell: then a signal cancels the current
// request, if any, rings the bell, and is kept until taken; only a signal that finds neither a request nor an ear (the
// one before was not taken, and nobody is listening) ends the program.
// The signals must be blocked before any other thread starts: interrupt_start does it and comes first in a command.
#pragma once

#include <rocmforge.h>

#include <pthread.h>

typedef struct interrupt {
    pthread_mutex_t lock; // guards the rest
    rf_request *request;  // borrowed; NULL when there is nothing to cancel
    int bell;             // an eventfd, borrowed; -1: none
    bool listening;       // the bell will be heard: any number of signals may come until then
    int seen;             // SIGINT or SIGTERM; 0: none
} interrupt;

interrupt *interrupt_start(void); // lives until the program ends: the watcher thread looks at it until then
void interrupt_set_request(interrupt *i, rf_request *request); // NULL before the request is released
void interrupt_set_bell(interrupt *i, int eventfd);            // open until the program ends
void interrupt_set_listening(interrupt *i, bool listening);
int interrupt_take(
    interrupt *i); // the signal since the last call, SIGTERM before SIGINT, or 0; the bell is silent then

// Limits: what this machine could do at most, measured with the threads that the model runs on: the roofline that bench
// shows speeds beside. One thread, between steps.
#pragma once

#include "base/threads.h"
#include "kernel/kernel.h"

typedef struct limits {
    double read_bytes_per_s; // from memory: a buffer larger than most caches, by all threads
    double int8_ops_per_s;   // by all threads; a multiply-add is two
} limits;

// Takes about half a second. ERR_MEMORY if there is no room for the buffer (512 MB, or a quarter of the free memory).
bool limits_measure(pool *threads, isa which, limits *out, err *e);

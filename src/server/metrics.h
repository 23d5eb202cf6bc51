// Metrics: counters of the server's own, beside the engine's, shown in Prometheus' text format.
//
// The loop's thread. Format: Prometheus "exposition formats", text version 0.0.4.
#pragma once

#include <rocmforge.h>

typedef struct metrics {
    rf_histogram end_to_end; // of generations, from the request's arrival to its last byte
    rf_histogram delivery;   // of streamed pieces, from the engine to the client's socket
    int64_t recent_us;       // how long generations took of late: a mean that forgets
    uint64_t n_exchanges[6]; // by the first digit of their status
    uint64_t n_busy;         // answered 429
    uint64_t n_gone;         // clients that left before their reply had ended
} metrics;

void metrics_add_duration(rf_histogram *h, int64_t us);

// Stats: what an engine has done, counted by its thread and read by any other.
//
// The engine thread changes `now` freely and publishes all of it at once; a reader gets a whole publication or tries
// again (a version that is odd while words are being stored). Nobody waits for a lock, and the engine never for
// anybody.
#pragma once

#include "rocmforge.h"

#include <stdatomic.h>

enum { STATS_WORDS = sizeof(rf_stats) / sizeof(uint64_t) };

typedef struct stats {
    rf_stats now; // the engine thread's
    atomic_uint version;
    _Atomic uint64_t words[STATS_WORDS];
} stats;

void histogram_add(rf_histogram *h, int64_t us);
void histogram_add_batch(rf_batch_histogram *h, uint32_t n_seqs);
void stats_publish(stats *s);                   // engine thread
void stats_read(const stats *s, rf_stats *out); // any thread

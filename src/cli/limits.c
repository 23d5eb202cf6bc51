// Implements limits.h. A limit is the best of several attempts, as a neighbour can only take away.
#include "cli/limits.h"

#include "base/clock.h"
#include "kernel/peak.h"

#include <string.h>
#include <unistd.h>

enum { ATTEMPTS = 5, PEAK_US = 30000, PEAK_ROUNDS = 20000, LINES_AHEAD = 16, LINE_BYTES = 64 };

typedef uint64_t quarter __attribute__((vector_size(16))); // of a line

typedef struct job {
    isa isa;
    uint8_t *buffer;
    size_t share_bytes; // of each thread, a multiple of a line
    atomic_uint_fast64_t total;
} job;

static void fill(void *job_, int worker) {
    job *j = job_;
    memset(j->buffer + (size_t)worker * j->share_bytes, worker + 1, j->share_bytes);
}

// Lines are asked for ahead, as kernels do.
static void read_all(void *job_, int worker) {
    job *j = job_;
    const quarter *at = (const quarter *)(j->buffer + (size_t)worker * j->share_bytes),
                  *end = at + j->share_bytes / sizeof *at;
    quarter a = {0}, b = {0};
    for (; at < end; at += 4) {
        __builtin_prefetch(at + 4 * LINES_AHEAD);
        a ^= at[0] ^ at[1], b ^= at[2] ^ at[3];
    }
    a ^= b;
    j->total ^= a[0] ^ a[1]; // so that nothing is left out
}

static void multiply(void *job_, int worker) {
    (void)worker;
    job *j = job_;
    int64_t start_us = clock_machine_us(), us = 0;
    uint64_t n_ops = 0;
    while (us < PEAK_US) {
        n_ops += peak_int8(j->isa, PEAK_ROUNDS);
        us = clock_machine_us() - start_us;
    }
    j->total += n_ops * 1000000 / (uint64_t)us; // per second
}

static double best_read(pool *threads, job *j) {
    double best = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        int64_t start_us = clock_machine_us();
        pool_run(threads, read_all, j);
        double bytes = (double)j->share_bytes * pool_size(threads);
        double speed = bytes * 1e6 / (double)(clock_machine_us() - start_us);
        if (speed > best) best = speed;
    }
    return best;
}

static double best_multiply(pool *threads, job *j) {
    double best = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        j->total = 0;
        pool_run(threads, multiply, j);
        if ((double)j->total > best) best = (double)j->total;
    }
    return best;
}

bool limits_measure(pool *threads, isa which, limits *out, err *e) {
    size_t free_bytes = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE), n_bytes = 512u << 20;
    if (n_bytes > free_bytes / 4) n_bytes = free_bytes / 4;
    job j = {.isa = which, .share_bytes = n_bytes / (size_t)pool_size(threads) / LINE_BYTES * LINE_BYTES};
    n_bytes = j.share_bytes * (size_t)pool_size(threads);
    j.buffer = large_alloc(n_bytes, "the buffer that read bandwidth is measured with", e);
    if (!j.buffer) return false;
    pool_run(threads, fill, &j);
    out->read_bytes_per_s = best_read(threads, &j);
    large_free(j.buffer, n_bytes);
    out->int8_ops_per_s = best_multiply(threads, &j);
    return true;
}

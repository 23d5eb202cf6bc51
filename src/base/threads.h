// Threads: a pool that runs one body in every worker (SPMD), and counters by which the workers share out an op.
//
// The caller of pool_run is worker 0; the others sleep on a futex when there is nothing to do (after a short bounded
// spin), so an idle pool makes no wake-ups. Every worker runs with FTZ and DAZ set (threads_set_float_mode).
// A step is a sequence of ops; each op is n chunks. Workers claim chunks by an atomic counter and wait until all are
// done, so a descheduled worker is waited for only if it holds a chunk. Which worker runs a chunk never changes a bit.
#pragma once

#include "base/err.h"

#include <stdatomic.h>
#include <stdint.h>

typedef struct pool pool;

// Usable processors: affinity mask and cgroup (v1 and v2) CPU quota, rounded up, at least 1.
int threads_default(void);
// Sets flush-to-zero and denormals-are-zero in the calling thread; part of the canonical arithmetic.
void threads_set_float_mode(void);

// n_threads 0 means threads_default(). The caller's float mode is set as well. NULL and ERR_IO if threads cannot start.
pool *pool_new(int n_threads, err *e);
void pool_free(pool *p); // joins; p may be NULL
int pool_size(const pool *p);

// Runs body(arg, worker) once per worker, worker in [0, pool_size); returns when all have returned.
// One pool_run at a time, always from the same thread.
void pool_run(pool *p, void (*body)(void *arg, int worker), void *arg);

// The counters of one op. Set to zero before the pool_run that uses it (ops_reset); used once.
typedef struct op {
    _Alignas(64) atomic_uint next; // first chunk not yet claimed
    _Alignas(64) atomic_uint done; // chunks finished
} op;

void ops_reset(op *ops, size_t n_ops);

// Claims one chunk of an op of n_chunks; n_chunks when none is left.
static inline uint32_t op_claim(op *o, uint32_t n_chunks) {
    if (atomic_load_explicit(&o->next, memory_order_relaxed) >= n_chunks) return n_chunks;
    uint32_t chunk = atomic_fetch_add_explicit(&o->next, 1, memory_order_relaxed);
    return chunk < n_chunks ? chunk : n_chunks;
}
void op_finish(op *o, uint32_t n_chunks); // one claimed chunk is done; wakes the waiters after the last one
void op_wait(op *o, uint32_t n_chunks);   // until all chunks are done: bounded spin, then futex

// Runs the statement that follows for each chunk this worker claims; then waits until the op is done everywhere.
//   op_for(&ops[i], n, c) matmul(..., c);
//   op_wait(&ops[i], n);
#define op_for(o, n_chunks, c)                                                                                         \
    for (uint32_t c; (c = op_claim((o), (n_chunks))) < (n_chunks); op_finish((o), (n_chunks)))

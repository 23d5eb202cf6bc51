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

enum { OP_MAX_GROUPS = 8 };

// The counters of one op. Set to zero before the pool_run that uses it (ops_reset); used once.
typedef struct op {
    _Alignas(64) atomic_uint next[OP_MAX_GROUPS]; // of each group the first chunk not yet claimed
    _Alignas(64) atomic_uint done;                // chunks finished
} op;

void ops_reset(op *ops, size_t n_ops);

// The chunks of an op, as one worker sees them: n_groups times per_group, those of group g from g * per_group on. It
// takes its home group's first, whose data its caches hold, then those that others have not come to.
typedef struct op_chunks {
    uint32_t per_group, n_groups, home;
} op_chunks;

static inline uint32_t op_total(op_chunks c) { return c.per_group * c.n_groups; }

// Claims one chunk; op_total when none is left.
static inline uint32_t op_claim(op *o, op_chunks all) {
    for (uint32_t i = 0, group = all.home; i < all.n_groups; i++, group = group + 1 < all.n_groups ? group + 1 : 0) {
        if (atomic_load_explicit(&o->next[group], memory_order_relaxed) >= all.per_group) continue;
        uint32_t chunk = atomic_fetch_add_explicit(&o->next[group], 1, memory_order_relaxed);
        if (chunk < all.per_group) return group * all.per_group + chunk;
    }
    return op_total(all);
}
void op_finish(op *o, uint32_t n_chunks); // one claimed chunk is done; wakes the waiters after the last one
void op_wait(op *o, uint32_t n_chunks);   // until all chunks are done: bounded spin, then futex
// Whether all chunks are done, and what they wrote can be read. Who finished the last one sees that they are.
bool op_done(const op *o, uint32_t n_chunks);

// Runs the statement that follows for each chunk this worker claims; then waits until the op is done everywhere.
//   op_for(&ops[i], n, c) matmul(..., c);
//   op_wait(&ops[i], n);
#define op_for(o, n_chunks, c) op_for_groups((o), ((op_chunks){(n_chunks), 1, 0}), c)
// The same for chunks in groups; op_wait wants their op_total.
#define op_for_groups(o, all, c)                                                                                       \
    for (uint32_t c; (c = op_claim((o), (all))) < op_total(all); op_finish((o), op_total(all)))

// Implements threads.h: the pool and the op counters. What the machine grants is in cgroup.c.
//
// Every wait here is "until this word reaches its target". The top bit of a word says that somebody sleeps on it, so
// that whoever brings it to the target makes a system call only when there is a sleeper. The pool owns its threads;
// workers touch only `pool` and what the body reaches. The words order everything else: `generation` publishes body and
// arg, `returned` publishes what the bodies wrote. No wait yields the processor (sched_yield starves under load) and
// none spins without bound.
#include "base/threads.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/futex.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

enum {
    SPIN_US = 30, // about what a sleep and a wake-up cost: a wait costs at most twice the better choice
    PAUSES = 32,  // between two looks at the clock; how long a pause takes differs by processor: 10 ns, 27 ns
    MAX_THREADS = 1024,
    MXCSR_FTZ_DAZ = 0x8040, // Intel SDM vol. 1, 10.2.3: bit 15 flush to zero, bit 6 denormals are zero
};
static const unsigned SLEEPER = 1u << 31;

typedef struct worker {
    pool *pool;
    int index;
    pthread_t thread;
} worker;

struct pool {
    _Alignas(64) atomic_uint generation; // runs started; written by the caller of pool_run only
    _Alignas(64) atomic_uint returned;   // workers that have come back from this run
    void (*body)(void *arg, int worker);
    void *arg;
    bool stop;
    int n_threads;
    int n_started;
    worker workers[]; // [n_threads]; workers[0] is the caller and has no thread
};

// True once the word is at its target; false after SPIN_US, of which a preempted thread spins only its own part.
static bool word_spin(const atomic_uint *word, unsigned target) {
    int64_t now_us = 0, until_us = 0;
    do {
        for (int i = 0; i < PAUSES; i++) {
            if ((atomic_load_explicit(word, memory_order_acquire) & ~SLEEPER) == target) return true;
            _mm_pause();
        }
        now_us = clock_machine_us();
        if (!until_us) until_us = now_us + SPIN_US;
    } while (now_us < until_us);
    return false;
}

static void word_wait(atomic_uint *word, unsigned target) {
    if (word_spin(word, target)) return;
    unsigned seen = atomic_load_explicit(word, memory_order_acquire);
    while ((seen & ~SLEEPER) != target) {
        if (seen & SLEEPER || atomic_compare_exchange_weak(word, &seen, seen | SLEEPER))
            futex_wait(word, seen | SLEEPER, FUTEX_FOREVER);
        seen = atomic_load_explicit(word, memory_order_acquire);
    }
}

static void word_count(atomic_uint *word, unsigned target) {
    unsigned before = atomic_fetch_add_explicit(word, 1, memory_order_acq_rel);
    if (before == ((target - 1) | SLEEPER)) futex_wake_all(word);
}

void ops_reset(op *ops, size_t n_ops) {
    for (size_t i = 0; i < n_ops; i++) {
        for (int g = 0; g < OP_MAX_GROUPS; g++) atomic_store_explicit(&ops[i].next[g], 0, memory_order_relaxed);
        atomic_store_explicit(&ops[i].done, 0, memory_order_relaxed);
    }
}

void op_finish(op *o, uint32_t n_chunks) { word_count(&o->done, n_chunks); }
void op_wait(op *o, uint32_t n_chunks) { word_wait(&o->done, n_chunks); }
bool op_done(const op *o, uint32_t n_chunks) {
    return (atomic_load_explicit(&o->done, memory_order_acquire) & ~SLEEPER) == n_chunks;
}

void threads_set_float_mode(void) { _mm_setcsr(_mm_getcsr() | MXCSR_FTZ_DAZ); }

int threads_default(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int limit = cgroup_cpus();
    if (limit > 0 && limit < n) n = limit;
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

static void generation_next(pool *p) {
    unsigned now = atomic_load_explicit(&p->generation, memory_order_relaxed) & ~SLEEPER;
    if (atomic_exchange(&p->generation, (now + 1) & ~SLEEPER) & SLEEPER) futex_wake_all(&p->generation);
}

static void *worker_main(void *arg) {
    worker *w = arg;
    pool *p = w->pool;
    threads_set_float_mode();
    for (unsigned generation = 1;; generation = (generation + 1) & ~SLEEPER) {
        word_wait(&p->generation, generation);
        if (p->stop) return NULL;
        p->body(p->arg, w->index);
        word_count(&p->returned, (unsigned)p->n_threads - 1);
    }
}

pool *pool_new(int n_threads, err *e) {
    if (n_threads == 0) n_threads = threads_default();
    if (n_threads < 0 || n_threads > MAX_THREADS)
        return fail_null(e, ERR_USAGE, "%d threads were asked for; 1 to %d are possible", n_threads, MAX_THREADS);
    threads_set_float_mode();
    size_t n_bytes = sizeof(pool) + (size_t)n_threads * sizeof(worker);
    pool *p = aligned_alloc(64, (n_bytes + 63) & ~(size_t)63);
    if (!p) return fail_null(e, ERR_MEMORY, "cannot allocate %zu bytes for %d threads", n_bytes, n_threads);
    memset(p, 0, n_bytes);
    p->n_threads = n_threads, p->n_started = 1;

    // Signals are the program's business: they must reach its own threads, never a worker.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (; p->n_started < n_threads; p->n_started++) {
        worker *w = &p->workers[p->n_started];
        *w = (worker){.pool = p, .index = p->n_started};
        if ((error = pthread_create(&w->thread, NULL, worker_main, w))) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        fail(e, ERR_IO, "cannot start thread %d of %d: %s", p->n_started + 1, n_threads, strerror(error));
        pool_free(p);
        return NULL;
    }
    return p;
}

void pool_free(pool *p) {
    if (!p) return;
    p->stop = true;
    generation_next(p);
    for (int i = 1; i < p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
    free(p);
}

int pool_size(const pool *p) { return p->n_threads; }

void pool_run(pool *p, void (*body)(void *arg, int worker), void *arg) {
    p->body = body, p->arg = arg;
    atomic_store_explicit(&p->returned, 0, memory_order_relaxed);
    if (p->n_threads > 1) generation_next(p);
    body(arg, 0);
    word_wait(&p->returned, (unsigned)p->n_threads - 1);
}

// What waiting costs in a pool; microseconds, median and 99th percentile:
//   pause        one pause instruction, the unit of spinning
//   op           an op of one empty chunk a worker, in a line of many: what claiming and waiting cost
//   run, awake   a pool_run of nothing, while the workers still spin after the run before
//   run, asleep  the same 1 ms later, when they sleep: the price of a wake-up
//   past work    processor time of a worker from the end of one body to the start of the next, 1 ms later
// Usage: bench_threads [THREADS]
#include "base/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xmmintrin.h>

enum { SAMPLES = 1000, OPS = 300, PAUSES = 1000 };

typedef struct series {
    double us[SAMPLES];
    int n;
} series;

typedef struct job {
    op ops[OPS];
    int n_ops;
    uint32_t n_chunks;
    bool asleep;     // the workers sleep before this run
    series past;     // of the last worker
    double ended_us; // its body before, on its own clock
} job;

static double now_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void body(void *arg, int worker) {
    job *j = arg;
    bool last = worker == (int)j->n_chunks - 1;
    if (last && j->asleep) j->past.us[j->past.n++] = now_us(CLOCK_THREAD_CPUTIME_ID) - j->ended_us;
    for (int i = 0; i < j->n_ops; i++) {
        op_for(&j->ops[i], j->n_chunks, c) continue;
        op_wait(&j->ops[i], j->n_chunks);
    }
    if (last) j->ended_us = now_us(CLOCK_THREAD_CPUTIME_ID);
}

static double run_us(pool *p, job *j, int n_ops) {
    ops_reset(j->ops, (size_t)n_ops);
    j->n_ops = n_ops;
    double start = now_us(CLOCK_MONOTONIC);
    pool_run(p, body, j);
    return now_us(CLOCK_MONOTONIC) - start;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, series *s) {
    qsort(s->us, (size_t)s->n, sizeof *s->us, by_value);
    printf("%-12s %9.3f %9.3f\n", name, s->us[s->n / 2], s->us[s->n * 99 / 100]);
}

int main(int argc, char **argv) {
    err e = {0};
    pool *p = pool_new(argc > 1 ? atoi(argv[1]) : 0, &e);
    if (!p) return fprintf(stderr, "bench_threads: %s\n", e.text), 1;
    static job j;
    static series pause_us, op_us, awake_us, asleep_us;
    j.n_chunks = (uint32_t)pool_size(p);
    for (int i = 0; i < SAMPLES; i++) {
        double start = now_us(CLOCK_MONOTONIC);
        for (int k = 0; k < PAUSES; k++) _mm_pause();
        pause_us.us[pause_us.n++] = (now_us(CLOCK_MONOTONIC) - start) / PAUSES;
        run_us(p, &j, 0);
        awake_us.us[awake_us.n++] = run_us(p, &j, 0);
        op_us.us[op_us.n++] = run_us(p, &j, OPS) / OPS;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        j.asleep = true;
        asleep_us.us[asleep_us.n++] = run_us(p, &j, 0);
        j.asleep = false;
    }
    printf("%d threads       median       p99\n", pool_size(p));
    report("pause", &pause_us);
    report("op", &op_us);
    report("run, awake", &awake_us);
    report("run, asleep", &asleep_us);
    report("past work", &j.past);
    pool_free(p);
    return 0;
}

// The pool: every chunk once, whatever the number of workers; silent when idle; clear errors; float mode everywhere.
#include "base/threads.h"
#include "unit.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static void sleep_us(long us) { nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL); }

enum { MAX_CHUNKS = 67, OPS = 8 };

typedef struct job {
    op ops[OPS];
    uint32_t n_chunks;
    uint32_t ran[OPS][MAX_CHUNKS]; // plain memory: the ops alone keep it free of races
} job;

// Each op's chunks build on what another chunk of the op before wrote.
static void run_ops(void *arg, int worker) {
    (void)worker;
    job *j = arg;
    for (int i = 0; i < OPS; i++) {
        op_for(&j->ops[i], j->n_chunks, c) { j->ran[i][c] += i == 0 ? 1 : j->ran[i - 1][j->n_chunks - 1 - c]; }
        op_wait(&j->ops[i], j->n_chunks);
    }
}

static void every_chunk_runs_once(void **state) {
    (void)state;
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        err e = {0};
        pool *p = pool_new(n_threads, &e);
        assert_non_null(p);
        assert_int_equal(pool_size(p), n_threads);
        job j;
        for (uint32_t n = 0; n <= MAX_CHUNKS; n++) {
            memset(&j, 0, sizeof j);
            j.n_chunks = n;
            ops_reset(j.ops, OPS);
            pool_run(p, run_ops, &j);
            for (int i = 0; i < OPS; i++)
                for (uint32_t c = 0; c < MAX_CHUNKS; c++) assert_int_equal(j.ran[i][c], c < n);
        }
        pool_free(p);
    }
}

// Nobody waits for the even ops: who sees one done takes the single chunk of the odd one after it.
static void run_handed_on(void *arg, int worker) {
    (void)worker;
    job *j = arg;
    for (int i = 0; i < OPS; i += 2) {
        op_for(&j->ops[i], j->n_chunks, c) j->ran[i][c] += i == 0 ? 1 : j->ran[i - 1][0];
        if (op_done(&j->ops[i], j->n_chunks)) {
            op_for(&j->ops[i + 1], 1, c) {
                for (uint32_t k = 0; k < j->n_chunks; k++) j->ran[i + 1][c] += j->ran[i][k];
            }
        }
        op_wait(&j->ops[i + 1], 1);
    }
}

static void an_op_is_handed_on(void **state) {
    (void)state;
    enum { RUNS = 200, CHUNKS = 3 };
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        err e = {0};
        pool *p = pool_new(n_threads, &e);
        assert_non_null(p);
        for (int run = 0; run < RUNS; run++) {
            job j = {.n_chunks = CHUNKS};
            ops_reset(j.ops, OPS);
            pool_run(p, run_handed_on, &j);
            assert_int_equal(j.ran[OPS - 1][0], CHUNKS * CHUNKS * CHUNKS * CHUNKS);
        }
        pool_free(p);
    }
}

// As run_ops, with the chunks in three groups.
static void run_groups(void *arg, int worker) {
    job *j = arg;
    const op_chunks all = {j->n_chunks, 3, (uint32_t)worker % 3};
    for (int i = 0; i < OPS; i++) {
        op_for_groups(&j->ops[i], all, c) { j->ran[i][c] += i == 0 ? 1 : j->ran[i - 1][op_total(all) - 1 - c]; }
        op_wait(&j->ops[i], op_total(all));
    }
}

static void every_chunk_of_every_group_runs_once(void **state) {
    (void)state;
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        err e = {0};
        pool *p = pool_new(n_threads, &e);
        assert_non_null(p);
        job j;
        for (uint32_t n = 0; n <= MAX_CHUNKS / 3; n++) {
            memset(&j, 0, sizeof j);
            j.n_chunks = n;
            ops_reset(j.ops, OPS);
            pool_run(p, run_groups, &j);
            for (int i = 0; i < OPS; i++)
                for (uint32_t c = 0; c < MAX_CHUNKS; c++) assert_int_equal(j.ran[i][c], c < 3 * n);
        }
        pool_free(p);
    }
}

static void home_comes_first(void **state) {
    (void)state;
    static const uint32_t order[] = {4, 5, 0, 1, 2, 3};
    op o;
    ops_reset(&o, 1);
    for (int i = 0; i < 6; i++) assert_int_equal(op_claim(&o, (op_chunks){2, 3, 2}), order[i]);
    assert_int_equal(op_claim(&o, (op_chunks){2, 3, 2}), 6);
    assert_int_equal(op_claim(&o, (op_chunks){2, 3, 0}), 6);
}

static void slow_chunk(void *arg, int worker) {
    (void)worker;
    job *j = arg;
    op_for(&j->ops[0], 4, c) {
        if (c == 1) sleep_us(3000); // the others go to sleep meanwhile
        j->ran[0][c] = c + 1;
    }
    op_wait(&j->ops[0], 4);
    op_for(&j->ops[1], 4, c) j->ran[1][c] = j->ran[0][0] + j->ran[0][1] + j->ran[0][2] + j->ran[0][3];
}

static void waiters_sleep_and_wake(void **state) {
    (void)state;
    pool *p = pool_new(4, NULL);
    for (int i = 0; i < 20; i++) {
        job j = {0};
        ops_reset(j.ops, OPS);
        pool_run(p, slow_chunk, &j);
        for (int c = 0; c < 4; c++) assert_int_equal(j.ran[1][c], 10);
        if (i % 4 == 0) sleep_us(2000); // the pool goes to sleep between runs
    }
    pool_free(p);
}

static void count_workers(void *arg, int worker) { atomic_fetch_add(&((atomic_int *)arg)[worker], 1); }

static void body_runs_once_per_worker(void **state) {
    (void)state;
    atomic_int count[5] = {0};
    pool *p = pool_new(4, NULL);
    for (int i = 0; i < 1000; i++) pool_run(p, count_workers, count);
    pool_free(p);
    for (int w = 0; w < 5; w++) assert_int_equal(count[w], w < 4 ? 1000 : 0);
}

static void idle_is_silent(void **state) {
    (void)state;
    atomic_int count[4] = {0};
    pool *p = pool_new(4, NULL);
    pool_run(p, count_workers, count);
    sleep_us(20000);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    sleep_us(200000);
    getrusage(RUSAGE_SELF, &after);
    // A worker that wakes must go back to sleep, which is a voluntary switch; our own nanosleep is one.
    long switches = after.ru_nvcsw - before.ru_nvcsw;
    long cpu_us =
        (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 + after.ru_utime.tv_usec - before.ru_utime.tv_usec;
    if (!SANITIZED) assert_in_range(switches, 0, 2); // sanitizers have threads of their own
    assert_in_range(cpu_us, 0, 20000);
    pool_run(p, count_workers, count);
    assert_int_equal(count[3], 2);
    pool_free(p);
}

enum { WAITS = 200 };

typedef struct waits {
    op op;
    int run;
    int64_t ended_ns[2];          // of the body before, on the worker's CPU clock
    int64_t between_ns[2][WAITS]; // CPU time from one body to the next
    int64_t inside_ns[2][WAITS];  // CPU time in op_wait
} waits;

static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// One of the two sleeps in a chunk; the other has nothing to do but wait for it.
static void wait_and_note(void *arg, int worker) {
    waits *w = arg;
    w->between_ns[worker][w->run] = cpu_ns() - w->ended_ns[worker];
    op_for(&w->op, 1, c) sleep_us(1000);
    int64_t start = cpu_ns();
    op_wait(&w->op, 1);
    w->ended_ns[worker] = cpu_ns();
    w->inside_ns[worker][w->run] = w->ended_ns[worker] - start;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t median_us(int64_t *ns) {
    qsort(ns, WAITS, sizeof *ns, by_value);
    return ns[WAITS / 2] / 1000;
}

// A worker without work, in the middle of a run or between two, soon costs nothing, however long the wait: spinning
// for 30 us, going to sleep and waking up.
static void spins_are_short(void **state) {
    (void)state;
    enum { AT_MOST_US = 100 };
    static waits w;
    pool *p = pool_new(2, NULL);
    for (w.run = 0; w.run < WAITS; w.run++) {
        ops_reset(&w.op, 1);
        pool_run(p, wait_and_note, &w);
        sleep_us(500);
    }
    pool_free(p);
    int64_t waited[WAITS]; // the worker that did not sleep in the chunk
    for (int i = 0; i < WAITS; i++)
        waited[i] = w.inside_ns[0][i] > w.inside_ns[1][i] ? w.inside_ns[0][i] : w.inside_ns[1][i];
    assert_in_range(median_us(waited), 0, AT_MOST_US);
    assert_in_range(median_us(w.between_ns[1]), 0, AT_MOST_US);
}

static int n_tasks(void) { // threads of this process, from the 20th field of /proc/self/stat
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    int tasks = 0;
    sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &tasks);
    return tasks;
}

static void a_pool_of_one_starts_no_thread(void **state) {
    (void)state;
    int before = n_tasks();
    pool *p = pool_new(1, NULL);
    assert_int_equal(n_tasks(), before);
    atomic_int count[1] = {0};
    pool_run(p, count_workers, count);
    assert_int_equal(count[0], 1);
    pool_free(p);
    p = pool_new(3, NULL);
    assert_int_equal(n_tasks(), before + 2);
    pool_free(p);
    pool_free(NULL);
}

static void float_mode(void *arg, int worker) {
    volatile float tiny = 1e-38f, ten = 10.f;
    volatile float denormal = tiny / ten; // flushed to zero
    union {
        uint32_t bits;
        float value;
    } smallest = {.bits = 1};
    volatile float in = smallest.value, scale = 1e30f;
    ((int *)arg)[worker] = denormal == 0 && in * scale == 0; // taken as zero
}

static void every_worker_flushes_denormals(void **state) {
    (void)state;
    int flushes[3] = {0};
    pool *p = pool_new(3, NULL);
    pool_run(p, float_mode, flushes);
    pool_free(p);
    for (int w = 0; w < 3; w++) assert_int_equal(flushes[w], 1);
}

static void default_follows_affinity(void **state) {
    (void)state;
    int n = threads_default();
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_in_range(n, 1, CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int on_one = threads_default();
    sched_setaffinity(0, sizeof all, &all);
    assert_int_equal(on_one, 1);
}

static void errors_say_what(void **state) {
    (void)state;
    err e = {0};
    assert_null(pool_new(-1, &e));
    assert_int_equal(e.code, ERR_USAGE);
    e = (err){0};
    assert_null(pool_new(100000, &e));
    assert_int_equal(e.code, ERR_USAGE);
    if (SANITIZED) return; // they need the address space
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    small = (struct rlimit){.rlim_cur = 64 << 20, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
    e = (err){0};
    pool *p = pool_new(64, &e); // 64 stacks do not fit
    setrlimit(RLIMIT_AS, &before);
    assert_null(p);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.text, "of 64"));
    assert_int_equal(n_tasks(), 1); // those that had started are gone
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_runs_once),
        cmocka_unit_test(every_chunk_of_every_group_runs_once),
        cmocka_unit_test(an_op_is_handed_on),
        cmocka_unit_test(home_comes_first),
        cmocka_unit_test(waiters_sleep_and_wake),
        cmocka_unit_test(body_runs_once_per_worker),
        cmocka_unit_test(idle_is_silent),
        cmocka_unit_test(a_pool_of_one_starts_no_thread),
        cmocka_unit_test(every_worker_flushes_denormals),
        cmocka_unit_test(default_follows_affinity),
        cmocka_unit_test(errors_say_what),
        cmocka_unit_test(spins_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

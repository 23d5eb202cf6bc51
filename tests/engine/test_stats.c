// Buckets begin where they say, and a reader never sees half a publication.
#include "engine/stats.h"

#include "unit.h"

#include <pthread.h>

static void every_duration_has_its_bucket(void **state) {
    (void)state;
    static const struct {
        int64_t us;
        uint32_t bucket;
    } rows[] = {{0, 0},           {63, 0},        {64, 1}, {127, 1}, {128, 2}, {1000, 4}, {(64LL << 22) - 1, 22},
                {64LL << 22, 23}, {INT64_MAX, 23}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rf_histogram h = {0};
        histogram_add(&h, rows[i].us);
        assert_int_equal(h.buckets[rows[i].bucket], 1);
        assert_int_equal(h.count, 1);
        assert_int_equal(h.sum_us, rows[i].us);
    }
}

static void every_batch_has_its_bucket(void **state) {
    (void)state;
    static const struct {
        uint32_t n_seqs, bucket;
    } rows[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {8, 3}, {9, 4}, {1 << 16, 16}, {UINT32_MAX, 16}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rf_batch_histogram h = {0};
        histogram_add_batch(&h, rows[i].n_seqs);
        assert_int_equal(h.buckets[rows[i].bucket], 1);
        assert_int_equal(h.count, 1);
        assert_int_equal(h.sum, rows[i].n_seqs);
    }
}

enum { PUBLICATIONS = 3000 }; // that the reader must have seen

typedef struct writer {
    stats stats;
    atomic_bool stop;
} writer;

// All words of a publication are the same number.
static void *write_numbers(void *arg) {
    writer *w = arg;
    for (uint64_t n = 1; !atomic_load(&w->stop); n++) {
        uint64_t *words = (uint64_t *)(void *)&w->stats.now;
        for (size_t i = 0; i < STATS_WORDS; i++) words[i] = n;
        stats_publish(&w->stats);
    }
    return NULL;
}

static void readers_see_whole_publications(void **state) {
    (void)state;
    static writer w;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_numbers, &w), 0);
    uint64_t last = 0;
    for (uint32_t n_seen = 0; n_seen < PUBLICATIONS;) {
        rf_stats now;
        stats_read(&w.stats, &now);
        const uint64_t *words = (const uint64_t *)(const void *)&now;
        for (size_t i = 1; i < STATS_WORDS; i++) assert_int_equal(words[i], words[0]);
        assert_true(words[0] >= last);
        n_seen += words[0] != last;
        last = words[0];
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_duration_has_its_bucket),
        cmocka_unit_test(every_batch_has_its_bucket),
        cmocka_unit_test(readers_see_whole_publications),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

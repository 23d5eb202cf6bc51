// Implements stats.h. The version is the sequence lock of Boehm, "Can seqlocks get along with programming language
// memory models?", MSPC 2012, with acquiring and releasing words instead of fences.
#include "engine/stats.h"

#include <string.h>

_Static_assert(sizeof(rf_stats) % sizeof(uint64_t) == 0, "statistics are copied word by word");

void histogram_add(rf_histogram *h, int64_t us) {
    uint32_t i = 0;
    while (i + 1 < RF_HISTOGRAM_BUCKETS && us >= (int64_t)RF_HISTOGRAM_FIRST_US << i) i++;
    h->buckets[i]++, h->count++, h->sum_us += (uint64_t)us;
}

void histogram_add_batch(rf_batch_histogram *h, uint32_t n_seqs) {
    uint32_t i = 0;
    while (i + 1 < RF_BATCH_BUCKETS && n_seqs > 1u << i) i++;
    h->buckets[i]++, h->count++, h->sum += n_seqs;
}

void stats_publish(stats *s) {
    uint64_t words[STATS_WORDS];
    memcpy(words, &s->now, sizeof words);
    unsigned version = atomic_load_explicit(&s->version, memory_order_relaxed);
    atomic_store_explicit(&s->version, version + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < STATS_WORDS; i++) atomic_store_explicit(&s->words[i], words[i], memory_order_release);
    atomic_store_explicit(&s->version, version + 2, memory_order_release);
}

void stats_read(const stats *s, rf_stats *out) {
    uint64_t words[STATS_WORDS];
    unsigned before;
    do {
        before = atomic_load_explicit(&s->version, memory_order_acquire);
        for (uint32_t i = 0; i < STATS_WORDS; i++) words[i] = atomic_load_explicit(&s->words[i], memory_order_acquire);
    } while (before % 2 || atomic_load_explicit(&s->version, memory_order_relaxed) != before);
    memcpy(out, words, sizeof words);
}

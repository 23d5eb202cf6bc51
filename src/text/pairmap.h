// Pairmap: (a, b) -> value, three 32-bit numbers; open addressing, built once, then only read.
//
// Holds the BPE merges ((left, right) -> rank) and the trie of special tokens ((node, byte) -> node).
// Owns its slots (zeroed pages, so that building a small map in a big vocabulary costs nothing). Any thread may read.
// Invariant: at most half of the slots are taken.
#pragma once

#include "base/err.h"

#include <stdint.h>

#define PAIRMAP_NONE UINT32_MAX

typedef struct pairmap_slot {
    uint32_t a, b, value_plus_1; // 0: free
} pairmap_slot;

typedef struct pairmap {
    pairmap_slot *slots;
    size_t n_slots, n; // n_slots is a power of two
} pairmap;

bool pairmap_init(pairmap *m, size_t capacity, const char *what, err *e);
void pairmap_free(pairmap *m);
bool pairmap_put(pairmap *m, uint32_t a, uint32_t b, uint32_t value); // false: (a, b) is there already

static inline size_t pairmap_home(const pairmap *m, uint32_t a, uint32_t b) {
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u; // Fibonacci hashing: the product's high bits are mixed
    return (h ^ h >> 32) * 0x9e3779b97f4a7c15u >> 32 & (m->n_slots - 1);
}

static inline uint32_t pairmap_get(const pairmap *m, uint32_t a, uint32_t b) { // PAIRMAP_NONE if absent
    size_t i = pairmap_home(m, a, b);
    for (; m->slots[i].value_plus_1; i = (i + 1) & (m->n_slots - 1))
        if (m->slots[i].a == a && m->slots[i].b == b) return m->slots[i].value_plus_1 - 1;
    return PAIRMAP_NONE;
}

// Strmap: bytes -> token id; open addressing, built once, then only read.
//
// Owns its slots, borrows the bytes. Any thread may read. Invariant: at most half of the slots are taken.
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef struct strmap_slot {
    const char *data; // NULL: free
    uint32_t n_bytes;
    int32_t id;
} strmap_slot;

typedef struct strmap {
    strmap_slot *slots;
    size_t n_slots, n; // n_slots is a power of two
} strmap;

bool strmap_init(strmap *m, size_t capacity, const char *what, err *e);
void strmap_free(strmap *m);
bool strmap_put(strmap *m, const char *data, size_t n_bytes, int32_t id); // false: the bytes are there already
int32_t strmap_get(const strmap *m, const char *data, size_t n_bytes);    // -1 if absent

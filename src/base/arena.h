// Arena: bump allocation with one lifetime. Used for the model's names and tables, and for a step's scratch.
//
// Owns its memory; what it hands out lives until arena_reset or arena_free. Not thread-safe.
// A fixed arena (capacity given at init) never calls malloc after init and check()s that it fits:
// that is how a decode step stays free of malloc.
#pragma once

#include "base/err.h"

typedef struct arena {
    char *base;
    size_t used_bytes, capacity_bytes, peak_bytes;
} arena;

bool arena_init(arena *a, size_t capacity_bytes, const char *what, err *e); // one large_alloc
void *arena_take(arena *a, size_t n_bytes);                                 // 64-byte aligned, not cleared
void arena_reset(arena *a);
void arena_free(arena *a);

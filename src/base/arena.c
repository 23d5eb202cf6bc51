// Implements arena.h.
#include "base/arena.h"

#include <string.h>

bool arena_init(arena *a, size_t capacity_bytes, const char *what, err *e) {
    *a = (arena){.capacity_bytes = capacity_bytes};
    a->base = large_alloc(capacity_bytes, what, e);
    return a->base != NULL;
}

void *arena_take(arena *a, size_t n_bytes) {
    size_t rounded = (n_bytes + 63) & ~(size_t)63;
    check(rounded >= n_bytes && rounded <= a->capacity_bytes - a->used_bytes);
    void *p = a->base + a->used_bytes;
    a->used_bytes += rounded;
    if (a->used_bytes > a->peak_bytes) a->peak_bytes = a->used_bytes;
    return p;
}

void arena_reset(arena *a) { a->used_bytes = 0; }

void arena_free(arena *a) {
    large_free(a->base, a->capacity_bytes);
    memset(a, 0, sizeof *a);
}

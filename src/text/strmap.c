// Implements strmap.h.
#include "text/strmap.h"

#include <string.h>

bool strmap_init(strmap *m, size_t capacity, const char *what, err *e) {
    *m = (strmap){.n_slots = 16};
    while (m->n_slots / 2 < capacity) m->n_slots *= 2;
    m->slots = large_alloc(m->n_slots * sizeof *m->slots, what, e);
    return m->slots != NULL;
}

void strmap_free(strmap *m) { large_free(m->slots, m->n_slots * sizeof *m->slots); }

// The slot of these bytes, or the free one where they would go.
static strmap_slot *find_slot(const strmap *m, const char *data, size_t n_bytes) {
    uint64_t h = n_bytes;
    for (size_t i = 0; i < n_bytes; i++) h = (h ^ (unsigned char)data[i]) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    for (size_t i = h & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
        strmap_slot *slot = &m->slots[i];
        if (!slot->data || (slot->n_bytes == n_bytes && memcmp(slot->data, data, n_bytes) == 0)) return slot;
    }
}

bool strmap_put(strmap *m, const char *data, size_t n_bytes, int32_t id) {
    check(m->n < m->n_slots / 2 && n_bytes <= UINT32_MAX);
    strmap_slot *slot = find_slot(m, data, n_bytes);
    if (slot->data) return false;
    *slot = (strmap_slot){data, (uint32_t)n_bytes, id};
    m->n++;
    return true;
}

int32_t strmap_get(const strmap *m, const char *data, size_t n_bytes) {
    const strmap_slot *slot = find_slot(m, data, n_bytes);
    return slot->data ? slot->id : -1;
}

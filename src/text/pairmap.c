// Implements pairmap.h.
#include "text/pairmap.h"

bool pairmap_init(pairmap *m, size_t capacity, const char *what, err *e) {
    *m = (pairmap){.n_slots = 16};
    while (m->n_slots / 2 < capacity) m->n_slots *= 2;
    m->slots = large_alloc(m->n_slots * sizeof *m->slots, what, e);
    return m->slots != NULL;
}

void pairmap_free(pairmap *m) { large_free(m->slots, m->n_slots * sizeof *m->slots); }

bool pairmap_put(pairmap *m, uint32_t a, uint32_t b, uint32_t value) {
    check(value != PAIRMAP_NONE && m->n < m->n_slots / 2);
    size_t i = pairmap_home(m, a, b);
    for (; m->slots[i].value_plus_1; i = (i + 1) & (m->n_slots - 1))
        if (m->slots[i].a == a && m->slots[i].b == b) return false;
    m->slots[i] = (pairmap_slot){a, b, value + 1};
    m->n++;
    return true;
}

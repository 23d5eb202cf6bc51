// Implements special.h.
#include "text/special.h"

bool special_init(special *s, size_t n_bytes_total, err *e) {
    *s = (special){.capacity = n_bytes_total + 1, .n_nodes = 1};
    if (!pairmap_init(&s->edges, n_bytes_total, "the special tokens", e)) return false;
    s->nodes = large_alloc(s->capacity * sizeof *s->nodes, "the special tokens", e);
    if (!s->nodes) return false;
    s->nodes[0].id = -1;
    return true;
}

void special_free(special *s) {
    pairmap_free(&s->edges);
    large_free(s->nodes, s->capacity * sizeof *s->nodes);
}

void special_add(special *s, const char *text, size_t n_bytes, int32_t id, bool control) {
    check(n_bytes > 0 && n_bytes <= SPECIAL_MAX_BYTES);
    s->starts[(unsigned char)text[0]] = true;
    uint32_t node = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        uint32_t next = pairmap_get(&s->edges, node, (unsigned char)text[i]);
        if (next == PAIRMAP_NONE) {
            check(s->n_nodes < s->capacity);
            next = (uint32_t)s->n_nodes++;
            s->nodes[next].id = -1;
            pairmap_put(&s->edges, node, (unsigned char)text[i], next);
        }
        node = next;
    }
    s->nodes[node] = (special_node){id, control};
}

special_match special_find(const special *s, const char *text, size_t n_bytes, size_t from, const text_span *plain,
                           size_t n_plain) {
    for (size_t at = from; at < n_bytes; at++) {
        if (!s->starts[(unsigned char)text[at]]) continue;
        while (n_plain && plain->end <= at) plain++, n_plain--;
        size_t control_end = n_plain ? plain->start : n_bytes; // control tokens end here at the latest
        special_match longest = {.at = at};
        uint32_t node = 0;
        for (size_t i = at; i < n_bytes; i++) {
            node = pairmap_get(&s->edges, node, (unsigned char)text[i]);
            if (node == PAIRMAP_NONE) break;
            const special_node *here = &s->nodes[node];
            if (here->id < 0 || (here->control && i >= control_end)) continue;
            longest.n_bytes = i + 1 - at;
            longest.id = here->id;
        }
        if (longest.n_bytes > 0) return longest;
    }
    return (special_match){.at = n_bytes};
}

int32_t special_get(const special *s, const char *text, size_t n_bytes) {
    uint32_t node = 0;
    for (size_t i = 0; i < n_bytes && node != PAIRMAP_NONE; i++)
        node = pairmap_get(&s->edges, node, (unsigned char)text[i]);
    return node == PAIRMAP_NONE ? -1 : s->nodes[node].id;
}

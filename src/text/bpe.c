// Implements bpe.h.
//
// Candidates are never removed from the queue when a neighbour changes; each is checked when it comes up: its pair must
// still exist and make the same token. Every merge adds at most two candidates, so the queue sees at most 3n.
#include "text/bpe.h"

#include "base/grow.h"

#include <string.h>

#define BPE_GONE UINT32_MAX // as an id; no pair has it
#define BPE_END  UINT32_MAX // as a neighbour

bool bpe_init(bpe *b, size_t n_merges, err *e) {
    *b = (bpe){.n_merges = n_merges};
    memset(b->byte_id, -1, sizeof b->byte_id);
    b->new_ids = large_alloc(n_merges * sizeof *b->new_ids, "the merges", e);
    return b->new_ids && pairmap_init(&b->ranks, n_merges, "the merges", e);
}

void bpe_free(bpe *b) {
    large_free(b->new_ids, b->n_merges * sizeof *b->new_ids);
    pairmap_free(&b->ranks);
}

void bpe_work_free(bpe_work *w) {
    free(w->symbols);
    free(w->heap);
}

static bool heap_push(bpe_work *w, uint64_t key, err *e) {
    if (!grow(&w->heap, &w->heap_capacity, w->n_heap + 1, "the merge queue", e)) return false;
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
    return true;
}

static uint64_t heap_pop(bpe_work *w) {
    uint64_t least = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return least;
}

// Queues the pair of a symbol and its right neighbour, if there is one and they merge.
static bool queue_pair(const bpe *b, bpe_work *w, uint32_t left, err *e) {
    if (left == BPE_END || w->symbols[left].next == BPE_END) return true;
    uint32_t rank = pairmap_get(&b->ranks, w->symbols[left].id, w->symbols[w->symbols[left].next].id);
    return rank == PAIRMAP_NONE || heap_push(w, (uint64_t)rank << 32 | left, e);
}

static bool still_valid(const bpe *b, const bpe_work *w, uint32_t rank, uint32_t left) {
    const bpe_symbol *l = &w->symbols[left];
    if (l->next == BPE_END) return false;
    uint32_t now = pairmap_get(&b->ranks, l->id, w->symbols[l->next].id);
    return now != PAIRMAP_NONE && b->new_ids[now] == b->new_ids[rank];
}

static bool merge_all(const bpe *b, bpe_work *w, err *e) {
    while (w->n_heap > 0) {
        uint64_t key = heap_pop(w);
        uint32_t rank = (uint32_t)(key >> 32), left = (uint32_t)key;
        if (!still_valid(b, w, rank, left)) continue;
        bpe_symbol *l = &w->symbols[left], *r = &w->symbols[l->next];
        l->id = b->new_ids[rank];
        l->next = r->next;
        r->id = BPE_GONE;
        if (l->next != BPE_END) w->symbols[l->next].prev = left;
        if (!queue_pair(b, w, l->prev, e) || !queue_pair(b, w, left, e)) return false;
    }
    return true;
}

bool bpe_encode(const bpe *b, bpe_work *w, const char *piece, size_t n_bytes, tokens *out, err *e) {
    if (!grow(&w->symbols, &w->symbols_capacity, n_bytes, "the symbols of a text", e)) return false;
    uint32_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        int32_t id = b->byte_id[(unsigned char)piece[i]];
        if (id >= 0) w->symbols[n] = (bpe_symbol){(uint32_t)id, n - 1, n + 1}, n++; // the first one's prev is BPE_END
    }
    if (n == 0) return true;
    w->symbols[n - 1].next = BPE_END;
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!queue_pair(b, w, i, e)) return false;
    if (!merge_all(b, w, e) || !grow(&out->ids, &out->capacity, out->n + n, "the tokens", e)) return false;
    for (uint32_t i = 0; i != BPE_END; i = w->symbols[i].next) out->ids[out->n++] = (int32_t)w->symbols[i].id;
    return true;
}

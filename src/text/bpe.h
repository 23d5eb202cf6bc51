// BPE: merges neighbouring symbols of one pre-split piece, the lowest rank first, the leftmost of equal ranks first.
//
// Sennrich et al., arXiv:1508.07909; the same result as the BPE model of Hugging Face's `tokenizers`.
// bpe is immutable once filled (any thread may encode); bpe_work is the scratch of one call of vocab_encode.
// O(n log n) on any piece: a priority queue of candidate pairs over a doubly linked list of symbols.
#pragma once

#include "text/pairmap.h"
#include "text/vocab.h"

typedef struct bpe {
    int32_t byte_id[256]; // the token of a single byte; -1: the vocabulary cannot say it, and the byte is dropped
    pairmap ranks;        // (left id, right id) -> rank
    uint32_t *new_ids;    // [n_merges], by rank
    size_t n_merges;
} bpe;

typedef struct bpe_symbol {
    uint32_t id; // BPE_GONE once merged into its left neighbour
    uint32_t prev, next;
} bpe_symbol;

typedef struct bpe_work {
    bpe_symbol *symbols;
    uint64_t *heap; // rank << 32 | index of the left symbol; the least at [0]
    size_t symbols_capacity, n_heap, heap_capacity;
} bpe_work;

bool bpe_init(bpe *b, size_t n_merges, err *e);
void bpe_free(bpe *b);
void bpe_work_free(bpe_work *w);
// Appends the tokens of a piece of less than 2 GiB to out. false: ERR_MEMORY.
bool bpe_encode(const bpe *b, bpe_work *w, const char *piece, size_t n_bytes, tokens *out, err *e);

// KV: the pool of cache pages, the page tables through which sequences see it, and the index of what pages hold.
//
// A page holds KV_PAGE_TOKENS tokens of all layers. The pool owns the memory; a table owns one reference to each page
// it names and borrows the tokens it caches. The engine thread's alone.
// A step reserves pages, runs, and commits: n_cached <= n_pages * KV_PAGE_TOKENS, and what was not committed is as if
// it had never run; trimmed, a table has no page without a cached token. Index: a page that a commit fills gets an
// identity (never reused) and is found by (identity of the page before it, its tokens; for a first page the salt).
// Hashes only choose the bucket; what is found is compared. Equal tokens give equal bytes, so a page that duplicates an
// indexed one is given back at once. So every full cached page of a table is indexed, and whoever holds a page holds
// all those before it. Unreferenced pages form a list from which new ones are taken: first those not in the index, then
// the longest unused; the end of a prefix goes before its beginning. Does not choose victims (schedule.c) and never
// looks into a page.
#pragma once

#include "base/err.h"
#include "kernel/kernel.h"

#include <stdint.h>

enum { KV_NO_PAGE = UINT32_MAX, KV_SALT_BYTES = 64 };

typedef struct kv_page {
    uint32_t n_refs;
    uint32_t older, newer; // neighbours while n_refs == 0; KV_NO_PAGE at the ends
    uint32_t next;         // in its bucket; KV_NO_PAGE at the end
    uint64_t id;           // 0: not in the index
    uint64_t before;       // id of the page before; 0: first page
    uint64_t hash;         // of everything up to this page's end
    int32_t tokens[KV_PAGE_TOKENS];
    char salt[KV_SALT_BYTES + 1]; // of a first page
} kv_page;

typedef struct kv {
    uint8_t *memory; // [n_pages][page_bytes]
    size_t page_bytes;
    kv_page *pages; // [n_pages]
    uint32_t n_pages, n_free;
    uint32_t oldest, newest; // ends of the list of unreferenced pages
    uint32_t *buckets;       // [n_buckets], a power of two: first page or KV_NO_PAGE
    uint32_t n_buckets;
    uint32_t n_cached; // unreferenced, but in the index
    uint64_t last_id, n_evicted;
    uint64_t hash_mask; // all ones; tests cut it
} kv;

typedef struct kv_table {
    const int32_t *tokens; // borrowed: what the pages hold, in order
    const char *salt;      // borrowed: separates those who must not share; "" is shared by all
    uint32_t *pages;       // [capacity]
    uint32_t n_pages, capacity;
    uint32_t n_cached; // tokens whose K and V are in the pages
} kv_table;

bool kv_init(kv *k, uint32_t n_pages, size_t page_bytes, err *e);
void kv_free(kv *k); // no page may be referenced

static inline uint32_t kv_pages_for(uint32_t n_tokens) {
    return n_tokens / KV_PAGE_TOKENS + (n_tokens % KV_PAGE_TOKENS != 0);
}
void kv_table_init(kv_table *t, uint32_t max_tokens, const int32_t *tokens, const char *salt);
void kv_table_free(kv_table *t); // must be empty

// Gives an empty table the indexed pages that hold the first of its n_tokens tokens: whole pages, as many as there are.
void kv_adopt(kv *k, kv_table *t, uint32_t n_tokens);
// How many tokens the table could hold with every free page.
uint32_t kv_reach(const kv *k, const kv_table *t);
// Pages for n_tokens tokens in all; false, and nothing taken, if there are too few.
bool kv_reserve(kv *k, kv_table *t, uint32_t n_tokens);
void kv_commit(kv *k, kv_table *t, uint32_t n_tokens); // n_tokens more are cached
void kv_trim(kv *k, kv_table *t);                      // pages that no cached token needs go back
void kv_release(kv *k, kv_table *t);                   // all pages go back and stay indexed; the table is empty
void kv_discard(kv *k, kv_table *t); // the same, but pages that nobody else holds are forgotten: they are suspect

// Recomputes every invariant from the tables that exist; check()s.
void kv_check(const kv *k, kv_table *const *tables, uint32_t n_tables);

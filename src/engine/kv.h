// KV: the pool of cache pages and the page tables through which sequences see it.
//
// A page holds KV_PAGE_TOKENS tokens of all layers. The pool owns the memory; a table owns one reference to each page
// it names. Pages without references stay on a list, longest unused first, from which new ones are taken. The engine
// thread's alone.
// A step reserves pages, runs, and commits: n_cached <= n_pages * KV_PAGE_TOKENS, and what was not committed is as if
// it had never run. Does not choose victims (schedule.c) and never looks into a page.
#pragma once

#include "base/err.h"
#include "kernel/kernel.h"

#include <stdint.h>

enum { KV_NO_PAGE = UINT32_MAX };

typedef struct kv_page {
    uint32_t n_refs;
    uint32_t older, newer; // neighbours while n_refs == 0; KV_NO_PAGE at the ends
} kv_page;

typedef struct kv {
    uint8_t *memory; // [n_pages][page_bytes]
    size_t page_bytes;
    kv_page *pages; // [n_pages]
    uint32_t n_pages, n_free;
    uint32_t oldest, newest; // ends of the list of unreferenced pages
} kv;

typedef struct kv_table {
    uint32_t *pages; // [capacity]
    uint32_t n_pages, capacity;
    uint32_t n_cached; // tokens whose K and V are in the pages
} kv_table;

bool kv_init(kv *k, uint32_t n_pages, size_t page_bytes, err *e);
void kv_free(kv *k); // no page may be referenced

static inline uint32_t kv_pages_for(uint32_t n_tokens) {
    return n_tokens / KV_PAGE_TOKENS + (n_tokens % KV_PAGE_TOKENS != 0);
}
void kv_table_init(kv_table *t, uint32_t max_tokens);
void kv_table_free(kv_table *t); // must be empty

// How many tokens the table could hold with every free page.
uint32_t kv_reach(const kv *k, const kv_table *t);
// Pages for n_tokens tokens in all; false, and nothing taken, if there are too few.
bool kv_reserve(kv *k, kv_table *t, uint32_t n_tokens);
void kv_commit(kv_table *t, uint32_t n_tokens); // n_tokens more are cached
void kv_release(kv *k, kv_table *t);            // all pages go back; the table is empty

// Recomputes every invariant from the tables that exist; check()s.
void kv_check(const kv *k, kv_table *const *tables, uint32_t n_tables);

// Implements kv.h.
#include "engine/kv.h"

#include <stdlib.h>

static void list_append(kv *k, uint32_t page) {
    k->pages[page].older = k->newest, k->pages[page].newer = KV_NO_PAGE;
    *(k->newest == KV_NO_PAGE ? &k->oldest : &k->pages[k->newest].newer) = page;
    k->newest = page;
    k->n_free++;
}

static void list_remove(kv *k, uint32_t page) {
    kv_page *p = &k->pages[page];
    *(p->older == KV_NO_PAGE ? &k->oldest : &k->pages[p->older].newer) = p->newer;
    *(p->newer == KV_NO_PAGE ? &k->newest : &k->pages[p->newer].older) = p->older;
    k->n_free--;
}

bool kv_init(kv *k, uint32_t n_pages, size_t page_bytes, err *e) {
    *k = (kv){.page_bytes = page_bytes, .n_pages = n_pages, .oldest = KV_NO_PAGE, .newest = KV_NO_PAGE};
    size_t n_bytes;
    if (__builtin_mul_overflow(page_bytes, n_pages, &n_bytes))
        return fail(e, ERR_MEMORY, "a KV cache of %u pages of %zu bytes is out of range", n_pages, page_bytes);
    k->memory = large_alloc(n_bytes, "the KV cache", e);
    if (!k->memory) return false;
    k->pages = xcalloc(n_pages, sizeof *k->pages);
    for (uint32_t i = 0; i < n_pages; i++) list_append(k, i);
    return true;
}

void kv_free(kv *k) {
    if (!k->memory) return;
    check(k->n_free == k->n_pages);
    large_free(k->memory, k->page_bytes * k->n_pages);
    free(k->pages);
    *k = (kv){0};
}

void kv_table_init(kv_table *t, uint32_t max_tokens) {
    *t = (kv_table){.capacity = kv_pages_for(max_tokens)};
    t->pages = xcalloc(t->capacity, sizeof *t->pages);
}

void kv_table_free(kv_table *t) {
    check(t->n_pages == 0);
    free(t->pages);
}

uint32_t kv_reach(const kv *k, const kv_table *t) {
    uint64_t n_pages = (uint64_t)t->n_pages + k->n_free;
    if (n_pages > t->capacity) n_pages = t->capacity;
    return (uint32_t)n_pages * KV_PAGE_TOKENS;
}

bool kv_reserve(kv *k, kv_table *t, uint32_t n_tokens) {
    uint32_t need = kv_pages_for(n_tokens);
    check(need <= t->capacity);
    if (need > t->n_pages && need - t->n_pages > k->n_free) return false;
    while (t->n_pages < need) {
        uint32_t page = k->oldest;
        list_remove(k, page);
        check(k->pages[page].n_refs == 0);
        k->pages[page].n_refs = 1;
        t->pages[t->n_pages++] = page;
    }
    return true;
}

void kv_commit(kv_table *t, uint32_t n_tokens) {
    check(n_tokens <= t->n_pages * KV_PAGE_TOKENS - t->n_cached);
    t->n_cached += n_tokens;
}

void kv_release(kv *k, kv_table *t) {
    while (t->n_pages) {
        uint32_t page = t->pages[--t->n_pages];
        check(page < k->n_pages && k->pages[page].n_refs > 0);
        if (--k->pages[page].n_refs == 0) list_append(k, page);
    }
    t->n_cached = 0;
}

void kv_check(const kv *k, kv_table *const *tables, uint32_t n_tables) {
    uint32_t *refs = xcalloc(k->n_pages, sizeof *refs), n_free = 0, older = KV_NO_PAGE;
    for (uint32_t i = 0; i < n_tables; i++) {
        const kv_table *t = tables[i];
        check(t->n_pages <= t->capacity && kv_pages_for(t->n_cached) <= t->n_pages);
        for (uint32_t j = 0; j < t->n_pages; j++) {
            check(t->pages[j] < k->n_pages);
            refs[t->pages[j]]++;
        }
    }
    for (uint32_t i = 0; i < k->n_pages; i++) check(k->pages[i].n_refs == refs[i]);
    for (uint32_t i = k->oldest; i != KV_NO_PAGE; older = i, i = k->pages[i].newer) {
        check(i < k->n_pages && refs[i] == 0 && k->pages[i].older == older && n_free < k->n_pages);
        n_free++;
    }
    check(older == k->newest && n_free == k->n_free);
    for (uint32_t i = 0; i < k->n_pages; i++) n_free += refs[i] != 0;
    check(n_free == k->n_pages);
    free(refs);
}

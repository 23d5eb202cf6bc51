// Implements kv.h.
#include "engine/kv.h"

#include <stdlib.h>
#include <string.h>

// ---- the list of unreferenced pages ------------------------------------------------------------------------------

// What is in the index may be wanted again, so it goes to the far end.
static void list_add(kv *k, uint32_t page) {
    kv_page *p = &k->pages[page];
    bool last = p->id != 0;
    p->older = last ? k->newest : KV_NO_PAGE, p->newer = last ? KV_NO_PAGE : k->oldest;
    *(p->older == KV_NO_PAGE ? &k->oldest : &k->pages[p->older].newer) = page;
    *(p->newer == KV_NO_PAGE ? &k->newest : &k->pages[p->newer].older) = page;
    k->n_free++, k->n_cached += last;
}

static void list_remove(kv *k, uint32_t page) {
    const kv_page *p = &k->pages[page];
    *(p->older == KV_NO_PAGE ? &k->oldest : &k->pages[p->older].newer) = p->newer;
    *(p->newer == KV_NO_PAGE ? &k->newest : &k->pages[p->newer].older) = p->older;
    k->n_free--, k->n_cached -= p->id != 0;
}

static void ref(kv *k, uint32_t page) {
    if (k->pages[page].n_refs++ == 0) list_remove(k, page);
}

static void unref(kv *k, uint32_t page) {
    check(page < k->n_pages && k->pages[page].n_refs > 0);
    if (--k->pages[page].n_refs == 0) list_add(k, page);
}

// ---- the index ---------------------------------------------------------------------------------------------------

typedef struct key {
    uint64_t before, hash;
    const int32_t *tokens; // [KV_PAGE_TOKENS]
    const char *salt;      // of a first page, else ""
} key;

static uint64_t mix(uint64_t hash, uint64_t x) { // the finaliser of splitmix64
    x = (hash ^ x) + 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

// Of the table's page i, whose predecessors are indexed.
static key key_of(const kv *k, const kv_table *t, uint32_t i) {
    const kv_page *before = i ? &k->pages[t->pages[i - 1]] : NULL;
    key y = {.tokens = t->tokens + (size_t)i * KV_PAGE_TOKENS, .salt = i ? "" : t->salt};
    if (before) y.before = before->id, y.hash = before->hash;
    for (const char *c = y.salt; *c; c++) y.hash = mix(y.hash, (unsigned char)*c);
    for (uint32_t j = 0; j < KV_PAGE_TOKENS; j++) y.hash = mix(y.hash, (uint32_t)y.tokens[j]);
    y.hash &= k->hash_mask;
    return y;
}

static uint32_t *bucket_of(const kv *k, uint64_t hash) { return &k->buckets[hash & (k->n_buckets - 1)]; }

static bool holds(const kv_page *p, const key *y) {
    return p->hash == y->hash && p->before == y->before && memcmp(p->tokens, y->tokens, sizeof p->tokens) == 0 &&
           strcmp(p->salt, y->salt) == 0;
}

static uint32_t index_find(const kv *k, const key *y) {
    uint32_t page = *bucket_of(k, y->hash);
    while (page != KV_NO_PAGE && !holds(&k->pages[page], y)) page = k->pages[page].next;
    return page;
}

static void index_add(kv *k, uint32_t page, const key *y) {
    kv_page *p = &k->pages[page];
    uint32_t *bucket = bucket_of(k, y->hash);
    p->id = ++k->last_id, p->before = y->before, p->hash = y->hash, p->next = *bucket;
    memcpy(p->tokens, y->tokens, sizeof p->tokens);
    strcpy(p->salt, y->salt);
    *bucket = page;
}

static void index_remove(kv *k, uint32_t page) {
    uint32_t *link = bucket_of(k, k->pages[page].hash);
    while (*link != page) link = &k->pages[*link].next;
    *link = k->pages[page].next;
    k->pages[page].id = 0;
}

// ---- life --------------------------------------------------------------------------------------------------------

bool kv_init(kv *k, uint32_t n_pages, size_t page_bytes, err *e) {
    *k = (kv){.page_bytes = page_bytes, .n_pages = n_pages, .oldest = KV_NO_PAGE, .newest = KV_NO_PAGE};
    size_t n_bytes;
    if (__builtin_mul_overflow(page_bytes, n_pages, &n_bytes))
        return fail(e, ERR_MEMORY, "a KV cache of %u pages of %zu bytes is out of range", n_pages, page_bytes);
    k->memory = large_alloc(n_bytes, "the KV cache", e);
    if (!k->memory) return false;
    k->hash_mask = UINT64_MAX;
    for (k->n_buckets = 1; k->n_buckets < n_pages && k->n_buckets < 1u << 31;) k->n_buckets *= 2;
    k->buckets = xmalloc((size_t)k->n_buckets * sizeof *k->buckets);
    memset(k->buckets, 0xFF, (size_t)k->n_buckets * sizeof *k->buckets); // KV_NO_PAGE
    k->pages = xcalloc(n_pages, sizeof *k->pages);
    for (uint32_t i = n_pages; i-- > 0;) list_add(k, i);
    return true;
}

void kv_free(kv *k) {
    if (!k->memory) return;
    check(k->n_free == k->n_pages);
    large_free(k->memory, k->page_bytes * k->n_pages);
    free(k->pages), free(k->buckets);
    *k = (kv){0};
}

void kv_table_init(kv_table *t, uint32_t max_tokens, const int32_t *tokens, const char *salt) {
    check(strlen(salt) <= KV_SALT_BYTES);
    *t = (kv_table){.tokens = tokens, .salt = salt, .capacity = kv_pages_for(max_tokens)};
    t->pages = xcalloc(t->capacity, sizeof *t->pages);
}

void kv_table_free(kv_table *t) {
    check(t->n_pages == 0);
    free(t->pages);
}

// ---- a step ------------------------------------------------------------------------------------------------------

void kv_adopt(kv *k, kv_table *t, uint32_t n_tokens) {
    check(t->n_pages == 0 && t->n_cached == 0);
    while (t->n_pages < n_tokens / KV_PAGE_TOKENS) {
        key y = key_of(k, t, t->n_pages);
        uint32_t page = index_find(k, &y);
        if (page == KV_NO_PAGE) break;
        ref(k, page);
        t->pages[t->n_pages++] = page;
    }
    t->n_cached = t->n_pages * KV_PAGE_TOKENS;
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
        check(k->pages[page].n_refs == 0);
        ref(k, page);
        if (k->pages[page].id) index_remove(k, page), k->n_evicted++;
        t->pages[t->n_pages++] = page;
    }
    return true;
}

// The table's page i is full: whoever needs the same tokens may find it, unless there is one already.
static void publish(kv *k, kv_table *t, uint32_t i) {
    key y = key_of(k, t, i);
    uint32_t page = index_find(k, &y);
    if (page == KV_NO_PAGE) return index_add(k, t->pages[i], &y);
    ref(k, page);
    unref(k, t->pages[i]);
    t->pages[i] = page;
}

void kv_commit(kv *k, kv_table *t, uint32_t n_tokens) {
    check(n_tokens <= t->n_pages * KV_PAGE_TOKENS - t->n_cached);
    uint32_t i = t->n_cached / KV_PAGE_TOKENS;
    t->n_cached += n_tokens;
    for (; i < t->n_cached / KV_PAGE_TOKENS; i++) publish(k, t, i);
}

void kv_trim(kv *k, kv_table *t) {
    while (t->n_pages > kv_pages_for(t->n_cached)) unref(k, t->pages[--t->n_pages]);
}

void kv_release(kv *k, kv_table *t) {
    while (t->n_pages) unref(k, t->pages[--t->n_pages]);
    t->n_cached = 0;
}

void kv_discard(kv *k, kv_table *t) {
    for (uint32_t i = 0; i < t->n_pages; i++)
        if (k->pages[t->pages[i]].n_refs == 1 && k->pages[t->pages[i]].id) index_remove(k, t->pages[i]);
    kv_release(k, t);
}

// ---- check -------------------------------------------------------------------------------------------------------

static void check_tables(const kv *k, kv_table *const *tables, uint32_t n_tables, const uint32_t *refs) {
    for (uint32_t i = 0; i < k->n_pages; i++) check(k->pages[i].n_refs == refs[i]);
    for (uint32_t i = 0; i < n_tables; i++)
        for (uint32_t j = 0; j < tables[i]->n_pages; j++) {
            const kv_page *p = &k->pages[tables[i]->pages[j]];
            if (j >= tables[i]->n_cached / KV_PAGE_TOKENS) {
                check(p->n_refs == 1 && p->id == 0); // being written
                continue;
            }
            key y = key_of(k, tables[i], j);
            check(p->id && holds(p, &y));
        }
}

static void check_list(const kv *k, const uint32_t *refs) {
    uint32_t n_free = 0, n_cached = 0, n_used = 0, older = KV_NO_PAGE;
    for (uint32_t i = k->oldest; i != KV_NO_PAGE; older = i, i = k->pages[i].newer) {
        check(i < k->n_pages && refs[i] == 0 && k->pages[i].older == older && n_free < k->n_pages);
        check(k->pages[i].id || n_cached == 0); // what nobody can find is taken first
        n_free++, n_cached += k->pages[i].id != 0;
    }
    for (uint32_t i = 0; i < k->n_pages; i++) n_used += refs[i] != 0;
    check(older == k->newest && n_free == k->n_free && n_cached == k->n_cached && n_free + n_used == k->n_pages);
}

static void check_index(const kv *k) {
    uint32_t n_found = 0, n_indexed = 0;
    for (uint32_t b = 0; b < k->n_buckets; b++)
        for (uint32_t i = k->buckets[b]; i != KV_NO_PAGE; i = k->pages[i].next) {
            check(i < k->n_pages && n_found < k->n_pages);
            const kv_page *p = &k->pages[i];
            key y = {p->before, p->hash, p->tokens, p->salt};
            check(p->id && p->id <= k->last_id && p->before < p->id && bucket_of(k, p->hash) == &k->buckets[b]);
            check(index_find(k, &y) == i); // no two pages hold the same
            n_found++;
        }
    for (uint32_t i = 0; i < k->n_pages; i++) n_indexed += k->pages[i].id != 0;
    check(n_found == n_indexed);
}

void kv_check(const kv *k, kv_table *const *tables, uint32_t n_tables) {
    uint32_t *refs = xcalloc(k->n_pages, sizeof *refs);
    for (uint32_t i = 0; i < n_tables; i++) {
        const kv_table *t = tables[i];
        check(t->n_pages <= t->capacity && kv_pages_for(t->n_cached) <= t->n_pages);
        for (uint32_t j = 0; j < t->n_pages; j++) {
            check(t->pages[j] < k->n_pages);
            refs[t->pages[j]]++;
        }
    }
    check_tables(k, tables, n_tables, refs);
    check_list(k, refs);
    check_index(k);
    free(refs);
}

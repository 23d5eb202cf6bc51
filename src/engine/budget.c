// Implements budget.h. Formats: the kernel's admin-guide/cgroup-v2 (memory.max), cgroup-v1/memory.
#include "engine/budget.h"

#include "engine/kv.h"

#include <stdio.h>
#include <unistd.h>

bool budget_plan(const rf_engine_options *o, uint32_t n_ctx_train, size_t page_bytes, uint64_t memory_bytes,
                 budget *out, err *e) {
    if (o->n_ctx == 1 || o->n_ctx > n_ctx_train)
        return fail(e, ERR_USAGE, "n_ctx is %u; it must be 2 to %u, the model's training context", o->n_ctx,
                    n_ctx_train);
    uint64_t n_pages = (o->kv_bytes ? o->kv_bytes : memory_bytes / 4) / page_bytes;
    if (n_pages == 0)
        return fail(e, ERR_MEMORY, "%llu bytes for the KV cache hold not even one page of %zu bytes",
                    (unsigned long long)(o->kv_bytes ? o->kv_bytes : memory_bytes / 4), page_bytes);
    if (n_pages > UINT32_MAX / KV_PAGE_TOKENS) n_pages = UINT32_MAX / KV_PAGE_TOKENS;
    uint32_t n_tokens = (uint32_t)n_pages * KV_PAGE_TOKENS, n_ctx = o->n_ctx ? o->n_ctx : n_ctx_train;
    if (o->n_ctx && o->kv_bytes && o->n_ctx > n_tokens)
        return fail(e, ERR_MEMORY, "kv_bytes holds %u tokens; n_ctx asks for %u", n_tokens, n_ctx);
    if (!o->n_ctx && n_ctx > n_tokens) n_ctx = n_tokens;
    out->n_ctx = n_ctx;
    out->n_pages = o->kv_bytes ? (uint32_t)n_pages : kv_pages_for(n_ctx);
    return true;
}

static uint64_t file_number(const char *path) { // UINT64_MAX when there is none ("max")
    unsigned long long value = UINT64_MAX;
    FILE *f = fopen(path, "re");
    if (!f) return UINT64_MAX;
    if (fscanf(f, "%llu", &value) != 1) value = UINT64_MAX;
    fclose(f);
    return value;
}

uint64_t budget_memory(void) {
    uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    static const char *const limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (int i = 0; i < 2; i++) {
        uint64_t limit = file_number(limits[i]);
        if (limit < least) least = limit;
    }
    return least;
}

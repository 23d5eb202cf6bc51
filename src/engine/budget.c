// Implements budget.h.
#include "engine/budget.h"

#include "base/cgroup.h"
#include "engine/kv.h"

#include <unistd.h>

typedef struct account {
    const rf_engine_options *o;
    const budget_needs *n;
    uint64_t left; // after the weights
} account;

static double mb(uint64_t bytes) { return (double)bytes / 1e6; }

// Bytes left for KV pages once the work for n_ctx is paid; 0 if there are none.
static uint64_t left_for_kv(const account *a, uint32_t n_ctx) {
    uint64_t work = a->n->work_bytes(a->n->arg, n_ctx);
    return a->left > work ? a->left - work : 0;
}

static uint64_t n_pages_left(const account *a, uint32_t n_ctx) {
    uint64_t n = left_for_kv(a, n_ctx) / a->n->page_bytes, most = UINT32_MAX / KV_PAGE_TOKENS;
    return n < most ? n : most;
}

// Without a wish, KV takes a quarter of the machine; of memory given on purpose it may take all that is left.
static uint64_t n_pages_fair(const account *a, uint32_t n_ctx) {
    uint64_t left = n_pages_left(a, n_ctx), quarter = a->n->memory_bytes / 4 / a->n->page_bytes;
    return a->o->memory_bytes || left < quarter ? left : quarter;
}

static uint32_t largest_context(const account *a, uint32_t most) {
    uint32_t least = 0; // fits
    while (least < most) {
        uint32_t middle = most - (most - least) / 2;
        if (n_pages_fair(a, middle) >= kv_pages_for(middle))
            least = middle;
        else
            most = middle - 1;
    }
    return least;
}

static bool plan_context(const account *a, budget *out, err *e) {
    const rf_engine_options *o = a->o;
    uint32_t n_ctx = o->n_ctx ? o->n_ctx : largest_context(a, a->n->n_ctx_train);
    if (n_ctx < 2 || n_pages_left(a, n_ctx) < kv_pages_for(n_ctx))
        return fail(e, ERR_MEMORY,
                    "the weights take %.1f MB of %.1f MB of memory; a context of %u tokens needs %.1f MB more",
                    mb(a->n->weight_bytes), mb(a->n->memory_bytes), n_ctx < 2 ? 2 : n_ctx,
                    mb(a->n->work_bytes(a->n->arg, n_ctx) + (uint64_t)kv_pages_for(n_ctx) * a->n->page_bytes));
    uint64_t n_pages = kv_pages_for(n_ctx), most = n_pages * a->n->max_running, left = n_pages_left(a, n_ctx);
    if (o->memory_bytes) n_pages = left < most ? left : most;
    *out = (budget){n_ctx, (uint32_t)n_pages};
    return true;
}

static bool plan_given_kv(const account *a, budget *out, err *e) {
    const rf_engine_options *o = a->o;
    uint64_t n_pages = o->kv_bytes / a->n->page_bytes, most = UINT32_MAX / KV_PAGE_TOKENS;
    if (n_pages > most) n_pages = most;
    uint64_t n_tokens = n_pages * KV_PAGE_TOKENS;
    if (n_pages == 0 || o->n_ctx > n_tokens)
        return fail(e, ERR_MEMORY, "kv_bytes, %llu, holds %llu tokens; %u are needed", (unsigned long long)o->kv_bytes,
                    (unsigned long long)n_tokens, o->n_ctx ? o->n_ctx : KV_PAGE_TOKENS);
    uint64_t n_ctx = o->n_ctx ? o->n_ctx : n_tokens < a->n->n_ctx_train ? n_tokens : a->n->n_ctx_train;
    if (n_pages_left(a, (uint32_t)n_ctx) < n_pages)
        return fail(e, ERR_MEMORY, "the weights take %.1f MB of %.1f MB of memory, and kv_bytes asks for %.1f MB more",
                    mb(a->n->weight_bytes), mb(a->n->memory_bytes), mb(o->kv_bytes));
    *out = (budget){(uint32_t)n_ctx, (uint32_t)n_pages};
    return true;
}

bool budget_plan(const rf_engine_options *o, const budget_needs *n, budget *out, err *e) {
    if (o->n_ctx == 1 || o->n_ctx > n->n_ctx_train)
        return fail(e, ERR_USAGE, "n_ctx is %u; it must be 2 to %u, the model's training context", o->n_ctx,
                    n->n_ctx_train);
    if (n->weight_bytes > n->memory_bytes)
        return fail(e, ERR_MEMORY, "the weights need %.1f MB; the memory given is %.1f MB", mb(n->weight_bytes),
                    mb(n->memory_bytes));
    account a = {o, n, n->memory_bytes - n->weight_bytes};
    return (o->kv_bytes ? plan_given_kv : plan_context)(&a, out, e);
}

uint64_t budget_memory(void) {
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), group = cgroup_memory();
    return group && group < machine ? group : machine;
}

// Implements runner.h.
#include "cli/runner.h"

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/progress.h"

#include <stdlib.h>
#include <string.h>

static bool allocate(runner *r, err *e) {
    uint32_t n_pages = (r->n_ctx + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    r->kv_bytes = n_pages * model_kv_page_bytes(r->model);
    r->kv = large_alloc(r->kv_bytes, "the KV cache", e);
    r->logits_bytes = r->max_logits * model_logits_stride(r->model) * sizeof(float);
    r->logits = large_alloc(r->logits_bytes, "the logits", e);
    r->pages = xcalloc(n_pages, sizeof *r->pages);
    for (uint32_t i = 0; i < n_pages; i++) r->pages[i] = i;
    r->seqs = xcalloc(r->max_logits, sizeof *r->seqs);
    r->scratch = scratch_new(r->model, r->max_tokens, r->max_logits, r->n_ctx, pool_size(r->threads), e);
    return r->kv && r->logits && r->scratch;
}

bool runner_open(runner *r, const runner_options *o, err *e) {
    *r = (runner){.n_ctx = o->n_ctx, .max_tokens = o->max_tokens, .max_logits = o->max_logits};
    progress bar = progress_start("loading");
    model_options mo = {.progress = progress_show, .progress_arg = &bar};
    if (o->isa && !(mo.force_isa = isa_parse(o->isa, &mo.isa)))
        return fail(e, ERR_USAGE, "--isa '%s' is not one of scalar, avx2, avxvnni, avx512, amx", o->isa);
    if (o->kv_type && !kv_type_parse(o->kv_type, &mo.kv_type))
        return fail(e, ERR_USAGE, "--kv-type '%s' is not one of bf16, f16, q8_0", o->kv_type);
    int64_t start_us = clock_machine_us();
    r->threads = pool_new(o->n_threads, e);
    r->model = r->threads ? model_open(o->model_path, &mo, r->threads, e) : NULL;
    r->load_us = clock_machine_us() - start_us;
    progress_end(&bar);
    if (r->model && allocate(r, e)) return true;
    runner_close(r);
    return false;
}

void runner_close(runner *r) {
    scratch_free(r->scratch);
    free(r->seqs);
    free(r->pages);
    large_free(r->logits, r->logits_bytes);
    large_free(r->kv, r->kv_bytes);
    model_close(r->model);
    pool_free(r->threads);
    memset(r, 0, sizeof *r);
}

static void forward(runner *r, uint32_t n_seqs) {
    step s = {.seqs = r->seqs, .n_seqs = n_seqs, .kv = r->kv, .logits = r->logits};
    model_forward(r->model, &s, r->scratch, r->threads);
}

void runner_step(runner *r, const int32_t *tokens, uint32_t n_tokens, uint32_t n_cached, uint32_t n_logits) {
    r->seqs[0] = (step_seq){
        .tokens = tokens, .n_tokens = n_tokens, .n_cached = n_cached, .pages = r->pages, .n_logits = n_logits};
    forward(r, 1);
}

void runner_step_seqs(runner *r, const int32_t *tokens, uint32_t n_seqs, uint32_t n_cached) {
    uint32_t n_pages = r->n_ctx / n_seqs / KV_PAGE_TOKENS;
    check(n_seqs <= r->max_logits && n_cached < n_pages * KV_PAGE_TOKENS);
    for (uint32_t i = 0; i < n_seqs; i++)
        r->seqs[i] = (step_seq){.tokens = tokens + i,
                                .n_tokens = 1,
                                .n_cached = n_cached,
                                .pages = r->pages + (size_t)i * n_pages,
                                .n_logits = 1};
    forward(r, n_seqs);
}

// Budget: how much KV memory and how much context an engine promises, computed before anything is allocated.
//
// Pure arithmetic; budget_memory alone asks the machine.
#pragma once

#include "base/err.h"
#include "rocmforge.h"

typedef struct budget {
    uint32_t n_ctx;   // tokens per sequence
    uint32_t n_pages; // holds n_ctx tokens at least once
} budget;

// Without wishes in the options: the training context, as far as its KV fits in a quarter of the memory.
bool budget_plan(const rf_engine_options *o, uint32_t n_ctx_train, size_t page_bytes, uint64_t memory_bytes,
                 budget *out, err *e);
uint64_t budget_memory(void); // bytes this process may use: the machine's, or its cgroup's limit

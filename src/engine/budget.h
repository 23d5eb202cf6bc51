// Budget: how an engine's memory is split, and how much context it promises, before anything is allocated.
//
// Weights first, then what work needs (scratch, logits, waiting requests; it grows with the context), then KV pages.
// The three never exceed the memory given. Pure arithmetic; budget_memory alone asks the machine.
#pragma once

#include "base/err.h"
#include "rocmforge.h"

typedef struct budget_needs { // of a model on a machine
    uint64_t memory_bytes, weight_bytes;
    size_t page_bytes; // of KV, bookkeeping included
    uint32_t n_ctx_train, max_running;
    uint64_t (*work_bytes)(const void *arg, uint32_t n_ctx); // does not fall when n_ctx rises
    const void *arg;
} budget_needs;

typedef struct budget {
    uint32_t n_ctx;   // tokens per sequence
    uint32_t n_pages; // holds n_ctx tokens at least once
} budget;

bool budget_plan(const rf_engine_options *o, const budget_needs *n, budget *out, err *e);
uint64_t budget_memory(void); // bytes this process may use: the machine's, or its control group's limit

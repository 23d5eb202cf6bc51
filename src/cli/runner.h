// Runner: a model driven directly, without the engine, by the commands that measure it (perplexity, bench).
// Owns the threads, the model, the KV pages and the step's scratch. One thread. There is one sequence that may have all
// pages, or several that share them.
#pragma once

#include "model/model.h"

typedef struct runner {
    pool *threads;
    model *model;
    scratch *scratch;
    uint8_t *kv;
    size_t kv_bytes;
    uint32_t *pages; // identity: page i of the only sequence is page i of the pool
    step_seq *seqs;  // [max_logits], of a step
    float *logits;   // [max_logits][model_logits_stride]
    size_t logits_bytes;
    uint32_t max_tokens, max_logits, n_ctx;
    int64_t load_us;
} runner;

typedef struct runner_options {
    const char *model_path, *isa;           // isa NULL: the widest
    const char *kv_type;                    // NULL: bf16
    int n_threads;                          // 0: affinity and quota
    uint32_t n_ctx, max_tokens, max_logits; // of all sequences, per step, rows of logits per step
} runner_options;

bool runner_open(runner *r, const runner_options *o, err *e);
void runner_close(runner *r);
// Feeds n_tokens (<= max_tokens) after n_cached ones; logits of the last n_logits rows are in r->logits.
void runner_step(runner *r, const int32_t *tokens, uint32_t n_tokens, uint32_t n_cached, uint32_t n_logits);
// One token for each of n_seqs (<= max_logits) sequences that have n_cached each; their logits are in r->logits.
// Sequence i has the i-th n_ctx / n_seqs of the context; a multiple of KV_PAGE_TOKENS.
void runner_step_seqs(runner *r, const int32_t *tokens, uint32_t n_seqs, uint32_t n_cached);

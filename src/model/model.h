// Model: one transformer, configured by data, run one step at a time.
//
// A model owns its packed weights and its vocabulary's source file mapping; immutable after model_open, so that steps
// may read it from every worker. model_forward holds no request state: everything a step needs is in `step`. The KV
// cache is memory of the caller's: n pages of model_kv_page_bytes each, named by index.
#pragma once

#include "base/threads.h"
#include "gguf/gguf.h"
#include "kernel/kernel.h"

typedef struct model_config {
    char arch[32];
    uint32_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ffn, n_vocab, n_ctx_train;
    uint32_t n_rot;
    float rms_eps;
    bool rope_neox, qkv_bias, tied_head;
    double rope_base;
    double rope_freq_scale; // linear scaling: positions are multiplied by it (1 = none)
    // llama 3 style and yarn parameters live beside their use in config.c
    uint64_t n_params;
} model_config;

typedef struct model model;

typedef struct model_options {
    isa isa; // with force_isa; otherwise the widest available
    bool force_isa;
    kv_type kv_type;                              // what the pages of its KV cache hold
    uint64_t max_bytes;                           // of packed weights; 0: no limit
    void (*progress)(void *arg, double fraction); // may be NULL; called on the caller's thread while packing
    void *progress_arg;
} model_options;

// Opens, checks, binds and packs with the given pool. NULL and one sentence on any failure.
model *model_open(const char *path, const model_options *o, pool *threads, err *e);
void model_close(model *m); // m may be NULL
const model_config *model_get_config(const model *m);
const gguf *model_get_file(const model *m); // metadata stays readable while the model lives
const kernels *model_get_kernels(const model *m);
size_t model_weight_bytes(const model *m);

size_t model_kv_page_bytes(const model *m); // one page: KV_PAGE_TOKENS tokens, all layers, K and V

// One sequence's part of a step: n_tokens new tokens that follow n_cached ones already in its pages.
typedef struct step_seq {
    const int32_t *tokens; // [n_tokens]
    uint32_t n_tokens;     // >= 1
    uint32_t n_cached;
    const uint32_t *pages; // page indices; covers n_cached + n_tokens tokens
    uint32_t n_logits;     // logits wanted for this many of the last tokens (0..n_tokens)
    uint32_t n_hidden;     // hidden states wanted, likewise; 0 if any logits are
} step_seq;

typedef struct step {
    step_seq *seqs;
    uint32_t n_seqs;
    uint8_t *kv;   // base of the page pool
    float *logits; // [Σ n_logits][model_logits_stride], in order of sequences, then tokens
    float *hidden; // [Σ n_hidden][model_hidden_stride], likewise: after the final norm
} step;

size_t model_logits_stride(const model *m); // floats between rows of logits, >= n_vocab
size_t model_hidden_stride(const model *m); // floats between rows of hidden states, >= d_model

// Scratch for steps of at most max_tokens tokens and max_logits rows of logits. No malloc afterwards.
typedef struct scratch scratch;
scratch *scratch_new(const model *m, uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads,
                     err *e);
void scratch_free(scratch *s);
size_t scratch_bytes(const model *m, uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads);

// Runs the step on the pool; writes K and V into the pages, and what is wanted. Cannot fail: non-finite values show up
// in the logits and hidden states of the rows they belong to, and only there.
void model_forward(const model *m, const step *s, scratch *scratch, pool *threads);

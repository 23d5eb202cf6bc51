// Request: the handle that callers hold; the only thing a caller's thread and the engine thread share.
//
// Lives as long as anybody holds it: all callers together are one hold, the engine (while the request is live) another.
// Three ways across: `cancelled`, a flag that anybody sets and the engine reads; `status`, one word that the engine
// writes and anybody reads; the outbox, under the handle's own lock, that the engine fills and the caller empties.
// Invariant: the engine calls request_end exactly once, and nothing after it.
// Outbox: two sides; the engine appends to `filling` while the caller reads `reading`, and a poll swaps them. Pieces
// that were not fetched coalesce, so the outbox is bounded by max_tokens, and the prompt if it is scored. `notify` runs
// under the lock: once the last caller has released, it will not be called any more.
#pragma once

#include "base/buf.h"
#include "engine/door.h"
#include "rocmforge.h"

#include <pthread.h>

typedef struct outbox_side {
    buf text;
    int32_t *tokens;            // [n_tokens]
    rf_token_logprob *logprobs; // [n_tokens][width], only if width
    uint32_t n_tokens, capacity;
    int64_t made_us; // of the oldest
} outbox_side;

typedef struct rf_request {
    atomic_uint n_callers, n_holds;
    atomic_bool cancelled;
    _Atomic uint64_t status; // state, finish, n_generated: request_publish
    uint32_t n_prompt;
    uint32_t logprob_width; // per token; 0: none are kept
    char *id;               // may be NULL
    door *door;

    pthread_mutex_t lock; // everything below
    pthread_cond_t ready;
    outbox_side filling, reading; // `reading` is the caller's between polls
    uint32_t n_prompt_left;       // of the prompt: tokens to be shown before the answer's
    bool ended, end_taken;
    rf_finish finish;
    rf_error error;
    rf_usage usage;
    float *embedding; // [n_embedding]; NULL: none
    uint32_t n_embedding;
    void (*notify)(void *arg);
    void *notify_arg;
} request;

request *request_new(door *d, uint32_t n_prompt, const rf_params *params); // held by one caller
// The engine's hold: taken before the request can be seen by it, dropped after request_end.
void request_hold(request *r);
void request_drop(request *r);

// Engine thread.
void request_publish(request *r, rf_state state, rf_finish finish, uint32_t n_generated);
// Text and at most one token (n_tokens 0 or 1) with its log-probabilities [logprob_width], if any are kept.
void request_deliver(request *r, const char *text, size_t n_bytes, const int32_t *token,
                     const rf_token_logprob *logprobs);
void request_embed(request *r, float *embedding, uint32_t n); // takes it; shown with the end
void request_end(request *r, rf_finish finish, const err *error, const rf_usage *usage);

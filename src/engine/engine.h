// Engine: the loop that answers requests, and the only owner of what it takes: sequences, KV pages, sampler.
//
//     take mail -> retire cancelled and expired -> plan -> forward -> sample -> stream -> deliver -> commit
//
// engine_step does that once, on the caller's thread: a simulation drives it by hand with a manual clock and a fake
// forward. engine_start gives it a thread of its own, which sleeps on the door's mailbox whenever a step found nothing
// to do; it needs no timer, because a waiting sequence always has someone running before it (schedule.h). Law: every
// sequence that passed the door ends in engine_retire, exactly once, whatever the cause. Does not know models: forward
// is the one seam.
#pragma once

#include "base/clock.h"
#include "engine/door.h"
#include "engine/schedule.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/vocab.h"

// Runs a step: writes K and V of its tokens into its pages, and the rows that are wanted. Cannot fail.
typedef struct forward {
    void *self;
    void (*run)(void *self, const step *s);
    void (*close)(void *self); // the engine owns self; may be NULL
} forward;

typedef struct engine_config {
    forward forward;
    const vocab *vocab;        // lives as long as forward
    const chat_template *chat; // the same; NULL: there is none
    const struct clock *clock; // NULL: the machine's
    rf_model_info info;        // handed out as it is; n_ctx, n_vocab and d_model are the engine's limits
    size_t logits_stride;      // floats between rows of logits
    size_t hidden_stride;      // floats between rows of hidden states
    size_t page_bytes;
    uint32_t n_pages; // * KV_PAGE_TOKENS >= info.n_ctx
    uint32_t max_running, max_queue, step_tokens, speculate;
    uint32_t fixed_rows; // what a step costs besides its rows, in rows: draft.h
    uint64_t hash_mask;  // of the prefix index; 0: all bits. For tests
} engine_config;

typedef struct rf_engine engine;

// Or is the prompt all there is to read?
static inline bool engine_wants_answer(const rf_params *p) { return !p->embed && p->score != RF_SCORE_ONLY; }

uint32_t engine_logits_rows(const engine_config *c); // most that one step can ask for
size_t engine_output_bytes(const engine_config *c);  // what engine_new allocates besides the KV pool
// NULL if a large allocation fails; forward is then closed as well.
engine *engine_new(const engine_config *c, err *e);
void engine_free(engine *g); // stopped, with nothing live

const engine_config *engine_get_config(const engine *g);
const kv *engine_get_kv(const engine *g);              // engine thread, or when there is none
const schedule *engine_get_schedule(const engine *g);  // the same
void engine_get_stats(const engine *g, rf_stats *out); // any thread
void engine_check(const engine *g);                    // the same; recomputes every invariant of KV and sequences

// Any thread. Checked parameters and a prompt (copied) of 1 .. n_ctx - 1 tokens, n_ctx without an answer, become a live
// request, held by one caller. NULL with ERR_BUSY or ERR_STOPPED.
request *engine_submit(engine *g, const rf_params *p, const int32_t *prompt, uint32_t n_prompt, err *e);
// One step. False if there was nothing to run.
bool engine_step(engine *g);
// Any thread: no more requests are accepted; live ones may run for drain_ms more, then they are cancelled.
void engine_shut(engine *g, int drain_ms);
// Steps and sleeps until shut and empty.
void engine_run(engine *g);

bool engine_start(engine *g, err *e); // engine_run in a new thread; once
void engine_join(engine *g);          // after engine_shut; no thread: runs here to the end

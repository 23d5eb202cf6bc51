// Schedule: who runs in the next step, and with how many tokens.
//
// Two ordered sets of borrowed sequences, `running` (may hold pages) and `waiting` (hold none), both served in the
// order of sequence_before. A plan gives every decoding sequence its one token first, then prefill chunks in order,
// within the step's token budget; then admits from the head of the queue whoever's next chunk finds its pages. An
// admitted sequence starts from the pages that hold its beginning already; if this very step makes more of them, it
// waits for the next, so that many requests with one prompt read it once. Pages are reserved in order of service; when
// they run out the last of the running set goes back to the queue and will be recomputed. A prompt that is scored wants
// a row of logits for each token, so its chunks take only rows that nobody else can claim. What is left of the step's
// tokens, rows and pages, decoders may use for guesses of what they will say next. Progress: the first running
// sequence always gets its pages, because all others can be preempted (the pool holds at least one full sequence). So a
// plan is empty only if there is nothing to run. The engine thread's alone. Knows neither requests nor logits.
#pragma once

#include "engine/sequence.h"

typedef struct schedule {
    uint32_t max_running, max_waiting, step_tokens; // step_tokens >= max_running
    uint32_t speculate;                             // most guesses per sequence and step
    uint32_t n_running, n_waiting, n_planned;
    draft_cost cost;    // of the step planned; fixed_rows is the engine's to set
    uint32_t n_spare;   // rows of logits that are left when each sequence that may run has one
    sequence **running; // [max_running]
    sequence **waiting; // [max_waiting]: no more are live (door.h)
    sequence **planned; // [max_running]: decoders, then prefill; each with n_planned >= 1 tokens
    uint64_t next_ticket;
    uint64_t n_preempted; // since the start
} schedule;

// Rows of logits that one step may ask for.
uint32_t schedule_logits_rows(uint32_t max_running, uint32_t speculate);

// Whoever waits counts for max_queue, preempted or not; the running set may be preempted on top of that.
void schedule_init(schedule *s, uint32_t max_running, uint32_t max_queue, uint32_t step_tokens, uint32_t speculate);
void schedule_free(schedule *s); // must be empty

void schedule_add(schedule *s, sequence *q); // a new arrival: gets its ticket, waits
void schedule_plan(schedule *s, kv *k);      // fills planned; reserves the pages
// Out of the set it is in; its pages go back. `planned` is left alone, so that a plan's walker may remove.
void schedule_remove(schedule *s, sequence *q, kv *k);

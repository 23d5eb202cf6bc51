// Answer: the engine's requests behind one exchange, brought to the event loop's thread.
//
// The loop's thread owns an answer. Each of its requests rings the bell when it has events; they are polled here and
// handed to the style, which writes the reply. A client that leaves cancels its requests; a client that does not read
// pauses the polling (what piles up in the requests is bounded by their max_tokens). An answer lives until the last of
// its requests has ended, whatever became of the client.
// Invariant: every request that was submitted is polled to its END; then `finished` is called, once, and the answer is
// freed.
#pragma once

#include "server/bell.h"
#include "server/http.h"

#include <rocmforge.h>

typedef struct answer answer;

typedef struct answer_style { // how an API family shows an answer; self is the family's own, all on the loop's thread
    void (*piece)(void *self, exchange *x, uint32_t choice, const rf_event *event); // TEXT
    void (*ended)(void *self, exchange *x, uint32_t choice, const rf_event *event); // END of one choice
    void (*finished)(void *self, exchange *x); // x is NULL if the client left; else the reply must end here
    // END of one choice, client or no client: for the record. May be NULL.
    void (*record)(void *self, uint32_t choice, const rf_event *event);
} answer_style;

// piece and ended are called only while the client is there.
answer *answer_new(bell *b, exchange *x, const answer_style *style, void *self);
// One more choice. False and *error: it was not accepted.
bool answer_submit(answer *a, rf_engine *engine, rf_params params, rf_error *error);
// After the submits: from here on the exchange is the answer's. If one failed, `refuse` instead: what was accepted is
// cancelled and ends silently; the exchange stays the caller's; finished is called with NULL.
void answer_start(answer *a);
void answer_refuse(answer *a);
void answer_cancel(answer *a);
uint32_t answer_n_choices(const answer *a);
void answer_get_status(const answer *a, uint32_t choice, rf_status *status);

void answer_bell(mail_node *node); // what the bell calls

// Problem: what is wrong with a call, in the shape that OpenAI's clients expect, with its HTTP status.
//
// A value: whoever finds the fault fills it (the first one wins) and the route that was called replies with it, once.
#pragma once

#include "server/http.h"

#include <rocmforge.h>

typedef struct problem {
    int status;           // 0: there is none
    const char *type;     // "invalid_request_error", ...
    const char *code;     // "model_not_found", ...; NULL: null
    char param[64];       // the field; "" : null
    char message[320];    // one sentence
    uint32_t retry_after; // seconds; 0: no such header
} problem;

// Fills *p unless it is filled; false, so that `return problem_set(...)` reads as one line. param may be NULL.
bool problem_set(problem *p, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
// What the engine said; of param, if it is the call that is wrong: all other fields have been checked by then.
bool problem_of(problem *p, const char *param, const rf_error *error);
void problem_reply(exchange *x, const problem *p);

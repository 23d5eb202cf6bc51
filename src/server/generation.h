// Generation: a call that makes the engine work, whatever its API's words: choices, stream or whole reply.
//
// A family (native, completions, chat, embeddings) fills an `ask` and says by its table how pieces and replies are
// written. Everything else is here: submission of all prompts times n choices, the record, flow control, ends,
// errors in the middle. The loop's thread; a generation frees itself after the last end.
#pragma once

#include "server/ask.h"

typedef struct choice {
    buf text;
    rf_finish finish;
    char error[320];
    rf_usage usage;
    int32_t *tokens;            // [n_tokens], only with logprobs
    rf_token_logprob *logprobs; // [n_tokens][1 + n_top], only with logprobs
    uint32_t n_tokens;
    uint32_t n_told, text_offset; // tokens whose log-probabilities were written; characters before the next one
    float *embedding;             // [d_model], only if it was asked for
} choice;

typedef struct generation generation;

typedef struct family {                     // how one API speaks
    const char *route, *id_prefix, *prompt; // prompt: the field that it comes from
    // A streamed piece of a choice, a choice's end: one or several "data: ...\n\n" events. begin may be NULL.
    void (*put_begin)(generation *g, buf *out);
    void (*put_piece)(generation *g, buf *out, uint32_t i, const rf_event *event);
    void (*put_end)(generation *g, buf *out, uint32_t i);
    void (*put_last)(generation *g, buf *out);  // after all ends
    void (*put_whole)(generation *g, buf *out); // the reply that is not streamed: one JSON object
} family;

struct generation {
    server *s;
    const family *family;
    record *record;
    ask ask;
    choice *choices; // [n_prompts * n]
    uint32_t n_choices;
    bool streaming;
    buf out;
};

// Takes the ask. Replies, now or later.
void generation_start(call *c, const family *f, ask *a);
rf_usage generation_usage(const generation *g); // prompts counted once each, completions together; the longest times
const char *generation_finish(const choice *c); // "stop", "length", ...

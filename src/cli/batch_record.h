// Batch record: one line of a batch's input or output, as JSON.
//
//     in    {"id"?: string or integer, "prompt": string, and any of max_tokens, temperature, top_k, top_p, min_p,
//            repeat_penalty, presence_penalty, frequency_penalty, seed, stop (a string or an array of them)};
//            instead of the prompt "messages", and then any of tools, documents, add_generation_prompt,
//            chat_template_kwargs, date: a conversation, as rf_chat_render takes it
//     out   {"id"?, "index", "text", "tokens"?, "finish_reason", "usage": {"prompt_tokens", "completion_tokens"}}
//           {"id"?, "index", "error", "finish_reason": "error"}
// `index` counts the records of the input from 0; blank lines are none. Only types are checked here: the engine checks
// values, once, for everybody.
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <rocmforge.h>

typedef struct batch_record { // free it whether it could be read or not
    json_t *root;             // what params borrows from
    const char **stops;
    json_t *id;   // borrowed from root; NULL: the record has none
    json_t *chat; // the conversation; NULL: there is a prompt
} batch_record;

// Overwrites in *params what the line says; params then borrows from *r. The prompt of a conversation is not there yet.
bool batch_record_read(batch_record *r, const char *line, size_t n_bytes, rf_params *params, err *e);
void batch_record_free(batch_record *r);

// A line of output with its newline, the caller's to free. id and tokens may be NULL.
char *batch_record_answer(json_t *id, uint64_t index, const buf *text, json_t *tokens, const rf_event *end);

// Whether a line of output belongs to the record with this id and index; *failed: it is not a whole answer.
bool batch_record_matches(const char *line, size_t n_bytes, const json_t *id, uint64_t index, bool *failed);

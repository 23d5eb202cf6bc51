// Ask: what a body wants of the engine, once it was read: parameters, prompts, stream or not.
//
// A value on the loop's thread: a family reads its fields into it, generation_start takes it. Texts in it are borrowed
// from `body`. Whatever a field says wrong is a problem that names the field.
#pragma once

#include "server/call.h"
#include "server/json.h"

typedef struct ask {  // what a family found in the body
    rf_params params; // without prompt
    uint32_t n;       // choices per prompt; seeds seed, seed + 1, ...
    bool stream, include_usage, echo, logprobs;
    bool base64; // of embeddings: as text of their bytes
    const char *model;
    const char **stops;    // freed by the generation
    rf_logit_bias *biases; // freed by the generation
    struct ask_prompt {
        const char *text; // borrowed from the body
        size_t n_bytes;
        int32_t *tokens; // freed by the generation; NULL: text
        size_t n_tokens;
    } * prompts; // [n_prompts], freed by the generation
    size_t n_prompts;
    json_t *body; // decref'd by the generation: texts are borrowed from it
} ask;

// The parameters that every API has, under the names they share.
bool ask_read_sampling(ask *a, const call *c, const json_t *body, problem *p);
// One or several prompts, as text or as ids of tokens: the field `name` of the body. After n is known.
bool ask_read_prompts(ask *a, const call *c, const char *name, problem *p);
// The engine has copied what it needs, and the largest part of a body may be what nobody knows. The prompt alone stays:
// echo asks for it again.
void ask_let_body_go(ask *a);
void ask_free(ask *a);

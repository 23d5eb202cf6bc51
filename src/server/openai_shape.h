// Shapes that several of OpenAI's endpoints share: usage, models, errors in a stream, log-probabilities.
#pragma once

#include "server/generation.h"

void openai_put_usage(buf *b, const rf_usage *usage);
// "id":..,"object":..,"created":..,"model":.. without braces.
void openai_put_head(const generation *g, buf *b, const char *object);
void openai_put_error_event(buf *out, const char *message);
void openai_put_last(const generation *g, buf *out, const char *object); // the usage if it was asked for; "[DONE]"
void openai_put_token(const generation *g, buf *b, int32_t token);       // its text, quoted
// n tokens with their log-probabilities, [n][1 + n_top]: {"content":[...]}, as chat has it.
void openai_put_chat_logprobs(const generation *g, buf *b, const rf_token_logprob *p, size_t n);
// n further tokens of choice i, [n][1 + n_top], as completions have it. A prompt's very first token follows nothing:
// nulls.
void openai_put_logprobs(generation *g, buf *b, uint32_t i, const int32_t *tokens, const rf_token_logprob *p, size_t n);

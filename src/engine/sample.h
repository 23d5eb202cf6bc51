// Sample: one row of logits in, one token out.
//
// Order of filters: bias, penalties, top-k, top-p, min-p, temperature. Every filter keeps a prefix of the tokens ranked
// by (logit descending, id ascending), so ties and order are defined everywhere. One draw per token from a
// counter-based generator keyed by (seed, position): the choice depends on nothing but the arguments (canon_exp, fixed
// order sums). Owns scratch for one vocabulary; the engine thread's; no malloc after sampler_new. Bounded: a fixed
// number of passes, one heap sort at most, no rejection. Does not know about requests: a failure is a value,
// SAMPLE_FAILED.
#pragma once

#include "rocmforge.h"

enum { SAMPLE_FAILED = -1, SAMPLE_MAX_LOGPROBS = 20, SAMPLE_MAX_BIAS = 1024 };

typedef struct sample_params { // meaning and ranges: rf_params
    float temperature, top_p, min_p;
    uint32_t top_k;
    float repeat_penalty, presence_penalty, frequency_penalty;
    uint32_t penalty_last_n;
    uint64_t seed;
    const rf_logit_bias *logit_bias; // [n_logit_bias], borrowed
    uint32_t n_logit_bias;
} sample_params;

typedef struct sampler sampler;

sampler *sampler_new(uint32_t n_vocab);
void sampler_free(sampler *s); // s may be NULL

// The token that follows history [n_history]. SAMPLE_FAILED if any logit [n_vocab] is not finite.
int32_t sample_token(sampler *s, const sample_params *p, const float *logits, const int32_t *history,
                     uint32_t n_history);

// Log-softmax of the raw logits: out[0] is `token`, out[1..n_top] the most likely tokens, best first.
// n_top <= SAMPLE_MAX_LOGPROBS and <= n_vocab. False if any logit is not finite.
bool sample_logprobs(sampler *s, const float *logits, int32_t token, uint32_t n_top, rf_token_logprob *out);

// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.2 and table 2.
void sample_philox(const uint32_t key[2], uint32_t counter[4]);

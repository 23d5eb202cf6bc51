// Sequence: one answer in the making; what the engine knows about a request that its holders need not.
//
// Built by the submitting thread, then posted: from there on the engine thread owns it, and engine_retire ends it.
// It holds the engine's reference to its request. All memory it will ever need is taken at birth, so decoding allocates
// nothing.
// Drafts stand behind the n_tokens tokens until the step has shown which are right; nothing else looks there.
// Invariant (sequence_check): kv.n_cached <= n_tokens, n_prompt <= n_tokens <= limit, n_tokens + n_drafts < limit while
// there are drafts.
#pragma once

#include "base/mailbox.h"
#include "engine/draft.h"
#include "engine/kv.h"
#include "engine/request.h"
#include "engine/sample.h"
#include "text/stream.h"

typedef struct sequence {
    mail_node mail;
    request *request;
    uint64_t ticket; // order of arrival, given by the engine
    int32_t priority;
    bool running; // in the running set
    bool at_door; // counted there, as one who waits

    int32_t *tokens; // [limit], prompt then answer
    uint32_t n_prompt, n_tokens;
    uint32_t limit;     // n_prompt + max_tokens, or where the context ends; n_prompt if no answer is wanted
    uint32_t n_planned; // tokens of this step, taken after kv.n_cached
    uint32_t n_drafts;  // of this step, after those: guesses of tokens[n_tokens ...]
    uint32_t n_reused;  // of the prompt, found in the cache when first admitted
    uint32_t draft_credit;
    uint32_t n_drafted, n_accepted; // guesses so far; those that were right
    kv_table kv;
    char salt[KV_SALT_BYTES + 1];

    sample_params sampling;
    rf_logit_bias *logit_bias; // [sampling.n_logit_bias]
    bool ignore_eos, logprobs;
    uint32_t n_logprobs;
    uint32_t n_unscored; // of the prompt: tokens whose log-probabilities are still to be told
    text_stream *text;

    rf_embed embed;
    float *embedding; // [d_model] hidden states so far, added up (embed.h); NULL if no embedding is wanted

    int64_t deadline_us;                               // INT64_MAX: none
    int64_t submitted_us, admitted_us, first_token_us; // -1: not yet
    int64_t last_token_us;
    uint32_t n_timed; // tokens, with the prompt, that the statistics know of
} sequence;

// prompt [n_prompt], the stop strings and the bias are copied; the engine's hold on r goes with the sequence.
sequence *sequence_new(request *r, const int32_t *prompt, uint32_t n_prompt, uint32_t limit, const rf_params *params);
void sequence_free(sequence *s); // its pages must be released

static inline uint32_t sequence_pending(const sequence *s) { return s->n_tokens - s->kv.n_cached; }
// How many of its first tokens need not be read if their pages are found: what is wanted of the last is in no page, and
// a mean is of all, as are log-probabilities.
static inline uint32_t sequence_skippable(const sequence *s) {
    return s->embed == RF_EMBED_MEAN || s->n_unscored ? 0 : s->n_tokens - 1;
}
static inline rf_state sequence_state(const sequence *s) {
    return !s->running ? RF_QUEUED : sequence_pending(s) > 1 || s->n_tokens == s->n_prompt ? RF_PREFILL : RF_DECODE;
}
// The order in which sequences are served: higher priority first, then first come.
static inline bool sequence_before(const sequence *a, const sequence *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->ticket < b->ticket;
}
void sequence_check(const sequence *s);

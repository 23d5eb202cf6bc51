// Implements sequence.h.
#include "engine/sequence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sequence *sequence_new(request *r, const int32_t *prompt, uint32_t n_prompt, uint32_t limit, const rf_params *params) {
    sequence *s = xcalloc(1, sizeof *s);
    *s = (sequence){
        .request = r,
        .priority = params->priority,
        .at_door = true,
        .n_prompt = n_prompt,
        .n_tokens = n_prompt,
        .limit = limit,
        .n_timed = n_prompt,
        .draft_credit = DRAFT_CREDIT,
        .sampling = {.temperature = params->temperature,
                     .top_p = params->top_p,
                     .min_p = params->min_p,
                     .top_k = params->top_k,
                     .repeat_penalty = params->repeat_penalty,
                     .presence_penalty = params->presence_penalty,
                     .frequency_penalty = params->frequency_penalty,
                     .penalty_last_n = params->penalty_last_n,
                     .seed = params->seed,
                     .n_logit_bias = (uint32_t)params->n_logit_bias},
        .ignore_eos = params->ignore_eos,
        .logprobs = params->logprobs,
        .n_logprobs = params->n_logprobs,
        .n_unscored = params->score ? n_prompt : 0,
        .embed = params->embed,
        .text = text_stream_new(params->stop, params->n_stop),
        .deadline_us = INT64_MAX,
        .admitted_us = -1,
        .first_token_us = -1,
    };
    s->tokens = xcalloc(limit, sizeof *s->tokens);
    memcpy(s->tokens, prompt, n_prompt * sizeof *prompt);
    s->sampling.logit_bias = s->logit_bias = xcalloc(params->n_logit_bias, sizeof *s->logit_bias);
    if (params->n_logit_bias) memcpy(s->logit_bias, params->logit_bias, params->n_logit_bias * sizeof *s->logit_bias);
    if (params->cache_salt) snprintf(s->salt, sizeof s->salt, "%s", params->cache_salt);
    kv_table_init(&s->kv, limit, s->tokens, s->salt);
    return s;
}

void sequence_free(sequence *s) {
    kv_table_free(&s->kv);
    text_stream_free(s->text);
    free(s->tokens), free(s->logit_bias), free(s->embedding);
    free(s);
}

void sequence_check(const sequence *s) {
    check(s->n_prompt >= 1 && s->n_prompt <= s->n_tokens && s->n_tokens <= s->limit);
    check(s->kv.n_cached <= s->n_tokens && s->n_planned <= sequence_pending(s));
    check(!s->embed || s->n_prompt == s->limit);
    check(s->n_unscored == 0 || (s->n_unscored <= s->n_prompt && s->n_prompt == s->n_tokens));
    check(s->n_drafts == 0 || (s->n_planned == 1 && s->n_tokens + s->n_drafts < s->limit));
    check(s->running || (s->kv.n_pages == 0 && s->kv.n_cached == 0 && s->n_planned == 0 && s->n_drafts == 0));
}

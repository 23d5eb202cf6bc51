// Implements generation.h.
#include "server/generation.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- pieces and ends ---------------------------------------------------------------------------------------------

static void flush(generation *g, exchange *x) {
    exchange_write(x, g->out.data, g->out.n_bytes);
    buf_reset(&g->out);
}

static void keep_logprobs(choice *c, const rf_event *e, uint32_t width) {
    c->tokens = xrealloc(c->tokens, (c->n_tokens + e->n_tokens + 1) * sizeof *c->tokens);
    c->logprobs = xrealloc(c->logprobs, (c->n_tokens + e->n_tokens + 1) * width * sizeof *c->logprobs);
    memcpy(c->tokens + c->n_tokens, e->tokens, e->n_tokens * sizeof *c->tokens);
    memcpy(c->logprobs + (size_t)c->n_tokens * width, e->logprobs, e->n_tokens * width * sizeof *c->logprobs);
    c->n_tokens += (uint32_t)e->n_tokens;
}

static void on_piece(void *self, exchange *x, uint32_t i, const rf_event *e) {
    generation *g = self;
    if (!g->record->first_us && e->n_tokens > e->n_prompt_tokens) g->record->first_us = clock_machine_us();
    if (g->streaming) {
        g->family->put_piece(g, &g->out, i, e);
        if (g->out.n_bytes) exchange_note_made(x, e->made_us);
        flush(g, x);
        return;
    }
    buf_append(&g->choices[i].text, e->text, e->n_bytes);
    if (g->ask.logprobs && e->n_tokens) keep_logprobs(&g->choices[i], e, 1 + g->ask.params.n_logprobs);
}

static void on_record(void *self, uint32_t i, const rf_event *e) {
    generation *g = self;
    choice *c = &g->choices[i];
    c->finish = e->finish, c->usage = e->usage;
    if (e->finish == RF_FINISH_ERROR) snprintf(c->error, sizeof c->error, "%s", e->error.message);
    record_add_end(g->record, e);
}

static void on_ended(void *self, exchange *x, uint32_t i, const rf_event *e) {
    generation *g = self;
    if (e->embedding) {
        size_t n_bytes = e->n_embedding * sizeof *e->embedding;
        g->choices[i].embedding = memcpy(xmalloc(n_bytes), e->embedding, n_bytes);
    }
    if (!g->streaming) return;
    g->family->put_end(g, &g->out, i);
    flush(g, x);
}

static void generation_free(generation *g) {
    for (uint32_t i = 0; i < g->n_choices; i++) {
        buf_free(&g->choices[i].text);
        free(g->choices[i].tokens), free(g->choices[i].logprobs), free(g->choices[i].embedding);
    }
    free(g->choices);
    ask_free(&g->ask);
    buf_free(&g->out);
    free(g);
}

// An answer may end early; an embedding that did is none.
static bool is_whole(const generation *g, const choice *c, problem *p) {
    if (c->finish == RF_FINISH_ERROR) return problem_set(p, 500, "engine_error", NULL, "%s", c->error);
    if (!g->ask.params.embed || c->finish == RF_FINISH_STOP) return true;
    if (c->finish == RF_FINISH_TIMEOUT)
        return problem_set(p, 504, "timeout", "timeout", "the time that 'timeout' gave has passed");
    return problem_set(p, 503, "cancelled", NULL, "the request was cancelled");
}

static void reply_whole(generation *g, exchange *x) {
    problem p = {0};
    for (uint32_t i = 0; i < g->n_choices; i++)
        if (!is_whole(g, &g->choices[i], &p)) return problem_reply(x, &p);
    g->family->put_whole(g, &g->out);
    exchange_reply(x, 200, "application/json", g->out.data, g->out.n_bytes);
}

static void measure(metrics *m, int64_t took_us) {
    metrics_add_duration(&m->end_to_end, took_us);
    m->recent_us = m->end_to_end.count == 1 ? took_us : m->recent_us + (took_us - m->recent_us) / 8;
}

static void on_finished(void *self, exchange *x) {
    generation *g = self;
    if (x && g->streaming) {
        g->family->put_last(g, &g->out);
        flush(g, x);
        exchange_end(x);
    } else if (x) {
        reply_whole(g, x);
    }
    if (g->record->finish == RF_FINISH_NONE) { // nothing was accepted
        record_drop(g->s->records, g->record);
    } else {
        measure(g->s->metrics, clock_machine_us() - g->record->created_us);
        record_finish(g->s->records, g->record);
    }
    generation_free(g);
}

// ---- the start ---------------------------------------------------------------------------------------------------

static const answer_style STYLE = {on_piece, on_ended, on_finished, on_record};

static bool submit_all(generation *g, answer *a, problem *p) {
    rf_params params = g->ask.params;
    uint64_t seed = params.seed;
    char salt[16];
    snprintf(salt, sizeof salt, "%08x", g->record->owner);
    if (g->s->o.salt_by_key) params.cache_salt = salt;
    params.id = g->record->id;
    for (uint32_t i = 0; i < g->n_choices; i++) {
        const struct ask_prompt *prompt = &g->ask.prompts[i / g->ask.n];
        params.prompt = prompt->text, params.n_prompt_bytes = prompt->n_bytes;
        params.prompt_tokens = prompt->tokens, params.n_prompt_tokens = prompt->tokens ? prompt->n_tokens : 0;
        params.seed = seed + i % g->ask.n;
        rf_error error = {0};
        if (!answer_submit(a, g->s->engine, params, &error)) return problem_of(p, g->family->prompt, &error);
    }
    return true;
}

// When one of n calls is likely to have ended: if each takes time t, that happens every t / n (Little 1961).
static uint32_t retry_after(const server *s, uint32_t n) {
    int64_t seconds = (s->metrics->recent_us / (n ? n : 1) + 999999) / 1000000;
    return seconds < 1 ? 1 : seconds > 3600 ? 3600 : (uint32_t)seconds;
}

static bool is_allowed(const call *c, const family *f, const ask *a, problem *p) {
    if (!call_knows_model(c, a->model, p)) return false;
    size_t n_asked = a->n_prompts * a->n;
    uint32_t queue = c->s->o.engine.max_queue;
    if (n_asked > queue) // would be told to try again, for ever
        return problem_set(p, 400, "invalid_value", a->n > 1 ? "n" : f->prompt,
                           "%zu requests at once are asked for; the queue holds %u", n_asked, queue);
    uint32_t most = c->s->o.max_per_key, n = records_n_live(c->s->records, c->owner);
    if (!c->owner || !most || n < most) return true;
    problem_set(p, 429, "too_many_requests", NULL, "this key has %u requests at work, which is its limit", most);
    p->retry_after = retry_after(c->s, n);
    return false;
}

static void begin_stream(generation *g, exchange *x) {
    g->streaming = true;
    exchange_add_header(x, "Cache-Control", "no-store");
    exchange_begin(x, 200, "text/event-stream; charset=utf-8");
    if (g->family->put_begin) g->family->put_begin(g, &g->out);
    flush(g, x);
}

static void log_prompts(const generation *g) {
    for (size_t i = 0; i < g->ask.n_prompts; i++) {
        const struct ask_prompt *prompt = &g->ask.prompts[i];
        buf text = {0};
        if (!prompt->tokens) buf_append(&text, prompt->text, prompt->n_bytes);
        for (size_t t = 0; prompt->tokens && t < prompt->n_tokens; t++) {
            size_t n_bytes;
            const char *bytes = rf_token_bytes(g->s->engine, prompt->tokens[t], &n_bytes);
            buf_append(&text, bytes, n_bytes); // the engine has accepted the token
        }
        log_prompt(g->s->log, g->record->id, text.data, text.n_bytes);
        buf_free(&text);
    }
}

void generation_start(call *c, const family *f, ask *a) {
    problem p = {0};
    if (!is_allowed(c, f, a, &p)) {
        ask_free(a);
        return call_fail(c, &p);
    }
    generation *g = xcalloc(1, sizeof *g);
    *g = (generation){.s = c->s, .family = f, .ask = *a, .n_choices = (uint32_t)a->n_prompts * a->n};
    g->choices = xcalloc(g->n_choices, sizeof *g->choices);
    g->record = record_new(c->s->records, f->id_prefix, c->owner, f->route);
    answer *answer = answer_new(c->s->bell, c->x, &STYLE, g);
    g->record->answer = answer;
    if (!exchange_set_id(c->x, g->record->id))
        snprintf(g->record->client_id, sizeof g->record->client_id, "%s", exchange_id(c->x));
    if (!submit_all(g, answer, &p)) {
        if (p.status == 429) p.retry_after = retry_after(c->s, records_n_live(c->s->records, UINT32_MAX) - 1);
        call_fail(c, &p);
        return answer_refuse(answer);
    }
    if (c->s->o.log_prompts) log_prompts(g);
    ask_let_body_go(&g->ask);
    if (a->stream) begin_stream(g, c->x);
    answer_start(answer);
}

rf_usage generation_usage(const generation *g) {
    const rf_usage *all = &g->record->usage;
    rf_usage sum = {.queued_us = all->queued_us, .prefill_us = all->prefill_us, .decode_us = all->decode_us};
    sum.draft_tokens = all->draft_tokens, sum.accepted_tokens = all->accepted_tokens;
    for (uint32_t i = 0; i < g->n_choices; i++) {
        const rf_usage *u = &g->choices[i].usage;
        sum.completion_tokens += u->completion_tokens;
        if (i % g->ask.n) continue;
        sum.prompt_tokens += u->prompt_tokens;
        sum.cached_tokens += u->cached_tokens;
    }
    return sum;
}

const char *generation_finish(const choice *c) { return rf_finish_name(c->finish); }

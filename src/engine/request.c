// Implements request.h and the handle's half of rocmforge.h.
#include "engine/request.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTBOX_TOKENS = 256, OUTBOX_BYTES = 2048 }; // to begin with: a caller that reads never makes it grow

static void side_grow(outbox_side *o, uint32_t capacity, uint32_t width) {
    o->capacity = capacity;
    o->tokens = xrealloc(o->tokens, capacity * sizeof *o->tokens);
    if (width) o->logprobs = xrealloc(o->logprobs, (size_t)capacity * width * sizeof *o->logprobs);
}

static void side_free(outbox_side *o) {
    buf_free(&o->text);
    free(o->tokens), free(o->logprobs);
}

request *request_new(door *d, uint32_t n_prompt, const rf_params *params) {
    request *r = xcalloc(1, sizeof *r);
    r->n_callers = 1;
    r->n_holds = 1;
    r->n_prompt = n_prompt;
    r->n_prompt_left = params->score ? n_prompt : 0;
    r->logprob_width = params->logprobs ? 1 + params->n_logprobs : 0;
    r->id = params->id ? xstrdup(params->id) : NULL;
    r->door = door_retain(d);
    r->notify = params->notify, r->notify_arg = params->notify_arg;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->ready, &attr);
    pthread_condattr_destroy(&attr);
    outbox_side *sides[] = {&r->filling, &r->reading};
    for (int i = 0; i < 2; i++) {
        side_grow(sides[i], OUTBOX_TOKENS, r->logprob_width);
        buf_reserve(&sides[i]->text, OUTBOX_BYTES);
    }
    return r;
}

void request_hold(request *r) { check(atomic_fetch_add(&r->n_holds, 1) > 0); }

void request_drop(request *r) {
    unsigned before = atomic_fetch_sub(&r->n_holds, 1);
    check(before > 0);
    if (before > 1) return;
    side_free(&r->filling), side_free(&r->reading);
    pthread_cond_destroy(&r->ready);
    pthread_mutex_destroy(&r->lock);
    door_release(r->door);
    free(r->id), free(r->embedding);
    free(r);
}

// ---- engine thread -----------------------------------------------------------------------------------------------

void request_publish(request *r, rf_state state, rf_finish finish, uint32_t n_generated) {
    uint64_t word = (uint64_t)state << 40 | (uint64_t)finish << 32 | n_generated;
    atomic_store_explicit(&r->status, word, memory_order_release);
}

static bool has_event(const request *r) {
    return r->filling.n_tokens || r->filling.text.n_bytes || (r->ended && !r->end_taken);
}

static void announce(request *r, bool had_event) {
    pthread_cond_signal(&r->ready);
    if (!had_event && r->notify) r->notify(r->notify_arg);
}

void request_deliver(request *r, const char *text, size_t n_bytes, const int32_t *token,
                     const rf_token_logprob *logprobs) {
    if (!n_bytes && !token) return;
    pthread_mutex_lock(&r->lock);
    check(!r->ended);
    bool had_event = has_event(r);
    outbox_side *o = &r->filling;
    if (!o->n_tokens && !o->text.n_bytes) o->made_us = clock_machine_us();
    buf_append(&o->text, text, n_bytes);
    if (token) {
        if (o->n_tokens == o->capacity) side_grow(o, 2 * o->capacity, r->logprob_width);
        size_t width = r->logprob_width;
        if (width) memcpy(o->logprobs + o->n_tokens * width, logprobs, width * sizeof *logprobs);
        o->tokens[o->n_tokens++] = *token;
    }
    announce(r, had_event);
    pthread_mutex_unlock(&r->lock);
}

void request_embed(request *r, float *embedding, uint32_t n) {
    pthread_mutex_lock(&r->lock);
    check(!r->ended && !r->embedding);
    r->embedding = embedding, r->n_embedding = n;
    pthread_mutex_unlock(&r->lock);
}

void request_end(request *r, rf_finish finish, const err *error, const rf_usage *usage) {
    pthread_mutex_lock(&r->lock);
    check(!r->ended);
    bool had_event = has_event(r);
    r->ended = true, r->finish = finish, r->usage = *usage;
    if (error) {
        r->error.code = (rf_code)error->code;
        memcpy(r->error.message, error->text, sizeof r->error.message);
    }
    announce(r, had_event);
    pthread_mutex_unlock(&r->lock);
}

// ---- any thread --------------------------------------------------------------------------------------------------

rf_request *rf_retain(rf_request *r) {
    check(atomic_fetch_add(&r->n_callers, 1) > 0);
    return r;
}

void rf_cancel(rf_request *r) {
    if (!atomic_exchange(&r->cancelled, true)) mailbox_wake(&r->door->mail);
}

void rf_release(rf_request *r) {
    unsigned before = atomic_fetch_sub(&r->n_callers, 1);
    check(before > 0);
    if (before > 1) return;
    pthread_mutex_lock(&r->lock);
    r->notify = NULL; // whoever it would wake may be gone when we return
    bool live = !r->ended;
    pthread_mutex_unlock(&r->lock);
    if (live) rf_cancel(r);
    request_drop(r);
}

void rf_get_status(const rf_request *r, rf_status *status) {
    uint64_t word = atomic_load_explicit(&r->status, memory_order_acquire);
    *status = (rf_status){.state = (rf_state)(word >> 40 & 0xFF),
                          .finish = (rf_finish)(word >> 32 & 0xFF),
                          .n_prompt = r->n_prompt,
                          .n_generated = (uint32_t)word};
}

// With the lock held. What is pending becomes one TEXT event; the END event only comes after it.
static bool take_event(request *r, rf_event *event) {
    *event = (rf_event){.kind = RF_EVENT_NONE};
    outbox_side *o = &r->reading;
    if (r->filling.n_tokens || r->filling.text.n_bytes) {
        outbox_side empty = *o;
        *o = r->filling, r->filling = empty;
        r->filling.n_tokens = 0;
        buf_reset(&r->filling.text);
        *event = (rf_event){.kind = RF_EVENT_TEXT,
                            .text = o->text.data,
                            .n_bytes = o->text.n_bytes,
                            .tokens = o->tokens,
                            .n_tokens = o->n_tokens,
                            .n_prompt_tokens = o->n_tokens < r->n_prompt_left ? o->n_tokens : r->n_prompt_left,
                            .made_us = o->made_us,
                            .logprobs = o->logprobs};
        r->n_prompt_left -= (uint32_t)event->n_prompt_tokens;
    } else if (r->ended && !r->end_taken) {
        r->end_taken = true;
        *event = (rf_event){.kind = RF_EVENT_END,
                            .finish = r->finish,
                            .error = r->error,
                            .usage = r->usage,
                            .embedding = r->embedding,
                            .n_embedding = r->n_embedding};
    }
    return event->kind != RF_EVENT_NONE;
}

bool rf_poll(rf_request *r, rf_event *event) {
    pthread_mutex_lock(&r->lock);
    bool got = take_event(r, event);
    pthread_mutex_unlock(&r->lock);
    return got;
}

bool rf_wait(rf_request *r, rf_event *event, int timeout_ms) {
    int64_t until_us = clock_machine_us() + (int64_t)timeout_ms * 1000;
    struct timespec until = {.tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000};
    pthread_mutex_lock(&r->lock);
    int error = 0;
    // After the END event there is nothing left to wait for.
    while (!has_event(r) && !r->end_taken && !error)
        error = timeout_ms < 0 ? pthread_cond_wait(&r->ready, &r->lock)
                               : pthread_cond_timedwait(&r->ready, &r->lock, &until);
    bool got = take_event(r, event);
    pthread_mutex_unlock(&r->lock);
    return got;
}

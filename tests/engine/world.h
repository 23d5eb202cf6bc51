// World: what the engine's tests live in: a small byte vocabulary, a clock moved by hand, and a fake forward.
//
// The fake keeps a "KV": every token writes a hash of (its position, itself, the hash before it, read back through the
// page table), and logits and hidden states are a hash of every slot so far, read the same way. So an answer changes
// when a page is lost, shared, stale or out of order, and the same prompt run alone is an oracle for any load.
// A prompt that begins with WORLD_POISON gets NaN for them once it has world.n_healthy tokens. One whose second token
// is WORLD_ECHO mostly goes on with the token of WORLD_PERIOD before, so that it can be guessed.
#pragma once

#include "engine/api.h"
#include "engine/engine.h"
#include "gguf/gguf_writer.h"
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WORLD_ECHO = 1,
    WORLD_PERIOD = 5,
    WORLD_EOS = 256,
    WORLD_CONTROL = 257,
    WORLD_POISON = 258,
    WORLD_VOCAB = 259,
    WORLD_STRIDE = 272,
    WORLD_WIDTH = 12, // of a hidden state
    WORLD_HIDDEN_STRIDE = 16
};

typedef struct slot {
    uint64_t hash;
    uint32_t token, position;
} slot;

typedef struct world {
    uint8_t *file;
    gguf *gguf;
    vocab *vocab;
    struct manual_clock clock;
    uint32_t n_healthy;
    uint32_t n_steps, n_seqs, n_tokens, max_step_tokens; // what the fake was asked for: last step; largest
    uint32_t n_rows, n_hidden;                           // rows of logits and hidden states, last step
    uint32_t n_total;                                    // tokens since the start
    void (*during)(struct world *w);                     // called in the middle of a step
    void *arg;
} world;

static inline uint64_t mix(uint64_t a, uint64_t b) { // splitmix64's finaliser
    uint64_t x = a * 0x9E3779B97F4A7C15u + b + 1;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline slot *world_slot(const step *s, const step_seq *q, uint32_t position) {
    return (slot *)(void *)(s->kv + (size_t)q->pages[position / KV_PAGE_TOKENS] * KV_PAGE_TOKENS * sizeof(slot)) +
           position % KV_PAGE_TOKENS;
}

static inline uint64_t world_state(const step *s, const step_seq *q, uint32_t n) {
    uint64_t all = 0;
    for (uint32_t p = 0; p < n; p++) all = mix(mix(all, world_slot(s, q, p)->hash), world_slot(s, q, p)->position);
    return all;
}

// A row for the n-th token: its part of the state, each value from -1 to 1.
static inline void world_hidden(const world *w, const step *s, const step_seq *q, uint32_t n, float *out) {
    uint64_t all = world_state(s, q, n);
    for (uint32_t i = 0; i < WORLD_WIDTH; i++) out[i] = (float)(mix(all, i) >> 40) * 0x1p-23f - 1;
    if (world_slot(s, q, 0)->token == WORLD_POISON && n >= w->n_healthy)
        out[all % WORLD_WIDTH] = all & 1 ? NAN : INFINITY;
}

static inline void world_logits(const world *w, const step *s, const step_seq *q, uint32_t n, float *out) {
    uint64_t all = world_state(s, q, n);
    for (uint32_t i = 0; i < WORLD_VOCAB; i++) out[i] = (float)(mix(all, i) >> 40) * 0x1p-24f * 12 - 6;
    if (n >= WORLD_PERIOD && world_slot(s, q, 1)->token == WORLD_ECHO && all % 8)
        out[world_slot(s, q, n - WORLD_PERIOD)->token] += 14;
    out[WORLD_POISON] = -1000;
    if (world_slot(s, q, 0)->token == WORLD_POISON && n >= w->n_healthy)
        out[all % WORLD_VOCAB] = all & 1 ? NAN : INFINITY;
}

static inline void world_run(void *self, const step *s) {
    world *w = self;
    w->n_steps++, w->n_seqs = s->n_seqs, w->n_tokens = w->n_rows = w->n_hidden = 0;
    float *logits = s->logits, *hidden = s->hidden;
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        const step_seq *q = &s->seqs[i];
        w->n_tokens += q->n_tokens, w->n_rows += q->n_logits, w->n_hidden += q->n_hidden;
        for (uint32_t t = 0; t < q->n_tokens; t++) {
            uint32_t p = q->n_cached + t;
            uint64_t before = p ? world_slot(s, q, p - 1)->hash : 0;
            *world_slot(s, q, p) = (slot){mix(before, (uint32_t)q->tokens[t]), (uint32_t)q->tokens[t], p};
        }
        for (uint32_t j = 0; j < q->n_logits; j++, logits += WORLD_STRIDE)
            world_logits(w, s, q, q->n_cached + q->n_tokens - q->n_logits + 1 + j, logits);
        for (uint32_t j = 0; j < q->n_hidden; j++, hidden += WORLD_HIDDEN_STRIDE)
            world_hidden(w, s, q, q->n_cached + q->n_tokens - q->n_hidden + 1 + j, hidden);
    }
    w->n_total += w->n_tokens;
    if (w->n_tokens > w->max_step_tokens) w->max_step_tokens = w->n_tokens;
    if (w->during) w->during(w);
}

// 256 byte tokens, an end token, a control token, a poison token.
static inline void world_open(world *w) {
    *w = (world){.clock = clock_manual(0), .n_healthy = 1};
    char names[WORLD_VOCAB][16];
    gguf_str strs[WORLD_VOCAB];
    int32_t kinds[WORLD_VOCAB];
    uint32_t next = 256; // GPT-2's bytes_to_unicode
    for (uint32_t b = 0; b < WORLD_VOCAB; b++) {
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        uint32_t c = itself ? b : next++;
        if (b >= 256)
            snprintf(names[b], sizeof names[b], "<|special%u|>", b - 256);
        else if (c < 0x80)
            snprintf(names[b], sizeof names[b], "%c", (char)c);
        else
            snprintf(names[b], sizeof names[b], "%c%c", (char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F)));
        strs[b] = (gguf_str){names[b], strlen(names[b])};
        kinds[b] = b >= 256 ? TOKEN_CONTROL : TOKEN_NORMAL;
    }
    gguf_writer *g = gguf_writer_new(0);
    gguf_writer_add_str(g, "general.architecture", "llama");
    gguf_writer_add_str(g, "tokenizer.ggml.model", "gpt2");
    gguf_writer_add_str(g, "tokenizer.ggml.pre", "smollm");
    gguf_writer_add_strs(g, "tokenizer.ggml.tokens", strs, WORLD_VOCAB);
    gguf_writer_add_array(g, "tokenizer.ggml.token_type", GGUF_KIND_I32, kinds, WORLD_VOCAB);
    gguf_writer_add_strs(g, "tokenizer.ggml.merges", strs, 0);
    gguf_writer_add_u32(g, "tokenizer.ggml.eos_token_id", WORLD_EOS);
    size_t n_bytes;
    err e = {0};
    w->file = gguf_writer_take(g, &n_bytes);
    gguf_writer_free(g);
    w->gguf = gguf_open_memory(w->file, n_bytes, &e);
    w->vocab = w->gguf ? vocab_open(w->gguf, &e) : NULL;
    if (!w->vocab) fail_msg("%s", e.text);
}

static inline void world_close(world *w) {
    vocab_close(w->vocab);
    gguf_close(w->gguf);
    free(w->file);
}

// Zero fields of limits mean: room for everything.
static inline engine *world_engine(world *w, engine_config limits) {
    engine_config c = limits;
    if (!c.forward.run) c.forward = (forward){.self = w, .run = world_run};
    c.vocab = w->vocab;
    if (!c.clock) c.clock = &w->clock.clock;
    c.info.n_vocab = WORLD_VOCAB;
    if (!c.info.n_ctx) c.info.n_ctx = 512;
    c.info.d_model = WORLD_WIDTH;
    c.logits_stride = WORLD_STRIDE;
    c.hidden_stride = WORLD_HIDDEN_STRIDE;
    c.page_bytes = KV_PAGE_TOKENS * sizeof(slot);
    if (!c.n_pages) c.n_pages = 1024;
    if (!c.max_running) c.max_running = 16;
    if (!c.max_queue) c.max_queue = 256;
    if (!c.step_tokens) c.step_tokens = 64;
    if (!c.fixed_rows) c.fixed_rows = 4;
    err e = {0};
    engine *g = engine_new(&c, &e);
    if (!g) fail_msg("%s", e.text);
    return g;
}

static inline void world_step(engine *g) {
    engine_step(g);
    engine_check(g);
}

// Stopped, empty, and every page is back.
static inline void world_end(engine *g) {
    engine_shut(g, 0);
    engine_join(g);
    engine_check(g);
    assert_int_equal(engine_get_kv(g)->n_free, engine_get_kv(g)->n_pages);
    engine_free(g);
}

static inline uint32_t pages_used(const engine *g) { return engine_get_kv(g)->n_pages - engine_get_kv(g)->n_free; }

// ---- answers -----------------------------------------------------------------------------------------------------

typedef struct answer {
    uint32_t logprob_width; // of the request, when answer_poll saw it; 0: none are looked at
    uint64_t logprobs;      // a hash of them all
    uint32_t n_scored;      // tokens of the prompt that came
    int32_t tokens[1024];
    size_t n_tokens;
    char text[4096];
    size_t n_bytes;
    uint32_t n_ends;
    rf_event end;
    float embedding[WORLD_WIDTH];
    size_t n_embedding;
} answer;

static inline void answer_add(answer *a, const rf_event *event) {
    check(a->n_ends == 0); // the end is the last
    if (event->kind == RF_EVENT_END) {
        a->n_ends++, a->end = *event, a->n_embedding = event->n_embedding;
        assert_true(a->n_embedding <= WORLD_WIDTH && (a->n_embedding == 0 || event->finish == RF_FINISH_STOP));
        if (a->n_embedding) memcpy(a->embedding, event->embedding, a->n_embedding * sizeof *a->embedding);
        return;
    }
    assert_int_equal(event->kind, RF_EVENT_TEXT);
    size_t n_scored = event->n_prompt_tokens, n_tokens = event->n_tokens - n_scored;
    assert_true(n_scored <= event->n_tokens && (n_scored == 0 || a->n_tokens == 0)); // the prompt comes first
    assert_true(a->n_tokens + n_tokens <= 1024 && a->n_bytes + event->n_bytes <= sizeof a->text);
    for (size_t i = 0; i < event->n_tokens * a->logprob_width; i++) {
        if (i % a->logprob_width == 0) assert_int_equal(event->logprobs[i].token, event->tokens[i / a->logprob_width]);
        uint64_t bits;
        memcpy(&bits, &event->logprobs[i], sizeof bits);
        a->logprobs = mix(a->logprobs, bits);
    }
    if (n_tokens) memcpy(a->tokens + a->n_tokens, event->tokens + n_scored, n_tokens * sizeof *event->tokens);
    if (event->n_bytes) memcpy(a->text + a->n_bytes, event->text, event->n_bytes);
    a->n_scored += (uint32_t)n_scored, a->n_tokens += n_tokens, a->n_bytes += event->n_bytes;
}

static inline void answer_poll(answer *a, rf_request *r) {
    rf_event event;
    a->logprob_width = r->logprob_width;
    while (rf_poll(r, &event)) answer_add(a, &event);
}

static inline void answer_wait(answer *a, rf_request *r) {
    rf_event event;
    while (rf_wait(r, &event, -1)) answer_add(a, &event);
    assert_int_equal(a->n_ends, 1);
    assert_int_equal(a->end.usage.completion_tokens, a->n_tokens);
}

static inline rf_state state_of(const rf_request *r) {
    rf_status status;
    rf_get_status(r, &status);
    return status.state;
}

static inline rf_request *world_submit(engine *g, const rf_params *p) {
    rf_error error = {0};
    rf_request *r = rf_submit(g, p, &error);
    if (!r) fail_msg("%s", error.message);
    return r;
}

// The oracle: the same request with the engine to itself.
static inline void world_solo(world *w, const rf_params *p, answer *out) {
    rf_params alone = *p;
    alone.notify = NULL, alone.timeout_ms = 0;
    void (*during)(world *) = w->during;
    w->during = NULL;
    engine *g = world_engine(w, (engine_config){0});
    rf_request *r = world_submit(g, &alone);
    while (engine_step(g)) continue;
    *out = (answer){0};
    answer_poll(out, r);
    assert_int_equal(out->n_ends, 1);
    rf_release(r);
    world_end(g);
    w->during = during;
}

static inline void assert_same_answer(const answer *a, const answer *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_int_equal(a->n_bytes, b->n_bytes);
    assert_memory_equal(a->text, b->text, a->n_bytes);
    assert_int_equal(a->end.finish, b->end.finish);
    if (a->logprob_width == b->logprob_width) assert_true(a->logprobs == b->logprobs && a->n_scored == b->n_scored);
    assert_int_equal(a->n_embedding, b->n_embedding);
    assert_memory_equal(a->embedding, b->embedding, sizeof a->embedding);
}

// cmocka's fixtures: *state is a world.
static inline int world_setup(void **state) {
    world *w = malloc(sizeof *w);
    world_open(w);
    *state = w;
    return 0;
}

static inline int world_teardown(void **state) {
    world_close(*state);
    free(*state);
    return 0;
}

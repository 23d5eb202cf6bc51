// Implements engine.h. Read it from engine_run upwards.
#include "engine/engine.h"

#include "engine/embed.h"
#include "engine/stats.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct rf_engine {
    engine_config config;
    door *door;
    schedule schedule;
    kv kv;
    sampler *sampler;
    stats *stats;
    float *logits;  // [engine_logits_rows][logits_stride]
    float *hidden;  // [step_tokens][hidden_stride], behind the logits
    step_seq *seqs; // [max_running]
    pthread_t thread;
    bool has_thread;
};

static int64_t now_us(const engine *g) { return clock_now_us(g->config.clock); }

// ---- statistics --------------------------------------------------------------------------------------------------

static void publish_stats(engine *g) {
    const schedule *d = &g->schedule;
    rf_stats *s = &g->stats->now;
    s->n_running = d->n_running;
    s->n_preempted = d->n_preempted;
    s->n_pages = g->kv.n_pages;
    s->n_pages_used = g->kv.n_pages - g->kv.n_free;
    s->n_pages_cached = g->kv.n_cached;
    s->n_evicted_pages = g->kv.n_evicted;
    stats_publish(g->stats);
}

void engine_get_stats(const engine *g, rf_stats *out) {
    uint32_t n_entered = atomic_load(&g->door->entered); // first: who leaves the door is published before
    stats_read(g->stats, out);
    out->n_queued = n_entered & ~DOOR_SHUT;
}

static void count_admitted(engine *g, const sequence *s) {
    g->stats->now.prompt_tokens += s->n_prompt;
    g->stats->now.cached_tokens += s->n_reused;
}

// Whatever was not counted yet; of one step, so its tokens share the time since the one before.
static void count_tokens(engine *g, sequence *s) {
    rf_stats *t = &g->stats->now;
    uint32_t n = s->n_tokens - s->n_timed;
    if (n == 0) return;
    int64_t now = now_us(g), us = now - s->last_token_us;
    if (s->first_token_us < 0)
        histogram_add(&t->first_token, (s->first_token_us = now) - s->submitted_us); // it comes alone
    else
        for (uint32_t i = 0; i < n; i++) histogram_add(&t->inter_token, us * (i + 1) / n - us * i / n);
    s->last_token_us = now;
    s->n_timed = s->n_tokens;
    t->completion_tokens += n;
}

static void count_drafts(engine *g, sequence *s) {
    s->n_drafted += s->n_drafts;
    g->stats->now.draft_tokens += s->n_drafts;
}

static void count_accepted(engine *g, sequence *s) {
    s->n_accepted++;
    g->stats->now.accepted_tokens++;
}

// ---- birth and death ---------------------------------------------------------------------------------------------

uint32_t engine_logits_rows(const engine_config *c) { return schedule_logits_rows(c->max_running, c->speculate); }

size_t engine_output_bytes(const engine_config *c) {
    return (engine_logits_rows(c) * c->logits_stride + c->step_tokens * c->hidden_stride) * sizeof(float);
}

engine *engine_new(const engine_config *c, err *e) {
    engine *g = xcalloc(1, sizeof *g);
    g->config = *c;
    if (!g->config.clock) g->config.clock = &clock_machine;
    check((uint64_t)c->n_pages * KV_PAGE_TOKENS >= c->info.n_ctx);
    g->door = door_new(c->max_queue);
    g->stats = xcalloc(1, sizeof *g->stats);
    g->sampler = sampler_new(c->info.n_vocab);
    g->seqs = xcalloc(c->max_running, sizeof *g->seqs);
    schedule_init(&g->schedule, c->max_running, c->max_queue, c->step_tokens, c->speculate);
    g->schedule.cost.fixed_rows = c->fixed_rows;
    g->logits = large_alloc(engine_output_bytes(c), "the outputs of a step", e);
    if (g->logits) g->hidden = g->logits + engine_logits_rows(c) * c->logits_stride;
    if (!g->logits || !kv_init(&g->kv, c->n_pages, c->page_bytes, e)) return engine_free(g), NULL;
    if (c->hash_mask) g->kv.hash_mask = c->hash_mask;
    publish_stats(g);
    return g;
}

void engine_free(engine *g) {
    schedule_free(&g->schedule);
    kv_free(&g->kv);
    large_free(g->logits, engine_output_bytes(&g->config));
    sampler_free(g->sampler);
    free(g->seqs), free(g->stats);
    door_release(g->door);
    if (g->config.forward.close) g->config.forward.close(g->config.forward.self);
    free(g);
}

const engine_config *engine_get_config(const engine *g) { return &g->config; }
const kv *engine_get_kv(const engine *g) { return &g->kv; }
const schedule *engine_get_schedule(const engine *g) { return &g->schedule; }

void engine_check(const engine *g) {
    const schedule *d = &g->schedule;
    kv_table **tables = xcalloc(d->n_running, sizeof(kv_table *));
    for (uint32_t i = 0; i < d->n_running; i++) {
        sequence_check(d->running[i]);
        check(d->running[i]->running && (i == 0 || sequence_before(d->running[i - 1], d->running[i])));
        tables[i] = &d->running[i]->kv;
        check(tables[i]->n_pages == kv_pages_for(tables[i]->n_cached)); // what wrong guesses took is back
    }
    for (uint32_t i = 0; i < d->n_waiting; i++) {
        sequence_check(d->waiting[i]);
        check(!d->waiting[i]->running && (i == 0 || sequence_before(d->waiting[i - 1], d->waiting[i])));
    }
    kv_check(&g->kv, tables, d->n_running);
    free(tables);
}

// ---- the end of a sequence ---------------------------------------------------------------------------------------

static rf_usage usage_of(const sequence *s, int64_t now) {
    int64_t admitted = s->admitted_us >= 0 ? s->admitted_us : now;
    int64_t first = s->first_token_us >= 0 ? s->first_token_us : now;
    return (rf_usage){.prompt_tokens = s->n_prompt,
                      .completion_tokens = s->n_tokens - s->n_prompt,
                      .cached_tokens = s->n_reused,
                      .draft_tokens = s->n_drafted,
                      .accepted_tokens = s->n_accepted,
                      .queued_us = admitted - s->submitted_us,
                      .prefill_us = first - admitted,
                      .decode_us = now - first};
}

// The only way out, for every cause. Pages are back before anybody can see the end.
static void engine_retire(engine *g, sequence *s, rf_finish finish, const err *error) {
    request *r = s->request;
    count_tokens(g, s);
    if (finish == RF_FINISH_ERROR) kv_discard(&g->kv, &s->kv); // nobody shall inherit what went wrong
    schedule_remove(&g->schedule, s, &g->kv);
    rf_usage usage = usage_of(s, now_us(g));
    size_t n_bytes;
    const char *rest = text_stream_finish(s->text, &n_bytes);
    request_deliver(r, rest, n_bytes, NULL, NULL);
    g->stats->now.n_ended[finish]++;
    publish_stats(g);
    if (s->at_door) door_admit(g->door);
    request_publish(r, RF_DONE, finish, usage.completion_tokens);
    request_end(r, finish, error, &usage);
    sequence_free(s);
    request_drop(r);
}

static rf_finish cause_to_end(const engine *g, const sequence *s, int64_t now) {
    if (atomic_load(&s->request->cancelled)) return RF_FINISH_CANCELLED;
    if (now >= s->deadline_us) return RF_FINISH_TIMEOUT;
    return now >= atomic_load(&g->door->cancel_at_us) ? RF_FINISH_CANCELLED : RF_FINISH_NONE;
}

static void retire_ended(engine *g, sequence **set, const uint32_t *n) {
    int64_t now = now_us(g);
    for (uint32_t i = *n; i-- > 0;) {
        rf_finish finish = cause_to_end(g, set[i], now);
        if (finish) engine_retire(g, set[i], finish, NULL);
    }
}

// ---- one step ----------------------------------------------------------------------------------------------------

static void receive(engine *g, mail_node *mail) {
    while (mail) {
        sequence *s = mail_of(mail, sequence, mail);
        mail = mail->next;
        schedule_add(&g->schedule, s);
    }
}

static void publish(sequence *s) {
    request_publish(s->request, sequence_state(s), RF_FINISH_NONE, s->n_tokens - s->n_prompt);
}

static void plan(engine *g) {
    schedule *d = &g->schedule;
    schedule_plan(d, &g->kv);
    publish_stats(g); // the step may be long, and a request that is in it is not nowhere
    for (uint32_t i = 0; i < d->n_running; i++) {
        sequence *s = d->running[i];
        publish(s);
        if (s->at_door) door_admit(g->door), s->at_door = false;
        if (s->admitted_us >= 0) continue;
        s->admitted_us = now_us(g);
        s->n_reused = s->kv.n_cached;
        count_admitted(g, s);
    }
    for (uint32_t i = 0; i < d->n_waiting; i++) { // some may have been preempted
        sequence *s = d->waiting[i];
        publish(s);
        if (!s->at_door) door_return(g->door), s->at_door = true;
    }
}

static bool reads_last(const sequence *s) { return s->n_planned == sequence_pending(s); }

static uint32_t logits_wanted(const sequence *s) {
    return s->embed ? 0 : s->n_unscored ? s->n_planned : reads_last(s) + s->n_drafts;
}

static uint32_t hidden_wanted(const sequence *s) {
    return s->embed == RF_EMBED_MEAN ? s->n_planned : s->embed && reads_last(s);
}

static void run_forward(engine *g) {
    const schedule *d = &g->schedule;
    for (uint32_t i = 0; i < d->n_planned; i++) {
        const sequence *s = d->planned[i];
        g->seqs[i] = (step_seq){.tokens = s->tokens + s->kv.n_cached,
                                .n_tokens = s->n_planned + s->n_drafts,
                                .n_cached = s->kv.n_cached,
                                .pages = s->kv.pages,
                                .n_logits = logits_wanted(s),
                                .n_hidden = hidden_wanted(s)};
    }
    step work = {.seqs = g->seqs, .n_seqs = d->n_planned, .kv = g->kv.memory, .logits = g->logits, .hidden = g->hidden};
    g->config.forward.run(g->config.forward.self, &work);
}

// The text of a token as the caller may see it now. Control tokens are part of the answer, but not of its text.
static const char *stream(engine *g, sequence *s, int32_t token, size_t *n_bytes, bool *stopped) {
    size_t n_token_bytes = 0;
    const char *bytes = "";
    if (vocab_kind(g->config.vocab, token) != TOKEN_CONTROL)
        bytes = vocab_token_bytes(g->config.vocab, token, &n_token_bytes);
    return text_stream_push(s->text, bytes, n_token_bytes, n_bytes, stopped);
}

// Was the token guessed? Then its K and V are in the pages, and the next row of logits is what follows it. If not, all
// that was guessed after it is void.
static bool check_draft(engine *g, sequence *s, int32_t token) {
    bool right = s->n_drafts && s->tokens[s->n_tokens] == token;
    s->n_drafts = right ? s->n_drafts - 1 : 0;
    if (right) count_accepted(g, s);
    return right;
}

static bool fail_numeric(engine *g, sequence *s, uint32_t position) {
    err e = {0};
    fail(&e, ERR_NUMERIC, "the model produced non-finite logits at position %u", position);
    return engine_retire(g, s, RF_FINISH_ERROR, &e), false;
}

// A row of logits becomes a token, an event, perhaps an end: false. With the token guessed, n_planned is 1 again.
static bool extend(engine *g, sequence *s, const float *logits) {
    int32_t token = sample_token(g->sampler, &s->sampling, logits, s->tokens, s->n_tokens);
    if (token == SAMPLE_FAILED) return fail_numeric(g, s, s->n_tokens - 1);
    if (vocab_is_eog(g->config.vocab, token) && !s->ignore_eos) return engine_retire(g, s, RF_FINISH_STOP, NULL), false;

    size_t n_bytes;
    bool stopped = false;
    const char *text = stream(g, s, token, &n_bytes, &stopped);
    rf_token_logprob logprobs[1 + SAMPLE_MAX_LOGPROBS];
    if (s->logprobs) sample_logprobs(g->sampler, logits, token, s->n_logprobs, logprobs);
    request_deliver(s->request, text, n_bytes, &token, logprobs);
    kv_commit(&g->kv, &s->kv, s->n_planned);
    s->n_planned = check_draft(g, s, token);
    s->tokens[s->n_tokens++] = token;
    publish(s);
    if (stopped) return engine_retire(g, s, RF_FINISH_STOP, NULL), false;
    if (s->n_tokens == s->limit) return engine_retire(g, s, RF_FINISH_LENGTH, NULL), false;
    return true;
}

// One token, and as many more as were guessed right.
static void extend_by_rows(engine *g, sequence *s, const float *logits) {
    uint32_t n_drafts = s->n_drafts, n_tokens = s->n_tokens;
    count_drafts(g, s);
    do {
        if (!extend(g, s, logits)) return;
        logits += g->config.logits_stride;
    } while (s->n_planned);
    kv_trim(&g->kv, &s->kv);
    count_tokens(g, s);
    s->draft_credit = draft_settle(s->draft_credit, g->schedule.cost, n_drafts, s->n_tokens - n_tokens - 1);
}

static void commit(engine *g, sequence *s) {
    kv_commit(&g->kv, &s->kv, s->n_planned);
    s->n_planned = 0;
}

// Each row tells the next token's log-probabilities, once, though after a preemption all are read again.
static bool score_rows(engine *g, sequence *s, const float *rows) {
    rf_token_logprob told[1 + SAMPLE_MAX_LOGPROBS] = {{s->tokens[0], 0}};
    for (uint32_t i = 1; i <= s->n_logprobs; i++) told[i].token = -1;
    if (s->n_unscored == s->n_prompt) request_deliver(s->request, "", 0, s->tokens, told), s->n_unscored--;
    for (uint32_t i = 0; i < s->n_planned && s->n_unscored; i++, rows += g->config.logits_stride) {
        uint32_t next = s->kv.n_cached + i + 1;
        if (next < s->n_prompt - s->n_unscored) continue;
        if (!sample_logprobs(g->sampler, rows, s->tokens[next], s->n_logprobs, told))
            return fail_numeric(g, s, next - 1);
        request_deliver(s->request, "", 0, &s->tokens[next], told);
        s->n_unscored--;
    }
    return true;
}

static void read_logits(engine *g, sequence *s, const float *rows) {
    if (s->n_unscored) {
        const float *last = rows + (s->n_planned - 1) * g->config.logits_stride;
        if (!score_rows(g, s, rows)) return;
        rows = last;
    }
    bool done = reads_last(s);
    if (done && s->limit > s->n_prompt) return extend_by_rows(g, s, rows);
    commit(g, s);
    if (done) engine_retire(g, s, RF_FINISH_LENGTH, NULL); // no answer is wanted
}

// The rows go into the sum, which begins anew with the first: after a preemption all are read again.
static void embed_rows(engine *g, sequence *s, const float *rows) {
    uint32_t n = g->config.info.d_model;
    if (s->kv.n_cached == 0) memset(s->embedding, 0, n * sizeof *s->embedding);
    for (uint32_t i = 0; i < hidden_wanted(s); i++) embed_add(s->embedding, rows + i * g->config.hidden_stride, n);
    if (!reads_last(s)) return commit(g, s);
    if (!embed_finish(s->embedding, n)) {
        err e = {0};
        fail(&e, ERR_NUMERIC, "the model produced hidden states that are not finite, or all zero");
        return engine_retire(g, s, RF_FINISH_ERROR, &e);
    }
    commit(g, s);
    request_embed(s->request, s->embedding, n);
    s->embedding = NULL;
    engine_retire(g, s, RF_FINISH_STOP, NULL);
}

// Every planned sequence reads its rows, in the order of the plan.
static void read_outputs(engine *g) {
    const schedule *d = &g->schedule;
    const float *logits = g->logits, *hidden = g->hidden;
    for (uint32_t i = 0; i < d->n_planned; i++) {
        sequence *s = d->planned[i];
        const float *its_logits = logits, *its_hidden = hidden;
        logits += logits_wanted(s) * g->config.logits_stride;
        hidden += hidden_wanted(s) * g->config.hidden_stride;
        if (s->embed)
            embed_rows(g, s, its_hidden);
        else
            read_logits(g, s, its_logits);
    }
}

bool engine_step(engine *g) {
    schedule *d = &g->schedule;
    int64_t start_us = now_us(g);
    receive(g, mailbox_take(&g->door->mail));
    retire_ended(g, d->running, &d->n_running);
    retire_ended(g, d->waiting, &d->n_waiting);
    plan(g);
    if (d->n_planned == 0) return false;
    run_forward(g);
    read_outputs(g);
    g->stats->now.n_steps++;
    histogram_add(&g->stats->now.step, now_us(g) - start_us);
    histogram_add_batch(&g->stats->now.batch, d->n_planned);
    publish_stats(g);
    return true;
}

// ---- life --------------------------------------------------------------------------------------------------------

request *engine_submit(engine *g, const rf_params *p, const int32_t *prompt, uint32_t n_prompt, err *e) {
    uint32_t n_ctx = g->config.info.n_ctx;
    bool answers = engine_wants_answer(p);
    check(n_prompt >= 1 && n_prompt + answers <= n_ctx);
    bool short_answer = p->max_tokens && p->max_tokens < n_ctx - n_prompt;
    uint32_t limit = !answers ? n_prompt : short_answer ? n_prompt + p->max_tokens : n_ctx;
    request *r = request_new(g->door, n_prompt, p);
    sequence *s = sequence_new(r, prompt, n_prompt, limit, p);
    if (p->embed) s->embedding = xcalloc(g->config.info.d_model, sizeof *s->embedding);
    s->submitted_us = now_us(g);
    // Saturates: a timeout of centuries is none.
    if (p->timeout_ms && p->timeout_ms < (INT64_MAX - s->submitted_us) / 1000)
        s->deadline_us = s->submitted_us + p->timeout_ms * 1000;
    request_hold(r); // the engine's
    if (door_enter(g->door, &s->mail, e)) return r;
    sequence_free(s);
    request_drop(r), request_drop(r);
    return NULL;
}

void engine_shut(engine *g, int drain_ms) {
    door_shut(g->door, now_us(g) + (drain_ms > 0 ? (int64_t)drain_ms * 1000 : 0));
}

void engine_run(engine *g) {
    while (engine_step(g) || !door_is_final(g->door))
        if (g->schedule.n_planned == 0) receive(g, mailbox_wait(&g->door->mail, -1));
}

static void *thread_main(void *arg) {
    threads_set_float_mode();
    engine_run(arg);
    return NULL;
}

bool engine_start(engine *g, err *e) {
    check(!g->has_thread);
    // Signals belong to the program's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&g->thread, NULL, thread_main, g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) return fail(e, ERR_IO, "cannot start the engine thread: %s", strerror(error));
    return g->has_thread = true;
}

void engine_join(engine *g) {
    if (g->has_thread)
        pthread_join(g->thread, NULL);
    else
        engine_run(g);
    g->has_thread = false;
}

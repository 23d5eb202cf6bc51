// The loop, driven by hand: every cause of an end in every state, batch mates' bytes, preemption, timing of pages.
#include "world.h"

static rf_params request_for(const char *prompt, uint32_t max_tokens, uint64_t seed) {
    rf_params p = rf_params_default();
    p.prompt = prompt, p.max_tokens = max_tokens, p.seed = seed, p.ignore_eos = true;
    return p;
}

static const char long_prompt[] = "a prompt of more than one chunk, when a chunk is eight tokens, and of several pages "
                                  "as well, so that it is still being read a few steps later";

static engine_config chunked(void) { return (engine_config){.step_tokens = 8, .max_running = 4}; }

// ---- answers -----------------------------------------------------------------------------------------------------

static void one_request_ends_at_max_tokens(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = request_for("hello", 5, 1);
    rf_request *r = world_submit(g, &p);
    rf_status status;
    rf_get_status(r, &status);
    assert_int_equal(status.state, RF_QUEUED);
    assert_int_equal(status.n_prompt, 5);
    answer a = {0};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(a.n_ends, 0);
        w->clock.us += 1000;
        world_step(g);
        answer_poll(&a, r);
        assert_int_equal(a.n_tokens, i + 1);
    }
    assert_int_equal(a.end.finish, RF_FINISH_LENGTH);
    assert_int_equal(a.end.usage.prompt_tokens, 5);
    assert_int_equal(a.end.usage.completion_tokens, 5);
    assert_int_equal(a.end.usage.queued_us, 1000);
    assert_int_equal(a.end.usage.prefill_us, 0);
    assert_int_equal(a.end.usage.decode_us, 4000);
    assert_int_equal(pages_used(g), 0);
    rf_get_status(r, &status);
    assert_int_equal(status.state, RF_DONE);
    assert_int_equal(status.finish, RF_FINISH_LENGTH);
    assert_int_equal(status.n_generated, 5);
    assert_false(engine_step(g));
    rf_release(r);
    world_end(g);
}

static void context_end_is_length(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.info.n_ctx = 40});
    rf_params p = request_for("hello", 0, 1);
    rf_request *r = world_submit(g, &p);
    while (engine_step(g)) engine_check(g);
    answer a = {0};
    answer_poll(&a, r);
    assert_int_equal(a.end.finish, RF_FINISH_LENGTH);
    assert_int_equal(a.n_tokens, 35);
    rf_release(r);
    world_end(g);
}

static void end_token_stops_and_is_not_shown(void **state) {
    world *w = *state;
    uint32_t n_stopped = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        rf_params p = request_for("to be or", 500, seed), q;
        p.temperature = 5, p.top_k = 0, p.top_p = 1, p.min_p = 0;
        q = p, q.ignore_eos = false;
        answer all, a;
        world_solo(w, &p, &all);
        world_solo(w, &q, &a);
        size_t n = 0;
        while (n < all.n_tokens && all.tokens[n] != WORLD_EOS) n++;
        assert_int_equal(a.n_tokens, n);
        assert_memory_equal(a.tokens, all.tokens, n * sizeof *a.tokens);
        assert_int_equal(a.end.finish, n < all.n_tokens ? RF_FINISH_STOP : RF_FINISH_LENGTH);
        n_stopped += n < all.n_tokens;
        for (size_t i = 0; i + 10 < all.n_bytes; i++) assert_memory_not_equal(all.text + i, "<|special", 9);
    }
    assert_true(n_stopped > 5);
}

static void stop_string_ends_and_is_never_shown(void **state) {
    world *w = *state;
    rf_params p = request_for("once upon", 200, 3);
    answer all, a;
    world_solo(w, &p, &all);
    assert_true(all.n_bytes > 60);
    char stop[8] = {0}; // a piece of the answer, whole characters of it
    size_t at = 20, end = 24;
    while ((all.text[at] & 0xC0) == 0x80) at++;
    while (end <= at || (all.text[end] & 0xC0) == 0x80) end++;
    memcpy(stop, all.text + at, end - at);
    const char *stops[] = {"never said", stop};
    p.stop = stops, p.n_stop = 2;
    world_solo(w, &p, &a);
    const char *first = memmem(all.text, all.n_bytes, stop, strlen(stop));
    assert_int_equal(a.end.finish, RF_FINISH_STOP);
    assert_int_equal(a.n_bytes, first - all.text);
    assert_memory_equal(a.text, all.text, a.n_bytes);
}

static void a_held_back_stop_prefix_is_shown_at_the_end(void **state) {
    world *w = *state;
    rf_params p = request_for("once upon", 40, 3);
    answer all, a;
    world_solo(w, &p, &all);
    char stop[16] = {0}; // begins with the answer's last character
    size_t at = all.n_bytes - 1;
    while ((all.text[at] & 0xC0) == 0x80) at--;
    snprintf(stop, sizeof stop, "%.*s never", (int)(all.n_bytes - at), all.text + at);
    const char *stops[] = {stop};
    p.stop = stops, p.n_stop = 1;
    world_solo(w, &p, &a);
    assert_same_answer(&a, &all);
}

static void parameters_reach_the_sampler(void **state) {
    world *w = *state;
    const rf_params base = request_for("parameters", 60, 5);
    const rf_logit_bias bias[] = {{'b', 4}, {'i', 5}, {'b', 2}};
    rf_params all[11];
    for (int i = 0; i < 11; i++) all[i] = base;
    all[0].seed = 6;
    all[1].temperature = 0;
    all[2].top_k = 2;
    all[3].top_p = 0.1f;
    all[4].min_p = 0.9f;
    all[5].repeat_penalty = 1.8f;
    all[6].presence_penalty = 2;
    all[7].frequency_penalty = 2;
    all[8].temperature = 3;
    all[9].repeat_penalty = 1.8f, all[9].penalty_last_n = 2;
    all[10].logit_bias = bias, all[10].n_logit_bias = 3;
    answer a, b;
    world_solo(w, &base, &a);
    for (int i = 0; i < 11; i++) {
        world_solo(w, &all[i], &b);
        if (a.n_tokens == b.n_tokens && !memcmp(a.tokens, b.tokens, a.n_tokens * sizeof *a.tokens))
            fail_msg("change %d changed nothing", i);
    }
    size_t n_biased = 0;
    for (size_t i = 0; i < b.n_tokens; i++) n_biased += b.tokens[i] == 'b';
    assert_true(n_biased > 10); // and the change is the one that was asked for
    answer c;
    world_solo(w, &all[5], &b);
    world_solo(w, &all[9], &c);
    assert_true(memcmp(b.tokens, c.tokens, sizeof b.tokens) != 0);
}

static void logprobs_come_with_every_token(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = request_for("log", 9, 2);
    p.logprobs = true, p.n_logprobs = 3, p.temperature = 0;
    rf_request *r = world_submit(g, &p);
    while (engine_step(g)) continue;
    rf_event event;
    assert_true(rf_poll(r, &event));
    assert_int_equal(event.n_tokens, 9); // coalesced: nobody read
    for (size_t i = 0; i < 9; i++) {
        const rf_token_logprob *row = event.logprobs + i * 4;
        assert_int_equal(row[0].token, event.tokens[i]);
        assert_int_equal(row[1].token, event.tokens[i]); // greedy: the best alternative
        assert_true(row[0].logprob < 0 && row[1].logprob >= row[2].logprob && row[2].logprob >= row[3].logprob);
    }
    rf_release(r);
    world_end(g);
}

// ---- every end in every state ------------------------------------------------------------------------------------

// The victim's prompt fills seven of eight pages; the mate, who came first, soon needs two, and the victim is
// preempted.
enum { MATE_PROMPT = 20, VICTIM_PROMPT = 200, VICTIM_TOKENS = 30 };
typedef enum place { QUEUED, PREFILL, DECODE, PREEMPTED, DONE, N_PLACES } place;
typedef enum cause { BY_CANCEL, BY_RELEASE, BY_TIMEOUT, BY_CLOSE, N_CAUSES } cause;

static engine *tight_engine(world *w, uint32_t step_tokens) {
    w->clock = clock_manual(0);
    return world_engine(w,
                        (engine_config){.info.n_ctx = 256, .n_pages = 8, .max_running = 4, .step_tokens = step_tokens});
}

static rf_params tight_request(uint32_t n_prompt, uint32_t max_tokens, uint64_t seed) {
    static char prompt[2][VICTIM_PROMPT];
    memset(prompt[seed % 2], 'a' + (int)seed % 26, VICTIM_PROMPT);
    rf_params p = request_for(prompt[seed % 2], max_tokens, seed);
    p.n_prompt_bytes = n_prompt;
    return p;
}

static bool is_at(const rf_request *r, place at) {
    rf_status s;
    rf_get_status(r, &s);
    switch (at) {
    case PREFILL:
        return s.state == RF_PREFILL;
    case DECODE:
        return s.state == RF_DECODE && s.n_generated > 1;
    case PREEMPTED:
        return s.state == RF_QUEUED && s.n_generated > 1;
    case DONE:
        return s.state == RF_DONE;
    default:
        return true;
    }
}

static void cause_end(world *w, engine *g, rf_request *r, rf_request *again, cause why) {
    if (why == BY_CANCEL) rf_cancel(r), rf_cancel(again);
    if (why == BY_RELEASE) rf_release(r), rf_release(again);
    if (why == BY_TIMEOUT) w->clock.us += 1000 * 1000;
    if (why == BY_CLOSE) engine_shut(g, 0);
}

static void assert_beginning(const answer *a, const answer *whole) {
    assert_int_equal(a->n_ends, 1);
    assert_true(a->n_tokens <= whole->n_tokens && a->n_bytes <= whole->n_bytes);
    assert_memory_equal(a->tokens, whole->tokens, a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->text, whole->text, a->n_bytes);
}

// A victim in a place; it ends by the cause within one step, pages and all, and its mate never notices.
static void end_in_place(world *w, place at, cause why) {
    engine *g = tight_engine(w, 64);
    rf_params mate_params = tight_request(MATE_PROMPT, 60, 9), p = tight_request(VICTIM_PROMPT, VICTIM_TOKENS, 4);
    if (why == BY_TIMEOUT) p.timeout_ms = 1000;
    rf_request *mate = world_submit(g, &mate_params);
    world_step(g);
    rf_request *r = world_submit(g, &p), *again = rf_retain(r);
    request_hold(r); // the test's own eyes, after the last release
    for (int i = 0; !is_at(r, at); i++) world_step(g), assert_true(i < 300);
    uint32_t n_steps = w->n_steps;
    cause_end(w, g, r, again, why);
    world_step(g);
    assert_true(w->n_steps <= n_steps + 1);
    assert_int_equal(state_of(r), RF_DONE);
    const schedule *d = engine_get_schedule(g);
    assert_int_equal(pages_used(g), d->n_running ? d->running[0]->kv.n_pages : 0);
    assert_true(d->n_running == (why != BY_CLOSE && at != DONE) && d->n_waiting == 0);

    answer a = {0}, b = {0}, solo, mate_solo;
    answer_poll(&a, r);
    while (engine_step(g)) engine_check(g);
    answer_poll(&a, r), answer_poll(&b, mate);
    world_solo(w, &p, &solo), world_solo(w, &mate_params, &mate_solo);
    assert_beginning(&a, &solo);
    rf_finish finish = why == BY_TIMEOUT ? RF_FINISH_TIMEOUT : RF_FINISH_CANCELLED;
    assert_int_equal(a.end.finish, at == DONE ? RF_FINISH_LENGTH : finish);
    assert_true(at == DONE ? a.n_tokens == VICTIM_TOKENS : (a.n_tokens > 0) == (at == DECODE || at == PREEMPTED));
    assert_beginning(&b, &mate_solo);
    assert_int_equal(b.end.finish, why == BY_CLOSE && at != DONE ? RF_FINISH_CANCELLED : RF_FINISH_LENGTH);

    if (why != BY_RELEASE) rf_release(r), rf_release(again);
    request_drop(r);
    rf_release(mate);
    world_end(g);
}

static void every_end_in_every_place(void **state) {
    for (int at = QUEUED; at < N_PLACES; at++)
        for (int why = 0; why < N_CAUSES; why++) end_in_place(*state, (place)at, (cause)why);
}

// A page that cannot be had is no failure: whoever wants it waits, in whatever place, and says the same in the end.
static void no_page_in_every_place(void **state) {
    static const struct {
        uint32_t n_mate_prompt, step_tokens;
        rf_state before; // it waits in the queue
    } rows[] = {
        {VICTIM_PROMPT, 64, RF_QUEUED}, // the mate has all the pages that the victim begins with
        {MATE_PROMPT, 12, RF_PREFILL},  // the mate takes one of the victim's, between two chunks
        {MATE_PROMPT, 64, RF_DECODE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        engine *g = tight_engine(*state, rows[i].step_tokens);
        rf_params mate_params = tight_request(rows[i].n_mate_prompt, 50, 9), p = tight_request(VICTIM_PROMPT, 50, 4);
        rf_request *mate = world_submit(g, &mate_params);
        world_step(g);
        rf_request *r = world_submit(g, &p);
        uint32_t n_waited[RF_DONE + 1] = {0};
        while (state_of(r) != RF_DONE) {
            rf_state before = state_of(r);
            world_step(g);
            if (state_of(r) == RF_QUEUED) n_waited[before]++;
        }
        assert_true(n_waited[rows[i].before] > 0 && n_waited[RF_QUEUED] > 1);
        while (engine_step(g)) engine_check(g);
        answer a = {0}, b = {0}, solo;
        answer_poll(&a, r), answer_poll(&b, mate);
        world_solo(*state, &p, &solo), assert_same_answer(&a, &solo);
        world_solo(*state, &mate_params, &solo), assert_same_answer(&b, &solo);
        rf_release(r), rf_release(mate);
        world_end(g);
    }
}

static void cancel_while_waiting_for_a_place(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.max_running = 1, .step_tokens = 8});
    rf_params p = request_for("first", 20, 1), q = request_for("second", 20, 2);
    rf_request *r = world_submit(g, &p), *s = world_submit(g, &q);
    world_step(g);
    world_step(g);
    assert_int_equal(state_of(s), RF_QUEUED);
    rf_cancel(s);
    world_step(g);
    assert_int_equal(state_of(s), RF_DONE);
    answer a = {0};
    answer_poll(&a, s);
    assert_int_equal(a.end.finish, RF_FINISH_CANCELLED);
    assert_int_equal(state_of(r), RF_DECODE);
    rf_release(r), rf_release(s);
    world_end(g);
}

static void cancel_it(world *w) { rf_cancel(w->arg); }

static void cancel_in_the_middle_of_a_step(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = request_for("mid-step", 50, 1);
    rf_request *r = world_submit(g, &p);
    world_step(g);
    w->arg = r;
    w->during = cancel_it;
    world_step(g);
    w->during = NULL;
    world_step(g);
    answer a = {0};
    answer_poll(&a, r);
    assert_int_equal(a.end.finish, RF_FINISH_CANCELLED);
    assert_int_equal(a.n_tokens, 2);
    rf_release(r);
    world_end(g);
}

static void done_stays_done(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = request_for("done", 1, 1);
    rf_request *r = world_submit(g, &p);
    while (engine_step(g)) continue;
    rf_cancel(r), rf_cancel(r);
    world_step(g);
    answer a = {0};
    answer_poll(&a, r);
    assert_int_equal(a.n_ends, 1);
    assert_int_equal(a.end.finish, RF_FINISH_LENGTH);
    rf_event event;
    assert_false(rf_poll(r, &event));
    assert_false(rf_wait(r, &event, -1)); // returns: nothing will ever come
    assert_int_equal(event.kind, RF_EVENT_NONE);
    world_end(g);
    rf_cancel(r); // the engine is gone, the handle is not
    rf_status status;
    rf_get_status(r, &status);
    assert_int_equal(status.finish, RF_FINISH_LENGTH);
    rf_release(r);
}

static void bad_numbers_end_only_their_request(void **state) {
    world *w = *state;
    const int32_t poison[] = {WORLD_POISON, 1, 2, 3};
    for (w->n_healthy = 1; w->n_healthy < 12; w->n_healthy += 3) {
        engine *g = world_engine(w, chunked());
        rf_params bad = request_for(NULL, 30, 1), good[3];
        bad.prompt_tokens = poison, bad.n_prompt_tokens = 4;
        rf_request *r[4];
        for (uint64_t i = 0; i < 3; i++) {
            good[i] = request_for(i ? "good" : long_prompt, 30, i);
            r[i] = world_submit(g, &good[i]);
            if (i == 1) r[3] = world_submit(g, &bad);
        }
        while (engine_step(g)) engine_check(g);
        answer a[4] = {0}, solo;
        for (int i = 0; i < 4; i++) answer_poll(&a[i], r[i]), rf_release(r[i]);
        assert_int_equal(a[3].end.finish, RF_FINISH_ERROR);
        assert_int_equal(a[3].end.error.code, RF_ERR_NUMERIC);
        assert_true(strlen(a[3].end.error.message) > 10);
        assert_int_equal(a[3].n_tokens, w->n_healthy <= 4 ? 0 : w->n_healthy - 4);
        for (int i = 0; i < 3; i++) {
            world_solo(w, &good[i], &solo);
            assert_same_answer(&a[i], &solo);
        }
        world_end(g);
    }
    w->n_healthy = 1;
}

// ---- the door ----------------------------------------------------------------------------------------------------

static void a_full_queue_is_busy(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.max_queue = 2, .max_running = 1, .step_tokens = 8});
    rf_params p = request_for("queue", 3, 1);
    rf_error error = {0};
    rf_request *r[3] = {world_submit(g, &p), world_submit(g, &p)};
    assert_null(rf_submit(g, &p, &error));
    assert_int_equal(error.code, RF_ERR_BUSY);
    world_step(g); // one got in: one place is free
    r[2] = world_submit(g, &p);
    assert_null(rf_submit(g, &p, NULL));
    rf_cancel(r[2]); // cancelling frees the place as well
    world_step(g);
    rf_request *again = world_submit(g, &p);
    while (engine_step(g)) engine_check(g);
    assert_int_equal(state_of(again), RF_DONE);
    for (int i = 0; i < 3; i++) rf_release(r[i]);
    rf_release(again);
    world_end(g);
}

// Each arrival is more urgent than all before and takes their pages: who was preempted waits, so the queue fills.
static void preempted_requests_fill_the_queue(void **state) {
    world *w = *state;
    engine *g = world_engine(
        w, (engine_config){.info.n_ctx = 128, .n_pages = 4, .max_running = 2, .max_queue = 2, .step_tokens = 64});
    enum { ARRIVALS = 12 };
    rf_params p = request_for(long_prompt, 0, 1);
    p.n_prompt_bytes = 31;
    rf_request *r[ARRIVALS] = {NULL};
    uint32_t n_busy = 0;
    for (int i = 0; i < ARRIVALS; i++) {
        rf_error error = {0};
        p.priority = i, p.seed = (uint64_t)i;
        r[i] = rf_submit(g, &p, &error);
        n_busy += r[i] == NULL;
        assert_true(r[i] || error.code == RF_ERR_BUSY);
        for (int j = 0; j < 40; j++) world_step(g);
        const schedule *d = engine_get_schedule(g);
        rf_stats s;
        rf_get_stats(g, &s);
        assert_true(d->n_waiting + d->n_running <= 4);
        assert_int_equal(s.n_queued, d->n_waiting);
        assert_int_equal(s.n_running, d->n_running);
    }
    assert_true(n_busy > 0 && engine_get_schedule(g)->n_preempted > 2);
    while (engine_step(g)) engine_check(g);
    for (int i = 0; i < ARRIVALS; i++) {
        if (!r[i]) continue;
        answer a = {0}, solo;
        p.priority = i, p.seed = (uint64_t)i, p.max_tokens = 97;
        answer_poll(&a, r[i]);
        world_solo(w, &p, &solo);
        assert_same_answer(&a, &solo);
        rf_release(r[i]);
    }
    world_end(g);
}

static void draining_finishes_what_it_can(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = request_for("short", 3, 1), q = request_for("long", 400, 1);
    rf_request *r = world_submit(g, &p), *s = world_submit(g, &q);
    engine_shut(g, 50);
    rf_error error = {0};
    assert_null(rf_submit(g, &p, &error));
    assert_int_equal(error.code, RF_ERR_STOPPED);
    for (int i = 0; i < 5; i++) w->clock.us += 9000, world_step(g);
    w->clock.us += 9000;
    engine_run(g);
    answer a = {0}, b = {0};
    answer_poll(&a, r), answer_poll(&b, s);
    assert_int_equal(a.end.finish, RF_FINISH_LENGTH);
    assert_int_equal(b.end.finish, RF_FINISH_CANCELLED);
    assert_int_equal(b.n_tokens, 5);
    rf_release(r), rf_release(s);
    world_end(g);
}

// ---- any load: the same bytes ------------------------------------------------------------------------------------

enum { CROWD = 12 };

static void crowd_param(rf_params *p, char prompt[200]) {
    size_t n = 1 + (size_t)rand() % (rand() % 3 ? 20 : 130);
    bool alike = rand() % 2; // up to some point
    size_t same = alike ? (size_t)rand() % n : 0;
    for (size_t i = 0; i < n; i++) prompt[i] = i < same ? 'x' : (char)('a' + rand() % 26);
    prompt[n] = '\0';
    *p = request_for(prompt, 1 + (uint32_t)rand() % 120, (uint64_t)rand());
    p->temperature = (float)(rand() % 3);
    p->repeat_penalty = rand() % 2 ? 1.3f : 1;
    p->priority = rand() % 2;
    p->ignore_eos = rand() % 2;
}

// Random arrivals, cancels, sizes and common beginnings; returns how many preemptions there were.
static uint64_t crowd(world *w) {
    uint32_t max_running = 1 + (uint32_t)rand() % 8;
    engine *g = world_engine(w, (engine_config){.info.n_ctx = 256,
                                                .n_pages = 8 + (uint32_t)rand() % 4,
                                                .max_running = max_running,
                                                .step_tokens = max_running + (uint32_t)rand() % 100,
                                                .hash_mask = rand() % 2 ? 15 : 0});
    char prompts[CROWD][200];
    rf_params params[CROWD];
    rf_request *r[CROWD];
    bool cancelled[CROWD] = {0};
    uint32_t n = 0;
    do {
        if (n < CROWD && rand() % 3 == 0) {
            crowd_param(&params[n], prompts[n]);
            r[n] = world_submit(g, &params[n]);
            n++;
        }
        if (n && rand() % 40 == 0) {
            uint32_t victim = (uint32_t)rand() % n;
            cancelled[victim] = true;
            rf_cancel(r[victim]);
        }
        world_step(g);
    } while (n < CROWD || engine_get_schedule(g)->n_running || engine_get_schedule(g)->n_waiting);
    for (uint32_t i = 0; i < n; i++) {
        answer a = {0}, solo;
        answer_poll(&a, r[i]);
        world_solo(w, &params[i], &solo);
        assert_int_equal(a.n_ends, 1);
        if (cancelled[i] && a.end.finish == RF_FINISH_CANCELLED) {
            assert_true(a.n_tokens <= solo.n_tokens);
            assert_memory_equal(a.tokens, solo.tokens, a.n_tokens * sizeof *a.tokens);
        } else {
            assert_same_answer(&a, &solo);
        }
        rf_release(r[i]);
    }
    uint64_t n_preempted = engine_get_schedule(g)->n_preempted;
    world_end(g);
    return n_preempted;
}

static void any_load_gives_the_same_bytes(void **state) {
    uint64_t n_preempted = 0;
    for (unsigned seed = 1; seed <= 40; seed++) {
        srand(seed);
        n_preempted += crowd(*state);
    }
    assert_true(n_preempted > 100);
}

// ---- the prefix cache --------------------------------------------------------------------------------------------

// Submits, runs to the end, compares with the solo answer.
static answer run_alone(world *w, engine *g, const rf_params *p) {
    rf_request *r = world_submit(g, p);
    while (engine_step(g)) engine_check(g);
    answer a = {0}, solo;
    answer_poll(&a, r);
    rf_release(r);
    world_solo(w, p, &solo);
    assert_same_answer(&a, &solo);
    return a;
}

static void a_known_beginning_is_not_read_again(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    char prompt[161];
    for (int i = 0; i < 160; i++) prompt[i] = (char)('a' + i % 26);
    prompt[160] = '\0';
    rf_params p = request_for(prompt, 40, 1);
    assert_int_equal(run_alone(w, g, &p).end.usage.cached_tokens, 0);
    uint32_t before = w->n_total;
    answer a = run_alone(w, g, &p);
    assert_int_equal(a.end.usage.cached_tokens, 128); // of five whole pages the last has the token that must be read
    assert_int_equal(a.end.usage.prompt_tokens, 160);
    assert_int_equal(w->n_total - before, 2 * 32 + 39 + 128 + 39); // the solo run reads everything
    p.cache_salt = "mine";
    assert_int_equal(run_alone(w, g, &p).end.usage.cached_tokens, 0);
    assert_int_equal(run_alone(w, g, &p).end.usage.cached_tokens, 128);
    p.cache_salt = "yours";
    assert_int_equal(run_alone(w, g, &p).end.usage.cached_tokens, 0);
    p.cache_salt = "";
    prompt[100] = '!';
    assert_int_equal(run_alone(w, g, &p).end.usage.cached_tokens, 96);
    // What was answered is known too: the next turn of a conversation.
    int32_t turn[200];
    for (int i = 0; i < 160; i++) turn[i] = prompt[i];
    p = request_for(NULL, 39, 1);
    p.prompt_tokens = turn, p.n_prompt_tokens = 160;
    a = run_alone(w, g, &p);
    memcpy(turn + 160, a.tokens, 39 * sizeof *turn);
    p.n_prompt_tokens = 199;
    assert_int_equal(run_alone(w, g, &p).end.usage.cached_tokens, 192);
    world_end(g);
}

static void a_failed_request_leaves_nothing_behind(void **state) {
    world *w = *state;
    w->n_healthy = 70;
    int32_t poison[64] = {WORLD_POISON};
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = request_for(NULL, 30, 1);
    p.prompt_tokens = poison, p.n_prompt_tokens = 64;
    for (int i = 0; i < 2; i++) {
        rf_request *r = world_submit(g, &p);
        while (engine_step(g)) engine_check(g);
        answer a = {0};
        answer_poll(&a, r);
        assert_int_equal(a.end.finish, RF_FINISH_ERROR);
        assert_int_equal(a.end.usage.cached_tokens, 0);
        rf_release(r);
    }
    w->n_healthy = 1;
    world_end(g);
}

// Eight answers to one prompt, submitted together: it is read once, but for the page that each one writes into.
static void many_answers(world *w, uint32_t step_tokens) {
    engine *g = world_engine(w, (engine_config){.step_tokens = step_tokens});
    rf_params p[8];
    rf_request *r[8];
    answer a, solo;
    uint32_t before = w->n_total, n_prompt = (uint32_t)strlen(long_prompt), n_shared = (n_prompt - 1) / 32 * 32;
    for (uint64_t i = 0; i < 8; i++) p[i] = request_for(long_prompt, 1, i), r[i] = world_submit(g, &p[i]);
    while (engine_step(g)) engine_check(g);
    assert_int_equal(w->n_total - before, n_prompt + 7 * (n_prompt - n_shared));
    for (int i = 0; i < 8; i++) {
        a = (answer){0};
        answer_poll(&a, r[i]);
        assert_int_equal(a.end.usage.cached_tokens, i ? n_shared : 0);
        world_solo(w, &p[i], &solo);
        assert_same_answer(&a, &solo);
        rf_release(r[i]);
    }
    world_end(g);
}

static void many_answers_read_their_prompt_once(void **state) {
    many_answers(*state, 33);
    many_answers(*state, 70);
    many_answers(*state, 512);
}

// ---- statistics --------------------------------------------------------------------------------------------------

static uint64_t counted(const rf_histogram *h) {
    uint64_t n = 0;
    for (int i = 0; i < RF_HISTOGRAM_BUCKETS; i++) n += h->buckets[i];
    assert_int_equal(n, h->count);
    return n;
}

static void a_millisecond(world *w) { w->clock.us += 1000; }

static void everything_is_counted(void **state) {
    world *w = *state;
    w->clock = clock_manual(0);
    w->during = a_millisecond;
    engine *g = world_engine(w, (engine_config){.step_tokens = 8, .max_running = 2, .n_pages = 40});
    rf_stats s;
    rf_get_stats(g, &s);
    assert_int_equal(s.n_pages, 40);
    assert_int_equal(s.n_queued + s.n_running + s.n_steps, 0);
    rf_params p = request_for("twelve bytes", 5, 1), q = p;
    q.timeout_ms = 1;
    rf_request *r[4];
    for (int i = 0; i < 4; i++) r[i] = world_submit(g, i == 2 ? &q : &p);
    rf_cancel(r[3]);
    rf_get_stats(g, &s);
    assert_int_equal(s.n_queued, 4);
    world_step(g); // one is read, eight bytes of it
    rf_get_stats(g, &s);
    assert_int_equal(s.n_ended[RF_FINISH_CANCELLED], 1);
    assert_int_equal(s.n_queued, 2);
    assert_int_equal(s.n_running, 1);
    assert_int_equal(s.n_pages_used, 1);
    assert_int_equal(s.prompt_tokens, 12);
    while (engine_step(g)) engine_check(g);
    rf_get_stats(g, &s);
    assert_int_equal(s.n_ended[RF_FINISH_TIMEOUT], 1);
    assert_int_equal(s.n_ended[RF_FINISH_LENGTH], 2);
    assert_int_equal(s.n_queued + s.n_running + s.n_pages_used, 0);
    assert_int_equal(s.completion_tokens, 10);
    assert_int_equal(s.prompt_tokens, 24);
    assert_int_equal(s.n_steps, counted(&s.step));
    assert_int_equal(s.step.sum_us, s.n_steps * 1000);
    assert_int_equal(counted(&s.first_token), 2);
    assert_int_equal(s.first_token.buckets[5], 1); // after two steps
    assert_int_equal(counted(&s.inter_token), 8);
    assert_int_equal(s.inter_token.sum_us, 8 * 1000);
    for (int i = 0; i < 4; i++) rf_release(r[i]);
    w->during = NULL;
    world_end(g);
}

static void batches_are_counted(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.max_running = 8});
    rf_request *r[6];
    for (uint32_t i = 0; i < 6; i++) {
        rf_params p = request_for("b", 1 + i, i); // one less with every step
        r[i] = world_submit(g, &p);
    }
    while (engine_step(g)) continue;
    rf_stats s;
    rf_get_stats(g, &s);
    static const uint64_t expected[] = {1, 1, 2, 2}; // 1; 2; 3 and 4; 5 and 6
    assert_memory_equal(s.batch.buckets, expected, sizeof expected);
    assert_int_equal(s.batch.count, 6);
    assert_int_equal(s.batch.count, s.n_steps);
    assert_int_equal(s.batch.sum, 1 + 2 + 3 + 4 + 5 + 6);
    for (int i = 0; i < 6; i++) rf_release(r[i]);
    world_end(g);
}

static void cache_and_preemptions_are_counted(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.n_pages = 8, .info.n_ctx = 256});
    rf_params p = request_for(long_prompt, 20, 1);
    rf_stats s;
    uint32_t n_prompt = (uint32_t)strlen(long_prompt);
    run_alone(w, g, &p), run_alone(w, g, &p);
    rf_get_stats(g, &s);
    assert_int_equal(s.prompt_tokens, 2 * n_prompt);
    assert_int_equal(s.cached_tokens, (n_prompt - 1) / 32 * 32);
    assert_int_equal(s.n_pages_cached, (n_prompt + 19) / 32);
    assert_int_equal(s.n_evicted_pages + s.n_preempted, 0);
    rf_request *r[4];
    for (uint64_t i = 0; i < 4; i++) {
        p = request_for("other", 100, i);
        r[i] = world_submit(g, &p);
    }
    while (engine_step(g)) {
        engine_check(g);
        rf_get_stats(g, &s);
        assert_int_equal(s.n_queued + s.n_running + s.n_ended[RF_FINISH_LENGTH], 6);
    }
    assert_true(s.n_evicted_pages > 0 && s.n_preempted > 0);
    assert_int_equal(s.n_preempted, engine_get_schedule(g)->n_preempted);
    for (int i = 0; i < 4; i++) rf_release(r[i]);
    world_end(g);
}

static void steps_are_bounded(void **state) {
    world *w = *state;
    w->max_step_tokens = 0;
    engine *g = world_engine(w, chunked());
    rf_request *r[6];
    for (uint64_t i = 0; i < 6; i++) {
        rf_params p = request_for(long_prompt, 20, i);
        r[i] = world_submit(g, &p);
    }
    while (engine_step(g)) assert_true(w->n_tokens <= 8 && w->n_seqs <= 4);
    assert_int_equal(w->max_step_tokens, 8);
    for (int i = 0; i < 6; i++) rf_release(r[i]);
    world_end(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_ends_at_max_tokens),
        cmocka_unit_test(context_end_is_length),
        cmocka_unit_test(end_token_stops_and_is_not_shown),
        cmocka_unit_test(stop_string_ends_and_is_never_shown),
        cmocka_unit_test(a_held_back_stop_prefix_is_shown_at_the_end),
        cmocka_unit_test(parameters_reach_the_sampler),
        cmocka_unit_test(logprobs_come_with_every_token),
        cmocka_unit_test(every_end_in_every_place),
        cmocka_unit_test(no_page_in_every_place),
        cmocka_unit_test(cancel_while_waiting_for_a_place),
        cmocka_unit_test(cancel_in_the_middle_of_a_step),
        cmocka_unit_test(done_stays_done),
        cmocka_unit_test(bad_numbers_end_only_their_request),
        cmocka_unit_test(a_full_queue_is_busy),
        cmocka_unit_test(preempted_requests_fill_the_queue),
        cmocka_unit_test(draining_finishes_what_it_can),
        cmocka_unit_test(any_load_gives_the_same_bytes),
        cmocka_unit_test(a_known_beginning_is_not_read_again),
        cmocka_unit_test(a_failed_request_leaves_nothing_behind),
        cmocka_unit_test(many_answers_read_their_prompt_once),
        cmocka_unit_test(everything_is_counted),
        cmocka_unit_test(batches_are_counted),
        cmocka_unit_test(cache_and_preemptions_are_counted),
        cmocka_unit_test(steps_are_bounded),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}

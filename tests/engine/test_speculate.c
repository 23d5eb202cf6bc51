// Speculation changes when tokens come and nothing else: every answer equals the one without it, to the byte.
#include "world.h"

static const uint32_t speculations[] = {1, 2, 4, 8, DRAFT_MOST};
enum { N_SPECULATIONS = sizeof speculations / sizeof *speculations, MAX_LOGPROBS = 2048 };

typedef struct result {
    answer answer;
    rf_token_logprob logprobs[MAX_LOGPROBS];
    uint32_t n_steps;
    rf_stats stats;
} result;

static void poll_all(result *o, rf_request *r, uint32_t width) {
    rf_event event;
    while (rf_poll(r, &event)) {
        assert_true((o->answer.n_tokens + event.n_tokens) * width <= MAX_LOGPROBS);
        if (event.kind == RF_EVENT_TEXT && width)
            memcpy(o->logprobs + o->answer.n_tokens * width, event.logprobs,
                   event.n_tokens * width * sizeof *event.logprobs);
        answer_add(&o->answer, &event);
    }
}

static void a_millisecond(world *w) { w->clock.us += 1000; }

static void run(world *w, const rf_params *p, engine_config limits, result *o) {
    *o = (result){0};
    w->n_steps = 0, w->during = a_millisecond;
    engine *g = world_engine(w, limits);
    rf_request *r = world_submit(g, p);
    while (engine_step(g)) {
        engine_check(g);
        assert_true(w->n_tokens <= engine_get_config(g)->step_tokens);
        assert_true(w->n_rows <= engine_logits_rows(engine_get_config(g)));
        poll_all(o, r, p->logprobs ? 1 + p->n_logprobs : 0);
    }
    rf_get_stats(g, &o->stats);
    o->n_steps = w->n_steps;
    w->during = NULL;
    rf_release(r);
    world_end(g);
}

static uint64_t counted(const rf_histogram *h) {
    uint64_t n = 0;
    for (int i = 0; i < RF_HISTOGRAM_BUCKETS; i++) n += h->buckets[i];
    assert_int_equal(n, h->count);
    return n;
}

static void check_counts(const result *o) {
    const rf_usage *u = &o->answer.end.usage;
    assert_int_equal(u->draft_tokens, o->stats.draft_tokens);
    assert_int_equal(u->accepted_tokens, o->stats.accepted_tokens);
    assert_true(u->accepted_tokens <= u->draft_tokens);
    assert_int_equal(o->stats.completion_tokens, o->answer.n_tokens);
    if (o->answer.n_tokens == 0) return;
    assert_int_equal(counted(&o->stats.first_token), 1);
    assert_int_equal(counted(&o->stats.inter_token), o->answer.n_tokens - 1);
    if (o->answer.end.finish == RF_FINISH_LENGTH) // each step makes its tokens; all its time is between them
        assert_int_equal(o->stats.inter_token.sum_us, u->decode_us);
}

// Runs p without speculation and with every other; returns how many guesses were right, in all.
static uint64_t same_at_any(world *w, const rf_params *p) {
    result *plain = malloc(sizeof *plain), *fast = malloc(sizeof *fast);
    uint64_t n_accepted = 0;
    run(w, p, (engine_config){0}, plain);
    check_counts(plain);
    assert_int_equal(plain->stats.draft_tokens, 0);
    for (int i = 0; i < N_SPECULATIONS; i++) {
        run(w, p, (engine_config){.speculate = speculations[i]}, fast);
        check_counts(fast);
        assert_same_answer(&fast->answer, &plain->answer);
        assert_string_equal(fast->answer.end.error.message, plain->answer.end.error.message);
        assert_memory_equal(fast->logprobs, plain->logprobs, sizeof plain->logprobs);
        uint64_t n = fast->stats.accepted_tokens;
        assert_true(fast->n_steps <= plain->n_steps && fast->n_steps + n >= plain->n_steps);
        n_accepted += n;
    }
    free(plain), free(fast);
    return n_accepted;
}

static rf_params echoing(int32_t prompt[20], uint32_t max_tokens, uint64_t seed) {
    for (int i = 0; i < 20; i++) prompt[i] = (int32_t)(mix(seed, (uint64_t)i) % 256);
    prompt[1] = WORLD_ECHO;
    rf_params p = rf_params_default();
    p.prompt_tokens = prompt, p.n_prompt_tokens = 20, p.max_tokens = max_tokens, p.seed = seed, p.ignore_eos = true;
    return p;
}

// Being right earns all the credit there may be; being wrong costs some.
static void credit_follows_the_guesses(void **state) {
    world *w = *state;
    int32_t prompt[20];
    rf_params p = echoing(prompt, 200, 1);
    p.temperature = 0;
    engine *g = world_engine(w, (engine_config){.speculate = 8});
    rf_request *r = world_submit(g, &p);
    world_step(g);
    uint32_t n_up = 0, n_down = 0, most = 0;
    const sequence *s = engine_get_schedule(g)->running[0];
    for (int i = 0; i < 60; i++) {
        uint32_t credit = s->draft_credit, n_drafted = s->n_drafted, n_accepted = s->n_accepted;
        world_step(g);
        n_drafted = s->n_drafted - n_drafted, n_accepted = s->n_accepted - n_accepted;
        assert_int_equal(s->draft_credit, draft_settle(credit, (draft_cost){1, 4}, n_drafted, n_accepted));
        n_up += s->draft_credit > credit, n_down += s->draft_credit < credit;
        if (s->draft_credit > most) most = s->draft_credit;
    }
    assert_true(n_up > 10 && n_down > 3);
    assert_int_equal(most, 4 * DRAFT_TOKEN);
    rf_release(r);
    world_end(g);
}

static void guesses_are_right_and_save_steps(void **state) {
    world *w = *state;
    int32_t prompt[20];
    result *o = malloc(sizeof *o);
    rf_params p = echoing(prompt, 200, 1);
    p.temperature = 0;
    run(w, &p, (engine_config){.speculate = 8}, o);
    assert_int_equal(o->n_steps + o->stats.accepted_tokens, 200);
    assert_true(o->stats.accepted_tokens > 60);
    assert_true(o->stats.draft_tokens > o->stats.accepted_tokens);
    free(o);
}

static void answers_are_the_same(void **state) {
    world *w = *state;
    uint64_t n_accepted = 0;
    for (uint64_t seed = 0; seed < 48; seed++) {
        int32_t prompt[20];
        rf_params p = echoing(prompt, 1 + (uint32_t)(mix(seed, 100) % 120), seed);
        p.temperature = (float)(seed % 3) * 0.7f;
        if (seed % 4 == 1) p.repeat_penalty = 1.1f, p.penalty_last_n = 3;
        if (seed % 4 == 2) p.frequency_penalty = 0.3f, p.presence_penalty = -0.5f;
        if (seed % 5 == 1) p.logprobs = true, p.n_logprobs = 3;
        if (seed % 6 == 1) prompt[1] = 2; // nothing repeats
        if (seed % 7 == 1) p.max_tokens = 0;
        p.ignore_eos = seed % 2;
        n_accepted += same_at_any(w, &p);
    }
    assert_true(n_accepted > 3000);
}

static void an_end_token_among_guesses_ends(void **state) {
    world *w = *state;
    uint32_t n_stopped = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        int32_t prompt[20];
        rf_params p = echoing(prompt, 100, seed);
        for (int i = 15; i < 20; i++) prompt[i] = i == 17 ? WORLD_EOS : prompt[i]; // repeated, it may be guessed
        p.temperature = 1, p.ignore_eos = false;
        same_at_any(w, &p);
        answer a;
        world_solo(w, &p, &a);
        n_stopped += a.end.finish == RF_FINISH_STOP && a.n_tokens < 99;
    }
    assert_true(n_stopped > 10);
}

static void stop_strings_are_the_same(void **state) {
    world *w = *state;
    uint64_t n_accepted = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        int32_t prompt[20];
        rf_params p = echoing(prompt, 90, seed);
        p.temperature = seed % 2 ? 0.8f : 0;
        answer all;
        world_solo(w, &p, &all);
        char stop[32] = {0}; // a piece of the answer, whole characters of it
        size_t at = all.n_bytes / 2, end = at + 1 + seed % 7;
        while ((all.text[at] & 0xC0) == 0x80) at++;
        while (end <= at || (end < all.n_bytes && (all.text[end] & 0xC0) == 0x80)) end++;
        memcpy(stop, all.text + at, end - at);
        const char *stops[] = {"never said", stop};
        p.stop = stops, p.n_stop = 2;
        n_accepted += same_at_any(w, &p);
    }
    assert_true(n_accepted > 300);
}

// A limit at every place, so that it falls among right and wrong guesses.
static void limits_are_the_same(void **state) {
    world *w = *state;
    int32_t prompt[20];
    for (uint32_t n = 1; n < 60; n++) {
        rf_params p = echoing(prompt, n, 3);
        same_at_any(w, &p);
    }
    result *plain = malloc(sizeof *plain), *fast = malloc(sizeof *fast);
    for (uint32_t n_ctx = 22; n_ctx < 70; n_ctx++) { // as well as the context's end
        rf_params p = echoing(prompt, 0, 4);
        run(w, &p, (engine_config){.info.n_ctx = n_ctx, .n_pages = kv_pages_for(n_ctx)}, plain);
        run(w, &p, (engine_config){.info.n_ctx = n_ctx, .n_pages = kv_pages_for(n_ctx), .speculate = 8}, fast);
        assert_same_answer(&fast->answer, &plain->answer);
        assert_int_equal(fast->answer.n_tokens, n_ctx - 20);
    }
    free(plain), free(fast);
}

// Numbers that are none end a request when their row is its turn: not before, and not behind a wrong guess.
static void bad_numbers_count_when_it_is_their_turn(void **state) {
    world *w = *state;
    int32_t prompt[20];
    uint64_t n_accepted = 0;
    for (w->n_healthy = 18; w->n_healthy < 90; w->n_healthy++) {
        rf_params p = echoing(prompt, 100, 5);
        prompt[0] = WORLD_POISON;
        n_accepted += same_at_any(w, &p);
        answer a;
        world_solo(w, &p, &a);
        assert_int_equal(a.end.finish, RF_FINISH_ERROR);
        assert_int_equal(a.n_tokens, w->n_healthy <= 20 ? 0 : w->n_healthy - 20);
    }
    w->n_healthy = 1;
    assert_true(n_accepted > 1000);
}

// What speculation leaves in the cache is what the answer holds, no wrong guess among it.
static void the_cache_holds_what_was_said(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.speculate = 8});
    for (uint64_t seed = 0; seed < 10; seed++) {
        int32_t prompt[20], turn[200];
        rf_params p = echoing(prompt, 150, seed);
        answer a = {0}, b = {0}, solo;
        rf_request *r = world_submit(g, &p);
        while (engine_step(g)) engine_check(g);
        answer_poll(&a, r);
        rf_release(r);
        memcpy(turn, prompt, sizeof prompt);
        memcpy(turn + 20, a.tokens, 150 * sizeof *turn);
        p.prompt_tokens = turn, p.n_prompt_tokens = 170, p.max_tokens = 30;
        r = world_submit(g, &p);
        while (engine_step(g)) engine_check(g);
        answer_poll(&b, r);
        rf_release(r);
        assert_int_equal(b.end.usage.cached_tokens, 160);
        world_solo(w, &p, &solo);
        assert_same_answer(&b, &solo);
    }
    world_end(g);
}

// Many at once, with few pages and few tokens a step: the same bytes, and everybody comes to his end.
static void crowds_are_the_same(void **state) {
    world *w = *state;
    enum { CROWD = 10 };
    uint64_t n_accepted = 0, n_preempted = 0;
    for (unsigned round = 0; round < 40; round++) {
        srand(round);
        uint32_t max_running = 1 + (uint32_t)rand() % 8;
        engine *g = world_engine(w, (engine_config){.info.n_ctx = 256,
                                                    .n_pages = 8 + (uint32_t)rand() % 8,
                                                    .max_running = max_running,
                                                    .step_tokens = max_running + (uint32_t)rand() % 60,
                                                    .speculate = 1 + (uint32_t)rand() % 12});
        int32_t prompts[CROWD][20];
        rf_params params[CROWD];
        rf_request *r[CROWD];
        uint32_t n = 0;
        do {
            while (n < CROWD && rand() % 3 == 0) {
                params[n] = echoing(prompts[n], 1 + (uint32_t)rand() % 130, round * 100 + n);
                params[n].temperature = (float)(rand() % 2);
                r[n] = world_submit(g, &params[n]);
                n++;
            }
            world_step(g);
            assert_true(w->n_tokens <= engine_get_config(g)->step_tokens);
            assert_true(w->n_rows <= engine_logits_rows(engine_get_config(g)));
        } while (n < CROWD || engine_get_schedule(g)->n_running || engine_get_schedule(g)->n_waiting);
        for (uint32_t i = 0; i < n; i++) {
            answer a = {0}, solo;
            answer_poll(&a, r[i]);
            world_solo(w, &params[i], &solo);
            assert_same_answer(&a, &solo);
            n_accepted += a.end.usage.accepted_tokens;
            rf_release(r[i]);
        }
        n_preempted += engine_get_schedule(g)->n_preempted;
        world_end(g);
    }
    assert_true(n_accepted > 1000 && n_preempted > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credit_follows_the_guesses),
        cmocka_unit_test(guesses_are_right_and_save_steps),
        cmocka_unit_test(answers_are_the_same),
        cmocka_unit_test(an_end_token_among_guesses_ends),
        cmocka_unit_test(stop_strings_are_the_same),
        cmocka_unit_test(limits_are_the_same),
        cmocka_unit_test(bad_numbers_count_when_it_is_their_turn),
        cmocka_unit_test(the_cache_holds_what_was_said),
        cmocka_unit_test(crowds_are_the_same),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}

// The public functions with a real engine thread and a fake model: the border, waiting, notifying, closing, many
// threads.
#include "world.h"

#include <pthread.h>
#include <sys/resource.h>

static rf_params ask(const char *prompt, uint32_t max_tokens) {
    rf_params p = rf_params_default();
    p.prompt = prompt, p.max_tokens = max_tokens, p.ignore_eos = true;
    return p;
}

static engine *started(world *w, engine_config limits) {
    limits.clock = &clock_machine;
    engine *g = world_engine(w, limits);
    err e = {0};
    assert_true(engine_start(g, &e));
    return g;
}

// ---- the border --------------------------------------------------------------------------------------------------

static void refused(engine *g, const rf_params *p, rf_code code, const char *word) {
    rf_error error = {0};
    assert_null(rf_submit(g, p, &error));
    assert_null(rf_submit(g, p, NULL));
    if (error.code != code || !strstr(error.message, word))
        fail_msg("expected %d and '%s', got %d: %s", (int)code, word, (int)error.code, error.message);
}

static void numbers_out_of_range_are_refused(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    static const struct {
        const char *name;
        size_t offset;
        float bad[6];
    } rows[] = {
        {"temperature", offsetof(rf_params, temperature), {NAN, INFINITY, -INFINITY, -1, -1e-6f, -1e38f}},
        {"top_p", offsetof(rf_params, top_p), {NAN, INFINITY, 0, -1, 1.0001f, 1e38f}},
        {"min_p", offsetof(rf_params, min_p), {NAN, INFINITY, -INFINITY, -0.001f, 1.0001f, 1e38f}},
        {"repeat_penalty", offsetof(rf_params, repeat_penalty), {NAN, INFINITY, 0, -1, -0.5f, -1e38f}},
        {"presence_penalty", offsetof(rf_params, presence_penalty), {NAN, INFINITY, -INFINITY, 2.1f, -2.1f, 1e38f}},
        {"frequency_penalty", offsetof(rf_params, frequency_penalty), {NAN, INFINITY, -INFINITY, 2.1f, -2.1f, 1e38f}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int j = 0; j < 6; j++) {
            rf_params p = ask("x", 1);
            memcpy((char *)&p + rows[i].offset, &rows[i].bad[j], sizeof(float));
            refused(g, &p, RF_ERR_USAGE, rows[i].name);
        }
    rf_params p = ask("x", 1);
    p.n_logprobs = 21;
    refused(g, &p, RF_ERR_USAGE, "n_logprobs");
    p = ask("x", 1), p.timeout_ms = -1;
    refused(g, &p, RF_ERR_USAGE, "timeout_ms");
    p = ask("x", 1), p.cache_salt = "0123456789012345678901234567890123456789012345678901234567890123+";
    refused(g, &p, RF_ERR_USAGE, "cache_salt");
    world_end(g);
}

static void the_ends_of_ranges_are_accepted(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    static rf_logit_bias bias[1024];
    for (int i = 0; i < 1024; i++) bias[i] = (rf_logit_bias){WORLD_VOCAB - 1 - i % 2, i % 3 ? 100 : -100};
    rf_params p = ask("x", 1), all[7];
    for (int i = 0; i < 7; i++) all[i] = p;
    all[0].temperature = 0, all[0].top_p = 1, all[0].min_p = 0, all[0].presence_penalty = -2;
    all[1].temperature = 3e38f, all[1].top_p = 1e-38f, all[1].min_p = 1, all[1].presence_penalty = 2;
    all[2].frequency_penalty = -2, all[2].repeat_penalty = 1e-38f, all[2].n_logprobs = 20, all[2].logprobs = true;
    all[3].frequency_penalty = 2, all[3].repeat_penalty = 3e38f, all[3].top_k = UINT32_MAX;
    all[4].timeout_ms = INT64_MAX, all[4].seed = UINT64_MAX, all[4].penalty_last_n = UINT32_MAX;
    all[5].max_tokens = UINT32_MAX, all[5].priority = INT32_MIN;
    all[6].logit_bias = bias, all[6].n_logit_bias = 1024;
    for (int i = 0; i < 7; i++) {
        rf_request *r = world_submit(g, &all[i]);
        while (engine_step(g)) continue;
        answer a = {0};
        answer_poll(&a, r);
        assert_int_equal(a.end.finish, RF_FINISH_LENGTH);
        rf_release(r);
    }
    world_end(g);
}

static void stop_strings_are_checked(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    static char long_stop[1026];
    memset(long_stop, 'x', 1025);
    const char *stops[33];
    for (int i = 0; i < 33; i++) stops[i] = "x";
    rf_params p = ask("x", 1);
    p.stop = stops, p.n_stop = 33;
    refused(g, &p, RF_ERR_USAGE, "33 stop strings");
    p.stop = NULL, p.n_stop = 1;
    refused(g, &p, RF_ERR_USAGE, "NULL");
    p.stop = stops, p.n_stop = 3;
    stops[2] = "";
    refused(g, &p, RF_ERR_USAGE, "stop string 2");
    stops[2] = NULL;
    refused(g, &p, RF_ERR_USAGE, "stop string 2");
    stops[2] = long_stop;
    refused(g, &p, RF_ERR_USAGE, "stop string 2");
    stops[2] = "ab\xff";
    refused(g, &p, RF_ERR_FORMAT, "byte 2");
    world_end(g);
}

static void biases_are_checked(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    static rf_logit_bias bias[1025];
    rf_params p = ask("x", 1);
    p.logit_bias = bias, p.n_logit_bias = 1025;
    refused(g, &p, RF_ERR_USAGE, "1025 tokens");
    p.n_logit_bias = 2;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 100.001f, -100.001f};
    for (int i = 0; i < 6; i++) {
        bias[1].bias = bad[i];
        refused(g, &p, RF_ERR_USAGE, "a logit_bias is");
    }
    bias[1] = (rf_logit_bias){WORLD_VOCAB, 0};
    refused(g, &p, RF_ERR_USAGE, "token 259");
    bias[1].token = -1;
    refused(g, &p, RF_ERR_USAGE, "token -1");
    p.logit_bias = NULL;
    refused(g, &p, RF_ERR_USAGE, "NULL");
    world_end(g);
}

static void prompts_are_checked(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.info.n_ctx = 64});
    char text[65];
    memset(text, 'a', 64), text[64] = '\0';
    rf_params p = ask("", 1);
    refused(g, &p, RF_ERR_USAGE, "empty");
    p.prompt = NULL;
    refused(g, &p, RF_ERR_USAGE, "empty");
    p.n_prompt_bytes = 5;
    refused(g, &p, RF_ERR_USAGE, "empty");
    p = ask("abc\xc3(", 1);
    refused(g, &p, RF_ERR_FORMAT, "byte 3");
    p = ask(text, 1);
    refused(g, &p, RF_ERR_TOO_LONG, "64 tokens");
    p.n_prompt_bytes = 63;
    rf_request *r = world_submit(g, &p);
    rf_status status;
    rf_get_status(r, &status);
    assert_int_equal(status.n_prompt, 63);
    rf_release(r);

    char *far = malloc(1 << 20); // not UTF-8, and nobody looks
    memset(far, 0xff, 1 << 20);
    p = ask(far, 1);
    p.n_prompt_bytes = 1 << 20;
    refused(g, &p, RF_ERR_TOO_LONG, "at least");
    free(far);

    int32_t ids[] = {1, 2, WORLD_VOCAB, -1};
    p = ask(NULL, 1);
    p.prompt_tokens = ids, p.n_prompt_tokens = 3;
    refused(g, &p, RF_ERR_USAGE, "prompt token 2");
    p.prompt_tokens = ids + 3, p.n_prompt_tokens = 1;
    refused(g, &p, RF_ERR_USAGE, "prompt token 0");
    p.n_prompt_tokens = SIZE_MAX;
    refused(g, &p, RF_ERR_TOO_LONG, "tokens");
    p.prompt_tokens = NULL, p.n_prompt_tokens = 1;
    refused(g, &p, RF_ERR_USAGE, "NULL");
    world_end(g);
}

static void special_tokens_only_when_asked(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    static const char text[] = "a<|special1|>";
    int32_t ids[64];
    assert_int_equal(rf_tokenize(g, text, sizeof text - 1, true, ids, 64, NULL), 2);
    assert_int_equal(ids[1], WORLD_CONTROL);
    ids[1] = -7;
    assert_int_equal(rf_tokenize(g, text, sizeof text - 1, false, ids, 1, NULL), 13);
    assert_int_equal(ids[0], 'a');
    assert_int_equal(ids[1], -7); // no room was given
    rf_error error = {0};
    assert_int_equal(rf_tokenize(g, "\xff", 1, false, ids, 64, &error), -1);
    assert_int_equal(error.code, RF_ERR_FORMAT);
    for (int special = 0; special < 2; special++) {
        rf_params p = ask(text, 1);
        p.parse_special = special;
        rf_request *r = world_submit(g, &p);
        rf_status status;
        rf_get_status(r, &status);
        assert_int_equal(status.n_prompt, special ? 2 : 13);
        rf_release(r);
    }
    world_end(g);
}

static void what_an_engine_tells(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.info = {.name = "fake", .n_ctx = 77}});
    rf_model_info info;
    rf_model_get_info(g, &info);
    assert_string_equal(info.name, "fake");
    assert_int_equal(info.n_ctx, 77);
    size_t n_bytes;
    assert_memory_equal(rf_token_bytes(g, ' ', &n_bytes), " ", 1);
    assert_int_equal(n_bytes, 1);
    assert_null(rf_token_bytes(g, -1, &n_bytes));
    assert_null(rf_token_bytes(g, WORLD_VOCAB, &n_bytes));
    static const char *const names[] = {"none", "stop", "length", "cancelled", "timeout", "error"};
    for (int i = 0; i < 6; i++) assert_string_equal(rf_finish_name((rf_finish)i), names[i]);
    world_end(g);
    rf_engine_close(NULL, 0);
}

static void params_are_copied(void **state) {
    world *w = *state;
    answer a = {0}, solo;
    rf_params p = ask("the original prompt", 20);
    const char *stops[] = {"zz"};
    rf_logit_bias bias[] = {{'q', 5}, {'r', 6}};
    p.stop = stops, p.n_stop = 1, p.logit_bias = bias, p.n_logit_bias = 2;
    world_solo(w, &p, &solo);
    engine *g = world_engine(w, (engine_config){0});
    char prompt[] = "the original prompt", stop[] = "zz", id[] = "an id";
    const char *list[] = {stop};
    p.prompt = prompt, p.stop = list, p.id = id;
    rf_request *r = world_submit(g, &p);
    memset(prompt, 'x', 5), memset(stop, '\0', 2), memset(id, 'x', 5), memset(bias, 0, sizeof bias);
    while (engine_step(g)) continue;
    answer_poll(&a, r);
    assert_same_answer(&a, &solo);
    rf_release(r);
    world_end(g);
}

// ---- events ------------------------------------------------------------------------------------------------------

static void count_call(void *arg) { ++*(int *)arg; }

static void notify_once_per_empty_outbox(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0});
    int n = 0;
    rf_params p = ask("notify", 4);
    p.notify = count_call, p.notify_arg = &n;
    rf_request *r = world_submit(g, &p);
    answer a = {0};
    world_step(g);
    world_step(g);
    assert_int_equal(n, 1); // nobody had read the first
    answer_poll(&a, r);
    world_step(g);
    assert_int_equal(n, 2);
    answer_poll(&a, r);
    world_step(g); // the last token and the end
    assert_int_equal(n, 3);
    answer_poll(&a, r);
    assert_int_equal(a.n_ends, 1);
    rf_release(r);
    r = world_submit(g, &p);
    world_step(g);
    rf_event event;
    while (rf_poll(r, &event)) continue; // the next event would be announced
    n = 0;
    rf_release(r); // from here on notify_arg may be gone
    world_step(g);
    assert_int_equal(n, 0);
    world_end(g);
}

static void wait_times_out(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){0}); // nobody steps it
    rf_params p = ask("wait", 4);
    rf_request *r = world_submit(g, &p);
    rf_event event;
    int64_t before = clock_machine_us();
    assert_false(rf_wait(r, &event, 30));
    assert_true(clock_machine_us() - before >= 30000);
    assert_false(rf_wait(r, &event, 0));
    assert_false(rf_poll(r, &event));
    assert_int_equal(event.kind, RF_EVENT_NONE);
    world_step(g);
    assert_true(rf_wait(r, &event, 0));
    rf_release(r);
    world_end(g);
}

// ---- with a thread -----------------------------------------------------------------------------------------------

static void threaded_answer_is_the_same(void **state) {
    world *w = *state;
    answer a = {0}, solo;
    rf_params p = ask("threaded", 50);
    world_solo(w, &p, &solo);
    engine *g = started(w, (engine_config){0});
    rf_request *r = world_submit(g, &p);
    answer_wait(&a, r);
    assert_same_answer(&a, &solo);
    rf_release(r);
    rf_engine_close(g, 0);
}

static void *cancel_later(void *arg) {
    usleep(20000);
    rf_cancel(arg);
    return NULL;
}

static void slow_step(world *w) {
    (void)w;
    usleep(200);
}

static void a_waiter_is_woken_by_cancel(void **state) {
    world *w = *state;
    w->during = slow_step;
    engine *g = started(w, (engine_config){.info.n_ctx = 30000});
    rf_params p = ask("for ever", 0);
    rf_request *r = world_submit(g, &p);
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_later, r);
    rf_event event;
    do assert_true(rf_wait(r, &event, 10000));
    while (event.kind != RF_EVENT_END);
    assert_int_equal(event.finish, RF_FINISH_CANCELLED);
    pthread_join(thread, NULL);
    rf_release(r);
    rf_engine_close(g, 0);
    w->during = NULL;
}

static void closing_ends_everybody(void **state) {
    world *w = *state;
    w->during = slow_step;
    engine *g = started(w, (engine_config){.info.n_ctx = 30000, .max_running = 2});
    rf_params p = ask("for ever", 0), q = ask("short", 5);
    rf_request *r[4] = {world_submit(g, &p), world_submit(g, &q), world_submit(g, &p), world_submit(g, &p)};
    int64_t before = clock_machine_us();
    rf_engine_close(g, 60);
    int64_t took = clock_machine_us() - before;
    assert_true(took >= 60000 && took < 5000000);
    for (int i = 0; i < 4; i++) {
        rf_event event;
        do assert_true(rf_poll(r[i], &event));
        while (event.kind != RF_EVENT_END);
        assert_int_equal(event.finish, i == 1 ? RF_FINISH_LENGTH : RF_FINISH_CANCELLED);
        rf_cancel(r[i]);
        rf_release(r[i]);
    }
    w->during = NULL;
}

static void timeouts_run_on_the_engine_s_clock(void **state) {
    world *w = *state;
    w->during = slow_step;
    engine *g = started(w, (engine_config){.info.n_ctx = 30000});
    rf_params p = ask("for ever", 0);
    p.timeout_ms = 20;
    rf_request *r = world_submit(g, &p);
    rf_event event;
    do assert_true(rf_wait(r, &event, 10000));
    while (event.kind != RF_EVENT_END);
    assert_int_equal(event.finish, RF_FINISH_TIMEOUT);
    rf_release(r);
    rf_engine_close(g, 0);
    w->during = NULL;
}

static void idle_is_silent(void **state) {
    world *w = *state;
    engine *g = started(w, (engine_config){0});
    rf_params p = ask("then nothing", 5);
    rf_request *r = world_submit(g, &p);
    answer a = {0};
    answer_wait(&a, r);
    usleep(5000); // it goes to sleep
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    usleep(60000);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_nvcsw - before.ru_nvcsw <= 3); // ours, and no ticks
    rf_release(r);
    rf_engine_close(g, 0);
}

// ---- one request, many hands -------------------------------------------------------------------------------------

enum { HANDS = 4 };

typedef struct hand {
    rf_request *request;
    pthread_barrier_t *together;
} hand;

static void *cancel_and_let_go(void *arg) {
    const hand *h = arg;
    pthread_barrier_wait(h->together);
    rf_cancel(h->request), rf_cancel(h->request);
    rf_release(h->request);
    return NULL;
}

static void cancel_by_many(rf_request *r) {
    pthread_t threads[HANDS];
    hand hands[HANDS];
    pthread_barrier_t together;
    pthread_barrier_init(&together, NULL, HANDS);
    for (int i = 0; i < HANDS; i++) {
        hands[i] = (hand){rf_retain(r), &together};
        pthread_create(&threads[i], NULL, cancel_and_let_go, &hands[i]);
    }
    for (int i = 0; i < HANDS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
}

static void one_end(rf_request *r, rf_finish finish) {
    rf_event event;
    do assert_true(rf_wait(r, &event, 10000));
    while (event.kind != RF_EVENT_END);
    assert_int_equal(event.finish, finish);
    assert_false(rf_wait(r, &event, 0));
}

static void many_hands_in_every_state(void **state) {
    world *w = *state;
    static char prompt[4001];
    memset(prompt, 'x', 4000);
    rf_params mate_params = ask("a mate", 200);
    answer solo, a;
    world_solo(w, &mate_params, &solo);
    w->during = slow_step;
    for (int at = RF_QUEUED; at <= RF_DONE; at++) {
        uint32_t max_running = at == RF_QUEUED ? 1 : 2;
        engine *g = started(w, (engine_config){.info.n_ctx = 30000, .max_running = max_running, .step_tokens = 8});
        rf_request *mate = world_submit(g, &mate_params);
        while (state_of(mate) != RF_DECODE) usleep(100);
        rf_params p = ask(at == RF_PREFILL ? prompt : "for ever", at == RF_DONE ? 1 : 0);
        rf_request *r = world_submit(g, &p);
        while (state_of(r) != (rf_state)at) usleep(100);
        cancel_by_many(r);
        one_end(r, at == RF_DONE ? RF_FINISH_LENGTH : RF_FINISH_CANCELLED);
        rf_release(r);
        a = (answer){0};
        answer_wait(&a, mate);
        assert_same_answer(&a, &solo);
        rf_release(mate);
        rf_engine_close(g, 0);
    }
    w->during = NULL;
}

// ---- stress ------------------------------------------------------------------------------------------------------

enum { KINDS = 6, CLIENTS = 4, ROUNDS = 60 };

typedef struct stress {
    engine *engine;
    rf_params params[KINDS];
    answer solo[KINDS];
    atomic_int n_ended, n_busy;
} stress;

typedef struct client {
    stress *stress;
    unsigned seed;
} client;

static void one_of_many(stress *s, unsigned *seed) {
    int kind = rand_r(seed) % KINDS;
    rf_error error = {0};
    rf_request *r = rf_submit(s->engine, &s->params[kind], &error);
    if (!r) {
        check(error.code == RF_ERR_BUSY);
        atomic_fetch_add(&s->n_busy, 1);
        return;
    }
    switch (rand_r(seed) % 4) {
    case 0:
        usleep((unsigned)rand_r(seed) % 300);
        break; // walks away
    case 1:
        usleep((unsigned)rand_r(seed) % 300), rf_cancel(r); // fall through
    default: {
        answer *a = xcalloc(1, sizeof *a);
        rf_event event;
        while (rf_wait(r, &event, -1)) answer_add(a, &event);
        check(a->n_ends == 1);
        const answer *solo = &s->solo[kind];
        if (a->end.finish == RF_FINISH_CANCELLED)
            check(a->n_tokens <= solo->n_tokens && !memcmp(a->tokens, solo->tokens, a->n_tokens * 4));
        else
            check(a->n_tokens == solo->n_tokens && !memcmp(a->tokens, solo->tokens, a->n_tokens * 4) &&
                  a->n_bytes == solo->n_bytes && !memcmp(a->text, solo->text, a->n_bytes));
        atomic_fetch_add(&s->n_ended, 1);
        free(a);
    }
    }
    rf_release(r);
}

static void *client_main(void *arg) {
    client *c = arg;
    for (int i = 0; i < ROUNDS; i++) one_of_many(c->stress, &c->seed);
    return NULL;
}

static void many_threads_many_ends(void **state) {
    world *w = *state;
    static stress s;
    char prompts[KINDS][120];
    for (int i = 0; i < KINDS; i++) {
        snprintf(prompts[i], sizeof prompts[i], "prompt %d %.*s", i, i * 15,
                 "with some more of it, so that prompts differ in how many pages and steps they take");
        s.params[i] = ask(prompts[i], 5 + 20 * (uint32_t)i), s.params[i].seed = (uint64_t)i;
        world_solo(w, &s.params[i], &s.solo[i]);
    }
    s.engine = started(w, (engine_config){.info.n_ctx = 256, .n_pages = 9, .max_queue = 3, .max_running = 3});
    client clients[CLIENTS];
    pthread_t threads[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (client){&s, i + 1};
        pthread_create(&threads[i], NULL, client_main, &clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++) pthread_join(threads[i], NULL);
    assert_true(s.n_ended > CLIENTS * ROUNDS / 4);
    rf_engine_close(s.engine, 0);
}

// Closing while others submit, cancel and release: whoever was accepted gets an end.
static void *submit_until_stopped(void *arg) {
    engine *g = arg;
    rf_params p = ask("until it stops", 3);
    for (;;) {
        rf_error error = {0};
        rf_request *r = rf_submit(g, &p, &error);
        if (!r && error.code == RF_ERR_STOPPED) return NULL;
        check(r || error.code == RF_ERR_BUSY);
        if (!r) continue;
        rf_event event;
        do check(rf_wait(r, &event, 20000));
        while (event.kind != RF_EVENT_END);
        rf_release(r);
    }
}

static void closing_races_with_submitting(void **state) {
    for (int round = 0; round < 20; round++) {
        engine *g = started(*state, (engine_config){.max_queue = 2, .max_running = 2});
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, submit_until_stopped, g);
        usleep(1000);
        engine_shut(g, round % 2 ? 0 : 1000);
        for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
        engine_join(g);
        engine_free(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(the_ends_of_ranges_are_accepted),
        cmocka_unit_test(stop_strings_are_checked),
        cmocka_unit_test(biases_are_checked),
        cmocka_unit_test(prompts_are_checked),
        cmocka_unit_test(special_tokens_only_when_asked),
        cmocka_unit_test(what_an_engine_tells),
        cmocka_unit_test(params_are_copied),
        cmocka_unit_test(notify_once_per_empty_outbox),
        cmocka_unit_test(wait_times_out),
        cmocka_unit_test(threaded_answer_is_the_same),
        cmocka_unit_test(a_waiter_is_woken_by_cancel),
        cmocka_unit_test(closing_ends_everybody),
        cmocka_unit_test(timeouts_run_on_the_engine_s_clock),
        cmocka_unit_test(idle_is_silent),
        cmocka_unit_test(many_hands_in_every_state),
        cmocka_unit_test(many_threads_many_ends),
        cmocka_unit_test(closing_races_with_submitting),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}

// A steady decode step calls malloc zero times: this executable counts.
#include "world.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static volatile size_t n_calls; // volatile: compilers know that malloc changes no variable
static volatile bool counting;

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t n, size_t n_bytes);
void *__libc_realloc(void *p, size_t n_bytes);

void *malloc(size_t n_bytes) {
    n_calls += counting;
    return __libc_malloc(n_bytes);
}
void *calloc(size_t n, size_t n_bytes) {
    n_calls += counting;
    return __libc_calloc(n, n_bytes);
}
void *realloc(void *p, size_t n_bytes) {
    n_calls += counting;
    return __libc_realloc(p, n_bytes);
}

static void steady_decode_allocates_nothing(void **state) {
    (void)state;
    world w;
    world_open(&w);
    engine *g = world_engine(&w, (engine_config){.speculate = 4});
    rf_params p = rf_params_default();
    const char *stops[] = {"never said"};
    const rf_logit_bias bias[] = {{'e', 0.1f}, {WORLD_CONTROL, -100}};
    p.prompt = "s\1teady", p.max_tokens = 480, p.ignore_eos = true, p.stop = stops, p.n_stop = 1;
    p.logit_bias = bias, p.n_logit_bias = 2, p.logprobs = true, p.n_logprobs = 5, p.frequency_penalty = 0.5f,
    p.top_k = 0;
    rf_request *r[4];
    rf_event event;
    for (p.seed = 0; p.seed < 4; p.seed++) r[p.seed] = world_submit(g, &p);
    for (int i = 0; i < 350; i++) {
        counting = i >= 100;
        assert_true(engine_step(g));
        for (int j = 0; j < 4; j++)
            while (j != 3 && rf_poll(r[j], &event)) continue; // the last one never reads: its outbox grows, rarely
        counting = false;
    }
    assert_true(n_calls <= 4);
    rf_release(r[3]); // and without it there is not one call
    assert_true(engine_step(g));
    counting = true, n_calls = 0;
    void *volatile p1 = malloc(1);
    free(p1);
    assert_int_equal(n_calls, 1); // the counter counts
    for (int i = 0; i < 40; i++) {
        assert_true(engine_step(g));
        for (int j = 0; j < 3; j++)
            while (rf_poll(r[j], &event)) continue;
    }
    counting = false;
    assert_int_equal(n_calls, 1);
    rf_stats s;
    rf_get_stats(g, &s);
    assert_true(s.accepted_tokens > 0 && s.draft_tokens > s.accepted_tokens);
    for (int j = 0; j < 3; j++) rf_release(r[j]);
    world_end(g);
    world_close(&w);
}

#else
static void steady_decode_allocates_nothing(void **state) {
    (void)state;
    skip(); // the sanitizer owns malloc
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(steady_decode_allocates_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

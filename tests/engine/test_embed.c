// Embeddings: what they are, and that neither chunks, mates, the cache nor preemption change one bit of them.
#include "engine/embed.h"

#include "world.h"

#include <float.h>

enum { N_CTX = 256 };

static rf_params embedding_of(const int32_t *prompt, size_t n_prompt, rf_embed embed) {
    rf_params p = rf_params_default();
    p.prompt_tokens = prompt, p.n_prompt_tokens = n_prompt, p.embed = embed;
    return p;
}

static void fill(int32_t *prompt, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) prompt[i] = (int32_t)(mix(seed, i) % 256);
}

// ---- vectors -----------------------------------------------------------------------------------------------------

static void length_becomes_one(void **state) {
    (void)state;
    float sum[3] = {0};
    embed_add(sum, (float[]){1, -2, 0}, 3);
    embed_add(sum, (float[]){2, -2, 0}, 3);
    assert_memory_equal(sum, ((float[]){3, -4, 0}), sizeof sum);
    assert_true(embed_finish(sum, 3));
    assert_memory_equal(sum, ((float[]){0.6f, -0.8f, 0}), sizeof sum);
    float huge[] = {FLT_MAX, -FLT_MAX}, tiny[] = {1e-37f, 0};
    assert_true(embed_finish(huge, 2) && fabs((double)huge[0] - sqrt(0.5)) < 1e-7 && huge[1] == -huge[0]);
    assert_true(embed_finish(tiny, 2) && tiny[0] == 1);
}

static void what_has_no_direction_is_refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 0};
    for (int i = 0; i < 5; i++) {
        float x[] = {0, bad[i], 0};
        assert_false(embed_finish(x, 3));
    }
}

// ---- against the definition --------------------------------------------------------------------------------------

// The fake's hidden states of a whole prompt, [n][WORLD_HIDDEN_STRIDE], read in one piece without an engine.
static void hidden_states(world *w, const int32_t *prompt, uint32_t n, float *out) {
    uint32_t pages[N_CTX / KV_PAGE_TOKENS];
    for (uint32_t i = 0; i < N_CTX / KV_PAGE_TOKENS; i++) pages[i] = i;
    uint8_t *memory = xcalloc(N_CTX, sizeof(slot));
    step_seq seq = {.tokens = prompt, .n_tokens = n, .pages = pages, .n_hidden = n};
    world_run(w, &(step){.seqs = &seq, .n_seqs = 1, .kv = memory, .hidden = out});
    free(memory);
}

static void it_is_the_mean_or_the_last(void **state) {
    world *w = *state;
    static float rows[N_CTX][WORLD_HIDDEN_STRIDE];
    int32_t prompt[N_CTX];
    for (uint32_t n = 1; n < N_CTX; n += 1 + n / 2) {
        fill(prompt, n, n);
        hidden_states(w, prompt, n, rows[0]);
        for (int embed = RF_EMBED_MEAN; embed <= RF_EMBED_LAST; embed++) {
            rf_params p = embedding_of(prompt, n, (rf_embed)embed);
            answer a;
            world_solo(w, &p, &a);
            assert_int_equal(a.n_embedding, WORLD_WIDTH);
            double expected[WORLD_WIDTH] = {0}, squares = 0;
            for (uint32_t i = embed == RF_EMBED_LAST ? n - 1 : 0; i < n; i++)
                for (int j = 0; j < WORLD_WIDTH; j++) expected[j] += (double)rows[i][j];
            for (int j = 0; j < WORLD_WIDTH; j++) squares += expected[j] * expected[j];
            for (int j = 0; j < WORLD_WIDTH; j++)
                assert_true(fabs(expected[j] / sqrt(squares) - (double)a.embedding[j]) < 1e-5);
        }
    }
}

static void a_request_like_any_other(void **state) {
    world *w = *state;
    w->clock = clock_manual(0);
    engine *g = world_engine(w, (engine_config){.info.n_ctx = N_CTX, .step_tokens = 100});
    int32_t prompt[N_CTX + 1];
    fill(prompt, N_CTX + 1, 1);
    rf_params p = embedding_of(prompt, N_CTX, RF_EMBED_MEAN); // the whole context: no place is kept for an answer
    rf_request *r = world_submit(g, &p);
    answer a = {0};
    for (int i = 0; i < 3; i++) {
        w->clock.us += 1000;
        world_step(g);
        answer_poll(&a, r);
        assert_int_equal(a.n_ends, i == 2);
        assert_int_equal(state_of(r), i == 2 ? RF_DONE : RF_PREFILL);
    }
    assert_int_equal(a.end.finish, RF_FINISH_STOP);
    assert_int_equal(a.n_tokens + a.n_bytes, 0);
    assert_int_equal(a.n_embedding, WORLD_WIDTH);
    assert_int_equal(a.end.usage.prompt_tokens, N_CTX);
    assert_int_equal(a.end.usage.completion_tokens, 0);
    assert_int_equal(a.end.usage.prefill_us, 2000);
    assert_int_equal(a.end.usage.decode_us, 0);
    assert_int_equal(pages_used(g), 0);
    rf_stats s;
    rf_get_stats(g, &s);
    assert_int_equal(s.n_ended[RF_FINISH_STOP], 1);
    assert_int_equal(s.prompt_tokens, N_CTX);
    assert_int_equal(s.first_token.count + s.completion_tokens, 0);
    rf_release(r);

    rf_error error = {0};
    p.n_prompt_tokens++;
    assert_null(rf_submit(g, &p, &error));
    assert_int_equal(error.code, RF_ERR_TOO_LONG);
    p.n_prompt_tokens = SIZE_MAX;
    assert_null(rf_submit(g, &p, NULL));
    p.n_prompt_tokens = 1, p.embed = (rf_embed)3;
    assert_null(rf_submit(g, &p, &error));
    assert_int_equal(error.code, RF_ERR_USAGE);
    p.embed = (rf_embed)-1;
    assert_null(rf_submit(g, &p, NULL));
    world_end(g);
}

// ---- ends --------------------------------------------------------------------------------------------------------

static void who_is_cancelled_gets_none(void **state) {
    world *w = *state;
    int32_t prompt[100];
    fill(prompt, 100, 2);
    for (int n_steps = 0; n_steps < 5; n_steps++) {
        engine *g = world_engine(w, (engine_config){.step_tokens = 20});
        rf_params p = embedding_of(prompt, 100, RF_EMBED_MEAN);
        rf_request *r = world_submit(g, &p);
        for (int i = 0; i < n_steps; i++) world_step(g);
        rf_cancel(r);
        world_step(g);
        answer a = {0};
        answer_poll(&a, r);
        assert_int_equal(a.n_ends, 1);
        assert_int_equal(a.end.finish, RF_FINISH_CANCELLED);
        assert_null(a.end.embedding);
        rf_release(r);
        world_end(g);
    }
}

static void bad_numbers_end_only_their_request(void **state) {
    world *w = *state;
    int32_t bad[70], good[70];
    fill(bad, 70, 3), fill(good, 70, 4);
    bad[0] = WORLD_POISON;
    for (int embed = RF_EMBED_MEAN; embed <= RF_EMBED_LAST; embed++)
        for (w->n_healthy = 1; w->n_healthy <= 71; w->n_healthy += 14) {
            engine *g = world_engine(w, (engine_config){.step_tokens = 50, .max_running = 4});
            rf_params p[3] = {embedding_of(good, 70, (rf_embed)embed), embedding_of(bad, 70, (rf_embed)embed),
                              embedding_of(good, 69, (rf_embed)embed)};
            rf_request *r[3];
            for (int i = 0; i < 3; i++) r[i] = world_submit(g, &p[i]);
            while (engine_step(g)) engine_check(g);
            for (int i = 0; i < 3; i++) {
                answer a = {0}, solo;
                answer_poll(&a, r[i]);
                world_solo(w, &p[i], &solo);
                assert_same_answer(&a, &solo);
                bool fails = i == 1 && w->n_healthy <= 70;
                assert_int_equal(a.end.finish, fails ? RF_FINISH_ERROR : RF_FINISH_STOP);
                assert_int_equal(a.end.error.code, fails ? RF_ERR_NUMERIC : RF_OK);
                rf_release(r[i]);
            }
            world_end(g);
        }
    w->n_healthy = 1;
}

// ---- the same bits -----------------------------------------------------------------------------------------------

static answer run(engine *g, const rf_params *p) {
    rf_request *r = world_submit(g, p);
    while (engine_step(g)) engine_check(g);
    answer a = {0};
    answer_poll(&a, r);
    assert_int_equal(a.n_ends, 1);
    rf_release(r);
    return a;
}

static void chunks_leave_no_trace(void **state) {
    world *w = *state;
    int32_t prompt[200];
    fill(prompt, 200, 5);
    for (int embed = RF_EMBED_MEAN; embed <= RF_EMBED_LAST; embed++) {
        rf_params p = embedding_of(prompt, 200, (rf_embed)embed);
        answer solo;
        world_solo(w, &p, &solo);
        for (uint32_t chunk = 1; chunk < 210; chunk += 1 + chunk / 3) {
            engine *g = world_engine(w, (engine_config){.max_running = 1, .step_tokens = chunk});
            answer a = run(g, &p);
            assert_same_answer(&a, &solo);
            world_end(g);
        }
    }
}

static void the_cache_leaves_no_trace(void **state) {
    world *w = *state;
    int32_t prompt[160];
    fill(prompt, 160, 6);
    rf_params mean = embedding_of(prompt, 160, RF_EMBED_MEAN), last = embedding_of(prompt, 160, RF_EMBED_LAST);
    rf_params ask = embedding_of(prompt, 160, RF_EMBED_NONE);
    ask.max_tokens = 5;
    answer a, solo[3];
    world_solo(w, &mean, &solo[0]), world_solo(w, &last, &solo[1]), world_solo(w, &ask, &solo[2]);
    // Whoever comes first makes the pages: a mean, the last, an answer.
    for (int first = 0; first < 3; first++) {
        engine *g = world_engine(w, (engine_config){0});
        a = run(g, first == 0 ? &mean : first == 1 ? &last : &ask);
        assert_same_answer(&a, &solo[first]);
        assert_int_equal(a.end.usage.cached_tokens, 0);
        a = run(g, &mean); // reads all, to see it
        assert_same_answer(&a, &solo[0]);
        assert_int_equal(a.end.usage.cached_tokens, 0);
        a = run(g, &last);
        assert_same_answer(&a, &solo[1]);
        assert_int_equal(a.end.usage.cached_tokens, 128);
        a = run(g, &ask);
        assert_same_answer(&a, &solo[2]);
        assert_int_equal(a.end.usage.cached_tokens, 128);
        world_end(g);
    }
}

// Who cannot use what others are about to make does not wait for it.
static void means_do_not_wait_for_pages(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.step_tokens = 512});
    int32_t prompt[160];
    fill(prompt, 160, 7);
    rf_params mean = embedding_of(prompt, 160, RF_EMBED_MEAN), last = embedding_of(prompt, 160, RF_EMBED_LAST);
    rf_request *r[3] = {world_submit(g, &mean), world_submit(g, &mean), world_submit(g, &last)};
    world_step(g);
    assert_int_equal(w->n_tokens, 320);
    assert_int_equal(w->n_hidden, 320);
    assert_int_equal(w->n_rows, 0);
    assert_int_equal(state_of(r[1]), RF_DONE);
    world_step(g);
    assert_int_equal(w->n_tokens, 32);
    assert_int_equal(w->n_hidden, 1);
    for (int i = 0; i < 3; i++) {
        answer a = {0}, solo;
        answer_poll(&a, r[i]);
        world_solo(w, i == 2 ? &last : &mean, &solo);
        assert_same_answer(&a, &solo);
        rf_release(r[i]);
    }
    world_end(g);
}

// Embeddings of all lengths among answers, with pages for few of them; returns how many embeddings lost theirs midway.
static uint32_t crowd(world *w, unsigned seed) {
    enum { CROWD = 10 };
    srand(seed);
    uint32_t max_running = 2 + (uint32_t)rand() % 4, n_lost = 0, n = 0;
    engine *g = world_engine(w, (engine_config){.info.n_ctx = N_CTX,
                                                .n_pages = 8 + (uint32_t)rand() % 4,
                                                .max_running = max_running,
                                                .step_tokens = max_running + (uint32_t)rand() % 40});
    static int32_t prompts[CROWD][N_CTX];
    rf_params p[CROWD];
    rf_request *r[CROWD];
    rf_state before[CROWD] = {0};
    w->n_hidden = 0;
    do {
        if (n < CROWD && rand() % 3 == 0) {
            size_t n_prompt = 1 + (size_t)rand() % (N_CTX - 1);
            fill(prompts[n], n_prompt, rand() % 2 ? 1 : n + 2);
            p[n] = embedding_of(prompts[n], n_prompt, (rf_embed)(rand() % 3));
            p[n].max_tokens = 1 + (uint32_t)rand() % (N_CTX - (uint32_t)n_prompt), p[n].priority = rand() % 2;
            r[n] = world_submit(g, &p[n]);
            n++;
        }
        world_step(g);
        assert_true(w->n_hidden <= engine_get_config(g)->step_tokens);
        for (uint32_t i = 0; i < n; i++) {
            rf_state now = state_of(r[i]);
            n_lost += p[i].embed && before[i] == RF_PREFILL && now == RF_QUEUED;
            before[i] = now;
        }
    } while (n < CROWD || engine_get_schedule(g)->n_running || engine_get_schedule(g)->n_waiting);
    for (uint32_t i = 0; i < n; i++) {
        answer a = {0}, solo;
        answer_poll(&a, r[i]);
        world_solo(w, &p[i], &solo);
        assert_same_answer(&a, &solo);
        rf_release(r[i]);
    }
    world_end(g);
    return n_lost;
}

static void crowds_leave_no_trace(void **state) {
    uint32_t n_lost = 0;
    for (unsigned seed = 1; seed <= 40; seed++) n_lost += crowd(*state, seed);
    assert_true(n_lost > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(length_becomes_one),          cmocka_unit_test(what_has_no_direction_is_refused),
        cmocka_unit_test(it_is_the_mean_or_the_last),  cmocka_unit_test(a_request_like_any_other),
        cmocka_unit_test(who_is_cancelled_gets_none),  cmocka_unit_test(bad_numbers_end_only_their_request),
        cmocka_unit_test(chunks_leave_no_trace),       cmocka_unit_test(the_cache_leaves_no_trace),
        cmocka_unit_test(means_do_not_wait_for_pages), cmocka_unit_test(crowds_leave_no_trace),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}

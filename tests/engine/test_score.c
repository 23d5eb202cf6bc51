// The prompt's log-probabilities: right, each told once, before the answer, and the same under any load.
#include "world.h"

enum { N_CTX = 256, MOST = 4 * N_CTX };

typedef struct scores {
    int32_t tokens[MOST];
    rf_token_logprob rows[MOST][4];
    uint32_t n_tokens, n_scored;
    rf_event end;
} scores;

static rf_params score_of(const int32_t *prompt, size_t n_prompt, rf_score score, uint32_t max_tokens) {
    rf_params p = rf_params_default();
    p.prompt_tokens = prompt, p.n_prompt_tokens = n_prompt, p.max_tokens = max_tokens, p.ignore_eos = true;
    p.score = score, p.logprobs = true, p.n_logprobs = 3;
    return p;
}

static void fill(int32_t *prompt, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) prompt[i] = (int32_t)(mix(seed, i) % 256);
}

static void take(scores *o, rf_request *r) {
    rf_event e;
    while (rf_poll(r, &e)) {
        if (e.kind == RF_EVENT_END) {
            o->end = e;
            return;
        }
        assert_true(o->n_tokens + e.n_tokens <= MOST && (e.n_prompt_tokens < e.n_tokens || e.n_bytes == 0));
        memcpy(o->tokens + o->n_tokens, e.tokens, e.n_tokens * sizeof *e.tokens);
        memcpy(o->rows[o->n_tokens], e.logprobs, e.n_tokens * sizeof o->rows[0]);
        o->n_tokens += (uint32_t)e.n_tokens, o->n_scored += (uint32_t)e.n_prompt_tokens;
    }
}

static void run(engine *g, const rf_params *p, bool eager, scores *o) {
    *o = (scores){0};
    rf_request *r = world_submit(g, p);
    while (engine_step(g)) {
        engine_check(g);
        if (eager) take(o, r);
    }
    take(o, r);
    rf_release(r);
}

// ---- against the definition --------------------------------------------------------------------------------------

// The fake's logits of a whole text, [n][WORLD_STRIDE], without an engine.
static float *logits_of(world *w, const int32_t *tokens, uint32_t n) {
    uint32_t pages[MOST / KV_PAGE_TOKENS];
    for (uint32_t i = 0; i < MOST / KV_PAGE_TOKENS; i++) pages[i] = i;
    uint8_t *memory = xcalloc(MOST, sizeof(slot));
    float *out = xcalloc(n, WORLD_STRIDE * sizeof *out);
    step_seq seq = {.tokens = tokens, .n_tokens = n, .pages = pages, .n_logits = n};
    world_run(w, &(step){.seqs = &seq, .n_seqs = 1, .kv = memory, .logits = out});
    free(memory);
    return out;
}

static void check_row(const float *logits, int32_t token, const rf_token_logprob row[4]) {
    double sum = 0;
    for (int i = 0; i < WORLD_VOCAB; i++) sum += exp((double)logits[i]);
    assert_int_equal(row[0].token, token);
    for (int i = 0; i < 4; i++) {
        assert_true(fabs((double)row[i].logprob - ((double)logits[row[i].token] - log(sum))) < 1e-4);
        uint32_t n_better = 0;
        for (int j = 0; j < WORLD_VOCAB && i; j++) n_better += logits[j] > logits[row[i].token];
        if (i) assert_int_equal(n_better, i - 1);
    }
}

// Prompt and answer are told as one text: each token by what came before it.
static void check_scores(world *w, const rf_params *p, const scores *o) {
    uint32_t n_prompt = (uint32_t)p->n_prompt_tokens;
    assert_int_equal(o->n_scored, n_prompt);
    assert_int_equal(o->n_tokens, n_prompt + o->end.usage.completion_tokens);
    assert_memory_equal(o->tokens, p->prompt_tokens, n_prompt * sizeof *o->tokens);
    assert_true(o->rows[0][0].token == o->tokens[0] && o->rows[0][0].logprob == 0);
    for (int i = 1; i < 4; i++) assert_true(o->rows[0][i].token == -1 && o->rows[0][i].logprob == 0);
    float *logits = logits_of(w, o->tokens, o->n_tokens);
    for (uint32_t i = 1; i < o->n_tokens; i++) check_row(logits + (i - 1) * WORLD_STRIDE, o->tokens[i], o->rows[i]);
    free(logits);
}

static void every_token_is_told_by_what_came_before(void **state) {
    world *w = *state;
    int32_t prompt[N_CTX];
    static scores o;
    for (uint32_t n = 1; n < N_CTX - 30; n += 1 + n / 2) {
        fill(prompt, n, n);
        engine *g = world_engine(w, (engine_config){.info.n_ctx = N_CTX, .speculate = n % 2 * 4});
        rf_params p = score_of(prompt, n, RF_SCORE_FIRST, 20);
        run(g, &p, n % 3, &o);
        check_scores(w, &p, &o);
        assert_int_equal(o.end.usage.completion_tokens, 20);
        p.score = RF_SCORE_ONLY; // its max_tokens has no effect
        run(g, &p, n % 3, &o);
        check_scores(w, &p, &o);
        assert_int_equal(o.end.usage.completion_tokens, 0);
        assert_int_equal(o.end.finish, RF_FINISH_LENGTH);
        world_end(g);
    }
}

static void the_answer_is_the_one_without(void **state) {
    world *w = *state;
    int32_t prompt[100];
    fill(prompt, 100, 7);
    rf_params p = score_of(prompt, 100, RF_SCORE_FIRST, 40), q = p;
    q.score = RF_SCORE_NONE;
    answer a, b;
    world_solo(w, &p, &a), world_solo(w, &q, &b);
    a.logprob_width = 0; // the prompt's are among them
    assert_same_answer(&a, &b);
    assert_int_equal(a.n_scored, 100);
    assert_int_equal(b.n_scored, 0);
}

static void the_border(void **state) {
    world *w = *state;
    engine *g = world_engine(w, (engine_config){.info.n_ctx = N_CTX});
    int32_t prompt[N_CTX];
    static scores o;
    fill(prompt, N_CTX, 8);
    rf_error error = {0};
    rf_params p = score_of(prompt, N_CTX, RF_SCORE_ONLY, 0);
    run(g, &p, false, &o); // fills the context
    check_scores(w, &p, &o);
    p.score = RF_SCORE_FIRST;
    assert_null(rf_submit(g, &p, &error));
    assert_int_equal(error.code, RF_ERR_TOO_LONG);
    p.n_prompt_tokens = 5;
    rf_params bad[4] = {p, p, p, p};
    bad[0].logprobs = false, bad[1].embed = RF_EMBED_MEAN, bad[2].score = (rf_score)3, bad[3].score = (rf_score)-1;
    for (int i = 0; i < 4; i++) {
        assert_null(rf_submit(g, &bad[i], &error));
        assert_int_equal(error.code, RF_ERR_USAGE);
        assert_non_null(strstr(error.message, "score"));
    }
    world_end(g);
}

// ---- rows are few ------------------------------------------------------------------------------------------------

static void chunks_take_the_rows_there_are(void **state) {
    world *w = *state;
    int32_t prompt[160], other[160];
    fill(prompt, 160, 9), fill(other, 160, 10);
    engine *g = world_engine(w, (engine_config){.max_running = 8, .step_tokens = 100});
    rf_params p = score_of(prompt, 160, RF_SCORE_ONLY, 0), q = score_of(other, 160, RF_SCORE_NONE, 50);
    rf_request *r[8] = {world_submit(g, &p)};
    world_step(g);
    assert_int_equal(w->n_tokens, 8); // alone it has all eight
    assert_int_equal(w->n_rows, 8);
    r[1] = world_submit(g, &q);
    world_step(g);
    assert_int_equal(w->n_tokens, 100); // the other's chunk is what it would have been
    assert_int_equal(w->n_rows, 7);
    for (int i = 2; i < 8; i++) {
        fill(other, 160, (uint64_t)i);
        r[i] = world_submit(g, &q);
    }
    world_step(g);
    assert_true(w->n_rows <= 2); // its one, and that of who ends to be read
    for (int i = 0; i < 3; i++) {
        world_step(g);
        assert_true(w->n_tokens <= 100 && w->n_rows <= 8);
    }
    for (int i = 0; i < 8; i++) rf_release(r[i]);
    world_end(g);
}

// Bad numbers end a prompt's telling where they come up, and nobody else's.
static void bad_numbers_end_only_their_request(void **state) {
    world *w = *state;
    int32_t bad[70], good[70];
    fill(bad, 70, 3), fill(good, 70, 4);
    bad[0] = WORLD_POISON;
    for (w->n_healthy = 1; w->n_healthy <= 71; w->n_healthy += 14) {
        engine *g = world_engine(w, (engine_config){.step_tokens = 50, .max_running = 4});
        rf_params p[3] = {score_of(good, 70, RF_SCORE_ONLY, 0), score_of(bad, 70, RF_SCORE_ONLY, 0),
                          score_of(good, 69, RF_SCORE_FIRST, 9)};
        rf_request *r[3];
        for (int i = 0; i < 3; i++) r[i] = world_submit(g, &p[i]);
        while (engine_step(g)) engine_check(g);
        for (int i = 0; i < 3; i++) {
            answer a = {0}, solo;
            answer_poll(&a, r[i]);
            world_solo(w, &p[i], &solo);
            assert_same_answer(&a, &solo);
            bool fails = i == 1 && w->n_healthy <= 69; // what follows the last token is not asked for
            assert_int_equal(a.end.finish, fails ? RF_FINISH_ERROR : RF_FINISH_LENGTH);
            assert_int_equal(a.n_scored, fails ? w->n_healthy : p[i].n_prompt_tokens);
            rf_release(r[i]);
        }
        world_end(g);
    }
    w->n_healthy = 1;
}

// ---- the same under any load -------------------------------------------------------------------------------------

static void pages_are_made_but_not_taken(void **state) {
    world *w = *state;
    int32_t prompt[160];
    static scores o, first;
    fill(prompt, 160, 11);
    engine *g = world_engine(w, (engine_config){0});
    rf_params p = score_of(prompt, 160, RF_SCORE_ONLY, 0), q = score_of(prompt, 160, RF_SCORE_NONE, 3);
    run(g, &p, false, &first);
    run(g, &p, false, &o);
    assert_int_equal(o.end.usage.cached_tokens, 0);
    assert_memory_equal(o.rows, first.rows, sizeof o.rows);
    run(g, &q, false, &o);
    assert_int_equal(o.end.usage.cached_tokens, 128);
    world_end(g);
}

// Scored prompts among answers, with pages for few of them; returns how many lost theirs before all was told.
static uint32_t crowd(world *w, unsigned seed) {
    enum { CROWD = 10 };
    srand(seed);
    uint32_t max_running = 2 + (uint32_t)rand() % 6, n_lost = 0, n = 0;
    engine *g = world_engine(w, (engine_config){.info.n_ctx = N_CTX,
                                                .n_pages = 8 + (uint32_t)rand() % 4,
                                                .max_running = max_running,
                                                .speculate = (uint32_t)rand() % 3 * 4,
                                                .step_tokens = max_running + (uint32_t)rand() % 40});
    static int32_t prompts[CROWD][N_CTX];
    static answer a[CROWD];
    rf_params p[CROWD];
    rf_request *r[CROWD];
    rf_state before[CROWD] = {0};
    memset(a, 0, sizeof a);
    w->n_rows = 0;
    do {
        if (n < CROWD && rand() % 3 == 0) {
            uint32_t n_prompt = 1 + (uint32_t)rand() % (N_CTX - 1);
            fill(prompts[n], n_prompt, rand() % 2 ? 1 : n + 2);
            p[n] = score_of(prompts[n], n_prompt, (rf_score)(rand() % 3), 1 + (uint32_t)rand() % (N_CTX - n_prompt));
            p[n].priority = rand() % 2;
            r[n] = world_submit(g, &p[n]);
            n++;
        }
        world_step(g);
        assert_true(w->n_rows <= engine_logits_rows(engine_get_config(g)));
        for (uint32_t i = 0; i < n; i++) {
            rf_state now = state_of(r[i]);
            n_lost += p[i].score && before[i] == RF_PREFILL && now == RF_QUEUED;
            before[i] = now;
            if (rand() % 4 == 0) answer_poll(&a[i], r[i]);
        }
    } while (n < CROWD || engine_get_schedule(g)->n_running || engine_get_schedule(g)->n_waiting);
    for (uint32_t i = 0; i < n; i++) {
        answer solo;
        answer_poll(&a[i], r[i]);
        world_solo(w, &p[i], &solo);
        assert_same_answer(&a[i], &solo);
        assert_int_equal(a[i].n_scored, p[i].score ? p[i].n_prompt_tokens : 0);
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
        cmocka_unit_test(every_token_is_told_by_what_came_before),
        cmocka_unit_test(the_answer_is_the_one_without),
        cmocka_unit_test(the_border),
        cmocka_unit_test(chunks_take_the_rows_there_are),
        cmocka_unit_test(bad_numbers_end_only_their_request),
        cmocka_unit_test(pages_are_made_but_not_taken),
        cmocka_unit_test(crowds_leave_no_trace),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}

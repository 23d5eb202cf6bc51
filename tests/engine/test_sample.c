// Every parameter has a test that fails when it is ignored; the distribution is tested by chi-square with fixed seeds.
#include "engine/sample.h"

#include "base/threads.h"
#include "unit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 6, DRAWS = 20000 };
static const double share[N] = {0.06, 0.3, 0.04, 0.4, 0.15, 0.05}; // ranked: 3 1 4 0 5 2
static const sample_params neutral = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};

static void fill(float *logits) {
    for (int i = 0; i < N; i++) logits[i] = (float)log(share[i]) + 3;
}

static int32_t once(const float *logits, uint32_t n, sample_params p, const int32_t *history, uint32_t n_history) {
    sampler *s = sampler_new(n);
    int32_t token = sample_token(s, &p, logits, history, n_history);
    sampler_free(s);
    return token;
}

static void count(const float *logits, sample_params p, uint32_t seen[N]) {
    sampler *s = sampler_new(N);
    memset(seen, 0, N * sizeof *seen);
    for (uint32_t i = 0; i < DRAWS; i++) { // half by the seed, half by the position (no penalty reads the history)
        p.seed = i % 2 ? i : 77;
        int32_t token = sample_token(s, &p, logits, NULL, i % 2 ? 5 : i);
        assert_in_range(token, 0, N - 1);
        seen[token]++;
    }
    sampler_free(s);
}

// Bit i: token i was drawn.
static unsigned support(sample_params p) {
    float logits[N];
    uint32_t seen[N];
    unsigned bits = 0;
    fill(logits);
    count(logits, p, seen);
    for (int i = 0; i < N; i++) bits |= (seen[i] > 0) << i;
    return bits;
}

static void philox_known_answers(void **state) {
    (void)state;
    // Random123's kat_vectors, philox4x32 10
    static const uint32_t rows[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t counter[4];
        memcpy(counter, rows[i], sizeof counter);
        sample_philox(rows[i] + 4, counter);
        assert_memory_equal(counter, rows[i] + 6, sizeof counter);
    }
}

static void temperature_zero_is_greedy(void **state) {
    (void)state;
    const float logits[] = {1, 5, 2, 5, 5, -7};
    sample_params p = neutral;
    p.temperature = 0;
    for (p.seed = 0; p.seed < 50; p.seed++) assert_int_equal(once(logits, 6, p, NULL, 0), 1); // lowest id of the tied
}

static void ties_go_to_the_lower_id(void **state) {
    (void)state;
    const float logits[] = {1, 5, 2, 5, 5, 1};
    uint32_t seen[N];
    sample_params p = neutral;
    p.top_k = 2;
    count(logits, p, seen);
    assert_true(seen[1] && seen[3] && !seen[4]);
    p.top_k = 0, p.top_p = 0.6f;
    count(logits, p, seen);
    assert_true(seen[1] && seen[3] && !seen[4]);
}

static void top_k_keeps_k(void **state) {
    (void)state;
    sample_params p = neutral;
    static const unsigned expected[] = {0x3F, 0x08, 0x0A, 0x1A, 0x1B, 0x3B, 0x3F, 0x3F};
    for (p.top_k = 0; p.top_k < 8; p.top_k++) assert_int_equal(support(p), expected[p.top_k]);
}

static void top_p_keeps_the_nucleus(void **state) {
    (void)state;
    sample_params p = neutral;
    static const struct {
        float top_p;
        unsigned bits;
    } rows[] = {{1e-9f, 0x08}, {0.39f, 0x08}, {0.41f, 0x0A},  {0.69f, 0x0A},
                {0.71f, 0x1A}, {0.9f, 0x1B},  {0.9999f, 0x3F}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p.top_p = rows[i].top_p;
        assert_int_equal(support(p), rows[i].bits);
    }
}

static void min_p_is_relative_to_the_best(void **state) {
    (void)state;
    sample_params p = neutral;
    p.min_p = 0.13f; // 0.052
    assert_int_equal(support(p), 0x1B);
    p.min_p = 0.3f; // 0.12
    assert_int_equal(support(p), 0x1A);
    p.min_p = 1;
    assert_int_equal(support(p), 0x08);
}

static void filters_run_in_order(void **state) {
    (void)state;
    sample_params p = neutral;
    p.top_k = 2, p.top_p = 0.55f; // of the two, the best holds 0.571
    assert_int_equal(support(p), 0x08);
    p = neutral;
    p.temperature = 50, p.top_p = 0.69f; // a temperature before the nucleus would let five in
    assert_int_equal(support(p), 0x0A);
    p = neutral;
    p.temperature = 50, p.min_p = 0.3f;
    assert_int_equal(support(p), 0x1A);
    p = neutral;
    p.temperature = 0.01f, p.top_k = 3; // and after it, one of the three takes all
    assert_int_equal(support(p), 0x08);
}

static double chi_square(sample_params p, const double *expected) {
    float logits[N];
    uint32_t seen[N];
    double sum = 0;
    fill(logits);
    count(logits, p, seen);
    for (int i = 0; i < N; i++) {
        double e = expected[i] * DRAWS, d = seen[i] - e;
        if (e > 0) sum += d * d / e;
        if (e == 0) assert_int_equal(seen[i], 0);
    }
    return sum;
}

static void draws_follow_the_distribution(void **state) {
    (void)state;
    static const float temperatures[] = {0.5f, 1, 2};
    for (int t = 0; t < 3; t++) {
        double expected[N], total = 0;
        sample_params p = neutral;
        p.temperature = temperatures[t];
        for (int i = 0; i < N; i++) total += expected[i] = pow(share[i], 1 / (double)p.temperature);
        for (int i = 0; i < N; i++) expected[i] /= total;
        assert_true(chi_square(p, expected) < 20.5);                       // 5 degrees of freedom, 0.1 %
        if (p.temperature != 1) assert_true(chi_square(p, share) > 100.0); // the test can tell them apart
    }
    sample_params p = neutral;
    p.top_k = 3; // 3 1 4: 0.4 0.3 0.15
    const double expected[N] = {0, 0.3 / 0.85, 0, 0.4 / 0.85, 0.15 / 0.85, 0};
    assert_true(chi_square(p, expected) < 13.9); // 2 degrees of freedom
}

static void seed_and_position_choose(void **state) {
    (void)state;
    float logits[N];
    fill(logits);
    sampler *s = sampler_new(N);
    uint32_t by_seed = 0, by_position = 0, by_high_seed = 0;
    for (uint32_t i = 0; i < 200; i++) {
        sample_params p = neutral, q = neutral, h = neutral;
        p.seed = i, q.seed = i + 1, h.seed = i | (uint64_t)1 << 40;
        int32_t token = sample_token(s, &p, logits, NULL, 9);
        assert_int_equal(token, sample_token(s, &p, logits, NULL, 9));
        by_seed += token != sample_token(s, &q, logits, NULL, 9);
        by_high_seed += token != sample_token(s, &h, logits, NULL, 9);
        by_position += token != sample_token(s, &p, logits, NULL, 10);
    }
    assert_true(by_seed > 50 && by_position > 50 && by_high_seed > 50);
    sampler_free(s);
}

// Greedy after penalties shows which logit is the largest.
static int32_t best_after(sample_params p, const float *logits, const int32_t *history, uint32_t n) {
    p.temperature = 0;
    return once(logits, 3, p, history, n);
}

static void repeat_penalty_divides_and_multiplies(void **state) {
    (void)state;
    const int32_t history[] = {0, 0, 0};
    sample_params p = neutral;
    p.repeat_penalty = 2;
    assert_int_equal(best_after(p, (float[]){4, 2.1f, 0}, history, 3), 1); // 4 / 2, once although thrice
    assert_int_equal(best_after(p, (float[]){4, 1.9f, 0}, history, 3), 0);
    assert_int_equal(best_after(p, (float[]){-1, -1.9f, -9}, history, 3), 1); // -1 * 2
    assert_int_equal(best_after(p, (float[]){-1, -2.1f, -9}, history, 3), 0);
    p.repeat_penalty = 1;
    assert_int_equal(best_after(p, (float[]){4, 3.9f, 0}, history, 3), 0);
}

static void presence_counts_once_frequency_each(void **state) {
    (void)state;
    const int32_t history[] = {0, 1, 0, 0};
    sample_params p = neutral;
    p.presence_penalty = 1;
    assert_int_equal(best_after(p, (float[]){4, 0, 3.1f}, history, 4), 2);
    assert_int_equal(best_after(p, (float[]){4, 0, 2.9f}, history, 4), 0);
    p.presence_penalty = 0, p.frequency_penalty = 1; // three occurrences
    assert_int_equal(best_after(p, (float[]){4, 0, 1.1f}, history, 4), 2);
    assert_int_equal(best_after(p, (float[]){4, 0, 0.9f}, history, 4), 0);
    p.frequency_penalty = -1;
    assert_int_equal(best_after(p, (float[]){0, 0, 2.9f}, history, 4), 0);
}

static void window_limits_the_penalties(void **state) {
    (void)state;
    const int32_t history[] = {0, 1, 1, 1};
    sample_params p = neutral;
    p.presence_penalty = 2;
    p.penalty_last_n = 3;
    assert_int_equal(best_after(p, (float[]){4, 0, 3}, history, 4), 0);
    p.penalty_last_n = 4;
    assert_int_equal(best_after(p, (float[]){4, 0, 3}, history, 4), 2);
    p.penalty_last_n = 0; // all
    assert_int_equal(best_after(p, (float[]){4, 0, 3}, history, 4), 2);
    p.penalty_last_n = 100;
    assert_int_equal(best_after(p, (float[]){4, 0, 3}, history, 4), 2);
}

static void bias_is_added_first(void **state) {
    (void)state;
    sample_params p = neutral;
    p.logit_bias = (rf_logit_bias[]){{0, 1}, {2, -0.5f}}, p.n_logit_bias = 2;
    assert_int_equal(best_after(p, (float[]){4, 4.9f, 0}, NULL, 0), 0);
    assert_int_equal(best_after(p, (float[]){4, 5.1f, 0}, NULL, 0), 1);
    assert_int_equal(best_after(p, (float[]){0, 4, 4.4f}, NULL, 0), 1);
    assert_int_equal(best_after(p, (float[]){0, 4, 4.6f}, NULL, 0), 2);
    p.logit_bias = (rf_logit_bias[]){{0, 1}, {1, 0.5f}, {0, 1}}, p.n_logit_bias = 3; // one token's add up
    assert_int_equal(best_after(p, (float[]){4, 5.4f, 0}, NULL, 0), 0);
    assert_int_equal(best_after(p, (float[]){4, 5.6f, 0}, NULL, 0), 1);
    const int32_t history[] = {0};
    p.logit_bias = (rf_logit_bias[]){{0, 1}}, p.n_logit_bias = 1;
    p.repeat_penalty = 2; // (4 + 1) / 2, not 4 / 2 + 1
    assert_int_equal(best_after(p, (float[]){4, 2.6f, 0}, history, 1), 1);
    assert_int_equal(best_after(p, (float[]){4, 2.4f, 0}, history, 1), 0);
}

static void a_bias_of_100_bans_or_forces(void **state) {
    (void)state;
    for (int32_t token = 0; token < N; token++) {
        sample_params p = neutral;
        rf_logit_bias bias = {token, -100};
        p.logit_bias = &bias, p.n_logit_bias = 1;
        assert_int_equal(support(p), 0x3F & ~(1u << token));
        bias.bias = 100;
        assert_int_equal(support(p), 1u << token);
        p.top_k = 1;
        assert_int_equal(support(p), 1u << token);
        p.temperature = 0;
        assert_int_equal(support(p), 1u << token);
        bias.bias = -100, p.top_k = 0;
        assert_int_equal(support(p), token == 3 ? 1u << 1 : 1u << 3); // the best of the others
    }
}

static void penalties_come_before_the_filters(void **state) {
    (void)state;
    float logits[N];
    fill(logits);
    const int32_t history[] = {3};
    sample_params p = neutral;
    p.presence_penalty = 2, p.top_k = 1;
    for (p.seed = 0; p.seed < 20; p.seed++) assert_int_equal(once(logits, N, p, history, 1), 1);
}

static void counts_do_not_leak_to_the_next(void **state) {
    (void)state;
    sampler *s = sampler_new(3);
    const int32_t history[] = {0, 0, 0};
    const float logits[] = {4, 3, 0};
    sample_params p = neutral, q = neutral;
    p.temperature = q.temperature = 0, p.frequency_penalty = 1;
    assert_int_equal(sample_token(s, &p, logits, history, 3), 1);
    assert_int_equal(sample_token(s, &q, logits, history, 3), 0);
    assert_int_equal(sample_token(s, &p, logits, history, 0), 0);
    sampler_free(s);
}

static void non_finite_logits_fail(void **state) {
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int b = 0; b < 4; b++)
        for (int at = 0; at < N; at++)
            for (int t = 0; t < 2; t++) {
                float logits[N];
                fill(logits);
                logits[at] = bad[b];
                sample_params p = neutral;
                p.temperature = (float)t;
                assert_int_equal(once(logits, N, p, NULL, 0), SAMPLE_FAILED);
            }
}

static void extremes_stay_defined(void **state) {
    (void)state;
    threads_set_float_mode();
    const float logits[] = {FLT_MAX, -FLT_MAX, 0, 1e-30f, FLT_MAX, -1};
    static const float temperatures[] = {1e-45f, FLT_MIN, 1e-20f, 1, 1e30f, FLT_MAX};
    static const float penalties[] = {1e-38f, 1e-3f, 1, 1e3f, FLT_MAX};
    static const float fractions[] = {1e-45f, FLT_MIN, 0.5f, 1};
    const int32_t history[] = {0, 1, 2, 3, 0};
    const rf_logit_bias bias[] = {{0, 100}, {1, -100}};
    for (int t = 0; t < 6; t++)
        for (int r = 0; r < 5; r++)
            for (int f = 0; f < 4; f++) {
                sample_params p = {
                    temperatures[t], fractions[f], fractions[f], 5, penalties[r], -2, -2, 0, (uint64_t)r, bias, 2};
                assert_in_range(once(logits, N, p, history, 5), 0, N - 1);
                p.top_k = 0;
                assert_in_range(once(logits, N, p, history, 5), 0, N - 1);
            }
}

static void penalties_beyond_all_floats_still_tie(void **state) {
    (void)state;
    const float logits[] = {10, 10, 10, 10, 10, 10};
    const int32_t history[] = {3, 5};
    sample_params p = neutral;
    p.repeat_penalty = 1e-38f; // 10 / 1e-38 is no float
    unsigned seen = 0;
    for (p.seed = 0; p.seed < 50; p.seed++) seen |= 1u << once(logits, N, p, history, 2);
    assert_int_equal(seen, 1u << 3 | 1u << 5);
}

// ---- against a plain implementation ------------------------------------------------------------------------------

typedef struct ranked {
    double logit;
    int32_t id;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id - y->id;
}

// How many of the ranked tokens survive top-k and top-p, in double, by sorting everything; -1 if too close to call.
static int32_t survivors(const ranked *all, uint32_t n, sample_params p) {
    uint32_t k = p.top_k && p.top_k < n ? p.top_k : n, kept = k;
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < k; i++) total += exp(all[i].logit - all[0].logit);
    for (uint32_t i = 0; i < k && p.top_p < 1; i++) {
        sum += exp(all[i].logit - all[0].logit) / total;
        if (fabs(sum - (double)p.top_p) < 1e-5) return -1;
        if (sum > (double)p.top_p) {
            kept = i + 1;
            break;
        }
    }
    return (int32_t)kept;
}

static void agrees_with_a_plain_implementation(void **state) {
    (void)state;
    enum { VOCAB = 1000 };
    static float logits[VOCAB];
    static ranked all[VOCAB];
    sampler *s = sampler_new(VOCAB);
    srand(1);
    for (int round = 0; round < 60; round++) {
        float width = (float)(rand() % 12);
        for (int i = 0; i < VOCAB; i++) {
            logits[i] = (float)(rand() % 4000) / 4000 * width; // with ties
            all[i] = (ranked){(double)logits[i], i};
        }
        qsort(all, VOCAB, sizeof *all, by_rank);
        sample_params p = neutral;
        p.top_k = (uint32_t)(rand() % 3 ? rand() % 60 : 0);
        p.top_p = rand() % 3 ? (float)(1 + rand() % 999) / 1000 : 1;
        p.temperature = 1e6f; // every survivor as likely as another
        int32_t n = survivors(all, VOCAB, p), worst = -1;
        if (n < 0) continue;
        for (p.seed = 0; p.seed < 400; p.seed++) {
            int32_t token = sample_token(s, &p, logits, NULL, 3), rank = 0;
            while (all[rank].id != token) rank++;
            if (rank > worst) worst = rank;
        }
        assert_true(worst < n);                      // none that should have gone
        if (n <= 40) assert_int_equal(worst, n - 1); // none gone that should have stayed
        if (n > 40) assert_true(worst > n - 1 - n / 8);
    }
    sampler_free(s);
}

// Large enough for blocks, the last of which is not whole; with so few values that ties cross their borders.
static void blocks_do_not_show(void **state) {
    (void)state;
    enum { VOCAB = 1000, TOP = 20 };
    static float logits[VOCAB];
    static ranked all[VOCAB];
    sampler *s = sampler_new(VOCAB);
    srand(2);
    sample_params greedy = neutral;
    greedy.temperature = 0;
    for (int round = 0; round < 300; round++) {
        int n_values = 1 + rand() % 2000;
        for (int i = 0; i < VOCAB; i++) {
            logits[i] = (float)(rand() % n_values) / 100 - 3;
            all[i] = (ranked){(double)logits[i], i};
        }
        qsort(all, VOCAB, sizeof *all, by_rank);
        assert_int_equal(sample_token(s, &greedy, logits, NULL, 0), all[0].id);
        rf_token_logprob out[1 + TOP];
        uint32_t n_top = 1 + (uint32_t)rand() % TOP;
        assert_true(sample_logprobs(s, logits, 7, n_top, out));
        for (uint32_t i = 0; i < n_top; i++) assert_int_equal(out[1 + i].token, all[i].id);
    }
    sampler_free(s);

    // more are kept than there are blocks, and each block's largest is one of few
    s = sampler_new(VOCAB);
    sample_params many = neutral;
    many.top_k = 50;
    bool seen[VOCAB] = {0};
    int n_seen = 0;
    for (int i = 0; i < VOCAB; i++) logits[i] = i % 64 == 63 || i == VOCAB - 1 ? -1 : -1.5f;
    for (many.seed = 0; many.seed < 2000; many.seed++) seen[sample_token(s, &many, logits, NULL, 0)] = true;
    for (int i = 0; i < VOCAB; i++) n_seen += seen[i];
    assert_int_equal(n_seen, 50);

    for (int i = 0; i < VOCAB; i++) {
        float was = logits[i];
        logits[i] = i % 2 ? (float)NAN : -(float)INFINITY;
        assert_int_equal(sample_token(s, &greedy, logits, NULL, 0), SAMPLE_FAILED);
        logits[i] = was;
    }
    sampler_free(s);
}

// ---- log-probabilities -------------------------------------------------------------------------------------------

static void logprobs_are_the_log_softmax(void **state) {
    (void)state;
    float logits[N];
    fill(logits);
    sampler *s = sampler_new(N);
    rf_token_logprob out[1 + N];
    sample_logprobs(s, logits, 2, N, out);
    static const int32_t order[] = {2, 3, 1, 4, 0, 5, 2};
    for (int i = 0; i <= N; i++) {
        assert_int_equal(out[i].token, order[i]);
        assert_true(fabs((double)out[i].logprob - log(share[order[i]])) < 1e-5);
    }
    out[1].token = -5;
    sample_logprobs(s, logits, 4, 0, out);
    assert_int_equal(out[0].token, 4);
    assert_int_equal(out[1].token, -5); // nothing written past the end
    sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(temperature_zero_is_greedy),
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(top_k_keeps_k),
        cmocka_unit_test(top_p_keeps_the_nucleus),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(filters_run_in_order),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(seed_and_position_choose),
        cmocka_unit_test(repeat_penalty_divides_and_multiplies),
        cmocka_unit_test(presence_counts_once_frequency_each),
        cmocka_unit_test(window_limits_the_penalties),
        cmocka_unit_test(bias_is_added_first),
        cmocka_unit_test(a_bias_of_100_bans_or_forces),
        cmocka_unit_test(penalties_come_before_the_filters),
        cmocka_unit_test(counts_do_not_leak_to_the_next),
        cmocka_unit_test(non_finite_logits_fail),
        cmocka_unit_test(extremes_stay_defined),
        cmocka_unit_test(penalties_beyond_all_floats_still_tie),
        cmocka_unit_test(agrees_with_a_plain_implementation),
        cmocka_unit_test(blocks_do_not_show),
        cmocka_unit_test(logprobs_are_the_log_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Guesses: the longest match, the latest of several, as long as they deserve; and the credit that bounds their cost.
#include "engine/draft.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// One letter is one token.
static void expect(const char *text, uint32_t most, const char *guess) {
    int32_t tokens[200];
    uint32_t n = (uint32_t)strlen(text);
    for (uint32_t i = 0; i < n; i++) tokens[i] = text[i];
    for (uint32_t i = n; i < 200; i++) tokens[i] = '?';
    uint32_t n_guessed = draft_find(tokens, n, most);
    char found[200] = {0};
    for (uint32_t i = 0; i < n_guessed; i++) found[i] = (char)tokens[n + i];
    assert_string_equal(found, guess);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(tokens[i], text[i]);
    assert_int_equal(tokens[n + n_guessed], '?');
}

static void nothing_repeats_nothing_is_guessed(void **state) {
    (void)state;
    expect("a", 8, "");
    expect("abcdefg", 8, "");
    expect("abcab", 8, ""); // a match of two is none
    expect("abcabc", 0, "");
}

static void a_guess_is_one_shorter_than_its_match(void **state) {
    (void)state;
    expect("abcdefg.abc", 8, "de");
    expect("abcdefg.abcd", 8, "efg");
    expect("-abcdefg.-abcd", 8, "efg.");
    expect("-abcdefg.-abcd", 3, "efg");
    expect("-abcdefg.-abcd", 1, "e");
}

static void the_longest_match_wins_then_the_latest(void **state) {
    (void)state;
    expect("abc1.abc2.abc3.abc", 8, "3.a");
    expect("xabc1.abc2.xabc", 8, "1.a");
    expect("xabc1.yabc2.abc3.xabc", 8, "1.y");
    // What is longer than it can use is as good as what is longest: the search ends at the latest of them.
    expect("wxyabc1.xyabc2.wxyabc", 2, "2.");
    expect("wxyabc1.xyabc2.wxyabc", 8, "1.xya");
}

static void a_period_goes_on_for_ever(void **state) {
    (void)state;
    expect("aaaa", 8, "aa");
    expect("aaaaaaaaaaaaaaaa", 8, "aaaaaaaa");
    expect("abcabcabcabcabcabcabcab", 7, "cabcabc");
}

static void the_search_looks_back_a_bounded_way(void **state) {
    (void)state;
    uint32_t n = DRAFT_WINDOW + 100;
    int32_t *tokens = malloc((n + DRAFT_MOST) * sizeof *tokens);
    for (uint32_t distance = DRAFT_WINDOW - 2; distance < DRAFT_WINDOW + 3; distance++) {
        for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)i;
        for (uint32_t i = n - 3; i < n; i++) tokens[i] = tokens[i - distance];
        assert_int_equal(draft_find(tokens, n, 8), distance < DRAFT_WINDOW ? 2 : 0);
    }
    free(tokens);
}

// Against the plain definition.
static uint32_t find_plainly(const int32_t *tokens, uint32_t n, uint32_t most, uint32_t *from) {
    uint32_t best = 2, enough = most + 1 < 3 ? 3 : most + 1;
    for (uint32_t at = 1; most && at < n; at++) {
        uint32_t alike = 0;
        while (alike < enough && alike < at && tokens[at - 1 - alike] == tokens[n - 1 - alike]) alike++;
        if (alike > 2 && alike >= best) best = alike, *from = at;
    }
    return best == 2 ? 0 : best - 1 < most ? best - 1 : most;
}

static void it_equals_its_definition(void **state) {
    (void)state;
    srand(3);
    uint32_t n_found = 0;
    for (int round = 0; round < 20000; round++) {
        int32_t tokens[64 + DRAFT_MOST];
        uint32_t n = 1 + (uint32_t)rand() % 64, most = (uint32_t)rand() % (DRAFT_MOST + 1), from = 0;
        for (uint32_t i = 0; i < n; i++) tokens[i] = rand() % 3;
        uint32_t wanted = find_plainly(tokens, n, most, &from), found = draft_find(tokens, n, most);
        assert_int_equal(found, wanted);
        for (uint32_t i = 0; i < found; i++) assert_int_equal(tokens[n + i], tokens[from + i]);
        n_found += found > 0;
    }
    assert_true(n_found > 5000);
}

// ---- credit ------------------------------------------------------------------------------------------------------

static const uint32_t ROWS[] = {1, 2, 3, 16, 32, 512, 65536}, FIXED[] = {0, 1, 2, 4, 100};
enum { N_ROWS = sizeof ROWS / sizeof *ROWS, N_FIXED = sizeof FIXED / sizeof *FIXED };

static void always_wrong(draft_cost c, uint32_t wish) {
    uint32_t credit = DRAFT_CREDIT, n_drafts = 0;
    double lost = 0;
    for (uint32_t n = 1; n <= 10000; n++) {
        uint32_t k = draft_afford(credit, c);
        if (k > wish) k = wish;
        n_drafts += k;
        lost += k ? (k + (c.n_rows == 1)) * (double)c.n_rows / (c.n_rows + c.fixed_rows) : 0;
        credit = draft_settle(credit, c, k, 0);
        assert_true(credit <= 4 * DRAFT_TOKEN);
        assert_true(lost <= 1 + n / 32.0 + n_drafts / 200.0); // the last: what rounding gives away
    }
    assert_true(n_drafts > 0); // it never gives up for good
}

// It costs no more than the first credit and a thirty-second of the time, whatever the step.
static void being_wrong_costs_little(void **state) {
    (void)state;
    for (int i = 0; i < N_ROWS; i++)
        for (int j = 0; j < N_FIXED; j++)
            for (uint32_t wish = 1; wish <= DRAFT_MOST; wish += 3) always_wrong((draft_cost){ROWS[i], FIXED[j]}, wish);
}

static void being_right_pays(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int j = 1; j < N_FIXED; j++) {
            draft_cost c = {ROWS[i], FIXED[j]};
            uint32_t credit = DRAFT_CREDIT;
            for (uint32_t n = 1; n <= 500; n++) {
                uint32_t k = draft_afford(credit, c);
                credit = draft_settle(credit, c, k, k);
            }
            assert_int_equal(credit, 4 * DRAFT_TOKEN);
            assert_true(draft_afford(credit, c) >= 4);
        }
}

// Two of three right: worth it alone, and lost among many, or where a row costs as much as a step.
static void what_pays_depends_on_the_step(void **state) {
    (void)state;
    const draft_cost costs[] = {{1, 4}, {60, 4}, {1, 0}};
    for (int i = 0; i < 3; i++) {
        uint32_t credit = 3 * DRAFT_TOKEN;
        for (uint32_t n = 0; n < 40; n++) {
            uint32_t k = draft_afford(credit, costs[i]) < 3 ? draft_afford(credit, costs[i]) : 3;
            credit = draft_settle(credit, costs[i], k, k * 2 / 3);
        }
        assert_int_equal(draft_afford(credit, costs[i]) > 2, i == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_repeats_nothing_is_guessed),
        cmocka_unit_test(a_guess_is_one_shorter_than_its_match),
        cmocka_unit_test(the_longest_match_wins_then_the_latest),
        cmocka_unit_test(a_period_goes_on_for_ever),
        cmocka_unit_test(the_search_looks_back_a_bounded_way),
        cmocka_unit_test(it_equals_its_definition),
        cmocka_unit_test(being_wrong_costs_little),
        cmocka_unit_test(being_right_pays),
        cmocka_unit_test(what_pays_depends_on_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

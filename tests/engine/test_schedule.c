// Who runs next, with how much, and who pays when pages run out. No engine: the plan's effects are applied by hand.
#include "engine/schedule.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = KV_PAGE_TOKENS, MAX = 8 };

typedef struct fixture {
    door *door;
    kv kv;
    schedule schedule;
    sequence *all[MAX];
    uint32_t n;
} fixture;

static fixture *begin_guessing(uint32_t n_pages, uint32_t max_running, uint32_t step_tokens, uint32_t speculate) {
    fixture *f = calloc(1, sizeof *f);
    err e = {0};
    f->door = door_new(MAX);
    assert_true(kv_init(&f->kv, n_pages, 64, &e));
    schedule_init(&f->schedule, max_running, MAX, step_tokens, speculate);
    return f;
}

static fixture *begin(uint32_t n_pages, uint32_t max_running, uint32_t step_tokens) {
    return begin_guessing(n_pages, max_running, step_tokens, 0);
}

static void drop(fixture *f, sequence *q) {
    for (uint32_t i = 0; i < f->n; i++)
        if (f->all[i] == q) f->all[i] = NULL;
    rf_request *r = q->request;
    schedule_remove(&f->schedule, q, &f->kv);
    sequence_free(q);
    request_drop(r);
}

static void end(fixture *f) {
    for (uint32_t i = 0; i < f->n; i++)
        if (f->all[i]) drop(f, f->all[i]);
    schedule_free(&f->schedule);
    kv_free(&f->kv);
    door_release(f->door);
    free(f);
}

static sequence *arrive(fixture *f, uint32_t n_prompt, int32_t priority) {
    int32_t *prompt = calloc(n_prompt, sizeof *prompt);
    prompt[0] = (int32_t)f->n; // nobody shares, unless a test says so
    rf_params p = rf_params_default();
    p.priority = priority;
    sequence *q = sequence_new(request_new(f->door, n_prompt, &p), prompt, n_prompt, n_prompt + 200, &p);
    free(prompt);
    schedule_add(&f->schedule, q);
    return f->all[f->n++] = q;
}

static void check_all(const fixture *f) {
    kv_table *tables[MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        if (!f->all[i]) continue;
        sequence_check(f->all[i]);
        tables[n++] = &f->all[i]->kv;
    }
    kv_check(&f->kv, tables, n);
}

// One step: whoever read its last pending token gets a new one. Guesses are wrong here.
static void step_once(fixture *f) {
    schedule *s = &f->schedule;
    schedule_plan(s, &f->kv);
    check_all(f);
    uint32_t total = 0;
    for (uint32_t i = 0; i < s->n_planned; i++) {
        sequence *q = s->planned[i];
        total += q->n_planned + q->n_drafts;
        bool extends = q->n_planned == sequence_pending(q);
        uint32_t n = q->n_planned + q->n_drafts;
        assert_true(q->n_planned >= 1 && kv_pages_for(q->kv.n_cached + n) <= q->kv.n_pages);
        kv_commit(&f->kv, &q->kv, q->n_planned);
        kv_trim(&f->kv, &q->kv);
        assert_int_equal(q->kv.n_pages, kv_pages_for(q->kv.n_cached));
        q->n_planned = q->n_drafts = 0;
        if (extends && q->n_tokens < q->limit) q->tokens[q->n_tokens++] = 7;
    }
    assert_true(total <= s->step_tokens);
    check_all(f);
}

static void empty_plans_nothing(void **state) {
    (void)state;
    fixture *f = begin(4, 2, 8);
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(f->schedule.n_planned, 0);
    end(f);
}

static void decoders_come_first_then_chunks_in_order(void **state) {
    (void)state;
    fixture *f = begin(64, 4, 10);
    sequence *a = arrive(f, 4, 0);
    step_once(f); // a has its first token
    sequence *b = arrive(f, 15, 0), *c = arrive(f, 3, 0);
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(f->schedule.n_planned, 2);
    assert_ptr_equal(f->schedule.planned[0], a);
    assert_int_equal(a->n_planned, 1);
    assert_ptr_equal(f->schedule.planned[1], b);
    assert_int_equal(b->n_planned, 9); // the budget is spent: c has to wait
    assert_int_equal(c->n_planned, 0);
    assert_false(c->running);
    end(f);
}

static void a_long_prompt_never_stalls_decoders(void **state) {
    (void)state;
    fixture *f = begin(64, 4, 8);
    sequence *a = arrive(f, 2, 0), *b;
    step_once(f);
    b = arrive(f, 100, 0);
    for (int i = 0; i < 10; i++) {
        uint32_t before = a->n_tokens;
        step_once(f);
        assert_int_equal(a->n_tokens, before + 1);
    }
    assert_int_equal(b->kv.n_cached, 70);
    end(f);
}

static void short_prompts_do_not_overtake(void **state) {
    (void)state;
    fixture *f = begin(64, 4, 8);
    sequence *a = arrive(f, 20, 0), *b = arrive(f, 2, 0);
    step_once(f);
    assert_int_equal(a->kv.n_cached, 8);
    assert_false(b->running);
    step_once(f);
    step_once(f); // 4 left of a, 4 for b
    assert_int_equal(a->n_tokens, 21);
    assert_int_equal(b->n_tokens, 3);
    end(f);
}

static void max_running_is_kept(void **state) {
    (void)state;
    fixture *f = begin(64, 2, 16);
    for (int i = 0; i < 4; i++) arrive(f, 2, 0);
    step_once(f);
    assert_int_equal(f->schedule.n_running, 2);
    drop(f, f->all[0]);
    step_once(f);
    assert_true(f->all[1]->running && f->all[2]->running && !f->all[3]->running);
    end(f);
}

static void priority_goes_first_then_arrival(void **state) {
    (void)state;
    fixture *f = begin(64, 1, 8);
    sequence *low = arrive(f, 2, -1), *mid = arrive(f, 2, 0), *high = arrive(f, 2, 5), *high2 = arrive(f, 2, 5);
    sequence *const order[] = {high, high2, mid, low};
    for (int i = 0; i < 4; i++) {
        step_once(f);
        assert_ptr_equal(f->schedule.running[0], order[i]);
        drop(f, order[i]);
    }
    end(f);
}

static void admission_waits_for_pages(void **state) {
    (void)state;
    fixture *f = begin(4, 4, 256);
    sequence *a = arrive(f, 2 * PAGE, 0), *b = arrive(f, 3 * PAGE, 0), *c = arrive(f, 1, 0);
    step_once(f);
    assert_true(a->running && !b->running);
    assert_false(c->running); // although it would fit: nobody overtakes
    drop(f, a);
    step_once(f);
    assert_true(b->running && c->running);
    end(f);
}

static void the_youngest_pays_and_returns_to_the_head(void **state) {
    (void)state;
    fixture *f = begin(4, 4, 256);
    sequence *a = arrive(f, PAGE, 0), *b = arrive(f, PAGE, 0), *c = arrive(f, PAGE, 0);
    step_once(f); // three full pages, one free
    sequence *d = arrive(f, 1, 0);
    step_once(f); // a takes the last page, b takes c's
    assert_true(a->running && b->running && !c->running);
    assert_int_equal(c->kv.n_pages, 0);
    assert_int_equal(c->kv.n_cached, 0);
    assert_int_equal(c->n_tokens, PAGE + 1); // what it has said is not forgotten
    assert_ptr_equal(f->schedule.waiting[0], c);
    assert_ptr_equal(f->schedule.waiting[1], d);
    assert_int_equal(f->schedule.n_preempted, 1);
    drop(f, a);
    step_once(f);
    assert_true(c->running);
    assert_int_equal(c->n_tokens, PAGE + 2);
    end(f);
}

static void lower_priority_pays_first(void **state) {
    (void)state;
    fixture *f = begin(4, 4, 256);
    sequence *a = arrive(f, PAGE, 0), *b = arrive(f, PAGE, 0), *c = arrive(f, PAGE, 1);
    step_once(f);
    step_once(f);
    assert_true(a->running && c->running && !b->running);
    end(f);
}

static void the_last_one_waits_with_what_it_has(void **state) {
    (void)state;
    fixture *f = begin(3, 4, 256);
    sequence *a = arrive(f, PAGE, 0), *b = arrive(f, PAGE, 0);
    step_once(f);
    step_once(f); // a takes the third page; b has nobody to ask
    assert_true(a->running && b->running);
    assert_int_equal(a->kv.n_cached, PAGE + 1);
    assert_int_equal(b->kv.n_cached, PAGE);
    for (int i = 0; i < PAGE; i++) step_once(f); // until a needs b's
    assert_false(b->running);
    assert_int_equal(a->kv.n_pages, 3);
    end(f);
}

// ---- guesses -----------------------------------------------------------------------------------------------------

static void decoders_guess_with_what_is_left(void **state) {
    (void)state;
    fixture *f = begin_guessing(64, 4, 40, 8);
    sequence *a = arrive(f, 20, 0), *b = arrive(f, 20, 0); // they say the same over and over
    step_once(f);
    step_once(f);
    step_once(f);
    step_once(f); // a match of three
    a->draft_credit = b->draft_credit = 100 * DRAFT_TOKEN;
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(a->n_drafts, 2);
    assert_int_equal(b->n_drafts, 2);
    assert_int_equal(a->tokens[a->n_tokens], 7);
    assert_int_equal(f->schedule.cost.n_rows, 2);
    a->n_drafts = b->n_drafts = 0;
    arrive(f, 100, 0); // prompts go first: one token of forty is left
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(a->n_drafts + b->n_drafts, 0);
    f->all[2]->n_planned = 0;
    drop(f, f->all[2]);
    arrive(f, 37, 0);
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(a->n_drafts, 1);
    assert_int_equal(b->n_drafts, 0);
    a->draft_credit = 0;
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(a->n_drafts, 0);
    assert_int_equal(b->n_drafts, 1);
    end(f);
}

static void a_step_has_room_for_so_many_guesses(void **state) {
    (void)state;
    fixture *f = begin_guessing(64, MAX, 1000, 8);
    for (int i = 0; i < MAX; i++) arrive(f, 20, 0);
    for (int i = 0; i < 12; i++) step_once(f);
    for (int i = 0; i < MAX; i++) f->all[i]->draft_credit = 100 * DRAFT_TOKEN;
    schedule_plan(&f->schedule, &f->kv);
    for (int i = 0; i < MAX; i++) assert_int_equal(f->all[i]->n_drafts, i < DRAFT_MOST / 8 ? 8 : 0);
    end(f);
}

static void a_first_token_is_not_guessed(void **state) {
    (void)state;
    fixture *f = begin_guessing(64, 4, 100, 8);
    sequence *a = arrive(f, 2 * PAGE, 0), *b;
    step_once(f);
    for (int i = 0; i < 10; i++) step_once(f);
    b = arrive(f, 2 * PAGE, 0);
    memcpy(b->tokens, a->tokens, 2 * PAGE * sizeof *a->tokens);
    b->n_tokens = b->n_prompt = 2 * PAGE - PAGE + 1; // all but its last token is cached
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(b->n_planned, 1);
    assert_int_equal(b->n_drafts, 0);
    end(f);
}

static void guesses_take_free_pages_only_and_give_them_back(void **state) {
    (void)state;
    fixture *f = begin_guessing(3, 4, 100, 8);
    sequence *a = arrive(f, PAGE - 6, 0), *b = arrive(f, PAGE - 6, 0);
    for (int i = 0; i < 5; i++) step_once(f); // two places are left in each page
    a->draft_credit = b->draft_credit = 100 * DRAFT_TOKEN;
    for (int i = 0; i < 10; i++) a->tokens[a->n_tokens - 1 - i] = b->tokens[b->n_tokens - 1 - i] = 7;
    schedule_plan(&f->schedule, &f->kv);
    assert_int_equal(a->n_drafts, 8); // into the free page
    assert_int_equal(b->n_drafts, 1); // up to the end of its own
    assert_int_equal(a->kv.n_pages, 2);
    assert_int_equal(f->kv.n_free, 0);
    step_once(f);
    assert_int_equal(f->schedule.n_preempted, 0);
    assert_int_equal(f->kv.n_free, 1);
    end(f);
}

static void guesses_end_before_the_answer_does(void **state) {
    (void)state;
    fixture *f = begin_guessing(64, 4, 100, 8);
    sequence *a = arrive(f, 20, 0);
    a->limit = 40;
    for (int i = 0; i < 10; i++) step_once(f);
    for (uint32_t left = 10; left > 0; left--) {
        a->draft_credit = 100 * DRAFT_TOKEN;
        schedule_plan(&f->schedule, &f->kv);
        assert_int_equal(a->limit - a->n_tokens, left);
        assert_int_equal(a->n_drafts, left - 1 < 8 ? left - 1 : 8);
        step_once(f);
    }
    end(f);
}

// Random arrivals and pools: invariants hold, and everybody ends although the pool holds only one of them.
static void everybody_ends(void **state) {
    (void)state;
    srand(7);
    for (int round = 0; round < 200; round++) {
        uint32_t max_running = 1 + (uint32_t)rand() % 4;
        fixture *f = begin_guessing(3 + (uint32_t)rand() % 6, max_running, max_running + (uint32_t)rand() % 40,
                                    (uint32_t)rand() % 9);
        uint32_t n_left = MAX, n_steps = 0;
        while (n_left) {
            if (f->n < MAX && rand() % 4 == 0) {
                sequence *q = arrive(f, 1 + (uint32_t)rand() % 60, rand() % 2);
                q->limit = q->n_prompt + 1 + (uint32_t)rand() % (3 * PAGE - 60 - 1);
            }
            step_once(f);
            for (uint32_t i = 0; i < f->n; i++)
                if (f->all[i] && f->all[i]->n_tokens == f->all[i]->limit) drop(f, f->all[i]), n_left--;
            assert_true(++n_steps < 20000);
        }
        assert_int_equal(f->kv.n_free, f->kv.n_pages);
        end(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_plans_nothing),
        cmocka_unit_test(decoders_come_first_then_chunks_in_order),
        cmocka_unit_test(a_long_prompt_never_stalls_decoders),
        cmocka_unit_test(short_prompts_do_not_overtake),
        cmocka_unit_test(max_running_is_kept),
        cmocka_unit_test(priority_goes_first_then_arrival),
        cmocka_unit_test(admission_waits_for_pages),
        cmocka_unit_test(the_youngest_pays_and_returns_to_the_head),
        cmocka_unit_test(lower_priority_pays_first),
        cmocka_unit_test(the_last_one_waits_with_what_it_has),
        cmocka_unit_test(decoders_guess_with_what_is_left),
        cmocka_unit_test(a_step_has_room_for_so_many_guesses),
        cmocka_unit_test(a_first_token_is_not_guessed),
        cmocka_unit_test(guesses_take_free_pages_only_and_give_them_back),
        cmocka_unit_test(guesses_end_before_the_answer_does),
        cmocka_unit_test(everybody_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

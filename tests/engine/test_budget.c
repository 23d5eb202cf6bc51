// What is promised fits in what there is, to the byte.
#include "engine/budget.h"

#include "kernel/kernel.h"
#include "unit.h"

enum { PAGE_BYTES = 1000, WEIGHTS = 5000, WORK = 700, WORK_PER_TOKEN = 3, RUNNING = 4, ALL = 1 << 30 };

static uint64_t work_bytes(const void *arg, uint32_t n_ctx) {
    (void)arg;
    return WORK + (uint64_t)WORK_PER_TOKEN * n_ctx;
}

static budget_needs model(uint32_t n_ctx_train, uint64_t memory_bytes) {
    return (budget_needs){memory_bytes, WEIGHTS, PAGE_BYTES, n_ctx_train, RUNNING, work_bytes, NULL};
}

static uint64_t total(const budget *b) {
    return WEIGHTS + work_bytes(NULL, b->n_ctx) + (uint64_t)b->n_pages * PAGE_BYTES;
}

static budget planned(rf_engine_options o, uint32_t n_ctx_train, uint64_t memory_bytes) {
    budget b = {0};
    err e = {0};
    budget_needs n = model(n_ctx_train, o.memory_bytes ? o.memory_bytes : memory_bytes);
    if (!budget_plan(&o, &n, &b, &e)) fail_msg("%s", e.text);
    assert_true((uint64_t)b.n_pages * KV_PAGE_TOKENS >= b.n_ctx);
    assert_true(total(&b) <= n.memory_bytes);
    return b;
}

static err_code refused(rf_engine_options o, uint32_t n_ctx_train, uint64_t memory_bytes) {
    budget b;
    err e = {0};
    budget_needs n = model(n_ctx_train, o.memory_bytes ? o.memory_bytes : memory_bytes);
    assert_false(budget_plan(&o, &n, &b, &e));
    return e.code;
}

static void default_is_the_training_context_once(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){0}, 100, ALL);
    assert_int_equal(b.n_ctx, 100);
    assert_int_equal(b.n_pages, 4);
}

static void default_takes_a_quarter_at_most(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){0}, 1 << 20, 40 * PAGE_BYTES);
    assert_int_equal(b.n_pages, 10);
    assert_int_equal(b.n_ctx, 10 * KV_PAGE_TOKENS);
}

static void memory_given_is_used_whole(void **state) {
    (void)state;
    for (uint64_t bytes = 8000; bytes < 60000; bytes += 333) {
        budget b = planned((rf_engine_options){.memory_bytes = bytes}, 1 << 20, 1);
        budget more = b; // one token of context more would not fit
        more.n_ctx++, more.n_pages += b.n_ctx % KV_PAGE_TOKENS == 0;
        assert_true(total(&more) > bytes);
        b = planned((rf_engine_options){.memory_bytes = bytes, .n_ctx = 32}, 1 << 20, 1);
        more = b, more.n_pages++;
        assert_true(total(&more) > bytes || b.n_pages == RUNNING); // nor a page, unless nobody could use it
    }
}

static void wishes_are_kept_or_refused(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){.n_ctx = 33}, 4096, ALL);
    assert_int_equal(b.n_ctx, 33);
    assert_int_equal(b.n_pages, 2);
    b = planned((rf_engine_options){.n_ctx = 33, .kv_bytes = 20 * PAGE_BYTES}, 4096, ALL);
    assert_int_equal(b.n_ctx, 33);
    assert_int_equal(b.n_pages, 20);
    b = planned((rf_engine_options){.kv_bytes = 2 * PAGE_BYTES + 1}, 4096, ALL);
    assert_int_equal(b.n_ctx, 2 * KV_PAGE_TOKENS);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 4097}, 4096, ALL), ERR_USAGE);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 1}, 4096, ALL), ERR_USAGE);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 33, .kv_bytes = PAGE_BYTES}, 4096, ALL), ERR_MEMORY);
    assert_int_equal(refused((rf_engine_options){.kv_bytes = PAGE_BYTES - 1}, 4096, ALL), ERR_MEMORY);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    const uint64_t least = WEIGHTS + WORK + 2 * WORK_PER_TOKEN + PAGE_BYTES;
    assert_int_equal(planned((rf_engine_options){.memory_bytes = least}, 4096, 1).n_ctx, 2);
    assert_int_equal(refused((rf_engine_options){.memory_bytes = least - 1}, 4096, 1), ERR_MEMORY);
    assert_int_equal(refused((rf_engine_options){.memory_bytes = WEIGHTS}, 4096, 1), ERR_MEMORY);
    assert_int_equal(refused((rf_engine_options){.memory_bytes = WEIGHTS - 1}, 4096, 1), ERR_MEMORY);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 4096}, 4096, 100 * PAGE_BYTES), ERR_MEMORY);
    rf_engine_options o = {.kv_bytes = 20 * PAGE_BYTES, .n_ctx = 2};
    assert_int_equal(planned(o, 4096, least + 19 * PAGE_BYTES).n_pages, 20);
    assert_int_equal(refused(o, 4096, least + 19 * PAGE_BYTES - 1), ERR_MEMORY);
}

static void huge_numbers_do_not_wrap(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){.kv_bytes = UINT64_MAX}, UINT32_MAX, UINT64_MAX);
    assert_true(b.n_pages <= UINT32_MAX / KV_PAGE_TOKENS);
    b = planned((rf_engine_options){.memory_bytes = UINT64_MAX}, UINT32_MAX, 1);
    assert_true(b.n_pages <= UINT32_MAX / KV_PAGE_TOKENS);
    assert_true(budget_memory() > 1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_is_the_training_context_once), cmocka_unit_test(default_takes_a_quarter_at_most),
        cmocka_unit_test(memory_given_is_used_whole),           cmocka_unit_test(wishes_are_kept_or_refused),
        cmocka_unit_test(what_does_not_fit_is_refused),         cmocka_unit_test(huge_numbers_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

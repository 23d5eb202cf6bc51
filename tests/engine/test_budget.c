// What is promised fits in what there is.
#include "engine/budget.h"

#include "kernel/kernel.h"
#include "unit.h"

enum { PAGE_BYTES = 1000 };

static budget planned(rf_engine_options o, uint32_t n_ctx_train, uint64_t memory_bytes) {
    budget b = {0};
    err e = {0};
    assert_true(budget_plan(&o, n_ctx_train, PAGE_BYTES, memory_bytes, &b, &e));
    assert_true((uint64_t)b.n_pages * KV_PAGE_TOKENS >= b.n_ctx);
    return b;
}

static err_code refused(rf_engine_options o, uint32_t n_ctx_train, uint64_t memory_bytes) {
    budget b;
    err e = {0};
    assert_false(budget_plan(&o, n_ctx_train, PAGE_BYTES, memory_bytes, &b, &e));
    return e.code;
}

static void default_is_the_training_context(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){0}, 100, 1 << 30);
    assert_int_equal(b.n_ctx, 100);
    assert_int_equal(b.n_pages, 4);
}

static void default_takes_a_quarter_at_most(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){0}, 1 << 20, 40 * PAGE_BYTES);
    assert_int_equal(b.n_pages, 10);
    assert_int_equal(b.n_ctx, 10 * KV_PAGE_TOKENS);
}

static void wishes_are_kept_or_refused(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){.n_ctx = 33}, 4096, 1 << 30);
    assert_int_equal(b.n_ctx, 33);
    assert_int_equal(b.n_pages, 2);
    b = planned((rf_engine_options){.n_ctx = 33, .kv_bytes = 20 * PAGE_BYTES}, 4096, 1);
    assert_int_equal(b.n_ctx, 33);
    assert_int_equal(b.n_pages, 20);
    b = planned((rf_engine_options){.kv_bytes = 2 * PAGE_BYTES + 1}, 4096, 1);
    assert_int_equal(b.n_ctx, 2 * KV_PAGE_TOKENS);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 4097}, 4096, 1 << 30), ERR_USAGE);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 1}, 4096, 1 << 30), ERR_USAGE);
    assert_int_equal(refused((rf_engine_options){.n_ctx = 33, .kv_bytes = PAGE_BYTES}, 4096, 1), ERR_MEMORY);
    assert_int_equal(refused((rf_engine_options){.kv_bytes = PAGE_BYTES - 1}, 4096, 1 << 30), ERR_MEMORY);
    assert_int_equal(refused((rf_engine_options){0}, 4096, 3 * PAGE_BYTES), ERR_MEMORY);
}

static void huge_numbers_do_not_wrap(void **state) {
    (void)state;
    budget b = planned((rf_engine_options){.kv_bytes = UINT64_MAX}, UINT32_MAX, UINT64_MAX);
    assert_true(b.n_pages <= UINT32_MAX / KV_PAGE_TOKENS);
    assert_true(budget_memory() > 1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_is_the_training_context),
        cmocka_unit_test(default_takes_a_quarter_at_most),
        cmocka_unit_test(wishes_are_kept_or_refused),
        cmocka_unit_test(huge_numbers_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

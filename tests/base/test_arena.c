// Arena: aligned, disjoint, reusable pieces of one allocation.
#include "base/arena.h"
#include "unit.h"

#include <string.h>

static void pieces_are_aligned_and_disjoint(void **state) {
    (void)state;
    err e = {0};
    arena a;
    assert_true(arena_init(&a, 4096, "a test", &e));
    char *p = arena_take(&a, 1), *q = arena_take(&a, 65), *r = arena_take(&a, 4096 - 64 - 128);
    assert_int_equal((uintptr_t)p % 64 + (uintptr_t)q % 64 + (uintptr_t)r % 64, 0);
    assert_ptr_equal(q, p + 64);
    assert_ptr_equal(r, q + 128);
    assert_int_equal(a.used_bytes, 4096);
    arena_reset(&a);
    assert_ptr_equal(arena_take(&a, 64), p);
    assert_int_equal(a.peak_bytes, 4096);
    arena_free(&a);
    assert_null(a.base);
}

static void too_large_is_an_error(void **state) {
    (void)state;
    err e = {0};
    arena a;
    assert_false(arena_init(&a, (size_t)1 << 60, "the step", &e));
    assert_int_equal(e.code, ERR_MEMORY);
    assert_non_null(strstr(e.text, "the step"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_disjoint),
        cmocka_unit_test(too_large_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

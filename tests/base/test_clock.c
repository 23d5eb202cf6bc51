// Clock: the machine's never goes back; a manual one says what it was told.
#include "base/clock.h"
#include "unit.h"

#include <time.h>

static void machine(void **state) {
    (void)state;
    int64_t before = clock_now_us(&clock_machine);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    int64_t after = clock_machine_us();
    assert_true(after - before >= 2000 && after - before < 5000000);
}

static void manual(void **state) {
    (void)state;
    struct manual_clock m = clock_manual(42);
    assert_int_equal(clock_now_us(&m.clock), 42);
    m.us += 1000000;
    assert_int_equal(clock_now_us(&m.clock), 1000042);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(machine), cmocka_unit_test(manual)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

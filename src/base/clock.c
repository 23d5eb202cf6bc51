// Implements clock.h.
#include "base/clock.h"

#include <time.h>

int64_t clock_machine_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t machine_now(const struct clock *c) {
    (void)c;
    return clock_machine_us();
}
const struct clock clock_machine = {machine_now};

static int64_t manual_now(const struct clock *c) { return ((const struct manual_clock *)c)->us; }
struct manual_clock clock_manual(int64_t us) {
    return (struct manual_clock){{manual_now}, us};
}

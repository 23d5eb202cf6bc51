// Clock: microseconds that never go back, from the machine or from a test's hand.
//
// Code that schedules takes a `const struct clock *` and never asks the machine itself, so that a simulation can move
// time. (No typedef: time.h owns the plain name.) The machine's clock may be read by any thread; a manual one belongs
// to the thread that sets it.
#pragma once

#include <stdint.h>

struct clock {
    int64_t (*now_us)(const struct clock *c);
};

struct manual_clock {
    struct clock clock; // hand out &m.clock
    int64_t us;         // set at will, never backwards
};

extern const struct clock clock_machine;      // CLOCK_MONOTONIC
int64_t clock_machine_us(void);               // the same without an object
struct manual_clock clock_manual(int64_t us); // starts at us

static inline int64_t clock_now_us(const struct clock *c) { return c->now_us(c); }

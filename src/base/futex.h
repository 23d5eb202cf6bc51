// Futex: sleep until a 32-bit word changes; the one system call under threads.c and mailbox.c.
//
// A wait returns when it was woken, when the word no longer held `seen` at the call, at the deadline, or for no reason:
// callers look at their word again in a loop. Process-private; any thread.
#pragma once

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FUTEX_FOREVER = -1 };

// deadline_us: absolute CLOCK_MONOTONIC microseconds, or FUTEX_FOREVER. False when the deadline has passed.
static inline bool futex_wait(atomic_uint *word, unsigned seen, int64_t deadline_us) {
    int64_t us = deadline_us < 0 ? 0 : deadline_us;
    struct timespec at = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline_us < 0 ? NULL : &at, NULL,
                     FUTEX_BITSET_MATCH_ANY);
    return !(r < 0 && errno == ETIMEDOUT);
}

static inline void futex_wake_all(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

// Shared by the kernel tests: a fixed random stream, the engine's float mode, and the tables this machine has.
#pragma once

#include "kernel/kernel.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline uint32_t random_bits(uint64_t *state) { // xorshift64*
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545f4914f6cdd1d) >> 32);
}

static inline float random_float(uint64_t *state, float low, float high) {
    return low + (high - low) * ((float)(random_bits(state) >> 8) * 0x1p-24f);
}

static inline void fill_random(uint64_t seed, float *x, size_t n, float range) {
    for (size_t i = 0; i < n; i++) x[i] = random_float(&seed, -range, range);
}

static inline int set_float_mode(void **state) { // flush to zero, denormals are zero
    (void)state;
    _mm_setcsr(_mm_getcsr() | 0x8040);
    return 0;
}

static inline float float_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

// Runs the statement for each table of the machine, the scalar reference first.
#define FOR_EACH_TABLE(k)                                                                                              \
    for (int which_ = 0; which_ < ISA_COUNT; which_++)                                                                 \
        for (const kernels *k = isa_available((isa)which_) ? kernels_get((isa)which_) : NULL; k; k = NULL)

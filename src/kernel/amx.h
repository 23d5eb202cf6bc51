// Tile registers, and what comes with them, by name. Their vocabulary is one unit's: table_avx512.c.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct amx_config { // Intel SDM 3A, table "memory area of LDTILECFG", palette 1
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;

// The instructions by name: gcc 12's own know neither what they read nor all that they configure.
#define amx_zero(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define amx_load(t, p, stride)                                                                                         \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(p), "r"((size_t)(stride)) : "memory")
#define amx_store(t, p, stride)                                                                                        \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(p), "r"((size_t)(stride)) : "memory")
#define amx_dot(c, a, b)          __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define amx_dot_unsigned(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define amx_dot_bf16(c, a, b)     __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

// f16 of 16-bit integers. AVX512-FP16, which processors with tiles have; a flag of the unit would let the compiler use
// it for those without, too.
VERB __m512i amx_f16(__m512i a) {
    __m512i f16;
    __asm__("vcvtw2ph %1, %0" : "=v"(f16) : "v"(a));
    return f16;
}

// Floats rounded to bfloat16, low ones first; denormals become 0. AVX512-BF16, as above.
VERB __m512i amx_bf16(__m512 low, __m512 high) {
    __m512i bf16;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(bf16) : "v"(low), "v"(high));
    return bf16;
}

// Tiles 0 to 3 are sums, 4 and 5 rows of the left factor, 6 and 7 the right one, k_bytes of it. Of 2, 3 and 5 there may
// be fewer rows.
static inline void amx_configure_two(uint32_t n_rows, uint32_t n_other_rows, uint32_t k_bytes) {
    amx_config c = {.palette = 1};
    for (int i = 0; i < 8; ++i) {
        c.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? k_bytes : 64);
        c.rows[i] = (uint8_t)(i >= 6 ? k_bytes / 4 : i == 2 || i == 3 || i == 5 ? n_other_rows : n_rows);
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(c));
}
static inline void amx_configure(uint32_t n_rows, uint32_t k_bytes) { amx_configure_two(n_rows, n_rows, k_bytes); }
static inline void amx_release(void) { __asm__ volatile("tilerelease" ::); }

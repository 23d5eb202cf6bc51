// Implements peak.h. Sums that do not wait for each other, more of them than the instruction's latency, on random data:
// zeros would cost less power and so flatter. Each function asks for its instruction set by itself, as no other code
// here may use it. Empty asm keeps the compiler from doing a product once and for all.
#include "kernel/peak.h"

#include <immintrin.h>

enum { N_SUMS = 12, TILE_BYTES = 1024 };

static void fill_random(uint8_t *to, size_t n) {
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; // Numerical Recipes' LCG
        to[i] = (uint8_t)(state >> 24);
    }
}

static uint64_t peak_scalar(uint32_t n_rounds) {
    int32_t a = 1, b = 2, c = 3, d = 4, x = 101, w = -77;
    for (uint32_t i = 0; i < n_rounds; i++) {
        __asm__ volatile("" : "+r"(x));
        a += x * w;
        __asm__ volatile("" : "+r"(x));
        b += x * w;
        __asm__ volatile("" : "+r"(x));
        c += x * w;
        __asm__ volatile("" : "+r"(x));
        d += x * w;
    }
    __asm__ volatile("" ::"r"(a), "r"(b), "r"(c), "r"(d));
    return (uint64_t)n_rounds * 4 * 2;
}

__attribute__((target("avx2"))) static uint64_t peak_avx2(uint32_t n_rounds) {
    _Alignas(32) uint8_t data[64];
    fill_random(data, sizeof data);
    __m256i sums[8] = {0}, x = _mm256_load_si256((const __m256i *)data),
            w = _mm256_load_si256((const __m256i *)data + 1), ones = _mm256_set1_epi16(1);
    for (uint32_t i = 0; i < n_rounds; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __asm__ volatile("" : "+x"(x));
            sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones));
        }
    }
    for (int j = 0; j < 8; j++) __asm__ volatile("" ::"x"(sums[j]));
    return (uint64_t)n_rounds * 8 * 32 * 2;
}

// VPDPBUSD on registers of either width. Sums that begin alike would be known to be all the same.
#define PEAK_VPDPBUSD(name, isa, vector, dot)                                                                          \
    __attribute__((target(isa))) static uint64_t name(uint32_t n_rounds) {                                             \
        vector data[2], sums[N_SUMS];                                                                                  \
        fill_random((uint8_t *)data, sizeof data);                                                                     \
        vector x = data[0], w = data[1];                                                                               \
        _Pragma("GCC unroll 12") for (int j = 0; j < N_SUMS; j++) {                                                    \
            sums[j] = x;                                                                                               \
            __asm__ volatile("" : "+v"(sums[j]));                                                                      \
        }                                                                                                              \
        for (uint32_t i = 0; i < n_rounds; i++) {                                                                      \
            _Pragma("GCC unroll 12") for (int j = 0; j < N_SUMS; j++) sums[j] = dot(sums[j], x, w);                    \
        }                                                                                                              \
        _Pragma("GCC unroll 12") for (int j = 0; j < N_SUMS; j++) __asm__ volatile("" ::"v"(sums[j]));                 \
        return (uint64_t)n_rounds * N_SUMS * sizeof(vector) * 2;                                                       \
    }
PEAK_VPDPBUSD(peak_avxvnni, "avx2,avxvnni", __m256i, _mm256_dpbusd_avx_epi32)
PEAK_VPDPBUSD(peak_avx512, "avx512f,avx512vnni", __m512i, _mm512_dpbusd_epi32)

// Tiles 0 to 3 are sums, 4 and 5 have 16 rows of 64, 6 and 7 the same of the other side.
__attribute__((target("amx-tile,amx-int8"))) static uint64_t peak_amx(uint32_t n_rounds) {
    struct { // Intel SDM 3A, table "memory area of LDTILECFG", palette 1
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = 64, config.rows[i] = 16;
    _Alignas(64) uint8_t data[4 * TILE_BYTES];
    fill_random(data, sizeof data);
    __asm__ volatile("ldtilecfg %0\n\t"
                     "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tileloadd (%1,%2,1), %%tmm4\n\ttileloadd 1024(%1,%2,1), %%tmm5\n\t"
                     "tileloadd 2048(%1,%2,1), %%tmm6\n\ttileloadd 3072(%1,%2,1), %%tmm7" ::"m"(config),
                     "r"(data), "r"((size_t)64)
                     : "memory");
    for (uint32_t i = 0; i < n_rounds; i++)
        __asm__ volatile("tdpbssd %%tmm6, %%tmm4, %%tmm0\n\ttdpbssd %%tmm7, %%tmm4, %%tmm1\n\t"
                         "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\ttdpbssd %%tmm7, %%tmm5, %%tmm3" ::);
    __asm__ volatile("tilerelease" ::);
    return (uint64_t)n_rounds * 4 * 16 * 16 * 64 * 2;
}

uint64_t peak_int8(isa which, uint32_t n_rounds) {
    static uint64_t (*const by_isa[ISA_COUNT])(uint32_t) = {peak_scalar, peak_avx2, peak_avxvnni, peak_avx512,
                                                            peak_amx};
    check(isa_available(which));
    return by_isa[which](n_rounds);
}

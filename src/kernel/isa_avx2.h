// The vocabulary for AVX2 with FMA and F16C.
//
// Dots are summed in 16-bit halves by vpmaddubsw and folded into 32 bits before they could overflow. Quants of 8 bits
// would saturate it, so they are made signed again and their sign moved to the activation: |w| * (sign(w) * x).
#pragma once

#include "kernel/isa_ymm.h"

enum { TILE_ROWS = 4, TILE_PANELS = 1, VD_ZERO8 = 0 };
enum { PRODUCT_QUERIES = 4, PRODUCT_SUMS = 6 }; // 12 of 16 registers

typedef struct vd {
    vi whole, half; // int32, int16
} vd;

VERB vd vd_begin(int32_t x) { return (vd){vi_set1(x), vi_zero()}; }
VERB int vd_room(int bits) { return bits == 8 ? 1 : 32767 / (2 * 127 * ((1 << bits) - 1)); }
VERB __m256i dot_unsigned(__m256i w, __m256i x) { return _mm256_maddubs_epi16(w, x); }
VERB __m256i dot_signed(__m256i w, __m256i x) {
    w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}
VERB vd vd_dot(vd acc, vq w, int32_t x4, int bits) {
    __m256i x = _mm256_set1_epi32(x4);
    __m256i a = bits == 8 ? dot_signed(w.a, x) : dot_unsigned(w.a, x);
    __m256i b = bits == 8 ? dot_signed(w.b, x) : dot_unsigned(w.b, x);
    // It never saturates; but gcc gathers plain additions at the end of the loop and spills all that waits for them.
    acc.half = (vi){_mm256_adds_epi16(acc.half.a, a), _mm256_adds_epi16(acc.half.b, b)};
    return acc;
}
VERB vd vd_fold(vd acc) { return (vd){vi_dot_s16(acc.whole, acc.half, vi_set1(0x10001)), vi_zero()}; }
VERB vd vd_join(vd high, vd low) {
    vi times_16 = {_mm256_slli_epi32(high.whole.a, 4), _mm256_slli_epi32(high.whole.b, 4)};
    return (vd){vi_add(times_16, low.whole), vi_zero()};
}
VERB vi vd_end(vd acc) { return acc.whole; }

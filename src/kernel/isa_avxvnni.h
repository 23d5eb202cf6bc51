// The vocabulary for AVX2 with AVX-VNNI, as processors have it whose cores differ: VPDPBUSD in 256 bits, which neither
// saturates nor needs folding. Measured by bench_matmul: see matmul.inc.
#pragma once

#include "kernel/isa_ymm.h"

enum { TILE_ROWS = 4, TILE_PANELS = 1, VD_ZERO8 = 128 };
enum { PRODUCT_QUERIES = 4, PRODUCT_SUMS = 6 }; // 12 of 16 registers

typedef vi vd;

VERB vd vd_begin(int32_t x) { return vi_set1(x); }
VERB int vd_room(int bits) {
    (void)bits;
    return 16;
}
VERB vd vd_dot(vd acc, vq w, int32_t x4, int bits) {
    (void)bits;
    const __m256i x = _mm256_set1_epi32(x4);
    return (vd){_mm256_dpbusd_avx_epi32(acc.a, w.a, x), _mm256_dpbusd_avx_epi32(acc.b, w.b, x)};
}
VERB vd vd_fold(vd acc) { return acc; }
VERB vd vd_join(vd high, vd low) {
    return vi_add((vi){_mm256_slli_epi32(high.a, 4), _mm256_slli_epi32(high.b, 4)}, low);
}
VERB vi vd_end(vd acc) { return acc; }

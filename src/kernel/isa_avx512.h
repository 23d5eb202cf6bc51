// The vocabulary for AVX-512 with VNNI; words as in isa_scalar.h.
#pragma once

#include "kernel/exp_constants.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define VERB static inline __attribute__((always_inline))

enum { TILE_ROWS = 6, TILE_PANELS = 2, VD_ZERO8 = 128 };
enum { PRODUCT_QUERIES = 8, PRODUCT_SUMS = 16 }; // 16 of 32 registers

typedef __m512 vf;
typedef __m512i vi, vq, vd;
typedef uint16_t u16x32 __attribute__((vector_size(64)));

VERB __mmask16 vf_mask_first(uint32_t n) { return (__mmask16)((1u << n) - 1); }

VERB vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VERB void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VERB vf vf_set1(float x) { return _mm512_set1_ps(x); }
VERB vf vf_zero(void) { return _mm512_setzero_ps(); }
VERB vf vf_load_n(const float *p, uint32_t n, float fill) {
    return _mm512_mask_loadu_ps(vf_set1(fill), vf_mask_first(n), p);
}
VERB void vf_store_n(float *p, uint32_t n, vf a) { _mm512_mask_storeu_ps(p, vf_mask_first(n), a); }
VERB vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VERB vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VERB vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VERB vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VERB vf vf_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
VERB vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VERB vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
VERB vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VERB vf vf_where_le(vf a, vf b, vf yes, vf no) { // per lane a <= b ? yes : no; no if either is NaN
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ), no, yes);
}
VERB vf vf_scale2(vf a, vf n) { // adds the low bits of n to the exponent
    __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shifted));
}
VERB float vf_sum_tree(vf a) {
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VERB float vf_max_tree(vf a) {
    __m256 m8 = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
VERB __m512i every_second(int first) {
    __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_add_epi32(even, _mm512_set1_epi32(first));
}
VERB __m512i alternate(int first) {
    __m512i zipped = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_add_epi32(zipped, _mm512_set1_epi32(first));
}
VERB vf vf_even(vf a, vf b) { return _mm512_permutex2var_ps(a, every_second(0), b); }
VERB vf vf_odd(vf a, vf b) { return _mm512_permutex2var_ps(a, every_second(1), b); }
VERB vf vf_zip_low(vf a, vf b) { return _mm512_permutex2var_ps(a, alternate(0), b); }
VERB vf vf_zip_high(vf a, vf b) { return _mm512_permutex2var_ps(a, alternate(8), b); }
VERB vf vf_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
VERB vf vf_load_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
VERB vf vf_load_first(const void *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
VERB vf vf_load_second(const void *p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}
VERB vf vf_round_bf16(vf a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    const __m512i either = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(_mm512_and_si512(either, _mm512_set1_epi32((int)0xffff0000)));
}
VERB void vf_store_f16(void *p, vf a) { _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
VERB void prefetch(const void *p) { _mm_prefetch(p, _MM_HINT_T0); }
VERB void prefetch_second(const void *p) { _mm_prefetch(p, _MM_HINT_T1); }

VERB vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
VERB vi vf_bits(vf a) { return _mm512_castps_si512(a); }
VERB vi vi_load_s8(const void *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(p)); }
VERB void vi_store_s8(int8_t *p, vi a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
VERB vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
VERB vi vi_zero(void) { return _mm512_setzero_si512(); }
VERB vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VERB vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
VERB vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
VERB vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
VERB vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
VERB vi vi_sra4(vi a) { return _mm512_srai_epi32(a, 4); }
VERB int32_t vi_hmax(vi a) { return _mm512_reduce_max_epi32(a); }
VERB int32_t vi_hsum(vi a) { return _mm512_reduce_add_epi32(a); }
VERB vf vi_to_vf(vi a) { return _mm512_cvtepi32_ps(a); }
VERB vi vf_to_vi(vf a) { return _mm512_cvtps_epi32(a); }
VERB vi vi_pair(vi a, vi b) { return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16)); }
VERB vi vi_dot_s16(vi acc, vi a, vi b) { return _mm512_dpwssd_epi32(acc, a, b); }

VERB vq vq_load(const void *p) { return _mm512_loadu_si512(p); }
VERB vq vq_or(vq a, vq b) { return _mm512_or_si512(a, b); }
VERB vq vq_field(vq a, int from, int bits, int to) {
    if (bits == 8) return a;
    u16x32 v = (u16x32)a;
    v = from > to ? v >> (uint16_t)(from - to) : v << (uint16_t)(to - from);
    return _mm512_and_si512((__m512i)v, _mm512_set1_epi8((char)(((1 << bits) - 1) << to)));
}

VERB vd vd_begin(int32_t x) { return _mm512_set1_epi32(x); }
VERB int vd_room(int bits) {
    (void)bits;
    return 16;
}
VERB vd vd_dot(vd acc, vq w, int32_t x, int bits) {
    (void)bits;
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x));
}
VERB vd vd_fold(vd acc) { return acc; }
VERB vd vd_join(vd high, vd low) { return _mm512_add_epi32(_mm512_slli_epi32(high, 4), low); }
VERB vi vd_end(vd acc) { return acc; }

#include "kernel/exp.inc"

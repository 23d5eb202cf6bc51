// What the vocabularies of 256-bit registers share, AVX2 with FMA and F16C: each vector is two of them; words as in
// isa_scalar.h.
#pragma once

#include "kernel/exp_constants.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define VERB static inline __attribute__((always_inline))

typedef struct vf {
    __m256 a, b;
} vf;
typedef struct vi {
    __m256i a, b;
} vi;
typedef vi vq;
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef struct vf_mask {
    __m256i a, b;
} vf_mask;

VERB vf_mask vf_mask_first(uint32_t n) {
    static const int32_t window[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    const __m256i *from = (const __m256i *)(window + 16 - n);
    return (vf_mask){_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
}
VERB __m256 blend(__m256 no, __m256 yes, __m256i mask) { return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(mask)); }

VERB vf vf_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VERB void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
VERB vf vf_set1(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VERB vf vf_zero(void) { return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
VERB vf vf_load_n(const float *p, uint32_t n, float fill) {
    vf_mask m = vf_mask_first(n);
    __m256 other = _mm256_set1_ps(fill);
    return (vf){blend(other, _mm256_maskload_ps(p, m.a), m.a), blend(other, _mm256_maskload_ps(p + 8, m.b), m.b)};
}
VERB void vf_store_n(float *p, uint32_t n, vf x) {
    vf_mask m = vf_mask_first(n);
    _mm256_maskstore_ps(p, m.a, x.a);
    _mm256_maskstore_ps(p + 8, m.b, x.b);
}
VERB vf vf_add(vf x, vf y) { return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
VERB vf vf_sub(vf x, vf y) { return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
VERB vf vf_mul(vf x, vf y) { return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
VERB vf vf_div(vf x, vf y) { return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
VERB vf vf_neg(vf x) {
    return (vf){_mm256_xor_ps(x.a, _mm256_set1_ps(-0.0f)), _mm256_xor_ps(x.b, _mm256_set1_ps(-0.0f))};
}
VERB vf vf_fma(vf x, vf y, vf z) { return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
VERB vf vf_fnma(vf x, vf y, vf z) { return (vf){_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)}; }
VERB vf vf_max(vf x, vf y) { return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
VERB vf vf_where_le(vf x, vf y, vf yes, vf no) { // per lane x <= y ? yes : no; no if either is NaN
    return (vf){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ)),
                _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ))};
}
VERB __m256 add_to_exponent(__m256 x, __m256 n) {
    __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), shifted));
}
VERB vf vf_scale2(vf x, vf n) { return (vf){add_to_exponent(x.a, n.a), add_to_exponent(x.b, n.b)}; } // by low bits of n
VERB float vf_sum_tree(vf x) {
    __m256 s8 = _mm256_add_ps(x.a, x.b);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VERB float vf_max_tree(vf x) {
    __m256 m8 = _mm256_max_ps(x.a, x.b);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
VERB __m256 in_order(__m256 pairs) { // 64-bit quarters 0 2 1 3
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), 0xd8));
}
VERB vf vf_even(vf x, vf y) {
    return (vf){in_order(_mm256_shuffle_ps(x.a, x.b, 0x88)), in_order(_mm256_shuffle_ps(y.a, y.b, 0x88))};
}
VERB vf vf_odd(vf x, vf y) {
    return (vf){in_order(_mm256_shuffle_ps(x.a, x.b, 0xdd)), in_order(_mm256_shuffle_ps(y.a, y.b, 0xdd))};
}
VERB vf zip(__m256 x, __m256 y) {
    __m256 low = _mm256_unpacklo_ps(x, y), high = _mm256_unpackhi_ps(x, y);
    return (vf){_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}
VERB vf vf_zip_low(vf x, vf y) { return zip(x.a, y.a); }
VERB vf vf_zip_high(vf x, vf y) { return zip(x.b, y.b); }
VERB vf vf_load_f16(const void *p) {
    const __m128i *h = p;
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
VERB vf vf_load_bf16(const void *p) {
    const __m128i *h = p;
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(h)), b = _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1));
    return (vf){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
VERB __m256 high_halves(__m256i bits) {
    return _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xffff0000)));
}
VERB vf vf_load_first(const void *p) {
    const __m256i *pairs = p;
    return (vf){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs), 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs + 1), 16))};
}
VERB vf vf_load_second(const void *p) {
    const __m256i *pairs = p;
    return (vf){high_halves(_mm256_loadu_si256(pairs)), high_halves(_mm256_loadu_si256(pairs + 1))};
}
VERB __m256 round_bf16_half(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256 nan = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
    const __m256 either = _mm256_blendv_ps(_mm256_castsi256_ps(up), nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return high_halves(_mm256_castps_si256(either));
}
VERB vf vf_round_bf16(vf x) { return (vf){round_bf16_half(x.a), round_bf16_half(x.b)}; }
VERB void vf_store_f16(void *p, vf x) {
    __m128i *h = p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
VERB void prefetch(const void *p) { _mm_prefetch(p, _MM_HINT_T0); }
VERB void prefetch_second(const void *p) { _mm_prefetch(p, _MM_HINT_T1); }

VERB vi vi_load(const void *p) {
    const __m256i *v = p;
    return (vi){_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
VERB vi vf_bits(vf x) { return (vi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
VERB vi vi_load_s8(const void *p) {
    __m128i bytes = _mm_loadu_si128(p);
    return (vi){_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
}
VERB void vi_store_s8(int8_t *p, vi x) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)p, bytes);
}
VERB vi vi_set1(int32_t x) { return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
VERB vi vi_zero(void) { return (vi){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
VERB vi vi_add(vi x, vi y) { return (vi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
VERB vi vi_sub(vi x, vi y) { return (vi){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
VERB vi vi_mul(vi x, vi y) { return (vi){_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
VERB vi vi_and(vi x, vi y) { return (vi){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
VERB vi vi_max(vi x, vi y) { return (vi){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
VERB vi vi_sra4(vi x) { return (vi){_mm256_srai_epi32(x.a, 4), _mm256_srai_epi32(x.b, 4)}; }
VERB int32_t vi_hmax(vi x) {
    __m256i m8 = _mm256_max_epi32(x.a, x.b);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}
VERB int32_t vi_hsum(vi x) {
    __m256i s8 = _mm256_add_epi32(x.a, x.b);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
VERB vf vi_to_vf(vi x) { return (vf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
VERB vi vf_to_vi(vf x) { return (vi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
VERB vi vi_pair(vi x, vi y) {
    return (vi){_mm256_blend_epi16(x.a, _mm256_slli_epi32(y.a, 16), 0xaa),
                _mm256_blend_epi16(x.b, _mm256_slli_epi32(y.b, 16), 0xaa)};
}
VERB vi vi_dot_s16(vi acc, vi x, vi y) {
    return vi_add(acc, (vi){_mm256_madd_epi16(x.a, y.a), _mm256_madd_epi16(x.b, y.b)});
}

VERB vq vq_load(const void *p) { return vi_load(p); }
VERB vq vq_or(vq x, vq y) { return (vq){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
VERB vq vq_field(vq x, int from, int bits, int to) {
    if (bits == 8) return x;
    u16x16 a = (u16x16)x.a, b = (u16x16)x.b;
    a = from > to ? a >> (uint16_t)(from - to) : a << (uint16_t)(to - from);
    b = from > to ? b >> (uint16_t)(from - to) : b << (uint16_t)(to - from);
    __m256i mask = _mm256_set1_epi8((char)(((1 << bits) - 1) << to));
    return (vq){_mm256_and_si256((__m256i)a, mask), _mm256_and_si256((__m256i)b, mask)};
}

#include "kernel/exp.inc"

// The vocabulary for AVX-512 with VNNI; words as in isa_scalar.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define VERB static inline __attribute__((always_inline))

enum { TILE_ROWS = 6, TILE_PANELS = 2, VD_ZERO8 = 128 };

typedef __m512 vf;
typedef __m512i vi, vq, vd;
typedef uint16_t u16x32 __attribute__((vector_size(64)));

VERB vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VERB void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VERB vf vf_set1(float x) { return _mm512_set1_ps(x); }
VERB vf vf_zero(void) { return _mm512_setzero_ps(); }
VERB vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VERB vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VERB vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
VERB vf vf_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
VERB vf vf_load_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

VERB vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
VERB vi vi_load_s8(const void *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(p)); }
VERB void vi_store_s8(int8_t *p, vi a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
VERB vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
VERB vi vi_zero(void) { return _mm512_setzero_si512(); }
VERB vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VERB vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
VERB vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
VERB vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
VERB vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
VERB vi vi_srl4(vi a) { return _mm512_srli_epi32(a, 4); }
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
VERB vi vd_end(vd acc) { return acc; }
VERB void prefetch(const void *p) { _mm_prefetch(p, _MM_HINT_T0); }

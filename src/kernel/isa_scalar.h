// The vocabulary in plain C: the reference that every other vocabulary equals bit for bit.
//
// vf 16 floats, vi 16 int32, vq one quad of weights (16 rows x 4 unsigned bytes), vd a dot product being summed.
// fmaf of libm is exact on every processor; lrintf rounds to nearest even.
#pragma once

#include "kernel/canon.h"
#include "kernel/kernel.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VERB      static inline __attribute__((always_inline))
#define EACH_LANE for (int i = 0; i < 16; ++i)

// Rows and panels of the largest tile; what vd_dot takes 8-bit quants to be relative to.
enum { TILE_ROWS = 1, TILE_PANELS = 1, VD_ZERO8 = 128 };
enum { PRODUCT_QUERIES = 4, PRODUCT_SUMS = 4 }; // attention.inc: accumulators worth keeping at once

typedef struct vf {
    float v[16];
} vf;

typedef struct vi {
    int32_t v[16];
} vi;
typedef struct vq {
    uint8_t v[64];
} vq;
typedef vi vd;

VERB vf vf_load(const float *p) {
    vf r;
    memcpy(&r, p, sizeof r);
    return r;
}
VERB void vf_store(float *p, vf a) { memcpy(p, &a, sizeof a); }
VERB vf vf_load_n(const float *p, uint32_t n, float fill) { // lanes from n on: fill, their memory is not read
    vf r;
    EACH_LANE r.v[i] = (uint32_t)i < n ? p[i] : fill;
    return r;
}
VERB void vf_store_n(float *p, uint32_t n, vf a) {
    for (uint32_t i = 0; i < n; ++i) p[i] = a.v[i];
}
VERB vf vf_set1(float x) {
    vf r;
    EACH_LANE r.v[i] = x;
    return r;
}
VERB vf vf_zero(void) { return vf_set1(0); }
VERB vf vf_add(vf a, vf b) {
    EACH_LANE a.v[i] += b.v[i];
    return a;
}
VERB vf vf_sub(vf a, vf b) {
    EACH_LANE a.v[i] -= b.v[i];
    return a;
}
VERB vf vf_mul(vf a, vf b) {
    EACH_LANE a.v[i] *= b.v[i];
    return a;
}
VERB vf vf_div(vf a, vf b) {
    EACH_LANE a.v[i] /= b.v[i];
    return a;
}
VERB vf vf_neg(vf a) {
    EACH_LANE a.v[i] = -a.v[i];
    return a;
}
VERB vf vf_fma(vf a, vf b, vf c) { // a*b + c
    EACH_LANE c.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
    return c;
}
VERB vf vf_fnma(vf a, vf b, vf c) { // -(a*b) + c
    EACH_LANE c.v[i] = fmaf(-a.v[i], b.v[i], c.v[i]);
    return c;
}
VERB vf vf_load_bf16(const void *p) {
    vf r;
    for (int i = 0; i < 16; ++i) {
        uint16_t h;
        memcpy(&h, (const char *)p + 2 * i, 2);
        uint32_t bits = (uint32_t)h << 16;
        memcpy(&r.v[i], &bits, 4);
    }
    return r;
}
// Pairs of bfloat16 side by side, 16 of them: the first of each, or the second.
VERB vf vf_load_first(const void *p) {
    vf r;
    for (int i = 0; i < 16; ++i) {
        uint32_t bits;
        memcpy(&bits, (const char *)p + 4 * i, 4);
        bits <<= 16;
        memcpy(&r.v[i], &bits, 4);
    }
    return r;
}
VERB vf vf_load_second(const void *p) {
    vf r;
    for (int i = 0; i < 16; ++i) {
        uint32_t bits;
        memcpy(&bits, (const char *)p + 4 * i, 4);
        bits &= 0xffff0000;
        memcpy(&r.v[i], &bits, 4);
    }
    return r;
}
// To the nearest number that bfloat16 has, ties to even; a NaN stays one.
VERB vf vf_round_bf16(vf a) {
    for (int i = 0; i < 16; ++i) {
        uint32_t bits;
        memcpy(&bits, &a.v[i], 4);
        bits = (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
        bits &= 0xffff0000;
        memcpy(&a.v[i], &bits, 4);
    }
    return a;
}
VERB vf vf_max(vf a, vf b) { // b if either is NaN
    EACH_LANE a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}
VERB float vf_sum_tree(vf a) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; ++i) a.v[i] += a.v[i + n];
    return a.v[0];
}
VERB float vf_max_tree(vf a) { // lane i is max(lane i, lane i + n)
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; ++i) a.v[i] = a.v[i] > a.v[i + n] ? a.v[i] : a.v[i + n];
    return a.v[0];
}
VERB vf vf_even(vf a, vf b) { // a0 a2 .. a14 b0 b2 .. b14
    vf r;
    EACH_LANE r.v[i] = i < 8 ? a.v[2 * i] : b.v[2 * i - 16];
    return r;
}
VERB vf vf_odd(vf a, vf b) { // a1 a3 .. a15 b1 b3 .. b15
    vf r;
    EACH_LANE r.v[i] = i < 8 ? a.v[2 * i + 1] : b.v[2 * i - 15];
    return r;
}
VERB vf vf_zip_low(vf a, vf b) { // a0 b0 .. a7 b7
    vf r;
    EACH_LANE r.v[i] = i % 2 ? b.v[i / 2] : a.v[i / 2];
    return r;
}
VERB vf vf_zip_high(vf a, vf b) { // a8 b8 .. a15 b15
    vf r;
    EACH_LANE r.v[i] = i % 2 ? b.v[8 + i / 2] : a.v[8 + i / 2];
    return r;
}
VERB vf vf_load_f16(const void *p) {
    vf r;
    for (int i = 0; i < 16; ++i) {
        uint16_t h;
        memcpy(&h, (const char *)p + 2 * i, 2);
        r.v[i] = f16_to_f32(h);
    }
    return r;
}
VERB void vf_store_f16(void *p, vf a) {
    for (int i = 0; i < 16; ++i) {
        uint16_t h = f32_to_f16(a.v[i]);
        memcpy((char *)p + 2 * i, &h, 2);
    }
}
VERB vf vf_exp(vf a) {
    EACH_LANE a.v[i] = canon_exp(a.v[i]);
    return a;
}
VERB vf vf_exp_down(vf a) { return vf_exp(a); }       // of what is not above 0
VERB void prefetch(const void *p) { (void)p; }        // into the first cache
VERB void prefetch_second(const void *p) { (void)p; } // into the second

VERB vi vi_load(const void *p) {
    vi r;
    memcpy(&r, p, sizeof r);
    return r;
}
VERB vi vf_bits(vf a) {
    vi r;
    memcpy(&r, &a, sizeof r);
    return r;
}
VERB vi vi_load_s8(const void *p) {
    vi r;
    EACH_LANE r.v[i] = ((const int8_t *)p)[i];
    return r;
}
VERB void vi_store_s8(int8_t *p, vi a) { EACH_LANE p[i] = (int8_t)a.v[i]; }
VERB vi vi_set1(int32_t x) {
    vi r;
    EACH_LANE r.v[i] = x;
    return r;
}
VERB vi vi_zero(void) { return vi_set1(0); }
// Sums may leave 32 bits on their way as long as they come back: arithmetic is modulo 2^32, as in the registers.
VERB vi vi_add(vi a, vi b) {
    EACH_LANE a.v[i] = (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i]);
    return a;
}
VERB vi vi_sub(vi a, vi b) {
    EACH_LANE a.v[i] = (int32_t)((uint32_t)a.v[i] - (uint32_t)b.v[i]);
    return a;
}
VERB vi vi_mul(vi a, vi b) {
    EACH_LANE a.v[i] = (int32_t)((uint32_t)a.v[i] * (uint32_t)b.v[i]);
    return a;
}
VERB vi vi_and(vi a, vi b) {
    EACH_LANE a.v[i] &= b.v[i];
    return a;
}
VERB vi vi_max(vi a, vi b) {
    EACH_LANE a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}
VERB vi vi_sra4(vi a) {
    EACH_LANE a.v[i] >>= 4;
    return a;
}
VERB int32_t vi_hmax(vi a) {
    int32_t top = a.v[0];
    EACH_LANE top = a.v[i] > top ? a.v[i] : top;
    return top;
}
VERB int32_t vi_hsum(vi a) {
    int32_t sum = 0;
    EACH_LANE sum += a.v[i];
    return sum;
}
VERB vf vi_to_vf(vi a) {
    vf r;
    EACH_LANE r.v[i] = (float)a.v[i];
    return r;
}
VERB vi vf_to_vi(vf a) { // to nearest even
    vi r;
    EACH_LANE r.v[i] = (int32_t)lrintf(a.v[i]);
    return r;
}
// Lanes of two 16-bit numbers: the low halves of a below those of b.
VERB vi vi_pair(vi a, vi b) {
    EACH_LANE a.v[i] = (int32_t)((uint32_t)(uint16_t)a.v[i] | (uint32_t)b.v[i] << 16);
    return a;
}
// acc + a.low * b.low + a.high * b.high, halves signed.
VERB vi vi_dot_s16(vi acc, vi a, vi b) {
    vi dot;
    EACH_LANE dot.v[i] = (int16_t)a.v[i] * (int16_t)b.v[i] + (a.v[i] >> 16) * (b.v[i] >> 16);
    return vi_add(acc, dot);
}

VERB vq vq_load(const void *p) {
    vq r;
    memcpy(&r, p, sizeof r);
    return r;
}
VERB vq vq_or(vq a, vq b) {
    for (int i = 0; i < 64; ++i) a.v[i] |= b.v[i];
    return a;
}
// The `bits`-wide field at bit `from` of every byte, moved to bit `to`.
VERB vq vq_field(vq a, int from, int bits, int to) {
    for (int i = 0; i < 64; ++i) a.v[i] = (uint8_t)((a.v[i] >> from & ((1 << bits) - 1)) << to);
    return a;
}

VERB vd vd_begin(int32_t x) { return vi_set1(x); }
// Quads of b-bit quants that may be summed between folds.
VERB int vd_room(int bits) {
    (void)bits;
    return 16;
}
// acc + for each row: its 4 unsigned quants (of `bits` bits) times the 4 signed bytes of x.
VERB vd vd_dot(vd acc, vq w, int32_t x, int bits) {
    (void)bits;
    int8_t s[4];
    memcpy(s, &x, 4);
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 4; ++j) acc.v[i] += w.v[4 * i + j] * s[j];
    return acc;
}
VERB vd vd_fold(vd acc) { return acc; }
VERB vd vd_join(vd high, vd low) { // 16 * high + low, the halves of wide activations, both folded
    EACH_LANE high.v[i] = 16 * high.v[i] + low.v[i];
    return high;
}
VERB vi vd_end(vd acc) { return acc; }

// The vocabulary in plain C: the reference that every other vocabulary equals bit for bit.
//
// vf is 16 floats. fmaf of libm is exact on every processor. The f16 conversions are those of VCVTPH2PS and VCVTPS2PH:
// round to nearest even, denormal halves kept whatever the float mode, NaN quieted with its payload.
#pragma once

#include "kernel/canon.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VERB      static inline __attribute__((always_inline))
#define EACH_LANE for (int i = 0; i < 16; ++i)

enum { PRODUCT_QUERIES = 4, PRODUCT_SUMS = 4 }; // attention.inc: accumulators worth keeping at once

typedef struct vf {
    float v[16];
} vf;

static inline float vs_f16_to_f32(uint16_t h) {
    uint32_t exponent = h >> 10 & 31, mantissa = h & 0x3ff, bits;
    float magnitude = (float)mantissa * 0x1p-24f; // a denormal half, as a normal float
    memcpy(&bits, &magnitude, 4);
    if (exponent == 31)
        bits = 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0);
    else if (exponent > 0)
        bits = (exponent + 112) << 23 | mantissa << 13;
    bits |= (uint32_t)(h & 0x8000) << 16;
    memcpy(&magnitude, &bits, 4);
    return magnitude;
}
static inline uint16_t vs_f32_to_f16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // 65520 is half-way to the first value past the largest
    if (a >= 0x38800000) return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13));
    float sum = fabsf(f) + 0.5f; // its last bit is worth 2^-24, the smallest half
    memcpy(&a, &sum, 4);
    return (uint16_t)(sign | (a - 0x3f000000));
}

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
        r.v[i] = vs_f16_to_f32(h);
    }
    return r;
}
VERB void vf_store_f16(void *p, vf a) {
    for (int i = 0; i < 16; ++i) {
        uint16_t h = vs_f32_to_f16(a.v[i]);
        memcpy((char *)p + 2 * i, &h, 2);
    }
}
VERB vf vf_exp(vf a) {
    EACH_LANE a.v[i] = canon_exp(a.v[i]);
    return a;
}
VERB void prefetch(const void *p) { (void)p; }

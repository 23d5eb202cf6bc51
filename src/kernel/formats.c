// Reference decode: GGUF blocks to integers, integers to floats, bit-equal to the `gguf` Python package.
//
// Block structures: ggml's ggml-common.h as described by the gguf package's quants.py. Pure functions, any thread.
// The products and sums below round where the package rounds; -ffp-contract=off keeps them so.
#include "kernel/format.h"

#include <string.h>

static const format formats[] = {
#define X(name, ...) [GGUF_##name] = {GGUF_##name, __VA_ARGS__},
    FORMATS(X)
#undef X
};

static const struct {
    uint32_t elems, bytes;
} blocks[] = {
#define X(name, id, n_elems, n_bytes) [id] = {n_elems, n_bytes},
    GGUF_TYPES(X)
#undef X
};

const format *format_find(uint32_t type) {
    if (type >= sizeof formats / sizeof *formats || !formats[type].low_bits) return NULL;
    return &formats[type];
}

bool weight_type_supported(uint32_t type) { return format_find(type) != NULL; }

uint32_t format_block_bytes(uint32_t type) { return blocks[type].bytes; }

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude > 0x7c00) return float_of(sign | 0x7fc00000 | magnitude << 13); // NaN: quiet, payload kept
    if (magnitude == 0x7c00) return float_of(sign | 0x7f800000);
    if (magnitude < 0x0400) return float_of(bits_of((float)magnitude * 0x1p-24f) | sign);
    return float_of(sign | ((magnitude << 13) + (112u << 23)));
}

uint16_t f32_to_f16(float f) {
    uint32_t bits = bits_of(f), magnitude = bits & 0x7fffffff;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
    if (magnitude >= 0x47800000) return sign | 0x7c00;
    // Below 2^-14 the result is a multiple of 2^-24: adding 0.5, whose last bit is worth just that, rounds to it.
    if (magnitude < 0x38800000) return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

float bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }

static uint16_t read16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

// Adds one plane of n quants to b->q, shifted left by `to`.
static inline __attribute__((always_inline)) void read_plane(quants *b, int n, const uint8_t *src, int width, int bits,
                                                             int to) {
    uint8_t *q = b->q;
    for (; q < b->q + n; src += width)
        for (int shift = 0; shift < 8; shift += bits)
            for (int i = 0; i < width; ++i) *q++ |= (uint8_t)((src[i] >> shift & ((1 << bits) - 1)) << to);
}

// Sixteen 6-bit sub-scales in 12 bytes: low nibbles in 8 bytes, then the two high bits of each in 4.
static void read_subs_q3(quants *b, const uint8_t *s) {
    for (int j = 0; j < 16; ++j) {
        int low = s[j % 8] >> 4 * (j / 8) & 15, high = s[8 + j % 4] >> 2 * (j / 4) & 3;
        b->sub[j] = (int8_t)((low | high << 4) - 32);
    }
}

// Eight 6-bit sub-scales and mins in 12 bytes: the first four of each whole, with the high bits of the last four above.
static void read_subs_q45(quants *b, const uint8_t *s) {
    for (int j = 0; j < 4; ++j) {
        b->sub[j] = s[j] & 63;
        b->min[j] = s[4 + j] & 63;
        b->sub[4 + j] = (int8_t)((s[8 + j] & 15) | (s[j] >> 2 & 48));
        b->min[4 + j] = (uint8_t)(s[8 + j] >> 4 | (s[4 + j] >> 2 & 48));
    }
}

static void read_subs(format f, const uint8_t *s, quants *b) {
    if (f.sub == 32) {
        read_subs_q45(b, s);
    } else if (f.min == MIN_NIBBLE) {
        for (int j = 0; j < 16; ++j) {
            b->sub[j] = s[j] & 15;
            b->min[j] = s[j] >> 4;
        }
    } else if (f.type == GGUF_Q3_K) {
        read_subs_q3(b, s);
    } else {
        memcpy(b->sub, s, 16);
    }
}

static inline __attribute__((always_inline)) void read_block(const format f, const uint8_t *block, quants *b) {
    int n = format_block(f);
    b->d = read16(block + f.d_at);
    b->m = f.min ? read16(block + f.m_at) : 0;
    if (f.sub) read_subs(f, block + f.sub_at, b);
    memset(b->q, 0, (size_t)n);
    read_plane(b, n, block + f.low_at, f.low_width, f.low_bits, 0);
    if (f.high_bits) read_plane(b, n, block + f.high_at, f.high_width, f.high_bits, f.low_bits);
    if (f.low_bits == 8)
        for (int i = 0; i < n; ++i) b->q[i] ^= 128; // signed in the file
}

void quants_read(uint32_t type, const uint8_t *block, quants *b) {
    switch (type) { // constants fold: loading a model takes a third of the time
#define X(name, group, ...)                                                                                            \
    case GGUF_##name:                                                                                                  \
        if (group != ACT_F32) read_block((format){GGUF_##name, group, __VA_ARGS__}, block, b);                         \
        break;
        FORMATS(X)
#undef X
    }
}

void quants_decode(format f, const quants *b, float *out) {
    float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
    for (int i = 0; i < format_block(f); ++i) {
        float q = (float)(b->q[i] - f.zero);
        if (!f.sub) {
            out[i] = f.min ? d * q + m : d * q;
            continue;
        }
        float scaled = (d * (float)b->sub[i / f.sub]) * q;
        out[i] = f.min ? scaled - m * (float)b->min[i / f.sub] : scaled;
    }
}

static void decode_floats(uint32_t type, const uint8_t *src, size_t n, float *out) {
    if (type == GGUF_F32) memcpy(out, src, n * 4);
    if (type == GGUF_F16)
        for (size_t i = 0; i < n; ++i) out[i] = f16_to_f32(read16(src + 2 * i));
    if (type == GGUF_BF16)
        for (size_t i = 0; i < n; ++i) out[i] = bf16_to_f32(read16(src + 2 * i));
}

void weight_decode(uint32_t type, const void *src, size_t n, float *out) {
    const format *f = format_find(type);
    check(f && n % (size_t)format_block(*f) == 0);
    const uint8_t *block = src;
    if (f->group == ACT_F32) {
        decode_floats(type, block, n, out);
        return;
    }
    for (size_t i = 0; i < n; i += (size_t)format_block(*f), block += format_block_bytes(type)) {
        quants b;
        quants_read(type, block, &b);
        quants_decode(*f, &b, out + i);
    }
}

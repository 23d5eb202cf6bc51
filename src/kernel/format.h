// Weight formats: one row of constants per format, from which reading, packing and multiplying are all derived.
//
// A quantised format is planes of bits: the low bits of every quant, and for some formats a plane of high bits. In the
// file a plane is a run of `width` bytes of 8/bits fields each: byte i holds quants i, i + width, i + 2*width, ...
// Packed (pack.c) the same holds with quads in place of bytes. Quants are unsigned here; `zero` is subtracted from
// them. Private to src/kernel.
#pragma once

#include "gguf/gguf.h"
#include "kernel/kernel.h"

enum { MIN_NONE, MIN_OWN, MIN_NIBBLE }; // MIN_NIBBLE: a byte holds the sub-scale and above it the min

// X(NAME, group, low bits, high bits, zero, weights per sub-scale (0: none), min,
//   offsets in the file's block: d, m, sub-scales, low plane, its width, high plane, its width)
#define FORMATS(X)                                                                                                     \
    X(F32, ACT_F32, 32, 0, 0, 0, MIN_NONE, 0, 0, 0, 0, 0, 0, 0)                                                        \
    X(F16, ACT_F32, 16, 0, 0, 0, MIN_NONE, 0, 0, 0, 0, 0, 0, 0)                                                        \
    X(BF16, ACT_F32, 16, 0, 0, 0, MIN_NONE, 0, 0, 0, 0, 0, 0, 0)                                                       \
    X(Q4_0, ACT_C32, 4, 0, 8, 0, MIN_NONE, 0, 0, 0, 2, 16, 0, 0)                                                       \
    X(Q4_1, ACT_C32, 4, 0, 0, 0, MIN_OWN, 0, 2, 0, 4, 16, 0, 0)                                                        \
    X(Q5_0, ACT_C32, 4, 1, 16, 0, MIN_NONE, 0, 0, 0, 6, 16, 2, 1)                                                      \
    X(Q5_1, ACT_C32, 4, 1, 0, 0, MIN_OWN, 0, 2, 0, 8, 16, 4, 1)                                                        \
    X(Q8_0, ACT_C32, 8, 0, 128, 0, MIN_NONE, 0, 0, 0, 2, 32, 0, 0)                                                     \
    X(Q2_K, ACT_C256, 2, 0, 0, 16, MIN_NIBBLE, 80, 82, 0, 16, 32, 0, 0)                                                \
    X(Q3_K, ACT_C256, 2, 1, 4, 16, MIN_NONE, 108, 0, 96, 32, 32, 0, 32)                                                \
    X(Q4_K, ACT_C32, 4, 0, 0, 32, MIN_OWN, 0, 2, 4, 16, 32, 0, 0)                                                      \
    X(Q5_K, ACT_C32, 4, 1, 0, 32, MIN_OWN, 0, 2, 4, 48, 32, 16, 32)                                                    \
    X(Q6_K, ACT_C256, 4, 2, 32, 16, MIN_NONE, 208, 0, 192, 0, 64, 128, 32)

typedef struct format {
    uint32_t type; // gguf_type
    act_group group;
    int low_bits, high_bits, zero, sub, min;
    int d_at, m_at, sub_at, low_at, low_width, high_at, high_width;
} format;

// The packed layout; see pack.c.
static inline int format_block(format f) { return f.group == ACT_F32 ? 1 : f.sub ? 256 : 32; }
static inline int format_record_k(format f) { return f.group == ACT_F32 ? 1 : f.sub ? 256 : 64; }
static inline int format_chunk_quads(format f) { return f.sub == 16 ? 16 : 8; }
static inline int format_chunk_bytes(format f) { return format_chunk_quads(f) * 8 * (f.low_bits + f.high_bits); }
static inline int format_n_chunks(format f) { return format_record_k(f) / (4 * format_chunk_quads(f)); }
static inline int format_header_bytes(format f) {
    if (!f.sub) return f.min ? 128 : 64;
    return 64 + 16 * (256 / f.sub) * (f.min == MIN_OWN ? 2 : 1);
}
static inline int format_record_bytes(format f) {
    if (f.group == ACT_F32) return 16 * f.low_bits / 8;
    return format_header_bytes(f) + format_n_chunks(f) * format_chunk_bytes(f);
}

const format *format_find(uint32_t type); // NULL if the type is not supported

// One block of one row, as integers.
typedef struct quants {
    uint16_t d, m;  // f16
    int8_t sub[16]; // sub-scales and mins: [256 / f.sub]
    uint8_t min[16];
    uint8_t q[256]; // [format_block]
} quants;

void quants_read(uint32_t type, const uint8_t *block, quants *b);
void quants_decode(format f, const quants *b, float *out);
uint32_t format_block_bytes(uint32_t type); // in the file

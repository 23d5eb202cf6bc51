// Kernels: all arithmetic of the engine, as one table of entry points per instruction set.
//
// Canonical arithmetic: every table gives the same bits for the same input, whatever the instruction set, the number of
// rows in the batch or the split over threads; `memcmp` is the test. Rules, once:
//   - fma is always explicit; one accumulator per output element; k ascending.
//   - Float mode: round to nearest even, FTZ and DAZ set in every thread that calls in (threads_set_float_mode).
//   - Matmul vectors run over output rows (16 lanes = 16 rows = one panel). Sums over a row (norms, softmax sums) run
//   in
//     16 lanes, element i in lane i % 16, then the tree lane j += lane j+8, +4, +2, +1.
//   - No libm below this line except sqrtf (correctly rounded); exp, sin, cos, log are our own (canon.h, mathd.h).
// Kernels own nothing and allocate nothing. Buffers are 64-byte aligned and padded to 16 floats a row.
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef enum isa { ISA_SCALAR, ISA_AVX2, ISA_AVXVNNI, ISA_AVX512, ISA_AMX, ISA_COUNT } isa;

// ---- weights -----------------------------------------------------------------------------------------------------

// How activations meet a weight format.
typedef enum act_group {
    ACT_F32 = 0,  // F32, F16, BF16: f32 activations, fma over k ascending
    ACT_C32 = 1,  // Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K: integer activations with a scale per 32
    ACT_C256 = 2, // Q2_K Q3_K Q6_K: integer activations with a scale per 256
} act_group;

// A matrix of `rows` output rows by `cols` inputs, packed: panels of 16 output rows, k ascending, lossless.
// Rows past the end of the last panel are zero weights. The layouts are drawn in pack.c.
typedef struct weight {
    uint32_t type; // gguf_type
    act_group group;
    uint32_t rows, cols;
    uint32_t n_panels;  // ceil(rows / 16)
    size_t panel_bytes; // multiple of 64
    uint8_t *data;      // [n_panels][panel_bytes], 64-byte aligned
} weight;

// True if the type can be computed with (F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K).
bool weight_type_supported(uint32_t type);
// Fills everything but data. cols must be a multiple of the type's block; check()ed.
weight weight_shape(uint32_t type, uint32_t rows, uint32_t cols);
size_t weight_bytes(const weight *w); // n_panels * panel_bytes
// Packs source rows into panels [first, first + n_panels): `src` is the whole GGUF matrix, row-major rows of blocks.
void weight_pack(const weight *w, const void *src, uint32_t first_panel, uint32_t n_panels);
// Row r as floats, bit-equal to weight_decode of the GGUF row. out: [cols].
void weight_row(const weight *w, uint32_t r, float *out);

// Reference decode of n elements (a multiple of the block) of a GGUF row, bit-equal to the `gguf` Python package.
void weight_decode(uint32_t type, const void *src, size_t n, float *out);

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); // round to nearest even, like VCVTPS2PH
float bf16_to_f32(uint16_t h);

// ---- activations -------------------------------------------------------------------------------------------------

// m rows of k activations, in the form that one act_group wants: groups of consecutive ones in whole steps of a scale,
// q = 16*high + low with low in 0..15.
//   C32   per 32: v = x rounded to bfloat16; scale = the least power of two with max |v| <= 2032*scale;
//         q = rne(v/scale). sum = Σq, ssum = scale * (float)sum.
//   C256  per 256: scale = amax/2032, q = rne(x * (2032/amax)). sum16 = Σq of each 16; sum_parts: the same once more as
//         two bfloat16, the low byte and above it the rest, a multiple of 256
// A group whose scale would be denormal (C32: below 2^-74) is all zero. One that holds a value that is not finite (C32:
// or of 2^65 and more) has scale NaN and q = 0: the NaN reaches every output. What the bits are for: docs/accuracy.md.
//
// Acts are of the table that quantised them: AMX keeps tiles of 8 and 16 rows of C32 as bfloat16 q*scale*2^52 (why:
// matmul_amx_c32.inc), exact since each q has at most 8 significant bits: of each four the first, third, second,
// fourth. Of scale and sum these tiles have nothing.
//
// Up to 4 rows lie together, up to 8 in a tile of 8, more in tiles of 16, so that a tile's share of one group is
// contiguous, whatever k is: group g of row r is number (r/tile * k/group + g) * tile + r%tile. The last tile may be
// partly used.
typedef struct acts {
    act_group group;
    uint32_t m, k;
    const float *f; // F32: borrowed rows [m][f_stride]
    size_t f_stride;
    int8_t *q;           // [groups][2][32 or 256]: high halves, then low ones. AMX: as above, [groups][32]
    float *scale;        // [groups]
    int32_t *sum;        // C32: [groups]
    float *ssum;         // C32: [groups]
    int16_t *sum16;      // C256: [groups][16]
    uint32_t *sum_parts; // C256: [groups][16]: two bfloat16 whose sum is sum16
} acts;

enum { ACT_TILE_ROWS = 16 };

static inline uint32_t acts_tile_rows(uint32_t m) {
    return m <= ACT_TILE_ROWS / 4 ? m : m <= ACT_TILE_ROWS / 2 ? ACT_TILE_ROWS / 2 : ACT_TILE_ROWS;
}
static inline uint32_t act_group_size(act_group group) { return group == ACT_C32 ? 32 : group == ACT_C256 ? 256 : 1; }
// Where group 0 of a row is; the row's next one is acts_tile_rows further on.
static inline size_t acts_group_at(const acts *a, uint32_t row) {
    uint32_t tile = acts_tile_rows(a->m);
    return (size_t)(row / tile) * (a->k / act_group_size(a->group)) * tile + row % tile;
}

// Rows [first, first + n) as acts of their own: first a multiple of ACT_TILE_ROWS, n more than half of it.
acts acts_rows(const acts *a, uint32_t first, uint32_t n);
size_t acts_bytes(act_group group, uint32_t m, uint32_t k); // enough for fewer rows, too
// Lays the arrays out in `memory` (acts_bytes of it, 64-byte aligned). For ACT_F32 memory may be NULL; set f, f_stride.
acts acts_init(act_group group, uint32_t m, uint32_t k, void *memory);

// ---- attention ---------------------------------------------------------------------------------------------------

enum {
    KV_PAGE_TOKENS = 32,   // tokens per KV page
    ATTN_BLOCK = 256,      // keys per softmax block; blocks start at multiples of it, absolutely
    ATTN_MAX_QUERIES = 32, // query vectors per attn_block call
};

// What the cache holds of K and V. One page of one layer and kv head, groups = ceil(head_dim/32):
//   bf16  K [KV_PAGE_TOKENS/16][head_dim/2][16 tokens][2] bfloat16, then V [KV_PAGE_TOKENS/2][head_dim][2 tokens].
//   f16   K [KV_PAGE_TOKENS/16][head_dim][16 tokens] f16, then V [KV_PAGE_TOKENS][head_dim] f16.
//   q8_0  K and V in the same places as int8 q, then the f16 scales of K [KV_PAGE_TOKENS/16][groups][16 tokens] and of
//         V [groups][KV_PAGE_TOKENS]. A token's vector is cut into groups of 32 (the last of head_dim % 32, if any):
//         d = f16(amax/127);  q = rne(x/d), within [-127, 127];  it stands for d*q, which a float holds exactly.
//         A group with d = 0 is all zero. One with a non-finite value, or d beyond f16, has d NaN.
typedef enum kv_type { KV_BF16, KV_F16, KV_Q8_0, KV_TYPE_COUNT } kv_type;

const char *kv_type_name(kv_type type); // "bf16", "f16", "q8_0"
bool kv_type_parse(const char *name, kv_type *out);
size_t kv_head_bytes(kv_type type, uint32_t head_dim); // a multiple of 64

// Keys [block * ATTN_BLOCK, ...) of one kv head against n_q query vectors (already scaled by 1/sqrt(head_dim)).
// For query i only the first n_keys[i] keys of the block count (0..ATTN_BLOCK; 0: max -inf, sum 0, out 0).
// with k and v as the page holds them:
//   s_t = fma over d ascending of q[d]*k[t][d];  max = max s_t;  p_t = exp(s_t - max)
//   sum = Σ p_t (16 lanes by t % 16, then the tree);  out[d] = fma over t ascending of p_t*v[t][d]
// bf16: q and p_t are rounded to bfloat16 before they are multiplied (sum has the p_t as they were), and each 32 terms,
// from terms 0, 32, .. of the block on, are summed as TDPBF16PS sums them (Intel SDM 2):
//   even = fma over terms 0, 2, .. from 0;  odd = fma over terms 1, 3, .. from 0;  s_t or out[d] += even + odd;  last,
//   out[d] += 0
typedef struct attn_job {
    kv_type kv_type;
    uint32_t n_q, head_dim; // head_dim a multiple of 16
    const float *q[ATTN_MAX_QUERIES];
    uint32_t n_keys[ATTN_MAX_QUERIES];
    const uint8_t *pages[ATTN_BLOCK / KV_PAGE_TOKENS]; // this layer and head inside each page; only as many as needed
    const uint8_t *after;                              // the first page of the next job, to be fetched, or null
    float *max, *sum;                                  // [n_q]
    float *out;                                        // [n_q][head_dim]
} attn_job;

// ---- the table ---------------------------------------------------------------------------------------------------

typedef struct kernels {
    isa isa;
    const char *name; // "scalar", "avx2", "avxvnni", "avx512", "amx"

    // Quantises groups [first, first + n) of row `row` of a; x is where the first of them begins. For ACT_F32 nothing
    // is to be done and it must not be called.
    void (*quantise)(acts *a, uint32_t row, uint32_t first, uint32_t n, const float *x);
    // The 16 outputs of each panel in [panel0, panel0 + n_panels), for every row of a. out is [a->m][out_stride] and
    // has panel0's at its beginning; out_stride >= 16 * n_panels: padding columns are written (zeros).
    void (*matmul)(const weight *w, const acts *a, uint32_t panel0, uint32_t n_panels, float *out, size_t out_stride);
    // out[i] = (x[i] * r) * w[i], r = 1 / sqrtf(Σx²/n + eps). n need not be a multiple of 16. out may be x.
    void (*rmsnorm)(const float *x, const float *w, float eps, uint32_t n, float *out);
    // x[i] += y[i]
    void (*add)(float *x, const float *y, uint32_t n);
    // x[i] *= s
    void (*scale)(float *x, float s, uint32_t n);
    // out[i] = (gate[i] / (1 + exp(-gate[i]))) * up[i]
    void (*silu_mul)(const float *gate, const float *up, uint32_t n, float *out);
    // Rotates n_heads vectors of head_dim in place; first n_rot dimensions only. cs: [n_rot/2][2] cos, sin.
    // neox: pairs (i, i + n_rot/2); otherwise (2i, 2i + 1).
    // (a, b) -> (a*c - b*s, a*s + b*c) as fma(a, c, -(b*s)), fma(a, s, b*c).
    void (*rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cs, bool neox);
    // Stores the key, or the value, of one token (slot = position % KV_PAGE_TOKENS) of one head into its page.
    void (*kv_store_key)(kv_type type, uint8_t *head_page, uint32_t slot, uint32_t head_dim, const float *k);
    void (*kv_store_value)(kv_type type, uint8_t *head_page, uint32_t slot, uint32_t head_dim, const float *v);
    void (*attn_block)(const attn_job *job);
    // Joins n_blocks partial results, blocks ascending: M = max of max; w_b = exp(max_b - M); L = Σ fma(sum_b, w_b);
    // out[d] = (Σ fma(out_b[d], w_b)) / L. Blocks with max -inf count nothing. max, sum: [n_blocks] with `stride`
    // floats between blocks; part: [n_blocks] vectors of head_dim, part_stride floats apart.
    void (*attn_merge)(uint32_t n_blocks, uint32_t head_dim, const float *max, const float *sum, size_t stride,
                       const float *part, size_t part_stride, float *out);
    // Largest value and the lowest index that holds it; *finite = false if any of the n values is not finite.
    uint32_t (*argmax)(const float *x, uint32_t n, bool *finite);
} kernels;

bool isa_available(isa which); // on this processor
const char *isa_name(isa which);
bool isa_parse(const char *name, isa *out);
const kernels *kernels_get(isa which); // check()s that it is available
const kernels *kernels_best(void);     // the widest this processor has

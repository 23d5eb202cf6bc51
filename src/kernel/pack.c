// Packed weights: 16 output rows interleaved, so that a vector's lanes are output rows and k ascends in memory.
//
//   panel   records, k ascending: 64 k of a 32-wide format each (the last may be half used), 256 k of a K format
//   record  header, then chunks
//   header  32-wide: f16 d[2 blocks][16]; with mins f16 m[2 blocks][16]
//           K: f16 d[16], f16 m[16] (unused without mins), s8 sub[256/sub][16]; with own mins u8 min[256/sub][16]
//   chunk   8 quads (32 k), or 16 quads (64 k) where sub-scales span 16: the low plane, then the high plane
//   quad    64 bytes, [16 rows][4 k]: what a VNNI instruction takes. A plane folds 8/bits quads into one vector:
//           of its n = quads*bits/8 vectors, vector g % n holds quad g, shifted left by bits * (g / n)
//   F32, F16, BF16: [k][16 rows]
//
// Lossless: every bit of the block is kept (Q8_0 unsigned, + 128). Rows past the last are zero bits.
// Borrows source and destination; distinct panels may be packed by distinct threads.
#include "kernel/format.h"

#include <string.h>

#define FOLD static inline __attribute__((always_inline))

weight weight_shape(uint32_t type, uint32_t rows, uint32_t cols) {
    const format *f = format_find(type);
    check(f && cols % (uint32_t)format_block(*f) == 0);
    size_t record_k = (size_t)format_record_k(*f), n_records = (cols + record_k - 1) / record_k;
    size_t panel_bytes = n_records * (size_t)format_record_bytes(*f);
    return (weight){.type = type,
                    .group = f->group,
                    .rows = rows,
                    .cols = cols,
                    .n_panels = (rows + 15) / 16,
                    .panel_bytes = (panel_bytes + 63) & ~(size_t)63};
}

size_t weight_bytes(const weight *w) { return w->n_panels * w->panel_bytes; }

// Where the parts of block b of a row lie in its panel.
typedef struct place {
    uint8_t *d, *m, *sub, *min; // of this lane; the next sub-scale is 16 bytes on
    uint8_t *chunk;             // first quad word of this lane in the block's first chunk
    int n_chunks;
} place;

FOLD place place_of(const format f, uint8_t *panel, size_t b, uint32_t lane) {
    if (!f.sub) {
        uint8_t *record = panel + b / 2 * (size_t)format_record_bytes(f);
        uint8_t *d = record + 32 * (b % 2) + 2 * lane;
        uint8_t *chunk = record + format_header_bytes(f) + b % 2 * (size_t)format_chunk_bytes(f);
        return (place){.d = d, .m = d + 64, .chunk = chunk + 4 * lane, .n_chunks = 1};
    }
    uint8_t *record = panel + b * (size_t)format_record_bytes(f);
    return (place){.d = record + 2 * lane,
                   .m = record + 32 + 2 * lane,
                   .sub = record + 64 + lane,
                   .min = record + 64 + 16 * (256 / f.sub) + lane,
                   .chunk = record + format_header_bytes(f) + 4 * lane,
                   .n_chunks = format_n_chunks(f)};
}

// One plane of one row's chunk. A word is four consecutive k; fields never cross a byte, so words fold like bytes.
FOLD void put_plane(uint8_t *words, const uint8_t *q, int quads, int bits, int from) {
    int n = quads * bits / 8;
    uint32_t mask = ((1u << bits) - 1) * 0x01010101u;
    for (int v = 0; v < n; ++v) {
        uint32_t word = 0, four;
        for (int t = 0; t * bits < 8; ++t) {
            memcpy(&four, q + 4 * (v + n * t), 4);
            word |= (four >> from & mask) << (bits * t);
        }
        memcpy(words + 64 * v, &word, 4);
    }
}

static void get_plane(const uint8_t *words, uint8_t *q, int quads, int bits, int to) {
    int n = quads * bits / 8;
    uint32_t mask = ((1u << bits) - 1) * 0x01010101u;
    for (int g = 0; g < quads; ++g) {
        uint32_t word, four;
        memcpy(&word, words + 64 * (g % n), 4);
        memcpy(&four, q + 4 * g, 4);
        four |= (word >> (bits * (g / n)) & mask) << to;
        memcpy(q + 4 * g, &four, 4);
    }
}

FOLD void put_block(const format f, place at, const quants *b) {
    memcpy(at.d, &b->d, 2);
    if (f.min) memcpy(at.m, &b->m, 2);
    for (int j = 0; f.sub && j < 256 / f.sub; ++j) {
        at.sub[16 * j] = (uint8_t)b->sub[j];
        if (f.min == MIN_NIBBLE) at.sub[16 * j] |= (uint8_t)(b->min[j] << 4);
        if (f.min == MIN_OWN) at.min[16 * j] = b->min[j];
    }
    int quads = format_chunk_quads(f);
    for (int c = 0; c < at.n_chunks; ++c, at.chunk += format_chunk_bytes(f)) {
        const uint8_t *q = b->q + 4 * quads * c;
        put_plane(at.chunk, q, quads, f.low_bits, 0);
        if (f.high_bits) put_plane(at.chunk + 8 * quads * f.low_bits, q, quads, f.high_bits, f.low_bits);
    }
}

static void get_block(format f, place at, quants *b) {
    memset(b, 0, sizeof *b);
    memcpy(&b->d, at.d, 2);
    if (f.min) memcpy(&b->m, at.m, 2);
    for (int j = 0; f.sub && j < 256 / f.sub; ++j) {
        uint8_t sub = at.sub[16 * j];
        b->sub[j] = (int8_t)(f.min == MIN_NIBBLE ? sub & 15 : sub);
        b->min[j] = f.min == MIN_OWN ? at.min[16 * j] : sub >> 4;
    }
    int quads = format_chunk_quads(f);
    for (int c = 0; c < at.n_chunks; ++c, at.chunk += format_chunk_bytes(f)) {
        uint8_t *q = b->q + 4 * quads * c;
        get_plane(at.chunk, q, quads, f.low_bits, 0);
        if (f.high_bits) get_plane(at.chunk + 8 * quads * f.low_bits, q, quads, f.high_bits, f.low_bits);
    }
}

FOLD void pack_row(const format f, uint8_t *panel, uint32_t lane, const uint8_t *src, size_t cols) {
    if (f.group == ACT_F32) {
        size_t n_bytes = (size_t)f.low_bits / 8;
        for (size_t k = 0; k < cols; ++k) memcpy(panel + (16 * k + lane) * n_bytes, src + k * n_bytes, n_bytes);
        return;
    }
    size_t n_blocks = cols / (size_t)format_block(f);
    for (size_t i = 0; i < n_blocks; ++i, src += format_block_bytes(f.type)) {
        quants b;
        quants_read(f.type, src, &b);
        put_block(f, place_of(f, panel, i, lane), &b);
    }
}

FOLD void pack_panels(const format f, const weight *w, const uint8_t *src, uint32_t first_panel, uint32_t n_panels) {
    size_t row_bytes = w->cols / (size_t)format_block(f) * format_block_bytes(f.type);
    for (uint32_t p = first_panel; p < first_panel + n_panels; ++p) {
        uint8_t *panel = w->data + p * w->panel_bytes;
        memset(panel, 0, w->panel_bytes);
        for (uint32_t lane = 0; lane < 16 && 16 * p + lane < w->rows; ++lane)
            pack_row(f, panel, lane, src + (16 * (size_t)p + lane) * row_bytes, w->cols);
    }
}

void weight_pack(const weight *w, const void *src, uint32_t first_panel, uint32_t n_panels) {
    check(first_panel + n_panels <= w->n_panels);
    switch (w->type) {
#define X(name, ...)                                                                                                   \
    case GGUF_##name:                                                                                                  \
        pack_panels((format){GGUF_##name, __VA_ARGS__}, w, src, first_panel, n_panels);                                \
        break;
        FORMATS(X)
#undef X
    }
}

void weight_row(const weight *w, uint32_t r, float *out) {
    check(r < w->rows);
    format f = *format_find(w->type);
    uint8_t *panel = w->data + r / 16 * w->panel_bytes;
    if (f.group == ACT_F32) {
        size_t n_bytes = (size_t)f.low_bits / 8;
        for (size_t k = 0; k < w->cols; ++k) weight_decode(w->type, panel + (16 * k + r % 16) * n_bytes, 1, out + k);
        return;
    }
    size_t block = (size_t)format_block(f);
    for (size_t i = 0; i < w->cols / block; ++i) {
        quants b;
        get_block(f, place_of(f, panel, i, r % 16), &b);
        quants_decode(f, &b, out + i * block);
    }
}

// The canonical matmul: every instruction set, batch and split gives the same bits, and they are the right ones.
#include "gguf/gguf.h"
#include "kernel/format.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#include <cmocka.h>

static const uint32_t types[] = {
#define X(name, ...) GGUF_##name,
    FORMATS(X)
#undef X
};
enum { N_TYPES = sizeof types / sizeof *types };

// The tables this processor can run; [0] is the scalar one.
static const kernels *tables[ISA_COUNT];
static int n_tables = 1;

static uint64_t seed = 1;

static uint32_t random_bits(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static float random_normal(void) { // near enough
    float sum = 0;
    for (int i = 0; i < 6; ++i) sum += (float)random_bits() * 0x1p-32f;
    return (sum - 3) * 1.414f;
}

static void *take(size_t n_bytes) {
    void *p = aligned_alloc(64, (n_bytes + 63) & ~(size_t)63);
    assert_non_null(p);
    return p;
}

static void put_half(uint8_t *p, float x) {
    uint16_t h = f32_to_f16(x);
    memcpy(p, &h, 2);
}

// A matrix as in a file: random quants, scales of the usual size.
static uint8_t *random_matrix(uint32_t type, uint32_t rows, uint32_t cols) {
    format f = *format_find(type);
    size_t n_blocks = (size_t)rows * cols / (size_t)format_block(f), n_bytes = n_blocks * format_block_bytes(type);
    uint8_t *src = take(n_bytes);
    for (size_t i = 0; i < n_bytes; ++i) src[i] = (uint8_t)random_bits();
    for (size_t i = 0; i < n_blocks; ++i) {
        uint8_t *block = src + i * format_block_bytes(type);
        float x = 0.02f * random_normal();
        if (type == GGUF_F32) memcpy(block, &x, 4);
        if (type == GGUF_F16) put_half(block, x);
        if (type == GGUF_BF16) memcpy(block, (char *)&x + 2, 2);
        if (f.group == ACT_F32) continue;
        put_half(block + f.d_at, x / (f.sub ? 300 : 8));
        if (f.min) put_half(block + f.m_at, 0.02f * random_normal() / (f.sub ? 32 : 1));
    }
    return src;
}

static weight pack(uint32_t type, uint32_t rows, uint32_t cols, const uint8_t *src) {
    weight w = weight_shape(type, rows, cols);
    w.data = take(weight_bytes(&w));
    weight_pack(&w, src, 0, w.n_panels);
    return w;
}

static weight random_weight(uint32_t type, uint32_t rows, uint32_t cols) {
    uint8_t *src = random_matrix(type, rows, cols);
    weight w = pack(type, rows, cols, src);
    free(src);
    return w;
}

static float *random_rows(uint32_t m, uint32_t k) {
    float *x = take((size_t)m * k * 4);
    for (size_t i = 0; i < (size_t)m * k; ++i) x[i] = random_normal() * (random_bits() % 400 ? 1 : 30);
    return x;
}

typedef struct batch {
    acts a;
    void *memory;
} batch;

static batch quantised(const kernels *t, act_group group, uint32_t m, uint32_t k, const float *x) {
    batch b = {.memory = take(acts_bytes(group, m, k) + 64)};
    memset(b.memory, 0x80, acts_bytes(group, m, k)); // unused rows of tiles may be anything
    b.a = acts_init(group, m, k, b.memory);
    b.a.f = x;
    b.a.f_stride = k;
    const uint32_t size = act_group_size(group), n = k / size;
    for (uint32_t r = 0; group != ACT_F32 && r < m; ++r) // as many at once as the row's number says
        for (uint32_t g = 0, most = 1 + r % 9; g < n; g += most)
            t->quantise(&b.a, r, g, n - g < most ? n - g : most, x + (size_t)r * k + (size_t)g * size);
    return b;
}

// The whole product, [m][16 * n_panels].
static float *product(const kernels *t, const weight *w, const float *x, uint32_t m) {
    batch b = quantised(t, w->group, m, w->cols, x);
    float *out = take((size_t)m * w->n_panels * 64);
    t->matmul(w, &b.a, 0, w->n_panels, out, w->n_panels * 16);
    free(b.memory);
    return out;
}

static const char *name_of(uint32_t type) {
    static const char *const names[] = {
#define X(name, ...) [GGUF_##name] = #name,
        FORMATS(X)
#undef X
    };
    return names[type];
}

static void assert_same(const float *a, const float *b, size_t n, uint32_t type, const char *what) {
    for (size_t i = 0; i < n; ++i)
        if (memcmp(a + i, b + i, 4)) fail_msg("%s: %s: [%zu] %a != %a", name_of(type), what, i, a[i], b[i]);
}

static void test_instruction_sets_agree(void **state) {
    (void)state;
    static const uint32_t cols_of[][5] = {[ACT_F32] = {1, 7, 576, 1536, 2048},
                                          [ACT_C32] = {32, 96, 576, 1536, 2048},
                                          [ACT_C256] = {256, 768, 1280, 1536, 2048}};
    static const uint32_t row_counts[] = {1, 2, 9, 5, 13, 8, 16, 33};
    for (int i = 0; i < N_TYPES; ++i)
        for (int j = 0; j < 5; ++j) {
            weight w = random_weight(types[i], j % 2 ? 37 : 64,
                                     cols_of[format_find(types[i])->sub ? ACT_C256 : format_find(types[i])->group][j]);
            uint32_t m = row_counts[(i * 5 + j) % 8];
            float *x = random_rows(m, w.cols), *reference = product(tables[0], &w, x, m);
            for (int t = 1; t < n_tables; ++t) {
                float *out = product(tables[t], &w, x, m);
                assert_same(out, reference, (size_t)m * w.n_panels * 16, w.type, tables[t]->name);
                free(out);
            }
            for (uint32_t r = 0; r < m; ++r)
                for (uint32_t n = w.rows; n < 16 * w.n_panels; ++n)
                    assert_true(reference[r * 16 * w.n_panels + n] == 0);
            free(x), free(reference), free(w.data);
        }
}

// Rows of a batch of 512 alone, in small batches and in parts; panels in two calls as two threads would.
static void test_batch_and_split_do_not_matter(void **state) {
    (void)state;
    enum { M = 512, PANELS = 5, STRIDE = PANELS * 16 };
    static const uint32_t parts[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 23, 32, 64};
    for (int t = n_tables - 1; t >= (n_tables > 1); --t)
        for (int i = 0; i < N_TYPES; ++i) {
            weight w = random_weight(types[i], 16 * PANELS, format_block(*format_find(types[i])) == 32 ? 96 : 256);
            float *x = random_rows(M, w.cols), *whole = product(tables[t], &w, x, M), *out = take(M * STRIDE * 4);
            for (size_t p = 0, row = 0; p < sizeof parts / sizeof *parts; row += parts[p++]) {
                float *part = product(tables[t], &w, x + row * w.cols, parts[p]);
                assert_same(part, whole + row * STRIDE, parts[p] * STRIDE, w.type, "small batch");
                free(part);
            }
            batch b = quantised(tables[t], w.group, M, w.cols, x);
            memset(out, 0xff, M * STRIDE * 4);
            tables[t]->matmul(&w, &b.a, 3, 2, out + 3 * 16, STRIDE);
            for (int n = 0; n < 3 * 16; ++n) assert_true(isnan(out[99 * STRIDE + n]));
            tables[t]->matmul(&w, &b.a, 0, 3, out, STRIDE);
            assert_same(out, whole, M * STRIDE, w.type, "split");
            free(x), free(whole), free(out), free(b.memory), free(w.data);
        }
}

// Slices of k, patches of rows and panels, and what is left of each: every row as alone.
static void assert_rows_are_as_alone(const kernels *t, uint32_t type, uint32_t m, uint32_t n_panels) {
    const uint32_t cols = format_find(type)->sub ? 4096 + 256 : 4096 + 256 + 32, stride = 16 * n_panels;
    weight w = random_weight(type, stride, cols);
    float *x = random_rows(m, cols), *whole = product(t, &w, x, m);
    const uint32_t looked_at[] = {0, m / 4, m / 2, m - 1};
    for (size_t r = 0; r < sizeof looked_at / sizeof *looked_at; ++r) {
        float *alone = product(t, &w, x + looked_at[r] * cols, 1);
        assert_same(whole + looked_at[r] * stride, alone, stride, type, "as alone");
        free(alone);
    }
    free(x), free(whole), free(w.data);
}

static void test_slices_and_patches_do_not_matter(void **state) {
    (void)state;
    static const struct {
        uint32_t m, n_panels;
    } shapes[] = {{256, 3}, {16, 11}, {9, 8}, {17, 5}, {32, 4}, {48, 6}, {61, 1}, {272, 2}, {8, 9}, {5, 3}};
    for (int t = n_tables - 1; t >= (n_tables > 1); --t)
        for (int i = 0; i < N_TYPES; ++i)
            for (size_t j = 0; j < sizeof shapes / sizeof *shapes; ++j)
                if (j < 2 || tables[t]->isa == ISA_AMX)
                    assert_rows_are_as_alone(tables[t], types[i], shapes[j].m, shapes[j].n_panels);
}

// Where group k / size of row r lies.
static size_t group_of(const acts *a, uint32_t r, uint32_t k) {
    return acts_group_at(a, r) + k / act_group_size(a->group) * acts_tile_rows(a->m);
}

// Quantised activation k of row r, put together again.
static int whole_of(const acts *a, uint32_t r, uint32_t k) {
    uint32_t size = act_group_size(a->group);
    const int8_t *q = a->q + 2 * size * group_of(a, r, k) + k % size;
    return 16 * q[0] + q[size];
}

// The same of a row as AMX keeps it.
static float bf16_of(const acts *a, uint32_t r, uint32_t k) {
    static const uint8_t place[] = {0, 2, 1, 3};
    uint16_t bits;
    memcpy(&bits, a->q + 64 * group_of(a, r, k) + 2 * (k % 32 / 4 * 4 + place[k % 4]), 2);
    return bf16_to_f32(bits) * 0x1p-52f;
}

// What one block of a row of the file, whose activations are from k on, adds: C32, of a K format eight times 32.
static float add_c32(format f, const quants *b, const acts *a, uint32_t k, float acc) {
    for (uint32_t j = 0; j < (uint32_t)format_block(f) / 32; ++j) {
        const float d = f16_to_f32(b->d) * (f.sub ? (float)b->sub[j] : 1),
                    m = f16_to_f32(b->m) * (f.sub ? -(float)b->min[j] : 1);
        int sum = 0;
        for (uint32_t i = 32 * j; i < 32 * j + 32; ++i) sum += (b->q[i] - f.zero) * whole_of(a, 0, k + i);
        acc = fmaf((float)sum * a->scale[k / 32 + j], d, acc);
        if (f.min) acc = fmaf(m, a->ssum[k / 32 + j], acc);
    }
    return acc;
}

static float add_c256(format f, const quants *b, const acts *a, uint32_t k, float acc) {
    int sum = 0, mins = 0;
    for (uint32_t i = 0; i < 256; ++i) {
        sum += (b->q[i] - f.zero) * whole_of(a, 0, k + i) * b->sub[i / (uint32_t)f.sub];
        if (f.min) mins += b->min[i / (uint32_t)f.sub] * whole_of(a, 0, k + i);
    }
    acc = fmaf((float)sum, f16_to_f32(b->d) * a->scale[k / 256], acc);
    return f.min ? fmaf((float)mins, -(f16_to_f32(b->m) * a->scale[k / 256]), acc) : acc;
}

// One output by the definition at the head of matmul.inc, word for word, from a row of the file.
static float canonical(format f, const uint8_t *src, const acts *a) {
    float acc = 0;
    uint32_t n = (uint32_t)format_block(f);
    for (uint32_t k = 0; k < a->k; k += n, src += format_block_bytes(f.type)) {
        float w;
        quants b;
        if (f.group == ACT_F32)
            weight_decode(f.type, src, 1, &w);
        else
            quants_read(f.type, src, &b);
        acc = f.group == ACT_F32   ? fmaf(w, a->f[k], acc)
              : f.group == ACT_C32 ? add_c32(f, &b, a, k, acc)
                                   : add_c256(f, &b, a, k, acc);
    }
    return acc;
}

static void test_bits_are_canonical(void **state) {
    (void)state;
    enum { ROWS = 33, COLS = 1536 };
    for (int i = 0; i < N_TYPES; ++i) {
        format f = *format_find(types[i]);
        uint8_t *src = random_matrix(f.type, ROWS, COLS);
        weight w = pack(f.type, ROWS, COLS, src);
        float *x = random_rows(1, COLS), *out = product(tables[0], &w, x, 1), expected[ROWS];
        batch b = quantised(tables[0], f.group, 1, COLS, x);
        for (size_t r = 0; r < ROWS; ++r)
            expected[r] = canonical(f, src + r * (COLS / (size_t)format_block(f)) * format_block_bytes(f.type), &b.a);
        assert_same(out, expected, ROWS, f.type, "canonical");
        free(src), free(w.data), free(x), free(out), free(b.memory);
    }
}

// Activation k of row r as the kernels see it.
static double activation(const acts *a, uint32_t r, uint32_t k) {
    if (a->group == ACT_F32) return a->f[r * a->f_stride + k];
    return (double)whole_of(a, r, k) * a->scale[group_of(a, r, k)];
}

static void test_equals_dot_in_double(void **state) {
    (void)state;
    enum { ROWS = 35, M = 3, COLS = 1536 };
    for (int i = 0; i < N_TYPES; ++i) {
        uint8_t *src = random_matrix(types[i], ROWS, COLS);
        weight w = pack(types[i], ROWS, COLS, src);
        float *x = random_rows(M, COLS), *out = product(tables[n_tables - 1], &w, x, M), *row = take(COLS * 4);
        batch b = quantised(tables[0], w.group, M, COLS, x);
        size_t row_bytes = COLS / (size_t)format_block(*format_find(w.type)) * format_block_bytes(w.type);
        for (uint32_t n = 0; n < ROWS; ++n) {
            weight_decode(w.type, src + n * row_bytes, COLS, row);
            for (uint32_t r = 0; r < M; ++r) {
                double sum = 0, magnitude = 0;
                for (uint32_t k = 0; k < COLS; ++k) {
                    double product = row[k] * activation(&b.a, r, k);
                    sum += product;
                    magnitude += fabs(product);
                }
                assert_true(fabs(sum - out[r * w.n_panels * 16 + n]) <= 2e-6 * magnitude);
            }
        }
        free(src), free(x), free(out), free(row), free(b.memory), free(w.data);
    }
}

static void assert_bf16_agrees(const acts *amx, const acts *reference) {
    for (uint32_t r = 0; r < amx->m; ++r)
        for (uint32_t k = 0; k < amx->k; ++k) {
            const float value = (float)whole_of(reference, r, k) * reference->scale[group_of(reference, r, k)],
                        got = bf16_of(amx, r, k);
            assert_true(isnan(value) ? isnan(got) : got == value);
            const float ssum = reference->ssum[group_of(reference, r, k)], got_ssum = amx->ssum[group_of(amx, r, k)];
            assert_true(isnan(ssum) ? isnan(got_ssum) : memcmp(&ssum, &got_ssum, 4) == 0);
        }
}

static void test_quantise_agrees(void **state) {
    (void)state;
    enum { M = 12, K = 2048 };
    float *x = random_rows(M, K);
    for (int k = 0; k < K; ++k) {
        x[1 * K + k] = k % 7 ? 0 : -0.0f;
        x[2 * K + k] *= FLT_MIN; // denormals, and values whose reciprocal overflows
        x[3 * K + k] *= 40 * FLT_MIN;
        x[4 * K + k] *= FLT_MAX / 200;
        x[5 * K + k] = (float)(k % 255 - 127) + 0.5f; // ties
        // about C32's ends
        x[10 * K + k] = ldexpf(x[10 * K + k], k / 32 % 2 ? 58 + k / 64 % 10 : -70 + k / 64 % 10);
        x[11 * K + k] *= k < 128 ? 0x1p-80f : 1;
    }
    x[11 * K + 1] = 0x1.fcp-65f, x[11 * K + 33] = -0x1.fep-65f; // and at them: nothing, the smallest, the largest, NaN
    x[11 * K + 65] = -0x1.fep64f, x[11 * K + 97] = 0x1.ffp64f;
    x[6 * K + 40] = INFINITY;
    x[7 * K + 2047] = NAN;
    x[8 * K + 300] = -INFINITY;
    x[9 * K + 5] = -NAN;
    for (act_group group = ACT_C32; group <= ACT_C256; ++group) {
        const size_t n_bytes = acts_bytes(group, M, K);
        batch reference = quantised(tables[0], group, M, K, x);
        for (int t = 1; t < n_tables; ++t) {
            batch b = quantised(tables[t], group, M, K, x);
            if (tables[t]->isa == ISA_AMX && group == ACT_C32) {
                assert_bf16_agrees(&b.a, &reference.a);
            } else {
                assert_memory_equal(b.memory, reference.memory, n_bytes);
            }
            free(b.memory);
        }
        free(reference.memory);
    }
    free(x);
}

static float smallest_scale(act_group group) { return group == ACT_C32 ? 0x1p-74f : FLT_MIN; }

// Groups of row 0: 0 and 5 are random, 1 is zero, 2 would have too small a scale, 3 the smallest one, 4 holds a NaN.
static float *groups_of_all_kinds(act_group group, uint32_t n) {
    const float steps = group == ACT_C32 ? 1024 : 2032, smallest = smallest_scale(group);
    float *x = random_rows(1, 6 * n);
    for (uint32_t i = 0; i < n; ++i) {
        x[1 * n + i] = 0;
        x[2 * n + i] = (steps - 27) * smallest;
        x[3 * n + i] = steps * smallest;
    }
    x[4 * n + 3] = NAN;
    return x;
}

// How far the activation that x became may be from it: half a step; C32, and half of the last place of bfloat16.
static float tolerance(act_group group, float x, float scale) {
    return 0.501f * scale + (group == ACT_C32 ? fabsf(x) * 0x1p-8f : 0);
}

static void assert_sums(const acts *a) {
    const uint32_t span = a->group == ACT_C32 ? 32 : 16;
    for (uint32_t i = 0, sum = 0; i < a->k; ++i) {
        sum += (uint32_t)whole_of(a, 0, i);
        if ((i + 1) % span) continue;
        if (a->group == ACT_C256) {
            const uint32_t parts = a->sum_parts[i / 16];
            assert_int_equal(a->sum16[i / 16], (int)sum);
            assert_true(bf16_to_f32((uint16_t)parts) == (float)(sum & 255));
            assert_true(bf16_to_f32((uint16_t)(parts >> 16)) == (float)(int)(sum & ~255u));
        } else {
            assert_int_equal(a->sum[i / 32], (int)sum);
            if (i / 32 == 4)
                assert_true(isnan(a->ssum[4]));
            else
                assert_true(a->ssum[i / 32] == a->scale[i / 32] * (float)(int)sum);
        }
        sum = 0;
    }
}

static void test_quantise_means_what_it_says(void **state) {
    (void)state;
    for (act_group group = ACT_C32; group <= ACT_C256; ++group) {
        uint32_t n = group == ACT_C32 ? 32 : 256, k = 6 * n, scale_bits;
        float *x = groups_of_all_kinds(group, n);
        batch b = quantised(tables[0], group, 1, k, x);
        memcpy(&scale_bits, &b.a.scale[4], 4);
        assert_int_equal(scale_bits, 0x7fc00000);
        assert_true(b.a.scale[1] == 0 && b.a.scale[2] == 0 && b.a.scale[3] == smallest_scale(group));
        for (uint32_t i = 0; i < k; ++i) {
            uint32_t g = i / n;
            if (g == 1 || g == 2 || g == 4) assert_int_equal(whole_of(&b.a, 0, i), 0);
            if (g == 3) assert_int_equal(whole_of(&b.a, 0, i), group == ACT_C32 ? 1024 : 2032);
            if (g != 0 && g != 5) continue;
            assert_true(fabsf((float)whole_of(&b.a, 0, i) * b.a.scale[g] - x[i]) <=
                        tolerance(group, x[i], b.a.scale[g]));
        }
        assert_sums(&b.a);
        free(x), free(b.memory);
    }
}

// C32: the largest is of 1020 to 2032 steps, the step is a power of two, eight bits are significant;
// what is not representable counts as not finite.
static void test_steps_are_powers_of_two(void **state) {
    (void)state;
    enum { N = 4096 };
    float *x = random_rows(1, 32 * N);
    for (int i = 0; i < 32 * N; ++i) x[i] = ldexpf(x[i], i / 32 % 120 - 60);
    x[32 * (N - 1)] = 0x1.fep64f, x[32 * (N - 2)] = -0x1.ffp64f, x[0] = 0x1.fep60f;
    batch b = quantised(tables[0], ACT_C32, 1, 32 * N, x);
    for (int g = 0; g < N - 2; ++g) {
        int most = 0, exponent;
        assert_true(frexpf(b.a.scale[g], &exponent) == 0.5f);
        for (uint32_t i = 0; i < 32; ++i) {
            int q = abs(whole_of(&b.a, 0, 32 * (uint32_t)g + i)), odd = q;
            while (odd && odd % 2 == 0) odd /= 2;
            assert_true(odd < 256);
            if (q > most) most = q;
        }
        assert_true(most >= 1020 && most <= 2032);
    }
    assert_true(isfinite(b.a.scale[N - 1]) && isnan(b.a.scale[N - 2]));
    free(x), free(b.memory);
}

// The extremes of every integer: saturation anywhere would show. The weights' scales are 1. Every fourth row has large
// odd sums, which a float has to round, once. Activations are of common size, or the largest or smallest of C32.
static void test_extreme_quants(void **state) {
    (void)state;
    enum { COLS = 512, ROWS = 32, M = 12 };
    for (int i = 0; i < N_TYPES; ++i) {
        format f = *format_find(types[i]);
        if (f.group == ACT_F32) continue;
        for (int pattern = 0; pattern < 4; ++pattern) {
            size_t n_blocks = ROWS * COLS / (size_t)format_block(f), block_bytes = format_block_bytes(f.type);
            uint8_t *src = take(n_blocks * block_bytes);
            memset(src, pattern % 3 == 0 ? 0xff : pattern == 1 ? 0 : 0x80, n_blocks * block_bytes);
            for (size_t b = 0; b < n_blocks; ++b) {
                if (pattern == 3 && f.sub) memset(src + b * block_bytes + 16, 0, block_bytes - 16); // mins alone
                put_half(src + b * block_bytes + f.d_at, 1);
                if (f.min) put_half(src + b * block_bytes + f.m_at, 1);
            }
            weight w = pack(f.type, ROWS, COLS, src);
            float *x = take(M * COLS * 4);
            for (int k = 0; k < M * COLS; ++k) {
                const float kinds[] = {1, -1, k % 2 ? 1 : -1, 1 - 0.1f * (float)random_bits() * 0x1p-32f};
                const float sizes[] = {1, 0x1p64f, 0x1p-64f};
                x[k] = 0x1.fcp0f * kinds[k / COLS % 4] * sizes[k / COLS % 3]; // 2032 steps of 2^-10 times that
            }
            float *reference = product(tables[0], &w, x, M);
            for (int t = 1; t < n_tables; ++t) {
                float *out = product(tables[t], &w, x, M);
                assert_same(out, reference, M * ROWS, f.type, "extremes");
                free(out);
            }
            free(src), free(w.data), free(x), free(reference);
        }
    }
}

static void test_nan_stays_in_its_row(void **state) {
    (void)state;
    enum { M = 7, COLS = 512, ROWS = 48 };
    for (int i = 0; i < N_TYPES; ++i)
        for (int t = 0; t < n_tables; ++t) {
            weight w = random_weight(types[i], ROWS, COLS);
            float *x = random_rows(M, COLS), *clean = product(tables[t], &w, x, M);
            x[2 * COLS + 300] = t ? NAN : INFINITY;
            float *out = product(tables[t], &w, x, M);
            for (int n = 0; n < ROWS; ++n) assert_false(isfinite(out[2 * ROWS + n]));
            assert_same(out, clean, 2 * ROWS, w.type, "rows before");
            assert_same(out + 3 * ROWS, clean + 3 * ROWS, 4 * ROWS, w.type, "rows after");
            free(x), free(clean), free(out), free(w.data);
        }
}

// Every half and every bfloat times one: the conversions of the vector units are those of the reference.
static void test_all_halves(void **state) {
    (void)state;
    for (int i = 0; i < 2; ++i) {
        uint32_t type = i ? GGUF_BF16 : GGUF_F16;
        uint16_t *src = take(65536 * 2);
        for (uint32_t h = 0; h < 65536; ++h) src[h] = (uint16_t)h;
        weight w = pack(type, 65536, 1, (const uint8_t *)src);
        float one = 1, *reference = product(tables[0], &w, &one, 1);
        for (int t = 1; t < n_tables; ++t) {
            float *out = product(tables[t], &w, &one, 1);
            assert_same(out, reference, 65536, type, "halves");
            free(out);
        }
        free(src), free(w.data), free(reference);
    }
}

int main(void) {
    _mm_setcsr(_mm_getcsr() | 0x8040); // FTZ and DAZ, as in every worker
    n_tables = 0;
    for (isa i = ISA_SCALAR; i < ISA_COUNT; i++)
        if (isa_available(i)) tables[n_tables++] = kernels_get(i);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_instruction_sets_agree),
        cmocka_unit_test(test_batch_and_split_do_not_matter),
        cmocka_unit_test(test_slices_and_patches_do_not_matter),
        cmocka_unit_test(test_bits_are_canonical),
        cmocka_unit_test(test_equals_dot_in_double),
        cmocka_unit_test(test_quantise_agrees),
        cmocka_unit_test(test_quantise_means_what_it_says),
        cmocka_unit_test(test_extreme_quants),
        cmocka_unit_test(test_nan_stays_in_its_row),
        cmocka_unit_test(test_all_halves),
        cmocka_unit_test(test_steps_are_powers_of_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

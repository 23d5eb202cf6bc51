// Weight formats: decode equals the gguf package (tests/data/formats.bin), packing loses nothing, halves convert
// exactly.
#include "gguf/gguf.h"
#include "kernel/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_FORMATS = 13 };

typedef struct vectors {
    uint32_t type, n, n_bytes;
    uint8_t *data;
    float *decoded;
} vectors;

static vectors all[N_FORMATS];

static int load_vectors(void **state) {
    (void)state;
    FILE *file = fopen(RF_TEST_DATA "/formats.bin", "rb");
    if (!file) return -1;
    for (int i = 0; i < N_FORMATS; ++i) {
        vectors *v = &all[i];
        if (fread(v, 4, 3, file) != 3) return -1;
        v->data = malloc(v->n_bytes);
        v->decoded = malloc(v->n * 4);
        if (fread(v->data, 1, v->n_bytes, file) != v->n_bytes) return -1;
        if (fread(v->decoded, 4, v->n, file) != v->n) return -1;
    }
    return fclose(file);
}

static int free_vectors(void **state) {
    (void)state;
    for (int i = 0; i < N_FORMATS; ++i) {
        free(all[i].data);
        free(all[i].decoded);
    }
    return 0;
}

static void test_decode_equals_gguf(void **state) {
    (void)state;
    for (int i = 0; i < N_FORMATS; ++i) {
        const vectors *v = &all[i];
        float *out = malloc(v->n * 4);
        assert_true(weight_type_supported(v->type));
        weight_decode(v->type, v->data, v->n, out);
        assert_memory_equal(out, v->decoded, v->n * 4);
        free(out);
    }
}

static void test_only_these_types(void **state) {
    (void)state;
    int n = 0;
    for (uint32_t type = 0; type < 1000; ++type) n += weight_type_supported(type);
    assert_int_equal(n, N_FORMATS);
}

// Rows are the vectors, shifted by one block from row to row, so that no two rows and no two blocks of a row are alike.
static void test_pack_is_lossless(void **state) {
    (void)state;
    enum { ROWS = 37 };
    for (int i = 0; i < N_FORMATS; ++i) {
        const vectors *v = &all[i];
        uint32_t n_blocks = v->n_bytes == v->n * 4 || v->n_bytes == v->n * 2 ? 64 : 8;
        uint32_t block_bytes = v->n_bytes / n_blocks, block = v->n / n_blocks, used = n_blocks - 1, cols = used * block;
        uint8_t *src = malloc((size_t)ROWS * used * block_bytes), *at = src;
        for (uint32_t r = 0; r < ROWS; ++r)
            for (uint32_t b = 0; b < used; ++b, at += block_bytes)
                memcpy(at, v->data + (r + b) % n_blocks * block_bytes, block_bytes);
        weight w = weight_shape(v->type, ROWS, cols);
        assert_int_equal(w.n_panels, 3);
        assert_int_equal(w.panel_bytes % 64, 0);
        w.data = aligned_alloc(64, weight_bytes(&w));
        memset(w.data, 0xa5, weight_bytes(&w));
        weight_pack(&w, src, 2, 1);
        weight_pack(&w, src, 0, 2);
        float *row = malloc(cols * 4), *expected = malloc(cols * 4);
        for (uint32_t r = 0; r < ROWS; ++r) {
            weight_row(&w, r, row);
            weight_decode(v->type, src + (size_t)r * used * block_bytes, cols, expected);
            assert_memory_equal(row, expected, cols * 4);
        }
        free(row), free(expected), free(src), free(w.data);
    }
}

static void test_halves(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; ++h) {
        float low = f16_to_f32((uint16_t)h), high = h == 0x7bff ? 65536 : f16_to_f32((uint16_t)(h + 1));
        assert_true(low == ldexpf((float)(h < 1024 ? h : 1024 + h % 1024), h < 1024 ? -24 : (int)(h >> 10) - 25));
        float middle = low + (high - low) / 2;
        assert_int_equal(f32_to_f16(low), h);
        assert_int_equal(f32_to_f16(-low), h | 0x8000);
        assert_int_equal(f32_to_f16(middle), h + (h & 1));
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(f32_to_f16(-nextafterf(middle, 1e9f)), (h + 1) | 0x8000);
    }
    assert_true(f16_to_f32(0x7c00) == INFINITY && f16_to_f32(0xfc00) == -INFINITY && isnan(f16_to_f32(0x7e00)));
    assert_int_equal(f32_to_f16(1e9f), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(NAN), 0x7e00);
    assert_true(bf16_to_f32(0x3f80) == 1 && bf16_to_f32(0xc000) == -2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_equals_gguf),
        cmocka_unit_test(test_only_these_types),
        cmocka_unit_test(test_pack_is_lossless),
        cmocka_unit_test(test_halves),
    };
    return cmocka_run_group_tests(tests, load_vectors, free_vectors);
}

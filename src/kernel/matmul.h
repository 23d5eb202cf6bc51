// The matmul half of a kernel table: one constant per instruction set. Signatures and meaning as in struct kernels.
// A table may only be called on a processor that has its instruction set. Private to src/kernel and its tests.
#pragma once

#include "kernel/kernel.h"

typedef struct matmul_table {
    void (*quantise)(acts *a, uint32_t row, const float *x);
    void (*matmul)(const weight *w, const acts *a, uint32_t row0, uint32_t n_rows, uint32_t panel0, uint32_t n_panels,
                   float *out, size_t out_stride);
} matmul_table;

extern const matmul_table matmul_scalar, matmul_avx2, matmul_avx512;

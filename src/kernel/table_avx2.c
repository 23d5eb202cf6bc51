// The kernel table for the vocabulary of isa_avx2.h; compiled with that instruction set's flags, and nothing else is.
#include "kernel/isa_avx2.h"
#include "kernel/table.inc"

const kernels kernels_avx2 = KERNEL_TABLE(ISA_AVX2, "avx2", quantise, matmul, attn_block);

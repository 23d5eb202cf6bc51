// The kernel table for the vocabulary of isa_avx512.h; compiled with that instruction set's flags, and nothing else is.
#include "kernel/isa_avx512.h"
#include "kernel/table.inc"

const kernels kernels_avx512 = KERNEL_TABLE(ISA_AVX512, "avx512");

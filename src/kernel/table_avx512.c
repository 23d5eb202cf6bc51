// The kernel tables for the vocabulary of isa_avx512.h; compiled with that instruction set's flags, and nothing else
// is. AMX is the same but for products of many rows and attention.
#include "kernel/isa_avx512.h"
#include "kernel/table.inc"

#include "kernel/amx.h"

#include "kernel/attention_amx.inc"
#include "kernel/matmul_amx.inc"

const kernels kernels_avx512 = KERNEL_TABLE(ISA_AVX512, "avx512", quantise, matmul, attn_block);
const kernels kernels_amx = KERNEL_TABLE(ISA_AMX, "amx", quantise_amx, matmul_amx, attn_block_amx);

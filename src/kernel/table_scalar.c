// The kernel table for the vocabulary of isa_scalar.h: baseline x86-64, the reference of the others.
#include "kernel/isa_scalar.h"
#include "kernel/table.inc"

const kernels kernels_scalar = KERNEL_TABLE(ISA_SCALAR, "scalar", quantise, matmul, attn_block);

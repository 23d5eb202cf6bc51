// The kernel table for the vocabulary of isa_avxvnni.h; compiled with that instruction set's flags, and nothing else
// is.
#include "kernel/isa_avxvnni.h"
#include "kernel/table.inc"

const kernels kernels_avxvnni = KERNEL_TABLE(ISA_AVXVNNI, "avxvnni", quantise, matmul, attn_block);

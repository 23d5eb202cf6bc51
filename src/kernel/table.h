// The tables of kernel.c, one per table_<isa>.c: each unit speaks the operations in its own vocabulary.
// A table may only be called on a processor that has its instruction set: ask kernels_get.
#pragma once

#include "kernel/kernel.h"

extern const kernels kernels_scalar, kernels_avx2, kernels_avxvnni, kernels_avx512, kernels_amx;

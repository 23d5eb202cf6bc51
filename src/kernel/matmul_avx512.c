// matmul.inc spoken in isa_avx512.h.
#include "kernel/format.h"
#include "kernel/isa_avx512.h"
#include "kernel/matmul.h"

#include <string.h>

#include "kernel/formats.inc"
#include "kernel/matmul.inc"

const matmul_table matmul_avx512 = {quantise, matmul};

// matmul.inc spoken in isa_scalar.h.
#include "kernel/format.h"
#include "kernel/isa_scalar.h"
#include "kernel/matmul.h"

#include <string.h>

#include "kernel/formats.inc"
#include "kernel/matmul.inc"

const matmul_table matmul_scalar = {quantise, matmul};

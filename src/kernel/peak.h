// Peak: the most int8 products an instruction set does, by its own instruction on registers and nothing else; the limit
// that speeds are shown beside. Any thread; nothing is owned.
#pragma once

#include "kernel/kernel.h"

// Works for a while (n_rounds of 1000 or so take well under a millisecond) and returns the operations done: a
// multiply-add is two. The instruction set must be available.
uint64_t peak_int8(isa which, uint32_t n_rounds);

// Embed: hidden states pooled into one vector of length 1.
//
// One float per dimension, owned by the caller, all zero to begin with; rows are added to it in the order of their
// positions and its length is set at the end. So how a prompt was cut into steps leaves no trace: a sum has one order.
// The mean needs no division, because only the direction stays.
#pragma once

#include <stdbool.h>
#include <stdint.h>

void embed_add(float *sum, const float *row, uint32_t n);
bool embed_finish(float *sum, uint32_t n); // false: it has no direction (not finite, or zero)

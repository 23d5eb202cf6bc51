// Implements embed.h.
#include "engine/embed.h"

#include <float.h>
#include <math.h>

void embed_add(float *sum, const float *row, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) sum[i] += row[i];
}

bool embed_finish(float *sum, uint32_t n) {
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) squares += (double)sum[i] * (double)sum[i];
    double length = sqrt(squares);
    if (!(length > 0 && length <= DBL_MAX)) return false;
    for (uint32_t i = 0; i < n; i++) sum[i] = (float)((double)sum[i] / length);
    return true;
}

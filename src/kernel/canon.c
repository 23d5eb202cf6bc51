// Implements canon.h: the scalar forms, fma always explicit. canon_exp is exp.inc for one number.
// Error bounds, relative: canon_exp 1e-7, canon_log 6e-8 (half an ulp).
#include "kernel/canon.h"
#include "kernel/exp_constants.h"

#include <math.h>
#include <string.h>

float canon_exp(float x) {
    float shifted = fmaf(x, EXP_LOG2E, EXP_MAGIC);
    float n = shifted - EXP_MAGIC;
    float r = fmaf(n, -EXP_LN2_LO, fmaf(n, -EXP_LN2_HI, x));
    float p = fmaf(EXP_C6, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    uint32_t bits, n_bits;
    memcpy(&bits, &p, 4);
    memcpy(&n_bits, &shifted, 4);
    bits += n_bits << 23;
    memcpy(&p, &bits, 4);
    if (x < EXP_LOWEST) return 0.0f;
    return x <= EXP_HIGHEST ? p : x + INFINITY;
}

float canon_log(float x) { return (float)mathd_log(x); }

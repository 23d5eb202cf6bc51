// Canonical scalar functions that are not vectorised per table: used by the scalar table, the sampler and tests.
//
// exp: Cody-Waite reduction x = n*ln2 + r with n = rne(x * log2e), ln2 in two parts; degree-6 polynomial in fma Horner
// form; scaling by 2^n through the exponent. Inputs below -87.3 give 0, above 88.7 +inf; NaN gives NaN.
// The vector tables compute the same operations in the same order, so their bits agree.
#pragma once

#include <stdint.h>

float canon_exp(float x);
float canon_log(float x); // x > 0, finite; for log-probabilities; a few ulp

// Deterministic double functions (plain + - * / only, no libm), for the rotary tables. |error| < 1e-14 relative.
double mathd_exp(double x);
double mathd_log(double x);                            // x > 0
void mathd_sincos(double x, double *sine, double *cosine); // |x| < 2^31

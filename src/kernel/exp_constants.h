// The constants of exp, shared by canon_exp (canon.c) and vf_exp (exp.inc), whose bits must agree.
//
// exp(x) = 2^n * e^r, n = rne(x * log2e), r = x - n*ln2 in two parts; n*EXP_LN2_HI is exact for |n| < 2^15.
// e^r = 1 + r + r^2 * (C2 + C3 r + C4 r^2 + C5 r^3 + C6 r^4), minimax in relative error over |r| <= ln2/2
// (Lawson iteration on Chebyshev nodes, leading terms held at 1): 3.7e-9, lost under float rounding.
#pragma once

#define EXP_LOWEST  -87.3f          // below: 0; above EXP_HIGHEST: +inf
#define EXP_NOTHING -0x1.5d3336p+6f // the next below EXP_LOWEST
#define EXP_HIGHEST 88.7f
#define EXP_LOG2E   0x1.715476p+0f
#define EXP_LN2_HI  0x1.63p-1f
#define EXP_LN2_LO  -0x1.bd0106p-13f
#define EXP_MAGIC   0x1.8p+23f // v + MAGIC is rne(v) in the low bits of the sum
#define EXP_C2      0x1.fffffcp-2f
#define EXP_C3      0x1.555492p-3f
#define EXP_C4      0x1.5558f2p-5f
#define EXP_C5      0x1.123a2p-7f
#define EXP_C6      0x1.6a23cep-10f

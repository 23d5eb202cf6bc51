// Double functions of canon.h in + - * / only: compiled for baseline x86-64 without contraction, so every machine gets
// the same bits. Series are plain Taylor expansions, cut where the next term is below 1e-17 of the result.
#include "kernel/canon.h"

#include <math.h>
#include <string.h>

#define MAGIC  0x1.8p+52            // v + MAGIC - MAGIC is rne(v) for |v| < 2^51
#define LN2_HI 0x1.62e42fefa3800p-1 // 42 bits, so that n * LN2_HI is exact for every exponent n
#define LN2_LO 0x1.ef35793c76730p-45

static double from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

static double power_of_two(int64_t n) { return from_bits((uint64_t)(n + 1023) << 52); } // a normal number

// Σ c[k] x^k
static double polynomial(double x, const double *c, int n) {
    double sum = c[n - 1];
    for (int k = n - 2; k >= 0; k--) sum = sum * x + c[k];
    return sum;
}

// e^x = 2^n e^r, |r| <= ln2/2. Results that would not be normal are 0, as the engine's float mode has it.
double mathd_exp(double x) {
    static const double inverse_factorials[] = {1.0,
                                                1.0,
                                                1.0 / 2,
                                                1.0 / 6,
                                                1.0 / 24,
                                                1.0 / 120,
                                                1.0 / 720,
                                                1.0 / 5040.0,
                                                1.0 / 40320.0,
                                                1.0 / 362880.0,
                                                1.0 / 3628800.0,
                                                1.0 / 39916800.0,
                                                1.0 / 479001600.0,
                                                1.0 / 6227020800.0};
    if (x < -708.0) return 0.0;
    if (!(x <= 709.78)) return x + INFINITY;
    double n = (x * 0x1.71547652b82fep+0 + MAGIC) - MAGIC;
    double r = (x - n * LN2_HI) - n * LN2_LO;
    double p = polynomial(r, inverse_factorials, 14);
    return p * 2.0 * power_of_two((int64_t)n - 1); // in two factors: n may be 1024
}

// log x = e ln2 + log m, m in [sqrt(1/2), sqrt(2)); log m = 2 Σ s^(2k+1) / (2k+1), s = (m - 1)/(m + 1), |s| < 0.172.
double mathd_log(double x) {
    static const double odd_inverses[] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                                          1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};
    uint64_t bits;
    memcpy(&bits, &x, 8);
    uint64_t above = bits - 0x3fe6a09e667f3bcdu; // distance from sqrt(1/2)
    int64_t e = (int64_t)above >> 52;
    double m = from_bits(bits - ((uint64_t)e << 52));
    double s = (m - 1.0) / (m + 1.0);
    double log_m = 2.0 * s * polynomial(s * s, odd_inverses, 12);
    return (double)e * LN2_HI + (log_m + (double)e * LN2_LO);
}

// r = x - k pi/2, Cody and Waite: pi/2 in parts of at most 22 bits, so that k * part is exact for k < 2^31, and a rest.
// Each subtraction is exact or rounds a number that is no longer cancelled: r keeps full relative precision.
// (Three parts would leave an absolute 2^-66, which shows near the zeros of sine and cosine.)
void mathd_sincos(double x, double *sine, double *cosine) {
    static const double half_pi[] = {0x1.921fbp+0, 0x1.5110bp-22, 0x1.184698p-44, 0x1.3198ap-69, 0x1.701b839a25205p-92};
    static const double sine_terms[] = {1.0,
                                        -1.0 / 6,
                                        1.0 / 120,
                                        -1.0 / 5040,
                                        1.0 / 362880,
                                        -1.0 / 39916800.0,
                                        1.0 / 6227020800.0,
                                        -1.0 / 1307674368000.0,
                                        1.0 / 355687428096000.0};
    static const double cosine_terms[] = {1.0,
                                          -1.0 / 2,
                                          1.0 / 24,
                                          -1.0 / 720,
                                          1.0 / 40320,
                                          -1.0 / 3628800,
                                          1.0 / 479001600.0,
                                          -1.0 / 87178291200.0,
                                          1.0 / 20922789888000.0};
    double k = (x * 0x1.45f306dc9c883p-1 + MAGIC) - MAGIC;
    double r = x;
    for (int i = 0; i < 5; i++) r -= k * half_pi[i];
    double s = r * polynomial(r * r, sine_terms, 9);
    double c = polynomial(r * r, cosine_terms, 9);
    int64_t quadrant = (int64_t)k & 3;
    double s_turned = quadrant & 1 ? c : s;
    double c_turned = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -s_turned : s_turned;
    *cosine = quadrant == 1 || quadrant == 2 ? -c_turned : c_turned;
}

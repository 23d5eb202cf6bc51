// canon.h against libm, and its bits against a hash that every compiler, build and machine must reproduce.
#include "kernel/canon.h"

#include "ops_test.h"

static double relative_error(double got, double want) { return fabs(got - want) / fabs(want); }

static double random_double(uint64_t *state) { // [0, 1)
    uint64_t high = random_bits(state);
    return (double)(high << 21 | random_bits(state) >> 11) * 0x1p-53;
}

static void exp_is_close_to_libm(void **state) {
    (void)state;
    enum { N = 1000000 };
    double worst = 0;
    for (int i = 0; i <= N; i++) {
        float x = -87.3f + 176.0f * ((float)i / N);
        if (x > 88.7f) x = 88.7f;
        worst = fmax(worst, relative_error(canon_exp(x), exp((double)x)));
    }
    assert_true(worst < 1e-7);
}

static void exp_has_defined_edges(void **state) {
    (void)state;
    assert_true(canon_exp(0.0f) == 1.0f && canon_exp(-0.0f) == 1.0f && canon_exp(1e-40f) == 1.0f);
    assert_true(canon_exp(nextafterf(-87.3f, -100.0f)) == 0.0f && canon_exp(-87.3f) > 0.0f);
    assert_true(canon_exp(nextafterf(88.7f, 100.0f)) == INFINITY && isfinite(canon_exp(88.7f)));
    assert_true(canon_exp(INFINITY) == INFINITY && canon_exp(-INFINITY) == 0.0f);
    for (uint32_t payload = 1; payload < 0x400000; payload = payload * 3 + 1)
        assert_true(isnan(canon_exp(float_from_bits(0x7fc00000 | payload))));
}

static void log_is_close_to_libm(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = 0x00800000 + random_bits(&seed) % (0x7f800000 - 0x00800000); // positive and normal
        float x = float_from_bits(bits);
        if (x != 1.0f) assert_true(relative_error(canon_log(x), log((double)x)) < 6.1e-8);
    }
    assert_true(canon_log(1.0f) == 0.0f);
}

static void mathd_exp_and_log_are_close_to_libm(void **state) {
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < 200000; i++) {
        double x = -708.0 + 1417.0 * random_double(&seed);
        assert_true(relative_error(mathd_exp(x), exp(x)) < 1e-14);
        double y = i % 2 ? exp(x) : 0.5 + 1.5 * random_double(&seed);
        if (y != 1.0) assert_true(relative_error(mathd_log(y), log(y)) < 1e-14);
    }
    assert_true(mathd_exp(0) == 1 && mathd_log(1) == 0);
    assert_true(mathd_exp(-709) == 0 && mathd_exp(710) == INFINITY && isfinite(mathd_exp(709.78)));
    assert_true(isnan(mathd_exp(NAN)));
}

static void check_sincos(double x) {
    double sine, cosine;
    mathd_sincos(x, &sine, &cosine);
    assert_true(sine == sin(x) || relative_error(sine, sin(x)) < 1e-14);
    assert_true(relative_error(cosine, cos(x)) < 1e-14);
}

// Uniform over binades, then the doubles nearest to multiples of pi/2, where sine or cosine cancels.
static void sincos_is_close_to_libm(void **state) {
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 200000; i++) {
        double x = (random_double(&seed) * 2 - 1) * ldexp(1, 31 - i % 60);
        check_sincos(x);
        check_sincos((double)(random_bits(&seed) % 1367130550) * 1.5707963267948966);
    }
    check_sincos(nextafter(0x1p31, 0));
    check_sincos(0);
    check_sincos(1e-200);
}

// The bits, whatever the compiler or the processor: FNV-1a over many results.
static void bits_are_the_same_everywhere(void **state) {
    (void)state;
    uint64_t seed = 4, hash = 0xcbf29ce484222325;
    for (int i = 0; i < 20000; i++) {
        double results[4];
        double x = random_double(&seed) * ldexp(1, i % 31);
        mathd_sincos(x, &results[0], &results[1]);
        results[2] = mathd_exp(x / 0x1p22);
        results[3] = mathd_log(x + 1e-9);
        float single[2] = {canon_exp((float)(x / 0x1p24)), canon_log((float)x + 1.0f)};
        unsigned char bytes[sizeof results + sizeof single];
        memcpy(bytes, results, sizeof results);
        memcpy(bytes + sizeof results, single, sizeof single);
        for (size_t b = 0; b < sizeof bytes; b++) hash = (hash ^ bytes[b]) * 0x100000001b3;
    }
    assert_int_equal(hash, 0x4c748c94741e57a9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_close_to_libm),    cmocka_unit_test(exp_has_defined_edges),
        cmocka_unit_test(log_is_close_to_libm),    cmocka_unit_test(mathd_exp_and_log_are_close_to_libm),
        cmocka_unit_test(sincos_is_close_to_libm), cmocka_unit_test(bits_are_the_same_everywhere),
    };
    return cmocka_run_group_tests_name("math", tests, set_float_mode, NULL);
}

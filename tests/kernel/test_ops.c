// Element-wise operations: each table against the scalar one bit for bit, the scalar one against plain C in double.
// Every buffer ends in guard floats that must come back untouched.
#include "ops_test.h"

#include <stdio.h>

#include "kernel/canon.h"

enum { MAX_N = 1600, GUARD = 32, ROOM = MAX_N + GUARD };
static const uint32_t lengths[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 100, 255, 256, 257, 576, 1000, 1536, 1599};
#define FOR_EACH_LENGTH(n)                                                                                             \
    for (size_t at_ = 0; at_ < sizeof lengths / sizeof *lengths; at_++)                                                \
        for (uint32_t n = lengths[at_]; n; n = 0)

typedef struct buffers {
    float x[ROOM], y[ROOM], out[ROOM];
} buffers;

static void fill(buffers *b, uint64_t seed) {
    fill_random(seed, b->x, ROOM, 3.0f);
    fill_random(seed + 1, b->y, ROOM, 2.0f);
    fill_random(seed + 2, b->out, ROOM, 1.0f);
}

// Runs `call` on equal buffers with every table and compares all of them, guards included, with the scalar result.
#define ASSERT_SAME_BITS(call)                                                                                         \
    do {                                                                                                               \
        static buffers reference, b;                                                                                   \
        FOR_EACH_TABLE(k) {                                                                                            \
            fill(&b, n);                                                                                               \
            call;                                                                                                      \
            if (k->isa == ISA_SCALAR) reference = b;                                                                   \
            assert_memory_equal(&b, &reference, sizeof b);                                                             \
        }                                                                                                              \
    } while (0)

static void tables_agree(void **state) {
    (void)state;
    FOR_EACH_LENGTH(n) {
        ASSERT_SAME_BITS(k->rmsnorm(b.x, b.y, 1e-5f, n, b.out));
        ASSERT_SAME_BITS(k->rmsnorm(b.x, b.y, 1e-5f, n, b.x));
        ASSERT_SAME_BITS(k->add(b.x, b.y, n));
        ASSERT_SAME_BITS(k->scale(b.x, 0.3f, n));
        ASSERT_SAME_BITS(k->silu_mul(b.x, b.y, n, b.out));
    }
}

static void nothing_past_n_is_touched(void **state) {
    (void)state;
    static buffers b, before;
    FOR_EACH_LENGTH(n) FOR_EACH_TABLE(k) {
        fill(&b, n);
        for (uint32_t i = n; i < ROOM; i++) b.x[i] = b.y[i] = NAN;
        before = b;
        k->rmsnorm(b.x, b.y, 1e-5f, n, b.out);
        k->silu_mul(b.x, b.y, n, b.out);
        k->add(b.x, b.y, n);
        k->scale(b.x, 2.0f, n);
        assert_memory_equal(b.x + n, before.x + n, (ROOM - n) * sizeof(float));
        assert_memory_equal(b.out + n, before.out + n, (ROOM - n) * sizeof(float));
        for (uint32_t i = 0; i < n; i++) assert_true(isfinite(b.x[i]) && isfinite(b.out[i]));
    }
}

static void results_are_right(void **state) {
    (void)state;
    static buffers b;
    const kernels *k = kernels_get(ISA_SCALAR);
    FOR_EACH_LENGTH(n) {
        fill(&b, n);
        double squares = 0;
        for (uint32_t i = 0; i < n; i++) squares += (double)b.x[i] * b.x[i];
        k->rmsnorm(b.x, b.y, 0.25f, n, b.out);
        for (uint32_t i = 0; i < n; i++) {
            double want = b.x[i] / sqrt(squares / n + 0.25) * b.y[i];
            assert_true(fabs(b.out[i] - want) <= 1e-6 * fabs(want));
        }
        k->silu_mul(b.x, b.y, n, b.out);
        for (uint32_t i = 0; i < n; i++) {
            float want = b.x[i] / (1.0f + canon_exp(-b.x[i])) * b.y[i];
            assert_memory_equal(&b.out[i], &want, 4);
        }
        memcpy(b.out, b.x, sizeof b.x);
        k->add(b.x, b.y, n);
        k->scale(b.x, 0.5f, n);
        for (uint32_t i = 0; i < n; i++) assert_true(b.x[i] == (b.out[i] + b.y[i]) * 0.5f);
    }
}

// exp is not in the table: silu_mul shows its bits, over a million values and everything special.
static void exp_bits_agree(void **state) {
    (void)state;
    enum { N = 1 << 20, N_SPECIAL = 12 };
    const float special[N_SPECIAL] = {0,      -0.0f, INFINITY, -INFINITY, NAN,    float_from_bits(0x7fc00001),
                                      -87.3f, 87.3f, 88.7f,    -88.7f,    1e-42f, -88.70001f};
    float *gate = malloc(N * sizeof(float)), *one = malloc(N * sizeof(float)), *out = malloc(N * sizeof(float));
    uint64_t seed = 5;
    for (int i = 0; i < N; i++) gate[i] = i < N_SPECIAL ? special[i] : random_float(&seed, -90, 90), one[i] = 1.0f;
    for (int i = N / 2; i < N; i++) gate[i] = float_from_bits(random_bits(&seed));
    FOR_EACH_TABLE(k) {
        k->silu_mul(gate, one, N, out);
        for (int i = 0; i < N; i++) {
            float want = gate[i] / (1.0f + canon_exp(-gate[i]));
            if (isnan(want))
                assert_true(isnan(out[i]));
            else
                assert_memory_equal(&out[i], &want, 4);
        }
    }
    free(gate), free(one), free(out);
}

static void check_rope(uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, bool neox) {
    static float x[ROOM], reference[ROOM], got[ROOM], cs[ROOM];
    fill_random(6, x, ROOM, 1.0f);
    for (uint32_t i = 0; i < ROOM; i++) cs[i] = NAN;
    for (uint32_t i = 0; i < n_rot / 2; i++) cs[2 * i] = cosf((float)i + 1), cs[2 * i + 1] = sinf((float)i + 1);
    memcpy(reference, x, sizeof x);
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t i = 0; i < n_rot / 2; i++) {
            uint32_t at = h * head_dim, first = neox ? i : 2 * i, second = neox ? i + n_rot / 2 : 2 * i + 1;
            float a = x[at + first], b = x[at + second], c = cs[2 * i], s = cs[2 * i + 1];
            reference[at + first] = fmaf(a, c, -(b * s));
            reference[at + second] = fmaf(a, s, b * c);
        }
    FOR_EACH_TABLE(k) {
        memcpy(got, x, sizeof x);
        k->rope(got, n_heads, head_dim, n_rot, cs, neox);
        assert_memory_equal(got, reference, sizeof got);
    }
}

static void rope_is_its_formula(void **state) {
    (void)state;
    for (int neox = 0; neox < 2; neox++) {
        for (uint32_t n_rot = 0; n_rot <= 128; n_rot += 2) check_rope(3, 128, n_rot, neox);
        check_rope(9, 64, 64, neox);
        check_rope(12, 80, 80, neox);
        check_rope(5, 80, 20, neox);
    }
}

static void argmax_finds_the_lowest_index(void **state) {
    (void)state;
    static float x[ROOM];
    uint64_t seed = 7;
    FOR_EACH_LENGTH(n) for (int round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < ROOM; i++) x[i] = i < n ? floorf(random_float(&seed, -20, round < 25 ? 20 : -5)) : 99;
        uint32_t want = 0;
        for (uint32_t i = 0; i < n; i++) want = x[i] > x[want] ? i : want;
        FOR_EACH_TABLE(k) {
            bool finite = false;
            assert_int_equal(k->argmax(x, n, &finite), want);
            assert_true(finite);
        }
    }
}

static void argmax_tells_what_is_not_finite(void **state) {
    (void)state;
    static float x[ROOM];
    const float bad[] = {NAN, INFINITY, -INFINITY};
    FOR_EACH_LENGTH(n) for (int kind = 0; kind < 3; kind++) for (uint32_t at = 0; at < n; at += 1 + n / 7) {
        fill_random(8, x, ROOM, 1.0f);
        x[at] = bad[kind];
        uint32_t want = 0;
        for (uint32_t i = 0; i < n; i++) want = x[i] > x[want] ? i : want;
        FOR_EACH_TABLE(k) {
            bool finite = true;
            uint32_t got = k->argmax(x, n, &finite);
            assert_false(finite);
            if (kind > 0) assert_int_equal(got, want);
            assert_true(got < n);
        }
    }
    for (uint32_t i = 0; i < ROOM; i++) x[i] = -INFINITY;
    bool finite;
    FOR_EACH_TABLE(k) assert_int_equal(k->argmax(x, 300, &finite), 0);
}

// Or a set that goes unseen would pass every test by not being there. The kernel names what it lets programs use.
static void what_the_processor_has_is_seen(void **state) {
    (void)state;
    static const char *const flags[ISA_COUNT] = {
        [ISA_AVX2] = " avx2 ", [ISA_AVXVNNI] = " avx_vnni ", [ISA_AVX512] = " avx512_vnni ", [ISA_AMX] = " amx_int8 "};
    static char line[1 << 16];
    FILE *f = fopen("/proc/cpuinfo", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) && strncmp(line, "flags", 5) != 0) continue;
    fclose(f);
    assert_memory_equal(line, "flags", 5);
    line[strcspn(line, "\n")] = ' ';
    for (int i = 0; i < ISA_COUNT; i++)
        if (flags[i]) assert_int_equal(isa_available((isa)i), strstr(line, flags[i]) != NULL);
}

static void names_and_tables_match(void **state) {
    (void)state;
    isa parsed;
    for (int i = 0; i < ISA_COUNT; i++) {
        assert_true(isa_parse(isa_name((isa)i), &parsed));
        assert_int_equal(parsed, i);
    }
    assert_false(isa_parse("AVX2", &parsed));
    assert_false(isa_parse("", &parsed));
    assert_true(isa_available(ISA_SCALAR));
    assert_false(isa_available(ISA_COUNT));
    FOR_EACH_TABLE(k) {
        assert_int_equal(k->isa, which_);
        assert_string_equal(k->name, isa_name(k->isa));
        assert_true(kernels_best()->isa >= k->isa);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_agree),
        cmocka_unit_test(nothing_past_n_is_touched),
        cmocka_unit_test(results_are_right),
        cmocka_unit_test(exp_bits_agree),
        cmocka_unit_test(rope_is_its_formula),
        cmocka_unit_test(argmax_finds_the_lowest_index),
        cmocka_unit_test(argmax_tells_what_is_not_finite),
        cmocka_unit_test(what_the_processor_has_is_seen),
        cmocka_unit_test(names_and_tables_match),
    };
    return cmocka_run_group_tests_name("ops", tests, set_float_mode, NULL);
}

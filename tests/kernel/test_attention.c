// Attention over each kind of KV page: against a naive sum in double over what the page holds, and bit for bit across
// tables, tile shapes, causal tails and garbage.
#include "ops_test.h"

#include "kernel/canon.h"

enum { N_PAGES = ATTN_BLOCK / KV_PAGE_TOKENS, MAX_DIM = 256, MAX_BLOCKS = 5 };

typedef struct scene {
    kv_type type;
    uint32_t head_dim;
    uint8_t *pages[N_PAGES];
    float q[ATTN_MAX_QUERIES][MAX_DIM];
    float k[ATTN_BLOCK][MAX_DIM], v[ATTN_BLOCK][MAX_DIM];
} scene;

typedef struct result {
    float max[ATTN_MAX_QUERIES], sum[ATTN_MAX_QUERIES], out[ATTN_MAX_QUERIES * MAX_DIM];
} result;

#define FOR_EACH_TYPE(type) for (kv_type type = 0; type < KV_TYPE_COUNT; type++)

static double half_value(uint16_t h) {
    int exponent = h >> 10 & 31;
    double magnitude = exponent ? ldexp(1024 + (h & 0x3ff), exponent - 25) : ldexp(h & 0x3ff, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static float bf16_value(uint16_t h) { return float_from_bits((uint32_t)h << 16); }

// Where a page keeps element d of a slot's key and value, and their scales, as kernel.h draws it: counted in elements.
typedef struct place {
    size_t key, value, key_scale, value_scale;
} place;

static place place_of(kv_type type, uint32_t head_dim, uint32_t slot, uint32_t d) {
    uint32_t groups = (head_dim + 31) / 32;
    if (type == KV_BF16)
        return (place){.key = ((slot / 16 * head_dim + d) / 2 * 16 + slot % 16) * 2 + d % 2,
                       .value = KV_PAGE_TOKENS * head_dim + (slot / 2 * head_dim + d) * 2 + slot % 2};
    return (place){.key = (slot / 16 * head_dim + d) * 16 + slot % 16,
                   .value = (KV_PAGE_TOKENS + slot) * head_dim + d,
                   .key_scale = KV_PAGE_TOKENS * head_dim + (slot / 16 * groups + d / 32) * 16 + slot % 16,
                   .value_scale = KV_PAGE_TOKENS * (head_dim + groups + d / 32) + slot};
}

// k and v become what the pages hold of them: a float holds it exactly.
static void take_back(scene *s, uint32_t t) {
    const uint8_t *page = s->pages[t / KV_PAGE_TOKENS];
    const uint16_t *halves = (const uint16_t *)page;
    for (uint32_t d = 0; d < s->head_dim; d++) {
        place at = place_of(s->type, s->head_dim, t % KV_PAGE_TOKENS, d);
        if (s->type == KV_BF16) {
            s->k[t][d] = bf16_value(halves[at.key]), s->v[t][d] = bf16_value(halves[at.value]);
        } else if (s->type == KV_F16) {
            s->k[t][d] = (float)half_value(halves[at.key]), s->v[t][d] = (float)half_value(halves[at.value]);
        } else {
            s->k[t][d] = (float)half_value(halves[at.key_scale]) * (float)((const int8_t *)page)[at.key];
            s->v[t][d] = (float)half_value(halves[at.value_scale]) * (float)((const int8_t *)page)[at.value];
        }
    }
}

static void store(const kernels *t, kv_type type, uint8_t *page, uint32_t slot, uint32_t head_dim, const float *k,
                  const float *v) {
    t->kv_store_key(type, page, slot, head_dim, k);
    t->kv_store_value(type, page, slot, head_dim, v);
}

static scene *scene_new(kv_type type, uint32_t head_dim, uint32_t n_stored) {
    scene *s = calloc(1, sizeof *s);
    s->type = type;
    s->head_dim = head_dim;
    fill_random(head_dim, &s->q[0][0], ATTN_MAX_QUERIES * MAX_DIM, 1.0f);
    fill_random(head_dim + 1, &s->k[0][0], ATTN_BLOCK * MAX_DIM, 1.0f);
    fill_random(head_dim + 2, &s->v[0][0], ATTN_BLOCK * MAX_DIM, 1.0f);
    for (int p = 0; p < N_PAGES; p++) {
        s->pages[p] = aligned_alloc(64, kv_head_bytes(type, head_dim));
        memset(s->pages[p], 0xff, kv_head_bytes(type, head_dim)); // NaN in every half
    }
    for (uint32_t t = 0; t < n_stored; t++) {
        uint8_t *page = s->pages[t / KV_PAGE_TOKENS];
        store(kernels_get(ISA_SCALAR), type, page, t % KV_PAGE_TOKENS, head_dim, s->k[t], s->v[t]);
        take_back(s, t);
    }
    return s;
}

static void scene_free(scene *s) {
    for (int p = 0; p < N_PAGES; p++) free(s->pages[p]);
    free(s);
}

// Only the pages that hold one of the keys are handed over.
static result attend(const kernels *k, const scene *s, uint32_t first, uint32_t n_q, const uint32_t *n_keys) {
    result r;
    memset(&r, 0, sizeof r);
    attn_job job = {.kv_type = s->type, .n_q = n_q, .head_dim = s->head_dim};
    job.max = r.max, job.sum = r.sum, job.out = r.out;
    uint32_t most = 0;
    for (uint32_t i = 0; i < n_q; i++) {
        job.q[i] = s->q[first + i];
        job.n_keys[i] = n_keys[i];
        most = n_keys[i] > most ? n_keys[i] : most;
    }
    for (uint32_t p = 0; p * KV_PAGE_TOKENS < most; p++) job.pages[p] = s->pages[p];
    k->attn_block(&job);
    return r;
}

static void assert_same_query(const scene *s, const result *a, uint32_t i, const result *b, uint32_t j) {
    assert_memory_equal(&a->max[i], &b->max[j], 4);
    assert_memory_equal(&a->sum[i], &b->sum[j], 4);
    assert_memory_equal(&a->out[i * s->head_dim], &b->out[j * s->head_dim], s->head_dim * 4);
}

static void assert_near(double got, double want, double tolerance) { assert_true(fabs(got - want) <= tolerance); }

// The nearest bfloat16 of a finite number, by double arithmetic.
static double nearest_bf16(float x) {
    double step = ldexp(1, (fabsf(x) < 0x1p-126f ? -126 : ilogb((double)x)) - 7);
    return nearbyint(x / step) * step;
}

// bf16 rounds queries and weights: 2^-9 of each weight.
static void assert_right(const scene *s, const result *r, uint32_t i, uint32_t n_keys) {
    double score[ATTN_BLOCK], top = -INFINITY, sum = 0, tolerance = s->type == KV_BF16 ? 0x1p-9 : 1e-5;
    for (uint32_t t = 0; t < n_keys; t++) {
        score[t] = 0;
        for (uint32_t d = 0; d < s->head_dim; d++)
            score[t] += (s->type == KV_BF16 ? nearest_bf16(s->q[i][d]) : (double)s->q[i][d]) * s->k[t][d];
        top = fmax(top, score[t]);
    }
    for (uint32_t t = 0; t < n_keys; t++) sum += exp(score[t] - top);
    if (n_keys == 0)
        assert_true(r->max[i] == -INFINITY);
    else
        assert_near(r->max[i], top, 2e-5); // of up to 256 terms, each rounded as a float
    assert_near(r->sum[i], sum, 1e-5 * sum);
    for (uint32_t d = 0; d < s->head_dim; d++) {
        double want = 0;
        for (uint32_t t = 0; t < n_keys; t++) want += exp(score[t] - top) * s->v[t][d];
        assert_near(r->out[i * s->head_dim + d], want, tolerance * sum);
    }
}

static const uint32_t dims[] = {16, 48, 64, 80, 128, 256};

// Every count of queries, each at its own causal length; the pages past the last key hold NaN.
static void tiles_are_right_and_agree(void **state) {
    (void)state;
    const uint32_t lengths[] = {0, 1, 5, 16, 17, 31, 32, 33, 64, 100, 224, 255, 256};
    FOR_EACH_TYPE(type)
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            scene *s = scene_new(type, dims[d], lengths[l]);
            uint32_t n_keys[ATTN_MAX_QUERIES];
            for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) n_keys[i] = lengths[l];
            result reference = attend(kernels_get(ISA_SCALAR), s, 0, ATTN_MAX_QUERIES, n_keys);
            for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) assert_right(s, &reference, i, lengths[l]);
            FOR_EACH_TABLE(k)
            for (uint32_t n_q = k->isa == ISA_SCALAR ? ATTN_MAX_QUERIES : 1; n_q <= ATTN_MAX_QUERIES; n_q++) {
                result r = attend(k, s, 0, n_q, n_keys);
                for (uint32_t i = 0; i < n_q; i++) assert_same_query(s, &r, i, &reference, i);
            }
            scene_free(s);
        }
}

// Queries with lengths of their own give each what it gets alone: the tile shares only what all may see.
static void causal_tiles_equal_single_queries(void **state) {
    (void)state;
    static const uint32_t n_keys[][ATTN_MAX_QUERIES] = {
        {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10},
        {15, 15, 16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 21, 21, 22, 22,
         23, 23, 24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 30},
        {30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45,
         46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61},
        {256, 255, 254, 253, 200, 33, 1, 0, 31, 32, 64, 65, 95, 96, 97, 129,
         1,   1,   0,   0,   2,   3,  4, 5, 6,  7,  8,  9,  10, 11, 12, 33},
        {3,   200, 70, 70, 70, 256, 12, 128, 8, 9, 10, 11, 160, 161, 100, 2,
         256, 256, 1,  17, 31, 32,  33, 34,  0, 0, 15, 16, 224, 225, 255, 254}};
    FOR_EACH_TYPE(type)
    for (size_t c = 0; c < sizeof n_keys / sizeof *n_keys; c++) {
        scene *s = scene_new(type, 64, ATTN_BLOCK);
        result alone[ATTN_MAX_QUERIES];
        for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++)
            alone[i] = attend(kernels_get(ISA_SCALAR), s, i, 1, &n_keys[c][i]);
        FOR_EACH_TABLE(k) {
            result together = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys[c]);
            for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) assert_same_query(s, &together, i, &alone[i], 0);
        }
        scene_free(s);
    }
}

// The lowest score that weighs something, and the next below it, which weighs nothing.
static void weights_end_where_exp_does(void **state) {
    (void)state;
    enum { DIM = 16 };
    const float below[] = {-87.3f, nextafterf(-87.3f, -100.0f), -100.0f};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) FOR_EACH_TABLE(k) {
            scene *s = scene_new(KV_F16, DIM, 0);
            const float one[DIM] = {1}, none[DIM] = {0};
            store(k, KV_F16, s->pages[0], 0, DIM, none, none); // score 0, value 0
            store(k, KV_F16, s->pages[0], 1, DIM, one, one);
            memset(s->q[0], 0, sizeof s->q[0]);
            s->q[0][0] = below[i];
            const float want = canon_exp(below[i]);
            const result r = attend(k, s, 0, 1, (const uint32_t[]){2});
            assert_true(i == 0 ? want > 0 : want == 0);
            assert_memory_equal(&r.out[0], &want, sizeof want);
            scene_free(s);
        }
}

// A later token of the same sequence with NaN or inf in K and V must not reach the queries before it.
static void later_keys_never_leak(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    uint32_t n_keys[ATTN_MAX_QUERIES];
    for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) n_keys[i] = i < 7 ? 38 + i : 45;
    FOR_EACH_TYPE(type)
    for (int kind = 0; kind < 3; kind++) FOR_EACH_TABLE(k) {
            scene *s = scene_new(type, 64, 45);
            result clean = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys);
            float poison[64];
            for (int d = 0; d < 64; d++) poison[d] = bad[kind];
            store(k, type, s->pages[1], 40 % KV_PAGE_TOKENS, 64, poison,
                  poison); // token 40: seen by queries 3 and on
            result r = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys);
            for (uint32_t i = 0; i < 3; i++) assert_same_query(s, &r, i, &clean, i);
            for (uint32_t i = 3; i < ATTN_MAX_QUERIES; i++) assert_false(isfinite(r.out[i * 64]));
            s->q[1][5] = NAN; // and a bad query stays alone
            r = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys);
            assert_true(isnan(r.sum[1]));
            assert_same_query(s, &r, 0, &clean, 0);
            assert_same_query(s, &r, 2, &clean, 2);
            scene_free(s);
            s = scene_new(type, 64, 45); // where all values are finite, too
            s->q[1][5] = NAN;
            r = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys);
            for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) {
                if (i == 1)
                    assert_true(isnan(r.sum[i]) && isnan(r.out[i * 64]));
                else
                    assert_same_query(s, &r, i, &clean, i);
            }
            scene_free(s);
        }
}

static void merge_joins_blocks(void **state) {
    (void)state;
    enum { DIM = 80, STRIDE = 3, PART = 96 };
    float max[MAX_BLOCKS * STRIDE], sum[MAX_BLOCKS * STRIDE], part[MAX_BLOCKS * PART], out[DIM], reference[DIM];
    for (uint32_t n_blocks = 1; n_blocks <= MAX_BLOCKS; n_blocks++) {
        double top = -INFINITY, total = 0;
        fill_random(n_blocks, max, MAX_BLOCKS * STRIDE, 5.0f);
        fill_random(n_blocks + 100, part, MAX_BLOCKS * PART, 5.0f);
        for (uint32_t b = 0; b < n_blocks; b++) {
            sum[b * STRIDE] = 1.0f + (float)b;
            if (b == 1) max[b * STRIDE] = -INFINITY, sum[b * STRIDE] = 0, memset(part + b * PART, 0, PART * 4);
            top = fmax(top, max[b * STRIDE]);
        }
        for (uint32_t b = 0; b < n_blocks; b++) total += exp(max[b * STRIDE] - top) * sum[b * STRIDE];
        FOR_EACH_TABLE(k) {
            k->attn_merge(n_blocks, DIM, max, sum, STRIDE, part, PART, out);
            if (k->isa == ISA_SCALAR) memcpy(reference, out, sizeof out);
            assert_memory_equal(out, reference, sizeof out);
        }
        for (uint32_t d = 0; d < DIM; d++) {
            double want = 0;
            for (uint32_t b = 0; b < n_blocks; b++) want += exp(max[b * STRIDE] - top) * part[b * PART + d];
            assert_near(out[d], want / total, 1e-5);
        }
    }
}

// Two blocks of one context, merged, are the softmax over all of it; an empty third block changes no bit.
static void merged_blocks_are_the_whole_softmax(void **state) {
    (void)state;
    const uint32_t n_keys[2] = {256, 77};
    scene *s[2] = {scene_new(KV_F16, 64, 256), scene_new(KV_F16, 64, 256)};
    fill_random(99, &s[1]->k[0][0], ATTN_BLOCK * MAX_DIM, 1.0f);
    for (uint32_t t = 0; t < 77; t++)
        store(kernels_get(ISA_SCALAR), KV_F16, s[1]->pages[t / KV_PAGE_TOKENS], t % KV_PAGE_TOKENS, 64, s[1]->k[t],
              s[1]->v[t]);
    FOR_EACH_TABLE(k) {
        float max[3] = {0, 0, -INFINITY}, sum[3] = {0}, part[3][64] = {0}, out[64], again[64];
        double want[64] = {0}, total = 0;
        for (int b = 0; b < 2; b++) {
            result r = attend(k, s[b], 0, 1, &n_keys[b]);
            max[b] = r.max[0], sum[b] = r.sum[0];
            memcpy(part[b], r.out, sizeof part[b]);
            for (uint32_t t = 0; t < n_keys[b]; t++) {
                double score = 0;
                for (int d = 0; d < 64; d++) score += (double)s[0]->q[0][d] * s[b]->k[t][d];
                total += exp(score);
                for (int d = 0; d < 64; d++) want[d] += exp(score) * s[b]->v[t][d];
            }
        }
        k->attn_merge(2, 64, max, sum, 1, part[0], 64, out);
        k->attn_merge(3, 64, max, sum, 1, part[0], 64, again);
        for (int d = 0; d < 64; d++) assert_near(out[d], want[d] / total, 2e-3);
        assert_memory_equal(out, again, sizeof out);
    }
    scene_free(s[0]), scene_free(s[1]);
}

// Every half, read back as the value of a single key: its weight is 1, so out is V.
static void all_halves_are_read_exactly(void **state) {
    (void)state;
    uint16_t page[KV_PAGE_TOKENS * 16 * 2] = {0};
    float q[16] = {0}, max, sum, out[16], reference[16];
    for (uint32_t h = 0; h < 65536; h += 16) {
        for (uint32_t i = 0; i < 16; i++) page[KV_PAGE_TOKENS * 16 + i] = (uint16_t)(h + i);
        FOR_EACH_TABLE(k) {
            attn_job job = {.kv_type = KV_F16, .n_q = 1, .head_dim = 16, .q = {q}, .n_keys = {1}};
            job.pages[0] = (uint8_t *)page;
            job.max = &max, job.sum = &sum, job.out = out;
            k->attn_block(&job);
            if (k->isa == ISA_SCALAR) memcpy(reference, out, sizeof out);
            assert_memory_equal(out, reference, sizeof out); // NaN payloads too
        }
        for (uint32_t i = 0; i < 16; i++)
            if ((h & 0x7c00) != 0x7c00) assert_true(out[i] == half_value((uint16_t)(h + i)));
    }
}

// The nearest half by double arithmetic; ties to even by nearbyint.
static void assert_nearest_half(float x, uint16_t h) {
    if (isnan(x)) {
        assert_true((h & 0x7e00) == 0x7e00);
    } else if (fabsf(x) >= 65520.0f) {
        assert_int_equal(h, x > 0 ? 0x7c00 : 0xfc00);
    } else {
        int exponent = fabsf(x) < 0x1p-14f ? -14 : ilogb((double)x);
        double step = ldexp(1, exponent - 10);
        assert_true(half_value(h) == nearbyint(x / step) * step);
    }
    assert_int_equal(h >> 15, signbit(x) != 0);
}

static void stored_halves_are_nearest(void **state) {
    (void)state;
    enum { DIM = 64 };
    const uint32_t edges[] = {0x38800000, 0x387fffff, 0x33000000, 0x33000001, 0x477fefff, 0x477ff000, 0x7f800000,
                              0x7f800001, 0x7fc00000, 0x7fffffff, 1,          0x00800000, 0x477fe000, 0x3f801000};
    _Alignas(64) uint8_t page[KV_PAGE_TOKENS * DIM * 4], reference[sizeof page];
    uint64_t seed = 9;
    for (uint32_t round = 0; round < 2000; round++) {
        float k[DIM], v[DIM];
        uint32_t slot = round % KV_PAGE_TOKENS;
        for (int d = 0; d < DIM; d++) {
            uint32_t bits = random_bits(&seed);
            if (round == 0)
                bits = edges[d % 14] | (uint32_t)(d / 14 & 1) << 31;
            else if (round % 2)
                bits = (bits & 0x8fffffff) | 0x30000000; // more of them near what a half can hold
            k[d] = float_from_bits(bits), v[d] = float_from_bits(bits ^ 0x80000000);
        }
        FOR_EACH_TABLE(t) {
            memset(page, 0x5a, sizeof page);
            store(t, KV_F16, page, slot, DIM, k, v);
            if (t->isa == ISA_SCALAR) memcpy(reference, page, sizeof page);
            assert_memory_equal(page, reference, sizeof page);
        }
        const uint16_t *halves = (const uint16_t *)page;
        for (uint32_t d = 0; d < DIM; d++) {
            place at = place_of(KV_F16, DIM, slot, d);
            assert_nearest_half(k[d], halves[at.key]);
            assert_nearest_half(v[d], halves[at.value]);
        }
    }
}

static void assert_nearest_bf16(float x, uint16_t h) {
    if (isnan(x))
        assert_true(isnan(bf16_value(h)));
    else if (fabsf(x) >= 0x1.ffp+127f)
        assert_int_equal(h, x > 0 ? 0x7f80 : 0xff80);
    else
        assert_true((double)bf16_value(h) == nearest_bf16(x));
    assert_int_equal(h >> 15, signbit(x) != 0);
}

static void stored_bfloats_are_nearest(void **state) {
    (void)state;
    enum { DIM = 64 };
    const uint32_t edges[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7f7fff, 0x7f7f8000, 0x7f800000,
                              0x7f800001, 0x7fc00000, 0x7fffffff, 0,          0x00800000, 0x00ffffff, 0x7f7fffff};
    _Alignas(64) uint8_t page[KV_PAGE_TOKENS * DIM * 4], reference[sizeof page];
    uint64_t seed = 10;
    for (uint32_t round = 0; round < 2000; round++) {
        float k[DIM], v[DIM];
        uint32_t slot = round % KV_PAGE_TOKENS;
        for (int d = 0; d < DIM; d++) {
            uint32_t bits = round ? random_bits(&seed) : edges[d % 14] | (uint32_t)(d / 14 & 1) << 31;
            if ((bits & 0x7f800000) == 0) bits &= 0x80000000; // a denormal counts as zero, however it is kept
            k[d] = float_from_bits(bits), v[d] = float_from_bits(bits ^ 0x80000000);
        }
        FOR_EACH_TABLE(t) {
            memset(page, 0x5a, sizeof page);
            store(t, KV_BF16, page, slot, DIM, k, v);
            if (t->isa == ISA_SCALAR) memcpy(reference, page, sizeof page);
            assert_memory_equal(page, reference, sizeof page);
        }
        for (uint32_t d = 0; d < DIM; d++) {
            place at = place_of(KV_BF16, DIM, slot, d);
            assert_nearest_bf16(k[d], ((uint16_t *)page)[at.key]);
            assert_nearest_bf16(v[d], ((uint16_t *)page)[at.value]);
        }
    }
}

// Products, sums and weights at the edge of what a float holds: tiny ones are flushed to zero by each table alike.
static void tables_agree_on_tiny_and_huge_numbers(void **state) {
    (void)state;
    enum { DIM = 64, KEYS = 77 };
    uint64_t seed = 5;
    for (int round = 0; round < 300; round++) {
        scene *s = scene_new(KV_BF16, DIM, 0);
        for (uint32_t t = 0; t < KEYS; t++) {
            for (uint32_t d = 0; d < DIM; d++) {
                s->k[t][d] = ldexpf(random_float(&seed, -1, 1), (int)(random_bits(&seed) % 60) - 45);
                s->v[t][d] = ldexpf(random_float(&seed, -1, 1), (int)(random_bits(&seed) % 40) - 126);
            }
            store(kernels_get(ISA_SCALAR), KV_BF16, s->pages[t / KV_PAGE_TOKENS], t % KV_PAGE_TOKENS, DIM, s->k[t],
                  s->v[t]);
        }
        uint32_t n_keys[ATTN_MAX_QUERIES];
        for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) {
            n_keys[i] = KEYS - i;
            for (uint32_t d = 0; d < DIM; d++)
                s->q[i][d] = ldexpf(random_float(&seed, -1, 1), (int)(random_bits(&seed) % 120) - 110 - 2 * (int)i);
        }
        for (uint32_t t = KEYS; t < 96; t++)
            store(kernels_get(ISA_SCALAR), KV_BF16, s->pages[2], t % 32, DIM, s->k[t], s->v[t]);
        result reference = attend(kernels_get(ISA_SCALAR), s, 0, ATTN_MAX_QUERIES, n_keys);
        FOR_EACH_TABLE(k) {
            result r = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys);
            for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) assert_same_query(s, &r, i, &reference, i);
        }
        scene_free(s);
    }
}

// A second page that takes a little more than the first has given leaves a negative number too small for a float, which
// is flushed to -0; a table that multiplies a third page by zeros would make it +0 on its way.
static void zeros_have_no_sign(void **state) {
    (void)state;
    enum { DIM = 64 };
    const uint32_t lengths[] = {33, 64, 65, 96};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        scene *s = scene_new(KV_BF16, DIM, 0);
        float none[DIM] = {0}, some[DIM], more[DIM];
        for (int d = 0; d < DIM; d++) some[d] = 0x1.8p-126f, more[d] = -0x1.cp-126f;
        for (uint32_t t = 0; t < 128; t++)
            store(kernels_get(ISA_SCALAR), KV_BF16, s->pages[t / 32], t % 32, DIM, none,
                  t == 0    ? some
                  : t == 32 ? more
                            : none);
        memset(s->q, 0, sizeof s->q); // all weights are 1
        uint32_t n_keys[ATTN_MAX_QUERIES];
        for (uint32_t i = 0; i < ATTN_MAX_QUERIES; i++) n_keys[i] = lengths[l];
        FOR_EACH_TABLE(k) {
            result r = attend(k, s, 0, ATTN_MAX_QUERIES, n_keys);
            for (uint32_t i = 0; i < ATTN_MAX_QUERIES * DIM; i++) assert_true(r.out[i] == 0 && !signbit(r.out[i]));
        }
        scene_free(s);
    }
}

// Every scale times the ends of the quants, read back as the value of a single key.
static void all_scales_are_read_exactly(void **state) {
    (void)state;
    enum { DIM = 16 };
    const int8_t quants[DIM] = {-127, 127, 0, 1, -1, 2, -2, 126, -126, 64, -64, 100, -100, 3, 5, 77};
    _Alignas(64) uint8_t page[KV_PAGE_TOKENS * (DIM * 2 + 4)] = {0};
    float q[DIM] = {0}, max, sum, out[DIM];
    place at = place_of(KV_Q8_0, DIM, 0, 0);
    memcpy(page + at.value, quants, DIM);
    FOR_EACH_TABLE(k)
    for (uint32_t h = 0; h < 65536; h++) {
        if ((h & 0x7c00) == 0x7c00) continue;
        ((uint16_t *)page)[at.value_scale] = (uint16_t)h;
        attn_job job = {.kv_type = KV_Q8_0, .n_q = 1, .head_dim = DIM, .q = {q}, .n_keys = {1}, .pages = {page}};
        job.max = &max, job.sum = &sum, job.out = out;
        k->attn_block(&job);
        for (uint32_t i = 0; i < DIM; i++) assert_true(out[i] == half_value((uint16_t)h) * quants[i]);
    }
}

static void assert_nearest_quants(const float *x, uint32_t n, uint16_t d, const int8_t *q, size_t step) {
    float largest = 0;
    bool finite = true;
    for (uint32_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(x[i])), finite &= isfinite(x[i]) != 0;
    finite &= largest / 127 < 65520.0f;
    if (finite)
        assert_nearest_half(largest / 127, d);
    else
        assert_int_equal(d, 0x7e00);
    for (uint32_t i = 0; i < n; i++) {
        float ratio = finite && d ? rintf(x[i] / (float)half_value(d)) : 0;
        assert_int_equal(q[i * step], fmaxf(-127, fminf(127, ratio)));
    }
}

static void stored_quants_are_nearest(void **state) {
    (void)state;
    enum { DIM = 80 }; // groups of 32, 32 and 16
    _Alignas(64) uint8_t page[KV_PAGE_TOKENS * (DIM * 2 + 12)], reference[sizeof page];
    assert_int_equal(sizeof page, kv_head_bytes(KV_Q8_0, DIM));
    uint64_t seed = 11;
    for (uint32_t round = 0; round < 3000; round++) {
        float k[DIM], v[DIM], range = ldexpf(1, (int)(round % 50) - 30); // to scales that are zero, or of a few bits
        uint32_t slot = round % KV_PAGE_TOKENS;
        for (int d = 0; d < DIM; d++) {
            k[d] = random_float(&seed, -range, range), v[d] = random_float(&seed, -range, range);
            if (round % 10 == 9) k[d] = float_from_bits(random_bits(&seed)); // anything at all
        }
        FOR_EACH_TABLE(t) {
            memset(page, 0x5a, sizeof page);
            store(t, KV_Q8_0, page, slot, DIM, k, v);
            if (t->isa == ISA_SCALAR) memcpy(reference, page, sizeof page);
            assert_memory_equal(page, reference, sizeof page);
        }
        for (uint32_t d = 0; d < DIM; d += 32) {
            place at = place_of(KV_Q8_0, DIM, slot, d);
            const uint16_t *halves = (const uint16_t *)page;
            uint32_t n = DIM - d < 32 ? DIM - d : 32;
            assert_nearest_quants(k + d, n, halves[at.key_scale], (int8_t *)page + at.key, 16);
            assert_nearest_quants(v + d, n, halves[at.value_scale], (int8_t *)page + at.value, 1);
        }
    }
}

static void types_have_names_and_sizes(void **state) {
    (void)state;
    FOR_EACH_TYPE(type) {
        kv_type parsed = KV_TYPE_COUNT;
        assert_true(kv_type_parse(kv_type_name(type), &parsed));
        assert_int_equal(parsed, type);
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) assert_int_equal(kv_head_bytes(type, dims[d]) % 64, 0);
    }
    kv_type unused;
    assert_false(kv_type_parse("q8", &unused));
    assert_int_equal(kv_head_bytes(KV_BF16, 64), KV_PAGE_TOKENS * 64 * 4);
    assert_int_equal(kv_head_bytes(KV_F16, 64), KV_PAGE_TOKENS * 64 * 4);
    assert_int_equal(kv_head_bytes(KV_Q8_0, 64), KV_PAGE_TOKENS * (64 * 2 + 8));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_are_right_and_agree),   cmocka_unit_test(causal_tiles_equal_single_queries),
        cmocka_unit_test(weights_end_where_exp_does),  cmocka_unit_test(later_keys_never_leak),
        cmocka_unit_test(merge_joins_blocks),          cmocka_unit_test(merged_blocks_are_the_whole_softmax),
        cmocka_unit_test(all_halves_are_read_exactly), cmocka_unit_test(stored_halves_are_nearest),
        cmocka_unit_test(stored_bfloats_are_nearest),  cmocka_unit_test(tables_agree_on_tiny_and_huge_numbers),
        cmocka_unit_test(zeros_have_no_sign),          cmocka_unit_test(all_scales_are_read_exactly),
        cmocka_unit_test(stored_quants_are_nearest),   cmocka_unit_test(types_have_names_and_sizes),
    };
    return cmocka_run_group_tests_name("attention", tests, set_float_mode, NULL);
}

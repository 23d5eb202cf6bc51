// What the matmul reaches, per format and instruction set, on one thread:
//   GB/s of packed weights read from memory by one row (256 MB, walked once), and TOP/s for 32 and 512 rows
//   (2 operations a multiply-add; 1024 output rows). K is 2048. Best of several, processor time. Data is random, never
//   zeros.
// Usage: bench_matmul [FORMAT...]
#include "kernel/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

enum { K = 2048, OUTPUTS = 1024, MAX_ROWS = 512, CHUNK = 8 }; // panels a call, as a thread claims them

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t n_bytes) {
    void *p = aligned_alloc(64, (n_bytes + 63) & ~(size_t)63);
    check(p);
    return p;
}

// Random bytes, whatever numbers they are; scales that are NaN cost no more than others.
static weight random_weight(uint32_t type, uint32_t rows) {
    weight w = weight_shape(type, rows, K);
    w.data = take(weight_bytes(&w));
    uint64_t seed = 1;
    for (size_t i = 0; i < weight_bytes(&w); i += 4) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t bits = seed >> 32 & 0xbbffbbff; // neither NaN nor infinite as halves
        memcpy(w.data + i, &bits, 4);
    }
    return w;
}

static acts random_acts(const kernels *t, act_group group, uint32_t m) {
    acts a = acts_init(group, m, K, group == ACT_F32 ? NULL : take(acts_bytes(group, m, K)));
    float *x = take((size_t)m * K * 4);
    for (size_t i = 0; i < (size_t)m * K; ++i) x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    a.f = x;
    a.f_stride = K;
    for (uint32_t r = 0; group != ACT_F32 && r < m; ++r)
        t->quantise(&a, r, 0, K / act_group_size(group), x + (size_t)r * K);
    return a;
}

// Seconds of the best of n products of m rows.
static double best_of(int n, const kernels *t, const weight *w, const acts *a, float *out) {
    const size_t stride = w->n_panels * 16 + 16; // no power of two, as in the engine
    double best = 1e9;
    for (int i = 0; i < n; ++i) {
        double start = now();
        for (uint32_t p = 0; p < w->n_panels; p += CHUNK) t->matmul(w, a, p, CHUNK, out + 16 * p, stride);
        double seconds = now() - start;
        if (seconds < best) best = seconds;
    }
    return best;
}

static void bench(const kernels *t, const char *name, uint32_t type) {
    bool slow = t->isa == ISA_SCALAR;
    uint32_t row_bytes = (uint32_t)(weight_shape(type, 16, K).panel_bytes / 16);
    weight small = random_weight(type, OUTPUTS),
           large = random_weight(type, (slow ? 16u << 20 : 256u << 20) / row_bytes / 128 * 128);
    acts one = random_acts(t, small.group, 1), few = random_acts(t, small.group, 32),
         many = random_acts(t, small.group, MAX_ROWS);
    float *out = take((size_t)MAX_ROWS * (OUTPUTS + 16) * 4), *long_out = take(large.n_panels * 64 + 64);
    double ops = 2.0 * K * OUTPUTS, cold = best_of(slow ? 1 : 4, t, &large, &one, long_out);
    double at_32 = 32 * ops / best_of(slow ? 1 : 40, t, &small, &few, out);
    double at_512 = slow ? 0 : 512 * ops / best_of(12, t, &small, &many, out);
    printf("%-8s %-6s GEMV %6.2f GB/s   M=32 %7.4f TOP/s   M=512 %7.4f TOP/s\n", t->name, name,
           (double)weight_bytes(&large) / cold * 1e-9, at_32 * 1e-12, at_512 * 1e-12);
    const acts *all[] = {&one, &few, &many};
    for (int i = 0; i < 3; ++i) free(all[i]->q), free((void *)all[i]->f);
    free(out), free(long_out), free(small.data), free(large.data);
}

int main(int argc, char **argv) {
    _mm_setcsr(_mm_getcsr() | 0x8040);
    const struct {
        const char *name;
        uint32_t type;
    } formats[] = {
#define X(name, ...) {#name, GGUF_##name},
        FORMATS(X)
#undef X
    };
    for (size_t f = 0; f < sizeof formats / sizeof *formats; ++f) {
        bool wanted = argc == 1;
        for (int i = 1; i < argc; ++i) wanted |= !strcmp(argv[i], formats[f].name);
        for (isa i = ISA_SCALAR; wanted && i < ISA_COUNT; ++i)
            if (isa_available(i)) bench(kernels_get(i), formats[f].name, formats[f].type);
    }
    return 0;
}

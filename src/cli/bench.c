// rocmforge bench: how fast this machine runs a model: load, prefill, decode, memory.
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/number.h"
#include "cli/runner.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { MAX_ROUNDS = 99 };

typedef struct args {
    runner_options runner;
    uint32_t n_prefill, n_decode, n_depth, n_rounds;
    bool json;
} args;

enum { OPT_JSON = 256, OPT_ISA, OPT_KV_TYPE };

static const struct argp_option OPTIONS[] = {
    {"model", 'm', "FILE", 0, "GGUF model file", 0},
    {"prefill", 'p', "N", 0, "tokens of the prompt (default 512)", 0},
    {"decode", 'n', "N", 0, "tokens decoded one by one (default 128)", 0},
    {"depth", 'd', "N", 0, "tokens already in the context when decoding starts (default 0)", 0},
    {"rounds", 'r', "N", 0, "repetitions, of which the median counts (default 5)", 0},
    {"json", OPT_JSON, NULL, 0, "print one JSON object", 0},
    {"threads", 't', "N", 0, "worker threads (default: affinity and CPU quota)", 0},
    {"isa", OPT_ISA, "NAME", 0, "scalar, avx2, avx512 or amx", 0},
    {"kv-type", OPT_KV_TYPE, "TYPE", 0, "what the KV cache holds: f16 or q8_0 (default f16)", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case 'm':
        a->runner.model_path = arg;
        break;
    case 'p':
        a->n_prefill = (uint32_t)cli_parse_int(state, "--prefill", arg, 1, 1 << 20);
        break;
    case 'n':
        a->n_decode = (uint32_t)cli_parse_int(state, "--decode", arg, 1, 1 << 20);
        break;
    case 'd':
        a->n_depth = (uint32_t)cli_parse_int(state, "--depth", arg, 0, 1 << 20);
        break;
    case 'r':
        a->n_rounds = (uint32_t)cli_parse_int(state, "--rounds", arg, 1, MAX_ROUNDS);
        break;
    case OPT_JSON:
        a->json = true;
        break;
    case 't':
        a->runner.n_threads = (int)cli_parse_int(state, "--threads", arg, 1, 1024);
        break;
    case OPT_ISA:
        a->runner.isa = arg;
        break;
    case OPT_KV_TYPE:
        a->runner.kv_type = arg;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'; the model goes after -m", arg);
        break;
    case ARGP_KEY_END:
        if (!a->runner.model_path) argp_error(state, "a model is needed: -m FILE");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

// Any tokens do: the time does not depend on which. A fixed pseudo-random walk over the vocabulary.
static int32_t *some_tokens(const runner *r, uint32_t n) {
    int32_t *t = xmalloc(n * sizeof *t);
    uint32_t state = 1;
    for (uint32_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; // Numerical Recipes' LCG
        t[i] = (int32_t)((state >> 8) % model_get_config(r->model)->n_vocab);
    }
    return t;
}

static void feed(runner *r, const int32_t *tokens, uint32_t n) {
    for (uint32_t at = 0; at < n; at += r->max_tokens) {
        uint32_t now = n - at < r->max_tokens ? n - at : r->max_tokens;
        runner_step(r, tokens + at, now, at, at + now == n);
    }
}

static double seconds_since(int64_t start_us) { return (double)(clock_machine_us() - start_us) / 1e6; }

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, uint32_t n) {
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

typedef struct figures {
    double prefill, decode; // tokens per second, medians
} figures;

static figures measure(const args *a, runner *r) {
    double prefill[MAX_ROUNDS], decode[MAX_ROUNDS];
    int32_t *t = some_tokens(r, r->n_ctx);
    feed(r, t, a->n_prefill); // warm: caches, page tables, clocks
    for (uint32_t round = 0; round < a->n_rounds; round++) {
        int64_t start = clock_machine_us();
        feed(r, t, a->n_prefill);
        prefill[round] = a->n_prefill / seconds_since(start);
        feed(r, t, a->n_depth);
        start = clock_machine_us();
        for (uint32_t i = 0; i < a->n_decode; i++) runner_step(r, t + a->n_depth + i, 1, a->n_depth + i, 1);
        decode[round] = a->n_decode / seconds_since(start);
    }
    free(t);
    return (figures){median(prefill, a->n_rounds), median(decode, a->n_rounds)};
}

static void report(const args *a, const runner *r, figures f) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const char *isa = model_get_kernels(r->model)->name;
    if (a->json) {
        printf("{\"isa\": \"%s\", \"threads\": %d, \"n_prefill\": %u, \"n_decode\": %u, \"depth\": %u, "
               "\"prefill_tokens_per_s\": %.2f, \"decode_tokens_per_s\": %.2f, \"load_ms\": %.1f, "
               "\"peak_rss_bytes\": %lld, \"weight_bytes\": %zu, \"kv_bytes\": %zu, \"file_bytes\": %llu}\n",
               isa, pool_size(r->threads), a->n_prefill, a->n_decode, a->n_depth, f.prefill, f.decode,
               (double)r->load_us / 1e3, (long long)usage.ru_maxrss * 1024, model_weight_bytes(r->model), r->kv_bytes,
               (unsigned long long)gguf_file_bytes(model_get_file(r->model)));
        return;
    }
    printf("%-22s %s, %d threads\n", "instruction set", isa, pool_size(r->threads));
    printf("%-22s %.1f tokens/s (%u tokens)\n", "prefill", f.prefill, a->n_prefill);
    printf("%-22s %.1f tokens/s (%u tokens at depth %u)\n", "decode", f.decode, a->n_decode, a->n_depth);
    printf("%-22s %.0f ms\n", "load", (double)r->load_us / 1e3);
    printf("%-22s %.1f MB (weights %.1f MB, KV %.1f MB)\n", "peak memory", (double)usage.ru_maxrss / 1024,
           (double)model_weight_bytes(r->model) / 1048576, (double)r->kv_bytes / 1048576);
}

int cmd_bench(int argc, char **argv) {
    args a = {.n_prefill = 512, .n_decode = 128, .n_rounds = 5, .runner = {.max_tokens = 512, .max_logits = 1}};
    struct argp argp = {OPTIONS,
                        parse,
                        NULL,
                        "Measure prefill and decode speed, load time and memory; medians of --rounds.\v"
                        "Exit status: 0 done, 1 failure, 2 usage.",
                        NULL,
                        NULL,
                        NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    uint32_t decoded = a.n_depth + a.n_decode;
    a.runner.n_ctx = a.n_prefill > decoded ? a.n_prefill : decoded;
    err e = {0};
    runner r = {0};
    if (!runner_open(&r, &a.runner, &e)) return cli_fail(e.code, e.text);
    report(&a, &r, measure(&a, &r));
    runner_close(&r);
    return CLI_OK;
}

// rocmforge bench: how fast this machine runs a model, and how near that is to what the machine could do.
//
// A measurement is a cell: prefill of so many tokens, decode of one sequence at a depth, or decode of several sequences
// at once. Each is repeated and its median counts. A cell's limit is the roofline: the bytes that a step must read at
// the bandwidth measured in the same run, or its int8 operations at the measured peak, whichever takes longer.
// Attention's arithmetic is not part of it. One thread.
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/limits.h"
#include "cli/number.h"
#include "cli/progress.h"
#include "cli/runner.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum {
    MAX_ROUNDS = 99,
    MAX_LIST = 16,
    MAX_SEQS = 1024,
    CHUNK = 512,                  // tokens of a prefill step
    SHORT = KV_PAGE_TOKENS,       // context of each of several sequences, before
    SHORT_STEPS = KV_PAGE_TOKENS, // and tokens that each then gets
};

typedef struct list {
    uint32_t n, at[MAX_LIST];
} list;

typedef struct args {
    runner_options runner;
    list prefill, depth, seqs;
    uint32_t n_decode, n_rounds, seconds;
    bool json;
} args;

enum { OPT_JSON = 256, OPT_ISA, OPT_KV_TYPE, OPT_SECONDS };

static const struct argp_option OPTIONS[] = {
    {"model", 'm', "FILE", 0, "GGUF model file", 0},
    {"prefill", 'p', "LIST", 0, "tokens of a prompt (default 128,512,2048), or none", 0},
    {"decode", 'n', "N", 0, "tokens decoded one by one (default 128)", 0},
    {"depth", 'd', "LIST", 0, "tokens already in the context when decoding starts (default 0,2048), or none", 0},
    {"batch", 'b', "LIST", 0, "sequences decoded at once (default 1,4,8,16,32,64), or none", 0},
    {"rounds", 'r', "N", 0, "repetitions, of which the median counts (default 5)", 0},
    {"seconds", OPT_SECONDS, "N", 0, "a measurement that took this long is not repeated any more (default 3)", 0},
    {"json", OPT_JSON, NULL, 0, "print one JSON object", 0},
    {"threads", 't', "N", 0, "worker threads (default: affinity and CPU quota)", 0},
    {"isa", OPT_ISA, "NAME", 0, "scalar, avx2, avxvnni, avx512 or amx", 0},
    {"kv-type", OPT_KV_TYPE, "TYPE", 0, "what the KV cache holds: bf16, f16 or q8_0 (default bf16)", 0},
    {0},
};

static void parse_list(struct argp_state *state, const char *option, const char *text, int64_t min, int64_t max,
                       list *out) {
    out->n = cli_parse_list(state, option, text, min, max, out->at, MAX_LIST);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case 'm':
        a->runner.model_path = arg;
        break;
    case 'p':
        parse_list(state, "--prefill", arg, 1, 1 << 20, &a->prefill);
        break;
    case 'n':
        a->n_decode = (uint32_t)cli_parse_int(state, "--decode", arg, 1, 1 << 20);
        break;
    case 'd':
        parse_list(state, "--depth", arg, 0, 1 << 20, &a->depth);
        break;
    case 'b':
        parse_list(state, "--batch", arg, 1, MAX_SEQS, &a->seqs);
        break;
    case 'r':
        a->n_rounds = (uint32_t)cli_parse_int(state, "--rounds", arg, 1, MAX_ROUNDS);
        break;
    case OPT_SECONDS:
        a->seconds = (uint32_t)cli_parse_int(state, "--seconds", arg, 0, 86400);
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

// ---- cells -------------------------------------------------------------------------------------------------------

typedef enum kind { PREFILL, DECODE, BATCHED } kind;

typedef struct cell {
    kind kind;
    uint32_t n_tokens, n_seqs, depth; // tokens of each sequence, after depth others
    uint32_t n_rounds;
    double speed[MAX_ROUNDS]; // tokens per second of all sequences, ascending
    double limit;             // likewise
    bool by_bytes;            // what sets the limit: the bytes read, otherwise the operations
} cell;

typedef struct cells {
    uint32_t n;
    cell at[3 * MAX_LIST];
} cells;

static cells cells_of(const args *a) {
    cells c = {0};
    for (uint32_t i = 0; i < a->prefill.n; i++)
        c.at[c.n++] = (cell){.kind = PREFILL, .n_tokens = a->prefill.at[i], .n_seqs = 1};
    for (uint32_t i = 0; i < a->depth.n; i++)
        c.at[c.n++] = (cell){.kind = DECODE, .n_tokens = a->n_decode, .n_seqs = 1, .depth = a->depth.at[i]};
    for (uint32_t i = 0; i < a->seqs.n; i++)
        c.at[c.n++] = (cell){.kind = BATCHED, .n_tokens = SHORT_STEPS, .n_seqs = a->seqs.at[i], .depth = SHORT};
    return c;
}

static void runner_size(const cells *c, runner_options *o) {
    o->n_ctx = 1, o->max_tokens = CHUNK, o->max_logits = 1;
    for (uint32_t i = 0; i < c->n; i++) {
        const cell *x = &c->at[i];
        uint32_t n_ctx = (x->depth + x->n_tokens) * x->n_seqs;
        if (n_ctx > o->n_ctx) o->n_ctx = n_ctx;
        if (x->n_seqs > o->max_logits) o->max_logits = x->n_seqs;
    }
    if (o->max_logits > o->max_tokens) o->max_tokens = o->max_logits;
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

// Decodes tokens [first, end) of each sequence.
static void decode(const cell *c, runner *r, const int32_t *tokens, uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; i++) {
        if (c->kind == DECODE) runner_step(r, tokens + i, 1, i, 1);
        if (c->kind == BATCHED) runner_step_seqs(r, tokens + i, c->n_seqs, i);
    }
}

// What goes before the time: the context.
static void prepare(const cell *c, runner *r, const int32_t *tokens) {
    if (c->kind == DECODE) feed(r, tokens, c->depth);
    if (c->kind == BATCHED) decode(c, r, tokens, 0, c->depth);
}

static void run(const cell *c, runner *r, const int32_t *tokens) {
    if (c->kind == PREFILL) feed(r, tokens, c->n_tokens);
    decode(c, r, tokens, c->depth, c->depth + c->n_tokens);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const cell *c) { return (c->speed[(c->n_rounds - 1) / 2] + c->speed[c->n_rounds / 2]) / 2; }

static void measure(const args *a, cell *c, runner *r, const int32_t *tokens) {
    prepare(c, r, tokens);
    int64_t began = clock_machine_us(), start = began, end = began;
    while (c->n_rounds < a->n_rounds && (!c->n_rounds || end - began < a->seconds * INT64_C(1000000))) {
        run(c, r, tokens);
        end = clock_machine_us();
        c->speed[c->n_rounds++] = (double)c->n_tokens * c->n_seqs * 1e6 / (double)(end - start);
        start = end;
    }
    qsort(c->speed, c->n_rounds, sizeof *c->speed, by_value);
}

// How long a cell must take: each weight is read once a step and multiplied once a token, but for embeddings, which are
// looked up, and what only the last token of a prompt meets: the last layer but for keys and values, and the head. A
// token reads the keys and values before it.
static void set_limit(cell *c, const runner *r, const limits *l) {
    const model_config *m = model_get_config(r->model);
    double n_embed = (double)m->n_vocab * m->d_model, n_head = m->tied_head ? 0 : n_embed;
    double n_body = (double)m->n_params - n_embed - n_head;
    double n_last = m->d_model * (2.0 * m->n_heads * m->head_dim + 3.0 * m->d_ffn); // q and o; gate, up and down
    double weights = (double)model_weight_bytes(r->model), tokens = (double)c->n_tokens * c->n_seqs;
    if (!m->tied_head) weights -= (double)gguf_find_tensor(model_get_file(r->model), "token_embd.weight")->n_bytes;
    double bytes = weights, ops = 2 * n_body * tokens;
    if (c->kind == PREFILL) {
        ops -= 2 * n_last * (tokens - 1);
    } else {
        double kv = (double)model_kv_page_bytes(r->model) / KV_PAGE_TOKENS;
        bytes = weights * c->n_tokens + tokens * kv * (c->depth + c->n_tokens / 2.0);
        ops += 2 * n_embed * tokens;
    }
    double reading = bytes / l->read_bytes_per_s, working = ops / l->int8_ops_per_s;
    c->by_bytes = reading > working;
    c->limit = tokens / (c->by_bytes ? reading : working);
}

static int64_t measure_all(const args *a, cells *c, runner *r) {
    int32_t *tokens = some_tokens(r, r->n_ctx + r->max_tokens);
    progress bar = progress_start("measuring");
    feed(r, tokens, r->n_ctx < CHUNK ? r->n_ctx : CHUNK); // warm: caches, page tables, clocks
    for (uint32_t i = 0; i < c->n; i++) {
        progress_show(&bar, (double)i / c->n);
        measure(a, &c->at[i], r, tokens);
    }
    progress_end(&bar);
    free(tokens);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

// ---- report ------------------------------------------------------------------------------------------------------

static double file_bytes(const runner *r) { return (double)gguf_file_bytes(model_get_file(r->model)); }
static double load_speed(const runner *r) { return file_bytes(r) * 1e6 / (double)r->load_us; }

static void print_table(const cells *c, const runner *r, const limits *l, int64_t rss_bytes) {
    printf("%-26s %s, %d threads\n", "instruction set", model_get_kernels(r->model)->name, pool_size(r->threads));
    printf("%-26s %.1f GB/s read, %.2f T int8 operations/s\n\n", "the machine's limits", l->read_bytes_per_s / 1e9,
           l->int8_ops_per_s / 1e12);
    printf("%-26s %10s %19s   of the limit\n", "", "tokens/s", "least..most");
    for (uint32_t i = 0; i < c->n; i++) {
        const cell *x = &c->at[i];
        char name[64];
        if (x->kind == PREFILL) snprintf(name, sizeof name, "prefill %u", x->n_tokens);
        if (x->kind == DECODE) snprintf(name, sizeof name, "decode %u at depth %u", x->n_tokens, x->depth);
        if (x->kind == BATCHED) snprintf(name, sizeof name, "decode, %u sequences", x->n_seqs);
        printf("%-26s %10.1f %9.1f..%-8.1f   %3.0f %% (%s)\n", name, median(x), x->speed[0], x->speed[x->n_rounds - 1],
               100 * median(x) / x->limit, x->by_bytes ? "reading" : "int8");
    }
    printf("\n%-26s %.0f ms, %.2f GB/s of file, %.0f %% of reading\n", "load", (double)r->load_us / 1e3,
           load_speed(r) / 1e9, 100 * load_speed(r) / l->read_bytes_per_s);
    printf("%-26s %.1f MB, %.2f x file and KV (weights %.1f MB, KV %.1f MB)\n", "peak memory",
           (double)rss_bytes / 1048576, (double)rss_bytes / (file_bytes(r) + (double)r->kv_bytes),
           (double)model_weight_bytes(r->model) / 1048576, (double)r->kv_bytes / 1048576);
}

static json_t *json_of_cells(const cells *c, kind which) {
    json_t *rows = json_array();
    for (uint32_t i = 0; i < c->n; i++) {
        const cell *x = &c->at[i];
        if (x->kind != which) continue;
        json_t *rounds = json_array();
        for (uint32_t j = 0; j < x->n_rounds; j++) json_array_append_new(rounds, json_real(x->speed[j]));
        json_array_append_new(rows, json_pack("{si si si sf so sf ss}", "n_tokens", x->n_tokens, "depth", x->depth,
                                              "n_seqs", x->n_seqs, "tokens_per_s", median(x), "rounds", rounds,
                                              "limit_tokens_per_s", x->limit, "limit", x->by_bytes ? "read" : "int8"));
    }
    return rows;
}

static void print_json(const cells *c, const runner *r, const limits *l, int64_t rss_bytes) {
    json_t *o =
        json_pack("{ss si sf sI sI sI sI s{sf sf} so so so}", "isa", model_get_kernels(r->model)->name, "threads",
                  pool_size(r->threads), "load_ms", (double)r->load_us / 1e3, "peak_rss_bytes", (json_int_t)rss_bytes,
                  "weight_bytes", (json_int_t)model_weight_bytes(r->model), "kv_bytes", (json_int_t)r->kv_bytes,
                  "file_bytes", (json_int_t)file_bytes(r), "limits", "read_bytes_per_s", l->read_bytes_per_s,
                  "int8_ops_per_s", l->int8_ops_per_s, "prefill", json_of_cells(c, PREFILL), "decode",
                  json_of_cells(c, DECODE), "batched", json_of_cells(c, BATCHED));
    check(o);
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(o);
}

static bool bench(const args *a, cells *c, runner *r, err *e) {
    limits l;
    int64_t rss_bytes = measure_all(a, c, r); // before the limits, whose buffer is no part of it
    if (!limits_measure(r->threads, model_get_kernels(r->model)->isa, &l, e)) return false;
    for (uint32_t i = 0; i < c->n; i++) set_limit(&c->at[i], r, &l);
    (a->json ? print_json : print_table)(c, r, &l, rss_bytes);
    return true;
}

int cmd_bench(int argc, char **argv) {
    args a = {.prefill = {3, {128, 512, 2048}},
              .depth = {2, {0, 2048}},
              .seqs = {6, {1, 4, 8, 16, 32, 64}},
              .n_decode = 128,
              .n_rounds = 5,
              .seconds = 3};
    struct argp argp = {OPTIONS,
                        parse,
                        NULL,
                        "Measure how fast a model runs (prefill, decode, several sequences at once, load, memory), and "
                        "how near that is to the memory bandwidth and int8 peak of this machine.\v"
                        "LIST is numbers with commas between them. Exit status: 0 done, 1 failure, 2 usage.",
                        NULL,
                        NULL,
                        NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    cells c = cells_of(&a);
    runner_size(&c, &a.runner);
    err e = {0};
    runner r = {0};
    if (!runner_open(&r, &a.runner, &e)) return cli_fail(e.code, e.text);
    bool ok = bench(&a, &c, &r, &e);
    runner_close(&r);
    return ok ? CLI_OK : cli_fail(e.code, e.text);
}

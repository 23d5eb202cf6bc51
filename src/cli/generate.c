// rocmforge generate: one prompt in, its continuation streamed to stdout. A client of rocmforge.h and nothing else.
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/number.h"
#include "cli/progress.h"
#include "cli/text_input.h"

#include <rocmforge.h>

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_STOPS = 16 };

typedef struct args {
    const char *model;
    text_input input;
    rf_params params;
    rf_engine_options engine;
    const char *stops[MAX_STOPS];
    bool json, verbose;
} args;

enum { // options without a short letter
    OPT_FILE = 256,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPEAT,
    OPT_PRESENCE,
    OPT_FREQUENCY,
    OPT_LAST_N,
    OPT_SEED,
    OPT_STOP,
    OPT_JSON,
    OPT_ISA,
    OPT_IGNORE_EOS,
    OPT_SPECIAL,
    OPT_TIMEOUT,
    OPT_TEMPERATURE,
    OPT_MEMORY,
};

static const struct argp_option OPTIONS[] = {
    {"model", 'm', "FILE", 0, "GGUF model file", 0},
    {"prompt", 'p', "TEXT", 0, "the prompt; without it, --file or standard input", 0},
    {"file", OPT_FILE, "FILE", 0, "read the prompt from FILE", 0},
    {"max-tokens", 'n', "N", 0, "stop after N tokens (default 256; 0: until the context is full)", 0},
    {"temperature", OPT_TEMPERATURE, "T", 0, "0 is greedy (default 0.8)", 0},
    {"temp", 0, NULL, OPTION_ALIAS, NULL, 0},
    {"top-k", OPT_TOP_K, "K", 0, "keep the K likeliest tokens (default 40; 0: all)", 0},
    {"top-p", OPT_TOP_P, "P", 0, "keep the likeliest tokens that together reach P (default 0.95; 1: all)", 0},
    {"min-p", OPT_MIN_P, "P", 0, "drop tokens below P times the likeliest (default 0.05; 0: none)", 0},
    {"repeat-penalty", OPT_REPEAT, "X", 0, "penalise tokens that occurred (default 1: off)", 0},
    {"presence-penalty", OPT_PRESENCE, "X", 0, "-2 to 2 (default 0)", 0},
    {"frequency-penalty", OPT_FREQUENCY, "X", 0, "-2 to 2 (default 0)", 0},
    {"repeat-last-n", OPT_LAST_N, "N", 0, "how far back --repeat-penalty looks (default 64; 0: everything)", 0},
    {"seed", OPT_SEED, "N", 0, "same seed, same answer (default 0)", 0},
    {"stop", OPT_STOP, "TEXT", 0, "end before TEXT would appear; may be given up to 16 times", 0},
    {"ignore-eos", OPT_IGNORE_EOS, NULL, 0, "do not stop at the model's end token", 0},
    {"special", OPT_SPECIAL, NULL, 0, "control tokens written in the prompt (<|im_start|>) are control tokens", 0},
    {"timeout", OPT_TIMEOUT, "SECONDS", 0, "give up after this long (default: never)", 0},
    {"json", OPT_JSON, NULL, 0, "print one JSON object at the end instead of streaming", 0},
    {"threads", 't', "N", 0, "worker threads (default: affinity and CPU quota)", 0},
    {"isa", OPT_ISA, "NAME", 0, "scalar, avx2 or avx512 (default: the widest; the answer is the same)", 0},
    {"ctx", 'c', "N", 0, "context size in tokens (default: the model's own)", 0},
    {"memory", OPT_MEMORY, "BYTES", 0, "weights, KV cache and scratch together (default: what there is)", 0},
    {"verbose", 'v', NULL, 0, "statistics on stderr even when it is not a terminal", 0},
    {0},
};

// The options that become fields of rf_params as they are; false if `key` is none of them.
static bool parse_sampling(int key, const char *arg, struct argp_state *state, rf_params *p) {
    switch (key) {
    case OPT_TEMPERATURE:
        return p->temperature = cli_parse_float(state, "--temperature", arg), true;
    case OPT_TOP_K:
        return p->top_k = (uint32_t)cli_parse_int(state, "--top-k", arg, 0, UINT32_MAX), true;
    case OPT_TOP_P:
        return p->top_p = cli_parse_float(state, "--top-p", arg), true;
    case OPT_MIN_P:
        return p->min_p = cli_parse_float(state, "--min-p", arg), true;
    case OPT_REPEAT:
        return p->repeat_penalty = cli_parse_float(state, "--repeat-penalty", arg), true;
    case OPT_PRESENCE:
        return p->presence_penalty = cli_parse_float(state, "--presence-penalty", arg), true;
    case OPT_FREQUENCY:
        return p->frequency_penalty = cli_parse_float(state, "--frequency-penalty", arg), true;
    case OPT_LAST_N:
        return p->penalty_last_n = (uint32_t)cli_parse_int(state, "--repeat-last-n", arg, 0, UINT32_MAX), true;
    case OPT_SEED:
        return p->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX), true;
    case OPT_IGNORE_EOS:
        return p->ignore_eos = true;
    case OPT_SPECIAL:
        return p->parse_special = true;
    case OPT_TIMEOUT:
        return p->timeout_ms = cli_parse_int(state, "--timeout", arg, 1, 1000000) * 1000, true;
    case 'n':
        return p->max_tokens = (uint32_t)cli_parse_int(state, "--max-tokens", arg, 0, UINT32_MAX), true;
    default:
        return false;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    if (parse_sampling(key, arg, state, &a->params)) return 0;
    switch (key) {
    case 'm':
        a->model = arg;
        return 0;
    case 'p':
        a->input.text = arg;
        return 0;
    case OPT_FILE:
        a->input.file = arg;
        return 0;
    case OPT_STOP:
        if (a->params.n_stop == MAX_STOPS) argp_error(state, "--stop may be given at most %d times", MAX_STOPS);
        a->stops[a->params.n_stop++] = arg;
        return 0;
    case OPT_JSON:
        a->json = true;
        return 0;
    case 't':
        a->engine.n_threads = (int)cli_parse_int(state, "--threads", arg, 1, 1024);
        return 0;
    case OPT_ISA:
        a->engine.isa = arg;
        return 0;
    case 'c':
        a->engine.n_ctx = (uint32_t)cli_parse_int(state, "--ctx", arg, 1, UINT32_MAX);
        return 0;
    case OPT_MEMORY:
        a->engine.memory_bytes = (uint64_t)cli_parse_int(state, "--memory", arg, 1, INT64_MAX);
        return 0;
    case 'v':
        a->verbose = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'; the prompt goes after -p", arg);
        return EINVAL;
    case ARGP_KEY_END:
        if (!a->model) argp_error(state, "a model is needed: -m FILE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

// What a run leaves behind besides what it streamed.
typedef struct outcome {
    char *text;     // heap; kept for --json only
    size_t n_bytes; // of the answer so far
    json_t *tokens; // array; --json only
    rf_event end;
    bool output_failed;
} outcome;

static void take_text(outcome *o, const rf_event *event, bool json) {
    if (!json) {
        bool written = fwrite(event->text, 1, event->n_bytes, stdout) == event->n_bytes && fflush(stdout) == 0;
        o->output_failed |= !written;
        o->n_bytes += event->n_bytes;
        return;
    }
    o->text = realloc(o->text, o->n_bytes + event->n_bytes + 1);
    memcpy(o->text + o->n_bytes, event->text, event->n_bytes);
    o->n_bytes += event->n_bytes;
    for (size_t i = 0; i < event->n_tokens; i++) json_array_append_new(o->tokens, json_integer(event->tokens[i]));
}

static void follow(rf_request *request, bool json, outcome *o) {
    rf_event event;
    do {
        rf_wait(request, &event, -1);
        if (event.kind == RF_EVENT_TEXT) take_text(o, &event, json);
        if (o->output_failed) rf_cancel(request);
    } while (event.kind != RF_EVENT_END);
    o->end = event;
}

static double per_second(uint32_t tokens, int64_t us) { return us > 0 ? tokens * 1e6 / (double)us : 0; }

static void print_json(const outcome *o) {
    const rf_usage *u = &o->end.usage;
    json_t *root =
        json_pack("{s:s%, s:O, s:s, s:{s:I, s:I, s:I}, s:{s:f, s:f, s:f}}", "text", o->text ? o->text : "", o->n_bytes,
                  "tokens", o->tokens, "finish_reason", rf_finish_name(o->end.finish), "usage", "prompt_tokens",
                  (json_int_t)u->prompt_tokens, "completion_tokens", (json_int_t)u->completion_tokens, "cached_tokens",
                  (json_int_t)u->cached_tokens, "timings", "queued_ms", u->queued_us / 1e3, "prefill_ms",
                  u->prefill_us / 1e3, "decode_ms", u->decode_us / 1e3);
    if (o->end.finish == RF_FINISH_ERROR) json_object_set_new(root, "error", json_string(o->end.error.message));
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

static void print_statistics(const rf_usage *u) {
    fprintf(stderr, "\nprompt %u tokens, %.1f tokens/s; answer %u tokens, %.1f tokens/s\n", u->prompt_tokens,
            per_second(u->prompt_tokens - u->cached_tokens, u->prefill_us), u->completion_tokens,
            per_second(u->completion_tokens ? u->completion_tokens - 1 : 0, u->decode_us));
}

static int finish(const args *a, const outcome *o) {
    if (a->json)
        print_json(o);
    else if (o->n_bytes && !o->output_failed)
        putchar('\n');
    if (fflush(stdout) != 0 || o->output_failed) return cli_fail(ERR_IO, "cannot write to standard output");
    if (a->verbose || isatty(STDERR_FILENO)) print_statistics(&o->end.usage);
    switch (o->end.finish) {
    case RF_FINISH_CANCELLED:
        return CLI_INTERRUPTED;
    case RF_FINISH_TIMEOUT:
        return cli_fail(ERR_STOPPED, "the time given by --timeout is over");
    case RF_FINISH_ERROR:
        return cli_fail((int)o->end.error.code, o->end.error.message);
    default:
        return CLI_OK;
    }
}

static int run(args *a, rf_engine *engine, interrupt *ctrl_c) {
    rf_error error = {0};
    rf_request *request = rf_submit(engine, &a->params, &error);
    if (!request) return cli_fail((int)error.code, error.message);
    interrupt_set_request(ctrl_c, request);
    outcome o = {.tokens = json_array()};
    follow(request, a->json, &o);
    interrupt_set_request(ctrl_c, NULL);
    int status = finish(a, &o);
    rf_release(request);
    json_decref(o.tokens);
    free(o.text);
    return status;
}

int cmd_generate(int argc, char **argv) {
    args a = {.params = rf_params_default()};
    a.params.max_tokens = 256;
    a.params.stop = a.stops;
    struct argp argp = {
        OPTIONS, parse, NULL, "Continue a prompt.\vExit status: 0 done, 1 failure, 2 usage, 130 Ctrl+C.",
        NULL,    NULL,  NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    interrupt *ctrl_c = interrupt_start();
    err e = {0};
    if (!text_input_read(&a.input, &e)) return cli_fail(e.code, e.text);
    a.params.prompt = a.input.bytes;
    a.params.n_prompt_bytes = a.input.n_bytes;
    progress bar = progress_start("loading");
    a.engine.progress = progress_show, a.engine.progress_arg = &bar;
    rf_error error = {0};
    rf_engine *engine = rf_engine_open(a.model, &a.engine, &error);
    progress_end(&bar);
    int status = engine ? run(&a, engine, ctrl_c) : cli_fail((int)error.code, error.message);
    rf_engine_close(engine, 0);
    text_input_free(&a.input);
    return status;
}

// Implements engine_options.h.
#include "cli/engine_options.h"

#include "cli/cli.h"
#include "cli/number.h"
#include "cli/progress.h"
#include "cli/text_input.h"

enum { OPT_ISA = 256, OPT_KV_TYPE, OPT_MEMORY, OPT_SPECULATE, OPT_TEMPLATE };

static const struct argp_option OPTIONS[] = {
    {"model", 'm', "FILE", 0, "GGUF model file", 0},
    {"threads", 't', "N", 0, "worker threads (default: affinity and CPU quota)", 0},
    {"isa", OPT_ISA, "NAME", 0, "scalar, avx2, avxvnni, avx512 or amx (default: the widest; the answer is the same)",
     0},
    {"ctx", 'c', "N", 0, "context size in tokens (default: the model's own)", 0},
    {"kv-type", OPT_KV_TYPE, "TYPE", 0, "what the KV cache holds: bf16, f16 or q8_0 (default bf16)", 0},
    {"speculate", OPT_SPECULATE, "N", 0,
     "guess up to N tokens ahead where the text repeats itself (default 0; the answer is the same)", 0},
    {"chat-template", OPT_TEMPLATE, "FILE", 0, "how conversations are written (default: the model's own template)", 0},
    {"memory", OPT_MEMORY, "BYTES", 0, "weights, KV cache and scratch together (default: what there is)", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    engine_options *o = state->input;
    o->given |= key == 'm' || key == 't' || key == 'c' || (key >= OPT_ISA && key <= OPT_TEMPLATE);
    switch (key) {
    case 'm':
        return o->model = arg, 0;
    case 't':
        return o->options.n_threads = (int)cli_parse_int(state, "--threads", arg, 1, 1024), 0;
    case OPT_ISA:
        return o->options.isa = arg, 0;
    case OPT_KV_TYPE:
        return o->options.kv_type = arg, 0;
    case OPT_SPECULATE:
        return o->options.speculate = (uint32_t)cli_parse_int(state, "--speculate", arg, 0, 32), 0;
    case OPT_TEMPLATE:
        return o->chat_template = arg, 0;
    case OPT_MEMORY:
        return o->options.memory_bytes = (uint64_t)cli_parse_int(state, "--memory", arg, 1, INT64_MAX), 0;
    case 'c':
        return o->options.n_ctx = (uint32_t)cli_parse_int(state, "--ctx", arg, 1, UINT32_MAX), 0;
    case ARGP_KEY_END:
        if (!o->model && !o->optional) argp_error(state, "a model is needed: -m FILE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp ENGINE_ARGP = {OPTIONS, parse, NULL, NULL, NULL, NULL, NULL};

rf_engine *engine_options_open(engine_options *o, int *status) {
    text_input chat_template = {.file = o->chat_template};
    err e = {0};
    if (o->chat_template && !text_input_read(&chat_template, &e)) {
        *status = cli_fail(e.code, e.text);
        return NULL;
    }
    o->options.chat_template = chat_template.bytes;
    progress bar = progress_start("loading");
    o->options.progress = progress_show, o->options.progress_arg = &bar;
    rf_error error = {0};
    rf_engine *engine = rf_engine_open(o->model, &o->options, &error);
    progress_end(&bar);
    text_input_free(&chat_template);
    o->options.chat_template = NULL;
    if (!engine) *status = cli_fail((int)error.code, error.message);
    return engine;
}

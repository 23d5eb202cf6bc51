// Implements sampling_options.h. Ranges are the engine's to check; here only what is no number is refused.
#include "cli/sampling_options.h"

#include "cli/number.h"

enum { // options without a short letter
    OPT_TEMPERATURE = 256,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPEAT,
    OPT_PRESENCE,
    OPT_FREQUENCY,
    OPT_LAST_N,
    OPT_SEED,
    OPT_STOP,
    OPT_IGNORE_EOS,
    OPT_TIMEOUT,
};

static const struct argp_option OPTIONS[] = {
    {"max-tokens", 'n', "N", 0, "stop after N tokens (default 256, chat 0; 0: until the context is full)", 0},
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
    {"timeout", OPT_TIMEOUT, "SECONDS", 0, "give up after this long (default: never)", 0},
    {0},
};

static void add_stop(sampling_options *s, const char *arg, struct argp_state *state) {
    if (s->params.n_stop == MAX_STOPS) argp_error(state, "--stop may be given at most %d times", MAX_STOPS);
    s->stops[s->params.n_stop++] = arg;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    sampling_options *s = state->input;
    rf_params *p = &s->params;
    switch (key) {
    case 'n':
        return p->max_tokens = (uint32_t)cli_parse_int(state, "--max-tokens", arg, 0, UINT32_MAX), 0;
    case OPT_TEMPERATURE:
        return p->temperature = cli_parse_float(state, "--temperature", arg), 0;
    case OPT_TOP_K:
        return p->top_k = (uint32_t)cli_parse_int(state, "--top-k", arg, 0, UINT32_MAX), 0;
    case OPT_TOP_P:
        return p->top_p = cli_parse_float(state, "--top-p", arg), 0;
    case OPT_MIN_P:
        return p->min_p = cli_parse_float(state, "--min-p", arg), 0;
    case OPT_REPEAT:
        return p->repeat_penalty = cli_parse_float(state, "--repeat-penalty", arg), 0;
    case OPT_PRESENCE:
        return p->presence_penalty = cli_parse_float(state, "--presence-penalty", arg), 0;
    case OPT_FREQUENCY:
        return p->frequency_penalty = cli_parse_float(state, "--frequency-penalty", arg), 0;
    case OPT_LAST_N:
        return p->penalty_last_n = (uint32_t)cli_parse_int(state, "--repeat-last-n", arg, 0, UINT32_MAX), 0;
    case OPT_SEED:
        return p->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX), 0;
    case OPT_STOP:
        return add_stop(s, arg, state), 0;
    case OPT_IGNORE_EOS:
        return p->ignore_eos = true, 0;
    case OPT_TIMEOUT:
        return p->timeout_ms = cli_parse_int(state, "--timeout", arg, 1, 1000000) * 1000, 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp SAMPLING_ARGP = {OPTIONS, parse, NULL, NULL, NULL, NULL, NULL};

void sampling_options_init(sampling_options *s, uint32_t max_tokens) {
    s->params = rf_params_default();
    s->params.max_tokens = max_tokens;
    s->params.stop = s->stops;
}

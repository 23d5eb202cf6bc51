// rocmforge perplexity: how well a model predicts a text. Also the window through which tests look at raw logits.
#include "cli/cli.h"
#include "cli/number.h"
#include "cli/progress.h"
#include "cli/runner.h"
#include "cli/text_input.h"
#include "kernel/canon.h"
#include "text/vocab.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_TOKENS = 128 };

typedef struct args {
    runner_options runner;
    text_input input;
    const char *logits_path;
    bool json;
} args;

enum { OPT_JSON = 256, OPT_ISA, OPT_LOGITS, OPT_KV_TYPE };

static const struct argp_option OPTIONS[] = {
    {"model", 'm', "FILE", 0, "GGUF model file", 0},
    {"ctx", 'c', "N", 0, "window size in tokens (default 512)", 0},
    {"json", OPT_JSON, NULL, 0, "print one JSON object", 0},
    {"logits", OPT_LOGITS, "OUT", 0, "also write the logits after each token: raw float32, [tokens][vocabulary]", 0},
    {"threads", 't', "N", 0, "worker threads (default: affinity and CPU quota)", 0},
    {"isa", OPT_ISA, "NAME", 0, "scalar, avx2, avxvnni, avx512 or amx", 0},
    {"kv-type", OPT_KV_TYPE, "TYPE", 0, "what the KV cache holds: bf16, f16 or q8_0 (default bf16)", 0},
    {0},
};

static const char DOC[] =
    "Perplexity of a model on a text (FILE, or standard input).\v"
    "The text is turned into tokens once, without special tokens, and cut into windows of --ctx tokens that do not "
    "overlap. Each window starts with an empty context (and the model's BOS token, when the model asks for one, which "
    "takes a place in the window). Every token of a window but its first is scored: its negative log-likelihood in "
    "nats "
    "given all tokens before it in the window. The last window may be shorter. Perplexity is exp of the mean.\n"
    "Exit status: 0 done, 1 failure, 2 usage.";

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case 'm':
        a->runner.model_path = arg;
        break;
    case 'c':
        a->runner.n_ctx = (uint32_t)cli_parse_int(state, "--ctx", arg, 2, 1 << 24);
        break;
    case OPT_JSON:
        a->json = true;
        break;
    case OPT_LOGITS:
        a->logits_path = arg;
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
        if (a->input.file) argp_error(state, "one FILE only");
        a->input.file = arg;
        break;
    case ARGP_KEY_END:
        if (!a->runner.model_path) argp_error(state, "a model is needed: -m FILE");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

typedef struct score {
    double nll, nll_squares;
    size_t n_scored, n_windows;
} score;

// Negative log-likelihood of `target` under a row of logits, in nats; deterministic (canon.h).
static double negative_log_likelihood(const float *logits, uint32_t n_vocab, int32_t target) {
    float top = logits[0];
    for (uint32_t i = 1; i < n_vocab; i++) top = logits[i] > top ? logits[i] : top;
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) sum += canon_exp(logits[i] - top);
    return mathd_log(sum) - ((double)logits[target] - (double)top);
}

static void score_row(score *s, const float *logits, uint32_t n_vocab, int32_t target) {
    double nll = negative_log_likelihood(logits, n_vocab, target);
    s->nll += nll;
    s->nll_squares += nll * nll;
    s->n_scored++;
}

// One window; its rows of logits go to `out` if there is one. False: writing failed.
static bool score_window(runner *r, const int32_t *tokens, uint32_t n, FILE *out, score *s) {
    uint32_t n_vocab = model_get_config(r->model)->n_vocab;
    for (uint32_t at = 0; at < n; at += STEP_TOKENS) {
        uint32_t now = n - at < STEP_TOKENS ? n - at : STEP_TOKENS;
        runner_step(r, tokens + at, now, at, now);
        for (uint32_t i = 0; i < now; i++) {
            const float *row = r->logits + i * model_logits_stride(r->model);
            if (at + i + 1 < n) score_row(s, row, n_vocab, tokens[at + i + 1]);
            if (out && fwrite(row, sizeof *row, n_vocab, out) != n_vocab) return false;
        }
    }
    s->n_windows++;
    return true;
}

static bool score_text(runner *r, const vocab *v, const tokens *t, FILE *out, score *s) {
    bool bos = vocab_adds_bos(v) && vocab_bos(v) >= 0;
    uint32_t room = r->n_ctx - bos;
    int32_t *window = xmalloc(r->n_ctx * sizeof *window);
    bool ok = true;
    progress bar = progress_start("scoring");
    for (size_t at = 0; at < t->n && ok; at += room) {
        uint32_t n = t->n - at < room ? (uint32_t)(t->n - at) : room;
        if (bos) window[0] = vocab_bos(v);
        memcpy(window + bos, t->ids + at, n * sizeof *window);
        ok = score_window(r, window, n + bos, out, s);
        progress_show(&bar, (double)(at + n) / (double)t->n);
    }
    progress_end(&bar);
    free(window);
    return ok;
}

static void print_score(const score *s, const tokens *t, bool json) {
    double n = s->n_scored ? (double)s->n_scored : 1, mean = s->nll / n;
    double deviation = sqrt(fmax(0, s->nll_squares / n - mean * mean) / n), perplexity = mathd_exp(mean);
    if (json)
        printf("{\"tokens\": %zu, \"scored\": %zu, \"windows\": %zu, \"nll\": %.9g, \"nll_per_token\": %.9g, "
               "\"perplexity\": %.9g, \"perplexity_stderr\": %.4g}\n",
               t->n, s->n_scored, s->n_windows, s->nll, mean, perplexity, perplexity * deviation);
    else
        printf("perplexity %.4f +- %.4f (%.5f nats per token, %zu tokens scored in %zu windows)\n", perplexity,
               perplexity * deviation, mean, s->n_scored, s->n_windows);
}

static bool measure(args *a, runner *r, err *e) {
    vocab *v = vocab_open(model_get_file(r->model), e);
    tokens t = {0};
    score s = {0};
    FILE *out = NULL;
    bool ok = v && vocab_encode(v, a->input.bytes, a->input.n_bytes, false, &t, e);
    if (ok && t.n < 2) ok = fail(e, ERR_USAGE, "the text has %zu tokens; at least 2 are needed", t.n);
    if (ok && a->logits_path && !(out = fopen(a->logits_path, "wbe")))
        ok = fail(e, ERR_IO, "cannot create '%s': %s", a->logits_path, strerror(errno));
    if (ok) {
        ok = score_text(r, v, &t, out, &s);
        if (out && fclose(out) != 0) ok = false;
        if (!ok) fail(e, ERR_IO, "cannot write '%s': %s", a->logits_path, strerror(errno));
    }
    if (ok) print_score(&s, &t, a->json);
    free(t.ids);
    vocab_close(v);
    return ok;
}

int cmd_perplexity(int argc, char **argv) {
    args a = {.runner = {.n_ctx = 512, .max_tokens = STEP_TOKENS, .max_logits = STEP_TOKENS}};
    struct argp argp = {OPTIONS, parse, "[FILE]", DOC, NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    err e = {0};
    runner r = {0};
    bool ok = text_input_read(&a.input, &e) && runner_open(&r, &a.runner, &e) && measure(&a, &r, &e);
    runner_close(&r);
    text_input_free(&a.input);
    return ok ? CLI_OK : cli_fail(e.code, e.text);
}

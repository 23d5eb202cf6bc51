// rocmforge generate: one prompt in, its continuation streamed to stdout. A client of rocmforge.h, or of a server.
#include "cli/cli.h"
#include "cli/engine_options.h"
#include "cli/interrupt.h"
#include "cli/remote_generate.h"
#include "cli/sampling_options.h"
#include "cli/text_input.h"

#include <rocmforge.h>

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
    text_input input;
    sampling_options sampling;
    engine_options engine;
    remote_options where; // host NULL: here
    bool json, verbose;
} args;

enum { OPT_FILE = 256, OPT_SPECIAL, OPT_JSON };

static const struct argp_option OPTIONS[] = {
    {"prompt", 'p', "TEXT", 0, "the prompt; without it, --file or standard input", 0},
    {"file", OPT_FILE, "FILE", 0, "read the prompt from FILE", 0},
    {"special", OPT_SPECIAL, NULL, 0, "control tokens written in the prompt (<|im_start|>) are control tokens", 0},
    {"json", OPT_JSON, NULL, 0, "print one JSON object at the end instead of streaming", 0},
    {"verbose", 'v', NULL, 0, "statistics on stderr even when it is not a terminal", 0},
    {0},
};
static const struct argp_child CHILDREN[] = {{&ENGINE_ARGP, 0, "Engine:", 1},
                                             {&SAMPLING_ARGP, 0, "Sampling:", 2},
                                             {&REMOTE_ARGP, 0, "A running server instead of a model:", 3},
                                             {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->engine;
        state->child_inputs[1] = &a->sampling;
        state->child_inputs[2] = &a->where;
        return 0;
    case 'p':
        return a->input.text = arg, 0;
    case OPT_FILE:
        return a->input.file = arg, 0;
    case OPT_SPECIAL:
        return a->sampling.params.parse_special = true, 0;
    case OPT_JSON:
        return a->json = true, 0;
    case 'v':
        return a->verbose = true, 0;
    case ARGP_KEY_END:
        if (a->where.host && a->engine.given)
            argp_error(state, "with --host the model and its options are the server's");
        if (!a->where.host && !a->engine.model) argp_error(state, "a model is needed: -m FILE, or a server: --host");
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'; the prompt goes after -p", arg);
        return EINVAL;
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
    bool json, output_failed;
} outcome;

static void take_text(outcome *o, const rf_event *event) {
    if (!o->json) {
        o->output_failed |= !cli_show_text(stdout, event->text, event->n_bytes);
        o->n_bytes += event->n_bytes;
        return;
    }
    o->text = realloc(o->text, o->n_bytes + event->n_bytes + 1);
    memcpy(o->text + o->n_bytes, event->text, event->n_bytes);
    o->n_bytes += event->n_bytes;
    for (size_t i = 0; i < event->n_tokens; i++) json_array_append_new(o->tokens, json_integer(event->tokens[i]));
}

// False: nobody can see the answer any more.
static bool take_event(void *self, const rf_event *event) {
    outcome *o = self;
    if (event->kind == RF_EVENT_TEXT) take_text(o, event);
    if (event->kind == RF_EVENT_END) o->end = *event;
    return !o->output_failed;
}

static void follow(rf_request *request, outcome *o) {
    rf_event event;
    do {
        rf_wait(request, &event, -1);
        if (!take_event(o, &event)) rf_cancel(request);
    } while (event.kind != RF_EVENT_END);
}

static void print_json(const outcome *o) {
    const rf_usage *u = &o->end.usage;
    json_t *root =
        json_pack("{s:s%, s:O, s:s, s:{s:I, s:I, s:I, s:I, s:I}, s:{s:f, s:f, s:f}}", "text", o->text ? o->text : "",
                  o->n_bytes, "tokens", o->tokens, "finish_reason", rf_finish_name(o->end.finish), "usage",
                  "prompt_tokens", (json_int_t)u->prompt_tokens, "completion_tokens", (json_int_t)u->completion_tokens,
                  "cached_tokens", (json_int_t)u->cached_tokens, "draft_tokens", (json_int_t)u->draft_tokens,
                  "accepted_tokens", (json_int_t)u->accepted_tokens, "timings", "queued_ms", u->queued_us / 1e3,
                  "prefill_ms", u->prefill_us / 1e3, "decode_ms", u->decode_us / 1e3);
    if (o->end.finish == RF_FINISH_ERROR) json_object_set_new(root, "error", json_string(o->end.error.message));
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

static void print_statistics(const rf_usage *u) {
    fputc('\n', stderr);
    cli_print_usage(stderr, u);
}

static int finish(const args *a, const outcome *o) {
    if (a->json)
        print_json(o);
    else if (o->n_bytes && !o->output_failed)
        putchar('\n');
    if (fflush(stdout) != 0 || o->output_failed) return cli_fail(ERR_IO, "cannot write to standard output");
    if (a->verbose || isatty(STDERR_FILENO)) print_statistics(&o->end.usage);
    switch (o->end.finish) {
    case RF_FINISH_CANCELLED: // by us; or a server's owner has
        return o->end.error.code ? cli_fail((int)o->end.error.code, o->end.error.message) : CLI_INTERRUPTED;
    case RF_FINISH_TIMEOUT:
        return cli_fail(ERR_STOPPED, "the time given by --timeout is over");
    case RF_FINISH_ERROR:
        return cli_fail((int)o->end.error.code, o->end.error.message);
    default:
        return CLI_OK;
    }
}

static bool run_here(args *a, interrupt *ctrl_c, outcome *o, int *status) {
    rf_error error = {0};
    rf_engine *engine = engine_options_open(&a->engine, status);
    if (!engine) return false;
    rf_request *request = rf_submit(engine, &a->sampling.params, &error);
    if (request) {
        interrupt_set_request(ctrl_c, request);
        follow(request, o);
        interrupt_set_request(ctrl_c, NULL);
        rf_release(request);
    } else {
        *status = cli_fail((int)error.code, error.message);
    }
    rf_engine_close(engine, 0);
    return request != NULL;
}

static bool run_there(args *a, interrupt *ctrl_c, outcome *o, int *status) {
    err e = {0};
    remote *r = remote_open(&a->where, &e);
    bool ended = r && remote_generate(r, &a->sampling.params, ctrl_c, take_event, o, &e);
    remote_close(r);
    if (!ended) *status = cli_fail((int)e.code, e.text);
    return ended;
}

int cmd_generate(int argc, char **argv) {
    args a = {0};
    sampling_options_init(&a.sampling, 256);
    a.engine.optional = true;
    struct argp argp = {
        OPTIONS,  parse, NULL, "Continue a prompt.\vExit status: 0 done, 1 failure, 2 usage, 130 Ctrl+C.",
        CHILDREN, NULL,  NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    interrupt *ctrl_c = interrupt_start();
    err e = {0};
    if (!text_input_read(&a.input, &e)) return cli_fail(e.code, e.text);
    a.sampling.params.prompt = a.input.bytes;
    a.sampling.params.n_prompt_bytes = a.input.n_bytes;
    int status = CLI_FAILURE;
    outcome o = {.tokens = json_array(), .json = a.json};
    if (a.where.host ? run_there(&a, ctrl_c, &o, &status) : run_here(&a, ctrl_c, &o, &status)) status = finish(&a, &o);
    json_decref(o.tokens);
    free(o.text);
    text_input_free(&a.input);
    return status;
}

// rocmforge batch: a JSONL file of requests in, their answers out as JSONL, in the order of the input. A client of
// rocmforge.h and nothing else.
//
// Up to WINDOW records are under way at once, as many of them in the engine as its queue takes. One thread; it sleeps
// on one eventfd that requests and Ctrl+C ring, so it neither polls nor is held up by the slowest answer.
// A record is one line, written whole and flushed: whatever ends the program, the output is good up to its last
// newline. It holds nothing that differs from run to run (no times), so a resumed file equals an uninterrupted one.
#include "base/buf.h"
#include "cli/batch_record.h"
#include "cli/cli.h"
#include "cli/engine_options.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/sampling_options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 1024 };

typedef struct args {
    const char *input, *output; // output NULL: standard output
    bool tokens;
    sampling_options sampling; // what a record does not say
    engine_options engine;
} args;

typedef struct slot { // one record under way: first a request, then a line
    json_t *id;
    rf_request *request;
    buf text;
    json_t *tokens;   // NULL unless asked for
    char *line;       // the finished record
    int64_t in_bytes; // of the input up to this record's end
} slot;

typedef struct batch {
    const args *args;
    rf_engine *engine;
    FILE *in, *out;
    char *line; // the next record's, n_line bytes; 0: not read yet
    size_t n_line, line_capacity;
    int64_t in_bytes, in_total; // read, and the size of the input (0: unknown)
    bool at_end, queue_full;
    int bell;
    slot slots[WINDOW];                   // record i is in slots[i % WINDOW]
    uint64_t n_read, n_written, n_failed; // records; n_written <= n_read <= n_written + WINDOW
    progress bar;
} batch;

enum { OPT_TOKENS = 256, OPT_SPECIAL };

static const struct argp_option OPTIONS[] = {
    {"output", 'o', "FILE", 0, "write to FILE, and go on where an interrupted run of the same batch ended", 0},
    {"tokens", OPT_TOKENS, NULL, 0, "the tokens of each answer, too", 0},
    {"special", OPT_SPECIAL, NULL, 0, "control tokens written in the prompts (<|im_start|>) are control tokens", 0},
    {0},
};
static const struct argp_child CHILDREN[] = {
    {&ENGINE_ARGP, 0, "Engine:", 1}, {&SAMPLING_ARGP, 0, "Sampling, where a record does not say:", 2}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->engine;
        state->child_inputs[1] = &a->sampling;
        return 0;
    case 'o':
        return a->output = arg, 0;
    case OPT_TOKENS:
        return a->tokens = true, 0;
    case OPT_SPECIAL:
        return a->sampling.params.parse_special = true, 0;
    case ARGP_KEY_ARG:
        if (a->input) argp_error(state, "one FILE only; '%s' is a second one", arg);
        return a->input = arg, 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a FILE with one JSON object per line is needed");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

// ---- lines in, lines out -----------------------------------------------------------------------------------------

// Makes b->line the next line that is not blank, unless it is there already. False at the end and on failure.
static bool next_line(batch *b, err *e) {
    errno = 0;
    while (!b->n_line) {
        ssize_t n = getline(&b->line, &b->line_capacity, b->in);
        if (n < 0 && !feof(b->in)) return fail(e, ERR_IO, "cannot read '%s': %s", b->args->input, strerror(errno));
        if (n < 0) return b->at_end = true, false;
        b->in_bytes += n;
        if (strspn(b->line, " \t\r\n") < (size_t)n) b->n_line = (size_t)n;
    }
    return true;
}

static bool write_finished(batch *b, err *e) {
    for (slot *s; b->n_written < b->n_read && (s = &b->slots[b->n_written % WINDOW])->line; b->n_written++) {
        if (fputs(s->line, b->out) < 0 || fflush(b->out) != 0)
            return fail(e, ERR_IO, "cannot write to %s: %s", b->args->output ? b->args->output : "standard output",
                        strerror(errno));
        if (b->in_total) progress_show(&b->bar, (double)s->in_bytes / (double)b->in_total);
        free(s->line);
        json_decref(s->id);
        *s = (slot){0};
    }
    return true;
}

// ---- one record --------------------------------------------------------------------------------------------------

static void drop_request(slot *s) {
    if (s->request) rf_release(s->request);
    buf_free(&s->text);
    json_decref(s->tokens);
    s->request = NULL, s->tokens = NULL;
}

static void end_record(batch *b, slot *s, uint64_t index, const rf_event *end) {
    s->line = batch_record_answer(s->id, index, &s->text, s->tokens, end);
    b->n_failed += end->finish == RF_FINISH_ERROR || end->finish == RF_FINISH_TIMEOUT;
    drop_request(s);
    b->queue_full = false;
}

// The request of a record, whose conversation is written as a prompt first.
static rf_request *submit(rf_engine *engine, const batch_record *record, rf_params *params, rf_error *error) {
    if (params->prompt) return rf_submit(engine, params, error);
    char *json = json_dumps(record->chat, JSON_COMPACT);
    check(json);
    rf_prompt prompt;
    rf_request *request = NULL;
    if (rf_chat_render(engine, json, strlen(json), &prompt, error)) {
        params->prompt_tokens = prompt.tokens, params->n_prompt_tokens = prompt.n_tokens;
        request = rf_submit(engine, params, error);
    }
    rf_prompt_free(&prompt);
    free(json);
    return request;
}

static void ring(void *bell) { eventfd_write(*(int *)bell, 1); }

// Takes b->line as the next record, or leaves it there and sets queue_full.
static void start_record(batch *b) {
    slot *s = &b->slots[b->n_read % WINDOW];
    rf_params params = b->args->sampling.params;
    params.notify = ring, params.notify_arg = &b->bell;
    batch_record record = {0};
    rf_event end = {.finish = RF_FINISH_ERROR};
    err e = {0};
    if (batch_record_read(&record, b->line, b->n_line, &params, &e))
        s->request = submit(b->engine, &record, &params, &end.error);
    else
        memcpy(end.error.message, e.text, sizeof end.error.message);
    b->queue_full = end.error.code == RF_ERR_BUSY && b->n_written < b->n_read;
    if (!b->queue_full) {
        s->id = json_incref(record.id);
        s->in_bytes = b->in_bytes;
        if (!s->request)
            end_record(b, s, b->n_read, &end);
        else if (b->args->tokens)
            s->tokens = json_array();
        b->n_read++, b->n_line = 0;
    }
    batch_record_free(&record);
}

static void collect_events(batch *b, slot *s, uint64_t index) {
    rf_event event;
    while (s->request && rf_poll(s->request, &event)) {
        if (event.kind == RF_EVENT_TEXT) buf_append(&s->text, event.text, event.n_bytes);
        for (size_t i = 0; s->tokens && event.kind == RF_EVENT_TEXT && i < event.n_tokens; i++)
            json_array_append_new(s->tokens, json_integer(event.tokens[i]));
        if (event.kind == RF_EVENT_END) end_record(b, s, index, &event);
    }
}

// ---- the run -----------------------------------------------------------------------------------------------------

// Until every record is written, the output fails, or a signal comes (*interrupted).
static bool answer_all(batch *b, interrupt *ctrl_c, bool *interrupted, err *e) {
    for (;;) {
        while (!b->queue_full && b->n_read - b->n_written < WINDOW && next_line(b, e)) start_record(b);
        uint64_t n_written = b->n_written;
        if (!write_finished(b, e) || e->code) return false;
        if (b->n_written != n_written) continue; // there is room again
        if (b->at_end && b->n_written == b->n_read) return true;
        eventfd_t rings;
        eventfd_read(b->bell, &rings);
        if ((*interrupted = interrupt_take(ctrl_c) != 0)) return false;
        for (uint64_t i = b->n_written; i < b->n_read; i++) collect_events(b, &b->slots[i % WINDOW], i);
    }
}

// Passes over the whole records that an earlier run left in the output; b->out then stands where they end.
static bool resume(batch *b, err *e) {
    char *kept = NULL;
    size_t capacity = 0;
    off_t n_bytes = 0;
    bool ok = true;
    for (ssize_t n; ok && (n = getline(&kept, &capacity, b->out)) > 0 && kept[n - 1] == '\n'; n_bytes += n) {
        batch_record record = {0};
        rf_params ignored = {0};
        bool failed = false, there = next_line(b, e);
        if (there) batch_record_read(&record, b->line, b->n_line, &ignored, NULL);
        ok = there && batch_record_matches(kept, (size_t)n, record.id, b->n_read, &failed);
        batch_record_free(&record);
        b->n_line = 0, b->n_failed += failed, b->n_written = ++b->n_read;
    }
    free(kept);
    if (!ok)
        return fail(e, ERR_FORMAT, "line %llu of '%s' is not an answer to record %llu of '%s'; it stays as it is",
                    (unsigned long long)b->n_read, b->args->output, (unsigned long long)b->n_read - 1, b->args->input);
    if (ferror(b->out)) return fail(e, ERR_IO, "cannot read '%s': %s", b->args->output, strerror(errno));
    if (ftruncate(fileno(b->out), n_bytes) != 0 || fseeko(b->out, n_bytes, SEEK_SET) != 0)
        return fail(e, ERR_IO, "cannot write to '%s': %s", b->args->output, strerror(errno));
    return true;
}

static bool open_files(batch *b, err *e) {
    const args *a = b->args;
    struct stat st;
    b->in = fopen(a->input, "rbe");
    if (!b->in) return fail(e, ERR_IO, "cannot open '%s': %s", a->input, strerror(errno));
    if (fstat(fileno(b->in), &st) == 0 && S_ISDIR(st.st_mode))
        return fail(e, ERR_IO, "cannot read '%s': %s", a->input, strerror(EISDIR));
    if (S_ISREG(st.st_mode)) b->in_total = st.st_size;
    b->out = stdout;
    if (!a->output) return true;
    int fd = open(a->output, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    b->out = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!b->out) return fail(e, ERR_IO, "cannot open '%s': %s", a->output, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return true; // a pipe or a device has nothing to resume
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return fail(e, ERR_BUSY, "'%s' is being written by another batch", a->output);
    return resume(b, e);
}

static void close_all(batch *b) {
    for (uint64_t i = b->n_written; i < b->n_read; i++) {
        slot *s = &b->slots[i % WINDOW];
        drop_request(s);
        json_decref(s->id);
        free(s->line);
    }
    rf_engine_close(b->engine, 0);
    if (b->in) fclose(b->in);
    if (b->out && b->out != stdout) fclose(b->out); // every record was flushed
    free(b->line);
}

static int run(batch *b, engine_options *engine, interrupt *ctrl_c) {
    err e = {0};
    if (!open_files(b, &e)) return cli_fail(e.code, e.text);
    int status = CLI_OK;
    if (!(b->engine = engine_options_open(engine, &status))) return status;
    interrupt_set_bell(ctrl_c, b->bell);
    b->bar = progress_start("answering");
    bool interrupted = false, done = answer_all(b, ctrl_c, &interrupted, &e);
    progress_end(&b->bar);
    if (interrupted) return CLI_INTERRUPTED;
    if (!done) return cli_fail(e.code, e.text);
    if (!b->n_failed) return CLI_OK;
    fail(&e, ERR_FORMAT, "%llu of %llu records have no whole answer; their lines say why",
         (unsigned long long)b->n_failed, (unsigned long long)b->n_written);
    return cli_fail(e.code, e.text);
}

int cmd_batch(int argc, char **argv) {
    args a = {0};
    sampling_options_init(&a.sampling, 256);
    struct argp argp = {OPTIONS,
                        parse,
                        "FILE",
                        "Answer many prompts: FILE has one JSON object per line, {\"id\", \"prompt\", and any of "
                        "max_tokens, temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, "
                        "frequency_penalty, seed, stop}; all but the prompt may be missing. Instead of a prompt there "
                        "may be a conversation: \"messages\", and any of tools, documents, add_generation_prompt, "
                        "chat_template_kwargs, date; the model's chat template makes a prompt of it.\v"
                        "The answers come in the order of FILE. Exit status: 0 done, 1 failure or a record without "
                        "a whole answer, 2 usage, 130 Ctrl+C.",
                        CHILDREN,
                        NULL,
                        NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    interrupt *ctrl_c = interrupt_start();
    batch *b = xcalloc(1, sizeof *b);
    b->args = &a;
    b->bell = eventfd(0, EFD_CLOEXEC);
    check(b->bell >= 0);
    int status = run(b, &a.engine, ctrl_c);
    close_all(b);
    free(b);
    return status;
}

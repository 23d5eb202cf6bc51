// rocmforge chat: a conversation at a terminal, or one turn per line of a pipe. A client of rocmforge.h and nothing
// else.
//
// The conversation is a JSON array of {"role", "content"}, the whole of which is sent each turn: the engine's prefix
// cache remembers, not we. Invariant: it changes only when a turn is complete; a question that got no answer leaves no
// trace. It is never shortened behind the user's back: when it no longer fits, the turn is refused.
// Results go to stdout (answers, what a /command shows), notes and failures to stderr.
#include "base/buf.h"
#include "cli/cli.h"
#include "cli/engine_options.h"
#include "cli/interrupt.h"
#include "cli/line_input.h"
#include "cli/sampling_options.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

typedef struct args {
    const char *system; // NULL: the template's own
    const char *date;   // NULL: today
    sampling_options sampling;
    engine_options engine;
} args;

typedef struct chat {
    const args *args;
    rf_engine *engine;
    interrupt *ctrl_c;
    line_input *input;
    const char *date; // of the chat's beginning
    char today[16];
    json_t *messages;
    rf_usage last;                         // of the latest answer
    uint64_t n_prompt, n_cached, n_answer; // tokens, of all answers
    bool failed, quit;
    int status; // once quit
} chat;

enum { OPT_DATE = 256 };

static const struct argp_option OPTIONS[] = {
    {"date", OPT_DATE, "YYYY-MM-DD", 0, "the date, for templates that tell it (default: today's)", 0},
    {"system", 's', "TEXT", 0, "the system message (default: the model's own)", 0},
    {0},
};
static const struct argp_child CHILDREN[] = {{&ENGINE_ARGP, 0, "Engine:", 1}, {&SAMPLING_ARGP, 0, "Sampling:", 2}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->engine;
        state->child_inputs[1] = &a->sampling;
        return 0;
    case 's':
        return a->system = arg, 0;
    case OPT_DATE:
        return a->date = arg, 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void refuse(chat *c, int code, const char *sentence) {
    cli_fail(code, sentence);
    c->failed = true;
}

static void add_message(json_t *messages, const char *role, json_t *content) {
    json_t *message = json_object();
    json_object_set_new(message, "role", json_string(role));
    json_object_set_new(message, "content", content);
    json_array_append_new(messages, message);
}

static void start_conversation(chat *c) {
    json_decref(c->messages);
    c->messages = json_array();
    const char *system = c->args->system;
    if (system) add_message(c->messages, "system", cli_json_text(system, strlen(system)));
    c->last = (rf_usage){0};
}

// ---- a turn ------------------------------------------------------------------------------------------------------

// The messages as the model reads them, by its own template.
static bool render(chat *c, json_t *messages, rf_prompt *prompt, rf_error *error) {
    json_t *request = json_pack("{s:O, s:o}", "messages", messages, "date", cli_json_text(c->date, strlen(c->date)));
    char *json = json_dumps(request, JSON_COMPACT);
    check(json);
    bool ok = rf_chat_render(c->engine, json, strlen(json), prompt, error);
    free(json);
    json_decref(request);
    return ok;
}

static rf_request *submit(chat *c, json_t *messages, rf_error *error) {
    rf_prompt prompt;
    if (!render(c, messages, &prompt, error)) return NULL;
    rf_params params = c->args->sampling.params;
    params.prompt_tokens = prompt.tokens, params.n_prompt_tokens = prompt.n_tokens;
    rf_request *request = rf_submit(c->engine, &params, error);
    if (!request && error->code == RF_ERR_TOO_LONG) {
        rf_model_info info;
        rf_model_get_info(c->engine, &info);
        snprintf(error->message, sizeof error->message,
                 "the conversation no longer fits: %zu tokens, and the context holds %u; this turn is not part of it, "
                 "/reset starts a new one",
                 prompt.n_tokens, info.n_ctx);
    }
    rf_prompt_free(&prompt);
    return request;
}

// Streams the answer to stdout and into *answer; false if stdout is gone.
static bool follow(chat *c, rf_request *request, buf *answer, rf_event *end) {
    bool ok = true;
    interrupt_set_request(c->ctrl_c, request);
    do {
        rf_wait(request, end, -1);
        if (end->kind != RF_EVENT_TEXT) continue;
        buf_append(answer, end->text, end->n_bytes);
        if (ok && !(ok = cli_show_text(stdout, end->text, end->n_bytes))) rf_cancel(request);
    } while (end->kind != RF_EVENT_END);
    interrupt_set_request(c->ctrl_c, NULL);
    return ok && putchar('\n') != EOF && fflush(stdout) == 0;
}

// What the user has to know about how an answer ended.
static void note_end(chat *c, const rf_event *end) {
    rf_model_info info;
    rf_model_get_info(c->engine, &info);
    const rf_usage *u = &end->usage;
    if (end->finish == RF_FINISH_ERROR)
        refuse(c, (int)end->error.code, end->error.message);
    else if (end->finish == RF_FINISH_TIMEOUT)
        refuse(c, ERR_STOPPED, "the time given by --timeout is over");
    else if (end->finish == RF_FINISH_LENGTH && u->prompt_tokens + u->completion_tokens >= info.n_ctx)
        fprintf(stderr, "(cut: the context of %u tokens is full; /reset starts a new conversation)\n", info.n_ctx);
    else if (end->finish == RF_FINISH_LENGTH)
        fprintf(stderr, "(cut after %u tokens, as --max-tokens says)\n", u->completion_tokens);
}

static void count(chat *c, const rf_usage *u) {
    c->last = *u;
    c->n_prompt += u->prompt_tokens, c->n_cached += u->cached_tokens, c->n_answer += u->completion_tokens;
}

// The turn is part of the conversation if its answer has a text, or is whole.
static void run_turn(chat *c, const char *text, size_t n_bytes) {
    json_t *question = json_stringn(text, n_bytes);
    if (!question) {
        refuse(c, ERR_FORMAT, "the message is not UTF-8");
        return;
    }
    json_t *messages = json_copy(c->messages);
    add_message(messages, "user", question);
    rf_error error = {0};
    rf_request *request = submit(c, messages, &error);
    buf answer = {0};
    rf_event end = {0};
    if (!request) {
        refuse(c, (int)error.code, error.message);
    } else if (!follow(c, request, &answer, &end)) {
        refuse(c, ERR_IO, "cannot write to standard output");
        c->quit = true, c->status = CLI_FAILURE;
    } else {
        note_end(c, &end);
        count(c, &end.usage);
        if (answer.n_bytes || end.finish == RF_FINISH_STOP || end.finish == RF_FINISH_LENGTH) {
            add_message(messages, "assistant", cli_json_text(answer.data ? answer.data : "", answer.n_bytes));
            json_decref(c->messages);
            c->messages = json_incref(messages);
        }
        if (end.finish == RF_FINISH_CANCELLED && !line_input_is_interactive(c->input))
            c->quit = true, c->status = CLI_INTERRUPTED;
    }
    if (request) rf_release(request);
    buf_free(&answer);
    json_decref(messages);
}

// ---- commands ----------------------------------------------------------------------------------------------------

static void reset(chat *c, const char *argument) {
    (void)argument;
    start_conversation(c);
}

static void save(chat *c, const char *path) {
    json_t *root = json_pack("{s:O}", "messages", c->messages);
    FILE *f = fopen(path, "we");
    bool ok = f && json_dumpf(root, f, JSON_INDENT(2)) == 0 && fputc('\n', f) != EOF;
    if (f) ok = fclose(f) == 0 && ok;
    err e = {0};
    if (!ok && !fail(&e, ERR_IO, "cannot write '%s': %s", path, strerror(errno))) refuse(c, e.code, e.text);
    json_decref(root);
}

// A conversation: an array of messages of known roles, a system message first or nowhere.
static bool is_conversation(const json_t *messages) {
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message) {
        const char *role = json_string_value(json_object_get(message, "role"));
        if (!role || !json_is_string(json_object_get(message, "content"))) return false;
        bool system = strcmp(role, "system") == 0;
        if (system ? i > 0 : strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0) return false;
    }
    return json_is_array(messages);
}

static void load(chat *c, const char *path) {
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    json_t *messages = json_object_get(root, "messages");
    err e = {0};
    if (!root) {
        fail(&e, ERR_FORMAT, "cannot read '%.100s': %s", path, error.text);
    } else if (!is_conversation(messages)) {
        fail(&e, ERR_FORMAT, "'%.100s' is not a conversation that /save wrote", path);
    } else {
        json_decref(c->messages);
        c->messages = json_incref(messages);
        c->last = (rf_usage){0};
    }
    if (e.code) refuse(c, e.code, e.text);
    json_decref(root);
}

static void show_stats(chat *c, const char *argument) {
    (void)argument;
    rf_model_info info;
    rf_model_get_info(c->engine, &info);
    printf("%zu messages, %u of %u tokens of context\n", json_array_size(c->messages),
           c->last.prompt_tokens + c->last.completion_tokens, info.n_ctx);
    printf("last answer: ");
    cli_print_usage(stdout, &c->last);
    printf("all answers: prompt %llu tokens (%llu cached); answer %llu tokens\n", (unsigned long long)c->n_prompt,
           (unsigned long long)c->n_cached, (unsigned long long)c->n_answer);
}

static void show_prompt(chat *c, const char *argument) {
    (void)argument;
    rf_prompt prompt;
    rf_error error = {0};
    if (!render(c, c->messages, &prompt, &error)) {
        refuse(c, (int)error.code, error.message);
        return;
    }
    cli_show_text(stdout, prompt.text, prompt.n_bytes);
    rf_prompt_free(&prompt);
}

static void quit(chat *c, const char *argument) {
    (void)argument;
    c->quit = true;
}

static void show_help(chat *c, const char *argument);

static const struct command {
    const char *name, *argument, *help; // argument NULL: none
    void (*run)(chat *c, const char *argument);
} COMMANDS[] = {
    {"reset", NULL, "forget the conversation", reset},
    {"save", "FILE", "write the conversation to FILE, as JSON", save},
    {"load", "FILE", "go on with a conversation that was saved", load},
    {"stats", NULL, "tokens and speed", show_stats},
    {"prompt", NULL, "show the conversation as the model reads it", show_prompt},
    {"help", NULL, "this list", show_help},
    {"quit", NULL, "leave (also Ctrl+D)", quit},
};
enum { N_COMMANDS = sizeof COMMANDS / sizeof *COMMANDS };

static void show_help(chat *c, const char *argument) {
    (void)c, (void)argument;
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("/%-6s %-5s %s\n", COMMANDS[i].name, COMMANDS[i].argument ? COMMANDS[i].argument : "", COMMANDS[i].help);
    puts("//...         a message that begins with a slash\nCtrl+C        stop an answer, or clear the line");
}

static void run_command(chat *c, const char *line) {
    size_t n_name = strcspn(line, " \t");
    const char *argument = line + n_name + strspn(line + n_name, " \t");
    err e = {0};
    fail(&e, ERR_USAGE, "there is no command '/%.80s'; /help lists them, and //%.80s is a message", line, line);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const struct command *k = &COMMANDS[i];
        if (strlen(k->name) != n_name || strncmp(k->name, line, n_name) != 0) continue;
        if (!k->argument == !*argument) {
            k->run(c, argument);
            fflush(stdout);
            return;
        }
        e = (err){0};
        fail(&e, ERR_USAGE, k->argument ? "/%s needs a %s" : "/%s takes no argument", k->name, k->argument);
    }
    refuse(c, e.code, e.text);
}

// ---- the run -----------------------------------------------------------------------------------------------------

static void run_line(chat *c, const char *line, size_t n_bytes) {
    if (strspn(line, " \t") == n_bytes) return;
    if (line[0] == '/' && line[1] != '/') {
        interrupt_set_listening(c->ctrl_c, false); // a file may keep us waiting
        run_command(c, line + 1);
        interrupt_set_listening(c->ctrl_c, true);
    } else {
        run_turn(c, line + (line[0] == '/'), n_bytes - (line[0] == '/'));
    }
}

static int converse(chat *c) {
    const char *line;
    size_t n_bytes;
    line_result result;
    while (!c->quit && (result = line_input_read(c->input, &line, &n_bytes)) != LINE_END) {
        if (result == LINE_READ) run_line(c, line, n_bytes);
        if (interrupt_take(c->ctrl_c) == SIGTERM) return CLI_INTERRUPTED;
    }
    if (c->status) return c->status;
    return c->failed && !line_input_is_interactive(c->input) ? CLI_FAILURE : CLI_OK;
}

// A first rendering, so that what is wrong with the template is told before anything is typed.
static bool try_template(chat *c, rf_error *error) {
    json_t *messages = json_array();
    rf_prompt prompt;
    add_message(messages, "user", json_string("Hello."));
    bool ok = render(c, messages, &prompt, error);
    rf_prompt_free(&prompt);
    json_decref(messages);
    return ok;
}

static void set_date(chat *c) {
    time_t now = time(NULL);
    struct tm here;
    strftime(c->today, sizeof c->today, "%Y-%m-%d", localtime_r(&now, &here));
    c->date = c->args->date ? c->args->date : c->today;
}

static int run(chat *c, int bell) {
    rf_model_info info;
    rf_model_get_info(c->engine, &info);
    rf_error error = {0};
    set_date(c);
    if (!try_template(c, &error)) return cli_fail((int)error.code, error.message);
    c->input = line_input_new("> ", bell);
    if (line_input_is_interactive(c->input)) {
        interrupt_set_bell(c->ctrl_c, bell);
        interrupt_set_listening(c->ctrl_c, true);
        const char *name = *info.name ? info.name : info.architecture;
        cli_print_text(stdout, name, strlen(name), 60);
        printf(", %u tokens of context; /help lists commands, Ctrl+C stops an answer, Ctrl+D leaves\n", info.n_ctx);
    }
    start_conversation(c);
    int status = converse(c);
    interrupt_set_listening(c->ctrl_c, false);
    json_decref(c->messages);
    line_input_free(c->input);
    return status;
}

int cmd_chat(int argc, char **argv) {
    args a = {0};
    sampling_options_init(&a.sampling, 0);
    struct argp argp = {OPTIONS,
                        parse,
                        NULL,
                        "Talk with a model. From a pipe, each line is a turn.\vExit status: 0 done, 1 failure (from a "
                        "pipe: of any turn), 2 usage, 130 interrupted.",
                        CHILDREN,
                        NULL,
                        NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    chat c = {.args = &a, .ctrl_c = interrupt_start()};
    int bell = eventfd(0, EFD_CLOEXEC), status = CLI_FAILURE;
    check(bell >= 0);
    if ((c.engine = engine_options_open(&a.engine, &status))) status = run(&c, bell);
    rf_engine_close(c.engine, 0);
    return status;
}

// rocmforge serve: the server's command line, its event loop, and what the system says to it: signals and sd_notify.
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/engine_options.h"
#include "cli/number.h"
#include "cli/text_input.h"
#include "server/server.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    OPT_HOST = 256,
    OPT_LISTEN,
    OPT_UNIX,
    OPT_TLS_CERT,
    OPT_TLS_KEY,
    OPT_KEY_FILE,
    OPT_SALT,
    OPT_PER_KEY,
    OPT_CORS,
    OPT_MODEL_ID,
    OPT_RUNNING,
    OPT_QUEUE,
    OPT_STEP,
    OPT_CONNECTIONS,
    OPT_HEADER_BYTES,
    OPT_BODY_BYTES,
    OPT_HEADER_SECONDS,
    OPT_BODY_SECONDS,
    OPT_IDLE_SECONDS,
    OPT_WRITE_SECONDS,
    OPT_DRAIN,
    OPT_WATCHDOG,
    OPT_RETAIN,
    OPT_RETAIN_SECONDS,
    OPT_TRACE_RATE,
    OPT_LOG_FORMAT,
    OPT_LOG_FILE,
    OPT_NO_ACCESS_LOG,
    OPT_LOG_PROMPTS,
};
enum { MAX_LISTEN = 8, DEFAULT_PORT = 8080 };

static const struct argp_option OPTIONS[] = {
    {NULL, 0, NULL, 0, "Where:", 1},
    {"host", OPT_HOST, "HOST", 0, "address to listen on (default 127.0.0.1)", 1},
    {"port", 'p', "PORT", 0, "port (default 8080; 0: any that is free)", 1},
    {"unix", OPT_UNIX, "PATH", 0, "listen on a unix socket as well; may be given several times", 1},
    {"listen", OPT_LISTEN, "HOST:PORT", 0, "one more address; may be given several times", 1},
    {"tls-cert", OPT_TLS_CERT, "FILE", 0, "certificate chain (PEM); with --tls-key", 1},
    {"tls-key", OPT_TLS_KEY, "FILE", 0, "private key (PEM)", 1},
    {NULL, 0, NULL, 0, "Who:", 2},
    {"api-key-file", OPT_KEY_FILE, "FILE", 0, "a key a line, NAME:SECRET or SECRET; without it everybody may call", 2},
    {"max-per-key", OPT_PER_KEY, "N", 0, "requests of one key at a time (default: no limit)", 2},
    {"salt-by-key", OPT_SALT, NULL, 0, "keys do not share the prefix cache, so that no time tells what others asked",
     2},
    {"cors", OPT_CORS, "ORIGIN", 0, "let pages of this origin (or *) call; off by default", 2},
    {NULL, 0, NULL, 0, "Work:", 3},
    {"model-id", OPT_MODEL_ID, "NAME", 0, "how clients name the model (default: the file's name)", 3},
    {"max-running", OPT_RUNNING, "N", 0, "requests decoded together (default 32)", 3},
    {"max-queue", OPT_QUEUE, "N", 0, "requests that may wait; more are told 429 (default 256)", 3},
    {"step-tokens", OPT_STEP, "N", 0, "tokens of one step (default 512)", 3},
    {NULL, 0, NULL, 0, "Limits:", 4},
    {"max-connections", OPT_CONNECTIONS, "N", 0, "default 1024", 4},
    {"max-header-bytes", OPT_HEADER_BYTES, "N", 0, "default 32768", 4},
    {"max-body-bytes", OPT_BODY_BYTES, "N", 0, "default 8388608", 4},
    {"header-seconds", OPT_HEADER_SECONDS, "N", 0, "a request's headers must be here by then (default 10)", 4},
    {"body-seconds", OPT_BODY_SECONDS, "N", 0, "and its body (default 30)", 4},
    {"idle-seconds", OPT_IDLE_SECONDS, "N", 0, "between requests of a connection (default 75)", 4},
    {"write-seconds", OPT_WRITE_SECONDS, "N", 0, "a client that reads nothing for so long is gone (default 30)", 4},
    {"drain-seconds", OPT_DRAIN, "N", 0, "after SIGTERM streams may go on for so long (default 30)", 4},
    {"watchdog-seconds", OPT_WATCHDOG, "N", 0, "a step that takes longer makes /health say 503 (default 30)", 4},
    {"retain", OPT_RETAIN, "N", 0, "finished requests that /status and /traces know (default 1000)", 4},
    {"retain-seconds", OPT_RETAIN_SECONDS, "N", 0, "and for how long (default 600)", 4},
    {NULL, 0, NULL, 0, "Telling:", 5},
    {"trace-rate", OPT_TRACE_RATE, "SHARE", 0, "of requests in /traces, 0 to 1 (default 1)", 5},
    {"log-format", OPT_LOG_FORMAT, "text|json", 0, "default text", 5},
    {"log-file", OPT_LOG_FILE, "FILE", 0, "default: standard error; SIGHUP opens it anew", 5},
    {"no-access-log", OPT_NO_ACCESS_LOG, NULL, 0, "no line for each reply", 5},
    {"log-prompts", OPT_LOG_PROMPTS, NULL, 0, "write what is asked to the log", 5},
    {0},
};

typedef struct serve {
    engine_options engine;
    server_options server;
    const char *host, *listen[MAX_LISTEN];
    char address[300];
    uint16_t port;
    struct event_base *base;
    struct server *running;
    struct event *signals[3];
    bool ready, failed, stopping;
    text_input chat_template; // lives as long as the server
} serve;

// ---- the command line --------------------------------------------------------------------------------------------

static uint32_t number(struct argp_state *state, const char *name, const char *arg, int64_t least, int64_t most) {
    return (uint32_t)cli_parse_int(state, name, arg, least, most);
}

static void add_listen(serve *v, const char *address, struct argp_state *state) {
    if (v->server.http.n_listen == MAX_LISTEN - 1) argp_error(state, "at most %d addresses are possible", MAX_LISTEN);
    v->listen[1 + v->server.http.n_listen++] = address; // the first is --host and --port
}

static error_t parse_limit(int key, char *arg, struct argp_state *state, server_options *o) {
    http_options *h = &o->http;
    switch (key) {
    case OPT_CONNECTIONS:
        return h->max_connections = number(state, "--max-connections", arg, 1, 100000), 0;
    case OPT_HEADER_BYTES:
        return h->max_header_bytes = number(state, "--max-header-bytes", arg, 1024, 1 << 24), 0;
    case OPT_BODY_BYTES:
        return h->max_body_bytes = number(state, "--max-body-bytes", arg, 1024, 1 << 30), 0;
    case OPT_HEADER_SECONDS:
        return h->header_timeout_ms = 1000 * number(state, "--header-seconds", arg, 1, 86400), 0;
    case OPT_BODY_SECONDS:
        return h->body_timeout_ms = 1000 * number(state, "--body-seconds", arg, 1, 86400), 0;
    case OPT_IDLE_SECONDS:
        return h->idle_timeout_ms = 1000 * number(state, "--idle-seconds", arg, 1, 86400), 0;
    case OPT_WRITE_SECONDS:
        return h->write_timeout_ms = 1000 * number(state, "--write-seconds", arg, 1, 86400), 0;
    case OPT_DRAIN:
        return o->drain_ms = (int)(1000 * number(state, "--drain-seconds", arg, 0, 86400)), 0;
    case OPT_WATCHDOG:
        return o->watchdog_ms = 1000 * number(state, "--watchdog-seconds", arg, 1, 86400), 0;
    case OPT_RETAIN:
        return o->records.max_finished = number(state, "--retain", arg, 1, 1000000), 0;
    case OPT_RETAIN_SECONDS:
        return o->records.max_seconds = number(state, "--retain-seconds", arg, 1, 1000000), 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_telling(int key, char *arg, struct argp_state *state, server_options *o) {
    switch (key) {
    case OPT_TRACE_RATE:
        o->records.trace_rate = (double)cli_parse_float(state, "--trace-rate", arg);
        if (!(o->records.trace_rate >= 0 && o->records.trace_rate <= 1))
            argp_error(state, "--trace-rate must be 0 to 1");
        return 0;
    case OPT_LOG_FORMAT:
        if (strcmp(arg, "text") != 0 && strcmp(arg, "json") != 0) argp_error(state, "--log-format is text or json");
        return o->log.format = *arg == 'j' ? LOG_JSON : LOG_TEXT, 0;
    case OPT_LOG_FILE:
        return o->log.path = arg, 0;
    case OPT_NO_ACCESS_LOG:
        return o->log.quiet = true, 0;
    case OPT_LOG_PROMPTS:
        return o->log_prompts = true, 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_work(int key, char *arg, struct argp_state *state, server_options *o, rf_engine_options *engine) {
    switch (key) {
    case OPT_MODEL_ID:
        return o->model_id = arg, 0;
    case OPT_RUNNING:
        return engine->max_running = number(state, "--max-running", arg, 1, 65536), 0;
    case OPT_QUEUE:
        return engine->max_queue = number(state, "--max-queue", arg, 1, 65536), 0;
    case OPT_STEP:
        return engine->step_tokens = number(state, "--step-tokens", arg, 1, 65536), 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_who(int key, char *arg, struct argp_state *state, server_options *o) {
    switch (key) {
    case OPT_TLS_CERT:
        return o->http.tls_cert = arg, 0;
    case OPT_TLS_KEY:
        return o->http.tls_key = arg, 0;
    case OPT_KEY_FILE:
        return o->api_key_file = arg, 0;
    case OPT_SALT:
        return o->salt_by_key = true, 0;
    case OPT_PER_KEY:
        return o->max_per_key = number(state, "--max-per-key", arg, 1, 65536), 0;
    case OPT_CORS:
        return o->cors_origin = arg, 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    serve *v = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return state->child_inputs[0] = &v->engine, 0;
    case 'p':
        return v->port = (uint16_t)number(state, "--port", arg, 0, 65535), 0;
    case OPT_HOST:
        return v->host = arg, 0;
    case OPT_LISTEN:
        return add_listen(v, arg, state), 0;
    case OPT_UNIX: {
        static const char prefix[] = "unix:";
        char *address = xmalloc(sizeof prefix + strlen(arg)); // lives as long as the program
        return add_listen(v, strcat(strcpy(address, prefix), arg), state), 0;
    }
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' was not expected here", arg);
        return 0;
    }
    error_t known = parse_limit(key, arg, state, &v->server);
    if (known == ARGP_ERR_UNKNOWN) known = parse_telling(key, arg, state, &v->server);
    if (known == ARGP_ERR_UNKNOWN) known = parse_who(key, arg, state, &v->server);
    if (known == ARGP_ERR_UNKNOWN) known = parse_work(key, arg, state, &v->server, &v->engine.options);
    return known;
}

// ---- what the system is told and says ----------------------------------------------------------------------------

// sd_notify(3): one datagram to the socket that NOTIFY_SOCKET names; '@' stands for an abstract name's NUL.
static void notify_system(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof to.sun_path) return;
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@') to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t n_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, n_bytes);
    close(fd);
}

static void notify_reloading(void) {
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_machine_us());
    notify_system(state);
}

static void on_ready(void *arg) {
    serve *v = arg;
    v->ready = true;
    notify_system("READY=1");
}

static void on_stopped(void *arg, const err *failure) {
    serve *v = arg;
    if (failure) v->failed = true, cli_fail((int)failure->code, failure->text);
    event_base_loopbreak(v->base);
}

static void on_signal(evutil_socket_t number, short what, void *arg) {
    (void)what;
    serve *v = arg;
    err e = {0};
    if (number == SIGHUP) {
        notify_reloading();
        if (!server_reload(v->running, &e)) cli_fail((int)e.code, e.text);
        if (v->ready && !v->stopping) notify_system("READY=1");
        return;
    }
    if (v->stopping) return server_cancel_all(v->running);
    v->stopping = true;
    notify_system("STOPPING=1");
    server_drain(v->running);
}

static void listen_to_signals(serve *v) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 3; i++) {
        v->signals[i] = evsignal_new(v->base, numbers[i], on_signal, v);
        check(v->signals[i] && event_add(v->signals[i], NULL) == 0);
    }
}

// "HOST:PORT", "[HOST]:PORT" or "unix:PATH".
static bool is_local(const char *address) {
    static const char *const beginnings[] = {"127.", "[::1]:", "localhost:", "unix:"};
    for (int i = 0; i < 4; i++)
        if (strncmp(address, beginnings[i], strlen(beginnings[i])) == 0) return true;
    return false;
}

static void warn_if_open(const serve *v) {
    for (size_t i = 0; i < v->server.http.n_listen && !v->server.api_key_file; i++)
        if (!is_local(v->listen[i]))
            fprintf(stderr,
                    "rocmforge: warning: everybody who reaches %s may use this server; --api-key-file asks for keys\n",
                    v->listen[i]);
}

// The loop's thread works for microseconds where the engine's work for milliseconds: a shorter slice of time than
// theirs lets it in at once, at nobody's cost, and one that is not too short lets it finish what a step has brought. Of
// 64 streaming clients' tokens, the clients on the same two processors, one in a hundred waited 1.2 to 2.6 ms for this
// thread; in alternating runs 1.2 to 2.0, with slices of 0.1 ms 2.0 to 2.9, with the usual ones 0.8 to 3.3.
// sched_setattr(2); Linux before 6.12 has one length for all and ignores this, as does whoever forbids it.
static void be_prompt(void) {
    const struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t slice_ns, deadline_ns, period_ns;
    } attributes = {.size = 48,
                    .flags = 1 /* threads made later do not inherit it */,
                    .nice = getpriority(PRIO_PROCESS, 0),
                    .slice_ns = 500000};
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static int run(serve *v) {
    err e = {0};
    v->chat_template.file = v->engine.chat_template;
    if (v->chat_template.file && !text_input_read(&v->chat_template, &e)) return cli_fail((int)e.code, e.text);
    v->server.engine.chat_template = v->chat_template.bytes;
    check((v->base = event_base_new()));
    listen_to_signals(v);
    v->running = server_open(v->base, &v->server, &e);
    if (!v->running) return cli_fail((int)e.code, e.text);
    fprintf(stderr, "rocmforge: listening on %s://%s:%u\n", v->server.http.tls_cert ? "https" : "http", v->host,
            server_port(v->running));
    warn_if_open(v);
    be_prompt();
    event_base_dispatch(v->base);
    server_close(v->running);
    return v->failed ? CLI_FAILURE : CLI_OK;
}

int cmd_serve(int argc, char **argv) {
    static const struct argp_child children[] = {{&ENGINE_ARGP, 0, "Model:", 6}, {0}};
    static const struct argp argp = {
        OPTIONS,
        parse,
        NULL,
        "Serve a model over HTTP: OpenAI's API, a native one, metrics, and a page to chat on.\vSIGTERM or SIGINT "
        "drains (again: cancels what is left), SIGHUP opens keys, certificates and the log anew.",
        children,
        NULL,
        NULL};
    serve v = {.host = "127.0.0.1", .port = DEFAULT_PORT};
    v.server.drain_ms = 30000;
    v.server.records = (records_options){.max_finished = 1000, .max_seconds = 600, .trace_rate = 1};
    argp_parse(&argp, argc, argv, 0, NULL, &v);
    snprintf(v.address, sizeof v.address, strchr(v.host, ':') ? "[%s]:%u" : "%s:%u", v.host, v.port);
    v.listen[0] = v.address;
    v.server.http.listen = v.listen, v.server.http.n_listen++;
    v.server.model_path = v.engine.model, v.server.engine = v.engine.options;
    v.server.ready = on_ready, v.server.stopped = on_stopped, v.server.arg = &v;
    int status = run(&v);
    for (int i = 0; i < 3; i++)
        if (v.signals[i]) event_free(v.signals[i]);
    if (v.base) event_base_free(v.base);
    text_input_free(&v.chat_template);
    return status;
}

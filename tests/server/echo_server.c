// Echo server: http.h with a handler that system tests can command by path. Tells on standard output what happens to
// it, one line each: "port N", "done METHOD PATH STATUS BYTES", "gone PATH", "paused", "resumed", "drained", ...
//
// Usage: echo_server LISTEN... [NAME=VALUE]...   LISTEN as in http.h; NAME an option of http_options.
//   /echo               what was understood of the request
//   /hang               no reply, ever
//   /later?MS           a reply after MS milliseconds
//   /stream?N,BYTES,MS  N pieces, one every MS milliseconds
//   /flood?N            N bytes as fast as the client reads them, paused while it does not
//   /status?N           a reply with that status
//   /header             a reply with a header value that tries to end its line
// SIGTERM closes everything, SIGUSR1 stops accepting, SIGHUP reads the certificate again.
#include "server/http.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct server {
    struct event_base *base;
    http *http;
} server;

#define say(...) (printf(__VA_ARGS__), putchar('\n'), fflush(stdout))

// ---- replies that take time ----------------------------------------------------------------------------------------

typedef struct job {
    exchange *x;
    struct event *timer;
    unsigned n, n_bytes, ms;
    bool streams;
    char path[32];
} job;

static void job_free(job *j) {
    if (j->timer) event_free(j->timer);
    free(j);
}

static void on_gone(void *arg) {
    job *j = arg;
    say("gone %s", j->path);
    job_free(j);
}

static job *job_new(exchange *x) {
    job *j = calloc(1, sizeof *j);
    j->x = x;
    snprintf(j->path, sizeof j->path, "%s", exchange_path(x));
    sscanf(exchange_query(x), "%u,%u,%u", &j->n, &j->n_bytes, &j->ms);
    exchange_on_gone(x, on_gone, j);
    return j;
}

static void wait_for(job *j, unsigned ms) {
    struct timeval t = {ms / 1000, (ms % 1000) * 1000};
    evtimer_add(j->timer, &t);
}

static void write_filler(exchange *x, size_t n) {
    char *filler = malloc(n);
    memset(filler, 'x', n);
    exchange_write(x, filler, n);
    free(filler);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    job *j = arg;
    (void)fd;
    (void)what;
    if (j->streams && j->n-- > 0) {
        write_filler(j->x, j->n_bytes);
        return wait_for(j, j->ms);
    }
    if (j->streams)
        exchange_end(j->x);
    else
        exchange_reply(j->x, 200, "text/plain", "later", 5);
    job_free(j);
}

static void flood(void *arg) {
    job *j = arg;
    while (j->n > 0 && exchange_writable(j->x)) {
        unsigned n = j->n < 16384 ? j->n : 16384;
        write_filler(j->x, n);
        j->n -= n;
    }
    if (j->n > 0) {
        say("paused %u", j->n);
        return;
    }
    exchange_end(j->x);
    job_free(j);
}

static void resume(void *arg) {
    say("resumed");
    flood(arg);
}

// ---- requests ------------------------------------------------------------------------------------------------------

static void echo(exchange *x) {
    static const char *const names[] = {"host", "content-type", "x-test"};
    size_t n_body, n = 0;
    const char *body = exchange_body(x, &n_body);
    char *text = malloc(n_body + 65536);
    n += (size_t)sprintf(text + n, "%s %s\nquery %s\npeer %s\n", exchange_method(x), exchange_path(x),
                         exchange_query(x), exchange_peer(x));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = exchange_header(x, names[i]);
        if (value) n += (size_t)sprintf(text + n, "%s: %s\n", names[i], value);
    }
    n += (size_t)sprintf(text + n, "body %zu\n", n_body);
    memcpy(text + n, body, n_body + 1);
    exchange_reply(x, 200, "text/plain", text, n + n_body);
    free(text);
}

static void handle(void *self, exchange *x) {
    const server *s = self;
    const char *path = exchange_path(x);
    if (strcmp(path, "/hang") == 0) {
        job_new(x);
        say("hanging");
    } else if (strcmp(path, "/later") == 0 || strcmp(path, "/stream") == 0) {
        job *j = job_new(x);
        j->timer = evtimer_new(s->base, on_timer, j);
        j->streams = path[1] == 's';
        if (j->streams) exchange_begin(x, 200, "text/plain");
        wait_for(j, j->streams ? j->ms : j->n);
    } else if (strcmp(path, "/flood") == 0) {
        job *j = job_new(x);
        exchange_begin(x, 200, "text/plain");
        exchange_on_writable(x, resume, j);
        flood(j);
    } else if (strcmp(path, "/status") == 0) {
        exchange_reply(x, atoi(exchange_query(x)), "text/plain", "status", 6);
    } else if (strcmp(path, "/header") == 0) {
        exchange_add_header(x, "X-Evil", "a\r\nX-Injected: yes\x7f");
        exchange_reply(x, 200, "text/plain\r\nX-Injected: yes", "", 0);
    } else {
        echo(x);
    }
}

static void done(void *self, const exchange *x, int status, uint64_t n_sent_bytes, int64_t took_us) {
    (void)self;
    say("done %s %.60s %d %llu%s", exchange_method(x), exchange_path(x), status, (unsigned long long)n_sent_bytes,
        took_us < 0 ? " before it began" : "");
}

static void refuse(void *self, exchange *x, int status, const char *why) {
    char text[200];
    (void)self;
    snprintf(text, sizeof text, "refused: %s\n", why);
    exchange_reply(x, status, "text/x-why", text, strlen(text));
}

static void drained(void *self) {
    server *s = self;
    say("drained");
    http_close(s->http);
    s->http = NULL;
    event_base_loopbreak(s->base);
}

static void on_signal(evutil_socket_t number, short what, void *arg) {
    server *s = arg;
    err e = {0};
    (void)what;
    if (number == SIGTERM) event_base_loopbreak(s->base);
    if (number == SIGUSR1) http_stop_accepting(s->http);
    if (number == SIGUSR2) say("connections %u", http_n_connections(s->http));
    if (number == SIGHUP) say("reload %s", http_reload_tls(s->http, &e) ? "done" : e.text);
}

// ---- main ----------------------------------------------------------------------------------------------------------

static bool read_option(http_options *o, const char *name, const char *value) {
    const struct {
        const char *name;
        uint32_t *number;
    } numbers[] = {
        {"max_connections", &o->max_connections},     {"max_header_bytes", &o->max_header_bytes},
        {"max_body_bytes", &o->max_body_bytes},       {"max_pending_bytes", &o->max_pending_bytes},
        {"header_timeout_ms", &o->header_timeout_ms}, {"body_timeout_ms", &o->body_timeout_ms},
        {"idle_timeout_ms", &o->idle_timeout_ms},     {"write_timeout_ms", &o->write_timeout_ms},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i].name) == 0) return *numbers[i].number = (uint32_t)atol(value), true;
    if (strcmp(name, "max_bodies_bytes") == 0) return o->max_bodies_bytes = (uint64_t)atoll(value), true;
    if (strcmp(name, "tls_cert") == 0) return o->tls_cert = value, true;
    if (strcmp(name, "tls_key") == 0) return o->tls_key = value, true;
    if (strcmp(name, "unix_any_user") == 0) return o->unix_any_user = atoi(value), true;
    if (strcmp(name, "refuse") == 0) return o->refuse = refuse, true;
    return false;
}

int main(int argc, char **argv) {
    static const int signals[] = {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP};
    enum { N_SIGNALS = sizeof signals / sizeof *signals };
    server s = {.base = event_base_new()};
    struct event *on[N_SIGNALS];
    const char *listen[16];
    http_options o = {.listen = listen, .handle = handle, .done = done, .drained = drained, .self = &s};
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals) *equals = '\0';
        if (!equals && o.n_listen < 16)
            listen[o.n_listen++] = argv[i];
        else if (!equals || !read_option(&o, argv[i], equals + 1))
            return 2;
    }
    err e = {0};
    s.http = http_open(s.base, &o, &e);
    if (s.http) {
        for (int i = 0; i < N_SIGNALS; i++) {
            on[i] = evsignal_new(s.base, signals[i], on_signal, &s);
            evsignal_add(on[i], NULL);
        }
        say("port %u", http_port(s.http));
        event_base_dispatch(s.base);
        http_close(s.http);
        event_base_loop(s.base, EVLOOP_NONBLOCK);
        for (int i = 0; i < N_SIGNALS; i++) event_free(on[i]);
    } else {
        fprintf(stderr, "%s\n", e.text);
    }
    event_base_free(s.base);
    return e.code ? 1 : 0;
}

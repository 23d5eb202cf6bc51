// Load: clients who ask an OpenAI-like server for streams, with a clock beside each token. Prints one JSON object.
//
// A closed loop: each client has one request at a time, over a connection of its own, and asks again when it is
// answered (a while later when it is refused). Prompts are words, all different unless asked otherwise, so that no
// server's cache helps. One thread, and little work a token: a line is searched, not parsed. It relies on servers that
// write an event as one chunk, as they all do.
// Who still waits for a first token when time is up counts with the time it has waited: percentiles of a slow server
// are too low then, not missing. A new step begins with the first token of a stream that already has one of this step.
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

#include <argp.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STATUS = 600, RETRY_MS = 200 };

typedef struct options {
    uint32_t port, n_clients, n_words, max_tokens, seed, leave_percent;
    double warm_s, seconds, vanish_s, temperature;
    const char *path, *model, *log;
    bool same, vary;
} options;

typedef struct series {
    int64_t *v; // [n]
    size_t n, capacity;
} series;

typedef struct load load;

typedef struct client {
    load *l;
    struct bufferevent *bev; // NULL: between two requests
    struct event *timer;     // to ask again
    void (*ended)(struct client *c);
    uint32_t number, n_requests;
    char id[64];
    int status;
    int64_t sent_us, first_us, last_us; // first_us 0: no token yet
    uint64_t step;                      // of its last token
    uint32_t n_pieces, n_tokens;        // events with text; what the server says it were
    uint32_t leaves_after;              // pieces; 0: stays to the end
} client;

struct load {
    options o;
    struct event_base *base;
    client *clients, probe;
    int64_t begin_us, end_us; // what is measured
    uint64_t step;
    series first, gap, steps;
    uint64_t n_pieces, n_ended, n_left, n_broken, n_waiting;
    uint64_t ended_pieces, ended_tokens, prompt_tokens; // of requests that ended
    uint64_t n_status[MAX_STATUS];
    int64_t alone_us, after_us; // a first token when nobody else is there; after all have vanished
    FILE *log;
};

static void series_add(series *s, int64_t v) {
    if (s->n == s->capacity) s->v = xrealloc(s->v, (s->capacity = 2 * s->capacity + 1024) * sizeof *s->v);
    s->v[s->n++] = v;
}

// ---- one request -------------------------------------------------------------------------------------------------

static void append_prompt(const client *c, buf *b) {
    static const char *const words[] = {"time",   "people", "water", "day",   "house", "work",  "world",
                                        "school", "night",  "story", "light", "music", "paper", "river",
                                        "king",   "garden", "city",  "train", "horse", "winter"};
    uint64_t x = c->l->o.same ? 1 : ((uint64_t)c->l->o.seed << 40) + ((uint64_t)c->number << 20) + c->n_requests + 1;
    buf_printf(b, "Story %llu:", (unsigned long long)x);
    for (uint32_t i = 0; i < c->l->o.n_words; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u; // Knuth's generator, MMIX
        buf_printf(b, " %s", words[(x >> 33) % (sizeof words / sizeof *words)]);
    }
}

static void append_body(const client *c, buf *b) {
    const options *o = &c->l->o;
    bool chat = strstr(o->path, "chat") != NULL;
    uint32_t shorter = o->vary ? (c->number * 7 + c->n_requests * 13) % (1 + o->max_tokens / 2) : 0;
    buf_append_str(b, chat ? "{\"messages\":[{\"role\":\"user\",\"content\":\"" : "{\"prompt\":\"");
    append_prompt(c, b);
    buf_append_str(b, chat ? "\"}]" : "\"");
    if (o->model) buf_printf(b, ",\"model\":\"%s\"", o->model);
    buf_printf(b,
               ",\"max_tokens\":%u,\"temperature\":%g,\"ignore_eos\":true,\"stream\":true,"
               "\"stream_options\":{\"include_usage\":true}}",
               o->max_tokens - shorter, o->temperature);
}

static void on_read(struct bufferevent *bev, void *arg);
static void on_event(struct bufferevent *bev, short what, void *arg);

static void client_ask(client *c) {
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)c->l->o.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    buf body = {0}, head = {0};
    append_body(c, &body);
    buf_printf(&head,
               "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
               "Content-Length: %zu\r\n\r\n",
               c->l->o.path, body.n_bytes);
    c->status = 0, c->first_us = 0, c->step = 0, c->n_pieces = c->n_tokens = 0, c->id[0] = 0;
    c->sent_us = clock_machine_us();
    c->n_requests++;
    check((c->bev = bufferevent_socket_new(c->l->base, -1, BEV_OPT_CLOSE_ON_FREE)));
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    bufferevent_write(c->bev, head.data, head.n_bytes);
    bufferevent_write(c->bev, body.data, body.n_bytes);
    buf_free(&body), buf_free(&head);
    if (bufferevent_socket_connect(c->bev, (const struct sockaddr *)&to, sizeof to) != 0)
        on_event(c->bev, BEV_EVENT_ERROR, c);
}

static void client_hang_up(client *c) {
    if (c->bev) bufferevent_free(c->bev);
    c->bev = NULL;
}

static bool is_measured(const load *l, int64_t us) { return us >= l->begin_us && us < l->end_us; }

static void on_token(client *c) {
    load *l = c->l;
    int64_t now = clock_machine_us();
    if (c->step == l->step) l->step++;
    if (is_measured(l, now) && c != &l->probe) {
        l->n_pieces++;
        if (c->first_us) series_add(&l->gap, now - c->last_us), series_add(&l->steps, (int64_t)(l->step - c->step));
        if (!c->first_us && is_measured(l, c->sent_us)) series_add(&l->first, now - c->sent_us);
    }
    if (!c->first_us) c->first_us = now;
    c->last_us = now, c->step = l->step, c->n_pieces++;
}

static uint32_t number_after(const char *line, const char *key) {
    const char *at = strstr(line, key);
    return at ? (uint32_t)strtoul(at + strlen(key), NULL, 10) : 0;
}

// Does the member hold a text that is not empty?
static bool has_text(const char *line, const char *key) {
    const char *at = strstr(line, key);
    if (!at) return false;
    at += strlen(key);
    while (*at == ' ') at++;
    return at[0] == '"' && at[1] != '"';
}

static void on_end(client *c) {
    load *l = c->l;
    if (c != &l->probe) {
        l->n_ended++;
        l->ended_pieces += c->n_pieces, l->ended_tokens += c->n_tokens;
        if (l->log)
            fprintf(l->log, "{\"id\":\"%s\",\"first_us\":%lld,\"total_us\":%lld}\n", c->id,
                    (long long)(c->first_us - c->sent_us), (long long)(clock_machine_us() - c->sent_us));
    }
    client_hang_up(c);
    c->ended(c);
}

// False when the request is over.
static bool on_data(client *c, const char *data) {
    if (strncmp(data, "[DONE]", 6) == 0) return on_end(c), false;
    if (!c->id[0]) {
        const char *id = strstr(data, "\"id\":\"");
        if (id) sscanf(id + 6, "%63[^\"]", c->id);
    }
    if (has_text(data, "\"text\":") || has_text(data, "\"content\":")) on_token(c);
    uint32_t n_tokens = number_after(data, "\"completion_tokens\":");
    if (n_tokens) c->n_tokens = n_tokens, c->l->prompt_tokens += number_after(data, "\"prompt_tokens\":");
    if (!c->leaves_after || c->n_pieces < c->leaves_after) return true;
    client_hang_up(c);
    c->l->n_left++;
    c->ended(c);
    return false;
}

static void ask_again_later(client *c) {
    const struct timeval later = {0, RETRY_MS * 1000};
    client_hang_up(c);
    event_add(c->timer, &later);
}

static bool on_line(client *c, const char *line) {
    if (c->status) return strncmp(line, "data: ", 6) != 0 || on_data(c, line + 6);
    if (strncmp(line, "HTTP/1.", 7) == 0) c->status = atoi(line + 9);
    if (c->status < 100 || c->status >= MAX_STATUS) c->status = 1; // no HTTP at all
    c->l->n_status[c->status]++;
    if (c->status == 200) return true;
    return ask_again_later(c), false;
}

static void on_read(struct bufferevent *bev, void *arg) {
    struct evbuffer *in = bufferevent_get_input(bev);
    bool more = true;
    for (char *line; more && (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF)); free(line))
        more = on_line(arg, line);
}

static void on_event(struct bufferevent *bev, short what, void *arg) {
    client *c = arg;
    (void)bev;
    if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))) return;
    c->l->n_broken++;
    ask_again_later(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    client_ask(arg);
}

static void client_init(client *c, load *l, uint32_t number, void (*ended)(client *c)) {
    *c = (client){.l = l, .number = number, .ended = ended};
    check((c->timer = evtimer_new(l->base, on_timer, c)));
}

// ---- all of them -------------------------------------------------------------------------------------------------

static void next_request(client *c) {
    const options *o = &c->l->o;
    uint64_t x = ((uint64_t)c->number * 1000003 + c->n_requests) * 0x9e3779b97f4a7c15u >> 32;
    bool leaves = x % 100 < o->leave_percent;
    c->leaves_after = leaves ? 1 + (uint32_t)(x >> 8) % o->max_tokens : 0;
    client_ask(c);
}

static void all_leave(load *l) {
    for (uint32_t i = 0; i < l->o.n_clients; i++) {
        client *c = &l->clients[i];
        event_del(c->timer);
        if (c->bev && c->status <= 200 && !c->first_us && is_measured(l, c->sent_us))
            l->n_waiting++, series_add(&l->first, clock_machine_us() - c->sent_us);
        client_hang_up(c);
    }
}

static void on_probe_after(client *c) {
    c->l->after_us = c->first_us - c->sent_us;
    event_base_loopbreak(c->l->base);
}

static void on_time_up(evutil_socket_t fd, short what, void *arg) {
    load *l = arg;
    (void)fd, (void)what;
    all_leave(l);
    if (l->o.vanish_s == 0) return (void)event_base_loopbreak(l->base);
    l->probe.ended = on_probe_after;
    client_ask(&l->probe);
}

static void begin_load(load *l) {
    double seconds = l->o.vanish_s > 0 ? l->o.vanish_s : l->o.warm_s + l->o.seconds;
    l->begin_us = clock_machine_us() + (int64_t)(1e6 * (l->o.vanish_s > 0 ? 0 : l->o.warm_s));
    l->end_us = clock_machine_us() + (int64_t)(1e6 * seconds);
    const struct timeval t = {(time_t)seconds, (suseconds_t)(1e6 * (seconds - (double)(time_t)seconds))};
    check(event_base_once(l->base, -1, EV_TIMEOUT, on_time_up, l, &t) == 0);
    for (uint32_t i = 0; i < l->o.n_clients; i++) next_request(&l->clients[i]);
}

static void on_probe_alone(client *c) {
    c->l->alone_us = c->first_us - c->sent_us;
    begin_load(c->l);
}

// ---- the report --------------------------------------------------------------------------------------------------

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_series(const char *name, series *s) {
    printf("\"%s\": {\"n\": %zu", name, s->n);
    qsort(s->v, s->n, sizeof *s->v, by_value);
    if (s->n)
        printf(", \"p50\": %lld, \"p99\": %lld, \"max\": %lld", (long long)s->v[s->n / 2],
               (long long)s->v[s->n * 99 / 100], (long long)s->v[s->n - 1]);
    printf("},\n ");
}

static void report(load *l) {
    double seconds = 1e-6 * (double)(l->end_us - l->begin_us);
    double tokens_a_piece = l->ended_pieces ? (double)l->ended_tokens / (double)l->ended_pieces : 1;
    printf("{\"clients\": %u, \"seconds\": %.3f, \"tokens_per_s\": %.1f, \"tokens_per_piece\": %.3f,\n ",
           l->o.n_clients, seconds, (double)l->n_pieces * tokens_a_piece / seconds, tokens_a_piece);
    print_series("first_us", &l->first);
    print_series("gap_us", &l->gap);
    print_series("gap_steps", &l->steps);
    printf("\"ended\": %llu, \"left\": %llu, \"broken\": %llu, \"waiting\": %llu, \"prompt_tokens\": %.1f,\n ",
           (unsigned long long)l->n_ended, (unsigned long long)l->n_left, (unsigned long long)l->n_broken,
           (unsigned long long)l->n_waiting, l->n_ended ? (double)l->prompt_tokens / (double)l->n_ended : 0);
    if (l->o.vanish_s > 0)
        printf("\"alone_us\": %lld, \"after_us\": %lld, ", (long long)l->alone_us, (long long)l->after_us);
    printf("\"status\": {");
    const char *comma = "";
    for (int i = 0; i < MAX_STATUS; i++)
        if (l->n_status[i]) printf("%s\"%d\": %llu", comma, i, (unsigned long long)l->n_status[i]), comma = ", ";
    printf("}}\n");
}

// ---- the command line --------------------------------------------------------------------------------------------

static const struct argp_option OPTIONS[] = {
    {"port", 'p', "PORT", 0, "of the server on the loopback", 0},
    {"path", 'u', "PATH", 0, "default /v1/completions; /v1/chat/completions is known as well", 0},
    {"model", 'M', "NAME", 0, "for servers that want to be told", 0},
    {"clients", 'c', "N", 0, "default 1", 0},
    {"words", 'w', "N", 0, "of a prompt, about as many tokens (default 90)", 0},
    {"max-tokens", 'n', "N", 0, "of an answer (default 32)", 0},
    {"vary", 'V', NULL, 0, "answers are half as long to as long, so that clients do not keep step", 0},
    {"temperature", 't', "T", 0, "default 0", 0},
    {"warm", 'W', "SECONDS", 0, "not measured, before the rest (default 0)", 0},
    {"seconds", 's', "SECONDS", 0, "measured (default 5)", 0},
    {"leave", 'l', "PERCENT", 0, "of the requests are left in the middle of their stream (default 0)", 0},
    {"vanish", 'v', "SECONDS", 0, "after which all clients leave at once; then one asks how soon it is served", 0},
    {"same", 'a', NULL, 0, "all prompts are the same", 0},
    {"seed", 'r', "N", 0, "of the prompts (default 0)", 0},
    {"log", 'o', "FILE", 0, "a line of JSON for each request that ended", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    const struct {
        int key;
        uint32_t *to;
    } counts[] = {{'p', &o->port},       {'c', &o->n_clients}, {'w', &o->n_words},
                  {'n', &o->max_tokens}, {'r', &o->seed},      {'l', &o->leave_percent}};
    const struct {
        int key;
        double *to;
    } reals[] = {{'t', &o->temperature}, {'W', &o->warm_s}, {'s', &o->seconds}, {'v', &o->vanish_s}};
    const struct {
        int key;
        const char **to;
    } texts[] = {{'u', &o->path}, {'M', &o->model}, {'o', &o->log}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i].key == key) return *counts[i].to = (uint32_t)strtoul(arg, NULL, 10), 0;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (reals[i].key == key) return *reals[i].to = strtod(arg, NULL), 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].key == key) return *texts[i].to = arg, 0;
    if (key == 'a') return o->same = true, 0;
    if (key == 'V') return o->vary = true, 0;
    if (key == ARGP_KEY_END && (!o->port || !o->n_clients || !o->max_tokens))
        argp_error(state, "--port is needed; --clients and --max-tokens are at least 1");
    return ARGP_ERR_UNKNOWN;
}

int main(int argc, char **argv) {
    static const struct argp argp = {.options = OPTIONS, .parser = parse, .doc = "Stream from a server, and measure."};
    load l = {.o = {.n_clients = 1, .n_words = 90, .max_tokens = 32, .seconds = 5, .path = "/v1/completions"},
              .step = 1};
    argp_parse(&argp, argc, argv, 0, NULL, &l.o);
    if (l.o.log && !(l.log = fopen(l.o.log, "w"))) return perror(l.o.log), 1;
    check((l.base = event_base_new()));
    l.clients = xcalloc(l.o.n_clients, sizeof *l.clients);
    for (uint32_t i = 0; i < l.o.n_clients; i++) client_init(&l.clients[i], &l, i, next_request);
    client_init(&l.probe, &l, l.o.n_clients, on_probe_alone);
    if (l.o.vanish_s > 0)
        client_ask(&l.probe);
    else
        begin_load(&l);
    event_base_dispatch(l.base);
    report(&l);

    client_hang_up(&l.probe);
    for (uint32_t i = 0; i < l.o.n_clients; i++) event_free(l.clients[i].timer);
    event_free(l.probe.timer);
    event_base_free(l.base);
    free(l.clients), free(l.first.v), free(l.gap.v), free(l.steps.v);
    if (l.log) fclose(l.log);
}

// Implements the exchange_* half of http.h: what the handler reads of a request, and how its reply is written.
//
// An exchange lives from the moment its request is whole until its reply is written or its client is gone; then it is
// freed, and the connection goes on alone. Everything written goes into the connection's buffer, which libevent sends,
// but for the pieces of a stream: with nothing before them they go to the socket at once. That spares the rounds of the
// event loop that it takes to be told that a socket can be written: 12.7 us a token instead of 15.6 (64 clients).
#include "server/connection.h"

#include "base/clock.h"

#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

// RFC 9110, 15, and 6585; those that an inference server may want to say.
static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status) {
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status) return reasons[i].reason;
    return ""; // RFC 9112, 4: the phrase may be absent
}

// ---- life ----------------------------------------------------------------------------------------------------------

// The X-Request-Id that the client sent, if it can stand in a log line and a header as it is.
static void take_id(exchange *x) {
    const char *id = exchange_header(x, "x-request-id");
    size_t n = 0;
    while (id && id[n] > ' ' && id[n] < 0x7f) n++;
    x->own_id = n > 0 && n <= MAX_ID_BYTES && id[n] == 0;
    if (x->own_id) memcpy(x->id, id, n + 1);
}

exchange *exchange_new(connection *c) {
    exchange *x = xcalloc(1, sizeof *x);
    x->c = c;
    x->start_us = clock_machine_us();
    take_id(x);
    return x;
}

static void finish(exchange *x, int status) {
    const http_options *o = &x->c->h->options;
    if (o->done) o->done(o->self, x, status, x->n_sent_bytes, clock_machine_us() - x->start_us);
    buf_free(&x->headers);
    free(x);
}

void exchange_lose(exchange *x) {
    if (x->gone) x->gone(x->gone_arg);
    finish(x, 499);
}

// The reply is written. The connection must not touch x any more, nor `done` find it half alive.
static void end(exchange *x) {
    connection_end_exchange(x->c);
    finish(x, x->status);
}

void exchange_on_gone(exchange *x, void (*gone)(void *arg), void *arg) {
    x->gone = gone;
    x->gone_arg = arg;
}

// ---- the request ---------------------------------------------------------------------------------------------------

const char *exchange_method(const exchange *x) { return http_parser_method(&x->c->parser); }
const char *exchange_path(const exchange *x) { return http_parser_path(&x->c->parser); }
const char *exchange_query(const exchange *x) { return http_parser_query(&x->c->parser); }
const char *exchange_header(const exchange *x, const char *name) { return http_parser_header(&x->c->parser, name); }
const char *exchange_peer(const exchange *x) { return x->c->peer; }
const char *exchange_id(const exchange *x) { return x->id; }
uint32_t exchange_tag(const exchange *x) { return x->tag; }
void exchange_set_tag(exchange *x, uint32_t tag) { x->tag = tag; }

bool exchange_set_id(exchange *x, const char *id) {
    size_t n = strlen(id);
    check(x->status == 0 && n <= MAX_ID_BYTES);
    if (!x->own_id) memcpy(x->id, id, n + 1);
    return !x->own_id;
}

const char *exchange_body(const exchange *x, size_t *n_bytes) {
    *n_bytes = x->c->parser.n_body_bytes;
    return x->c->parser.body ? x->c->parser.body : "";
}

// ---- the reply -----------------------------------------------------------------------------------------------------

static struct evbuffer *output(const exchange *x) { return bufferevent_get_output(x->c->bev); }

static void put(exchange *x, const void *bytes, size_t n) { check(evbuffer_add(output(x), bytes, n) == 0); }
#define put_format(x, ...) check(evbuffer_add_printf(output(x), __VA_ARGS__) >= 0)

static void append_header(buf *b, const char *name, const char *value) {
    buf_append_str(b, name);
    buf_append_str(b, ": ");
    for (const char *s = value; *s; s++) buf_append_char(b, (unsigned char)*s < ' ' || *s == 0x7f ? ' ' : *s);
    buf_append_str(b, "\r\n");
}

void exchange_add_header(exchange *x, const char *name, const char *value) {
    check(x->status == 0 && *name && !name[strcspn(name, " \t\r\n:")]);
    append_header(&x->headers, name, value);
}

// n_bytes -1: the body comes in pieces.
static void put_head(exchange *x, int status, const char *type, int64_t n_bytes) {
    check(x->status == 0 && status >= 200 && status <= 599);
    connection *c = x->c;
    // The write timeout counts from the loop's idea of now, which is as old as the handler has worked.
    event_base_update_cache_time(c->h->base);
    const http_parser *request = &c->parser;
    bool never_a_body = status == 204 || status == 304;
    x->status = status;
    x->bodyless = never_a_body || strcmp(http_parser_method(request), "HEAD") == 0;
    x->chunked = n_bytes < 0 && !request->http_1_0;
    bool until_close = n_bytes < 0 && request->http_1_0 && !x->bodyless;
    if (!request->keep_alive || c->h->draining || until_close) c->closing = true;

    if (type) append_header(&x->headers, "Content-Type", type);
    if (*x->id) append_header(&x->headers, "X-Request-Id", x->id);
    put_format(x, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    put(x, x->headers.data, x->headers.n_bytes);
    if (n_bytes >= 0 && !never_a_body) put_format(x, "Content-Length: %lld\r\n", (long long)n_bytes);
    if (x->chunked && !never_a_body) put_format(x, "Transfer-Encoding: chunked\r\n");
    if (c->closing) put_format(x, "Connection: close\r\n");
    if (!c->closing && request->http_1_0) put_format(x, "Connection: keep-alive\r\n");
    put(x, "\r\n", 2);
}

void exchange_reply(exchange *x, int status, const char *type, const void *body, size_t n_bytes) {
    put_head(x, status, type, (int64_t)n_bytes);
    if (!x->bodyless && n_bytes) {
        put(x, body, n_bytes);
        x->n_sent_bytes = n_bytes;
    }
    end(x);
}

void exchange_begin(exchange *x, int status, const char *type) { put_head(x, status, type, -1); }

// Bytes that the socket took. None if it failed: libevent will find that out in its turn, and say so.
static size_t send_now(const exchange *x, struct iovec *parts, size_t n) {
    if (x->c->tls || evbuffer_get_length(output(x)) > 0) return 0;
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = n};
    ssize_t sent = sendmsg(bufferevent_getfd(x->c->bev), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? (size_t)sent : 0;
}

static void put_parts(exchange *x, struct iovec *parts, size_t n) {
    size_t sent = send_now(x, parts, n);
    for (size_t i = 0; i < n; i++) {
        size_t skip = sent < parts[i].iov_len ? sent : parts[i].iov_len;
        put(x, (const char *)parts[i].iov_base + skip, parts[i].iov_len - skip);
        sent -= skip;
    }
}

void exchange_write(exchange *x, const void *data, size_t n_bytes) {
    check(x->status != 0);
    if (x->bodyless || n_bytes == 0) return;
    char size[20], end[] = "\r\n";
    size_t n_size = x->chunked ? (size_t)snprintf(size, sizeof size, "%zx\r\n", n_bytes) : 0;
    struct iovec parts[] = {{size, n_size}, {(void *)(uintptr_t)data, n_bytes}, {end, x->chunked ? 2 : 0}};
    int64_t now_us = clock_machine_us(); // the client may have it, and the processor, before sendmsg returns
    put_parts(x, parts, 3);
    connection_note_sent(x->c, now_us);
    x->n_sent_bytes += n_bytes;
    if (!exchange_writable(x)) x->full = true;
}

void exchange_note_made(exchange *x, int64_t us) {
    if (!x->c->made_us) x->c->made_us = us;
}

void exchange_end(exchange *x) {
    check(x->status != 0);
    if (x->chunked && !x->bodyless) put(x, "0\r\n\r\n", 5);
    end(x);
}

bool exchange_writable(const exchange *x) {
    return evbuffer_get_length(output(x)) <= x->c->h->options.max_pending_bytes;
}

void exchange_on_writable(exchange *x, void (*resume)(void *arg), void *arg) {
    x->resume = resume;
    x->resume_arg = arg;
}

void exchange_drained(exchange *x) {
    if (!x->full) return;
    x->full = false;
    if (x->resume) x->resume(x->resume_arg);
}

// Http: the connections of one event loop, and the exchanges (one request, one reply) that happen on them.
//
// Owns listeners, sockets, TLS, buffers and deadlines; one thread, the event loop's, runs everything here and all
// callbacks. A connection reads ahead (pipelining), but one exchange at a time is with the handler. Reading never stops
// while it is, so that a client that leaves is noticed at once: `gone` is then called, exactly once, and the exchange
// is no more. A client that sends more than 64 KiB meanwhile gets its reply, and then a closed connection. What a
// client does not read is bounded: `exchange_writable` turns false, and after the write timeout the client is gone.
// Knows nothing of JSON, engines or paths. No callback runs inside a call of this header (but `done`, and `gone` in
// http_close): all come from the loop.
#pragma once

#include "base/err.h"

#include <event2/event.h>

#include <stdint.h>

typedef struct http http;
typedef struct exchange exchange;

typedef struct http_options {  // zero means the default
    const char *const *listen; // [n_listen] "127.0.0.1:8080", "[::1]:8080", "unix:/path"
    size_t n_listen;
    const char *tls_cert, *tls_key; // PEM files; both or none
    uint32_t max_connections;       // 1024; one more is answered 503 and closed
    uint32_t max_header_bytes;      // request line and headers; 32 KiB, then 431
    uint32_t max_body_bytes;        // 8 MiB, then 413
    uint64_t max_bodies_bytes;      // memory of all requests' bodies together; 256 MiB, then 503
    uint32_t max_pending_bytes;     // written and not yet read by the client; 256 KiB: exchange_writable is false
    uint32_t header_timeout_ms;     // 10 s from the first byte of a request to the end of its headers, then 408
    uint32_t body_timeout_ms;       // 30 s from there to the end of the body, then 408
    uint32_t idle_timeout_ms;       // 75 s between requests
    uint32_t write_timeout_ms;      // 30 s without the client reading anything of what is pending
    bool unix_any_user;             // the socket's file may be used by everybody (mode 0666, else 0600)

    void (*handle)(void *self, exchange *x); // a request is here whole; reply now or later
    // A request is refused (400, 408, 413, 414, 417, 431, 503, 505): must exchange_reply with that status before it
    // returns; the connection closes. What was not read of the request is "" or NULL. NULL: `why` as plain text.
    void (*refuse)(void *self, exchange *x, int status, const char *why);
    // Called after each reply, or when its client left (status 499): for access log and metrics. May be NULL.
    // n_sent_bytes: of the reply's body, handed to the connection. took_us: since the request was here whole.
    void (*done)(void *self, const exchange *x, int status, uint64_t n_sent_bytes, int64_t took_us);
    // What exchange_note_made was told of has left for the socket, so much later. May be NULL.
    void (*sent)(void *self, int64_t took_us);
    void (*drained)(void *self); // after http_stop_accepting, once: no connection is left. May be NULL.
    void *self;
} http_options;

// Strings in options are copied. NULL and one sentence if an address cannot be had or a certificate is not right.
// SIGPIPE is ignored in the whole process from here on: to write to a client that left is an error, not a death.
http *http_open(struct event_base *base, const http_options *o, err *e);
// Every connection ends at once; `gone` is called for each exchange. Not from inside a callback, but `drained`.
// libevent closes the sockets and frees the last of it when the loop next runs: run it once more (EVLOOP_NONBLOCK)
// before event_base_free.
void http_close(http *h);
void http_stop_accepting(http *h);     // listeners and idle connections close; the others do after their current reply
bool http_reload_tls(http *h, err *e); // certificate and key are read again, for new connections; false: the old stay
uint32_t http_n_connections(const http *h); // with those that are closing
// The port the first TCP listener got (for ":0"); 0 if there is none.
uint16_t http_port(const http *h);

// ---- the request: everything is borrowed until the exchange ends -------------------------------------------------

const char *exchange_method(const exchange *x);
const char *exchange_path(const exchange *x);  // percent-decoded; no query; no "." or ".." segments are resolved
const char *exchange_query(const exchange *x); // raw, after '?'; "" if there is none
// Value of the first header of that name (given in lower case); NULL if there is none.
const char *exchange_header(const exchange *x, const char *name);
const char *exchange_body(const exchange *x, size_t *n_bytes); // NUL after the last byte
const char *exchange_peer(const exchange *x);                  // "127.0.0.1:4711", "unix"
// What the exchange is called, in the X-Request-Id of its reply too: what the client said in its own (1 to 64 visible
// ASCII characters), else what the handler has set (shorter than 64), else "".
const char *exchange_id(const exchange *x);
bool exchange_set_id(exchange *x, const char *id); // before the reply begins; false: the client's stays
// A number of the handler's own, for `done`; 0 until it is set.
uint32_t exchange_tag(const exchange *x);
void exchange_set_tag(exchange *x, uint32_t tag);

// ---- the reply: either exchange_reply, or begin, any number of writes, end ---------------------------------------

// Before the reply begins; both copied. A control byte in the value becomes a blank, so that no value can end the
// header. Content-Type, Content-Length, Transfer-Encoding, Connection and X-Request-Id are ours.
void exchange_add_header(exchange *x, const char *name, const char *value);
// To HEAD, and with status 204 or 304, the headers are sent and the body is not. type may be NULL.
void exchange_reply(exchange *x, int status, const char *type, const void *body, size_t n_bytes);
void exchange_begin(exchange *x, int status, const char *type);     // chunked (HTTP/1.0: until the connection closes)
void exchange_write(exchange *x, const void *data, size_t n_bytes); // sent at once; n_bytes 0 does nothing
void exchange_note_made(exchange *x, int64_t us); // what is written next was made then, on CLOCK_MONOTONIC: see `sent`
void exchange_end(exchange *x);
// What is with the handler: called if the client goes away (closed, half-closed, timed out, http_close) before the
// reply has ended. Not called after exchange_reply or exchange_end. One per exchange.
void exchange_on_gone(exchange *x, void (*gone)(void *arg), void *arg);
// False while more than max_pending_bytes wait for the client. `resume` is called once they have left, each time.
// What is written all the same is kept: who ignores this is not bounded.
bool exchange_writable(const exchange *x);
void exchange_on_writable(exchange *x, void (*resume)(void *arg), void *arg);

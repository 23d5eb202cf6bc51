// Connection: what the files behind http.h share. Nobody else includes this.
//
//   http.c        options, the set of connections, stop and close
//   listener.c    addresses, sockets that accept, what to do when descriptors run out
//   tls.c         certificate and key, to an SSL_CTX
//   connection.c  one client: its phases, deadlines, and what reads from it
//   exchange.c    one request with the handler, and the reply
//
// A connection is always in exactly one phase, and each phase has one deadline (or none):
//
//   HANDSHAKE -> IDLE -> HEAD -> BODY -> HANDLING -> FLUSHING -> IDLE ...
//                                                         `--> LINGERING, then it is freed
//
// The next request is not looked at before the last reply has left (FLUSHING), so replies come in order, and a flood
// of pipelined requests costs READ_AHEAD_BYTES (and one read) and no more.
#pragma once

#include "base/buf.h"
#include "server/http.h"
#include "server/http_parser.h"

#include <event2/bufferevent.h>
#include <openssl/ssl.h>

enum {
    READ_AHEAD_BYTES = 64 << 10, // kept of what comes while a reply is pending
    LINGER_MS = 5000,            // for the client to read the last reply and close
    MAX_ID_BYTES = 64,
    REFUSED_CONNECTIONS = 64, // beyond max_connections are told so; further ones are just closed
};

typedef struct connection connection;
typedef struct listener listener;

struct http {
    struct event_base *base;
    http_options options; // zeros replaced by defaults; without strings
    char *cert, *key;     // file names; NULL: plain
    SSL_CTX *tls;
    listener *listeners;     // list
    uint16_t port;           // of the first TCP listener
    connection *connections; // list
    uint32_t n_connections;
    uint64_t n_bodies_bytes; // inequality: at most max_bodies_bytes + one read
    bool draining;
    struct event *drained;
};

typedef enum phase { HANDSHAKE, IDLE, HEAD, BODY, HANDLING, FLUSHING, LINGERING } phase;

struct connection {
    http *h;
    connection *prev, *next;
    struct bufferevent *bev;
    SSL *tls; // borrowed from bev; NULL: plain
    struct event *timer;
    phase phase;
    http_parser parser;
    exchange *x;          // while HANDLING, else NULL
    size_t counted_bytes; // of the body, in h->n_bodies_bytes
    bool closing;         // after the reply
    bool client_done;     // its end of file has been read
    bool paused;          // not read while FLUSHING: enough has been read ahead
    bool over_limit;      // one connection too many
    int64_t made_us;      // of the oldest that is pending: exchange_note_made; 0: unknown
    char peer[64];
};

struct exchange {
    connection *c;
    int64_t start_us;
    char id[MAX_ID_BYTES + 1];
    bool own_id; // it is the client's
    uint32_t tag;
    buf headers; // added by the handler, as they are sent
    int status;  // 0: the reply has not begun
    bool chunked, bodyless;
    bool full; // more than max_pending_bytes were pending, and `resume` has not been called since
    uint64_t n_sent_bytes;
    void (*gone)(void *arg);
    void *gone_arg;
    void (*resume)(void *arg);
    void *resume_arg;
};

// ---- connection.c --------------------------------------------------------------------------------------------------

void connection_open(http *h, int fd, const char *peer); // takes fd
void connection_free(connection *c);                     // at once; the exchange's client is gone
void connection_close_idle(connection *c);               // frees it, if no request has begun
void connection_end_exchange(connection *c);             // the reply is written: flush, then go on or close
void connection_note_sent(connection *c, int64_t us);    // tells `sent`, unless bytes are pending

// ---- exchange.c ----------------------------------------------------------------------------------------------------

exchange *exchange_new(connection *c);
void exchange_lose(exchange *x);    // the client is gone; frees x
void exchange_drained(exchange *x); // nothing is pending any more

// ---- listener.c ----------------------------------------------------------------------------------------------------

bool listener_open(http *h, const char *address, err *e); // adds to h->listeners
void listener_close_all(http *h);

// ---- tls.c ---------------------------------------------------------------------------------------------------------

SSL_CTX *tls_open(const char *cert, const char *key, err *e);

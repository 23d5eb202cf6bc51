// Implements the connections of connection.h: what one client sends, when its time is up, and how it ends.
//
// Callbacks of libevent are deferred, so each runs from the loop's top and may free its connection as the last thing
// it does. Nothing here is called from inside an exchange_* function but connection_end_exchange, which frees nothing.
#include "server/connection.h"

#include "base/clock.h"

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct evbuffer *input(const connection *c) { return bufferevent_get_input(c->bev); }
static size_t n_unsent_bytes(const connection *c) { return evbuffer_get_length(bufferevent_get_output(c->bev)); }

static struct timeval timeval_of(uint32_t ms) { return (struct timeval){ms / 1000, (suseconds_t)(ms % 1000) * 1000}; }

// ---- phases --------------------------------------------------------------------------------------------------------

static uint32_t deadline_ms(const connection *c, phase phase) { // 0: none
    const http_options *o = &c->h->options;
    switch (phase) {
    case HANDSHAKE:
        return o->header_timeout_ms;
    case IDLE:
        return o->idle_timeout_ms;
    case HEAD:
        return o->header_timeout_ms;
    case BODY:
        return o->body_timeout_ms;
    case LINGERING:
        return LINGER_MS;
    case HANDLING:
    case FLUSHING:
        break; // libevent's write timeout, while something is pending
    }
    return 0;
}

static void enter(connection *c, phase phase) {
    c->phase = phase;
    uint32_t ms = deadline_ms(c, phase);
    struct timeval t = timeval_of(ms);
    check((ms ? evtimer_add(c->timer, &t) : evtimer_del(c->timer)) == 0);
}

static void drop_input(connection *c) { evbuffer_drain(input(c), evbuffer_get_length(input(c))); }

static void say_goodbye(connection *c) {
    if (c->tls) SSL_shutdown(c->tls);
    ERR_clear_error();
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
}

// Our side is closed, the client's may take its time: to close with its bytes unread would reset the connection, and
// take the reply from under its eyes.
static void linger(connection *c) {
    if (c->client_done) return connection_free(c);
    say_goodbye(c);
    enter(c, LINGERING);
    drop_input(c);
}

void connection_close_idle(connection *c) {
    if (c->phase != IDLE) return;
    say_goodbye(c); // none of its bytes is unread: there is nothing to linger for
    connection_free(c);
}

// ---- requests ------------------------------------------------------------------------------------------------------

static void count_body(connection *c) {
    c->h->n_bodies_bytes += c->parser.body_capacity_bytes;
    c->h->n_bodies_bytes -= c->counted_bytes;
    c->counted_bytes = c->parser.body_capacity_bytes;
}

static void begin_exchange(connection *c) {
    c->x = exchange_new(c);
    enter(c, HANDLING);
}

static void refuse(connection *c, int status, const char *why) {
    const http_options *o = &c->h->options;
    c->closing = true;
    begin_exchange(c);
    if (o->refuse)
        o->refuse(o->self, c->x, status, why);
    else
        exchange_reply(c->x, status, "text/plain", why, strlen(why));
    check(c->x == NULL);
}

static void read_request(connection *c) {
    while (c->phase < HANDLING && evbuffer_get_length(input(c)) > 0) {
        http_stage before = c->parser.stage;
        size_t n = evbuffer_get_contiguous_space(input(c)); // what lies there in one piece; a first piece may be empty
        const void *bytes = evbuffer_pullup(input(c), n ? (ssize_t)n : -1);
        evbuffer_drain(input(c), http_parser_feed(&c->parser, bytes, n ? n : evbuffer_get_length(input(c))));
        count_body(c);
        if (c->parser.stage == HTTP_REFUSED) {
            refuse(c, c->parser.status, c->parser.why);
        } else if (c->h->n_bodies_bytes > c->h->options.max_bodies_bytes) {
            refuse(c, 503, "there is no memory for the body now");
        } else if (c->parser.stage == HTTP_WHOLE) {
            begin_exchange(c);
            c->h->options.handle(c->h->options.self, c->x);
        } else if (c->parser.stage != before) {
            enter(c, c->parser.stage == HTTP_BODY ? BODY : HEAD);
        }
    }
    if (c->phase == BODY && c->parser.expects_100 && !c->parser.n_body_bytes) {
        c->parser.expects_100 = false;
        check(bufferevent_write(c->bev, "HTTP/1.1 100 Continue\r\n\r\n", 25) == 0);
    }
}

void connection_end_exchange(connection *c) {
    c->x = NULL;
    enter(c, FLUSHING);
    if (n_unsent_bytes(c) == 0) bufferevent_trigger(c->bev, EV_WRITE, 0); // all had left before the end
}

void connection_note_sent(connection *c, int64_t us) {
    const http_options *o = &c->h->options;
    if (!c->made_us || n_unsent_bytes(c) > 0) return;
    if (o->sent) o->sent(o->self, us - c->made_us);
    c->made_us = 0;
}

// The last reply has left.
static void next_request(connection *c) {
    http_parser_reset(&c->parser);
    count_body(c);
    if (c->paused) check(bufferevent_enable(c->bev, EV_READ) == 0);
    c->paused = false;
    if (c->closing || c->client_done || c->h->draining) return linger(c);
    enter(c, IDLE);
    read_request(c);
}

// ---- callbacks -----------------------------------------------------------------------------------------------------

// While a handler is at work reading never stops: a client's end can only be seen by reading up to it. (EPOLLRDHUP and
// libevent's EV_CLOSED do not see it behind a full receive window.) Who sends too much meanwhile is not read any more
// after this reply, and that is forgotten at once.
static void on_read(struct bufferevent *bev, void *arg) {
    connection *c = arg;
    bool too_much = evbuffer_get_length(input(c)) > READ_AHEAD_BYTES;
    if (c->phase < HANDLING) return read_request(c);
    if (c->phase == HANDLING && too_much) c->closing = true;
    if (c->closing || c->phase == LINGERING) return drop_input(c);
    if (c->phase == FLUSHING && too_much) {
        check(bufferevent_disable(bev, EV_READ) == 0);
        c->paused = true;
    }
}

static void on_drained(struct bufferevent *bev, void *arg) {
    connection *c = arg;
    (void)bev;
    if (n_unsent_bytes(c) > 0) return; // deferred, and more has come since
    connection_note_sent(c, clock_machine_us());
    if (c->phase == HANDLING)
        exchange_drained(c->x);
    else if (c->phase == FLUSHING)
        next_request(c);
}

static void begin(connection *c) {
    if (c->over_limit)
        refuse(c, 503, "there are too many connections");
    else
        next_request(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg) {
    connection *c = arg;
    if (what & BEV_EVENT_CONNECTED) return begin(c);
    bool no_more = (what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING); // TLS tells a broken pipe as an end of writing
    if (!no_more || c->phase != FLUSHING) return connection_free(c);
    // It has finished sending, and may yet read the whole reply that is on its way. (TLS stops writing at the end.)
    c->client_done = true;
    bufferevent_enable(bev, EV_WRITE);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg) {
    connection *c = arg;
    (void)fd;
    (void)what;
    if (c->phase == HEAD || c->phase == BODY)
        refuse(c, 408, "the request took too long to arrive");
    else if (c->phase == IDLE)
        linger(c);
    else
        connection_free(c);
}

// ---- life ----------------------------------------------------------------------------------------------------------

static struct bufferevent *open_bufferevent(http *h, int fd, SSL **tls) {
    int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
    *tls = NULL;
    if (!h->tls) return bufferevent_socket_new(h->base, fd, options);
    check((*tls = SSL_new(h->tls)) != NULL);
    return bufferevent_openssl_socket_new(h->base, fd, *tls, BUFFEREVENT_SSL_ACCEPTING, options);
}

void connection_open(http *h, int fd, const char *peer) {
    if (h->n_connections >= h->options.max_connections + REFUSED_CONNECTIONS) {
        close(fd);
        return;
    }
    connection *c = xcalloc(1, sizeof *c);
    c->h = h;
    check((c->bev = open_bufferevent(h, fd, &c->tls)) != NULL);
    check((c->timer = evtimer_new(h->base, on_deadline, c)) != NULL);
    http_parser_init(&c->parser, (http_limits){h->options.max_header_bytes, h->options.max_body_bytes});
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    c->over_limit = h->n_connections >= h->options.max_connections;
    c->next = h->connections;
    if (c->next) c->next->prev = c;
    h->connections = c;
    h->n_connections++;

    struct timeval write_timeout = timeval_of(h->options.write_timeout_ms);
    bufferevent_setcb(c->bev, on_read, on_drained, on_event, c);
    bufferevent_set_timeouts(c->bev, NULL, &write_timeout);
    enter(c, HANDSHAKE);
    check(bufferevent_enable(c->bev, EV_READ | EV_WRITE) == 0);
    if (!c->tls) begin(c);
}

void connection_free(connection *c) {
    http *h = c->h;
    if (c->x) exchange_lose(c->x);
    *(c->prev ? &c->prev->next : &h->connections) = c->next;
    if (c->next) c->next->prev = c->prev;
    h->n_connections--;
    http_parser_free(&c->parser);
    count_body(c);
    event_free(c->timer);
    bufferevent_free(c->bev);
    free(c);
    if (h->draining && h->n_connections == 0) event_active(h->drained, EV_TIMEOUT, 0);
}

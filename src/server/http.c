// Implements the http_* half of http.h: options, and the beginning and end of everything.
#include "server/connection.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static uint32_t or_default(uint32_t value, uint32_t otherwise) { return value ? value : otherwise; }

static void copy_options(http *h, const http_options *given) {
    http_options *o = &h->options;
    *o = *given;
    o->max_connections = or_default(o->max_connections, 1024);
    o->max_header_bytes = or_default(o->max_header_bytes, 32 << 10);
    o->max_body_bytes = or_default(o->max_body_bytes, 8 << 20);
    o->max_bodies_bytes = o->max_bodies_bytes ? o->max_bodies_bytes : 256 << 20;
    o->max_pending_bytes = or_default(o->max_pending_bytes, 256 << 10);
    o->header_timeout_ms = or_default(o->header_timeout_ms, 10000);
    o->body_timeout_ms = or_default(o->body_timeout_ms, 30000);
    o->idle_timeout_ms = or_default(o->idle_timeout_ms, 75000);
    o->write_timeout_ms = or_default(o->write_timeout_ms, 30000);
    h->cert = given->tls_cert ? xstrdup(given->tls_cert) : NULL;
    h->key = given->tls_key ? xstrdup(given->tls_key) : NULL;
    // what was borrowed is not kept
    o->listen = NULL;
    o->tls_cert = o->tls_key = NULL;
}

static void on_drained(evutil_socket_t fd, short what, void *arg) {
    http *h = arg;
    (void)fd;
    (void)what;
    if (h->options.drained) h->options.drained(h->options.self);
}

http *http_open(struct event_base *base, const http_options *o, err *e) {
    check(o->handle && o->n_listen > 0);
    if (!o->tls_cert != !o->tls_key)
        return fail_null(e, ERR_USAGE, "http: a certificate needs its key, and a key its certificate");
    signal(SIGPIPE, SIG_IGN);
    http *h = xcalloc(1, sizeof *h);
    h->base = base;
    copy_options(h, o);
    check((h->drained = evtimer_new(base, on_drained, h)) != NULL);
    bool ok = !h->cert || (h->tls = tls_open(h->cert, h->key, e));
    for (size_t i = 0; ok && i < o->n_listen; i++) ok = listener_open(h, o->listen[i], e);
    if (ok) return h;
    http_close(h);
    return NULL;
}

void http_close(http *h) {
    if (!h) return;
    listener_close_all(h);
    while (h->connections) connection_free(h->connections);
    event_free(h->drained);
    SSL_CTX_free(h->tls);
    free(h->cert);
    free(h->key);
    free(h);
}

void http_stop_accepting(http *h) {
    if (h->draining) return;
    h->draining = true;
    listener_close_all(h);
    for (connection *c = h->connections, *next; c; c = next) {
        next = c->next;
        connection_close_idle(c);
    }
    if (h->n_connections == 0) event_active(h->drained, EV_TIMEOUT, 0);
}

bool http_reload_tls(http *h, err *e) {
    check(h->cert);
    SSL_CTX *tls = tls_open(h->cert, h->key, e);
    if (!tls) return false;
    SSL_CTX_free(h->tls); // open connections hold it
    h->tls = tls;
    return true;
}

uint32_t http_n_connections(const http *h) { return h->n_connections; }
uint16_t http_port(const http *h) { return h->port; }

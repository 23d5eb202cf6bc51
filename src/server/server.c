// Implements server.h: loading, draining, the end.
//
// The loader thread opens the engine and posts it through the bell, so the loop learns of it like of anything else.
// End: draining closes the listeners; when nothing lives any more (or drain_ms passed and all was cancelled), `stopped`
// is called once.
#include "server/call.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_QUEUE = 256, DEFAULT_WATCHDOG_MS = 30000, POLL_MS = 20, GRACE_MS = 2000 };

typedef struct loaded_mail {
    mail_node node;
    server *s;
    rf_engine *engine; // NULL: see error
    rf_error error;
} loaded_mail;

// ---- loading -----------------------------------------------------------------------------------------------------

static void *load_main(void *arg) {
    server *s = arg;
    s->loaded->engine = rf_engine_open(s->o.model_path, &s->o.engine, &s->loaded->error);
    bell_post(s->loader_bell, &s->loaded->node);
    return NULL;
}

static void on_loaded(mail_node *node) {
    loaded_mail *m = mail_of(node, loaded_mail, node);
    server *s = m->s;
    pthread_join(s->loader, NULL);
    s->loading = false;
    if (!m->engine) {
        err e = {0};
        fail(&e, (err_code)m->error.code, "%s", m->error.message);
        log_event(s->log, "error", "%s", e.text);
        if (s->o.stopped) s->o.stopped(s->o.arg, &e);
        return;
    }
    s->engine = m->engine;
    rf_model_get_info(s->engine, &s->info);
    log_event(s->log, "info", "ready: %s, %s, %d threads, context %u", s->model_id, s->info.isa, s->info.n_threads,
              s->info.n_ctx);
    if (s->o.ready && !s->draining) s->o.ready(s->o.arg);
}

static bool start_loading(server *s, err *e) {
    s->loaded = xcalloc(1, sizeof *s->loaded);
    s->loaded->s = s;
    s->loader_bell = bell_open(s->base, on_loaded, e);
    if (!s->loader_bell) return false;
    int error = pthread_create(&s->loader, NULL, load_main, s);
    if (error) return fail(e, ERR_IO, "cannot start the loading thread: %s", strerror(error));
    return s->loading = true;
}

// ---- draining ----------------------------------------------------------------------------------------------------

static void on_drain_tick(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    server *s = arg;
    int64_t now_us = clock_machine_us();
    if (!s->cancelled && now_us >= s->cancel_at_us) server_cancel_all(s);
    bool busy = s->loading || records_n_live(s->records, UINT32_MAX) > 0 || http_n_connections(s->http) > 0;
    if (busy && now_us < s->cancel_at_us + GRACE_MS * 1000) return;
    if (s->loading) return;
    event_del(s->drain_timer);
    if (s->o.stopped) s->o.stopped(s->o.arg, NULL);
}

void server_drain(server *s) {
    if (s->draining) return;
    s->draining = true;
    s->cancel_at_us = clock_machine_us() + (int64_t)s->o.drain_ms * 1000;
    log_event(s->log, "info", "draining: %u requests live", records_n_live(s->records, UINT32_MAX));
    http_stop_accepting(s->http);
    const struct timeval tick = {.tv_usec = POLL_MS * 1000};
    event_add(s->drain_timer, &tick);
}

void server_cancel_all(server *s) {
    s->cancelled = true;
    for (record *c = records_newest(s->records), *older; c; c = older) {
        older = c->older;
        if (c->answer) answer_cancel(c->answer);
    }
}

bool server_reload(server *s, err *e) {
    keys *fresh = s->o.api_key_file ? keys_open(s->o.api_key_file, e) : NULL;
    if (s->o.api_key_file && !fresh) return false;
    if (s->o.http.tls_cert && !http_reload_tls(s->http, e)) return keys_close(fresh), false;
    if (!log_reopen(s->log, e)) return keys_close(fresh), false;
    keys_close(s->keys);
    s->keys = fresh;
    log_event(s->log, "info", "keys, certificates and log were opened anew");
    return true;
}

// ---- life --------------------------------------------------------------------------------------------------------

// The file's name without folder and .gguf.
static char *model_id_of(const server_options *o) {
    if (o->model_id) return xstrdup(o->model_id);
    const char *slash = strrchr(o->model_path, '/');
    char *id = xstrdup(slash ? slash + 1 : o->model_path);
    size_t n = strlen(id);
    if (n > 5 && strcmp(id + n - 5, ".gguf") == 0) id[n - 5] = 0;
    return id;
}

static bool open_parts(server *s, err *e) {
    if (!(s->log = log_open(&s->o.log, e))) return false;
    if (s->o.api_key_file && !(s->keys = keys_open(s->o.api_key_file, e))) return false;
    if (!(s->bell = bell_open(s->base, answer_bell, e))) return false;
    http_options h = s->o.http;
    h.handle = routes_handle, h.refuse = routes_refuse, h.done = routes_done, h.sent = routes_sent, h.self = s;
    if (!(s->http = http_open(s->base, &h, e))) return false;
    return start_loading(s, e);
}

server *server_open(struct event_base *base, const server_options *o, err *e) {
    server *s = xcalloc(1, sizeof *s);
    *s = (server){.o = *o, .base = base, .model_id = model_id_of(o), .started_s = time(NULL)};
    if (!s->o.engine.max_queue) s->o.engine.max_queue = DEFAULT_QUEUE;
    if (!s->o.watchdog_ms) s->o.watchdog_ms = DEFAULT_WATCHDOG_MS;
    s->metrics = xcalloc(1, sizeof *s->metrics);
    s->records = records_new(&s->o.records);
    s->drain_timer = event_new(base, -1, EV_PERSIST, on_drain_tick, s);
    check(s->drain_timer);
    if (open_parts(s, e)) return s;
    server_close(s);
    return NULL;
}

void server_close(server *s) {
    if (s->loading) pthread_join(s->loader, NULL);
    http_close(s->http); // every client is gone, so every request is cancelled
    rf_engine_close(s->loading ? s->loaded->engine : s->engine, 0);
    bell_close(s->bell); // the last ends, which free their answers
    bell_close(s->loader_bell);
    if (s->drain_timer) event_free(s->drain_timer);
    records_free(s->records);
    keys_close(s->keys);
    log_close(s->log);
    free(s->metrics), free(s->loaded), free(s->model_id), free(s);
}

uint16_t server_port(const server *s) { return http_port(s->http); }

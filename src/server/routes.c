// Routes: from a path to the function that answers, and what is the same for all: keys, CORS, methods, the access log.
#include "server/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct route {
    const char *method, *path; // a path that ends in '/' takes one more segment, the parameter
    bool open;                 // no key is asked for
    void (*answer)(call *c);
} route;

static const route ROUTES[] = {
    {"POST", "/generate", false, native_generate},
    {"POST", "/generate/stream", false, native_stream},
    {"GET", "/status/", false, native_status},
    {"POST", "/cancel/", false, native_cancel},
    {"GET", "/models", false, native_models},
    {"GET", "/health", true, native_health},
    {"GET", "/ready", true, native_ready},
    {"GET", "/metrics", false, metrics_show},
    {"GET", "/traces", false, native_traces},
    {"GET", "/v1/models", false, openai_models},
    {"GET", "/v1/models/", false, openai_model},
    {"POST", "/v1/completions", false, openai_completions},
    {"POST", "/v1/chat/completions", false, openai_chat},
    {"POST", "/v1/embeddings", false, openai_embeddings},
    {"POST", "/tokenize", false, text_tokenize},
    {"POST", "/detokenize", false, text_detokenize},
    {"POST", "/apply-template", false, text_apply_template},
    {"GET", "/openapi.json", true, files_openapi},
    {"GET", "/", true, files_page},
};
enum { N_ROUTES = sizeof ROUTES / sizeof *ROUTES };

static bool matches(const route *r, const char *path, const char **parameter) {
    size_t n = strlen(r->path);
    *parameter = "";
    if (strcmp(path, r->path) == 0) return n == 1 || r->path[n - 1] != '/';
    if (n == 1 || r->path[n - 1] != '/' || strncmp(path, r->path, n) != 0) return false;
    *parameter = path + n;
    return strchr(path + n, '/') == NULL;
}

static bool method_fits(const route *r, const char *method) {
    return strcmp(r->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

static const route *find(call *c, problem *p) {
    const char *path = exchange_path(c->x), *method = exchange_method(c->x);
    const char *allowed = NULL;
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (!matches(&ROUTES[i], path, &c->parameter)) continue;
        if (method_fits(&ROUTES[i], method)) return &ROUTES[i];
        allowed = ROUTES[i].method;
    }
    if (!allowed) return problem_set(p, 404, "not_found", NULL, "there is nothing at '%.200s'", path), NULL;
    exchange_add_header(c->x, "Allow", allowed);
    return problem_set(p, 405, "method_not_allowed", NULL, "'%.200s' wants the method %s", path, allowed), NULL;
}

// "Bearer SECRET", or x-api-key.
static bool identify(call *c, problem *p) {
    if (!c->s->keys) return true;
    const char *secret = exchange_header(c->x, "x-api-key"), *bearer = exchange_header(c->x, "authorization");
    if (bearer && strncasecmp(bearer, "bearer ", 7) == 0) secret = bearer + 7 + strspn(bearer + 7, " ");
    c->owner = keys_find(c->s->keys, secret);
    exchange_set_tag(c->x, c->owner);
    if (c->owner) return true;
    return problem_set(p, 401, "invalid_api_key", NULL,
                       secret ? "the API key is not known here" : "an API key is needed: Authorization: Bearer KEY");
}

// What a browser's page of another origin may do. Fetch standard, section 3.2.
static bool cross_origin(call *c) {
    const char *mine = c->s->o.cors_origin, *origin = exchange_header(c->x, "origin");
    if (!mine || !origin) return false;
    if (strcmp(mine, "*") != 0 && strcmp(mine, origin) != 0) return false;
    exchange_add_header(c->x, "Access-Control-Allow-Origin", mine);
    exchange_add_header(c->x, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    if (strcmp(mine, "*") != 0) exchange_add_header(c->x, "Vary", "Origin");
    if (strcmp(exchange_method(c->x), "OPTIONS") != 0) return false;
    exchange_add_header(c->x, "Access-Control-Allow-Methods", "GET, POST");
    exchange_add_header(c->x, "Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id");
    exchange_add_header(c->x, "Access-Control-Max-Age", "86400");
    exchange_reply(c->x, 204, NULL, NULL, 0);
    return true;
}

// Unless the client has named it.
static void name(exchange *x) {
    char id[RECORD_ID_BYTES];
    record_make_id(id, "x-");
    exchange_set_id(x, id);
}

void routes_handle(void *self, exchange *x) {
    call c = {.s = self, .x = x, .parameter = ""};
    problem p = {0};
    name(x);
    if (cross_origin(&c)) return;
    const route *r = find(&c, &p);
    if (!r || (!r->open && !identify(&c, &p))) return call_fail(&c, &p);
    r->answer(&c);
}

void routes_refuse(void *self, exchange *x, int status, const char *why) {
    (void)self;
    problem p = {0};
    name(x);
    problem_set(&p, status, "bad_request", NULL, "%s", why);
    p.retry_after = status == 503;
    problem_reply(x, &p);
}

void routes_done(void *self, const exchange *x, int status, uint64_t n_sent_bytes, int64_t took_us) {
    server *s = self;
    if (status == 499)
        s->metrics->n_gone++;
    else if (status >= 100 && status < 600)
        s->metrics->n_exchanges[status / 100]++;
    if (status == 429) s->metrics->n_busy++;
    uint32_t owner = exchange_tag(x);
    log_access a = {.peer = exchange_peer(x), .method = exchange_method(x), .path = exchange_path(x)};
    a.id = exchange_id(x), a.key = owner ? keys_name(s->keys, owner) : "";
    a.status = status, a.n_sent_bytes = n_sent_bytes, a.took_us = took_us;
    log_exchange(s->log, &a);
}

void routes_sent(void *self, int64_t took_us) {
    server *s = self;
    metrics_add_duration(&s->metrics->delivery, took_us);
}

// ---- what routes share -------------------------------------------------------------------------------------------

void call_fail(const call *c, const problem *p) { problem_reply(c->x, p); }

void call_reply_json(const call *c, int status, buf *b) {
    exchange_reply(c->x, status, "application/json", b->data, b->n_bytes);
    buf_free(b);
}

bool call_is_ready(const call *c) {
    problem p = {.retry_after = 1};
    if (c->s->engine && !c->s->draining) return true;
    problem_set(&p, 503, c->s->draining ? "stopping" : "loading", NULL,
                c->s->draining ? "the server is shutting down" : "the model is still being loaded");
    p.retry_after = 1;
    call_fail(c, &p);
    return false;
}

bool call_knows_model(const call *c, const char *model, problem *p) {
    if (!model || strcmp(model, c->s->model_id) == 0) return true;
    return problem_set(p, 404, "model_not_found", "model", "there is no model '%.100s' here; this server has '%.100s'",
                       model, c->s->model_id);
}

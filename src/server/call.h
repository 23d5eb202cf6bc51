// Call: one exchange on its way through a route, and the server that all routes share. Private to src/server.
//
// The loop's thread. A route either replies at once or starts a generation, which replies later; in both cases it has
// taken care of the exchange when it returns.
#pragma once

#include "base/buf.h"
#include "server/bell.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/problem.h"
#include "server/server.h"

#include <pthread.h>

// Texts are tokenized in the event loop, while everybody waits: this many bytes take a tenth of a second, blanks a
// third.
enum { CALL_MOST_TEXT_BYTES = 1 << 20 };

struct server {
    server_options o; // strings in it are the caller's, for the server's life
    struct event_base *base;
    http *http;
    bell *bell;
    records *records;
    logger *log;
    keys *keys; // NULL: everybody may call, as owner 0
    metrics *metrics;
    char *model_id;
    int64_t started_s; // since 1970

    rf_engine *engine; // NULL while the model loads
    rf_model_info info;
    pthread_t loader;
    bool loading;               // the loader is to be joined
    struct loaded_mail *loaded; // what the loader posts
    bell *loader_bell;

    bool draining, cancelled;
    int64_t cancel_at_us;      // what still lives then is cancelled
    struct event *drain_timer; // ticks while draining only
    uint64_t seen_steps;       // of the watchdog: how far the engine was when /health last looked
    int64_t seen_us;
};

typedef struct call {
    server *s;
    exchange *x;
    uint32_t owner;        // of the key; 0: no keys are used
    const char *parameter; // what stands for {id} in the route; "" if it has none
} call;

void call_fail(const call *c, const problem *p);
void call_reply_json(const call *c, int status, buf *b); // frees the buffer's bytes
bool call_is_ready(const call *c);                       // else it has been answered: 503
// The field "model" of a request names the model that is served, or is absent.
bool call_knows_model(const call *c, const char *model, problem *p);

// The routes, one file per family.
void native_generate(call *c);
void native_stream(call *c);
void native_status(call *c);
void native_cancel(call *c);
void native_models(call *c);
void native_health(call *c);
void native_ready(call *c);
void native_traces(call *c);
void openai_models(call *c);
void openai_model(call *c);
void openai_completions(call *c);
void openai_chat(call *c);
void openai_embeddings(call *c);
void text_tokenize(call *c);
void text_detokenize(call *c);
void text_apply_template(call *c); // in api_chat.c, which knows conversations
void metrics_show(call *c);
void files_page(call *c);
void files_openapi(call *c);

void routes_handle(void *server, exchange *x); // http_options.handle
void routes_refuse(void *server, exchange *x, int status, const char *why);
void routes_done(void *server, const exchange *x, int status, uint64_t n_sent_bytes, int64_t took_us);
void routes_sent(void *server, int64_t took_us);

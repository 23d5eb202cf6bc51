// Server: an engine behind HTTP, on one event loop. A user of rocmforge.h like any other program.
//
// server_open listens at once; the model loads on a thread of its own meanwhile (/ready says 503). Everything else,
// every callback included, runs on the thread of the event loop. The one who owns the loop (src/cli/serve.c) turns
// signals into server_drain, server_cancel_all and server_reload.
#pragma once

#include "server/http.h"
#include "server/log.h"
#include "server/records.h"

#include <rocmforge.h>

typedef struct server_options { // zero or NULL means the default
    http_options http;          // handle, done and self are the server's
    const char *model_path;
    const char *model_id; // in /v1/models; default: the file's name without .gguf
    rf_engine_options engine;
    const char *api_key_file;
    bool salt_by_key;        // calls of different keys do not share the prefix cache
    uint32_t max_per_key;    // live requests of one key; 0: no limit of its own
    const char *cors_origin; // NULL: CORS is off; "*" or an origin
    records_options records;
    log_options log;
    bool log_prompts;                               // what is asked is written to the log
    int drain_ms;                                   // how long streams may go on once draining
    uint32_t watchdog_ms;                           // a step that takes longer makes /health say 503; default 30 s
    void (*ready)(void *arg);                       // the model is loaded
    void (*stopped)(void *arg, const err *failure); // drained, or (failure) the model cannot be loaded: end the loop
    void *arg;
} server_options;

typedef struct server server;

server *server_open(struct event_base *base, const server_options *o, err *e);
void server_drain(server *s);          // no new connections or requests; live ones finish within drain_ms
void server_cancel_all(server *s);     // what still lives is cancelled; each gets its last event
bool server_reload(server *s, err *e); // keys, certificates and log file are opened anew; on failure the old stay
void server_close(server *s);          // after `stopped`; joins every thread
uint16_t server_port(const server *s);

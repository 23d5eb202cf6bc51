// Remote: a running server as a command meets it: one HTTP exchange after another, over TCP, TLS or a unix socket.
//
// Speaks HTTP/1.0, so a reply lasts until its connection ends and there is nothing to unwrap. One thread, and it
// blocks; a stream can be interrupted by a bell. SIGPIPE is ignored in the whole process from remote_open on.
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <argp.h>
#include <jansson.h>

typedef struct remote_options { // from the command line
    const char *host;           // HOST, HOST:PORT, [IPV6]:PORT, http://..., https://... or unix:PATH; NULL: not given
    const char *key_file, *ca_file;
    const char *key; // the environment's ROCMFORGE_API_KEY; the file goes first
} remote_options;

// --host, --api-key-file and --ca-file. A command puts it among its argp's children, its input a remote_options.
extern const struct argp REMOTE_ARGP;

typedef struct remote remote;

remote *remote_open(const remote_options *o, err *e); // does not connect yet. Without host: 127.0.0.1:8080
void remote_close(remote *r);                         // may be NULL
const char *remote_name(const remote *r);             // for sentences

typedef struct remote_reply {
    int status;
    buf body; // without what a reader took
} remote_reply;

void remote_reply_free(remote_reply *reply);
// What a reply that is no success says, as an error whose code gives the exit code.
bool remote_refused(const remote *r, const remote_reply *reply, err *e);

// One exchange: GET, or POST if there is a body (JSON). False and *e if no whole reply came.
bool remote_ask(const remote *r, const char *path, const char *body, remote_reply *reply, err *e);

typedef struct remote_reader {                  // of a stream; a function that returns false hangs up
    bool (*line)(void *self, const char *line); // of a 200's body, without its line end
    bool (*rung)(void *self);                   // the bell, an eventfd, has a count
    void (*begins)(void *self);                 // connected; the bell is heard from here on
    int bell;
    void *self;
} remote_reader;

// As remote_ask; true as well when the reader hung up.
bool remote_stream(const remote *r, const char *path, const char *body, const remote_reader *reader,
                   remote_reply *reply, err *e);

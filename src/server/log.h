// Log: one line an event, as text or JSON, to standard error or a file. Holds nothing of what was answered, and of what
// was asked only what log_prompt is given.
//
// The loop's thread. A line is written whole, with one system call.
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef enum log_format { LOG_TEXT, LOG_JSON } log_format;

typedef struct log_options {
    log_format format;
    const char *path; // NULL: standard error
    bool quiet;       // no line for each exchange
} log_options;

typedef struct logger logger;

typedef struct log_access {
    const char *peer, *method, *path, *id, *key; // id: of the request; key: its name, "" without keys
    int status;
    uint64_t n_sent_bytes;
    int64_t took_us;
} log_access;

logger *log_open(const log_options *o, err *e);
bool log_reopen(logger *l, err *e); // after the file was moved away
void log_close(logger *l);
void log_event(logger *l, const char *level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void log_exchange(logger *l, const log_access *a);
void log_prompt(logger *l, const char *id, const char *text, size_t n_bytes);

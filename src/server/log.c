// Implements log.h.
#include "server/log.h"

#include "base/buf.h"
#include "server/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct logger {
    log_options o;
    char *path;
    int fd;
    buf line;
};

static int open_file(const char *path, err *e) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) fail(e, ERR_IO, "cannot open the log file %s: %s", path, strerror(errno));
    return fd;
}

logger *log_open(const log_options *o, err *e) {
    int fd = o->path ? open_file(o->path, e) : STDERR_FILENO;
    if (fd < 0) return NULL;
    logger *l = xcalloc(1, sizeof *l);
    *l = (logger){.o = *o, .path = o->path ? xstrdup(o->path) : NULL, .fd = fd};
    return l;
}

bool log_reopen(logger *l, err *e) {
    if (!l->path) return true;
    int fd = open_file(l->path, e);
    if (fd < 0) return false;
    close(l->fd);
    l->fd = fd;
    return true;
}

void log_close(logger *l) {
    if (!l) return;
    if (l->path) close(l->fd);
    free(l->path), buf_free(&l->line), free(l);
}

static void begin(logger *l, const char *level) {
    struct timespec now;
    struct tm utc;
    char stamp[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp + n, sizeof stamp - n, ".%03ldZ", now.tv_nsec / 1000000);
    buf_reset(&l->line);
    buf_printf(&l->line, l->o.format == LOG_JSON ? "{\"time\":\"%s\",\"level\":\"%s\"" : "%s %s", stamp, level);
}

static void put_bytes(logger *l, const char *name, const char *value, size_t n_bytes) {
    buf_printf(&l->line, l->o.format == LOG_JSON ? ",\"%s\":" : " %s=", name);
    json_put_text(&l->line, value, n_bytes); // quoted in both: a value cannot forge a line
}

static void put(logger *l, const char *name, const char *value) { put_bytes(l, name, value, strlen(value)); }

static void end(logger *l) {
    buf_append_str(&l->line, l->o.format == LOG_JSON ? "}\n" : "\n");
    ssize_t n = write(l->fd, l->line.data, l->line.n_bytes);
    (void)n; // there is nobody to tell
}

void log_event(logger *l, const char *level, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    begin(l, level);
    if (l->o.format == LOG_JSON)
        put(l, "message", text);
    else
        buf_printf(&l->line, " %s", text);
    end(l);
}

void log_exchange(logger *l, const log_access *a) {
    if (l->o.quiet) return;
    begin(l, "access");
    put(l, "peer", a->peer), put(l, "method", a->method), put(l, "path", a->path);
    if (*a->id) put(l, "id", a->id);
    if (*a->key) put(l, "key", a->key);
    buf_printf(&l->line,
               l->o.format == LOG_JSON ? ",\"status\":%d,\"bytes\":%llu,\"ms\":%.3f" : " status=%d bytes=%llu ms=%.3f",
               a->status, (unsigned long long)a->n_sent_bytes, (double)a->took_us * 1e-3);
    end(l);
}

void log_prompt(logger *l, const char *id, const char *text, size_t n_bytes) {
    begin(l, "prompt");
    put(l, "id", id), put_bytes(l, "prompt", text, n_bytes);
    end(l);
}

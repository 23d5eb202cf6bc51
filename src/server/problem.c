// Implements problem.h.
#include "server/problem.h"

#include "base/buf.h"
#include "server/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *type_of(int status) {
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

bool problem_set(problem *p, int status, const char *code, const char *param, const char *format, ...) {
    if (p->status) return false;
    *p = (problem){.status = status, .type = type_of(status), .code = code};
    snprintf(p->param, sizeof p->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(p->message, sizeof p->message, format, args);
    va_end(args);
    return false;
}

typedef struct row {
    int status;
    const char *code;
    uint32_t retry_after;
} row;

bool problem_of(problem *p, const char *param, const rf_error *error) {
    static const row rows[] = {
        [RF_ERR_USAGE] = {400, "invalid_value", 0},
        [RF_ERR_IO] = {500, "io_error", 0},
        [RF_ERR_FORMAT] = {400, "invalid_value", 0},
        [RF_ERR_UNSUPPORTED] = {400, "unsupported", 0},
        [RF_ERR_MEMORY] = {503, "out_of_memory", 1},
        [RF_ERR_BUSY] = {429, "busy", 1},
        [RF_ERR_TOO_LONG] = {400, "context_length_exceeded", 0},
        [RF_ERR_NUMERIC] = {500, "numeric_error", 0},
        [RF_ERR_STOPPED] = {503, "stopping", 1},
        [RF_ERR_INTERNAL] = {500, "internal_error", 0},
    };
    const row *r = &rows[error->code];
    problem_set(p, r->status, r->code, r->status == 400 ? param : NULL, "%s", error->message);
    p->retry_after = r->retry_after;
    return false;
}

void problem_reply(exchange *x, const problem *p) {
    buf b = {0};
    buf_append_str(&b, "{\"error\":{\"message\":");
    json_put_text(&b, p->message, strlen(p->message));
    buf_printf(&b, ",\"type\":\"%s\",\"param\":", p->type);
    if (*p->param)
        json_put_text(&b, p->param, strlen(p->param));
    else
        buf_append_str(&b, "null");
    buf_append_str(&b, ",\"code\":");
    if (p->code)
        buf_printf(&b, "\"%s\"}}\n", p->code);
    else
        buf_append_str(&b, "null}}\n");
    if (p->retry_after) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", p->retry_after);
        exchange_add_header(x, "Retry-After", seconds);
    }
    if (p->status == 401) exchange_add_header(x, "WWW-Authenticate", "Bearer");
    exchange_reply(x, p->status, "application/json", b.data, b.n_bytes);
    buf_free(&b);
}

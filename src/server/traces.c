// GET /traces: recent calls as OTLP/JSON spans. OpenTelemetry protocol 1.3, JSON encoding; ids are hex, times are
// nanoseconds since 1970 as strings.
#include "server/call.h"
#include "server/json.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LIMIT = 100, MAX_LIMIT = 10000 };

static void put_int(buf *b, const char *name, uint64_t value) {
    buf_printf(b, ",{\"key\":\"%s\",\"value\":{\"intValue\":\"%llu\"}}", name, (unsigned long long)value);
}

static void put_span(buf *b, const record *r) {
    const char *hex = r->id + strlen(r->id) - 32; // what is random in the id
    buf_printf(b, "{\"traceId\":\"%.32s\",\"spanId\":\"%.16s\",\"name\":\"%s\",\"kind\":2,", hex, hex, r->route);
    buf_printf(b, "\"startTimeUnixNano\":\"%lld000000\",\"endTimeUnixNano\":\"%lld000000\",", (long long)r->created_ms,
               (long long)r->ended_ms);
    buf_printf(b, "\"attributes\":[{\"key\":\"request.id\",\"value\":{\"stringValue\":\"%s\"}},", r->id);
    if (*r->client_id) {
        buf_append_str(b, "{\"key\":\"client.request.id\",\"value\":{\"stringValue\":");
        json_put_text(b, r->client_id, strlen(r->client_id));
        buf_append_str(b, "}},");
    }
    buf_printf(b, "{\"key\":\"gen_ai.response.finish_reason\",\"value\":{\"stringValue\":\"%s\"}}",
               rf_finish_name(r->finish));
    put_int(b, "gen_ai.usage.input_tokens", r->usage.prompt_tokens);
    put_int(b, "gen_ai.usage.output_tokens", r->usage.completion_tokens);
    put_int(b, "cached_tokens", r->usage.cached_tokens);
    put_int(b, "queued_us", (uint64_t)r->usage.queued_us);
    put_int(b, "prefill_us", (uint64_t)r->usage.prefill_us);
    put_int(b, "decode_us", (uint64_t)r->usage.decode_us);
    buf_printf(b, "],\"status\":{\"code\":%d}}", r->finish == RF_FINISH_ERROR ? 2 : 1);
}

// limit=N in the query; the default if it is absent, 0 if it is no number in range.
static uint32_t limit_of(const char *query) {
    const char *at = query;
    while (at && strncmp(at, "limit=", 6) != 0) at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL;
    if (!at) return DEFAULT_LIMIT;
    char *end;
    unsigned long n = strtoul(at + 6, &end, 10);
    bool good = at[6] >= '0' && at[6] <= '9' && (*end == 0 || *end == '&') && n >= 1 && n <= MAX_LIMIT;
    return good ? (uint32_t)n : 0;
}

void native_traces(call *c) {
    uint32_t limit = limit_of(exchange_query(c->x)), n = 0;
    problem p = {0};
    if (!limit) {
        problem_set(&p, 400, "invalid_value", "limit", "'limit' must be a number from 1 to %d", MAX_LIMIT);
        return call_fail(c, &p);
    }
    buf b = {0};
    buf_append_str(
        &b, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":"
            "\"rocmforge\"}}]},\"scopeSpans\":[{\"scope\":{\"name\":\"rocmforge\"},\"spans\":[");
    for (const record *r = records_newest(c->s->records); r && n < limit; r = r->older) {
        if (!r->ended_ms || !r->traced || r->owner != c->owner) continue;
        if (n++) buf_append_char(&b, ',');
        put_span(&b, r);
    }
    buf_append_str(&b, "]}]}]}\n");
    call_reply_json(c, 200, &b);
}

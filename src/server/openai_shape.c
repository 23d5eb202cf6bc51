// Implements openai_shape.h.
#include "server/openai_shape.h"

#include <string.h>

void openai_put_usage(buf *b, const rf_usage *u) {
    buf_printf(b,
               "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
               u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens, u->cached_tokens);
}

void openai_put_head(const generation *g, buf *b, const char *object) {
    buf_printf(b, "\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", g->record->id, object,
               (long long)(g->record->created_ms / 1000));
    json_put_text(b, g->s->model_id, strlen(g->s->model_id));
}

void openai_put_error_event(buf *out, const char *message) {
    buf_append_str(out, "data: {\"error\":{\"message\":");
    json_put_text(out, message, strlen(message));
    buf_append_str(out, ",\"type\":\"server_error\",\"param\":null,\"code\":\"engine_error\"}}\n\n");
}

void openai_put_last(const generation *g, buf *out, const char *object) {
    if (g->ask.include_usage) {
        rf_usage usage = generation_usage(g);
        buf_append_str(out, "data: {");
        openai_put_head(g, out, object);
        buf_append_str(out, ",\"choices\":[],");
        openai_put_usage(out, &usage);
        buf_append_str(out, "}\n\n");
    }
    buf_append_str(out, "data: [DONE]\n\n");
}

void openai_put_token(const generation *g, buf *b, int32_t token) {
    size_t n_bytes;
    const char *bytes = rf_token_bytes(g->s->engine, token, &n_bytes);
    json_put_text(b, bytes, n_bytes);
}

static void put_chat_token(const generation *g, buf *b, const rf_token_logprob *p) {
    size_t n_bytes;
    const char *bytes = rf_token_bytes(g->s->engine, p->token, &n_bytes);
    buf_append_str(b, "{\"token\":");
    json_put_text(b, bytes, n_bytes);
    buf_append_str(b, ",\"logprob\":");
    json_put_float(b, p->logprob);
    buf_append_str(b, ",\"bytes\":[");
    for (size_t i = 0; i < n_bytes; i++) buf_printf(b, i ? ",%u" : "%u", (unsigned char)bytes[i]);
    buf_append_char(b, ']');
}

void openai_put_chat_logprobs(const generation *g, buf *b, const rf_token_logprob *p, size_t n) {
    size_t n_top = g->ask.params.n_logprobs;
    buf_append_str(b, "{\"content\":[");
    for (size_t i = 0; i < n; i++, p += 1 + n_top) {
        if (i) buf_append_char(b, ',');
        put_chat_token(g, b, p);
        buf_append_str(b, ",\"top_logprobs\":[");
        for (size_t t = 1; t <= n_top; t++) {
            if (t > 1) buf_append_char(b, ',');
            put_chat_token(g, b, p + t);
            buf_append_char(b, '}');
        }
        buf_append_str(b, "]}");
    }
    buf_append_str(b, "]}");
}

static void put_top(const generation *g, buf *b, const rf_token_logprob *p, size_t n_top) {
    buf_append_char(b, '{');
    for (size_t t = 1; t <= n_top; t++) {
        if (t > 1) buf_append_char(b, ',');
        openai_put_token(g, b, p[t].token);
        buf_append_char(b, ':');
        json_put_float(b, p[t].logprob);
    }
    buf_append_char(b, '}');
}

void openai_put_logprobs(const generation *g, buf *b, const int32_t *tokens, const rf_token_logprob *p, size_t n,
                         uint32_t *offset) {
    size_t width = 1 + g->ask.params.n_logprobs;
    buf_append_str(b, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) buf_append_char(b, ',');
        openai_put_token(g, b, tokens[i]);
    }
    buf_append_str(b, "],\"token_logprobs\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) buf_append_char(b, ',');
        json_put_float(b, p[i * width].logprob);
    }
    buf_append_str(b, "],\"top_logprobs\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) buf_append_char(b, ',');
        put_top(g, b, p + i * width, width - 1);
    }
    buf_append_str(b, "],\"text_offset\":[");
    for (size_t i = 0; i < n; i++) {
        size_t n_bytes;
        rf_token_bytes(g->s->engine, tokens[i], &n_bytes);
        buf_printf(b, i ? ",%u" : "%u", *offset);
        *offset += (uint32_t)n_bytes;
    }
    buf_append_str(b, "]}");
}

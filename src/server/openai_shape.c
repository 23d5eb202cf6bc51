// Implements openai_shape.h.
#include "server/openai_shape.h"

#include <string.h>

enum { MAX_TOP = 20 };

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

// The alternatives, and the chosen token too if it is none of them. A key comes once, for the likeliest of the tokens
// that look alike (parts of characters do).
static void put_top(const generation *g, buf *b, const rf_token_logprob *p, size_t n_top) {
    buf keys[1 + MAX_TOP] = {0};
    check(n_top <= MAX_TOP);
    buf_append_char(b, '{');
    for (size_t t = 1, n = 0; t <= n_top + 1; t++) {
        const rf_token_logprob *one = &p[t % (n_top + 1)]; // the chosen one, p[0], comes last
        size_t same = 0;
        openai_put_token(g, &keys[n], one->token);
        while (same < n && strcmp(keys[same].data, keys[n].data) != 0) same++;
        if (same < n) {
            buf_reset(&keys[n]);
            continue;
        }
        if (n) buf_append_char(b, ',');
        buf_append(b, keys[n].data, keys[n].n_bytes);
        buf_append_char(b, ':');
        json_put_float(b, one->logprob);
        n++;
    }
    buf_append_char(b, '}');
    for (size_t t = 0; t <= n_top; t++) buf_free(&keys[t]);
}

// Characters that begin in a token; 0 for one that the engine put before the text (BOS).
static uint32_t n_characters(const generation *g, uint32_t i, int32_t token) {
    const struct ask_prompt *prompt = &g->ask.prompts[i / g->ask.n];
    size_t n_bytes;
    uint32_t n = 0;
    const char *bytes = rf_token_bytes(g->s->engine, token, &n_bytes);
    bool before_text = g->ask.params.score && g->choices[i].n_told == 0 && prompt->text &&
                       (n_bytes > prompt->n_bytes || memcmp(prompt->text, bytes, n_bytes) != 0);
    for (size_t k = 0; k < n_bytes && !before_text; k++) n += ((unsigned char)bytes[k] & 0xC0) != 0x80;
    return n;
}

void openai_put_logprobs(generation *g, buf *b, uint32_t i, const int32_t *tokens, const rf_token_logprob *p,
                         size_t n) {
    size_t width = 1 + g->ask.params.n_logprobs;
    choice *c = &g->choices[i];
    size_t first = g->ask.params.score && c->n_told == 0 && n; // tokens that follow nothing
    buf_append_str(b, "{\"tokens\":[");
    for (size_t t = 0; t < n; t++) {
        if (t) buf_append_char(b, ',');
        openai_put_token(g, b, tokens[t]);
    }
    buf_append_str(b, first ? "],\"token_logprobs\":[null" : "],\"token_logprobs\":[");
    for (size_t t = first; t < n; t++) {
        if (t) buf_append_char(b, ',');
        json_put_float(b, p[t * width].logprob);
    }
    buf_append_str(b, first ? "],\"top_logprobs\":[null" : "],\"top_logprobs\":[");
    for (size_t t = first; t < n; t++) {
        if (t) buf_append_char(b, ',');
        put_top(g, b, p + t * width, width - 1);
    }
    buf_append_str(b, "],\"text_offset\":[");
    for (size_t t = 0; t < n; t++) {
        buf_printf(b, t ? ",%u" : "%u", c->text_offset);
        c->text_offset += n_characters(g, i, tokens[t]);
        c->n_told++;
    }
    buf_append_str(b, "]}");
}

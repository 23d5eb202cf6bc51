// Text routes: tokenize, detokenize, apply-template.
#include "server/call.h"
#include "server/json.h"

#include <stdlib.h>
#include <string.h>

// An object of the body, or the problem has been replied.
static json_t *body_of(call *c) {
    problem p = {0};
    if (!call_is_ready(c)) return NULL;
    json_t *body = json_read_body(c->x, &p);
    if (!body) call_fail(c, &p);
    return body;
}

static void put_tokens(const rf_engine *engine, buf *b, const int32_t *ids, int64_t n, bool with_pieces) {
    buf_printf(b, "{\"count\":%lld,\"tokens\":[", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        if (i) buf_append_char(b, ',');
        if (!with_pieces) {
            buf_printf(b, "%d", ids[i]);
            continue;
        }
        size_t n_bytes;
        const char *piece = rf_token_bytes(engine, ids[i], &n_bytes);
        buf_printf(b, "{\"id\":%d,\"piece\":", ids[i]);
        json_put_text(b, piece, n_bytes);
        buf_append_char(b, '}');
    }
    buf_append_str(b, "]}\n");
}

typedef struct tokenize_ask {
    const char *content, *prompt; // llama.cpp's name and vLLM's
    bool parse_special, with_pieces;
} tokenize_ask;

static void tokenize(call *c, const tokenize_ask *a) {
    problem p = {0};
    const char *text = a->content ? a->content : a->prompt;
    if (!text) {
        problem_set(&p, 400, "missing_field", "content", "'content' is needed: a string");
        return call_fail(c, &p);
    }
    size_t n_bytes = strlen(text), capacity = n_bytes + 1; // a token has at least one byte
    if (n_bytes > CALL_MOST_TEXT_BYTES) {
        problem_set(&p, 400, "invalid_value", a->content ? "content" : "prompt",
                    "the text has %zu bytes; %d at most are tokenized at once", n_bytes, CALL_MOST_TEXT_BYTES);
        return call_fail(c, &p);
    }
    int32_t *ids = xcalloc(capacity, sizeof *ids);
    rf_error error = {0};
    int64_t n = rf_tokenize(c->s->engine, text, n_bytes, a->parse_special, ids, capacity, &error);
    if (n < 0) {
        problem_of(&p, a->content ? "content" : "prompt", &error);
        call_fail(c, &p);
    } else {
        buf b = {0};
        put_tokens(c->s->engine, &b, ids, n < (int64_t)capacity ? n : (int64_t)capacity, a->with_pieces);
        call_reply_json(c, 200, &b);
    }
    free(ids);
}

void text_tokenize(call *c) {
    static const field fields[] = {
        {"content", FIELD_TEXT, offsetof(tokenize_ask, content), 0, 0},
        {"prompt", FIELD_TEXT, offsetof(tokenize_ask, prompt), 0, 0},
        {"parse_special", FIELD_BOOL, offsetof(tokenize_ask, parse_special), 0, 0},
        {"with_pieces", FIELD_BOOL, offsetof(tokenize_ask, with_pieces), 0, 0},
    };
    tokenize_ask a = {0};
    problem p = {0};
    json_t *body = body_of(c);
    if (!body) return;
    if (json_read_fields(body, fields, sizeof fields / sizeof *fields, &a, &p))
        tokenize(c, &a);
    else
        call_fail(c, &p);
    json_decref(body);
}

static bool append_tokens(const rf_engine *engine, const json_t *tokens, buf *text, problem *p) {
    if (!json_is_array(tokens))
        return problem_set(p, 400, "invalid_type", "tokens", "'tokens' is needed: an array of integers");
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        int32_t id;
        size_t n_bytes;
        const char *piece =
            json_read_token(json_array_get(tokens, i), &id) ? rf_token_bytes(engine, id, &n_bytes) : NULL;
        if (!piece) return problem_set(p, 400, "invalid_value", "tokens", "'tokens' has no token id at place %zu", i);
        buf_append(text, piece, n_bytes);
    }
    return true;
}

void text_detokenize(call *c) {
    problem p = {0};
    json_t *body = body_of(c);
    if (!body) return;
    buf text = {0}, b = {0};
    if (append_tokens(c->s->engine, json_object_get(body, "tokens"), &text, &p)) {
        buf_append_str(&b, "{\"content\":");
        json_put_text(&b, text.data, text.n_bytes);
        buf_append_str(&b, "}\n");
        call_reply_json(c, 200, &b);
    } else {
        call_fail(c, &p);
    }
    buf_free(&text);
    json_decref(body);
}

// OpenAI's embeddings: texts become vectors. https://platform.openai.com/docs/api-reference/embeddings
//
// Every input is one request, and all are submitted together, so that they are read in batches. Nothing is begun if one
// of them cannot be.
#include "server/openai_shape.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

// ---- the shape of answers ----------------------------------------------------------------------------------------

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "base64 is of little-endian floats");

static void put_base64(buf *b, const float *x, size_t n) {
    size_t n_bytes = n * sizeof *x;
    buf_append_char(b, '"');
    buf_reserve(b, (n_bytes + 2) / 3 * 4);
    b->n_bytes +=
        (size_t)EVP_EncodeBlock((unsigned char *)b->data + b->n_bytes, (const unsigned char *)x, (int)n_bytes);
    buf_append_char(b, '"');
}

static void put_floats(buf *b, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        buf_append_char(b, i ? ',' : '[');
        json_put_float(b, x[i]);
    }
    buf_append_char(b, ']');
}

static void put_whole(generation *g, buf *out) {
    rf_usage usage = generation_usage(g);
    buf_append_str(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < g->n_choices; i++) {
        buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "", i);
        (g->ask.base64 ? put_base64 : put_floats)(out, g->choices[i].embedding, g->s->info.d_model);
        buf_append_char(out, '}');
    }
    buf_append_str(out, "],\"model\":");
    json_put_text(out, g->s->model_id, strlen(g->s->model_id));
    buf_append_char(out, ',');
    openai_put_usage(out, &usage);
    buf_append_str(out, "}\n");
}

static const family EMBEDDINGS = {"/v1/embeddings", "embd-", "input", NULL, NULL, NULL, NULL, put_whole};

// ---- the request -------------------------------------------------------------------------------------------------

static bool choose(const json_t *body, const char *name, const char *const words[2], int *which, problem *p) {
    const char *word = words[0];
    const field WORD = {name, FIELD_TEXT, 0, 0, 0};
    if (!json_read_fields(body, &WORD, 1, &word, p)) return false;
    for (*which = 0; *which < 2; ++*which)
        if (strcmp(word, words[*which]) == 0) return true;
    return problem_set(p, 400, "invalid_value", name, "'%s' is '%.40s'; it must be '%s' or '%s'", name, word, words[0],
                       words[1]);
}

static bool read_fields(ask *a, const json_t *body, problem *p) {
    static const field fields[] = {
        {"model", FIELD_TEXT, offsetof(ask, model), 0, 0},
        {"priority", FIELD_INT, offsetof(ask, params.priority), INT32_MIN, INT32_MAX},
        {"timeout", FIELD_SECONDS, offsetof(ask, params.timeout_ms), 0.001, 1e9},
    };
    static const char *const formats[] = {"float", "base64"}, *const poolings[] = {"mean", "last"};
    int format = 0, pooling = 0;
    a->params = rf_params_default(), a->n = 1;
    if (!json_read_fields(body, fields, sizeof fields / sizeof *fields, a, p) ||
        !choose(body, "encoding_format", formats, &format, p) || !choose(body, "pooling", poolings, &pooling, p))
        return false;
    const json_t *dimensions = json_object_get(body, "dimensions");
    if (dimensions && !json_is_null(dimensions))
        return problem_set(p, 400, "unsupported", "dimensions",
                           "'dimensions' is not supported: an embedding is as wide as the model");
    a->base64 = format == 1;
    a->params.embed = pooling == 0 ? RF_EMBED_MEAN : RF_EMBED_LAST;
    return true;
}

// What is too long is found before anything is submitted. A text has no more tokens than bytes.
static bool fit(const call *c, const ask *a, problem *p) {
    for (size_t i = 0; i < a->n_prompts; i++) {
        const struct ask_prompt *one = &a->prompts[i];
        int64_t n = (int64_t)one->n_tokens, most = c->s->info.n_ctx;
        rf_error error = {0};
        if (one->text && one->n_bytes > CALL_MOST_TEXT_BYTES)
            return problem_set(p, 400, "context_length_exceeded", "input",
                               "'input' has a text of %zu bytes at place %zu; %d at most are possible", one->n_bytes, i,
                               CALL_MOST_TEXT_BYTES);
        if (one->text && one->n_bytes > (size_t)most)
            n = rf_tokenize(c->s->engine, one->text, one->n_bytes, false, NULL, 0, &error);
        if (n < 0) return problem_of(p, "input", &error);
        if (n > most)
            return problem_set(p, 400, "context_length_exceeded", "input",
                               "'input' has %lld tokens at place %zu; the context holds %lld", (long long)n, i,
                               (long long)most);
    }
    return true;
}

void openai_embeddings(call *c) {
    if (!call_is_ready(c)) return;
    problem p = {0};
    ask a = {0};
    a.body = json_read_body(c->x, &p);
    if (a.body && read_fields(&a, a.body, &p) && ask_read_prompts(&a, c, "input", &p) && fit(c, &a, &p))
        return generation_start(c, &EMBEDDINGS, &a);
    ask_free(&a);
    call_fail(c, &p);
}

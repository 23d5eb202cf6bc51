// Implements ask.h.
#include "server/ask.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHOICES = 128, MAX_STOPS = 16, MAX_STOP_BYTES = 1024, MAX_BIASES = 1024, MAX_PROMPTS = 2048 };

// ---- parameters --------------------------------------------------------------------------------------------------

#define AT(member) offsetof(ask, member)
static const field SAMPLING[] = {
    {"temperature", FIELD_FLOAT, AT(params.temperature), 0, 100},
    {"top_p", FIELD_FLOAT, AT(params.top_p), 0, 1},
    {"top_k", FIELD_INT, AT(params.top_k), -1, INT32_MAX}, // -1 is how vLLM says "off"
    {"min_p", FIELD_FLOAT, AT(params.min_p), 0, 1},
    {"repeat_penalty", FIELD_FLOAT, AT(params.repeat_penalty), 0x1p-20, 0x1p20},
    {"repetition_penalty", FIELD_FLOAT, AT(params.repeat_penalty), 0x1p-20, 0x1p20},
    {"presence_penalty", FIELD_FLOAT, AT(params.presence_penalty), -2, 2},
    {"frequency_penalty", FIELD_FLOAT, AT(params.frequency_penalty), -2, 2},
    {"repeat_last_n", FIELD_UINT, AT(params.penalty_last_n), 0, UINT32_MAX},
    {"seed", FIELD_SEED, AT(params.seed), 0, 0},
    {"ignore_eos", FIELD_BOOL, AT(params.ignore_eos), 0, 0},
    {"priority", FIELD_INT, AT(params.priority), INT32_MIN, INT32_MAX},
    {"timeout", FIELD_SECONDS, AT(params.timeout_ms), 0.001, 1e9},
    {"n", FIELD_UINT, AT(n), 1, MAX_CHOICES},
    {"stream", FIELD_BOOL, AT(stream), 0, 0},
    {"model", FIELD_TEXT, AT(model), 0, 0},
};

static bool read_stop(ask *a, const json_t *value, problem *p) {
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n > MAX_STOPS)
        return problem_set(p, 400, "invalid_value", "stop", "'stop' has %zu strings; %d at most are possible", n,
                           MAX_STOPS);
    a->stops = xcalloc(n + 1, sizeof *a->stops);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(one) || json_string_length(one) == 0 ||
            strlen(json_string_value(one)) != json_string_length(one))
            return problem_set(p, 400, "invalid_type", "stop",
                               "'stop' must be a string or an array of strings, none of them empty");
        if (json_string_length(one) > MAX_STOP_BYTES)
            return problem_set(p, 400, "invalid_value", "stop", "'stop' has a string of more than %d bytes",
                               MAX_STOP_BYTES);
        a->stops[i] = json_string_value(one);
    }
    a->params.stop = a->stops, a->params.n_stop = n;
    return true;
}

static bool add_bias(ask *a, const call *c, int32_t token, const json_t *value, problem *p) {
    if (token < 0 || (uint32_t)token >= c->s->info.n_vocab)
        return problem_set(p, 400, "invalid_value", "logit_bias",
                           "'logit_bias' must name tokens by their ids, which are 0 to %u", c->s->info.n_vocab - 1);
    if (!json_is_number(value) && !json_is_false(value))
        return problem_set(p, 400, "invalid_type", "logit_bias", "'logit_bias' must be a number for token %d", token);
    double bias = json_is_false(value) ? -100 : json_number_value(value); // llama.cpp's false: never
    if (!(bias >= -100 && bias <= 100))
        return problem_set(p, 400, "invalid_value", "logit_bias",
                           "'logit_bias' is %.17g for token %d; it must be at least -100 and at most 100", bias, token);
    a->biases[a->params.n_logit_bias++] = (rf_logit_bias){token, (float)bias};
    return true;
}

static int32_t token_of_key(const char *key) { // -1: it is none
    size_t n = strspn(key, "0123456789");
    unsigned long long id = n && n <= 10 && !key[n] ? strtoull(key, NULL, 10) : ULLONG_MAX;
    return id <= INT32_MAX ? (int32_t)id : -1;
}

// {"id": bias, ...} is OpenAI's, [[id, bias], ...] is llama.cpp's.
static bool read_biases(ask *a, const call *c, json_t *value, problem *p) {
    size_t n = json_is_array(value) ? json_array_size(value) : json_object_size(value);
    if (!json_is_object(value) && !json_is_array(value))
        return problem_set(p, 400, "invalid_type", "logit_bias",
                           "'logit_bias' must be an object from token ids to numbers, or an array of [id, number]");
    if (n > MAX_BIASES)
        return problem_set(p, 400, "invalid_value", "logit_bias",
                           "'logit_bias' has %zu tokens; %d at most are possible", n, MAX_BIASES);
    a->params.logit_bias = a->biases = xcalloc(n + 1, sizeof *a->biases);
    const char *key;
    json_t *bias;
    json_object_foreach(value, key, bias) if (!add_bias(a, c, token_of_key(key), bias, p)) return false;
    for (size_t i = 0; json_is_array(value) && i < n; i++) {
        const json_t *pair = json_array_get(value, i);
        int32_t token;
        if (json_array_size(pair) != 2 || !json_read_token(json_array_get(pair, 0), &token))
            return problem_set(p, 400, "invalid_type", "logit_bias", "'logit_bias' has no [id, number] at place %zu",
                               i);
        if (!add_bias(a, c, token, json_array_get(pair, 1), p)) return false;
    }
    return true;
}

bool ask_read_sampling(ask *a, const call *c, const json_t *body, problem *p) {
    a->params = rf_params_default();
    a->n = 1;
    if (!json_read_fields(body, SAMPLING, sizeof SAMPLING / sizeof *SAMPLING, a, p)) return false;
    if ((int32_t)a->params.top_k == -1) a->params.top_k = 0;
    if (a->params.top_p == 0) a->params.top_p = 0x1p-20f; // OpenAI allows 0: the likeliest token alone
    const json_t *stop = json_object_get(body, "stop"), *options = json_object_get(body, "stream_options");
    json_t *biases = json_object_get(body, "logit_bias");
    if (biases && !json_is_null(biases) && !read_biases(a, c, biases, p)) return false;
    if (stop && !json_is_null(stop) && !read_stop(a, stop, p)) return false;
    if (!options || json_is_null(options)) return true;
    if (!json_is_object(options))
        return problem_set(p, 400, "invalid_type", "stream_options", "'stream_options' must be an object");
    if (!a->stream)
        return problem_set(p, 400, "invalid_value", "stream_options", "'stream_options' is for streams only");
    static const field USAGE = {"include_usage", FIELD_BOOL, AT(include_usage), 0, 0};
    return json_read_fields(options, &USAGE, 1, a, p);
}

// ---- prompts -----------------------------------------------------------------------------------------------------

static bool read_ids(const call *c, const json_t *ids, const char *name, struct ask_prompt *out, problem *p) {
    size_t n = json_array_size(ids);
    if (n == 0) return problem_set(p, 400, "invalid_value", name, "'%s' is empty", name);
    out->tokens = xcalloc(n, sizeof *out->tokens), out->n_tokens = n;
    for (size_t i = 0; i < n; i++) {
        int32_t *id = &out->tokens[i];
        if (!json_read_token(json_array_get(ids, i), id) || (uint32_t)*id >= c->s->info.n_vocab)
            return problem_set(p, 400, "invalid_value", name, "'%s' has no token id at place %zu", name, i);
    }
    return true;
}

static bool read_prompt(const call *c, const json_t *value, const char *name, struct ask_prompt *out, problem *p) {
    if (json_is_array(value)) return read_ids(c, value, name, out, p);
    if (!json_is_string(value))
        return problem_set(p, 400, "invalid_type", name,
                           "'%s' must be a string, an array of strings, of token ids, or of arrays of token ids", name);
    out->text = json_string_value(value), out->n_bytes = json_string_length(value);
    if (out->n_bytes == 0) return problem_set(p, 400, "invalid_value", name, "'%s' is empty", name);
    return true;
}

bool ask_read_prompts(ask *a, const call *c, const char *name, problem *p) {
    const json_t *value = json_object_get(a->body, name);
    if (!value || json_is_null(value)) return problem_set(p, 400, "missing_field", name, "'%s' is needed", name);
    bool many = json_is_array(value) && !json_is_number(json_array_get(value, 0));
    size_t n = many ? json_array_size(value) : 1;
    if (n == 0) return problem_set(p, 400, "invalid_value", name, "'%s' is empty", name);
    if (n > MAX_PROMPTS)
        return problem_set(p, 400, "invalid_value", name, "'%s' has %zu texts; %d at most are possible", name, n,
                           MAX_PROMPTS);
    a->prompts = xcalloc(n, sizeof *a->prompts), a->n_prompts = n;
    for (size_t i = 0; i < n; i++)
        if (!read_prompt(c, many ? json_array_get(value, i) : value, name, &a->prompts[i], p)) return false;
    return true;
}

void ask_let_body_go(ask *a) {
    json_t *prompt = json_incref(json_object_get(a->body, "prompt"));
    json_decref(a->body);
    a->body = prompt, a->model = NULL;
}

void ask_free(ask *a) {
    for (size_t i = 0; i < a->n_prompts; i++) free(a->prompts[i].tokens);
    free(a->prompts), free(a->stops), free(a->biases);
    json_decref(a->body);
}

// Implements the engine's half of rocmforge.h: the border where every parameter is validated, once, for all front ends.
//
// Runs on the callers' threads; the prompt is tokenised there, and what goes to the engine is ready to run.
#include "engine/api.h"

#include "engine/engine.h"
#include "text/utf8.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STOPS = 32, MAX_STOP_BYTES = 1024, MAX_ID_BYTES = 256 };

#define SAME_CODE(name) _Static_assert((int)RF_ERR_##name == (int)ERR_##name, "rf_code and err_code differ")
_Static_assert((int)RF_OK == (int)ERR_NONE, "rf_code and err_code differ");
SAME_CODE(USAGE);
SAME_CODE(IO);
SAME_CODE(FORMAT);
SAME_CODE(UNSUPPORTED);
SAME_CODE(MEMORY);
SAME_CODE(BUSY);
SAME_CODE(TOO_LONG);
SAME_CODE(NUMERIC);
SAME_CODE(STOPPED);
SAME_CODE(INTERNAL);
_Static_assert(sizeof((rf_error){0}.message) == sizeof((err){0}.text), "messages are copied whole");

void api_export(rf_error *error, const err *e) {
    if (!error || e->code == ERR_NONE) return;
    error->code = (rf_code)e->code;
    memcpy(error->message, e->text, sizeof error->message);
}

const char *rf_finish_name(rf_finish finish) {
    static const char *const names[] = {"none", "stop", "length", "cancelled", "timeout", "error"};
    check(finish >= RF_FINISH_NONE && finish <= RF_FINISH_ERROR);
    return names[finish];
}

rf_params rf_params_default(void) {
    return (rf_params){
        .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .penalty_last_n = 64};
}

// ---- validation --------------------------------------------------------------------------------------------------

typedef struct range {
    const char *name;
    float value, least, most;
    bool least_excluded;
} range;

static bool in_range(const range *r, err *e) {
    // A NaN fails every comparison, so it is asked what holds, not what does not.
    if ((r->least_excluded ? r->value > r->least : r->value >= r->least) && r->value <= r->most) return true;
    if (r->most == FLT_MAX)
        return fail(e, ERR_USAGE, "%s is %g; it must be finite and %s %g", r->name, (double)r->value,
                    r->least_excluded ? "above" : "at least", (double)r->least);
    return fail(e, ERR_USAGE, "%s is %g; it must be %s %g and at most %g", r->name, (double)r->value,
                r->least_excluded ? "above" : "at least", (double)r->least, (double)r->most);
}

static bool check_stops(const rf_params *p, err *e) {
    if (p->n_stop > MAX_STOPS)
        return fail(e, ERR_USAGE, "there are %zu stop strings; %d at most are possible", p->n_stop, MAX_STOPS);
    if (p->n_stop && !p->stop) return fail(e, ERR_USAGE, "stop is NULL, but n_stop is %zu", p->n_stop);
    for (size_t i = 0; i < p->n_stop; i++) {
        size_t n = p->stop[i] ? strnlen(p->stop[i], MAX_STOP_BYTES + 1) : 0;
        if (n == 0 || n > MAX_STOP_BYTES)
            return fail(e, ERR_USAGE, "stop string %zu must have 1 to %d bytes", i, MAX_STOP_BYTES);
        if (utf8_validate(p->stop[i], n) != n)
            return fail(e, ERR_FORMAT, "stop string %zu is not UTF-8 at byte %zu", i, utf8_validate(p->stop[i], n));
    }
    return true;
}

static bool check_bias(const rf_params *p, uint32_t n_vocab, err *e) {
    if (p->n_logit_bias > SAMPLE_MAX_BIAS)
        return fail(e, ERR_USAGE, "logit_bias has %zu tokens; %d at most are possible", p->n_logit_bias,
                    SAMPLE_MAX_BIAS);
    if (p->n_logit_bias && !p->logit_bias)
        return fail(e, ERR_USAGE, "logit_bias is NULL, but n_logit_bias is %zu", p->n_logit_bias);
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        int32_t id = p->logit_bias[i].token;
        if (id < 0 || (uint32_t)id >= n_vocab)
            return fail(e, ERR_USAGE, "logit_bias names token %d; the vocabulary has ids 0 to %u", id, n_vocab - 1);
        const range bias = {"a logit_bias", p->logit_bias[i].bias, -100, 100, false};
        if (!in_range(&bias, e)) return false;
    }
    return true;
}

bool api_check_params(const rf_params *p, uint32_t n_vocab, err *e) {
    const range ranges[] = {
        {"temperature", p->temperature, 0, FLT_MAX, false},
        {"top_p", p->top_p, 0, 1, true},
        {"min_p", p->min_p, 0, 1, false},
        {"repeat_penalty", p->repeat_penalty, 0, FLT_MAX, true},
        {"presence_penalty", p->presence_penalty, -2, 2, false},
        {"frequency_penalty", p->frequency_penalty, -2, 2, false},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!in_range(&ranges[i], e)) return false;
    uint32_t most = n_vocab < SAMPLE_MAX_LOGPROBS ? n_vocab : SAMPLE_MAX_LOGPROBS;
    if (p->n_logprobs > most) return fail(e, ERR_USAGE, "n_logprobs is %u; it must be at most %u", p->n_logprobs, most);
    if (p->embed != RF_EMBED_NONE && p->embed != RF_EMBED_MEAN && p->embed != RF_EMBED_LAST)
        return fail(e, ERR_USAGE, "embed is %d; it must be 0 (an answer), 1 (mean) or 2 (last)", (int)p->embed);
    if (p->score != RF_SCORE_NONE && p->score != RF_SCORE_FIRST && p->score != RF_SCORE_ONLY)
        return fail(e, ERR_USAGE, "score is %d; it must be 0 (off), 1 (first) or 2 (only)", (int)p->score);
    if (p->score && (p->embed || !p->logprobs))
        return fail(e, ERR_USAGE, "score goes with logprobs, and not with embed");
    if (p->timeout_ms < 0)
        return fail(e, ERR_USAGE, "timeout_ms is %lld; it must not be negative", (long long)p->timeout_ms);
    if (p->id && strnlen(p->id, MAX_ID_BYTES + 1) > MAX_ID_BYTES)
        return fail(e, ERR_USAGE, "the request's id has more than %d bytes", MAX_ID_BYTES);
    if (p->cache_salt && strnlen(p->cache_salt, KV_SALT_BYTES + 1) > KV_SALT_BYTES)
        return fail(e, ERR_USAGE, "cache_salt has more than %d bytes", KV_SALT_BYTES);
    return check_stops(p, e) && check_bias(p, n_vocab, e);
}

// ---- submit ------------------------------------------------------------------------------------------------------

static void tokens_append(tokens *t, int32_t id) {
    if (t->n == t->capacity) t->ids = xrealloc(t->ids, (t->capacity = 2 * t->capacity + 16) * sizeof *t->ids);
    t->ids[t->n++] = id;
}

static bool fits(const engine_config *c, const rf_params *p, size_t n_tokens, err *e) {
    bool answers = engine_wants_answer(p);
    if (n_tokens < (size_t)c->info.n_ctx + !answers) return true;
    return fail(e, ERR_TOO_LONG, "the prompt has %zu tokens; the context holds %u%s", n_tokens, c->info.n_ctx,
                answers ? ", one of them for the answer" : "");
}

// A text that is too long even in the longest tokens is not read: megabytes of it would take seconds.
static bool may_fit(const engine_config *c, size_t n_bytes, err *e) {
    size_t least = n_bytes / vocab_longest_bytes(c->vocab);
    return least <= c->info.n_ctx ||
           fail(e, ERR_TOO_LONG, "the prompt has at least %zu tokens; the context holds %u", least, c->info.n_ctx);
}

static bool read_tokens(const engine_config *c, const rf_params *p, tokens *out, err *e) {
    if (!p->prompt_tokens) return fail(e, ERR_USAGE, "prompt_tokens is NULL, but n_prompt_tokens is not 0");
    if (!fits(c, p, p->n_prompt_tokens, e)) return false;
    for (size_t i = 0; i < p->n_prompt_tokens; i++) {
        int32_t id = p->prompt_tokens[i];
        if (id < 0 || (uint32_t)id >= c->info.n_vocab)
            return fail(e, ERR_USAGE, "prompt token %zu is %d; the vocabulary has ids 0 to %u", i, id,
                        c->info.n_vocab - 1);
        tokens_append(out, id);
    }
    return true;
}

static bool read_text(const engine_config *c, const rf_params *p, tokens *out, err *e) {
    size_t n_bytes = p->prompt && !p->n_prompt_bytes ? strlen(p->prompt) : p->n_prompt_bytes;
    if (!p->prompt || n_bytes == 0) return fail(e, ERR_USAGE, "the prompt is empty");
    if (!may_fit(c, n_bytes, e)) return false;
    if (vocab_adds_bos(c->vocab)) tokens_append(out, vocab_bos(c->vocab));
    if (!vocab_encode(c->vocab, p->prompt, n_bytes, p->parse_special, out, e)) return false;
    if (!out->n) return fail(e, ERR_USAGE, "the prompt has no token: the vocabulary knows none of its bytes");
    return fits(c, p, out->n, e);
}

rf_request *rf_submit(rf_engine *g, const rf_params *p, rf_error *error) {
    err e = {0};
    tokens prompt = {0};
    request *r = NULL;
    const engine_config *c = engine_get_config(g);
    if (api_check_params(p, c->info.n_vocab, &e) && (p->n_prompt_tokens ? read_tokens : read_text)(c, p, &prompt, &e))
        r = engine_submit(g, p, prompt.ids, (uint32_t)prompt.n, &e);
    free(prompt.ids);
    api_export(error, &e);
    return r;
}

// ---- conversations -----------------------------------------------------------------------------------------------

static bool render_chat(const engine_config *c, const char *request, size_t n_bytes, rf_prompt *prompt, err *e) {
    json_error_t error;
    jinja_text rendered = {0};
    tokens all = {0};
    if (!c->chat) return fail(e, ERR_UNSUPPORTED, "the model file has no chat template, and none was given");
    json_t *json = json_loadb(request, n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!json) return fail(e, ERR_FORMAT, "the conversation is not JSON: %s, at byte %d", error.text, error.position);
    bool ok = chat_template_render(c->chat, json, &rendered, e) && may_fit(c, rendered.text.n_bytes, e) &&
              vocab_encode_parts(c->vocab, rendered.text.data, rendered.text.n_bytes, rendered.data, rendered.n_data,
                                 &all, e);
    json_decref(json);
    if (ok) {
        prompt->n_bytes = rendered.text.n_bytes, prompt->text = buf_take(&rendered.text);
        prompt->tokens = all.ids, prompt->n_tokens = all.n;
        all.ids = NULL;
    }
    free(all.ids);
    jinja_text_free(&rendered);
    return ok;
}

bool rf_chat_render(const rf_engine *g, const char *request, size_t n_bytes, rf_prompt *prompt, rf_error *error) {
    err e = {0};
    *prompt = (rf_prompt){0};
    bool ok = render_chat(engine_get_config(g), request, n_bytes, prompt, &e);
    api_export(error, &e);
    return ok;
}

void rf_prompt_free(rf_prompt *prompt) {
    free(prompt->text);
    free(prompt->tokens);
    *prompt = (rf_prompt){0};
}

// ---- what an engine tells ----------------------------------------------------------------------------------------

void rf_model_get_info(const rf_engine *g, rf_model_info *info) { *info = engine_get_config(g)->info; }

void rf_get_stats(const rf_engine *g, rf_stats *stats) { engine_get_stats(g, stats); }

int64_t rf_tokenize(const rf_engine *g, const char *text, size_t n_bytes, bool parse_special, int32_t *ids,
                    size_t capacity, rf_error *error) {
    err e = {0};
    tokens all = {0};
    int64_t n = -1;
    if (vocab_encode(engine_get_config(g)->vocab, text, n_bytes, parse_special, &all, &e)) {
        n = (int64_t)all.n;
        size_t n_fit = all.n < capacity ? all.n : capacity;
        if (n_fit) memcpy(ids, all.ids, n_fit * sizeof *ids);
    }
    free(all.ids);
    api_export(error, &e);
    return n;
}

const char *rf_token_bytes(const rf_engine *g, int32_t token, size_t *n_bytes) {
    const engine_config *c = engine_get_config(g);
    if (token < 0 || (uint32_t)token >= c->info.n_vocab) return NULL;
    return vocab_token_bytes(c->vocab, token, n_bytes);
}

void rf_engine_close(rf_engine *g, int drain_ms) {
    if (!g) return;
    engine_shut(g, drain_ms);
    engine_join(g);
    engine_free(g);
}

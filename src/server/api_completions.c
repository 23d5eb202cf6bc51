// OpenAI's completions: a prompt is continued. https://platform.openai.com/docs/api-reference/completions
#include "server/openai_shape.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LOGPROBS = 20, DEFAULT_MAX_TOKENS = 16 };

// ---- the shape of answers ----------------------------------------------------------------------------------------

// echo: the prompt before the answer.
static void append_echo(const generation *g, buf *b, uint32_t i) {
    const struct ask_prompt *p = &g->ask.prompts[i / g->ask.n];
    if (!g->ask.echo) return;
    if (!p->tokens) return buf_append(b, p->text, p->n_bytes);
    for (size_t t = 0; t < p->n_tokens; t++) {
        size_t n_bytes;
        const char *bytes = rf_token_bytes(g->s->engine, p->tokens[t], &n_bytes);
        if (bytes) buf_append(b, bytes, n_bytes);
    }
}

static void put_choice(buf *b, uint32_t i, const char *text, size_t n_bytes) {
    buf_printf(b, "{\"index\":%u,\"text\":", i);
    json_put_text(b, text, n_bytes);
    buf_append_str(b, ",\"logprobs\":");
}

static void put_finish(buf *b, const char *finish) {
    if (finish)
        buf_printf(b, ",\"finish_reason\":\"%s\"}", finish);
    else
        buf_append_str(b, ",\"finish_reason\":null}");
}

static void begin_chunk(const generation *g, buf *out) {
    buf_append_str(out, "data: {");
    openai_put_head(g, out, "text_completion");
    buf_append_str(out, ",\"choices\":[");
}

static void end_chunk(const generation *g, buf *out) {
    buf_append_str(out, g->ask.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void put_begin(generation *g, buf *out) {
    for (uint32_t i = 0; g->ask.echo && i < g->n_choices; i++) {
        buf text = {0};
        append_echo(g, &text, i);
        begin_chunk(g, out);
        put_choice(out, i, text.data, text.n_bytes);
        buf_append_str(out, "null");
        put_finish(out, NULL);
        end_chunk(g, out);
        buf_free(&text);
    }
}

static void put_piece(generation *g, buf *out, uint32_t i, const rf_event *e) {
    if (e->n_bytes == 0 && !(g->ask.logprobs && e->n_tokens))
        return; // a part of a character, or a stop string's beginning
    begin_chunk(g, out);
    put_choice(out, i, e->text, e->n_bytes);
    if (g->ask.logprobs)
        openai_put_logprobs(g, out, i, e->tokens, e->logprobs, e->n_tokens);
    else
        buf_append_str(out, "null");
    put_finish(out, NULL);
    end_chunk(g, out);
}

static void put_end(generation *g, buf *out, uint32_t i) {
    const choice *c = &g->choices[i];
    if (c->finish == RF_FINISH_ERROR) return openai_put_error_event(out, c->error);
    begin_chunk(g, out);
    put_choice(out, i, "", 0);
    buf_append_str(out, "null");
    put_finish(out, generation_finish(c));
    end_chunk(g, out);
}

static void put_last(generation *g, buf *out) { openai_put_last(g, out, "text_completion"); }

static void put_whole(generation *g, buf *out) {
    rf_usage usage = generation_usage(g);
    buf_append_char(out, '{');
    openai_put_head(g, out, "text_completion");
    buf_append_str(out, ",\"choices\":[");
    for (uint32_t i = 0; i < g->n_choices; i++) {
        const choice *c = &g->choices[i];
        buf text = {0};
        append_echo(g, &text, i);
        buf_append(&text, c->text.data, c->text.n_bytes);
        if (i) buf_append_char(out, ',');
        put_choice(out, i, text.data, text.n_bytes);
        if (g->ask.logprobs)
            openai_put_logprobs(g, out, i, c->tokens, c->logprobs, c->n_tokens);
        else
            buf_append_str(out, "null");
        put_finish(out, generation_finish(c));
        buf_free(&text);
    }
    buf_append_str(out, "],");
    openai_put_usage(out, &usage);
    buf_append_str(out, "}\n");
}

static const family COMPLETIONS = {"/v1/completions", "cmpl-", "prompt", put_begin,
                                   put_piece,         put_end, put_last, put_whole};

// ---- the request -------------------------------------------------------------------------------------------------

static bool check_unsupported(const ask *a, const json_t *body, problem *p) {
    uint32_t best_of = 0;
    const char *suffix = NULL;
    const field BEST_OF = {"best_of", FIELD_UINT, 0, 1, 128}, SUFFIX = {"suffix", FIELD_TEXT, 0, 0, 0};
    if (!json_read_fields(body, &BEST_OF, 1, &best_of, p) || !json_read_fields(body, &SUFFIX, 1, &suffix, p))
        return false;
    if (suffix && *suffix)
        return problem_set(p, 400, "unsupported", "suffix",
                           "'suffix' is not supported: this server does not fill in the middle");
    if (best_of && best_of != a->n)
        return problem_set(p, 400, "unsupported", "best_of", "'best_of' is not supported unless it equals 'n'");
    return true;
}

// echo: the prompt is a part of what is answered, so its log-probabilities are too, if any are; and it may be all.
static bool read_rest(ask *a, const json_t *body, problem *p) {
    static const field fields[] = {
        {"max_tokens", FIELD_UINT, offsetof(ask, params.max_tokens), 0, UINT32_MAX},
        {"echo", FIELD_BOOL, offsetof(ask, echo), 0, 0},
    };
    uint32_t logprobs = UINT32_MAX;
    const field LOGPROBS = {"logprobs", FIELD_UINT, 0, 0, MAX_LOGPROBS};
    a->params.max_tokens = DEFAULT_MAX_TOKENS;
    if (!json_read_fields(body, fields, 2, a, p) || !json_read_fields(body, &LOGPROBS, 1, &logprobs, p)) return false;
    if (a->params.max_tokens == 0 && !a->echo)
        return problem_set(p, 400, "invalid_value", "max_tokens",
                           "'max_tokens' must be at least 1, unless 'echo' is true");
    if (logprobs != UINT32_MAX) a->logprobs = a->params.logprobs = true, a->params.n_logprobs = logprobs;
    if (a->echo && a->logprobs) a->params.score = RF_SCORE_FIRST;
    if (a->params.max_tokens == 0) a->params.logprobs = true, a->params.score = RF_SCORE_ONLY;
    return check_unsupported(a, body, p);
}

void openai_completions(call *c) {
    if (!call_is_ready(c)) return;
    problem p = {0};
    ask a = {0};
    a.body = json_read_body(c->x, &p);
    if (a.body && ask_read_sampling(&a, c, a.body, &p) && read_rest(&a, a.body, &p) &&
        ask_read_prompts(&a, c, "prompt", &p))
        return generation_start(c, &COMPLETIONS, &a);
    ask_free(&a);
    call_fail(c, &p);
}

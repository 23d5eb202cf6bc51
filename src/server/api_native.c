// The native API: generate, its stream, status, cancel, models, health, ready, traces.
//
// A stream's first event is `start` with the request's id; then `token` events; `end` is the last and comes once.
#include "server/generation.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- generate ----------------------------------------------------------------------------------------------------

static void put_usage(buf *b, const rf_usage *u) {
    buf_printf(b,
               "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,\"cached_tokens\":%u,"
               "\"draft_tokens\":%u,\"accepted_tokens\":%u,\"queued_ms\":%.3f,\"prefill_ms\":%.3f,\"decode_ms\":%.3f}",
               u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens, u->cached_tokens,
               u->draft_tokens, u->accepted_tokens, (double)u->queued_us * 1e-3, (double)u->prefill_us * 1e-3,
               (double)u->decode_us * 1e-3);
}

static void put_begin(generation *g, buf *out) {
    buf_printf(out, "event: start\ndata: {\"id\":\"%s\"}\n\n", g->record->id);
}

static void put_piece(generation *g, buf *out, uint32_t i, const rf_event *e) {
    (void)g;
    buf_printf(out, "event: token\ndata: {\"index\":%u,\"text\":", i);
    json_put_text(out, e->text, e->n_bytes);
    buf_append_str(out, ",\"tokens\":[");
    for (size_t t = 0; t < e->n_tokens; t++) buf_printf(out, t ? ",%d" : "%d", e->tokens[t]);
    buf_append_str(out, "]}\n\n");
}

static void put_end(generation *g, buf *out, uint32_t i) { // one choice only has one end; of several, each its own
    const choice *c = &g->choices[i];
    if (g->n_choices == 1) return; // put_last says it
    buf_printf(out, "event: choice\ndata: {\"index\":%u,\"finish_reason\":\"%s\"}\n\n", i, generation_finish(c));
}

static void put_last(generation *g, buf *out) {
    rf_usage usage = generation_usage(g);
    buf_printf(out, "event: end\ndata: {\"id\":\"%s\",\"finish_reason\":\"%s\",", g->record->id,
               rf_finish_name(g->record->finish));
    if (g->record->finish == RF_FINISH_ERROR) {
        buf_append_str(out, "\"error\":");
        json_put_text(out, g->record->error, strlen(g->record->error));
        buf_append_char(out, ',');
    }
    put_usage(out, &usage);
    buf_append_str(out, "}\n\n");
}

static void put_whole(generation *g, buf *out) {
    rf_usage usage = generation_usage(g);
    buf_printf(out, "{\"id\":\"%s\",\"model\":", g->record->id);
    json_put_text(out, g->s->model_id, strlen(g->s->model_id));
    buf_append_str(out, ",\"choices\":[");
    for (uint32_t i = 0; i < g->n_choices; i++) {
        buf_printf(out, "%s{\"index\":%u,\"text\":", i ? "," : "", i);
        json_put_text(out, g->choices[i].text.data, g->choices[i].text.n_bytes);
        buf_printf(out, ",\"finish_reason\":\"%s\"}", generation_finish(&g->choices[i]));
    }
    buf_append_str(out, "],\"text\":");
    json_put_text(out, g->choices[0].text.data, g->choices[0].text.n_bytes);
    buf_printf(out, ",\"finish_reason\":\"%s\",", rf_finish_name(g->record->finish));
    put_usage(out, &usage);
    buf_append_str(out, "}\n");
}

static const family NATIVE = {"/generate", "req-", "prompt", put_begin, put_piece, put_end, put_last, put_whole};

static void generate(call *c, bool stream) {
    if (!call_is_ready(c)) return;
    problem p = {0};
    ask a = {0};
    const char *prompt = NULL;
    static const field PROMPT = {"prompt", FIELD_TEXT, 0, 0, 0};
    static const field fields[] = {
        {"max_tokens", FIELD_UINT, offsetof(ask, params.max_tokens), 1, UINT32_MAX},
        {"parse_special", FIELD_BOOL, offsetof(ask, params.parse_special), 0, 0},
    };
    a.body = json_read_body(c->x, &p);
    if (a.body && ask_read_sampling(&a, c, a.body, &p) && json_read_fields(a.body, fields, 2, &a, &p) &&
        json_read_fields(a.body, &PROMPT, 1, &prompt, &p) && !prompt)
        problem_set(&p, 400, "missing_field", "prompt", "'prompt' is needed: a string");
    if (p.status) {
        ask_free(&a);
        return call_fail(c, &p);
    }
    a.stream = stream;
    a.n_prompts = 1, a.prompts = xcalloc(1, sizeof *a.prompts);
    a.prompts[0].text = prompt, a.prompts[0].n_bytes = strlen(prompt);
    generation_start(c, &NATIVE, &a);
}

void native_generate(call *c) { generate(c, false); }
void native_stream(call *c) { generate(c, true); }

// ---- status and cancel -------------------------------------------------------------------------------------------

static void put_status(buf *b, const record *r) {
    static const char *const states[] = {"queued", "prefill", "decode", "done"};
    buf_printf(b, "{\"id\":\"%s\",\"created_ms\":%lld,", r->id, (long long)r->created_ms);
    if (*r->client_id) {
        buf_append_str(b, "\"client_id\":");
        json_put_text(b, r->client_id, strlen(r->client_id));
        buf_append_char(b, ',');
    }
    if (!r->answer) {
        buf_printf(b, "\"state\":\"done\",\"finish_reason\":\"%s\",", rf_finish_name(r->finish));
        put_usage(b, &r->usage);
        buf_append_str(b, "}\n");
        return;
    }
    uint32_t n_generated = 0, n_prompt = 0;
    rf_state least = RF_DONE;
    for (uint32_t i = 0; i < answer_n_choices(r->answer); i++) {
        rf_status s;
        answer_get_status(r->answer, i, &s);
        n_generated += s.n_generated, n_prompt = s.n_prompt;
        if (s.state < least) least = s.state;
    }
    buf_printf(b, "\"state\":\"%s\",\"finish_reason\":null,\"prompt_tokens\":%u,\"completion_tokens\":%u}\n",
               states[least], n_prompt, n_generated);
}

static record *find_record(call *c) {
    record *r = records_find(c->s->records, c->parameter, c->owner);
    problem p = {0};
    if (!r)
        problem_set(&p, 404, "request_not_found", "id", "there is no request '%.60s', or it has been forgotten",
                    c->parameter),
            call_fail(c, &p);
    return r;
}

void native_status(call *c) {
    const record *r = find_record(c);
    if (!r) return;
    buf b = {0};
    put_status(&b, r);
    call_reply_json(c, 200, &b);
}

// The flag is set now; the end follows within one step. What is told is the state as it is.
void native_cancel(call *c) {
    record *r = find_record(c);
    if (!r) return;
    if (r->answer) answer_cancel(r->answer);
    buf b = {0};
    put_status(&b, r);
    call_reply_json(c, 200, &b);
}

// ---- the server itself -------------------------------------------------------------------------------------------

void native_models(call *c) {
    if (!call_is_ready(c)) return;
    const rf_model_info *m = &c->s->info;
    buf b = {0};
    buf_append_str(&b, "{\"models\":[{\"id\":");
    json_put_text(&b, c->s->model_id, strlen(c->s->model_id));
    buf_append_str(&b, ",\"name\":");
    json_put_text(&b, m->name, strlen(m->name));
    buf_printf(&b,
               ",\"architecture\":\"%s\",\"vocabulary\":%u,\"context\":%u,\"trained_context\":%u,\"layers\":%u,"
               "\"parameters\":%llu,\"file_bytes\":%llu,\"isa\":\"%s\",\"threads\":%d,\"memory\":{\"limit_bytes\":%llu,"
               "\"weight_bytes\":%llu,\"kv_bytes\":%llu,\"work_bytes\":%llu}}]}\n",
               m->architecture, m->n_vocab, m->n_ctx, m->n_ctx_train, m->n_layers, (unsigned long long)m->n_params,
               (unsigned long long)m->file_bytes, m->isa, m->n_threads, (unsigned long long)m->memory_bytes,
               (unsigned long long)m->weight_bytes, (unsigned long long)m->kv_bytes, (unsigned long long)m->work_bytes);
    call_reply_json(c, 200, &b);
}

// Whether the engine has something to do, as its requests say: statistics are as old as its last step.
static bool is_busy(const server *s) {
    for (const record *r = records_newest(s->records); r; r = r->older) {
        for (uint32_t i = 0; r->answer && i < answer_n_choices(r->answer); i++) {
            rf_status status;
            answer_get_status(r->answer, i, &status);
            if (status.state != RF_DONE) return true;
        }
    }
    return false;
}

// Work is there, and no step has ended for watchdog_ms: something hangs.
static bool is_stuck(server *s) {
    if (!s->engine) return false;
    rf_stats stats;
    rf_get_stats(s->engine, &stats);
    int64_t now_us = clock_machine_us();
    if (!is_busy(s) || stats.n_steps != s->seen_steps || !s->seen_us)
        s->seen_steps = stats.n_steps, s->seen_us = now_us;
    return now_us - s->seen_us >= (int64_t)s->o.watchdog_ms * 1000;
}

static void reply_state(call *c, bool good, const char *state) {
    buf b = {0};
    buf_printf(&b, "{\"status\":\"%s\"}\n", state);
    call_reply_json(c, good ? 200 : 503, &b);
}

void native_health(call *c) {
    bool stuck = is_stuck(c->s);
    reply_state(c, !stuck, stuck ? "stuck" : "ok");
}

void native_ready(call *c) {
    const server *s = c->s;
    reply_state(c, s->engine && !s->draining, s->draining ? "draining" : s->engine ? "ready" : "loading");
}

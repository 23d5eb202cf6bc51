// Implements remote_generate.h over POST /generate/stream, whose events are `start`, `token` and, once and last, `end`.
//
// The signal's bell is hung up once the connection stands: before, a signal ends the program.
#include "cli/remote_generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct stream {
    const remote *remote;
    interrupt *ctrl_c;
    bool (*take)(void *self, const rf_event *event);
    void *self;
    int bell;
    char kind[16]; // of the event whose data comes next
    char id[80];   // "" before `start`
    bool cancelled, hung_up, ended;
    err error; // a line that is not as it must be
} stream;

// ---- what is asked -----------------------------------------------------------------------------------------------

#define AT(member) offsetof(rf_params, member)
static const struct {
    const char *name;
    size_t at;
} FLOATS[] = {
    {"temperature", AT(temperature)},
    {"top_p", AT(top_p)},
    {"min_p", AT(min_p)},
    {"repeat_penalty", AT(repeat_penalty)},
    {"presence_penalty", AT(presence_penalty)},
    {"frequency_penalty", AT(frequency_penalty)},
};

static bool put_floats(json_t *body, const rf_params *p, err *e) {
    for (size_t i = 0; i < sizeof FLOATS / sizeof *FLOATS; i++) {
        float value;
        memcpy(&value, (const char *)p + FLOATS[i].at, sizeof value);
        if (!isfinite(value)) return fail(e, ERR_USAGE, "%s must be a finite number", FLOATS[i].name);
        json_object_set_new(body, FLOATS[i].name, json_real((double)value));
    }
    return true;
}

static bool put_texts(json_t *body, const rf_params *p, err *e) {
    json_t *prompt = json_stringn(p->prompt, p->n_prompt_bytes), *stops = json_array();
    bool good = prompt || fail(e, ERR_FORMAT, "the prompt is not UTF-8");
    for (size_t i = 0; i < p->n_stop && good; i++)
        good = json_array_append_new(stops, json_string(p->stop[i])) == 0 ||
               fail(e, ERR_FORMAT, "stop string %zu is not UTF-8", i);
    if (prompt) json_object_set_new(body, "prompt", prompt);
    json_object_set_new(body, "stop", stops);
    return good;
}

// The heap's; NULL and *e if JSON cannot say it.
static char *body_of(const rf_params *p, err *e) {
    json_t *body = json_pack("{s:I, s:I, s:I, s:b, s:b, s:I}", "top_k", (json_int_t)p->top_k, "repeat_last_n",
                             (json_int_t)p->penalty_last_n, "seed", (json_int_t)p->seed, "ignore_eos", p->ignore_eos,
                             "parse_special", p->parse_special, "priority", (json_int_t)p->priority);
    if (p->max_tokens) json_object_set_new(body, "max_tokens", json_integer(p->max_tokens));
    if (p->timeout_ms) json_object_set_new(body, "timeout", json_real((double)p->timeout_ms * 1e-3));
    char *text = put_floats(body, p, e) && put_texts(body, p, e) ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

// ---- what comes --------------------------------------------------------------------------------------------------

static uint32_t count_of(const json_t *object, const char *name) {
    return (uint32_t)json_integer_value(json_object_get(object, name));
}

static int64_t us_of(const json_t *object, const char *name) {
    return llround(json_number_value(json_object_get(object, name)) * 1000);
}

static bool on_token(stream *s, const json_t *data) {
    const json_t *text = json_object_get(data, "text"), *ids = json_object_get(data, "tokens");
    if (!json_is_string(text)) return fail(&s->error, ERR_FORMAT, "the server sent a token without text");
    int32_t *tokens = xcalloc(json_array_size(ids) + 1, sizeof *tokens);
    for (size_t i = 0; i < json_array_size(ids); i++) tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    rf_event event = {.kind = RF_EVENT_TEXT, .text = json_string_value(text), .n_bytes = json_string_length(text)};
    event.tokens = tokens, event.n_tokens = json_array_size(ids);
    s->hung_up = !s->take(s->self, &event);
    free(tokens);
    return !s->hung_up;
}

static void end_with(stream *s, rf_event *event) {
    event->kind = RF_EVENT_END;
    s->ended = true;
    s->take(s->self, event);
}

static bool on_end(stream *s, const json_t *data) {
    const json_t *usage = json_object_get(data, "usage");
    const char *finish = json_string_value(json_object_get(data, "finish_reason"));
    rf_event event = {.usage = {.prompt_tokens = count_of(usage, "prompt_tokens"),
                                .completion_tokens = count_of(usage, "completion_tokens"),
                                .cached_tokens = count_of(usage, "cached_tokens"),
                                .draft_tokens = count_of(usage, "draft_tokens"),
                                .accepted_tokens = count_of(usage, "accepted_tokens"),
                                .queued_us = us_of(usage, "queued_ms"),
                                .prefill_us = us_of(usage, "prefill_ms"),
                                .decode_us = us_of(usage, "decode_ms")}};
    for (rf_finish f = RF_FINISH_STOP; finish && f <= RF_FINISH_ERROR; f++)
        if (strcmp(finish, rf_finish_name(f)) == 0) event.finish = f;
    if (!event.finish) return fail(&s->error, ERR_FORMAT, "the server sent an end that is none");
    const char *why = json_string_value(json_object_get(data, "error"));
    bool not_us = event.finish == RF_FINISH_CANCELLED && !s->cancelled;
    if (event.finish == RF_FINISH_ERROR) event.error.code = RF_ERR_INTERNAL;
    if (not_us) event.error.code = RF_ERR_STOPPED;
    if (!why) why = not_us ? "the server has cancelled the request" : "";
    snprintf(event.error.message, sizeof event.error.message, "%s", why);
    end_with(s, &event);
    return false; // nothing comes after it
}

static bool on_line(void *self, const char *line) {
    stream *s = self;
    if (strncmp(line, "event: ", 7) == 0) snprintf(s->kind, sizeof s->kind, "%s", line + 7);
    if (strncmp(line, "data: ", 6) != 0) return true;
    json_t *data = json_loads(line + 6, 0, NULL);
    bool goes_on = data || fail(&s->error, ERR_FORMAT, "the server sent an event that is not JSON");
    const char *id = json_string_value(json_object_get(data, "id"));
    if (data && strcmp(s->kind, "start") == 0) snprintf(s->id, sizeof s->id, "%s", id ? id : "");
    if (data && strcmp(s->kind, "token") == 0) goes_on = on_token(s, data);
    if (data && strcmp(s->kind, "end") == 0) goes_on = on_end(s, data);
    json_decref(data);
    return goes_on;
}

// ---- signals -----------------------------------------------------------------------------------------------------

static void on_begin(void *self) {
    stream *s = self;
    interrupt_set_bell(s->ctrl_c, s->bell);
}

static bool ignore_line(void *self, const char *line) {
    (void)self, (void)line;
    return true;
}

static void ignore_begin(void *self) { (void)self; }
static bool hang_up(void *self) { // an impatient second signal
    const stream *s = self;
    interrupt_take(s->ctrl_c);
    return false;
}

// The stream goes on until its end; if that cannot be arranged, to hang up cancels as well.
static bool on_rung(void *self) {
    stream *s = self;
    interrupt_take(s->ctrl_c);
    bool again = s->cancelled;
    s->cancelled = true;
    if (again || !*s->id) return false;
    char path[sizeof s->id + 16];
    remote_reply reply;
    err e = {0};
    snprintf(path, sizeof path, "/cancel/%s", s->id);
    const remote_reader reader = {ignore_line, hang_up, ignore_begin, s->bell, s};
    bool good = remote_stream(s->remote, path, "{}", &reader, &reply, &e) && reply.status == 200;
    remote_reply_free(&reply);
    return good;
}

bool remote_generate(const remote *r, const rf_params *params, interrupt *ctrl_c,
                     bool (*take)(void *self, const rf_event *event), void *self, err *e) {
    stream s = {.remote = r, .ctrl_c = ctrl_c, .take = take, .self = self};
    char *body = body_of(params, e);
    if (!body) return false;
    s.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); // open until the program ends, as interrupt.h wants it
    check(s.bell >= 0);
    const remote_reader reader = {on_line, on_rung, on_begin, s.bell, &s};
    remote_reply reply;
    bool good = remote_stream(r, "/generate/stream", body, &reader, &reply, e);
    if (good && reply.status && reply.status != 200) good = remote_refused(r, &reply, e);
    if (good && s.error.code) good = fail(e, s.error.code, "%s", s.error.text);
    if (good && !s.ended && reply.status == 200 && !s.cancelled && !s.hung_up)
        good = fail(e, ERR_IO, "%s closed the connection in the middle of the answer", remote_name(r));
    if (good && !s.ended) end_with(&s, &(rf_event){.finish = RF_FINISH_CANCELLED});
    remote_reply_free(&reply);
    free(body);
    return good;
}

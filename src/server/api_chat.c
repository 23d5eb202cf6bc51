// OpenAI's chat completions. https://platform.openai.com/docs/api-reference/chat
//
// A conversation becomes a prompt by the model's own template (rf_chat_render), which says what of it is the users'
// text, so that nothing they write turns into a control token.
#include "server/openai_shape.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LOGPROBS = 20 };

// ---- the shape of answers ----------------------------------------------------------------------------------------

static void put_finish(buf *b, const char *finish) {
    if (finish)
        buf_printf(b, ",\"finish_reason\":\"%s\"}", finish);
    else
        buf_append_str(b, ",\"finish_reason\":null}");
}

static void begin_chunk(const generation *g, buf *out) {
    buf_append_str(out, "data: {");
    openai_put_head(g, out, "chat.completion.chunk");
    buf_append_str(out, ",\"choices\":[");
}

static void end_chunk(const generation *g, buf *out) {
    buf_append_str(out, g->ask.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void put_begin(generation *g, buf *out) {
    for (uint32_t i = 0; i < g->n_choices; i++) {
        begin_chunk(g, out);
        buf_printf(out, "{\"index\":%u,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null", i);
        put_finish(out, NULL);
        end_chunk(g, out);
    }
}

static void put_piece(generation *g, buf *out, uint32_t i, const rf_event *e) {
    if (e->n_bytes == 0 && !(g->ask.logprobs && e->n_tokens)) return; // a part of a character, or of a stop string
    begin_chunk(g, out);
    buf_printf(out, "{\"index\":%u,\"delta\":{\"content\":", i);
    json_put_text(out, e->text, e->n_bytes);
    buf_append_str(out, "},\"logprobs\":");
    if (g->ask.logprobs)
        openai_put_chat_logprobs(g, out, e->logprobs, e->n_tokens);
    else
        buf_append_str(out, "null");
    put_finish(out, NULL);
    end_chunk(g, out);
}

static void put_end(generation *g, buf *out, uint32_t i) {
    const choice *c = &g->choices[i];
    if (c->finish == RF_FINISH_ERROR) return openai_put_error_event(out, c->error);
    begin_chunk(g, out);
    buf_printf(out, "{\"index\":%u,\"delta\":{},\"logprobs\":null", i);
    put_finish(out, generation_finish(c));
    end_chunk(g, out);
}

static void put_last(generation *g, buf *out) { openai_put_last(g, out, "chat.completion.chunk"); }

static void put_whole(generation *g, buf *out) {
    rf_usage usage = generation_usage(g);
    buf_append_char(out, '{');
    openai_put_head(g, out, "chat.completion");
    buf_append_str(out, ",\"choices\":[");
    for (uint32_t i = 0; i < g->n_choices; i++) {
        const choice *c = &g->choices[i];
        buf_printf(out, "%s{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", i ? "," : "", i);
        json_put_text(out, c->text.data, c->text.n_bytes);
        buf_append_str(out, ",\"refusal\":null},\"logprobs\":");
        if (g->ask.logprobs)
            openai_put_chat_logprobs(g, out, c->logprobs, c->n_tokens);
        else
            buf_append_str(out, "null");
        put_finish(out, generation_finish(c));
    }
    buf_append_str(out, "],");
    openai_put_usage(out, &usage);
    buf_append_str(out, "}\n");
}

static const family CHAT = {
    "/v1/chat/completions", "chatcmpl-", "messages", put_begin, put_piece, put_end, put_last, put_whole};

// ---- the conversation --------------------------------------------------------------------------------------------

// Parts of text become one text; NULL and *p if there is a part that is none.
static json_t *join_parts(const json_t *parts, problem *p) {
    buf all = {0};
    for (size_t i = 0; i < json_array_size(parts) && !p->status; i++) {
        const json_t *part = json_array_get(parts, i), *text = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0)
            problem_set(p, 400, "unsupported", "messages",
                        "'messages' has a part of type '%.40s'; only text is supported", type ? type : "");
        else if (!json_is_string(text))
            problem_set(p, 400, "invalid_type", "messages", "a part of type 'text' in 'messages' has no text");
        else
            buf_append(&all, json_string_value(text), json_string_length(text));
    }
    json_t *joined = p->status ? NULL : json_stringn(all.n_bytes ? all.data : "", all.n_bytes);
    buf_free(&all);
    return joined;
}

static bool check_message(json_t *message, size_t i, problem *p) {
    if (!json_is_object(message) || !json_is_string(json_object_get(message, "role")))
        return problem_set(p, 400, "invalid_type", "messages",
                           "'messages' must be an array of objects with a role; number %zu is not one", i);
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) return true;
    if (json_is_array(content)) {
        json_t *joined = join_parts(content, p);
        return joined && json_object_set_new(message, "content", joined) == 0;
    }
    if (!content || json_is_null(content))
        return json_object_get(message, "tool_calls") ||
               problem_set(p, 400, "missing_field", "messages", "message %zu has no content", i);
    return problem_set(p, 400, "invalid_type", "messages",
                       "the content of message %zu must be a string or an array of parts", i);
}

// What comes later and must not be ignored until then.
static bool check_unsupported(const json_t *body, problem *p) {
    const json_t *tools = json_object_get(body, "tools"), *choice = json_object_get(body, "tool_choice");
    const json_t *format = json_object_get(body, "response_format");
    if (json_array_size(tools) > 0 || json_object_get(body, "functions"))
        return problem_set(p, 400, "unsupported", "tools", "'tools' is not supported yet");
    const char *name = json_string_value(choice);
    if (choice && !json_is_null(choice) && !(name && (strcmp(name, "none") == 0 || strcmp(name, "auto") == 0)))
        return problem_set(p, 400, "unsupported", "tool_choice",
                           "'tool_choice' is not supported yet, except none and auto");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format && !json_is_null(format) && !(type && strcmp(type, "text") == 0))
        return problem_set(p, 400, "unsupported", "response_format",
                           "'response_format' is not supported yet, except {\"type\": \"text\"}");
    return true;
}

static bool chat_render(const call *c, json_t *body, rf_prompt *out, problem *p) {
    json_t *messages = json_object_get(body, "messages");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return problem_set(p, 400, messages ? "invalid_type" : "missing_field", "messages",
                           "'messages' is needed: an array of at least one message");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!check_message(json_array_get(messages, i), i, p)) return false;
    json_t *request = json_object();
    json_object_set(request, "messages", messages);
    static const char *const passed[] = {"add_generation_prompt", "chat_template_kwargs"};
    for (int i = 0; i < 2; i++)
        if (json_object_get(body, passed[i])) json_object_set(request, passed[i], json_object_get(body, passed[i]));
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    rf_error error = {0};
    bool good = text && rf_chat_render(c->s->engine, text, strlen(text), out, &error);
    free(text);
    if (!good) problem_of(p, "messages", &error);
    return good;
}

// ---- the request -------------------------------------------------------------------------------------------------

static bool read_rest(ask *a, const json_t *body, problem *p) {
    static const field fields[] = {
        {"max_tokens", FIELD_UINT, offsetof(ask, params.max_tokens), 1, UINT32_MAX},
        {"max_completion_tokens", FIELD_UINT, offsetof(ask, params.max_tokens), 1, UINT32_MAX},
        {"logprobs", FIELD_BOOL, offsetof(ask, logprobs), 0, 0},
        {"top_logprobs", FIELD_UINT, offsetof(ask, params.n_logprobs), 0, MAX_LOGPROBS},
    };
    if (!json_read_fields(body, fields, sizeof fields / sizeof *fields, a, p)) return false;
    if (a->params.n_logprobs && !a->logprobs)
        return problem_set(p, 400, "invalid_value", "top_logprobs", "'top_logprobs' wants 'logprobs' to be true");
    a->params.logprobs = a->logprobs;
    return check_unsupported(body, p);
}

void openai_chat(call *c) {
    if (!call_is_ready(c)) return;
    problem p = {0};
    ask a = {0};
    rf_prompt prompt = {0};
    a.body = json_read_body(c->x, &p);
    if (a.body && ask_read_sampling(&a, c, a.body, &p) && read_rest(&a, a.body, &p) &&
        chat_render(c, a.body, &prompt, &p)) {
        a.n_prompts = 1, a.prompts = xcalloc(1, sizeof *a.prompts);
        a.prompts[0].tokens = prompt.tokens, a.prompts[0].n_tokens = prompt.n_tokens;
        prompt.tokens = NULL;
        rf_prompt_free(&prompt);
        return generation_start(c, &CHAT, &a);
    }
    ask_free(&a);
    call_fail(c, &p);
}

void text_apply_template(call *c) {
    if (!call_is_ready(c)) return;
    problem p = {0};
    rf_prompt prompt = {0};
    buf b = {0};
    json_t *body = json_read_body(c->x, &p);
    if (body && chat_render(c, body, &prompt, &p)) {
        buf_append_str(&b, "{\"prompt\":");
        json_put_text(&b, prompt.text, strlen(prompt.text));
        buf_append_str(&b, "}\n");
        call_reply_json(c, 200, &b);
        rf_prompt_free(&prompt);
    } else {
        call_fail(c, &p);
    }
    json_decref(body);
}

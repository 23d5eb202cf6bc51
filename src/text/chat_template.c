// Implements chat_template.h.
#include "text/chat_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct chat_template {
    jinja *program; // NULL: see trouble
    err trouble;
    json_t *bos, *eos; // NULL: the vocabulary has none
};

// The variables that every template gets, whether the request has them or not.
enum { MESSAGES, TOOLS, DOCUMENTS, PROMPT, N_VARIABLES };
static const char *const NAMES[N_VARIABLES] = {"messages", "tools", "documents", "add_generation_prompt"};

static json_t *token_text(const vocab *v, int32_t token) {
    size_t n_bytes;
    if (token < 0) return NULL;
    const char *text = vocab_token_bytes(v, token, &n_bytes);
    return json_stringn(text, n_bytes); // NULL if it is not UTF-8
}

chat_template *chat_template_open(const char *text, const vocab *v) {
    chat_template *t = xcalloc(1, sizeof *t);
    t->program = jinja_parse(text, strlen(text), &t->trouble);
    t->bos = token_text(v, vocab_bos(v));
    t->eos = token_text(v, vocab_eos(v));
    return t;
}

void chat_template_close(chat_template *t) {
    if (!t) return;
    jinja_free(t->program);
    json_decref(t->bos);
    json_decref(t->eos);
    free(t);
}

// ---- the request -------------------------------------------------------------------------------------------------

typedef struct request {
    json_t *messages; // owned
    const json_t *tools, *documents, *add_generation_prompt, *kwargs;
    struct tm now;
    bool has_now;
} request;

// Clients write null for what a message has not ("tool_calls": null), and templates ask whether it is there. An
// answer's content is another matter: templates ask whether it is none.
static json_t *without_nulls(json_t *message) {
    json_t *kept = json_object();
    const char *key;
    json_t *value;
    json_object_foreach(message, key, value) {
        if (!json_is_null(value) || strcmp(key, "content") == 0) json_object_set(kept, key, value);
    }
    return kept;
}

static bool read_messages(request *q, json_t *value, err *e) {
    size_t i;
    json_t *message;
    if (!json_is_array(value)) return fail(e, ERR_USAGE, "'messages' is not an array");
    q->messages = json_array();
    json_array_foreach(value, i, message) {
        if (!json_is_object(message)) return fail(e, ERR_USAGE, "message %zu is not an object", i);
        json_array_append_new(q->messages, without_nulls(message));
    }
    return true;
}

static bool read_array(const json_t **to, json_t *value, const char *name, err *e) {
    *to = value;
    return json_is_array(value) || json_is_null(value) || fail(e, ERR_USAGE, "'%s' is neither an array nor null", name);
}

static bool read_tools(request *q, json_t *value, err *e) { return read_array(&q->tools, value, "tools", e); }
static bool read_documents(request *q, json_t *value, err *e) {
    return read_array(&q->documents, value, "documents", e);
}

static bool read_prompt(request *q, json_t *value, err *e) {
    q->add_generation_prompt = value;
    return json_is_boolean(value) || fail(e, ERR_USAGE, "'add_generation_prompt' is neither true nor false");
}

static bool read_kwargs(request *q, json_t *value, err *e) {
    q->kwargs = value;
    if (json_is_null(value)) return q->kwargs = NULL, true;
    if (!json_is_object(value)) return fail(e, ERR_USAGE, "'chat_template_kwargs' is neither an object nor null");
    for (size_t i = 0; i < N_VARIABLES; i++)
        if (json_object_get(value, NAMES[i]))
            return fail(e, ERR_USAGE, "'chat_template_kwargs' may not have '%s'", NAMES[i]);
    return true;
}

static bool looks_like_date(const char *s, size_t n) {
    static const char shape[] = "0000-00-00T00:00:00";
    if (!s || (n != 10 && n != 19)) return false;
    for (size_t i = 0; i < n; i++)
        if (shape[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i]) return false;
    return true;
}

// "2026-11-25" or "2026-11-25T13:45:00", in whatever time zone the template is to speak of.
static bool read_date(request *q, json_t *value, err *e) {
    const char *s = json_string_value(value);
    struct tm *t = &q->now;
    bool whole = looks_like_date(s, json_string_length(value));
    if (whole)
        sscanf(s, "%d-%d-%dT%d:%d:%d", &t->tm_year, &t->tm_mon, &t->tm_mday, &t->tm_hour, &t->tm_min, &t->tm_sec);
    t->tm_year -= 1900, t->tm_mon -= 1;
    struct tm asked = *t;
    timegm(t); // fills in the day of the week, and turns the 30th of February into another day
    if (!whole || t->tm_mon != asked.tm_mon || t->tm_mday != asked.tm_mday || t->tm_hour != asked.tm_hour ||
        t->tm_min != asked.tm_min || t->tm_sec != asked.tm_sec)
        return fail(e, ERR_USAGE, "'date' is not like \"2026-11-25\" or \"2026-11-25T13:45:00\"");
    return q->has_now = true;
}

static const struct field {
    const char *name;
    bool (*read)(request *q, json_t *value, err *e);
} FIELDS[] = {
    {"messages", read_messages},           {"tools", read_tools},
    {"documents", read_documents},         {"add_generation_prompt", read_prompt},
    {"chat_template_kwargs", read_kwargs}, {"date", read_date},
};

static bool read_field(request *q, const char *name, json_t *value, err *e) {
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++)
        if (strcmp(name, FIELDS[i].name) == 0) return FIELDS[i].read(q, value, e);
    return fail(e, ERR_USAGE, "there is no field '%.80s'", name);
}

static bool read_request(request *q, const json_t *json, err *e) {
    const char *name;
    json_t *value;
    if (!json_is_object(json)) return fail(e, ERR_USAGE, "the conversation is not a JSON object");
    json_object_foreach((json_t *)json, name, value) { // jansson's iteration is not const, but changes nothing
        if (!read_field(q, name, value, e)) return false;
    }
    return q->messages || fail(e, ERR_USAGE, "the field 'messages' is missing");
}

// ---- rendering ---------------------------------------------------------------------------------------------------

static bool render(const chat_template *t, const request *q, jinja_text *out, err *e) {
    // What a template may make a control token of, as '<|' + role + '|>'.
    static const char *const roles[] = {"system", "developer", "user",    "assistant",
                                        "tool",   "function",  "ipython", NULL};
    size_t n_kwargs = json_object_size(q->kwargs), n = 0;
    jinja_var *vars = xcalloc(N_VARIABLES + 2 + n_kwargs, sizeof *vars);
    const json_t *values[N_VARIABLES] = {q->messages, q->tools, q->documents, q->add_generation_prompt};
    json_t *null = json_null(), *yes = json_true(), *value;
    for (size_t i = 0; i < N_VARIABLES; i++)
        vars[n++] = (jinja_var){NAMES[i], values[i] ? values[i] : i == PROMPT ? yes : null, true};
    if (t->bos) vars[n++] = (jinja_var){"bos_token", t->bos, false};
    if (t->eos) vars[n++] = (jinja_var){"eos_token", t->eos, false};
    const char *name;
    json_object_foreach((json_t *)q->kwargs, name, value) { vars[n++] = (jinja_var){name, value, true}; }
    jinja_input in = {.vars = vars, .n_vars = n, .now = q->has_now ? &q->now : NULL, .roles = roles};
    bool ok = jinja_render(t->program, &in, out, e);
    free(vars);
    return ok;
}

bool chat_template_render(const chat_template *t, const json_t *json, jinja_text *out, err *e) {
    request q = {0};
    if (!t->program) return fail(e, t->trouble.code, "%s", t->trouble.text);
    bool ok = read_request(&q, json, e) && render(t, &q, out, e);
    json_decref(q.messages);
    return ok;
}

// Implements batch_record.h.
#include "cli/batch_record.h"

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

typedef enum kind { U32, U64, F32 } kind;

static const struct field {
    const char *name;
    kind kind;
    size_t offset; // in rf_params
} FIELDS[] = {
    {"max_tokens", U32, offsetof(rf_params, max_tokens)},
    {"temperature", F32, offsetof(rf_params, temperature)},
    {"top_k", U32, offsetof(rf_params, top_k)},
    {"top_p", F32, offsetof(rf_params, top_p)},
    {"min_p", F32, offsetof(rf_params, min_p)},
    {"repeat_penalty", F32, offsetof(rf_params, repeat_penalty)},
    {"presence_penalty", F32, offsetof(rf_params, presence_penalty)},
    {"frequency_penalty", F32, offsetof(rf_params, frequency_penalty)},
    {"seed", U64, offsetof(rf_params, seed)},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

// ---- in ----------------------------------------------------------------------------------------------------------

static bool read_number(const struct field *f, const json_t *value, rf_params *params, err *e) {
    void *place = (char *)params + f->offset;
    if (f->kind == F32) {
        if (!json_is_number(value)) return fail(e, ERR_USAGE, "'%s' is not a number", f->name);
        *(float *)place = (float)json_number_value(value);
        return true;
    }
    json_int_t most = f->kind == U32 ? UINT32_MAX : INT64_MAX, n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || n > most)
        return fail(e, ERR_USAGE, "'%s' is not a whole number from 0 to %lld", f->name, (long long)most);
    if (f->kind == U32)
        *(uint32_t *)place = (uint32_t)n;
    else
        *(uint64_t *)place = (uint64_t)n;
    return true;
}

static bool read_stop(batch_record *r, json_t *value, rf_params *params, err *e) {
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    r->stops = xcalloc(n + 1, sizeof *r->stops);
    for (size_t i = 0; i < n; i++) {
        const json_t *stop = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(stop)) return fail(e, ERR_USAGE, "'stop' is neither a string nor an array of strings");
        r->stops[i] = json_string_value(stop);
        if (strlen(r->stops[i]) != json_string_length(stop)) return fail(e, ERR_USAGE, "a stop string contains NUL");
    }
    params->stop = r->stops, params->n_stop = n;
    return true;
}

static bool is_of_chat(const char *name) {
    static const char *const names[] = {
        "messages", "tools", "documents", "add_generation_prompt", "chat_template_kwargs", "date"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static bool read_field(batch_record *r, const char *name, json_t *value, rf_params *params, err *e) {
    if (strcmp(name, "id") == 0) // batch_record_read has it already
        return json_is_string(value) || json_is_integer(value) ||
               fail(e, ERR_USAGE, "'id' is neither a string nor a whole number");
    if (strcmp(name, "prompt") == 0) {
        params->prompt = json_string_value(value), params->n_prompt_bytes = json_string_length(value);
        return params->prompt || fail(e, ERR_USAGE, "'prompt' is not a string");
    }
    if (is_of_chat(name)) return json_object_set(r->chat, name, value) == 0; // the chat template checks them
    if (strcmp(name, "stop") == 0) return read_stop(r, value, params, e);
    for (size_t i = 0; i < N_FIELDS; i++)
        if (strcmp(name, FIELDS[i].name) == 0) return read_number(&FIELDS[i], value, params, e);
    return fail(e, ERR_USAGE, "there is no field '%.80s'", name);
}

bool batch_record_read(batch_record *r, const char *line, size_t n_bytes, rf_params *params, err *e) {
    json_error_t error;
    r->root = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!r->root) return fail(e, ERR_FORMAT, "the line is not JSON: %s, at byte %d", error.text, error.position);
    if (!json_is_object(r->root)) return fail(e, ERR_FORMAT, "the line is not a JSON object");
    json_t *id = json_object_get(r->root, "id");
    if (json_is_string(id) || json_is_integer(id)) r->id = id;
    r->chat = json_object();
    const char *name;
    json_t *value;
    json_object_foreach(r->root, name, value) {
        if (!read_field(r, name, value, params, e)) return false;
    }
    bool has_prompt = params->prompt != NULL, has_chat = json_object_size(r->chat) > 0;
    if (has_prompt && has_chat) return fail(e, ERR_USAGE, "there is a 'prompt', and parts of a conversation");
    if (!has_prompt && !has_chat) return fail(e, ERR_USAGE, "the field 'prompt' is missing, and so is 'messages'");
    return true;
}

void batch_record_free(batch_record *r) {
    json_decref(r->root);
    json_decref(r->chat);
    free(r->stops);
    *r = (batch_record){0};
}

// ---- out ---------------------------------------------------------------------------------------------------------

char *batch_record_answer(json_t *id, uint64_t index, const buf *text, json_t *tokens, const rf_event *end) {
    json_t *root = json_object();
    if (id) json_object_set(root, "id", id);
    json_object_set_new(root, "index", json_integer((json_int_t)index));
    if (end->finish == RF_FINISH_ERROR) {
        json_object_set_new(root, "error", cli_json_text(end->error.message, strlen(end->error.message)));
    } else {
        json_object_set_new(root, "text", cli_json_text(text->data ? text->data : "", text->n_bytes));
        if (tokens) json_object_set(root, "tokens", tokens);
    }
    json_object_set_new(root, "finish_reason", json_string(rf_finish_name(end->finish)));
    if (end->finish != RF_FINISH_ERROR)
        json_object_set_new(root, "usage",
                            json_pack("{s:I, s:I}", "prompt_tokens", (json_int_t)end->usage.prompt_tokens,
                                      "completion_tokens", (json_int_t)end->usage.completion_tokens));
    char *json = json_dumps(root, JSON_COMPACT);
    check(json);
    buf line = {0};
    buf_append_str(&line, json);
    buf_append_char(&line, '\n');
    free(json);
    json_decref(root);
    return buf_take(&line);
}

bool batch_record_matches(const char *line, size_t n_bytes, const json_t *id, uint64_t index, bool *failed) {
    json_t *root = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const json_t *kept_id = json_object_get(root, "id"), *kept_index = json_object_get(root, "index");
    const char *finish = json_string_value(json_object_get(root, "finish_reason"));
    bool matches = finish && json_is_integer(kept_index) && (uint64_t)json_integer_value(kept_index) == index &&
                   (id ? json_equal(id, kept_id) : !kept_id);
    *failed = matches && (strcmp(finish, "error") == 0 || strcmp(finish, "timeout") == 0);
    json_decref(root);
    return matches;
}

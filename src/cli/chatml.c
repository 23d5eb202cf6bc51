// Implements chatml.h.
#include "cli/chatml.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

static const char START[] = "<|im_start|>", END[] = "<|im_end|>";

// The characters of a Jinja string literal, or of raw template text (quote 0), up to END. False: what is there is no
// constant message: the literal ends before END, or an expression begins.
static bool read_literal(const char *s, char quote, buf *out) {
    for (; strncmp(s, END, strlen(END)) != 0; s++) {
        if (!*s || (quote && *s == quote) || (!quote && *s == '{')) return false;
        if (!quote || *s != '\\') {
            buf_append_char(out, *s);
            continue;
        }
        s++;
        const char *escape = *s ? strchr("n\nt\t'\'\"\"\\\\", *s) : NULL; // pairs: what is written, what is meant
        if (!escape) return false;
        buf_append_char(out, escape[1]);
    }
    return true;
}

// The constant system message of a template: START, "system", a line end, text, END.
static char *find_default_system(const char *template) {
    for (const char *at = template; (at = strstr(at, START)); at++) {
        char quote = at > template && (at[-1] == '\'' || at[-1] == '"') ? at[-1] : 0;
        buf text = {0};
        bool found = read_literal(at + strlen(START), quote, &text) && strncmp(text.data, "system\n", 7) == 0;
        if (found) buf_drop_front(&text, 7);
        if (found) return buf_take(&text);
        buf_free(&text);
    }
    return NULL;
}

bool chatml_init(chatml *c, const char *template, err *e) {
    // What marks a template that changes contents, speaks of thoughts or begins with more than a message.
    static const char *const MORE[] = {"think>",   "trim",      "strip(", "split(",
                                       "replace(", "bos_token", "{% set", "{%- set"};
    if (!template || !strstr(template, START))
        return fail(e, ERR_UNSUPPORTED, "the model's chat template is not ChatML, the only one chat can write so far");
    for (size_t i = 0; i < sizeof MORE / sizeof *MORE; i++)
        if (strstr(template, MORE[i]))
            return fail(e, ERR_UNSUPPORTED, "the model's chat template does more than plain ChatML ('%s')", MORE[i]);
    c->default_system = find_default_system(template);
    return true;
}

void chatml_free(chatml *c) { free(c->default_system); }

static void render_message(const char *role, const char *content, size_t n_bytes, chatml_emit *emit, void *arg) {
    buf text = {0};
    buf_printf(&text, "%s\n", role);
    buf_append(&text, content, n_bytes);
    emit(arg, START, strlen(START), true);
    emit(arg, text.data, text.n_bytes, false); // at once: tokens may cross the line end
    emit(arg, END, strlen(END), true);
    emit(arg, "\n", 1, false);
    buf_free(&text);
}

static const char *string_at(const json_t *message, const char *key) {
    return json_string_value(json_object_get(message, key));
}

void chatml_render(const chatml *c, const json_t *messages, chatml_emit *emit, void *arg) {
    const char *first = string_at(json_array_get(messages, 0), "role");
    if (c->default_system && first && strcmp(first, "system") != 0)
        render_message("system", c->default_system, strlen(c->default_system), emit, arg);
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message) {
        const json_t *content = json_object_get(message, "content");
        render_message(string_at(message, "role"), json_string_value(content), json_string_length(content), emit, arg);
    }
    emit(arg, START, strlen(START), true);
    emit(arg, "assistant\n", strlen("assistant\n"), false);
}

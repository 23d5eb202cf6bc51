// Renders templates for tests: a line of JSON in, a line of JSON out.
//
//     in    {"template": text, "vars": {name: value}, "trusted": [names that are no data]?, "now": seconds since 1970?,
//            "fuel"?, "memory"?, "output"?, "depth"?}
//     out   {"text": text, "data": [[start, end], ...]} or {"error": sentence, "code": number}
#include "text/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_trusted(const json_t *names, const char *name) {
    size_t i;
    json_t *one;
    json_array_foreach(names, i, one) if (strcmp(json_string_value(one), name) == 0) return true;
    return false;
}

static uint64_t number(const json_t *in, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(in, key));
}

static bool render(json_t *in, jinja_text *out, err *e) {
    static const char *const roles[] = {"system", "user", "assistant", "tool", NULL};
    json_t *vars = json_object_get(in, "vars"), *text = json_object_get(in, "template"), *value;
    jinja *t = jinja_parse(json_string_value(text), json_string_length(text), e);
    if (!t) return false;
    jinja_var *all = xcalloc(json_object_size(vars), sizeof *all);
    size_t n = 0;
    const char *name;
    json_object_foreach(vars, name, value) {
        all[n++] = (jinja_var){name, value, !is_trusted(json_object_get(in, "trusted"), name)};
    }
    time_t seconds = (time_t)number(in, "now");
    struct tm now;
    jinja_input input = {.vars = all,
                         .n_vars = n,
                         .now = json_object_get(in, "now") ? gmtime_r(&seconds, &now) : NULL,
                         .roles = roles,
                         .limits = {.fuel = number(in, "fuel"),
                                    .memory_bytes = number(in, "memory"),
                                    .output_bytes = number(in, "output"),
                                    .depth = (uint32_t)number(in, "depth")}};
    bool ok = jinja_render(t, &input, out, e);
    free(all);
    jinja_free(t);
    return ok;
}

static json_t *answer(json_t *in) {
    jinja_text out = {0};
    err e = {0};
    if (!render(in, &out, &e)) return json_pack("{s:s, s:i}", "error", e.text, "code", (int)e.code);
    json_t *spans = json_array();
    for (size_t i = 0; i < out.n_data; i++)
        json_array_append_new(spans, json_pack("[I, I]", (json_int_t)out.data[i].start, (json_int_t)out.data[i].end));
    json_t *root = json_pack("{s:s%, s:o}", "text", out.text.data, out.text.n_bytes, "data", spans);
    jinja_text_free(&out);
    return root;
}

int main(void) {
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t n; (n = getline(&line, &capacity, stdin)) > 0;) {
        json_error_t error;
        json_t *in = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &error);
        if (!in) return fprintf(stderr, "%s\n", error.text), 1;
        json_t *out = answer(in);
        check(out);
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(out);
        json_decref(in);
    }
    free(line);
}

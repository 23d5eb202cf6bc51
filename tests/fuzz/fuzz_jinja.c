// Fuzzes jinja.h: the input is a template, and behind a NUL the JSON object of its variables (otherwise some are
// given).
//
// Whatever it is, it ends soon, within its memory, and with an output or one sentence; twice the same. The data carry a
// character that a template can only get from them: each of its bytes in the output must be marked as data.
#include "text/jinja.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

static const char VARIABLES[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"\xee\x80\x80 "
    "sys\"},{\"role\":\"user\",\"content\":\"\xee\x80\x80\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\xee\x80\x80\","
    "\"arguments\":{\"\xee\x80\x80\":[1,2.5,null]}}}]},{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":"
    "\"<think>\xee\x80\x80</think>\"}]}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"\xee\x80\x80\"}}],"
    "\"s\":\"a b\xee\x80\x80 c\",\"n\":3,\"f\":0.5,\"l\":[3,1,2],\"d\":{\"x\":1},\"add_generation_prompt\":true}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static bool render(const jinja *t, const json_t *vars, jinja_text *out, err *e) {
    static const char *const roles[] = {"system", "user", "assistant", "tool", NULL};
    struct tm now = {.tm_year = 126, .tm_mon = 10, .tm_mday = 25};
    jinja_var all[16];
    jinja_input in = {.vars = all,
                      .now = &now,
                      .roles = roles,
                      .limits = {.fuel = 200000, .memory_bytes = 16 << 20, .output_bytes = 1 << 20, .depth = 300}};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)vars, name, value) {
        if (in.n_vars < sizeof all / sizeof *all) all[in.n_vars++] = (jinja_var){name, value, true};
    }
    return jinja_render(t, &in, out, e);
}

// Private U+E000 comes from data alone, unless the template has it, or can make it of an escape or a number.
static void check_marks(const char *template, size_t n_bytes, const jinja_text *out) {
    bool makes = memchr(template, 0xee, n_bytes) || memchr(template, '\\', n_bytes) ||
                 memmem(template, n_bytes, "c'", 2) || memmem(template, n_bytes, "c\"", 2); // '%c' of a number
    size_t at = 0, span = 0;
    for (size_t i = 0; i < out->n_data; i++) {
        check(out->data[i].start >= at && out->data[i].start < out->data[i].end &&
              out->data[i].end <= out->text.n_bytes);
        at = out->data[i].end;
    }
    for (size_t i = 0; !makes && i < out->text.n_bytes; i++) {
        while (span < out->n_data && out->data[span].end <= i) span++;
        bool marked = span < out->n_data && out->data[span].start <= i;
        check(marked || (unsigned char)out->text.data[i] != 0xee);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    const uint8_t *end = memchr(data, 0, n_bytes);
    size_t n_template = end ? (size_t)(end - data) : n_bytes, n_vars = end ? n_bytes - n_template - 1 : 0;
    const char *template = (const char *)data;
    json_t *vars =
        n_vars ? json_loadb(template + n_template + 1, n_vars, JSON_ALLOW_NUL, NULL) : json_loads(VARIABLES, 0, NULL);
    err e = {0};
    jinja *t = jinja_parse(template, n_template, &e);
    check(t || e.code);
    if (t && json_is_object(vars)) {
        jinja_text first = {0}, second = {0};
        err e_first = {0}, e_second = {0};
        bool ok = render(t, vars, &first, &e_first);
        check(ok == render(t, vars, &second, &e_second) && ok == (e_first.code == ERR_NONE));
        check(first.text.n_bytes == second.text.n_bytes && strcmp(e_first.text, e_second.text) == 0);
        if (ok) {
            check(utf8_validate(first.text.data, first.text.n_bytes) == first.text.n_bytes);
            if (!n_vars) check_marks(template, n_template, &first);
        }
        check(utf8_validate(e_first.text, strlen(e_first.text)) == strlen(e_first.text));
        jinja_text_free(&first);
        jinja_text_free(&second);
    }
    jinja_free(t);
    json_decref(vars);
    return 0;
}

// Implements jinja.h: sets a run up, and takes down what it leaves.
#include "text/jinja.h"

#include "text/jinja_eval.h"
#include "text/utf8.h"

#include <locale.h>
#include <stdlib.h>

enum { MAX_TEMPLATE_BYTES = 1 << 20, PARSE_DEPTH = 150 };

static const jinja_limits DEFAULTS = {
    .fuel = 20000000, .memory_bytes = (size_t)256 << 20, .output_bytes = (size_t)16 << 20, .depth = 800};

// Numbers are read and written, and times too, as the C locale does, whatever the program's is.
typedef struct locales {
    locale_t c, before;
} locales;

static bool locale_enter(locales *l, err *e) {
    *l = (locales){.c = newlocale(LC_ALL_MASK, "C", NULL)};
    if (!l->c) return fail(e, ERR_MEMORY, "cannot make a locale for chat templates");
    l->before = uselocale(l->c);
    return true;
}

static void locale_leave(locales *l) {
    uselocale(l->before);
    freelocale(l->c);
}

// ---- parsing -----------------------------------------------------------------------------------------------------

static bool parse(run *r, const char *text, size_t n_bytes, jinja **program) {
    lexeme *tokens;
    size_t n;
    jinja *t = run_take(r, 1, sizeof *t);
    if (!t || !jinja_lex(r, text, n_bytes, &tokens, &n) || !jinja_parse_tokens(r, tokens, n, t)) return false;
    t->memory = r->memory;
    *program = t;
    return true;
}

jinja *jinja_parse(const char *text, size_t n_bytes, err *e) {
    err failure = {0};
    jinja *program = NULL;
    locales l;
    size_t n_valid = utf8_validate(text, n_bytes);
    if (n_bytes > MAX_TEMPLATE_BYTES)
        return fail_null(e, ERR_TOO_LONG, "chat template: more than %d bytes", MAX_TEMPLATE_BYTES);
    if (n_valid < n_bytes) return fail_null(e, ERR_FORMAT, "chat template: not UTF-8 at byte %zu", n_valid);
    if (memchr(text, '\0', n_bytes)) return fail_null(e, ERR_FORMAT, "chat template: a NUL byte");
    if (!locale_enter(&l, e)) return NULL;
    run r = {.fuel = UINT64_MAX, .max_depth = PARSE_DEPTH, .line = 1, .e = &failure};
    // A token takes a byte at least, and becomes a few nodes of 128 bytes; pages that are not used cost nothing.
    bool ok =
        arena_init(&r.memory, 2048 * (n_bytes + 64), "a chat template", &failure) && parse(&r, text, n_bytes, &program);
    if (!ok) arena_free(&r.memory);
    locale_leave(&l);
    return ok ? program : fail_null(e, failure.code, "%s", failure.text);
}

void jinja_free(jinja *t) {
    if (!t) return;
    arena memory = t->memory; // the program lives in it
    arena_free(&memory);
}

// ---- rendering ---------------------------------------------------------------------------------------------------

static bool set_up(run *r, const jinja *t, const jinja_input *in) {
    scope *s = scope_new(r, NULL);
    if (!s || !(s->all = run_take(r, t->n_names, sizeof *s->all))) return false;
    r->scope = s;
    for (uint32_t i = 0; i < t->n_names; i++) {
        const builtin *row = function_find(t->names[i]);
        if (!row || (!in->now && string_is(t->names[i], "strftime_now"))) continue;
        bound *b = run_take(r, 1, sizeof *b);
        if (!b) return false;
        *b = (bound){.what = row};
        s->all[i] = (value){.kind = V_BUILTIN, .bound = b};
    }
    for (size_t v = 0; v < in->n_vars; v++)
        for (uint32_t i = 0; i < t->n_names; i++) {
            const jinja_var *var = &in->vars[v];
            if (string_is(t->names[i], var->name) && !value_from_json(r, var->value, var->is_data, &s->all[i]))
                return false;
        }
    return true;
}

static void hand_out(const text *rendered, jinja_text *out) {
    size_t n = 0, n_spans = 0, capacity = 0;
    buf_append(&out->text, rendered->data, rendered->n_bytes);
    if (!rendered->marks) return;
    for (size_t at = 0; at < rendered->n_bytes; at += n) {
        bool is_data = rendered->marks[at];
        for (n = 1; at + n < rendered->n_bytes && (bool)rendered->marks[at + n] == is_data;) n++;
        if (!is_data) continue;
        if (n_spans == capacity) out->data = xrealloc(out->data, (capacity = 2 * capacity + 16) * sizeof *out->data);
        out->data[n_spans++] = (text_span){at, at + n};
    }
    out->n_data = n_spans;
}

static bool render(run *r, const jinja *t, const jinja_input *in, size_t max_bytes, jinja_text *out) {
    text rendered = {.max_bytes = max_bytes};
    r->out = &rendered;
    if (!set_up(r, t, in) || !exec(r, t->body)) return false;
    hand_out(&rendered, out);
    return true;
}

bool jinja_render(const jinja *t, const jinja_input *in, jinja_text *out, err *e) {
    err failure = {0};
    locales l;
    jinja_limits most = in->limits;
    if (!most.fuel) most.fuel = DEFAULTS.fuel;
    if (!most.memory_bytes) most.memory_bytes = DEFAULTS.memory_bytes;
    if (!most.output_bytes) most.output_bytes = DEFAULTS.output_bytes;
    if (!most.depth) most.depth = DEFAULTS.depth;
    if (!locale_enter(&l, e)) return false;
    run r = {.program = t,
             .fuel = most.fuel,
             .max_depth = most.depth,
             .line = 1,
             .e = &failure,
             .now = in->now,
             .roles = in->roles,
             .captured = VALUE_NONE};
    bool ok = arena_init(&r.memory, most.memory_bytes, "a chat template", &failure) &&
              render(&r, t, in, most.output_bytes, out);
    arena_free(&r.memory);
    locale_leave(&l);
    return ok || fail(e, failure.code, "%s", failure.text);
}

void jinja_text_free(jinja_text *t) {
    buf_free(&t->text);
    free(t->data);
    *t = (jinja_text){0};
}

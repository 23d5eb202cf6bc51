// Tests jinja.h: templates of real models against what Python's jinja2 made of them (tests/data/templates), errors,
// limits that hold against hostile templates, and which bytes of the output are data.
#include "unit.h"

#include "text/jinja.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *json_of(const char *text) {
    json_error_t error;
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json) fail_msg("%s in %s", error.text, text);
    return json;
}

static bool render(const char *text, size_t n_bytes, const json_t *vars, bool is_data, const jinja_limits *limits,
                   jinja_text *out, err *e) {
    static const char *const roles[] = {"user", "assistant", NULL};
    jinja *t = jinja_parse(text, n_bytes, e);
    if (!t) return false;
    jinja_var *all = calloc(json_object_size(vars) + 1, sizeof *all);
    struct tm now = {
        .tm_year = 124, .tm_mon = 10, .tm_mday = 25, .tm_hour = 13, .tm_min = 45, .tm_wday = 1, .tm_yday = 329};
    jinja_input in = {.vars = all, .now = &now, .roles = roles, .limits = *limits};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)vars, name, value) { all[in.n_vars++] = (jinja_var){name, value, is_data}; }
    bool ok = jinja_render(t, &in, out, e);
    free(all);
    jinja_free(t);
    return ok;
}

static const jinja_limits USUAL;

static void expect(const char *template, const char *vars, const char *wanted) {
    jinja_text out = {0};
    err e = {0};
    json_t *json = json_of(vars);
    if (!render(template, strlen(template), json, true, &USUAL, &out, &e)) fail_msg("%s: %s", template, e.text);
    assert_string_equal(out.text.data, wanted);
    jinja_text_free(&out);
    json_decref(json);
}

static void expect_error(const char *template, const char *vars, err_code code, const char *sentence) {
    jinja_text out = {0};
    err e = {0};
    json_t *json = json_of(vars);
    assert_false(render(template, strlen(template), json, true, &USUAL, &out, &e));
    assert_string_equal(e.text, sentence);
    assert_int_equal(e.code, code);
    assert_null(out.text.data);
    json_decref(json);
}

// ---- real templates ----------------------------------------------------------------------------------------------

static json_t *load(const char *name) {
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s/templates/%s", RF_TEST_DATA, name);
    json_t *json = json_load_file(path, 0, &error);
    if (!json) fail_msg("%s: %s", path, error.text);
    return json;
}

static char *read_template(const char *name, size_t *n_bytes) {
    char path[512], *text = malloc(1 << 16);
    snprintf(path, sizeof path, "%s/templates/%s.jinja", RF_TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    *n_bytes = fread(text, 1, 1 << 16, f);
    fclose(f);
    return text;
}

// A conversation with the variables that every template gets.
static json_t *with_always(json_t *conversation) {
    json_t *all = json_of("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tools\": null, \"documents\": null, "
                          "\"add_generation_prompt\": true}");
    json_object_update(all, conversation);
    return all;
}

static void real_templates_equal_jinja2(void **state) {
    (void)state;
    json_t *conversations = load("conversations.json"), *expected = load("expected.json"), *texts, *conversation;
    const char *name, *title;
    size_t n_cases = 0;
    json_object_foreach(expected, name, texts) {
        size_t n_bytes, i = 0;
        char *template = read_template(name, &n_bytes);
        json_object_foreach(conversations, title, conversation) {
            jinja_text out = {0};
            err e = {0};
            json_t *vars = with_always(conversation);
            const char *wanted = json_string_value(json_array_get(texts, i++));
            bool ok = render(template, n_bytes, vars, true, &USUAL, &out, &e);
            if (ok != (wanted != NULL)) fail_msg("%s, '%s': %s", name, title, ok ? "no error" : e.text);
            if (ok) assert_string_equal(out.text.data, wanted);
            jinja_text_free(&out);
            json_decref(vars);
            n_cases++;
        }
        assert_int_equal(i, json_array_size(texts));
        free(template);
    }
    assert_true(n_cases >= 21 * 26);
    json_decref(conversations), json_decref(expected);
}

// ---- the language ------------------------------------------------------------------------------------------------

static void language(void **state) {
    (void)state;
    expect(
        "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}-{% endfor %}",
        "{\"l\": [3, 1, 2]}", "1/2,2/2");
    expect("{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ m(1) }}{{ m(b=3, a=4) }}"
           "{% call m(5) %}!{% endcall %}",
           "{}", "124352!");
    expect("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = "
           "ns.n + i %}"
           "{% endfor %}{{ ns.n }}",
           "{}", "3");
    expect("{{ 7 // -2 }} {{ 7 % -2 }} {{ 2 ** 10 }} {{ 1 / 4 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1 < 2 < 3 }}", "{}",
           "-4 -1 1024 0.25 1e+16 0.30000000000000004 True");
    expect("{{ d }} {{ d.items() | list }} {{ [none, true, 1.0, 'é\\n', \"it's\"] }}", "{\"d\": {\"a\": [1, null]}}",
           "{'a': [1, None]} [('a', [1, None])] [None, True, 1.0, 'é\\n', \"it's\"]");
    expect("{{ d | tojson }}{{ d | tojson(indent=1) }}", "{\"d\": {\"a\": \"<é\\u0001>\"}}",
           "{\"a\": \"<é\\u0001>\"}{\n \"a\": \"<é\\u0001>\"\n}");
    expect("{{ 'ß Σ ΑΣ' | upper }} {{ 'ΑΣ' | lower }} {{ \"they're ok\".title() }} {{ \"they're ok\" | title }}", "{}",
           "SS Σ ΑΣ ας They'Re Ok They're Ok");
    expect("a\n  {% if true %}\n b\n  {%- endif %}\n {{- 1 -}}\n c{# x #}\n d {%+ if true %}e{% endif +%}\n\n", "{}",
           "a\n b1c d e\n");
    expect("{{ strftime_now('%d %b %Y %H:%M') }}", "{}", "25 Nov 2024 13:45");
    expect("{{ missing }}|{{ missing is defined }}|{{ {}.x | default('d') }}", "{}", "|False|d");
    expect("", "{}", "");
}

static void errors(void **state) {
    (void)state;
    expect_error("\n\n{{ raise_exception('Roles must ' ~ what) }}", "{\"what\": \"alternate\"}", ERR_USAGE,
                 "chat template, line 3: Roles must alternate");
    expect_error("a\n{% if m.role.x == 1 %}{% endif %}", "{\"m\": {}}", ERR_FORMAT,
                 "chat template, line 2: dict has no attribute 'role'");
    expect_error("{{ x + 1 }}", "{}", ERR_FORMAT, "chat template, line 1: 'x' is undefined");
    expect_error("{{ 1 + 'a' }}", "{}", ERR_FORMAT, "chat template, line 1: '+' does not work on a int and a str");
    expect_error("\n{% if x %}\n", "{}", ERR_FORMAT,
                 "chat template, line 2: unexpected the end of the template instead of elif");
    expect_error("{{ 1 | nothing }}", "{}", ERR_FORMAT, "chat template, line 1: there is no filter 'nothing'");
    expect_error("{{ [].append(1) }}", "{}", ERR_FORMAT,
                 "chat template, line 1: access to attribute 'append' of a list is unsafe");
    expect_error("{% include 'x' %}", "{}", ERR_UNSUPPORTED, "chat template, line 1: 'include' is not supported");
    expect_error("\xff", "{}", ERR_FORMAT, "chat template: not UTF-8 at byte 0");
    expect_error("{{ 9223372036854775807 + 1 }}", "{}", ERR_UNSUPPORTED,
                 "chat template, line 1: an integer of more than 64 bits");
    char wide[400] = "{{ raise_exception('"; // cut where the err is full, between characters
    for (int i = 0; i < 150; i++) strcat(wide, "é");
    jinja_text out = {0};
    err e = {0};
    strcat(wide, "') }}");
    assert_false(render(wide, strlen(wide), NULL, false, &USUAL, &out, &e));
    assert_string_equal(e.text + strlen(e.text) - 2, "é");
}

// ---- limits ------------------------------------------------------------------------------------------------------

static void expect_limit(const char *template, const char *sentence) {
    jinja_text out = {0};
    err e = {0};
    assert_false(render(template, strlen(template), NULL, false, &USUAL, &out, &e));
    if (e.code != ERR_TOO_LONG || !strstr(e.text, sentence)) fail_msg("%.60s: %s", template, e.text);
}

static char *repeated(const char *before, const char *what, size_t n, const char *after) {
    buf b = {0};
    buf_append_str(&b, before);
    for (size_t i = 0; i < n; i++) buf_append_str(&b, what);
    buf_append_str(&b, after);
    return buf_take(&b);
}

static void limits_hold(void **state) {
    (void)state;
    static const char *const nested[][4] = {
        {"{{ ", "(", "1 }}", "open brackets"},  {"{{ ", "-", "1 }}", "levels deep"},
        {"{{ ", "not ", "1 }}", "levels deep"}, {"{{ ", "[", "1 }}", "open brackets"},
        {"", "{% if 1 %}", "", "levels deep"},  {"{{ ", "1 if 1 else ", "1 }}", "levels deep"},
        {"{{ 1", " + 1", " }}", "levels deep"}, {"{{ 'x'", "|trim", " }}", "levels deep"},
        {"{{ x", ".a", " }}", "levels deep"},   {"{% for ", "(", "a in b %}", "open brackets"},
    };
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        char *template = repeated(nested[i][0], nested[i][1], 60000, nested[i][2]);
        expect_limit(template, nested[i][3]);
        free(template);
    }
    expect_limit("{% for i in range(1000000000) %}{% endfor %}", "a range of more than 100000 numbers");
    expect_limit("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "more ");
    expect_limit("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "levels deep");
    expect_limit("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "levels deep");
    expect_limit("{{ 'abcdefgh' * 1000000000 }}", "more ");
    expect_limit("{{ [1, 2] * 1000000000 }}", "more ");
    expect_limit("{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
                 "memory");
    expect_limit(
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "more output than");
    expect_limit("{% set s = 'ab' * 100000 %}{% for i in range(1000) %}{{ s }}{% endfor %}",
                 "more output than 16777216");
    expect_limit("{{ 'a'.center(1000000000) }}", "more work");
    expect_limit("{{ 'x' | indent(1000000000) }}", "more ");
    expect_limit("{{ 'x'.zfill(100000000000) }}", "more work");
    expect_limit("{{ '%99999d' % 1 }}", "wider than");
    expect_limit("{{ [1] | batch(1000000000000, 0) | list }}", "more ");
    expect_limit("{{ [1] | slice(1000000000000) | list }}", "more ");
}

// A value that a loop has nested deeper than any stack is.
static void deep_values_are_refused(void **state) {
    (void)state;
    static const char *const uses[] = {"{{ ns.v }}",
                                       "{{ ns.v | tojson }}",
                                       "{{ ns.v == ns.w }}",
                                       "{{ ns.v < ns.w }}",
                                       "{{ {ns.v: 1} }}",
                                       "{{ ns.v in [ns.w] }}",
                                       "{{ [ns.v] | sort }}{{ [ns.v, ns.w] | sort }}",
                                       "{{ [ns.v] | unique | list }}"};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        bool tuple = strstr(uses[i], "unique") || strstr(uses[i], "{ns.v");
        char template[400];
        snprintf(template, sizeof template,
                 "{%% set ns = namespace(v=[], w=[]) %%}{%% for i in range(50000) %%}{%% set ns.v = %s %%}"
                 "{%% set ns.w = %s %%}{%% endfor %%}%s",
                 tuple ? "(ns.v,)" : "[ns.v]", tuple ? "(ns.w,)" : "[ns.w]", uses[i]);
        expect_limit(template, "levels deep");
    }
}

static void limits_are_the_callers(void **state) {
    (void)state;
    const struct {
        jinja_limits limits;
        const char *template;
        bool ok;
    } rows[] = {
        {{.fuel = 200}, "{% for i in range(10) %}{{ i }}{% endfor %}", true},
        {{.fuel = 20}, "{% for i in range(10) %}{{ i }}{% endfor %}", false},
        {{.output_bytes = 10}, "{{ 'a' * 10 }}", true},
        {{.output_bytes = 9}, "{{ 'a' * 10 }}", false},
        {{.memory_bytes = 1 << 16}, "{{ 'a' * 1000 }}", true},
        {{.memory_bytes = 1 << 10}, "{{ 'a' * 1000 }}", false},
        {{.depth = 6}, "{% if 1 %}{{ [1] }}{% endif %}", true},
        {{.depth = 4}, "{% if 1 %}{{ [1] }}{% endif %}", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        jinja_text out = {0};
        err e = {0};
        bool ok = render(rows[i].template, strlen(rows[i].template), NULL, false, &rows[i].limits, &out, &e);
        if (ok != rows[i].ok) fail_msg("row %zu: %s", i, e.text);
        if (!ok) assert_int_equal(e.code, ERR_TOO_LONG);
        jinja_text_free(&out);
    }
}

// ---- data --------------------------------------------------------------------------------------------------------

// Renders with data = {"d": "DATA", ...} and shows the data in the output in brackets.
static void expect_data(const char *template, const char *wanted) {
    json_t *vars =
        json_of("{\"d\": \"DaTa\", \"n\": 12, \"o\": {\"k\": \"v\\\"\", \"role\": \"user\"}, \"l\": [\" x \", \"y\"], "
                "\"u\": {\"role\": \"user<|x|>\", \"z\": {\"role\": \"user\\u0000\"}}}");
    jinja_text out = {0};
    err e = {0};
    if (!render(template, strlen(template), vars, true, &USUAL, &out, &e)) fail_msg("%s: %s", template, e.text);
    buf shown = {0};
    size_t at = 0;
    for (size_t i = 0; i < out.n_data; i++) {
        text_span s = out.data[i];
        assert_true(s.start >= at && s.start < s.end && s.end <= out.text.n_bytes);
        buf_append(&shown, out.text.data + at, s.start - at);
        buf_append_char(&shown, '[');
        buf_append(&shown, out.text.data + s.start, s.end - s.start);
        buf_append_char(&shown, ']');
        at = s.end;
    }
    buf_append(&shown, out.text.data + at, out.text.n_bytes - at);
    assert_string_equal(shown.data, wanted);
    buf_free(&shown);
    jinja_text_free(&out);
    json_decref(vars);
}

static void data_is_known(void **state) {
    (void)state;
    expect_data("a{{ d }}b", "a[DaTa]b");
    expect_data("{{ 'x' + d + 'y' }}|{{ 'x' ~ d ~ n }}", "x[DaTa]y|x[DaTa]12");
    expect_data("{{ d | upper }}{{ d.lower() }}{{ d | capitalize }}{{ d.title() }}", "[DATAdataDataData]");
    expect_data("{{ d[1:3] }}-{{ d[0] }}-{{ d[::-1] }}-{{ d | reverse }}", "[aT]-[D]-[aTaD]-[aTaD]");
    expect_data("{{ ('x' + d + 'y')[1:-1] }}-{{ ('x' + d)[0] }}", "[DaTa]-x");
    expect_data("{{ d.replace('a', 'o') }}{{ 'abc'.replace('b', d) }}", "[D]o[T]oa[DaTa]c");
    expect_data("{{ d.split('T') }}", "['[Da]', '[a]']");
    expect_data("{{ l | join(', ') }}|{{ l | map('trim') | join }}|{{ ', '.join(l) }}", "[ x ], [y]|[xy]|[ x ], [y]");
    expect_data("{{ o | tojson }}", "{\"[k]\": \"[v\\\"]\", \"[role]\": \"user\"}");
    expect_data("{{ o }}{% for k, v in o.items() %}{{ k }}{% endfor %}", "{'[k]': '[v\"]', '[role]': 'user'}[krole]");
    expect_data("{{ '%s:%5s' % (d, n) }}{{ '{}'.format(d) }}{{ 'x%s' | format(d) }}", "[DaTa]:   12[DaTa]x[DaTa]");
    expect_data("{{ d * 2 }}{{ d | string }}{{ d | list }}", "[DaTaDaTaDaTa]['[D]', '[a]', '[T]', '[a]']");
    expect_data("{% set x %}<{{ d }}>{% endset %}{{ x }}{% macro m(a) %}({{ a }}){% endmacro %}{{ m(d) }}",
                "<[DaTa]>([DaTa])");
    expect_data("{% filter upper %}a{{ d }}{% endfilter %}{{ d | indent }}{{ d | e }}{{ d | center(6) }}",
                "A[DATADaTaDaTa] [DaTa] ");
    expect_data("{{ '<|' + o.role + '|>' }}", "<|user|>"); // a known role may make a control token
    expect_data("{{ u.role }}{{ u.z.role | length }}", "[user<|x|>]5");
    expect_data("{{ '<|' + u.z.role[:4] + '|>' }}", "<|[user]|>");
    expect_data("{{ n }}{{ true }}{{ d | length }}", "12True4");
}

// ---- threads -----------------------------------------------------------------------------------------------------

static void *render_often(void *program) {
    json_t *m = json_of("[{\"role\": \"user\", \"content\": \"hi\"}]");
    for (int i = 0; i < 200; i++) {
        jinja_text out = {0};
        err e = {0};
        jinja_var var = {"m", m, true};
        jinja_input in = {.vars = &var, .n_vars = 1, .limits = {.memory_bytes = 1 << 16}};
        check(jinja_render(program, &in, &out, &e) && strcmp(out.text.data, "1 user:HI;") == 0);
        jinja_text_free(&out);
    }
    json_decref(m);
    return NULL;
}

static void threads_share_a_program(void **state) {
    (void)state;
    static const char text[] = "{% for x in m %}{{ loop.length }} {{ x.role }}:{{ x.content | upper }};{% endfor %}";
    err e = {0};
    jinja *program = jinja_parse(text, strlen(text), &e);
    assert_non_null(program);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, render_often, program);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    jinja_free(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_templates_equal_jinja2),
        cmocka_unit_test(language),
        cmocka_unit_test(errors),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(deep_values_are_refused),
        cmocka_unit_test(limits_are_the_callers),
        cmocka_unit_test(data_is_known),
        cmocka_unit_test(threads_share_a_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Implements what all builtins share (jinja_builtin.h): arguments find their parameters.
#include "text/jinja_builtin.h"

const builtin *builtin_find(const builtin *rows, const string *name) {
    for (; rows->name; rows++)
        if (name->n_bytes && rows->name[0] == name->data[0] && string_is(name, rows->name)) return rows;
    return NULL;
}

static size_t count_params(const builtin *b) {
    size_t n = 0;
    while (n < MAX_PARAMS && b->params[n]) n++;
    return n;
}

static bool bind_named(run *r, const builtin *b, const named *arg, size_t n_params, value *bound) {
    for (size_t i = 0; i < n_params; i++) {
        if (!string_is(arg->name, b->params[i])) continue;
        if (is_given(&bound[i]))
            return run_fail(r, ERR_FORMAT, "'%s' is given two values for '%s'", b->name, b->params[i]);
        return bound[i] = arg->value, true;
    }
    int n_shown = arg->name->n_bytes < 60 ? (int)arg->name->n_bytes : 60;
    return run_fail(r, ERR_FORMAT, "'%s' has no parameter '%.*s'", b->name, n_shown, arg->name->data);
}

bool builtin_run(run *r, const builtin *b, const value *self, const args *a, value *out) {
    if (!b->call) return run_fail(r, ERR_UNSUPPORTED, "'%s' is not supported", b->name);
    if (b->n_required == ANY) return b->call(r, self, a, out);
    value bound[MAX_PARAMS] = {{.kind = V_MISSING}};
    size_t n_params = count_params(b);
    if (a->n > n_params) return run_fail(r, ERR_FORMAT, "'%s' takes at most %zu arguments", b->name, n_params);
    for (size_t i = 0; i < a->n; i++) bound[i] = a->v[i];
    for (size_t i = 0; i < a->n_named; i++)
        if (!bind_named(r, b, &a->named[i], n_params, bound)) return false;
    for (size_t i = 0; i < b->n_required; i++)
        if (!is_given(&bound[i])) return run_fail(r, ERR_FORMAT, "'%s' needs '%s'", b->name, b->params[i]);
    args all = {.v = bound, .n = n_params};
    return b->call(r, self, &all, out);
}

bool want_string(run *r, const value *v, const char *what, const string **s) {
    if (v->kind == V_UNDEFINED) return value_fail_undefined(r, v);
    if (v->kind != V_STRING) return run_fail(r, ERR_FORMAT, "%s must be a str, not a %s", what, value_type(v));
    return *s = v->s, true;
}

bool want_int(run *r, const value *v, const char *what, int64_t *i) {
    if (v->kind == V_UNDEFINED) return value_fail_undefined(r, v);
    if (!value_is_int(v)) return run_fail(r, ERR_FORMAT, "%s must be an int, not a %s", what, value_type(v));
    return *i = value_to_int(v), true;
}

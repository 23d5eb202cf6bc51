// Implements jinja_eval.h: walks the tree. One function per kind of node, found by table; each expression or statement
// costs one unit of fuel and one level of depth while it lasts.
#include "text/jinja_eval.h"

typedef struct macro {
    const node *node; // N_MACRO
    scope *around;    // where it was defined: its names are looked for there when it is called
} macro;

typedef struct loop {
    const node *node; // N_FOR
    cursor source;
    items seen; // what the source has given so far and the condition let pass; loop.last looks one ahead
    bool ended;
    size_t index0;
    size_t depth0;
    scope *around;
    value changed; // what loop.changed was last given
} loop;

enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE }; // run.flow

static bool eval(run *r, const node *n, value *out);

// ---- scopes ------------------------------------------------------------------------------------------------------

scope *scope_new(run *r, scope *parent) {
    scope *s = run_take(r, 1, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

static bool scope_set(run *r, scope *s, uint32_t name, value v) {
    if (s->all) return s->all[name] = v, true;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->bindings[i].name == name) return s->bindings[i].value = v, true;
    if (!run_spend(r, s->n / 4)) return false;
    if (s->n == s->capacity) {
        uint32_t capacity = s->capacity ? 2 * s->capacity : 2;
        binding *more = run_take(r, capacity, sizeof *more);
        if (!more) return false;
        if (s->n) memcpy(more, s->bindings, s->n * sizeof *more);
        s->bindings = more, s->capacity = capacity;
    }
    s->bindings[s->n++] = (binding){name, v};
    return true;
}

static bool find_name(run *r, uint32_t name, value *out) {
    for (const scope *s = r->scope; s; s = s->parent) {
        if (s->all && s->all[name].kind != V_MISSING) return *out = s->all[name], true;
        for (uint32_t i = 0; i < s->n; i++)
            if (s->bindings[i].name == name) return *out = s->bindings[i].value, true;
        if (!run_spend(r, s->n / 4)) return false;
    }
    return value_absent(r, NULL, value_string(r->program->names[name]), out);
}

// Runs a body in a scope of its own.
static bool exec_inside(run *r, const node *body) {
    scope *before = r->scope, *inside = scope_new(r, before);
    if (!inside) return false;
    r->scope = inside;
    bool ok = exec(r, body);
    r->scope = before;
    return ok;
}

// ---- targets -----------------------------------------------------------------------------------------------------

static bool assign(run *r, const node *target, value v);

static bool unpack(run *r, const node *target, const value *v) {
    const value *all;
    size_t n;
    if (!value_collect(r, v, &all, &n)) return false;
    if (n != target->n_kids) return run_fail(r, ERR_FORMAT, "%zu values for %u names", n, target->n_kids);
    for (size_t i = 0; i < n; i++)
        if (!assign(r, target->kids[i], all[i])) return false;
    return true;
}

static bool assign(run *r, const node *target, value v) {
    if (target->kind == N_NAME) return scope_set(r, r->scope, target->name, v);
    if (target->kind == N_TUPLE) return unpack(r, target, &v);
    value ns;
    const string *attribute = target->constant.s;
    if (!find_name(r, target->name, &ns)) return false;
    if (ns.kind != V_NAMESPACE) return run_fail(r, ERR_FORMAT, "an attribute can be set on a namespace only");
    if (attribute->data[0] == '_') return run_fail(r, ERR_FORMAT, "a namespace has no attributes that begin with '_'");
    return dict_put(r, ns.d, target->constant, v);
}

// ---- calls -------------------------------------------------------------------------------------------------------

// Runs a body into a text of its own.
static bool capture(run *r, const node *body, value *out) {
    struct text t = {0}, *before = r->out;
    r->out = &t;
    bool ok = exec(r, body);
    r->out = before;
    return ok && text_take(r, &t, out);
}

typedef struct arguments { // under construction
    items positional;
    named *named;
    size_t n_named, capacity;
} arguments;

static bool add_named(run *r, arguments *a, const string *name, value v) {
    for (size_t i = 0; i < a->n_named; i++)
        if (string_equal(a->named[i].name, name)) return run_fail(r, ERR_FORMAT, "two arguments of one name");
    if (!run_spend(r, a->n_named / 4)) return false;
    if (a->n_named == a->capacity) {
        size_t capacity = a->capacity ? 2 * a->capacity : 4;
        named *more = run_take(r, capacity, sizeof *more);
        if (!more) return false;
        if (a->n_named) memcpy(more, a->named, a->n_named * sizeof *more);
        a->named = more, a->capacity = capacity;
    }
    a->named[a->n_named++] = (named){name, v};
    return true;
}

static bool add_argument(run *r, arguments *a, const node *n) {
    value v;
    if (!eval(r, n->kids[0], &v)) return false;
    if (n->kind == N_NAMED_ARG) return add_named(r, a, n->constant.s, v);
    if (n->op == 0) return items_add(r, &a->positional, v);
    if (n->op == '*') {
        const value *all;
        size_t n_all;
        if (!value_collect(r, &v, &all, &n_all)) return false;
        for (size_t i = 0; i < n_all; i++)
            if (!items_add(r, &a->positional, all[i])) return false;
        return true;
    }
    if (v.kind != V_DICT) return run_fail(r, ERR_FORMAT, "** needs a mapping, not a %s", value_type(&v));
    for (size_t i = 0; i < v.d->n; i++) {
        const pair *p = &v.d->pairs[i];
        if (p->key.kind != V_STRING) return run_fail(r, ERR_FORMAT, "** needs names as keys");
        if (!add_named(r, a, p->key.s, p->value)) return false;
    }
    return true;
}

// The arguments of a call, filter or test: its kids from the second on.
static bool eval_arguments(run *r, const node *n, arguments *a) {
    *a = (arguments){0};
    for (uint32_t i = 1; i < n->n_kids; i++)
        if (!add_argument(r, a, n->kids[i])) return false;
    return true;
}

static args finished(const arguments *a) {
    return (args){.v = a->positional.v, .n = a->positional.n, .named = a->named, .n_named = a->n_named};
}

// The value for a parameter: by place, by name, its default, or undefined.
static bool bind_param(run *r, const node *param, uint32_t place, const args *a, bool *used) {
    const string *name = r->program->names[param->name];
    value v = {.kind = V_MISSING};
    if (place < a->n) v = a->v[place];
    for (size_t i = 0; i < a->n_named; i++) {
        if (used[i] || !string_equal(a->named[i].name, name)) continue;
        if (is_given(&v)) return run_fail(r, ERR_FORMAT, "two values for one parameter of a macro");
        v = a->named[i].value, used[i] = true;
    }
    if (!is_given(&v) && param->kids[0] && !eval(r, param->kids[0], &v)) return false;
    if (!is_given(&v) && !value_undefined(r, "a parameter of a macro was not given", &v)) return false;
    return scope_set(r, r->scope, param->name, v);
}

// varargs, kwargs and caller, for a macro that speaks of them; what is left over otherwise is an error.
static bool bind_rest(run *r, const node *m, uint32_t n_params, const args *a, bool *used) {
    value varargs, kwargs, caller = VALUE_NONE;
    bool extra = a->n > n_params;
    if (extra && !(m->op & USES_VARARGS))
        return run_fail(r, ERR_FORMAT, "a macro takes %u arguments at most", n_params);
    if (!value_list(r, V_TUPLE, extra ? a->v + n_params : NULL, extra ? a->n - n_params : 0, &varargs) ||
        !dict_new(r, V_DICT, &kwargs))
        return false;
    for (size_t i = 0; i < a->n_named; i++) {
        if (used[i]) continue;
        if (m->op & USES_CALLER && string_is(a->named[i].name, "caller"))
            caller = a->named[i].value;
        else if (!(m->op & USES_KWARGS))
            return run_fail(r, ERR_FORMAT, "a macro has no parameter of that name");
        else if (!dict_put(r, kwargs.d, value_string(a->named[i].name), a->named[i].value))
            return false;
    }
    if (caller.kind == V_NONE && !value_undefined(r, "no caller defined", &caller)) return false;
    return (!(m->op & USES_VARARGS) || scope_set(r, r->scope, NAME_VARARGS, varargs)) &&
           (!(m->op & USES_KWARGS) || scope_set(r, r->scope, NAME_KWARGS, kwargs)) &&
           (!(m->op & USES_CALLER) || scope_set(r, r->scope, NAME_CALLER, caller));
}

static bool call_macro_inside(run *r, const macro *m, const args *a, value *out) {
    uint32_t n_params = m->node->n_kids - 1;
    bool *used = run_take(r, a->n_named, sizeof *used);
    if (!used) return false;
    for (uint32_t i = 0; i < n_params; i++)
        if (!bind_param(r, m->node->kids[i], i, a, used)) return false;
    return bind_rest(r, m->node, n_params, a, used) && capture(r, m->node->kids[n_params], out);
}

static bool call_macro(run *r, const macro *m, const args *a, value *out) {
    scope *before = r->scope, *inside = scope_new(r, m->around);
    if (!inside || !run_enter(r)) return false;
    r->scope = inside;
    bool ok = call_macro_inside(r, m, a, out);
    r->scope = before;
    run_leave(r);
    return ok;
}

static bool call_loop(run *r, const loop *l, const args *a, value *out); // a recursive one, with what it walks next

bool value_call(run *r, const value *what, const args *a, value *out) {
    switch (what->kind) {
    case V_UNDEFINED:
        return value_fail_undefined(r, what);
    case V_MACRO:
        return call_macro(r, what->macro, a, out);
    case V_BUILTIN:
        return builtin_run(r, what->bound->what, &what->bound->self, a, out);
    case V_LOOP:
        return call_loop(r, what->loop, a, out);
    default:
        return run_fail(r, ERR_FORMAT, "a %s cannot be called", value_type(what));
    }
}

const string *macro_name(run *r, const macro *m) {
    return m->node->constant.kind == V_STRING ? r->program->names[m->node->name] : NULL;
}

static bool new_macro(run *r, const node *n, value *out) {
    macro *m = run_take(r, 1, sizeof *m);
    if (!m) return false;
    *m = (macro){n, r->scope};
    return *out = (value){.kind = V_MACRO, .macro = m}, true;
}

// ---- loops -------------------------------------------------------------------------------------------------------

// Whether the condition of a loop lets an item pass.
static bool passes(run *r, const loop *l, value item, bool *pass) {
    const node *target = l->node->kids[0], *condition = l->node->kids[2];
    *pass = true;
    if (!condition) return true;
    scope *before = r->scope;
    value v = VALUE_NONE;
    if (!(r->scope = scope_new(r, l->around))) return false;
    bool ok = assign(r, target, item) && eval(r, condition, &v);
    r->scope = before;
    *pass = ok && value_truth(&v);
    return ok;
}

// Sees to it that the first n items are known, or that there are not as many.
static bool look_ahead(run *r, loop *l, size_t n) {
    while (l->seen.n < n && !l->ended) {
        value item;
        bool pass;
        if (!cursor_next(r, &l->source, &item, &l->ended)) return false;
        if (l->ended) break;
        if (!passes(r, l, item, &pass) || (pass && !items_add(r, &l->seen, item))) return false;
    }
    return true;
}

static bool loop_item(run *r, loop *l, bool next, value *out) {
    if (next) {
        if (!look_ahead(r, l, l->index0 + 2)) return false;
        if (l->index0 + 1 >= l->seen.n) return value_undefined(r, "there is no next item", out);
        return *out = l->seen.v[l->index0 + 1], true;
    }
    if (l->index0 == 0) return value_undefined(r, "there is no previous item", out);
    return *out = l->seen.v[l->index0 - 1], true;
}

static bool loop_cycle(run *r, const value *self, const args *a, value *out) {
    if (a->n == 0) return run_fail(r, ERR_FORMAT, "nothing to cycle through");
    return *out = a->v[self->loop->index0 % a->n], true;
}

static bool loop_changed(run *r, const value *self, const args *a, value *out) {
    value now;
    bool same;
    if (!value_list(r, V_TUPLE, a->v, a->n, &now) || !value_equal(r, &self->loop->changed, &now, &same)) return false;
    self->loop->changed = now;
    return *out = value_bool(!same), true;
}

static bool loop_method(run *r, loop *l, const string *name, value *out, bool *found) {
    static const builtin methods[] = {{"cycle", loop_cycle, ANY, {NULL}}, {"changed", loop_changed, ANY, {NULL}}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (!string_is(name, methods[i].name)) continue;
        bound *b = run_take(r, 1, sizeof *b);
        if (!b) return false;
        *b = (bound){&methods[i], {.kind = V_LOOP, .loop = l}};
        return *out = (value){.kind = V_BUILTIN, .bound = b}, true;
    }
    return *found = false, true;
}

bool loop_attribute(run *r, loop *l, const string *name, value *out, bool *found) {
    *found = true;
    if (string_is(name, "index0")) return *out = value_int((int64_t)l->index0), true;
    if (string_is(name, "index")) return *out = value_int((int64_t)l->index0 + 1), true;
    if (string_is(name, "first")) return *out = value_bool(l->index0 == 0), true;
    if (string_is(name, "depth0")) return *out = value_int((int64_t)l->depth0), true;
    if (string_is(name, "depth")) return *out = value_int((int64_t)l->depth0 + 1), true;
    if (string_is(name, "previtem")) return loop_item(r, l, false, out);
    if (string_is(name, "nextitem")) return loop_item(r, l, true, out);
    if (string_is(name, "last")) {
        if (!look_ahead(r, l, l->index0 + 2)) return false;
        return *out = value_bool(l->index0 + 1 >= l->seen.n), true;
    }
    bool length = string_is(name, "length"), from_end = string_is(name, "revindex"),
         from_end0 = string_is(name, "revindex0");
    if (!length && !from_end && !from_end0) return loop_method(r, l, name, out, found);
    if (!look_ahead(r, l, SIZE_MAX)) return false;
    size_t n = length ? l->seen.n : l->seen.n - l->index0 - from_end0;
    return *out = value_int((int64_t)n), true;
}

// One pass of the body, in a scope of its own.
static bool pass_once(run *r, loop *l) {
    scope *before = r->scope, *inside = scope_new(r, l->around);
    if (!inside) return false;
    r->scope = inside;
    bool ok = scope_set(r, inside, NAME_LOOP, (value){.kind = V_LOOP, .loop = l}) &&
              assign(r, l->node->kids[0], l->seen.v[l->index0]) && exec(r, l->node->kids[3]);
    r->scope = before;
    return ok;
}

static bool run_loop(run *r, const node *n, const value *over, size_t depth0) {
    loop *l = run_take(r, 1, sizeof *l);
    if (!l) return false;
    *l = (loop){.node = n, .depth0 = depth0, .around = r->scope, .changed = VALUE_NONE};
    if (!cursor_open(r, over, &l->source)) return false;
    bool broken = false, finished = false; // a pass that break or continue cut short does not count for else
    for (; !broken; l->index0++) {
        if (!look_ahead(r, l, l->index0 + 1)) return false;
        if (l->index0 >= l->seen.n) break;
        if (!pass_once(r, l)) return false;
        broken = r->flow == FLOW_BREAK;
        finished = finished || r->flow == FLOW_ON;
        r->flow = FLOW_ON;
    }
    return finished || !n->kids[4] || exec_inside(r, n->kids[4]);
}

static bool exec_for(run *r, const node *n) {
    value over;
    return eval(r, n->kids[1], &over) && run_loop(r, n, &over, 0);
}

static bool call_loop(run *r, const loop *l, const args *a, value *out) {
    if (!l->node->op) return run_fail(r, ERR_FORMAT, "only a loop that is 'recursive' can be called");
    if (a->n != 1 || a->n_named) return run_fail(r, ERR_FORMAT, "a loop is called with what it walks over");
    struct text t = {0}, *text_before = r->out;
    scope *scope_before = r->scope;
    if (!run_enter(r)) return false;
    r->out = &t, r->scope = l->around;
    bool ok = run_loop(r, l->node, &a->v[0], l->depth0 + 1);
    r->out = text_before, r->scope = scope_before;
    run_leave(r);
    return ok && text_take(r, &t, out);
}

// ---- expressions -------------------------------------------------------------------------------------------------

static bool eval_const(run *r, const node *n, value *out) {
    (void)r;
    return *out = n->constant, true;
}

static bool eval_captured(run *r, const node *n, value *out) {
    (void)n;
    return *out = r->captured, true;
}

static bool eval_name(run *r, const node *n, value *out) { return find_name(r, n->name, out); }

static bool eval_list(run *r, const node *n, value *out) {
    value *all = run_take(r, n->n_kids, sizeof *all);
    if (!all) return false;
    for (uint32_t i = 0; i < n->n_kids; i++)
        if (!eval(r, n->kids[i], &all[i])) return false;
    return value_list(r, n->kind == N_TUPLE ? V_TUPLE : V_LIST, all, n->n_kids, out);
}

static bool eval_dict(run *r, const node *n, value *out) {
    if (!dict_new(r, V_DICT, out)) return false;
    for (uint32_t i = 0; i < n->n_kids; i += 2) {
        value key, v;
        if (!eval(r, n->kids[i], &key) || !eval(r, n->kids[i + 1], &v) || !dict_put(r, out->d, key, v)) return false;
    }
    return true;
}

static bool eval_attr(run *r, const node *n, value *out) {
    value of;
    return eval(r, n->kids[0], &of) && value_attribute(r, &of, n->constant.s, out);
}

static bool eval_item(run *r, const node *n, value *out) {
    value of, index;
    return eval(r, n->kids[0], &of) && eval(r, n->kids[1], &index) && value_item(r, &of, &index, out);
}

static bool eval_slice(run *r, const node *n, value *out) {
    value v[4] = {VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE};
    for (uint32_t i = 0; i < 4; i++)
        if (n->kids[i] && !eval(r, n->kids[i], &v[i])) return false;
    return value_slice(r, &v[0], &v[1], &v[2], &v[3], out);
}

static bool eval_call(run *r, const node *n, value *out) {
    value what;
    arguments a;
    if (!eval(r, n->kids[0], &what) || !eval_arguments(r, n, &a)) return false;
    r->line = n->line;
    args all = finished(&a);
    return value_call(r, &what, &all, out);
}

static bool eval_applied(run *r, const node *n, value *out) {
    value to;
    arguments a;
    const string *name = n->constant.s;
    int n_shown = name->n_bytes < 60 ? (int)name->n_bytes : 60;
    if (!n->row)
        return run_fail(r, ERR_FORMAT, "there is no %s '%.*s'", n->kind == N_FILTER ? "filter" : "test", n_shown,
                        name->data);
    if (!eval(r, n->kids[0], &to) || !eval_arguments(r, n, &a)) return false;
    r->line = n->line;
    args all = finished(&a);
    return builtin_run(r, n->row, &to, &all, out);
}

static bool eval_not(run *r, const node *n, value *out) {
    value v;
    return eval(r, n->kids[0], &v) && (*out = value_bool(!value_truth(&v)), true);
}

static bool eval_sign(run *r, const node *n, value *out) {
    value v;
    return eval(r, n->kids[0], &v) && value_sign(r, n->op, &v, out);
}

static bool eval_logic(run *r, const node *n, value *out) { // the operand that decided
    if (!eval(r, n->kids[0], out)) return false;
    return value_truth(out) == (n->kind == N_OR) || eval(r, n->kids[1], out);
}

static bool eval_binary(run *r, const node *n, value *out) {
    value left, right;
    return eval(r, n->kids[0], &left) && eval(r, n->kids[1], &right) && value_binary(r, n->op, &left, &right, out);
}

static bool eval_concat(run *r, const node *n, value *out) {
    struct text t = {0};
    for (uint32_t i = 0; i < n->n_kids; i++) {
        value v;
        if (!eval(r, n->kids[i], &v) || !show_str(r, &t, &v)) return false;
    }
    return text_take(r, &t, out);
}

static bool compare(run *r, int op, const value *a, const value *b, bool *holds) {
    switch (op) {
    case OP('=', '='):
        return value_equal(r, a, b, holds);
    case OP('!', '='):
        return value_equal(r, a, b, holds) && (*holds = !*holds, true);
    case OP_IN:
        return value_contains(r, b, a, holds);
    case OP_NOT_IN:
        return value_contains(r, b, a, holds) && (*holds = !*holds, true);
    default:
        return value_compare(r, op, a, b, holds);
    }
}

static bool eval_compare(run *r, const node *n, value *out) { // a < b < c: both hold
    value left, right;
    bool holds = true;
    if (!eval(r, n->kids[0], &left)) return false;
    for (uint32_t i = 1; holds && i < n->n_kids; i++) {
        if (!eval(r, n->kids[i]->kids[0], &right) || !compare(r, n->kids[i]->op, &left, &right, &holds)) return false;
        left = right;
    }
    return *out = value_bool(holds), true;
}

static bool eval_cond(run *r, const node *n, value *out) {
    value v;
    if (!eval(r, n->kids[0], &v)) return false;
    if (value_truth(&v)) return eval(r, n->kids[1], out);
    return n->kids[2] ? eval(r, n->kids[2], out)
                      : value_undefined(r, "an inline if without else was false, and its value is used", out);
}

static bool (*const EVAL[N_KINDS])(run *r, const node *n, value *out) = {
    [N_CONST] = eval_const,   [N_CAPTURED] = eval_captured, [N_NAME] = eval_name,       [N_LIST] = eval_list,
    [N_TUPLE] = eval_list,    [N_DICT] = eval_dict,         [N_ATTR] = eval_attr,       [N_ITEM] = eval_item,
    [N_SLICE] = eval_slice,   [N_CALL] = eval_call,         [N_FILTER] = eval_applied,  [N_TEST] = eval_applied,
    [N_NOT] = eval_not,       [N_SIGN] = eval_sign,         [N_AND] = eval_logic,       [N_OR] = eval_logic,
    [N_BINARY] = eval_binary, [N_CONCAT] = eval_concat,     [N_COMPARE] = eval_compare, [N_COND] = eval_cond};

static bool eval(run *r, const node *n, value *out) {
    check(EVAL[n->kind]);
    if (!run_spend(r, 1) || !run_enter(r)) return false;
    r->line = n->line;
    bool ok = EVAL[n->kind](r, n, out);
    run_leave(r);
    return ok;
}

// ---- statements --------------------------------------------------------------------------------------------------

static bool exec_body(run *r, const node *n) {
    for (uint32_t i = 0; i < n->n_kids && r->flow == FLOW_ON; i++)
        if (!exec(r, n->kids[i])) return false;
    return true;
}

static bool exec_text(run *r, const node *n) { return text_add_string(r, r->out, n->constant.s); }

static bool exec_output(run *r, const node *n) {
    value v;
    return eval(r, n->kids[0], &v) && show_str(r, r->out, &v);
}

static bool exec_if(run *r, const node *n) {
    for (uint32_t i = 0; i + 1 < n->n_kids; i += 2) {
        value v;
        if (!eval(r, n->kids[i], &v)) return false;
        if (value_truth(&v)) return exec(r, n->kids[i + 1]);
    }
    return n->n_kids % 2 == 0 || exec(r, n->kids[n->n_kids - 1]);
}

static bool exec_set(run *r, const node *n) {
    value v;
    return eval(r, n->kids[1], &v) && assign(r, n->kids[0], v);
}

// Runs a body in a scope of its own into a value, and through filters if there are any.
static bool capture_filtered(run *r, const node *body, const node *filters, value *out) {
    scope *before = r->scope, *inside = scope_new(r, before);
    if (!inside) return false;
    r->scope = inside;
    bool ok = capture(r, body, out);
    r->scope = before;
    if (!ok || !filters) return ok;
    r->captured = *out;
    return eval(r, filters, out);
}

static bool exec_set_block(run *r, const node *n) {
    value v;
    return capture_filtered(r, n->kids[2], n->kids[1], &v) && assign(r, n->kids[0], v);
}

static bool exec_filter_block(run *r, const node *n) {
    value v;
    return capture_filtered(r, n->kids[1], n->kids[0], &v) && show_str(r, r->out, &v);
}

static bool exec_with(run *r, const node *n) {
    scope *before = r->scope, *inside = scope_new(r, before);
    uint32_t n_targets = n->n_kids - 1;
    value *values = run_take(r, n_targets, sizeof *values);
    if (!inside || !values) return false;
    for (uint32_t i = 0; i < n_targets; i += 2) // in the scope around
        if (!eval(r, n->kids[i + 1], &values[i])) return false;
    r->scope = inside;
    bool ok = true;
    for (uint32_t i = 0; ok && i < n_targets; i += 2) ok = assign(r, n->kids[i], values[i]);
    ok = ok && exec(r, n->kids[n_targets]);
    r->scope = before;
    return ok;
}

static bool exec_macro(run *r, const node *n) {
    value m;
    return new_macro(r, n, &m) && scope_set(r, r->scope, n->name, m);
}

static bool exec_call_block(run *r, const node *n) {
    value what, caller, v;
    arguments a;
    const node *call = n->kids[0];
    if (!eval(r, call->kids[0], &what) || !eval_arguments(r, call, &a) || !new_macro(r, n->kids[1], &caller))
        return false;
    if (!add_named(r, &a, r->program->names[NAME_CALLER], caller)) return false;
    r->line = n->line;
    args all = finished(&a);
    return value_call(r, &what, &all, &v) && show_str(r, r->out, &v);
}

static bool exec_jump(run *r, const node *n) {
    r->flow = n->kind == N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    return true;
}

static bool (*const EXEC[N_KINDS])(run *r, const node *n) = {[N_BODY] = exec_body,
                                                             [N_TEXT] = exec_text,
                                                             [N_OUTPUT] = exec_output,
                                                             [N_IF] = exec_if,
                                                             [N_FOR] = exec_for,
                                                             [N_SET] = exec_set,
                                                             [N_SET_BLOCK] = exec_set_block,
                                                             [N_FILTER_BLOCK] = exec_filter_block,
                                                             [N_WITH] = exec_with,
                                                             [N_MACRO] = exec_macro,
                                                             [N_CALL_BLOCK] = exec_call_block,
                                                             [N_BREAK] = exec_jump,
                                                             [N_CONTINUE] = exec_jump};

bool exec(run *r, const node *n) {
    check(EXEC[n->kind]);
    if (!run_spend(r, 1) || !run_enter(r)) return false;
    r->line = n->line;
    bool ok = EXEC[n->kind](r, n);
    run_leave(r);
    return ok;
}

// Implements jinja_value.h: making values, asking about them, walking over them. Dicts are in jinja_dict.c.
#include "text/jinja_string.h"
#include "text/utf8.h"

#include <limits.h>

// ---- making ------------------------------------------------------------------------------------------------------

static const value NOTHING; // where there are no items, so that a pointer to them is one

bool value_list(run *r, value_kind kind, const value *items, size_t n, value *out) {
    list *l = run_take(r, 1, sizeof *l);
    if (!l) return false;
    *l = (list){items ? items : &NOTHING, n};
    *out = (value){.kind = kind, .l = l};
    return true;
}

bool value_tuple2(run *r, value a, value b, value *out) {
    value *two = run_take(r, 2, sizeof *two);
    if (!two) return false;
    two[0] = a, two[1] = b;
    return value_list(r, V_TUPLE, two, 2, out);
}

bool value_iter(run *r, const value *items, size_t n, value *out) {
    iter *i = run_take(r, 1, sizeof *i);
    if (!i) return false;
    *i = (iter){items, n, 0};
    *out = (value){.kind = V_ITER, .iter = i};
    return true;
}

bool value_view(run *r, const dict *of, view_kind which, value *out) {
    view *w = run_take(r, 1, sizeof *w);
    if (!w) return false;
    *w = (view){of, which};
    *out = (value){.kind = V_VIEW, .view = w};
    return true;
}

static bool new_undefined(run *r, undefined like, value *out) {
    undefined *u = run_take(r, 1, sizeof *u);
    if (!u) return false;
    *u = like;
    *out = (value){.kind = V_UNDEFINED, .u = u};
    return true;
}

bool value_undefined(run *r, const char *hint, value *out) { return new_undefined(r, (undefined){.hint = hint}, out); }

bool value_absent(run *r, const value *owner, value name, value *out) {
    return new_undefined(r, (undefined){.has_owner = owner != NULL, .owner = owner ? *owner : VALUE_NONE, .name = name},
                         out);
}

static bool string_from_json(run *r, const char *data, size_t n_bytes, bool is_data, value *out) {
    const uint8_t *marks = is_data ? run_ones(r, n_bytes) : NULL;
    return (marks || !is_data) && string_new(r, data, n_bytes, marks, out);
}

static bool is_role(const run *r, const char *key, const json_t *json) {
    if (!r->roles || strcmp(key, "role") != 0 || !json_is_string(json)) return false;
    for (const char *const *role = r->roles; *role; role++)
        if (strlen(*role) == json_string_length(json) && strcmp(*role, json_string_value(json)) == 0) return true;
    return false;
}

static bool dict_from_json(run *r, const json_t *json, bool is_data, value *out) {
    if (!dict_new(r, V_DICT, out)) return false;
    json_t *object = (json_t *)json; // jansson's iterators are not const, but change nothing
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        value key, item;
        const char *name = json_object_iter_key(at);
        const json_t *element = json_object_iter_value(at);
        if (!string_from_json(r, name, json_object_iter_key_len(at), is_data, &key)) return false;
        if (!value_from_json(r, element, is_data && !is_role(r, name, element), &item)) return false;
        if (!dict_put(r, out->d, key, item)) return false;
    }
    return true;
}

static bool list_from_json(run *r, const json_t *json, bool is_data, value *out) {
    size_t n = json_array_size(json);
    value *items = run_take(r, n, sizeof *items);
    if (!items) return false;
    for (size_t i = 0; i < n; i++)
        if (!value_from_json(r, json_array_get(json, i), is_data, &items[i])) return false;
    return value_list(r, V_LIST, items, n, out);
}

bool value_from_json(run *r, const json_t *json, bool is_data, value *out) {
    switch (json_typeof(json)) {
    case JSON_OBJECT:
    case JSON_ARRAY: {
        if (!run_enter(r)) return false;
        bool ok = (json_is_object(json) ? dict_from_json : list_from_json)(r, json, is_data, out);
        run_leave(r);
        return ok;
    }
    case JSON_STRING:
        return string_from_json(r, json_string_value(json), json_string_length(json), is_data, out);
    case JSON_INTEGER:
        return *out = value_int(json_integer_value(json)), true;
    case JSON_REAL:
        return *out = value_float(json_real_value(json)), true;
    case JSON_TRUE:
    case JSON_FALSE:
        return *out = value_bool(json_is_true(json)), true;
    case JSON_NULL:
        return *out = VALUE_NONE, true;
    }
    return *out = VALUE_NONE, true;
}

// ---- asking ------------------------------------------------------------------------------------------------------

const char *value_type(const value *v) {
    static const char *const names[] = {
        [V_MISSING] = "missing", [V_UNDEFINED] = "Undefined", [V_NONE] = "NoneType",    [V_BOOL] = "bool",
        [V_INT] = "int",         [V_FLOAT] = "float",         [V_STRING] = "str",       [V_LIST] = "list",
        [V_TUPLE] = "tuple",     [V_DICT] = "dict",           [V_VIEW] = "dict view",   [V_RANGE] = "range",
        [V_ITER] = "iterator",   [V_NAMESPACE] = "Namespace", [V_LOOP] = "LoopContext", [V_MACRO] = "Macro",
        [V_BUILTIN] = "function"};
    return names[v->kind];
}

bool value_fail_undefined(run *r, const value *v) {
    const undefined *u = v->u;
    if (!u) return run_fail(r, ERR_FORMAT, "a value is undefined");
    if (u->hint) return run_fail(r, ERR_FORMAT, "%s", u->hint);
    text name = {0};
    if (!show_repr(r, &name, &u->name) || !text_add(r, &name, "", 1, NULL)) return false;
    if (!u->has_owner) return run_fail(r, ERR_FORMAT, "%s is undefined", name.data);
    const char *object = u->owner.kind == V_NONE ? "none" : value_type(&u->owner);
    return run_fail(r, ERR_FORMAT, "%s has no %s %s", object, u->name.kind == V_STRING ? "attribute" : "element",
                    name.data);
}

bool value_truth(const value *v) {
    switch (v->kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v->b;
    case V_INT:
        return v->i != 0;
    case V_FLOAT:
        return v->f != 0;
    case V_STRING:
        return v->s->n_bytes > 0;
    case V_LIST:
    case V_TUPLE:
        return v->l->n > 0;
    case V_DICT:
        return v->d->n > 0;
    case V_VIEW:
        return v->view->of->n > 0;
    case V_RANGE:
        return v->range->n > 0;
    default: // V_LOOP has a length, but only exists while it is not 0
        return true;
    }
}

static bool lists_equal(run *r, const list *a, const list *b, bool *equal) {
    *equal = a->n == b->n;
    for (size_t i = 0; *equal && i < a->n; i++)
        if (!value_equal(r, &a->items[i], &b->items[i], equal)) return false;
    return true;
}

static bool dicts_equal(run *r, const dict *a, const dict *b, bool *equal) {
    *equal = a->n == b->n;
    for (size_t i = 0; *equal && i < a->n; i++) {
        const value *other;
        if (!dict_find(r, b, &a->pairs[i].key, &other)) return false;
        *equal = other != NULL;
        if (other && !value_equal(r, &a->pairs[i].value, other, equal)) return false;
    }
    return true;
}

static bool ranges_equal(const range *a, const range *b) {
    return a->n == b->n && (a->n < 1 || a->start == b->start) && (a->n < 2 || a->step == b->step);
}

// Exact: it has 64 bits of precision where we run.
static long double to_long_double(const value *v) {
    return v->kind == V_FLOAT ? (long double)v->f : (long double)value_to_int(v);
}

static bool equal_inside(run *r, const value *a, const value *b, bool *equal) {
    if (value_is_number(a) && value_is_number(b)) {
        if (a->kind == V_FLOAT || b->kind == V_FLOAT)
            *equal = to_long_double(a) == to_long_double(b);
        else
            *equal = value_to_int(a) == value_to_int(b);
        return true;
    }
    *equal = false;
    if (a->kind != b->kind) return true;
    switch (a->kind) {
    case V_UNDEFINED:
    case V_NONE:
        return *equal = true;
    case V_STRING:
        *equal = string_equal(a->s, b->s);
        return run_spend_bytes(r, a->s->n_bytes);
    case V_LIST:
    case V_TUPLE:
        return lists_equal(r, a->l, b->l, equal);
    case V_DICT:
        return dicts_equal(r, a->d, b->d, equal);
    case V_RANGE:
        return *equal = ranges_equal(a->range, b->range), true;
    default:
        return *equal = a->d == b->d, true; // the same object
    }
}

bool value_equal(run *r, const value *a, const value *b, bool *equal) {
    if (!run_spend(r, 1) || !run_enter(r)) return false;
    bool ok = equal_inside(r, a, b, equal);
    run_leave(r);
    return ok;
}

#define HOLDS(op, a, b)                                                                                                \
    ((op) == '<' ? (a) < (b) : (op) == '>' ? (a) > (b) : (op) == OP('<', '=') ? (a) <= (b) : (a) >= (b))

static bool lists_compare(run *r, int op, const list *a, const list *b, bool *holds) {
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool equal;
        if (!value_equal(r, &a->items[i], &b->items[i], &equal)) return false;
        if (!equal) return value_compare(r, op, &a->items[i], &b->items[i], holds);
    }
    return *holds = HOLDS(op, a->n, b->n), true;
}

static bool compare_inside(run *r, int op, const value *a, const value *b, bool *holds) {
    if (value_is_number(a) && value_is_number(b)) {
        if (a->kind == V_FLOAT || b->kind == V_FLOAT)
            *holds = HOLDS(op, to_long_double(a), to_long_double(b));
        else
            *holds = HOLDS(op, value_to_int(a), value_to_int(b));
        return true;
    }
    if (a->kind == V_UNDEFINED || b->kind == V_UNDEFINED)
        return value_fail_undefined(r, a->kind == V_UNDEFINED ? a : b);
    if (a->kind == b->kind && a->kind == V_STRING) {
        *holds = HOLDS(op, string_compare(a->s, b->s), 0);
        return run_spend_bytes(r, a->s->n_bytes);
    }
    if (a->kind == b->kind && (a->kind == V_LIST || a->kind == V_TUPLE)) return lists_compare(r, op, a->l, b->l, holds);
    return run_fail(r, ERR_FORMAT, "a %s cannot be compared with a %s", value_type(a), value_type(b));
}

bool value_compare(run *r, int op, const value *a, const value *b, bool *holds) {
    if (!run_spend(r, 1) || !run_enter(r)) return false;
    bool ok = compare_inside(r, op, a, b, holds);
    run_leave(r);
    return ok;
}

static bool contains_by_walking(run *r, const value *in, const value *what, bool *found) {
    cursor c;
    if (!cursor_open(r, in, &c)) return false;
    for (*found = false; !*found;) {
        value item;
        bool ended;
        if (!cursor_next(r, &c, &item, &ended)) return false;
        if (ended) return true;
        if (!value_equal(r, &item, what, found)) return false;
    }
    return true;
}

bool value_contains(run *r, const value *in, const value *what, bool *found) {
    if (in->kind == V_DICT || (in->kind == V_VIEW && in->view->which == VIEW_KEYS)) {
        const value *item;
        if (!dict_find(r, in->kind == V_DICT ? in->d : in->view->of, what, &item)) return false;
        return *found = item != NULL, true;
    }
    if (in->kind == V_STRING) {
        if (what->kind != V_STRING)
            return run_fail(r, ERR_FORMAT, "only a str can be in a str, not a %s", value_type(what));
        *found = string_find(in->s, what->s, 0, in->s->n_bytes) != SIZE_MAX;
        return run_spend_bytes(r, in->s->n_bytes);
    }
    return contains_by_walking(r, in, what, found);
}

bool value_length(run *r, const value *v, size_t *n) {
    switch (v->kind) {
    case V_UNDEFINED:
        return *n = 0, true;
    case V_STRING:
        return *n = v->s->n_chars, true;
    case V_LIST:
    case V_TUPLE:
        return *n = v->l->n, true;
    case V_DICT:
        return *n = v->d->n, true;
    case V_VIEW:
        return *n = v->view->of->n, true;
    case V_RANGE:
        return *n = v->range->n, true;
    default:
        return run_fail(r, ERR_FORMAT, "a %s has no length", value_type(v));
    }
}

// ---- walking -----------------------------------------------------------------------------------------------------

bool value_is_iterable(const value *v) {
    return v->kind == V_UNDEFINED || (v->kind >= V_STRING && v->kind <= V_ITER) || v->kind == V_LOOP;
}

bool cursor_open(run *r, const value *over, cursor *c) {
    *c = (cursor){.over = *over};
    return (value_is_iterable(over) && over->kind != V_LOOP) ||
           run_fail(r, ERR_FORMAT, "a %s cannot be walked over", value_type(over));
}

static bool next_of_view(run *r, const view *w, size_t at, value *item) {
    const pair *p = &w->of->pairs[at];
    if (w->which == VIEW_ITEMS) return value_tuple2(r, p->key, p->value, item);
    *item = w->which == VIEW_KEYS ? p->key : p->value;
    return true;
}

static bool next_char(run *r, const string *s, size_t *at, value *item) {
    size_t n_bytes, from = *at;
    utf8_decode(s->data + from, &n_bytes);
    *at += n_bytes;
    return string_new(r, s->data + from, n_bytes, s->marks ? s->marks + from : NULL, item); // a str, even of a Markup
}

bool cursor_next(run *r, cursor *c, value *item, bool *ended) {
    const value *v = &c->over;
    if (!run_spend(r, 1)) return false;
    size_t n = 0;
    if (v->kind == V_STRING)
        n = v->s->n_bytes;
    else if (v->kind == V_ITER)
        n = v->iter->n, c->at = v->iter->at;
    else if (!value_length(r, v, &n))
        return false;
    if ((*ended = c->at >= n)) return true;
    switch (v->kind) {
    case V_STRING:
        return next_char(r, v->s, &c->at, item);
    case V_VIEW:
        return next_of_view(r, v->view, c->at++, item);
    case V_DICT:
        return *item = v->d->pairs[c->at++].key, true;
    case V_RANGE:
        return *item = value_int(v->range->start + v->range->step * (int64_t)c->at++), true;
    case V_ITER:
        return *item = v->iter->items[v->iter->at++], true;
    default:
        return *item = v->l->items[c->at++], true;
    }
}

bool value_collect(run *r, const value *v, const value **all, size_t *n) {
    if (v->kind == V_LIST || v->kind == V_TUPLE) {
        *all = v->l->items, *n = v->l->n;
        return run_spend(r, *n / 4);
    }
    cursor c;
    items list = {0};
    if (!cursor_open(r, v, &c)) return false;
    for (;;) {
        value item;
        bool ended;
        if (!cursor_next(r, &c, &item, &ended)) return false;
        if (ended) break;
        if (!items_add(r, &list, item)) return false;
    }
    *all = list.v ? list.v : &NOTHING, *n = list.n;
    return true;
}

bool items_add(run *r, items *list, value v) {
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        value *more = run_take(r, capacity, sizeof *more);
        if (!more) return false;
        if (list->n) memcpy(more, list->v, list->n * sizeof *more);
        list->v = more, list->capacity = capacity;
    }
    list->v[list->n++] = v;
    return true;
}

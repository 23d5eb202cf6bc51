// Implements the tests of jinja_builtin.h: what may follow `is`.
#include "text/jinja_builtin.h"

static bool answer(value *out, bool yes) { return *out = value_bool(yes), true; }

#define TEST(name, condition)                                                                                          \
    static bool name(run *r, const value *self, const args *a, value *out) {                                           \
        (void)r, (void)a;                                                                                              \
        return answer(out, condition);                                                                                 \
    }
TEST(is_defined, self->kind != V_UNDEFINED)
TEST(is_undefined, self->kind == V_UNDEFINED)
TEST(is_none, self->kind == V_NONE)
TEST(is_boolean, self->kind == V_BOOL)
TEST(is_true, self->kind == V_BOOL && self->b)
TEST(is_false, self->kind == V_BOOL && !self->b)
TEST(is_integer, self->kind == V_INT)
TEST(is_float, self->kind == V_FLOAT)
TEST(is_number, value_is_number(self))
TEST(is_string, self->kind == V_STRING)
TEST(is_mapping, self->kind == V_DICT)
TEST(is_sequence, self->kind == V_UNDEFINED || self->kind == V_STRING || self->kind == V_LIST ||
                      self->kind == V_TUPLE || self->kind == V_DICT || self->kind == V_RANGE)
TEST(is_iterable, value_is_iterable(self))
TEST(is_callable, self->kind == V_UNDEFINED || self->kind == V_LOOP || self->kind == V_MACRO || self->kind == V_BUILTIN)
TEST(is_escaped, self->kind == V_STRING && self->s->safe)

static bool is_row(run *r, const value *self, const builtin *(*find)(const string *), value *out) {
    bool hashable;
    if (!value_is_hashable(r, self, &hashable)) return false;
    if (!hashable) return run_fail(r, ERR_FORMAT, "a %s is no name", value_type(self));
    return answer(out, self->kind == V_STRING && find(self->s));
}
static bool is_filter(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return is_row(r, self, filter_find, out);
}
static bool is_test(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return is_row(r, self, test_find, out);
}

// The remainder of a division, compared with a number.
static bool remainder_is(run *r, const value *self, value by, int64_t wanted, value *out) {
    value rest, number = value_int(wanted);
    bool equal;
    return value_binary(r, '%', self, &by, &rest) && value_equal(r, &rest, &number, &equal) && answer(out, equal);
}
static bool is_odd(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return remainder_is(r, self, value_int(2), 1, out);
}
static bool is_even(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return remainder_is(r, self, value_int(2), 0, out);
}
static bool divides(run *r, const value *self, const args *a, value *out) {
    return remainder_is(r, self, a->v[0], 0, out);
}

static bool by_method(run *r, const char *name, const value *self, value *out) {
    value s;
    string method = {.data = name, .n_bytes = strlen(name)};
    bool changes;
    args none = {0};
    return show_to_string(r, self, &s) && builtin_run(r, method_find(V_STRING, &method, &changes), &s, &none, out);
}
static bool is_lower(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return by_method(r, "islower", self, out);
}
static bool is_upper(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return by_method(r, "isupper", self, out);
}

static bool same_as(run *r, const value *self, const args *a, value *out) { // equal and of one kind is near enough
    const value *other = &a->v[0];
    bool equal;
    if (self->kind != other->kind) return answer(out, false);
    if (self->kind > V_BOOL) return run_fail(r, ERR_UNSUPPORTED, "'sameas' of anything but true, false and none");
    return value_equal(r, self, other, &equal) && answer(out, equal);
}

static bool is_in(run *r, const value *self, const args *a, value *out) {
    bool found;
    return value_contains(r, &a->v[0], self, &found) && answer(out, found);
}

static bool equals(run *r, const value *self, const args *a, value *out) {
    bool equal;
    return value_equal(r, self, &a->v[0], &equal) && answer(out, equal);
}
static bool differs(run *r, const value *self, const args *a, value *out) {
    bool equal;
    return value_equal(r, self, &a->v[0], &equal) && answer(out, !equal);
}

static bool compares(run *r, int op, const value *self, const args *a, value *out) {
    bool holds;
    return value_compare(r, op, self, &a->v[0], &holds) && answer(out, holds);
}
static bool is_less(run *r, const value *self, const args *a, value *out) { return compares(r, '<', self, a, out); }
static bool is_greater(run *r, const value *self, const args *a, value *out) { return compares(r, '>', self, a, out); }
static bool is_less_or_equal(run *r, const value *self, const args *a, value *out) {
    return compares(r, OP('<', '='), self, a, out);
}
static bool is_greater_or_equal(run *r, const value *self, const args *a, value *out) {
    return compares(r, OP('>', '='), self, a, out);
}

static const builtin TESTS[] = {
    {"!=", differs, 1, {"other"}},
    {"<", is_less, 1, {"other"}},
    {"<=", is_less_or_equal, 1, {"other"}},
    {"==", equals, 1, {"other"}},
    {">", is_greater, 1, {"other"}},
    {">=", is_greater_or_equal, 1, {"other"}},
    {"boolean", is_boolean, 0, {NULL}},
    {"callable", is_callable, 0, {NULL}},
    {"defined", is_defined, 0, {NULL}},
    {"divisibleby", divides, 1, {"num"}},
    {"eq", equals, 1, {"other"}},
    {"equalto", equals, 1, {"other"}},
    {"escaped", is_escaped, 0, {NULL}},
    {"even", is_even, 0, {NULL}},
    {"false", is_false, 0, {NULL}},
    {"filter", is_filter, 0, {NULL}},
    {"float", is_float, 0, {NULL}},
    {"ge", is_greater_or_equal, 1, {"other"}},
    {"greaterthan", is_greater, 1, {"other"}},
    {"gt", is_greater, 1, {"other"}},
    {"in", is_in, 1, {"seq"}},
    {"integer", is_integer, 0, {NULL}},
    {"iterable", is_iterable, 0, {NULL}},
    {"le", is_less_or_equal, 1, {"other"}},
    {"lessthan", is_less, 1, {"other"}},
    {"lower", is_lower, 0, {NULL}},
    {"lt", is_less, 1, {"other"}},
    {"mapping", is_mapping, 0, {NULL}},
    {"ne", differs, 1, {"other"}},
    {"none", is_none, 0, {NULL}},
    {"number", is_number, 0, {NULL}},
    {"odd", is_odd, 0, {NULL}},
    {"sameas", same_as, 1, {"other"}},
    {"sequence", is_sequence, 0, {NULL}},
    {"string", is_string, 0, {NULL}},
    {"test", is_test, 0, {NULL}},
    {"true", is_true, 0, {NULL}},
    {"undefined", is_undefined, 0, {NULL}},
    {"upper", is_upper, 0, {NULL}},
    {0},
};

const builtin *test_find(const string *name) { return builtin_find(TESTS, name); }

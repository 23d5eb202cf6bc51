// Implements the operators of jinja_builtin.h: arithmetic, attributes, items, slices, with Python's meaning. What
// leaves 64 bits is an error.
#include "text/jinja_ast.h"
#include "text/jinja_builtin.h"

#include <math.h>

// ---- arithmetic --------------------------------------------------------------------------------------------------

static bool fail_operands(run *r, int op, const value *a, const value *b) {
    char name[] = {(char)(op > 0xff ? op >> 8 : op), (char)(op > 0xff ? op & 0xff : 0), '\0'};
    return run_fail(r, ERR_FORMAT, "'%s' does not work on a %s and a %s", name, value_type(a), value_type(b));
}

static bool fail_overflow(run *r) { return run_fail(r, ERR_UNSUPPORTED, "an integer of more than 64 bits"); }
static bool fail_zero(run *r) { return run_fail(r, ERR_FORMAT, "division by zero"); }

static bool int_power(run *r, int64_t a, int64_t b, value *out) {
    int64_t result = 1;
    for (; b > 0; b >>= 1) {
        if (b & 1 && __builtin_mul_overflow(result, a, &result)) return fail_overflow(r);
        if (b > 1 && __builtin_mul_overflow(a, a, &a)) return fail_overflow(r);
    }
    return *out = value_int(result), true;
}

static bool true_division(run *r, int64_t a, int64_t b, value *out) {
    if (b == 0) return fail_zero(r);
    return *out = value_float((double)((long double)a / (long double)b)), true;
}

static bool int_binary(run *r, int op, int64_t a, int64_t b, value *out) {
    int64_t result = 0;
    bool overflow = false;
    if ((op == OP('/', '/') || op == '%') && b == 0) return fail_zero(r);
    switch (op) {
    case '+':
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case '-':
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case '*':
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case OP('/', '/'): // towards minus infinity
        if ((overflow = b == -1 && a == INT64_MIN)) break;
        result = a / b - (a % b != 0 && (a % b < 0) != (b < 0));
        break;
    case '%': // of the sign of b
        result = b == -1 ? 0 : a % b;
        if (result != 0 && (result < 0) != (b < 0)) result += b;
        break;
    case '/':
        return true_division(r, a, b, out);
    default:
        if (b >= 0) return int_power(r, a, b, out);
        if (a == 0) return fail_zero(r);
        return *out = value_float(pow((double)a, (double)b)), true;
    }
    return overflow ? fail_overflow(r) : (*out = value_int(result), true);
}

static double float_mod(double a, double b) {
    double m = fmod(a, b);
    if (m == 0) return copysign(0, b);
    return (b < 0) != (m < 0) ? m + b : m;
}

static double float_floor_division(double a, double b) { // as CPython's float_floor_div
    double m = fmod(a, b), quotient = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0)) quotient -= 1;
    if (quotient == 0) return copysign(0, a / b);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static bool float_binary(run *r, int op, double a, double b, value *out) {
    if ((op == '/' || op == OP('/', '/') || op == '%') && b == 0) return fail_zero(r);
    switch (op) {
    case '+':
        return *out = value_float(a + b), true;
    case '-':
        return *out = value_float(a - b), true;
    case '*':
        return *out = value_float(a * b), true;
    case '/':
        return *out = value_float(a / b), true;
    case '%':
        return *out = value_float(float_mod(a, b)), true;
    case OP('/', '/'):
        return *out = value_float(float_floor_division(a, b)), true;
    default:
        if (a == 0 && b < 0) return fail_zero(r);
        if (a < 0 && b != floor(b)) return run_fail(r, ERR_UNSUPPORTED, "a power that is no real number");
        *out = value_float(pow(a, b));
        return isfinite(out->f) || !isfinite(a) || !isfinite(b) || run_fail(r, ERR_FORMAT, "a power that is too large");
    }
}

static bool add_lists(run *r, const value *a, const value *b, value *out) {
    size_t n = a->l->n + b->l->n;
    value *both = run_take(r, n, sizeof *both);
    if (!both || !run_spend(r, n / 4)) return false;
    if (a->l->n) memcpy(both, a->l->items, a->l->n * sizeof *both);
    if (b->l->n) memcpy(both + a->l->n, b->l->items, b->l->n * sizeof *both);
    return value_list(r, a->kind, both, n, out);
}

static bool repeat_list(run *r, const value *v, int64_t times, value *out) {
    items all = {0};
    if (v->l->n)
        for (int64_t i = 0; i < times; i++)
            for (size_t j = 0; j < v->l->n; j++)
                if (!run_spend(r, 1) || !items_add(r, &all, v->l->items[j])) return false;
    return value_list(r, v->kind, all.v, all.n, out);
}

static bool repeat(run *r, const value *v, int64_t times, value *out) {
    return v->kind == V_STRING ? string_repeat(r, v->s, times, out) : repeat_list(r, v, times, out);
}

static bool is_sequence(const value *v) { return v->kind == V_STRING || v->kind == V_LIST || v->kind == V_TUPLE; }

bool value_binary(run *r, int op, const value *a, const value *b, value *out) {
    if (value_is_number(a) && value_is_number(b)) {
        if (a->kind == V_FLOAT || b->kind == V_FLOAT)
            return float_binary(r, op, value_to_float(a), value_to_float(b), out);
        return int_binary(r, op, value_to_int(a), value_to_int(b), out);
    }
    if (op == '%' && a->kind == V_STRING) return format_percent(r, a->s, b, out);
    if (a->kind == V_UNDEFINED || b->kind == V_UNDEFINED)
        return value_fail_undefined(r, a->kind == V_UNDEFINED ? a : b);
    if (op == '+' && a->kind == b->kind && a->kind == V_STRING) return string_join(r, a->s, b->s, out);
    if (op == '+' && a->kind == b->kind && is_sequence(a)) return add_lists(r, a, b, out);
    if (op == '*' && is_sequence(a) && value_is_int(b)) return repeat(r, a, value_to_int(b), out);
    if (op == '*' && is_sequence(b) && value_is_int(a)) return repeat(r, b, value_to_int(a), out);
    return fail_operands(r, op, a, b);
}

bool value_sign(run *r, int op, const value *v, value *out) {
    if (v->kind == V_UNDEFINED) return value_fail_undefined(r, v);
    if (!value_is_number(v)) return run_fail(r, ERR_FORMAT, "'%c' does not work on a %s", op, value_type(v));
    if (v->kind == V_FLOAT) return *out = value_float(op == '-' ? -v->f : v->f), true;
    return op == '-' ? int_binary(r, '-', 0, value_to_int(v), out) : (*out = value_int(value_to_int(v)), true);
}

// ---- attributes and items ----------------------------------------------------------------------------------------

static bool unsafe_attribute(run *r, const value *of, const string *name, value *out) {
    text t = {0};
    if (!text_add_str(r, &t, "access to attribute '") || !text_add_string(r, &t, name) ||
        !text_add_str(r, &t, "' of a ") || !text_add_str(r, &t, value_type(of)) ||
        !text_add(r, &t, " is unsafe", sizeof " is unsafe", NULL))
        return false;
    return value_undefined(r, t.data, out);
}

static bool is_internal(const string *name) { return name->n_bytes > 4 && memcmp(name->data, "__", 2) == 0; }

// What Python's getattr finds; *found is false if that is nothing.
static bool own_attribute(run *r, const value *of, const string *name, value *out, bool *found) {
    bool changes = false;
    const builtin *method = method_find(of->kind, name, &changes);
    *found = true;
    if (changes || is_internal(name)) return unsafe_attribute(r, of, name, out);
    if (method) {
        bound *b = run_take(r, 1, sizeof *b);
        if (!b) return false;
        *b = (bound){method, *of};
        return *out = (value){.kind = V_BUILTIN, .bound = b}, true;
    }
    if (of->kind == V_LOOP) return loop_attribute(r, of->loop, name, out, found);
    if (of->kind == V_NAMESPACE) {
        value key = value_string(name);
        const value *v;
        if (!dict_find(r, of->d, &key, &v)) return false;
        if (v) return *out = *v, true;
    }
    if (of->kind == V_MACRO && string_is(name, "name") && macro_name(r, of->macro))
        return *out = value_string(macro_name(r, of->macro)), true;
    return *found = false, true;
}

// What of[index] gives in Python; *found is false where that raises an error.
static bool own_item(run *r, const value *of, const value *index, value *out, bool *found) {
    size_t n;
    *found = false;
    if (of->kind == V_DICT) {
        bool hashable;
        const value *v = NULL;
        if (!value_is_hashable(r, index, &hashable) || (hashable && !dict_find(r, of->d, index, &v))) return false;
        if ((*found = v != NULL)) *out = *v;
        return true;
    }
    if (!value_is_int(index) || !(is_sequence(of) || of->kind == V_RANGE)) return true;
    if (!value_length(r, of, &n)) return false;
    int64_t i = value_to_int(index);
    if (i < 0) i += (int64_t)n;
    if (i < 0 || i >= (int64_t)n) return true;
    *found = true;
    if (of->kind == V_RANGE) return *out = value_int(of->range->start + of->range->step * i), true;
    if (of->kind != V_STRING) return *out = of->l->items[i], true;
    size_t from = string_offset(of->s, (size_t)i), to = from + 1;
    while (to < of->s->n_bytes && ((unsigned char)of->s->data[to] & 0xc0) == 0x80) to++;
    return run_spend_bytes(r, from) && string_cut(r, of->s, from, to, out);
}

bool value_attribute(run *r, const value *of, const string *name, value *out) {
    bool found;
    value index = value_string(name);
    if (of->kind == V_UNDEFINED && !is_internal(name)) return value_fail_undefined(r, of);
    if (!own_attribute(r, of, name, out, &found)) return false;
    if (!found && !own_item(r, of, &index, out, &found)) return false;
    return found || value_absent(r, of, index, out);
}

bool value_item(run *r, const value *of, const value *index, value *out) {
    bool found;
    if (of->kind == V_UNDEFINED) return value_fail_undefined(r, of);
    if (!own_item(r, of, index, out, &found)) return false;
    if (!found && index->kind == V_STRING && !own_attribute(r, of, index->s, out, &found)) return false;
    return found || value_absent(r, of, *index, out);
}

// ---- slices ------------------------------------------------------------------------------------------------------

typedef struct stretch { // start, start + step ..., n of them
    int64_t start, step;
    size_t n;
} stretch;

static bool slice_index(run *r, const value *v, int64_t otherwise, int64_t *i) {
    *i = otherwise;
    if (v->kind == V_NONE) return true;
    if (v->kind == V_UNDEFINED) return value_fail_undefined(r, v);
    if (!value_is_int(v))
        return run_fail(r, ERR_FORMAT, "a slice is given by whole numbers, not by a %s", value_type(v));
    return *i = value_to_int(v), true;
}

static int64_t clamp(int64_t i, int64_t n, bool backwards) { // as PySlice_AdjustIndices
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0) return backwards ? -1 : 0;
    return i >= n ? (backwards ? n - 1 : n) : i;
}

static bool measure(run *r, const value *start, const value *stop, const value *step, int64_t n, stretch *s) {
    int64_t from, to;
    if (!slice_index(r, step, 1, &s->step)) return false;
    if (s->step == 0) return run_fail(r, ERR_FORMAT, "a slice of step 0");
    bool backwards = s->step < 0;
    if (s->step < -INT64_MAX) s->step = -INT64_MAX;
    if (!slice_index(r, start, backwards ? INT64_MAX : 0, &from) ||
        !slice_index(r, stop, backwards ? INT64_MIN : INT64_MAX, &to))
        return false;
    from = clamp(from, n, backwards);
    to = backwards && stop->kind == V_NONE ? -1 : clamp(to, n, backwards);
    s->start = from, s->n = 0;
    if (backwards && to < from) s->n = (size_t)((from - to - 1) / -s->step + 1);
    if (!backwards && from < to) s->n = (size_t)((to - from - 1) / s->step + 1);
    return true;
}

static bool slice_string(run *r, const string *s, const stretch *x, value *out) {
    if (x->step == 1)
        return run_spend_bytes(r, s->n_bytes) &&
               string_cut(r, s, string_offset(s, (size_t)x->start), string_offset(s, (size_t)x->start + x->n), out);
    text t = {0};
    value all = value_string(s);
    for (size_t i = 0; i < x->n; i++) {
        value index = value_int(x->start + x->step * (int64_t)i), c;
        bool found;
        if (!run_spend(r, 1) || !own_item(r, &all, &index, &c, &found) || !text_add_string(r, &t, c.s)) return false;
    }
    return text_take_like(r, &t, s, out);
}

static bool slice_list(run *r, const value *of, const stretch *x, value *out) {
    if (x->step == 1) return value_list(r, of->kind, of->l->items + (x->n ? x->start : 0), x->n, out);
    value *some = run_take(r, x->n, sizeof *some);
    if (!some || !run_spend(r, x->n)) return false;
    for (size_t i = 0; i < x->n; i++) some[i] = of->l->items[x->start + x->step * (int64_t)i];
    return value_list(r, of->kind, some, x->n, out);
}

bool value_slice(run *r, const value *of, const value *start, const value *stop, const value *step, value *out) {
    size_t n;
    stretch x;
    if (of->kind == V_UNDEFINED) return value_fail_undefined(r, of);
    if (!is_sequence(of)) return run_fail(r, ERR_FORMAT, "a %s cannot be sliced", value_type(of));
    if (!value_length(r, of, &n) || !measure(r, start, stop, step, (int64_t)n, &x)) return false;
    return of->kind == V_STRING ? slice_string(r, of->s, &x, out) : slice_list(r, of, &x, out);
}

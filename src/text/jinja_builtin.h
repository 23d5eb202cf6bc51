// Builtins of a template: filters, tests, methods and functions, each a row of a table; and what they share with the
// evaluator.
#pragma once

#include "text/jinja_string.h"

enum { MAX_PARAMS = 5 };

typedef struct named {
    const string *name;
    value value;
} named;

typedef struct args {
    const value *v; // positional
    size_t n;
    const named *named;
    size_t n_named;
} args;

// self: what a filter or test is applied to, a method belongs to. Unless the row takes any arguments, a->v has one
// value per parameter, V_MISSING where it was not given.
typedef bool builtin_call(run *r, const value *self, const args *a, value *out);

typedef struct builtin {
    const char *name;
    builtin_call *call; // NULL: Python has it, we do not
    uint8_t n_required; // of the parameters; ANY: arguments are handed on as they are
    const char *params[MAX_PARAMS];
} builtin;
enum { ANY = 0xff };

typedef struct bound {
    const builtin *what;
    value self;
} bound;

const builtin *filter_find(const string *name);
const builtin *test_find(const string *name);
const builtin *function_find(const string *name);
const builtin *method_find(value_kind of, const string *name, bool *changes); // changes: it would modify what is shared

const builtin *builtin_find(const builtin *rows, const string *name); // in a table that a row without a name ends
bool builtin_run(run *r, const builtin *b, const value *self, const args *a, value *out);
static inline bool is_given(const value *v) { return v->kind != V_MISSING; }
static inline const value *or_null(const value *v) { return v->kind == V_MISSING || v->kind == V_NONE ? NULL : v; }
bool want_string(run *r, const value *v, const char *what, const string **s);
bool want_int(run *r, const value *v, const char *what, int64_t *i);

// ---- operators (jinja_ops.c) -------------------------------------------------------------------------------------

bool value_binary(run *r, int op, const value *a, const value *b, value *out);
bool value_sign(run *r, int op, const value *v, value *out);
bool value_attribute(run *r, const value *of, const string *name, value *out);
bool value_item(run *r, const value *of, const value *index, value *out);
bool value_slice(run *r, const value *of, const value *start, const value *stop, const value *step, value *out);

// ---- the evaluator (jinja_eval.c) --------------------------------------------------------------------------------

bool value_call(run *r, const value *what, const args *a, value *out);
bool loop_attribute(run *r, struct loop *l, const string *name, value *out, bool *found);
const string *macro_name(run *r, const struct macro *m); // NULL: it has none

// ---- formats (jinja_format.c) ------------------------------------------------------------------------------------

bool format_percent(run *r, const string *format, const value *values, value *out); // format % values
bool format_braces(run *r, const string *format, const args *a, value *out);        // format.format(...)
bool format_time(run *r, const string *format, value *out);

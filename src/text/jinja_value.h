// Values of a template, and the memory they live in.
//
// A value is what Python would have: immutable but for namespaces, iterators and loops, so all others are shared
// freely. Everything is in the render's arena (or in the program, or in the caller's JSON), and dies with the render.
// Functions that can fail return false, or NULL, with the render's err filled; one thread.
// A string knows of each byte whether it is data: marks[i] is 1 then; no marks means none is.
#pragma once

#include "base/arena.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

typedef enum value_kind {
    V_MISSING, // an argument that was not given; never seen by a template
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_VIEW, // of a dict: d.keys(), d.values(), d.items()
    V_RANGE,
    V_ITER, // what filters such as map give: can be walked once
    V_NAMESPACE,
    V_LOOP,
    V_MACRO,
    V_BUILTIN, // a function, or a method with what it belongs to
} value_kind;

typedef struct string {
    const char *data; // valid UTF-8, not NUL-terminated
    const uint8_t *marks;
    size_t n_bytes, n_chars;
    bool safe; // Markup: what `+` joins to it is escaped
} string;

typedef struct value {
    value_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const string *s;
        const struct undefined *u; // NULL: nothing is known about it
        const struct list *l;      // V_LIST, V_TUPLE
        struct dict *d;            // V_DICT, V_NAMESPACE
        const struct view *view;
        const struct range *range;
        struct iter *iter;
        struct loop *loop;
        const struct macro *macro;
        const struct bound *bound; // V_BUILTIN
    };
} value;

typedef struct undefined { // what to say when it is used
    const char *hint;      // the whole sentence; or NULL, and what follows
    bool has_owner;
    value owner, name;
} undefined;

typedef struct list {
    const value *items;
    size_t n;
} list;

typedef struct pair {
    value key, value;
} pair;

typedef struct dict { // in the order of insertion
    pair *pairs;
    uint32_t n, capacity;
    uint32_t *slots; // [n_slots], a power of two: 1 + index into pairs, 0: free. NULL while there are few
    uint32_t n_slots;
} dict;

typedef enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;
typedef struct view {
    const dict *of;
    view_kind which;
} view;

typedef struct range {
    int64_t start, stop, step;
    size_t n;
} range;

typedef struct iter {
    const value *items;
    size_t n, at;
} iter;

typedef struct run run; // one render
struct run {
    const struct jinja *program;
    arena memory;
    uint64_t fuel;
    uint32_t depth, max_depth; // depth <= max_depth
    uint32_t line;             // of the template, for errors
    err *e;
    const uint8_t *ones; // [n_ones]: the marks of strings that are data throughout
    size_t n_ones;
    const struct tm *now;
    const char *const *roles;
    struct scope *scope;
    struct text *out; // where the template writes
    value captured;   // what the filter of a block is given
    int flow;         // break or continue is under way
};

// Operators of one character are that character, of two those two: OP('=', '=').
#define OP(a, b) ((a) << 8 | (b))

// ---- resources ---------------------------------------------------------------------------------------------------

bool run_fail(run *r, err_code code, const char *format, ...) __attribute__((format(printf, 3, 4))); // false
void *run_take(run *r, size_t n, size_t elem_bytes);                                                 // zeroed
bool run_spend(run *r, size_t n);                                                                    // fuel
static inline bool run_spend_bytes(run *r, size_t n) { return run_spend(r, n / 32); }
bool run_enter(run *r); // one level deeper; each success is followed by run_leave
static inline void run_leave(run *r) { r->depth--; }
const uint8_t *run_ones(run *r, size_t n);

// ---- making ------------------------------------------------------------------------------------------------------

#define VALUE_NONE      ((value){.kind = V_NONE})
#define VALUE_UNDEFINED ((value){.kind = V_UNDEFINED})
static inline value value_bool(bool b) { return (value){.kind = V_BOOL, .b = b}; }
static inline value value_int(int64_t i) { return (value){.kind = V_INT, .i = i}; }
static inline value value_float(double f) { return (value){.kind = V_FLOAT, .f = f}; }
static inline value value_string(const string *s) { return (value){.kind = V_STRING, .s = s}; }

bool value_list(run *r, value_kind kind, const value *items, size_t n, value *out); // items are kept, not copied
bool value_tuple2(run *r, value a, value b, value *out);
bool value_iter(run *r, const value *items, size_t n, value *out);
bool value_view(run *r, const dict *of, view_kind which, value *out);
bool value_undefined(run *r, const char *hint, value *out);
bool value_absent(run *r, const value *owner, value name, value *out); // owner NULL: a variable
bool value_from_json(run *r, const json_t *json, bool is_data, value *out);

// ---- asking ------------------------------------------------------------------------------------------------------

const char *value_type(const value *v); // Python's name of its type
bool value_fail_undefined(run *r, const value *v);
bool value_truth(const value *v);
bool value_equal(run *r, const value *a, const value *b, bool *equal);
// op: '<', OP('<', '='), '>' or OP('>', '='). Fails for kinds that have no order.
bool value_compare(run *r, int op, const value *a, const value *b, bool *holds);
static inline bool value_less(run *r, const value *a, const value *b, bool *less) {
    return value_compare(r, '<', a, b, less);
}
bool value_contains(run *r, const value *in, const value *what, bool *found);
bool value_length(run *r, const value *v, size_t *n); // fails for what has none
static inline bool value_is_number(const value *v) { return v->kind >= V_BOOL && v->kind <= V_FLOAT; }
static inline bool value_is_int(const value *v) { return v->kind == V_INT || v->kind == V_BOOL; }
static inline int64_t value_to_int(const value *v) { return v->kind == V_BOOL ? v->b : v->i; }
static inline double value_to_float(const value *v) { return v->kind == V_FLOAT ? v->f : (double)value_to_int(v); }

// Walks over what can be iterated.
typedef struct cursor {
    value over;
    size_t at;
} cursor;
bool value_is_iterable(const value *v);
bool cursor_open(run *r, const value *over, cursor *c);
bool cursor_next(run *r, cursor *c, value *item, bool *ended);
bool value_collect(run *r, const value *v, const value **items, size_t *n); // all that is left of it

// A list under construction. Zero is empty.
typedef struct items {
    value *v;
    size_t n, capacity;
} items;
bool items_add(run *r, items *list, value v);

// ---- dicts -------------------------------------------------------------------------------------------------------

bool dict_new(run *r, value_kind kind, value *out);
bool dict_put(run *r, dict *d, value key, value v);
bool dict_find(run *r, const dict *d, const value *key, const value **found); // fails if the key cannot be hashed
bool value_is_hashable(run *r, const value *v, bool *hashable);

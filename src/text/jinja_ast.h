// The program of a template: its tokens (jinja_lex.c), its tree (jinja_parse.c).
//
// A program lives in one arena and does not change once it is parsed. Nodes are uniform; what their kids are is said
// beside each kind. Names are interned: equal names are the same index.
#pragma once

#include "text/jinja_value.h"

// ---- tokens ------------------------------------------------------------------------------------------------------

typedef enum token_type {
    T_END,
    T_DATA,       // text between tags; value
    T_OUTPUT,     // {{
    T_OUTPUT_END, // }}
    T_BLOCK,      // {%
    T_BLOCK_END,  // %}
    T_NAME,       // value: its text
    T_LITERAL,    // a string or a number; value
    T_OPERATOR,   // op
} token_type;

typedef struct lexeme {
    token_type type;
    uint32_t line;
    int op;
    value value;
} lexeme;

// The tokens of a text, T_END last, in the run's arena.
bool jinja_lex(run *r, const char *text, size_t n_bytes, lexeme **tokens, size_t *n);

// ---- tree --------------------------------------------------------------------------------------------------------

typedef enum node_kind {
    // statements
    N_BODY,         // [statement...]
    N_TEXT,         // constant
    N_OUTPUT,       // [expression]
    N_IF,           // [condition, body, condition, body, ..., body of else?]
    N_FOR,          // [target, what is walked, condition or NULL, body, body of else or NULL]; op: recursive
    N_SET,          // [target, expression]
    N_SET_BLOCK,    // [target, filters or NULL, body]
    N_FILTER_BLOCK, // [filters, body]
    N_WITH,         // [target, expression, ..., body]: a scope of its own
    N_MACRO,        // name, [N_PARAM..., body]; op: uses of varargs, kwargs, caller
    N_CALL_BLOCK,   // [N_CALL, N_MACRO without a name]
    N_BREAK,
    N_CONTINUE,
    // expressions
    N_CONST,    // constant
    N_CAPTURED, // what a block's filters are applied to
    N_NAME,     // name
    N_LIST,     // [item...]
    N_TUPLE,    // [item...]; also a target
    N_DICT,     // [key, value, ...]
    N_ATTR,     // constant: the attribute's name, [of what]
    N_ITEM,     // [of what, index]
    N_SLICE,    // [of what, start or NULL, stop or NULL, step or NULL]
    N_CALL,     // [what, argument...]
    N_FILTER,   // constant: the filter's name, [of what, argument...]
    N_TEST,     // constant: the test's name, [of what, argument...]
    N_NOT,      // [expression]
    N_SIGN,     // op: + or -, [expression]
    N_AND,      // [left, right]
    N_OR,       // [left, right]
    N_BINARY,   // op, [left, right]
    N_CONCAT,   // [part...]
    N_COMPARE,  // [first, N_OPERAND...]
    N_COND,     // [condition, then, else or NULL]
    // parts of the above
    N_OPERAND,   // op, [expression]; OP_IN and OP_NOT_IN besides the operators
    N_ARG,       // op: 0, '*' or OP('*', '*'), [expression]
    N_NAMED_ARG, // constant: the name, [expression]
    N_PARAM,     // name, [default or NULL]
    N_NS_TARGET, // name: a namespace, constant: its attribute
    N_KINDS
} node_kind;

enum { OP_IN = 'i', OP_NOT_IN = 'n' };
enum { USES_VARARGS = 1, USES_KWARGS = 2, USES_CALLER = 4 }; // of a macro

typedef struct node node;
struct node {
    uint8_t kind;
    uint32_t line, name, n_kids;
    int op;
    const node **kids;
    value constant;
    const struct builtin *row; // of a filter or test; NULL: there is none of that name
};

typedef struct jinja {
    arena memory;
    const node *body;
    const string **names; // [n_names]
    uint32_t n_names;
} jinja;

enum { NAME_LOOP, NAME_CALLER, NAME_VARARGS, NAME_KWARGS, N_KNOWN_NAMES }; // the first names of every program

bool jinja_parse_tokens(run *r, const lexeme *tokens, size_t n, jinja *program);

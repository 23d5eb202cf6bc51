// Evaluator of a template: what jinja.c starts, and how names find values.
//
// A scope is a block of names that ends with a loop's pass, a macro's call or a `with`; names not set in it are looked
// for in the scope around it. The outermost knows every name of the program: variables and functions.
#pragma once

#include "text/jinja_ast.h"
#include "text/jinja_builtin.h"

typedef struct binding {
    uint32_t name;
    value value;
} binding;

typedef struct scope {
    struct scope *parent;
    value *all; // the outermost scope's: [n_names] by name, V_MISSING where it is not set
    binding *bindings;
    uint32_t n, capacity;
} scope;

scope *scope_new(run *r, scope *parent);
bool exec(run *r, const node *n); // a statement; writes to r->out

// Implements the tree of jinja_ast.h: recursive descent over the tokens, one function per level of precedence, in
// jinja2's order. Depth is counted where the grammar nests, so that no template can overflow the stack.
#include "text/jinja_ast.h"

#include "text/jinja_builtin.h"
#include "text/strmap.h"

typedef struct parser {
    run *r; // r->line follows the token that is looked at
    const lexeme *at;
    jinja *program;
    strmap names; // text -> index in program->names
    int uses;     // varargs, kwargs and caller, named since the macro began
    int n_loops;  // around the statement, within its macro
} parser;

typedef const node *parse_fn(parser *p);

static const node *parse_expression(parser *p);
static const node *parse_or(parser *p);
static const node *parse_unary(parser *p, bool with_filters);
static const node *parse_body(parser *p, const char *const *ends);

// ---- tokens and nodes --------------------------------------------------------------------------------------------

static void step(parser *p) {
    p->at++;
    p->r->line = p->at->line;
}

static bool is_op(const parser *p, int op) { return p->at->type == T_OPERATOR && p->at->op == op; }
static bool is_name(const lexeme *t, const char *name) { return t->type == T_NAME && string_is(t->value.s, name); }

static bool skip_op(parser *p, int op) {
    if (!is_op(p, op)) return false;
    step(p);
    return true;
}

static bool skip_name(parser *p, const char *name) {
    if (!is_name(p->at, name)) return false;
    step(p);
    return true;
}

// "unexpected X, wanted Y", as a failure.
static bool unexpected(parser *p, const char *wanted) {
    static const char *const names[] = {[T_END] = "the end of the template",
                                        [T_DATA] = "text",
                                        [T_OUTPUT] = "'{{'",
                                        [T_OUTPUT_END] = "'}}'",
                                        [T_BLOCK] = "'{%'",
                                        [T_BLOCK_END] = "'%}'",
                                        [T_LITERAL] = "a literal"};
    const lexeme *t = p->at;
    int n_shown = t->type == T_NAME && t->value.s->n_bytes < 60 ? (int)t->value.s->n_bytes : 60;
    if (t->type == T_NAME)
        return run_fail(p->r, ERR_FORMAT, "unexpected '%.*s' instead of %s", n_shown, t->value.s->data, wanted);
    if (t->type == T_OPERATOR && t->op > 0xff)
        return run_fail(p->r, ERR_FORMAT, "unexpected '%c%c' instead of %s", t->op >> 8, t->op & 0xff, wanted);
    if (t->type == T_OPERATOR) return run_fail(p->r, ERR_FORMAT, "unexpected '%c' instead of %s", t->op, wanted);
    return run_fail(p->r, ERR_FORMAT, "unexpected %s instead of %s", names[t->type], wanted);
}

static bool expect_op(parser *p, int op) {
    char wanted[] = {'\'', (char)op, '\'', '\0'};
    return skip_op(p, op) || unexpected(p, wanted);
}

static bool expect(parser *p, token_type type, const char *wanted) {
    if (p->at->type != type) return unexpected(p, wanted);
    step(p);
    return true;
}

static node *new_node(parser *p, node_kind kind, uint32_t line) {
    node *n = run_take(p->r, 1, sizeof *n);
    if (n) *n = (node){.kind = (uint8_t)kind, .line = line, .constant = VALUE_NONE};
    return n;
}

static bool set_kids(parser *p, node *n, const node *const *kids, size_t n_kids) {
    n->kids = run_take(p->r, n_kids, sizeof *n->kids);
    if (!n->kids) return false;
    if (n_kids) memcpy(n->kids, kids, n_kids * sizeof *kids);
    n->n_kids = (uint32_t)n_kids;
    return true;
}

static node *new_parent(parser *p, node_kind kind, uint32_t line, const node *const *kids, size_t n_kids) {
    node *n = new_node(p, kind, line);
    return n && set_kids(p, n, kids, n_kids) ? n : NULL;
}
#define NEW_PARENT(p, kind, line, ...)                                                                                 \
    new_parent(p, kind, line, (const node *const[]){__VA_ARGS__},                                                      \
               sizeof((const node *const[]){__VA_ARGS__}) / sizeof(node *))

// Kids under construction.
typedef struct kids {
    const node **v;
    size_t n, capacity;
} kids;

static bool add_kid(parser *p, kids *list, const node *kid) { // kid NULL: it failed
    if (!kid) return false;
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        const node **more = run_take(p->r, capacity, sizeof *more);
        if (!more) return false;
        if (list->n) memcpy(more, list->v, list->n * sizeof *more);
        list->v = more, list->capacity = capacity;
    }
    list->v[list->n++] = kid;
    return true;
}

static uint32_t intern(parser *p, const string *name) {
    int32_t index = strmap_get(&p->names, name->data, name->n_bytes);
    if (index >= 0) return (uint32_t)index;
    uint32_t n = p->program->n_names++;
    p->program->names[n] = name;
    strmap_put(&p->names, name->data, name->n_bytes, (int32_t)n);
    return n;
}

// The name that is looked at, as a node of this kind.
static node *take_name(parser *p, node_kind kind) {
    if (p->at->type != T_NAME) return unexpected(p, "a name"), NULL;
    node *n = new_node(p, kind, p->at->line);
    if (!n) return NULL;
    n->name = intern(p, p->at->value.s);
    n->constant = p->at->value;
    step(p);
    return n;
}

// ---- primary expressions -----------------------------------------------------------------------------------------

static const node *new_const(parser *p, uint32_t line, value v) {
    node *n = new_node(p, N_CONST, line);
    if (n) n->constant = v;
    return n;
}

static const node *parse_name(parser *p) {
    static const struct {
        const char *name;
        value value;
    } constants[] = {{"true", {.kind = V_BOOL, .b = true}},
                     {"True", {.kind = V_BOOL, .b = true}},
                     {"false", {.kind = V_BOOL, .b = false}},
                     {"False", {.kind = V_BOOL, .b = false}},
                     {"none", {.kind = V_NONE}},
                     {"None", {.kind = V_NONE}}};
    uint32_t line = p->at->line;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (skip_name(p, constants[i].name)) return new_const(p, line, constants[i].value);
    node *n = take_name(p, N_NAME);
    if (n && n->name == NAME_VARARGS) p->uses |= USES_VARARGS;
    if (n && n->name == NAME_KWARGS) p->uses |= USES_KWARGS;
    if (n && n->name == NAME_CALLER) p->uses |= USES_CALLER;
    return n;
}

static const node *parse_literal(parser *p) { // strings side by side are one
    uint32_t line = p->at->line;
    value v = p->at->value;
    step(p);
    while (v.kind == V_STRING && p->at->type == T_LITERAL && p->at->value.kind == V_STRING) {
        if (!string_join(p->r, v.s, p->at->value.s, &v)) return NULL;
        step(p);
    }
    return new_const(p, line, v);
}

// Expressions with commas between, up to a closing bracket, which is taken. A comma may end them.
static bool parse_items(parser *p, int close, kids *list) {
    while (!is_op(p, close)) {
        if (list->n && !expect_op(p, ',')) return false;
        if (is_op(p, close)) break;
        if (!add_kid(p, list, parse_expression(p))) return false;
    }
    step(p);
    return true;
}

static const node *parse_list(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    step(p);
    return parse_items(p, ']', &list) ? new_parent(p, N_LIST, line, list.v, list.n) : NULL;
}

static const node *parse_dict(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    step(p);
    while (!is_op(p, '}')) {
        if (list.n && !expect_op(p, ',')) return NULL;
        if (is_op(p, '}')) break;
        if (!add_kid(p, &list, parse_expression(p)) || !expect_op(p, ':') || !add_kid(p, &list, parse_expression(p)))
            return NULL;
    }
    step(p);
    return new_parent(p, N_DICT, line, list.v, list.n);
}

// One expression, or a tuple of those that commas part. `ends` says where there is nothing more.
static bool ends_tuple(const parser *p, const char *end) {
    return p->at->type == T_OUTPUT_END || p->at->type == T_BLOCK_END || is_op(p, ')') || (end && is_name(p->at, end));
}

static const node *parse_tuple(parser *p, parse_fn *item, const char *end, bool may_be_empty) {
    kids list = {0};
    bool is_tuple = false;
    uint32_t line = p->at->line;
    do {
        if (ends_tuple(p, end)) break;
        if (!add_kid(p, &list, item(p))) return NULL;
        is_tuple = is_tuple || is_op(p, ',');
    } while (skip_op(p, ','));
    if (!is_tuple && list.n) return list.v[0];
    if (!is_tuple && !may_be_empty) return unexpected(p, "an expression"), NULL;
    return new_parent(p, N_TUPLE, line, list.v, list.n);
}

static const node *parse_primary(parser *p) {
    if (p->at->type == T_NAME) return parse_name(p);
    if (p->at->type == T_LITERAL) return parse_literal(p);
    if (is_op(p, '[')) return parse_list(p);
    if (is_op(p, '{')) return parse_dict(p);
    if (!skip_op(p, '(')) return unexpected(p, "an expression"), NULL;
    const node *inside = parse_tuple(p, parse_expression, NULL, true);
    return inside && expect_op(p, ')') ? inside : NULL;
}

// ---- what follows an expression ----------------------------------------------------------------------------------

static const node *parse_argument(parser *p, const node *last) {
    uint32_t line = p->at->line;
    int star = is_op(p, '*') ? '*' : is_op(p, OP('*', '*')) ? OP('*', '*') : 0;
    bool named = !star && p->at->type == T_NAME && p->at[1].type == T_OPERATOR && p->at[1].op == '=';
    // positional ones first, then named ones, then *, then **, as in Python
    int last_star = last && last->kind == N_ARG ? last->op : 0;
    if (last_star == OP('*', '*') || (!named && last_star && star != OP('*', '*')) ||
        (!named && !star && last && last->kind == N_NAMED_ARG))
        return run_fail(p->r, ERR_FORMAT, "arguments in an order that a call cannot have"), NULL;
    node *n = named ? take_name(p, N_NAMED_ARG) : new_node(p, N_ARG, line);
    if (!n) return NULL;
    if (named || star) step(p);
    n->op = star;
    const node *expression = parse_expression(p);
    return expression && set_kids(p, n, &expression, 1) ? n : NULL;
}

static bool parse_arguments(parser *p, kids *list) { // from the open bracket on
    const node *last = NULL;
    for (step(p); !is_op(p, ')');) {
        if (last && !expect_op(p, ',')) return false;
        if (is_op(p, ')')) break;
        if (!add_kid(p, list, last = parse_argument(p, last))) return false;
    }
    step(p);
    return true;
}

static const node *parse_call(parser *p, const node *what) {
    kids list = {0};
    uint32_t line = p->at->line;
    return add_kid(p, &list, what) && parse_arguments(p, &list) ? new_parent(p, N_CALL, line, list.v, list.n) : NULL;
}

static const node *parse_attribute(parser *p, const node *of) {
    uint32_t line = p->at->line;
    step(p);
    if (p->at->type == T_LITERAL && p->at->value.kind == V_INT) {
        const node *index = new_const(p, line, p->at->value);
        step(p);
        return index ? NEW_PARENT(p, N_ITEM, line, of, index) : NULL;
    }
    node *n = take_name(p, N_ATTR);
    return n && set_kids(p, n, &of, 1) ? n : NULL;
}

// The part of a slice before a colon or the end; *part NULL: it is empty.
static bool parse_slice_part(parser *p, const node **part) {
    *part = NULL;
    if (is_op(p, ':') || is_op(p, ']') || is_op(p, ',')) return true;
    return (*part = parse_expression(p)) != NULL;
}

static const node *parse_subscript(parser *p, const node *of) {
    uint32_t line = p->at->line;
    const node *start, *stop, *stride = NULL;
    step(p);
    if (!parse_slice_part(p, &start)) return NULL;
    if (skip_op(p, ':')) {
        if (!parse_slice_part(p, &stop) || (skip_op(p, ':') && !parse_slice_part(p, &stride))) return NULL;
        return expect_op(p, ']') ? NEW_PARENT(p, N_SLICE, line, of, start, stop, stride) : NULL;
    }
    kids list = {0};
    if (!start) return unexpected(p, "an index"), NULL;
    if (!is_op(p, ',')) return expect_op(p, ']') ? NEW_PARENT(p, N_ITEM, line, of, start) : NULL;
    if (!add_kid(p, &list, start) || !parse_items(p, ']', &list)) return NULL;
    const node *tuple = new_parent(p, N_TUPLE, line, list.v, list.n);
    return tuple ? NEW_PARENT(p, N_ITEM, line, of, tuple) : NULL;
}

static const node *parse_postfix(parser *p, const node *n) {
    while (n && (is_op(p, '.') || is_op(p, '[') || is_op(p, '(')))
        n = is_op(p, '.') ? parse_attribute(p, n) : is_op(p, '[') ? parse_subscript(p, n) : parse_call(p, n);
    return n;
}

// The name of a filter or test, its arguments, and what it is applied to.
static node *parse_applied(parser *p, node_kind kind, const node *to) {
    bool is_test = kind == N_TEST;
    kids list = {0};
    node *n = take_name(p, kind);
    if (!n || !add_kid(p, &list, to)) return NULL;
    n->row = (is_test ? test_find : filter_find)(n->constant.s);
    const lexeme *t = p->at;
    if (is_op(p, '(')) {
        if (!parse_arguments(p, &list)) return NULL;
    } else if (is_test && (t->type == T_NAME || t->type == T_LITERAL || is_op(p, '[') || is_op(p, '{')) &&
               !is_name(t, "else") && !is_name(t, "or") && !is_name(t, "and")) {
        if (is_name(t, "is")) return unexpected(p, "an argument"), NULL;
        const node *argument = parse_postfix(p, parse_primary(p));
        node *arg = argument ? NEW_PARENT(p, N_ARG, argument->line, argument) : NULL;
        if (!add_kid(p, &list, arg)) return NULL;
    }
    return set_kids(p, n, list.v, list.n) ? n : NULL;
}

static const node *parse_test(parser *p, const node *of) {
    uint32_t line = p->at->line;
    step(p);
    bool negated = skip_name(p, "not");
    const node *test = parse_applied(p, N_TEST, of);
    return test && negated ? NEW_PARENT(p, N_NOT, line, test) : test;
}

static const node *parse_filters(parser *p, const node *n) { // from a '|' on; none: n
    while (n && skip_op(p, '|')) n = parse_applied(p, N_FILTER, n);
    return n;
}

static const node *parse_filters_and_tests(parser *p, const node *n) {
    for (;;) {
        if (n && is_op(p, '|'))
            n = parse_filters(p, n);
        else if (n && is_name(p->at, "is"))
            n = parse_test(p, n);
        else if (n && is_op(p, '('))
            n = parse_call(p, n);
        else
            return n;
    }
}

// ---- operators ---------------------------------------------------------------------------------------------------

static const node *parse_sign(parser *p) {
    int op = p->at->op;
    uint32_t line = p->at->line;
    step(p);
    const node *of = parse_unary(p, false);
    node *n = of ? NEW_PARENT(p, N_SIGN, line, of) : NULL;
    if (n) n->op = op;
    return n;
}

static const node *parse_unary(parser *p, bool with_filters) {
    if (!run_enter(p->r)) return NULL;
    const node *n = is_op(p, '-') || is_op(p, '+') ? parse_sign(p) : parse_primary(p);
    n = parse_postfix(p, n);
    if (with_filters) n = parse_filters_and_tests(p, n);
    run_leave(p->r);
    return n;
}

static const node *parse_operand(parser *p) { return parse_unary(p, true); }

// The operator that is looked at, if it is one of these (0 ends them), taken; 0: it is none.
static int take_op(parser *p, const int *ops) {
    for (; *ops; ops++)
        if (skip_op(p, *ops)) return *ops;
    return 0;
}

// left OP right OP right ..., for the operators of one level.
static const node *parse_binary(parser *p, parse_fn *operand, const int *ops) {
    const node *left = operand(p);
    uint32_t line = p->at->line;
    for (int op; left && (op = take_op(p, ops)); line = p->at->line) {
        const node *right = operand(p);
        node *both = right ? NEW_PARENT(p, N_BINARY, line, left, right) : NULL;
        if (both) both->op = op;
        left = both;
    }
    return left;
}
#define PARSE_BINARY(p, operand, ...) parse_binary(p, operand, (const int[]){__VA_ARGS__, 0})

static const node *parse_power(parser *p) { return PARSE_BINARY(p, parse_operand, OP('*', '*')); }
static const node *parse_product(parser *p) { return PARSE_BINARY(p, parse_power, '*', '/', OP('/', '/'), '%'); }

static const node *parse_concat(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    do {
        if (!add_kid(p, &list, parse_product(p))) return NULL;
    } while (skip_op(p, '~'));
    return list.n == 1 ? list.v[0] : new_parent(p, N_CONCAT, line, list.v, list.n);
}

static const node *parse_sum(parser *p) { return PARSE_BINARY(p, parse_concat, '+', '-'); }

static int comparison(parser *p) { // the operator, taken; 0: there is none
    static const int ops[] = {OP('=', '='), OP('!', '='), '<', '>', OP('<', '='), OP('>', '='), 0};
    int op = take_op(p, ops);
    if (op) return op;
    if (skip_name(p, "in")) return OP_IN;
    if (!is_name(p->at, "not") || !is_name(p->at + 1, "in")) return 0;
    step(p), step(p);
    return OP_NOT_IN;
}

static const node *parse_compare(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    if (!add_kid(p, &list, parse_sum(p))) return NULL;
    for (int op; (op = comparison(p));) {
        const node *right = parse_sum(p);
        node *operand = right ? NEW_PARENT(p, N_OPERAND, right->line, right) : NULL;
        if (!add_kid(p, &list, operand)) return NULL;
        operand->op = op;
    }
    return list.n == 1 ? list.v[0] : new_parent(p, N_COMPARE, line, list.v, list.n);
}

static const node *parse_not(parser *p) {
    uint32_t line = p->at->line;
    if (!skip_name(p, "not")) return parse_compare(p);
    if (!run_enter(p->r)) return NULL;
    const node *of = parse_not(p);
    run_leave(p->r);
    return of ? NEW_PARENT(p, N_NOT, line, of) : NULL;
}

static const node *parse_and(parser *p) {
    const node *left = parse_not(p);
    for (uint32_t line = p->at->line; left && skip_name(p, "and"); line = p->at->line) {
        const node *right = parse_not(p);
        left = right ? NEW_PARENT(p, N_AND, line, left, right) : NULL;
    }
    return left;
}

static const node *parse_or(parser *p) {
    const node *left = parse_and(p);
    for (uint32_t line = p->at->line; left && skip_name(p, "or"); line = p->at->line) {
        const node *right = parse_and(p);
        left = right ? NEW_PARENT(p, N_OR, line, left, right) : NULL;
    }
    return left;
}

static const node *parse_expression(parser *p) {
    const node *n = parse_or(p);
    for (uint32_t line = p->at->line; n && skip_name(p, "if"); line = p->at->line) {
        const node *condition = parse_or(p), *otherwise = NULL;
        if (!condition) return NULL;
        if (skip_name(p, "else")) {
            if (!run_enter(p->r)) return NULL;
            otherwise = parse_expression(p);
            run_leave(p->r);
            if (!otherwise) return NULL;
        }
        n = NEW_PARENT(p, N_COND, line, condition, n, otherwise);
    }
    return n;
}

// ---- targets -----------------------------------------------------------------------------------------------------

static const node *parse_target_name(parser *p) {
    static const char *const constants[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (is_name(p->at, constants[i])) return unexpected(p, "a name that can be set"), NULL;
    return take_name(p, N_NAME);
}

static const node *parse_target_item(parser *p);

static const node *parse_target_part(parser *p) { // a name, or names in brackets
    if (!skip_op(p, '(')) return parse_target_name(p);
    if (!run_enter(p->r)) return NULL;
    const node *inside = parse_tuple(p, parse_target_part, NULL, true);
    run_leave(p->r);
    return inside && expect_op(p, ')') ? inside : NULL;
}

static const node *parse_target_item(parser *p) { // the same, or an attribute of a namespace
    if (p->at->type != T_NAME || p->at[1].type != T_OPERATOR || p->at[1].op != '.') return parse_target_part(p);
    node *n = take_name(p, N_NS_TARGET);
    step(p);
    if (!n || p->at->type != T_NAME) return unexpected(p, "a name"), NULL;
    n->constant = p->at->value;
    step(p);
    return n;
}

// ---- statements --------------------------------------------------------------------------------------------------

// A body from the end of a tag on, up to the tag with one of these words, which is looked at then.
static const node *parse_block(parser *p, const char *const *ends) {
    skip_op(p, ':');
    return expect(p, T_BLOCK_END, "'%}'") ? parse_body(p, ends) : NULL;
}
#define BLOCK(p, ...) parse_block(p, (const char *const[]){__VA_ARGS__, NULL})

// The same up to the one word, which is taken.
static const node *parse_to(parser *p, const char *end) {
    const node *body = BLOCK(p, end);
    if (body) step(p);
    return body;
}

static const node *parse_if(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    do {
        step(p);
        if (!add_kid(p, &list, parse_tuple(p, parse_or, NULL, false)) ||
            !add_kid(p, &list, BLOCK(p, "elif", "else", "endif")))
            return NULL;
    } while (is_name(p->at, "elif"));
    if (!is_name(p->at, "else"))
        step(p);
    else if (step(p), !add_kid(p, &list, parse_to(p, "endif")))
        return NULL;
    return new_parent(p, N_IF, line, list.v, list.n);
}

static const node *parse_for(parser *p) {
    uint32_t line = p->at->line;
    const node *condition = NULL, *otherwise = NULL;
    step(p);
    const node *target = parse_tuple(p, parse_target_part, "in", false);
    if (!target) return NULL;
    if (!skip_name(p, "in")) return unexpected(p, "'in'"), NULL;
    const node *over = parse_tuple(p, parse_or, "recursive", false);
    if (!over || (skip_name(p, "if") && !(condition = parse_expression(p)))) return NULL;
    bool recursive = skip_name(p, "recursive");
    p->n_loops++;
    const node *body = BLOCK(p, "endfor", "else");
    p->n_loops--;
    if (!body) return NULL;
    bool has_else = is_name(p->at, "else");
    step(p);
    if (has_else && !(otherwise = parse_to(p, "endfor"))) return NULL;
    node *n = NEW_PARENT(p, N_FOR, line, target, over, condition, body, otherwise);
    if (n) n->op = recursive;
    return n;
}

static const node *parse_set(parser *p) {
    uint32_t line = p->at->line;
    step(p);
    const node *target = parse_tuple(p, parse_target_item, NULL, false);
    if (!target) return NULL;
    if (skip_op(p, '=')) {
        const node *expression = parse_tuple(p, parse_expression, NULL, false);
        return expression ? NEW_PARENT(p, N_SET, line, target, expression) : NULL;
    }
    const node *filters = NULL, *body;
    if (is_op(p, '|') && !(filters = parse_filters(p, new_node(p, N_CAPTURED, line)))) return NULL;
    return (body = parse_to(p, "endset")) ? NEW_PARENT(p, N_SET_BLOCK, line, target, filters, body) : NULL;
}

static const node *parse_filter_block(parser *p) {
    uint32_t line = p->at->line;
    step(p);
    const node *captured = new_node(p, N_CAPTURED, line);
    const node *filters = captured ? parse_filters(p, parse_applied(p, N_FILTER, captured)) : NULL;
    const node *body = filters ? parse_to(p, "endfilter") : NULL;
    return body ? NEW_PARENT(p, N_FILTER_BLOCK, line, filters, body) : NULL;
}

static const node *parse_with(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    step(p);
    while (p->at->type != T_BLOCK_END) {
        if (list.n && !expect_op(p, ',')) return NULL;
        if (!add_kid(p, &list, parse_target_part(p)) || !expect_op(p, '=') || !add_kid(p, &list, parse_expression(p)))
            return NULL;
    }
    return add_kid(p, &list, parse_to(p, "endwith")) ? new_parent(p, N_WITH, line, list.v, list.n) : NULL;
}

static const node *parse_generation(parser *p) { // marks the assistant's words for training; here it only scopes names
    uint32_t line = p->at->line;
    step(p);
    const node *body = parse_to(p, "endgeneration");
    return body ? NEW_PARENT(p, N_WITH, line, body) : NULL;
}

static bool parse_params(parser *p, kids *list) {
    bool has_default = false;
    if (!expect_op(p, '(')) return false;
    for (bool first = true; !is_op(p, ')'); first = false) {
        if (!first && !expect_op(p, ',')) return false;
        node *param = take_name(p, N_PARAM);
        if (!add_kid(p, list, param)) return false;
        const node *otherwise = NULL;
        if (skip_op(p, '=')) {
            if (!(otherwise = parse_expression(p))) return false;
            has_default = true;
        } else if (has_default) {
            return run_fail(p->r, ERR_FORMAT, "a parameter without a default follows one that has it");
        }
        if (!set_kids(p, param, &otherwise, 1)) return false;
    }
    step(p);
    return true;
}

// What a macro and the body of a call block share: parameters (unless there are none), body, and what it uses.
static node *parse_macro_rest(parser *p, node *macro, bool has_params, kids *list, const char *end) {
    int uses = p->uses, n_loops = p->n_loops;
    p->uses = 0, p->n_loops = 0;
    bool ok = (!has_params || parse_params(p, list)) && add_kid(p, list, parse_to(p, end)) &&
              set_kids(p, macro, list->v, list->n);
    macro->op = p->uses;
    p->uses |= uses, p->n_loops = n_loops;
    return ok ? macro : NULL;
}

static const node *parse_macro(parser *p) {
    kids list = {0};
    step(p);
    node *macro = take_name(p, N_MACRO);
    return macro ? parse_macro_rest(p, macro, true, &list, "endmacro") : NULL;
}

static const node *parse_call_block(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    step(p);
    node *macro = new_node(p, N_MACRO, line);
    if (!macro || (is_op(p, '(') && !parse_params(p, &list))) return NULL;
    const node *call = parse_expression(p);
    if (!call) return NULL;
    if (call->kind != N_CALL) return run_fail(p->r, ERR_FORMAT, "'call' wants a call"), NULL;
    macro = parse_macro_rest(p, macro, false, &list, "endcall");
    return macro ? NEW_PARENT(p, N_CALL_BLOCK, line, call, macro) : NULL;
}

static const node *parse_jump(parser *p) {
    node *n = new_node(p, is_name(p->at, "break") ? N_BREAK : N_CONTINUE, p->at->line);
    if (p->n_loops == 0) return run_fail(p->r, ERR_FORMAT, "break or continue outside of a loop"), NULL;
    step(p);
    return n;
}

static const node *parse_print(parser *p) {
    kids list = {0};
    uint32_t line = p->at->line;
    step(p);
    while (p->at->type != T_BLOCK_END) {
        if (list.n && !expect_op(p, ',')) return NULL;
        const node *shown = parse_expression(p);
        if (!shown || !add_kid(p, &list, NEW_PARENT(p, N_OUTPUT, line, shown))) return NULL;
    }
    return new_parent(p, N_BODY, line, list.v, list.n);
}

static const node *parse_statement(parser *p) {
    static const struct {
        const char *name;
        parse_fn *parse;
    } statements[] = {{"if", parse_if},
                      {"for", parse_for},
                      {"set", parse_set},
                      {"macro", parse_macro},
                      {"break", parse_jump},
                      {"continue", parse_jump},
                      {"with", parse_with},
                      {"print", parse_print},
                      {"generation", parse_generation},
                      {"call", parse_call_block},
                      {"filter", parse_filter_block}};
    static const char *const unsupported[] = {"block", "extends", "include", "import", "from", "autoescape"};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (is_name(p->at, statements[i].name)) return statements[i].parse(p);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (is_name(p->at, unsupported[i]))
            return run_fail(p->r, ERR_UNSUPPORTED, "'%s' is not supported", unsupported[i]), NULL;
    return unexpected(p, "a statement"), NULL;
}

static bool at_end_word(const parser *p, const char *const *ends) {
    for (; ends && *ends; ends++)
        if (is_name(p->at, *ends)) return true;
    return false;
}

// Text, values and statements up to {% and one of the words; without words, up to the template's end.
static bool parse_into(parser *p, kids *list, const char *const *ends) {
    for (;;) {
        uint32_t line = p->at->line;
        if (p->at->type == T_END) return !ends || unexpected(p, ends[0]);
        if (p->at->type == T_DATA) {
            node *n = new_node(p, N_TEXT, line);
            if (!add_kid(p, list, n)) return false;
            n->constant = p->at->value;
            step(p);
        } else if (p->at->type == T_OUTPUT) {
            step(p);
            const node *shown = parse_tuple(p, parse_expression, NULL, false);
            if (!shown || !expect(p, T_OUTPUT_END, "'}}'")) return false;
            if (!add_kid(p, list, NEW_PARENT(p, N_OUTPUT, line, shown))) return false;
        } else {
            step(p);
            if (at_end_word(p, ends)) return true;
            if (!add_kid(p, list, parse_statement(p)) || !expect(p, T_BLOCK_END, "'%}'")) return false;
        }
    }
}

static const node *parse_body(parser *p, const char *const *ends) {
    kids list = {0};
    uint32_t line = p->at->line;
    if (!run_enter(p->r)) return NULL;
    bool ok = parse_into(p, &list, ends);
    run_leave(p->r);
    return ok ? new_parent(p, N_BODY, line, list.v, list.n) : NULL;
}

bool jinja_parse_tokens(run *r, const lexeme *tokens, size_t n, jinja *program) {
    static const char *const known[] = {"loop", "caller", "varargs", "kwargs"};
    _Static_assert(sizeof known / sizeof *known == N_KNOWN_NAMES, "NAME_LOOP ... differ");
    parser p = {.r = r, .at = tokens, .program = program};
    program->names = run_take(r, n + N_KNOWN_NAMES, sizeof *program->names);
    if (!program->names || !strmap_init(&p.names, n + N_KNOWN_NAMES, "the names of a template", r->e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < N_KNOWN_NAMES; i++) {
        value name;
        ok = string_literal(r, known[i], &name);
        if (ok) intern(&p, name.s);
    }
    r->line = tokens->line;
    ok = ok && (program->body = parse_body(&p, NULL));
    strmap_free(&p.names);
    return ok;
}

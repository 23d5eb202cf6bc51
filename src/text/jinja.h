// Jinja: the template language of chat templates, with the meaning that Python's jinja2 gives it in the set-up of
// `transformers`: immutable sandbox, trim_blocks, lstrip_blocks, break and continue, {% generation %}, tojson without
// HTML escapes, raise_exception and strftime_now. Output is byte-equal; what is not supported (import, include,
// extends, block, integers beyond 64 bits, the filters for HTML pages) is an error, never approximated. One difference
// is meant: a variable is what it was until it is set, where jinja2 takes it for undefined inside blocks that stand
// before a {% set %} of its name.
//
// A program is immutable: any threads may render it at once. A render owns one block of memory and takes no more; its
// work is bounded by fuel, its nesting by a depth, so that neither a template nor the data can hang, exhaust or
// overflow anything. Errors are one sentence: "chat template, line 12: ...".
// Every byte of output is known to come from the template or from data (a variable marked so): a user who writes a
// control token into a message must not have written one into the prompt.
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "text/span.h"

#include <jansson.h>
#include <stdint.h>
#include <time.h>

typedef struct jinja jinja;

typedef struct jinja_limits { // zero means the default
    uint64_t fuel;       // nodes evaluated, and bytes and elements looked at by the dozen; 20 million, about a second
    size_t memory_bytes; // of one render; 256 MiB
    size_t output_bytes; // 16 MiB
    uint32_t depth;      // of nesting, macros included; 800
} jinja_limits;

typedef struct jinja_var {
    const char *name;
    const json_t *value;
    bool is_data; // its strings are data wherever they, or parts of them, show
} jinja_var;

typedef struct jinja_input {
    const jinja_var *vars;
    size_t n_vars;
    const struct tm *now; // what strftime_now formats; NULL: there is no strftime_now
    // Strings that are no data where they are the value of a key "role": a template may make control tokens of them.
    // NULL-terminated; may be NULL.
    const char *const *roles;
    jinja_limits limits;
} jinja_input;

typedef struct jinja_text {
    buf text;
    text_span *data; // ascending, disjoint, none empty: the bytes that are data
    size_t n_data;
} jinja_text;

// NULL, and what is wrong in which line. The text must be UTF-8 and at most 1 MiB.
jinja *jinja_parse(const char *text, size_t n_bytes, err *e);
void jinja_free(jinja *t); // t may be NULL

// ERR_USAGE: the template called raise_exception; ERR_TOO_LONG: a limit was met; otherwise the template is at fault, or
// does not fit the data. *out must be zero; it is filled when all went well, and jinja_text_free frees it.
bool jinja_render(const jinja *t, const jinja_input *in, jinja_text *out, err *e);
void jinja_text_free(jinja_text *t);

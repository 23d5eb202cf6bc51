// Json: request bodies read field by field from a table, and replies written piece by piece.
//
// Reading is strict about what is known (type and range of every field in the table: the sentence names it) and blind
// to what is not, as OpenAI's API is. A field that is null counts as absent. Writing makes valid UTF-8 of any bytes.
#pragma once

#include "base/buf.h"
#include "server/problem.h"

#include <jansson.h>

typedef enum field_kind {
    FIELD_BOOL,    // bool
    FIELD_FLOAT,   // float, within [least, most]
    FIELD_UINT,    // uint32_t, within [least, most]
    FIELD_INT,     // int32_t, within [least, most]
    FIELD_SEED,    // uint64_t; any integer, negative ones too
    FIELD_SECONDS, // int64_t milliseconds, from a number of seconds within [least, most]
    FIELD_TEXT,    // const char *, borrowed from the JSON
    FIELD_ANY,     // json_t *, borrowed: the caller looks at it
} field_kind;

typedef struct field {
    const char *name;
    field_kind kind;
    size_t at; // offset in the struct that is filled
    double least, most;
} field;

// The whole body as one JSON object; NULL and *p if it is none. json_decref it.
json_t *json_read_body(exchange *x, problem *p);
// A token's id: an integer that is not negative.
bool json_read_token(const json_t *value, int32_t *token);
bool json_read_fields(const json_t *object, const field *fields, size_t n_fields, void *out, problem *p);

void json_put_text(buf *b, const char *data, size_t n_bytes); // quoted and escaped; malformed UTF-8 becomes U+FFFD
// A float as the shortest decimal that reads back the same; null if it is not finite.
void json_put_float(buf *b, float x);

// Implements json.h.
#include "server/json.h"

#include <math.h>
#include <string.h>

enum { MAX_VALUES = 1 << 18 }; // in one body; in memory each is many times as large as in the text

// How many values a text holds, at most: before each but the outermost stands one of these, outside of strings. Members
// and containers count twice, and take as much more memory.
static size_t count_values(const char *text, size_t n_bytes) {
    size_t n = 1;
    bool quoted = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else
            n += !quoted && (c == ',' || c == ':' || c == '[' || c == '{');
    }
    return n;
}

json_t *json_read_body(exchange *x, problem *p) {
    size_t n_bytes;
    const char *body = exchange_body(x, &n_bytes);
    json_error_t error;
    if (n_bytes == 0)
        return problem_set(p, 400, "invalid_json", NULL, "the body is empty; a JSON object was expected"), NULL;
    if (count_values(body, n_bytes) > MAX_VALUES)
        return problem_set(p, 400, "too_many_values", NULL, "the body holds more than %d JSON values", MAX_VALUES),
               NULL;
    json_t *object = json_loadb(body, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!object) {
        problem_set(p, 400, "invalid_json", NULL, "the body is not valid JSON: %.160s at byte %d", error.text,
                    error.position);
        return NULL;
    }
    if (json_is_object(object)) return object;
    json_decref(object);
    problem_set(p, 400, "invalid_json", NULL, "the body is not a JSON object");
    return NULL;
}

// ---- fields ------------------------------------------------------------------------------------------------------

static bool wrong_type(const field *f, const char *wanted, problem *p) {
    return problem_set(p, 400, "invalid_type", f->name, "'%s' must be %s", f->name, wanted);
}

static bool in_range(const field *f, double value, problem *p) {
    if (value >= f->least && value <= f->most) return true; // false for NaN
    return problem_set(p, 400, "invalid_value", f->name, "'%s' is %.17g; it must be at least %.17g and at most %.17g",
                       f->name, value, f->least, f->most);
}

static bool read_number(const field *f, const json_t *value, double *out, problem *p) {
    if (!json_is_number(value)) return wrong_type(f, "a number", p);
    *out = json_number_value(value);
    return in_range(f, *out, p);
}

static bool read_integer(const field *f, const json_t *value, json_int_t *out, problem *p) {
    // 16.0 is an integer to JavaScript and to JSON Schema
    if (json_is_real(value) && json_real_value(value) == trunc(json_real_value(value)) &&
        fabs(json_real_value(value)) < 0x1p53)
        *out = (json_int_t)json_real_value(value);
    else if (json_is_integer(value))
        *out = json_integer_value(value);
    else
        return wrong_type(f, "an integer", p);
    return f->kind == FIELD_SEED || in_range(f, (double)*out, p);
}

static bool read_field(const field *f, json_t *value, void *at, problem *p) {
    double number;
    json_int_t integer;
    switch (f->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(value)) return wrong_type(f, "true or false", p);
        *(bool *)at = json_is_true(value);
        return true;
    case FIELD_FLOAT:
        if (!read_number(f, value, &number, p)) return false;
        *(float *)at = (float)number;
        return true;
    case FIELD_SECONDS:
        if (!read_number(f, value, &number, p)) return false;
        *(int64_t *)at = (int64_t)ceil(number * 1000);
        return true;
    case FIELD_UINT:
        if (!read_integer(f, value, &integer, p)) return false;
        *(uint32_t *)at = (uint32_t)integer;
        return true;
    case FIELD_INT:
        if (!read_integer(f, value, &integer, p)) return false;
        *(int32_t *)at = (int32_t)integer;
        return true;
    case FIELD_SEED:
        if (!read_integer(f, value, &integer, p)) return false;
        *(uint64_t *)at = (uint64_t)integer;
        return true;
    case FIELD_TEXT:
        if (!json_is_string(value)) return wrong_type(f, "a string", p);
        if (strlen(json_string_value(value)) != json_string_length(value))
            return problem_set(p, 400, "invalid_value", f->name, "'%s' contains a NUL character", f->name);
        *(const char **)at = json_string_value(value);
        return true;
    case FIELD_ANY:
        *(json_t **)at = value;
        return true;
    }
    check(!"a kind of field");
    return false;
}

bool json_read_token(const json_t *value, int32_t *token) {
    static const field TOKEN = {"token", FIELD_INT, 0, 0, INT32_MAX};
    problem unsaid = {0};
    json_int_t id;
    if (!read_integer(&TOKEN, value, &id, &unsaid)) return false;
    *token = (int32_t)id;
    return true;
}

bool json_read_fields(const json_t *object, const field *fields, size_t n_fields, void *out, problem *p) {
    for (size_t i = 0; i < n_fields; i++) {
        json_t *value = json_object_get(object, fields[i].name);
        if (!value || json_is_null(value)) continue;
        if (!read_field(&fields[i], value, (char *)out + fields[i].at, p)) return false;
    }
    return true;
}

// ---- writing -----------------------------------------------------------------------------------------------------

// Bytes of the well-formed character at s (Unicode 15, table 3-7); 0 if there is none.
static size_t character(const unsigned char *s, size_t n_bytes) {
    unsigned char lead = s[0], low = 0x80, high = 0xbf;
    if (lead < 0x80) return 1;
    size_t n = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    if (n == 0 || n > n_bytes || s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    return n;
}

static void put_escaped(buf *b, unsigned char c) {
    switch (c) {
    case '"':
        buf_append(b, "\\\"", 2);
        return;
    case '\\':
        buf_append(b, "\\\\", 2);
        return;
    case '\n':
        buf_append(b, "\\n", 2);
        return;
    default:
        buf_printf(b, "\\u%04x", c);
    }
}

void json_put_text(buf *b, const char *data, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)data;
    buf_append_char(b, '"');
    size_t from = 0; // what is plain goes in one piece
    for (size_t at = 0, n; at < n_bytes; at += n ? n : 1) {
        n = character(s + at, n_bytes - at);
        if (n > 1 || (n == 1 && s[at] >= 0x20 && s[at] != '"' && s[at] != '\\' && s[at] != 0x7f)) continue;
        buf_append(b, data + from, at - from);
        if (n == 0)
            buf_append_str(b, "\xEF\xBF\xBD");
        else
            put_escaped(b, s[at]);
        from = at + 1;
    }
    buf_append(b, data + from, n_bytes - from);
    buf_append_char(b, '"');
}

void json_put_float(buf *b, float x) {
    if (!isfinite(x)) {
        buf_append_str(b, "null");
        return;
    }
    for (int digits = 6; digits <= 9; digits++) {
        char text[32];
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (digits < 9 && strtof(text, NULL) != x) continue;
        buf_append_str(b, text);
        return;
    }
}

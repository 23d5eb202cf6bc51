// Strings of a template: building, cutting and searching them as Python's str does, marks included. Offsets are bytes
// unless they are called chars.
#pragma once

#include "text/jinja_value.h"

// A string under construction. Zero is empty; it lives in the render's arena.
typedef struct text {
    char *data;
    uint8_t *marks;                            // NULL: no byte is data so far
    size_t n_bytes, capacity_bytes, max_bytes; // max_bytes 0: as the memory allows
} text;

bool text_add(run *r, text *t, const char *data, size_t n_bytes, const uint8_t *marks); // marks NULL: not data
bool text_add_str(run *r, text *t, const char *s);
bool text_add_string(run *r, text *t, const string *s);
bool text_add_char(run *r, text *t, uint32_t c, bool is_data);
bool text_take(run *r, text *t, value *out);
bool text_take_like(run *r, text *t, const string *like, value *out); // safe if `like` is

bool string_new(run *r, const char *data, size_t n_bytes, const uint8_t *marks, value *out); // bytes are kept
bool string_literal(run *r, const char *s, value *out);
size_t string_count_chars(const char *data, size_t n_bytes);
size_t string_offset(const string *s, size_t chars); // of the character with this index
bool string_equal(const string *a, const string *b);
bool string_is(const string *s, const char *literal);
int string_compare(const string *a, const string *b);
bool string_cut(run *r, const string *s, size_t from, size_t to, value *out);
bool string_join(run *r, const string *a, const string *b, value *out); // a + b; if one is safe, so is the sum

// First or last occurrence within [from, to); SIZE_MAX: none.
size_t string_find(const string *s, const string *what, size_t from, size_t to);
size_t string_find_last(const string *s, const string *what, size_t from, size_t to);

typedef enum strip_side { STRIP_LEFT = 1, STRIP_RIGHT = 2, STRIP_BOTH = 3 } strip_side;
bool string_strip(run *r, const string *s, const string *chars, strip_side side, value *out); // chars NULL: blanks
bool string_replace(run *r, const string *s, const string *old, const string *by, int64_t most, value *out);
bool string_repeat(run *r, const string *s, int64_t times, value *out);
bool string_split(run *r, const string *s, const string *by, int64_t most, bool from_right,
                  value *out); // by NULL: blanks
bool string_split_lines(run *r, const string *s, bool keep_ends, value *out);
bool string_reverse(run *r, const string *s, value *out);
bool string_escape(run *r, const string *s, value *out);        // for HTML; the result is safe
bool string_suit(run *r, const string *like, const string **s); // escapes what goes into a string that is safe

typedef enum letter_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP } letter_case;
bool string_change_case(run *r, const string *s, letter_case to, value *out);

// ---- values as text (jinja_show.c) -------------------------------------------------------------------------------

bool show_str(run *r, text *t, const value *v);  // str(v)
bool show_repr(run *r, text *t, const value *v); // repr(v)
bool show_float(run *r, text *t, double f);
bool show_to_string(run *r, const value *v, value *out); // str(v); a string stays what it is

typedef struct json_style {
    bool ascii, sort_keys;
    const string *indent; // NULL: on one line
    const string *between, *after_key;
} json_style;
bool show_json(run *r, text *t, const value *v, const json_style *style);

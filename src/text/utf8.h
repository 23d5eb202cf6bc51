// UTF-8: one character at a time and whole texts, as the Unicode Standard defines them (table 3-7).
//
// Pure functions. A bad sequence is its maximal subpart (Unicode 15, section 3.9, U+FFFD substitution), which is what
// WHATWG decoders replace by one U+FFFD.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum utf8_kind {
    UTF8_CHAR, // a whole character
    UTF8_BAD,  // n_bytes can never become part of a character
    UTF8_PART, // the text ends inside what may become a character
} utf8_kind;

typedef struct utf8_step {
    utf8_kind kind;
    size_t n_bytes; // 1..4 (PART and BAD: 1..3)
} utf8_step;

// What the text begins with; n_bytes > 0.
utf8_step utf8_next(const char *text, size_t n_bytes);
// Offset of the first byte that does not belong to a whole character; n_bytes when the text is valid.
size_t utf8_validate(const char *text, size_t n_bytes);
// The character that a valid text begins with, and its length.
uint32_t utf8_decode(const char *text, size_t *n_bytes);
size_t utf8_encode(uint32_t c, char out[4]); // bytes written; c is a character: no surrogate, at most U+10FFFF

// Unicode: the case of characters, and which of them are blanks or can be printed, as Python's str sees them.
//
// Pure functions over tables (unicode.inc) made from Python's own database, for chat templates were written to be read
// by Python. Full case mappings: one character may become up to three.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UNICODE_MAX_EXPANSION = 3 };

// Characters written to out[UNICODE_MAX_EXPANSION]: 1..3.
size_t unicode_upper(uint32_t c, uint32_t *out);
size_t unicode_lower(uint32_t c, uint32_t *out);
size_t unicode_title(uint32_t c, uint32_t *out);

bool unicode_is_cased(uint32_t c);
bool unicode_is_space(uint32_t c);     // str.isspace
bool unicode_is_line_end(uint32_t c);  // where str.splitlines cuts
bool unicode_is_printable(uint32_t c); // str.isprintable: repr shows it as it is

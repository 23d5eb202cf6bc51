// The byte-level alphabet: how vocabularies of byte-level BPE write arbitrary bytes as printable characters.
//
// From GPT-2's encoder.py (bytes_to_unicode): the bytes 33..126, 161..172 and 174..255 stand for themselves as code
// points; the other 68, in ascending order, are the code points 256..323. Pure functions.
#pragma once

#include <stddef.h>

// The byte that the text's first character stands for, and the character's length in *n_used; -1 if none.
int alphabet_byte(const char *text, size_t n_bytes, size_t *n_used);
// Decodes into out (room for n_bytes), returns the length. What the alphabet does not know is taken literally.
size_t alphabet_decode(const char *text, size_t n_bytes, char *out);

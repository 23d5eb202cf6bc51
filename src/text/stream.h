// Text stream: token bytes in, text that is safe to show out.
//
// Two promises: never half a UTF-8 character (bytes that can never become valid turn into U+FFFD, as in WHATWG
// decoding, and an unfinished character at the end too), and never any byte of a stop string, even one that spans
// tokens. Whole text == the concatenation of what was shown, for every way of cutting the input. Owned by one sequence;
// one thread.
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef struct text_stream text_stream;

// stops: n_stops strings (copied); those that are empty or not UTF-8 are ignored. The one that ends first wins.
text_stream *text_stream_new(const char *const *stops, size_t n_stops);
void text_stream_free(text_stream *s);
// Feeds bytes. Returns the text that may now be shown: borrowed until the next call, *n_out bytes (may be 0).
// *stopped is set when a stop string was completed: what came before it is returned, the rest is dropped, and the
// stream takes nothing more.
const char *text_stream_push(text_stream *s, const char *bytes, size_t n_bytes, size_t *n_out, bool *stopped);
// The end: what was held back (a partial stop string, an unfinished character as U+FFFD).
const char *text_stream_finish(text_stream *s, size_t *n_out);

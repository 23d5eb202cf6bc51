// Buffer: bytes that grow. For text under construction: event outboxes, rendered templates, replies.
//
// Owns its bytes. Invariant: once anything was appended, data[n_bytes] is NUL, so data is also a C string.
// Memory doubles, so n appends cost O(total). Limits are the caller's: a buffer fed from outside is bounded before it
// is fed. Not thread-safe. Zero is a valid empty buffer.
#pragma once

#include <stddef.h>

typedef struct buf {
    char *data; // NULL until the first append
    size_t n_bytes, capacity_bytes;
} buf;

void buf_reserve(buf *b, size_t n_more); // room for n_more further bytes (and the NUL)
void buf_append(buf *b, const void *bytes, size_t n_bytes);
void buf_append_str(buf *b, const char *s);
void buf_append_char(buf *b, char c);
void buf_printf(buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_drop_front(buf *b, size_t n_bytes); // n_bytes <= b->n_bytes, check()ed
void buf_reset(buf *b);                      // empty, memory kept
char *buf_take(buf *b);                      // the bytes, the caller's to free(); never NULL. b is empty after
void buf_free(buf *b);

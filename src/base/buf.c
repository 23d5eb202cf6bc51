// Implements buf.h.
#include "base/buf.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_reserve(buf *b, size_t n_more) {
    check(n_more < SIZE_MAX / 2 - b->n_bytes);
    size_t need = b->n_bytes + n_more + 1;
    if (need <= b->capacity_bytes) return;
    size_t capacity = b->capacity_bytes ? b->capacity_bytes : 64;
    while (capacity < need) capacity *= 2;
    b->data = xrealloc(b->data, capacity);
    b->capacity_bytes = capacity;
}

void buf_append(buf *b, const void *bytes, size_t n_bytes) {
    buf_reserve(b, n_bytes);
    if (n_bytes) memcpy(b->data + b->n_bytes, bytes, n_bytes);
    b->n_bytes += n_bytes;
    b->data[b->n_bytes] = '\0';
}

void buf_append_str(buf *b, const char *s) { buf_append(b, s, strlen(s)); }
void buf_append_char(buf *b, char c) { buf_append(b, &c, 1); }

void buf_printf(buf *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    check(n >= 0);
    buf_reserve(b, (size_t)n);
    vsnprintf(b->data + b->n_bytes, (size_t)n + 1, format, again);
    b->n_bytes += (size_t)n;
    va_end(again);
    va_end(args);
}

void buf_drop_front(buf *b, size_t n_bytes) {
    check(n_bytes <= b->n_bytes);
    if (n_bytes == 0) return;
    memmove(b->data, b->data + n_bytes, b->n_bytes - n_bytes + 1);
    b->n_bytes -= n_bytes;
}

void buf_reset(buf *b) {
    b->n_bytes = 0;
    if (b->data) b->data[0] = '\0';
}

char *buf_take(buf *b) {
    buf_append(b, NULL, 0);
    char *data = b->data;
    *b = (buf){0};
    return data;
}

void buf_free(buf *b) {
    free(b->data);
    *b = (buf){0};
}

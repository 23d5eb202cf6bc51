// Span: a part of a text, as byte offsets.
#pragma once

#include <stddef.h>

typedef struct text_span {
    size_t start, end; // [start, end)
} text_span;

// Implements unicode.h.
#include "text/unicode.h"

typedef struct mapping { // first, first + stride .. last are moved by delta
    uint32_t first, last, stride;
    int32_t delta;
} mapping;

typedef struct expansion {
    uint32_t c, to[UNICODE_MAX_EXPANSION]; // 0: no more
} expansion;

typedef struct span {
    uint32_t first, last;
} span;

#include "text/unicode.inc"

#define COUNT(table) (sizeof(table) / sizeof *(table))

// The row of a table sorted by its first member in which c may be: the last that does not begin after c. NULL: none.
static const void *find_row(const void *table, size_t n, size_t row_bytes, uint32_t c) {
    size_t low = 0, high = n; // rows before low begin at c or earlier, those from high on after it
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (*(const uint32_t *)((const char *)table + middle * row_bytes) <= c)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? (const char *)table + (low - 1) * row_bytes : NULL;
}
#define FIND_ROW(table, c) find_row(table, COUNT(table), sizeof *(table), c)

static bool map_one(const mapping *m, uint32_t c, uint32_t *out) {
    if (!m || c > m->last || (c - m->first) % m->stride) return false;
    *out = (uint32_t)((int32_t)c + m->delta);
    return true;
}

static size_t expand(const expansion *x, uint32_t c, uint32_t *out) {
    size_t n = 0;
    if (x && x->c == c)
        for (; n < UNICODE_MAX_EXPANSION && x->to[n]; n++) out[n] = x->to[n];
    return n;
}

// The expansion, the mapping, or 0 characters.
#define MAP(table, c, out)                                                                                             \
    ({                                                                                                                 \
        size_t n_ = expand(FIND_ROW(table##_LONG, c), c, out);                                                         \
        n_ ? n_ : (size_t)map_one(FIND_ROW(table, c), c, out);                                                         \
    })

static size_t or_itself(size_t n, uint32_t c, uint32_t *out) {
    if (n == 0) *out = c;
    return n ? n : 1;
}

size_t unicode_upper(uint32_t c, uint32_t *out) { return or_itself(MAP(UPPER, c, out), c, out); }
size_t unicode_lower(uint32_t c, uint32_t *out) { return or_itself(MAP(LOWER, c, out), c, out); }

size_t unicode_title(uint32_t c, uint32_t *out) {
    size_t n = MAP(TITLE, c, out);
    return n ? n : unicode_upper(c, out);
}

static bool in_span(const span *s, uint32_t c) { return s && c <= s->last; }

bool unicode_is_cased(uint32_t c) { return in_span(FIND_ROW(CASED, c), c); }
bool unicode_is_printable(uint32_t c) { return !in_span(FIND_ROW(UNPRINTABLE, c), c); }

bool unicode_is_space(uint32_t c) {
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

bool unicode_is_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

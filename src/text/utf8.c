// Implements utf8.h.
#include "text/utf8.h"

#include <stdint.h>
#include <string.h>

utf8_step utf8_next(const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    unsigned lead = s[0];
    if (lead < 0x80) return (utf8_step){UTF8_CHAR, 1};
    if (lead < 0xc2 || lead > 0xf4) return (utf8_step){UTF8_BAD, 1};
    size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    // the second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF
    unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf) {
        if (i == n_bytes) return (utf8_step){UTF8_PART, i};
        if (s[i] < low || s[i] > high) return (utf8_step){UTF8_BAD, i};
    }
    return (utf8_step){UTF8_CHAR, length};
}

size_t utf8_validate(const char *text, size_t n_bytes) {
    size_t at = 0;
    while (at < n_bytes) {
        uint64_t eight;
        if (n_bytes - at >= sizeof eight) { // the common case: eight bytes of ASCII
            memcpy(&eight, text + at, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                at += sizeof eight;
                continue;
            }
        }
        utf8_step step = utf8_next(text + at, n_bytes - at);
        if (step.kind != UTF8_CHAR) return at;
        at += step.n_bytes;
    }
    return n_bytes;
}

uint32_t utf8_decode(const char *text, size_t *n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    *n_bytes = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = *n_bytes == 1 ? s[0] : s[0] & (0x7fu >> *n_bytes);
    for (size_t i = 1; i < *n_bytes; i++) c = c << 6 | (s[i] & 0x3fu);
    return c;
}

size_t utf8_encode(uint32_t c, char out[4]) {
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(n == 1 ? c : (0xf00u >> n & 0xff) | c);
    return n;
}

// Implements alphabet.h.
#include "text/alphabet.h"

static int byte_of_code(unsigned code) {
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 255 && code != 173)) return (int)code;
    if (code < 256 || code > 323) return -1;
    unsigned k = code - 256;        // the k-th byte without a printable character of its own
    if (k < 33) return (int)k;      // 0..32
    if (k < 67) return (int)k + 94; // 127..160
    return 173;
}

int alphabet_byte(const char *text, size_t n_bytes, size_t *n_used) {
    const unsigned char *s = (const unsigned char *)text;
    *n_used = s[0] < 0x80 ? 1 : 2;
    if (s[0] < 0x80) return byte_of_code(s[0]);
    if (n_bytes < 2 || s[0] < 0xc2 || s[0] > 0xc5 || (s[1] & 0xc0) != 0x80) return -1;
    return byte_of_code((s[0] & 0x1fu) << 6 | (s[1] & 0x3fu));
}

size_t alphabet_decode(const char *text, size_t n_bytes, char *out) {
    size_t n_out = 0;
    for (size_t at = 0; at < n_bytes;) {
        size_t n_used;
        int byte = alphabet_byte(text + at, n_bytes - at, &n_used);
        out[n_out++] = byte >= 0 ? (char)byte : text[at];
        at += byte >= 0 ? n_used : 1;
    }
    return n_out;
}

// Implements cli.h: errors and untrusted text on their way out.
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

// Bytes of the next character; *c is it, or -1 for malformed UTF-8, of which the maximal subpart is consumed
// (Unicode 15, section 3.9, table 3-7 and "substitution of maximal subparts"). n_bytes >= 1.
static size_t next_char(const uint8_t *s, size_t n_bytes, int32_t *c) {
    uint8_t lead = s[0], low = 0x80, high = 0xbf;
    *c = lead;
    if (lead < 0x80) return 1;
    size_t n = lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
    if (lead == 0xe0) low = 0xa0;  // overlong
    if (lead == 0xed) high = 0x9f; // surrogates
    if (lead == 0xf0) low = 0x90;  // overlong
    if (lead == 0xf4) high = 0x8f; // past U+10FFFF
    *c = n == 1 ? -1 : lead & (0x7f >> n);
    for (size_t i = 1; i < n; i++, low = 0x80, high = 0xbf) {
        if (i == n_bytes || s[i] < low || s[i] > high) return *c = -1, i;
        *c = *c << 6 | (s[i] & 0x3f);
    }
    return n;
}

// Control characters, and the marks that reorder or hide what follows (bidirectional, zero width, line separators).
static bool is_invisible(int32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xe0000 && c <= 0xe007f);
}

static void print_char(FILE *f, const char *data, size_t n, int32_t c) {
    switch (c) {
    case '\n':
        fputs("\\n", f);
        return;
    case '\t':
        fputs("\\t", f);
        return;
    case '\r':
        fputs("\\r", f);
        return;
    case '\\':
        fputs("\\\\", f);
        return;
    case -1:
        for (size_t i = 0; i < n; i++) fprintf(f, "\\x%02x", (uint8_t)data[i]);
        return;
    }
    if (is_invisible(c))
        fprintf(f, c > 0xffff ? "\\U%08x" : c > 0xff ? "\\u%04x" : "\\x%02x", (unsigned)c);
    else
        fwrite(data, 1, n, f);
}

void cli_print_text(FILE *f, const char *data, size_t n_bytes, size_t max_chars) {
    for (size_t at = 0, n; at < n_bytes; at += n) {
        if (max_chars-- == 0) {
            fputs("...", f);
            return;
        }
        int32_t c;
        n = next_char((const uint8_t *)data + at, n_bytes - at, &c);
        print_char(f, data + at, n, c);
    }
}

bool cli_show_text(FILE *f, const char *data, size_t n_bytes) {
    bool tty = isatty(fileno(f));
    if (!tty) fwrite(data, 1, n_bytes, f);
    for (size_t at = 0, n; tty && at < n_bytes; at += n) {
        int32_t c;
        n = next_char((const uint8_t *)data + at, n_bytes - at, &c);
        bool steers = c < 0x20 || (c >= 0x7f && c < 0xa0);
        if (steers && c != '\n' && c != '\t')
            print_char(f, data + at, n, c);
        else
            fwrite(data + at, 1, n, f);
    }
    return fflush(f) == 0 && !ferror(f);
}

static double per_second(uint32_t tokens, int64_t us) { return us > 0 ? tokens * 1e6 / (double)us : 0; }

void cli_print_usage(FILE *f, const rf_usage *u) {
    fprintf(f, "prompt %u tokens (%u cached), %.1f tokens/s; answer %u tokens, %.1f tokens/s\n", u->prompt_tokens,
            u->cached_tokens, per_second(u->prompt_tokens - u->cached_tokens, u->prefill_us), u->completion_tokens,
            per_second(u->completion_tokens ? u->completion_tokens - 1 : 0, u->decode_us));
}

int cli_fail(int code, const char *sentence) {
    fputs("rocmforge: ", stderr);
    cli_print_text(stderr, sentence, strlen(sentence), SIZE_MAX);
    fputc('\n', stderr);
    return code == ERR_USAGE ? CLI_USAGE : CLI_FAILURE;
}

json_t *cli_json_text(const char *data, size_t n_bytes) {
    json_t *valid = json_stringn(data, n_bytes);
    if (valid) return valid;
    char *text = xmalloc(3 * n_bytes); // at worst every byte becomes the three of U+FFFD
    size_t n_text = 0;
    for (size_t at = 0, n; at < n_bytes; at += n) {
        int32_t c;
        n = next_char((const uint8_t *)data + at, n_bytes - at, &c);
        size_t n_out = c < 0 ? 3 : n;
        memcpy(text + n_text, c < 0 ? "\xef\xbf\xbd" : data + at, n_out);
        n_text += n_out;
    }
    json_t *repaired = json_stringn(text, n_text);
    check(repaired != NULL);
    free(text);
    return repaired;
}

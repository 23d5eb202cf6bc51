// Implements number.h.
#include "cli/number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int64_t cli_parse_int(struct argp_state *state, const char *option, const char *text, int64_t min, int64_t max) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!*text || isspace((unsigned char)*text) || *end || errno || value < min || value > max)
        argp_error(state, "%s '%s' is not a whole number from %lld to %lld", option, text, (long long)min,
                   (long long)max);
    return value;
}

float cli_parse_float(struct argp_state *state, const char *option, const char *text) {
    char *end;
    float value = strtof(text, &end);
    if (!*text || isspace((unsigned char)*text) || *end) argp_error(state, "%s '%s' is not a number", option, text);
    return value;
}

uint32_t cli_parse_list(struct argp_state *state, const char *option, const char *text, int64_t min, int64_t max,
                        uint32_t *out, uint32_t max_n) {
    if (strcmp(text, "none") == 0) return 0;
    char one[32];
    uint32_t n = 0;
    for (const char *at = text; at; n++) {
        const char *comma = strchr(at, ',');
        size_t length = comma ? (size_t)(comma - at) : strlen(at);
        if (n == max_n) argp_error(state, "%s has more than %u numbers", option, max_n);
        if (length >= sizeof one) length = sizeof one - 1; // too long for a number in range: refused with its beginning
        memcpy(one, at, length);
        one[length] = 0;
        out[n] = (uint32_t)cli_parse_int(state, option, one, min, max);
        at = comma ? comma + 1 : NULL;
    }
    return n;
}

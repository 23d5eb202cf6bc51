// Implements number.h.
#include "cli/number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

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

// Number: numeric option values, whole and in range, or argp's usage error naming the option and the range.
#pragma once

#include <argp.h>
#include <stdint.h>

int64_t cli_parse_int(struct argp_state *state, const char *option, const char *text, int64_t min, int64_t max);
// Any finite or non-finite number: the engine validates its range. Text that is no number is refused here.
float cli_parse_float(struct argp_state *state, const char *option, const char *text);
// "1,4,16" or "none": the numbers, at most max_n of them; returns how many.
uint32_t cli_parse_list(struct argp_state *state, const char *option, const char *text, int64_t min, int64_t max,
                        uint32_t *out, uint32_t max_n);

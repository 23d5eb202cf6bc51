// Implements the resources of a render (jinja_value.h): errors, memory, fuel, depth.
#include "text/jinja_string.h"
#include "text/utf8.h"

#include <stdarg.h>
#include <stdio.h>

bool run_fail(run *r, err_code code, const char *format, ...) {
    char sentence[sizeof r->e->text];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    fail(r->e, code, "chat template, line %u: %s", r->line, sentence);
    r->e->text[utf8_validate(r->e->text, strlen(r->e->text))] = '\0'; // it may have been cut inside a character
    return false;
}

void *run_take(run *r, size_t n, size_t elem_bytes) {
    size_t n_bytes, room = r->memory.capacity_bytes - r->memory.used_bytes;
    if (__builtin_mul_overflow(n, elem_bytes, &n_bytes) || n_bytes + 64 > room || n_bytes > SIZE_MAX - 64) {
        run_fail(r, ERR_TOO_LONG, "more memory than the %zu bytes that a template may use", r->memory.capacity_bytes);
        return NULL;
    }
    return arena_take(&r->memory, n_bytes); // zeroed by large_alloc, and taken once
}

bool run_spend(run *r, size_t n) {
    if (n < r->fuel) {
        r->fuel -= n;
        return true;
    }
    r->fuel = 0;
    return run_fail(r, ERR_TOO_LONG, "more work than a template may do");
}

bool run_enter(run *r) {
    if (r->depth >= r->max_depth) return run_fail(r, ERR_TOO_LONG, "nested more than %u levels deep", r->max_depth);
    r->depth++;
    return true;
}

const uint8_t *run_ones(run *r, size_t n) {
    if (r->ones && n <= r->n_ones) return r->ones;
    size_t n_ones = n < 4096 ? 4096 : 2 * n;
    uint8_t *ones = run_take(r, n_ones, 1);
    if (!ones) return NULL;
    memset(ones, 1, n_ones);
    r->ones = ones, r->n_ones = n_ones;
    return ones;
}

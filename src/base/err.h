// Errors: one struct, filled once where the failure happened, printed once at the top.
//
// Three kinds, three fates (CONTRIBUTING.md):
//   from outside (file, request, large allocation)  the function returns false or NULL and fills its `err *e`
//   a bug of ours                                    check(): aborts with file, line and condition, in every build
//   a small allocation fails                         xmalloc() and friends: the process says so and ends
// Invariant: the first error wins; fail() never overwrites a filled err.
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef enum err_code {
    ERR_NONE = 0,
    ERR_USAGE,       // a parameter is outside its documented range
    ERR_IO,          // the operating system refused: open, read, map
    ERR_FORMAT,      // a file or text is not what its format says
    ERR_UNSUPPORTED, // well-formed, but not something this build can do
    ERR_MEMORY,      // a large allocation or the declared budget
    ERR_BUSY,        // a bounded queue is full: try again later
    ERR_TOO_LONG,    // a prompt or request that could never fit
    ERR_NUMERIC,     // non-finite values in a forward pass
    ERR_STOPPED,     // the engine is shutting down
    ERR_INTERNAL,
} err_code;

typedef struct err {
    err_code code;
    char text[300]; // one sentence, UTF-8, no trailing newline
} err;

// Fills *e (unless NULL or already filled) and returns false, so that `return fail(e, ...)` reads as one line.
bool fail(err *e, err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define fail_null(...) (fail(__VA_ARGS__), NULL)

// Never compiled out. Prints "file:line: check failed: condition" to stderr and aborts.
#define check(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
_Noreturn void check_failed(const char *file, int line, const char *condition);

// Small allocations: never return NULL. xcalloc is overflow-checked.
void *xmalloc(size_t n_bytes);
void *xcalloc(size_t n, size_t n_bytes);
void *xrealloc(void *p, size_t n_bytes);
char *xstrdup(const char *s);

// Large allocations (kind 1): zeroed pages straight from the kernel, 64-byte aligned at least.
// NULL and ERR_MEMORY naming `what` on failure. large_free(NULL, 0) is allowed.
void *large_alloc(size_t n_bytes, const char *what, err *e);
void large_free(void *p, size_t n_bytes);

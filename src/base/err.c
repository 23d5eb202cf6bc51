// Implements err.h: fail(), check() and the two kinds of allocation.
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool fail(err *e, err_code code, const char *format, ...) {
    if (!e || e->code != ERR_NONE) return false;
    e->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return false;
}

_Noreturn void check_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
    abort();
}

static void *must(void *p, size_t n_bytes) {
    if (p) return p;
    fprintf(stderr, "rocmforge: out of memory (asked for %zu bytes)\n", n_bytes);
    abort();
}

void *xmalloc(size_t n_bytes) { return must(malloc(n_bytes ? n_bytes : 1), n_bytes); }
void *xcalloc(size_t n, size_t n_bytes) { return must(calloc(n ? n : 1, n_bytes ? n_bytes : 1), n_bytes); }
void *xrealloc(void *p, size_t n_bytes) { return must(realloc(p, n_bytes ? n_bytes : 1), n_bytes); }
char *xstrdup(const char *s) { return must(strdup(s), strlen(s) + 1); }

void *large_alloc(size_t n_bytes, const char *what, err *e) {
    void *p = mmap(NULL, n_bytes ? n_bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return fail_null(e, ERR_MEMORY, "cannot allocate %zu bytes for %s", n_bytes, what);
    madvise(p, n_bytes, MADV_HUGEPAGE);
    return p;
}

void large_free(void *p, size_t n_bytes) {
    if (p) munmap(p, n_bytes ? n_bytes : 1);
}

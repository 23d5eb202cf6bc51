// Grow: makes room in a heap array by doubling. For arrays whose size depends on input, so failure is the caller's to
// tell.
//
// *p stays valid (and the array unchanged) when growth fails. Not thread-safe; the owner of the array calls it.
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>

static inline void *grow_array(void *p, size_t *capacity, size_t n, size_t elem_bytes, const char *what, err *e) {
    if (n <= *capacity) return p;
    size_t wanted = *capacity * 2 > n ? *capacity * 2 : n;
    void *bigger = wanted <= SIZE_MAX / elem_bytes ? realloc(p, wanted * elem_bytes) : NULL;
    if (!bigger) return fail_null(e, ERR_MEMORY, "cannot allocate %zu elements for %s", wanted, what);
    *capacity = wanted;
    return bigger;
}

// grow(&array, &capacity, n, what, e): true when array has room for n elements.
#define grow(array, capacity, n, what, e)                                                                              \
    ({                                                                                                                 \
        void *grown_ = grow_array(*(array), (capacity), (n), sizeof **(array), (what), (e));                           \
        if (grown_) *(array) = grown_;                                                                                 \
        grown_ != NULL;                                                                                                \
    })

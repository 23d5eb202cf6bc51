// Implements text_input.h.
#include "cli/text_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t MAX_BYTES = (size_t)256 << 20;

static bool read_all(text_input *t, FILE *f, const char *name, err *e) {
    size_t capacity = 0;
    for (;;) {
        if (capacity - t->n_bytes < 4096) t->bytes = xrealloc(t->bytes, capacity = capacity ? 2 * capacity : 65536);
        size_t n = fread(t->bytes + t->n_bytes, 1, capacity - t->n_bytes - 1, f);
        t->n_bytes += n;
        t->bytes[t->n_bytes] = 0;
        if (ferror(f)) return fail(e, ERR_IO, "cannot read %s: %s", name, strerror(errno));
        if (n == 0) return true;
        if (t->n_bytes > MAX_BYTES) return fail(e, ERR_TOO_LONG, "%s is larger than 256 MiB", name);
    }
}

bool text_input_read(text_input *t, err *e) {
    if (t->text && t->file) return fail(e, ERR_USAGE, "give the text by -p or by --file, not both");
    if (t->text) {
        t->bytes = xstrdup(t->text);
        t->n_bytes = strlen(t->text);
        return true;
    }
    if (!t->file) return read_all(t, stdin, "standard input", e);
    FILE *f = fopen(t->file, "rbe");
    if (!f) return fail(e, ERR_IO, "cannot open '%s': %s", t->file, strerror(errno));
    bool ok = read_all(t, f, t->file, e);
    fclose(f);
    return ok;
}

void text_input_free(text_input *t) { free(t->bytes); }

// Implements gguf_writer.h: two growing buffers (metadata entries, tensor entries) and a list of borrowed tensor data.
#include "gguf/gguf_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    uint8_t *data;
    size_t n, capacity;
} bytes;

struct gguf_writer {
    uint32_t alignment;
    bytes values, tensors; // entries as they stand in the file
    uint64_t n_values, n_tensors;
    gguf_str *data; // [n_tensors], borrowed
    uint64_t data_bytes;
};

static void put(bytes *b, const void *data, size_t n) {
    if (b->n + n > b->capacity) {
        b->capacity = 2 * (b->n + n);
        b->data = xrealloc(b->data, b->capacity);
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void put_u32(bytes *b, uint32_t x) { put(b, &x, sizeof x); }
static void put_u64(bytes *b, uint64_t x) { put(b, &x, sizeof x); }

static void put_str(bytes *b, const char *data, size_t n) {
    put_u64(b, n);
    put(b, data, n);
}

static void put_key(gguf_writer *w, const char *key, gguf_kind kind) {
    put_str(&w->values, key, strlen(key));
    put_u32(&w->values, kind);
    w->n_values++;
}

static uint64_t align(const gguf_writer *w, uint64_t n) {
    return (n + w->alignment - 1) & ~(uint64_t)(w->alignment - 1);
}

gguf_writer *gguf_writer_new(uint32_t alignment) {
    check((alignment & (alignment - 1)) == 0);
    gguf_writer *w = xcalloc(1, sizeof *w);
    w->alignment = alignment ? alignment : 32;
    if (alignment) gguf_writer_add_u32(w, "general.alignment", alignment);
    return w;
}

void gguf_writer_free(gguf_writer *w) {
    if (!w) return;
    free(w->values.data);
    free(w->tensors.data);
    free(w->data);
    free(w);
}

void gguf_writer_add(gguf_writer *w, const char *key, gguf_kind kind, const void *value) {
    check(gguf_kind_bytes(kind) != 0);
    put_key(w, key, kind);
    put(&w->values, value, gguf_kind_bytes(kind));
}

void gguf_writer_add_u32(gguf_writer *w, const char *key, uint32_t x) { gguf_writer_add(w, key, GGUF_KIND_U32, &x); }
void gguf_writer_add_f32(gguf_writer *w, const char *key, float x) { gguf_writer_add(w, key, GGUF_KIND_F32, &x); }
void gguf_writer_add_bool(gguf_writer *w, const char *key, bool x) {
    gguf_writer_add(w, key, GGUF_KIND_BOOL, &(uint8_t){x});
}

void gguf_writer_add_str(gguf_writer *w, const char *key, const char *value) {
    put_key(w, key, GGUF_KIND_STRING);
    put_str(&w->values, value, strlen(value));
}

static void put_array(gguf_writer *w, const char *key, gguf_kind kind, uint64_t n) {
    put_key(w, key, GGUF_KIND_ARRAY);
    put_u32(&w->values, kind);
    put_u64(&w->values, n);
}

void gguf_writer_add_array(gguf_writer *w, const char *key, gguf_kind kind, const void *data, uint64_t n) {
    check(gguf_kind_bytes(kind) != 0);
    put_array(w, key, kind, n);
    put(&w->values, data, n * gguf_kind_bytes(kind));
}

void gguf_writer_add_strs(gguf_writer *w, const char *key, const gguf_str *strs, uint64_t n) {
    put_array(w, key, GGUF_KIND_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_str(&w->values, strs[i].data, strs[i].n_bytes);
}

void gguf_writer_add_tensor(gguf_writer *w, const char *name, gguf_type type, uint32_t n_dims, const uint64_t *dims,
                            const void *data) {
    uint64_t elems = gguf_type_block_elems(type), n = 1;
    check(elems != 0 && n_dims >= 1 && n_dims <= 4 && dims[0] % elems == 0);
    put_str(&w->tensors, name, strlen(name));
    put_u32(&w->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        put_u64(&w->tensors, dims[i]);
        n *= dims[i];
    }
    put_u32(&w->tensors, type);
    put_u64(&w->tensors, align(w, w->data_bytes));
    w->data = xrealloc(w->data, (w->n_tensors + 1) * sizeof *w->data);
    gguf_str *last = &w->data[w->n_tensors++];
    *last = (gguf_str){data, n / elems * gguf_type_block_bytes(type)};
    w->data_bytes = align(w, w->data_bytes) + last->n_bytes;
}

// Everything before the tensor data, padded up to it.
static bytes head(const gguf_writer *w) {
    bytes b = {0};
    put(&b, "GGUF", 4);
    put_u32(&b, 3);
    put_u64(&b, w->n_tensors);
    put_u64(&b, w->n_values);
    put(&b, w->values.data, w->values.n);
    put(&b, w->tensors.data, w->tensors.n);
    while (b.n % w->alignment) put(&b, "", 1);
    return b;
}

uint8_t *gguf_writer_take(const gguf_writer *w, size_t *n_bytes) {
    bytes b = head(w);
    for (uint64_t i = 0; i < w->n_tensors; i++) {
        while (b.n % w->alignment) put(&b, "", 1);
        put(&b, w->data[i].data, w->data[i].n_bytes);
    }
    *n_bytes = b.n;
    return b.data;
}

// Seeking leaves the padding as zeros, so that large tensors go from their owner to the file without a copy.
static bool write_file(const gguf_writer *w, FILE *f) {
    bytes b = head(w);
    bool ok = fwrite(b.data, 1, b.n, f) == b.n;
    uint64_t at = b.n;
    free(b.data);
    for (uint64_t i = 0; ok && i < w->n_tensors; i++) {
        at = align(w, at);
        ok = fseek(f, (long)at, SEEK_SET) == 0 &&
             fwrite(w->data[i].data, 1, w->data[i].n_bytes, f) == w->data[i].n_bytes;
        at += w->data[i].n_bytes;
    }
    return ok;
}

bool gguf_writer_save(const gguf_writer *w, const char *path, err *e) {
    FILE *f = fopen(path, "wbe");
    if (!f) return fail(e, ERR_IO, "gguf: cannot create '%s': %s", path, strerror(errno));
    bool ok = write_file(w, f);
    int error = errno;
    if (fclose(f) != 0 && ok) ok = false, error = errno;
    return ok || fail(e, ERR_IO, "gguf: cannot write '%s': %s", path, strerror(error));
}

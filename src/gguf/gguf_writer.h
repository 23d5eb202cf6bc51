// GGUF writer: collects metadata and tensors, then lays out a version 3 file. For tests and tools.
//
// Owns copies of keys and values; tensor data is borrowed until the last save or take. Order is kept. Not thread-safe.
// It trusts its caller: names are not checked (gguf_open does that), shapes must be whole blocks (check()ed).
#pragma once

#include "gguf/gguf.h"

typedef struct gguf_writer gguf_writer;

gguf_writer *gguf_writer_new(uint32_t alignment); // a power of two, written as general.alignment; 0: 32, not written
void gguf_writer_free(gguf_writer *w);            // w may be NULL

void gguf_writer_add(gguf_writer *w, const char *key, gguf_kind kind, const void *value); // a number or bool
void gguf_writer_add_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_add_f32(gguf_writer *w, const char *key, float value);
void gguf_writer_add_bool(gguf_writer *w, const char *key, bool value);
void gguf_writer_add_str(gguf_writer *w, const char *key, const char *value);
void gguf_writer_add_array(gguf_writer *w, const char *key, gguf_kind kind, const void *data, uint64_t n);
void gguf_writer_add_strs(gguf_writer *w, const char *key, const gguf_str *strs, uint64_t n);
// dims: [n_dims], n_dims 1..4. Tensors follow each other in the file, each at a multiple of the alignment.
void gguf_writer_add_tensor(gguf_writer *w, const char *name, gguf_type type, uint32_t n_dims, const uint64_t *dims,
                            const void *data);

uint8_t *gguf_writer_take(const gguf_writer *w, size_t *n_bytes); // the whole file, on the heap, the caller's
bool gguf_writer_save(const gguf_writer *w, const char *path, err *e);

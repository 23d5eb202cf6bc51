// GGUF: the model file, mapped and checked once; everything after that is a trusted borrowed view.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
// Owns the mapping and a table of entries; every pointer handed out is borrowed from the mapping and lives until
// gguf_close. Read-only after gguf_open, so any thread may read.
// Invariant: every string, array and tensor lies wholly inside the file; every tensor's byte size equals what its type
// and shape demand; offsets are multiples of the alignment; no name occurs twice.
#pragma once

#include "base/err.h"

#include <stdint.h>

// Tensor types: the one list. X(NAME, id in the file, elements per block, bytes per block)
// Sizes from ggml's block structures (ggml-common.h); compared with the gguf package in tests.
#define GGUF_TYPES(X)                                                                                                  \
    X(F32, 0, 1, 4)                                                                                                    \
    X(F16, 1, 1, 2)                                                                                                    \
    X(Q4_0, 2, 32, 18)                                                                                                 \
    X(Q4_1, 3, 32, 20)                                                                                                 \
    X(Q5_0, 6, 32, 22)                                                                                                 \
    X(Q5_1, 7, 32, 24)                                                                                                 \
    X(Q8_0, 8, 32, 34)                                                                                                 \
    X(Q8_1, 9, 32, 36)                                                                                                 \
    X(Q2_K, 10, 256, 84)                                                                                               \
    X(Q3_K, 11, 256, 110)                                                                                              \
    X(Q4_K, 12, 256, 144)                                                                                              \
    X(Q5_K, 13, 256, 176)                                                                                              \
    X(Q6_K, 14, 256, 210)                                                                                              \
    X(Q8_K, 15, 256, 292)                                                                                              \
    X(IQ2_XXS, 16, 256, 66)                                                                                            \
    X(IQ2_XS, 17, 256, 74)                                                                                             \
    X(IQ3_XXS, 18, 256, 98)                                                                                            \
    X(IQ1_S, 19, 256, 50)                                                                                              \
    X(IQ4_NL, 20, 32, 18)                                                                                              \
    X(IQ3_S, 21, 256, 110)                                                                                             \
    X(IQ2_S, 22, 256, 82)                                                                                              \
    X(IQ4_XS, 23, 256, 136)                                                                                            \
    X(I8, 24, 1, 1)                                                                                                    \
    X(I16, 25, 1, 2)                                                                                                   \
    X(I32, 26, 1, 4)                                                                                                   \
    X(I64, 27, 1, 8)                                                                                                   \
    X(F64, 28, 1, 8)                                                                                                   \
    X(IQ1_M, 29, 256, 56)                                                                                              \
    X(BF16, 30, 1, 2)                                                                                                  \
    X(TQ1_0, 34, 256, 54)                                                                                              \
    X(TQ2_0, 35, 256, 66)                                                                                              \
    X(MXFP4, 39, 32, 17)                                                                                               \
    X(NVFP4, 40, 64, 36)                                                                                               \
    X(Q1_0, 41, 128, 18)                                                                                               \
    X(Q2_0, 42, 64, 18)

typedef enum gguf_type {
#define X(name, id, elems, bytes) GGUF_##name = id,
    GGUF_TYPES(X)
#undef X
} gguf_type;

// NULL / 0 for an unknown id.
const char *gguf_type_name(uint32_t type);
uint32_t gguf_type_block_elems(uint32_t type);
uint32_t gguf_type_block_bytes(uint32_t type);

// Metadata value types, as numbered in the file.
typedef enum gguf_kind {
    GGUF_KIND_U8 = 0,
    GGUF_KIND_I8,
    GGUF_KIND_U16,
    GGUF_KIND_I16,
    GGUF_KIND_U32,
    GGUF_KIND_I32,
    GGUF_KIND_F32,
    GGUF_KIND_BOOL,
    GGUF_KIND_STRING,
    GGUF_KIND_ARRAY,
    GGUF_KIND_U64,
    GGUF_KIND_I64,
    GGUF_KIND_F64,
} gguf_kind;

const char *gguf_kind_name(uint32_t kind); // "u8", "string", ...; NULL for an unknown kind
uint32_t gguf_kind_bytes(uint32_t kind);   // of one number or bool; 0 for strings, arrays and unknown kinds

typedef struct gguf_str {
    const char *data; // not NUL-terminated; any bytes
    size_t n_bytes;
} gguf_str;

typedef struct gguf_value {
    gguf_str key;
    gguf_kind kind;      // of the value; GGUF_KIND_ARRAY for arrays
    gguf_kind elem_kind; // of the elements when an array (never ARRAY: nested arrays are refused), else kind
    uint64_t n;          // elements when an array, else 1
    const uint8_t *data; // first byte of the value, after its type (and count); unaligned, little-endian
} gguf_value;

typedef struct gguf_tensor {
    gguf_str name;
    uint32_t type;    // a gguf_type
    uint32_t n_dims;  // 1..4
    uint64_t dims[4]; // dims[0] is the contiguous one (columns); unused ones are 1
    const uint8_t *data;
    uint64_t n_bytes;
} gguf_tensor;

typedef struct gguf gguf;

gguf *gguf_open(const char *path, err *e);                         // maps the file
gguf *gguf_open_memory(const void *bytes, size_t n_bytes, err *e); // borrows the bytes; for tests and fuzzing
void gguf_close(gguf *g);                                          // g may be NULL
uint32_t gguf_version(const gguf *g);
uint64_t gguf_file_bytes(const gguf *g);
uint64_t gguf_alignment(const gguf *g);

size_t gguf_n_values(const gguf *g);
const gguf_value *gguf_value_at(const gguf *g, size_t i);    // in file order
const gguf_value *gguf_find(const gguf *g, const char *key); // NULL if absent
size_t gguf_n_tensors(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i);           // in file order
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name); // NULL if absent

// Typed reads of metadata. Absent key: *out keeps its value (the caller's default) and true is returned.
// Present with a type that does not convert without loss: false, ERR_FORMAT naming key and type.
bool gguf_get_u32(const gguf *g, const char *key, uint32_t *out, err *e);
bool gguf_get_f32(const gguf *g, const char *key, float *out, err *e);
bool gguf_get_bool(const gguf *g, const char *key, bool *out, err *e);
bool gguf_get_str(const gguf *g, const char *key, gguf_str *out, err *e);

// Walks a string array: *cursor starts at value->data; each call returns the next string. The caller counts to
// value->n.
gguf_str gguf_next_str(const uint8_t **cursor);
// Element i of a numeric or bool array, or a scalar with i = 0, converted: a float becomes the nearest integer below in
// magnitude (NaN 0), and what is out of int64's range its nearest end. i < value->n and a numeric kind are check()ed.
int64_t gguf_array_int(const gguf_value *v, uint64_t i);
double gguf_array_float(const gguf_value *v, uint64_t i);

// The system starts to read the pages of [data, data + n_bytes) from the file, which will be wanted soon.
void gguf_expect(const gguf *g, const void *data, size_t n_bytes);
// The pages that lie wholly inside [data, data + n_bytes) are given back to the system (the data stays readable: it is
// read again from the file when touched). Used once a tensor has been packed.
void gguf_release(const gguf *g, const void *data, size_t n_bytes);

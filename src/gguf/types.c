// What the numbers in a GGUF file mean: tensor types and metadata kinds, as tables indexed by id. No state.
#include "gguf/gguf.h"

typedef struct type_row {
    const char *name;
    uint32_t elems, bytes;
} type_row;

static const type_row types[] = {
#define X(name, id, elems, bytes) [id] = {#name, elems, bytes},
    GGUF_TYPES(X)
#undef X
};

static const type_row *type_find(uint32_t type) {
    static const type_row unknown = {0};
    return type < sizeof types / sizeof *types ? &types[type] : &unknown;
}

const char *gguf_type_name(uint32_t type) { return type_find(type)->name; }
uint32_t gguf_type_block_elems(uint32_t type) { return type_find(type)->elems; }
uint32_t gguf_type_block_bytes(uint32_t type) { return type_find(type)->bytes; }

static const struct {
    const char *name;
    uint32_t bytes;
} kinds[] = {
    [GGUF_KIND_U8] = {"u8", 1},       [GGUF_KIND_I8] = {"i8", 1},     [GGUF_KIND_U16] = {"u16", 2},
    [GGUF_KIND_I16] = {"i16", 2},     [GGUF_KIND_U32] = {"u32", 4},   [GGUF_KIND_I32] = {"i32", 4},
    [GGUF_KIND_F32] = {"f32", 4},     [GGUF_KIND_BOOL] = {"bool", 1}, [GGUF_KIND_STRING] = {"string", 0},
    [GGUF_KIND_ARRAY] = {"array", 0}, [GGUF_KIND_U64] = {"u64", 8},   [GGUF_KIND_I64] = {"i64", 8},
    [GGUF_KIND_F64] = {"f64", 8},
};

const char *gguf_kind_name(uint32_t kind) { return kind < sizeof kinds / sizeof *kinds ? kinds[kind].name : NULL; }
uint32_t gguf_kind_bytes(uint32_t kind) { return kind < sizeof kinds / sizeof *kinds ? kinds[kind].bytes : 0; }

// Fuzz target: any bytes as a GGUF file. Opens them and touches everything that the header promises is readable.
// Run with -malloc_limit_mb=64: what a file of a few KiB may make us allocate is far below.
#include "gguf/gguf.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static volatile uint64_t sink; // so that no read is optimised away

static void touch(const void *data, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) sink += ((const uint8_t *)data)[i];
}

static void walk_value(const gguf *g, const gguf_value *v) {
    char key[256];
    touch(v->key.data, v->key.n_bytes);
    if (v->key.n_bytes < sizeof key) {
        memcpy(key, v->key.data, v->key.n_bytes);
        key[v->key.n_bytes] = 0;
        check(gguf_find(g, key) == v);
        uint32_t u;
        float f;
        bool b;
        gguf_str s;
        sink += gguf_get_u32(g, key, &u, NULL) + gguf_get_f32(g, key, &f, NULL) + gguf_get_bool(g, key, &b, NULL) +
                gguf_get_str(g, key, &s, NULL);
    }
    const uint8_t *at = v->data;
    for (uint64_t i = 0; i < v->n; i++) {
        if (v->elem_kind == GGUF_KIND_STRING) {
            gguf_str s = gguf_next_str(&at);
            touch(s.data, s.n_bytes);
        } else {
            sink += (uint64_t)gguf_array_int(v, i) + (gguf_array_float(v, i) > 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    err e = {0};
    gguf *g = gguf_open_memory(bytes, n_bytes, &e);
    check((g == NULL) == (e.code != ERR_NONE) && (g == NULL) == (e.text[0] != 0));
    if (!g) return 0;
    for (size_t i = 0; i < gguf_n_values(g); i++) walk_value(g, gguf_value_at(g, i));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        touch(t->name.data, t->name.n_bytes);
        touch(t->data, t->n_bytes);
        check(gguf_type_block_bytes(t->type) != 0 && t->n_bytes % gguf_type_block_bytes(t->type) == 0);
        gguf_expect(g, t->data, t->n_bytes);
        gguf_release(g, t->data, t->n_bytes);
    }
    gguf_close(g);
    return 0;
}

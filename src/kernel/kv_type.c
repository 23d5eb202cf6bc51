// What a KV cache may hold, by name and by size. How it is read and written is in kv.inc and attention.inc.
#include "kernel/kernel.h"

#include <string.h>

static const struct {
    const char *name;
    uint32_t element_bytes, scale_bytes; // a scale per group
} types[KV_TYPE_COUNT] = {{"bf16", 2, 0}, {"f16", 2, 0}, {"q8_0", 1, 2}};

const char *kv_type_name(kv_type type) {
    check((unsigned)type < KV_TYPE_COUNT);
    return types[type].name;
}

bool kv_type_parse(const char *name, kv_type *out) {
    for (int i = 0; i < KV_TYPE_COUNT; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        *out = (kv_type)i;
        return true;
    }
    return false;
}

size_t kv_head_bytes(kv_type type, uint32_t head_dim) {
    check((unsigned)type < KV_TYPE_COUNT && head_dim % 16 == 0);
    return 2 * (size_t)KV_PAGE_TOKENS *
           (head_dim * types[type].element_bytes + (head_dim + 31) / 32 * types[type].scale_bytes);
}

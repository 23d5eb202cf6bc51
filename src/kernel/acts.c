// Activations: how the arrays of struct acts lie in the memory of its owner. Quantising itself is in matmul.inc.
#include "kernel/kernel.h"

typedef struct arrays {
    size_t q, low, scale, sum, ssum, sum16; // bytes of each array, multiples of 64
} arrays;

static size_t padded(size_t n_bytes) { return (n_bytes + 63) & ~(size_t)63; }

static arrays arrays_of(act_group group, bool wide, size_t m, size_t k) {
    size_t q = padded(m * k), low = wide ? q : 0;
    if (group == ACT_C32) {
        size_t per_block = padded(m * (k / 32) * 4);
        return (arrays){.q = q, .low = low, .scale = per_block, .sum = per_block, .ssum = per_block};
    }
    if (group == ACT_C256)
        return (arrays){.q = q, .low = low, .scale = padded(m * (k / 256) * 4), .sum16 = padded(m * (k / 16) * 2)};
    return (arrays){0};
}

size_t acts_bytes(act_group group, bool wide, uint32_t m, uint32_t k) {
    arrays n = arrays_of(group, wide, m, k);
    return n.q + n.low + n.scale + n.sum + n.ssum + n.sum16;
}

acts acts_init(act_group group, bool wide, uint32_t m, uint32_t k, void *memory) {
    acts a = {.group = group, .wide = wide, .m = m, .k = k};
    if (group == ACT_F32) return a;
    check(k % (group == ACT_C32 ? 32 : 256) == 0);
    arrays n = arrays_of(group, wide, m, k);
    char *p = memory;
    a.q = (int8_t *)p;
    p += n.q;
    if (wide) a.low = (int8_t *)p;
    a.scale = (float *)(p += n.low);
    p += n.scale;
    if (group == ACT_C32) {
        a.sum = (int32_t *)p;
        a.ssum = (float *)(p + n.sum);
    } else {
        a.sum16 = (int16_t *)p;
    }
    return a;
}

// Activations: how the arrays of struct acts lie in the memory of its owner. Quantising itself is in matmul.inc.
#include "kernel/kernel.h"

typedef struct arrays {
    size_t q, scale, sum, ssum, sum16, sum_parts; // bytes of each array, multiples of 64
} arrays;

static size_t padded(size_t n_bytes) { return (n_bytes + 63) & ~(size_t)63; }

static arrays arrays_of(act_group group, size_t m, size_t k) {
    if (group == ACT_F32) return (arrays){0};
    size_t tile = acts_tile_rows((uint32_t)m), rows = tile ? (m + tile - 1) / tile * tile : 0;
    size_t n = rows * (k / act_group_size(group)), per_group = padded(n * 4);
    arrays all = {.q = padded(rows * k * 2), .scale = per_group};
    if (group == ACT_C32)
        all.sum = all.ssum = per_group;
    else
        all.sum16 = padded(n * 32), all.sum_parts = n * 64;
    return all;
}

size_t acts_bytes(act_group group, uint32_t m, uint32_t k) {
    arrays n = arrays_of(group, m, k);
    return n.q + n.scale + n.sum + n.ssum + n.sum16 + n.sum_parts;
}

acts acts_init(act_group group, uint32_t m, uint32_t k, void *memory) {
    acts a = {.group = group, .m = m, .k = k};
    if (group == ACT_F32) return a;
    check(k % act_group_size(group) == 0);
    arrays n = arrays_of(group, m, k);
    char *p = memory;
    a.q = (int8_t *)p;
    a.scale = (float *)(p += n.q);
    p += n.scale;
    if (group == ACT_C32) {
        a.sum = (int32_t *)p;
        a.ssum = (float *)(p + n.sum);
    } else {
        a.sum16 = (int16_t *)p;
        a.sum_parts = (uint32_t *)(p + n.sum16);
    }
    return a;
}

acts acts_rows(const acts *a, uint32_t first, uint32_t n) {
    acts part = *a;
    if (n == a->m) return part;
    check(first % ACT_TILE_ROWS == 0 && first + n <= a->m && acts_tile_rows(n) == acts_tile_rows(a->m));
    part.m = n;
    if (a->group == ACT_F32) {
        part.f += first * a->f_stride;
        return part;
    }
    const size_t at = acts_group_at(a, first);
    part.q += 2 * act_group_size(a->group) * at;
    part.scale += at;
    if (a->group == ACT_C32)
        part.sum += at, part.ssum += at;
    else
        part.sum16 += 16 * at, part.sum_parts += 16 * at;
    return part;
}

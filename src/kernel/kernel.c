// Which tables this processor can run. Nothing is remembered: the compiler's CPU model is read at each call.
#include "kernel/table.h"

#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const kernels *const tables[ISA_COUNT] = {&kernels_scalar, &kernels_avx2, &kernels_avxvnni, &kernels_avx512,
                                                 &kernels_amx};

static bool has_f16c(void) { // not known to clang 14's __builtin_cpu_supports
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

// __builtin_cpu_supports reports a vector extension only if the operating system saves its registers (XCR0).
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

static bool has_avxvnni(void) { // not known to clang 14, either
    enum { AVX_VNNI = 1 << 4 };
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

// Linux gives tile registers only to a process that has asked for them (arch_prctl(2), ARCH_REQ_XCOMP_PERM); asking
// again is harmless.
static bool has_amx(void) {
    enum {
        REQUEST_PERMISSION = 0x1023,
        TILE_DATA = 18,
        BF16 = 1 << 22,
        F16 = 1 << 23,
        TILES = 1 << 24,
        INT8 = 1 << 25
    };
    unsigned a, b, c, d;
    if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return (d & TILES) && (d & INT8) && (d & BF16) && (d & F16) && __builtin_cpu_supports("avx512bf16") &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool isa_available(isa which) {
    __builtin_cpu_init();
    switch (which) {
    case ISA_SCALAR:
        return true;
    case ISA_AVX2:
        return has_avx2();
    case ISA_AVXVNNI:
        return has_avxvnni();
    case ISA_AVX512:
        return has_avx512();
    case ISA_AMX:
        return has_amx();
    default:
        return false;
    }
}

const char *isa_name(isa which) {
    check((unsigned)which < ISA_COUNT);
    return tables[which]->name;
}

bool isa_parse(const char *name, isa *out) {
    for (int i = 0; i < ISA_COUNT; i++) {
        if (strcmp(name, tables[i]->name) != 0) continue;
        *out = (isa)i;
        return true;
    }
    return false;
}

const kernels *kernels_get(isa which) {
    check(isa_available(which));
    return tables[which];
}

const kernels *kernels_best(void) {
    int which = ISA_COUNT - 1;
    while (!isa_available((isa)which)) which--;
    return tables[which];
}

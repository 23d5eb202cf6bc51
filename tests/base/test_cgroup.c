// Cgroup limits of machines that we do not have: each case is the texts of /proc and a few files.
#include "base/cgroup.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

typedef struct machine {
    const char *self, *mounts;
    const char *files[6][2]; // path, content
    int cpus;
    uint64_t memory;
} machine;

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT                                                                                                       \
    "25 22 0:22 / /sys rw - sysfs sysfs rw\n"                                                                          \
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"                                                \
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"

static const machine machines[] = {
    // no limit anywhere, nothing mounted, nothing to read
    {.self = "0::/\n", .mounts = V2_MOUNT, .cpus = 0},
    {.self = "0::/\n", .mounts = "", .cpus = 0},
    {.self = "", .mounts = V2_MOUNT V1_MOUNT, .cpus = 0},
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/a/cpu.max", "max 100000\n"}}, .cpus = 0},
    // v2: whole, rounded up, less than one
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/a/cpu.max", "400000 100000\n"}}, .cpus = 4},
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/a/cpu.max", "150000 100000\n"}}, .cpus = 2},
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/a/cpu.max", "1000 100000\n"}}, .cpus = 1},
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/a/cpu.max", "0 0\n"}}, .cpus = 0},
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/a/cpu.max", "nonsense"}}, .cpus = 0},
    {.self = "0::/a\n",
     .mounts = V2_MOUNT,
     .files = {{"/sys/fs/cgroup/a/cpu.max", "9000000000000000000 1\n"}},
     .cpus = 2147483647},
    // the tightest group on the way up, which may be the root of what is mounted
    {.self = "0::/a/b/c\n",
     .mounts = V2_MOUNT,
     .files = {{"/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"},
               {"/sys/fs/cgroup/a/b/cpu.max", "300000 100000\n"},
               {"/sys/fs/cgroup/a/cpu.max", "800000 100000\n"}},
     .cpus = 3},
    {.self = "0::/\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}}, .cpus = 2},
    {.self = "0::/x/y\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}}, .cpus = 2},
    // above the mount nobody looks
    {.self = "0::/a\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cpu.max", "200000 100000\n"}}, .cpus = 0},
    // v1: controllers share a line; -1 is no limit
    {.self = "5:cpuset:/z\n4:cpu,cpuacct:/a\n1:name=systemd:/\n",
     .mounts = V1_MOUNT,
     .files = {{"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n"},
               {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}},
     .cpus = 3},
    {.self = "4:cpuacct,cpu:/a\n",
     .mounts = V1_MOUNT,
     .files = {{"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n"},
               {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}},
     .cpus = 0},
    // a container: the mount shows only its own part of the hierarchy
    {.self = "4:cpu,cpuacct:/docker/f00/child\n",
     .mounts = "32 31 0:29 /docker/f00 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
     .files = {{"/sys/fs/cgroup/cpu/child/cpu.cfs_quota_us", "100000\n"},
               {"/sys/fs/cgroup/cpu/child/cpu.cfs_period_us", "100000\n"},
               {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "500000\n"},
               {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
     .cpus = 1},
    // memory: the tightest on the way up; v2 "max" and v1's largest number of pages are no limit
    {.self = "0::/a/b\n",
     .mounts = V2_MOUNT,
     .files = {{"/sys/fs/cgroup/a/b/memory.max", "max\n"}, {"/sys/fs/cgroup/a/memory.max", "1073741824\n"}},
     .memory = 1073741824},
    {.self = "0::/\n", .mounts = V2_MOUNT, .files = {{"/sys/fs/cgroup/memory.max", "4096\n"}}, .memory = 4096},
    {.self = "7:memory:/a\n",
     .mounts = "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
     .files = {{"/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"},
               {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "8589934592\n"}},
     .memory = 8589934592},
    // both at once: the tighter one
    {.self = "4:cpu,cpuacct:/a\n0::/b\n",
     .mounts = V1_MOUNT V2_MOUNT,
     .files = {{"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "500000\n"},
               {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"},
               {"/sys/fs/cgroup/b/cpu.max", "200000 100000\n"}},
     .cpus = 2},
};

static bool read_fake(void *arg, const char *path, char *text, size_t capacity) {
    const machine *m = arg;
    for (size_t i = 0; i < 6 && m->files[i][0]; i++) {
        if (strcmp(m->files[i][0], path) != 0) continue;
        snprintf(text, capacity, "%s", m->files[i][1]);
        return true;
    }
    return false;
}

static void machines_that_we_do_not_have(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        machine m = machines[i];
        int cpus = cgroup_cpus_from(m.self, m.mounts, read_fake, &m);
        if (cpus != m.cpus) fail_msg("machine %zu: %d processors, expected %d", i, cpus, m.cpus);
        uint64_t memory = cgroup_memory_from(m.self, m.mounts, read_fake, &m);
        if (memory != m.memory) fail_msg("machine %zu: %llu bytes", i, (unsigned long long)memory);
    }
}

static void this_machine(void **state) {
    (void)state;
    assert_true(cgroup_cpus() >= 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_that_we_do_not_have),
        cmocka_unit_test(this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

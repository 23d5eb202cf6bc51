// Implements cgroup.h. Formats: cgroups(7), proc_pid_mountinfo(5), the kernel's admin-guide/cgroup-v2 (cpu.max) and
// scheduler/sched-bwc (cpu.cfs_quota_us, cpu.cfs_period_us), cgroup-v2 (memory.max), cgroup-v1/memory.
//
// /proc/self/cgroup gives the group's path in the hierarchy, mountinfo gives where which part of the hierarchy is
// mounted; a limit may sit on any group on the way up, so all are read and the tightest wins.
#include "base/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_BYTES = 128, PROC_BYTES = 64 * 1024 };

typedef struct resource {
    const char *controller; // in v1
    // What the group in one folder grants; 0: no limit there.
    uint64_t (*granted)(const char *folder, bool v2, cgroup_reader *read, void *arg);
} resource;

static bool list_has(const char *list, const char *word) { // "cpu,cpuacct" has "cpu"
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0')) return true;
    return false;
}

static const char *line_next(const char *text, char *line, size_t capacity) { // NULL at the end
    if (!*text) return NULL;
    size_t n = strcspn(text, "\n");
    snprintf(line, capacity, "%.*s", (int)n, text);
    return text + n + (text[n] == '\n');
}

// "4:cpu,cpuacct:/a/b" (v1) or "0::/a/b" (v2).
static bool find_group(const char *self, bool v2, const char *controller, char *group) {
    char line[PATH_MAX], controllers[256];
    while ((self = line_next(self, line, sizeof line))) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) continue;
        snprintf(controllers, sizeof controllers, "%.*s", (int)(path - list - 1), list + 1);
        if (v2 ? controllers[0] != '\0' : !list_has(controllers, controller)) continue;
        snprintf(group, PATH_MAX, "%s", path + 1);
        return true;
    }
    return false;
}

// "31 23 0:28 ROOT POINT options [optional fields] - TYPE source super-options".
static bool find_mount(const char *mounts, bool v2, const char *controller, char *root, char *point) {
    char line[2 * PATH_MAX + 1024], type[32], super[512];
    while ((mounts = line_next(mounts, line, sizeof line))) {
        char *tail = strstr(line, " - ");
        if (!tail || sscanf(tail, " - %31s %*s %511s", type, super) != 2) continue;
        if (strcmp(type, v2 ? "cgroup2" : "cgroup") != 0 || (!v2 && !list_has(super, controller))) continue;
        if (sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) == 2) return true;
    }
    return false;
}

static uint64_t folder_cpus(const char *folder, bool v2, cgroup_reader *read, void *arg) {
    char path[2 * PATH_MAX + 32], text[VALUE_BYTES];
    long long quota = 0, period = 0;
    snprintf(path, sizeof path, "%s/%s", folder, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (!read(arg, path, text, sizeof text)) return 0;
    int n = sscanf(text, "%lld %lld", &quota, &period); // v2 without a limit says "max 100000", v1 says "-1"
    if (!v2) {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (!read(arg, path, text, sizeof text)) return 0;
        n += sscanf(text, "%lld", &period);
    }
    if (n != 2 || quota <= 0 || period <= 0) return 0;
    return (uint64_t)(quota / period + (quota % period != 0));
}

static uint64_t folder_memory(const char *folder, bool v2, cgroup_reader *read, void *arg) {
    char path[2 * PATH_MAX + 32], text[VALUE_BYTES];
    unsigned long long bytes = 0;
    snprintf(path, sizeof path, "%s/%s", folder, v2 ? "memory.max" : "memory.limit_in_bytes");
    if (!read(arg, path, text, sizeof text) || sscanf(text, "%llu", &bytes) != 1) return 0;
    return bytes >= INT64_MAX / 4096 * 4096 ? 0 : bytes; // v1 says "no limit" with the largest number of pages
}

static const resource CPU = {"cpu", folder_cpus}, MEMORY = {"memory", folder_memory};

static uint64_t tighter(uint64_t a, uint64_t b) { return a == 0 ? b : b == 0 ? a : a < b ? a : b; }

static uint64_t in_hierarchy(const resource *r, const char *self, const char *mounts, bool v2, cgroup_reader *read,
                             void *arg) {
    char group[PATH_MAX], root[PATH_MAX], point[PATH_MAX], folder[2 * PATH_MAX];
    if (!find_group(self, v2, r->controller, group) || !find_mount(mounts, v2, r->controller, root, point)) return 0;
    // A container sees only the part of the hierarchy below the mount's root.
    size_t n_root = strcmp(root, "/") == 0 ? 0 : strlen(root);
    bool below = strncmp(group, root, n_root) == 0 && (group[n_root] == '/' || group[n_root] == '\0');
    snprintf(folder, sizeof folder, "%s%s", point, below ? group + n_root : group);
    uint64_t tightest = 0;
    for (size_t n_point = strlen(point);;) {
        tightest = tighter(tightest, r->granted(folder, v2, read, arg));
        char *slash = strrchr(folder, '/');
        if (!slash || slash < folder + n_point) return tightest;
        *slash = '\0';
    }
}

static uint64_t granted(const resource *r, const char *self, const char *mounts, cgroup_reader *read, void *arg) {
    return tighter(in_hierarchy(r, self, mounts, false, read, arg), in_hierarchy(r, self, mounts, true, read, arg));
}

int cgroup_cpus_from(const char *self, const char *mounts, cgroup_reader *read, void *arg) {
    uint64_t cpus = granted(&CPU, self, mounts, read, arg);
    return cpus > INT_MAX ? INT_MAX : (int)cpus;
}

uint64_t cgroup_memory_from(const char *self, const char *mounts, cgroup_reader *read, void *arg) {
    return granted(&MEMORY, self, mounts, read, arg);
}

static bool read_file(void *arg, const char *path, char *text, size_t capacity) {
    (void)arg;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    size_t n = fread(text, 1, capacity - 1, f);
    text[n] = '\0';
    fclose(f);
    return n > 0;
}

static uint64_t granted_here(const resource *r) {
    char *self = malloc(PROC_BYTES), *mounts = malloc(PROC_BYTES);
    uint64_t amount = 0;
    if (self && mounts && read_file(NULL, "/proc/self/cgroup", self, PROC_BYTES) &&
        read_file(NULL, "/proc/self/mountinfo", mounts, PROC_BYTES))
        amount = granted(r, self, mounts, read_file, NULL);
    free(self), free(mounts);
    return amount;
}

int cgroup_cpus(void) {
    uint64_t cpus = granted_here(&CPU);
    return cpus > INT_MAX ? INT_MAX : (int)cpus;
}

uint64_t cgroup_memory(void) { return granted_here(&MEMORY); }

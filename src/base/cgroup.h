// Cgroup: how much processor time and memory the control groups grant this process.
//
// Pure but for cgroup_cpus and cgroup_memory: the texts come in as strings and files through a function, so that every
// kind of machine can be tested on any. Owns nothing; any thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Reads a small text file into text [capacity], NUL-terminated; false if it cannot be read.
typedef bool cgroup_reader(void *arg, const char *path, char *text, size_t capacity);

// Quota over period, rounded up, of the tightest group from the process's own up to the root; 0: no limit.
// self: /proc/self/cgroup; mounts: /proc/self/mountinfo. Understands v1 (controller cpu), v2 and both at once.
int cgroup_cpus_from(const char *self, const char *mounts, cgroup_reader *read, void *arg);

// Bytes, by the tightest limit on the way up; 0: no limit.
uint64_t cgroup_memory_from(const char *self, const char *mounts, cgroup_reader *read, void *arg);

int cgroup_cpus(void); // of this process
uint64_t cgroup_memory(void);

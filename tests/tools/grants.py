"""What Linux grants a process and what it counts: control groups with a CPU quota, and what each thread used."""
import contextlib
import os
import pathlib
from typing import NamedTuple

PERIOD_US = 100000


class Used(NamedTuple):
    sleeps: int  # voluntary context switches
    preemptions: int
    run_ns: int


def threads(pid):
    """{thread id: what it has used so far} of a process."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found[int(task.name)] = Used(int(status["voluntary_ctxt_switches"]), int(status["nonvoluntary_ctxt_switches"]),
                                     int((task / "schedstat").read_text().split()[0]))
    return found


def cpu_hierarchy():
    """Where the controller of CPU time is mounted, and the version of control groups. OSError if it is nowhere."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup" and "cpu" in options.split(","):
            return pathlib.Path(where), 1
        if kind == "cgroup2" and "cpu" in (pathlib.Path(where) / "cgroup.controllers").read_text().split():
            return pathlib.Path(where), 2
    raise OSError("no hierarchy of control groups has the controller cpu")


@contextlib.contextmanager
def cpu_group(n_cpus):
    """A new control group that may use the time of n_cpus processors (1.5: 150 ms in 100 ms); gone afterwards. Gives
    the words which, before a command, run it there. OSError where no group can be made."""
    top, version = cpu_hierarchy()
    group = top / f"rocmforge-{os.getpid()}"
    group.mkdir()
    try:
        quota_us = int(n_cpus * PERIOD_US)
        if version == 1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (top / "cgroup.subtree_control").write_text("+cpu")
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        yield ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(group / "cgroup.procs")]
    finally:
        group.rmdir()

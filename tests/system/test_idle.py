"""Idle is silent: with nothing to do, no thread wakes up, not once. And threads follow what the machine grants."""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import grants  # noqa: E402

N_WORKERS = 3
N_OTHERS = 2  # what waits for input and what waits for signals; the engine's thread is a worker


def say(chat, *lines):
    """Returns when all lines are answered."""
    chat.stdin.writelines(line + "\n" for line in (*lines, "/stats"))
    chat.stdin.flush()
    while not chat.stdout.readline().startswith("all answers:"):
        assert chat.poll() is None


def restless(chat, seconds):
    """What those threads used that used anything, within so many seconds."""
    time.sleep(0.2)  # the last answer's threads go back to sleep
    before = grants.threads(chat.pid)
    time.sleep(seconds)
    after = grants.threads(chat.pid)
    assert after.keys() == before.keys() and len(after) == N_WORKERS + N_OTHERS
    return {thread: (before[thread], after[thread]) for thread in after if after[thread] != before[thread]}


def test_idle_is_silent(binary, model, long):
    """A chat on a pipe keeps an engine open: before any request, and after some, whose deadlines pass meanwhile."""
    seconds = 10 if long else 3
    command = [binary, "chat", "-m", model, "-t", str(N_WORKERS), "--timeout", "1", "-n", "8"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as chat:
        say(chat)
        assert restless(chat, seconds) == {}
        say(chat, "Say hi.", "Say it again.")
        assert restless(chat, seconds) == {}


def n_threads(binary, model, prefix):
    command = [*prefix, binary, "bench", "-m", model, "-p", "1", "-d", "none", "-b", "none", "-r", "1", "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout)["threads"]


def test_threads_follow_affinity(binary, model):
    cpus = os.sched_getaffinity(0)
    assert n_threads(binary, model, []) <= len(cpus)
    assert n_threads(binary, model, ["taskset", "-c", str(min(cpus))]) == 1


@pytest.fixture(params=[0.5, 1, 1.5])
def quota(request):
    """Processors granted, and the words that run a command under that grant, in a real control group."""
    with contextlib.ExitStack() as stack:
        try:
            prefix = stack.enter_context(grants.cpu_group(request.param))
        except OSError as e:
            pytest.skip(f"no control group can be made here: {e}")
        yield request.param, prefix


def test_threads_follow_quota(binary, model, quota):
    n_cpus, prefix = quota
    assert n_threads(binary, model, prefix) == min(math.ceil(n_cpus), len(os.sched_getaffinity(0)))

"""Speed when the machine is not ours alone: beside busy neighbours, under a CPU quota, on one processor.

    under_load.py MODEL.gguf [--engine build/release/rocmforge] [--rounds 5] [--only CONDITION...] [--json FILE]

Every condition grants a share of the quiet machine; the question is whether speed falls in that proportion or
collapses. Conditions alternate within a round. The table gives the median tokens/s of prefill (512) and decode (128),
and the median of the ratios to the same round's quiet. `granted` is n/(n + neighbours) for n threads on n processors
that are shared out fairly, half for a quota of half, 1/n for one processor. `used` is how many processors were used,
loading included. Without -t the program itself chooses its threads.

If this Python has llama-cpp-python, it is measured beside, with a thread a processor, as it knows no quota; it decodes
16 tokens only. A quota needs root and a control group hierarchy with the controller cpu; without one that condition is
left out.
"""
import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import peers

ROOT = peers.ROOT

sys.path.insert(0, str(ROOT / "tests/tools"))
import grants  # noqa: E402

CPUS = sorted(os.sched_getaffinity(0))
N = len(CPUS)
FIELDS = ("prefill", "decode")
N_PREFILL, N_DECODE, REPEATS = 512, 128, 3
N_PEER_DECODE = 16  # a peer whose threads spin may need seconds a token


# Spins, until nobody is left who could end it.
BUSY = """import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(10**6): pass"""


@contextlib.contextmanager
def neighbours(n):
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        time.sleep(0.3)  # they have started
        yield []
    finally:
        for process in busy:
            process.kill()
            process.wait()


def one_processor():
    return contextlib.nullcontext(["taskset", "-c", str(CPUS[0])])


# name: the share granted, and what makes the context that gives the words before a command
CONDITIONS = {
    "quiet": (1, lambda: neighbours(0)),
    "1 neighbour": (N / (N + 1), lambda: neighbours(1)),
    f"{N} neighbours": (1 / 2, lambda: neighbours(N)),
    "half quota": (1 / 2, lambda: grants.cpu_group(N / 2)),
    "1 processor": (1 / N, one_processor),
}


def contestants(a):
    """{name: command that prints a JSON object}"""
    ours = [a.engine, "bench", "-m", a.model, "-p", N_PREFILL, "-n", N_DECODE, "-d", 0, "-b", "none", "-r", REPEATS, "--json"]
    who = {"rocmforge": ours, f"rocmforge -t {N}": [*ours, "-t", N]}
    if importlib.util.find_spec("llama_cpp"):
        what = {"prefill": [N_PREFILL], "depth": [0], "decode": N_PEER_DECODE}
        who[f"llama.cpp -t {N}"] = [sys.executable, ROOT / "bench/peer_once.py", "llama_cpp", a.model, N, json.dumps(what)]
    return who


def measure(condition, command):
    """{"prefill", "decode": tokens/s, "used": processors}"""
    with CONDITIONS[condition][1]() as prefix:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        report = json.loads(peers.run([*prefix, *command])[0])
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    row = {f: report[f][0]["tokens_per_s"] for f in FIELDS}
    row["used"] = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / seconds
    return row


def possible(names):
    try:
        with grants.cpu_group(N):
            return names
    except OSError as e:
        print(f"under_load: no quota can be set here ({e})", file=sys.stderr)
        return [n for n in names if n != "half quota"]


def summary(rounds, condition, name):
    rows = [r[condition][name] for r in rounds]
    ratio = {f: statistics.median(r[condition][name][f] / r["quiet"][name][f] for r in rounds) for f in FIELDS}
    return {**{f: statistics.median(r[f] for r in rows) for f in (*FIELDS, "used")}, "ratio": ratio,
            "granted": CONDITIONS[condition][0]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--only", nargs="+", default=list(CONDITIONS), choices=CONDITIONS)
    p.add_argument("--json", type=pathlib.Path)
    a = p.parse_args()
    load = peers.warn_if_busy()
    who, names = contestants(a), possible(["quiet", *(n for n in a.only if n != "quiet")])
    rounds = [{c: {w: measure(c, who[w]) for w in who} for c in names} for _ in range(a.rounds)]
    result = {c: {w: summary(rounds, c, w) for w in who} for c in names}
    print(f"{'':14}{'':18}{'granted':>8}{'prefill':>9}{'ratio':>6}{'decode':>9}{'ratio':>6}{'used':>6}")
    for c in names:
        for w, r in result[c].items():
            print(f"{c:14}{w:18}{r['granted']:8.2f}{r['prefill']:9.1f}{r['ratio']['prefill']:6.2f}"
                  f"{r['decode']:9.1f}{r['ratio']['decode']:6.2f}{r['used']:6.2f}")
    if a.json:
        a.json.write_text(json.dumps({"processors": N, "load": load, "rounds": rounds, "summary": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()

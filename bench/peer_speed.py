"""Speed beside a peer on the same file: our `bench --json` against llama.cpp through llama-cpp-python's C calls.

    peer_speed.py MODEL.gguf [--engine build/release/rocmforge] [--rounds 5] [--threads 2] [--llama-bench PROGRAM]

Rounds alternate (A B C A B C ...), so that a noisy neighbour hurts all; the table gives medians, the spread (min..max) and
the median of the ratios within each round. Prefill is one batch of 512 tokens, decode is 128 single tokens, both from an
empty cache. Each measurement is a process of its own that warms up, then takes the median of three.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
N_PREFILL, N_DECODE, REPEATS = 512, 128, 3
FIELDS = ("prefill", "decode")


def peer_once(model, n_threads, flash, n_decode):
    """{"prefill": tokens/s, "decode": tokens/s} of llama.cpp in this process."""
    import llama_cpp as lc

    quiet = lc.llama_log_callback(lambda *_: None)  # kept alive
    lc.llama_log_set(quiet, None)
    lc.llama_backend_init()
    m = lc.llama_model_load_from_file(model.encode(), lc.llama_model_default_params())
    p = lc.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch = 1024, N_PREFILL, N_PREFILL
    p.n_threads = p.n_threads_batch = n_threads
    p.flash_attn_type = 1 if flash else 0
    context = lc.llama_init_from_model(m, p)
    ids = [(i * 7919 + 13) % 40000 + 100 for i in range(N_PREFILL)]
    batch = (lc.llama_token * len(ids))(*ids)

    def timed(pieces):
        """Tokens per second of feeding the pieces, [(first, n)], into an empty cache."""
        lc.llama_memory_clear(lc.llama_get_memory(context), True)
        start = time.perf_counter()
        for first, n in pieces:
            part = lc.llama_batch_get_one((lc.llama_token * n).from_buffer(batch, first * 4), n)
            if lc.llama_decode(context, part) != 0:
                sys.exit("peer: llama_decode failed")
            lc.llama_synchronize(context)
        return sum(n for _, n in pieces) / (time.perf_counter() - start)

    jobs = {"prefill": [(0, N_PREFILL)], "decode": [(i, 1) for i in range(n_decode)]}
    timed(jobs["prefill"])
    return {f: statistics.median(timed(jobs[f]) for _ in range(REPEATS)) for f in FIELDS}


def run(command):
    return json.loads(subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, check=True).stdout)


def ours(engine, model, n_threads):
    report = run([engine, "bench", "-m", model, "-t", n_threads, "-p", N_PREFILL, "-n", N_DECODE, "-r", REPEATS, "--json"])
    return {f: report[f + "_tokens_per_s"] for f in FIELDS}


def llama_bench(program, model, n_threads, flash):
    rows = run([program, "-m", model, "-t", n_threads, "-p", N_PREFILL, "-n", N_DECODE, "-fa", int(flash), "-ngl", 0,
                "-r", REPEATS, "-o", "json"])
    return {"prefill": max(r["avg_ts"] for r in rows if r["n_prompt"]), "decode": max(r["avg_ts"] for r in rows if r["n_gen"])}


def contestants(a):
    """{name: function that measures once}; ours first when the program is there."""
    who = {}
    if a.engine.exists():
        who["rocmforge"] = lambda: ours(a.engine, a.model, a.threads)
    for flash in (False, True):
        tag = "flash" if flash else "plain"
        who[f"llama-cpp-python, {tag}"] = lambda f=flash: run(
            [sys.executable, __file__, a.model, "--threads", a.threads, "--peer-once", int(f)])
        if a.llama_bench:
            who[f"llama-bench, {tag}"] = lambda f=flash: llama_bench(a.llama_bench, a.model, a.threads, f)
    return who


def warn_if_busy():
    """The machine's load."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}); spinning threads suffer most, so trust no ratio", file=sys.stderr)
    return load


def summary(rounds, name, base):
    out = {}
    for f in FIELDS:
        v = [r[name][f] for r in rounds]
        out[f] = {"median": statistics.median(v), "min": min(v), "max": max(v),
                  "ratio_to_" + base: statistics.median(r[name][f] / r[base][f] for r in rounds)}
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--llama-bench", help="path of llama.cpp's llama-bench, if there is one")
    p.add_argument("--json", type=pathlib.Path)
    p.add_argument("--peer-once", type=int, help=argparse.SUPPRESS)
    p.add_argument("--peer-decode", type=int, default=N_DECODE, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peer_once is not None:
        print(json.dumps(peer_once(a.model, a.threads, bool(a.peer_once), a.peer_decode)))
        return
    load = warn_if_busy()
    who = contestants(a)
    rounds = [{name: measure() for name, measure in who.items()} for _ in range(a.rounds)]
    base = next(iter(who))
    result = {name: summary(rounds, name, base) for name in who}
    print(f"{'tokens/s, median of ' + str(a.rounds):28} {'prefill 512':>22} {'ratio':>6} {'decode 128':>22} {'ratio':>6}")
    for name, r in result.items():
        cells = [f"{x['median']:8.1f} ({x['min']:.0f}..{x['max']:.0f})".rjust(22) + f" {x['ratio_to_' + base]:6.2f}"
                 for x in (r[f] for f in FIELDS)]
        print(f"{name:28} {cells[0]} {cells[1]}")
    if a.json:
        a.json.write_text(json.dumps({"threads": a.threads, "load": load, "rounds": rounds, "summary": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()

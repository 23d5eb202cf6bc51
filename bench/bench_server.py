"""A server beside a peer under the same load: time to first token, gaps between tokens, tokens/s, overload, vanishing.

    bench_server.py MODEL.gguf --peer LLAMA_SERVER [--rounds 3] [--clients 1 8 32 128] [--json FILE]

Rounds alternate (ours, peer, ours, peer ...), each server alone on the machine and started anew each round. Every client
count begins with all clients at once and is then a closed loop (bench_load.c). The table gives medians over the rounds;
times are in ms. What is asked of both: the same number of requests together (--parallel), contexts of the same size,
greedy sampling, prompts that are all different, no end before --max-tokens.

Overload is more clients than running and waiting requests may be; vanishing is 128 clients with long answers who all
leave at once, and the time to first token of one who asks right then, beside that of one who finds the server idle.
"""
import argparse
import contextlib
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from peers import ROOT, run, warn_if_busy

sys.path.insert(0, str(ROOT / "tests/system"))
from served import Served  # noqa: E402

SECONDS = {1: 3, 8: 3, 32: 10, 128: 10}  # measured
N_OVERLOAD, N_VANISH, VANISH_TOKENS = 400, 128, 200
COLUMNS = {  # heading: (path in the report, unit)
    "first p50": ("first_us", "p50", 1e-3), "first p99": ("first_us", "p99", 1e-3),
    "gap p50": ("gap_us", "p50", 1e-3), "gap p99": ("gap_us", "p99", 1e-3), "gap max": ("gap_us", "max", 1e-3),
    "steps max": ("gap_steps", "max", 1), "tokens/s": ("tokens_per_s", None, 1),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def ours(a):
    s = Served("--max-running", a.parallel, "-t", a.threads, "--no-access-log", binary=a.engine, model=a.model)
    try:
        yield s.port
    finally:
        s.stop()


@contextlib.contextmanager
def peer(a):
    port = free_port()
    command = [a.peer, "-m", a.model, "--host", "127.0.0.1", "--port", port, "-np", a.parallel, "-c", 512 * a.parallel,
               "-t", a.threads, "-tb", a.threads, "--threads-http", N_OVERLOAD + 16, *a.peer_options.split()]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not answers(port):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"bench_server: {a.peer} does not serve (exit code {process.poll()})")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def load(a, port, *options):
    return json.loads(run([a.load, "-p", port, "-u", a.path, "-w", a.words, *options])[0])


def measure(a, server, n_round):
    """{client count, "overload", "vanish": report of bench_load}"""
    out = {}
    with server(a) as port:
        load(a, port, "-c", 1, "-n", 4, "-s", 1, "-r", 99)  # nothing is cold
        for n in a.clients:
            out[n] = load(a, port, "-c", n, "-n", a.max_tokens, "-s", a.seconds or SECONDS.get(n, 10), "-r", n_round)
        if a.overload:
            out["overload"] = load(a, port, "-c", N_OVERLOAD, "-n", a.max_tokens, "-s", 6, "-r", 100 + n_round)
            out["vanish"] = load(a, port, "-c", N_VANISH, "-n", VANISH_TOKENS, "-v", 5, "-r", 200 + n_round)
    return out


def value(report, column):
    key, part, unit = COLUMNS[column]
    v = report[key] if part is None else report[key].get(part)
    return None if v is None else v * unit


def median(rounds, who, n, column):
    values = [v for v in (value(r[who][n], column) for r in rounds) if v is not None]
    return statistics.median(values) if values else None


def show(rounds, a):
    table = {w: {n: {c: median(rounds, w, n, c) for c in COLUMNS} for n in a.clients} for w in rounds[0]}
    print(f"{'clients':>7} {'':11}" + "".join(f"{c:>11}" for c in COLUMNS))
    for n in a.clients:
        for w in table:
            print(f"{n:7} {w:11}" + "".join("          -" if v is None else f"{v:11.1f}" for v in table[w][n].values()))
        if len(table) == 2:
            first, second = table.values()
            ratios = (second[n][c] / first[n][c] if first[n][c] and second[n][c] else 0 for c in COLUMNS)
            print(f"{'':7} {'peer / ours':11}" + "".join(f"{x:10.1f}x" for x in ratios))
    for what in ("overload", "vanish") if a.overload else ():
        for w in rounds[0]:
            reports = [r[w][what] for r in rounds]
            if what == "overload":
                print(what, w, [f"{r['ended']} ended, {r['waiting']} wait, status {r['status']}" for r in reports],
                      {c: round(v, 1) for c in COLUMNS if (v := median(rounds, w, what, c)) is not None})
            else:
                print(what, w, [f"{r['after_us'] / 1e3:.0f} ms (idle: {r['alone_us'] / 1e3:.0f})" for r in reports])
    return table


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("--load", default=ROOT / "build/release/bench_load", type=pathlib.Path)
    p.add_argument("--peer", help="path of llama.cpp's llama-server; without it ours is measured alone")
    p.add_argument("--peer-options", default="-fa on --cache-ram 0", help="beyond -np, -c, -t, -tb and --threads-http")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--clients", type=int, nargs="+", default=list(SECONDS))
    p.add_argument("--seconds", type=float, help="of each client count, instead of 3 or 10")
    p.add_argument("--parallel", type=int, default=32, help="requests decoded together")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--path", default="/v1/completions")
    p.add_argument("--words", type=int, default=90)
    p.add_argument("--max-tokens", type=int, default=32)
    p.add_argument("--overload", action="store_true", help="overload and vanishing as well")
    p.add_argument("--json", type=pathlib.Path)
    a = p.parse_args()
    busy = warn_if_busy()
    who = {"rocmforge": ours, **({"llama.cpp": peer} if a.peer else {})}
    rounds = [{name: measure(a, server, i) for name, server in who.items()} for i in range(a.rounds)]
    table = show(rounds, a)
    if a.json:
        a.json.write_text(json.dumps({"load": busy, "rounds": rounds, "medians": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()

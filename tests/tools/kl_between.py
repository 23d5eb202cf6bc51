"""How far an option moves the engine's answers: KL (nats), top-1 agreement and perplexity against the engine without it.

    kl_between.py MODEL.gguf [--engine build/release/rocmforge] -- --kv-type q8_0

Over every text of tests/data/texts on its own, and the first 7000 characters of all joined, each as one window. Needs
numpy only, and about 1 GB of disk for the logits.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS, LONG_CHARS, MAX_TOKENS = 256, 7000, 4096


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def run(engine, model, text, out, options):
    done = subprocess.run([engine, "perplexity", "-m", model, "--ctx", str(MAX_TOKENS), "--json", "--logits", out, *options],
                          input=text, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    return report, np.memmap(out, "<f4", "r").reshape(report["tokens"], -1)


def compare(p, q):
    """KL of each row, and whether both rows have the same largest logit."""
    kl, same = [], []
    for i in range(0, len(p), ROWS):
        a, b = log_softmax(p[i:i + ROWS].astype(np.float64)), log_softmax(q[i:i + ROWS].astype(np.float64))
        kl.append((np.exp(a) * (a - b)).sum(axis=1))
        same.append(a.argmax(axis=1) == b.argmax(axis=1))
    return np.concatenate(kl), np.concatenate(same)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("options", nargs="*", help="after --: what is measured")
    a = p.parse_args()
    texts = {f.stem: f.read_text() for f in sorted((ROOT / "tests/data/texts").glob("*.txt"))}
    texts["long"] = "\n".join(texts.values())[:LONG_CHARS]
    every_kl, every_same, nll, n_scored = [], [], np.zeros(2), 0
    print(f"{'':22} {'tokens':>6} {'mean KL':>9} {'p99':>9} {'top-1 %':>8} {'ppl':>9} {'ppl with':>9}")
    for name, text in texts.items():
        with tempfile.TemporaryDirectory() as d:
            plain, p_logits = run(a.engine, a.model, text, d + "/p", [])
            other, q_logits = run(a.engine, a.model, text, d + "/q", a.options)
            kl, same = compare(p_logits, q_logits)
        every_kl.append(kl), every_same.append(same)
        nll += (plain["nll"], other["nll"])
        n_scored += plain["scored"]
        print(f"{name:22} {len(kl):6} {kl.mean():9.2e} {np.quantile(kl, 0.99):9.2e} {100 * same.mean():8.2f} "
              f"{plain['perplexity']:9.4f} {other['perplexity']:9.4f}", flush=True)
    kl, (ppl, ppl_with) = np.concatenate(every_kl), np.exp(nll / n_scored)
    print(f"{'all':22} {len(kl):6} {kl.mean():9.2e} {np.quantile(kl, 0.99):9.2e} "
          f"{100 * np.concatenate(every_same).mean():8.2f} {ppl:9.4f} {ppl_with:9.4f}")


if __name__ == "__main__":
    main()

"""How far the engine is from the f32 reference: KL, top-1 agreement, perplexity, beside its peers'.

    accuracy.py MODEL.gguf [--engine build/release/rocmforge] [--peers] [--json OUT]

The engine writes its logits (`perplexity --logits`: raw little-endian f32 rows [n_tokens][n_vocab], the row of a token
being the prediction after reading it). KL and top-1 are taken over every text of tests/data/texts and over the first 2100
tokens of all joined. Perplexity is of all texts joined: windows of 512 tokens that do not overlap, the NLL of every token
but a window's first. Reference log-probabilities are cached under build/yardstick. Exit status 1 past the limits.
"""
import argparse
import hashlib
import json
import pathlib
import sys
import tempfile

import numpy as np

from yardstick import CACHE, ROOT, Peer, load_texts, load_tokens, quiet_llama, run_json, tokenizer
from llama_numpy import Llama, kl, log_softmax, nll

MAX_KL, MIN_TOP1, WINDOW = 2e-3, 0.98, 512


def windows(ids):
    return [ids[i:i + WINDOW] for i in range(0, len(ids), WINDOW) if len(ids[i:i + WINDOW]) > 1]


class Reference:
    """The numpy model behind a disk cache of logits keyed by model file, code and tokens."""

    def __init__(self, path):
        self.path, self.model = pathlib.Path(path), None
        code = (ROOT / "tests/reference/llama_numpy.py").read_bytes()
        stat = self.path.stat()
        self.salt = hashlib.sha256(code + f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).digest()
        CACHE.mkdir(parents=True, exist_ok=True)

    def forward(self, ids):
        name = hashlib.sha256(self.salt + np.asarray(ids, np.int32).tobytes()).hexdigest()[:24]
        cached = CACHE / f"{name}.npy"
        if cached.exists():
            return np.load(cached)
        self.model = self.model or Llama(self.path)
        logits = self.model.forward(ids)
        np.save(cached, logits)
        return logits


class Engine:
    """The program under test. It reads text, so ids become text again, and the count of rows tells if they came back."""

    def __init__(self, program, model, n_vocab, options):
        self.command = [program, "perplexity", "-m", model, "--json", *options]
        self.detokenize = quiet_llama(model, vocab_only=True).detokenize
        self.n_vocab = n_vocab

    def run(self, ids, ctx):
        """Logits [n][n_vocab], a window of ctx tokens at a time, and the program's own report."""
        with tempfile.TemporaryDirectory(dir=CACHE) as d:
            text, logits = pathlib.Path(d) / "text", pathlib.Path(d) / "logits"
            text.write_bytes(self.detokenize(ids, special=True))
            report = run_json([*self.command, text, "--ctx", ctx, "--logits", logits])
            rows = np.fromfile(logits, "<f4").reshape(-1, self.n_vocab)
        if len(rows) != len(ids):
            sys.exit(f"accuracy: {len(rows)} rows of logits came for {len(ids)} tokens")
        return rows, report

    def forward(self, ids):
        return self.run(ids, max(2, len(ids)))[0]

    def windows(self, ids):
        rows, self.report = self.run(ids, WINDOW)
        return np.split(rows, range(WINDOW, len(ids), WINDOW))


class EachWindow:
    """Anything that has only `forward`, window by window."""

    def __init__(self, forward):
        self.forward = forward

    def windows(self, ids):
        return (self.forward(w) for w in windows(ids))


def perplexity(who, ids):
    scores = [nll(log_softmax(rows), w) for rows, w in zip(who.windows(ids), windows(ids))]
    return float(np.exp(np.concatenate(scores).mean()))


def distance(reference, who, tokens):
    """KL and top-1 agreement, over all tokens and per text."""
    per, same = {}, []
    for name, ids in tokens.items():
        ref, got = log_softmax(reference.forward(ids)), log_softmax(who.forward(ids))
        per[name] = kl(ref, got)
        same.append(ref.argmax(axis=1) == got.argmax(axis=1))
    every = np.concatenate(list(per.values()))
    return {"kl": float(every.mean()), "kl_long": float(per["long"].mean()), "kl_p99": float(np.quantile(every, 0.99)),
            "top1": float(np.concatenate(same).mean()), "kl_per_text": {k: float(v.mean()) for k, v in per.items()}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--engine", default=ROOT / "build/release/rocmforge", type=pathlib.Path)
    p.add_argument("--peers", action="store_true", help="llama-cpp-python too")
    p.add_argument("--json", default=CACHE / "accuracy.json", type=pathlib.Path)
    p.add_argument("engine_options", nargs="*", help="after --: passed to the engine")
    a = p.parse_args()
    reference, tokens = Reference(a.model), load_tokens(a.model)
    joined = tokenizer(a.model)(load_texts()["long"])
    who = {"reference": EachWindow(reference.forward)}
    if a.engine.exists():
        who["engine"] = Engine(a.engine, a.model, reference.forward(tokens["long"]).shape[1], a.engine_options)
    if a.peers:
        who["llama.cpp f16 KV"] = EachWindow(Peer(a.model).forward)
        who["llama.cpp f16 KV, flash"] = EachWindow(Peer(a.model, flash=True).forward)
    rows = {}
    print(f"{'':24} {'mean KL':>9} {'KL long':>9} {'KL p99':>9} {'top-1 %':>8} {'ppl':>9}")
    for name, one in who.items():
        r = distance(reference, one, tokens) | {"perplexity": perplexity(one, joined)}
        rows[name] = r
        print(f"{name:24} {r['kl']:9.2e} {r['kl_long']:9.2e} {r['kl_p99']:9.2e} {100 * r['top1']:8.2f} "
              f"{r['perplexity']:9.4f}", flush=True)
    if "engine" in rows:
        rows["engine"]["report"] = who["engine"].report
        print("the engine's own report:", who["engine"].report)
    a.json.parent.mkdir(parents=True, exist_ok=True)
    a.json.write_text(json.dumps({"model": str(a.model), "n_tokens": len(joined), "rows": rows}, indent=1) + "\n")
    engine = rows.get("engine")
    if engine and (engine["kl"] > MAX_KL or engine["top1"] < MIN_TOP1):
        sys.exit(f"accuracy: past the limits, mean KL <= {MAX_KL}, top-1 >= {MIN_TOP1}")


if __name__ == "__main__":
    main()

"""What each rounding costs: mean KL (nats) against the f32 reference and top-1 agreement, by emulation in numpy.

Narrow: int8 activations with a scale per 32. Wide: |q| <= 2032 (12 bits in two planes).

    kl_study.py MODEL.gguf [--cut N] [--no-long] [--rows NAME ...] [>> OUT]
"""
import argparse
import time

import numpy as np

from yardstick import load_tokens
from llama_numpy import Llama, Numerics, bf16, f16, int8, int8_wide_quad, kl, log_softmax, q8_0

WIDE_LIMIT = 2032
USES = ("attn_qkv", "attn_output", "ffn_up", "ffn_down", "output")


def acts(default, **special):
    return {use: f for use in USES if (f := special.get(use, default))}


NARROW, WIDE = int8(32), int8(32, WIDE_LIMIT)
NORMED = ("attn_qkv", "ffn_up", "output")  # what a norm feeds
ROWS = {
    "narrow": Numerics(acts(NARROW)),
    "narrow, f16 KV": Numerics(acts(NARROW), k=f16, v=f16),
    **{f"narrow {use} only": Numerics({use: NARROW}) for use in USES},
    **{f"narrow but f32 {use}": Numerics(acts(NARROW, **{use: None})) for use in USES},
    "wide": Numerics(acts(WIDE)),
    "wide, f16 KV": Numerics(acts(WIDE), k=f16, v=f16),
    **{"wide on " + " ".join(uses): Numerics(acts(NARROW, **dict.fromkeys(uses, WIDE))) for uses in (
        ("attn_qkv", "output"), ("attn_qkv", "ffn_up"), NORMED, ("attn_qkv", "ffn_up", "ffn_down"),
        NORMED + ("ffn_down",))},
    "14 bits in two planes": Numerics(acts(int8(32, 127 * 128))),
    "narrow, largest quad in two planes": Numerics(acts(int8_wide_quad(32))),
    "narrow per 16": Numerics(acts(int8(16))),
    "narrow per 64": Numerics(acts(int8(64))),
    "f16 KV": Numerics(k=f16, v=f16),
    "bf16 KV": Numerics(k=bf16, v=bf16),
    "q8_0 KV": Numerics(k=q8_0, v=q8_0),
    "bf16 K V Q P": Numerics(k=bf16, v=bf16, q=bf16, p=bf16),
    "narrow, bf16 K V Q P": Numerics(acts(NARROW), k=bf16, v=bf16, q=bf16, p=bf16),
    "narrow, q8_0 KV": Numerics(acts(NARROW), k=q8_0, v=q8_0),
    "f16 activations": Numerics(acts(f16)),
    "bf16 activations": Numerics(acts(bf16)),
}


def study(model, tokens, ref, num):
    """(mean KL short texts, KL long, worst text's mean, p99 of tokens, top-1) of one Numerics."""
    per, same = {}, []
    for name, ids in tokens.items():
        got = log_softmax(model.forward(ids, num))
        per[name] = kl(ref[name], got)
        same.append(ref[name].argmax(axis=1) == got.argmax(axis=1))
    short = np.concatenate([v for k, v in per.items() if k != "long"] or [[0.0]])
    long = per.get("long", np.zeros(1))
    worst = max(per, key=lambda k: per[k].mean())
    everything = np.concatenate(list(per.values()))
    return short.mean(), long.mean(), per[worst].mean(), worst, np.quantile(everything, 0.99), np.concatenate(same).mean()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--cut", type=int, help="only this many tokens of each short text")
    p.add_argument("--no-long", action="store_true", help="short texts only")
    p.add_argument("--rows", nargs="+", default=list(ROWS))
    a = p.parse_args()
    model, tokens = Llama(a.model), load_tokens(a.model)
    long = tokens.pop("long")
    tokens = {name: ids[:a.cut] for name, ids in tokens.items()} | ({} if a.no_long else {"long": long})
    start = time.time()
    ref = {name: log_softmax(model.forward(ids)) for name, ids in tokens.items()}
    print(f"{len(tokens)} texts, {sum(map(len, tokens.values()))} tokens, {min(map(len, tokens.values()))} to "
          f"{max(map(len, tokens.values()))} each; reference took {time.time() - start:.0f} s")
    print(f"{'':40} {'KL short':>9} {'KL long':>9} {'worst':>9} {'p99':>9} {'top-1 %':>8}", flush=True)
    for name in a.rows:
        short, long, worst, which, p99, top1 = study(model, tokens, ref, ROWS[name])
        print(f"{name:40} {short:9.2e} {long:9.2e} {worst:9.2e} {p99:9.2e} {100 * top1:8.2f}  ({which})", flush=True)


if __name__ == "__main__":
    main()

"""What each rounding costs: mean KL (nats) against the f32 reference and top-1 agreement, by emulation in numpy.

    kl_study.py MODEL.gguf [--cut N] [--no-long] [--rows NAME ...] [>> OUT]
"""
import argparse
import time

import numpy as np

from yardstick import load_tokens
from llama_numpy import Llama, Numerics, bf16, f16, int8, int8_wide_quad, kl, log_softmax, q8_0

USES = ("attn_qkv", "attn_output", "ffn_up", "ffn_down", "output")


def acts(default, **special):
    return {use: f for use in USES if (f := special.get(use, default))}


I32, I64, I16, PLANES = int8(32), int8(64), int8(16), int8(32, 127 * 128)
ROWS = {
    "int8/32": Numerics(acts(I32)),
    "int8/32 + f16 KV (current)": Numerics(acts(I32), k=f16, v=f16),
    "f16 KV": Numerics(k=f16, v=f16),
    "bf16 KV": Numerics(k=bf16, v=bf16),
    "q8_0 KV": Numerics(k=q8_0, v=q8_0),
    "bf16 K V Q P": Numerics(k=bf16, v=bf16, q=bf16, p=bf16),
    **{f"int8/32 {use} only": Numerics({use: I32}) for use in USES},
    **{f"int8/32 but f32 {use}": Numerics(acts(I32, **{use: None})) for use in USES},
    "int8/64": Numerics(acts(I64)),
    "int8/16": Numerics(acts(I16)),
    "int8 two planes/32": Numerics(acts(PLANES)),
    "int8 two planes/32 + f16 KV": Numerics(acts(PLANES), k=f16, v=f16),
    "int8 two planes/32 + q8_0 KV": Numerics(acts(PLANES), k=q8_0, v=q8_0),
    "int8/32, largest value in two planes": Numerics(acts(int8_wide_quad(32, 1))),
    "int8/32, largest quad in two planes": Numerics(acts(int8_wide_quad(32))),
    **{"int8/32, planes on " + " ".join(uses): Numerics(acts(I32, **dict.fromkeys(uses, PLANES))) for uses in (
        ("attn_qkv", "ffn_up"), ("attn_qkv", "output"), ("attn_qkv", "ffn_up", "output"),
        ("attn_qkv", "ffn_up", "ffn_down"), ("attn_qkv", "ffn_up", "ffn_down", "output"))},
    "int8/32 + bf16 K V Q P": Numerics(acts(I32), k=bf16, v=bf16, q=bf16, p=bf16),
    "int8/32 + q8_0 KV": Numerics(acts(I32), k=q8_0, v=q8_0),
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

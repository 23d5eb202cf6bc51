"""Writes tests/data/golden.json: what the f32 reference says about the texts in tests/data/texts.

    make_golden.py MODEL.gguf

Per text: token ids, the sum of -log p over tokens[1:], and at a few positions the 20 best tokens with their natural
log-probabilities. Position p is the prediction after reading tokens[0..p]. "long" is all texts joined, cut to 2100
tokens. Values are f32 rounded to 5 decimals.
"""
import json
import sys

import numpy as np

from yardstick import ROOT, load_tokens
from llama_numpy import Llama, log_softmax, nll

POSITIONS = (0, 1, 17, 100, 511, 1023, 2047)
TOP = 20


def golden(logp, ids):
    at = {}
    for p in (p for p in POSITIONS if p < len(ids)):
        best = np.argsort(-logp[p], kind="stable")[:TOP]
        at[p] = {"ids": best.tolist(), "logprobs": [round(float(x), 5) for x in logp[p][best]]}
    return {"tokens": ids, "nll_sum": round(float(nll(logp, ids).sum()), 4), "top": at}


def main():
    model, tokens = Llama(sys.argv[1]), load_tokens(sys.argv[1])
    texts = {name: golden(log_softmax(model.forward(ids)), ids) for name, ids in tokens.items()}
    head = {"model": model.meta["general.name"], "n_vocab": model.n_vocab, "texts": texts}
    (ROOT / "tests/data/golden.json").write_text(json.dumps(head, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()

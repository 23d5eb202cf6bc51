"""The real model against the f32 reference's golden vectors (tests/tools/make_golden.py): every text's likelihood, and
the likeliest tokens at positions 0, 1, 17, ... 2047. docs/accuracy.md has the whole distribution's figures."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/tools"))
from yardstick import load_texts  # noqa: E402

GOLDEN = json.loads((ROOT / "tests/data/golden.json").read_text())


@pytest.fixture(scope="module")
def engine(binary, model, tmp_path_factory):
    """Text -> log-probabilities after each token, in one window."""
    out = tmp_path_factory.mktemp("accuracy") / "logits.bin"

    def run(text, kv):
        command = [binary, "perplexity", "-m", model, "--ctx", "4096", "--kv-type", kv, "--logits", str(out)]
        subprocess.run(command, input=text.encode(), check=True, stdout=subprocess.DEVNULL, timeout=300)
        x = np.fromfile(out, np.float32).reshape(-1, GOLDEN["n_vocab"]).astype(np.float64)
        out.unlink()
        x -= x.max(axis=1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    return run


def text_of(name, model, binary):
    """The golden tokens as text; "long" is a cut of all texts joined."""
    if name != "long":
        return load_texts()[name]
    ids = " ".join(map(str, GOLDEN["texts"][name]["tokens"]))
    command = [binary, "tokenize", "-m", model, "--detokenize"]
    return subprocess.run(command, input=ids.encode(), check=True, capture_output=True).stdout.decode()


@pytest.mark.parametrize("kv", ["bf16", "f16"])
@pytest.mark.parametrize("name", GOLDEN["texts"])
def test_text(engine, binary, model, name, kv):
    golden = GOLDEN["texts"][name]
    ids, logp = golden["tokens"], engine(text_of(name, model, binary), kv)
    assert len(logp) == len(ids)
    nll = -logp[np.arange(len(ids) - 1), ids[1:]].sum()
    assert math.isclose(nll, golden["nll_sum"], rel_tol=8e-3)
    for position, top in golden["top"].items():
        reference, ours = np.array(top["logprobs"]), logp[int(position), top["ids"]]
        p, q = np.append(np.exp(reference), 0), np.append(np.exp(ours), 0)  # the top, and all the rest as one
        p[-1], q[-1] = max(1 - p.sum(), 1e-9), max(1 - q.sum(), 1e-9)
        assert (p * np.log(p / q)).sum() < 1.5e-3, position
        assert np.abs(p - q).max() < 0.025, position
        if reference[0] - reference[1] > 0.05:  # no near tie
            assert logp[int(position)].argmax() == top["ids"][0], position


def test_positions_are_covered():
    assert {"0", "1", "17", "2047"} <= set(GOLDEN["texts"]["long"]["top"]) and len(GOLDEN["texts"]) > 20

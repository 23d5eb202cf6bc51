"""Embeddings of real files: the same bits for every chunk, thread count, instruction set, batch and state of the cache;
and what the numpy reference says they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tiny import Tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from llama_numpy import Llama  # noqa: E402

TEXTS = ["x", "the thing in the inn", "the thing in the inn is thin; " * 2]
LONG = TEXTS + ["then the other thing in the other inn; " * 4]


@pytest.fixture(scope="session")
def embed(binary):
    """Runs tests/probe/embed.c: {(text, pooling): [first round, second]}; None: the processor lacks the instructions."""

    def run(path, texts, step_tokens, threads, *isa):
        command = [Path(binary).parent / "probe_embed", path, str(step_tokens), str(threads), *isa]
        result = subprocess.run(command, input="\n".join(texts) + "\n", capture_output=True, text=True, timeout=120)
        if isa and f"lacks {isa[0]}" in result.stderr:
            return None
        assert result.returncode == 0, result.stderr
        out = {}
        for line in result.stdout.splitlines():
            r = json.loads(line)
            out.setdefault((r["text"], r["pooling"]), []).append(r)
        assert len(out) == 2 * len(texts) and all(len(rounds) == 2 for rounds in out.values())
        return out

    return run


def vectors(out):
    return {key: [r["embedding"] for r in rounds] for key, rounds in out.items()}


def check_same(first, *others):
    for one in others:
        assert one is None or vectors(one) == vectors(first)
    for rounds in vectors(first).values():
        assert rounds[0] == rounds[1]


def check_reference(rf, path, texts, out):
    model = Llama(path)
    for i, text in texts.items():
        ids = [int(t) for t in rf("tokenize", "-m", path, "--ids", stdin=text).stdout.split()]
        hidden = model.hidden(ids)
        for pooling, expected in (("mean", hidden.mean(axis=0)), ("last", hidden[-1])):
            r = out[i, pooling][0]
            ours = np.array(r["embedding"])
            assert r["prompt_tokens"] == len(ids)
            assert abs(np.linalg.norm(ours) - 1) < 1e-6
            cosine = ours @ expected / np.linalg.norm(expected)
            assert cosine > 0.999, (text, pooling, cosine)


def test_tiny(embed, rf, tmp_path):
    path = Tiny(quant="Q4_0").write(tmp_path / "tiny.gguf")
    first = embed(path, LONG, 512, 1, "scalar")
    check_reference(rf, path, dict(enumerate(LONG)), first)
    ways = [(1, 2, "avx2"), (7, 1, "avx512"), (64, 2, "avx512"), (512, 2, "avx2")]
    check_same(first, *(embed(path, LONG, *way) for way in ways))
    # A mean is read whole each time; for the last state the second round finds what the first has read.
    for (text, pooling), (_, again) in first.items():
        assert again["cached_tokens"] == (0 if pooling == "mean" else (again["prompt_tokens"] - 1) // 32 * 32)
    assert first[3, "last"][1]["cached_tokens"] >= 96


def test_real_model(embed, rf, model):
    first = embed(model, TEXTS, 512, 2)
    check_reference(rf, model, {1: TEXTS[1]}, first)
    check_same(first, embed(model, TEXTS, 7, 1, "avx2"))

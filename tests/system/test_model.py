"""The forward pass against the numpy reference, for every weight format and every knob of the architecture, and bit for
bit against itself: instruction sets, threads, windows."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tiny import Tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from llama_numpy import Llama  # noqa: E402

TEXT = "the thing in the inn is thin, then the other thing; " * 3
ISAS = ["scalar", "avx2", "avxvnni", "avx512", "amx"]
FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


@pytest.fixture(scope="session")
def isas(rf, model):
    """The instruction sets of this processor; the others are refused by name."""
    able = []
    for isa in ISAS:
        result = rf("generate", "-m", model, "-p", "x", "-n", 1, "--isa", isa)
        if result.returncode == 0:
            able.append(isa)
        else:
            assert f"cannot run the instruction set '{isa}'" in result.stderr
    assert able[0] == "scalar"
    return able


@pytest.fixture
def logits(rf, tmp_path):
    """Logits after each token of TEXT, one window, as [tokens][vocabulary]."""

    def run(path, *options, n_vocab, text=TEXT):
        out = tmp_path / "logits.bin"
        result = rf("perplexity", "-m", path, "--logits", out, *options, stdin=text)
        assert result.returncode == 0, result.stderr
        return np.fromfile(out, np.float32).reshape(-1, n_vocab)

    return run


def tokens_of(rf, path, text=TEXT):
    return [int(t) for t in rf("tokenize", "-m", path, "--ids", stdin=text).stdout.split()]


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def divergence(reference, other):
    """KL in nats of each row."""
    p, q = log_softmax(reference), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(axis=1)


EXACT, PER_32 = {"f16": 1e-4, "bf16": 1e-3}, {"f16": 1e-3, "bf16": 2e-3}  # mean KL, by what the cache holds


def check(rf, logits, tiny, tmp_path, limits=EXACT):
    path = tiny.write(tmp_path / "tiny.gguf")
    reference = Llama(path).forward(tokens_of(rf, path))
    for kv, limit in limits.items():
        ours = logits(path, "--kv-type", kv, n_vocab=reference.shape[1])
        assert ours.shape == reference.shape
        kl = divergence(reference, ours)
        assert np.all(np.isfinite(ours)) and kl.mean() < limit, (kv, kl.mean(), kl.max())
    assert np.abs(reference - reference.mean()).max() > 1, "the reference says nothing"
    return path


@pytest.mark.parametrize("quant", FORMATS)
def test_every_format(rf, logits, isas, tmp_path, quant):
    scaled_per_32 = quant in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K")  # these meet activations in bfloat16
    path = check(rf, logits, Tiny(quant=quant), tmp_path, PER_32 if scaled_per_32 else EXACT)
    seen = {hashlib.sha256(logits(path, "--isa", isa, "-t", t, n_vocab=264).tobytes()).hexdigest() for isa in isas for t in (1, 2)}
    assert len(seen) == 1


def with_rope(kind, **more):
    t = Tiny(quant="F16")
    t.metadata = {"rope.scaling.type": kind, **{f"rope.scaling.{k}": v for k, v in more.items()}}
    return t


def with_(**fields):
    t = Tiny(quant="F16")
    for name, value in fields.items():
        setattr(t, name, value)
    return t


VARIANTS = {
    "separate head": lambda: with_(tied=False),
    "mixed types": lambda: with_(types={"blk.0.attn_v.weight": "Q6_K", "blk.1.ffn_down.weight": "F16", "blk.0.attn_k.weight": "Q5_1"}),
    "multi-head": lambda: with_(kv_heads=4),
    "one kv head": lambda: with_(kv_heads=1),
    "sixteen heads on one": lambda: with_(heads=16, kv_heads=1),
    "theta": lambda: with_(metadata={"rope.freq_base": 500000.0}),
    "epsilon": lambda: with_(metadata={"attention.layer_norm_rms_epsilon": 0.5}),
    "linear": lambda: with_rope("linear", factor=4.0),
    "yarn": lambda: with_rope("yarn", factor=8.0, original_context_length=32),
    "llama 3 factors": lambda: with_(extra={"rope_freqs.weight": np.linspace(1, 8, 32).astype(np.float32)}),
    "qwen2": lambda: Tiny(arch="qwen2", quant="F16"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_knob(rf, logits, tmp_path, name):
    check(rf, logits, VARIANTS[name](), tmp_path, PER_32 if name == "mixed types" else EXACT)


def test_knobs_matter(rf, logits, tmp_path):
    """Each knob changes the answer: none of the comparisons above holds because a knob is ignored by both sides."""
    plain = logits(Tiny(quant="F16").write(tmp_path / "plain.gguf"), n_vocab=264)
    for name in ("theta", "epsilon", "linear", "yarn", "llama 3 factors"):
        other = logits(VARIANTS[name]().write(tmp_path / "other.gguf"), n_vocab=264)
        assert divergence(plain, other).mean() > 1e-3, name


def test_real_model_bits(logits, isas, model):
    """The whole model's logits are the same bits on every instruction set and thread count."""
    text = "The capital of France is Paris. 巴黎 🗼\n"
    seen = {hashlib.sha256(logits(model, "--isa", isa, "-t", t, n_vocab=49152, text=text).tobytes()).hexdigest()
            for isa in isas for t in (1, 2)}
    assert len(seen) == 1


def test_real_model_long_bits(logits, isas, model):
    """The same over more than one attention block, and rows for more than one group of workers, on the vector sets."""
    text = (Path(__file__).parents[2] / "LICENSE").read_text()[:3000]
    seen = {hashlib.sha256(logits(model, "--isa", isa, "-t", t, "--ctx", 1024, n_vocab=49152, text=text).tobytes()).hexdigest()
            for isa in isas[1:] or isas for t in (1, 2, 3)}
    assert len(seen) == 1


@pytest.mark.parametrize("kind, most", [("f16", 5e-4), ("q8_0", 5e-3)])
def test_real_model_other_kv(logits, isas, model, kind, most):
    """The KV cache in f16 or q8_0: other bits than bf16, yet the same ones everywhere, and all but the same predictions."""
    text = (Path(__file__).parents[2] / "LICENSE").read_text()[:1800]  # more than one attention block

    def run(*options):
        return logits(model, *options, "--ctx", 1024, n_vocab=49152, text=text)

    bf16, other = run(), run("--kv-type", kind)
    assert len(other) > 300
    for isa in isas[1:] or isas:
        for t in (1, 2):
            assert np.array_equal(run("--kv-type", kind, "--isa", isa, "-t", t), other)
    short = {hashlib.sha256(logits(model, "--kv-type", kind, "--isa", isa, n_vocab=49152, text=text[:150]).tobytes()).hexdigest()
             for isa in isas}
    assert len(short) == 1
    assert 0 < divergence(bf16, other).mean() < most

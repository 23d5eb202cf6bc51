"""Bad input gets one clear sentence on stderr, a documented exit code, and nothing on stdout."""

import os
import subprocess

import numpy as np
import pytest

from tiny import Tiny


def refused(result, status, *fragments):
    assert result.returncode == status, result
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    message = lines[0]
    assert message.startswith("rocmforge"), message
    for fragment in fragments:
        assert fragment in message, message
    if status == 1:
        assert len(lines) == 1, result.stderr


@pytest.fixture
def tiny(tmp_path):
    return lambda t: t.write(tmp_path / "tiny.gguf")


def broken(change):
    t = Tiny()
    change(t)
    return t


MODELS = {
    "missing tensor": (lambda t: t.drop.add("blk.1.ffn_up.weight"), "'blk.1.ffn_up.weight' is missing"),
    "missing norm": (lambda t: t.drop.add("output_norm.weight"), "'output_norm.weight' is missing"),
    "missing embedding": (lambda t: t.drop.add("token_embd.weight"), "'token_embd.weight' is missing"),
    "wrong shape": (lambda t: t.reshape.update({"blk.0.attn_k.weight": lambda x: x[:64]}), "'blk.0.attn_k.weight' has shape [256, 64], expected [256, 128]"),
    "wrong norm": (lambda t: t.reshape.update({"blk.0.attn_norm.weight": lambda x: x[:32]}), "'blk.0.attn_norm.weight' has shape"),
    "vocabulary mismatch": (lambda t: t.reshape.update({"token_embd.weight": lambda x: x[:200]}), "200 rows"),
    "unsupported type": (lambda t: t.types.update({"blk.0.attn_q.weight": "TQ2_0"}), "TQ2_0"),
    "missing key": (lambda t: t.metadata.update({"block_count": None}), "'llama.block_count' is missing"),
    "zero layers": (lambda t: t.metadata.update({"block_count": 0}), "block_count' is 0"),
    "many layers": (lambda t: t.metadata.update({"block_count": 900}), "too few for 900 layers"),
    "zero heads": (lambda t: t.metadata.update({"attention.head_count": 0}), "head_count' is 0"),
    "odd groups": (lambda t: t.metadata.update({"attention.head_count_kv": 3}), "cannot share 3"),
    "rope base": (lambda t: t.metadata.update({"rope.freq_base": float("nan")}), "rope.freq_base"),
    "rope scaling": (lambda t: t.metadata.update({"rope.scaling.type": "spiral"}), "'spiral' is not supported"),
    "tokenizer": (lambda t: setattr(t, "tokenizer", "wordpiece"), "wordpiece"),
    "pre-tokenizer": (lambda t: setattr(t, "pre", "martian"), "martian"),
}


@pytest.mark.parametrize("name", MODELS)
def test_broken_model(rf, tiny, name):
    change, fragment = MODELS[name]
    refused(rf("generate", "-m", tiny(broken(change)), "-p", "hello"), 1, fragment)


def test_unknown_architecture(rf, tiny):
    refused(rf("generate", "-m", tiny(Tiny(arch="mamba9")), "-p", "hello"), 1, "architecture 'mamba9' is not supported")


def test_a_good_tiny_model_answers(rf, tiny):
    result = rf("generate", "-m", tiny(Tiny()), "-p", "hello", "-n", 4, "--ignore-eos", "--json")
    assert result.returncode == 0, result.stderr
    assert '"completion_tokens":4' in result.stdout


@pytest.mark.parametrize("keep", [0, 3, 4, 23, 24, 1000, 40000, 98_000_000])
def test_truncated(rf, model, tmp_path, keep):
    path = tmp_path / "short.gguf"
    with open(model, "rb") as f:
        path.write_bytes(f.read(keep))
    refused(rf("generate", "-m", path, "-p", "hello"), 1)


def test_not_a_file(rf, tmp_path):
    refused(rf("generate", "-m", tmp_path, "-p", "x"), 1, "directory")
    refused(rf("generate", "-m", tmp_path / "nowhere.gguf", "-p", "x"), 1, "No such file")
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"PK\3\4" + bytes(1000))
    refused(rf("generate", "-m", wrong, "-p", "x"), 1, "GGUF")


def test_unreadable(binary, tmp_path):
    path = tmp_path / "locked.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    without = "-dac_override,-dac_read_search"  # root reads everything while it has these
    drop = ["setpriv", "--bounding-set", without, "--inh-caps", without] if os.geteuid() == 0 else []
    command = [*drop, binary, "generate", "-m", str(path), "-p", "x"]
    refused(subprocess.run(command, capture_output=True, text=True, timeout=60), 1, "Permission denied")


def test_unreadable_special_file(rf):
    refused(rf("generate", "-m", "/dev/null", "-p", "x"), 1)


def test_empty_prompt(rf, model):
    refused(rf("generate", "-m", model, "-p", ""), 2, "prompt")
    refused(rf("generate", "-m", model, stdin=""), 2, "prompt")


def test_prompt_of_unknown_bytes(rf, model):
    assert rf("tokenize", "-m", model, "-i", stdin="\x04").stdout == "\n"  # the default model has no token for it
    refused(rf("generate", "-m", model, "-p", "\x04"), 2, "no token")


def test_prompt_not_utf8(rf, model, tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"caf\xe9 au lait")
    refused(rf("generate", "-m", model, "--file", path), 1, "UTF-8", "3")
    refused(rf("tokenize", "-m", model, "--file", path), 1, "UTF-8", "3")


def test_prompt_too_long(rf, model):
    refused(rf("generate", "-m", model, "--ctx", 64, stdin="word " * 100), 1, "64")


PARAMETERS = {
    "--temperature": ["-1", "nan", "inf", "-0.001"],
    "--top-p": ["0", "-0.5", "1.5", "nan"],
    "--min-p": ["-0.1", "1.1", "nan"],
    "--repeat-penalty": ["0", "-1", "nan", "inf"],
    "--presence-penalty": ["-3", "2.1", "nan"],
    "--frequency-penalty": ["-3", "2.1", "nan"],
    "--top-k": ["-1", "x", "", "99999999999999999999"],
    "--max-tokens": ["-1", "ten", "1e3"],
    "--seed": ["-5", "x"],
    "--threads": ["0", "-2", "x"],
    "--ctx": ["0", "-1"],
    "--timeout": ["0", "-1"],
    "--isa": ["sse9", ""],
}


@pytest.mark.parametrize("option,value", [(o, v) for o, values in PARAMETERS.items() for v in values])
def test_parameter_out_of_range(rf, model, option, value):
    result = rf("generate", "-m", model, "-p", "hello", "-n", "1", f"{option}={value}" if option != "-n" else option)
    refused(result, 2)
    name = option.strip("-").replace("-", "_").split("_")[0]
    assert name in result.stderr.splitlines()[0]


def test_usage(rf, model):
    refused(rf("generate", "-p", "x"), 2)
    refused(rf("generate", "-m", model, "--no-such-option"), 2)
    refused(rf("fly"), 2, "fly")
    assert rf("--help").returncode == 0
    assert rf("generate", "--help").returncode == 0


def test_logits_that_are_not_finite_end_one_request(rf, tiny):
    t = broken(lambda t: t.reshape.update({"output_norm.weight": lambda x: np.full_like(x, np.nan)}))
    refused(rf("generate", "-m", tiny(t), "-p", "hello", "-n", "3"), 1, "finite")

"""rocmforge inspect: --json against the gguf package's own reader, hostile text, usage errors.

ROCMFORGE_BIN is the program, ROCMFORGE_MODEL a GGUF model file.
"""
import json
import math
import os
import struct
import subprocess

import gguf
import pytest

BIN = os.environ.get("ROCMFORGE_BIN", "build/release/rocmforge")
MODEL = os.environ.get("ROCMFORGE_MODEL")
U32, F32, BOOL, STRING, ARRAY, U64, F64 = 4, 6, 7, 8, 9, 10, 12


def run(*args):
    return subprocess.run([BIN, *map(str, args)], capture_output=True, timeout=60)


def inspect_json(path):
    result = run("inspect", "--json", path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""
    return json.loads(result.stdout)


def expected_value(field):
    """A field of the package's reader, from its raw parts: strings as text, numbers as Python's own."""
    kinds = field.types
    if kinds[-1] == gguf.GGUFValueType.STRING:
        values = [bytes(field.parts[i]).decode("utf-8", "replace") for i in field.data]
    else:
        values = [field.parts[i][0].item() for i in field.data]
    return values if kinds[0] == gguf.GGUFValueType.ARRAY else values[0]


@pytest.fixture(scope="module")
def model():
    if not MODEL:
        pytest.skip("ROCMFORGE_MODEL is not set")
    return gguf.GGUFReader(MODEL), inspect_json(MODEL)


def test_metadata_equals_reader(model):
    reader, shown = model
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert list(shown["metadata"]) == list(fields)
    for name, field in fields.items():
        assert shown["metadata"][name] == expected_value(field), name


def test_tensors_equal_reader(model):
    reader, shown = model
    want = [
        {"name": t.name, "type": t.tensor_type.name, "dims": t.shape.tolist(), "n_bytes": int(t.n_bytes)}
        for t in reader.tensors
    ]
    assert shown["tensors"] == want


def test_summary(model):
    reader, shown = model
    meta = shown["metadata"]
    arch = meta["general.architecture"]
    assert shown["file_bytes"] == os.path.getsize(MODEL)
    assert shown["version"] == int(reader.fields["GGUF.version"].parts[-1][0])
    assert shown["alignment"] == reader.alignment
    assert shown["architecture"] == arch
    assert shown["n_params"] == sum(int(t.n_elements) for t in reader.tensors)
    assert shown["n_tensors"] == len(reader.tensors) == sum(t["n_tensors"] for t in shown["types"].values())
    assert sum(t["n_bytes"] for t in shown["types"].values()) == sum(int(t.n_bytes) for t in reader.tensors)
    assert shown["n_layers"] == meta[f"{arch}.block_count"]
    assert shown["n_ctx_train"] == meta[f"{arch}.context_length"]
    assert shown["n_vocab"] == len(meta["tokenizer.ggml.tokens"])
    assert shown["chat_template"] == ("tokenizer.chat_template" in meta)


def test_text_names_everything(model):
    reader, shown = model
    result = run("inspect", "--tensors", MODEL)
    text = result.stdout.decode("utf-8")
    assert result.returncode == 0
    assert all(f"  {key} " in text for key in shown["metadata"])
    assert all(f"  {t.name} " in text for t in reader.tensors)
    assert max(len(line) for line in text.splitlines()) < 400  # long values are shortened
    assert run("inspect", MODEL).stdout.decode("utf-8") in text


def string(data):
    return struct.pack("<Q", len(data)) + data


def write_hostile(path):
    values = [
        (b"general.architecture", STRING, string(b"\x1b[31mllama\x1b[0m\x00")),
        (b"general.name", STRING, string(b"\xff\xed\xa0\x80\xf0\x9f\x92ok\n\xe2\x80\xae\xc2\x9b\\")),
        (b"nan", F32, struct.pack("<f", math.nan)),
        (b"inf", F64, struct.pack("<d", -math.inf)),
        (b"big", U64, struct.pack("<Q", 2**64 - 1)),
        (b"strings", ARRAY, struct.pack("<IQ", STRING, 2) + string(b"\xc3") + string(b"\xc3\xbc" * 64)),
        (b"bools", ARRAY, struct.pack("<IQ", BOOL, 2) + b"\x01\x00"),
        (b"long", STRING, string(b"\x07" * 100_000)),
    ]
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)))
        for key, kind, data in values:
            f.write(string(key) + struct.pack("<I", kind) + data)


def test_hostile_text(tmp_path):
    path = tmp_path / "hostile\x1b.gguf"
    write_hostile(path)
    result = run("inspect", "--tensors", path)
    assert result.returncode == 0
    text = result.stdout.decode("utf-8")
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "\\x1b[31mllama\\x1b[0m\\x00" in text
    assert "\\xff\\xed\\xa0\\x80\\xf0\\x9f\\x92ok\\n\\u202e\\x9b\\\\" in text
    assert len(text) < 4000

    shown = inspect_json(path)["metadata"]
    assert shown["general.architecture"] == "\x1b[31mllama\x1b[0m\x00"
    assert shown["general.name"] == b"\xff\xed\xa0\x80\xf0\x9f\x92ok\n\xe2\x80\xae\xc2\x9b\\".decode("utf-8", "replace")
    assert shown["strings"] == ["\ufffd", "\u00fc" * 64]  # the 128 that follows "\xc3" looks like its continuation
    assert shown["bools"] == [True, False]
    assert (shown["nan"], shown["inf"], shown["big"]) == ("nan", "-inf", str(2**64 - 1))
    assert len(shown["long"]) == 100_000


@pytest.mark.parametrize(
    "args, code, sentence",
    [
        ([], 2, b"Usage: rocmforge COMMAND"),
        (["inspct", "x"], 2, b"rocmforge: unknown command 'inspct'; did you mean 'inspect'?"),
        (["frobnicate"], 2, b"rocmforge: unknown command 'frobnicate'; 'rocmforge --help' lists the commands"),
        (["x" * 1000], 2, b"rocmforge: unknown command 'xxx"),
        (["\x1b[2J"], 2, b"rocmforge: unknown command '\\x1b[2J'"),
        (["help", "nothing"], 2, b"unknown command 'nothing'"),
        (["inspect"], 2, b"rocmforge inspect: which MODEL?"),
        (["inspect", "a", "b"], 2, b"'b' is a second one"),
        (["inspect", "--frob", "a"], 2, b"rocmforge inspect: unrecognized option '--frob'"),
        (["inspect", "/tmp"], 1, b"rocmforge: gguf: '/tmp' is a directory"),
        (["inspect", "/dev/null"], 1, b"not a regular file"),
        (["inspect", "/no/such/file"], 1, b"rocmforge: gguf: cannot open '/no/such/file': No such file or directory\n"),
    ],
)
def test_errors(args, code, sentence):
    result = run(*args)
    assert result.returncode == code
    assert result.stdout == b""
    assert sentence in result.stderr


@pytest.mark.parametrize("args", [["--help"], ["help"], ["help", "inspect"], ["inspect", "--help"], ["--version"]])
def test_help(args):
    result = run(*args)
    assert result.returncode == 0
    assert b"rocmforge" in result.stdout
    assert result.stderr == b""


def test_full_disk(tmp_path):
    path = tmp_path / "m.gguf"
    write_hostile(path)
    with open("/dev/full", "wb") as full:
        result = subprocess.run([BIN, "inspect", path], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 1
    assert b"cannot write to standard output" in result.stderr

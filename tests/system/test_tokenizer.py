"""`rocmforge tokenize` against Hugging Face's `tokenizers`, token for token, on the whole corpus.

Both sides use the vocabulary and merges of a real GGUF file; for the pre-tokenizers of other families the same tables
are written to a small GGUF with another tokenizer.ggml.pre. Patterns below are those of the models' tokenizer.json.
Needs ROCMFORGE_BIN and ROCMFORGE_MODEL (a byte-level BPE model with the smollm pre-tokenizer).
"""
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import gguf
import pytest
import tokenizers
from tokenizers import pre_tokenizers as pre

HERE = pathlib.Path(__file__).resolve().parent
BIN = os.environ.get("ROCMFORGE_BIN", "rocmforge")
MODEL = os.environ.get("ROCMFORGE_MODEL")
pytestmark = pytest.mark.skipif(not MODEL, reason="ROCMFORGE_MODEL is not set")

SPACE_TAIL = r"\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          + SPACE_TAIL)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          + SPACE_TAIL)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SUFFIX}|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|" + SPACE_TAIL)
TEKKEN = GPT4O.replace(SUFFIX, "").replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
            r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|" + SPACE_TAIL)


def split(*patterns):
    stages = [pre.Split(tokenizers.Regex(p), "isolated") for p in patterns]
    return pre.Sequence(stages + [pre.ByteLevel(add_prefix_space=False, use_regex=False)])


GPT2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
FAMILIES = {  # tokenizer.ggml.pre: (pre-tokenizer, ignore_merges)
    "smollm": (pre.Sequence([pre.Digits(individual_digits=True), GPT2]), False),
    "gpt-2": (GPT2, False),
    "llama-bpe": (split(LLAMA3), True),
    "dbrx": (split(LLAMA3), False),
    "qwen2": (split(QWEN2), False),
    "qwen35": (split(QWEN35), False),
    "gpt-4o": (split(GPT4O), False),
    "tekken": (split(TEKKEN), True),
    "deepseek-v3": (split(r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", DEEPSEEK), False),
}


class Tables:
    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields
        self.tokens = fields["tokenizer.ggml.tokens"].contents()
        self.merges = fields["tokenizer.ggml.merges"].contents()
        self.types = fields["tokenizer.ggml.token_type"].contents()
        self.eos = fields["tokenizer.ggml.eos_token_id"].contents()

    def control(self):
        return [t for t, kind in zip(self.tokens, self.types) if kind == gguf.TokenType.CONTROL]

    def write(self, path, name):
        w = gguf.GGUFWriter(path, "llama")
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre(name)
        w.add_token_list(self.tokens)
        w.add_token_types(self.types)
        w.add_token_merges(self.merges)
        w.add_eos_token_id(self.eos)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()

    def reference(self, name, parse_special):
        splitter, ignore_merges = FAMILIES[name]
        vocabulary = {t: i for i, t in enumerate(self.tokens)}
        merges = [tuple(m.split(" ")) for m in self.merges]
        t = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
        t.pre_tokenizer = splitter
        if parse_special:
            t.add_special_tokens([tokenizers.AddedToken(c, special=True, normalized=False) for c in self.control()])
        return t


@pytest.fixture(scope="session")
def tables():
    return Tables(MODEL)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    subprocess.run([sys.executable, HERE.parent / "tools" / "make_corpus.py", path], check=True)
    assert path.stat().st_size > 2_000_000
    return path


@pytest.fixture(scope="session")
def models(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def get(name):
        if name == "smollm":
            return MODEL
        path = folder / f"{name}.gguf"
        if not path.exists():
            tables.write(path, name)
        return path

    return get


def run(*args, stdin=b""):
    return subprocess.run([BIN, "tokenize", *map(str, args)], input=stdin, capture_output=True)


def ids_of(model, path, *args):
    done = run("-m", model, "--ids", "--file", path, *args)
    assert done.returncode == 0, done.stderr
    return [int(i) for i in done.stdout.split()]


def first_difference(got, want, tokens):
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    show = lambda ids: [tokens[i] for i in ids[max(0, at - 3):at + 4]]
    return f"token {at} of {len(got)} and {len(want)}: got {show(got)}, want {show(want)}"


CASES = [(name, False) for name in FAMILIES] + [("smollm", True), ("llama-bpe", True)]


@pytest.mark.parametrize("name, parse_special", CASES)
def test_corpus(name, parse_special, tables, corpus, models):
    text = corpus.read_bytes().decode("utf-8")
    want = tables.reference(name, parse_special).encode(text, add_special_tokens=False).ids
    got = ids_of(models(name), corpus, *(["--parse-special"] if parse_special else []))
    assert got == want, first_difference(got, want, tables.tokens)


def test_corpus_comes_back(corpus, tables):
    """Every byte that the vocabulary can say survives tokenize | detokenize (this one lacks a few)."""
    said = {bytes([b]) for t in tables.tokens if len(t) == 1 for b in [ALPHABET.get(t)] if b is not None}
    want = b"".join(bytes([b]) for b in corpus.read_bytes() if bytes([b]) in said)
    ids = run("-m", MODEL, "--ids", "--file", corpus).stdout
    assert run("-m", MODEL, "--detokenize", stdin=ids).stdout == want


def byte_alphabet():
    """GPT-2's: printable bytes are themselves, the others follow from code point 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


ALPHABET = byte_alphabet()


VECTORS = json.loads((HERE.parent / "data" / "tokens_llama.json").read_text())


@pytest.mark.parametrize("name", VECTORS)
def test_second_witness(name, models):
    """What llama.cpp gave (tests/tools/make_token_vectors.py), committed as digests."""
    ids = ids_of(models(name), HERE.parent / "data" / "tokens_llama.txt")
    digest = hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()
    assert {"n_tokens": len(ids), "sha256": digest} == VECTORS[name]


def test_bad_utf8_is_one_sentence():
    done = run("-m", MODEL, stdin=b"fine \xc3\xa9 \xff")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"rocmforge: the text is not UTF-8 at byte 8\n"


def test_control_tokens_come_only_when_asked():
    text = "<|im_start|>user"
    assert run("-m", MODEL, "--ids", "-p", text).stdout.split()[0] != b"1"
    assert run("-m", MODEL, "--ids", "-s", "-p", text).stdout.split()[0] == b"1"


def test_json():
    answer = json.loads(run("-m", MODEL, "--json", "-p", "Hello, 你").stdout)
    assert answer["n_tokens"] == len(answer["tokens"]) >= 4
    assert answer["tokens"][0] == {"id": answer["tokens"][0]["id"], "text": "Hello"}


@pytest.mark.parametrize("args", [[], ["-m"], ["-m", "x", "stray"], ["-m", "x", "-p", "a", "--file", "b"]])
def test_usage(args):
    assert run(*args).returncode == 2

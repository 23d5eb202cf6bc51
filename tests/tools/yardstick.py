"""What the yardstick tools share: where the model and the texts are, tokens, medians, and the peer's logits."""
import json
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/reference"))
CACHE = ROOT / "build/yardstick"
LONG_TOKENS = 2100  # of all texts joined: covers position 2047


def load_texts():
    """{name: text}: the short texts, then "long", all of them joined (over 20,000 characters)."""
    texts = {p.stem: p.read_text() for p in sorted((ROOT / "tests/data/texts").glob("*.txt"))}
    return texts | {"long": "\n".join(texts.values())}


def quiet_llama(model, **options):
    import llama_cpp
    return llama_cpp.Llama(str(model), verbose=False, **options)


def tokenizer(model):
    """text -> ids, control tokens not parsed, nothing added."""
    vocab = quiet_llama(model, vocab_only=True)
    return lambda text: vocab.tokenize(text.encode(), add_bos=False, special=False)


def load_tokens(model):
    encode = tokenizer(model)
    tokens = {name: encode(text) for name, text in load_texts().items()}
    tokens["long"] = tokens["long"][:LONG_TOKENS]
    return tokens


class Peer:
    """llama-cpp-python, all logits of a token list. kv: "f32", "f16", "q8_0"."""

    def __init__(self, model, kv="f16", n_ctx=LONG_TOKENS, n_threads=1, flash=False):
        kind = {"f32": 0, "f16": 1, "q8_0": 8}[kv]
        self.llama = quiet_llama(model, n_ctx=n_ctx, n_batch=512, n_threads=n_threads, n_threads_batch=n_threads,
                                 logits_all=True, type_k=kind, type_v=kind, flash_attn=flash or kv == "q8_0")

    def forward(self, tokens):
        self.llama.reset()
        self.llama.eval(list(tokens))
        return np.array(self.llama.scores[:len(tokens)], np.float32)


def run_json(command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)

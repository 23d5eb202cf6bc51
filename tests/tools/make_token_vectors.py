#!/usr/bin/env python3
"""Writes tests/data/tokens_llama.{txt,json}: what llama.cpp makes of the small corpus, as a second witness.

    make_token_vectors.py MODEL.gguf

Needs llama-cpp-python (0.3.36), gguf and tokenizers; made once, the data is committed. For each tokenizer.ggml.pre:
how many tokens, and the SHA-256 of the ids joined by blanks (of the model's vocabulary, without BOS), control tokens as text.
"""
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "system"))
import test_tokenizer  # noqa: E402

# Not gpt-4o and tekken: llama.cpp's cased classes leave out \p{M}, so it splits before combining marks where
# tokenizer.json does not.
NAMES = ["default", "smollm", "gpt-2", "llama-bpe", "qwen2", "qwen35", "deepseek-v3"]


def main():
    tables = test_tokenizer.Tables(sys.argv[1])
    text = TESTS / "data" / "tokens_llama.txt"
    subprocess.run([sys.executable, TESTS / "tools" / "make_corpus.py", text, "--small"], check=True)
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            path = pathlib.Path(folder) / f"{name}.gguf"
            tables.write(path, name)
            model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
            ids = model.tokenize(text.read_bytes(), add_bos=False, special=False)
            digest = hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()
            answers[name] = {"n_tokens": len(ids), "sha256": digest}
            if len(sys.argv) > 2:  # a folder for the ids themselves, to look at differences
                (pathlib.Path(sys.argv[2]) / f"{name}.ids").write_text(" ".join(map(str, ids)))
    (TESTS / "data" / "tokens_llama.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/fuzz_tokenizer.c: tokenizer_seeds.py FOLDER. Needs the gguf package."""
import pathlib
import sys
import tempfile

import gguf

TEXTS = ["hello  world 12\n\n x", "<|a|><|b><b> aaaaaaa", "I'M we'll 1234 \r\n\r\n", "é你好😀 a\u0301\u200d\u3000\x85",
         "\0\x7f", "HelloWorld's a/b//\n", "    \t\t \n  x", "aaaSTOPaaaSTO", "½Ⅻ٣"]
BROKEN = [b"a\xff\xc3(\xf0\x80x\xe2\x82", b"\xed\xa0\x80\xf4\x90\x80\x80", b"\xe2\x82\xac\xe2\x82"]


def tables(pre, tokens, types, merges):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "seed.gguf"
        w = gguf.GGUFWriter(path, "llama")
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre(pre)
        w.add_token_list(tokens)
        w.add_token_types(types)
        w.add_token_merges(merges)
        w.add_bos_token_id(0)
        w.add_eos_token_id(1)
        w.add_add_bos_token(True)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
        return path.read_bytes()


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate([t.encode() for t in TEXTS] + BROKEN):
        (out / f"text_{i}").write_bytes(bytes([0, 2 * i + i % 2, 17 * i + 3]) + text)
    tokens, merges = ["<|a|>", "<b>", "h", "e", "l", "he", "ll", "Ġ", "o", "hell", "Ã", "©"], ["h e", "l l", "he ll"]
    types = [3, 4] + [1] * 10
    (out / "tables_good").write_bytes(b"\1" + tables("llama-bpe", tokens, types, merges))
    (out / "tables_merges").write_bytes(b"\1" + tables("smollm", tokens, types, ["h e", "h e", "x y", "h"]))
    (out / "tables_types").write_bytes(b"\1" + tables("gpt-2", tokens, types[:-1] + [9], merges))
    (out / "tables_same").write_bytes(b"\1" + tables("qwen2", tokens + ["h", ""], types + [1, 1], merges))


if __name__ == "__main__":
    main()

"""Writes the seeds of tests/fuzz/corpus/gguf/: small files, one per feature of the format, so that mutation starts everywhere."""
import pathlib
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def element(kind, x):
    return string(x) if kind == STRING else struct.pack("<" + FORMATS[kind], x)


def value(key, kind, x):
    return string(key) + struct.pack("<I", kind) + element(kind, x)


def array(key, kind, xs):
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(xs)) + b"".join(element(kind, x) for x in xs)


def tensor(name, dims, type, offset):
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type, offset)


def file(values=(), tensors=(), n_data=0, version=3, alignment=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values)) + b"".join(values) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + bytes(range(256)) * (n_data // 256) + bytes(n_data % 256)


scalars = [value(f"k.{kind}", kind, 1) for kind in FORMATS] + [value("k.str", STRING, "grüße")]
arrays = [array(f"a.{kind}", kind, [1, 0, 1]) for kind in FORMATS] + [array("a.str", STRING, ["a", "", "bc"])]
tensors = [tensor("a.weight", [32, 2], 2, 0), tensor("b.weight", [5], 0, 64), tensor("c", [2, 1, 2, 2], 1, 96)]
seeds = {
    "empty_v2": file(version=2),
    "empty_v3": file(),
    "scalars": file(scalars),
    "arrays": file(arrays),
    "no_elements": file([array(f"a.{kind}", kind, []) for kind in (U8, STRING, F64)]),
    "tensors": file(tensors=tensors, n_data=112),
    "aligned_8": file([value("general.alignment", U32, 8)], [tensor("a", [3], 0, 0), tensor("b", [1], 0, 16)], 20, alignment=8),
    "aligned_256": file([value("general.alignment", U32, 256)], [tensor("a", [256], 14, 0)], 210, alignment=256),
    "k_types": file(tensors=[tensor(f"t{i}", [256], i, i * 320 - 3200) for i in (10, 11, 12)], n_data=784),
    "model": file(
        [
            value("general.architecture", STRING, "llama"),
            value("llama.block_count", U32, 1),
            value("llama.rope.freq_base", F32, 1e4),
            array("tokenizer.ggml.tokens", STRING, ["<s>", "a", "b", "ab"]),
            array("tokenizer.ggml.token_type", I32, [3, 1, 1, 1]),
        ],
        [tensor("token_embd.weight", [32, 4], 8, 0)],
        136,
    ),
    "nested": file([string("n") + struct.pack("<IIQIQ", ARRAY, ARRAY, 1, U8, 1) + b"\1"]),
    "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "overlap": file(tensors=[tensor("a", [16], 0, 0), tensor("b", [16], 0, 32)], n_data=96),
    "huge_counts": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60),
}
out = pathlib.Path(__file__).parent.parent / "fuzz" / "corpus" / "gguf"
for name, data in seeds.items():
    (out / name).write_bytes(data)

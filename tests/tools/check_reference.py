"""Checks the reference itself against llama.cpp: small random F32 models, one per rope variant, KV cache in f32.

    check_reference.py VOCAB.gguf          a GGUF whose tokenizer the small models borrow

Per variant: the mean KL between the two, and how far the reference moves without that variant's rope metadata, which
shows that the comparison would notice. Exit status 1 when the two differ.
"""
import pathlib
import sys
import tempfile

import gguf
import numpy as np

from yardstick import Peer
from llama_numpy import Llama, kl, log_softmax

D, HEADS, KV_HEADS, FFN, LAYERS, CTX = 128, 4, 2, 192, 2, 512
MAX_KL = 1e-5


def write_model(path, source, arch, rope, freqs=None, bias=False, tied=True):
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, arch)
    for key, field in source.fields.items():
        if key.startswith("tokenizer.ggml."):
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            w.add_key_value(key, field.contents(), field.types[0], sub_type=sub)
    n_vocab, hd = len(source.fields["tokenizer.ggml.tokens"].contents()), D // HEADS
    w.add_block_count(LAYERS), w.add_context_length(CTX), w.add_embedding_length(D), w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS), w.add_head_count_kv(KV_HEADS), w.add_layer_norm_rms_eps(1e-5), w.add_vocab_size(n_vocab)
    w.add_rope_dimension_count(hd), w.add_rope_freq_base(10000.0)
    for key, value in rope.items():
        (w.add_string if isinstance(value, str) else w.add_uint32 if isinstance(value, int) else w.add_float32)(
            f"{arch}.rope.scaling.{key}", value)

    def add(name, *shape, scale=2.0, mean=0.0):
        w.add_tensor(name, (mean + rng.normal(size=shape) * scale / shape[-1] ** 0.5).astype(np.float32))

    add("token_embd.weight", n_vocab, D, scale=4.0)
    add("output_norm.weight", D, mean=1.0)
    if not tied:
        add("output.weight", n_vocab, D)
    if freqs is not None:
        w.add_tensor("rope_freqs.weight", np.asarray(freqs, np.float32))
    for i in range(LAYERS):
        for name, rows, cols in (("attn_q", D, D), ("attn_k", KV_HEADS * hd, D), ("attn_v", KV_HEADS * hd, D),
                                 ("attn_output", D, D), ("ffn_gate", FFN, D), ("ffn_up", FFN, D), ("ffn_down", D, FFN)):
            add(f"blk.{i}.{name}.weight", rows, cols)
            if bias and name in ("attn_q", "attn_k", "attn_v"):
                add(f"blk.{i}.{name}.bias", rows)
        add(f"blk.{i}.attn_norm.weight", D, mean=1.0)
        add(f"blk.{i}.ffn_norm.weight", D, mean=1.0)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


HALF = D // HEADS // 2
YARN = {"type": "yarn", "factor": 4.0, "original_context_length": 128}
VARIANTS = {
    "llama": ("llama", {}, {}),
    "llama, own head": ("llama", {}, {"tied": False}),
    "llama, linear": ("llama", {"type": "linear", "factor": 4.0}, {}),
    "llama, frequency factors": ("llama", {}, {"freqs": np.linspace(1, 8, HALF)}),
    "llama, yarn": ("llama", YARN, {}),
    "llama, yarn, attn_factor": ("llama", YARN | {"attn_factor": 0.8}, {}),
    "qwen2": ("qwen2", {}, {"bias": True}),
    "qwen2, yarn": ("qwen2", YARN, {"bias": True}),
}


def main():
    source, worst = gguf.GGUFReader(sys.argv[1]), 0.0
    ids = np.random.default_rng(1).integers(100, 40000, 300).tolist()
    print(f"{'':26} {'KL':>9} {'without':>9}")
    with tempfile.TemporaryDirectory() as d:
        for name, (arch, rope, more) in VARIANTS.items():
            path = str(pathlib.Path(d) / "m.gguf")
            write_model(path, source, arch, rope, **more)
            model = Llama(path)
            ref = log_softmax(model.forward(ids))
            got = kl(ref, log_softmax(Peer(path, kv="f32", n_ctx=CTX).forward(ids))).mean()
            model.meta = {k: v for k, v in model.meta.items() if ".rope.scaling." not in k}
            model.w.pop("rope_freqs.weight", None)
            without = kl(ref, log_softmax(model.forward(ids))).mean()
            print(f"{name:26} {got:9.1e} {without:9.1e}", flush=True)
            worst = max(worst, abs(got))
    if worst > MAX_KL:
        sys.exit(f"check_reference: the reference and llama.cpp differ by a KL of {worst:.1e}")


if __name__ == "__main__":
    main()

"""Tiny models for tests: a llama-shaped GGUF with random weights and a byte-level vocabulary, as small as the format
allows, with every knob a test wants to turn (types, shapes, metadata, missing tensors)."""

import gguf
import numpy as np


def byte_alphabet():
    """The printable stand-ins of the 256 bytes in byte-level BPE (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain}
    table.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return [table[b] for b in range(256)]


VOCAB = byte_alphabet() + ["Ġt", "he", "Ġthe", "in", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]
MERGES = ["Ġ t", "h e", "Ġt he", "i n"]
N_NORMAL = 256 + len(MERGES)


class Tiny:
    """A description that write() turns into a file; change its fields first."""

    def __init__(self, arch="llama", seed=1, quant="Q8_0"):
        self.arch, self.quant = arch, quant
        self.n_layers, self.d, self.heads, self.kv_heads, self.ffn, self.ctx = 2, 256, 4, 2, 512, 512
        self.tied = True
        self.metadata = {}  # overrides; None removes the key
        self.drop, self.reshape, self.extra = set(), {}, {}
        self.types = {}  # tensor name -> quant
        self.pre, self.tokenizer = "smollm", "gpt2"
        self.chat_template = None
        self.bos = None  # a control token that is put before every text
        self.rng = np.random.default_rng(seed)

    def tensors(self):
        def w(rows, cols):
            return (self.rng.standard_normal((rows, cols)) / np.sqrt(cols)).astype(np.float32)

        head_dim = self.d // self.heads
        d_kv = self.kv_heads * head_dim
        out = {"token_embd.weight": w(len(VOCAB), self.d) * 4}
        if not self.tied:
            out["output.weight"] = w(len(VOCAB), self.d) * 4
        out["output_norm.weight"] = 1 + 0.1 * self.rng.standard_normal(self.d).astype(np.float32)
        for i in range(self.n_layers):
            b = f"blk.{i}."
            out[b + "attn_norm.weight"] = 1 + 0.1 * self.rng.standard_normal(self.d).astype(np.float32)
            out[b + "ffn_norm.weight"] = 1 + 0.1 * self.rng.standard_normal(self.d).astype(np.float32)
            out[b + "attn_q.weight"] = w(self.d, self.d) * 2
            out[b + "attn_k.weight"] = w(d_kv, self.d) * 2
            out[b + "attn_v.weight"] = w(d_kv, self.d)
            if self.arch == "qwen2":
                for name, n in (("q", self.d), ("k", d_kv), ("v", d_kv)):
                    out[b + f"attn_{name}.bias"] = 0.5 * self.rng.standard_normal(n).astype(np.float32)
            out[b + "attn_output.weight"] = w(self.d, self.d)
            out[b + "ffn_gate.weight"] = w(self.ffn, self.d)
            out[b + "ffn_up.weight"] = w(self.ffn, self.d)
            out[b + "ffn_down.weight"] = w(self.d, self.ffn)
        out.update(self.extra)
        return out

    def write(self, path):
        g = gguf.GGUFWriter(str(path), self.arch)
        keys = {
            "block_count": self.n_layers, "context_length": self.ctx, "embedding_length": self.d,
            "feed_forward_length": self.ffn, "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
        }
        for key, value in keys.items():
            value = self.metadata.get(key, value)
            if value is not None:
                g.add_uint32(f"{self.arch}.{key}", value)
        for key, value in (("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 10000.0)):
            value = self.metadata.get(key, value)
            if value is not None:
                g.add_float32(f"{self.arch}.{key}", value)
        for key, value in self.metadata.items():
            if key.startswith("rope.scaling."):
                add = {str: g.add_string, int: g.add_uint32, float: g.add_float32}[type(value)]
                add(f"{self.arch}.{key}", value)
        g.add_tokenizer_model(self.tokenizer)
        g.add_tokenizer_pre(self.pre)
        g.add_token_list(VOCAB)
        g.add_token_types([1] * N_NORMAL + [3] * (len(VOCAB) - N_NORMAL))
        g.add_token_merges(MERGES)
        g.add_eos_token_id(VOCAB.index("<|im_end|>"))
        if self.bos is not None:
            g.add_bos_token_id(VOCAB.index(self.bos))
            g.add_add_bos_token(True)
        if self.chat_template is not None:
            g.add_chat_template(self.chat_template)
        for name, data in self.tensors().items():
            if name in self.drop:
                continue
            data = self.reshape.get(name, lambda x: x)(data)
            quant = self.types.get(name, self.quant if data.ndim == 2 else "F32")
            qtype = gguf.GGMLQuantizationType[quant]
            try:
                packed = gguf.quants.quantize(data, qtype)
            except NotImplementedError:  # K formats: the package only decodes them; random blocks do
                packed = self.random_blocks(data.shape, qtype)
            g.add_tensor(name, packed, raw_dtype=qtype)
        g.write_header_to_file()
        g.write_kv_data_to_file()
        g.write_tensors_to_file()
        g.close()
        return str(path)

    def random_blocks(self, shape, qtype):
        """Random quants with f16 scales small enough that the model's activations stay sane."""
        elems, size = gguf.GGML_QUANT_SIZES[qtype]
        blocks = self.rng.integers(0, 256, (shape[0], shape[1] // elems, size), dtype=np.uint8)
        scale = np.float16(0.02 / {"Q2_K": 24, "Q3_K": 64, "Q4_K": 400, "Q5_K": 800, "Q6_K": 1500}[qtype.name])
        places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[qtype.name]
        for place in places:
            blocks[:, :, place : place + 2] = np.frombuffer(scale.tobytes(), np.uint8)
        return blocks.reshape(shape[0], -1)

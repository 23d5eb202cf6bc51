"""The yardstick: a plain numpy forward pass of the llama and qwen2 architectures, read from a GGUF file.

Weights are dequantised by the `gguf` package and everything is float32 (or float64), so what it returns is what the file
*means*; an engine's distance from it is the engine's own doing. `Numerics` lets a study put rounding into single places.
"""
import dataclasses
import math

import gguf
import numpy as np

ATTN_ROWS = 512  # queries at once: bounds the score matrix


def identity(x):
    return x


@dataclasses.dataclass
class Numerics:
    """Where rounding may be put in; the default is none. `act` maps a use to the function that rounds the activations
    entering its matmul. Uses: attn_qkv, attn_output, ffn_up (gate too), ffn_down, output."""
    act: dict = dataclasses.field(default_factory=dict)
    k: object = identity  # keys and values as the cache keeps them
    v: object = identity
    q: object = identity  # query and probabilities as attention's matmuls see them
    p: object = identity


EXACT = Numerics()


class Llama:
    def __init__(self, path, dtype=np.float32):
        reader = gguf.GGUFReader(path)
        self.dtype = dtype
        self.meta = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("tokenizer.ggml.")}
        self.w = {t.name: gguf.dequantize(t.data, t.tensor_type).reshape(tuple(int(d) for d in t.shape[::-1])).astype(dtype)
                  for t in reader.tensors}
        self.arch = self.meta["general.architecture"]
        if self.arch not in ("llama", "qwen2"):
            raise ValueError(f"architecture '{self.arch}' is not llama or qwen2")
        self.n_layers = self.key("block_count")
        self.n_heads = self.key("attention.head_count")
        self.n_kv_heads = self.key("attention.head_count_kv", self.n_heads)
        self.head_dim = self.key("attention.key_length", self.key("embedding_length") // self.n_heads)
        self.eps = self.key("attention.layer_norm_rms_epsilon")
        self.n_rot = self.key("rope.dimension_count", self.head_dim)
        self.head = self.w.get("output.weight", self.w["token_embd.weight"])
        self.n_vocab = self.head.shape[0]

    def key(self, name, default=None):
        return self.meta.get(f"{self.arch}.{name}", default)

    def rope_table(self, n):
        """cos and sin [n][n_rot/2] of positions 0..n-1; scaling as llama.cpp reads the metadata (Peng 2023 for yarn)."""
        base, half = self.key("rope.freq_base", 10000.0), self.n_rot // 2
        i = np.arange(half, dtype=np.float64)
        freq = base ** (-2.0 * i / self.n_rot)
        if "rope_freqs.weight" in self.w:  # llama 3: a divisor per frequency
            freq = freq / self.w["rope_freqs.weight"].astype(np.float64)
        kind = self.key("rope.scaling.type", "linear")
        factor = self.key("rope.scaling.factor", self.key("rope.scale_linear", 0.0)) or 1.0
        scale = 1.0 if kind == "none" else 1.0 / factor
        magnitude = self.key("rope.scaling.attn_factor", 1.0)
        if kind == "yarn":
            n_orig = self.key("rope.scaling.original_context_length", self.key("context_length"))

            def dim(turns):  # the dimension that makes this many turns over the original context
                return self.n_rot * math.log(n_orig / (turns * 2 * math.pi)) / (2 * math.log(base))

            low = max(0, math.floor(dim(self.key("rope.scaling.yarn_beta_fast", 32.0))))
            high = min(self.n_rot - 1, math.ceil(dim(self.key("rope.scaling.yarn_beta_slow", 1.0))))
            keep = 1 - np.clip((i - low) / max(0.001, high - low), 0, 1)  # 1: fast dimensions, not interpolated
            keep = keep * self.key("rope.scaling.yarn_ext_factor", 1.0)
            freq = freq * (scale * (1 - keep) + keep)
            magnitude *= 1 + 0.1 * math.log(1 / scale)
        else:
            freq = freq * scale
        angle = np.arange(n, dtype=np.float64)[:, None] * freq
        return (np.cos(angle) * magnitude).astype(self.dtype), (np.sin(angle) * magnitude).astype(self.dtype)

    def rope(self, x, cos, sin):
        """x [n][heads][head_dim], rotated in pairs: (i, i + n_rot/2) for qwen2, (2i, 2i + 1) for llama."""
        half, out = self.n_rot // 2, x.copy()
        first, second = ((np.s_[..., :half], np.s_[..., half:self.n_rot]) if self.arch == "qwen2" else
                         (np.s_[..., 0:self.n_rot:2], np.s_[..., 1:self.n_rot:2]))
        a, b, c, s = x[first], x[second], cos[:, None], sin[:, None]
        out[first], out[second] = a * c - b * s, a * s + b * c
        return out

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.dtype(self.eps)) * self.w[name]

    def linear(self, x, name):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def attention(self, q, k, v, num):
        """Causal. q [n][n_heads][head_dim]; k, v [n][n_kv_heads][head_dim] -> [n][n_heads * head_dim]."""
        n, group = len(q), self.n_heads // self.n_kv_heads
        out = np.empty_like(q)
        q, k, v = num.q(q * self.dtype(self.head_dim ** -0.5)), num.k(k), num.v(v)
        for h in range(self.n_heads):
            kh, vh = k[:, h // group], v[:, h // group]
            for r in range(0, n, ATTN_ROWS):
                e = min(n, r + ATTN_ROWS)
                s = q[r:e, h] @ kh[:e].T
                s[np.arange(e) > np.arange(r, e)[:, None]] = -np.inf
                p = np.exp(s - s.max(axis=1, keepdims=True))
                out[r:e, h] = num.p(p) @ vh[:e] / p.sum(axis=1, keepdims=True)
        return out.reshape(n, -1)

    def hidden(self, tokens, num=EXACT):
        """The final normed state [n][d_model] of a token list."""
        n, heads, d = len(tokens), self.n_heads, self.head_dim
        act = lambda use, x: num.act.get(use, identity)(x)
        cos, sin = self.rope_table(n)
        x = self.w["token_embd.weight"][np.asarray(tokens)]
        for i in range(self.n_layers):
            b = f"blk.{i}."
            h = act("attn_qkv", self.norm(x, b + "attn_norm.weight"))
            q = self.rope(self.linear(h, b + "attn_q").reshape(n, heads, d), cos, sin)
            k = self.rope(self.linear(h, b + "attn_k").reshape(n, self.n_kv_heads, d), cos, sin)
            v = self.linear(h, b + "attn_v").reshape(n, self.n_kv_heads, d)
            x = x + self.linear(act("attn_output", self.attention(q, k, v, num)), b + "attn_output")
            h = act("ffn_up", self.norm(x, b + "ffn_norm.weight"))
            gate, up = self.linear(h, b + "ffn_gate"), self.linear(h, b + "ffn_up")
            with np.errstate(over="ignore"):
                h = gate / (1 + np.exp(-gate)) * up
            x = x + self.linear(act("ffn_down", h), b + "ffn_down")
        return act("output", self.norm(x, "output_norm.weight"))

    def forward(self, tokens, num=EXACT):
        """Logits [n][n_vocab]: row i is the prediction after reading token i."""
        return self.hidden(tokens, num) @ self.head.T


# ---- rounding, for Numerics ----------------------------------------------------------------------------------------


def int8(group, limit=127):
    """int8 with one f32 scale per `group` values: scale = amax/127, q = rne(x * 127/amax). A limit of 127 * 128 is two
    planes at one scale: q = 128 * high + low."""
    def apply(x):
        g = x.reshape(-1, group)
        amax = np.abs(g).max(axis=1, keepdims=True)
        safe = np.where(amax > 0, amax, 1).astype(x.dtype)
        return (np.rint(g * (limit / safe).astype(x.dtype)) * (amax / limit).astype(x.dtype)).reshape(x.shape)
    return apply


def int8_wide_quad(group, quad=4, limit=127 * 128):
    """int8, but the `quad` neighbours that hold the group's largest value have two planes (|q| <= limit) at the same
    scale, which the others set: an outlier no longer coarsens its group, and the dot stays one integer."""
    def apply(x):
        g = x.reshape(-1, group // quad, quad)
        amax = np.abs(g).max(axis=2)
        first = amax.argmax(axis=1)
        rest = np.where(np.arange(group // quad) == first[:, None], 0, amax).max(axis=1)
        scale = np.maximum(rest / 127, amax.max(axis=1) / limit).astype(x.dtype)[:, None, None]
        safe = np.where(scale > 0, scale, 1)
        return (np.rint(g / safe) * scale).astype(x.dtype).reshape(x.shape)
    return apply


def f16(x):
    return x.astype(np.float16).astype(x.dtype)


def bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    u = (u + 0x7FFF + ((u >> 16) & 1)) & np.uint32(0xFFFF0000)
    return u.view(np.float32).astype(x.dtype)


def q8_0(x):
    """ggml's q8_0: int8 per 32 with an f16 scale."""
    g = x.reshape(-1, 32)
    d = np.abs(g).max(axis=1, keepdims=True) / 127
    inv = np.where(d > 0, 1 / np.where(d > 0, d, 1), 0)
    return (np.rint(g * inv) * f16(d)).astype(x.dtype).reshape(x.shape)


# ---- measures ------------------------------------------------------------------------------------------------------


def log_softmax(logits):
    """Row by row in f32 with an f64 sum: exact enough for KL down to 1e-9."""
    out = np.array(logits, np.float32)
    out -= out.max(axis=1, keepdims=True)
    out -= np.log(np.exp(out).sum(axis=1, dtype=np.float64))[:, None].astype(np.float32)
    return out


def kl(ref, got):
    """KL(ref || got) in nats per row, of log-probabilities [n][n_vocab]."""
    return np.einsum("ij,ij->i", np.exp(ref), ref - got, dtype=np.float64)


def nll(logp, tokens):
    """Negative log-likelihood of tokens[1:], per token."""
    return -logp[np.arange(len(tokens) - 1), tokens[1:]].astype(np.float64)

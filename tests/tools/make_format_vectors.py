"""Writes tests/data/formats.bin: random blocks of each weight format and what the gguf package decodes them to.

Per format: u32 type, u32 n_elements, u32 n_bytes, the bytes, n_elements floats. Needs gguf and numpy.
"""

import struct
import sys

import gguf
import numpy as np

TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K".split()
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # where a block holds an f16
# the largest, the smallest normal, the smallest denormal, zeros, both signs
EXTREMES = np.array([0x7BFF, 0x0400, 0x0001, 0x0000, 0x8000, 0x83FF, 0xFBFF, 0x3C00], np.uint16)
N_BLOCKS = 8

rng = np.random.default_rng(1)
with open(sys.argv[1], "wb") as out:
    for name in TYPES:
        qtype = gguf.GGMLQuantizationType[name]
        n_elements, n_bytes = gguf.GGML_QUANT_SIZES[qtype]
        n_blocks = N_BLOCKS if n_elements > 1 else 64
        data = rng.integers(0, 256, (n_blocks, n_bytes), np.uint8)
        for at in HALVES.get(name, []):
            halves = rng.normal(0, 0.01, n_blocks).astype(np.float16).view(np.uint16)
            halves[: n_blocks // 2] = rng.permutation(EXTREMES)[: n_blocks // 2]
            data[:, at : at + 2] = halves[:, None].view(np.uint8)
        if n_elements == 1:  # no NaN: exponents are kept below the largest
            data[:, -1] &= 0xBF
        decoded = gguf.quants.dequantize(data.reshape(-1), qtype).astype(np.float32)
        assert decoded.size == n_blocks * n_elements and np.isfinite(decoded).all()
        out.write(struct.pack("<III", qtype.value, decoded.size, data.size) + data.tobytes() + decoded.tobytes())

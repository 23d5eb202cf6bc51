"""Writes tests/data/gguf_types.txt (name, id, elements and bytes per block) from the gguf package.

Two rows are not the package's (0.19.0):
Q8_1 is 40 bytes there, but ggml-common.h's block_q8_1 is two halfs and 32 int8 (its static_assert says 36);
Q2_0 (ggml.h, type 42; block_q2_0 is one half and 64 two-bit fields) is younger than that version.
"""
import pathlib

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

rows = {t.name: (int(t), *GGML_QUANT_SIZES[t]) for t in GGMLQuantizationType}
rows["Q8_1"] = (9, 32, 36)
rows["Q2_0"] = (42, 64, 18)
out = pathlib.Path(__file__).parent.parent / "data" / "gguf_types.txt"
out.write_text("".join(f"{name} {id} {elems} {size}\n" for name, (id, elems, size) in sorted(rows.items(), key=lambda r: r[1])))

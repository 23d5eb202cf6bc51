// Config: what a GGUF file's metadata says about a transformer, read once and checked.
//
// An architecture is a row of ARCHITECTURES (config.c) plus the tensor names of weights.c. All rotary scalings reduce
// to one table of inverse frequencies and one magnitude, computed here in deterministic double arithmetic (canon.h).
#pragma once

#include "gguf/gguf.h"
#include "model/model.h"

// Fills *c from the metadata; false names the missing key, the unknown architecture or the value out of range.
bool config_read(const gguf *g, model_config *c, err *e);

// Inverse frequencies of the rotary embedding: angle of pair i at position p is p * inv_freq[i]. Writes n_rot/2 doubles
// and the magnitude that multiplies cos and sin (1 unless YaRN).
// Scalings: none; linear (factor); yarn (arXiv 2309.00071, sections 3.2 and 3.4); llama 3's per-frequency factors,
// which the file carries as tensor rope_freqs.weight.
bool config_rope(const gguf *g, const model_config *c, double *inv_freq, float *magnitude, err *e);

// Weights: every tensor of the model, bound by name, checked for type and shape, packed for the kernels.
//
// A model owns its packed weights (one large block) and an arena for norms and tables; both live until model_close.
// Immutable after weights_open. The mapped file's pages are released as they are packed.
#pragma once

#include "base/arena.h"
#include "model/model.h"

typedef struct layer {
    const float *attn_norm, *ffn_norm;     // [d_model]
    const float *q_bias, *k_bias, *v_bias; // NULL if the architecture has none
    weight q, k, v;                        // [n_heads * head_dim][d_model], [n_kv_heads * head_dim][d_model] twice
    weight o;                              // [d_model][n_heads * head_dim]
    weight gate, up;                       // [d_ffn][d_model]
    weight down;                           // [d_model][d_ffn]
} layer;

struct model {
    model_config config;
    gguf *file;
    const kernels *kernels;
    kv_type kv_type;
    arena small;              // norms, biases, layers, rotary table
    layer *layers;            // [n_layers]
    weight embed, head;       // [n_vocab][d_model]; the same data when tied
    const float *output_norm; // [d_model]
    const double *inv_freq;   // [n_rot / 2]
    float rope_magnitude;
    uint8_t *packed;
    size_t packed_bytes;
};

// Binds and packs everything of m->file into m, whose config is set. On failure the caller closes m as usual.
bool weights_open(model *m, const model_options *o, pool *threads, err *e);

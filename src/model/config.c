// Implements config.h. Pure functions of the file; runs on the opening thread.
#include "model/config.h"

#include "kernel/canon.h"

#include <stdio.h>
#include <string.h>

typedef struct architecture {
    const char *name;
    bool rope_neox; // rotary pairs (i, i + n_rot/2) instead of (2i, 2i + 1)
    bool qkv_bias;
} architecture;

static const architecture ARCHITECTURES[] = {
    {"llama", .rope_neox = false, .qkv_bias = false},
    {"qwen2", .rope_neox = true, .qkv_bias = true},
};

typedef struct key {
    char text[96];
} key;

static key key_of(const model_config *c, const char *name) {
    key k;
    snprintf(k.text, sizeof k.text, "%s.%s", c->arch, name);
    return k;
}

static bool need_u32(const gguf *g, const model_config *c, const char *name, uint32_t min, uint32_t max, uint32_t *out,
                     err *e) {
    key k = key_of(c, name);
    if (!gguf_find(g, k.text)) return fail(e, ERR_FORMAT, "model: metadata key '%s' is missing", k.text);
    if (!gguf_get_u32(g, k.text, out, e)) return false;
    if (*out < min || *out > max)
        return fail(e, ERR_FORMAT, "model: '%s' is %u, expected %u to %u", k.text, *out, min, max);
    return true;
}

static bool find_architecture(const gguf *g, model_config *c, const architecture **row, err *e) {
    gguf_str name = {0};
    if (!gguf_get_str(g, "general.architecture", &name, e)) return false;
    if (!name.data) return fail(e, ERR_FORMAT, "model: metadata key 'general.architecture' is missing");
    for (size_t i = 0; i < sizeof ARCHITECTURES / sizeof *ARCHITECTURES; i++) {
        *row = &ARCHITECTURES[i];
        if (strlen((*row)->name) == name.n_bytes && !memcmp((*row)->name, name.data, name.n_bytes)) {
            snprintf(c->arch, sizeof c->arch, "%s", (*row)->name);
            return true;
        }
    }
    int shown = name.n_bytes > 40 ? 40 : (int)name.n_bytes;
    return fail(e, ERR_UNSUPPORTED, "model: architecture '%.*s' is not supported (supported: llama, qwen2)", shown,
                name.data);
}

static bool read_heads(const gguf *g, model_config *c, err *e) {
    if (!need_u32(g, c, "attention.head_count", 1, 4096, &c->n_heads, e)) return false;
    c->n_kv_heads = c->n_heads;
    if (gguf_find(g, key_of(c, "attention.head_count_kv").text) &&
        !need_u32(g, c, "attention.head_count_kv", 1, 4096, &c->n_kv_heads, e))
        return false;
    if (c->n_heads % c->n_kv_heads)
        return fail(e, ERR_FORMAT, "model: %u attention heads cannot share %u key/value heads evenly", c->n_heads,
                    c->n_kv_heads);
    c->head_dim = c->d_model / c->n_heads;
    uint32_t value_dim = c->head_dim;
    if (!gguf_get_u32(g, key_of(c, "attention.key_length").text, &c->head_dim, e)) return false;
    if (!gguf_get_u32(g, key_of(c, "attention.value_length").text, &value_dim, e)) return false;
    if (value_dim != c->head_dim || c->head_dim % 16 || c->head_dim == 0 || c->head_dim > 1024)
        return fail(e, ERR_UNSUPPORTED,
                    "model: head size %u/%u is not supported (keys and values alike, a multiple of 16 up to 1024)",
                    c->head_dim, value_dim);
    c->n_rot = c->head_dim;
    if (!gguf_get_u32(g, key_of(c, "rope.dimension_count").text, &c->n_rot, e)) return false;
    if (c->n_rot % 2 || c->n_rot == 0 || c->n_rot > c->head_dim)
        return fail(e, ERR_FORMAT, "model: '%s.rope.dimension_count' is %u, expected an even number up to %u", c->arch,
                    c->n_rot, c->head_dim);
    return true;
}

bool config_read(const gguf *g, model_config *c, err *e) {
    *c = (model_config){0};
    const architecture *row;
    if (!find_architecture(g, c, &row, e)) return false;
    c->rope_neox = row->rope_neox;
    c->qkv_bias = row->qkv_bias;
    if (!need_u32(g, c, "block_count", 1, 1024, &c->n_layers, e)) return false;
    if (!need_u32(g, c, "embedding_length", 16, 1 << 20, &c->d_model, e)) return false;
    if (!need_u32(g, c, "feed_forward_length", 16, 1 << 22, &c->d_ffn, e)) return false;
    if (!need_u32(g, c, "context_length", 1, 1 << 28, &c->n_ctx_train, e)) return false;
    if (!read_heads(g, c, e)) return false;
    c->rms_eps = 1e-5f;
    if (!gguf_get_f32(g, key_of(c, "attention.layer_norm_rms_epsilon").text, &c->rms_eps, e)) return false;
    if (!(c->rms_eps >= 0 && c->rms_eps < 1)) return fail(e, ERR_FORMAT, "model: RMS epsilon is out of range");
    float base = 10000;
    if (!gguf_get_f32(g, key_of(c, "rope.freq_base").text, &base, e)) return false;
    if (!(base > 1 && base < 1e12f)) return fail(e, ERR_FORMAT, "model: '%s.rope.freq_base' is out of range", c->arch);
    c->rope_base = base;
    uint32_t n_experts = 0;
    if (!gguf_get_u32(g, key_of(c, "expert_count").text, &n_experts, e)) return false;
    if (n_experts) return fail(e, ERR_UNSUPPORTED, "model: mixture-of-experts models are not supported yet");
    return true;
}

// ---- rotary frequencies ------------------------------------------------------------------------------------------

typedef struct scaling {
    bool yarn;
    double freq_scale; // 1/factor
    float factor, attn_factor, beta_fast, beta_slow;
    uint32_t n_ctx_original;
} scaling;

static bool read_scaling(const gguf *g, const model_config *c, scaling *s, err *e) {
    *s = (scaling){.freq_scale = 1, .factor = 1, .attn_factor = 1, .beta_fast = 32, .beta_slow = 1};
    s->n_ctx_original = c->n_ctx_train;
    gguf_str type = {0};
    float linear = 1;
    if (!gguf_get_f32(g, key_of(c, "rope.scale_linear").text, &linear, e)) return false; // older files
    s->factor = linear;
    if (!gguf_get_str(g, key_of(c, "rope.scaling.type").text, &type, e) ||
        !gguf_get_f32(g, key_of(c, "rope.scaling.factor").text, &s->factor, e) ||
        !gguf_get_f32(g, key_of(c, "rope.scaling.attn_factor").text, &s->attn_factor, e) ||
        !gguf_get_f32(g, key_of(c, "rope.scaling.yarn_beta_fast").text, &s->beta_fast, e) ||
        !gguf_get_f32(g, key_of(c, "rope.scaling.yarn_beta_slow").text, &s->beta_slow, e) ||
        !gguf_get_u32(g, key_of(c, "rope.scaling.original_context_length").text, &s->n_ctx_original, e))
        return false;
    bool none = type.data && type.n_bytes == 4 && !memcmp(type.data, "none", 4);
    bool is_linear = !type.data || (type.n_bytes == 6 && !memcmp(type.data, "linear", 6));
    s->yarn = type.data && type.n_bytes == 4 && !memcmp(type.data, "yarn", 4);
    if (!none && !is_linear && !s->yarn)
        return fail(e, ERR_UNSUPPORTED, "model: rotary scaling '%.*s' is not supported (none, linear, yarn)",
                    type.n_bytes > 40 ? 40 : (int)type.n_bytes, type.data);
    if (none) s->factor = 1;
    if (!(s->factor > 0 && s->factor < 1e6f))
        return fail(e, ERR_FORMAT, "model: rotary scaling factor is out of range");
    if (s->yarn && !(s->n_ctx_original > 0 && s->beta_fast > 0 && s->beta_slow > 0 && s->attn_factor > 0))
        return fail(e, ERR_FORMAT, "model: YaRN parameters are out of range");
    s->freq_scale = 1.0 / s->factor;
    return true;
}

// The (fractional) pair whose wavelength makes `rotations` turns over the original context (YaRN, section 3.2).
static double yarn_pair(const model_config *c, const scaling *s, double rotations) {
    double pi2 = 6.283185307179586;
    return c->n_rot * mathd_log(s->n_ctx_original / (rotations * pi2)) / (2 * mathd_log(c->rope_base));
}

// 1 where a pair keeps its frequency, 0 where it is interpolated, a ramp between.
static double yarn_keep(double pair, double low, double high) {
    double width = high - low > 0.001 ? high - low : 0.001;
    double ramp = (pair - low) / width;
    return 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
}

static double floor_of(double x) {
    double t = (double)(int64_t)x;
    return t > x ? t - 1 : t;
}

static bool apply_freq_factors(const gguf *g, uint32_t n, double *inv_freq, err *e) {
    const gguf_tensor *t = gguf_find_tensor(g, "rope_freqs.weight");
    if (!t) return true;
    if (t->type != GGUF_F32 || t->dims[0] != n || t->n_dims != 1)
        return fail(e, ERR_FORMAT, "model: tensor 'rope_freqs.weight' must be F32 [%u]", n);
    for (uint32_t i = 0; i < n; i++) {
        float factor;
        memcpy(&factor, t->data + 4 * (size_t)i, 4);
        if (!(factor > 0 && factor < 1e6f))
            return fail(e, ERR_FORMAT, "model: tensor 'rope_freqs.weight' element %u is out of range", i);
        inv_freq[i] /= factor;
    }
    return true;
}

bool config_rope(const gguf *g, const model_config *c, double *inv_freq, float *magnitude, err *e) {
    scaling s;
    if (!read_scaling(g, c, &s, e)) return false;
    uint32_t n = c->n_rot / 2;
    double log_base = mathd_log(c->rope_base);
    for (uint32_t i = 0; i < n; i++) inv_freq[i] = mathd_exp(-log_base * (2.0 * i) / c->n_rot);
    if (!apply_freq_factors(g, n, inv_freq, e)) return false;
    *magnitude = s.attn_factor;
    double low = 0, high = 0;
    if (s.yarn) {
        low = floor_of(yarn_pair(c, &s, s.beta_fast));
        high = -floor_of(-yarn_pair(c, &s, s.beta_slow)); // ceiling
        if (low < 0) low = 0;
        if (high > c->n_rot - 1) high = c->n_rot - 1;
        *magnitude = (float)(s.attn_factor * (1 + 0.1 * mathd_log(s.factor)));
    }
    for (uint32_t i = 0; i < n; i++) {
        double keep = s.yarn ? yarn_keep(i, low, high) : 0;
        inv_freq[i] *= s.freq_scale * (1 - keep) + keep;
    }
    return true;
}

// Implements weights.h and the opening half of model.h. Two passes over one list of tensors: bind (check and size),
// then pack, so that nothing is packed before everything is known to be right and memory is asked for once.
#include "model/weights.h"

#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is still to be packed: a bound tensor and where its weight stands.
typedef struct binding {
    const gguf_tensor *tensor;
    weight *weight;
} binding;

typedef struct binder {
    model *m;
    err *e;
    binding *list; // [capacity]
    size_t n, capacity;
} binder;

static const gguf_tensor *find_shaped(binder *b, const char *name, uint64_t cols, uint64_t rows) {
    const gguf_tensor *t = gguf_find_tensor(b->m->file, name);
    if (!t) return fail_null(b->e, ERR_FORMAT, "model: tensor '%s' is missing", name);
    uint32_t n_dims = rows > 1 ? 2 : 1;
    if (t->n_dims < n_dims || t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        return fail_null(b->e, ERR_FORMAT, "model: tensor '%s' has shape [%llu, %llu], expected [%llu, %llu]", name,
                         (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], (unsigned long long)cols,
                         (unsigned long long)rows);
    if (!weight_type_supported(t->type))
        return fail_null(b->e, ERR_UNSUPPORTED, "model: tensor '%s' has type %s, which cannot be computed with yet",
                         name, gguf_type_name(t->type));
    return t;
}

static void bind(binder *b, weight *w, const char *name, uint64_t cols, uint64_t rows) {
    if (b->e->code) return;
    const gguf_tensor *t = find_shaped(b, name, cols, rows);
    if (!t) return;
    *w = weight_shape(t->type, (uint32_t)rows, (uint32_t)cols);
    check(b->n < b->capacity);
    b->list[b->n++] = (binding){t, w};
    b->m->packed_bytes += weight_bytes(w);
    b->m->config.n_params += rows * cols;
}

// A vector (norm, bias) as floats in the model's arena.
static const float *bind_vector(binder *b, const char *name, uint64_t n) {
    if (b->e->code) return NULL;
    const gguf_tensor *t = find_shaped(b, name, n, 1);
    if (!t) return NULL;
    float *out = arena_take(&b->m->small, n * sizeof *out);
    weight_decode(t->type, t->data, n, out);
    b->m->config.n_params += n;
    return out;
}

typedef struct tensor_name {
    char text[64];
} tensor_name;

static tensor_name in_layer(uint32_t i, const char *suffix) {
    tensor_name n;
    snprintf(n.text, sizeof n.text, "blk.%u.%s", i, suffix);
    return n;
}

static void bind_layer(binder *b, uint32_t i) {
    const model_config *c = &b->m->config;
    layer *l = &b->m->layers[i];
    uint64_t d = c->d_model, d_q = (uint64_t)c->n_heads * c->head_dim, d_kv = (uint64_t)c->n_kv_heads * c->head_dim;
    l->attn_norm = bind_vector(b, in_layer(i, "attn_norm.weight").text, d);
    bind(b, &l->q, in_layer(i, "attn_q.weight").text, d, d_q);
    bind(b, &l->k, in_layer(i, "attn_k.weight").text, d, d_kv);
    bind(b, &l->v, in_layer(i, "attn_v.weight").text, d, d_kv);
    if (c->qkv_bias) {
        l->q_bias = bind_vector(b, in_layer(i, "attn_q.bias").text, d_q);
        l->k_bias = bind_vector(b, in_layer(i, "attn_k.bias").text, d_kv);
        l->v_bias = bind_vector(b, in_layer(i, "attn_v.bias").text, d_kv);
    }
    bind(b, &l->o, in_layer(i, "attn_output.weight").text, d_q, d);
    l->ffn_norm = bind_vector(b, in_layer(i, "ffn_norm.weight").text, d);
    bind(b, &l->gate, in_layer(i, "ffn_gate.weight").text, d, c->d_ffn);
    bind(b, &l->up, in_layer(i, "ffn_up.weight").text, d, c->d_ffn);
    bind(b, &l->down, in_layer(i, "ffn_down.weight").text, c->d_ffn, d);
}

static bool bind_all(binder *b) {
    model *m = b->m;
    model_config *c = &m->config;
    const gguf_tensor *embed = gguf_find_tensor(m->file, "token_embd.weight");
    if (!embed) return fail(b->e, ERR_FORMAT, "model: tensor 'token_embd.weight' is missing");
    const gguf_value *names = gguf_find(m->file, "tokenizer.ggml.tokens");
    if (embed->dims[1] > (1u << 28) || (names && names->kind == GGUF_KIND_ARRAY && names->n != embed->dims[1]))
        return fail(b->e, ERR_FORMAT, "model: tensor 'token_embd.weight' has %llu rows, the vocabulary has %llu tokens",
                    (unsigned long long)embed->dims[1], (unsigned long long)(names ? names->n : 0));
    c->n_vocab = (uint32_t)embed->dims[1];
    c->tied_head = !gguf_find_tensor(m->file, "output.weight");
    bind(b, &m->embed, "token_embd.weight", c->d_model, c->n_vocab);
    if (!c->tied_head) bind(b, &m->head, "output.weight", c->d_model, c->n_vocab);
    m->output_norm = bind_vector(b, "output_norm.weight", c->d_model);
    for (uint32_t i = 0; i < c->n_layers; i++) bind_layer(b, i);
    return b->e->code == ERR_NONE;
}

// ---- packing -----------------------------------------------------------------------------------------------------

enum { PACK_CHUNK_PANELS = 8 };

typedef struct pack_job {
    const binding *b;
    uint32_t n_chunks;
    op op;
} pack_job;

static void pack_worker(void *arg, int worker) {
    (void)worker;
    pack_job *job = arg;
    const weight *w = job->b->weight;
    op_for(&job->op, job->n_chunks, c) {
        uint32_t first = c * PACK_CHUNK_PANELS, left = w->n_panels - first;
        weight_pack(w, job->b->tensor->data, first, left < PACK_CHUNK_PANELS ? left : PACK_CHUNK_PANELS);
    }
    op_wait(&job->op, job->n_chunks);
}

static bool pack_all(binder *b, const model_options *o, pool *threads) {
    model *m = b->m;
    if (o->max_bytes && m->packed_bytes > o->max_bytes)
        return fail(b->e, ERR_MEMORY, "the model's weights need %.1f MB; the memory given is %.1f MB",
                    (double)m->packed_bytes / 1e6, (double)o->max_bytes / 1e6);
    m->packed = large_alloc(m->packed_bytes, "the model's weights", b->e);
    if (!m->packed) return false;
    uint8_t *next = m->packed;
    for (size_t i = 0; i < b->n; i++) {
        weight *w = b->list[i].weight;
        const gguf_tensor *after = i + 1 < b->n ? b->list[i + 1].tensor : NULL; // read while this one is packed
        if (after) gguf_expect(m->file, after->data, after->n_bytes);
        w->data = next;
        next += weight_bytes(w);
        pack_job job = {.b = &b->list[i], .n_chunks = (w->n_panels + PACK_CHUNK_PANELS - 1) / PACK_CHUNK_PANELS};
        pool_run(threads, pack_worker, &job);
        gguf_release(m->file, b->list[i].tensor->data, b->list[i].tensor->n_bytes);
        if (o->progress) o->progress(o->progress_arg, (double)(next - m->packed) / (double)m->packed_bytes);
    }
    if (m->config.tied_head) m->head = m->embed;
    return true;
}

bool weights_open(model *m, const model_options *o, pool *threads, err *e) {
    const model_config *c = &m->config;
    if (gguf_n_tensors(m->file) < (size_t)c->n_layers * 9)
        return fail(e, ERR_FORMAT, "model: the file has %zu tensors, too few for %u layers", gguf_n_tensors(m->file),
                    c->n_layers);
    // Bounded by the shapes below, which the file must hold: norms and biases of each layer, rounded up to 64 bytes.
    size_t vectors = 2 * (size_t)c->d_model + (size_t)(c->n_heads + 2 * c->n_kv_heads) * c->head_dim + 5 * 16;
    size_t bytes = (c->n_layers + 1) * (vectors * sizeof(float) + sizeof(layer)) + c->n_rot * sizeof(double) + 4096;
    if (!arena_init(&m->small, bytes, "the model's tables", e)) return false;
    m->layers = memset(arena_take(&m->small, c->n_layers * sizeof(layer)), 0, c->n_layers * sizeof(layer));
    double *inv_freq = arena_take(&m->small, c->n_rot / 2 * sizeof *inv_freq);
    m->inv_freq = inv_freq;
    if (!config_rope(m->file, c, inv_freq, &m->rope_magnitude, e)) return false;
    binder b = {.m = m, .e = e, .capacity = (size_t)c->n_layers * 7 + 2};
    b.list = xcalloc(b.capacity, sizeof *b.list);
    bool ok = bind_all(&b) && pack_all(&b, o, threads);
    free(b.list);
    return ok;
}

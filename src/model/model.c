// Implements the opening half of model.h: a file becomes a model, or one sentence says why not.
#include "model/model.h"

#include "model/config.h"
#include "model/weights.h"

#include <stdlib.h>

static bool open_into(model *m, const char *path, const model_options *o, pool *threads, err *e) {
    m->file = gguf_open(path, e);
    return m->file && config_read(m->file, &m->config, e) && weights_open(m, o, threads, e);
}

model *model_open(const char *path, const model_options *o, pool *threads, err *e) {
    model_options defaults = {0};
    err unused = {0};
    if (!o) o = &defaults;
    if (!e) e = &unused;
    if (o->force_isa && !isa_available(o->isa))
        return fail_null(e, ERR_UNSUPPORTED, "this processor cannot run the instruction set '%s'", isa_name(o->isa));
    model *m = xcalloc(1, sizeof *m);
    m->kernels = o->force_isa ? kernels_get(o->isa) : kernels_best();
    m->kv_type = o->kv_type;
    if (open_into(m, path, o, threads, e)) return m;
    model_close(m);
    return NULL;
}

void model_close(model *m) {
    if (!m) return;
    large_free(m->packed, m->packed_bytes);
    arena_free(&m->small);
    gguf_close(m->file);
    free(m);
}

const model_config *model_get_config(const model *m) { return &m->config; }
const gguf *model_get_file(const model *m) { return m->file; }
const kernels *model_get_kernels(const model *m) { return m->kernels; }
size_t model_weight_bytes(const model *m) { return m->packed_bytes + m->small.used_bytes; }

size_t model_kv_page_bytes(const model *m) {
    return (size_t)m->config.n_layers * m->config.n_kv_heads * kv_head_bytes(m->kv_type, m->config.head_dim);
}

size_t model_logits_stride(const model *m) { return (size_t)m->head.n_panels * 16; }

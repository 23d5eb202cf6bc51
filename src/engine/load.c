// Load: rf_engine_open, and everything that a real model needs around the engine.
//
// `loaded` is the real forward: it owns the model, its vocabulary, the threads and the scratch, and the engine owns it.
// The opening thread builds it and hands it over; then only the engine thread uses it.
#include "engine/api.h"
#include "engine/budget.h"
#include "engine/engine.h"

#include <fenv.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_RUNNING = 32, DEFAULT_QUEUE = 256, DEFAULT_STEP_TOKENS = 512, MOST = 1 << 16 };

// What a step costs besides its rows, in rows, and so what it may cost to guess: measured, docs/performance.md.
static const uint32_t FIXED_ROWS[ISA_COUNT] = {
    [ISA_SCALAR] = 0, [ISA_AVX2] = 2, [ISA_AVXVNNI] = 1, [ISA_AVX512] = 4, [ISA_AMX] = 4};

typedef struct loaded {
    pool *pool;
    model *model;
    vocab *vocab;
    chat_template *chat; // NULL: there is none
    scratch *scratch;
    char *name, *chat_text; // NUL-terminated copies for rf_model_info
} loaded;

static void loaded_run(void *self, const step *s) {
    loaded *l = self;
    model_forward(l->model, s, l->scratch, l->pool);
}

static void loaded_close(void *self) {
    loaded *l = self;
    scratch_free(l->scratch);
    chat_template_close(l->chat);
    if (l->vocab) vocab_close(l->vocab);
    model_close(l->model);
    pool_free(l->pool);
    free(l->name), free(l->chat_text);
    free(l);
}

static bool parse_isa(const char *name, model_options *o, err *e) {
    if (!name) return true;
    if (!isa_parse(name, &o->isa))
        return fail(e, ERR_USAGE, "isa '%.40s' is unknown; it may be scalar, avx2, avxvnni, avx512 or amx", name);
    if (!isa_available(o->isa)) return fail(e, ERR_UNSUPPORTED, "this processor lacks %s", name);
    return o->force_isa = true;
}

static bool parse_kv_type(const char *name, model_options *o, err *e) {
    if (!name || kv_type_parse(name, &o->kv_type)) return true;
    return fail(e, ERR_USAGE, "kv_type '%.40s' is unknown; it may be bf16, f16 or q8_0", name);
}

static bool limits_set(const rf_engine_options *o, engine_config *c, err *e) {
    c->max_running = o->max_running ? o->max_running : DEFAULT_RUNNING;
    c->max_queue = o->max_queue ? o->max_queue : DEFAULT_QUEUE;
    c->step_tokens = o->step_tokens ? o->step_tokens : DEFAULT_STEP_TOKENS;
    c->speculate = o->speculate;
    if (c->max_running > MOST || c->max_queue > MOST || c->step_tokens > MOST)
        return fail(e, ERR_USAGE, "max_running, max_queue and step_tokens may be %d at most", MOST);
    if (c->speculate > DRAFT_MOST)
        return fail(e, ERR_USAGE, "speculate is %u; it may be %d at most", c->speculate, DRAFT_MOST);
    if (c->step_tokens < c->max_running)
        return fail(e, ERR_USAGE, "step_tokens is %u; it must be at least max_running, %u", c->step_tokens,
                    c->max_running);
    return true;
}

static bool copy_str(const gguf *g, const char *key, char **out, err *e) {
    gguf_str s = {0};
    if (!gguf_get_str(g, key, &s, e)) return false;
    if (s.data) *out = strndup(s.data, s.n_bytes);
    return true;
}

typedef struct work {
    const loaded *l;
    const engine_config *c;
} work;

// Of one request: its tokens, and its bias or its embedding.
static uint64_t request_bytes(const engine_config *c, uint32_t n_ctx) {
    return n_ctx * sizeof(int32_t) + SAMPLE_MAX_BIAS * sizeof(rf_logit_bias) + c->info.d_model * sizeof(float);
}

// Scratch and outputs of a step, and every request that may be here at once.
static uint64_t work_bytes(const void *arg, uint32_t n_ctx) {
    const work *w = arg;
    const engine_config *c = w->c;
    return scratch_bytes(w->l->model, c->step_tokens, engine_logits_rows(c), n_ctx, pool_size(w->l->pool)) +
           engine_output_bytes(c) + (c->max_running + c->max_queue) * request_bytes(c, n_ctx);
}

static bool plan_memory(const loaded *l, const rf_engine_options *o, engine_config *c, err *e) {
    const work w = {l, c};
    const budget_needs needs = {.memory_bytes = c->info.memory_bytes,
                                .weight_bytes = c->info.weight_bytes,
                                .page_bytes = c->page_bytes + sizeof(kv_page),
                                .n_ctx_train = c->info.n_ctx_train,
                                .max_running = c->max_running,
                                .work_bytes = work_bytes,
                                .arg = &w};
    budget b;
    if (!budget_plan(o, &needs, &b, e)) return false;
    c->n_pages = b.n_pages;
    c->info.n_ctx = b.n_ctx;
    c->info.kv_bytes = (uint64_t)b.n_pages * needs.page_bytes;
    c->info.work_bytes = work_bytes(&w, b.n_ctx);
    return true;
}

static rf_model_info describe(const loaded *l, uint64_t memory_bytes) {
    const model_config *m = model_get_config(l->model);
    return (rf_model_info){.name = l->name ? l->name : "",
                           .architecture = m->arch,
                           .n_vocab = vocab_size(l->vocab),
                           .n_ctx_train = m->n_ctx_train,
                           .n_layers = m->n_layers,
                           .d_model = m->d_model,
                           .n_params = m->n_params,
                           .file_bytes = gguf_file_bytes(model_get_file(l->model)),
                           .memory_bytes = memory_bytes,
                           .weight_bytes = model_weight_bytes(l->model),
                           .isa = model_get_kernels(l->model)->name,
                           .n_threads = pool_size(l->pool),
                           .chat_template = l->chat_text};
}

static bool load(loaded *l, const char *path, const rf_engine_options *o, engine_config *c, err *e) {
    uint64_t memory_bytes = o->memory_bytes ? o->memory_bytes : budget_memory();
    model_options mo = {.max_bytes = memory_bytes, .progress = o->progress, .progress_arg = o->progress_arg};
    if (!limits_set(o, c, e) || !parse_isa(o->isa, &mo, e) || !parse_kv_type(o->kv_type, &mo, e)) return false;
    if (!(l->pool = pool_new(o->n_threads, e)) || !(l->model = model_open(path, &mo, l->pool, e))) return false;
    const gguf *file = model_get_file(l->model);
    if (!(l->vocab = vocab_open(file, e))) return false;
    if (!copy_str(file, "general.name", &l->name, e)) return false;
    if (o->chat_template)
        l->chat_text = xstrdup(o->chat_template);
    else if (!copy_str(file, "tokenizer.chat_template", &l->chat_text, e))
        return false;
    if (l->chat_text) l->chat = chat_template_open(l->chat_text, l->vocab);
    const model_config *m = model_get_config(l->model);
    if (vocab_size(l->vocab) > m->n_vocab)
        return fail(e, ERR_FORMAT, "the tokenizer has %u tokens, the model's output only %u", vocab_size(l->vocab),
                    m->n_vocab);
    c->page_bytes = model_kv_page_bytes(l->model);
    c->logits_stride = model_logits_stride(l->model);
    c->fixed_rows = FIXED_ROWS[model_get_kernels(l->model)->isa];
    c->hidden_stride = model_hidden_stride(l->model);
    c->info = describe(l, memory_bytes);
    if (!plan_memory(l, o, c, e)) return false;
    l->scratch = scratch_new(l->model, c->step_tokens, engine_logits_rows(c), c->info.n_ctx, c->info.n_threads, e);
    if (!l->scratch) return false;
    c->forward = (forward){.self = l, .run = loaded_run, .close = loaded_close};
    c->vocab = l->vocab, c->chat = l->chat;
    return true;
}

static engine *open_engine(const char *path, const rf_engine_options *o, err *e) {
    engine_config c = {0};
    loaded *l = xcalloc(1, sizeof *l);
    if (!load(l, path, o, &c, e)) {
        loaded_close(l);
        return NULL;
    }
    engine *g = engine_new(&c, e);
    if (g && !engine_start(g, e)) {
        engine_free(g);
        return NULL;
    }
    return g;
}

rf_engine *rf_engine_open(const char *model_path, const rf_engine_options *options, rf_error *error) {
    static const rf_engine_options defaults;
    err e = {0};
    engine *g = NULL;
    fenv_t callers; // loading computes in the engine's float mode; the caller keeps its own
    fegetenv(&callers);
    if (!model_path)
        fail(&e, ERR_USAGE, "no model file was named");
    else
        g = open_engine(model_path, options ? options : &defaults, &e);
    fesetenv(&callers);
    api_export(error, &e);
    return g;
}

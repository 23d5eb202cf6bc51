// Forward: one step of the transformer, as a line of ops that every worker walks together.
//
// A step's rows are the new tokens of all its sequences, in order. Each op is cut into chunks which workers claim;
// op_wait closes it. Chunks never split a sum, so the bits do not depend on who ran what. All buffers come from the
// scratch, sized once; nothing is allocated here. Rows never meet except through attention over their own sequence's
// pages.
#include "base/arena.h"
#include "kernel/canon.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPS_PER_LAYER = 11,
    OPS_AROUND = 3, // embedding, final norm, head
    ROW_CHUNK = 4,  // rows per chunk of the row-wise ops
};

// Activations quantised for one matmul or for several that share their input: one form per act_group in use.
typedef struct inputs {
    acts form[3]; // by act_group
} inputs;

// Eight consecutive (row, head of the group) pairs of one sequence, against one kv head.
typedef struct tile {
    uint32_t seq, kv_head, first; // first: index into rows * group of the sequence
} tile;

struct scratch {
    arena mem;
    uint32_t max_tokens, max_logits, max_context, n_slots;
    op *ops;          // [n_layers * OPS_PER_LAYER + OPS_AROUND]
    float *x;         // [rows][d] residual stream
    float *h;         // [rows][d] normed
    float *y;         // [rows][d] output of the second matmul of a block
    float *q, *k, *v; // [rows][heads * head_dim]
    float *att;       // [rows][n_heads * head_dim]
    float *gate, *up; // [rows][d_ffn]
    float *rotary;    // [rows][n_rot / 2][2] cos, sin
    inputs in_qkv, in_att, in_up, in_down, in_head;
    float *head_rows;                      // [max_logits][d]
    uint32_t *row_seq;                     // [rows] sequence of a row
    uint32_t *row_pos;                     // [rows] its absolute position
    uint32_t *seq_row;                     // [rows + 1] first row of each sequence
    uint32_t *logit_row;                   // [max_logits] row of each wanted row of logits
    uint32_t *hidden_row;                  // [rows] the same for hidden states
    tile *tiles;                           // [...]
    float *part_max, *part_sum, *part_out; // [n_slots][blocks][ATTN_MAX_QUERIES] and the same times head_dim
};

static uint32_t pad16(uint32_t n) { return (n + 15) & ~15u; }
size_t model_hidden_stride(const model *m) { return pad16(m->config.d_model); }

static uint32_t max_blocks(uint32_t max_context) { return (max_context + ATTN_BLOCK - 1) / ATTN_BLOCK; }
static uint32_t tiles_of(uint32_t n_queries) { return (n_queries + ATTN_MAX_QUERIES - 1) / ATTN_MAX_QUERIES; }

// ---- scratch -----------------------------------------------------------------------------------------------------

// With base NULL the arena only counts: the same code sizes the scratch and lays it out.
static void *take(arena *a, size_t n, size_t each_bytes) {
    if (a->base) return arena_take(a, n * each_bytes);
    a->used_bytes += (n * each_bytes + 63) & ~(size_t)63;
    return NULL;
}

static inputs take_inputs(arena *a, uint32_t m, uint32_t k) {
    inputs in = {0};
    for (int g = 0; g < 3; g++) {
        if (k % act_group_size(g)) continue; // no weight of this form can have such rows
        void *memory = g == ACT_F32 ? NULL : take(a, acts_bytes(g, m, k), 1);
        in.form[g] = acts_init(g, m, k, memory);
    }
    return in;
}

static void lay_out(scratch *s, const model_config *c, arena *a) {
    uint32_t rows = s->max_tokens, d_q = c->n_heads * c->head_dim, d_kv = c->n_kv_heads * c->head_dim;
    s->ops = take(a, (size_t)c->n_layers * OPS_PER_LAYER + OPS_AROUND, sizeof(op));
    s->x = take(a, (size_t)rows * pad16(c->d_model), sizeof(float));
    s->h = take(a, (size_t)rows * pad16(c->d_model), sizeof(float));
    s->y = take(a, (size_t)rows * pad16(c->d_model), sizeof(float));
    s->q = take(a, (size_t)rows * d_q, sizeof(float));
    s->k = take(a, (size_t)rows * d_kv, sizeof(float));
    s->v = take(a, (size_t)rows * d_kv, sizeof(float));
    s->att = take(a, (size_t)rows * d_q, sizeof(float));
    s->gate = take(a, (size_t)rows * pad16(c->d_ffn), sizeof(float));
    s->up = take(a, (size_t)rows * pad16(c->d_ffn), sizeof(float));
    s->rotary = take(a, (size_t)rows * c->n_rot, sizeof(float));
    s->in_qkv = take_inputs(a, rows, c->d_model);
    s->in_att = take_inputs(a, rows, d_q);
    s->in_up = take_inputs(a, rows, c->d_model);
    s->in_down = take_inputs(a, rows, c->d_ffn);
    s->in_head = take_inputs(a, s->max_logits, c->d_model);
    s->head_rows = take(a, (size_t)s->max_logits * pad16(c->d_model), sizeof(float));
    s->row_seq = take(a, rows, sizeof(uint32_t));
    s->row_pos = take(a, rows, sizeof(uint32_t));
    s->seq_row = take(a, (size_t)rows + 1, sizeof(uint32_t));
    s->logit_row = take(a, s->max_logits, sizeof(uint32_t));
    s->hidden_row = take(a, rows, sizeof(uint32_t));
    // Each sequence rounds its queries up to whole tiles; a sequence has at least one row.
    size_t queries = (size_t)rows * (c->n_heads / c->n_kv_heads);
    s->tiles = take(a, c->n_kv_heads * (queries / ATTN_MAX_QUERIES + rows), sizeof(tile));
    size_t partials = (size_t)s->n_slots * max_blocks(s->max_context) * ATTN_MAX_QUERIES;
    s->part_max = take(a, partials, sizeof(float));
    s->part_sum = take(a, partials, sizeof(float));
    s->part_out = take(a, partials * c->head_dim, sizeof(float));
}

static scratch sized(uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads) {
    return (scratch){.max_tokens = max_tokens,
                     .max_logits = max_logits,
                     .max_context = max_context,
                     .n_slots = 4 * (uint32_t)n_threads};
}

size_t scratch_bytes(const model *m, uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads) {
    scratch s = sized(max_tokens, max_logits, max_context, n_threads);
    arena counter = {0};
    lay_out(&s, &m->config, &counter);
    return counter.used_bytes;
}

scratch *scratch_new(const model *m, uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads,
                     err *e) {
    check(max_tokens > 0 && max_logits > 0 && max_context > 0 && n_threads > 0);
    scratch *s = xmalloc(sizeof *s);
    *s = sized(max_tokens, max_logits, max_context, n_threads);
    size_t bytes = scratch_bytes(m, max_tokens, max_logits, max_context, n_threads);
    if (!arena_init(&s->mem, bytes, "the step's scratch", e)) return free(s), NULL;
    lay_out(s, &m->config, &s->mem);
    return s;
}

void scratch_free(scratch *s) {
    if (!s) return;
    arena_free(&s->mem);
    free(s);
}

// ---- one run -----------------------------------------------------------------------------------------------------

typedef struct run {
    const model *m;
    const step *step;
    scratch *s;
    int n_workers;
    uint32_t n_rows, n_logits, n_hidden, n_tiles;
    uint32_t n_blocks; // of the longest sequence
    bool split_blocks; // few tiles: share out their blocks as well
} run;

static size_t layer_offset(const model *m, uint32_t layer, uint32_t kv_head) {
    return ((size_t)layer * m->config.n_kv_heads + kv_head) * kv_head_bytes(m->kv_type, m->config.head_dim);
}

static uint8_t *page_of(const run *r, uint32_t seq, uint32_t page, uint32_t layer, uint32_t kv_head) {
    return r->step->kv + r->step->seqs[seq].pages[page] * model_kv_page_bytes(r->m) +
           layer_offset(r->m, layer, kv_head);
}

static void set_rows(inputs *in, uint32_t n_rows) {
    for (int g = 0; g < 3; g++) in->form[g].m = n_rows;
}

static void describe_rows(run *r) {
    const model_config *c = &r->m->config;
    scratch *s = r->s;
    uint32_t group = c->n_heads / c->n_kv_heads;
    for (uint32_t q = 0; q < r->step->n_seqs; q++) {
        const step_seq *seq = &r->step->seqs[q];
        check(seq->n_tokens > 0 && seq->n_logits <= seq->n_tokens && r->n_rows + seq->n_tokens <= s->max_tokens);
        check(seq->n_hidden <= seq->n_tokens && (seq->n_hidden == 0 || seq->n_logits == 0));
        check(seq->n_cached + seq->n_tokens <= s->max_context && r->n_logits + seq->n_logits <= s->max_logits);
        s->seq_row[q] = r->n_rows;
        for (uint32_t i = 0; i < seq->n_tokens; i++, r->n_rows++) {
            s->row_seq[r->n_rows] = q;
            s->row_pos[r->n_rows] = seq->n_cached + i;
            if (i + seq->n_logits >= seq->n_tokens) s->logit_row[r->n_logits++] = r->n_rows;
            if (i + seq->n_hidden >= seq->n_tokens) s->hidden_row[r->n_hidden++] = r->n_rows;
        }
        for (uint32_t head = 0; head < c->n_kv_heads; head++)
            for (uint32_t t = 0; t < tiles_of(seq->n_tokens * group); t++)
                s->tiles[r->n_tiles++] = (tile){q, head, t * ATTN_MAX_QUERIES};
        uint32_t blocks = max_blocks(seq->n_cached + seq->n_tokens);
        if (blocks > r->n_blocks) r->n_blocks = blocks;
    }
    r->split_blocks = r->n_tiles <= s->n_slots;
    inputs *in[] = {&s->in_qkv, &s->in_att, &s->in_up, &s->in_down};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) set_rows(in[i], r->n_rows);
    set_rows(&s->in_head, r->n_logits);
}

static void embed_row(const run *r, uint32_t row) {
    const model *m = r->m;
    const scratch *s = r->s;
    const step_seq *seq = &r->step->seqs[s->row_seq[row]];
    int32_t token = seq->tokens[row - s->seq_row[s->row_seq[row]]];
    check(token >= 0 && (uint32_t)token < m->config.n_vocab);
    weight_row(&m->embed, (uint32_t)token, s->x + (size_t)row * pad16(m->config.d_model));
    float *cs = s->rotary + (size_t)row * m->config.n_rot;
    for (uint32_t i = 0; i < m->config.n_rot / 2; i++) {
        double sine, cosine;
        mathd_sincos(s->row_pos[row] * m->inv_freq[i], &sine, &cosine);
        cs[2 * i] = (float)cosine * m->rope_magnitude;
        cs[2 * i + 1] = (float)sine * m->rope_magnitude;
    }
}

// ---- matmuls: several matrices that share their input make one op ------------------------------------------------

typedef struct product {
    const weight *w;
    float *out;
} product;

// Puts row `row` of x into every form that the products ask for.
static void prepare(const kernels *k, inputs *in, const product *p, int n_products, uint32_t row, const float *x) {
    unsigned done = 1u << ACT_F32; // the float form is the row itself
    for (int i = 0; i < n_products; i++) {
        if (done & (1u << p[i].w->group)) continue;
        done |= 1u << p[i].w->group;
        k->quantise(&in->form[p[i].w->group], row, x);
    }
}

// Panels per chunk: about eight chunks a worker, an even number of panels.
static uint32_t chunk_panels(uint32_t n_panels, int n_workers) {
    uint32_t wanted = n_panels / (8 * (uint32_t)n_workers) & ~1u;
    return wanted < 2 ? 2 : wanted;
}

static void multiply(const run *r, op *o, const inputs *in, const float *x, const product *p, int n_products) {
    uint32_t per_chunk[3], end[3], total = 0;
    for (int i = 0; i < n_products; i++) {
        per_chunk[i] = chunk_panels(p[i].w->n_panels, r->n_workers);
        total = end[i] = total + (p[i].w->n_panels + per_chunk[i] - 1) / per_chunk[i];
    }
    op_for(o, total, c) {
        int i = 0;
        while (c >= end[i]) i++;
        const weight *w = p[i].w;
        acts a = in->form[w->group];
        a.f = x, a.f_stride = pad16(w->cols);
        uint32_t first = (c - (i ? end[i - 1] : 0)) * per_chunk[i], left = w->n_panels - first;
        r->m->kernels->matmul(w, &a, first, left < per_chunk[i] ? left : per_chunk[i], p[i].out,
                              (size_t)w->n_panels * 16);
    }
    op_wait(o, total);
}

// ---- row-wise ops ------------------------------------------------------------------------------------------------

#define for_rows(r, o, n_rows, row)                                                                                    \
    op_for((o), ((n_rows) + ROW_CHUNK - 1) / ROW_CHUNK,                                                                \
           chunk) for (uint32_t row = chunk * ROW_CHUNK; row < (n_rows) && row < (chunk + 1) * ROW_CHUNK; row++)
#define wait_rows(o, n_rows) op_wait((o), ((n_rows) + ROW_CHUNK - 1) / ROW_CHUNK)

// Residual add (when there is something to add), norm, and the forms that the next products want.
static void norm_rows(const run *r, op *o, bool add, const float *norm, inputs *in, const product *p, int n_products) {
    const model_config *c = &r->m->config;
    const kernels *k = r->m->kernels;
    scratch *s = r->s;
    uint32_t stride = pad16(c->d_model);
    for_rows(r, o, r->n_rows, row) {
        float *x = s->x + (size_t)row * stride, *h = s->h + (size_t)row * stride;
        if (add) k->add(x, s->y + (size_t)row * stride, c->d_model);
        k->rmsnorm(x, norm, c->rms_eps, c->d_model, h);
        prepare(k, in, p, n_products, row, h);
    }
    wait_rows(o, r->n_rows);
}

// Bias, rotation, scaling of the query, and the new keys and values into their pages.
static void place_row(const run *r, uint32_t layer_index, uint32_t row) {
    const model_config *c = &r->m->config;
    const layer *l = &r->m->layers[layer_index];
    const kernels *k = r->m->kernels;
    const scratch *s = r->s;
    uint32_t d_q = c->n_heads * c->head_dim, d_kv = c->n_kv_heads * c->head_dim;
    float *query = s->q + (size_t)row * d_q, *key = s->k + (size_t)row * d_kv, *value = s->v + (size_t)row * d_kv;
    if (l->q_bias) k->add(query, l->q_bias, d_q), k->add(key, l->k_bias, d_kv), k->add(value, l->v_bias, d_kv);
    const float *cs = s->rotary + (size_t)row * c->n_rot;
    k->rope(query, c->n_heads, c->head_dim, c->n_rot, cs, c->rope_neox);
    k->rope(key, c->n_kv_heads, c->head_dim, c->n_rot, cs, c->rope_neox);
    k->scale(query, 1.0f / sqrtf((float)c->head_dim), d_q);
    uint32_t pos = s->row_pos[row];
    for (uint32_t head = 0; head < c->n_kv_heads; head++)
        k->kv_store(r->m->kv_type, page_of(r, s->row_seq[row], pos / KV_PAGE_TOKENS, layer_index, head),
                    pos % KV_PAGE_TOKENS, c->head_dim, key + head * c->head_dim, value + head * c->head_dim);
}

// ---- attention ---------------------------------------------------------------------------------------------------

typedef struct query {
    uint32_t row, head, n_keys;
} query;

static uint32_t tile_queries(const run *r, const tile *t, query *out) {
    const model_config *c = &r->m->config;
    uint32_t group = c->n_heads / c->n_kv_heads, n = r->step->seqs[t->seq].n_tokens * group - t->first;
    if (n > ATTN_MAX_QUERIES) n = ATTN_MAX_QUERIES;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = r->s->seq_row[t->seq] + (t->first + i) / group;
        out[i] = (query){row, t->kv_head * group + (t->first + i) % group, r->s->row_pos[row] + 1};
    }
    return n;
}

static size_t part_index(const run *r, uint32_t slot, uint32_t block) {
    return ((size_t)slot * max_blocks(r->s->max_context) + block) * ATTN_MAX_QUERIES;
}

static void attend_block(const run *r, uint32_t layer_index, const tile *t, const query *q, uint32_t n_q,
                         uint32_t block, uint32_t slot) {
    const model_config *c = &r->m->config;
    const scratch *s = r->s;
    size_t part = part_index(r, slot, block);
    attn_job job = {.kv_type = r->m->kv_type,
                    .n_q = n_q,
                    .head_dim = c->head_dim,
                    .max = s->part_max + part,
                    .sum = s->part_sum + part,
                    .out = s->part_out + part * c->head_dim};
    uint32_t start = block * ATTN_BLOCK, most = 0;
    for (uint32_t i = 0; i < n_q; i++) {
        uint32_t n = q[i].n_keys > start ? q[i].n_keys - start : 0;
        job.q[i] = s->q + ((size_t)q[i].row * c->n_heads + q[i].head) * c->head_dim;
        job.n_keys[i] = n < ATTN_BLOCK ? n : ATTN_BLOCK;
        if (job.n_keys[i] > most) most = job.n_keys[i];
    }
    for (uint32_t p = 0; p * KV_PAGE_TOKENS < most; p++)
        job.pages[p] = page_of(r, t->seq, start / KV_PAGE_TOKENS + p, layer_index, t->kv_head);
    r->m->kernels->attn_block(&job);
}

static void merge_tile(const run *r, const query *q, uint32_t n_q, uint32_t slot) {
    const model_config *c = &r->m->config;
    const scratch *s = r->s;
    size_t part = part_index(r, slot, 0);
    for (uint32_t i = 0; i < n_q; i++)
        r->m->kernels->attn_merge(max_blocks(q[i].n_keys), c->head_dim, s->part_max + part + i, s->part_sum + part + i,
                                  ATTN_MAX_QUERIES, s->part_out + (part + i) * c->head_dim,
                                  (size_t)ATTN_MAX_QUERIES * c->head_dim,
                                  s->att + ((size_t)q[i].row * c->n_heads + q[i].head) * c->head_dim);
}

static uint32_t tile_blocks(const query *q, uint32_t n_q) { return max_blocks(q[n_q - 1].n_keys); }

// Many tiles: a worker takes whole tiles. Few: it takes blocks of tiles, and a second op merges. The bits are the same.
static void attend(const run *r, uint32_t layer_index, int worker, op *o, op *merge) {
    query q[ATTN_MAX_QUERIES];
    if (!r->split_blocks) {
        op_for(o, r->n_tiles, c) {
            const tile *t = &r->s->tiles[c];
            uint32_t n_q = tile_queries(r, t, q);
            for (uint32_t b = 0; b < tile_blocks(q, n_q); b++)
                attend_block(r, layer_index, t, q, n_q, b, (uint32_t)worker);
            merge_tile(r, q, n_q, (uint32_t)worker);
        }
        op_wait(o, r->n_tiles);
        return;
    }
    op_for(o, r->n_tiles * r->n_blocks, c) {
        uint32_t slot = c / r->n_blocks, b = c % r->n_blocks;
        uint32_t n_q = tile_queries(r, &r->s->tiles[slot], q);
        if (b < tile_blocks(q, n_q)) attend_block(r, layer_index, &r->s->tiles[slot], q, n_q, b, slot);
    }
    op_wait(o, r->n_tiles * r->n_blocks);
    op_for(merge, r->n_tiles, slot) {
        uint32_t n_q = tile_queries(r, &r->s->tiles[slot], q);
        merge_tile(r, q, n_q, slot);
    }
    op_wait(merge, r->n_tiles);
}

// ---- the line of ops ---------------------------------------------------------------------------------------------

static void run_layer(const run *r, uint32_t i, int worker, op *o) {
    const model_config *c = &r->m->config;
    const layer *l = &r->m->layers[i];
    const kernels *k = r->m->kernels;
    scratch *s = r->s;
    uint32_t d_q = c->n_heads * c->head_dim, ffn_stride = pad16(c->d_ffn);
    product qkv[] = {{&l->q, s->q}, {&l->k, s->k}, {&l->v, s->v}};
    product out[] = {{&l->o, s->y}}, gate_up[] = {{&l->gate, s->gate}, {&l->up, s->up}}, down[] = {{&l->down, s->y}};

    norm_rows(r, &o[0], i > 0, l->attn_norm, &s->in_qkv, qkv, 3);
    multiply(r, &o[1], &s->in_qkv, s->h, qkv, 3);
    for_rows(r, &o[2], r->n_rows, row) place_row(r, i, row);
    wait_rows(&o[2], r->n_rows);
    attend(r, i, worker, &o[3], &o[4]);
    for_rows(r, &o[5], r->n_rows, row) prepare(k, &s->in_att, out, 1, row, s->att + (size_t)row * d_q);
    wait_rows(&o[5], r->n_rows);
    multiply(r, &o[6], &s->in_att, s->att, out, 1);
    norm_rows(r, &o[7], true, l->ffn_norm, &s->in_up, gate_up, 2);
    multiply(r, &o[8], &s->in_up, s->h, gate_up, 2);
    op *last = &o[9];
    for_rows(r, last, r->n_rows, row) {
        float *gate = s->gate + (size_t)row * ffn_stride;
        k->silu_mul(gate, s->up + (size_t)row * ffn_stride, c->d_ffn, gate);
        prepare(k, &s->in_down, down, 1, row, gate);
    }
    wait_rows(last, r->n_rows);
    multiply(r, &o[10], &s->in_down, s->gate, down, 1);
}

// The rows that somebody wants, normed: hidden states as they are, the others through the head.
static void run_head(const run *r, op *o) {
    const model_config *c = &r->m->config;
    const kernels *k = r->m->kernels;
    scratch *s = r->s;
    uint32_t stride = pad16(c->d_model), n_rows = r->n_logits + r->n_hidden;
    product head[] = {{&r->m->head, r->step->logits}};
    for_rows(r, &o[0], n_rows, i) {
        bool is_hidden = i >= r->n_logits;
        uint32_t to = is_hidden ? i - r->n_logits : i;
        size_t row = (size_t)(is_hidden ? s->hidden_row : s->logit_row)[to] * stride;
        float *h = (is_hidden ? r->step->hidden : s->head_rows) + (size_t)to * stride;
        k->add(s->x + row, s->y + row, c->d_model);
        k->rmsnorm(s->x + row, r->m->output_norm, c->rms_eps, c->d_model, h);
        if (!is_hidden) prepare(k, &s->in_head, head, 1, to, h);
    }
    wait_rows(&o[0], n_rows);
    if (r->n_logits) multiply(r, &o[1], &s->in_head, s->head_rows, head, 1);
}

static void run_step(void *arg, int worker) {
    const run *r = arg;
    op *o = r->s->ops;
    for_rows(r, o, r->n_rows, row) embed_row(r, row);
    wait_rows(o, r->n_rows);
    o++;
    for (uint32_t i = 0; i < r->m->config.n_layers; i++, o += OPS_PER_LAYER) run_layer(r, i, worker, o);
    if (r->n_logits + r->n_hidden) run_head(r, o);
}

void model_forward(const model *m, const step *step, scratch *s, pool *threads) {
    run r = {.m = m, .step = step, .s = s, .n_workers = pool_size(threads)};
    describe_rows(&r);
    check(r.n_rows > 0 && r.n_workers * 4 <= (int)s->n_slots);
    ops_reset(s->ops, (size_t)m->config.n_layers * OPS_PER_LAYER + OPS_AROUND);
    pool_run(threads, run_step, &r);
}

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
    OPS_PER_LAYER = 9,
    OPS_AROUND = 3,   // embedding, final norm, head
    GROUP_WIDTH = 40, // a group of workers has a row at least for so many of d_model
    ROW_CHUNK = 4,    // rows per chunk of the row-wise ops
    SLOTS_A_WORKER = 4,
    NEAR_BYTES = 1 << 20, // of activations: what stays in a second cache beside the rest
    FAR_PANELS = 64,      // of a chunk, where they are more
    DESK_FLOATS = 65536,  // of gate or up in a chunk, unless a single unit of panels has more
};

// Activations quantised for one matmul or for several that share their input: one form per act_group in use.
typedef struct inputs {
    acts form[3]; // by act_group
} inputs;

// ATTN_MAX_QUERIES consecutive (row, head of the group) pairs of one sequence, or what is left, against one kv head.
typedef struct tile {
    uint32_t seq, kv_head, first; // first: index into rows * group of the sequence
} tile;

typedef struct rows {
    uint32_t first, n;
} rows;

// Rows that go through ops together: all of the step, and after the last keys and values those that somebody wants.
typedef struct row_set {
    uint32_t n_rows, n_groups, group_rows; // rows by group, a multiple of 16 but for the last's
    uint32_t *step_row;                    // [n_rows] which of the step's rows it is
    rows *of_seq;                          // [n_seqs]
    tile *tiles;                           // [n_tiles]
    uint32_t n_tiles, n_blocks;            // blocks of the longest sequence
    bool split_blocks;                     // few tiles: share out their blocks as well
    inputs in_att, in_up, in_down;         // both sets' share their memory
} row_set;

struct scratch {
    arena mem;
    uint32_t max_tokens, max_logits, max_context, n_slots;
    op *ops;      // [n_layers * OPS_PER_LAYER + OPS_AROUND]
    float *x;     // [rows][d] residual stream
    float *h;     // [rows][d] normed; only for weights that take floats
    float *y;     // [rows][d] output of the second matmul of a block
    float *q;     // [rows][n_heads * head_dim]
    float *att;   // [rows][n_heads * head_dim]; only where heads are no groups of the output matrix
    float *gated; // [rows][d_ffn]; only for weights that take floats
    float *desks; // [workers][desk_floats]: what a worker writes and, soon, alone reads
    size_t desk_floats;
    float *rotary; // [rows][n_rot / 2][2] cos, sin
    inputs in_qkv, in_head;
    float *head_rows;                      // [max_logits][d]
    uint32_t *row_seq;                     // [rows] sequence of a row
    uint32_t *row_pos;                     // [rows] its absolute position
    row_set all, wanted;                   // wanted: rows of logits, then of hidden states
    float *part_max, *part_sum, *part_out; // [n_slots][blocks][ATTN_MAX_QUERIES] and the same times head_dim
};

static uint32_t pad16(uint32_t n) { return (n + 15) & ~15u; }
// How far apart the scratch's rows of n floats are: no power of two, or what a chunk has of many rows would share a few
// sets of the caches.
static size_t row_floats(uint32_t n) { return pad16(n) + 16; }
size_t model_hidden_stride(const model *m) { return pad16(m->config.d_model); }

static uint32_t max_blocks(uint32_t max_context) { return (max_context + ATTN_BLOCK - 1) / ATTN_BLOCK; }
static uint32_t tiles_of(uint32_t n_queries) { return (n_queries + ATTN_MAX_QUERIES - 1) / ATTN_MAX_QUERIES; }

// ---- scratch -----------------------------------------------------------------------------------------------------

// With base NULL the arena only counts: the same code sizes the scratch and lays it out. Of nothing, NULL.
static void *take(arena *a, size_t n, size_t each_bytes) {
    if (n == 0) return NULL;
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

// The output matrix takes groups of 32: those of a head are ready as soon as the head is.
static bool heads_are_groups(const model *m, const weight *out) {
    return out->group == ACT_C32 && m->config.head_dim % 32 == 0;
}

// Whether some layer reads normed or gated rows as floats; whether some reads whole rows of attention's output.
static bool takes_floats(const model *m) {
    bool some = false;
    for (uint32_t i = 0; i < m->config.n_layers; i++) {
        const layer *l = &m->layers[i];
        const weight *all[] = {&l->q, &l->k, &l->v, &l->gate, &l->up, &l->down};
        for (size_t w = 0; w < sizeof all / sizeof *all; w++) some |= all[w]->group == ACT_F32;
    }
    return some;
}
static bool takes_whole_rows(const model *m) {
    bool some = false;
    for (uint32_t i = 0; i < m->config.n_layers; i++) some |= !heads_are_groups(m, &m->layers[i].o);
    return some;
}

// Panels of gate and up that make whole groups of what down reads.
static uint32_t gated_unit(const weight *down) { return down->group == ACT_F32 ? 2 : act_group_size(down->group) / 16; }

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

// Room for a row, for a head's rows, or for gate's and up's of a chunk.
static size_t desk_floats(const model *m, size_t rows) {
    const model_config *c = &m->config;
    size_t half = DESK_FLOATS;
    for (uint32_t i = 0; i < c->n_layers; i++) half = larger(half, rows * 16 * gated_unit(&m->layers[i].down));
    return larger(2 * (half + 16 * rows), larger(row_floats(c->d_model), rows * row_floats(c->head_dim)));
}

// Each sequence rounds its queries up to whole tiles; a sequence has at least one row.
static void lay_out_set(row_set *set, const model *m, uint32_t rows, arena *a) {
    const model_config *c = &m->config;
    const size_t queries = (size_t)rows * (c->n_heads / c->n_kv_heads);
    set->step_row = take(a, rows, sizeof(uint32_t));
    set->of_seq = take(a, rows, sizeof *set->of_seq);
    set->tiles = take(a, c->n_kv_heads * (queries / ATTN_MAX_QUERIES + rows), sizeof(tile));
}

static void lay_out(scratch *s, const model *m, arena *a) {
    const model_config *c = &m->config;
    const uint32_t rows = s->max_tokens, d_q = c->n_heads * c->head_dim, float_rows = takes_floats(m) ? rows : 0,
                   att_rows = takes_whole_rows(m) ? rows : 0;
    s->ops = take(a, (size_t)c->n_layers * OPS_PER_LAYER + OPS_AROUND, sizeof(op));
    s->x = take(a, rows * row_floats(c->d_model), sizeof(float));
    s->h = take(a, float_rows * row_floats(c->d_model), sizeof(float));
    s->y = take(a, rows * row_floats(c->d_model), sizeof(float));
    s->q = take(a, rows * row_floats(d_q), sizeof(float));
    s->att = take(a, att_rows * row_floats(d_q), sizeof(float));
    s->gated = take(a, float_rows * row_floats(c->d_ffn), sizeof(float));
    s->desk_floats = desk_floats(m, rows);
    s->desks = take(a, s->n_slots / SLOTS_A_WORKER * s->desk_floats, sizeof(float));
    s->rotary = take(a, (size_t)rows * c->n_rot, sizeof(float));
    s->in_qkv = take_inputs(a, rows, c->d_model);
    s->all.in_att = take_inputs(a, rows, d_q);
    s->all.in_up = take_inputs(a, rows, c->d_model);
    s->all.in_down = take_inputs(a, rows, c->d_ffn);
    s->wanted = s->all;
    lay_out_set(&s->all, m, rows, a);
    lay_out_set(&s->wanted, m, rows, a);
    s->in_head = take_inputs(a, s->max_logits, c->d_model);
    s->head_rows = take(a, s->max_logits * row_floats(c->d_model), sizeof(float));
    s->row_seq = take(a, rows, sizeof(uint32_t));
    s->row_pos = take(a, rows, sizeof(uint32_t));
    size_t partials = (size_t)s->n_slots * max_blocks(s->max_context) * ATTN_MAX_QUERIES;
    s->part_max = take(a, partials, sizeof(float));
    s->part_sum = take(a, partials, sizeof(float));
    s->part_out = take(a, partials * c->head_dim, sizeof(float));
}

static scratch sized(uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads) {
    return (scratch){.max_tokens = max_tokens,
                     .max_logits = max_logits,
                     .max_context = max_context,
                     .n_slots = SLOTS_A_WORKER * (uint32_t)n_threads};
}

size_t scratch_bytes(const model *m, uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads) {
    scratch s = sized(max_tokens, max_logits, max_context, n_threads);
    arena counter = {0};
    lay_out(&s, m, &counter);
    return counter.used_bytes;
}

scratch *scratch_new(const model *m, uint32_t max_tokens, uint32_t max_logits, uint32_t max_context, int n_threads,
                     err *e) {
    check(max_tokens > 0 && max_logits > 0 && max_context > 0 && n_threads > 0);
    scratch *s = xmalloc(sizeof *s);
    *s = sized(max_tokens, max_logits, max_context, n_threads);
    size_t bytes = scratch_bytes(m, max_tokens, max_logits, max_context, n_threads);
    if (!arena_init(&s->mem, bytes, "the step's scratch", e)) return free(s), NULL;
    lay_out(s, m, &s->mem);
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
    int n_workers, worker;
    uint32_t n_logits, n_hidden;
    row_set *set;
} run;

// The group of rows that is this worker's.
static uint32_t home(const run *r) { return (uint32_t)r->worker % r->set->n_groups; }

// Room for n floats until this worker asks again.
static float *desk(const run *r, size_t n) {
    check(n <= r->s->desk_floats);
    return r->s->desks + (size_t)r->worker * r->s->desk_floats;
}

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

// What one worker has written and another reads has a long way. So rows are dealt out to groups of workers, who keep
// them from op to op; they meet in attention only. For that each group takes all weights apart for itself, which pays
// if it has rows enough, the sooner the narrower they are. Two workers, prefill of 512: 1.27 times as fast with 135
// million weights, 1.08 times with 1.2 billion.
static void group_rows(const run *r, row_set *set) {
    const uint32_t n = set->n_rows / pad16(r->m->config.d_model / GROUP_WIDTH + 1), n_workers = (uint32_t)r->n_workers,
                   most = n_workers < OP_MAX_GROUPS ? n_workers : OP_MAX_GROUPS;
    set->n_groups = n < 1 ? 1 : n < most ? n : most;
    for (;; set->n_groups--) { // the last group has a tile of rows, too
        set->group_rows = pad16((set->n_rows + set->n_groups - 1) / set->n_groups);
        if (set->n_groups == 1 || (set->n_groups - 1) * set->group_rows + ACT_TILE_ROWS <= set->n_rows) return;
    }
}

static rows rows_of_group(const run *r, uint32_t group) {
    uint32_t first = group * r->set->group_rows, left = r->set->n_rows - first;
    return (rows){first, left < r->set->group_rows ? left : r->set->group_rows};
}

// So many chunks for each group's rows.
static op_chunks by_group(const run *r, uint32_t n) { return (op_chunks){n, r->set->n_groups, home(r)}; }

// The same for chunks of weights. If there is one group they are dealt out to the workers, since what is fetched ahead
// at a chunk's end begins the next one: with 135 million weights decode is 1.07 times as fast, of 16 sequences 1.1
// times. The last share may have a few chunks too many.
static op_chunks by_share(const run *r, uint32_t n) {
    if (r->set->n_groups > 1) return by_group(r, n);
    const uint32_t n_workers = (uint32_t)r->n_workers, shares = n_workers < OP_MAX_GROUPS ? n_workers : OP_MAX_GROUPS;
    return (op_chunks){(n + shares - 1) / shares, shares, (uint32_t)r->worker % shares};
}

// Of sequence q its n rows from the step's row `first` on.
static void add_rows(const run *r, row_set *set, uint32_t q, uint32_t first, uint32_t n) {
    const model_config *c = &r->m->config;
    const step_seq *seq = &r->step->seqs[q];
    const uint32_t blocks = max_blocks(seq->n_cached + seq->n_tokens);
    set->of_seq[q] = (rows){set->n_rows, n};
    for (uint32_t i = 0; i < n; i++) set->step_row[set->n_rows++] = first + i;
    for (uint32_t t = 0; t < tiles_of(n * (c->n_heads / c->n_kv_heads)); t++)
        for (uint32_t head = 0; head < c->n_kv_heads; head++)
            set->tiles[set->n_tiles++] = (tile){q, head, t * ATTN_MAX_QUERIES};
    if (n > 0 && blocks > set->n_blocks) set->n_blocks = blocks;
}

static void begin_set(row_set *set) { set->n_rows = set->n_tiles = set->n_blocks = 0; }

static void end_set(const run *r, row_set *set) {
    group_rows(r, set);
    set->split_blocks = set->n_tiles <= r->s->n_slots && set->n_blocks > 1;
    set_rows(&set->in_att, set->n_rows);
    set_rows(&set->in_up, set->n_rows);
    set_rows(&set->in_down, set->n_rows);
}

static void describe_all(const run *r) {
    scratch *s = r->s;
    row_set *all = &s->all;
    begin_set(all);
    for (uint32_t q = 0; q < r->step->n_seqs; q++) {
        const step_seq *seq = &r->step->seqs[q];
        check(seq->n_tokens > 0 && seq->n_tokens <= s->max_tokens - all->n_rows);
        check(seq->n_cached + seq->n_tokens <= s->max_context);
        for (uint32_t i = 0, row = all->n_rows; i < seq->n_tokens; i++, row++) {
            s->row_seq[row] = q;
            s->row_pos[row] = seq->n_cached + i;
        }
        add_rows(r, all, q, all->n_rows, seq->n_tokens);
    }
    end_set(r, all);
    set_rows(&s->in_qkv, all->n_rows);
}

static void describe_wanted(run *r) {
    scratch *s = r->s;
    row_set *wanted = &s->wanted;
    begin_set(wanted);
    for (int hidden = 0; hidden < 2; hidden++)
        for (uint32_t q = 0; q < r->step->n_seqs; q++) {
            const step_seq *seq = &r->step->seqs[q];
            const uint32_t n = hidden ? seq->n_hidden : seq->n_logits;
            if (n == 0) continue;
            check(n <= seq->n_tokens && (seq->n_hidden == 0 || seq->n_logits == 0));
            *(hidden ? &r->n_hidden : &r->n_logits) += n;
            add_rows(r, wanted, q, s->all.of_seq[q].first + seq->n_tokens - n, n);
        }
    check(r->n_logits <= s->max_logits);
    end_set(r, wanted);
    set_rows(&s->in_head, r->n_logits);
}

static void embed_row(const run *r, uint32_t row) {
    const model *m = r->m;
    const scratch *s = r->s;
    const step_seq *seq = &r->step->seqs[s->row_seq[row]];
    int32_t token = seq->tokens[row - s->all.of_seq[s->row_seq[row]].first];
    check(token >= 0 && (uint32_t)token < m->config.n_vocab);
    weight_row(&m->embed, (uint32_t)token, s->x + row * row_floats(m->config.d_model));
    float *cs = s->rotary + (size_t)row * m->config.n_rot;
    for (uint32_t i = 0; i < m->config.n_rot / 2; i++) {
        double sine, cosine;
        mathd_sincos(s->row_pos[row] * m->inv_freq[i], &sine, &cosine);
        cs[2 * i] = (float)cosine * m->rope_magnitude;
        cs[2 * i + 1] = (float)sine * m->rope_magnitude;
    }
}

// ---- matmuls -----------------------------------------------------------------------------------------------------

typedef struct product {
    const weight *w;
    float *out; // [rows][stride], 16 * w->n_panels floats of each
    size_t stride;
} product;

// Into rows of the scratch.
static product product_to(const weight *w, float *out) { return (product){w, out, row_floats(w->rows)}; }

// Puts row `row` of x into every form that the weights ask for.
static void prepare(const kernels *k, inputs *in, const weight *const w[], int n_weights, uint32_t row,
                    const float *x) {
    unsigned done = 1u << ACT_F32; // the float form is the row itself
    for (int i = 0; i < n_weights; i++) {
        act_group group = w[i]->group;
        if (done & (1u << group)) continue;
        done |= 1u << group;
        k->quantise(&in->form[group], row, 0, w[i]->cols / act_group_size(group), x);
    }
}

// Panels [first, first + n) of the product of some rows of x, which is in `in` as well. out has the first row's first.
static void multiply_panels(const run *r, const inputs *in, const float *x, const weight *w, rows some, uint32_t first,
                            uint32_t n, float *out, size_t stride) {
    acts all = in->form[w->group];
    all.f = x, all.f_stride = row_floats(w->cols);
    const acts a = acts_rows(&all, some.first, some.n);
    r->m->kernels->matmul(w, &a, first, n, out, stride);
}

// A chunk is some panels of a group's rows, a multiple of `unit`: about eight chunks a worker, but at least and at most
// so many panels.
typedef struct panels {
    uint32_t total, per_chunk, chunks_a_group;
    op_chunks chunks;
} panels;

static panels panels_of(const run *r, uint32_t total, uint32_t unit, uint32_t least, uint32_t most) {
    uint32_t n = total * r->set->n_groups / (8 * (uint32_t)r->n_workers);
    n = n < least ? least : n > most ? most : n;
    n = n < unit ? unit : n / unit * unit;
    const uint32_t n_chunks = (total + n - 1) / n;
    return (panels){total, n, n_chunks, by_share(r, n_chunks)};
}

static uint32_t first_panel(const panels *p, uint32_t chunk) { return chunk % p->chunks_a_group * p->per_chunk; }
static uint32_t panels_of_chunk(const run *r, const panels *p, uint32_t chunk) {
    const uint32_t left = p->total - first_panel(p, chunk);
    return chunk >= r->set->n_groups * p->chunks_a_group ? 0 : left < p->per_chunk ? left : p->per_chunk;
}

#define for_panels(r, o, p, some, first, n)                                                                            \
    op_for_groups((o), (p).chunks,                                                                                     \
                  chunk) for (uint32_t first = first_panel(&(p), chunk), n = panels_of_chunk((r), &(p), chunk); n;     \
                              n = 0) for (rows some = rows_of_group((r), chunk / (p).chunks_a_group); some.n;          \
                                          some.n = 0)

// An op whose chunks are all claimed, and may still be under way. At the end of a step pool_run waits for it.
typedef struct pending {
    op *o;
    uint32_t n_chunks;
} pending;

// Whether to go on with an op of n_next chunks. If it has but one, who ends the op before takes it and the others wait
// for that alone: a wait less.
static bool goes_on(pending before, uint32_t n_next) {
    if (n_next == 1) return op_done(before.o, before.n_chunks);
    op_wait(before.o, before.n_chunks);
    return true;
}

// All rows times the whole matrix. Each chunk reads its group's activations anew: if they are more than stays in a
// second cache it has many panels (prefill of 512, 1.2 and 1.5 billion weights: 1.02 to 1.045 times as fast).
static pending multiply(const run *r, op *o, const inputs *in, const float *x, product p) {
    const size_t acts_bytes = r->set->group_rows * (size_t)p.w->cols * 2;
    const panels all = panels_of(r, p.w->n_panels, 2, acts_bytes > NEAR_BYTES ? FAR_PANELS : 0, UINT32_MAX);
    for_panels(r, o, all, some, first, n)
        multiply_panels(r, in, x, p.w, some, first, n, p.out + some.first * p.stride + 16 * (size_t)first, p.stride);
    return (pending){o, op_total(all.chunks)};
}

// ---- row-wise ops ------------------------------------------------------------------------------------------------

#define for_rows(r, o, row)                                                                                            \
    op_for_groups((o), row_chunks(r), chunk) for (rows some = rows_of_chunk((r), chunk); some.n;                       \
                                                  some.n = 0) for (uint32_t row = some.first;                          \
                                                                   row < some.first + some.n; row++)
#define wait_rows(r, o) op_wait((o), op_total(row_chunks(r)))

static op_chunks row_chunks(const run *r) { return by_group(r, (r->set->group_rows + ROW_CHUNK - 1) / ROW_CHUNK); }

static rows rows_of_chunk(const run *r, uint32_t chunk) {
    uint32_t per_group = row_chunks(r).per_group;
    rows group = rows_of_group(r, chunk / per_group);
    uint32_t from = chunk % per_group * ROW_CHUNK, left = from < group.n ? group.n - from : 0;
    return (rows){group.first + from, left < ROW_CHUNK ? left : ROW_CHUNK};
}

// Residual add (when there is something to add), norm, and the forms that the next products want.
static void norm_rows(const run *r, pending before, op *o, bool add, const float *norm, inputs *in,
                      const weight *const w[], int n_weights) {
    const model_config *c = &r->m->config;
    const kernels *k = r->m->kernels;
    scratch *s = r->s;
    const size_t stride = row_floats(c->d_model);
    if (goes_on(before, op_total(row_chunks(r)))) {
        for_rows(r, o, row) {
            float *x = s->x + r->set->step_row[row] * stride, *h = s->h ? s->h + row * stride : desk(r, stride);
            if (add) k->add(x, s->y + row * stride, c->d_model);
            k->rmsnorm(x, norm, c->rms_eps, c->d_model, h);
            prepare(k, in, w, n_weights, row, h);
        }
    }
    wait_rows(r, o);
}

// ---- queries, keys, values ---------------------------------------------------------------------------------------

typedef enum head_kind { QUERY, KEY, VALUE } head_kind;

// Bias, rotation, scaling of queries; keys and values go into their page. x: the head's vector of one row.
static void place_head(const run *r, uint32_t layer_index, head_kind kind, uint32_t head, uint32_t row, float *x) {
    const model_config *c = &r->m->config;
    const layer *l = &r->m->layers[layer_index];
    const kernels *k = r->m->kernels;
    const float *bias = kind == QUERY ? l->q_bias : kind == KEY ? l->k_bias : l->v_bias;
    if (bias) k->add(x, bias + (size_t)head * c->head_dim, c->head_dim);
    if (kind != VALUE) k->rope(x, 1, c->head_dim, c->n_rot, r->s->rotary + (size_t)row * c->n_rot, c->rope_neox);
    if (kind == QUERY) return k->scale(x, 1.0f / sqrtf((float)c->head_dim), c->head_dim);
    uint32_t pos = r->s->row_pos[row];
    uint8_t *page = page_of(r, r->s->row_seq[row], pos / KV_PAGE_TOKENS, layer_index, head);
    (kind == KEY ? k->kv_store_key : k->kv_store_value)(r->m->kv_type, page, pos % KV_PAGE_TOKENS, c->head_dim, x);
}

// A chunk is one head of one kind of a group's rows, from its product to its place.
static void project_heads(const run *r, op *o, uint32_t layer_index, const weight *const qkv[]) {
    const model_config *c = &r->m->config;
    const uint32_t total = c->n_heads + 2 * c->n_kv_heads, n_panels = c->head_dim / 16;
    const op_chunks all = by_share(r, total);
    op_for_groups(o, all, chunk) {
        if (chunk >= r->set->n_groups * total) continue;
        const rows some = rows_of_group(r, chunk / total);
        const uint32_t i = chunk % total;
        bool is_query = i < c->n_heads;
        uint32_t of_kv = is_query ? 0 : i - c->n_heads, head = is_query ? i : of_kv % c->n_kv_heads;
        head_kind kind = is_query ? QUERY : of_kv < c->n_kv_heads ? KEY : VALUE;
        const size_t stride = row_floats(is_query ? c->n_heads * c->head_dim : c->head_dim);
        float *x = is_query ? r->s->q + some.first * stride + (size_t)head * c->head_dim : desk(r, some.n * stride);
        multiply_panels(r, &r->s->in_qkv, r->s->h, qkv[kind], some, head * n_panels, n_panels, x, stride);
        for (uint32_t row = some.first; row < some.first + some.n; row++, x += stride)
            place_head(r, layer_index, kind, head, row, x);
    }
    op_wait(o, op_total(all));
}

// ---- the gated half of a layer -----------------------------------------------------------------------------------

// A chunk is some panels of gate and up, from the products to what down reads: as many as make whole groups of it. What
// lies between stays on the worker's desk, in its second cache: prefill of 512 is 1.02 to 1.06 times as fast as with
// rows of d_ffn for all.
static void gate_and_up(const run *r, op *o, const layer *l) {
    const kernels *k = r->m->kernels;
    scratch *s = r->s;
    const act_group group = l->down.group;
    const uint32_t size = act_group_size(group), d_ffn = l->down.cols;
    const panels all = panels_of(r, l->gate.n_panels, gated_unit(&l->down), 0, DESK_FLOATS / 16 / r->set->group_rows);
    for_panels(r, o, all, some, first, n) {
        const size_t stride = 16 * (size_t)n + 16;
        float *gate = desk(r, 2 * some.n * stride), *up = gate + some.n * stride;
        multiply_panels(r, &r->set->in_up, s->h, &l->gate, some, first, n, gate, stride);
        multiply_panels(r, &r->set->in_up, s->h, &l->up, some, first, n, up, stride);
        const uint32_t at = 16 * first, n_floats = at + 16 * n < d_ffn ? 16 * n : d_ffn - at;
        for (uint32_t row = some.first; row < some.first + some.n; row++, gate += stride, up += stride) {
            float *out = group == ACT_F32 ? s->gated + row * row_floats(d_ffn) + at : gate;
            k->silu_mul(gate, up, n_floats, out);
            if (group != ACT_F32) k->quantise(&r->set->in_down.form[group], row, at / size, n_floats / size, out);
        }
    }
    op_wait(o, op_total(all.chunks));
}

// ---- attention ---------------------------------------------------------------------------------------------------

typedef struct query {
    uint32_t step_row, row, head, n_keys; // row: of the set
} query;

static uint32_t tile_queries(const run *r, const tile *t, query *out) {
    const model_config *c = &r->m->config;
    const rows seq = r->set->of_seq[t->seq];
    uint32_t group = c->n_heads / c->n_kv_heads, n = seq.n * group - t->first;
    if (n > ATTN_MAX_QUERIES) n = ATTN_MAX_QUERIES;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = seq.first + (t->first + i) / group, step_row = r->set->step_row[row];
        out[i] = (query){step_row, row, t->kv_head * group + (t->first + i) % group, r->s->row_pos[step_row] + 1};
    }
    return n;
}

static size_t part_index(const run *r, uint32_t slot, uint32_t block) {
    return ((size_t)slot * max_blocks(r->s->max_context) + block) * ATTN_MAX_QUERIES;
}

static void attend_block(const run *r, uint32_t layer_index, const tile *t, const query *q, uint32_t n_q,
                         uint32_t block, uint32_t slot, const uint8_t *after) {
    const model_config *c = &r->m->config;
    const scratch *s = r->s;
    size_t part = part_index(r, slot, block);
    attn_job job = {.kv_type = r->m->kv_type,
                    .n_q = n_q,
                    .head_dim = c->head_dim,
                    .after = after,
                    .max = s->part_max + part,
                    .sum = s->part_sum + part,
                    .out = s->part_out + part * c->head_dim};
    uint32_t start = block * ATTN_BLOCK, most = 0;
    for (uint32_t i = 0; i < n_q; i++) {
        uint32_t n = q[i].n_keys > start ? q[i].n_keys - start : 0;
        job.q[i] = s->q + q[i].step_row * row_floats(c->n_heads * c->head_dim) + (size_t)q[i].head * c->head_dim;
        job.n_keys[i] = n < ATTN_BLOCK ? n : ATTN_BLOCK;
        if (job.n_keys[i] > most) most = job.n_keys[i];
    }
    for (uint32_t p = 0; p * KV_PAGE_TOKENS < most; p++)
        job.pages[p] = page_of(r, t->seq, start / KV_PAGE_TOKENS + p, layer_index, t->kv_head);
    r->m->kernels->attn_block(&job);
}

static void merge_tile(const run *r, const query *q, uint32_t n_q, uint32_t slot, const weight *output) {
    const model_config *c = &r->m->config;
    const scratch *s = r->s;
    size_t part = part_index(r, slot, 0);
    for (uint32_t i = 0; i < n_q; i++) {
        float *out = desk(r, c->head_dim);
        if (!heads_are_groups(r->m, output))
            out = s->att + q[i].row * row_floats(c->n_heads * c->head_dim) + (size_t)q[i].head * c->head_dim;
        r->m->kernels->attn_merge(max_blocks(q[i].n_keys), c->head_dim, s->part_max + part + i, s->part_sum + part + i,
                                  ATTN_MAX_QUERIES, s->part_out + (part + i) * c->head_dim,
                                  (size_t)ATTN_MAX_QUERIES * c->head_dim, out);
        if (heads_are_groups(r->m, output))
            r->m->kernels->quantise(&r->set->in_att.form[ACT_C32], q[i].row, q[i].head * c->head_dim / 32,
                                    c->head_dim / 32, out);
    }
}

static uint32_t tile_blocks(const query *q, uint32_t n_q) { return max_blocks(q[n_q - 1].n_keys); }

// The page with which a worker most likely goes on: of the next block or the next tile. Null if there is none.
static const uint8_t *after_block(const run *r, uint32_t layer_index, uint32_t tile_index, uint32_t block,
                                  uint32_t n_blocks) {
    const bool last = block + 1 == n_blocks;
    if (last && ++tile_index == r->set->n_tiles) return NULL;
    const tile *t = &r->set->tiles[tile_index];
    return page_of(r, t->seq, last ? 0 : (block + 1) * (ATTN_BLOCK / KV_PAGE_TOKENS), layer_index, t->kv_head);
}

// Many tiles, or tiles of one block: a worker takes whole tiles. They lie as their rows do, so that a group's are about
// those of its rows.
static void attend_tiles(const run *r, uint32_t layer_index, op *o, const weight *output) {
    query q[ATTN_MAX_QUERIES];
    const op_chunks all = by_group(r, (r->set->n_tiles + r->set->n_groups - 1) / r->set->n_groups);
    op_for_groups(o, all, c) {
        if (c >= r->set->n_tiles) continue;
        const tile *t = &r->set->tiles[c];
        uint32_t n_q = tile_queries(r, t, q), slot = (uint32_t)r->worker;
        for (uint32_t b = 0; b < tile_blocks(q, n_q); b++)
            attend_block(r, layer_index, t, q, n_q, b, slot, after_block(r, layer_index, c, b, tile_blocks(q, n_q)));
        merge_tile(r, q, n_q, slot, output);
    }
    op_wait(o, op_total(all));
}

// Few: it takes blocks of tiles, and a second op merges. The bits are the same.
static void attend_blocks(const run *r, uint32_t layer_index, op *o, op *merge, const weight *output) {
    query q[ATTN_MAX_QUERIES];
    op_for(o, r->set->n_tiles * r->set->n_blocks, c) {
        uint32_t slot = c / r->set->n_blocks, b = c % r->set->n_blocks;
        uint32_t n_q = tile_queries(r, &r->set->tiles[slot], q);
        if (b < tile_blocks(q, n_q)) attend_block(r, layer_index, &r->set->tiles[slot], q, n_q, b, slot, NULL);
    }
    op_wait(o, r->set->n_tiles * r->set->n_blocks);
    op_for(merge, r->set->n_tiles, slot) {
        uint32_t n_q = tile_queries(r, &r->set->tiles[slot], q);
        merge_tile(r, q, n_q, slot, output);
    }
    op_wait(merge, r->set->n_tiles);
}

// From queries to what the output matrix reads.
static void attend(const run *r, uint32_t layer_index, op *o, op *merge, op *group, const weight *output) {
    const scratch *s = r->s;
    if (r->set->split_blocks)
        attend_blocks(r, layer_index, o, merge, output);
    else
        attend_tiles(r, layer_index, o, output);
    if (output->group == ACT_F32 || heads_are_groups(r->m, output)) return;
    for_rows(r, group, row)
        prepare(r->m->kernels, &r->set->in_att, &output, 1, row, s->att + row * row_floats(output->cols));
    wait_rows(r, group);
}

// ---- the line of ops ---------------------------------------------------------------------------------------------

// In the last layer rows that nobody wants end with their keys and values (prefill of 512: 1.03 to 1.05 times as fast).
static pending run_layer(run *r, uint32_t i, pending before, op *o) {
    const layer *l = &r->m->layers[i];
    scratch *s = r->s;
    const weight *const qkv[] = {[QUERY] = &l->q, [KEY] = &l->k, [VALUE] = &l->v};

    norm_rows(r, before, &o[0], i > 0, l->attn_norm, &s->in_qkv, qkv, 3);
    project_heads(r, &o[1], i, qkv);
    if (i + 1 == r->m->config.n_layers) r->set = &s->wanted;
    if (r->set->n_rows == 0) return before;
    attend(r, i, &o[2], &o[3], &o[4], &l->o);
    before = multiply(r, &o[5], &r->set->in_att, s->att, product_to(&l->o, s->y));
    norm_rows(r, before, &o[6], true, l->ffn_norm, &r->set->in_up, (const weight *const[]){&l->gate, &l->up}, 2);
    gate_and_up(r, &o[7], l);
    return multiply(r, &o[8], &r->set->in_down, s->gated, product_to(&l->down, s->y));
}

// The rows that somebody wants, normed: hidden states as they are, the others through the head.
static void run_head(const run *r, pending before, op *o) {
    const model_config *c = &r->m->config;
    const kernels *k = r->m->kernels;
    scratch *s = r->s;
    const size_t stride = row_floats(c->d_model);
    row_set together = *r->set; // all workers on all of them
    together.n_groups = 1, together.group_rows = together.n_rows;
    run wanted = *r;
    wanted.set = &together;
    product head = {&r->m->head, r->step->logits, (size_t)r->m->head.n_panels * 16};
    if (goes_on(before, op_total(row_chunks(&wanted)))) {
        for_rows(&wanted, &o[0], row) {
            const bool is_hidden = row >= r->n_logits;
            float *x = s->x + together.step_row[row] * stride,
                  *h = is_hidden ? r->step->hidden + (row - r->n_logits) * model_hidden_stride(r->m)
                                 : s->head_rows + row * stride;
            k->add(x, s->y + row * stride, c->d_model);
            k->rmsnorm(x, r->m->output_norm, c->rms_eps, c->d_model, h);
            if (!is_hidden) prepare(k, &s->in_head, &head.w, 1, row, h);
        }
    }
    wait_rows(&wanted, &o[0]);
    together.n_rows = together.group_rows = r->n_logits;
    if (r->n_logits) multiply(&wanted, &o[1], &s->in_head, s->head_rows, head);
}

static void run_step(void *arg, int worker) {
    run mine = *(const run *)arg, *r = &mine;
    r->worker = worker;
    op *o = r->s->ops;
    for_rows(r, o, row) embed_row(r, row);
    pending before = {o, op_total(row_chunks(r))};
    o++;
    for (uint32_t i = 0; i < r->m->config.n_layers; i++, o += OPS_PER_LAYER) before = run_layer(r, i, before, o);
    if (r->set->n_rows > 0) run_head(r, before, o);
}

void model_forward(const model *m, const step *step, scratch *s, pool *threads) {
    run r = {.m = m, .step = step, .s = s, .n_workers = pool_size(threads), .set = &s->all};
    describe_all(&r);
    describe_wanted(&r);
    check(s->all.n_rows > 0 && r.n_workers * SLOTS_A_WORKER <= (int)s->n_slots);
    ops_reset(s->ops, (size_t)m->config.n_layers * OPS_PER_LAYER + OPS_AROUND);
    pool_run(threads, run_step, &r);
}

// Implements sample.h.
//
// What top-k, top-p and min-p keep is a prefix of the ranking, so a full sort is never needed: top-k is a bounded heap
// over one scan; top-p sorts only tokens likely enough to be in the nucleus; without either the drawing walks the
// tokens by id. `kept` is the set under construction, best first once ranked. A token is sampled while all processors
// but one wait: each block's largest logit is found in lanes, once, and most blocks are not looked at again.
#include "engine/sample.h"

#include "base/err.h"
#include "kernel/canon.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, BLOCK = 4 * LANES };

typedef struct candidate {
    float logit, weight; // weight: exp(logit - best), later at the temperature
    int32_t id;
} candidate;

struct sampler {
    uint32_t n_vocab, n_kept;
    uint32_t n_peaks;
    float best;       // largest logit after bias and penalties
    float *logits;    // [n_vocab] after bias and penalties, if there are any
    float *peaks;     // [n_peaks] the largest of each BLOCK of them
    uint32_t *counts; // [n_vocab] occurrences in the window; all zero between calls
    candidate *kept;  // [n_vocab]
};

sampler *sampler_new(uint32_t n_vocab) {
    sampler *s = xcalloc(1, sizeof *s);
    s->n_vocab = n_vocab;
    s->n_peaks = (n_vocab + BLOCK - 1) / BLOCK;
    s->peaks = xcalloc(s->n_peaks, sizeof *s->peaks);
    s->logits = xcalloc(n_vocab, sizeof *s->logits);
    s->counts = xcalloc(n_vocab, sizeof *s->counts);
    s->kept = xcalloc(n_vocab, sizeof *s->kept);
    return s;
}

void sampler_free(sampler *s) {
    if (!s) return;
    free(s->logits), free(s->peaks), free(s->counts), free(s->kept);
    free(s);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

void sample_philox(const uint32_t key[2], uint32_t counter[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        uint64_t a = (uint64_t)0xD2511F53 * counter[0], b = (uint64_t)0xCD9E8D57 * counter[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ counter[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ counter[3] ^ k1,
                            (uint32_t)a};
        memcpy(counter, next, sizeof next);
    }
}

// The draw for one position: 53 bits in [0, 1).
static double draw(uint64_t seed, uint32_t position) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, counter[4] = {position, 0, 0, 0};
    sample_philox(key, counter);
    return (double)(((uint64_t)counter[0] << 32 | counter[1]) >> 11) * 0x1p-53;
}

// By bits: a comparison with an infinity would do, but must also survive whatever the compiler assumes about NaN.
static uint32_t is_not_finite(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7F800000) == 0x7F800000;
}

static bool all_finite(const float *x, uint32_t n) {
    uint32_t bad[LANES] = {0}, i = 0;
    for (; n - i >= LANES; i += LANES)
        for (uint32_t l = 0; l < LANES; l++) bad[l] |= is_not_finite(x[i + l]);
    for (; i < n; i++) bad[0] |= is_not_finite(x[i]);
    for (uint32_t l = 1; l < LANES; l++) bad[0] |= bad[l];
    return !bad[0];
}

static float largest(const float *x, uint32_t n) {
    float best = x[0];
    for (uint32_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

// Of one whole block, in lanes.
static float largest_of_block(const float *x) {
    float best[LANES];
    memcpy(best, x, sizeof best);
    for (uint32_t i = LANES; i < BLOCK; i += LANES)
        for (uint32_t l = 0; l < LANES; l++) best[l] = x[i + l] > best[l] ? x[i + l] : best[l];
    return largest(best, LANES);
}

static uint32_t block_end(uint32_t begin, uint32_t n) { return begin + least(n - begin, BLOCK); }

static void find_peaks(sampler *s, const float *x) {
    uint32_t n_whole = s->n_vocab / BLOCK;
    for (uint32_t b = 0; b < n_whole; b++) s->peaks[b] = largest_of_block(x + b * BLOCK);
    if (n_whole < s->n_peaks) s->peaks[n_whole] = largest(x + n_whole * BLOCK, s->n_vocab % BLOCK);
}

// The first of the largest.
static int32_t argmax(const sampler *s, const float *x) {
    float best = largest(s->peaks, s->n_peaks);
    uint32_t at = 0;
    while (s->peaks[at] != best) at++;
    at *= BLOCK;
    while (x[at] != best) at++;
    return (int32_t)at;
}

static bool ranks_before(candidate a, candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

// A heap whose root ranks last.
static void sift(candidate *heap, uint32_t n, uint32_t at) {
    candidate moved = heap[at];
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && ranks_before(heap[child], heap[child + 1])) child++;
        if (!ranks_before(moved, heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void heapify(candidate *heap, uint32_t n) {
    for (uint32_t i = n / 2; i-- > 0;) sift(heap, n, i);
}

// Best first: the root, ranking last, goes to the end.
static void sort_heap(candidate *heap, uint32_t n) {
    while (n > 1) {
        candidate last = heap[0];
        heap[0] = heap[--n];
        heap[n] = last;
        sift(heap, n, 0);
    }
}

static void keep_all(sampler *s, const float *logits) {
    for (uint32_t i = 0; i < s->n_vocab; i++) s->kept[i] = (candidate){.logit = logits[i], .id = (int32_t)i};
    s->n_kept = s->n_vocab;
}

// The k of n that rank first come first, ranked.
static void rank_best(candidate *c, uint32_t n, uint32_t k) {
    heapify(c, k);
    for (uint32_t i = k; i < n; i++) {
        if (!ranks_before(c[i], c[0])) continue;
        c[0] = c[i];
        sift(c, k, 0);
    }
    sort_heap(c, k);
}

// What k tokens, one in each of k blocks, reach: the k that rank first are not below it.
static float reached_by(sampler *s, uint32_t k) {
    if (s->n_peaks < k) return -FLT_MAX;
    for (uint32_t b = 0; b < s->n_peaks; b++) s->kept[b] = (candidate){.logit = s->peaks[b], .id = (int32_t)b};
    rank_best(s->kept, s->n_peaks, k);
    return s->kept[k - 1].logit;
}

// The k that rank first, ranked.
static void keep_best(sampler *s, const float *logits, uint32_t k) {
    s->n_kept = k;
    if (k == 0) return;
    float floor = reached_by(s, k);
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->n_peaks; b++)
        for (uint32_t i = b * BLOCK; s->peaks[b] >= floor && i < block_end(b * BLOCK, s->n_vocab); i++)
            if (logits[i] >= floor) s->kept[n++] = (candidate){.logit = logits[i], .id = (int32_t)i};
    rank_best(s->kept, n, k);
}

// Finite stays finite: what is added is less than half the distance between the largest floats.
static void add_bias(sampler *s, const sample_params *p) {
    for (uint32_t i = 0; i < p->n_logit_bias; i++) s->logits[p->logit_bias[i].token] += p->logit_bias[i].bias;
}

static bool penalises(const sample_params *p) {
    return p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static void penalise(sampler *s, const sample_params *p, const int32_t *history, uint32_t n_history) {
    uint32_t n = p->penalty_last_n && p->penalty_last_n < n_history ? p->penalty_last_n : n_history;
    const int32_t *window = history + (n_history - n);
    for (uint32_t i = 0; i < n; i++) s->counts[window[i]]++;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *count = &s->counts[window[i]];
        if (!*count) continue; // an earlier occurrence has paid
        float x = s->logits[window[i]];
        x = x > 0 ? x / p->repeat_penalty : x * p->repeat_penalty;
        x -= p->presence_penalty + (float)*count * p->frequency_penalty;
        s->logits[window[i]] = x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
        *count = 0;
    }
}

// Weights at a temperature, relative to the best logit; their sum in the order of `kept`.
static double weigh(sampler *s, float temperature) {
    double total = 0;
    for (uint32_t i = 0; i < s->n_kept; i++) {
        s->kept[i].weight = canon_exp((s->kept[i].logit - s->best) / temperature);
        total += (double)s->kept[i].weight;
    }
    return total;
}

// The shortest prefix that holds top_p of the mass. All tokens lighter than (1 - top_p)/n of it weigh less than
// 1 - top_p together, so the prefix ends before them and they need not be sorted.
static void keep_nucleus(sampler *s, float top_p) {
    double total = weigh(s, 1), least = total * (1 - (double)top_p) / s->n_kept, sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_kept; i++)
        if ((double)s->kept[i].weight >= least) s->kept[n++] = s->kept[i];
    heapify(s->kept, n);
    sort_heap(s->kept, n);
    s->n_kept = 0;
    while (s->n_kept < n && sum < total * (double)top_p) sum += (double)s->kept[s->n_kept++].weight;
}

static void keep_likely(sampler *s, float min_p) {
    float least = s->best + canon_log(min_p);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_kept; i++)
        if (s->kept[i].logit >= least) s->kept[n++] = s->kept[i];
    s->n_kept = n;
}

int32_t sample_token(sampler *s, const sample_params *p, const float *logits, const int32_t *history,
                     uint32_t n_history) {
    if (!all_finite(logits, s->n_vocab)) return SAMPLE_FAILED;
    if (p->n_logit_bias || penalises(p)) {
        memcpy(s->logits, logits, s->n_vocab * sizeof *logits);
        add_bias(s, p);
        if (penalises(p)) penalise(s, p, history, n_history);
        logits = s->logits;
    }
    find_peaks(s, logits);
    int32_t best = argmax(s, logits);
    if (p->temperature == 0) return best;

    s->best = logits[best];
    if (p->top_k && p->top_k < s->n_vocab)
        keep_best(s, logits, p->top_k);
    else
        keep_all(s, logits);
    if (p->top_p < 1) keep_nucleus(s, p->top_p);
    if (p->min_p > 0) keep_likely(s, p->min_p);

    double target = draw(p->seed, n_history) * weigh(s, p->temperature), sum = (double)s->kept[0].weight;
    uint32_t chosen = 0;
    while (sum <= target) {
        check(++chosen < s->n_kept); // the draw is below 1, so it falls inside the sum
        sum += (double)s->kept[chosen].weight;
    }
    return s->kept[chosen].id;
}

bool sample_logprobs(sampler *s, const float *logits, int32_t token, uint32_t n_top, rf_token_logprob *out) {
    if (!all_finite(logits, s->n_vocab)) return false;
    find_peaks(s, logits);
    s->best = largest(s->peaks, s->n_peaks);
    keep_all(s, logits);
    float log_total = s->best + canon_log((float)weigh(s, 1));
    out[0] = (rf_token_logprob){token, logits[token] - log_total};
    keep_best(s, logits, n_top);
    for (uint32_t i = 0; i < n_top; i++) out[1 + i] = (rf_token_logprob){s->kept[i].id, s->kept[i].logit - log_total};
    return true;
}

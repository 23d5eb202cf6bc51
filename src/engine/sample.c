// Implements sample.h.
//
// What top-k, top-p and min-p keep is a prefix of the ranking, so a full sort is never needed: top-k is a bounded heap
// over one scan; top-p sorts only tokens likely enough to be in the nucleus; without either the drawing walks the
// tokens by id. `kept` is the set under construction, best first once ranked.
#include "engine/sample.h"

#include "base/err.h"
#include "kernel/canon.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    float logit, weight; // weight: exp(logit - best), later at the temperature
    int32_t id;
} candidate;

struct sampler {
    uint32_t n_vocab;
    uint32_t n_kept;
    float best;       // largest logit after bias and penalties
    float *logits;    // [n_vocab] after bias and penalties
    uint32_t *counts; // [n_vocab] occurrences in the window; all zero between calls
    candidate *kept;  // [n_vocab]
};

sampler *sampler_new(uint32_t n_vocab) {
    sampler *s = xcalloc(1, sizeof *s);
    s->n_vocab = n_vocab;
    s->logits = xcalloc(n_vocab, sizeof *s->logits);
    s->counts = xcalloc(n_vocab, sizeof *s->counts);
    s->kept = xcalloc(n_vocab, sizeof *s->kept);
    return s;
}

void sampler_free(sampler *s) {
    if (!s) return;
    free(s->logits), free(s->counts), free(s->kept);
    free(s);
}

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
static bool all_finite(const float *x, uint32_t n) {
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        bad |= (bits & 0x7F800000) == 0x7F800000;
    }
    return !bad;
}

static int32_t argmax(const float *x, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
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

// The k that rank first, ranked. Ids ascend, so a later token must be strictly better to replace the root.
static void keep_best(sampler *s, const float *logits, uint32_t k) {
    s->n_kept = k;
    for (uint32_t i = 0; i < k; i++) s->kept[i] = (candidate){.logit = logits[i], .id = (int32_t)i};
    heapify(s->kept, k);
    for (uint32_t i = k; i < s->n_vocab; i++) {
        if (k == 0 || logits[i] <= s->kept[0].logit) continue;
        s->kept[0] = (candidate){.logit = logits[i], .id = (int32_t)i};
        sift(s->kept, k, 0);
    }
    sort_heap(s->kept, k);
}

// Finite stays finite: what is added is less than half the distance between the largest floats.
static void add_bias(sampler *s, const sample_params *p) {
    for (uint32_t i = 0; i < p->n_logit_bias; i++) s->logits[p->logit_bias[i].token] += p->logit_bias[i].bias;
}

static void penalise(sampler *s, const sample_params *p, const int32_t *history, uint32_t n_history) {
    if (p->repeat_penalty == 1 && p->presence_penalty == 0 && p->frequency_penalty == 0) return;
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
    memcpy(s->logits, logits, s->n_vocab * sizeof *logits);
    add_bias(s, p);
    penalise(s, p, history, n_history);
    int32_t best = argmax(s->logits, s->n_vocab);
    if (p->temperature == 0) return best;

    s->best = s->logits[best];
    if (p->top_k && p->top_k < s->n_vocab)
        keep_best(s, s->logits, p->top_k);
    else
        keep_all(s, s->logits);
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
    s->best = logits[argmax(logits, s->n_vocab)];
    keep_all(s, logits);
    float log_total = s->best + canon_log((float)weigh(s, 1));
    out[0] = (rf_token_logprob){token, logits[token] - log_total};
    keep_best(s, logits, n_top);
    for (uint32_t i = 0; i < n_top; i++) out[1 + i] = (rf_token_logprob){s->kept[i].id, s->kept[i].logit - log_total};
    return true;
}

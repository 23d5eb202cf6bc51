// Implements schedule.h.
#include "engine/schedule.h"

#include <stdlib.h>
#include <string.h>

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

uint32_t schedule_logits_rows(uint32_t max_running, uint32_t speculate) {
    uint64_t n_drafts = (uint64_t)max_running * speculate;
    return max_running + (uint32_t)(n_drafts < DRAFT_MOST ? n_drafts : DRAFT_MOST);
}

void schedule_init(schedule *s, uint32_t max_running, uint32_t max_queue, uint32_t step_tokens, uint32_t speculate) {
    check(max_running >= 1 && step_tokens >= max_running && speculate <= DRAFT_MOST);
    *s = (schedule){.max_running = max_running,
                    .max_waiting = max_queue + max_running,
                    .step_tokens = step_tokens,
                    .speculate = speculate};
    s->running = xcalloc(max_running, sizeof *s->running);
    s->planned = xcalloc(max_running, sizeof *s->planned);
    s->waiting = xcalloc(s->max_waiting, sizeof *s->waiting);
}

void schedule_free(schedule *s) {
    check(s->n_running == 0 && s->n_waiting == 0);
    free(s->running), free(s->planned), free(s->waiting);
}

static void set_insert(sequence **set, uint32_t *n, uint32_t capacity, sequence *q) {
    check(*n < capacity);
    uint32_t at = (*n)++;
    for (; at > 0 && sequence_before(q, set[at - 1]); at--) set[at] = set[at - 1];
    set[at] = q;
}

static void set_remove(sequence **set, uint32_t *n, const sequence *q) {
    uint32_t at = 0;
    while (at < *n && set[at] != q) at++;
    check(at < *n);
    memmove(set + at, set + at + 1, (--*n - at) * sizeof *set);
}

void schedule_add(schedule *s, sequence *q) {
    q->ticket = s->next_ticket++;
    set_insert(s->waiting, &s->n_waiting, s->max_waiting, q);
}

void schedule_remove(schedule *s, sequence *q, kv *k) {
    if (q->running)
        set_remove(s->running, &s->n_running, q);
    else
        set_remove(s->waiting, &s->n_waiting, q);
    kv_release(k, &q->kv);
    q->running = false, q->n_planned = 0;
}

// Everything it has cached is forgotten; the same tokens read again give the same bytes (law 5).
static void preempt(schedule *s, sequence *q, kv *k) {
    schedule_remove(s, q, k);
    set_insert(s->waiting, &s->n_waiting, s->max_waiting, q);
    s->n_preempted++;
}

static bool is_decoding(const sequence *q) { return sequence_pending(q) == 1; }

// Of `left` tokens, as many as q can use now.
static uint32_t chunk_of(const schedule *s, const sequence *q, uint32_t left) {
    uint32_t n = least(sequence_pending(q), left);
    return q->n_unscored ? least(n, 1 + s->n_spare) : n;
}

static void take_chunk(schedule *s, sequence *q, uint32_t n) {
    q->n_planned = n;
    if (q->n_unscored && n) s->n_spare -= n - 1;
}

// Shares out the step's tokens: decoders one each, then prefill in order. Returns what is left.
static uint32_t share_budget(schedule *s) {
    uint32_t left = s->step_tokens;
    s->n_spare = schedule_logits_rows(s->max_running, s->speculate);
    s->n_spare -= least(s->max_running, s->n_running + s->n_waiting);
    for (uint32_t i = 0; i < s->n_running; i++) left -= s->running[i]->n_planned = is_decoding(s->running[i]);
    for (uint32_t i = 0; i < s->n_running; i++) {
        sequence *q = s->running[i];
        if (is_decoding(q)) continue;
        take_chunk(s, q, chunk_of(s, q, left));
        left -= q->n_planned;
    }
    return left;
}

// In order of service; whoever comes later pays. The last one makes do with what there is, perhaps nothing.
static void reserve_running(schedule *s, kv *k) {
    for (uint32_t i = 0; i < s->n_running; i++) {
        sequence *q = s->running[i];
        while (!kv_reserve(k, &q->kv, q->kv.n_cached + q->n_planned)) {
            if (i + 1 < s->n_running) {
                preempt(s, s->running[s->n_running - 1], k);
                continue;
            }
            q->n_planned = kv_reach(k, &q->kv) - q->kv.n_cached;
        }
    }
}

// Will this step fill a page that q, which holds what the index has, could have used? Each time it is asked to wait,
// another page of its own tokens is made, so it does not wait for ever.
static bool made_by_others(const schedule *s, const sequence *q) {
    uint32_t n_tokens = q->kv.n_cached + KV_PAGE_TOKENS;
    if (n_tokens > sequence_skippable(q)) return false;
    for (uint32_t i = 0; i < s->n_running; i++) {
        const sequence *r = s->running[i];
        if (r->kv.n_cached + r->n_planned >= n_tokens &&
            memcmp(r->tokens, q->tokens, n_tokens * sizeof *q->tokens) == 0 && strcmp(r->salt, q->salt) == 0)
            return true;
    }
    return false;
}

// Starts q with what is cached of it and pages for its next chunk; false, and nothing taken, if it must wait. A chunk
// is never trimmed to the pages left: with less than that, reading it would soon be for nothing.
static bool begin(schedule *s, sequence *q, kv *k, uint32_t left) {
    kv_adopt(k, &q->kv, sequence_skippable(q));
    uint32_t n = chunk_of(s, q, left);
    if (!made_by_others(s, q) && kv_reserve(k, &q->kv, q->kv.n_cached + n)) {
        take_chunk(s, q, n);
        return true;
    }
    kv_release(k, &q->kv);
    return false;
}

// From the head only: nobody overtakes.
static void admit(schedule *s, kv *k, uint32_t left) {
    while (left && s->n_waiting && s->n_running < s->max_running) {
        sequence *q = s->waiting[0];
        if (!begin(s, q, k, left)) return;
        set_remove(s->waiting, &s->n_waiting, q);
        set_insert(s->running, &s->n_running, s->max_running, q);
        q->running = true;
        left -= q->n_planned;
    }
}

// Guesses, in order of service. What everyone needs of this step is reserved; pages taken here go back at its end if
// the guesses are wrong, so nobody waits for them.
static void share_drafts(schedule *s, kv *k) {
    uint32_t left = least(least(s->step_tokens - s->cost.n_rows, DRAFT_MOST), s->n_spare);
    for (uint32_t i = 0; i < s->n_planned; i++) {
        sequence *q = s->planned[i];
        if (sequence_state(q) != RF_DECODE) continue;
        uint32_t most = least(least(s->speculate, left), draft_afford(q->draft_credit, s->cost));
        most = least(most, least(q->limit - q->n_tokens - 1, kv_reach(k, &q->kv) - q->n_tokens));
        q->n_drafts = draft_find(q->tokens, q->n_tokens, most);
        check(kv_reserve(k, &q->kv, q->n_tokens + q->n_drafts));
        left -= q->n_drafts;
    }
}

void schedule_plan(schedule *s, kv *k) {
    uint32_t left = share_budget(s);
    reserve_running(s, k);
    admit(s, k, left);

    s->n_planned = s->cost.n_rows = 0;
    for (uint32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->n_planned && is_decoding(s->running[i])) s->planned[s->n_planned++] = s->running[i];
    for (uint32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->n_planned && !is_decoding(s->running[i])) s->planned[s->n_planned++] = s->running[i];
    check(s->n_planned || (s->n_running == 0 && s->n_waiting == 0));
    for (uint32_t i = 0; i < s->n_planned; i++) s->cost.n_rows += s->planned[i]->n_planned;
    if (s->speculate) share_drafts(s, k);
}

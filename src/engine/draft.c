// Implements draft.h.
#include "engine/draft.h"

enum { LEAST_MATCH = 3, EARNED = DRAFT_TOKEN / 32, MOST_CREDIT = 4 * DRAFT_TOKEN };

// How far the tokens before a and before b are alike, looking at `most` at most; a < b.
static uint32_t match_length(const int32_t *tokens, uint32_t a, uint32_t b, uint32_t most) {
    uint32_t n = 0;
    while (n < most && n < a && tokens[a - 1 - n] == tokens[b - 1 - n]) n++;
    return n;
}

uint32_t draft_find(int32_t *tokens, uint32_t n_tokens, uint32_t most) {
    uint32_t first = n_tokens > DRAFT_WINDOW ? n_tokens - DRAFT_WINDOW : 0, best = LEAST_MATCH - 1, from = 0;
    uint32_t enough = most + 1 < LEAST_MATCH ? LEAST_MATCH : most + 1;
    for (uint32_t at = n_tokens; most && best < enough && --at > first;) {
        if (tokens[at - 1] != tokens[n_tokens - 1]) continue;
        uint32_t n = match_length(tokens, at, n_tokens, enough);
        if (n > best) best = n, from = at;
    }
    if (!from) return 0;
    uint32_t n = best - 1 < most ? best - 1 : most;
    for (uint32_t i = 0; i < n; i++) tokens[n_tokens + i] = tokens[from + i]; // perhaps guesses themselves
    return n;
}

// One row more slows a step of n tokens down by n_rows / (n_rows + fixed_rows) of a token; a step that leaves the
// single row, for which the kernels are best, by as much again (docs/performance.md).
static uint32_t price(draft_cost c, uint32_t n_drafts) {
    if (n_drafts == 0) return 0;
    return (uint32_t)((uint64_t)(n_drafts + (c.n_rows == 1)) * DRAFT_TOKEN * c.n_rows / (c.n_rows + c.fixed_rows));
}

uint32_t draft_afford(uint32_t credit, draft_cost c) {
    uint32_t n = (uint32_t)((uint64_t)credit * (c.n_rows + c.fixed_rows) / ((uint64_t)DRAFT_TOKEN * c.n_rows));
    return c.n_rows > 1 || n == 0 ? n : n - 1;
}

uint32_t draft_settle(uint32_t credit, draft_cost c, uint32_t n_drafts, uint32_t n_accepted) {
    credit += (n_accepted + 1) * EARNED + n_accepted * DRAFT_TOKEN - price(c, n_drafts);
    return credit < MOST_CREDIT ? credit : MOST_CREDIT;
}

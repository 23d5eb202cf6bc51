// Draft: guesses of the tokens that come next, taken from what came before, and the credit that pays for them.
//
// Text that repeats itself or its prompt says how it goes on: the longest match of the last tokens further back, of
// several the latest, and what followed it there (prompt lookup decoding, Saxena 2023). Measured on answers and source
// files, a match of n tokens goes on for about as many; so a draft is as long as its match less one, and a match under
// three is none: it rarely pays for the row it costs.
// Credit bounds what wrong guesses may cost. It is time, in units of one plain token's: a sequence is born with one
// token's worth, earns a little with every token and the time that each right guess saved, and drafts only what it can
// pay. So speculation costs at most 1/32 of the time, wherever it never pays. Deterministic, stateless but for the
// credit, no memory: a search looks back a bounded distance. Does not know sequences, and what is guessed cannot
// matter: the engine keeps only guesses that equal what it sampled.
#pragma once

#include <stdint.h>

enum {
    DRAFT_MOST = 32,      // guesses per sequence and step, and per step altogether
    DRAFT_WINDOW = 16384, // tokens looked back
    DRAFT_TOKEN = 256,    // credit: the time of one plain token
    DRAFT_CREDIT = DRAFT_TOKEN,
};

// Writes up to `most` guesses behind tokens [n_tokens], n_tokens >= 1, which has room for them. Returns how many.
uint32_t draft_find(int32_t *tokens, uint32_t n_tokens, uint32_t most);

typedef struct draft_cost { // of a step without guesses
    uint32_t n_rows;        // >= 1
    uint32_t fixed_rows;    // what it costs besides its rows, in rows
} draft_cost;

// How many guesses a credit pays for in such a step.
uint32_t draft_afford(uint32_t credit, draft_cost c);
// The credit after n_drafts guesses, paid for by draft_afford, of which n_accepted were right.
uint32_t draft_settle(uint32_t credit, draft_cost c, uint32_t n_drafts, uint32_t n_accepted);

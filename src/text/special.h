// Special tokens: finds control and user-defined tokens written out in a text, the longest at the leftmost place.
//
// A trie whose edges live in a pairmap; owns it. Immutable once filled, so any thread may search.
// Time is linear in the text: a search looks at most SPECIAL_MAX_BYTES past each byte, and only where a token's first
// byte stands.
#pragma once

#include "text/pairmap.h"
#include "text/span.h"

#define SPECIAL_MAX_BYTES 512

typedef struct special_node {
    int32_t id; // of the token that ends here; -1 if none
    bool control;
} special_node;

typedef struct special {
    pairmap edges;       // (node, byte) -> node; node 0 is the root
    special_node *nodes; // [n_nodes]
    size_t n_nodes, capacity;
    bool starts[256]; // some token begins with this byte
} special;

typedef struct special_match {
    size_t at, n_bytes; // n_bytes 0: no match, at is the text's length
    int32_t id;
} special_match;

// n_bytes_total: of all tokens that will be added.
bool special_init(special *s, size_t n_bytes_total, err *e);
void special_free(special *s);
void special_add(special *s, const char *text, size_t n_bytes, int32_t id, bool control);
// The first match in text[from, n_bytes). No control token that overlaps a plain span (ascending, disjoint) matches.
special_match special_find(const special *s, const char *text, size_t n_bytes, size_t from, const text_span *plain,
                           size_t n_plain);
int32_t special_get(const special *s, const char *text, size_t n_bytes); // id of exactly this text; -1 if none

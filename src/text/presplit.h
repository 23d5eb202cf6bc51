// Presplit: cuts a text into the pieces that BPE works on, by the regular expressions that tokenizer.ggml.pre names.
//
// A row is a list of expressions applied one after the other: each cuts every piece of the previous one into its
// matches and what lies between them. PCRE2 with UTF, UCP and JIT (the interpreter where there is no JIT). presplit is
// immutable (any thread may run it); presplit_work belongs to one call of vocab_encode. Linear time: no expression
// nests quantifiers, and what a failed attempt scanned is consumed by the next alternative.
#pragma once

#include "base/err.h"

typedef struct presplit presplit;
typedef struct presplit_work presplit_work;

// name: tokenizer.ggml.pre, n_bytes long. NULL: there is no such row.
presplit *presplit_open(const char *name, size_t n_bytes);
void presplit_close(presplit *p);                // p may be NULL
bool presplit_ignores_merges(const presplit *p); // a piece that is a token is taken whole, whatever the merges say
bool presplit_adds_bos(const presplit *p);       // when the file does not say

presplit_work *presplit_work_new(void);
void presplit_work_free(presplit_work *w); // w may be NULL

// Gets the pieces in order, none empty; false stops the run.
typedef bool presplit_sink(void *arg, const char *piece, size_t n_bytes, err *e);
// text must be valid UTF-8: it is not checked again.
bool presplit_run(const presplit *p, presplit_work *w, const char *text, size_t n_bytes, presplit_sink *sink, void *arg,
                  err *e);

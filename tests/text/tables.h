// Tables: a tiny byte-level vocabulary that a test may spoil before it is written to a GGUF in memory and opened.
//
// Tokens 0..255 are the bytes, 256.. the results of the merges, then the special tokens. Owns the strings it builds.
#pragma once

#include "gguf/gguf_writer.h"
#include "text/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLES_MAX = 512, TABLES_STR = 64 };

typedef struct tables {
    const char *model, *pre; // NULL: the key is left out
    char tokens[TABLES_MAX][TABLES_STR];
    char merges[TABLES_MAX][TABLES_STR];
    int32_t types[TABLES_MAX];
    size_t n_tokens, n_merges, n_types; // n_types 0: no types; n_merges SIZE_MAX: no merges key
    int64_t bos, eos, eot;              // -1: left out
} tables;

// The byte's character in the alphabet of GPT-2's encoder.py, written down here a second time on purpose.
static inline void tables_byte(int byte, char *out) {
    int code = byte, n_shifted = 0;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        if (b == byte && !printable) code = 256 + n_shifted;
        n_shifted += !printable;
    }
    if (code < 0x80)
        snprintf(out, TABLES_STR, "%c", code);
    else
        snprintf(out, TABLES_STR, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 0x3f));
}

static inline size_t tables_add(tables *t, const char *token, token_kind kind) {
    snprintf(t->tokens[t->n_tokens], TABLES_STR, "%s", token);
    t->types[t->n_tokens] = kind;
    t->n_types = t->n_tokens + 1;
    return t->n_tokens++;
}

// "left right", both already there; their join becomes a token. Returns its id.
static inline size_t tables_merge(tables *t, const char *left, const char *right) {
    char joined[TABLES_STR], merge[TABLES_STR];
    snprintf(merge, sizeof merge, "%s %s", left, right);
    snprintf(joined, sizeof joined, "%s%s", left, right);
    memcpy(t->merges[t->n_merges++], merge, sizeof merge);
    return tables_add(t, joined, TOKEN_NORMAL);
}

static inline tables *tables_new(const char *pre) {
    tables *t = calloc(1, sizeof *t);
    *t = (tables){.model = "gpt2", .pre = pre, .bos = -1, .eos = -1, .eot = -1};
    for (int b = 0; b < 256; b++) {
        char text[TABLES_STR];
        tables_byte(b, text);
        tables_add(t, text, TOKEN_NORMAL);
    }
    return t;
}

static inline void tables_put(gguf_writer *w, const char *key, char (*strs)[TABLES_STR], size_t n) {
    gguf_str *list = calloc(n + 1, sizeof *list);
    for (size_t i = 0; i < n; i++) list[i] = (gguf_str){strs[i], strlen(strs[i])};
    gguf_writer_add_strs(w, key, list, n);
    free(list);
}

static inline vocab *tables_open(tables *t, err *e) {
    gguf_writer *w = gguf_writer_new(0);
    if (t->model) gguf_writer_add_str(w, "tokenizer.ggml.model", t->model);
    if (t->pre) gguf_writer_add_str(w, "tokenizer.ggml.pre", t->pre);
    if (t->n_tokens != SIZE_MAX) tables_put(w, "tokenizer.ggml.tokens", t->tokens, t->n_tokens);
    if (t->n_merges != SIZE_MAX) tables_put(w, "tokenizer.ggml.merges", t->merges, t->n_merges);
    if (t->n_types) gguf_writer_add_array(w, "tokenizer.ggml.token_type", GGUF_KIND_I32, t->types, t->n_types);
    if (t->bos >= 0) gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)t->bos);
    if (t->eos >= 0) gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)t->eos);
    if (t->eot >= 0) gguf_writer_add_u32(w, "tokenizer.ggml.eot_token_id", (uint32_t)t->eot);
    size_t n_bytes;
    uint8_t *bytes = gguf_writer_take(w, &n_bytes);
    gguf_writer_free(w);
    gguf *g = gguf_open_memory(bytes, n_bytes, e);
    vocab *v = g ? vocab_open(g, e) : NULL;
    gguf_close(g); // a vocabulary keeps nothing of the file
    free(bytes);
    return v;
}

static inline void tables_free(tables *t) { free(t); }

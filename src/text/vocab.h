// Vocabulary and tokenizer: bytes to token ids and back, from a GGUF file's own tables.
//
// Byte-level BPE ("gpt2" model): PCRE2 splits the text with the pattern named by tokenizer.ggml.pre, then merges by
// rank. Owns copies of what it needs; immutable after vocab_open, so any thread may use it. Does not render chat
// templates and does not add BOS unless asked.
#pragma once

#include "base/err.h"
#include "gguf/gguf.h"
#include "text/span.h"

typedef enum token_kind { // tokenizer.ggml.token_type
    TOKEN_UNDEFINED = 0,
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
} token_kind;

typedef struct vocab vocab;

vocab *vocab_open(const gguf *g, err *e); // NULL: unknown tokenizer model or pre-tokenizer, bad tables
void vocab_close(vocab *v);

uint32_t vocab_size(const vocab *v);
uint32_t vocab_longest_bytes(const vocab *v);     // no token has more
int32_t vocab_bos(const vocab *v);                // -1 if none
int32_t vocab_eos(const vocab *v);                // -1 if none
bool vocab_adds_bos(const vocab *v);              // tokenizer.ggml.add_bos_token
bool vocab_is_eog(const vocab *v, int32_t token); // ends a generation: eos, eot, <|im_end|>, <|endoftext|> ...
token_kind vocab_kind(const vocab *v, int32_t token);

// The token's bytes as they appear in text (byte-level decoded); control tokens give their literal text.
// Borrowed; *n_bytes is set. token must be in range (check()ed).
const char *vocab_token_bytes(const vocab *v, int32_t token, size_t *n_bytes);
// Id of the token whose literal text is exactly this; -1 if none.
int32_t vocab_find(const vocab *v, const char *text, size_t n_bytes);

typedef struct tokens {
    int32_t *ids; // heap, the caller's; free with free()
    size_t n, capacity;
} tokens;

// Appends the tokens of text (must be valid UTF-8: else false, ERR_FORMAT with the byte offset).
// parse_special: control tokens written out in the text ("<|im_start|>") become those tokens; otherwise they are text.
// User-defined tokens are always recognised. Linear time in n_bytes up to a log factor, on any input.
bool vocab_encode(const vocab *v, const char *text, size_t n_bytes, bool parse_special, tokens *out, err *e);
// The same for a text of which parts are plain (ascending, disjoint): a control token is one unless it overlaps them.
// All else is as if the text were one, so what stands at a part's edge may share a token with what is beside it.
bool vocab_encode_parts(const vocab *v, const char *text, size_t n_bytes, const text_span *plain, size_t n_plain,
                        tokens *out, err *e);

// Implements vocab.h: reads the file's tables once, then hands text through special tokens, pre-split and merges.
//
// Owns: the decoded bytes of all tokens in one block, and the maps over them. Nothing points into the GGUF afterwards.
// Normal tokens are written in the byte-level alphabet and decoded here; control, user-defined and unknown tokens are
// literal. Only literal tokens are in `specials`, only the others in `words` and the merges, so text can become a
// control token in one way alone.
#include "text/vocab.h"

#include "base/grow.h"
#include "text/alphabet.h"
#include "text/bpe.h"
#include "text/presplit.h"
#include "text/special.h"
#include "text/strmap.h"
#include "text/utf8.h"

#include <string.h>

#define MAX_TEXT_BYTES INT32_MAX

typedef struct token {
    const char *text; // decoded, in vocab.block
    uint32_t n_bytes;
    uint8_t kind;
    bool ends_generation;
} token;

struct vocab {
    token *tokens; // [n_tokens]
    uint32_t n_tokens, longest_bytes;
    char *block;
    size_t block_bytes;
    strmap words; // decoded bytes -> id
    special specials;
    bpe bpe;
    presplit *split;
    int32_t bos, eos;
    bool adds_bos;
};

// What is only needed while the tables are read.
typedef struct loader {
    const gguf *g;
    vocab *v;
    strmap names; // the file's own strings -> id
    err *e;
} loader;

static bool is_literal(token_kind kind) {
    return kind == TOKEN_CONTROL || kind == TOKEN_USER_DEFINED || kind == TOKEN_UNKNOWN;
}

static const gguf_value *find_array(const loader *l, const char *key, bool strings, bool required) {
    const gguf_value *value = gguf_find(l->g, key);
    if (!value && required) return fail_null(l->e, ERR_FORMAT, "tokenizer: %s is missing", key);
    if (!value) return NULL;
    gguf_kind of = value->elem_kind;
    bool numbers = of != GGUF_KIND_STRING && of != GGUF_KIND_F32 && of != GGUF_KIND_F64 && of != GGUF_KIND_BOOL;
    bool fits = value->kind == GGUF_KIND_ARRAY && (strings ? of == GGUF_KIND_STRING : numbers);
    const char *what = strings ? "strings" : "integers";
    return fits ? value : fail_null(l->e, ERR_FORMAT, "tokenizer: %s must be an array of %s", key, what);
}

// Decodes token i into the block and enters it where its kind says.
static bool load_token(loader *l, uint32_t i, gguf_str name, token_kind kind, char **end) {
    vocab *v = l->v;
    if (name.n_bytes == 0) return fail(l->e, ERR_FORMAT, "tokenizer: token %u is empty", i);
    if (!strmap_put(&l->names, name.data, name.n_bytes, (int32_t)i))
        return fail(l->e, ERR_FORMAT, "tokenizer: tokens %d and %u are the same",
                    strmap_get(&l->names, name.data, name.n_bytes), i);
    token *t = &v->tokens[i];
    *t = (token){.text = *end, .n_bytes = (uint32_t)name.n_bytes, .kind = (uint8_t)kind};
    if (is_literal(kind)) {
        if (name.n_bytes > SPECIAL_MAX_BYTES)
            return fail(l->e, ERR_UNSUPPORTED, "tokenizer: special token %u is longer than %d bytes", i,
                        SPECIAL_MAX_BYTES);
        memcpy(*end, name.data, name.n_bytes);
        special_add(&v->specials, t->text, t->n_bytes, (int32_t)i, kind != TOKEN_USER_DEFINED);
    } else {
        t->n_bytes = (uint32_t)alphabet_decode(name.data, name.n_bytes, *end);
        strmap_put(&v->words, t->text, t->n_bytes, (int32_t)i);
        size_t n_used;
        int byte = alphabet_byte(name.data, name.n_bytes, &n_used);
        if (byte >= 0 && n_used == name.n_bytes) v->bpe.byte_id[byte] = (int32_t)i;
    }
    *end += t->n_bytes;
    if (t->n_bytes > v->longest_bytes) v->longest_bytes = t->n_bytes;
    return true;
}

// Makes room for everything that n tokens need.
static bool size_tables(loader *l, const gguf_value *names, const gguf_value *types) {
    vocab *v = l->v;
    size_t n_special_bytes = 0;
    const uint8_t *cursor = names->data;
    for (uint64_t i = 0; i < names->n; i++) {
        size_t n_bytes = gguf_next_str(&cursor).n_bytes;
        if (n_bytes > MAX_TEXT_BYTES)
            return fail(l->e, ERR_FORMAT, "tokenizer: token %lu is too long", (unsigned long)i);
        v->block_bytes += n_bytes;
        if (types && is_literal((token_kind)gguf_array_int(types, i))) n_special_bytes += n_bytes;
    }
    v->n_tokens = (uint32_t)names->n;
    v->tokens = large_alloc(v->n_tokens * sizeof *v->tokens, "the vocabulary", l->e);
    v->block = v->tokens ? large_alloc(v->block_bytes, "the vocabulary", l->e) : NULL;
    return v->block && special_init(&v->specials, n_special_bytes, l->e) &&
           strmap_init(&v->words, v->n_tokens, "the vocabulary", l->e) &&
           strmap_init(&l->names, v->n_tokens, "the vocabulary", l->e);
}

static bool load_tokens(loader *l) {
    const gguf_value *names = find_array(l, "tokenizer.ggml.tokens", true, true);
    if (!names) return false;
    const gguf_value *types = find_array(l, "tokenizer.ggml.token_type", false, false);
    if (l->e->code) return false;
    if (names->n == 0 || names->n > INT32_MAX)
        return fail(l->e, ERR_FORMAT, "tokenizer: a vocabulary of %lu tokens", (unsigned long)names->n);
    if (types && types->n != names->n)
        return fail(l->e, ERR_FORMAT, "tokenizer: %lu tokens, but %lu token types", (unsigned long)names->n,
                    (unsigned long)types->n);
    if (!size_tables(l, names, types)) return false;
    char *end = l->v->block;
    const uint8_t *cursor = names->data;
    for (uint32_t i = 0; i < l->v->n_tokens; i++) {
        int64_t kind = types ? gguf_array_int(types, i) : TOKEN_NORMAL;
        if (kind < TOKEN_UNDEFINED || kind > TOKEN_BYTE)
            return fail(l->e, ERR_FORMAT, "tokenizer: token %u has the unknown type %ld", i, (long)kind);
        if (!load_token(l, i, gguf_next_str(&cursor), (token_kind)kind, &end)) return false;
    }
    return true;
}

// Merge number `rank`: "left right", both tokens, as is left and right put together.
static bool load_merge(loader *l, uint32_t rank, gguf_str text, char **joined, size_t *joined_capacity) {
    bpe *b = &l->v->bpe;
    const char *space = text.n_bytes > 2 ? memchr(text.data + 1, ' ', text.n_bytes - 2) : NULL;
    if (!space) return fail(l->e, ERR_FORMAT, "tokenizer: merge %u is not two tokens and a space between them", rank);
    size_t n_left = (size_t)(space - text.data), n_right = text.n_bytes - n_left - 1;
    if (!grow(joined, joined_capacity, n_left + n_right, "a merge", l->e)) return false;
    memcpy(*joined, text.data, n_left);
    memcpy(*joined + n_left, space + 1, n_right);
    int32_t left = strmap_get(&l->names, text.data, n_left);
    int32_t right = strmap_get(&l->names, space + 1, n_right);
    int32_t both = strmap_get(&l->names, *joined, n_left + n_right);
    if (left < 0 || right < 0 || both < 0)
        return fail(l->e, ERR_FORMAT, "tokenizer: merge %u names a token that is not in the vocabulary", rank);
    if (l->v->tokens[both].kind == TOKEN_CONTROL)
        return fail(l->e, ERR_FORMAT, "tokenizer: merge %u makes the control token %d", rank, both);
    if (!pairmap_put(&b->ranks, (uint32_t)left, (uint32_t)right, rank))
        return fail(l->e, ERR_FORMAT, "tokenizer: merge %u occurs twice", rank);
    b->new_ids[rank] = (uint32_t)both;
    return true;
}

static bool load_merges(loader *l, const gguf_value *merges) {
    const uint8_t *cursor = merges->data;
    char *joined = NULL;
    size_t joined_capacity = 0;
    bool ok = true;
    for (uint64_t i = 0; ok && i < merges->n; i++)
        ok = load_merge(l, (uint32_t)i, gguf_next_str(&cursor), &joined, &joined_capacity);
    free(joined);
    return ok;
}

static bool load_id(loader *l, const char *key, int32_t *id) {
    uint32_t value = UINT32_MAX;
    *id = -1;
    if (!gguf_get_u32(l->g, key, &value, l->e)) return false;
    if (!gguf_find(l->g, key)) return true;
    if (value >= l->v->n_tokens)
        return fail(l->e, ERR_FORMAT, "tokenizer: %s is %u, but there are %u tokens", key, value, l->v->n_tokens);
    *id = (int32_t)value;
    return true;
}

// Tokens that end an answer: named by the file, or known by their text in the families of models that use them.
static bool load_ends(loader *l) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    static const char *const names[] = {
        "<|endoftext|>",      "<|im_end|>", "<|eot_id|>",      "<|eom_id|>",      "<|end_of_text|>",
        "<end_of_turn>",      "</s>",       "<|end_of_turn|>", "<|end_of_role|>", "<|END_OF_TURN_TOKEN|>",
        "<end_of_utterance>", "<EOT>",      "<|return|>",      "<|call|>",        "<|end|>"};
    vocab *v = l->v;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int32_t id;
        if (!load_id(l, keys[i], &id)) return false;
        if (id >= 0) v->tokens[id].ends_generation = true;
        if (i == 0) v->eos = id;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int32_t id = special_get(&v->specials, names[i], strlen(names[i]));
        // where there is a <|return|>, an <|end|> only ends one of the answer's messages
        bool inner = strcmp(names[i], "<|end|>") == 0 && special_get(&v->specials, "<|return|>", 10) >= 0;
        if (id >= 0 && !inner) v->tokens[id].ends_generation = true;
    }
    return true;
}

static bool load_bos(loader *l) {
    vocab *v = l->v;
    v->adds_bos = presplit_adds_bos(v->split);
    if (!load_id(l, "tokenizer.ggml.bos_token_id", &v->bos)) return false;
    if (!gguf_get_bool(l->g, "tokenizer.ggml.add_bos_token", &v->adds_bos, l->e)) return false;
    v->adds_bos = v->adds_bos && v->bos >= 0;
    return true;
}

// For a message: the printable ASCII of a name, cut to fit.
static const char *shown(char out[65], gguf_str name) {
    size_t n = name.n_bytes < 64 ? name.n_bytes : 64;
    for (size_t i = 0; i < n; i++) out[i] = name.data[i] >= ' ' && name.data[i] <= '~' ? name.data[i] : '?';
    out[n] = '\0';
    return out;
}

static bool load_split(loader *l) {
    char text[65];
    gguf_str model = {"", 0}, pre = {"default", strlen("default")};
    if (!gguf_get_str(l->g, "tokenizer.ggml.model", &model, l->e)) return false;
    if (!gguf_get_str(l->g, "tokenizer.ggml.pre", &pre, l->e)) return false;
    if (model.n_bytes == 0) return fail(l->e, ERR_FORMAT, "tokenizer: tokenizer.ggml.model is missing");
    if (model.n_bytes != 4 || memcmp(model.data, "gpt2", 4) != 0)
        return fail(l->e, ERR_UNSUPPORTED, "tokenizer: the model '%s' is not supported, only 'gpt2'",
                    shown(text, model));
    l->v->split = presplit_open(pre.data, pre.n_bytes);
    if (!l->v->split)
        return fail(l->e, ERR_UNSUPPORTED, "tokenizer: the pre-tokenizer '%s' is not supported", shown(text, pre));
    return true;
}

static bool load(loader *l) {
    if (!load_split(l)) return false;
    const gguf_value *merges = find_array(l, "tokenizer.ggml.merges", true, true);
    if (!merges) return false;
    if (merges->n > INT32_MAX) return fail(l->e, ERR_FORMAT, "tokenizer: %lu merges", (unsigned long)merges->n);
    return bpe_init(&l->v->bpe, merges->n, l->e) && load_tokens(l) && load_merges(l, merges) && load_ends(l) &&
           load_bos(l);
}

vocab *vocab_open(const gguf *g, err *e) {
    err failure = {0};
    loader l = {.g = g, .v = xcalloc(1, sizeof *l.v), .e = &failure};
    bool ok = load(&l);
    strmap_free(&l.names);
    if (ok) return l.v;
    vocab_close(l.v);
    return fail_null(e, failure.code, "%s", failure.text);
}

void vocab_close(vocab *v) {
    if (!v) return;
    large_free(v->tokens, v->n_tokens * sizeof *v->tokens);
    large_free(v->block, v->block_bytes);
    strmap_free(&v->words);
    special_free(&v->specials);
    bpe_free(&v->bpe);
    presplit_close(v->split);
    free(v);
}

uint32_t vocab_size(const vocab *v) { return v->n_tokens; }
uint32_t vocab_longest_bytes(const vocab *v) { return v->longest_bytes; }
int32_t vocab_bos(const vocab *v) { return v->bos; }
int32_t vocab_eos(const vocab *v) { return v->eos; }
bool vocab_adds_bos(const vocab *v) { return v->adds_bos; }

static const token *get_token(const vocab *v, int32_t id) {
    check(id >= 0 && (uint32_t)id < v->n_tokens);
    return &v->tokens[id];
}

bool vocab_is_eog(const vocab *v, int32_t id) { return get_token(v, id)->ends_generation; }
token_kind vocab_kind(const vocab *v, int32_t id) { return (token_kind)get_token(v, id)->kind; }

const char *vocab_token_bytes(const vocab *v, int32_t id, size_t *n_bytes) {
    const token *t = get_token(v, id);
    *n_bytes = t->n_bytes;
    return t->text;
}

int32_t vocab_find(const vocab *v, const char *text, size_t n_bytes) {
    if (n_bytes == 0) return -1;
    int32_t id = special_get(&v->specials, text, n_bytes);
    return id >= 0 ? id : strmap_get(&v->words, text, n_bytes);
}

// One call of vocab_encode.
typedef struct encoder {
    const vocab *v;
    bpe_work merge;
    presplit_work *split;
    tokens *out;
    err *e;
} encoder;

static bool add_token(encoder *en, int32_t id) {
    tokens *out = en->out;
    if (!grow(&out->ids, &out->capacity, out->n + 1, "the tokens", en->e)) return false;
    out->ids[out->n++] = id;
    return true;
}

static bool encode_piece(void *arg, const char *piece, size_t n_bytes, err *e) {
    encoder *en = arg;
    if (presplit_ignores_merges(en->v->split)) {
        int32_t id = strmap_get(&en->v->words, piece, n_bytes);
        if (id >= 0) return add_token(en, id);
    }
    return bpe_encode(&en->v->bpe, &en->merge, piece, n_bytes, en->out, e);
}

static bool encode_all(encoder *en, const char *text, size_t n_bytes, const text_span *plain, size_t n_plain) {
    for (size_t at = 0; at < n_bytes;) {
        while (n_plain && plain->end <= at) plain++, n_plain--;
        special_match next = special_find(&en->v->specials, text, n_bytes, at, plain, n_plain);
        if (!presplit_run(en->v->split, en->split, text + at, next.at - at, encode_piece, en, en->e)) return false;
        if (next.n_bytes > 0 && !add_token(en, next.id)) return false;
        at = next.at + next.n_bytes;
    }
    return true;
}

bool vocab_encode_parts(const vocab *v, const char *text, size_t n_bytes, const text_span *plain, size_t n_plain,
                        tokens *out, err *e) {
    if (n_bytes > MAX_TEXT_BYTES) return fail(e, ERR_TOO_LONG, "tokenizer: a text of %zu bytes is too long", n_bytes);
    size_t n_valid = utf8_validate(text, n_bytes);
    if (n_valid < n_bytes) return fail(e, ERR_FORMAT, "the text is not UTF-8 at byte %zu", n_valid);
    size_t n_before = out->n;
    encoder en = {.v = v, .split = presplit_work_new(), .out = out, .e = e};
    bool ok = encode_all(&en, text, n_bytes, plain, n_plain);
    if (!ok) out->n = n_before;
    presplit_work_free(en.split);
    bpe_work_free(&en.merge);
    return ok;
}

bool vocab_encode(const vocab *v, const char *text, size_t n_bytes, bool parse_special, tokens *out, err *e) {
    const text_span all = {0, n_bytes};
    return vocab_encode_parts(v, text, n_bytes, &all, parse_special ? 0 : 1, out, e);
}

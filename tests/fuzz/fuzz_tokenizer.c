// Fuzzes vocab.h and stream.h. The first byte chooses what the rest is:
//   odd   a GGUF file: its tables are opened, and if they hold, a text is encoded with them;
//   even  a text: tokens back to bytes must give the text, and a stream fed token by token, or cut anywhere, must show
//         what it shows when fed at once. Byte 1: pre-tokenizer and parse_special. Byte 2: cuts and stop strings.
#include "../text/tables.h"
#include "text/stream.h"
#include "text/utf8.h"

static const char *const names[] = {"gpt-2",  "smollm", "llama-bpe",   "qwen35",
                                    "gpt-4o", "tekken", "deepseek-v3", "default"};
enum { N_NAMES = sizeof names / sizeof *names, MAX_STOPS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static vocab *open_tiny(const char *pre) {
    static const char *const merges[][2] = {{"h", "e"},   {"l", "l"},
                                            {"he", "ll"}, {"a", "a"},
                                            {"aa", "aa"}, {"\xc4\xa0", "\xc4\xa0"},
                                            {"1", "2"},   {"\xc3\xa2", "\xc4\xa4"}};
    tables *t = tables_new(pre);
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) tables_merge(t, merges[i][0], merges[i][1]);
    tables_add(t, "<|a|>", TOKEN_CONTROL);
    tables_add(t, "<|a|><|", TOKEN_CONTROL);
    tables_add(t, "<b>", TOKEN_USER_DEFINED);
    tables_add(t, "aaa", TOKEN_NORMAL);
    err e = {0};
    vocab *v = tables_open(t, &e);
    check(v != NULL);
    tables_free(t);
    return v;
}

static void fuzz_tables(const uint8_t *data, size_t n_bytes) {
    static const char text[] = "hello  <|a|> a\xc3\xa9\xe4\xbd\xa0 12'S\n";
    err e = {0};
    gguf *g = gguf_open_memory(data, n_bytes, &e);
    vocab *v = g ? vocab_open(g, &e) : NULL;
    gguf_close(g);
    check(v != NULL || e.code != ERR_NONE);
    if (!v) return;
    tokens t = {0};
    check(vocab_encode(v, text, sizeof text, true, &t, &e));
    for (size_t i = 0; i < t.n; i++) {
        size_t n;
        const char *bytes = vocab_token_bytes(v, t.ids[i], &n);
        check(n > 0 && vocab_find(v, bytes, n) >= 0);
    }
    free(t.ids);
    vocab_close(v);
}

typedef struct shown {
    char *bytes;
    size_t n;
    bool stopped;
} shown;

static void feed(text_stream *s, shown *out, const char *bytes, size_t n_bytes) {
    size_t n;
    const char *text = text_stream_push(s, bytes, n_bytes, &n, &out->stopped);
    check(utf8_validate(text, n) == n);
    if (n) memcpy(out->bytes + out->n, text, n);
    out->n += n;
}

static void finish(text_stream *s, shown *out) {
    size_t n;
    const char *text = text_stream_finish(s, &n);
    if (n) memcpy(out->bytes + out->n, text, n);
    out->n += n;
    text_stream_free(s);
}

typedef struct text_case {
    const char *text;
    size_t n_bytes;
    uint8_t seed;
    char stops[MAX_STOPS][8];
    const char *stop_list[MAX_STOPS];
    size_t n_stops;
} text_case;

static void same(const text_case *c, shown *got, shown *want) {
    check(got->n == want->n && got->stopped == want->stopped);
    check(want->n == 0 || memcmp(got->bytes, want->bytes, want->n) == 0);
    for (size_t i = 0; i < c->n_stops; i++) // a stop string that is text is never shown
        if (c->stops[i][0] && utf8_validate(c->stops[i], strlen(c->stops[i])) == strlen(c->stops[i]))
            check(memmem(want->bytes, want->n, c->stops[i], strlen(c->stops[i])) == NULL);
    got->n = 0;
}

static void fuzz_cuts(const text_case *c, shown *got, shown *want) {
    text_stream *s = text_stream_new(c->stop_list, c->n_stops);
    feed(s, want, c->text, c->n_bytes);
    finish(s, want);
    s = text_stream_new(c->stop_list, c->n_stops);
    for (size_t from = 0, n; from < c->n_bytes; from += n) {
        n = 1 + (from * 31 + c->seed) % (1 + c->seed % 7u);
        if (n > c->n_bytes - from) n = c->n_bytes - from;
        feed(s, got, c->text + from, n);
    }
    finish(s, got);
    same(c, got, want);
}

static void fuzz_tokens(const text_case *c, const vocab *v, bool parse_special, shown *got, shown *want) {
    tokens t = {0};
    err e = {0};
    size_t n_valid = utf8_validate(c->text, c->n_bytes), at = 0;
    bool ok = vocab_encode(v, c->text, c->n_bytes, parse_special, &t, &e);
    check(ok == (n_valid == c->n_bytes));
    text_stream *s = text_stream_new(c->stop_list, c->n_stops);
    for (size_t i = 0; i < t.n; i++) {
        size_t n;
        const char *bytes = vocab_token_bytes(v, t.ids[i], &n);
        check(parse_special || vocab_kind(v, t.ids[i]) != TOKEN_CONTROL);
        check(n > 0 && at + n <= c->n_bytes && memcmp(c->text + at, bytes, n) == 0);
        at += n;
        feed(s, got, bytes, n);
    }
    finish(s, got);
    if (ok) {
        check(at == c->n_bytes);
        same(c, got, want);
    }
    free(t.ids);
}

static void fuzz_text(const uint8_t *data, size_t n_bytes) {
    static vocab *vocabs[N_NAMES];
    vocab **v = &vocabs[(data[0] >> 1) % N_NAMES];
    if (!*v) *v = open_tiny(names[(data[0] >> 1) % N_NAMES]);
    text_case c = {.text = (const char *)data + 2, .n_bytes = n_bytes - 2, .seed = data[1]};
    c.n_stops = c.n_bytes ? c.seed % (MAX_STOPS + 1u) : 0;
    for (size_t i = 0; i < c.n_stops; i++) { // pieces of the text itself
        size_t from = (c.seed * 7u + i * 13u) % c.n_bytes, n = 1 + (c.seed + 3u * i) % 6u;
        if (n > c.n_bytes - from) n = c.n_bytes - from;
        memcpy(c.stops[i], c.text + from, n);
        c.stop_list[i] = c.stops[i];
    }
    shown got = {.bytes = malloc(3 * n_bytes)}, want = {.bytes = malloc(3 * n_bytes)};
    fuzz_cuts(&c, &got, &want);
    fuzz_tokens(&c, *v, data[0] & 1, &got, &want);
    free(got.bytes);
    free(want.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    if (n_bytes > 1 && data[0] % 2) fuzz_tables(data + 1, n_bytes - 1);
    if (n_bytes > 3 && data[0] % 2 == 0) fuzz_text(data + 1, n_bytes - 1);
    return 0;
}

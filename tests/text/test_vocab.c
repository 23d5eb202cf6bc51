// Tests vocab.h on a tiny vocabulary: merges against a naive oracle, special tokens, hostile tables, long runs.
#include "text/tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static tables *hello_tables(const char *pre) {
    tables *t = tables_new(pre);
    tables_merge(t, "h", "e");                        // 256
    tables_merge(t, "l", "l");                        // 257
    tables_merge(t, "he", "ll");                      // 258
    tables_merge(t, "hell", "o");                     // 259
    tables_merge(t, "a", "a");                        // 260
    tables_merge(t, "aa", "aa");                      // 261
    tables_merge(t, "\xc4\xa0", "w");                 // 262, a space and w
    tables_merge(t, "c", "d");                        // 263
    tables_merge(t, "b", "c");                        // 264
    tables_add(t, "<|im_start|>", TOKEN_CONTROL);     // 265
    tables_add(t, "<|im_end|>", TOKEN_CONTROL);       // 266
    tables_add(t, "<tool>", TOKEN_USER_DEFINED);      // 267
    tables_add(t, "<tool>x<|im", TOKEN_USER_DEFINED); // 268
    tables_add(t, "<|im_start|>!", TOKEN_CONTROL);    // 269
    tables_add(t, "hello\xc4\xa0w", TOKEN_NORMAL);    // 270: no merge makes it
    tables_add(t, " raw", TOKEN_NORMAL);              // 271: a blank is not of the alphabet
    tables_add(t, "<|return|>", TOKEN_CONTROL);       // 272
    tables_add(t, "\xc2\xad\xff", TOKEN_NORMAL);      // 273: U+00AD and a stray byte are not of the alphabet either
    tables_add(t, "<|end|>", TOKEN_CONTROL);          // 274
    return t;
}

static vocab *open_hello(const char *pre) {
    tables *t = hello_tables(pre);
    err e = {0};
    vocab *v = tables_open(t, &e);
    if (!v) fail_msg("%s", e.text);
    tables_free(t);
    return v;
}

static void expect_ids(const vocab *v, const char *text, bool parse_special, const int32_t *ids, size_t n) {
    tokens t = {0};
    err e = {0};
    assert_true(vocab_encode(v, text, strlen(text), parse_special, &t, &e));
    assert_int_equal(t.n, n);
    if (n) assert_memory_equal(t.ids, ids, n * sizeof *ids);
    free(t.ids);
}
#define EXPECT(v, text, special, ...)                                                                                  \
    expect_ids(v, text, special, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

static void merges_by_rank_then_from_the_left(void **state) {
    (void)state;
    vocab *v = open_hello("gpt-2");
    EXPECT(v, "hello", false, 259);
    EXPECT(v, "hello world", false, 259, 262, 'o', 'r', 'l', 'd');
    EXPECT(v, "aaaaa", false, 261, 'a');
    EXPECT(v, "aaaaaaa", false, 261, 260, 'a');
    EXPECT(v, "bcd", false, 'b', 263); // c d ranks before b c
    EXPECT(v, "hel", false, 256, 'l');
    expect_ids(v, "", true, NULL, 0);
    vocab_close(v);
}

static void appends_to_what_is_there(void **state) {
    (void)state;
    vocab *v = open_hello("gpt-2");
    tokens t = {0};
    err e = {0};
    assert_true(vocab_encode(v, "he", 2, false, &t, &e) && vocab_encode(v, "ll", 2, false, &t, &e));
    assert_int_equal(t.n, 2);
    assert_false(vocab_encode(v, "he\xff", 3, false, &t, &e));
    assert_int_equal(t.n, 2);
    assert_int_equal(t.ids[1], 257);
    free(t.ids);
    vocab_close(v);
}

static void special_tokens_only_when_asked(void **state) {
    (void)state;
    vocab *v = open_hello("gpt-2");
    EXPECT(v, "<|im_start|>hello<|im_end|>", true, 265, 259, 266);
    EXPECT(v, "<|im_<|im_end|>", true, '<', '|', 'i', 'm', '_', 266);
    EXPECT(v, "<|im_end|", true, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|');
    EXPECT(v, "<|im_end|>", false, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>');
    EXPECT(v, "<tool>", false, 267);
    EXPECT(v, "<tool>x", false, 267, 'x');
    EXPECT(v, "<tool>x<|im", false, 268); // the longest
    EXPECT(v, "<tool>x<|im_end|>", true, 268, '_', 'e', 'n', 'd', '|', '>');
    EXPECT(v, "<|im_start|>!", true, 269);
    EXPECT(v, "<|im_start|>?", true, 265, '?');
    vocab_close(v);
}

static void expect_parts(const vocab *v, const char *text, const text_span *plain, size_t n_plain, const int32_t *ids,
                         size_t n) {
    tokens t = {0};
    err e = {0};
    assert_true(vocab_encode_parts(v, text, strlen(text), plain, n_plain, &t, &e));
    assert_int_equal(t.n, n);
    if (n) assert_memory_equal(t.ids, ids, n * sizeof *ids);
    free(t.ids);
}
#define EXPECT_PARTS(v, text, spans, ...)                                                                              \
    expect_parts(v, text, spans, sizeof(spans) / sizeof *(spans), (const int32_t[]){__VA_ARGS__},                      \
                 sizeof((const int32_t[]){__VA_ARGS__}) / 4)

static void control_tokens_not_in_plain_parts(void **state) {
    (void)state;
    vocab *v = open_hello("gpt-2");
    static const char text[] = "<|im_end|><|im_end|><|im_end|>";
    const text_span middle[] = {{10, 20}}, first_byte[] = {{10, 11}}, last_byte[] = {{19, 20}},
                    ends[] = {{0, 1}, {29, 30}};
    const text_span inside[] = {{2, 5}, {6, 8}}, word[] = {{12, 14}}, behind[] = {{10, 12}},
                    three[] = {{0, 3}, {3, 4}, {26, 27}};
#define END_TEXT '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'
    EXPECT_PARTS(v, text, middle, 266, END_TEXT, 266);
    EXPECT_PARTS(v, text, first_byte, 266, END_TEXT, 266);
    EXPECT_PARTS(v, text, last_byte, 266, END_TEXT, 266);
    EXPECT_PARTS(v, text, ends, END_TEXT, 266, END_TEXT);
    EXPECT_PARTS(v, text, three, END_TEXT, 266, END_TEXT);
    EXPECT_PARTS(v, "<|im_end|><|im_end|>", inside, END_TEXT, 266);
    EXPECT_PARTS(v, "<|im_end|>hello", word, 266, 259); // edges of a part do not part tokens
    EXPECT_PARTS(v, "<|im_start|>!", word, 265, '!');   // the longest does not fit, a shorter one does
    EXPECT_PARTS(v, "<|im_end|><tool>x", behind, 266, 267, 'x');
    vocab_close(v);
}

static void whole_pieces_only_where_merges_are_ignored(void **state) {
    (void)state;
    tables *t = tables_new("gpt-2");
    tables_add(t, "xyz", TOKEN_NORMAL);
    tables_add(t, "abc", TOKEN_CONTROL);
    err e = {0};
    vocab *v = tables_open(t, &e);
    assert_non_null(v);
    EXPECT(v, "xyz", false, 'x', 'y', 'z');
    vocab_close(v);
    t->pre = "llama-bpe";
    v = tables_open(t, &e);
    assert_non_null(v);
    EXPECT(v, "xyz", false, 256);
    EXPECT(v, "abc", false, 'a', 'b', 'c'); // a control token is never a piece of text
    EXPECT(v, "xyzz", false, 'x', 'y', 'z', 'z');
    vocab_close(v);
    tables_free(t);
}

static void knows_its_tokens(void **state) {
    (void)state;
    tables *t = hello_tables("smollm");
    t->bos = 265, t->eos = 'Z', t->eot = 'Y';
    err e = {0};
    vocab *v = tables_open(t, &e);
    assert_non_null(v);
    assert_int_equal(vocab_size(v), 275);
    uint32_t longest = 0;
    for (int32_t i = 0; i < 275; i++) {
        size_t n_bytes;
        vocab_token_bytes(v, i, &n_bytes);
        if (n_bytes > longest) longest = (uint32_t)n_bytes;
    }
    assert_int_equal(vocab_longest_bytes(v), longest);
    assert_int_equal(vocab_bos(v), 265);
    assert_int_equal(vocab_eos(v), 'Z');
    assert_false(vocab_adds_bos(v));
    assert_int_equal(vocab_kind(v, 265), TOKEN_CONTROL);
    assert_int_equal(vocab_kind(v, 267), TOKEN_USER_DEFINED);
    static const int32_t ends[] = {'Y', 'Z', 266, 272};
    for (int32_t id = 0; id < 275; id++) {
        bool end = id == ends[0] || id == ends[1] || id == ends[2] || id == ends[3];
        assert_int_equal(vocab_is_eog(v, id), end);
    }
    vocab_close(v);
    strcpy(t->tokens[272], "<|reserved|>"); // without <|return|>, <|end|> ends the answer
    v = tables_open(t, &e);
    assert_non_null(v);
    assert_true(vocab_is_eog(v, 274) && !vocab_is_eog(v, 272));
    vocab_close(v);
    tables_free(t);
}

static void gives_bytes_and_finds_them(void **state) {
    (void)state;
    vocab *v = open_hello("gpt-2");
    size_t n;
    for (int32_t b = 0; b < 256; b++) {
        const char *text = vocab_token_bytes(v, b, &n);
        assert_true(n == 1 && (unsigned char)text[0] == b);
        assert_int_equal(vocab_find(v, text, n), b);
    }
    static const struct {
        int32_t id;
        const char *text;
    } rows[] = {{262, " w"},      {265, "<|im_start|>"}, {267, "<tool>"},
                {270, "hello w"}, {271, " raw"},         {273, "\xc2\xad\xff"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = vocab_token_bytes(v, rows[i].id, &n);
        assert_int_equal(n, strlen(rows[i].text));
        assert_memory_equal(text, rows[i].text, n);
        assert_int_equal(vocab_find(v, text, n), rows[i].id);
    }
    assert_int_equal(vocab_find(v, "nothing like it", 15), -1);
    assert_int_equal(vocab_find(v, "<|im_st", 7), -1);
    assert_int_equal(vocab_find(v, "", 0), -1);
    vocab_close(v);
}

static void says_where_text_is_not_utf8(void **state) {
    (void)state;
    vocab *v = open_hello("gpt-2");
    static const struct {
        const char *text;
        size_t n_bytes;
        const char *sentence; // NULL: valid
    } rows[] = {
        {"0123456789\x80", 11, "the text is not UTF-8 at byte 10"},
        {"ab\xc3", 3, "the text is not UTF-8 at byte 2"},
        {"\xc0\x80", 2, "the text is not UTF-8 at byte 0"},
        {"x\xed\xa0\x80", 4, "the text is not UTF-8 at byte 1"},
        {"\xf4\x90\x80\x80", 4, "the text is not UTF-8 at byte 0"},
        {"\xe2\x82x", 3, "the text is not UTF-8 at byte 0"},
        {"\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\xe0\xa0\x80", 13, NULL},
        {"a\0b", 3, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tokens t = {0};
        err e = {0};
        assert_int_equal(vocab_encode(v, rows[i].text, rows[i].n_bytes, true, &t, &e), rows[i].sentence == NULL);
        if (rows[i].sentence) assert_string_equal(e.text, rows[i].sentence);
        free(t.ids);
    }
    vocab_close(v);
}

// ---- merges against the definition ---------------------------------------------------------------------------------

typedef struct pair {
    int left, right, both;
} pair;

// The definition: the lowest rank that occurs anywhere, its leftmost place, one merge; until none is left.
static size_t naive_bpe(const pair *pairs, size_t n_pairs, int32_t *ids, size_t n) {
    for (size_t rank = 0; rank < n_pairs; rank++)
        for (size_t i = 0; i + 1 < n; i++) {
            if (ids[i] != pairs[rank].left || ids[i + 1] != pairs[rank].right) continue;
            ids[i] = pairs[rank].both;
            memmove(ids + i + 1, ids + i + 2, (--n - i - 1) * sizeof *ids);
            rank = (size_t)-1; // a new token may have a lower rank
            break;
        }
    return n;
}

static uint32_t next_random(uint64_t *seed) { // Knuth's MMIX generator
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static bool has_token(const tables *t, const char *left, const char *right) {
    char joined[TABLES_STR];
    snprintf(joined, sizeof joined, "%s%s", left, right);
    for (size_t i = 0; i < t->n_tokens; i++)
        if (strcmp(t->tokens[i], joined) == 0) return true;
    return false;
}

// Random merges over the letters a, b, c, each making a token of its own.
static size_t random_merges(tables *t, pair *pairs, size_t n_wanted, uint64_t *seed) {
    size_t n = 0;
    for (size_t tries = 0; n < n_wanted && tries < 1000; tries++) {
        size_t pick[2];
        for (int k = 0; k < 2; k++) {
            pick[k] = next_random(seed) % (3 + n);
            pick[k] = pick[k] < 3 ? 'a' + pick[k] : 256 + pick[k] - 3;
        }
        const char *left = t->tokens[pick[0]], *right = t->tokens[pick[1]];
        if (strlen(left) + strlen(right) > 12 || has_token(t, left, right)) continue;
        pairs[n++] = (pair){(int)pick[0], (int)pick[1], (int)tables_merge(t, left, right)};
    }
    return n;
}

static void merges_as_defined(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 40; round++) {
        tables *t = tables_new("qwen2");
        pair pairs[32];
        size_t n_pairs = random_merges(t, pairs, 1 + next_random(&seed) % 32, &seed);
        err e = {0};
        vocab *v = tables_open(t, &e);
        assert_non_null(v);
        for (int text = 0; text < 50; text++) {
            char letters[41] = "";
            int32_t ids[40];
            size_t n = next_random(&seed) % 41;
            for (size_t i = 0; i < n; i++) ids[i] = letters[i] = (char)('a' + next_random(&seed) % 3);
            letters[n] = '\0';
            expect_ids(v, letters, false, ids, naive_bpe(pairs, n_pairs, ids, n));
        }
        vocab_close(v);
        tables_free(t);
    }
}

// ---- hostile tables ------------------------------------------------------------------------------------------------

static void no_model(tables *t) { t->model = NULL; }
static void other_model(tables *t) { t->model = "llama"; }
static void other_pre(tables *t) { t->pre = "from\nmars\xff"; }
static void no_tokens(tables *t) { t->n_tokens = SIZE_MAX; }
static void zero_tokens(tables *t) { t->n_tokens = t->n_types = t->n_merges = 0; }
static void no_merges(tables *t) { t->n_merges = SIZE_MAX; }
static void few_types(tables *t) { t->n_types--; }
static void odd_type(tables *t) { t->types[7] = 99; }
static void empty_token(tables *t) { t->tokens[9][0] = '\0'; }
static void same_tokens(tables *t) { strcpy(t->tokens[272], "b"); }
static void unknown_left(tables *t) { strcpy(t->merges[1], "zz l"); }
static void unknown_both(tables *t) { strcpy(t->merges[1], "l z"); }
static void one_word(tables *t) { strcpy(t->merges[2], "hell"); }
static void only_a_blank(tables *t) { strcpy(t->merges[2], " "); }
static void same_merges(tables *t) { strcpy(t->merges[3], "l l"); }
static void merge_to_control(tables *t) { t->types[257] = TOKEN_CONTROL; }
static void bos_outside(tables *t) { t->bos = 275; }
static void eot_outside(tables *t) { t->eot = UINT32_MAX; }

static void refuses_hostile_tables(void **state) {
    (void)state;
    static const struct {
        void (*spoil)(tables *t);
        err_code code;
        const char *sentence;
    } rows[] = {
        {no_model, ERR_FORMAT, "tokenizer: tokenizer.ggml.model is missing"},
        {other_model, ERR_UNSUPPORTED, "tokenizer: the model 'llama' is not supported, only 'gpt2'"},
        {other_pre, ERR_UNSUPPORTED, "tokenizer: the pre-tokenizer 'from?mars?' is not supported"},
        {no_tokens, ERR_FORMAT, "tokenizer: tokenizer.ggml.tokens is missing"},
        {zero_tokens, ERR_FORMAT, "tokenizer: a vocabulary of 0 tokens"},
        {no_merges, ERR_FORMAT, "tokenizer: tokenizer.ggml.merges is missing"},
        {few_types, ERR_FORMAT, "tokenizer: 275 tokens, but 274 token types"},
        {odd_type, ERR_FORMAT, "tokenizer: token 7 has the unknown type 99"},
        {empty_token, ERR_FORMAT, "tokenizer: token 9 is empty"},
        {same_tokens, ERR_FORMAT, "tokenizer: tokens 98 and 272 are the same"},
        {unknown_left, ERR_FORMAT, "tokenizer: merge 1 names a token that is not in the vocabulary"},
        {unknown_both, ERR_FORMAT, "tokenizer: merge 1 names a token that is not in the vocabulary"},
        {one_word, ERR_FORMAT, "tokenizer: merge 2 is not two tokens and a space between them"},
        {only_a_blank, ERR_FORMAT, "tokenizer: merge 2 is not two tokens and a space between them"},
        {same_merges, ERR_FORMAT, "tokenizer: merge 3 occurs twice"},
        {merge_to_control, ERR_FORMAT, "tokenizer: merge 1 makes the control token 257"},
        {bos_outside, ERR_FORMAT, "tokenizer: tokenizer.ggml.bos_token_id is 275, but there are 275 tokens"},
        {eot_outside, ERR_FORMAT, "tokenizer: tokenizer.ggml.eot_token_id is 4294967295, but there are 275 tokens"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tables *t = hello_tables("gpt-2");
        rows[i].spoil(t);
        err e = {0};
        assert_null(tables_open(t, &e));
        assert_string_equal(e.text, rows[i].sentence);
        assert_int_equal(e.code, rows[i].code);
        tables_free(t);
    }
}

static void refuses_arrays_of_the_wrong_kind(void **state) {
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.merges", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"};
    for (size_t k = 0; k < 3; k++) {
        gguf_writer *w = gguf_writer_new(0);
        gguf_str a = {"a", 1};
        float numbers[1] = {1};
        gguf_writer_add_str(w, "tokenizer.ggml.model", "gpt2");
        for (size_t i = 0; i < 3; i++) {
            if (i == k)
                gguf_writer_add_array(w, keys[i], GGUF_KIND_F32, numbers, 1);
            else
                gguf_writer_add_strs(w, keys[i], &a, i == 0 ? 0 : 1);
        }
        size_t n_bytes;
        uint8_t *bytes = gguf_writer_take(w, &n_bytes);
        err e = {0};
        gguf *g = gguf_open_memory(bytes, n_bytes, &e);
        assert_non_null(g);
        assert_null(vocab_open(g, &e));
        char wanted[100];
        snprintf(wanted, sizeof wanted, "tokenizer: %s must be an array of %s", keys[k],
                 k < 2 ? "strings" : "integers");
        assert_string_equal(e.text, wanted);
        gguf_close(g);
        free(bytes);
        gguf_writer_free(w);
    }
}

static void bytes_without_a_token_are_dropped(void **state) {
    (void)state;
    tables *t = tables_new("gpt-2");
    strcpy(t->tokens['q'], "a longer one");
    err e = {0};
    vocab *v = tables_open(t, &e);
    assert_non_null(v);
    EXPECT(v, "aqb", false, 'a', 'b');
    vocab_close(v);
    tables_free(t);
}

// ---- time ----------------------------------------------------------------------------------------------------------

// A quadratic step anywhere would take minutes here.
static void long_runs_take_linear_time(void **state) {
    (void)state;
    static const char *const units[] = {"a",
                                        "A",
                                        " ",
                                        "\n",
                                        "1",
                                        "!",
                                        "'",
                                        "\t",
                                        "\xe4\xbd\xa0",
                                        "\xcc\x81",
                                        "\xf0\x9f\x98\x80",
                                        "<",
                                        "ab",
                                        " \n",
                                        "\xe4\xbd\xa0\x41"};
    static const char *const names[] = {"smollm", "llama-bpe", "gpt-4o", "deepseek-v3", "default"};
    enum { n_bytes = 128 << 10 };
    char *text = malloc(n_bytes + 16);
    for (size_t p = 0; p < sizeof names / sizeof *names; p++) {
        vocab *v = open_hello(names[p]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t n = 0, n_unit = strlen(units[u]);
            for (; n + n_unit <= n_bytes; n += n_unit) memcpy(text + n, units[u], n_unit);
            text[n++] = 'x'; // so that no run ends the text
            tokens t = {0};
            err e = {0};
            assert_true(vocab_encode(v, text, n, true, &t, &e));
            free(t.ids);
        }
        vocab_close(v);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_rank_then_from_the_left),
        cmocka_unit_test(appends_to_what_is_there),
        cmocka_unit_test(special_tokens_only_when_asked),
        cmocka_unit_test(control_tokens_not_in_plain_parts),
        cmocka_unit_test(whole_pieces_only_where_merges_are_ignored),
        cmocka_unit_test(knows_its_tokens),
        cmocka_unit_test(gives_bytes_and_finds_them),
        cmocka_unit_test(says_where_text_is_not_utf8),
        cmocka_unit_test(merges_as_defined),
        cmocka_unit_test(refuses_hostile_tables),
        cmocka_unit_test(refuses_arrays_of_the_wrong_kind),
        cmocka_unit_test(bytes_without_a_token_are_dropped),
        cmocka_unit_test(long_runs_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

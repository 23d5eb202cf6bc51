// Implements presplit.h.
//
// The models' expressions were written for oniguruma and Rust's regex, whose \s is Unicode White_Space; PCRE2's also
// has U+180E, so \s is spelled out here. Other classes mean the same up to the Unicode version (PCRE2 10.42: 14.0).
#include "text/presplit.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define WS                                                                                                             \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"                                                   \
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACE     "[" WS "]"
#define NOT_SPACE "[^" WS "]"
#define UPPER     "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER     "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

#define SUFFIXES     "'s|'t|'re|'ve|'m|'ll|'d"
#define ANY_SUFFIX   "(?i:" SUFFIXES ")"
#define LAST_SPACES  SPACE "+(?!" NOT_SPACE ")|" SPACE "+"
#define LINES_SPACES SPACE "*[\\r\\n]+|" LAST_SPACES

#define GPT2    SUFFIXES "| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" LAST_SPACES
#define SYMBOLS " ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|"
#define LLAMA3  ANY_SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" SYMBOLS LINES_SPACES
#define QWEN2   ANY_SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" SYMBOLS LINES_SPACES
#define QWEN35                                                                                                         \
    ANY_SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES_SPACES
#define CASED_WORDS(suffix)                                                                                            \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix "|"
#define SLASH_SYMBOLS " ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|"
#define GPT4O         CASED_WORDS(ANY_SUFFIX "?") "\\p{N}{1,3}|" SLASH_SYMBOLS LINES_SPACES
#define TEKKEN        CASED_WORDS("") "\\p{N}|" SLASH_SYMBOLS LINES_SPACES
#define DEEPSEEK_V3                                                                                                    \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES_SPACES

#define MAX_STAGES 4
#define MAX_NAMES  12

typedef struct presplit_row {
    const char *names[MAX_NAMES];
    const char *stages[MAX_STAGES];
    bool ignores_merges, adds_bos;
} presplit_row;

static const presplit_row rows[] = {
    {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "trillion", "granite-docling", "exaone4"},
     {GPT2},
     false,
     false},
    {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
     {"\\p{N}", GPT2},
     false,
     false},
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}, {LLAMA3}, true, true},
    {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {LLAMA3}, false, false},
    {{"qwen2", "deepseek-r1-qwen", "megrez", "hunyuan", "stablelm2", "kormo", "grok-2"}, {QWEN2}, false, false},
    {{"qwen35"}, {QWEN35}, false, false},
    {{"gpt-4o", "llama4", "kanana2"}, {GPT4O}, false, false},
    {{"tekken"}, {TEKKEN}, true, true},
    {{"deepseek-v3", "hunyuan-dense"},
     {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+", DEEPSEEK_V3},
     false,
     false},
    // files from before tokenizer.ggml.pre existed, as their own tool has always read them
    {{"default"}, {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
};

struct presplit {
    const presplit_row *row;
    size_t n_stages;
    pcre2_code *codes[MAX_STAGES];
};

struct presplit_work {
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

static const presplit_row *find_row(const char *name, size_t n_bytes) {
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (size_t i = 0; i < MAX_NAMES && rows[r].names[i]; i++)
            if (strlen(rows[r].names[i]) == n_bytes && memcmp(rows[r].names[i], name, n_bytes) == 0) return &rows[r];
    return NULL;
}

presplit *presplit_open(const char *name, size_t n_bytes) {
    const presplit_row *row = find_row(name, n_bytes);
    if (!row) return NULL;
    presplit *p = xcalloc(1, sizeof *p);
    p->row = row;
    for (; p->n_stages < MAX_STAGES && row->stages[p->n_stages]; p->n_stages++) {
        int code;
        size_t at;
        uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK;
        pcre2_code *compiled =
            pcre2_compile((PCRE2_SPTR)row->stages[p->n_stages], PCRE2_ZERO_TERMINATED, options, &code, &at, NULL);
        check(compiled != NULL);
        pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); // without JIT, pcre2_match interprets
        p->codes[p->n_stages] = compiled;
    }
    return p;
}

void presplit_close(presplit *p) {
    for (size_t i = 0; p && i < p->n_stages; i++) pcre2_code_free(p->codes[i]);
    free(p);
}

bool presplit_ignores_merges(const presplit *p) { return p->row->ignores_merges; }
bool presplit_adds_bos(const presplit *p) { return p->row->adds_bos; }

presplit_work *presplit_work_new(void) {
    presplit_work *w = xcalloc(1, sizeof *w);
    w->match = pcre2_match_data_create(1, NULL);
    w->limits = pcre2_match_context_create(NULL);
    check(w->match && w->limits);
    pcre2_set_match_limit(w->limits, UINT32_MAX); // it counts steps along a run, which may be as long as the text
    return w;
}

void presplit_work_free(presplit_work *w) {
    if (!w) return;
    pcre2_match_data_free(w->match);
    pcre2_match_context_free(w->limits);
    free(w);
}

// The next match at or after from; false with an untouched e: none.
static bool find_match(const pcre2_code *code, presplit_work *w, const char *text, size_t n_bytes, size_t *from,
                       size_t *to, err *e) {
    int found = pcre2_match(code, (PCRE2_SPTR)text, n_bytes, *from, PCRE2_NO_UTF_CHECK, w->match, w->limits);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found =
            pcre2_match(code, (PCRE2_SPTR)text, n_bytes, *from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, w->match, w->limits);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) return fail(e, ERR_INTERNAL, "tokenizer: the pre-split failed at byte %zu (PCRE2 %d)", *from, found);
    const size_t *bounds = pcre2_get_ovector_pointer(w->match);
    *from = bounds[0];
    *to = bounds[1];
    check(*to > *from);
    return true;
}

typedef struct run {
    const presplit *p;
    presplit_work *w;
    presplit_sink *sink;
    void *arg;
    err *e;
} run;

// Depth is at most the row's number of stages.
static bool run_stage(const run *r, size_t stage, const char *text, size_t n_bytes) {
    if (n_bytes == 0) return true;
    if (stage == r->p->n_stages) return r->sink(r->arg, text, n_bytes, r->e);
    size_t done = 0;
    err failed = {0};
    for (size_t from = 0, to = 0; from < n_bytes; done = from = to) {
        if (!find_match(r->p->codes[stage], r->w, text, n_bytes, &from, &to, &failed)) break;
        if (!run_stage(r, stage + 1, text + done, from - done)) return false;
        if (!run_stage(r, stage + 1, text + from, to - from)) return false;
    }
    if (failed.code) return fail(r->e, failed.code, "%s", failed.text);
    return run_stage(r, stage + 1, text + done, n_bytes - done);
}

bool presplit_run(const presplit *p, presplit_work *w, const char *text, size_t n_bytes, presplit_sink *sink, void *arg,
                  err *e) {
    return run_stage(&(run){p, w, sink, arg, e}, 0, text, n_bytes);
}

// Oracle: the real model under traffic gives, byte for byte, what each request gets alone.
//
// From a seed: requests on real text, of which many begin alike, greedy and sampled in every way. Each is answered
// alone once: one at a time, nothing cached, plain settings. Then all come at once, in random order, some cancelled at
// random moments, through every engine of the table below: instruction sets, threads, tokens a step, batch limits,
// guesses, pools so small that sequences are preempted. Tokens, text, finish and the bits of log-probabilities and of
// embeddings must be the same, those of a cancelled request the beginning of the same. A user of rocmforge.h like any
// other; one thread besides the engine's. What is asked is a function of the seed; when it arrives depends on the
// machine as well.
#include <rocmforge.h>

#include <errno.h>
#include <glob.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    N_ASKS = 200,
    N_QUICK = 40,
    MAX_PROMPT = 1500,
    MAX_ANSWER = 40,
    MAX_SCORED = 160, // tokens of a prompt whose log-probabilities are asked for
    MAX_SHOWN = MAX_ANSWER + MAX_SCORED,
    MAX_D_MODEL = 4096,
    MAX_LOGPROBS = 20,
    N_CTX = 1568, // MAX_PROMPT + MAX_ANSWER and a little, so that it is whole pages
    MAX_TEXT_TOKENS = 1 << 16,
    MAX_TOLD = 5,          // faults told per configuration
    PATIENCE_SECONDS = 180 // without any event: the engine hangs
};

typedef enum kv { KV_BF16, KV_F16, KV_Q8_0, N_KV } kv;
static const char *const kv_names[N_KV] = {"bf16", "f16", "q8_0"};

// ---- the engines -------------------------------------------------------------------------------------------------

enum { PREEMPT = 1, SHARE = 2, GUESS = 4, BOTH = PREEMPT | SHARE, ALL = BOTH | GUESS };

typedef struct config {
    const char *name, *isa; // isa NULL: the widest
    int n_threads;
    uint32_t step_tokens, max_running, speculate;
    kv kv;
    uint32_t pool;    // tokens of KV; 0: those of one context
    uint32_t longest; // only requests of at most so many tokens, with the answer; 0: all
    uint32_t n_asks;  // at most; 0: all
    unsigned must;    // have happened: somebody gave way, found what others had computed, guessed right
    bool quick;       // of --quick
} config;

// The scalar kernels take a hundred times as long, and a step of one token reads all weights for it: few, short
// requests go there. The last is small enough for a build with sanitizers.
static const config configs[] = {
    {"a", NULL, 2, 512, 32, 0, KV_BF16, 16384, 0, 0, SHARE, false},
    {"b", "avx512", 2, 512, 32, 8, KV_BF16, 0, 0, 0, ALL, false},
    {"c", NULL, 1, 64, 16, 4, KV_BF16, 0, 400, 0, ALL, false},
    {"d", "avx512", 2, 7, 7, 3, KV_F16, 0, 400, 0, SHARE, false},
    {"e", "avx512", 1, 64, 1, 32, KV_BF16, 0, 0, 0, SHARE | GUESS, false},
    {"f", "avx512", 2, 1, 1, 0, KV_BF16, 0, 160, 0, 0, false},
    {"g", "avx512", 1, 16, 10, 2, KV_BF16, 0, 160, 0, PREEMPT, true},
    {"h", "avx512", 2, 64, 16, 5, KV_Q8_0, 0, 400, 0, ALL, false},
    {"i", "avx512", 1, 7, 6, 1, KV_Q8_0, 0, 160, 0, PREEMPT, false},
    {"j", "avx2", 2, 512, 32, 8, KV_BF16, 0, 0, 0, ALL, false},
    {"k", "avxvnni", 1, 64, 2, 16, KV_F16, 2048, 400, 0, SHARE | GUESS, false},
    {"l", "avx2", 1, 64, 12, 4, KV_BF16, 0, 160, 0, PREEMPT, true},
    {"m", "avxvnni", 2, 7, 4, 0, KV_BF16, 0, 160, 0, PREEMPT, false},
    {"n", "avx2", 1, 1, 1, 0, KV_BF16, 0, 64, 0, 0, false},
    {"o", "avx2", 2, 512, 20, 0, KV_Q8_0, 0, 400, 0, PREEMPT, false},
    {"p", "scalar", 2, 64, 8, 2, KV_BF16, 96, 40, 12, 0, false},
    {"q", "scalar", 1, 7, 4, 1, KV_BF16, 64, 28, 12, 0, false},
    {"r", "scalar", 2, 1, 1, 0, KV_Q8_0, 0, 20, 8, 0, false},
    {"s", NULL, 2, 512, 32, 6, KV_BF16, 0, 400, 0, SHARE | GUESS, true},
    {"small", NULL, 2, 7, 3, 2, KV_BF16, 64, 24, 3, 0, true},
};

// ---- what is asked -----------------------------------------------------------------------------------------------

typedef struct answer {
    int32_t tokens[MAX_SHOWN]; // of a scored prompt first
    rf_token_logprob logprobs[MAX_SHOWN * (1 + MAX_LOGPROBS)];
    char text[4096];
    float embedding[MAX_D_MODEL];
    size_t n_tokens, n_scored, n_bytes, n_embedding;
    rf_finish finish; // NONE: not ended yet
    rf_error error;
} answer;

typedef struct ask {
    uint32_t number;
    rf_params params; // but for notify
    int32_t prompt[MAX_PROMPT];
    const char *stops[2];
    rf_logit_bias bias[2];
    answer solo[N_KV];

    // of the replay
    rf_request *request;
    answer answer;
    bool doomed, cancelled;
    size_t cancel_tokens;  // a doomed one is cancelled when it has so many tokens ...
    uint64_t cancel_event; // ... or when so many events were seen, of whichever request
} ask;

typedef struct totals {
    uint64_t n_configs, n_skipped, n_answers, n_cancelled, n_preempted, n_cached, n_guessed, n_faults;
} totals;

typedef struct oracle {
    const char *model;
    uint64_t seed;
    const char *only;
    bool quick;
    ask *asks; // [n_asks]
    uint32_t n_asks;
    int32_t *text; // [n_text], all of tests/data/texts
    size_t n_text;
    rf_engine *alone[N_KV]; // to compare with; opened when first needed
    totals totals;
} oracle;

static uint64_t draw(uint64_t *state) { // splitmix64: Steele et al., "Fast splittable pseudorandom number generators"
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}
static uint32_t below(uint64_t *state, uint32_t n) { return (uint32_t)(draw(state) % n); }
static uint32_t between(uint64_t *state, uint32_t least, uint32_t most) {
    return least + below(state, most - least + 1);
}
static bool chance(uint64_t *state, uint32_t percent) { return below(state, 100) < percent; }
#define ONE_OF(state, ...)                                                                                             \
    ((const double[]){__VA_ARGS__}[below(state, sizeof((const double[]){__VA_ARGS__}) / sizeof(double))])

_Noreturn static void __attribute__((format(printf, 1, 2))) die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fprintf(stderr, "oracle: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static void *zeroed(size_t n, size_t n_bytes) {
    void *p = calloc(n, n_bytes);
    if (!p) die("out of memory");
    return p;
}

// Mostly short, now and then as long as can be; often just before or behind a page's or a block's end.
static uint32_t draw_length(uint64_t *state) {
    uint32_t sort = below(state, 100);
    uint32_t n = sort < 40   ? between(state, 1, 31)
                 : sort < 85 ? between(state, 32, 159)
                 : sort < 96 ? between(state, 160, 500)
                             : between(state, 501, MAX_PROMPT);
    if (n > 32 && chance(state, 40)) n = n / 32 * 32 + below(state, 3) - 1;
    return n;
}

// A family begins with one passage of the text; its members follow it for a while, perhaps to their end.
static void draw_prompt(const oracle *o, ask *a, uint64_t *state, uint32_t n) {
    size_t family = below(state, 3) * (o->n_text / 3), own = draw(state) % o->n_text;
    uint32_t n_shared = chance(state, 30) ? 0 : chance(state, 50) ? n : below(state, n);
    for (uint32_t i = 0; i < n; i++) a->prompt[i] = o->text[((i < n_shared ? family : own) + i) % o->n_text];
    a->params.n_prompt_tokens = n;
}

static void draw_sampling(rf_params *p, uint64_t *state) {
    p->seed = draw(state);
    p->temperature = (float)ONE_OF(state, 0, 0, 0.3, 0.8, 1.0, 1.7);
    p->top_k = (uint32_t)ONE_OF(state, 0, 0, 1, 5, 40, 1000);
    p->top_p = (float)ONE_OF(state, 1, 1, 0.95, 0.5);
    p->min_p = (float)ONE_OF(state, 0, 0, 0.05, 0.3);
    p->repeat_penalty = (float)ONE_OF(state, 1, 1, 1.1, 1.5);
    p->presence_penalty = (float)ONE_OF(state, 0, 0, 0.6, -0.4);
    p->frequency_penalty = (float)ONE_OF(state, 0, 0, 0.3, 1.2);
    p->penalty_last_n = (uint32_t)ONE_OF(state, 0, 7, 64);
    p->logprobs = chance(state, 35);
    p->n_logprobs = p->logprobs ? (uint32_t)ONE_OF(state, 0, 1, 5, MAX_LOGPROBS) : 0;
}

// More than an answer, or none.
static void draw_extras(ask *a, uint64_t *state) {
    rf_params *p = &a->params;
    if (chance(state, 15)) p->embed = chance(state, 70) ? RF_EMBED_MEAN : RF_EMBED_LAST;
    if (p->logprobs && !p->embed && p->n_prompt_tokens <= MAX_SCORED) p->score = (rf_score)below(state, 3);
    for (int i = 0; i < 2; i++) a->bias[i] = (rf_logit_bias){(int32_t)below(state, 1000), (float)below(state, 21) - 10};
    p->n_logit_bias = chance(state, 20) ? 2 : 0;
}

static void ask_init(const oracle *o, ask *a, uint64_t *state, uint32_t n_prompt) {
    static const char *const stops[] = {" the", ".", "\n", "e", "ing", ", and", " never said at all"};
    a->params = rf_params_default();
    a->params.max_tokens = chance(state, 50) ? between(state, 1, 12) : between(state, 1, MAX_ANSWER);
    a->params.ignore_eos = chance(state, 50);
    draw_sampling(&a->params, state);
    for (int i = 0; i < 2; i++) a->stops[i] = stops[below(state, sizeof stops / sizeof *stops)];
    a->params.n_stop = chance(state, 30) ? 2 : 0;
    a->params.cache_salt = chance(state, 10) ? "apart" : NULL;
    draw_prompt(o, a, state, n_prompt);
}

// Some of the requests are further answers to the one before: the same but for the seed.
static void make_asks(oracle *o) {
    uint64_t state = o->seed;
    for (uint32_t i = 0; i < o->n_asks; i++) {
        ask *a = &o->asks[i];
        if (i && i != N_QUICK && chance(&state, 15)) {
            *a = o->asks[i - 1];
            a->params.seed++;
        } else {
            uint32_t n = i == 0 ? 1 : i == N_QUICK ? MAX_PROMPT : draw_length(&state);
            ask_init(o, a, &state, n);
            if (i > N_QUICK) draw_extras(a, &state); // few are asked quickly, and they are for preemptions and guesses
        }
        a->number = i;
        a->params.prompt_tokens = a->prompt, a->params.stop = a->stops, a->params.logit_bias = a->bias;
    }
}

static void read_texts(oracle *o, const rf_engine *g) {
    glob_t files;
    if (glob(RF_TEST_DATA "/texts/*.txt", 0, NULL, &files)) die("there are no texts in %s/texts", RF_TEST_DATA);
    o->text = zeroed(MAX_TEXT_TOKENS, sizeof *o->text);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        static char bytes[1 << 16];
        FILE *f = fopen(files.gl_pathv[i], "r");
        if (!f) die("%s cannot be read: %s", files.gl_pathv[i], strerror(errno));
        size_t n_bytes = fread(bytes, 1, sizeof bytes, f), room = MAX_TEXT_TOKENS - o->n_text;
        fclose(f);
        rf_error error = {0};
        int64_t n = rf_tokenize(g, bytes, n_bytes, false, o->text + o->n_text, room, &error);
        if (n < 0 || (size_t)n > room) die("%s: %s", files.gl_pathv[i], n < 0 ? error.message : "too long");
        o->n_text += (size_t)n;
    }
    globfree(&files);
}

// ---- answers -----------------------------------------------------------------------------------------------------

static size_t logprob_width(const ask *a) { return a->params.logprobs ? 1 + a->params.n_logprobs : 0; }

static void answer_add(answer *to, const rf_event *event, size_t width) {
    if (to->finish) die("an event came after the end");
    if (event->kind == RF_EVENT_END) {
        to->finish = event->finish, to->error = event->error, to->n_embedding = event->n_embedding;
        if (to->n_embedding > MAX_D_MODEL) die("an embedding of %zu is more than was foreseen", to->n_embedding);
        if (to->n_embedding) memcpy(to->embedding, event->embedding, to->n_embedding * sizeof *to->embedding);
        return;
    }
    if (to->n_tokens + event->n_tokens > MAX_SHOWN || to->n_bytes + event->n_bytes > sizeof to->text)
        die("an answer is longer than was asked");
    if (width)
        memcpy(to->logprobs + to->n_tokens * width, event->logprobs, event->n_tokens * width * sizeof *to->logprobs);
    if (event->n_tokens) memcpy(to->tokens + to->n_tokens, event->tokens, event->n_tokens * sizeof *to->tokens);
    if (event->n_bytes) memcpy(to->text + to->n_bytes, event->text, event->n_bytes);
    to->n_tokens += event->n_tokens, to->n_scored += event->n_prompt_tokens, to->n_bytes += event->n_bytes;
}

static size_t common_tokens(const answer *a, const answer *b) {
    size_t n = 0;
    while (n < a->n_tokens && n < b->n_tokens && a->tokens[n] == b->tokens[n]) n++;
    return n;
}

// Where a cancelled text ends may be inside a character, shown as U+FFFD, or inside what was to become a stop string.
static bool is_text_beginning(const ask *a, const answer *got, const answer *solo) {
    size_t n = 0;
    while (n < got->n_bytes && n < solo->n_bytes && got->text[n] == solo->text[n]) n++;
    size_t rest = got->n_bytes - n;
    if (rest >= 3 && !memcmp(got->text + got->n_bytes - 3, "\xEF\xBF\xBD", 3)) rest -= 3;
    for (size_t i = 0; i < a->params.n_stop && rest; i++)
        if (!strncmp(a->stops[i], got->text + n, rest)) rest = 0;
    return rest == 0;
}

// What is wrong with the answer; NULL: nothing.
static const char *find_fault(const ask *a, const answer *solo) {
    const answer *got = &a->answer;
    bool cut = a->cancelled && got->finish == RF_FINISH_CANCELLED;
    size_t n = got->n_tokens, width = logprob_width(a);
    if (common_tokens(got, solo) < n) return "tokens differ";
    if (memcmp(got->logprobs, solo->logprobs, n * width * sizeof *got->logprobs)) return "log-probabilities differ";
    if (cut) return is_text_beginning(a, got, solo) ? NULL : "the text is not how the other begins";
    if (got->finish != solo->finish) return got->finish == RF_FINISH_ERROR ? got->error.message : "the finish differs";
    if (n != solo->n_tokens) return "it ends too early";
    if (got->n_scored != (a->params.score ? a->params.n_prompt_tokens : 0)) return "not the whole prompt was scored";
    if (got->n_embedding != solo->n_embedding || !got->n_embedding != !a->params.embed)
        return "the embedding is missing";
    if (memcmp(got->embedding, solo->embedding, got->n_embedding * sizeof *got->embedding))
        return "the embedding differs";
    if (got->n_bytes != solo->n_bytes || memcmp(got->text, solo->text, got->n_bytes)) return "the text differs";
    return NULL;
}

// ---- alone -------------------------------------------------------------------------------------------------------

static rf_engine *engine_open(const oracle *o, const rf_engine_options *options) {
    rf_error error = {0};
    rf_engine *g = rf_engine_open(o->model, options, &error);
    if (!g && error.code != RF_ERR_UNSUPPORTED) die("%s", error.message);
    if (!g) printf("skipped: %s\n", error.message);
    return g;
}

static void ask_alone(rf_engine *g, ask *a, answer *to) {
    char salt[32];
    rf_params p = a->params;
    snprintf(salt, sizeof salt, "alone %u", a->number); // nothing of the others' is found
    p.cache_salt = salt;
    rf_error error = {0};
    rf_request *r = rf_submit(g, &p, &error);
    if (!r) die("request %u alone: %s", a->number, error.message);
    while (!to->finish) {
        rf_event event;
        if (!rf_wait(r, &event, PATIENCE_SECONDS * 1000)) die("request %u alone: nothing comes", a->number);
        answer_add(to, &event, logprob_width(a));
        if (event.kind == RF_EVENT_END && event.usage.cached_tokens) die("request %u was not alone", a->number);
    }
    if (to->finish == RF_FINISH_ERROR) die("request %u alone: %s", a->number, to->error.message);
    rf_release(r);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static rf_engine *alone(oracle *o, kv type) {
    if (!o->alone[type])
        o->alone[type] = engine_open(o, &(rf_engine_options){.n_ctx = N_CTX, .kv_type = kv_names[type]});
    return o->alone[type];
}

// Bytes of a KV pool for so many tokens; the engine alone has one for N_CTX.
static uint64_t kv_bytes(oracle *o, kv type, uint32_t n_tokens) {
    rf_model_info info;
    rf_model_get_info(alone(o, type), &info);
    return (info.kv_bytes * n_tokens + N_CTX - 1) / N_CTX;
}

// The answers that are not known yet.
static void solve(oracle *o, ask **set, uint32_t n, kv type) {
    double began = now_s();
    uint32_t n_new = 0;
    for (uint32_t i = 0; i < n; i++) {
        answer *to = &set[i]->solo[type];
        if (to->finish) continue;
        ask_alone(alone(o, type), set[i], to);
        n_new++;
    }
    if (!n_new) return;
    rf_model_info info;
    rf_model_get_info(alone(o, type), &info);
    printf("alone: %u requests on %s, %d threads, KV %s, %.1f s\n", n_new, info.isa, info.n_threads, kv_names[type],
           now_s() - began);
    fflush(stdout);
}

// ---- together ----------------------------------------------------------------------------------------------------

typedef struct traffic {
    const config *config;
    rf_engine *engine;
    ask **asks; // [n], in order of arrival
    uint32_t n, n_sent, n_ended, n_faults;
    ask **live; // [n_live]
    uint32_t n_live, window;
    uint64_t state, n_events, n_cancelled;
    sem_t ready;
} traffic;

static void notified(void *arg) { sem_post(arg); }

static void doom(traffic *t, ask *a) {
    a->doomed = true;
    a->cancel_tokens = SIZE_MAX, a->cancel_event = UINT64_MAX;
    if (chance(&t->state, 50))
        a->cancel_tokens = below(&t->state, 1 + (uint32_t)a->solo[t->config->kv].n_tokens);
    else
        a->cancel_event = t->n_events + 1 + below(&t->state, 8 * t->config->max_running);
}

static void send_next(traffic *t) {
    ask *a = t->asks[t->n_sent++];
    rf_params p = a->params;
    p.notify = notified, p.notify_arg = &t->ready;
    p.priority = (int32_t)below(&t->state, 3);
    a->answer = (answer){0};
    a->doomed = a->cancelled = false;
    if (chance(&t->state, 15)) doom(t, a);
    rf_error error = {0};
    a->request = rf_submit(t->engine, &p, &error);
    if (!a->request) die("request %u: %s", a->number, error.message);
    t->live[t->n_live++] = a;
}

static void judge(oracle *o, traffic *t, const ask *a) {
    const answer *solo = &a->solo[t->config->kv], *got = &a->answer;
    const char *fault = find_fault(a, solo);
    t->n_cancelled += got->finish == RF_FINISH_CANCELLED;
    if (!fault || t->n_faults++ >= MAX_TOLD) return;
    size_t n = common_tokens(got, solo);
    printf("WRONG: request %u (%zu prompt tokens, temperature %g) under configuration %s: %s\n", a->number,
           a->params.n_prompt_tokens, (double)a->params.temperature, t->config->name, fault);
    printf("       %s after %zu tokens, alone %s after %zu; the first %zu are equal, then %d, alone %d\n",
           rf_finish_name(got->finish), got->n_tokens, rf_finish_name(solo->finish), solo->n_tokens, n,
           n < got->n_tokens ? got->tokens[n] : -1, n < solo->n_tokens ? solo->tokens[n] : -1);
    printf("       to see it again: oracle %s --seed %llu --only %s%s\n", o->model, (unsigned long long)o->seed,
           t->config->name, o->quick ? " --quick" : "");
}

// Everything that is there for one request; true when it has ended.
static bool listen(traffic *t, ask *a) {
    rf_event event;
    while (rf_poll(a->request, &event)) {
        answer_add(&a->answer, &event, logprob_width(a));
        t->n_events++;
    }
    if (a->doomed && (a->answer.n_tokens >= a->cancel_tokens || t->n_events >= a->cancel_event)) {
        a->cancelled = true;
        rf_cancel(a->request);
    }
    return a->answer.finish;
}

static void wait_ready(traffic *t) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_SECONDS;
    while (sem_timedwait(&t->ready, &until))
        if (errno != EINTR) die("configuration %s: nothing comes for %d s", t->config->name, PATIENCE_SECONDS);
}

static void run_traffic(oracle *o, traffic *t) {
    while (t->n_ended < t->n) {
        if (t->window == 0 || chance(&t->state, 10)) t->window = between(&t->state, 1, 2 * t->config->max_running + 4);
        while (t->n_sent < t->n && t->n_live < t->window) send_next(t);
        wait_ready(t);
        for (uint32_t i = t->n_live; i-- > 0;) {
            ask *a = t->live[i];
            if (!listen(t, a)) continue;
            rf_release(a->request);
            judge(o, t, a);
            t->live[i] = t->live[--t->n_live];
            t->n_ended++;
        }
    }
}

static void require(traffic *t, bool holds, const char *words) {
    if (holds) return;
    printf("WRONG: %s\n", words);
    t->n_faults++;
}

static void account(oracle *o, traffic *t, double seconds) {
    const config *c = t->config;
    rf_stats s;
    rf_model_info info;
    rf_get_stats(t->engine, &s);
    rf_model_get_info(t->engine, &info);
    printf("%s: %s, %d threads, %u tokens a step, %u running, %u guessed, KV %s in %llu pages: %u of %u requests",
           c->name, info.isa, info.n_threads, c->step_tokens, c->max_running, c->speculate, kv_names[c->kv],
           (unsigned long long)s.n_pages, t->n, o->n_asks);
    if (c->longest) printf(" (those of at most %u tokens)", c->longest);
    printf(", %llu cancelled, %llu preempted, %llu of %llu prompt tokens cached, %llu of %llu guesses right, %.1f s\n",
           (unsigned long long)t->n_cancelled, (unsigned long long)s.n_preempted, (unsigned long long)s.cached_tokens,
           (unsigned long long)s.prompt_tokens, (unsigned long long)s.accepted_tokens,
           (unsigned long long)s.draft_tokens, seconds);
    require(t, !s.n_pages_used && !s.n_running && !s.n_queued, "something is left behind");
    require(t, s.n_preempted || !(c->must & PREEMPT), "nobody was preempted");
    require(t, s.cached_tokens || !(c->must & SHARE), "nothing was shared");
    require(t, s.accepted_tokens || !(c->must & GUESS), "nothing was guessed right");
    fflush(stdout);
    o->totals.n_configs++, o->totals.n_answers += t->n, o->totals.n_cancelled += t->n_cancelled;
    o->totals.n_preempted += s.n_preempted, o->totals.n_cached += s.cached_tokens;
    o->totals.n_guessed += s.accepted_tokens, o->totals.n_faults += t->n_faults;
}

// The requests that the configuration takes, shuffled.
static uint32_t choose(oracle *o, traffic *t) {
    const config *c = t->config;
    for (uint32_t i = 0; i < o->n_asks && !(c->n_asks && t->n == c->n_asks); i++) {
        const rf_params *p = &o->asks[i].params;
        if (!c->longest || p->n_prompt_tokens + p->max_tokens <= c->longest) t->asks[t->n++] = &o->asks[i];
    }
    for (uint32_t i = t->n; i > 1; i--) {
        uint32_t j = below(&t->state, i);
        ask *a = t->asks[i - 1];
        t->asks[i - 1] = t->asks[j], t->asks[j] = a;
    }
    return t->n;
}

static void replay(oracle *o, const config *c) {
    traffic t = {.config = c, .state = o->seed + (uint64_t)(c - configs) * 1000003};
    t.asks = zeroed(o->n_asks, sizeof *t.asks), t.live = zeroed(o->n_asks, sizeof *t.live);
    sem_init(&t.ready, 0, 0);
    if (!choose(o, &t)) die("no request has at most %u tokens, as configuration %s needs", c->longest, c->name);
    solve(o, t.asks, t.n, c->kv);
    rf_engine_options options = {.isa = c->isa,
                                 .n_threads = c->n_threads,
                                 .step_tokens = c->step_tokens,
                                 .max_running = c->max_running,
                                 .speculate = c->speculate,
                                 .kv_type = kv_names[c->kv],
                                 .kv_bytes = kv_bytes(o, c->kv, c->pool),
                                 .n_ctx = c->longest ? c->longest : N_CTX};
    t.engine = engine_open(o, &options);
    double began = now_s();
    if (t.engine) {
        run_traffic(o, &t);
        account(o, &t, now_s() - began);
    } else {
        o->totals.n_skipped++;
    }
    rf_engine_close(t.engine, 0);
    sem_destroy(&t.ready);
    free(t.asks), free(t.live);
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static bool parse_options(oracle *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        char *end = "";
        if (!strcmp(argv[i], "--quick"))
            o->quick = true;
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            o->seed = strtoull(argv[++i], &end, 10);
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            o->only = argv[++i];
        else if (!o->model && argv[i][0] != '-')
            o->model = argv[i];
        else
            return false;
        if (*end) return false;
    }
    return o->model;
}

static bool is_wanted(const oracle *o, const config *c) {
    return o->only ? !strcmp(o->only, c->name) : c->quick || !o->quick;
}

int main(int argc, char **argv) {
    oracle o = {.seed = 1};
    if (!parse_options(&o, argc, argv))
        return fprintf(stderr, "usage: oracle MODEL [--quick] [--seed S] [--only CONFIGURATION]\n"), 2;
    double began = now_s();
    o.n_asks = o.quick ? N_QUICK : N_ASKS;
    o.asks = zeroed(o.n_asks, sizeof *o.asks);
    read_texts(&o, alone(&o, KV_BF16));
    make_asks(&o);
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++)
        if (is_wanted(&o, &configs[i])) replay(&o, &configs[i]);
    const totals *t = &o.totals;
    printf("oracle: seed %llu, %u requests, %llu configurations (%llu skipped), %llu answers compared, %llu cancelled, "
           "%llu preempted, %llu tokens cached, %llu guessed, %llu wrong, %.0f s\n",
           (unsigned long long)o.seed, o.n_asks, (unsigned long long)t->n_configs, (unsigned long long)t->n_skipped,
           (unsigned long long)t->n_answers, (unsigned long long)t->n_cancelled, (unsigned long long)t->n_preempted,
           (unsigned long long)t->n_cached, (unsigned long long)t->n_guessed, (unsigned long long)t->n_faults,
           now_s() - began);
    for (int i = 0; i < N_KV; i++) rf_engine_close(o.alone[i], 0);
    free(o.asks), free(o.text);
    return t->n_faults || !t->n_configs ? 1 : 0;
}

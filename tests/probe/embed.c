// Embed: what a real model's embeddings are, for tests/system/test_embed.py; a user of the public header alone.
//
//     embed MODEL STEP_TOKENS THREADS [ISA] < texts, one a line
//
// Every text is asked for its mean, its last state and an answer, all at once, so that they meet in batches; and then
// once more, when the cache knows them. Each embedding is a line of JSON on standard output, in the order asked.
#include <rocmforge.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXTS = 32, KINDS = 3, MAX_BYTES = 1 << 14 };

static void stop(const char *message) {
    fprintf(stderr, "embed: %s\n", message);
    exit(1);
}

static void print_end(uint32_t text, rf_embed kind, const rf_event *e) {
    printf("{\"text\": %u, \"pooling\": \"%s\", \"prompt_tokens\": %u, \"cached_tokens\": %u, \"embedding\": [", text,
           kind == RF_EMBED_MEAN ? "mean" : "last", e->usage.prompt_tokens, e->usage.cached_tokens);
    for (size_t i = 0; i < e->n_embedding; i++) printf("%s%.9g", i ? ", " : "", (double)e->embedding[i]);
    printf("]}\n");
}

static void ask_everything(rf_engine *g, char texts[][MAX_BYTES], uint32_t n_texts) {
    rf_request *r[MAX_TEXTS * KINDS];
    for (uint32_t i = 0; i < n_texts * KINDS; i++) {
        rf_params p = rf_params_default();
        rf_error error = {0};
        p.prompt = texts[i / KINDS], p.embed = (rf_embed)(i % KINDS), p.max_tokens = 8;
        if (!(r[i] = rf_submit(g, &p, &error))) stop(error.message);
    }
    for (uint32_t i = 0; i < n_texts * KINDS; i++) {
        rf_event e;
        do rf_wait(r[i], &e, -1);
        while (e.kind != RF_EVENT_END);
        if (e.finish == RF_FINISH_ERROR) stop(e.error.message);
        if (i % KINDS) print_end(i / KINDS, (rf_embed)(i % KINDS), &e);
        rf_release(r[i]);
    }
}

int main(int argc, char **argv) {
    static char texts[MAX_TEXTS][MAX_BYTES];
    uint32_t n_texts = 0;
    if (argc < 4 || argc > 5) stop("usage: embed MODEL STEP_TOKENS THREADS [ISA] < texts");
    while (n_texts < MAX_TEXTS && fgets(texts[n_texts], MAX_BYTES, stdin)) {
        texts[n_texts][strcspn(texts[n_texts], "\n")] = '\0';
        n_texts++;
    }
    rf_engine_options o = {.step_tokens = (uint32_t)atoi(argv[2]), .n_threads = atoi(argv[3]), .isa = argv[4]};
    o.max_running = o.step_tokens < 6 ? o.step_tokens : 6, o.n_ctx = 512;
    rf_error error = {0};
    rf_engine *g = rf_engine_open(argv[1], &o, &error);
    if (!g) stop(error.message);
    for (int round = 0; round < 2; round++) ask_everything(g, texts, n_texts);
    rf_engine_close(g, 0);
    return 0;
}

// Implements metrics.h and GET /metrics.
#include "server/call.h"

void metrics_add_duration(rf_histogram *h, int64_t us) {
    uint32_t i = 0;
    while (i + 1 < RF_HISTOGRAM_BUCKETS && us >= (int64_t)RF_HISTOGRAM_FIRST_US << i) i++;
    h->count++, h->sum_us += (uint64_t)us, h->buckets[i]++;
}

static void put_number(buf *b, const char *name, const char *type, const char *help, uint64_t value) {
    buf_printf(b, "# HELP rocmforge_%s %s\n# TYPE rocmforge_%s %s\nrocmforge_%s %llu\n", name, help, name, type, name,
               (unsigned long long)value);
}

typedef struct histogram { // bucket i ends at first << i, the last one never
    const uint64_t *buckets;
    uint32_t n_buckets;
    double first, sum;
    uint64_t count;
} histogram;

static void put_histogram(buf *b, const char *name, const char *help, histogram h) {
    uint64_t sum = 0;
    buf_printf(b, "# HELP rocmforge_%s %s\n# TYPE rocmforge_%s histogram\n", name, help, name);
    for (uint32_t i = 0; i + 1 < h.n_buckets; i++) {
        sum += h.buckets[i];
        buf_printf(b, "rocmforge_%s_bucket{le=\"%.9g\"} %llu\n", name, h.first * (double)(1ull << i),
                   (unsigned long long)sum);
    }
    buf_printf(b, "rocmforge_%s_bucket{le=\"+Inf\"} %llu\nrocmforge_%s_sum %.9g\nrocmforge_%s_count %llu\n", name,
               (unsigned long long)h.count, name, h.sum, name, (unsigned long long)h.count);
}

static void put_durations(buf *b, const char *name, const char *help, const rf_histogram *h) {
    put_histogram(b, name, help,
                  (histogram){h->buckets, RF_HISTOGRAM_BUCKETS, RF_HISTOGRAM_FIRST_US * 1e-6, (double)h->sum_us * 1e-6,
                              h->count});
}

static void put_sizes(buf *b, const char *name, const char *help, const rf_batch_histogram *h) {
    put_histogram(b, name, help, (histogram){h->buckets, RF_BATCH_BUCKETS, 1, (double)h->sum, h->count});
}

static void put_engine(buf *b, const rf_stats *s) {
    buf_append_str(b, "# HELP rocmforge_requests_total Requests that have ended, by cause.\n# TYPE "
                      "rocmforge_requests_total counter\n");
    for (int i = RF_FINISH_STOP; i <= RF_FINISH_ERROR; i++)
        buf_printf(b, "rocmforge_requests_total{finish=\"%s\"} %llu\n", rf_finish_name((rf_finish)i),
                   (unsigned long long)s->n_ended[i]);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"requests_queued", "gauge", "Requests that wait.", s->n_queued},
        {"requests_running", "gauge", "Requests that are served.", s->n_running},
        {"preemptions_total", "counter", "Times a running request gave its pages to others.", s->n_preempted},
        {"kv_pages", "gauge", "Pages of the KV cache.", s->n_pages},
        {"kv_pages_used", "gauge", "Pages that requests hold.", s->n_pages_used},
        {"kv_pages_cached", "gauge", "Free pages that hold a known beginning.", s->n_pages_cached},
        {"kv_pages_evicted_total", "counter", "Cached pages that gave way.", s->n_evicted_pages},
        {"prompt_tokens_total", "counter", "Tokens of admitted prompts.", s->prompt_tokens},
        {"cached_tokens_total", "counter", "Of these, found in the cache.", s->cached_tokens},
        {"completion_tokens_total", "counter", "Tokens answered.", s->completion_tokens},
        {"draft_tokens_total", "counter", "Tokens guessed ahead.", s->draft_tokens},
        {"accepted_tokens_total", "counter", "Guesses that were right.", s->accepted_tokens},
        {"steps_total", "counter", "Steps of the engine.", s->n_steps},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put_number(b, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    put_durations(b, "time_to_first_token_seconds", "From submit to the first token.", &s->first_token);
    put_durations(b, "inter_token_seconds", "Between tokens of a request.", &s->inter_token);
    put_durations(b, "step_seconds", "Durations of steps.", &s->step);
    put_sizes(b, "step_sequences", "Sequences that steps had.", &s->batch);
}

static void put_server(buf *b, const server *s) {
    buf_append_str(b, "# HELP rocmforge_http_replies_total Replies by class of status.\n# TYPE "
                      "rocmforge_http_replies_total counter\n");
    for (int i = 2; i < 6; i++)
        buf_printf(b, "rocmforge_http_replies_total{class=\"%dxx\"} %llu\n", i,
                   (unsigned long long)s->metrics->n_exchanges[i]);
    put_number(b, "requests_refused_total", "counter", "Requests told 429: the queue is full, or the key's share.",
               s->metrics->n_busy);
    put_number(b, "http_clients_gone_total", "counter", "Clients that left before their reply had ended.",
               s->metrics->n_gone);
    put_number(b, "http_connections", "gauge", "Open connections.", http_n_connections(s->http));
    put_durations(b, "delivery_seconds", "Streamed pieces, from the engine to the client's socket.",
                  &s->metrics->delivery);
    put_durations(b, "request_seconds", "Generations, from arrival to the last byte.", &s->metrics->end_to_end);
}

void metrics_show(call *c) {
    buf b = {0};
    put_server(&b, c->s);
    if (c->s->engine) {
        rf_stats stats;
        rf_get_stats(c->s->engine, &stats);
        put_engine(&b, &stats);
    }
    exchange_reply(c->x, 200, "text/plain; version=0.0.4; charset=utf-8", b.data, b.n_bytes);
    buf_free(&b);
}

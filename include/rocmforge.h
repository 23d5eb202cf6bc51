// rocmforge.h: the public API of librocmforge, an LLM inference engine. This comment is a complete program:
//
//     #include <rocmforge.h>
//     #include <stdio.h>
//
//     int main(int argc, char **argv) {
//         rf_error error = {0};
//         rf_engine *engine = rf_engine_open(argv[1], NULL, &error);          // a GGUF file
//         if (!engine) return fprintf(stderr, "%s\n", error.message), 1;
//         rf_params params = rf_params_default();
//         params.prompt = argv[2], params.max_tokens = 64;
//         rf_request *request = rf_submit(engine, &params, &error);
//         if (!request) return fprintf(stderr, "%s\n", error.message), 1;
//         rf_event event;
//         do {
//             rf_wait(request, &event, -1);
//             if (event.kind == RF_EVENT_TEXT) fwrite(event.text, 1, event.n_bytes, stdout);
//         } while (event.kind != RF_EVENT_END);
//         rf_release(request);
//         rf_engine_close(engine, 0);
//     }
//
// Threads: every function may be called from any thread, except that one request's rf_poll/rf_wait belong to one thread
// at a time. Ownership: who gets an object from a function that returns one must give it back (close, release).
// Laws: the tokens or the embedding of a request depend on the model file, its prompt, its parameters and its seed, and
// on nothing else; every accepted request gets exactly one RF_EVENT_END, always last; rf_cancel is legal at any time,
// any number of times.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- errors ------------------------------------------------------------------------------------------------------

typedef enum rf_code {
    RF_OK = 0,
    RF_ERR_USAGE,       // a parameter is outside its documented range
    RF_ERR_IO,          // the operating system refused: open, read, map
    RF_ERR_FORMAT,      // a file or text is not what its format says
    RF_ERR_UNSUPPORTED, // well-formed, but not something this build can do
    RF_ERR_MEMORY,      // a large allocation, or the memory budget
    RF_ERR_BUSY,        // the queue is full: try again later
    RF_ERR_TOO_LONG,    // prompt (or prompt and max_tokens) could never fit
    RF_ERR_NUMERIC,     // the model produced non-finite values
    RF_ERR_STOPPED,     // the engine is shutting down
    RF_ERR_INTERNAL,
} rf_code;

typedef struct rf_error {
    rf_code code;
    char message[300]; // one sentence: what was wrong and where
} rf_error;

// ---- engine ------------------------------------------------------------------------------------------------------

typedef struct rf_engine rf_engine;

typedef struct rf_engine_options { // zero (or NULL for the whole struct) means the default
    int n_threads;                 // 0: affinity mask and cgroup quota
    const char *isa;               // NULL: the widest; "scalar", "avx2", "avxvnni", "avx512", "amx"
    uint32_t n_ctx;                // tokens per sequence; 0: the model's training context, at most what memory allows
    uint32_t max_running;          // sequences decoded together; default 32
    uint32_t max_queue;            // requests waiting, preempted ones too; default 256; more: RF_ERR_BUSY
    uint32_t step_tokens;          // tokens per step; default 512
    uint32_t speculate;            // most tokens guessed ahead per sequence and step, 0 (off) to 32; see below
    const char *kv_type;           // NULL: "bf16"; "f16" is exacter, slower; "q8_0" half the size, a little less exact
    const char *chat_template;     // NULL: the model file's own. Copied
    // Weights, KV pool and working memory together; 0: what the control group allows, or the machine has. A model whose
    // weights do not fit is refused.
    uint64_t memory_bytes;
    // Size of the KV pool. 0: with memory_bytes all that is left of it (at most what max_running sequences of n_ctx
    // tokens can fill); without, n_ctx tokens once, and a quarter of the memory at most.
    uint64_t kv_bytes;
    void (*progress)(void *arg, double fraction); // loading; may be NULL
    void *progress_arg;
    // Speculation: where an answer repeats its prompt or itself, the next tokens are guessed and checked together in
    // one step. The answer is the same; it comes sooner where guesses are right, and hardly later where they are not.
} rf_engine_options;

// Loads a model and starts the engine thread. NULL and *error on failure.
rf_engine *rf_engine_open(const char *model_path, const rf_engine_options *options, rf_error *error);
// Stops: waits up to drain_ms for running requests, cancels the rest (each gets its RF_EVENT_END), joins every thread
// and frees. Request handles stay valid until released. engine may be NULL.
void rf_engine_close(rf_engine *engine, int drain_ms);

typedef struct rf_model_info {
    const char *name, *architecture; // borrowed from the engine
    uint32_t n_vocab, n_ctx_train, n_ctx, n_layers, d_model;
    uint64_t n_params, file_bytes;
    uint64_t memory_bytes, weight_bytes, kv_bytes, work_bytes; // the first is not less than the sum of the others
    const char *isa;
    int n_threads;
    const char *chat_template; // NULL if there is none
} rf_model_info;
void rf_model_get_info(const rf_engine *engine, rf_model_info *info);

// Tokens of a text. Writes at most capacity ids, returns how many there are (call again with more room), -1 on error.
int64_t rf_tokenize(const rf_engine *engine, const char *text, size_t n_bytes, bool parse_special, int32_t *ids,
                    size_t capacity, rf_error *error);
// Bytes of one token (borrowed from the engine); NULL if the id is out of range.
const char *rf_token_bytes(const rf_engine *engine, int32_t token, size_t *n_bytes);

// ---- conversations -----------------------------------------------------------------------------------------------

typedef struct rf_prompt { // free it with rf_prompt_free
    char *text;            // what the template wrote, for people to read; NUL-terminated
    size_t n_bytes;
    int32_t *tokens; // what to submit. Not rf_tokenize of the text: what users wrote never becomes a control token
    size_t n_tokens;
} rf_prompt;

// Writes a conversation as the model's chat template wants it. The request is a JSON object, with members
//     messages                of objects, most with a "role" and a "content"; the only one that must be there
//     tools, documents        arrays as the template wants them, or null
//     add_generation_prompt   whether the prompt ends where an answer begins; true if missing
//     chat_template_kwargs    an object: further variables for the template, such as enable_thinking
//     date                    "2026-11-25" or "2026-11-25T13:45:00": what a template that asks for the time is told.
//                             Without it there is no time, and most such templates then tell the model a fixed one
// All that the prompt holds is in it: no BOS token is added to what the template wrote. False and *error when the
// request is not like that, there is no template, it refuses the conversation (in its own words), or the prompt is far
// too long for the context.
bool rf_chat_render(const rf_engine *engine, const char *request, size_t n_bytes, rf_prompt *prompt, rf_error *error);
void rf_prompt_free(rf_prompt *prompt);

// ---- requests ----------------------------------------------------------------------------------------------------

typedef struct rf_request rf_request;

typedef enum rf_embed { RF_EMBED_NONE = 0, RF_EMBED_MEAN, RF_EMBED_LAST } rf_embed;

typedef enum rf_score { RF_SCORE_NONE = 0, RF_SCORE_FIRST, RF_SCORE_ONLY } rf_score;

typedef struct rf_logit_bias {
    int32_t token;
    float bias; // [-100, 100]
} rf_logit_bias;

typedef struct rf_params {
    // Prompt: text (NUL-terminated, or n_prompt_bytes of it when not 0) or tokens (when n_prompt_tokens is not 0).
    // Copied.
    const char *prompt;
    size_t n_prompt_bytes;
    const int32_t *prompt_tokens;
    size_t n_prompt_tokens;
    bool parse_special; // "<|im_start|>" in the text is the control token

    // Not an answer, but the prompt's embedding is wanted: its hidden states after the final norm, their mean or the
    // last one, made 1 long (Euclid). It comes with the END event, RF_FINISH_STOP. What shapes answers is without
    // effect, and the prompt may fill the context.
    rf_embed embed;

    uint32_t max_tokens;     // 1..; 0: until the context is full
    float temperature;       // 0: greedy. >= 0
    uint32_t top_k;          // 0: off
    float top_p;             // (0, 1]; 1: off
    float min_p;             // [0, 1]; 0: off
    float repeat_penalty;    // > 0; 1: off. Divides positive logits, multiplies negative ones (CTRL, Keskar 2019)
    float presence_penalty;  // [-2, 2]; subtracted once from tokens that occurred
    float frequency_penalty; // [-2, 2]; subtracted per occurrence
    uint32_t penalty_last_n; // tokens (prompt and answer) looked at by repeat_penalty; 0: all
    // Added to the logits before all of the above: in practice -100 bans a token and 100 leaves no other, whatever the
    // temperature, 0 too. n_logit_bias of them, at most 1024; those of one token add up. Log-probabilities are the
    // model's own, without them. Copied.
    const rf_logit_bias *logit_bias;
    size_t n_logit_bias;
    uint64_t seed;
    bool ignore_eos;
    const char *const *stop; // n_stop strings; never shown. Copied
    size_t n_stop;
    int64_t timeout_ms;  // 0: none; counted from submit
    int32_t priority;    // higher runs first
    uint32_t n_logprobs; // log-probabilities of the chosen token and this many alternatives (0..20) ...
    bool logprobs;       // ... are given with each event
    // With logprobs: the prompt's are given as well, before the answer (FIRST), or without one (ONLY): then the prompt
    // may fill the context, and the end is RF_FINISH_LENGTH. Such a prompt is read in chunks of as many tokens as there
    // are rows of logits, about max_running.
    rf_score score;
    const char *id; // copied, for statistics and traces; may be NULL
    // Prompts that begin alike share cached work. Only requests of equal salt do, so that nobody can tell from the time
    // an answer takes what others asked. NULL is ""; at most 64 bytes. Copied.
    const char *cache_salt;

    // Called when events become ready after none were, on the engine's thread: do nothing there but wake your own
    // thread (write an eventfd). May be NULL.
    void (*notify)(void *arg);
    void *notify_arg;
} rf_params;

rf_params rf_params_default(void); // max_tokens 0, temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, seed 0, ...

typedef enum rf_finish {
    RF_FINISH_NONE = 0,
    RF_FINISH_STOP,   // end-of-generation token or a stop string
    RF_FINISH_LENGTH, // max_tokens or the end of the context
    RF_FINISH_CANCELLED,
    RF_FINISH_TIMEOUT,
    RF_FINISH_ERROR, // see event.error
} rf_finish;
const char *rf_finish_name(rf_finish finish); // "stop", "length", "cancelled", "timeout", "error"

typedef struct rf_usage {
    uint32_t prompt_tokens, completion_tokens;
    uint32_t cached_tokens;                   // of the prompt, not computed again: the work of earlier requests
    uint32_t draft_tokens, accepted_tokens;   // of speculation: tried; found right
    int64_t queued_us, prefill_us, decode_us; // durations
} rf_usage;

typedef struct rf_token_logprob {
    int32_t token;
    float logprob;
} rf_token_logprob;

typedef enum rf_event_kind { RF_EVENT_NONE, RF_EVENT_TEXT, RF_EVENT_END } rf_event_kind;

typedef struct rf_event { // pointers are borrowed until the next rf_poll/rf_wait/rf_release of this request
    rf_event_kind kind;
    const char *text; // TEXT: whole UTF-8 characters; several tokens may share one event, n_bytes may be 0
    size_t n_bytes;
    const int32_t *tokens; // the tokens behind this event
    size_t n_tokens;
    int64_t made_us; // TEXT: when the engine gave the oldest of it, on CLOCK_MONOTONIC
    // With params.score the prompt's tokens come first, without text, and this many of them are in this event. The very
    // first follows nothing: its log-probability is 0, and -1 stands for each alternative.
    size_t n_prompt_tokens;
    const rf_token_logprob *logprobs; // with params.logprobs: [n_tokens][1 + n_logprobs], the chosen token first
    rf_finish finish;                 // END
    rf_error error;                   // END with RF_FINISH_ERROR
    rf_usage usage;                   // END
    const float *embedding;           // END with RF_FINISH_STOP, with params.embed: [n_embedding], the model's d_model
    size_t n_embedding;
} rf_event;

// Hands a request to the engine. The parameters are validated here, once, for every front end. NULL and *error when a
// value is out of range, the prompt is empty, not UTF-8 or too long, the queue is full or the engine is stopping.
// Several answers to one prompt are several requests with the same prompt and other seeds (seed, seed + 1, ...), each
// with its own END. Submitted together they share the prompt's pages, and it is read once.
rf_request *rf_submit(rf_engine *engine, const rf_params *params, rf_error *error);
rf_request *rf_retain(rf_request *request);         // one more holder
void rf_release(rf_request *request);               // the last release of an unfinished request cancels it
void rf_cancel(rf_request *request);                // sets a flag; the END event follows within one engine step
bool rf_poll(rf_request *request, rf_event *event); // false: nothing ready
bool rf_wait(rf_request *request, rf_event *event, int timeout_ms); // -1: for ever; false: timed out

typedef enum rf_state { RF_QUEUED, RF_PREFILL, RF_DECODE, RF_DONE } rf_state;
typedef struct rf_status {
    rf_state state;
    rf_finish finish; // NONE until DONE
    uint32_t n_prompt, n_generated;
} rf_status;
void rf_get_status(const rf_request *request, rf_status *status); // an atomic snapshot

// ---- statistics --------------------------------------------------------------------------------------------------

enum { RF_HISTOGRAM_BUCKETS = 24, RF_HISTOGRAM_FIRST_US = 64, RF_BATCH_BUCKETS = 17 };

typedef struct rf_histogram { // of durations
    uint64_t count, sum_us;
    uint64_t buckets[RF_HISTOGRAM_BUCKETS]; // i: shorter than FIRST_US << i and in no bucket before; the last: the rest
} rf_histogram;

typedef struct rf_batch_histogram { // of the sequences that steps had
    uint64_t count, sum;
    uint64_t buckets[RF_BATCH_BUCKETS]; // i: at most 1 << i and in no bucket before; the last: the rest
} rf_batch_histogram;

typedef struct rf_stats {                           // since the engine was opened, unless it says "now"
    uint64_t n_ended[RF_FINISH_ERROR + 1];          // requests by rf_finish
    uint64_t n_queued, n_running;                   // now: waiting, preempted ones among them; being served
    uint64_t n_preempted;                           // times that a running request gave its pages to others
    uint64_t n_pages, n_pages_used, n_pages_cached; // now: of the KV pool; held by requests; kept for later ones
    uint64_t prompt_tokens, cached_tokens;          // of admitted requests: in all; those not computed again
    uint64_t n_evicted_pages;                       // cached pages that gave way
    uint64_t completion_tokens;
    uint64_t draft_tokens, accepted_tokens; // of speculation: tried; found right
    uint64_t n_steps;
    // Durations of steps; from submit to first token; between tokens, where those of one step share its time evenly.
    rf_histogram step, first_token, inter_token;
    rf_batch_histogram batch;
} rf_stats;
// A consistent snapshot as of the beginning or end of a step, or the end of a request; a request that lives is queued
// or running in it. Takes no lock.
void rf_get_stats(const rf_engine *engine, rf_stats *stats);

#ifdef __cplusplus
}
#endif

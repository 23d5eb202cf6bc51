// rocmforge inspect: what a GGUF file holds, for people or (--json) for programs. Reads metadata only, never weights.
//
// Invariant: memory does not grow with the file's arrays; values are written as they are met. Everything that comes
// from the file is escaped (text) or repaired (JSON) on its way out.
#include "cli/cli.h"
#include "gguf/gguf.h"

#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT_CHARS = 72, MAX_TEXT_ELEMS = 8, MAX_ELEM_CHARS = 24 };

typedef struct options {
    const char *path;
    bool json, tensors;
} options;

// The facts that people look for: metadata keys under the architecture's name, with our words for them.
static const struct {
    const char *key, *label, *json;
} facts[] = {
    {"context_length", "context", "n_ctx_train"},      {"block_count", "layers", "n_layers"},
    {"embedding_length", "width", "d_model"},          {"feed_forward_length", "feed forward", "d_ffn"},
    {"attention.head_count", "heads", "n_heads"},      {"attention.head_count_kv", "KV heads", "n_kv_heads"},
    {"attention.key_length", "head size", "head_dim"}, {"attention.sliding_window", "window", "sliding_window"},
    {"expert_count", "experts", "n_experts"},          {"expert_used_count", "experts used", "n_experts_used"},
    {"rope.freq_base", "RoPE base", "rope_base"},      {"rope.scaling.type", "RoPE scaling", "rope_scaling"},
};
enum { N_FACTS = sizeof facts / sizeof *facts };

static const gguf_value *fact_find(const gguf *g, size_t i) {
    gguf_str arch = {0};
    char key[128];
    gguf_get_str(g, "general.architecture", &arch, NULL);
    snprintf(key, sizeof key, "%.*s.%s", (int)(arch.n_bytes < 64 ? arch.n_bytes : 64), arch.data ? arch.data : "",
             facts[i].key);
    return gguf_find(g, key);
}

// ---- totals ------------------------------------------------------------------------------------------------------

typedef struct total {
    uint64_t n_tensors, n_params, n_bytes;
} total;

enum { MAX_TYPES = 64 };

// totals: [MAX_TYPES] by type id. The sums cannot wrap: tensors do not overlap, and a byte holds at most 8 elements.
static total sum_tensors(const gguf *g, total *totals) {
    total all = {0};
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        check(t->type < MAX_TYPES);
        uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        for (int k = 0; k < 2; k++) {
            total *sum = k ? &all : &totals[t->type];
            sum->n_tensors++, sum->n_params += n, sum->n_bytes += t->n_bytes;
        }
    }
    return all;
}

// ---- values as text ----------------------------------------------------------------------------------------------

// The shortest decimal that reads back as the same number.
static void print_float(double x, bool single) {
    char text[40];
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (single ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x) break;
    }
    fputs(isnan(x) ? "nan" : text, stdout);
}

// Element i of a value; strings are read from *at, which moves on.
static void print_element(const gguf_value *v, uint64_t i, const uint8_t **at, size_t max_chars) {
    switch (v->elem_kind) {
    case GGUF_KIND_STRING: {
        gguf_str s = gguf_next_str(at);
        putchar('"');
        cli_print_text(stdout, s.data, s.n_bytes, max_chars);
        putchar('"');
        break;
    }
    case GGUF_KIND_BOOL:
        fputs(gguf_array_int(v, i) ? "true" : "false", stdout);
        break;
    case GGUF_KIND_F32:
    case GGUF_KIND_F64:
        print_float(gguf_array_float(v, i), v->elem_kind == GGUF_KIND_F32);
        break;
    case GGUF_KIND_U64: {
        uint64_t x;
        memcpy(&x, v->data + 8 * i, sizeof x);
        printf("%" PRIu64, x);
        break;
    }
    default:
        printf("%" PRId64, gguf_array_int(v, i));
    }
}

static void print_value(const gguf_value *v) {
    const uint8_t *at = v->data;
    if (v->kind != GGUF_KIND_ARRAY) {
        print_element(v, 0, &at, MAX_TEXT_CHARS);
        return;
    }
    putchar('[');
    for (uint64_t i = 0; i < v->n && i < MAX_TEXT_ELEMS; i++) {
        if (i) fputs(", ", stdout);
        print_element(v, i, &at, MAX_ELEM_CHARS);
    }
    fputs(v->n > MAX_TEXT_ELEMS ? ", ...]" : "]", stdout);
}

static void print_string_of(const gguf *g, const char *label, const char *key) {
    gguf_str s = {0};
    if (!gguf_get_str(g, key, &s, NULL) || !s.data) return;
    printf("%-14s ", label);
    cli_print_text(stdout, s.data, s.n_bytes, MAX_TEXT_CHARS);
    putchar('\n');
}

static void print_totals(const gguf *g) {
    total totals[MAX_TYPES] = {0}, all = sum_tensors(g, totals);
    printf("%-14s %" PRIu64 " (%.4g million) in %" PRIu64 " tensors\n", "parameters", all.n_params,
           (double)all.n_params / 1e6, all.n_tensors);
    for (uint32_t i = 0; i < MAX_TYPES; i++)
        if (totals[i].n_tensors)
            printf("  %-12s %5" PRIu64 " tensors %14" PRIu64 " bytes %5.1f %%\n", gguf_type_name(i),
                   totals[i].n_tensors, totals[i].n_bytes, 100.0 * (double)totals[i].n_bytes / (double)all.n_bytes);
}

static void print_summary(const gguf *g, const char *path) {
    printf("%-14s ", "file");
    cli_print_text(stdout, path, strlen(path), SIZE_MAX);
    printf("\n%-14s GGUF version %" PRIu32 ", %" PRIu64 " bytes, alignment %" PRIu64 "\n", "format", gguf_version(g),
           gguf_file_bytes(g), gguf_alignment(g));
    print_string_of(g, "name", "general.name");
    print_string_of(g, "architecture", "general.architecture");
    print_totals(g);
    for (size_t i = 0; i < N_FACTS; i++) {
        const gguf_value *v = fact_find(g, i);
        if (!v) continue;
        printf("%-14s ", facts[i].label);
        print_value(v);
        putchar('\n');
    }
    print_string_of(g, "tokenizer", "tokenizer.ggml.model");
    print_string_of(g, "pre-tokenizer", "tokenizer.ggml.pre");
    const gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    if (tokens) printf("%-14s %" PRIu64 " tokens\n", "vocabulary", tokens->n);
    printf("%-14s %s\n", "chat template", gguf_find(g, "tokenizer.chat_template") ? "yes" : "no");
}

static void print_metadata(const gguf *g) {
    printf("\nmetadata: %zu keys\n", gguf_n_values(g));
    for (size_t i = 0; i < gguf_n_values(g); i++) {
        const gguf_value *v = gguf_value_at(g, i);
        printf("  %.*s ", (int)v->key.n_bytes, v->key.data); // printable ASCII, says gguf.c
        printf(v->kind == GGUF_KIND_ARRAY ? "%s[%" PRIu64 "] = " : "%s = ", gguf_kind_name(v->elem_kind), v->n);
        print_value(v);
        putchar('\n');
    }
}

static void print_tensors(const gguf *g) {
    printf("\ntensors: %zu\n", gguf_n_tensors(g));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        printf("  %-40.*s %-8s %14" PRIu64 " bytes  [", (int)t->name.n_bytes, t->name.data, gguf_type_name(t->type),
               t->n_bytes);
        for (uint32_t k = 0; k < t->n_dims; k++) printf(k ? ", %" PRIu64 : "%" PRIu64, t->dims[k]);
        puts("]");
    }
}

// ---- values as JSON ----------------------------------------------------------------------------------------------

static void json_put(json_t *value) {
    check(value != NULL);
    json_dumpf(value, stdout, JSON_ENCODE_ANY);
    json_decref(value);
}

static void json_put_key(const char *separator, const char *data, size_t n_bytes) {
    fputs(separator, stdout);
    json_put(cli_json_text(data, n_bytes));
    putchar(':');
}

// JSON has no NaN, no infinities, and jansson no integer above INT64_MAX: those become strings.
static json_t *json_number(const gguf_value *v, uint64_t i) {
    if (v->elem_kind == GGUF_KIND_BOOL) return json_boolean(gguf_array_int(v, i));
    if (v->elem_kind == GGUF_KIND_F32 || v->elem_kind == GGUF_KIND_F64) {
        double x = gguf_array_float(v, i);
        return isfinite(x) ? json_real(x) : json_string(isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
    }
    if (v->elem_kind == GGUF_KIND_U64) {
        uint64_t x;
        memcpy(&x, v->data + 8 * i, sizeof x);
        if (x > INT64_MAX) return json_sprintf("%" PRIu64, x);
    }
    return json_integer(gguf_array_int(v, i));
}

static void json_put_value(const gguf_value *v) {
    const uint8_t *at = v->data;
    bool array = v->kind == GGUF_KIND_ARRAY;
    if (array) putchar('[');
    for (uint64_t i = 0; i < v->n; i++) {
        if (i) putchar(',');
        if (v->elem_kind == GGUF_KIND_STRING) {
            gguf_str s = gguf_next_str(&at);
            json_put(cli_json_text(s.data, s.n_bytes));
        } else {
            json_put(json_number(v, i));
        }
    }
    if (array) putchar(']');
}

static void json_put_find(const gguf_value *v, const char *name) {
    json_put_key(",", name, strlen(name));
    if (v)
        json_put_value(v);
    else
        fputs("null", stdout);
}

static void json_put_totals(const gguf *g) {
    total totals[MAX_TYPES] = {0}, all = sum_tensors(g, totals);
    json_t *types = json_object();
    for (uint32_t i = 0; i < MAX_TYPES; i++)
        if (totals[i].n_tensors)
            json_object_set_new(types, gguf_type_name(i),
                                json_pack("{sIsIsI}", "n_tensors", (json_int_t)totals[i].n_tensors, "n_params",
                                          (json_int_t)totals[i].n_params, "n_bytes", (json_int_t)totals[i].n_bytes));
    printf(",\"n_params\":%" PRIu64 ",\"n_tensors\":%" PRIu64 ",\"types\":", all.n_params, all.n_tensors);
    json_put(types);
}

static void json_put_summary(const gguf *g, const char *path) {
    json_put_key("{", "file", 4);
    json_put(cli_json_text(path, strlen(path)));
    printf(",\"version\":%" PRIu32 ",\"file_bytes\":%" PRIu64 ",\"alignment\":%" PRIu64, gguf_version(g),
           gguf_file_bytes(g), gguf_alignment(g));
    json_put_find(gguf_find(g, "general.architecture"), "architecture");
    json_put_find(gguf_find(g, "general.name"), "name");
    json_put_totals(g);
    for (size_t i = 0; i < N_FACTS; i++) json_put_find(fact_find(g, i), facts[i].json);
    json_put_find(gguf_find(g, "tokenizer.ggml.model"), "tokenizer");
    json_put_find(gguf_find(g, "tokenizer.ggml.pre"), "pre_tokenizer");
    const gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    printf(",\"n_vocab\":%" PRIu64 ",\"chat_template\":%s", tokens ? tokens->n : 0,
           gguf_find(g, "tokenizer.chat_template") ? "true" : "false");
}

static void json_put_tensor(const gguf_tensor *t) {
    json_t *dims = json_array();
    for (uint32_t k = 0; k < t->n_dims; k++) json_array_append_new(dims, json_integer((json_int_t)t->dims[k]));
    json_put(json_pack("{sosssosI}", "name", cli_json_text(t->name.data, t->name.n_bytes), "type",
                       gguf_type_name(t->type), "dims", dims, "n_bytes", (json_int_t)t->n_bytes));
}

static void print_json(const gguf *g, const char *path) {
    json_put_summary(g, path);
    fputs(",\"metadata\":{", stdout);
    for (size_t i = 0; i < gguf_n_values(g); i++) {
        const gguf_value *v = gguf_value_at(g, i);
        json_put_key(i ? "," : "", v->key.data, v->key.n_bytes);
        json_put_value(v);
    }
    fputs("},\"tensors\":[", stdout);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        if (i) putchar(',');
        json_put_tensor(gguf_tensor_at(g, i));
    }
    puts("]}");
}

// ---- the command -------------------------------------------------------------------------------------------------

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'j':
        o->json = true;
        return 0;
    case 't':
        o->tensors = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->path) argp_error(state, "one MODEL, please: '%s' is a second one", arg);
        o->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which MODEL?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int cmd_inspect(int argc, char **argv) {
    static const struct argp_option rows[] = {
        {"json", 'j', NULL, 0, "Print everything, tensors included, as one JSON object", 0},
        {"tensors", 't', NULL, 0, "List the tensors as well", 0},
        {0},
    };
    static const struct argp parser = {
        .options = rows, .parser = parse_option, .args_doc = "MODEL", .doc = "Show what a model file (GGUF) holds."};
    options o = {0};
    argp_parse(&parser, argc, argv, 0, NULL, &o);

    err e = {0};
    gguf *g = gguf_open(o.path, &e);
    if (!g) return cli_fail(e.code, e.text);
    if (o.json) {
        print_json(g, o.path);
    } else {
        print_summary(g, o.path);
        print_metadata(g);
        if (o.tensors) print_tensors(g);
    }
    gguf_close(g);
    return CLI_OK;
}

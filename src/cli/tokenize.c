// rocmforge tokenize: text to token ids and back, with the vocabulary of a model file. Reads no weights.
//
// Text comes from -p, a file, or standard input; the output is one token a line (id, text), bare ids, or JSON.
#include "cli/cli.h"
#include "text/vocab.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct options {
    const char *model, *text, *file;
    bool json, ids, parse_special, detokenize;
} options;

typedef struct input {
    char *data; // heap
    size_t n_bytes;
} input;

static bool read_all(FILE *f, const char *name, input *in, err *e) {
    size_t capacity = 0;
    do {
        if (in->n_bytes == capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            in->data = xrealloc(in->data, capacity);
        }
        in->n_bytes += fread(in->data + in->n_bytes, 1, capacity - in->n_bytes, f);
    } while (!feof(f) && !ferror(f));
    return !ferror(f) || fail(e, ERR_IO, "cannot read '%s': %s", name, strerror(errno));
}

static bool read_input(const options *o, input *in, err *e) {
    if (o->text) {
        in->data = xstrdup(o->text);
        in->n_bytes = strlen(o->text);
        return true;
    }
    if (!o->file) return read_all(stdin, "standard input", in, e);
    FILE *f = fopen(o->file, "rb");
    if (!f) return fail(e, ERR_IO, "cannot open '%s': %s", o->file, strerror(errno));
    bool ok = read_all(f, o->file, in, e);
    fclose(f);
    return ok;
}

static void print_ids(const tokens *t) {
    for (size_t i = 0; i < t->n; i++) printf(i ? " %d" : "%d", t->ids[i]);
    putchar('\n');
}

static void print_lines(const vocab *v, const tokens *t) {
    for (size_t i = 0; i < t->n; i++) {
        size_t n_bytes;
        const char *text = vocab_token_bytes(v, t->ids[i], &n_bytes);
        printf("%d\t", t->ids[i]);
        cli_print_text(stdout, text, n_bytes, SIZE_MAX);
        putchar('\n');
    }
}

static void print_json(const vocab *v, const tokens *t) {
    printf("{\"n_tokens\":%zu,\"tokens\":[", t->n);
    for (size_t i = 0; i < t->n; i++) {
        size_t n_bytes;
        const char *bytes = vocab_token_bytes(v, t->ids[i], &n_bytes);
        json_t *text = cli_json_text(bytes, n_bytes);
        printf("%s{\"id\":%d,\"text\":", i ? "," : "", t->ids[i]);
        json_dumpf(text, stdout, JSON_ENCODE_ANY);
        putchar('}');
        json_decref(text);
    }
    puts("]}");
}

static bool tokenize(const vocab *v, const input *in, const options *o, err *e) {
    tokens t = {0};
    bool ok = vocab_encode(v, in->data, in->n_bytes, o->parse_special, &t, e);
    if (ok && o->json) print_json(v, &t);
    if (ok && o->ids && !o->json) print_ids(&t);
    if (ok && !o->ids && !o->json) print_lines(v, &t);
    free(t.ids);
    return ok;
}

// Ids are decimal numbers between blanks, commas or brackets. The text goes out as it is, except to a terminal.
static bool detokenize(const vocab *v, input *in, err *e) {
    in->data = xrealloc(in->data, in->n_bytes + 1);
    in->data[in->n_bytes] = '\0';
    bool terminal = isatty(STDOUT_FILENO);
    static const char separators[] = " \t\r\n,[]";
    for (char *at = in->data + strspn(in->data, separators); at < in->data + in->n_bytes;) {
        char *end;
        size_t offset = (size_t)(at - in->data), n_bytes;
        unsigned long id = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || (*end && !strchr(separators, *end)))
            return fail(e, ERR_FORMAT, "byte %zu of the input does not begin a token id", offset);
        if (id >= vocab_size(v))
            return fail(e, ERR_FORMAT, "the id at byte %zu of the input is not below %u", offset, vocab_size(v));
        const char *text = vocab_token_bytes(v, (int32_t)id, &n_bytes);
        if (terminal)
            cli_print_text(stdout, text, n_bytes, SIZE_MAX);
        else
            fwrite(text, 1, n_bytes, stdout);
        at = end + strspn(end, separators);
    }
    return true;
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'm':
        return o->model = arg, 0;
    case 'p':
        return o->text = arg, 0;
    case 'f':
        return o->file = arg, 0;
    case 'j':
        return o->json = true, 0;
    case 'i':
        return o->ids = true, 0;
    case 's':
        return o->parse_special = true, 0;
    case 'd':
        return o->detokenize = true, 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option; give text with -p", arg);
        return 0;
    case ARGP_KEY_END:
        if (!o->model) argp_error(state, "which model? (-m MODEL)");
        if (o->text && o->file) argp_error(state, "either -p or --file, not both");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int cmd_tokenize(int argc, char **argv) {
    static const struct argp_option rows[] = {
        {"model", 'm', "MODEL", 0, "The model file (GGUF)", 0},
        {"prompt", 'p', "TEXT", 0, "The text; without -p and --file it is read from standard input", 0},
        {"file", 'f', "FILE", 0, "Read the text from a file", 0},
        {"json", 'j', NULL, 0, "Print one JSON object", 0},
        {"ids", 'i', NULL, 0, "Print the ids only, on one line", 0},
        {"parse-special", 's', NULL, 0, "Control tokens written out in the text become those tokens", 0},
        {"detokenize", 'd', NULL, 0, "The other way: the input is ids, the output is their text", 0},
        {0},
    };
    static const struct argp parser = {.options = rows, .parser = parse_option, .doc = "Show the tokens of a text."};
    options o = {0};
    argp_parse(&parser, argc, argv, 0, NULL, &o);

    err e = {0};
    input in = {0};
    gguf *g = gguf_open(o.model, &e);
    vocab *v = g ? vocab_open(g, &e) : NULL;
    bool ok = v && read_input(&o, &in, &e) && (o.detokenize ? detokenize(v, &in, &e) : tokenize(v, &in, &o, &e));
    free(in.data);
    vocab_close(v);
    gguf_close(g);
    return ok ? CLI_OK : cli_fail(e.code, e.text);
}
